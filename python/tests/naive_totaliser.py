"""A guarded totaliser as a clerk would judge it: what is in doubt stands on a sheet, read anew.

Owns the rules that the Rust core must agree with (the docstring of aggregator-rs/src/totaliser.rs).
It must not import the core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

HOUR_MS = 3_600_000
DOUBT_MS = 20 * 60_000
ROLLOVER, RESET, REPLACED, JUMP, FREEZE, DIP, GLITCH, GAP = range(1, 9)

Guard = tuple[int | None, int, int]
"""Where it wraps (None: never), the most it counts in an hour, its resolution."""
Audit = tuple[int, int, int, int, int, int, int, int | None]
"""Kind, closing time and value, opening time and value, energy, how many aside, the furthest."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the register showed."""

    at_ms: int
    value: int


@dataclass(frozen=True, slots=True)
class Step:
    """What was counted between two readings, as totals; `near` ones may be interpolated between."""

    from_ms: int
    to_ms: int
    before: int
    after: int
    near: bool

    def total_at(self, ms: int) -> tuple[int, int] | None:
        """Return the total at `ms` and how far the truth can be from it, if the step tells it."""
        outside = self.from_ms >= self.to_ms or not self.from_ms <= ms <= self.to_ms
        if self.after < self.before or not self.near or outside:
            return None
        share = Fraction(ms - self.from_ms, self.to_ms - self.from_ms)
        part = round(share * (self.after - self.before))
        error = (
            0 if ms in (self.from_ms, self.to_ms) else max(part, self.after - self.before - part)
        )
        return self.before + part, error

    def runs_backwards_in(self, start_ms: int, end_ms: int) -> bool:
        """Return whether the totaliser fell, and may have done so between these times."""
        return self.after < self.before and start_ms <= self.to_ms and self.from_ms < end_ms


