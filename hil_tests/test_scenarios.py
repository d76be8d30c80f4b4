"""The chain under every fault that we can make: nothing wrong, nothing lost, nothing doubled.

Real processes on real ptys and sockets, each scenario 20 to 60 s; `make hil` runs them and prints
their table.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hil_tests import report, stored
from hil_tests.chain import Wiring
from hil_tests.disks import (
    NO_COMPILER,
    NO_POWER_CUT,
    PowerCutDisk,
    StuckDisk,
    fill,
    mounted,
    unwritable,
)
from hil_tests.netspace import NO_NETWORK, PLATFORM_ADDRESS, Cable
from hil_tests.proxy import FAIR, Proxy, Weather
from hil_tests.scenario import HOUR_MS, YEAR_MS, Scenario, make_chain, throttled
from hil_tests.scenarios import (
    ALIKE_CHANGES,
    LINE_FAULTS,
    LINE_FAULTS_END_S,
    REPLY_FAULTS,
    agent_killed,
    database_killed,
    disk_stuck,
    power_cut,
    receiver_killed,
)
from hil_tests.services.database import Postgres
from hil_tests.services.process import free_port
from hil_tests.verdict import Span, Verdict

pytestmark = pytest.mark.long

Begin = Callable[..., Scenario]
Judge = Callable[..., Verdict]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a chain in the test's own folder; kill it afterwards."""
    scenarios: list[Scenario] = []

    def start(
        *,
        flush: str = "2s",
        store: str | None = None,
        wiring: Wiring | None = None,
        changes: Mapping[str, str] | None = None,
        faults: str = "",
    ) -> Scenario:
        chain = make_chain(
            tmp_path / "chain",
            flush=flush,
            store=store,
            wiring=wiring,
            changes=changes,
            faults=faults,
        )
        scenario = Scenario(chain)
        scenarios.append(scenario)
        scenario.start()
        return scenario

    yield start
    for scenario in scenarios:
        scenario.chain.kill()


@pytest.fixture
def judge(request: pytest.FixtureRequest) -> Judge:
    """Finish a scenario, enter it into the table, and fail on anything wrong, lost or doubled."""

    def finish(name: str, scenario: Scenario, *, remark: str = "", **options: Any) -> Verdict:
        verdict = scenario.finish(**options)
        report.record(request, name, verdict, remark)
        assert verdict.holds, verdict
        return verdict

    return finish


def test_a_quiet_run_has_values_and_energies(begin: Begin, judge: Judge) -> None:
    scenario = begin()
    scenario.wait_for_windows()
    verdict = judge("nothing happens", scenario)
    assert verdict.went_on
    assert verdict.energies > 0


def test_replies_that_are_late_damaged_and_of_others(begin: Begin, judge: Judge) -> None:
    scenario = begin(changes=ALIKE_CHANGES, faults=REPLY_FAULTS)
    scenario.run(25)
    verdict = judge("replies late, damaged, of others", scenario)
    assert verdict.reasons > 50, "most faults must have struck"


def test_an_address_given_twice_a_brown_out_and_unplugged_adapters(
    begin: Begin, judge: Judge
) -> None:
    scenario = begin(faults=LINE_FAULTS)
    log = scenario.chain.directory / "agent.log"
    struck = ("compressor", "workshop", "lighting", "hvac", "pv")
    scenario.until(
        lambda: all(f"meter {name}: reads again" in log.read_text("utf-8") for name in struck),
        "every meter back",
        seconds=LINE_FAULTS_END_S + 70,  # a meter that was dead is asked once a minute at least
    )
    scenario.until(
        lambda: time.time_ns() // 1_000_000 > scenario.begun_ms + LINE_FAULTS_END_S * 1000,
        "the end of the faults",
    )
    scenario.run(4)
    verdict = judge("one address twice, brown-out, adapters unplugged", scenario)
    assert verdict.reasons > 50, "most faults must have struck"


def test_a_broker_that_goes_and_comes_back(begin: Begin, judge: Judge) -> None:
    scenario = begin()
    scenario.run(4)
    scenario.kill("broker")
    scenario.run(12)
    assert scenario.waiting > 2
    scenario.chain.revive()
    verdict = judge("broker down for 12 s, up again", scenario)
    assert verdict.went_on, "polling does not care who listens"


def test_a_broker_without_persistence_that_is_killed_again_and_again(
    begin: Begin, judge: Judge
) -> None:
    scenario = begin()
    for _ in range(6):
        scenario.run(4)
        scenario.kill("broker")
        scenario.run(0.5)
        scenario.chain.revive()
    judge("broker without persistence killed 6 times", scenario)


