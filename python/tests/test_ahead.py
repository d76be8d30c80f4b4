"""Readings from the future are kept and marked, never believed and never refused."""

from __future__ import annotations

import pytest

from edgeagg import content
from edgeagg.model import Quality
from edgeagg.receiver.ahead import AHEAD_MAX_MS, marked
from edgeagg.receiver.inbox import Inbox
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.sqlite import SqliteStore
from python.tests.test_inbox import CATALOGUE, catalogue_batch, data_batch, message, stored

SEQUENCE = 100  # its slots are 1000 s to 1009 s, each read 7 ms late
ALLOWED_MS = 1_004_007  # the fifth of ten is the last that may be


def rows() -> content.Content:
    batch = data_batch(SEQUENCE)
    return content.decode(batch.codec, batch.payload, CATALOGUE)


def test_what_is_ahead_is_marked_and_its_values_stay() -> None:
    found = marked(rows(), ALLOWED_MS - AHEAD_MAX_MS)
    good, doubted = (0, 0), (Quality.CLOCK_UNTRUSTED, Quality.CLOCK_UNTRUSTED)
    assert [row.qualities for row in found.readings] == [good] * 5 + [doubted] * 5
    assert [row.mantissas for row in found.readings] == [row.mantissas for row in rows().readings]
    ends = [row.start_ms + row.length_ms for row in found.windows]
    assert ends == [1_005_000, 1_010_000]
    assert [row.worst for row in found.windows] == [doubted, doubted]
    assert [row.energies for row in found.windows] == [row.energies for row in rows().windows]


def test_a_failed_reading_keeps_its_own_reason() -> None:
    before = rows()
    silent = before.readings[9]
    failed = content.ReadingRow(
        silent.group, silent.due_ms, silent.at_ms, (None, None), (Quality.NO_REPLY,) * 2
    )
    found = marked(content.Content((failed,), (), ()), 0)
    assert found.readings[0].qualities == (Quality.NO_REPLY, Quality.NO_REPLY)


def test_what_is_not_ahead_is_left_as_it_is() -> None:
    before = rows()
    assert marked(before, 1_010_000 - AHEAD_MAX_MS) is before


@pytest.mark.parametrize(("minds", "expected"), [(True, 5), (False, 0)])
async def test_a_receiver_marks_what_it_stores_and_answers_for_it(
    tmp_path, minds: bool, expected: int
) -> None:
    file = tmp_path / "edgeagg.db"
    store = await SqliteStore.open(str(file))
    inbox = Inbox(store, Admission.ANYBODY, minds_the_clock=minds)
    messages = [message(catalogue_batch()), message(data_batch(2)), message(data_batch(SEQUENCE))]
    (receipt,) = await inbox.take(messages, ALLOWED_MS - AHEAD_MAX_MS)
    assert receipt.ranges == ((SEQUENCE, SEQUENCE),)
    await store.close()
    assert stored(file, "SELECT count(*) FROM readings WHERE qualities IS NOT NULL") == [
        (expected,)
    ]