@dataclass(slots=True)
class NaiveTotaliser:
    """The judge of one totaliser."""

    guard: Guard
    period_ms: int
    bridge_ms: int
    last: Shown | None = None
    changed_ms: int = 0
    total: int = 0
    replaced: bool = False
    doubted: list[Shown] = field(default_factory=list)
    audits: list[Audit] = field(default_factory=list)

    @property
    def doubt_ms(self) -> int:
        """How long a doubt lasts."""
        return max(DOUBT_MS, self.bridge_ms)

    @property
    def begun_ms(self) -> int:
        """When the doubt began, by the earliest reading in it."""
        return min(shown.at_ms for shown in self.doubted)

    def read(self, shown: Shown) -> list[Step]:
        """Take a good reading in; return what is certain to have been counted."""
        if self.last is None:
            if self._can_show(shown):
                self.last, self.changed_ms = shown, shown.at_ms
            return []
        if self.doubted:
            return self._read_in_doubt(self.last, shown)
        if self.replaced:
            self.doubted = [shown]
            return self._decide(REPLACED)
        if self._counts(self.last, shown):
            return [self._follow(shown)]
        self.doubted = [shown]
        return []

    def replace(self) -> list[Step]:
        """Take in that another meter hangs there."""
        self.replaced = True
        return self._decide(REPLACED) if self.doubted else []

    def settle_due(self, now_ms: int) -> list[Step]:
        """End a doubt that has lasted long enough."""
        if self.doubted and len(self._line()[1]) > 1 and now_ms - self.begun_ms >= self.doubt_ms:
            return self._decide(None)
        return []

    def _read_in_doubt(self, last: Shown, shown: Shown) -> list[Step]:
        off_line, line = self._line()
        self.doubted.append(shown)
        if not self._counts(last, shown) or self._belongs_to(line, shown):
            return []
        if not off_line and self._counts(line[-1], shown):
            kind, _ = self._classify(last, line[0])
            if kind == FREEZE:
                return self._decide(None)
        near = self._is_near(last, shown)
        *aside, _ = self.doubted
        self.doubted = []
        extreme = self._furthest(self._lines(aside), last.value)
        kind = DIP if extreme is not None and 0 <= extreme <= last.value else GLITCH
        energy = shown.value - last.value
        self._explain(kind, last, shown, energy, len(aside), extreme)
        return [self._count(shown, energy, near=near)]

    def _decide(self, known: int | None) -> list[Step]:
        """Take the line that the last doubted readings make as the new one."""
        assert self.last is not None
        begun_ms = self.begun_ms
        aside, line = self._line()
        extreme = self._furthest(self._lines(self.doubted)[:-1], self.last.value)
        self.doubted = []
        first = line[0]
        if not self._can_show(first):
            return []
        back = line[1] if len(line) > 1 else first
        near = begun_ms - self.last.at_ms <= self.bridge_ms
        near = near and back.at_ms - begun_ms < self.doubt_ms
        kind, energy = self._classify(self.last, first) if known is None else (known, 0)
        self.replaced = False
        self._explain(kind, self.last, first, energy, len(aside), extreme)
        steps = [self._count(first, energy, near=near)]
        steps += [self._follow(shown) for shown in line[1:] if self._counts(self.last, shown)]
        return steps

    def _classify(self, last: Shown, first: Shown) -> tuple[int, int]:
        rise = first.value - last.value
        if rise >= 0:
            counts = rise <= self._most(first.at_ms - self.changed_ms)
            return (FREEZE, rise) if counts else (JUMP, 0)
        wraps_at = self.guard[0]
        if wraps_at is not None and wraps_at + rise <= self._most(first.at_ms - last.at_ms):
            return ROLLOVER, wraps_at + rise
        return RESET, 0

    def _lines(self, readings: Sequence[Shown]) -> list[list[Shown]]:
        """Cut readings into lines along which such a meter can have counted."""
        lines: list[list[Shown]] = []
        for shown in readings:
            end = lines[-1][-1] if lines else None
            if end is not None and self._can_show(end) and self._counts(end, shown):
                lines[-1].append(shown)
            else:
                lines.append([shown])
        return lines

    def _line(self) -> tuple[list[Shown], list[Shown]]:
        """Return the doubted readings on no line, and the line that the last ones make."""
        *former, line = self._lines(self.doubted)
        return [shown for each in former for shown in each], line

    def _belongs_to(self, line: Sequence[Shown], shown: Shown) -> bool:
        """Return whether it lies no further from the line than the line's own readings."""
        rises = [after.value - before.value for before, after in pairwise(line)]
        widest = max(rises, default=0)
        most = 2 * widest + self.guard[2]
        return widest > 0 and 0 <= shown.value - line[-1].value <= most

    def _is_near(self, last: Shown, shown: Shown) -> bool:
        """Return whether the meter was read all the time, and windows have waited."""
        in_time = self.begun_ms - last.at_ms <= self.bridge_ms
        return in_time and shown.at_ms - self.begun_ms < self.doubt_ms

    @staticmethod
    def _furthest(lines: Sequence[Sequence[Shown]], value: int) -> int | None:
        """Return the value furthest away: of equals that of the first line, and its last one."""
        found: int | None = None
        for line in lines:
            for shown in reversed(line):
                if found is None or abs(shown.value - value) > abs(found - value):
                    found = shown.value
        return found

    def _follow(self, shown: Shown) -> Step:
        assert self.last is not None
        near = shown.at_ms - self.last.at_ms <= self.bridge_ms
        rise = shown.value - self.last.value
        if not near and rise:
            self._explain(GAP, self.last, shown, rise, 0, None)
        return self._count(shown, rise, near=near)

    def _count(self, shown: Shown, rise: int, *, near: bool) -> Step:
        assert self.last is not None
        step = Step(self.last.at_ms, shown.at_ms, self.total, self.total + rise, near)
        if shown.value != self.last.value:
            self.changed_ms = shown.at_ms
        self.last, self.total = shown, step.after
        return step

    def _explain(
        self, kind: int, closing: Shown, opening: Shown, energy: int, aside: int, far: int | None
    ) -> None:
        ends = closing.at_ms, closing.value, opening.at_ms, opening.value
        self.audits.append((kind, *ends, energy, aside, far))

    def _can_show(self, shown: Shown) -> bool:
        wraps_at = self.guard[0]
        return shown.value >= 0 and (wraps_at is None or shown.value < wraps_at)

    def _counts(self, before: Shown, after: Shown) -> bool:
        """Return whether such a meter can have counted from the one reading to the other."""
        rise = after.value - before.value
        return 0 <= rise <= self._most(after.at_ms - before.at_ms) and self._can_show(after)

    def _most(self, elapsed_ms: int) -> int:
        """Return the most that is counted: registers are refreshed a period late, and rounded."""
        _, rate_max_per_h, resolution = self.guard
        time_ms = max(0, elapsed_ms) + self.period_ms
        return rate_max_per_h * time_ms // HOUR_MS + 2 * resolution
