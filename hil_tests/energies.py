"""Judges the energies of windows: against the readings beside them, and against the meters' truth.

Owns its own words for what a window's energy is: the totaliser at the window's end less the one at
its start, each interpolated between the readings on either side when these lie within three periods
of each other. It adds up nothing that the gateway has added up.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hil_tests.sim.profile import Point
from hil_tests.stored import OWN_METER, Group, Stored, Window
from hil_tests.truth import Item, Truth
from hil_tests.verdict import Run, Verdict

_BRIDGE_PERIODS = 3
_LATENESS_MS = 2_000  # a reading may enter its window this long behind the end
_ROUNDING = 1  # of a mantissa: each end is rounded by half at most


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a totaliser did between two neighbouring good readings, in mantissas."""

    from_ms: int
    first: int
    to_ms: int
    last: int

    def holds(self, at_ms: int) -> bool:
        """Tell whether a moment lies between the readings, or at one of them."""
        return self.from_ms <= at_ms <= self.to_ms and self.from_ms < self.to_ms

    def touches(self, window: Window) -> bool:
        """Tell whether any of it lies in the window."""
        return window.start_ms <= self.to_ms and self.from_ms < window.end_ms

    def at(self, at_ms: int, first: Fraction, last: Fraction) -> Fraction:
        """Interpolate between what stood at its two ends."""
        return first + (last - first) * (at_ms - self.from_ms) / (self.to_ms - self.from_ms)


class Course:
    """The good readings of one totaliser in the order in which they were taken."""

    def __init__(self, readings: Sequence[tuple[int, int]], *, period_ms: int) -> None:
        """Take (UTC ms, mantissa) of each reading."""
        stretches = [
            Stretch(from_ms, first, to_ms, last)
            for (from_ms, first), (to_ms, last) in itertools.pairwise(readings)
        ]
        last_ms = readings[-1][0] if readings else 0
        bridge_ms = _BRIDGE_PERIODS * period_ms
        # a window waits this long for the totalisers beside this one
        self._settled_ms = last_ms - _LATENESS_MS - bridge_ms
        self._falls = [one for one in stretches if one.last < one.first]
        self._bridges = [
            one
            for one in stretches
            if one.last >= one.first and one.to_ms - one.from_ms <= bridge_ms
        ]
        self._found: dict[int, list[Stretch]] = {}

    def around(self, at_ms: int) -> list[Stretch]:
        """Return what a value at this moment may be interpolated in."""
        if at_ms not in self._found:
            self._found[at_ms] = [one for one in self._bridges if one.holds(at_ms)]
        return self._found[at_ms]

    def explains(self, window: Window, energy: int) -> list[tuple[Stretch, Stretch]]:
        """Return the pairs of stretches at the window's ends that give this energy."""
        return [
            (opening, closing)
            for opening in self.around(window.start_ms)
            for closing in self.around(window.end_ms)
            if abs(energy - _implied(window, opening, closing)) <= _ROUNDING
        ]

    def must_have(self, window: Window) -> bool:
        """Tell whether a window has readings enough for an energy, all of them in time."""
        return (
            bool(self.around(window.start_ms))
            and bool(self.around(window.end_ms))
            and window.end_ms <= self._settled_ms
            and not any(fall.touches(window) for fall in self._falls)
        )


