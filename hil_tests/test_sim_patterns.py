"""Counters go wrong as their pattern says, again and again the same way."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import pytest

from hil_tests.sim.meters import SimMeter
from hil_tests.sim.patterns import CLEANING, PATTERNS, make_pattern, show
from hil_tests.sim.profile import parse_profile
from hil_tests.sim.site import parse_site
from hil_tests.sim.stage import build_meters
from hil_tests.test_sim_meters import START_MS, constant_supply

AT_S = 100

PROFILE = """
[points.active_energy_import]
function = 4
register = 0
type = "f32"
unit = "kWh"
resolution = 0.1
kind = "totaliser"
[points.active_energy_sum]
function = 4
register = 2
type = "u32"
scale = 0.1
unit = "kWh"
resolution = 0.1
kind = "totaliser"
[points.active_power_total]
function = 4
register = 4
type = "f32"
unit = "W"
resolution = 1
"""


def true_value(t_ms: int) -> Fraction:
    """One kWh per second behind the start, from 216463."""
    return 216_463 + Fraction(t_ms - START_MS, 1000)


def shown(name: str, since_s: float, *, for_s: float | None = None) -> Fraction:
    pattern = make_pattern(name, start_ms=START_MS, at_s=AT_S, for_s=for_s)
    return show([pattern], true_value, START_MS + round(since_s * 1000)).value


@pytest.mark.parametrize("name", sorted(PATTERNS.keys() - {"rollover", "brown_out"}))
def test_before_its_time_a_pattern_shows_the_truth(name: str) -> None:
    assert shown(name, AT_S - 0.001) == true_value(START_MS) + AT_S - Fraction(1, 1000)


@pytest.mark.parametrize("name", CLEANING)
def test_the_eleven_bad_series_are_wrong_for_their_time_and_right_behind_it(name: str) -> None:
    end_s = AT_S + CLEANING[name].for_s
    inside = {shown(name, seconds) for seconds in (AT_S, AT_S + 30, end_s - 0.001)}
    assert len(inside) == 1  # they stand still
    assert shown(name, end_s) == true_value(START_MS + round(end_s * 1000))
    assert shown(name, AT_S) != true_value(START_MS) + AT_S
    assert shown(name, AT_S + 5, for_s=5) == true_value(START_MS) + AT_S + 5


def test_there_are_eleven() -> None:
    assert len(CLEANING) == 11


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("huge", Fraction("1.832278249396618e21")),
        ("zeros", 0),
        ("below_zero", Fraction("-0.007068193740872921")),
        ("dip_1000", 216_563 - 1000),
        ("dip_11_percent", Fraction(216_563) * Fraction("0.889")),
    ],
)
def test_bad_series_show_what_was_seen(name: str, seen: Fraction) -> None:
    assert shown(name, AT_S + 10) == seen


def test_a_rollover_passes_the_end_of_six_digits_at_its_time() -> None:
    values = [shown("rollover", AT_S + since_s) for since_s in (-16, -1, 0, 20)]
    assert values == [999_984, 999_999, 0, 20]


def test_a_jump_stays() -> None:
    assert shown("jump", AT_S + 9999) == true_value(START_MS) + AT_S + 9999 + 6704


def test_a_frozen_counter_stands_and_then_shows_the_truth() -> None:
    assert shown("freeze", AT_S + 599) == true_value(START_MS) + AT_S
    assert shown("freeze", AT_S + 600) == true_value(START_MS) + AT_S + 600


def test_a_reset_counter_starts_at_0_and_counts_all() -> None:
    assert [shown("reset", AT_S + since_s) for since_s in (0, 7)] == [0, 7]


def test_a_replaced_meter_is_silent_and_then_another_one() -> None:
    pattern = make_pattern("replaced", start_ms=START_MS, at_s=AT_S, for_s=60)
    at_ms = START_MS + AT_S * 1000
    states = [(pattern.silent(t), pattern.replaced(t)) for t in (at_ms - 1, at_ms, at_ms + 60_000)]
    assert states == [(False, False), (True, False), (False, True)]
    assert shown("replaced", AT_S + 65, for_s=60) == 5


def test_a_gap_is_silent_and_loses_no_energy() -> None:
    pattern = make_pattern("gap", start_ms=START_MS, at_s=AT_S, for_s=None)
    assert pattern.silent(START_MS + (AT_S + 6 * 3600) * 1000)
    assert not pattern.silent(START_MS + (AT_S + 22_500) * 1000)
    assert shown("gap", AT_S + 22_500) == true_value(START_MS) + AT_S + 22_500


def test_a_brown_out_loses_what_was_not_saved_and_what_was_not_counted() -> None:
    pattern = make_pattern("brown_out", start_ms=START_MS, at_s=AT_S, for_s=30, amount=Fraction(60))
    values = [
        show([pattern], true_value, START_MS + 1000 * (AT_S + since_s)).value - true_value(START_MS)
        for since_s in (-1, 30, 40)
    ]
    saved = AT_S - (START_MS // 1000 + AT_S) % 60
    assert values == [AT_S - 1, saved, saved + 10]


def test_patterns_add_up_the_first_is_nearest_to_the_counter() -> None:
    reset = make_pattern("reset", start_ms=START_MS, at_s=AT_S, for_s=None)
    dip = make_pattern("dip_100", start_ms=START_MS, at_s=AT_S + 50, for_s=None)
    assert show([reset, dip], true_value, START_MS + 160_000).value == 50 - 100


def registers(name: str, since_s: float) -> tuple[float, int, float]:
    """Read a meter of 36 MW, 10 kWh each second, as float, u32 and power."""
    meter = SimMeter(
        name="m",
        unit=1,
        profile=parse_profile("p", PROFILE, where="p.toml"),
        ratios={},
        supply=constant_supply(36_000_000_000, initial_kwh=Fraction(5000)),
        patterns=[make_pattern(name, start_ms=START_MS, at_s=AT_S, for_s=None)],
    )
    words = meter.read(function=4, address=0, count=6, t_ms=START_MS + round(since_s * 1000))
    assert words is not None
    data = struct.pack(">6H", *words)
    energy, steps, power = struct.unpack(">fIf", data)
    return energy, steps, power


@pytest.mark.parametrize(
    ("name", "energy", "steps"),
    [
        ("huge", 1.832278249396618e21, 0xFFFF_FFFF),  # integers hold what they can
        ("zeros", 0, 0),
        ("below_zero", -0.007068193740872921, 0),
        ("near_zero", 0.00303281145170331, 0),
        ("dip_1000", 5000, 50_000),
        ("reset", 100, 1000),
        ("rollover", 100, 1000),
    ],
)
def test_totalisers_go_wrong_and_nothing_else_does(name: str, energy: float, steps: int) -> None:
    shown_energy, shown_steps, power_w = registers(name, AT_S + 10)
    assert shown_energy == pytest.approx(energy)
    assert (shown_steps, power_w) == (steps, 36e6)


def test_a_site_gives_a_meter_its_pattern_and_its_serial_number(tmp_path: Path) -> None:
    meter = {
        "name": "m",
        "unit": 1,
        "sunspec": [203],
        "load": "base",
        "pattern": "replaced",
        "at_s": 10,
        "for_s": 5,
    }
    site = {
        "start_ms": START_MS,
        "day_speed": 2400,
        "line": [{"name": "l", "tcp": 0, "meter": [meter]}],
    }
    sim = build_meters(parse_site(site, where="sim.toml", folder=tmp_path))["m"]

    def serial(since_s: int) -> list[int] | None:
        return sim.read(function=3, address=40052, count=2, t_ms=START_MS + since_s * 1000)

    assert serial(9) == [0x3030, 0x3031]  # "0001"
    assert serial(15) == [0x3030, 0x3032]
    assert [sim.silent(START_MS + since_s * 1000) for since_s in (9, 10, 14, 15)] == [
        *(False, True, True, False)
    ]


def test_a_killed_bench_shows_the_same_registers_again() -> None:
    assert registers("dip_11_percent", AT_S + 60) == registers("dip_11_percent", AT_S + 60)
