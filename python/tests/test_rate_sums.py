"""Totals and their rates: what holds, what does not, and the mistake that is named for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg.rate_sums import Broken, Cause, Registers, judge

RATES = 4
DIGIT = Fraction(1, 100)
DIGITS = [DIGIT] * (RATES + 1)
HOURS = 48

Course = list[tuple[Fraction, list[Fraction]]]
"""The truth, hour by hour: a total and its rates."""


def truth(
    kw: Sequence[Fraction] = (Fraction(7, 3),), start: Fraction = Fraction(1000, 7)
) -> Course:
    """Return what a meter counts that stands in each of its rates for some hours of a day."""
    parts = [start * (number + 1) for number in range(RATES)]
    course: Course = []
    for hour in range(HOURS):
        course.append((sum(parts, Fraction(0)), list(parts)))
        parts[hour % 24 // 6] += kw[hour % len(kw)]
    return course


def cut(value: Fraction) -> Fraction:
    return math.floor(value / DIGIT) * DIGIT


def shown(course: Course) -> list[Registers]:
    """Return the registers, each cut off behind its last digit."""
    return [
        Registers(hour * 3_600_000, cut(total), tuple(map(cut, parts)))
        for hour, (total, parts) in enumerate(course)
    ]


@given(
    st.lists(st.fractions(0, 1_000), min_size=1, max_size=24),
    st.fractions(0, 10**9),
    st.integers(1, HOURS),
)
def test_registers_that_are_cut_off_add_up(kw: list[Fraction], start: Fraction, hours: int) -> None:
    assert judge(shown(truth(kw, start))[:hours], DIGITS) is None


def broken(
    change: Callable[[int, Fraction, list[Fraction]], tuple[Fraction, list[Fraction]]],
) -> Broken:
    course = [change(hour, *one) for hour, one in enumerate(truth())]
    found = judge(shown(course), DIGITS)
    assert found is not None
    assert found.last.at_ms == (HOURS - 1) * 3_600_000
    assert found.tolerance == 5 * DIGIT
    return found


def test_a_rate_that_is_not_read_is_named() -> None:
    course = truth()
    found = judge(
        [Registers(one.at_ms, one.total, one.parts[:3]) for one in shown(course)], DIGITS[:-1]
    )
    assert found is not None
    assert found.cause is Cause.NOT_READ


def test_a_rate_that_began_to_count_later_is_named_as_not_read() -> None:
    # a fifth rate of the utility from the second day on
    found = broken(lambda hour, total, parts: (total + max(0, hour - 24), parts))
    assert found.cause is Cause.NOT_READ


@pytest.mark.parametrize("part", range(RATES))
@pytest.mark.parametrize("factor", [Fraction(1, 10), Fraction(2), Fraction(40), Fraction(1, 60)])
def test_a_wrong_ratio_of_one_rate_is_named_with_its_factor(part: int, factor: Fraction) -> None:
    def change(
        hour: int, total: Fraction, parts: list[Fraction]
    ) -> tuple[Fraction, list[Fraction]]:
        return total, [value * factor if at == part else value for at, value in enumerate(parts)]

    found = broken(change)
    assert (found.cause, found.part) == (Cause.RATIO, part)
    assert found.factor is not None
    assert float(found.factor) == pytest.approx(float(factor), rel=1e-2)


def test_a_wrong_power_of_ten_is_named_from_one_moment_alone() -> None:
    (one,) = shown(truth())[:1]
    parts = (one.parts[0], one.parts[1] * 10, *one.parts[2:])
    found = judge([Registers(0, one.total, parts)], DIGITS)
    assert found is not None
    assert (found.cause, found.part, found.factor) == (Cause.RATIO, 1, 10)


def test_registers_of_different_moments_come_and_go() -> None:
    # the total is read a while after the rates, under a load that changes
    found = broken(lambda hour, total, parts: (total + Fraction(hour % 5, 10), parts))
    assert found.cause is Cause.MOMENTS


def test_a_difference_that_stands_is_told_as_one() -> None:
    found = broken(lambda _, total, parts: (total + 5_000, parts))
    assert found.cause is Cause.STANDING


def test_one_moment_names_no_cause_but_a_power_of_ten() -> None:
    one = Registers(0, Fraction(100), (Fraction(30), Fraction(17), Fraction(40), Fraction(5)))
    found = judge([one], DIGITS)
    assert found is not None
    assert found.cause is Cause.UNKNOWN


@pytest.mark.parametrize(("digits", "is_broken"), [(5, False), (6, True), (-5, False), (-6, True)])
def test_the_tolerance_is_one_last_digit_for_every_register(
    digits: int, *, is_broken: bool
) -> None:
    one = Registers(0, 40 + digits * DIGIT, (Fraction(10),) * RATES)
    assert (judge([one], DIGITS) is not None) == is_broken


def test_what_is_mended_by_the_end_is_not_reported() -> None:
    course = [Registers(0, Fraction(900), (Fraction(10),) * RATES), *shown(truth())]
    assert judge(course, DIGITS) is None
    assert judge([], DIGITS) is None
