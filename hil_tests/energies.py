"""Judges the energies of windows: against the readings beside them, and against the meters' truth.

Owns its own words for what a window's energy is: the totaliser's running total at the window's end
less the one at its start, each interpolated between the readings on either side. It adds up nothing
that the gateway has added up but the energies that audits name, and those are judged by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product

from hil_tests.courses import LATENESS_MS, Course, Stretch, guarded_course, plain_course
from hil_tests.sim.profile import Point
from hil_tests.stored import OWN_METER, Audit, Group, Stored, Window
from hil_tests.truth import Item, Truth
from hil_tests.verdict import Run, Verdict

_ROUNDING = 1  # of a mantissa: each end is rounded by half at most
_KNOWN = frozenset({1, 5, 6, 7, 8})  # audits whose energy is what the meter counted meanwhile
_CATCHING_UP = frozenset({5, 7})  # and perhaps before, while its register stood still
_LOSING = frozenset({6})  # or less: what a brown-out took from its register


def judge_energies(verdict: Verdict, stored: Stored, truth: Truth, run: Run) -> None:
    """Count energies that no reading or no meter explains as wrong, absent ones as lost.

    What a clock that was set, or a gateway slower than the lateness that windows allow, leaves
    without energy is no loss: there the readings came too late for their windows.
    """
    lengths = {window.length_ms for windows in stored.windows.values() for window in windows}
    is_punctual = run.blur_ms <= LATENESS_MS and set(run.offsets_ms) == {0}
    for group in stored.groups:
        if group.meter == OWN_METER:
            continue
        windows = stored.windows.get(group, [])
        courses = {
            index: _course(stored, group, index)
            for index, point in enumerate(group.points)
            if point.kind == "totaliser"
        }
        for index, course in courses.items():
            point = group.points[index]
            for text in course.faults:
                verdict.mistrust(f"{group.meter} {point.name}: {text}")
            _judge_audits(verdict, stored, truth, group, index, run)
            with_energy = [one for one in windows if one.energies[index] is not None]
            _judge_point(verdict, truth, group, index, course, with_energy, run)
            if not is_punctual:
                continue
            have = {(one.length_ms, one.start_ms) for one in with_energy}
            missing = [
                (one.length_ms, one.start_ms)
                for one in _with_rows(stored, group, lengths)
                if (one.length_ms, one.start_ms) not in have
                # a window waits for every totaliser of its group that is in doubt
                and course.must_have(one)
                and not any(other.is_disturbed(one) for other in courses.values())
            ]
            if missing:
                text = f"{group.meter} {point.name}: no energy in windows that have the readings"
                verdict.lose(len(missing), f"{text}, (length, start) = {missing[:3]}")


def _judge_audits(
    verdict: Verdict, stored: Stored, truth: Truth, group: Group, index: int, run: Run
) -> None:
    """Hold the energy that an audit counts for certain against what the meter counted."""
    point = group.points[index]
    known = truth.point(group.meter, point.name, point.unit)
    for audit in stored.audits.get(group, ()):
        if audit.point != index or audit.kind not in _KNOWN:
            continue
        energy = audit.energy * Fraction(10) ** point.exponent
        # the clock may have been set between the two readings
        if not any(
            _counted(truth, group.meter, known, audit, energy, offsets_ms, run)
            for offsets_ms in product(run.offsets_ms, run.offsets_ms)
        ):
            text = f"{float(energy):g} across an audit of kind {audit.kind}"
            verdict.mistrust(f"{group.meter} {point.name}: {text} at {audit.opening_ms}")


def _counted(
    truth: Truth,
    meter: str,
    point: Point | Item,
    audit: Audit,
    energy: Fraction,
    offsets_ms: tuple[int, int],
    run: Run,
) -> bool:
    """Tell whether the meter can have counted this between the two readings.

    `offsets_ms` are how far the clock was ahead when the closing and the opening one were taken.
    """
    closing_ms, opening_ms = audit.closing_ms - offsets_ms[0], audit.opening_ms - offsets_ms[1]
    slack = 2 * truth.step(meter, point)
    least, most = (
        truth.counted(meter, point, opening_ms + blur_ms)
        - truth.counted(meter, point, closing_ms - blur_ms)
        for blur_ms in (-run.blur_ms, run.blur_ms)
    )
    if audit.kind in _CATCHING_UP:
        late_ms, early_ms = opening_ms + run.blur_ms, closing_ms - run.blur_ms
        shown = truth.shown(meter, point, late_ms) - truth.shown(meter, point, early_ms)
        most = max(most, shown)
    if audit.kind in _LOSING:
        shown = truth.shown(meter, point, opening_ms) - truth.shown(meter, point, closing_ms)
        least = min(least, shown)
    return least - slack <= energy <= most + slack


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
    unit = Fraction(10) ** point.exponent
    for window in windows:
        mantissa = window.energies[index]
        if mantissa is None:
            continue
        verdict.energies += 1
        energy = mantissa * unit
        if mantissa < 0 or not any(
            _fits(truth, group.meter, known, unit, window, ends, energy, run)
            for ends in _explains(course, window, mantissa)
        ):
            verdict.mistrust(_describe(truth, group.meter, known, window, energy))


def _course(stored: Stored, group: Group, index: int) -> Course:
    readings = [
        (reading.at_ms, mantissa)
        for reading in stored.readings.get(group, ())
        if (mantissa := reading.mantissas[index]) is not None
    ]
    guard = stored.guards.get((group.meter, group.period_ms, group.points[index].name))
    if guard is None:
        return plain_course(readings, period_ms=group.period_ms)
    audits = [one for one in stored.audits.get(group, ()) if one.point == index]
    return guarded_course(readings, audits, guard, period_ms=group.period_ms)


def _with_rows(stored: Stored, group: Group, lengths: set[int]) -> Iterator[Window]:
    """Yield the windows of a group in which anything was read: only those are ever opened."""
    times = [reading.at_ms for reading in stored.readings.get(group, ())]
    for length_ms in sorted(lengths):
        if length_ms >= group.period_ms:
            for start_ms in sorted({at_ms // length_ms * length_ms for at_ms in times}):
                yield Window(length_ms, start_ms, ())


def _explains(course: Course, window: Window, energy: int) -> list[tuple[Stretch, Stretch]]:
    """Return the pairs of stretches at the window's ends that give this energy."""
    return [
        (opening, closing)
        for opening in course.around(window.start_ms)
        for closing in course.around(window.end_ms)
        if abs(energy - closing.total_at(window.end_ms) + opening.total_at(window.start_ms))
        <= _ROUNDING
    ]


def _fits(
    truth: Truth,
    meter: str,
    point: Point | Item,
    unit: Fraction,
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
            more = [offset * unit for offset in stretch.offsets]
            lows.append(stretch.at(at_ms, first[0] + more[0], last[0] + more[1]))
            highs.append(stretch.at(at_ms, first[1] + more[0], last[1] + more[1]))
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
