"""Judges a run of the chain: what the database holds against what the meters really had.

Knows the meters' truth and the gateway's own batches. It reads, and never writes, what it judges;
slots are counted here anew, not by the platform's audit, so that one mistake cannot hide the other.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from fractions import Fraction

from edgeagg.model import Quality
from hil_tests.energies import judge_energies
from hil_tests.stored import OWN_METER, Gap, Group, Reading, Stored, StoredPoint
from hil_tests.truth import Truth
from hil_tests.verdict import Run, Span, Verdict

LEAP_BLUR_MS = 60_000
"""How far the ends of a leap may be off: a run that was put back goes on behind its last look."""


def judge(
    stored: Stored, batches: Mapping[tuple[int, int], bytes], truth: Truth, run: Run
) -> Verdict:
    """Judge a run by the database and by the messages that the gateway kept, by identity."""
    verdict = judge_slots(stored, truth, run)
    _judge_batches(verdict, stored, batches)
    if run.ahead:
        verdict.lose(run.ahead, "batches were receipted before they were committed")
    if stored.conflicts:
        verdict.double(stored.conflicts, "batches came with other bytes under a known identity")
    # last, for what is lost above leaves energies that nothing in the database explains
    judge_energies(verdict, stored, truth, run)
    return verdict


def judge_slots(stored: Stored, truth: Truth, run: Run) -> Verdict:
    """Judge the rows and gaps of the database, and nothing that was made of them."""
    verdict = Verdict()
    for group in stored.groups:
        for reading in stored.readings.get(group, ()):
            verdict.values += sum(value is not None for value in reading.mantissas)
            verdict.reasons += sum(value is None for value in reading.mantissas)
            if group.meter == OWN_METER:
                _judge_own(verdict, reading)
            else:
                _judge_values(verdict, truth, group, reading, run)
        for gap in stored.gaps.get(group, ()):
            verdict.missed += gap.slot_count * len(group.points)
    _judge_wanted(verdict, stored, truth.meters, run)
    _judge_meters(verdict, stored, run)
    return verdict


def _judge_values(verdict: Verdict, truth: Truth, group: Group, reading: Reading, run: Run) -> None:
    times = [reading.at_ms - offset for offset in run.offsets_ms]
    possible = [at_ms for at_ms in times if run.span.holds(at_ms)]
    for point, mantissa in zip(group.points, reading.mantissas, strict=True):
        if mantissa is None:
            continue
        value = mantissa * Fraction(10) ** point.exponent
        known = truth.point(group.meter, point.name, point.unit)
        if not any(
            truth.fits(group.meter, known, value, at_ms=at_ms, blur_ms=run.blur_ms)
            for at_ms in possible
        ):
            had = [float(truth.shown(group.meter, known, at_ms)) for at_ms in possible]
            verdict.mistrust(
                f"{group.meter} {point.name} = {float(value):g} at {reading.at_ms},"
                f" the meter had {had or 'not been running then'}"
            )


def _judge_own(verdict: Verdict, reading: Reading) -> None:
    """Nobody else knows the gateway's own points, but it always has them."""
    missing = sum(value is None for value in reading.mantissas)
    if missing:
        verdict.lose(missing, f"the gateway's own points at {reading.at_ms}")


def _judge_wanted(verdict: Verdict, stored: Stored, meters: AbstractSet[str], run: Run) -> None:
    for missing in sorted(meters - {group.meter for group in stored.groups}):
        verdict.lose(1, f"nothing came of meter {missing}")
    have = {
        (group.meter, group.period_ms, tuple(point.name for point in group.points))
        for group in stored.groups
    }
    for one in run.wanted:
        if (one.meter, one.period_ms, one.points) in have or _is_short(run, one.period_ms):
            continue
        points = len(one.points)
        verdict.lose(points, f"nothing came of {points} points of meter {one.meter}")


