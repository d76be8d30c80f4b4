"""The windows as a clerk would work them out: lists, fractions, one rule after the other.

Owns the rules that the Rust core must agree with (the docstring of aggregator-rs/src/window.rs),
stated without any of its shortcuts. It must not import the core.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from python.tests.naive_calendar import bounds

HOLD_PERIODS = 2
BRIDGE_PERIODS = 3
LATENESS_MS = 2_000
MEAN_SCALE = 1_000

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


@dataclass(frozen=True, slots=True)
class Step:
    """Two good readings of a point, one after the other."""

    from_ms: int
    to_ms: int
    before: int
    after: int

    def total_at(self, ms: int, bridge_ms: int) -> int | None:
        """Return the totaliser's value at `ms`, if the two readings tell it."""
        near = 0 < self.to_ms - self.from_ms <= bridge_ms
        if self.after < self.before or not near or not self.from_ms <= ms <= self.to_ms:
            return None
        share = Fraction(ms - self.from_ms, self.to_ms - self.from_ms)
        return self.before + round(share * (self.after - self.before))

    def runs_backwards_in(self, start_ms: int, end_ms: int) -> bool:
        """Return whether the totaliser fell, and may have done so between these times."""
        return self.after < self.before and start_ms <= self.to_ms and self.from_ms < end_ms


@dataclass(slots=True)
class Window:
    """Everything that was ever seen of one window, in the order it came."""

    start_ms: int
    end_ms: int
    rows: list[Read]
    held: list[list[Held]]
    steps: list[list[Step]]


@dataclass(frozen=True, slots=True)
class Finished:
    """A window that is over, one entry per point."""

    start_ms: int
    points: list[Point]
    statistics: list[Statistics]


@dataclass(frozen=True, slots=True)
class Good:
    """The last good reading of a point, and until when it stands for it."""

    at_ms: int
    value: int
    until_ms: int


@dataclass(slots=True)
class NaiveWindows:
    """The windows of one length over one group."""

    length_ms: int
    period_ms: int
    totalisers: tuple[bool, ...]
    zone: str
    late_before_ms: float = -float("inf")
    clock_ms: float = -float("inf")
    open: Window | None = None
    closing: list[Window] = field(default_factory=list)

    @property
    def bridge_ms(self) -> int:
        return BRIDGE_PERIODS * self.period_ms

    def read(self, row: Read, good: Sequence[Good | None]) -> bool:
        """Take a row in; return False when its window is over."""
        if row.at_ms < self.late_before_ms:
            return False
        self._end_what_is_over(row.at_ms, good)
        if self.open is None:
            start_ms, end_ms = bounds(row.at_ms, self.length_ms, self.zone)
            nothing: list[list[Held]] = [[] for _ in self.totalisers]
            no_steps: list[list[Step]] = [[] for _ in self.totalisers]
            self.open = Window(start_ms, end_ms, [], nothing, no_steps)
            self.late_before_ms = start_ms
        self._hold(self.open, row.at_ms, good)
        self.clock_ms = max(self.clock_ms, row.at_ms)
        self.open.rows.append(row)
        for window in [*self.closing, self.open]:
            for steps, one, value in zip(window.steps, good, row.values, strict=True):
                if one is not None and value is not None:
                    steps.append(Step(one.at_ms, row.at_ms, one.value, value))
        return True

    def cut(self, now_ms: int, good: Sequence[Good | None]) -> list[Finished]:
        """Return the windows that are complete or have waited long enough, oldest first."""
        self._end_what_is_over(now_ms - LATENESS_MS, good)
        finished = []
        while self.closing:
            window = self.closing[0]
            waited_ms = now_ms - LATENESS_MS - window.end_ms
            if waited_ms < self.bridge_ms and not self._is_settled(window):
                break
            finished.append(self._finish(self.closing.pop(0)))
        return finished

    def _end_what_is_over(self, to_ms: int, good: Sequence[Good | None]) -> None:
        window = self.open
        if window is not None and to_ms >= window.end_ms:
            self._hold(window, window.end_ms, good)
            self.clock_ms = self.late_before_ms = window.end_ms
            self.closing.append(window)
            self.open = None

    def _hold(self, window: Window, to_ms: int, good: Sequence[Good | None]) -> None:
        """Give the time since the clock last moved to the values that stood then."""
        for held, one in zip(window.held, good, strict=True):
            if one is None:
                continue
            # time that has passed is never given away twice, not even by a clock set back
            from_ms = int(max(self.clock_ms, window.start_ms, one.at_ms))
            until_ms = min(to_ms, one.until_ms)
            if from_ms < until_ms:
                held.append(Held(from_ms, until_ms, one.value))

    def _is_settled(self, window: Window) -> bool:
        return all(
            any(
                step.runs_backwards_in(window.start_ms, window.end_ms)
                or step.total_at(window.end_ms, self.bridge_ms) is not None
                for step in steps
            )
            for steps, totaliser in zip(window.steps, self.totalisers, strict=True)
            if totaliser
        )

    def _finish(self, window: Window) -> Finished:
        numbers = range(len(self.totalisers))
        return Finished(
            window.start_ms,
            [self._point(window, number) for number in numbers],
            [statistics(window, number) for number in numbers],
        )

    def _point(self, window: Window, number: int) -> Point:
        is_gauge = not self.totalisers[number]
        values, held = values_of(window, number), window.held[number]
        covered_ms = sum(one.to_ms - one.from_ms for one in held)
        area = sum(one.value * (one.to_ms - one.from_ms) for one in held)
        mean = round(Fraction(area * MEAN_SCALE, covered_ms)) if covered_ms else None
        return (
            len(window.rows),
            len(values),
            min(values) if values and is_gauge else None,
            max(values) if values and is_gauge else None,
            fitting(mean) if is_gauge else None,
            values[0] if values else None,
            values[-1] if values else None,
            None if is_gauge else self._energy(window, window.steps[number]),
            covered_ms,
            max(row.qualities[number] for row in window.rows),
        )

    def _energy(self, window: Window, steps: Sequence[Step]) -> int | None:
        if any(step.runs_backwards_in(window.start_ms, window.end_ms) for step in steps):
            return None
        opening, closing = (
            next(
                (
                    total
                    for step in steps
                    if (total := step.total_at(ms, self.bridge_ms)) is not None
                ),
                None,
            )
            for ms in (window.start_ms, window.end_ms)
        )
        if opening is None or closing is None or closing < opening:
            return None  # a clock set back can settle the end before the start
        return fitting(closing - opening)


