"""Nothing that was committed is lost, doubled or changed, wherever the process is killed."""

import asyncio
import random
import shutil

import pytest

from agent.tests.fakes import GATEWAY, START_MS, catalogue
from agent.tests.histories import (
    BYTES_MAX,
    Commit,
    Cut,
    Delivered,
    Gap,
    Gateway,
    Row,
    after_restart,
    history,
    in_groups,
    messages,
    slots,
)
from agent.tests.killing import Disk
from edgeagg.batch import Batch, BatchKind
from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo, Quality
from edgeagg_agent import outbox as outbox_module
from edgeagg_agent import recorder as recorder_module
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.rowlog import CHECKPOINT

PLANT = catalogue(("incomer", 1_000), ("pv", 2_000), ("incomer", 4_000))
LATER_MS = START_MS + 3_600_000


@pytest.fixture
def disk(monkeypatch):
    disk = Disk()
    monkeypatch.setattr(recorder_module, "Journal", disk.journal)
    monkeypatch.setattr(outbox_module, "Journal", disk.journal)
    # small segments: their borders are crossed, too
    monkeypatch.setattr(recorder_module, "_SEGMENT_BYTES", 4096)
    monkeypatch.setattr(outbox_module, "_SEGMENT_BYTES", 4096)
    return disk


async def uninterrupted(folder, steps, disk, plant=PLANT):
    """Play a history; return its batches and how many operations of the disk it took."""
    before = disk.operations
    await Gateway(folder, plant).play(steps)
    return messages(folder), disk.operations - before


def killer(steps, disk, trail, rearm=lambda: None):
    """Return what to do after each kill: look at what is left, and what a restart makes of it."""

    async def look(gateway):
        before, after = await after_restart(gateway.folder, gateway.catalogue, LATER_MS)
        # what was there before the kill is there unchanged, and stays when it is opened again
        assert before[: len(trail)] == trail
        assert after[: len(before)] == before
        trail[:] = before
        left = in_groups(Delivered(after).events)
        everything = in_groups(steps)
        for number, acknowledged in in_groups(steps[: gateway.safe]).items():
            assert left[number][: len(acknowledged)] == acknowledged
        for number, events in left.items():
            assert events == everything[number][: len(events)]
        rearm()

    return look


def check(found, expected, steps):
    """Compare the batches with the history, and with those of the run that nobody killed."""
    delivered = Delivered(found)
    assert in_groups(delivered.events) == in_groups(steps)
    assert slots(delivered.events, PLANT) == sorted(set(slots(steps, PLANT)))
    assert delivered.windows == expected.windows
    assert delivered.data == expected.data
    if len(found) == len(expected.batches):  # no catalogue was announced twice
        assert delivered.batches == expected.batches


async def test_an_uninterrupted_run_delivers_what_was_recorded(ram, disk):
    steps = history(1, PLANT, 60)
    found, _ = await uninterrupted(ram / "state", steps, disk)
    delivered = Delivered(found)
    assert in_groups(delivered.events) == in_groups(steps)
    assert set(map(type, steps)) == {Row, Gap, Commit, Cut}
    assert {window.length_ms for window in delivered.windows} == {5_000, 10_000}


@pytest.mark.parametrize("mode", ["before", "torn"])
async def test_a_kill_at_any_operation_loses_doubles_and_changes_nothing(ram, disk, mode):
    steps = history(2, PLANT, 9)
    expected, operations = await uninterrupted(ram / "whole", steps, disk)
    whole = Delivered(expected)
    assert operations > 30
    disk.mode = mode
    for place in range(1, operations + 1):
        disk.kill_at = disk.operations + place
        gateway = Gateway(ram / f"{place}", PLANT)
        await gateway.play(steps, killer(steps, disk, []))
        assert gateway.kills == 1
        check(messages(gateway.folder), whole, steps)
        shutil.rmtree(gateway.folder)


@pytest.mark.parametrize("seed", range(8))
async def test_many_kills_in_a_long_history_lose_nothing_either(ram, disk, seed):
    steps = history(seed, PLANT, 40)
    expected, _ = await uninterrupted(ram / "whole", steps, disk)
    rng = random.Random(seed)

    def arm():
        # often soon: a restart is killed, too
        disk.kill_at = disk.operations + rng.choice((1, 2, 3, 5, 20, 60))
        disk.mode = rng.choice(("before", "after", "torn"))
        disk.share = rng.random()

    arm()
    gateway = Gateway(ram / "state", PLANT)
    await gateway.play(steps, killer(steps, disk, [], arm))
    assert gateway.kills >= 3
    check(messages(gateway.folder), Delivered(expected), steps)


async def begun(folder, steps, plant):
    """Play the steps up to the first commit: from then on every group has a slot to count from."""
    count = steps.index(Commit()) + 1
    assert len(in_groups(steps[:count])) == len(plant.groups)
    await Gateway(folder, plant).play(steps[:count])
    return folder


