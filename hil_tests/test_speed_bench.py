"""The speed bench measures what it says: the optima, the rates, a line that tells wrong values."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from hil_tests.speed import bus, cpu
from hil_tests.speed.line import Wiring, content
from hil_tests.speed.master import AgentMaster, Log


@pytest.mark.parametrize(
    ("turnaround_ms", "bare", "wire"),
    [(5, 407, 379), (20, 312, 295), (50, 213, 205), (100, 154, 151)],
)
def test_the_optima_are_those_of_the_model_with_and_without_silences(
    turnaround_ms: float, bare: int, wire: int
) -> None:
    wiring = Wiring(9600, turnaround_ms)
    assert round(bus.optimum_per_min(wiring, bare=True)) == bare
    assert round(bus.optimum_per_min(wiring)) == wire


def test_a_rate_counts_what_was_read_behind_the_warm_up() -> None:
    reads = [(at_s, 1) for at_s in (0.0, 1.0, 10.0, 10.5, 11.0, 11.5)]
    assert bus.rate_per_min(reads, 9.0) == 120
    assert bus.rate_per_min(reads, 11.2) == 0


def test_what_a_register_holds_tells_units_and_addresses_apart() -> None:
    assert content(1, 52, 2) != content(2, 52, 2)
    assert content(1, 52, 2) != content(1, 53, 2)
    assert content(1, 52, 4)[:4] == content(1, 52, 2)


def test_losses_are_told_beside_both_lines() -> None:
    results = {
        "meters": 16,
        "baud": 9600,
        "speeds": [],
        "deaths": [
            {
                "dead": 3,
                "others_per_min": 285.0,
                "lost_beside_alive": -0.17,
                "lost_beside_alone": 0.05,
                "wasted": 0.021,
                "back_s": 12.0,
            }
        ],
    }
    assert "-17.0%" in bus.table(results)[-1]
    assert "5.0%" in bus.table(results)[-1]
    assert "2.1%" in bus.table(results)[-1]


@pytest.mark.long
def test_the_agents_parts_read_a_fast_line_near_its_optimum_with_no_wrong_value() -> None:
    speed = bus.measure_speed(AgentMaster(), Wiring(115200, 20), 2)
    assert speed.wrong_values == 0
    assert speed.failures <= 2  # on a busy machine the line itself may be late
    assert 0.5 < speed.of_wire_optimum <= 1.01


@pytest.mark.long
def test_a_dead_meter_costs_the_others_little_and_comes_back() -> None:
    wiring = Wiring(115200, 20)
    alive = bus.measure_speed(AgentMaster(), wiring, 2)
    deaths = bus.measure_deaths(AgentMaster(), wiring, 6, (8,), alive.meters_per_min)
    assert deaths.wrong_values == 0
    assert deaths.back_s <= bus.BACK_MAX_S
    assert deaths.wasted <= 0.08  # 1 % in the long run; two probes may fall into these 6 s


class BlindMaster:
    """Reads nothing but says so: the canary of the ratios."""

    async def run(self, link: Path, wiring: Wiring, units: Sequence[int], log: Log) -> None:
        """Count reads at half of the speed the wire allows."""
        while True:
            await asyncio.sleep(120 / bus.optimum_per_min(wiring))
            log.reads.append((asyncio.get_running_loop().time(), units[0]))


@pytest.mark.long
def test_a_master_at_half_the_speed_is_seen_to_be_at_half() -> None:
    speed = bus.measure_speed(BlindMaster(), Wiring(115200, 20), 3)
    assert speed.of_wire_optimum == pytest.approx(0.5, abs=0.06)
    assert speed.utilisation == 0


@pytest.mark.long
def test_every_client_is_measured_and_ours_is_the_unit() -> None:
    begun_s = time.monotonic()
    results = cpu.measure_all(50, 115200)
    assert results["ratio_to_ours"]["edgeagg"] == 1
    assert results["cpu_us"]["pymodbus"] > 0
    assert time.monotonic() - begun_s < 30
    assert len(cpu.table(results)) == 4
