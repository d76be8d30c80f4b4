"""A catalogue whose file is damaged is found where it stands besides, so no waiting row is lost."""

from dataclasses import replace

import pytest

from agent.tests.fakes import GATEWAY, START_MS, FakeClock
from agent.tests.histories import BYTES_MAX, Delivered, Row, messages
from agent.tests.shelving import (
    PLANT,
    SECONDS,
    historian,
    lived,
    make_all,
    opened,
    short_days,
)
from edgeagg.batch import BatchKind
from edgeagg_agent import catalogue_copies
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder

LATER_MS = START_MS + SECONDS * 1_000 + 120_000
ROW = Row(0, LATER_MS, LATER_MS + 7, (1, 2), bytes(2))
CHANGED = replace(PLANT, site="another")


@pytest.fixture(autouse=True)
def shortened(monkeypatch):
    short_days(monkeypatch)


async def left_waiting(folder, catalogue=PLANT):
    """Let a row wait in the readings' journal for a cut that never came."""
    outbox = Outbox(folder, now_ms=LATER_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(folder, outbox, GATEWAY, catalogue, now_ms=LATER_MS)
    ROW.push(recorder)
    await recorder.commit()
    outbox.close()


def damage_catalogues(folder):
    files = sorted((folder / "catalogues").iterdir())
    assert files
    for file in files:
        data = file.read_bytes()
        file.write_bytes(data[:40] + bytes([data[40] ^ 0x10]) + data[41:])


def taken_up(folder):
    """Start with a changed site file; return what went out, and where the groups stand."""
    outbox = Outbox(folder, now_ms=LATER_MS + 9_000, bytes_max=BYTES_MAX)
    recorder = Recorder(folder, outbox, GATEWAY, CHANGED, now_ms=LATER_MS + 9_000)
    outbox.close()
    return messages(folder), recorder.last_due_ms(0)


async def test_a_row_that_waits_is_delivered_with_what_the_batches_say_of_its_catalogue(tmp_path):
    await left_waiting(tmp_path)
    damage_catalogues(tmp_path)
    assert catalogue_copies.find(tmp_path, PLANT.hash) == PLANT
    found, last_due_ms = taken_up(tmp_path)
    assert ROW in Delivered(found).events
    assert last_due_ms == ROW.due_ms


async def test_a_row_that_waits_is_delivered_with_what_a_day_file_says_of_its_catalogue(tmp_path):
    await lived(tmp_path)
    await left_waiting(tmp_path)
    outbox, clock = opened(tmp_path), FakeClock(LATER_MS)
    make_all(historian(tmp_path, outbox, clock, resend_ms=1), clock)
    outbox.close()
    assert outbox.first > 1, "no batch announces the catalogue any more"
    damage_catalogues(tmp_path)
    assert catalogue_copies.find(tmp_path, PLANT.hash) == PLANT
    head = outbox.head
    outbox = Outbox(tmp_path, now_ms=LATER_MS + 9_000, bytes_max=BYTES_MAX)
    recorder = Recorder(tmp_path, outbox, GATEWAY, CHANGED, now_ms=LATER_MS + 9_000)
    outbox.close()
    assert recorder.last_due_ms(0) == ROW.due_ms
    kinds = [outbox._batch(number).kind for number in range(head + 1, outbox.head + 1)]
    assert kinds[0] is BatchKind.DATA


async def test_a_catalogue_that_stands_nowhere_is_not_found(tmp_path):
    await left_waiting(tmp_path)
    assert catalogue_copies.find(tmp_path, CHANGED.hash) is None
    assert catalogue_copies.find(tmp_path / "nowhere", PLANT.hash) is None