@pytest.mark.parametrize("share", [0.1, 0.5])
async def test_records_lost_from_the_middle_of_a_write_leave_declared_slots(ram, disk, share):
    # a card may write the later pages of a commit and lose the first
    steps = history(3, PLANT, 12)
    base = await begun(ram / "begun", steps, PLANT)
    disk.mode, disk.share = "hole", share
    place = kills = invented = 0
    while kills == place:
        place += 1
        gateway = Gateway(shutil.copytree(base, ram / f"{place}"), PLANT)
        disk.kill_at = disk.operations + place
        await gateway.play(steps)
        kills += gateway.kills
        events = Delivered(messages(gateway.folder)).events
        assert slots(events, PLANT) == slots(steps, PLANT)
        declared = [event for event in events if event not in steps]
        assert all(isinstance(e, Gap) and e.reason == Quality.STOPPED for e in declared)
        invented += len(declared)
        shutil.rmtree(gateway.folder)
    assert kills > 30
    assert invented > 0


WIDE = Catalogue(
    "plant",
    (MeterInfo("incomer", "wide", 1, "", ""),),
    (
        Group(
            "incomer",
            1_000,
            tuple(PointInfo(f"p{n}", "V", -1, Kind.GAUGE) for n in range(500)),
        ),
    ),
    (60_000,),
)


def wide_rows(count):
    return [
        Row(0, START_MS + n * 1_000, START_MS + n * 1_000 + 5, tuple(range(n, n + 500)), bytes(500))
        for n in range(count)
    ]


@pytest.mark.parametrize(("mode", "share"), [("before", 0), ("torn", 0.5), ("hole", 0.05)])
async def test_a_kill_between_the_parts_of_a_cut_keeps_each_part_once(
    ram, disk, mode, share, monkeypatch
):
    monkeypatch.setattr(outbox_module, "_SEGMENT_BYTES", 1 << 18)  # room for all parts
    monkeypatch.setattr(recorder_module, "_SEGMENT_BYTES", 1 << 18)
    first, *rows = wide_rows(60)
    steps = [first, Commit(), *rows, Cut(START_MS + 60_000)]
    base = await begun(ram / "begun", steps, WIDE)
    whole = shutil.copytree(base, ram / "whole")
    expected, operations = await uninterrupted(whole, steps, disk, WIDE)
    assert len(expected) == 4  # a catalogue and three parts
    parts = Delivered(expected).data
    for place in range(operations - 11, operations + 1):  # from the commit of the cut on
        disk.kill_at, disk.mode, disk.share = disk.operations + place, mode, share
        gateway = Gateway(shutil.copytree(base, ram / f"{place}"), WIDE)
        await gateway.play(steps)
        assert gateway.kills == 1
        delivered = Delivered(messages(gateway.folder))
        assert slots(delivered.events, WIDE) == slots(steps, WIDE)
        if mode != "hole":
            assert delivered.data == parts
        shutil.rmtree(gateway.folder)


