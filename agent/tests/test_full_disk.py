"""A disk that refuses: nothing stops, nothing is silently lost, and it goes on by itself."""

import errno
import random

import pytest

from agent.tests.fakes import GATEWAY, START_MS, catalogue
from agent.tests.histories import (
    BYTES_MAX,
    Commit,
    Cut,
    Delivered,
    Gap,
    Row,
    history,
    in_groups,
    messages,
    slots,
)
from agent.tests.refusing import RefusingDisk
from edgeagg.batch import Batch, BatchKind
from edgeagg.model import Quality
from edgeagg_agent import books, two_slots
from edgeagg_agent import outbox as outbox_module
from edgeagg_agent import recorder as recorder_module
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.schedule import Schedule

PLANT = catalogue(("incomer", 1_000), ("pv", 2_000), ("incomer", 4_000))
SEGMENT_BYTES = 4096


@pytest.fixture
def disk(monkeypatch):
    disk = RefusingDisk()
    for module in (recorder_module, outbox_module):
        monkeypatch.setattr(module, "Journal", disk.journal)
        monkeypatch.setattr(module, "_SEGMENT_BYTES", SEGMENT_BYTES)
    return disk


@pytest.fixture
def gateway(ram, disk):
    gateway = Gateway(ram / "state")
    yield gateway
    gateway.outbox.close()


class Gateway:
    """A recorder that is played a history, and what it leaves in its outbox."""

    def __init__(self, folder, plant=PLANT, bytes_max=BYTES_MAX):
        self.folder = folder
        self.outbox = Outbox(folder, now_ms=START_MS, bytes_max=bytes_max)
        self.recorder = Recorder(folder, self.outbox, GATEWAY, plant, now_ms=START_MS)
        self.recorder.reserve()

    async def do(self, step):
        match step:
            case Commit():
                await self.recorder.commit()
            case Cut(now_ms):
                await self.recorder.cut(now_ms)
                self.outbox.trim()
            case _:
                step.push(self.recorder)

    async def end(self, now_ms):
        """Do what an agent does last, and return what is in its outbox then."""
        await self.recorder.commit()
        await self.recorder.cut(now_ms)
        self.outbox.close()
        return messages(self.folder)


def seconds(count):
    """Rows of every group, a commit every second and a cut every ten."""
    energy = 0
    for second in range(count):
        now_ms = START_MS + second * 1_000
        for number, group in enumerate(PLANT.groups):
            if second * 1_000 % group.period_ms == 0:
                energy += 1
                yield Row(number, now_ms, now_ms + 5, (2_300 + second, energy), bytes(2))
        if second % 3 == 2:
            yield Commit()
        if second % 6 == 5:
            yield Cut(now_ms + 900)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("seed", range(5))
async def test_what_is_read_while_the_disk_refuses_is_delivered_when_it_no_longer_does(
    gateway, disk, error, seed
):
    rng = random.Random(seed)
    steps = history(seed, PLANT, 60)
    for step in steps:
        if isinstance(step, Commit | Cut) and rng.random() < 0.3:
            disk.error = None if disk.error else error
        await gateway.do(step)
    disk.error = None
    delivered = Delivered(await gateway.end(START_MS + 300_000))
    assert disk.refused > 0, f"seed {seed}: the disk was never asked"
    assert in_groups(delivered.events) == in_groups(steps)
    assert slots(delivered.events, PLANT) == sorted(set(slots(steps, PLANT)))
    assert gateway.recorder.counters.not_kept == 0


async def test_trouble_is_told_once_and_its_end_once(gateway, disk, caplog):
    disk.error = errno.EIO
    for step in seconds(30):
        await gateway.do(step)
    assert gateway.recorder.is_refused
    disk.error = None
    await gateway.recorder.commit()
    assert not gateway.recorder.is_refused
    assert [r.levelname for r in caplog.records] == ["ERROR", "WARNING"]
    assert "state directory: refused; readings wait in memory" in caplog.text
    assert "it takes writes again; 0 slots since the start were not kept" in caplog.text