def _judge_meters(verdict: Verdict, stored: Stored, run: Run) -> None:
    """Lay the rows and gaps of the same points end to end: each slot must be covered once."""
    by_points: dict[tuple[str, int, tuple[StoredPoint, ...]], list[Group]] = {}
    for group in stored.groups:
        by_points.setdefault((group.meter, group.period_ms, group.points), []).append(group)
    for (meter, *_), groups in by_points.items():
        pieces = sorted(
            (piece for group in groups for piece in _pieces(stored, group)),
            key=lambda piece: (piece.first_ms, piece.last_ms),
        )
        period_ms, points = groups[0].period_ms, len(groups[0].points)
        if not pieces:
            if not _is_short(run, period_ms):
                verdict.lose(points, f"no slot of meter {meter}")
            continue
        end_ms = max(piece.last_ms for piece in pieces)
        verdict.due += ((end_ms - pieces[0].first_ms) // period_ms + 1) * points
        _judge_ends(verdict, meter, Span(pieces[0].first_ms, end_ms), period_ms, run)
        _judge_joints(verdict, groups[0], pieces, run)
        for group in groups:
            for gap in stored.gaps.get(group, ()):
                _judge_gap(verdict, group, gap, run.downs)


def _judge_joints(verdict: Verdict, group: Group, pieces: Sequence[Span], run: Run) -> None:
    """Look that each piece begins where the one before ends."""
    meter, period_ms, points = group.meter, group.period_ms, len(group.points)
    for before, after in itertools.pairwise(pieces):
        slots = (after.first_ms - before.last_ms) // period_ms - 1
        if _is_leapt(before, after, period_ms, run):
            verdict.due -= slots * points
        elif slots > 0:
            verdict.lose(slots * points, f"{meter}: {slots} slots from {before.last_ms} on")
        elif slots < 0:
            verdict.double(-slots * points, f"{meter}: {-slots} slots at {after.first_ms}")


def _is_leapt(before: Span, after: Span, period_ms: int, run: Run) -> bool:
    """Tell whether the clock was put over the time between two pieces."""
    is_long = after.first_ms - before.last_ms > 2 * (LEAP_BLUR_MS + period_ms)
    return is_long and any(
        abs(before.last_ms - leap.first_ms) <= LEAP_BLUR_MS + 2 * period_ms
        and abs(after.first_ms - leap.last_ms) <= LEAP_BLUR_MS + 2 * period_ms
        for leap in run.leaps
    )


def _is_short(run: Run, period_ms: int) -> bool:
    """Tell whether no slot of the period need have fallen due."""
    return _lived_ms(run, run.agent_span.first_ms, run.agent_span.last_ms) < 2 * period_ms


def _lived_ms(run: Run, from_ms: int, to_ms: int) -> int:
    """Return how long the agent's time took from one moment to the other, without leaps."""
    leapt = (min(to_ms, it.last_ms) - max(from_ms, it.first_ms) for it in run.leaps)
    return to_ms - from_ms - sum(max(0, it_ms) for it_ms in leapt)


def _pieces(stored: Stored, group: Group) -> Iterator[Span]:
    for reading in stored.readings.get(group, ()):
        yield Span(reading.due_ms, reading.due_ms)
    for gap in stored.gaps.get(group, ()):
        yield Span(gap.first_due_ms, gap.last_due_ms)


def _judge_ends(verdict: Verdict, meter: str, covered: Span, period_ms: int, run: Run) -> None:
    late_ms = _lived_ms(run, run.agent_span.first_ms, covered.first_ms) - 2 * period_ms
    early_ms = _lived_ms(run, covered.last_ms, run.agent_span.last_ms) - 2 * period_ms
    for off_ms, text in ((late_ms, "after the start"), (early_ms, "before the end")):
        if off_ms > 0:
            verdict.lose(off_ms // period_ms + 1, f"{meter}: nothing for {off_ms} ms {text}")


def _judge_gap(verdict: Verdict, group: Group, gap: Gap, downs: Sequence[Span]) -> None:
    """Count slots that were given up while the agent ran: those were journaled.

    No run lasts so long that readings outgrow the memory in which they wait for a disk.
    """
    if gap.reason not in {Quality.STOPPED, Quality.NOT_KEPT}:
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
