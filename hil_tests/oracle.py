"""Judges a run of the chain: what the database holds against what the meters really had.

Knows the meters' truth from `hil_tests.sim` (loads are pure functions of time) and the gateway's
own batches. It reads, and never writes, what it judges; slots are counted here anew, not by the
platform's audit, so that one mistake cannot hide the other.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from edgeagg.model import Quality
from hil_tests.sim.meters import SimMeter
from hil_tests.sim.profile import Point
from hil_tests.sim.site import SiteSpec
from hil_tests.sim.stage import build_meters
from hil_tests.stored import Gap, Group, Reading, Stored

NOTES_MAX = 12
_F32_RELATIVE = Fraction(1, 1 << 22)
_SECOND_MS = 1000


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of UTC milliseconds, ends included."""

    first_ms: int
    last_ms: int

    def holds(self, at_ms: int) -> bool:
        """Tell whether `at_ms` lies in it."""
        return self.first_ms <= at_ms <= self.last_ms


@dataclass(frozen=True, slots=True)
class Run:
    """What the bench knows of a run. Times are the host's; `offsets_ms` lead to the agent's."""

    span: Span
    agent_span: Span  # in the agent's own time: every meter must be accounted for in it
    downs: Sequence[Span] = ()  # when the agent was down: only there a slot may be `stopped`
    offsets_ms: Sequence[int] = (0,)  # by which the agent's clock may have been wrong
    blur_ms: int = 2_000  # how far the time of a row may be from the reading of its points
    ahead: int = 0  # batches seen receipted that were not committed


