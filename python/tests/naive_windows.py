"""The windows as a clerk would work them out: lists, fractions, one rule after the other.

Owns the rules that the Rust core must agree with (the docstring of aggregator-rs/src/window.rs),
stated without any of its shortcuts: every window, however long, is worked out from the rows
themselves. It must not import the core.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from python.tests.naive_calendar import HOUR_MS, MONTH_MS, bounds
from python.tests.naive_totaliser import Audit, Guard, NaiveTotaliser, Shown, Step

HOLD_PERIODS = 2
BRIDGE_PERIODS = 3
LATENESS_MS = 2_000
MEAN_SCALE = 1_000

Kind = bool | Guard
"""Whether the point is a totaliser, or the guard of one."""
Point = tuple[int | None, ...]
"""Rows, values, minimum, maximum, mean x 1000, first, last, energy, covered ms, worst quality."""
Statistics = tuple[int | None, ...]
"""Standard deviation x 1000, middle value, the value that 95 of 100 do not exceed."""


@dataclass(frozen=True, slots=True)
class Read:
    """A slot that was read. A value is None where its quality says why."""

    due_ms: int
    at_ms: int
    values: tuple[int | None, ...]
    qualities: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A value that stood for its point from one time to another."""

    from_ms: int
    to_ms: int
    value: int


@dataclass(slots=True)
class Window:
    """A window, and what is known of each point since its first row."""

    length_ms: int
    start_ms: int
    end_ms: int
    clock_ms: int
    held: list[list[Held]]
    steps: list[list[Step]]

    def hold(self, to_ms: int, good: Sequence[Good | None]) -> None:
        """Give the time since the clock last moved to the values that stand now."""
        to_ms = min(to_ms, self.end_ms)
        for held, one in zip(self.held, good, strict=True):
            if one is None:
                continue
            # time that has passed is never given away twice, not even by a clock set back
            from_ms, until_ms = max(self.clock_ms, one.at_ms), min(to_ms, one.until_ms)
            if from_ms < until_ms:
                held.append(Held(from_ms, until_ms, one.value))
        self.clock_ms = max(self.clock_ms, to_ms)


@dataclass(frozen=True, slots=True)
class Finished:
    """A window that is over, one entry per point; uncertainties of guarded totalisers only."""

    length_ms: int
    start_ms: int
    points: list[Point]
    statistics: list[Statistics]
    uncertainties: list[int | None]


@dataclass(frozen=True, slots=True)
class Good:
    """The last good reading of a point, and until when it stands for it."""

    at_ms: int
    value: int
    until_ms: int