def test_a_network_that_loses_a_third_and_takes_two_seconds(begin: Begin, judge: Judge) -> None:
    port = free_port()
    proxy = Proxy(port)
    with proxy.running():
        scenario = begin(wiring=Wiring(port, proxy.port))
        proxy.weather = Weather(latency_s=1.0, loss=0.3)
        scenario.run(30)
        receipted = scenario.receipted
        proxy.weather = Weather()
        proxy.cut()
        judge(
            "30 % loss, 2 s round trip",
            scenario,
            remark=f"{receipted} batches receipted in that network in 30 s",
        )


def test_a_half_open_connection_is_noticed_within_twenty_seconds(
    begin: Begin, judge: Judge
) -> None:
    port = free_port()
    proxy = Proxy(port)
    with proxy.running():
        scenario = begin(wiring=Wiring(port, proxy.port))
        scenario.run(4)
        proxy.half_open()
        noticed_s = scenario.until(lambda: not scenario.is_connected, "notice of the dead link")
        proxy.heal()
        healed_s = scenario.until(lambda: scenario.waiting == 0, "delivery over a new connection")
        judge(
            "half-open TCP",
            scenario,
            remark=f"noticed after {noticed_s:.1f} s, delivered {healed_s:.1f} s after it healed",
        )
    assert noticed_s <= 20


@pytest.fixture
def cabled(tmp_path: Path, begin: Begin) -> Iterator[tuple[Cable, Scenario]]:
    """Start a chain whose gateway has a network of its own, with a cable to the platform's."""
    with Cable(tmp_path).running() as cable:
        port = free_port()
        # the broker stays on loopback; only its door stands in the platform's network
        with Proxy(port, listener=cable.listen()).running() as door:
            wiring = Wiring(port, door.port, gateway_command=cable.gateway_command)
            changes = {"mqtt://127.0.0.1:": f"mqtt://{PLATFORM_ADDRESS}:"}
            scenario = begin(wiring=wiring, changes=changes)
            yield cable, scenario
            # before its network goes
            scenario.chain.kill()


needs_network = pytest.mark.skipif(bool(NO_NETWORK), reason=NO_NETWORK)


@needs_network
def test_a_cable_that_is_pulled_and_a_route_that_is_gone(
    cabled: tuple[Cable, Scenario], judge: Judge
) -> None:
    cable, scenario = cabled
    cable.link("down")
    scenario.run(8)
    assert scenario.waiting > 1
    cable.link("up")
    linked_s = scenario.until(lambda: scenario.waiting == 0, "delivery over the cable")
    cable.route("del")
    scenario.run(8)
    assert scenario.waiting > 1
    cable.route("add")
    routed_s = scenario.until(lambda: scenario.waiting == 0, "delivery over the route")
    remark = f"delivered {linked_s:.1f} s after the link, {routed_s:.1f} s after the route"
    verdict = judge("link down 8 s, route gone 8 s", scenario, remark=remark)
    assert verdict.went_on, "polling does not care who listens"


@needs_network
def test_a_network_that_swallows_every_packet_is_noticed_within_twenty_seconds(
    cabled: tuple[Cable, Scenario], judge: Judge
) -> None:
    cable, scenario = cabled
    cable.swallows = True
    noticed_s = scenario.until(lambda: not scenario.is_connected, "notice of the dead network")
    scenario.run(3)
    cable.swallows = False
    healed_s = scenario.until(lambda: scenario.waiting == 0, "delivery over a new connection")
    remark = f"noticed after {noticed_s:.1f} s, delivered {healed_s:.1f} s after it healed"
    judge("packets swallowed (kernel's TCP)", scenario, remark=remark)
    assert noticed_s <= 20


@needs_network
def test_real_packets_of_which_a_third_is_lost_and_two_seconds_late(
    cabled: tuple[Cable, Scenario], judge: Judge
) -> None:
    cable, scenario = cabled
    cable.weather = Weather(latency_s=1.0, loss=0.3)
    scenario.run(30)
    receipted, vanished = scenario.receipted, cable.vanished
    cable.weather = FAIR
    scenario.until(lambda: scenario.waiting <= 1, "delivery in a fair network")
    remark = f"{receipted} batches receipted in that network in 30 s, {vanished} packets lost"
    judge("30 % of packets lost, 2 s round trip", scenario, remark=remark)


def test_a_receiver_that_is_killed_again_and_again(begin: Begin, judge: Judge) -> None:
    scenario = begin()
    receiver_killed(scenario, times=8, away_s=0.5)
    verdict = judge("receiver killed 8 times", scenario)
    assert verdict.went_on, "polling does not care who listens"