@dataclass(slots=True)
class NaiveGroup:
    """The points of one meter, read together, and their windows of every length."""

    period_ms: int
    totalisers: tuple[bool, ...]
    lengths_ms: tuple[int, ...]
    zone: str
    good: list[Good | None] = field(init=False)
    windows: list[NaiveWindows] = field(init=False)

    def __post_init__(self) -> None:
        self.good = [None] * len(self.totalisers)
        self.windows = [
            NaiveWindows(length_ms, self.period_ms, self.totalisers, self.zone)
            for length_ms in self.lengths_ms
            if length_ms >= self.period_ms
        ]

    def read(self, row: Read) -> bool:
        """Take a row in; return False when it came too late for one of its windows."""
        in_time = [windows.read(row, self.good) for windows in self.windows]
        for number, value in enumerate(row.values):
            one = self.good[number]
            if value is not None:
                until_ms = row.at_ms + HOLD_PERIODS * self.period_ms
                self.good[number] = Good(row.at_ms, value, until_ms)
            elif one is not None:
                until_ms = min(one.until_ms, row.at_ms)
                self.good[number] = Good(one.at_ms, one.value, until_ms)
        return all(in_time)

    def cut(self, now_ms: int) -> dict[int, list[Finished]]:
        """Return what is finished, by length."""
        return {each.length_ms: each.cut(now_ms, self.good) for each in self.windows}


def fitting(number: int | None) -> int | None:
    """Return the number if a column of signed 64-bit integers can hold it."""
    return number if number is not None and -(2**63) <= number < 2**63 else None


def values_of(window: Window, number: int) -> list[int]:
    """Return every value of a point, in the order they came."""
    return [value for row in window.rows if (value := row.values[number]) is not None]


def statistics(window: Window, number: int) -> Statistics:
    """Return the statistics of a point."""
    values, held = sorted(values_of(window, number)), window.held[number]
    middle, high = (
        values[math.ceil(Fraction(len(values) * percent, 100)) - 1] if values else None
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