@pytest.mark.parametrize("limit", ["WAITING_BYTES_MAX", "PENDING_CELLS_MAX"])
async def test_slots_beyond_the_memory_are_declared_exactly(gateway, disk, monkeypatch, limit):
    monkeypatch.setattr(recorder_module, limit, 400)
    steps = list(seconds(300))
    for place, step in enumerate(steps):
        disk.error = errno.ENOSPC if 100 <= place < 500 else None
        await gateway.do(step)
    delivered = Delivered(await gateway.end(START_MS + 700_000))
    rows = [step for step in steps if isinstance(step, Row)]
    gaps = [event for event in delivered.events if isinstance(event, Gap)]
    assert {gap.reason for gap in gaps} == {Quality.NOT_KEPT}
    assert slots(delivered.events, PLANT) == sorted(slots(rows, PLANT))
    kept = {event for event in delivered.events if isinstance(event, Row)}
    assert kept <= set(rows)
    assert len(rows) - len(kept) == sum(gap.slots for gap in gaps)
    assert gateway.recorder.counters.not_kept == sum(2 * gap.slots for gap in gaps)
    assert gateway.recorder.counters.missed == gateway.recorder.counters.not_kept


async def test_slots_that_are_owed_are_not_declared_again_when_the_clock_is_set(
    gateway, disk, monkeypatch
):
    monkeypatch.setattr(recorder_module, "WAITING_BYTES_MAX", 400)
    disk.error = errno.ENOSPC
    for step in seconds(60):
        await gateway.do(step)
    last_ms = START_MS + 59_000
    assert gateway.recorder.last_due_ms(0) == last_ms
    periods_ms = {number: group.period_ms for number, group in enumerate(PLANT.groups)}
    schedule = Schedule(periods_ms, START_MS + 90_000)
    books.take_over(schedule, periods_ms, gateway.recorder, START_MS + 90_000)
    disk.error = None
    delivered = Delivered(await gateway.end(START_MS + 100_000))
    found = slots(delivered.events, PLANT)
    assert len(found) == len(set(found))
    assert {due_ms for number, due_ms in found if number == 0} >= set(
        range(START_MS, START_MS + 90_000, 1_000)
    )


async def test_memory_is_bounded_however_long_the_disk_refuses(gateway, disk, monkeypatch):
    monkeypatch.setattr(recorder_module, "WAITING_BYTES_MAX", 2_000)
    disk.error = errno.EROFS
    largest = 0
    for step in seconds(1_000):
        await gateway.do(step)
        largest = max(largest, gateway.recorder.waiting_bytes)
    assert largest < 2_100
    assert gateway.recorder.pending_cells < 2_000


async def test_a_kill_while_the_disk_refuses_leaves_what_it_had_taken(gateway, disk):
    steps = list(seconds(40))
    for place, step in enumerate(steps):
        disk.error = errno.EIO if place > 50 else None
        await gateway.do(step)
    gateway.outbox.close()  # as the kernel does for a process that is gone
    disk.error = None
    again = Gateway(gateway.folder)
    delivered = Delivered(await again.end(START_MS + 100_000))
    rows = in_groups(steps)
    for number, events in in_groups(delivered.events).items():
        assert events == rows[number][: len(events)]
    committed = max(place for place in range(51) if isinstance(steps[place], Commit))
    last = max(step.due_ms for step in steps[:committed] if isinstance(step, Row))
    assert max(event.due_ms for event in delivered.events) >= last


async def test_a_full_disk_without_history_goes_on_in_the_spare_segments(gateway, disk):
    disk.is_full = True
    steps = list(seconds(60))
    for step in steps:
        await gateway.do(step)
    assert not gateway.recorder.is_refused
    assert gateway.outbox.dropped_count == 0
    assert in_groups(Delivered(await gateway.end(START_MS + 200_000)).events) == in_groups(steps)


