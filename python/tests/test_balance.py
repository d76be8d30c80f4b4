"""The tree's arithmetic, on numbers that fit a napkin."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg.balance import (
    NOTHING,
    Energy,
    TierGap,
    balance,
    combine,
    compared,
    tier_gaps,
    total,
    walk,
)
from edgeagg.model import MeterInfo, Quality


def meter(name: str, tier: int, parent: str = "") -> MeterInfo:
    return MeterInfo(name, "eastron-sdm630", tier, parent, "")


def good(*kwh: int | None) -> list[Energy]:
    """Return windows with these energies; one without was not read in half of its slots."""
    return [
        Energy(None, Fraction(1, 2), Quality.NO_REPLY)
        if one is None
        else Energy(Fraction(one), Fraction(1), Quality.GOOD)
        for one in kwh
    ]


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
    assert [(found.name, depth) for found, depth in walk(PLANT)] == [
        (node.meter, node.depth) for node in nodes
    ]


def test_what_pv_gives_lowers_the_sum_and_the_rest_is_the_gap() -> None:
    energies = {"incomer": 70, "pv": -30, "hall": 98, "press": 40}
    nodes = balance(PLANT, {name: good(energy) for name, energy in energies.items()})
    incomer, _, hall, press = nodes
    assert (incomer.net_kwh, incomer.children_kwh, incomer.gap_kwh) == (70, 68, 2)
    assert incomer.gap_share == pytest.approx(2 / 70)
    assert hall.gap_kwh == 58
    assert (press.gap, press.children_kwh, press.gap_kwh) == (None, None, None)


def test_one_unknown_energy_leaves_the_gap_unknown_rather_than_wrong() -> None:
    incomer = balance(PLANT, {"incomer": good(70), "pv": good(-30), "hall": good(None)})[0]
    assert incomer.net_kwh == 70
    assert (incomer.children_kwh, incomer.gap_kwh, incomer.gap_share) == (None, None, None)


def test_a_gap_is_made_over_the_windows_that_all_of_them_have() -> None:
    energies = {
        "incomer": good(70, 71, None, 73),
        "pv": good(-30, -30, -30, -30),
        "hall": good(98, None, 98, 100),
    }
    incomer, _, hall, _ = balance(PLANT, energies)
    assert (incomer.net_kwh, incomer.known_count, incomer.window_count) == (214, 3, 4)
    assert incomer.gap is not None
    assert (incomer.gap.compared_count, incomer.gap.own_kwh) == (2, 143)
    assert (incomer.children_kwh, incomer.gap_kwh) == (138, 5)
    assert hall.gap is not None
    assert (hall.gap.compared_count, hall.gap_kwh) == (0, None)


def test_quality_and_completeness_of_a_gap_are_the_worst_of_what_went_in() -> None:
    late = [Energy(Fraction(98), Fraction(3, 4), Quality.OVERRUN), *good(98)]
    energies = {"incomer": good(70, None), "pv": good(-30, -30), "hall": late}
    gap = balance(PLANT, energies)[0].gap
    assert gap is not None
    assert (gap.completeness, gap.worst) == (Fraction(3, 4), Quality.OVERRUN)
    del energies["pv"]
    gap = balance(PLANT, energies)[0].gap
    assert gap is not None
    assert (gap.completeness, gap.worst) == (0, None)


def test_one_unknown_part_leaves_a_sum_of_meters_unknown() -> None:
    (known,), (unknown,) = good(5), good(None)
    assert combine([(1, known), (-1, known), (2, known)]) == Energy(
        Fraction(10), Fraction(1), Quality.GOOD
    )
    assert combine([(1, known), (-1, unknown)]) == unknown
    assert combine([(1, known), (1, NOTHING), (1, unknown)]) == NOTHING


def test_a_total_says_how_much_of_it_is_there() -> None:
    assert total(good(5, 7, None)) == Energy(Fraction(12), Fraction(5, 6), Quality.NO_REPLY)
    assert total([*good(5), NOTHING]) == Energy(Fraction(5), Fraction(1, 2), None)
    assert total(good(None)).net_kwh is None
    assert total([]) == NOTHING


def test_windows_are_compared_where_every_meter_has_energy() -> None:
    assert compared([good(1, None, 3), good(1, 2, 3), [*good(1, 2), NOTHING]]) == [0]


def test_gaps_add_up_by_tier_and_virtual_meters_have_none() -> None:
    plant = (*PLANT, meter("paint", 2, "incomer"), meter("oven", 3, "paint"))
    energies = {
        name: good(energy)
        for name, energy in {"incomer": 170, "pv": -30, "hall": 98, "press": 40}.items()
    }
    energies |= {"paint": good(90), "oven": good(88)}
    nodes = balance(plant, energies)
    assert tier_gaps(nodes) == (TierGap(1, Fraction(170), Fraction(12)), TierGap(2, 188, 60))
    assert tier_gaps(nodes, {"hall"}) == (TierGap(1, 170, 12), TierGap(2, 90, 2))
    energies["oven"] = good(None)
    assert tier_gaps(balance(plant, energies))[1] == TierGap(2, None, None)


@given(
    st.lists(
        st.tuples(*[st.one_of(st.none(), st.integers(-(10**6), 10**6))] * 4), min_size=1, max_size=9
    )
)
def test_own_energy_is_the_meters_below_and_the_gap_whatever_is_missing(
    windows: list[tuple[int | None, ...]],
) -> None:
    names = ("incomer", "pv", "hall", "press")
    energies = {
        name: good(*column) for name, column in zip(names, zip(*windows, strict=True), strict=True)
    }
    for node in balance(PLANT, energies):
        if node.gap is None or node.gap_kwh is None:
            continue
        everybody = [energies[name] for name in (node.meter, *node.children)]
        places = compared(everybody)
        own, *below = ([column[place].net_kwh for place in places] for column in everybody)
        assert sum(own) == node.gap_kwh + sum(sum(column) for column in below)
        assert node.gap.compared_count == len(places) > 0


def test_energies_of_other_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="the same windows"):
        balance(PLANT, {"incomer": good(70, 71), "hall": good(98)})


def test_a_circle_of_parents_is_named() -> None:
    meters = (meter("a", 1), meter("b", 2, "c"), meter("c", 3, "b"))
    with pytest.raises(ValueError, match="b, c stand below each other"):
        balance(meters, {})


def test_a_parent_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="meter b: no meter 'x' above it"):
        balance((meter("b", 2, "x"),), {})
