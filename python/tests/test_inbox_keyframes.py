"""The inbox and batches that begin with what a keyframe taught."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from edgeagg import _core
from edgeagg.batch import Batch, BatchKind
from edgeagg.receiver.inbox import Counters, Inbox
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.sqlite import SqliteStore
from python.tests.test_inbox import (
    CATALOGUE,
    EPOCH,
    GATEWAY,
    NOW_MS,
    catalogue_batch,
    lost_batch,
    message,
    receipt,
    take_all,
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(str(tmp_path / "edgeagg.db"))
    yield store
    await store.close()


def cut(sequence: int) -> _core.Cut:
    """Return ten slots of its own for every sequence."""
    core = _core.Aggregator([(1_000, [False, True])], CATALOGUE.window_lengths_ms)
    for slot in range(10 * sequence, 10 * sequence + 10):
        core.push_row(0, slot * 1_000, slot * 1_000 + 7, [2_301 + slot % 3, slot], [0, 0])
    found = core.cut(10**9)
    assert found is not None
    return found


def batch(sequence: int, codec: int, payload: bytes) -> Batch:
    cut_at_ms = EPOCH + sequence
    return Batch(
        GATEWAY, EPOCH, sequence, BatchKind.DATA, CATALOGUE.hash, cut_at_ms, codec, payload
    )


def alone(sequence: int) -> Batch:
    return batch(sequence, *cut(sequence).encode(_core.CODEC_CM))


def behind(keyframe: Batch, sequence: int) -> Batch:
    anchor = _core.Keyframe(keyframe.payload), sequence - keyframe.sequence
    found = batch(sequence, *cut(sequence).encode(anchor=anchor))
    assert _core.anchor_of(found.codec, found.payload) == anchor[1]
    return found


async def test_a_batch_behind_a_committed_keyframe_is_stored(store: SqliteStore) -> None:
    inbox = Inbox(store, Admission.ANYBODY)
    keyframe = alone(2)
    await take_all(inbox, [message(catalogue_batch()), message(keyframe)], NOW_MS)
    answered = await take_all(inbox, [message(behind(keyframe, 3))], NOW_MS)
    assert answered == [receipt(3)]
    (count,) = await store.slots(GATEWAY)
    assert (count.rows, count.values, count.gap_slots) == (20, 40, 0)


async def test_a_batch_before_its_keyframe_waits_and_is_taken_when_it_comes_again(
    store: SqliteStore,
) -> None:
    inbox = Inbox(store, Admission.ANYBODY)
    keyframe = alone(2)
    late = behind(keyframe, 3)
    await take_all(inbox, [message(catalogue_batch())], NOW_MS)
    assert await take_all(inbox, [message(late)], NOW_MS) == [receipt(1)]
    assert inbox.counters.waiting == 1
    assert await take_all(inbox, [message(keyframe)], NOW_MS) == [receipt(2)]
    assert await take_all(inbox, [message(late)], NOW_MS) == [receipt(3)]
    assert inbox.counters == Counters(new=3, waiting=1)


async def test_a_keyframe_that_another_receiver_commits_meanwhile_costs_no_batch(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox, other = Inbox(store, Admission.ANYBODY), Inbox(store, Admission.ANYBODY)
    keyframe = alone(2)
    late = behind(keyframe, 3)
    await take_all(other, [message(catalogue_batch())], NOW_MS)
    ask = store.keyframe

    async def overtaken(gateway: str, epoch: int, sequence: int) -> bytes | None:
        found = await ask(gateway, epoch, sequence)
        await take_all(other, [message(keyframe)], NOW_MS)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(store, "keyframe", overtaken)
        assert await take_all(inbox, [message(late)], NOW_MS) == [receipt(2)]
    assert (inbox.counters.undecodable, inbox.counters.waiting) == (0, 1)
    assert await take_all(inbox, [message(late)], NOW_MS) == [receipt(3)]


async def test_a_lost_keyframe_ends_the_batches_behind_it_as_lost_and_says_so_once(
    store: SqliteStore,
) -> None:
    inbox = Inbox(store, Admission.ANYBODY)
    orphan = behind(alone(2), 3)
    await take_all(inbox, [message(catalogue_batch()), message(lost_batch(2))], NOW_MS)
    for _ in range(2):
        assert await take_all(inbox, [message(orphan)], NOW_MS) == [receipt(3)]
    assert inbox.counters.undecodable == 1
    assert (await store.quarantined()).row_count == 1
    (status,) = await store.streams()
    assert (status.through, status.lost_batches) == (3, 2)
    # what comes behind it goes on
    assert await take_all(inbox, [message(alone(4))], NOW_MS) == [receipt(4)]


async def test_a_keyframe_outlives_the_receiver(store: SqliteStore) -> None:
    keyframe = alone(2)
    await take_all(
        Inbox(store, Admission.ANYBODY), [message(catalogue_batch()), message(keyframe)], NOW_MS
    )
    assert await take_all(
        Inbox(store, Admission.ANYBODY), [message(behind(keyframe, 3))], NOW_MS
    ) == [receipt(3)]


async def test_keyframes_too_old_for_any_batch_to_come_are_forgotten(store: SqliteStore) -> None:
    inbox = Inbox(store, Admission.ANYBODY)
    keyframe = alone(2)
    anchored = behind(keyframe, 18)
    later = [behind(keyframe, sequence) for sequence in range(3, 18)]
    await take_all(inbox, [message(catalogue_batch()), message(keyframe)], NOW_MS)
    await take_all(inbox, [message(one) for one in later], NOW_MS)
    # 18 is the last that may begin with 2
    assert await store.keyframe(GATEWAY, EPOCH, 2) == keyframe.payload
    assert await take_all(Inbox(store, Admission.ANYBODY), [message(anchored)], NOW_MS) == [
        receipt(18)
    ]
    assert await store.keyframe(GATEWAY, EPOCH, 2) is None


async def test_a_batch_that_comes_again_when_its_keyframe_is_forgotten_changes_nothing(
    store: SqliteStore,
) -> None:
    keyframe = alone(2)
    batches = [behind(keyframe, sequence) for sequence in range(3, 19)]
    first = Inbox(store, Admission.ANYBODY)
    await take_all(first, [message(catalogue_batch()), message(keyframe)], NOW_MS)
    await take_all(first, [message(one) for one in batches], NOW_MS)
    again = Inbox(store, Admission.ANYBODY)
    assert await take_all(again, [message(batches[0])], NOW_MS) == [receipt(18)]
    other = replace(batches[1], cut_at_ms=EPOCH)
    assert await take_all(again, [message(other)], NOW_MS) == [receipt(18)]
    assert again.counters == Counters(again=1, conflicts=1)


async def test_a_form_that_does_not_exist_is_refused(store: SqliteStore) -> None:
    inbox = Inbox(store, Admission.ANYBODY)
    await take_all(inbox, [message(catalogue_batch())], NOW_MS)
    wrong = batch(2, _core.CODEC_CM, b"\x11" + alone(2).payload[1:])
    assert await take_all(inbox, [message(wrong)], NOW_MS) == [receipt(1)]
    assert inbox.counters.refused == 1


async def test_damage_of_an_anchored_payload_is_refused(store: SqliteStore) -> None:
    inbox = Inbox(store, Admission.ANYBODY)
    keyframe = alone(2)
    await take_all(inbox, [message(catalogue_batch()), message(keyframe)], NOW_MS)
    good = behind(keyframe, 3)
    bad = replace(good, payload=good.payload[:1] + b"\0\0\0\0" + good.payload[5:])
    assert await take_all(inbox, [message(bad)], NOW_MS) == [receipt(2)]
    assert inbox.counters.refused == 1
    assert await take_all(inbox, [message(good)], NOW_MS) == [receipt(3)]
