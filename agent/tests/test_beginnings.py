"""Where the account of a group begins: behind the announcement of its catalogue, kills or not."""

import shutil
from dataclasses import replace

import pytest

from agent.tests.fakes import GATEWAY, START_MS, catalogue
from agent.tests.histories import BYTES_MAX, Delivered, Row, messages, slots
from agent.tests.killing import MODES, Disk, KilledError
from edgeagg.batch import BatchKind
from edgeagg.model import Quality
from edgeagg_agent import books
from edgeagg_agent import outbox as outbox_module
from edgeagg_agent import recorder as recorder_module
from edgeagg_agent.held import HeldRow
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.schedule import Schedule

PLANT = catalogue(("incomer", 1_000), ("pv", 2_000), ("tenant", 60_000))
BEGUN_MS = START_MS + 1_234
LATER_MS = START_MS + 130_500


@pytest.fixture
def disk(monkeypatch):
    found = Disk()
    for module in (outbox_module, recorder_module):
        monkeypatch.setattr(module, "Journal", found.journal)
    return found


class Run:
    """One start of a gateway that takes over what was before it."""

    def __init__(self, folder, now_ms, *, plant=PLANT, knows_time=True):
        self.outbox = Outbox(folder, now_ms=now_ms, bytes_max=BYTES_MAX)
        try:
            self.recorder = Recorder(
                folder,
                self.outbox,
                GATEWAY,
                plant,
                now_ms=now_ms,
                boot="boot",
                knows_time=knows_time,
            )
        except KilledError:
            self.outbox.close()
            raise
        self.plant, self.now_ms = plant, now_ms
        if not knows_time:
            self.recorder.held.begin(range(len(plant.groups)))

    def take_over(self):
        periods_ms = {number: group.period_ms for number, group in enumerate(self.plant.groups)}
        schedule = Schedule(periods_ms, self.now_ms)
        books.take_over(schedule, periods_ms, self.recorder, self.now_ms)
        return schedule

    async def read_one_slot_each(self):
        schedule = self.take_over()
        for group in range(len(self.plant.groups)):
            due_ms = schedule.next_due_ms(group)
            self.recorder.row(group, due_ms=due_ms, at_ms=due_ms, values=[1, 2], qualities=bytes(2))
        await self.recorder.cut(self.now_ms + 60_000)
        self.outbox.close()


