"""The tree's arithmetic, on numbers that fit a napkin."""

from fractions import Fraction

import pytest

from edgeagg.balance import balance
from edgeagg.model import MeterInfo


def meter(name: str, tier: int, parent: str = "") -> MeterInfo:
    return MeterInfo(name, "eastron-sdm630", tier, parent, "")


PLANT = (
    meter("pv", 2, "incomer"),
    meter("incomer", 1),
    meter("hall", 2, "incomer"),
    meter("press", 3, "hall"),
)


def test_every_meter_is_followed_by_the_meters_below_it() -> None:
    nodes = balance(PLANT, {})
    assert [(node.meter, node.depth) for node in nodes] == [
        ("incomer", 0),
        ("pv", 1),
        ("hall", 1),
        ("press", 2),
    ]


def test_what_pv_gives_lowers_the_sum_and_the_rest_is_the_gap() -> None:
    energies = {"incomer": 70, "pv": -30, "hall": 98, "press": 40}
    nodes = balance(PLANT, {name: Fraction(energy) for name, energy in energies.items()})
    incomer, _, hall, press = nodes
    assert (incomer.children_kwh, incomer.gap_kwh) == (68, 2)
    assert incomer.gap_share == pytest.approx(2 / 70)
    assert hall.gap_kwh == 58
    assert (press.children_kwh, press.gap_kwh) == (None, None)


def test_one_unknown_energy_leaves_the_sum_unknown_rather_than_too_small() -> None:
    incomer = balance(PLANT, {"incomer": Fraction(70), "pv": Fraction(-30), "hall": None})[0]
    assert (incomer.children_kwh, incomer.gap_kwh, incomer.gap_share) == (None, None, None)


def test_a_circle_of_parents_is_named() -> None:
    meters = (meter("a", 1), meter("b", 2, "c"), meter("c", 3, "b"))
    with pytest.raises(ValueError, match="b, c stand below each other"):
        balance(meters, {})


def test_a_parent_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="meter b: no meter 'x' above it"):
        balance((meter("b", 2, "x"),), {})