def test_an_agent_that_is_killed_again_and_again(begin: Begin, judge: Judge) -> None:
    scenario = begin(flush="10s")
    agent_killed(scenario, times=2)
    judge("agent killed twice", scenario)


def test_a_database_that_is_killed_and_started_again(
    begin: Begin, judge: Judge, postgres: Postgres, database: str
) -> None:
    scenario = begin(store=database)
    database_killed(scenario, postgres, times=2)
    verdict = judge("PostgreSQL killed twice", scenario)
    assert verdict.went_on, "polling does not care who listens"


@pytest.mark.skipif(bool(NO_POWER_CUT), reason=NO_POWER_CUT)
def test_a_gateway_whose_power_is_cut(tmp_path: Path, judge: Judge) -> None:
    scenario = Scenario(make_chain(tmp_path / "chain"))
    with PowerCutDisk(scenario.chain.directory / "agent").mounted() as disk:
        try:
            scenario.start()
            power_cut(scenario, disk, of="agent", times=3)
            judge("power of the gateway cut 3 times", scenario)
        finally:
            scenario.chain.kill()


@pytest.mark.skipif(bool(NO_POWER_CUT), reason=NO_POWER_CUT)
def test_a_platform_whose_power_is_cut(tmp_path: Path, judge: Judge) -> None:
    with PowerCutDisk(tmp_path / "platform").mounted() as disk:
        store = f"sqlite:///{tmp_path}/platform/platform.db"
        scenario = Scenario(make_chain(tmp_path / "chain", store=store))
        try:
            scenario.start()
            power_cut(scenario, disk, of="receiver", times=3)
            verdict = judge("power of the platform cut 3 times", scenario)
        finally:
            scenario.chain.kill()
    assert verdict.went_on, "polling does not care who listens"


@pytest.mark.skipif(bool(NO_COMPILER), reason=NO_COMPILER)
def test_a_platform_whose_disk_is_stuck_sends_no_receipt(
    tmp_path: Path, begin: Begin, judge: Judge
) -> None:
    stuck = StuckDisk(tmp_path, "platform.db")
    scenario = begin(wiring=Wiring(environment=stuck.environment))
    receipted = disk_stuck(scenario, stuck, seconds=7)
    seconds = scenario.until(lambda: scenario.waiting <= 1, "delivery to the disk")
    judge("platform's disk stuck", scenario, remark=f"delivered {seconds:.1f} s after it woke up")
    assert receipted == 0


ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")


def many_windows() -> dict[str, str]:
    """Return changes that make large checkpoints: a new segment is wanted every few seconds."""
    lengths = ", ".join(f'"{seconds}s"' for seconds in range(10, 721) if not 86_400 % seconds)
    return {'lengths = ["10s", "1min", "15min"]': f"lengths = [{lengths}]"}


@ROOT_ONLY
def test_a_disk_that_is_full(tmp_path: Path, judge: Judge) -> None:
    scenario = Scenario(make_chain(tmp_path / "chain", flush="1s", changes=many_windows()))
    state = scenario.chain.directory / "agent"
    with mounted(state, bytes_max=8 << 20):
        try:
            scenario.start()
            agent = scenario.chain.pids()["agent"]
            filler = state / "filler"
            fill(filler)
            scenario.run(60)
            filler.unlink()
            scenario.until(lambda: not scenario.is_refused, "writing again")
            scenario.run(5)
            assert scenario.chain.pids()["agent"] == agent, "it went on without a restart"
            dropped = scenario.dropped
            verdict = judge("disk full for 60 s", scenario, remark=f"{dropped} batches let go")
        finally:
            scenario.chain.kill()
    assert verdict.went_on, "polling does not care for a full disk"
    assert dropped == 0, "the platform had all that was let go"


@ROOT_ONLY
def test_a_disk_that_is_full_while_the_platform_is_away(tmp_path: Path) -> None:
    wiring = Wiring(segment_bytes=16 << 10)
    scenario = Scenario(make_chain(tmp_path / "chain", flush="1s", wiring=wiring))
    chain, state = scenario.chain, scenario.chain.directory / "agent"
    with mounted(state, bytes_max=512 << 10):
        try:
            scenario.start()
            agent = chain.pids()["agent"]
            chain.receiver.kill()
            fill(state / "filler")
            scenario.until(lambda: scenario.dropped > 20, "batches let go", seconds=240)
            (state / "filler").unlink()
            chain.receiver.start()
            scenario.until(lambda: scenario.waiting <= 1, "delivery", seconds=240)
            assert chain.pids()["agent"] == agent, "it went on without a restart"
            dropped = scenario.dropped
            lost = stored.count_lost(chain.store)
            print(f"{dropped} batches let go, {lost} declared lost to the platform")
            assert lost == dropped > 0
        finally:
            chain.kill()


