"""Days become files: nothing of them is lost or counted twice, whatever happens on the way."""

import datetime as dt
import errno
import itertools
import os
import shutil
from pathlib import Path

import pytest

from agent.tests.fakes import START_MS, FakeClock, catalogue
from agent.tests.histories import Cut, Delivered, Gateway, Row, history, in_groups, messages
from agent.tests.shelving import (
    BYTES_MAX,
    DAY_MS,
    FILES,
    HOUR_MS,
    PLANT,
    READINGS,
    SECONDS,
    WINDOWS,
    both,
    contents,
    date_of,
    day_files,
    historian,
    lived,
    make_all,
    opened,
    shelve,
    short_days,
)
from edgeagg.batch import Batch, BatchKind
from edgeagg.localtime import offsets
from edgeagg.model import LocalTime
from edgeagg_agent import day_file, days, epochs
from edgeagg_agent import historian as historian_module
from edgeagg_agent.day_file import BlockKind, DayFile
from edgeagg_agent.historian import LOOK_S, PAUSE_S, STEP_S
from edgeagg_agent.history import Asked, History
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder

REAL_DATE_OF = historian_module.date_of


@pytest.fixture
def tmp_path(ram):
    return ram


@pytest.fixture(autouse=True)
def shortened(monkeypatch):
    short_days(monkeypatch)


@pytest.mark.parametrize("seed", range(4))
async def test_history_is_the_same_before_and_behind_day_files(tmp_path, seed):
    steps = await lived(tmp_path, seed)
    before = both(tmp_path)
    kept = opened(tmp_path)
    kept.close()
    first = shelve(tmp_path, resend_ms=1)
    assert len(day_files(tmp_path)) == FILES
    assert first > kept.first
    assert both(tmp_path) == before
    rows = in_groups([step for step in steps if isinstance(step, Row)])
    assert sum(map(len, rows.values())) == sum(
        n for row, n in before[0].items() if hasattr(row, "due_ms")
    )


async def test_rows_of_a_group_come_in_the_order_of_time(tmp_path):
    await lived(tmp_path)
    shelve(tmp_path, resend_ms=1)
    asked = Asked(since_ms=0, until_ms=2**45, meter="pv")
    found = [row.due_ms for part in History(tmp_path).read(asked) for row in part.content.readings]
    assert found == sorted(found)


async def test_nothing_is_made_of_a_day_that_is_not_over_or_not_everywhere(tmp_path):
    await lived(tmp_path)
    sent = messages(tmp_path)
    others = [Batch.from_bytes(m).sequence for m in sent if date_of_message(m) != date_of(0, None)]
    clock = FakeClock(START_MS + SECONDS * 1_000)
    outbox = opened(tmp_path, destinations=("near", "far"))
    far = outbox.cursor("third")
    worker = historian(tmp_path, outbox, clock)
    for through, files in ((0, 0), (others[0] - 1, 0), (others[0], 1)):
        far.advance(through)
        make_all(worker, clock)
        assert len(day_files(tmp_path)) == files
    outbox.close()


def date_of_message(message):
    return date_of(Batch.from_bytes(message).cut_at_ms, None)


async def test_batches_stay_as_they_were_signed_until_nobody_may_ask_for_them(tmp_path):
    await lived(tmp_path)
    sent = messages(tmp_path)
    clock = FakeClock(START_MS + SECONDS * 1_000)
    outbox = opened(tmp_path)
    worker = historian(tmp_path, outbox, clock, resend_ms=HOUR_MS)
    make_all(worker, clock)
    assert len(day_files(tmp_path)) == FILES
    assert outbox.first == 1
    clock.is_trusted = False
    clock.pass_ms(2 * HOUR_MS)
    worker.free()
    assert outbox.first == 1, "an untrusted clock says nothing of age"
    clock.is_trusted = True
    worker.free()
    first = outbox.first
    assert 1 < first <= outbox.days.covered(outbox.epoch) - 15
    gateway = Batch.from_bytes(sent[0]).gateway
    assert [outbox.read(n, gateway) for n in range(first, outbox.head + 1)] == sent[first - 1 :]
    assert outbox.dropped_count == 0
    outbox.close()


