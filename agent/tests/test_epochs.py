"""A new epoch takes along what no platform has, and a kill leaves one epoch or the other."""

import contextlib
import errno

import pytest

from agent.tests.fakes import GATEWAY, START_MS, catalogue
from agent.tests.histories import (
    BYTES_MAX,
    Commit,
    Cut,
    Delivered,
    Gateway,
    Row,
    history,
    in_groups,
    messages,
)
from edgeagg.batch import Batch, BatchKind, Origin
from edgeagg_agent import epochs
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.rowlog import RowLog

PLANT = catalogue(("incomer", 1_000), ("pv", 2_000))
LATER_MS = START_MS + 3_600_000


def opened(folder, now_ms=LATER_MS):
    return Outbox(folder, now_ms=now_ms, bytes_max=BYTES_MAX)


async def lived(folder):
    """Let a gateway live for some cuts; return its steps."""
    steps = [*history(1, PLANT, 40), Commit(), Cut(START_MS + 60_000)]
    await Gateway(folder, PLANT).play(steps)
    return steps


def begin(folder, after, why=Origin.BEHIND, now_ms=LATER_MS):
    box = opened(folder)
    try:
        Recorder(folder, box, GATEWAY, PLANT, now_ms=now_ms).end_epoch()
        box.begin_epoch(GATEWAY, PLANT, after=after, why=why, now_ms=now_ms)
    finally:
        box.close()


async def test_batches_behind_the_cursor_come_again_under_new_numbers_behind_their_catalogue(
    tmp_path,
):
    await lived(tmp_path)
    former = Delivered(messages(tmp_path))
    assert former.anchored_count > 0
    begin(tmp_path, 1)
    box = opened(tmp_path)
    assert (box.epoch, box.origin) == (LATER_MS, (Origin.BEHIND, START_MS))
    box.close()
    delivered = Delivered(messages(tmp_path))
    assert {batch.epoch for batch in delivered.batches} == {LATER_MS}
    assert delivered.batches[0].kind is BatchKind.CATALOGUE
    carried = [(b.kind, b.schema, b.cut_at_ms) for b in delivered.batches[1:]]
    assert carried == [(b.kind, b.schema, b.cut_at_ms) for b in former.batches[1:]]
    # the sequences that anchored payloads count from are others now
    assert delivered.anchored_count == 0
    assert in_groups(delivered.events) == in_groups(former.events)
    assert delivered.windows == former.windows


@pytest.mark.parametrize("refusing", [(Outbox, "append"), (RowLog, "write")])
async def test_no_epoch_is_left_while_the_disk_refuses_what_was_read(
    tmp_path, monkeypatch, refusing
):
    steps = list(history(1, PLANT, 40))
    box = opened(tmp_path, START_MS)
    recorder = Recorder(tmp_path, box, GATEWAY, PLANT, now_ms=START_MS)
    for step in steps:
        if not isinstance(step, Commit | Cut):
            step.push(recorder)

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*refusing, refuse)
        await recorder.commit()
        assert await recorder.cut(START_MS + 60_000) == 0
        with pytest.raises(OSError, match="No space"):
            recorder.end_epoch()
    if refusing[1] == "write":
        assert not recorder.end_epoch(), "what is pending is in no batch yet"
    box.close()
    await Gateway(tmp_path, PLANT).play([Cut(START_MS + 60_000)])
    assert in_groups(Delivered(messages(tmp_path)).events) == in_groups(steps)


