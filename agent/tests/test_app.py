"""A whole agent on a fake bus: who gets which group, what it leaves behind, how it comes back."""

import asyncio
import itertools
import json
import socket
from dataclasses import replace

import pytest

from agent.tests import shelving
from agent.tests.fakes import GATEWAY, START_MS, FakeBus, FakeClock, write_site
from agent.tests.histories import BYTES_MAX, Cut, Delivered, Gap, Gateway, Row, in_groups, messages
from edgeagg.batch import Origin
from edgeagg.model import Quality
from edgeagg_agent import app, epochs
from edgeagg_agent.clock import SystemClock
from edgeagg_agent.config import load_site
from edgeagg_agent.memory import FILE, Memory
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder

# unit n answers n00.0 V, so that nobody's values can be taken for another's
WORDS = {1: (0x42C8, 0), 2: (0x4348, 0), 3: (0x4396, 0)}
TWO_BUSES = """
[site]
gateway = "qp-0001"
name = "Example plant"

[state]
directory = "DIRECTORY/state"

[status]
metrics = "127.0.0.1:METRICS"

[[destination]]
name = "platform"
broker = "mqtt://127.0.0.1:1"

[[bus]]
name = "roof"
tcp = "127.0.0.1:502"

[[bus.meter]]
name = "pv"
unit = 1
profile = "eastron-sdm630"
period = "200ms"
periods = { energy = "400ms" }
tier = 1
points = ["voltage_l1", "active_energy_import"]

[[bus]]
name = "yard"
tcp = "127.0.0.1:503"

[[bus.meter]]
name = "gate"
unit = 2
profile = "eastron-sdm630"
period = "200ms"
tier = 1
points = ["voltage_l1"]

[[bus.meter]]
name = "lamps"
unit = 3
profile = "eastron-sdm630"
period = "200ms"
tier = 1
points = ["voltage_l2"]
"""


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Site:
    """The site with its buses, and how to run an agent on it."""

    def __init__(self, folder, monkeypatch):
        self.port = free_port()
        text = TWO_BUSES.replace("METRICS", str(self.port))
        self.site = load_site(write_site(folder, text=text))
        self.folder = folder / "state"
        self.buses = []
        self.monkeypatch = monkeypatch
        self.clock = None
        monkeypatch.setattr(app, "make_bus", self.make_bus)
        monkeypatch.setattr(app, "_TICK_MS", 5)
        monkeypatch.setattr(app, "_FAREWELL_MS", 1)

    def make_bus(self, _config):
        bus = FakeBus(FakeClock(), lambda r: (WORDS[r.unit] * 63)[: r.count], took_ms=1)
        self.buses.append(bus)
        return bus

    async def run(self, is_enough):
        """Run an agent until `await is_enough()`; return what a platform would learn from it."""
        agent = app.Agent(self.site, self.clock or SystemClock())
        commit = Recorder.commit

        async def commit_and_look(recorder):
            self.recorder = recorder
            await commit(recorder)
            if await is_enough():
                agent.stop()

        with self.monkeypatch.context() as patch:
            patch.setattr(Recorder, "commit", commit_and_look)
            async with asyncio.timeout(20):
                await agent.run()
        return Delivered(messages(self.folder))

    async def has_read_all(self):
        return {r.unit for bus in self.buses[-2:] for _, r in bus.asked} == {1, 2, 3}

    async def scrape(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        text = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        return text


@pytest.fixture
def site(tmp_path, monkeypatch):
    return Site(tmp_path, monkeypatch)


async def test_every_group_gets_the_values_of_its_own_meter(site):
    delivered = await site.run(site.has_read_all)
    found = {}
    for event in delivered.events:
        if isinstance(event, Row):
            found.setdefault(event.group, set()).add(event.values)
    catalogue = site.site.catalogue()
    assert [group.meter for group in catalogue.groups] == ["pv", "pv", "gate", "lamps", "gateway"]
    wanted = {0: (1_000,), 1: (100_000,), 2: (2_000,), 3: (3_000,)}
    assert {group: values for group, values in found.items() if group < 4} == {
        group: {wanted[group]} for group in found if group < 4
    }
    assert {0, 2, 3} <= found.keys()
    assert all(bus.is_closed for bus in site.buses)


async def test_what_was_learned_is_written_at_the_end_and_taken_up_again(site, tmp_path):
    await site.run(site.has_read_all)
    kept = json.loads((site.folder / FILE).read_text("utf-8"))
    assert kept.keys() == {"pv", "gate", "lamps"}
    assert kept["pv"]["answered_max"] > 0
    kept["pv"]["refused"] = [[4, 0, 74]]
    (site.folder / FILE).write_text(json.dumps(kept), "utf-8")
    await site.run(site.has_read_all)
    asked = {(r.start, r.count) for _, r in site.buses[2].asked}
    assert (0, 74) not in asked
    assert {(0, 2), (72, 2)} & asked
    recalled = Memory(site.folder).recall("pv", "eastron-sdm630")
    assert recalled.known.refused == ((4, 0, 74),)


async def test_a_bad_learned_file_stops_nobody(site):
    site.folder.mkdir()
    (site.folder / FILE).write_bytes(b"\x00")
    assert (await site.run(site.has_read_all)).events


async def test_a_memory_that_cannot_be_written_is_a_warning(site, caplog):
    site.folder.mkdir()
    (site.folder / FILE).with_suffix(".new").mkdir()
    assert (await site.run(site.has_read_all)).events
    assert "what was learned of the meters and the time was not kept: Is a directory" in caplog.text


async def test_metrics_are_served_while_it_runs(site):
    texts = []

    async def scraped():
        try:
            texts.append(await site.scrape())
        except OSError:
            return False  # not listening yet
        return True

    await site.run(scraped)
    assert 'edgeagg_bus_transactions_total{gateway="qp-0001",bus="roof"} ' in texts[0]
    assert 'bus="yard",meter="lamps"} ' in texts[0]
    with pytest.raises(OSError, match=r"refused|Connect"):
        await site.scrape()


async def test_an_agent_on_the_state_of_one_without_own_points_goes_on_and_declares_the_rest(site):
    present = site.site.catalogue()
    former = replace(present, meters=present.meters[:-1], groups=present.groups[:-1])
    then_ms = (SystemClock().now_ms() // 400 - 1_000) * 400
    rows = [Row(group, then_ms, then_ms, (1,), bytes(1)) for group in range(len(former.groups))]
    gateway = Gateway(site.folder, former, now_ms=then_ms)
    await gateway.play([*rows, Cut(then_ms + 500)])
    before = messages(site.folder)
    delivered = await site.run(site.has_read_all)
    assert messages(site.folder)[: len(before)] == before
    assert delivered.events[: len(rows)] == rows
    gaps = [event for event in delivered.events if isinstance(event, Gap)]
    stopped = [gap for gap in gaps if gap.reason == Quality.STOPPED]
    assert sorted(gap.group for gap in stopped) == [0, 1, 2, 3]
    for gap in stopped:
        period_ms = present.groups[gap.group].period_ms
        assert gap.first_due_ms == then_ms + period_ms
        assert gap.slots == (gap.last_due_ms - gap.first_due_ms) // period_ms + 1


async def test_after_a_restart_every_slot_of_every_group_is_accounted_for_once(site):
    began_ms = []

    async def has_recorded_all():
        known_ms = [site.recorder.last_due_ms(group) for group in range(4)]
        began_ms.append(known_ms)
        return all(
            last_ms > first_ms for first_ms, last_ms in zip(began_ms[0], known_ms, strict=True)
        )

    for _ in range(2):
        began_ms.clear()
        delivered = await site.run(has_recorded_all)
    catalogue = site.site.catalogue()
    for group in range(4):
        period_ms = catalogue.groups[group].period_ms
        events = sorted(
            (e for e in delivered.events if e.group == group), key=lambda e: e.first_due_ms
        )
        announced_ms = delivered.batches[0].cut_at_ms
        next_ms = announced_ms // period_ms * period_ms + period_ms
        for event in events:
            assert event.first_due_ms == next_ms
            next_ms += event.slots * period_ms


async def test_the_outbox_and_the_state_are_free_again_behind_a_stop(site):
    await site.run(site.has_read_all)
    outbox = Outbox(site.folder, now_ms=START_MS, bytes_max=BYTES_MAX)
    Recorder(site.folder, outbox, GATEWAY, site.site.catalogue(), now_ms=START_MS)
    outbox.close()


async def test_what_is_read_before_the_time_is_known_waits_for_it_and_the_status_says_so(
    site, tmp_path, monkeypatch
):
    site.site = replace(site.site, status_file=tmp_path / "status.json")
    site.clock = clock = SystemClock(is_synchronised=lambda: False, floor_ms=2**42)
    said = []

    def write_status(_, values):
        said.append(values["clock"])
        if values["clock"]["waiting_rows"] > 3:
            clock.take_platform(SystemClock().now_ms())

    async def has_read_all_in_time():
        return clock.is_trusted and not site.recorder.held and await site.has_read_all()

    monkeypatch.setattr(app.health, "write_status", write_status)
    since_ms = SystemClock().now_ms()
    delivered = await site.run(has_read_all_in_time)
    rows = [event for event in delivered.events if isinstance(event, Row)]
    assert "waiting for the time: 0 rows are kept back" in said[0]["text"]
    assert said[-1]["text"].startswith("set by the platform")
    assert said[-1]["retimed_rows"] > 3
    assert {quality for row in rows for quality in row.qualities} == {Quality.GOOD}
    assert all(since_ms - 400 <= row.due_ms <= SystemClock().now_ms() for row in rows)
    assert len(rows) > said[-1]["retimed_rows"]


@pytest.mark.parametrize("knows_time", [True, False])
async def test_an_epoch_that_nobody_vouches_for_the_time_of_gets_a_drawn_name(site, knows_time):
    site.monkeypatch.setattr(app.random, "randrange", lambda below: below - 1)
    site.clock = SystemClock(is_synchronised=lambda: knows_time)
    await site.run(site.has_read_all)
    (epoch,) = epochs_of(site.folder)
    assert (epoch > SystemClock().now_ms()) == (not knows_time)


async def test_what_waits_when_the_agent_is_stopped_waits_in_the_next_run_too(site):
    site.clock = SystemClock(is_synchronised=lambda: False)
    first = await site.run(site.has_read_all)
    waiting = len(site.recorder.held)
    assert first.events == []
    assert waiting > 0
    site.clock = SystemClock()
    second = await site.run(site.has_read_all)
    rows = [event for event in second.events if isinstance(event, Row)]
    assert {quality for row in rows for quality in row.qualities} == {Quality.GOOD}
    assert len(rows) > waiting


async def test_an_agent_whose_numbers_others_used_leaves_all_it_has_to_a_new_epoch(site):
    with site.monkeypatch.context() as patch:
        patch.setattr(app.Agent, "stop", lambda agent: agent._leave_epoch(Origin.BEHIND))
        first = await site.run(site.has_read_all)
    former, new = sorted(epochs_of(site.folder))
    assert {batch.epoch for batch in first.batches} == {new}
    begun = epochs.beginning(site.folder, new)
    assert (begun.why, begun.former) == (Origin.BEHIND, former)
    groups = {event.group for event in first.events}
    assert {0, 2, 3} <= groups, "what was read before stands under new numbers"
    second = await site.run(site.has_read_all)
    assert second.batches[: len(first.batches)] == first.batches
    periods_ms = [group.period_ms for group in site.site.catalogue().groups]
    for group, events in in_groups(second.events).items():
        for before, after in itertools.pairwise(events):
            last_ms = before.first_due_ms + (before.slots - 1) * periods_ms[group]
            assert after.first_due_ms == last_ms + periods_ms[group], (
                "no slot twice, none forgotten"
            )


def epochs_of(folder):
    return [int(path.name.removeprefix("batches-")) for path in folder.glob("batches-*")]


class RestlessDesk:
    """Wants another site file to run from its third tick on."""

    def __init__(self):
        self.ticks = 0

    @property
    def wants_restart(self):
        return self.ticks >= 3

    def tick(self):
        self.ticks += 1

    def serve(self, signer):
        assert signer is not None

    def listens_to(self, _destination):
        return False


async def test_an_agent_that_begins_anew_ends_in_order_and_tells_systemd_of_no_stop(
    site, monkeypatch
):
    notices = []
    monkeypatch.setattr(app.health, "notify_systemd", notices.append)
    agent = app.Agent(site.site, SystemClock(), RestlessDesk())
    async with asyncio.timeout(20):
        await agent.run()
    assert not agent.is_told_to_stop
    # systemd kills what has said STOPPING and does not end
    assert "READY=1" in notices
    assert "STOPPING=1" not in notices
    outbox = Outbox(site.folder, now_ms=START_MS, bytes_max=BYTES_MAX)
    outbox.close()
    assert all(bus.is_closed for bus in site.buses)


async def test_a_running_agent_makes_day_files_of_what_is_delivered(site, monkeypatch):
    shelving.short_days(monkeypatch)
    await shelving.lived(site.folder, seconds=70)
    shelving.opened(site.folder).close()
    before = shelving.both(site.folder)

    async def has_made_files():
        # the last day ends with a batch of this run, which nobody has
        return len(shelving.day_files(site.folder)) == 3

    await site.run(has_made_files)
    after = shelving.both(site.folder)
    assert before[0] <= after[0]
    assert before[1] <= after[1]


async def test_no_history_is_made_while_the_disk_refuses(site, monkeypatch):
    agent = app.Agent(site.site, SystemClock())
    steps = []
    monkeypatch.setattr(agent._historian, "step", lambda: steps.append(1))
    for is_refused in (True, False):
        agent._recorder.is_refused = is_refused
        await agent._wait_for_tick()
        assert len(steps) == (not is_refused)
    agent._outbox.close()