async def test_a_batch_that_some_destination_lacks_is_not_let_go(tmp_path):
    await lived(tmp_path)
    clock = FakeClock(START_MS + SECONDS * 1_000)
    outbox = opened(tmp_path, destinations=("near", "far"))
    worker = historian(tmp_path, outbox, clock, resend_ms=HOUR_MS)
    make_all(worker, clock)
    outbox._cursors[1].advance(3)  # as after a platform was restored from a backup
    clock.pass_ms(2 * HOUR_MS)
    worker.free()
    assert outbox.first <= 3
    outbox._cursors[1].advance(outbox.head)
    worker.free()
    outbox.close()
    assert outbox.first > 3


class Hand:
    """What the historian does to the disk: counted, killed at one operation, and written down."""

    def __init__(self, monkeypatch):
        self.operations, self.kill_at, self.is_after = 0, None, False
        self.done = []
        monkeypatch.setattr(day_file.Writer, "_write", self._write(day_file.Writer._write))
        for place, name in ((Path, "rename"), (Path, "unlink"), (os, "fsync"), (os, "fdatasync")):
            monkeypatch.setattr(place, name, self._named(name, getattr(place, name)))

    def step(self, name, work):
        self.operations += 1
        if self.operations != self.kill_at:
            self.done.append(name)
            return work()
        if self.is_after:
            work()
        raise HandKilledError

    def _named(self, name, real):
        return lambda *words, **options: self.step(name, lambda: real(*words, **options))

    def _write(self, real):
        def write(writer, data):
            def torn():
                # a kill in the middle of a write leaves a part of it
                real(writer, data[: len(data) // 2])

            if self.operations + 1 == self.kill_at and self.is_after:
                return self.step("write", torn)
            return self.step("write", lambda: real(writer, data))

        return write


class HandKilledError(Exception):
    """The process is gone."""


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("start", range(1, 5))
async def test_a_kill_at_any_operation_leaves_history_whole_and_the_rest_is_made_later(
    tmp_path, monkeypatch, start, is_after
):
    await lived(tmp_path / "state", seconds=40)
    before = both(tmp_path / "state")
    hand = Hand(monkeypatch)
    for kill_at in itertools.count(start, 4):
        folder = tmp_path / f"killed-{kill_at}"
        shutil.copytree(tmp_path / "state", folder)
        hand.is_after = is_after
        was_killed = run_until_killed(folder, hand, kill_at)
        assert both(folder) == before, f"killed at operation {kill_at}"
        assert run_until_killed(folder, hand, None) is False
        assert both(folder) == before, f"taken up behind a kill at operation {kill_at}"
        assert len(day_files(folder)) == 2
        assert not (folder / "history" / "unfinished").exists()
        if not was_killed:
            return


def run_until_killed(folder, hand, kill_at):
    """Let a new process do all there is to do; tell whether it was killed."""
    outbox, clock = opened(folder), FakeClock(START_MS + SECONDS * 1_000)
    worker = historian(folder, outbox, clock, resend_ms=1)
    hand.operations, hand.kill_at = 0, kill_at
    try:
        make_all(worker, clock)
    except HandKilledError:
        return True
    else:
        return False
    finally:
        # as the kernel does for a process that is gone
        hand.kill_at = None
        worker.close()
        outbox.close()


async def test_a_file_has_its_name_once_the_disk_has_it_and_batches_go_only_then(
    tmp_path, monkeypatch
):
    await lived(tmp_path, seconds=100)
    hand = Hand(monkeypatch)
    outbox, clock = opened(tmp_path), FakeClock(START_MS + SECONDS * 1_000)
    real = outbox.free_delivered
    outbox.free_delivered = lambda cut_ms: hand.done.append("free") or real(cut_ms)
    make_all(historian(tmp_path, outbox, clock, resend_ms=1), clock)
    outbox.close()
    done = [name for name in hand.done if name in {"write", "fsync", "rename", "free"}]
    renames = [place for place, name in enumerate(done) if name == "rename"]
    assert len(renames) == 4
    for place in renames:
        # the index; the file's sync; its name; the syncs of both folders
        assert done[place - 2 : place + 3] == ["write", "fsync", "rename", "fsync", "fsync"]
    assert done.index("free") > renames[-1] + 2


async def test_a_disk_that_refuses_costs_nothing_and_is_tried_again_later(tmp_path, monkeypatch):
    await lived(tmp_path)
    before = both(tmp_path)
    outbox, clock = opened(tmp_path), FakeClock(START_MS + SECONDS * 1_000)
    worker = historian(tmp_path, outbox, clock, resend_ms=1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as refused:
        refused.setattr(day_file.Writer, "_write", full)
        worker.step()
        worker.free()
    assert (day_files(tmp_path), outbox.first) == ([], 1)
    assert not outbox.days.unfinished.exists()
    worker.step()
    assert day_files(tmp_path) == []
    clock.pass_ms(int(PAUSE_S * 1000))
    make_all(worker, clock)
    outbox.close()
    assert len(day_files(tmp_path)) == FILES
    assert both(tmp_path) == before


async def test_the_unfinished_file_is_the_first_thing_to_go_when_room_is_missing(tmp_path):
    await lived(tmp_path)
    before = both(tmp_path)
    outbox, clock = opened(tmp_path), Ticking(START_MS + SECONDS * 1_000)
    worker = historian(tmp_path, outbox, clock)
    worker.step()
    unfinished = outbox.days.unfinished
    assert unfinished.stat().st_size > 0
    missing = OSError(errno.ENOSPC, "No space left on device")
    assert outbox.make_room(missing, epochs.batches(tmp_path, outbox.epoch))
    assert (unfinished.exists(), outbox.first) == (False, 1)
    worker.step()
    assert not unfinished.exists(), "it is not begun again at once"
    worker.close()
    outbox.close()
    assert both(tmp_path) == before


class Ticking(FakeClock):
    """A clock on which every look takes a while."""

    looks = 0

    def monotonic_s(self):
        self.looks += 1
        self.pass_ms(STEP_S * 1000 / 4)
        return super().monotonic_s()


async def test_a_step_ends_in_time_and_the_next_one_goes_on(tmp_path):
    await lived(tmp_path)
    before = both(tmp_path)
    outbox, clock = opened(tmp_path), Ticking(START_MS + SECONDS * 1_000)
    worker = historian(tmp_path, outbox, clock, resend_ms=1)
    for _ in range(2_000):
        looks = clock.looks
        worker.step()
        assert clock.looks - looks <= 7
        if len(day_files(tmp_path)) == FILES:
            break
    worker.free()
    worker.close()
    outbox.close()
    assert len(day_files(tmp_path)) == FILES
    assert both(tmp_path) == before


async def test_it_is_not_looked_for_days_all_the_time(tmp_path, monkeypatch):
    await lived(tmp_path, seconds=20)
    outbox, clock = opened(tmp_path), FakeClock(START_MS + SECONDS * 1_000)
    worker = historian(tmp_path, outbox, clock)
    looked = []
    monkeypatch.setattr(worker, "_begin", lambda: looked.append(clock.monotonic_s()))
    for _ in range(200):
        worker.step()
        clock.pass_ms(1_000)
    outbox.close()
    assert looked == [0, LOOK_S, 2 * LOOK_S, 3 * LOOK_S]


async def test_the_oldest_days_go_first_when_the_limit_is_reached(tmp_path):
    await lived(tmp_path)
    shelve(tmp_path, resend_ms=1)
    files = day_files(tmp_path)
    outbox = opened(tmp_path)
    sizes = outbox.bytes_count
    outbox.close()
    assert sizes > sum(path.stat().st_size for path in files)
    outbox = opened(tmp_path, bytes_max=sizes - 1)
    outbox.trim()
    assert day_files(tmp_path) == files[1:]
    assert outbox.bytes_count <= sizes - 1
    outbox._bytes_max = 1
    outbox.trim()
    outbox.close()
    # what is in batches still is no history that has to go
    kept = days.listed(tmp_path)
    assert [day.path for day in kept] == files[-len(kept) :]
    assert kept[-1].through >= outbox.first


async def test_days_are_kept_for_so_long_and_not_longer(tmp_path):
    await lived(tmp_path)
    shelve(tmp_path, resend_ms=1)
    outbox = opened(tmp_path)
    clock = FakeClock(START_MS + 2 * DAY_MS + 10_000 + HOUR_MS)
    worker = historian(tmp_path, outbox, clock, history_ms=HOUR_MS)
    worker.free()
    outbox.close()
    kept = days.listed(tmp_path)
    assert len(kept) == FILES - 2
    assert min(day.cut_at_ms for day in kept) >= clock.now_ms() - HOUR_MS


async def test_a_catalogue_that_changes_within_a_day_changes_nothing_of_its_history(tmp_path):
    other = catalogue(("pv", 2_000), ("hall", 1_000), site="another plant")
    await Gateway(tmp_path, PLANT).play(history(5, PLANT, 40))
    later = Gateway(tmp_path, other, now_ms=START_MS + 41_000)
    await later.play([shifted(step, 60_000) for step in history(6, other, 60)])
    before = both(tmp_path)
    shelve(tmp_path, resend_ms=1)
    for file in (tmp_path / "catalogues").iterdir():
        file.write_bytes(b"")  # a day file brings its own
    with DayFile(day_files(tmp_path)[0]) as file:
        assert len(file.schemas()) == 1
    found = {known.site for known in History(tmp_path).catalogues()}
    assert found == {"plant", "another plant"}
    read = contents(tmp_path)[0]
    of_files = {row for row in before[0] if getattr(row, "due_ms", 0) < START_MS + 20_000}
    assert of_files <= set(read)


def shifted(step, ahead_ms):
    match step:
        case Row(group, due_ms, at_ms, values, qualities):
            return Row(group, due_ms + ahead_ms, at_ms + ahead_ms, values, qualities)
        case Cut(now_ms):
            return Cut(now_ms + ahead_ms)
    return Cut(START_MS + ahead_ms) if hasattr(step, "first_due_ms") else step


async def test_what_a_former_epoch_left_becomes_days_too(tmp_path):
    await lived(tmp_path)
    before = both(tmp_path)
    later_ms = START_MS + SECONDS * 1_000 + 60_000
    (tmp_path / f"batches-{later_ms}").mkdir()
    outbox, clock = Outbox(tmp_path, now_ms=later_ms, bytes_max=BYTES_MAX), FakeClock(later_ms)
    worker = historian(tmp_path, outbox, clock)
    Recorder(tmp_path, outbox, "qp-0001", PLANT, now_ms=later_ms)
    make_all(worker, clock)
    assert {day.epoch for day in days.listed(tmp_path)} == {START_MS}
    assert (tmp_path / f"batches-{START_MS}").exists()
    assert both(tmp_path) == before
    clock.pass_ms(2 * HOUR_MS)
    make_all(worker, clock)
    outbox.close()
    assert not (tmp_path / f"batches-{START_MS}").exists()
    assert both(tmp_path) == before


async def test_a_damaged_byte_costs_one_piece_at_most_and_is_told(tmp_path):
    await lived(tmp_path, seconds=40)
    shelve(tmp_path, resend_ms=1)
    before = {asked: contents(tmp_path, asked)[0] for asked in (READINGS, WINDOWS)}
    path = day_files(tmp_path)[0]
    whole = path.read_bytes()
    with DayFile(path) as file:
        blocks = file.blocks
    pieces = {
        READINGS: [b for b in blocks if b.kind is BlockKind.READINGS],
        WINDOWS: [b for b in blocks if b.kind is BlockKind.WINDOWS],
    }
    for at in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        for asked, known in before.items():
            rows, unreadable = contents(tmp_path, asked)
            struck = [
                b
                for b in pieces[asked]
                if b.offset <= at < b.offset + day_file._HEAD_BYTES + b.length
            ]
            assert rows <= known, f"byte {at}"
            assert (rows == known) == (not struck), f"byte {at}"
            assert (unreadable > 0) >= bool(struck), f"byte {at} is not told of"
    path.write_bytes(whole[: len(whole) // 2])
    assert contents(tmp_path)[0] < before[READINGS]
    assert contents(tmp_path)[1] > 0
    path.write_bytes(b"")
    assert contents(tmp_path)[1] > 0


async def test_batches_that_were_damaged_before_stay_told(tmp_path):
    await lived(tmp_path)
    segment = min((tmp_path / f"batches-{START_MS}").iterdir())
    data = bytearray(segment.read_bytes())
    data[len(data) // 3] ^= 1
    segment.write_bytes(data)
    before = contents(tmp_path)[0]
    shelve(tmp_path, resend_ms=1)
    after, unreadable = contents(tmp_path)
    assert (after, unreadable >= 1) == (before, True)


async def test_a_query_reads_no_more_than_what_it_asks_for(tmp_path, monkeypatch):
    await lived(tmp_path)
    shelve(tmp_path, resend_ms=1)
    read = []
    payload = DayFile.payload
    monkeypatch.setattr(
        DayFile, "payload", lambda file, block: read.append(block) or payload(file, block)
    )
    asked = Asked(
        since_ms=START_MS + 2 * DAY_MS, until_ms=START_MS + 2 * DAY_MS + 9_000, meter="pv"
    )
    found = [r for part in History(tmp_path).read(asked) for r in part.content.readings]
    assert {row.group.meter for row in found} == {"pv"}
    # the piece of the day, and of the next one what was cut behind its midnight
    assert 1 <= len(read) <= 2
    assert all(block.kind is BlockKind.READINGS and block.group == 1 for block in read)


async def test_statements_stay_in_day_files_as_they_were_signed(tmp_path, monkeypatch):
    monkeypatch.setattr(historian_module, "date_of", REAL_DATE_OF)
    plant = catalogue(("incomer", 3_600_000), windows=(86_400_000,))
    rows = [
        step
        for hour in range(24 * 3)
        for due_ms in [START_MS + hour * HOUR_MS]
        for step in (Row(0, due_ms, due_ms, (1, hour), bytes(2)), Cut(due_ms + 600_000))
    ]
    await Gateway(tmp_path, plant).play(rows)
    stated = [m for m in messages(tmp_path) if Batch.from_bytes(m).kind is BatchKind.STATEMENT]
    assert len(stated) >= 2
    delivered = Delivered(messages(tmp_path))
    shelve(tmp_path, resend_ms=1)
    found = []
    for path in day_files(tmp_path):
        with DayFile(path) as file:
            found += [file.payload(b) for b in file.blocks if b.kind is BlockKind.MESSAGE]
    assert found == stated[: len(found)]
    assert len(found) >= 1
    windows = Asked(since_ms=0, until_ms=2**45, length_ms=86_400_000)
    days_of_windows = contents(tmp_path, windows)[0]
    assert sum(days_of_windows.values()) >= len(delivered.windows) > 0


@pytest.mark.parametrize(
    ("local", "zone", "date"),
    [
        ("2026-11-22T16:00:00+00:00", None, dt.date(2026, 11, 23)),
        ("2026-11-22T15:59:59+00:00", None, dt.date(2026, 11, 22)),
        ("2026-10-24T22:00:00+00:00", "Europe/Berlin", dt.date(2026, 10, 25)),
        ("2026-10-25T22:59:59+00:00", "Europe/Berlin", dt.date(2026, 10, 25)),
        ("2026-10-25T23:00:00+00:00", "Europe/Berlin", dt.date(2026, 10, 26)),
    ],
)
def test_days_are_those_of_the_sites_calendar(local, zone, date):
    at_ms = round(dt.datetime.fromisoformat(local).timestamp() * 1000)
    changes = zone and tuple(offsets(zone, from_year=2026, to_year=2026))
    known = LocalTime(zone, changes) if zone else None
    assert REAL_DATE_OF(at_ms, known) == date
    assert REAL_DATE_OF(2**62, known) == dt.date.max