def judge_energies(verdict: Verdict, stored: Stored, truth: Truth, run: Run) -> None:
    """Count energies that no reading or no meter explains as wrong, absent ones as lost.

    What a clock that was set, or a gateway slower than the lateness that windows allow, leaves
    without energy is no loss: there the readings came too late for their windows.
    """
    lengths = {window.length_ms for windows in stored.windows.values() for window in windows}
    is_punctual = run.blur_ms <= _LATENESS_MS and set(run.offsets_ms) == {0}
    for group in stored.groups:
        if group.meter == OWN_METER:
            continue
        windows = stored.windows.get(group, [])
        for index, point in enumerate(group.points):
            if point.kind != "totaliser":
                continue
            course = _course(stored, group, index)
            with_energy = [one for one in windows if one.energies[index] is not None]
            _judge_point(verdict, truth, group, index, course, with_energy, run)
            if not is_punctual:
                continue
            have = {(one.length_ms, one.start_ms) for one in with_energy}
            missing = [
                (one.length_ms, one.start_ms)
                for one in _with_rows(stored, group, lengths)
                if (one.length_ms, one.start_ms) not in have and course.must_have(one)
            ]
            if missing:
                text = f"{group.meter} {point.name}: no energy in windows that have the readings"
                verdict.lose(len(missing), f"{text}, (length, start) = {missing[:3]}")


def _judge_point(
    verdict: Verdict,
    truth: Truth,
    group: Group,
    index: int,
    course: Course,
    windows: Sequence[Window],
    run: Run,
) -> None:
    point = group.points[index]
    known = truth.point(group.meter, point.name, point.unit)
    for window in windows:
        mantissa = window.energies[index]
        if mantissa is None:
            continue
        verdict.energies += 1
        energy = mantissa * Fraction(10) ** point.exponent
        if not any(
            _fits(truth, group.meter, known, window, ends, energy, run)
            for ends in course.explains(window, mantissa)
        ):
            verdict.mistrust(_describe(truth, group.meter, known, window, energy))


def _course(stored: Stored, group: Group, index: int) -> Course:
    readings = [
        (reading.at_ms, mantissa)
        for reading in stored.readings.get(group, ())
        if (mantissa := reading.mantissas[index]) is not None
    ]
    return Course(readings, period_ms=group.period_ms)


def _with_rows(stored: Stored, group: Group, lengths: set[int]) -> Iterator[Window]:
    """Yield the windows of a group in which anything was read: only those are ever opened."""
    times = [reading.at_ms for reading in stored.readings.get(group, ())]
    for length_ms in sorted(lengths):
        if length_ms >= group.period_ms:
            for start_ms in sorted({at_ms // length_ms * length_ms for at_ms in times}):
                yield Window(length_ms, start_ms, ())


def _implied(window: Window, opening: Stretch, closing: Stretch) -> Fraction:
    end = closing.at(window.end_ms, Fraction(closing.first), Fraction(closing.last))
    return end - opening.at(window.start_ms, Fraction(opening.first), Fraction(opening.last))


def _fits(
    truth: Truth,
    meter: str,
    point: Point | Item,
    window: Window,
    ends: tuple[Stretch, Stretch],
    energy: Fraction,
    run: Run,
) -> bool:
    """Tell whether the meter could show this, read at these times: each end has its tolerance.

    Both the meter's registers and the times of the readings are known within bounds, so each end
    of the window lies within bounds, and so does their difference.
    """
    opening, closing = ends
    for offset_ms in run.offsets_ms:
        if not run.span.holds(opening.from_ms - offset_ms):
            continue
        lows, highs = [], []
        for stretch, at_ms in ((opening, window.start_ms), (closing, window.end_ms)):
            first = truth.around(
                meter, point, at_ms=stretch.from_ms - offset_ms, blur_ms=run.blur_ms
            )
            last = truth.around(meter, point, at_ms=stretch.to_ms - offset_ms, blur_ms=run.blur_ms)
            lows.append(stretch.at(at_ms, first[0], last[0]))
            highs.append(stretch.at(at_ms, first[1], last[1]))
        if lows[1] - highs[0] <= energy <= highs[1] - lows[0]:
            return True
    return False


def _describe(
    truth: Truth, meter: str, point: Point | Item, window: Window, energy: Fraction
) -> str:
    had = truth.shown(meter, point, window.end_ms) - truth.shown(meter, point, window.start_ms)
    return (
        f"{meter} {point.name} = {float(energy):g} in {window.length_ms} ms from"
        f" {window.start_ms}, the meter counted {float(had):g}"
    )