@dataclass(slots=True)
class NaiveChain:
    """The windows of lengths that nest, shortest first, over one group."""

    lengths_ms: list[int]
    period_ms: int
    kinds: tuple[Kind, ...]
    zone: str
    late_before_ms: float = -float("inf")
    rows: list[Read] = field(default_factory=list)
    open: dict[int, Window] = field(default_factory=dict)
    closing: dict[int, list[Window]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.closing = {length_ms: [] for length_ms in self.lengths_ms}

    @property
    def bridge_ms(self) -> int:
        return BRIDGE_PERIODS * self.period_ms

    def read(self, row: Read, good: Sequence[Good | None], counted: Sequence[list[Step]]) -> bool:
        """Take a row in; return False when its window is over."""
        shortest = self.open.get(self.lengths_ms[0])
        if row.at_ms < self.late_before_ms or (shortest and row.at_ms < shortest.start_ms):
            return False
        self._end_what_is_over(row.at_ms, good)
        for length_ms in self.lengths_ms:
            if length_ms not in self.open:
                start_ms, end_ms = bounds(row.at_ms, length_ms, self.zone)
                held: list[list[Held]] = [[] for _ in self.kinds]
                steps: list[list[Step]] = [[] for _ in self.kinds]
                window = Window(length_ms, start_ms, end_ms, start_ms, held, steps)
                self.open[length_ms] = window
        for window in self.open.values():
            window.hold(row.at_ms, good)
        self.rows.append(row)
        self.count(counted)
        return True

    def count(self, steps: Sequence[list[Step]]) -> None:
        """Tell every window that is not over what the totalisers counted."""
        waiting = [window for windows in self.closing.values() for window in windows]
        for window in [*waiting, *self.open.values()]:
            for known, more in zip(window.steps, steps, strict=True):
                known.extend(more)

    def cut(
        self, now_ms: int, good: Sequence[Good | None], verdicts_ms: Sequence[int]
    ) -> list[Finished]:
        """Return the windows that are complete or have waited long enough, oldest first.

        `verdicts_ms` is how much longer each point's verdict may take.
        """
        self._end_what_is_over(now_ms - LATENESS_MS, good)
        finished = []
        for windows in self.closing.values():
            while windows:
                waited_ms = now_ms - LATENESS_MS - windows[0].end_ms
                if waited_ms < self._wait_ms(windows[0], verdicts_ms):
                    break
                finished.append(self._finish(windows.pop(0)))
        return finished

    def _end_what_is_over(self, to_ms: int, good: Sequence[Good | None]) -> None:
        over = [window for window in self.open.values() if to_ms >= window.end_ms]
        for end_ms in sorted({window.end_ms for window in over}):
            for window in self.open.values():
                window.hold(end_ms, good)
            self.late_before_ms = end_ms
        for window in over:
            self.closing[window.length_ms].append(self.open.pop(window.length_ms))

    def _wait_ms(self, window: Window, verdicts_ms: Sequence[int]) -> int:
        """Return how long behind its end a reading may come that settles the window."""
        return max(
            (
                self.bridge_ms + verdict_ms
                for steps, kind, verdict_ms in zip(
                    window.steps, self.kinds, verdicts_ms, strict=True
                )
                if kind and not is_settled(window, steps)
            ),
            default=0,
        )

    def _finish(self, window: Window) -> Finished:
        rows = [row for row in self.rows if window.start_ms <= row.at_ms < window.end_ms]
        points, tested, uncertainties = [], [], []
        for number, kind in enumerate(self.kinds):
            held = window.held[number]
            values = [value for row in rows if (value := row.values[number]) is not None]
            energy, uncertainty = energy_of(window, window.steps[number])
            worst = max(row.qualities[number] for row in rows)
            points.append(point(len(rows), values, held, worst, kind=kind, energy=energy))
            tested.append(statistics(values, held))
            if not isinstance(kind, bool):
                uncertainties.append(uncertainty)
        return Finished(window.length_ms, window.start_ms, points, tested, uncertainties)


def point(
    rows: int,
    values: Sequence[int],
    held: Sequence[Held],
    worst: int,
    *,
    kind: Kind,
    energy: int | None,
) -> Point:
    """Return the columns of one point."""
    is_gauge = kind is False
    covered_ms = sum(one.to_ms - one.from_ms for one in held)
    area = sum(one.value * (one.to_ms - one.from_ms) for one in held)
    mean = round(Fraction(area * MEAN_SCALE, covered_ms)) if covered_ms else None
    return (
        rows,
        len(values),
        min(values) if values and is_gauge else None,
        max(values) if values and is_gauge else None,
        fitting(mean) if is_gauge else None,
        values[0] if values else None,
        values[-1] if values else None,
        None if is_gauge else energy,
        covered_ms,
        worst,
    )


def is_settled(window: Window, steps: Sequence[Step]) -> bool:
    """Return whether no later reading can change the energy."""
    return any(
        step.runs_backwards_in(window.start_ms, window.end_ms)
        or step.total_at(window.end_ms) is not None
        for step in steps
    )


def energy_of(window: Window, steps: Sequence[Step]) -> tuple[int | None, int | None]:
    """Return what was counted, and how far the truth can be from it."""
    if any(step.runs_backwards_in(window.start_ms, window.end_ms) for step in steps):
        return None, None
    opening, closing = (
        next((total for step in steps if (total := step.total_at(ms)) is not None), None)
        for ms in (window.start_ms, window.end_ms)
    )
    if opening is None or closing is None:
        return None, None
    energy = fitting(closing[0] - opening[0])
    if energy is None or energy < 0:
        return None, None  # a clock set back can settle the end before the start
    return energy, opening[1] + closing[1]


def chains(lengths_ms: Sequence[int], offsets: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return the lengths in chains: each with the shortest one that it is made of."""
    found: list[list[int]] = []
    for length_ms in sorted(lengths_ms):
        for chain in found:
            if is_made_of(length_ms, chain[0], offsets):
                chain.append(length_ms)
                break
        else:
            found.append([length_ms])
    return found


def is_made_of(longer_ms: int, shorter_ms: int, offsets: Sequence[tuple[int, int]]) -> bool:
    """Return whether windows of the one length are made of whole ones of the other."""
    if shorter_ms == MONTH_MS:
        return longer_ms == MONTH_MS
    if longer_ms == MONTH_MS:
        longer_ms = 24 * HOUR_MS
    # below an hour windows go by UTC, from an hour on by the wall
    by_wall = shorter_ms < HOUR_MS <= longer_ms
    changes = [offset_ms for _, offset_ms in offsets] + [at_ms for at_ms, _ in offsets[1:]]
    in_step = all(ms % shorter_ms == 0 for ms in changes)
    return longer_ms % shorter_ms == 0 and (in_step or not by_wall)


@dataclass(slots=True)
class NaiveGroup:
    """The points of one meter, read together, and their windows of every length."""

    period_ms: int
    kinds: tuple[Kind, ...]
    lengths_ms: tuple[int, ...]
    zone: str
    offsets: tuple[tuple[int, int], ...]
    good: list[Good | None] = field(init=False)
    judges: list[NaiveTotaliser | None] = field(init=False)
    chains: list[NaiveChain] = field(init=False)

    def __post_init__(self) -> None:
        self.good = [None] * len(self.kinds)
        fitting_ms = [length_ms for length_ms in self.lengths_ms if length_ms >= self.period_ms]
        self.chains = [
            NaiveChain(chain, self.period_ms, self.kinds, self.zone)
            for chain in chains(fitting_ms, self.offsets)
        ]
        bridge_ms = BRIDGE_PERIODS * self.period_ms
        self.judges = [
            None if isinstance(kind, bool) else NaiveTotaliser(kind, self.period_ms, bridge_ms)
            for kind in self.kinds
        ]

    def read(self, row: Read) -> bool:
        """Take a row in; return False when it came too late for one of its windows."""
        self._settle_due(row.at_ms)
        steps = [self._steps(number, row) for number in range(len(self.kinds))]
        in_time = [chain.read(row, self.good, steps) for chain in self.chains]
        for number, value in enumerate(row.values):
            one = self.good[number]
            if value is not None:
                until_ms = row.at_ms + HOLD_PERIODS * self.period_ms
                self.good[number] = Good(row.at_ms, value, until_ms)
            elif one is not None:
                until_ms = min(one.until_ms, row.at_ms)
                self.good[number] = Good(one.at_ms, one.value, until_ms)
        return all(in_time)

    def replace(self) -> None:
        """Take in that another meter hangs in the place of this one."""
        self._count([judge.replace() if judge else [] for judge in self.judges])

    def cut(self, now_ms: int) -> list[Finished]:
        """Return what is finished."""
        self._settle_due(now_ms - LATENESS_MS)
        verdicts_ms = [judge.doubt_ms if judge and judge.doubted else 0 for judge in self.judges]
        return [done for chain in self.chains for done in chain.cut(now_ms, self.good, verdicts_ms)]

    def audits(self) -> list[tuple[int, Audit]]:
        """Return every audit so far, with its point."""
        judges = enumerate(self.judges)
        return [(number, audit) for number, judge in judges if judge for audit in judge.audits]

    def _settle_due(self, now_ms: int) -> None:
        self._count([judge.settle_due(now_ms) if judge else [] for judge in self.judges])

    def _count(self, steps: Sequence[list[Step]]) -> None:
        for chain in self.chains:
            chain.count(steps)

    def _steps(self, number: int, row: Read) -> list[Step]:
        """Return what a totaliser counted up to the row."""
        value, one, judge = row.values[number], self.good[number], self.judges[number]
        if value is None:
            return []
        if judge is not None:
            return judge.read(Shown(row.at_ms, value))
        if one is None or not self.kinds[number]:
            return []
        near = row.at_ms - one.at_ms <= BRIDGE_PERIODS * self.period_ms
        return [Step(one.at_ms, row.at_ms, one.value, value, near)]


def fitting(number: int | None) -> int | None:
    """Return the number if a column of signed 64-bit integers can hold it."""
    return number if number is not None and -(2**63) <= number < 2**63 else None


def statistics(values: Sequence[int], held: Sequence[Held]) -> Statistics:
    """Return the statistics of a point."""
    ranked = sorted(values)
    middle, high = (
        ranked[math.ceil(Fraction(len(ranked) * percent, 100)) - 1] if ranked else None
        for percent in (50, 95)
    )
    return deviation(held), middle, high


def deviation(held: Sequence[Held]) -> int | None:
    """Return the standard deviation of what was held, times 1000, halves to even."""
    covered_ms = sum(one.to_ms - one.from_ms for one in held)
    if not covered_ms:
        return None
    area = sum(one.value * (one.to_ms - one.from_ms) for one in held)
    # every distance from the mean times the covered time, so that it stays whole
    far = [(one.value * covered_ms - area, one.to_ms - one.from_ms) for one in held]
    variance = Fraction(sum(span_ms * one**2 for one, span_ms in far), covered_ms**3)
    square = MEAN_SCALE**2 * variance
    root = math.isqrt(math.floor(square))
    half = (root + Fraction(1, 2)) ** 2
    return fitting(root + (half < square or (half == square and root % 2 == 1)))