async def test_an_outbox_that_fails_at_the_second_part_goes_on_behind_the_first(ram):
    steps = wide_rows(60)
    outbox = Outbox(ram, now_ms=START_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(ram, outbox, GATEWAY, WIDE, now_ms=START_MS)
    for row in steps:
        row.push(recorder)
    keep = outbox.append

    def fail_at_second(batches):
        keep(batches[:1])
        raise OSError(28, "No space left on device")

    outbox.append = fail_at_second
    assert await recorder.cut(START_MS + 60_000) == 0
    assert recorder.is_refused
    outbox.close()
    (first,) = messages(ram)[1:]
    again = Outbox(ram, now_ms=START_MS, bytes_max=BYTES_MAX)
    Recorder(ram, again, GATEWAY, WIDE, now_ms=START_MS + 120_000)
    again.close()
    found = messages(ram)
    assert len(found) == 4
    assert found[1] == first
    assert in_groups(Delivered(found).events) == in_groups(steps)


OTHER = catalogue(("incomer", 1_000), ("pv", 5_000), ("hvac", 1_000), site="plant, extended")


@pytest.mark.parametrize("mode", ["before", "torn"])
async def test_a_kill_while_the_catalogue_changes_loses_nothing(ram, disk, mode):
    before = history(4, PLANT, 6)[:-1]
    disk.kill_at = None
    folder = ram / "state"
    await Gateway(folder, PLANT).play([*before, Commit()])
    later_ms = START_MS + 60_000
    after = [
        Row(2, later_ms, later_ms + 3, (2_300, 5), bytes(2)),
        Row(0, later_ms, later_ms + 4, (2_301, 6), bytes(2)),
        Cut(later_ms + 900),
    ]
    disk.mode = mode
    place = kills = 0
    while kills == place:
        place += 1
        copy = ram / f"{place}"
        shutil.copytree(folder, copy)
        disk.kill_at = disk.operations + place
        gateway = Gateway(copy, OTHER, now_ms=later_ms - 5_000)
        await gateway.play(after)
        kills += gateway.kills
        batches = Delivered(messages(copy))
        old = [schema for schema, _, _ in batches.data if schema == PLANT.hash]
        new = [schema for schema, _, _ in batches.data if schema == OTHER.hash]
        assert (len(old) >= 1, len(new)) == (True, 1)
        assert [schema for schema, _, _ in batches.data] == [*old, *new]
        assert in_groups(batches.events) == in_groups([*before, *after])
    assert kills > 10


async def test_a_changed_catalogue_remembers_the_slots_of_groups_that_stay(ram):
    rows = [
        Row(0, START_MS, START_MS, (2_300, 5), bytes(2)),
        Row(1, START_MS + 2_000, START_MS + 2_000, (2_300, 5), bytes(2)),
        Cut(START_MS + 3_000),
    ]
    await Gateway(ram, PLANT).play(rows)
    for _ in range(2):  # once as it changes, once from its checkpoint
        outbox = Outbox(ram, now_ms=START_MS, bytes_max=BYTES_MAX)
        recorder = Recorder(ram, outbox, GATEWAY, OTHER, now_ms=START_MS + 60_000)
        outbox.close()
        assert recorder.last_due_ms(0) == START_MS
        assert recorder.last_due_ms(1) is None  # pv has another period now: another group
        assert recorder.last_due_ms(2) is None
        assert recorder.pending_cells == 0
    assert in_groups(Delivered(messages(ram)).events) == in_groups(rows)


async def test_the_same_catalogue_is_announced_once(ram):
    for _ in range(3):
        await Gateway(ram, PLANT).play([])
    assert [b.kind for b in Delivered(messages(ram)).batches] == [BatchKind.CATALOGUE]


async def test_what_is_recorded_while_a_cut_is_under_way_stands_behind_it(ram):
    rows = history(5, PLANT, 30)[:-1]
    rows = [step for step in rows if isinstance(step, Row | Gap)]
    half = len(rows) // 2
    outbox = Outbox(ram, now_ms=START_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(ram, outbox, GATEWAY, PLANT, now_ms=START_MS)
    for row in rows[:half]:
        row.push(recorder)
    cutting = asyncio.create_task(recorder.cut(START_MS + 1))
    await asyncio.sleep(0)  # the batches are made, the disk has not got them yet
    for row in rows[half:]:
        row.push(recorder)
    committing = asyncio.create_task(recorder.commit())
    assert not cutting.done()
    await asyncio.gather(cutting, committing)
    outbox.close()
    before, after = await after_restart(ram, PLANT, LATER_MS)
    assert in_groups(Delivered(after).events) == in_groups(rows)
    assert in_groups(Delivered(before).events) == in_groups(rows[:half])


async def test_readings_written_together_with_a_cut_and_behind_it_are_not_freed_with_it(ram, disk):
    steps = history(7, PLANT, 200)
    rows = [step for step in steps if isinstance(step, Row | Gap)]
    outbox = Outbox(ram, now_ms=START_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(ram, outbox, GATEWAY, PLANT, now_ms=START_MS)
    for row in rows[:100]:
        row.push(recorder)
    await recorder._committing.acquire()  # a commit is under way
    cutting = asyncio.create_task(recorder.cut(START_MS + 1))
    await asyncio.sleep(0)
    for row in rows[100:]:  # enough to fill segments between the cut and its checkpoint
        row.push(recorder)
    recorder._committing.release()
    await cutting
    outbox.close()
    before, after = await after_restart(ram, PLANT, LATER_MS)
    assert in_groups(Delivered(before).events) == in_groups(rows[:100])
    assert in_groups(Delivered(after).events) == in_groups(rows)


async def test_nothing_is_safe_before_the_commit_and_everything_behind_it(ram):
    row = Row(0, START_MS, START_MS, (2_300, 5), bytes(2))
    outbox = Outbox(ram, now_ms=START_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(ram, outbox, GATEWAY, PLANT, now_ms=START_MS)
    row.push(recorder)
    outbox.close()
    _, after = await after_restart(ram, PLANT, LATER_MS)
    assert Delivered(after).events == []
    await recorder.commit()
    _, after = await after_restart(ram, PLANT, LATER_MS)
    assert Delivered(after).events == [row]


async def test_the_journal_of_the_readings_is_freed_behind_each_second_checkpoint(ram, disk):
    steps = history(6, PLANT, 200)
    await uninterrupted(ram, steps, disk)
    kept = sorted((ram / f"readings-{START_MS}").iterdir())
    assert len(kept) <= 2
    assert kept[0].name > "0" * 18 + "10.journal"


async def test_checkpoints_are_not_written_more_often_than_as_many_bytes_of_readings(ram, disk):
    # many windows: a snapshot is much larger than the rows between two cuts
    plant = catalogue(("incomer", 1_000), ("pv", 2_000), windows=tuple(range(1_000, 90_000, 1_000)))
    steps = [step for n in range(60) for step in (minute_row(n), Cut(START_MS + n * 1_000 + 500))]
    outbox = Outbox(ram, now_ms=START_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(ram, outbox, GATEWAY, plant, now_ms=START_MS)
    for step in steps:
        if isinstance(step, Cut):
            await recorder.cut(step.now_ms)
        else:
            step.push(recorder)
    outbox.close()
    journal = recorder_module.Journal(ram / f"readings-{START_MS}", 4096)
    numbers = range(journal.first, journal.committed)
    records = [record for number in numbers if (record := journal.read(number))]
    checkpoints = [payload for kind, payload in records if kind == CHECKPOINT]
    others = sum(len(payload) for kind, payload in records if kind != CHECKPOINT)
    assert sum(map(len, checkpoints)) <= others + 2 * max(map(len, checkpoints))
    assert len(checkpoints) < 10
    before, after = await after_restart(ram, plant, LATER_MS)
    assert after[: len(before)] == before
    assert in_groups(Delivered(after).events) == in_groups(steps)


@pytest.mark.parametrize("step_ms", [500, 4_000, 30_000])
async def test_a_damaged_checkpoint_has_one_before_it(ram, disk, step_ms):
    # from one checkpoint in all that time to one for every few cuts
    plant = catalogue(
        ("incomer", 1_000), ("pv", 2_000), windows=tuple(range(1_000, 90_000, step_ms))
    )
    steps = [minute_row(n) for n in range(400)]
    outbox = Outbox(ram, now_ms=START_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(ram, outbox, GATEWAY, plant, now_ms=START_MS)
    for number, step in enumerate(steps[:-5]):
        step.push(recorder)
        if number % 5 == 4:
            await recorder.cut(step.at_ms)
    for step in steps[-5:]:
        step.push(recorder)
    await recorder.commit()
    outbox.close()
    folder = ram / f"readings-{START_MS}"
    journal = recorder_module.Journal(folder, 4096)
    records = [journal.read(number) for number in range(journal.first, journal.committed)]
    newest = [payload for kind, payload in records if kind == CHECKPOINT][-1]
    file = max(file for file in folder.glob("*.journal") if newest in file.read_bytes())
    data = file.read_bytes()
    place = data.rindex(newest)
    file.write_bytes(data[:place] + bytes(len(newest)) + data[place + len(newest) :])
    _, after = await after_restart(ram, plant, LATER_MS)
    assert in_groups(Delivered(after).events) == in_groups(steps)


def minute_row(number):
    due_ms = START_MS + number * 1_000
    return Row(0, due_ms, due_ms + 7, (2_300 + number, number), bytes(2))


async def test_counters_count_point_slots_windows_and_bytes(ram):
    steps = [
        Row(0, START_MS, START_MS, (2_300, None), b"\x00\x01"),
        Gap(0, START_MS + 1_000, START_MS + 3_000, 3, Quality.OVERRUN),
        Row(1, START_MS, START_MS, (1, 2), bytes(2)),
    ]
    outbox = Outbox(ram, now_ms=START_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(ram, outbox, GATEWAY, PLANT, now_ms=START_MS)
    for step in steps:
        step.push(recorder)
    assert await recorder.cut(START_MS + 60_000) == 1
    assert await recorder.cut(START_MS + 60_001) == 0
    outbox.close()
    counters = recorder.counters
    assert (counters.values, counters.reasons, counters.missed) == (3, 1, 6)
    assert (counters.windows, counters.batches) == (4, 1)
    assert counters.batch_bytes == len(messages(ram)[1])
    assert Batch.from_bytes(messages(ram)[1]).cut_at_ms == START_MS + 60_000


async def test_what_a_former_run_kept_is_not_counted_again(ram):
    # many windows: the snapshot is larger than the rows, so every run makes all cuts again
    plant = catalogue(("incomer", 1_000), ("pv", 2_000), windows=tuple(range(1_000, 90_000, 1_000)))
    counted = []
    for run in range(3):
        outbox = Outbox(ram, now_ms=START_MS, bytes_max=BYTES_MAX)
        recorder = Recorder(ram, outbox, GATEWAY, plant, now_ms=START_MS)
        minute_row(run).push(recorder)
        now_ms = START_MS + run * 1_000 + 500
        assert await recorder.cut(now_ms) == 1
        counted.append((recorder.counters.values, recorder.counters.batches))
        outbox.close()
    assert counted == [(2, 1)] * 3
