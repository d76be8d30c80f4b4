"""A switch room as it is found, read by the real agent: three protocols and speeds on one line.

Beside that line a serial server, a line of Modbus ASCII, and a SunSpec device whose model stands
elsewhere than its profile says. The site is hil_tests/switchroom.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from edgeagg.model import Quality
from hil_tests import stored
from hil_tests.chain import SWITCHROOM
from hil_tests.scenario import HOUR_MS, Scenario, make_chain, writes_in
from hil_tests.stored import OWN_METER, Stored
from hil_tests.verdict import Verdict

CABINET = ("incomer", "feeder", "old-feeder", "water", "heat")
DEAD_FROM_S, DEAD_FOR_S = 12, 30
BACK_MAX_S = 60
DEAD = f"""
[[fault]]
kind = "dead"
meter = "feeder"
from_s = {HOUR_MS // 1000 + DEAD_FROM_S}
for_s = {DEAD_FOR_S}
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has been judged."""

    verdict: Verdict
    kept: Stored
    status: dict[str, Any]
    meters_log: str
    back_s: float = 0.0


def ended(scenario: Scenario, back_s: float = 0.0) -> Ended:
    """End a run in order and judge it."""
    verdict = scenario.finish()
    status = scenario.chain.status()
    assert status is not None
    log = (scenario.chain.directory / "meters.log").read_text("utf-8")
    return Ended(verdict, stored.load(scenario.chain.store), status, log, back_s)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """Run the switch room undisturbed until windows of every meter have closed."""
    chain = make_chain(tmp_path_factory.mktemp("quiet") / "chain", plant=SWITCHROOM)
    scenario = Scenario(chain)
    try:
        scenario.start()
        scenario.run(45)
        scenario.wait_for_windows()
        yield ended(scenario)
    finally:
        chain.kill()


@pytest.fixture(scope="module")
def revived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """Let one meter of the five on the line fall silent for a while."""
    chain = make_chain(tmp_path_factory.mktemp("dead") / "chain", plant=SWITCHROOM, faults=DEAD)
    scenario = Scenario(chain)
    log = chain.directory / "agent.log"
    back_at_ms = chain.start_ms + HOUR_MS + (DEAD_FROM_S + DEAD_FOR_S) * 1000
    try:
        scenario.start()
        scenario.until(
            lambda: "meter feeder: reads again" in log.read_text("utf-8"),
            "the dead meter back",
            seconds=DEAD_FROM_S + DEAD_FOR_S + BACK_MAX_S + 30,
        )
        back_s = time.time() - back_at_ms / 1000
        scenario.run(12)
        yield ended(scenario, back_s)
    finally:
        chain.kill()


def overrun(kept: Stored) -> dict[str, int]:
    """Count the slots that a line had no time for, by meter."""
    return {
        group.meter: sum(gap.slot_count for gap in gaps if gap.reason == Quality.OVERRUN)
        for group, gaps in kept.gaps.items()
        if any(gap.reason == Quality.OVERRUN for gap in gaps)
    }


def values(kept: Stored, meter: str) -> list[int | None]:
    """Return every value of a meter, None where there is a reason."""
    return [
        mantissa
        for group, readings in kept.readings.items()
        if group.meter == meter
        for reading in readings
        for mantissa in reading.mantissas
    ]


@pytest.mark.long
def test_a_line_of_three_protocols_holds_its_plan(quiet: Ended) -> None:
    assert quiet.verdict.holds, quiet.verdict
    assert quiet.verdict.energies > 0
    assert overrun(quiet.kept) == {}
    cabinet = next(bus for bus in quiet.status["buses"] if bus["name"] == "cabinet")
    assert cabinet["no_reply"] == cabinet["bad_frame"] == cabinet["refused"] == 0, cabinet
    for meter in CABINET:
        found = values(quiet.kept, meter)
        assert found, meter
        assert None not in found, meter


@pytest.mark.long
@pytest.mark.parametrize("meter", ["lifts", "pumps", "boiler"])
def test_meters_behind_a_serial_server_and_on_an_ascii_line_are_read(
    quiet: Ended, meter: str
) -> None:
    found = values(quiet.kept, meter)
    assert len(found) > 10
    assert None not in found


@pytest.mark.long
def test_a_sunspec_model_is_found_where_its_profile_does_not_expect_it(quiet: Ended) -> None:
    found = values(quiet.kept, "pv")
    assert len(found) > 10
    assert None not in found


@pytest.mark.long
def test_points_of_one_meter_are_read_at_the_periods_of_their_own(quiet: Ended) -> None:
    rows = {
        group.period_ms: len(readings)
        for group, readings in quiet.kept.readings.items()
        if group.meter == "incomer"
    }
    assert set(rows) == {2_000, 5_000, 10_000}
    # at either end one slot more or less may have been due
    assert abs(rows[2_000] * 2 - rows[5_000] * 5) <= 7
    assert abs(rows[5_000] * 5 - rows[10_000] * 10) <= 15


@pytest.mark.long
def test_no_line_of_the_switch_room_hears_anything_but_reads(quiet: Ended) -> None:
    lines = [line.split()[0] for line in quiet.meters_log.splitlines() if "writes" in line]
    assert sorted(lines) == ["annex", "cabinet", "cellar", "roof"], "each line was listened to"
    assert writes_in(quiet.meters_log) == []


@pytest.mark.long
def test_a_dead_meter_of_five_is_back_within_a_minute_and_costs_the_others_nothing(
    revived: Ended,
) -> None:
    assert revived.verdict.holds, revived.verdict
    print(f"seen again {revived.back_s:.1f} s after it answers again")
    assert revived.back_s <= BACK_MAX_S
    assert None in values(revived.kept, "feeder"), "it was dead"
    assert overrun(revived.kept) == {}
    for group in revived.kept.groups:
        if group.meter not in {"feeder", OWN_METER}:
            assert None not in values(revived.kept, group.meter), group.meter


def test_a_request_that_is_no_read_is_found_in_what_the_simulator_says() -> None:
    log = (
        "ready\n"
        "cabinet  120 frames, at most 300 us late, 0 collisions, 0 gaps too short, 0 writes\n"
        "annex  12 frames, at most 300 us late, 0 collisions, 0 gaps too short, 2 writes\n"
        "roof  tcp, 1 writes\n"
    )
    assert writes_in(log) == [("annex", 2), ("roof", 1)]