def due(plant, behind_ms, through_ms):
    """Return the slots of every group after one moment and up to another, one each beyond it."""
    found = []
    for number, group in enumerate(plant.groups):
        first_ms = (behind_ms // group.period_ms + 1) * group.period_ms
        last_ms = (through_ms // group.period_ms + 1) * group.period_ms
        found += [(number, at_ms) for at_ms in range(first_ms, last_ms + 1, group.period_ms)]
    return sorted(found)


async def test_a_first_start_that_was_killed_before_its_first_row_is_accounted_for(tmp_path):
    Run(tmp_path, BEGUN_MS).outbox.close()
    await Run(tmp_path, LATER_MS).read_one_slot_each()
    delivered = Delivered(messages(tmp_path))
    assert slots(delivered.events, PLANT) == due(PLANT, BEGUN_MS, LATER_MS)
    gaps = [event for event in delivered.events if not isinstance(event, Row)]
    assert {gap.reason for gap in gaps} == {Quality.STOPPED}


@pytest.mark.parametrize("mode", MODES)
async def test_a_kill_at_any_operation_of_a_first_start_moves_no_beginning(tmp_path, disk, mode):
    disk.mode = mode
    place = kills = 0
    while kills == place:
        place += 1
        folder = tmp_path / f"{place}"
        disk.kill_at = disk.operations + place
        try:
            Run(folder, BEGUN_MS).outbox.close()
        except KilledError:
            kills += 1
        disk.kill_at = None
        await Run(folder, LATER_MS).read_one_slot_each()
        delivered = Delivered(messages(folder))
        announced_ms = delivered.batches[0].cut_at_ms
        assert slots(delivered.events, PLANT) == due(PLANT, announced_ms, LATER_MS)
        shutil.rmtree(folder)
    assert kills > 3


async def test_a_meter_that_is_new_begins_with_the_announcement_that_has_it(tmp_path):
    old = replace(PLANT, groups=PLANT.groups[:2])
    Run(tmp_path, BEGUN_MS, plant=old).outbox.close()
    Run(tmp_path, BEGUN_MS + 60_000).outbox.close()
    await Run(tmp_path, LATER_MS).read_one_slot_each()
    delivered = Delivered(messages(tmp_path))
    kinds = [batch.kind for batch in delivered.batches]
    assert kinds == [BatchKind.CATALOGUE, BatchKind.CATALOGUE, BatchKind.DATA]
    wanted = [slot for slot in due(PLANT, BEGUN_MS, LATER_MS) if slot[0] < 2]
    wanted += [slot for slot in due(PLANT, BEGUN_MS + 60_000, LATER_MS) if slot[0] == 2]
    assert slots(delivered.events, PLANT) == sorted(wanted)


@pytest.mark.parametrize("mode", MODES)
async def test_a_kill_at_any_operation_of_a_changed_catalogue_moves_no_beginning(
    tmp_path, disk, mode
):
    old = replace(PLANT, groups=PLANT.groups[:2])
    changed_ms, back_ms = LATER_MS + 60_000, LATER_MS + 180_000
    place = kills = announced_twice = 0
    while kills == place:
        place += 1
        folder = tmp_path / f"{place}"
        await Run(folder, BEGUN_MS, plant=old).read_one_slot_each()
        disk.kill_at = disk.operations + place
        try:
            Run(folder, changed_ms).outbox.close()
        except KilledError:
            kills += 1
        disk.kill_at = None
        await Run(folder, back_ms).read_one_slot_each()
        delivered = Delivered(messages(folder))
        announced = [b.cut_at_ms for b in delivered.batches if b.schema == PLANT.hash]
        assert announced[0] in {changed_ms, back_ms}
        found = [slot for slot in slots(delivered.events, PLANT) if slot[0] == 2]
        assert found == [slot for slot in due(PLANT, announced[0], back_ms) if slot[0] == 2]
        kinds = [batch.kind for batch in delivered.batches]
        announced_twice += kinds.count(BatchKind.CATALOGUE) == 3
        shutil.rmtree(folder)
    assert kills > 3
    assert announced_twice or mode == "before"


async def test_where_slots_were_recorded_since_an_announcement_the_account_begins_with_the_next(
    tmp_path,
):
    await Run(tmp_path, BEGUN_MS).read_one_slot_each()
    shutil.rmtree(tmp_path / f"readings-{BEGUN_MS}")  # and nobody knows which slots were the last
    await Run(tmp_path, LATER_MS).read_one_slot_each()
    delivered = Delivered(messages(tmp_path))
    wanted = due(PLANT, BEGUN_MS, BEGUN_MS) + due(PLANT, LATER_MS, LATER_MS)
    assert slots(delivered.events, PLANT) == sorted(wanted)


async def test_a_gateway_that_does_not_know_the_time_begins_with_its_first_row(tmp_path):
    run = Run(tmp_path, BEGUN_MS, knows_time=False)
    run.take_over()
    for due_ms in (START_MS + 2_000, START_MS + 3_000):
        values = {"values": (1, 2), "qualities": bytes(2)}
        run.recorder.hold(HeldRow(group=0, due_ms=due_ms, at_ms=due_ms, offset_ms=0, **values))
    # the clock was a day behind; the other groups have no row yet, and begin where it is known
    known = run.recorder.release(range(3), 86_400_000)
    now_ms = run.now_ms = LATER_MS + 86_400_000
    assert known == {0}
    await run.read_one_slot_each()
    delivered = Delivered(messages(tmp_path))
    behind_ms = [START_MS + 86_400_000 + 1_000, now_ms, now_ms]
    wanted = [
        slot
        for number in range(3)
        for slot in due(PLANT, behind_ms[number], now_ms)
        if slot[0] == number
    ]
    assert slots(delivered.events, PLANT) == wanted
