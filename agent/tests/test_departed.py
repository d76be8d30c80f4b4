"""Meters that are taken out of the site file and put back: no slot in between is forgotten."""

from dataclasses import replace

import pytest

from agent.tests.fakes import GATEWAY, START_MS, catalogue
from agent.tests.histories import BYTES_MAX, Delivered, Gap, messages
from edgeagg import topics
from edgeagg.model import Quality
from edgeagg.receiver.audit import audit
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg_agent import books
from edgeagg_agent.departed import Departed
from edgeagg_agent.judging import make_aggregator
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.schedule import Schedule

BOTH = catalogue(("incomer", 1_000), ("pv", 2_000))
ONE = replace(BOTH, meters=BOTH.meters[:1], groups=BOTH.groups[:1])
SLOWER = catalogue(("incomer", 1_000), ("pv", 4_000))


async def live(folder, plant, from_ms, seconds):
    """Let an agent with this catalogue start, read for some seconds and end."""
    outbox = Outbox(folder, now_ms=from_ms, bytes_max=BYTES_MAX)
    recorder = Recorder(folder, outbox, GATEWAY, plant, now_ms=from_ms, knows_time=True)
    periods_ms = {number: group.period_ms for number, group in enumerate(plant.groups)}
    schedule = Schedule(periods_ms, from_ms)
    books.take_over(schedule, periods_ms, recorder, from_ms)
    for number, period_ms in periods_ms.items():
        points = len(plant.groups[number].points)
        for due_ms in range(schedule.next_due_ms(number), from_ms + seconds * 1_000, period_ms):
            recorder.row(
                number, due_ms=due_ms, at_ms=due_ms, values=[1] * points, qualities=bytes(points)
            )
    await recorder.cut(from_ms + seconds * 1_000)
    outbox.close()


async def audited(folder, path):
    """Deliver everything, and let the platform count."""
    store = await SqliteStore.open(str(path))
    topic = topics.batch(GATEWAY)
    await Inbox(store, Admission.ANYBODY).take(
        [Message(topic, message) for message in messages(folder)], START_MS
    )
    found = await audit(store, GATEWAY)
    await store.close()
    return found


@pytest.mark.parametrize("meanwhile", [ONE, SLOWER], ids=["taken out", "read at another pace"])
async def test_a_meter_that_comes_back_declares_what_fell_due_since_it_went(tmp_path, meanwhile):
    folder = tmp_path / "state"
    await live(folder, BOTH, START_MS, 10)
    await live(folder, meanwhile, START_MS + 60_000, 10)
    await live(folder, meanwhile, START_MS + 120_000, 10)  # once more from the checkpoint
    await live(folder, BOTH, START_MS + 180_000, 10)
    found = await audited(folder, tmp_path / "platform.db")
    assert found.is_whole, [(slot.count.meter, slot.unexplained) for slot in found.slots]
    gaps = [event for event in Delivered(messages(folder)).events if isinstance(event, Gap)]
    (gap,) = [gap for gap in gaps if gap.group == 1 and gap.last_due_ms > START_MS + 130_000]
    assert (gap.first_due_ms, gap.last_due_ms) == (START_MS + 10_000, START_MS + 180_000)
    assert gap.reason == Quality.STOPPED


async def test_a_meter_that_never_comes_back_ends_with_its_last_slot(tmp_path):
    folder = tmp_path / "state"
    await live(folder, BOTH, START_MS, 10)
    await live(folder, ONE, START_MS + 60_000, 10)
    found = await audited(folder, tmp_path / "platform.db")
    assert found.is_whole
    last = {slot.count.meter: slot.count.last_due_ms for slot in found.slots}
    assert last == {"incomer": START_MS + 69_000, "pv": START_MS + 8_000}


def test_of_many_groups_those_that_went_last_are_remembered():
    departed = Departed()
    for number in range(1_100):
        former = catalogue((f"meter-{number}", 1_000))
        read = make_aggregator(former)
        read.restart_group(0, number * 1_000)
        departed.change(former, read, catalogue(("incomer", 1_000)), START_MS)
    again = Departed()
    again.restore(departed.to_bytes())
    assert len(departed.to_bytes()) == 1_024 * 24
    for number, expected in ((75, None), (76, 76_000), (1_099, 1_099_000)):
        back = catalogue((f"meter-{number}", 1_000))
        empty = catalogue(("nobody", 1_000))
        read = make_aggregator(empty)
        assert again.change(empty, read, back, START_MS).last_due_ms(0) == expected