@dataclass(slots=True)
class Verdict:
    """One row of the table, in point slots; what is wrong, lost or doubled is named in `notes`."""

    due: int = 0
    values: int = 0
    reasons: int = 0
    missed: int = 0
    wrong: int = 0
    lost: int = 0
    doubled: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Tell whether nothing is wrong, lost or doubled, and something was read at all."""
        return self.values > 0 and not (self.wrong or self.lost or self.doubled)

    def lose(self, count: int, note: str) -> None:
        """Count readings as lost, and say which."""
        self.lost += count
        self._note(f"lost {count}: {note}")

    def double(self, count: int, note: str) -> None:
        """Count readings as doubled, and say which."""
        self.doubled += count
        self._note(f"doubled {count}: {note}")

    def mistrust(self, note: str) -> None:
        """Count a value as wrong, and say which."""
        self.wrong += 1
        self._note(f"wrong: {note}")

    def _note(self, note: str) -> None:
        if len(self.notes) < NOTES_MAX:
            self.notes.append(note)


def judge(
    stored: Stored, batches: Mapping[tuple[int, int], bytes], truth: Truth, run: Run
) -> Verdict:
    """Judge a run by the database and by the messages that the gateway kept, by identity."""
    verdict = Verdict()
    for group in stored.groups:
        for reading in stored.readings.get(group, ()):
            verdict.values += sum(value is not None for value in reading.mantissas)
            verdict.reasons += sum(value is None for value in reading.mantissas)
            _judge_values(verdict, truth, group, reading, run)
        for gap in stored.gaps.get(group, ()):
            verdict.missed += gap.slot_count * len(group.points)
    _judge_meters(verdict, stored, truth.meters, run)
    _judge_batches(verdict, stored, batches)
    if run.ahead:
        verdict.lose(run.ahead, "batches were receipted before they were committed")
    if stored.conflicts:
        verdict.double(stored.conflicts, "batches came with other bytes under a known identity")
    return verdict


class Truth:
    """What every meter had in its registers at any time."""

    def __init__(self, site: SiteSpec) -> None:
        self.meters = build_meters(site)
        self._ratios = {meter.name: meter.ratios for line in site.lines for meter in line.meters}
        self._points = {
            name: {point.name: point for point in meter.profile.points}
            for name, meter in self.meters.items()
        }
        self._known: dict[tuple[str, str, int], Fraction] = {}

    def point(self, meter: str, name: str) -> Point:
        """Return a point of a meter as its profile has it."""
        return self._points[meter][name]

    def fits(self, meter: str, point: Point, value: Fraction, *, at_ms: int, blur_ms: int) -> bool:
        """Tell whether `meter` showed `value` at some time within `blur_ms` of `at_ms`."""
        if point.name in self.meters[meter].unknown_points:
            return value == 0
        low = high = self._value(meter, point, at_ms)
        for t_ms in _instants(at_ms, blur_ms):
            if (
                low - self._step(meter, point, low)
                <= value
                <= high + self._step(meter, point, high)
            ):
                return True
            found = self._value(meter, point, t_ms)
            low, high = min(low, found), max(high, found)
        return low - self._step(meter, point, low) <= value <= high + self._step(meter, point, high)

    def _value(self, meter: str, point: Point, t_ms: int) -> Fraction:
        key = (meter, point.name, t_ms)
        if key not in self._known:
            self._known[key] = self.meters[meter].value(point, t_ms)
        return self._known[key]

    def _step(self, meter: str, point: Point, value: Fraction) -> Fraction:
        """Return what the register can be off by: its own step, the point's, and an f32's."""
        step = point.resolution
        if not point.register.kind.startswith("f"):
            ratios = [self._ratios[meter].get(name, Fraction(1)) for name in point.ratios]
            step += abs(point.scale * math.prod(ratios))
        return step + abs(value) * _F32_RELATIVE


def _instants(at_ms: int, blur_ms: int) -> Iterator[int]:
    """Yield the times at which a quantity may have been extreme: loads change at full seconds."""
    yield at_ms - blur_ms
    yield at_ms + blur_ms
    first = (at_ms - blur_ms) // _SECOND_MS + 1
    for second in range(first, (at_ms + blur_ms) // _SECOND_MS + 1):
        yield second * _SECOND_MS - 1
        yield second * _SECOND_MS


def _judge_values(verdict: Verdict, truth: Truth, group: Group, reading: Reading, run: Run) -> None:
    times = [reading.at_ms - offset for offset in run.offsets_ms]
    possible = [at_ms for at_ms in times if run.span.holds(at_ms)]
    for point, mantissa in zip(group.points, reading.mantissas, strict=True):
        if mantissa is None:
            continue
        value = mantissa * Fraction(10) ** point.exponent
        known = truth.point(group.meter, point.name)
        if not any(
            truth.fits(group.meter, known, value, at_ms=at_ms, blur_ms=run.blur_ms)
            for at_ms in possible
        ):
            had = [float(truth.meters[group.meter].value(known, at_ms)) for at_ms in possible]
            verdict.mistrust(
                f"{group.meter} {point.name} = {float(value):g} at {reading.at_ms},"
                f" the meter had {had or 'not been running then'}"
            )


def _judge_meters(
    verdict: Verdict, stored: Stored, meters: Mapping[str, SimMeter], run: Run
) -> None:
    """Lay the rows and gaps of each meter end to end: each slot must be covered exactly once."""
    by_meter: dict[str, list[Group]] = {}
    for group in stored.groups:
        by_meter.setdefault(group.meter, []).append(group)
    for missing in sorted(meters.keys() - by_meter.keys()):
        verdict.lose(1, f"nothing came of meter {missing}")
    for meter, groups in by_meter.items():
        pieces = sorted(
            (piece for group in groups for piece in _pieces(stored, group)),
            key=lambda piece: (piece.first_ms, piece.last_ms),
        )
        period_ms, points = groups[0].period_ms, len(groups[0].points)
        if not pieces:
            verdict.lose(points, f"no slot of meter {meter}")
            continue
        end_ms = max(piece.last_ms for piece in pieces)
        verdict.due += ((end_ms - pieces[0].first_ms) // period_ms + 1) * points
        _judge_ends(verdict, meter, Span(pieces[0].first_ms, end_ms), period_ms, run)
        for before, after in itertools.pairwise(pieces):
            slots = (after.first_ms - before.last_ms) // period_ms - 1
            if slots > 0:
                verdict.lose(slots * points, f"{meter}: {slots} slots from {before.last_ms} on")
            elif slots < 0:
                verdict.double(-slots * points, f"{meter}: {-slots} slots at {after.first_ms}")
        for group in groups:
            for gap in stored.gaps.get(group, ()):
                _judge_gap(verdict, group, gap, run.downs)


def _pieces(stored: Stored, group: Group) -> Iterator[Span]:
    for reading in stored.readings.get(group, ()):
        yield Span(reading.due_ms, reading.due_ms)
    for gap in stored.gaps.get(group, ()):
        yield Span(gap.first_due_ms, gap.last_due_ms)


def _judge_ends(verdict: Verdict, meter: str, covered: Span, period_ms: int, run: Run) -> None:
    late_ms = covered.first_ms - run.agent_span.first_ms - 2 * period_ms
    early_ms = run.agent_span.last_ms - covered.last_ms - 2 * period_ms
    for off_ms, text in ((late_ms, "after the start"), (early_ms, "before the end")):
        if off_ms > 0:
            verdict.lose(off_ms // period_ms + 1, f"{meter}: nothing for {off_ms} ms {text}")


def _judge_gap(verdict: Verdict, group: Group, gap: Gap, downs: Sequence[Span]) -> None:
    """Count slots that were given up as `stopped` while the agent ran: those were journaled."""
    if gap.reason != Quality.STOPPED:
        return
    unexplained = sum(
        not any(down.holds(due_ms) for down in downs)
        for due_ms in range(gap.first_due_ms, gap.last_due_ms + 1, group.period_ms)
    )
    if unexplained:
        verdict.lose(
            unexplained * len(group.points),
            f"{group.meter}: {unexplained} slots given up while the agent ran,"
            f" between {gap.first_due_ms} and {gap.last_due_ms}",
        )


def _judge_batches(
    verdict: Verdict, stored: Stored, batches: Mapping[tuple[int, int], bytes]
) -> None:
    for identity, message in sorted(batches.items()):
        digest = stored.digests.get(identity)
        if digest is None:
            verdict.lose(1, f"batch {identity} of the gateway is not in the database")
        elif digest != hashlib.sha256(message).digest():
            verdict.double(1, f"batch {identity} has other bytes in the database")
    highest: Counter[int] = Counter()
    for epoch, sequence in stored.digests:
        highest[epoch] = max(highest[epoch], sequence)
    if len(highest) > 1:
        verdict.lose(1, f"the gateway lost its state: it opened the epochs {sorted(highest)}")
    for epoch, last in highest.items():
        have = sum(of == epoch for of, _ in stored.digests)
        if have != last:
            verdict.lose(last - have, f"{last - have} batches of epoch {epoch} are missing")
