"""Demand as a clerk would work it out: every period by itself, fractions, one rule after the other.

Owns the rules that the Rust core must agree with (the docstrings of aggregator-rs/src/demand.rs and
the paragraph on demand in docs/batch-format.md). It must not import the core.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from python.tests.naive_calendar import HOUR_MS, bounds

HOLD_PERIODS = 2
BRIDGE_PERIODS = 3
LATENESS_MS = 2_000
DAY_MS = 24 * HOUR_MS

Told = tuple[int, int, int | None, int | None, int | None, int | None, int]
"""Start and length of the day, block demand, its end, sliding demand, its end, known blocks."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Over how long demand is taken, and how far apart."""

    period_ms: int
    slip_ms: int

    def ends(self, after_ms: int, to_ms: int) -> range:
        """Return the ends of periods behind one time, up to and with another."""
        return range((after_ms // self.slip_ms + 1) * self.slip_ms, to_ms + 1, self.slip_ms)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two readings of a totaliser, one after the other."""

    from_ms: int
    to_ms: int
    before: int
    after: int
    bridge_ms: int

    @property
    def tells(self) -> bool:
        """Whether the values between the two are known."""
        return self.before <= self.after and 0 < self.to_ms - self.from_ms <= self.bridge_ms

    def total_at(self, ms: int) -> int | None:
        """Return the totaliser's value at `ms`, if the two readings tell it."""
        if not self.tells or not self.from_ms <= ms <= self.to_ms:
            return None
        share = Fraction(ms - self.from_ms, self.to_ms - self.from_ms)
        return self.before + round(share * (self.after - self.before))


@dataclass(frozen=True, slots=True)
class Period:
    """A period that is known, and its demand as it is told."""

    end_ms: int
    demand: Fraction


@dataclass(slots=True)
class NaiveEnergy:
    """The periods of a totaliser."""

    shape: Shape
    bridge_ms: int
    last: tuple[int, int] | None = None
    latest_ms: int = 0
    totals: dict[int, int | None] = field(default_factory=dict)
    """At every end that was reached."""
    falls: list[tuple[int, int]] = field(default_factory=list)
    """When the lower reading was taken, and the time up to which ends had been reached."""

    def read(self, at_ms: int, value: int | None) -> list[Period]:
        """Take a reading in; return what it makes known."""
        if value is None:
            return []
        last, self.last = self.last, (at_ms, value)
        if last is None:
            self.latest_ms = at_ms - 1
            return []
        pair = Pair(last[0], at_ms, last[1], value, self.bridge_ms)
        # an end at which only a leap arrives has its total from the reading behind it
        to_ms = at_ms if pair.tells else at_ms - 1
        ended = [ms for ms in self.shape.ends(self.latest_ms, to_ms) if ms not in self.totals]
        self.totals.update({ms: pair.total_at(ms) for ms in ended})
        known = [period for ms in ended if (period := self._period(ms)) is not None]
        self.latest_ms = max(self.latest_ms, to_ms)
        if pair.after < pair.before:
            self.falls.append((at_ms, self.latest_ms))
        return known

    def _period(self, end_ms: int) -> Period | None:
        start_ms = end_ms - self.shape.period_ms
        opening, closing = self.totals.get(start_ms), self.totals[end_ms]
        if opening is None or closing is None:
            return None
        # what was counted since the start is not known behind a fall, nor from the fall itself on
        if any(start_ms <= latest_ms or start_ms == at_ms for at_ms, latest_ms in self.falls):
            return None
        return Period(end_ms, Fraction(closing - opening) * HOUR_MS / self.shape.period_ms)

    def is_known_to(self, end_ms: int) -> bool:
        """Return whether all that ends until then has been decided."""
        last_ms = end_ms // self.shape.slip_ms * self.shape.slip_ms
        return bool(self.totals) and (last_ms < min(self.totals) or last_ms in self.totals)


@dataclass(slots=True)
class NaivePower:
    """The periods of a power gauge."""

    shape: Shape
    hold_ms: int
    clock_ms: int | None = None
    held: tuple[int, int] | None = None
    pieces: list[tuple[int, int, int]] = field(default_factory=list)
    """From, to, and the value that stood."""

    def read(self, at_ms: int, value: int | None) -> list[Period]:
        """Take a reading in; return what is known by then."""
        known = self.wait(at_ms)
        self.held = None if value is None else (value, at_ms + self.hold_ms)
        return known

    def wait(self, to_ms: int) -> list[Period]:
        """Let time pass; return what is known by then. A clock set back changes nothing."""
        before_ms = to_ms - 1 if self.clock_ms is None else self.clock_ms
        if self.held is not None and (until_ms := min(to_ms, self.held[1])) > before_ms:
            self.pieces.append((before_ms, until_ms, self.held[0]))
        self.clock_ms = max(before_ms, to_ms)
        ends = self.shape.ends(before_ms, to_ms)
        return [period for ms in ends if (period := self._period(ms)) is not None]

    def _period(self, end_ms: int) -> Period | None:
        start_ms = end_ms - self.shape.period_ms
        covered_ms = area = 0
        for from_ms, to_ms, value in self.pieces:
            span_ms = max(0, min(to_ms, end_ms) - max(from_ms, start_ms))
            covered_ms += span_ms
            area += span_ms * value
        if covered_ms < self.shape.period_ms:
            return None
        return Period(end_ms, Fraction(area * 1_000, self.shape.period_ms))


@dataclass(slots=True)
class Day:
    """A day in which a slot was read, and its periods."""

    start_ms: int
    end_ms: int
    periods: list[Period] = field(default_factory=list)


@dataclass(slots=True)
class NaiveDemand:
    """The demand of one point, day by day."""

    shape: Shape
    group_period_ms: int
    is_totaliser: bool
    zone: str
    sealed_ms: int | None = None
    days: list[Day] = field(default_factory=list)
    course: NaiveEnergy | NaivePower = field(init=False)

    def __post_init__(self) -> None:
        self.course = (
            NaiveEnergy(self.shape, BRIDGE_PERIODS * self.group_period_ms)
            if self.is_totaliser
            else NaivePower(self.shape, HOLD_PERIODS * self.group_period_ms)
        )

    def read(self, at_ms: int, value: int | None) -> None:
        """Take in the point's part of a row."""
        is_late = self.sealed_ms is not None and at_ms < self.sealed_ms
        if not is_late and all(day.end_ms <= at_ms for day in self.days):
            self.days.append(Day(*bounds(at_ms, DAY_MS, self.zone)))
        self._take(self.course.read(at_ms, value))

    def _take(self, known: list[Period]) -> None:
        for period in known:
            for day in self.days:
                if day.start_ms < period.end_ms <= day.end_ms:
                    day.periods.append(period)

    def cut(self, now_ms: int) -> list[Told]:
        """Return the days that are over and known, or have waited long enough."""
        told = []
        settled_ms = now_ms - LATENESS_MS
        while self.days and self.days[0].end_ms <= settled_ms:
            day = self.days[0]
            if isinstance(self.course, NaivePower):
                self._take(self.course.wait(day.end_ms))
            elif (
                settled_ms - day.end_ms < BRIDGE_PERIODS * self.group_period_ms
                and not self.course.is_known_to(day.end_ms)
            ):
                break
            told.append(self._told(self.days.pop(0)))
            self.sealed_ms = day.end_ms
        return told

    def _told(self, day: Day) -> Told:
        blocks = [one for one in day.periods if one.end_ms % self.shape.period_ms == 0]
        block, sliding = highest(blocks), highest(day.periods)
        return (day.start_ms, day.end_ms - day.start_ms, *block, *sliding, len(blocks))


def highest(periods: list[Period]) -> tuple[int | None, int | None]:
    """Return the highest demand and the end of its period, of equal ones the first."""
    if not periods:
        return None, None
    found = max(periods, key=lambda period: (period.demand, -period.end_ms))
    demand = round(found.demand)
    return (demand, found.end_ms) if -(2**63) <= demand < 2**63 else (None, None)
