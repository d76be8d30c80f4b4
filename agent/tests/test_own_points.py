"""The gateway's own rows, a minute apart, and what a scraper gets over a real socket."""

import asyncio
import contextlib
import socket

import pytest

from agent.tests.fakes import GATEWAY, START_MS, FakeClock, FakeRecorder, TimeIsUpError
from edgeagg.model import Quality
from edgeagg_agent.bus import BusStats
from edgeagg_agent.metrics import (
    BUS_METRICS,
    STATE_METRICS,
    BusTally,
    BusWatch,
    StateWatch,
    gateway_group,
)
from edgeagg_agent.own_points import OwnPoints

GROUP = 9
FIRST_MS = (START_MS // 60_000 + 1) * 60_000


class Own:
    """Two buses' counters, and the task that samples them."""

    def __init__(self, *, lasts_ms=None, last_due_ms=None):
        self.clock = FakeClock(lasts_ms=lasts_ms)
        self.recorder = FakeRecorder({GROUP: last_due_ms})
        self.stats = [BusStats(), BusStats()]
        self.tallies = [BusTally(), BusTally()]
        self.watches = [
            BusWatch(name, meters, stats, tally, now_s=0.0)
            for name, meters, stats, tally in zip(
                ("switchroom", "roof"),
                (("incomer",), ("pv",)),
                self.stats,
                self.tallies,
                strict=True,
            )
        ]
        self.dropped = 0
        state = StateWatch(lambda: (self.dropped, 4, 3, 2, -1_500, 7))
        self.points = OwnPoints(GATEWAY, GROUP, self.watches, state, self.recorder, self.clock)
        group = gateway_group([(watch.name, watch.meters) for watch in self.watches])
        self.names = [point.name for point in group.points]

    async def run(self):
        with pytest.raises(TimeIsUpError):
            await self.points.run()

    def named(self, row):
        return dict(zip(self.names, row[3], strict=True))


async def test_there_is_a_row_for_every_minute_with_a_value_for_every_point():
    own = Own(lasts_ms=310_000)
    await own.run()
    assert [row[:2] for row in own.recorder.rows] == [
        (GROUP, FIRST_MS + n * 60_000) for n in range(5)
    ]
    for _, due_ms, at_ms, values, qualities in own.recorder.rows:
        assert due_ms <= at_ms < due_ms + 1_000
        assert len(values) == len(qualities) == len(own.names)
        assert len(values) == 2 * (len(BUS_METRICS) + 1) + len(STATE_METRICS)
        assert set(qualities) == {Quality.GOOD}
    assert own.recorder.gaps == []


async def test_a_row_holds_the_counters_of_every_bus_at_its_time():
    own = Own(lasts_ms=150_000)
    own.dropped = 11
    own.stats[1].no_reply, own.tallies[0].retries = 7, 3
    own.tallies[1].note("pv", slots=10, values=5)
    pass_ms = own.clock.pass_ms

    def work(duration_ms):
        pass_ms(duration_ms)
        own.stats[0].busy_s += duration_ms / 4_000

    own.clock.pass_ms = work
    await own.run()
    first, second = map(own.named, own.recorder.rows)
    assert (first["roof_no_reply"], first["switchroom_no_reply"]) == (7, 0)
    assert (first["state_dropped_batches"], first["state_not_kept_slots"]) == (11, 4)
    assert (first["switchroom_retries"], first["roof_retries"]) == (3, 0)
    assert (first["pv_completeness"], second["pv_completeness"]) == (500, 1000)
    assert first["switchroom_utilisation"] == second["switchroom_utilisation"] == 250
    assert second["roof_utilisation"] == 0


async def test_minutes_without_an_agent_are_declared_as_stopped():
    last_ms = FIRST_MS - 10 * 60_000
    own = Own(lasts_ms=70_000, last_due_ms=last_ms)
    await own.run()
    assert own.recorder.gaps == [(GROUP, last_ms + 60_000, FIRST_MS - 60_000, 9, Quality.STOPPED)]
    assert own.recorder.rows[0][1] == FIRST_MS


async def test_a_restart_within_the_minute_repeats_no_row():
    own = Own(lasts_ms=130_000, last_due_ms=FIRST_MS)
    await own.run()
    assert own.recorder.gaps == []
    assert [row[1] for row in own.recorder.rows] == [FIRST_MS + 60_000]


async def test_minutes_that_a_stepping_clock_left_out_are_declared_as_overrun():
    own = Own(lasts_ms=100_000)
    pass_ms = own.clock.pass_ms

    def step(duration_ms):
        pass_ms(duration_ms)
        if own.clock.now_ms() < FIRST_MS:
            own.clock.step_ms(600_000)

    own.clock.pass_ms = step
    await own.run()
    ((group, first_ms, last_ms, slots, reason),) = own.recorder.gaps
    assert (group, reason) == (GROUP, Quality.OVERRUN)
    assert (last_ms - first_ms) // 60_000 + 1 == slots == 9
    assert own.recorder.rows[0][1] == last_ms + 60_000
    assert first_ms == FIRST_MS


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextlib.asynccontextmanager
async def served(own):
    """Serve the metrics on a free port; yield a function that opens a connection."""
    port = free_port()
    serving = asyncio.create_task(own.points.serve("127.0.0.1", port))

    async def connect():
        async with asyncio.timeout(5):
            while not serving.done():
                try:
                    return await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0)  # it does not listen yet
        raise AssertionError("does not listen")

    try:
        yield connect
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def scrape(connect, request=b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n"):
    reader, writer = await connect()
    writer.write(request)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_scraper_gets_the_last_sample_of_every_bus_in_prometheus_text():
    own = Own(lasts_ms=70_000)
    own.stats[0].transactions = 41
    await own.run()
    own.stats[0].transactions = 42  # in the next sample
    async with served(own) as connect:
        head, _, body = (await scrape(connect)).partition(b"\r\n\r\n")
    fields = dict(line.split(b": ") for line in head.split(b"\r\n")[1:])
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert fields[b"Content-Type"] == b"text/plain; version=0.0.4"
    assert int(fields[b"Content-Length"]) == len(body)
    text = body.decode()
    assert 'edgeagg_bus_transactions_total{gateway="qp-0001",bus="switchroom"} 41\n' in text
    assert 'edgeagg_meter_completeness_percent{gateway="qp-0001",bus="roof",meter="pv"} ' in text


@pytest.mark.parametrize("request_", [b"", b"GET /", b"x" * 70_000], ids=["none", "half", "long"])
async def test_who_does_not_speak_http_gets_nothing_and_the_next_one_is_served(request_, caplog):
    own = Own()
    async with served(own) as connect:
        reader, writer = await connect()
        writer.write(request_)
        writer.write_eof()
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        assert (await scrape(connect)).startswith(b"HTTP/1.1 200 OK")
    assert caplog.records == []  # it is nobody's mistake but theirs


async def test_several_scrapers_at_once_are_all_answered():
    own = Own()
    async with served(own) as connect:
        answers = await asyncio.gather(*(scrape(connect) for _ in range(5)))
    assert len(set(answers)) == 1
    assert answers[0].startswith(b"HTTP/1.1 200 OK")


async def test_a_port_in_use_is_named_in_the_log_and_ends_nothing_else(caplog):
    own = Own()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        await own.points.serve("127.0.0.1", port)
    (record,) = caplog.records
    assert record.getMessage().startswith(f"metrics: 127.0.0.1:{port} cannot be served: ")