async def test_a_full_disk_costs_delivered_batches_first(gateway, disk):
    cursor = gateway.outbox.cursor("platform")
    for place, step in enumerate(seconds(400)):
        disk.is_full = place > 200
        await gateway.do(step)
        cursor.advance(gateway.outbox.head)
    assert disk.refused > 0
    assert not gateway.recorder.is_refused
    assert gateway.outbox.dropped_count == 0
    assert gateway.recorder.counters.not_kept == 0
    assert gateway.outbox.bytes_count < gateway.recorder.counters.batch_bytes


async def test_undelivered_batches_are_dropped_oldest_first_and_counted(gateway, disk):
    cursor = gateway.outbox.cursor("platform")
    assert cursor.through == 0
    for place, step in enumerate(seconds(400)):
        disk.is_full = place > 200
        await gateway.do(step)
    assert gateway.recorder.counters.not_kept == 0
    found = [Batch.from_bytes(data) for data in await gateway.end(START_MS + 7_300_000)]
    dropped = gateway.outbox.dropped_count
    lost = [batch.sequence for batch in found if batch.kind is BatchKind.LOST]
    assert found[0].kind is BatchKind.CATALOGUE, "or nothing under it could be read"
    assert lost == list(range(2, len(lost) + 2))
    assert dropped == len(lost) > 0
    assert [batch.sequence for batch in found] == list(range(1, len(found) + 1))


async def test_room_is_back_and_nothing_is_let_go_any_more(gateway, disk):
    disk.is_full = True
    steps = list(seconds(500))
    for step in steps[:600]:
        await gateway.do(step)
    first = gateway.outbox.dropped_count
    disk.is_full = False
    for step in steps[600:]:
        await gateway.do(step)
    assert first > 0
    assert gateway.outbox.dropped_count == first


async def test_a_restart_on_a_full_disk_goes_on(gateway, disk):
    cursor = gateway.outbox.cursor("platform")
    steps = list(seconds(500))
    for step in steps[:300]:
        await gateway.do(step)
    disk.is_full = True
    cursor.advance(gateway.outbox.head)
    gateway.outbox.close()
    again = Gateway(gateway.folder)
    cursor = again.outbox.cursor("platform")
    for step in steps[300:]:
        await again.do(step)
        cursor.advance(again.outbox.head)
    assert disk.refused > 0
    assert (again.outbox.dropped_count, again.recorder.counters.not_kept) == (0, 0)
    for number in range(len(PLANT.groups)):
        last = in_groups(steps)[number][-1].due_ms
        assert again.recorder.last_due_ms(number) == last
    again.outbox.close()


async def test_a_cursor_that_cannot_be_written_is_written_later(gateway, monkeypatch):
    cursor = gateway.outbox.cursor("platform")
    cursor.advance(5)
    cursor.advance(6)
    with monkeypatch.context() as patch:
        patch.setattr(two_slots.os, "pwrite", refuse)
        for through in (7, 8, 9):
            cursor.advance(through)
    assert cursor.through == 9
    assert gateway.outbox.cursor("platform").through == 6
    cursor.advance(10)
    assert gateway.outbox.cursor("platform").through == 10


def refuse(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_batch_that_cannot_be_read_is_tried_again_and_given_up_in_the_end(
    gateway, monkeypatch
):
    class Failing:
        first, committed = 1, 5

        def read(self, _):
            raise OSError(errno.EIO, "Input/output error")

    for step in seconds(20):
        await gateway.do(step)
    message = gateway.outbox.read(2, GATEWAY)
    with monkeypatch.context() as patch:
        patch.setattr(gateway.outbox, "_journal", Failing())
        for _ in range(9):
            with pytest.raises(OSError, match="Input/output error"):
                gateway.outbox.read(2, GATEWAY)
    assert gateway.outbox.read(2, GATEWAY) == message
    with monkeypatch.context() as patch:
        patch.setattr(gateway.outbox, "_journal", Failing())
        for _ in range(9):
            with pytest.raises(OSError, match="Input/output error"):
                gateway.outbox.read(2, GATEWAY)
        assert Batch.from_bytes(gateway.outbox.read(2, GATEWAY)).kind is BatchKind.LOST
