"""Days of a whole site in seconds: what a run proves, that it repeats, and that it would notice.

A run that fails names the command that repeats it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from edgeagg import _core
from edgeagg.batch import Batch
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg_agent import books, own_points
from edgeagg_agent.asking import spans
from edgeagg_agent.believed import Believed
from edgeagg_agent.bus import ReadRequest
from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.plan import plan_blocks
from edgeagg_agent.reader import TURNAROUND_US
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.sender import Sender
from hil_tests.virtual.clock import HostClock, LeapingClock, Step
from hil_tests.virtual.errors import ViolationError
from hil_tests.virtual.loop import VirtualLoop
from hil_tests.virtual.network import Cut, Network, Outage
from hil_tests.virtual.plan import DAY_MS, draw
from hil_tests.virtual.registers import Registers
from hil_tests.virtual.run import Result, again, scratch, simulate
from hil_tests.virtual.site import make_meters, make_site

START_MS = 1_790_000_041_000
MINUTE_MS = 60_000


def run(seed: int, *, days: float, period_ms: int = MINUTE_MS) -> Result:
    with scratch() as directory:
        return simulate(seed, days=days, period_ms=period_ms, directory=directory)


def in_virtual_time(loop: VirtualLoop, coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(coroutine)


def virtual_loop(work_ms: int = 1) -> VirtualLoop:
    return VirtualLoop(lambda: work_ms)


# whole runs


def test_a_day_of_ten_meters_keeps_every_promise() -> None:
    found = run(1, days=1)
    assert found.tally.due >= 11 * 1_440 + 288, "the gateway and ten meters, power less often"
    assert sum(found.tally.slots.values()) == found.tally.due
    assert found.tally.slots["row"] > 13_000
    assert found.tally.values > 17_000
    # a bad frame is read again at once, and two of them in a row are rare
    assert {"no_reply", "refused"} <= set(found.tally.reasons)
    assert found.tally.batches > 200
    assert found.gateway_kills > 0
    assert found.torn_bytes > 0
    assert found.platform_kills > 0
    assert found.traffic.lost > 0
    assert found.traffic.doubled > 0


def test_a_seed_repeats_bit_for_bit_and_another_does_not() -> None:
    first, again_, other = (run(seed, days=0.2) for seed in (40, 40, 41))
    assert (first.digest, first.tally) == (again_.digest, again_.tally)
    assert first.digest != other.digest


def test_fifteen_second_slots_are_kept_too() -> None:
    assert run(2, days=0.1, period_ms=15_000).tally.due >= 5_760 + 115 + 144


@pytest.mark.long
def test_thirty_days_keep_every_promise() -> None:
    found = run(1, days=30)
    print(found)
    assert found.tally.due >= 30 * (11 * 1_440 + 288)
    assert found.torn_bytes > 0
    assert found.outages > 0


# runs of a build that is broken: each must be noticed


def expect_violation(words: str) -> None:
    seed, days = 38, 0.1  # two kills of the gateway and one of the platform in two hours
    with pytest.raises((ViolationError, ExceptionGroup)) as caught:
        run(seed, days=days)
    error: BaseException = caught.value
    notes = error.__notes__
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, ViolationError)
    assert words in str(error)
    assert notes == [f"to repeat it: {again(seed, days, MINUTE_MS)}"]


def test_gaps_that_nobody_declares_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recorder, "gap", lambda self, group, **_: None)
    expect_violation("comes next")


def test_a_commit_that_does_not_reach_the_disk_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def commit(_: Recorder) -> None: ...

    monkeypatch.setattr(Recorder, "commit", commit)
    expect_violation("was committed before the kill")


def test_a_cursor_that_moves_when_it_publishes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    due = Sender.due

    def careless(self: Sender, head: int, now_ms: int) -> list[int]:
        found = due(self, head, now_ms)
        self.through = max([self.through, *found])
        return found

    monkeypatch.setattr(Sender, "due", careless)
    monkeypatch.setattr(Sender, "take", lambda self, *_: setattr(self, "is_greeted", True))
    expect_violation("batches differ")


def test_rows_that_are_cut_twice_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    messages = Recorder._messages

    def twice(
        self: Recorder,
        first: int,
        parts: Sequence[_core.Cut],
        now_ms: int,
        keyframe: int,
        *,
        ends_days: bool = False,
    ) -> list[bytes]:
        parts = [*parts, *parts[:1]]
        return messages(self, first, parts, now_ms, keyframe, ends_days=ends_days)

    monkeypatch.setattr(Recorder, "_messages", twice)
    expect_violation("readings in the batches")


def test_a_receipt_for_rows_that_were_not_stored_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(SqliteStore, "_insert_content", lambda self, delivery: None)
    expect_violation("in the database")


def test_a_batch_that_changes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Outbox.read

    def other(self: Outbox, sequence: int, gateway: str) -> bytes:
        batch = Batch.from_bytes(read(self, sequence, gateway))
        return replace(batch, cut_at_ms=self.head).to_bytes()

    monkeypatch.setattr(Outbox, "read", other)
    expect_violation("other bytes for sequence")
    # a gateway that believes whatever it is told
    monkeypatch.setattr(Believed, "compare", lambda *_: None)
    monkeypatch.setattr(Believed, "of", lambda _, receipt: receipt)
    expect_violation("batches differ")


def test_own_points_that_a_restart_forgets_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        own_points, "books", SimpleNamespace(**(vars(books) | {"take_over": lambda *_, **__: None}))
    )
    expect_violation("gateway: slot")


def test_a_value_of_another_minute_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    at = Registers.at
    monkeypatch.setattr(Registers, "at", lambda self, t_ms: at(self, t_ms - MINUTE_MS))
    expect_violation("in truth")


# the parts


def test_the_loop_leaps_over_a_month() -> None:
    loop = virtual_loop()
    woken: list[tuple[str, int]] = []

    async def sleep(name: str, duration_s: float) -> None:
        await asyncio.sleep(duration_s)
        woken.append((name, loop.now_ms))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(sleep("late", 30 * 86_400))
            tasks.create_task(sleep("early", 0.0301))

    in_virtual_time(loop, main())
    assert woken == [("early", 31), ("late", 30 * DAY_MS)]


def test_a_wait_that_nothing_can_end_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    loop = virtual_loop()
    task = loop.create_task(main())
    with pytest.raises(RuntimeError, match="never end"):
        loop.run_until_complete(task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(task)
    loop.close()


@pytest.mark.parametrize(("work_ms", "left"), [(7, []), (8, ["done"])])
def test_killed_work_is_undone_or_done_without_its_caller_knowing(
    work_ms: int, left: list[str]
) -> None:
    loop = virtual_loop(work_ms)
    found: list[str] = []

    async def write() -> None:
        await asyncio.to_thread(found.append, "done")
        found.append("known")

    async def main() -> None:
        task = asyncio.create_task(write())
        await asyncio.sleep(0.003)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(1)

    in_virtual_time(loop, main())
    assert found == left


def test_a_step_of_the_clock_is_undone_by_the_oracle() -> None:
    true_ms = START_MS
    clock = HostClock(
        lambda: true_ms, [Step(START_MS + 1_000, 500), Step(START_MS + 9_000, 3_600_000)]
    )
    shown = [clock.host_ms(START_MS + at) - START_MS for at in (0, 999, 1_000, 8_999, 9_000)]
    assert shown == [-3_600_500, -3_599_501, -3_599_000, -3_591_001, 9_000]
    for at_ms in range(START_MS - 5_000, START_MS + 20_000, 7):
        assert clock.true_ms_of(clock.host_ms(at_ms)) == at_ms
    # noted after the step, of the middle of a read that began before it
    assert clock.true_ms_of(START_MS + 8_950) == START_MS + 8_950


def test_a_nap_ends_at_the_next_slot_or_a_second_after_a_step() -> None:
    loop = virtual_loop()
    woken: list[int] = []

    async def main() -> None:
        host = HostClock(lambda: START_MS + loop.now_ms, [Step(START_MS + 90_000, 20_000)])
        clock = LeapingClock(host, lambda: loop.now_ms * 1_000_000, MINUTE_MS)
        for duration_ms in (1_000, 999, 1_000, 1_000, 1_000):
            await clock.sleep_ms(duration_ms)
            woken.append(clock.now_ms())

    in_virtual_time(loop, main())
    slot_ms = START_MS - 1_000  # a whole minute, which the host's clock reaches after 19 s
    assert woken == [
        slot_ms,
        slot_ms + 999,
        slot_ms + MINUTE_MS,
        START_MS + 91_000,  # a second after the step
        slot_ms + 2 * MINUTE_MS,
    ]


def test_a_leap_ends_when_asked_or_a_second_after_a_step() -> None:
    loop = virtual_loop()
    woken: list[int] = []

    async def main() -> None:
        host = HostClock(lambda: START_MS + loop.now_ms, [Step(START_MS + 90_000, 20_000)])
        clock = LeapingClock(host, lambda: loop.now_ms * 1_000_000, MINUTE_MS)
        for free_ms in (40_000, 600_000, 600_000):
            await clock.leap_ms(free_ms)
            woken.append(loop.now_ms)

    in_virtual_time(loop, main())
    assert woken == [40_000, 91_000, 691_000]


def test_an_outage_lets_nothing_arrive() -> None:
    loop = virtual_loop()
    arrived: list[int] = []

    async def main() -> None:
        network = Network(loop, Random(1), [Outage(60_000, 120_000, Cut.DOWN)])
        for _ in range(1_800):
            network.send(loop.now_ms, lambda sent_ms: arrived.append(loop.now_ms))
            await asyncio.sleep(0.1)
        assert network.traffic.sent == 1_800
        assert network.traffic.lost > 600
        assert network.traffic.doubled > 0
        assert network.traffic.delivered == len(arrived)

    in_virtual_time(loop, main())
    assert not [at_ms for at_ms in arrived if 60_000 <= at_ms < 120_000]
    assert min(arrived) < 60_000
    assert max(arrived) > 120_000


def test_only_a_broken_connection_is_known_to_the_gateway() -> None:
    loop = virtual_loop()

    async def main() -> None:
        network = Network(
            loop, Random(1), [Outage(0, 1_000, Cut.SILENT), Outage(2_000, 9_000, Cut.DOWN)]
        )
        assert network.is_connected()
        await asyncio.sleep(3)
        assert not network.is_connected()
        await network.connect()
        assert loop.now_ms >= 9_000
        assert network.is_connected()

    in_virtual_time(loop, main())


def test_a_plan_depends_on_its_seed_alone() -> None:
    plans = [draw(seed, start_ms=START_MS, span_ms=30 * DAY_MS) for seed in (1, 1, 2)]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2]
    assert 40 < len(plans[0].gateway_kills) < 140


def test_the_shortcut_reads_what_the_simulator_s_meters_hold(tmp_path: Path) -> None:
    site = make_site(tmp_path, period_ms=MINUTE_MS)
    meters = make_meters(site, seed=3, start_ms=START_MS)
    rng = Random(4)
    owned = [(bus, meter) for bus in site.buses for meter in bus.meters]
    for bus, meter in owned:
        played, profile = meters[meter.name], meter.profile
        timing = Timing.of(bus.baud, bus.format) if bus.baud else None
        ratios = [(ratio.function, ratio.register, ratio.count) for ratio in profile.ratios]
        blocks = list(plan_blocks(ratios, profile.limits, None, TURNAROUND_US))
        for group in meter.groups:
            reads = plan_blocks(spans(group.points, profile), profile.limits, timing, TURNAROUND_US)
            assert len(reads) == 1, "a row has one instant"
            blocks += reads
        for block in blocks:
            request = ReadRequest(meter.address.unit, block.function, block.start, block.count)
            registers = Registers(played.sim, played.ratios, played.load, request)
            for _ in range(50):
                t_ms = START_MS + rng.randrange(40 * DAY_MS)
                whole = played.sim.read(
                    function=block.function, address=block.start, count=block.count, t_ms=t_ms
                )
                assert whole is not None
                assert registers.at(t_ms) == struct.pack(f">{block.count}H", *whole)