@pytest.mark.skipif(bool(NO_POWER_CUT), reason=NO_POWER_CUT)
def test_a_disk_that_fails_under_a_running_agent(tmp_path: Path, judge: Judge) -> None:
    scenario = Scenario(make_chain(tmp_path / "chain"))
    with PowerCutDisk(scenario.chain.directory / "agent").mounted() as disk:
        try:
            scenario.start()
            scenario.run(10)  # every meter of the plant is read in each five seconds
            disk.cut()  # from now on every write is an input/output error
            scenario.agent_is_down()  # for what it reads cannot be kept
            asked = asked_in(scenario)
            scenario.until(lambda: scenario.is_refused, "refusal in the status")
            scenario.until(lambda: asked_in(scenario) > asked + 20, "sampling that goes on")
            scenario.kill("agent")
            disk.replug()
            scenario.chain.revive()
            judge("gateway's disk fails", scenario)
        finally:
            scenario.chain.kill()


def asked_in(scenario: Scenario) -> int:
    """Count the questions that the agent has asked on all buses."""
    status = scenario.chain.status()
    return 0 if status is None else sum(bus["transactions"] for bus in status["buses"])


def test_a_state_directory_that_cannot_be_written(begin: Begin, judge: Judge) -> None:
    scenario = begin()
    scenario.run(6)  # every meter of the plant is read in each five seconds
    scenario.chain.stop_agent()
    scenario.agent_is_down()
    with unwritable(scenario.chain.directory / "agent"):
        scenario.chain.agent.start()
        scenario.until(lambda: "agent" not in scenario.chain.pids(), "refusal to start")
        scenario.run(2)
    log = (scenario.chain.directory / "agent.log").read_text("utf-8")
    judge("state directory read-only", scenario, remark=log.splitlines()[-1][-100:])
    assert "Traceback" not in log
    assert str(scenario.chain.directory / "agent") in log


CLOCKS = {
    "forward 1 h": (0, HOUR_MS),
    "back 1 h": (0, -HOUR_MS),
    "forward 10 y": (0, 10 * YEAR_MS),
    "back 10 y": (0, -10 * YEAR_MS),
    "1970, then right": (-time.time_ns() // 1_000_000 // 1000 * 1000, 0),
}


@pytest.mark.parametrize("step", CLOCKS)
def test_a_clock_that_is_set(tmp_path: Path, judge: Judge, step: str) -> None:
    before_ms, after_ms = CLOCKS[step]
    clock = tmp_path / "clock"
    clock.write_text(str(before_ms), "utf-8")
    scenario = Scenario(make_chain(tmp_path / "chain", wiring=Wiring(agent_clock=clock)))
    try:
        scenario.start()
        scenario.run(6)
        clock.with_suffix(".new").write_text(str(after_ms), "utf-8")
        clock.with_suffix(".new").replace(clock)
        stepped_ms = time.time_ns() // 1_000_000
        scenario.run(10)
        now_ms = time.time_ns() // 1_000_000
        first, second = sorted(
            (
                Span(scenario.polling_ms + before_ms, stepped_ms + before_ms),
                Span(stepped_ms + after_ms, now_ms + after_ms - 3_000),
            ),
            key=lambda span: span.first_ms,
        )
        # slots that an hour forward leaves out are declared; over all else nothing was due
        is_declared = after_ms - before_ms == HOUR_MS
        judge(
            f"clock {step}",
            scenario,
            offsets_ms=(before_ms, after_ms),
            agent_span=Span(first.first_ms, second.last_ms),
            leaps=() if is_declared else (Span(first.last_ms, second.first_ms),),
        )
    finally:
        scenario.chain.kill()


def test_a_twentieth_of_a_processor(begin: Begin, judge: Judge) -> None:
    scenario = begin()
    with throttled(scenario.chain.pids()["agent"], share=0.05):
        scenario.run(30)
    judge("agent gets 5 % of a processor", scenario, blur_ms=10_000)


def test_any_process_may_be_killed_at_any_time(begin: Begin, judge: Judge) -> None:
    seed = int(os.environ.get("EDGEAGG_SEED", random.randrange(1 << 32)))
    print(f"repeat with EDGEAGG_SEED={seed}")
    rng = random.Random(seed)
    scenario = begin()
    end_s = time.monotonic() + 60
    kills = 0
    while time.monotonic() < end_s:
        scenario.run(rng.uniform(0.2, 5), revive=True)
        scenario.kill(rng.choice(["agent", "broker", "receiver", "meters"]))
        kills += 1
    judge("random kills for 60 s", scenario, remark=f"{kills} kills, EDGEAGG_SEED={seed}")
