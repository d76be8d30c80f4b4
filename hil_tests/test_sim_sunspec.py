"""A SunSpec device with several models reads as the models' definitions say."""

from __future__ import annotations

from fractions import Fraction

import pytest

from hil_tests.sim.errors import SimError
from hil_tests.sim.meters import SimMeter
from hil_tests.sim.sunspec import make_profile, sunspec_name
from hil_tests.test_sim_meters import START_MS, constant_supply

T_MS = START_MS + 3_600_000
INVERTER, METER, END = 40070, 40122, 40229  # behind 2 + 68, then 52 and 107 registers


def device(*, power_mw: int = -12_345_600) -> SimMeter:
    return SimMeter(
        name="pv",
        unit=1,
        profile=make_profile(sunspec_name([103, 203], "sim.toml")),
        ratios={},
        supply=constant_supply(power_mw),
    )


def read(address: int, count: int = 1) -> list[int]:
    words = device().read(function=3, address=address, count=count, t_ms=T_MS)
    assert words is not None
    return words


def signed(word: int) -> int:
    return word - 0x10000 if word & 0x8000 else word


def scaled(value_at: int, factor_at: int) -> Fraction:
    return signed(read(value_at)[0]) * Fraction(10) ** signed(read(factor_at)[0])


def test_the_models_stand_in_a_row_from_the_marker_to_the_end() -> None:
    assert read(40000, 2) == [0x5375, 0x6E53]
    found, address = [], 40002
    while (model := read(address)[0]) != 0xFFFF:
        found.append((model, address))
        address += 2 + read(address + 1)[0]
    assert found == [(1, 40002), (103, INVERTER), (203, METER)]
    assert (address, read(address, 2)) == (END, [0xFFFF, 0])


def test_an_inverter_shows_what_it_generates_as_positive() -> None:
    assert scaled(INVERTER + 14, INVERTER + 15) == 12_350  # W in steps of 10
    assert scaled(INVERTER + 16, INVERTER + 17) == pytest.approx(50, abs=0.03)
    assert scaled(INVERTER + 10, INVERTER + 13) == pytest.approx(230, abs=5)
    assert scaled(INVERTER + 22, INVERTER + 23) == pytest.approx(89.4, abs=0.2)  # percent
    energy = read(INVERTER + 24, 2)
    assert energy[0] << 16 | energy[1] == 12_345  # Wh of one hour
    assert signed(read(INVERTER + 26)[0]) == 0


def test_a_meter_behind_it_shows_the_same_as_negative() -> None:
    assert scaled(METER + 18, METER + 22) == -12_350
    phases = [scaled(METER + 19 + phase, METER + 22) for phase in range(3)]
    assert sum(phases) == pytest.approx(-12_345, abs=15)
    exported, imported = read(METER + 38, 2), read(METER + 46, 2)
    assert (exported, imported) == ([0, 12_345], [0, 0])


def test_what_an_inverter_does_not_know_says_so() -> None:
    assert read(INVERTER + 27)[0] == 0xFFFF  # DC current, u16
    assert read(INVERTER + 33)[0] == 0x8000  # temperature, i16


@pytest.mark.parametrize("models", [[], [103, 103], [160], ["103"]])
def test_unknown_models_are_refused(models: list[object]) -> None:
    with pytest.raises(SimError, match="sunspec"):
        sunspec_name(models, "sim.toml")