async def test_what_the_former_epoch_had_lost_is_lost_in_the_new_one_too(tmp_path, monkeypatch):
    await lived(tmp_path)
    read = Outbox.read

    def gone(box, sequence, gateway):
        if sequence != 3:
            return read(box, sequence, gateway)
        return Batch(gateway, box.epoch, 3, BatchKind.LOST, bytes(16), 0, 0, b"").to_bytes()

    before = len(messages(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(Outbox, "read", gone)
        begin(tmp_path, 1)
    kinds = [Batch.from_bytes(message).kind for message in messages(tmp_path)]
    assert len(kinds) == before
    assert [place for place, kind in enumerate(kinds) if kind is BatchKind.LOST] == [2]


async def test_nothing_to_carry_is_a_new_epoch_too(tmp_path):
    await lived(tmp_path)
    begin(tmp_path, 10**6, why=Origin.DIVERGED)
    box = opened(tmp_path)
    assert (box.head, box.origin) == (1, (Origin.DIVERGED, START_MS))
    box.close()


async def test_the_recorder_goes_on_where_it_was(tmp_path):
    steps = await lived(tmp_path)
    last_ms = max(step.due_ms for step in steps if isinstance(step, Row) and step.group == 0)
    begin(tmp_path, 10**6)
    box = opened(tmp_path)
    recorder = Recorder(tmp_path, box, GATEWAY, PLANT, now_ms=LATER_MS)
    assert recorder.last_due_ms(0) >= last_ms, "no slot is read twice and none forgotten"
    await recorder.cut(LATER_MS)
    box.close()


async def test_data_of_the_new_epoch_stands_behind_a_catalogue_of_it(tmp_path):
    await lived(tmp_path)
    begin(tmp_path, 10**6)
    values = tuple(range(len(PLANT.groups[0].points)))
    due_ms = LATER_MS + 1_000
    row = Row(0, due_ms, due_ms, values, bytes(len(values)))
    await Gateway(tmp_path, PLANT, now_ms=LATER_MS).play([row, Commit(), Cut(LATER_MS + 9_000)])
    delivered = Delivered(messages(tmp_path))  # fails where a catalogue is missing
    assert any(event.first_due_ms == due_ms for event in delivered.events)


async def test_an_epoch_is_newer_than_the_one_before_whatever_the_clock_says(tmp_path):
    await lived(tmp_path)
    begin(tmp_path, 0, now_ms=5)
    box = opened(tmp_path, now_ms=7)
    assert box.epoch == START_MS + 1
    box.close()


@pytest.mark.parametrize("name", ["write_text", "rename"])
@pytest.mark.parametrize("count", [0, 1])
async def test_a_kill_on_the_way_leaves_one_epoch_or_the_other_whole(
    tmp_path, monkeypatch, name, count
):
    await lived(tmp_path)
    before = messages(tmp_path)
    left = [count]
    real = getattr(epochs.Path, name)

    def killed(path, *rest):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return real(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(epochs.Path, name, killed)
        with contextlib.suppress(KeyboardInterrupt):
            begin(tmp_path, 2)
    found = messages(tmp_path)
    if found == before:
        assert opened_epoch(tmp_path) == START_MS
    else:
        assert opened_epoch(tmp_path) == LATER_MS
        assert len(found) == len(before) - 2 + 1
    assert (tmp_path / f"readings-{opened_epoch(tmp_path)}").exists()
    assert not list(tmp_path.glob("unfinished-*"))


def opened_epoch(folder):
    box = opened(folder)
    box.close()
    return box.epoch


async def test_former_epochs_go_first_when_space_is_short(tmp_path):
    await lived(tmp_path)
    begin(tmp_path, 10**6)
    box = opened(tmp_path)
    Recorder(tmp_path, box, GATEWAY, PLANT, now_ms=LATER_MS)
    former = epochs.batches(tmp_path, START_MS)
    kept = box.bytes_count
    box.trim()
    assert former.exists()
    box._bytes_max = kept - 1
    box.trim()
    assert not former.exists()
    assert box.bytes_count < kept
    assert box.dropped_count == 0
    box.close()


def test_a_store_that_is_lost_again_with_the_same_wrong_time_is_another_epoch(tmp_path):
    drawn = iter([5, 17])
    names = []
    for life in ("first", "second"):
        now_ms = epochs.name_ms(START_MS, is_right=False, below=lambda _: next(drawn))
        box = opened(tmp_path / life, now_ms=now_ms)
        box.close()
        names.append(box.epoch)
    assert names == [START_MS + 5, START_MS + 17]


def test_an_epoch_is_named_after_the_time_where_somebody_vouches_for_it():
    assert epochs.name_ms(START_MS, is_right=True, below=lambda below: below - 1) == START_MS
