"""Culprits of a tier that does not balance, on a plant whose energies are drawn from a seed."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg.diagnosis import INTERVALS_MIN, Fault, find_suspect

NAMES = ("press", "paint", "office", "pv")


def plant(seed, intervals=96, loss=0.02):
    """Return (own, children): net energies whose sum the parent has, plus the losses."""
    rng = random.Random(seed)
    children = {
        name: [rng.uniform(0.2, 1.0) * (20 + 10 * place) for _ in range(intervals)]
        for place, name in enumerate(NAMES)
    }
    children["pv"] = [-0.3 * energy for energy in children["pv"]]
    own = [(1 + loss * rng.random()) * sum(parts) for parts in zip(*children.values(), strict=True)]
    return own, children


def spoilt(children, name, factor):
    return {n: [factor * e if n == name else e for e in es] for n, es in children.items()}


@given(seed=st.integers(0, 10_000))
def test_losses_alone_name_nobody(seed):
    own, children = plant(seed)
    assert find_suspect("incomer", own, children) is None


@given(seed=st.integers(0, 10_000), name=st.sampled_from(NAMES))
def test_a_reversed_meter_is_named(seed, name):
    own, children = plant(seed)
    suspect = find_suspect("incomer", own, spoilt(children, name, -1))
    assert suspect is not None
    assert (suspect.meter, suspect.fault, suspect.factor) == (name, Fault.SIGN, -1.0)


@given(seed=st.integers(0, 10_000), factor=st.sampled_from([0.1, 0.2, 0.5, 2 / 3, 2, 5, 40]))
def test_a_wrong_ratio_is_named_with_the_factor_that_puts_it_right(seed, factor):
    own, children = plant(seed)
    suspect = find_suspect("incomer", own, spoilt(children, "paint", factor))
    assert suspect is not None
    assert (suspect.meter, suspect.fault) == ("paint", Fault.RATIO)
    assert suspect.factor == pytest.approx(1 / factor, rel=0.1)


@given(seed=st.integers(0, 10_000))
def test_a_meter_counted_twice_is_named(seed):
    own, children = plant(seed)
    less = [whole - again for whole, again in zip(own, children["office"], strict=True)]
    suspect = find_suspect("incomer", less, children)
    assert suspect is not None
    assert (suspect.meter, suspect.fault) == ("office", Fault.COUNTED_TWICE)


@pytest.mark.parametrize(
    ("factor", "fault"), [(-1, Fault.SIGN), (0.05, Fault.RATIO), (10, Fault.RATIO)]
)
def test_the_parent_itself_can_be_the_culprit(factor, fault):
    own, children = plant(7)
    suspect = find_suspect("incomer", [factor * energy for energy in own], children)
    assert suspect is not None
    assert (suspect.meter, suspect.fault) == ("incomer", fault)
    assert suspect.factor == pytest.approx(1 / factor, rel=0.1)


def test_what_nobody_meters_names_nobody():
    own, children = plant(3)
    rng = random.Random(4)
    own = [whole + rng.uniform(0, 60) for whole in own]
    assert find_suspect("incomer", own, children) is None


def test_a_steady_load_that_nobody_meters_is_no_wrong_ratio():
    children = {"hall": [20.0] * 96, "office": [7.0] * 96}
    assert find_suspect("incomer", [37.1] * 96, children) is None
    rng = random.Random(5)
    children = {n: [e + rng.uniform(0, 0.5) for e in es] for n, es in children.items()}
    own = [sum(parts) + 10 + rng.uniform(0, 0.5) for parts in zip(*children.values(), strict=True)]
    assert find_suspect("incomer", own, children) is None


def test_too_few_intervals_name_nobody():
    own, children = plant(3, intervals=INTERVALS_MIN - 1)
    assert find_suspect("incomer", own, spoilt(children, "press", -1)) is None
    own, children = plant(3, intervals=INTERVALS_MIN)
    assert find_suspect("incomer", own, spoilt(children, "press", -1)) is not None


def test_a_meter_that_stands_still_is_no_culprit():
    own, children = plant(3)
    children["idle"] = [0.0] * len(own)
    suspect = find_suspect("incomer", own, spoilt(children, "press", -1))
    assert suspect is not None
    assert suspect.meter == "press"


def test_energies_of_other_intervals_are_refused():
    own, children = plant(3)
    children["press"].pop()
    with pytest.raises(ValueError, match="the same intervals"):
        find_suspect("incomer", own, children)


def test_a_suspect_reads_as_advice():
    own, children = plant(3)
    suspect = find_suspect("incomer", own, spoilt(children, "press", 0.025))
    assert str(suspect).startswith("press: it should show 4")
    assert "check its ratios" in str(suspect)


def test_a_tier_without_gap_names_nobody():
    own = [3.0] * 96
    assert find_suspect("incomer", own, {"press": [1.0] * 96, "paint": [2.0] * 96}) is None
