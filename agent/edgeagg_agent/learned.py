"""What a meter teaches beyond its profile: how fast it answers, which reads it takes.

Pure and deterministic: what happened comes in, facts for the planner come out, and all of it can be
kept as JSON. It asks nothing by itself, and it is bounded whatever a meter does.

Facts hold for one profile: under another one everything is learned anew. A refusal narrows what is
planned at once; more is believed only of a trial whose values agreed with those of smaller reads.
A meter that is silent about reads that are too long, instead of refusing them, needs
`registers_max` in its profile: silence has too many other causes to learn from.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from edgeagg_agent.plan import NOTHING, Block, Known, Span, may_read, plan_blocks, scan_us, unused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from edgeagg_agent.bus.timing import Timing
    from edgeagg_agent.profile import Limits

ADDRESS_CODES = frozenset({2, 3})  # illegal data address, illegal data value (V1.1b3, section 7)
SPANS_MAX = 32
SAMPLES_MAX = 64
SAMPLES_MIN = 16  # fewer say nothing of the slowest tenth
TRIAL_FIRST_MS = 60_000
TRIAL_EVERY_MS = 600_000
OPEN_MAX = 3  # trials of one read that proved nothing, before it counts as refused


class TurnaroundMeter:
    """Keeps the last turnarounds of a meter, and what to plan with.

    The plan goes by the 90th percentile, so that one slow answer in ten does not break it and one
    in a hundred does not spoil it, and only when that has moved by a fifth, so that plans rest.
    """

    def __init__(self) -> None:
        """Begin with nothing measured."""
        self._samples_us: deque[int] = deque(maxlen=SAMPLES_MAX)
        self._planned_us: int | None = None

    def add(self, turnaround_us: int) -> None:
        """Take in one measured turnaround; less than nothing counts as nothing."""
        self._samples_us.append(max(0, turnaround_us))
        if len(self._samples_us) < SAMPLES_MIN:
            return
        found_us = sorted(self._samples_us)[-(-len(self._samples_us) * 9 // 10) - 1]
        before_us = self._planned_us
        if before_us is None or abs(found_us - before_us) * 5 > max(before_us, 5_000):
            self._planned_us = found_us

    @property
    def planned_us(self) -> int | None:
        """What to plan with, None before there is enough to go by."""
        return self._planned_us


def turnaround_us(took_s: float, timing: Timing, *, request_bytes: int, reply_bytes: int) -> int:
    """Return the turnaround in an exchange of `took_s` from its first byte to its last."""
    wire_us = timing.frame_us(request_bytes) + timing.frame_us(reply_bytes)
    return round(took_s * 1e6) - wire_us


class Verdict(Enum):
    """What the values of a trial say beside those of smaller reads."""

    AGREES = "agrees"
    DIFFERS = "differs"
    OPEN = "open"  # everything moved meanwhile, or all is zero


def compare(
    before: Mapping[Span, bytes], trial: Mapping[Span, bytes], after: Mapping[Span, bytes]
) -> Verdict:
    """Compare values, as the registers' bytes, read before, in and after a trial.

    A value that stood still from before to after must be the same in the trial; at least one that
    is not zero must have stood still, or nothing is proven.
    """
    still = [place for place, value in before.items() if after.get(place) == value]
    if any(trial.get(place) != before[place] for place in still):
        return Verdict.DIFFERS
    return Verdict.AGREES if any(any(before[place]) for place in still) else Verdict.OPEN


@dataclass(frozen=True, slots=True)
class Learned:
    """What is known of one meter's reads, under one profile.

    `answered_max` and `too_long` bound the longest read from both sides, 0 while unknown. `trials`
    counts those made since anything was learned, `open_trials` those of the same read in vain.
    `serial` is the number that the meter calls itself, "" while unknown.
    """

    profile: str
    known: Known = NOTHING
    answered_max: int = 0
    too_long: int = 0
    trials: int = 0
    open_trials: int = 0
    next_trial_ms: int | None = None
    serial: str = ""

    @staticmethod
    def from_json(kept: Mapping[str, Any], profile: str) -> Learned:
        """Take up what was kept; begin anew when it is of another profile or cannot be read.

        Nothing but time is lost by learning it again.
        """
        try:
            if kept["profile"] != profile:
                return Learned(profile)
            known = Known(
                tuple(_span(span) for span in kept["proven"]),
                tuple(_span(span) for span in kept["refused"]),
                int(kept["registers_max"]),
            )
            numbers = {name: int(kept[name]) for name in ("answered_max", "too_long", "trials")}
            serial = str(kept.get("serial", ""))
        except (KeyError, TypeError, ValueError, OverflowError):
            return Learned(profile)
        return Learned(profile, known, **numbers, serial=serial)

    def to_json(self) -> dict[str, Any]:
        """Return what is to be kept; the times of trials are not, a start waits anew."""
        return {
            "profile": self.profile,
            "proven": [list(span) for span in self.known.proven],
            "refused": [list(span) for span in self.known.refused],
            "registers_max": self.known.registers_max,
            "answered_max": self.answered_max,
            "too_long": self.too_long,
            "trials": self.trials,
            "serial": self.serial,
        }

    def answered(self, block: Block) -> Learned:
        """Remember that the meter answered a read of this length."""
        if block.count <= self.answered_max:
            return self
        too_long = self.too_long if self.too_long > block.count else 0
        most = max(self.known.registers_max, block.count) if too_long else 0
        return replace(
            self,
            answered_max=block.count,
            too_long=too_long,
            known=replace(self.known, registers_max=most),
        )

    def refused(self, block: Block, values: Sequence[Span], code: int) -> Learned:
        """Narrow what is planned after a refusal with an exception code.

        A read across unused registers is split at them; they are named when there is one hole
        only. A read longer than any that was answered is too long. Of any other the meter refuses
        some register: smaller reads find it, since no read around this one is planned again.
        """
        if code not in ADDRESS_CODES:
            return self
        proven = tuple(span for span in self.known.proven if not _touch(block, span))
        learned = replace(self, known=replace(self.known, proven=proven))
        # several points may be made of one place
        inside = sorted({value for value in values if block.covers(value)})
        if len(inside) <= 1:
            return learned
        holes = unused(block, inside)
        if len(holes) == 1:
            return _refuse(learned, holes[0])
        if holes or block.count <= self.answered_max:
            return _refuse(learned, (block.function, block.start, block.count))
        most = max(self.answered_max, block.count // 2)
        return replace(
            learned, too_long=block.count, known=replace(learned.known, registers_max=most)
        )

    def trial(
        self,
        values: Sequence[Span],
        limits: Limits,
        timing: Timing | None,
        turnaround_us: int,
        now_ms: int,
    ) -> tuple[Learned, Block | None]:
        """Return a read worth trying now, if it is time for one and there is one.

        It crosses one unknown hole, or is longer than what is known to be answered, and only where
        a plan that could use it takes less bus time. Trials come ten minutes apart, at most.
        """
        if self.next_trial_ms is None or now_ms < self.next_trial_ms - TRIAL_EVERY_MS:
            # the first one, or the clock was set back
            return replace(self, next_trial_ms=now_ms + TRIAL_FIRST_MS), None
        if now_ms < self.next_trial_ms:
            return self, None
        waits = replace(self, next_trial_ms=now_ms + TRIAL_EVERY_MS)
        wider = limits if limits.holes == "illegal" else replace(limits, holes="readable")
        longer = replace(self.known, registers_max=self._middle())
        plan = plan_blocks(values, wider, timing, turnaround_us, longer)
        present = plan_blocks(values, limits, timing, turnaround_us, self.known)
        saved_us = scan_us(present, limits, timing, turnaround_us) - scan_us(
            plan, limits, timing, turnaround_us
        )
        if saved_us <= 0:
            return waits, None
        # what is asked for in every scan is no trial, even where the meter refuses it
        new = (block for block in plan if block not in present)
        tried = (block for block in new if not may_read(block, values, limits, self.known))
        block = next((_one_hole(block, values, limits, self.known) for block in tried), None)
        return (replace(waits, trials=self.trials + 1) if block else waits), block

    def tried(self, block: Block, values: Sequence[Span], verdict: Verdict) -> Learned:
        """Take in how a trial ended; whatever gave no values counts as `DIFFERS`."""
        if verdict is Verdict.OPEN and self.open_trials + 1 < OPEN_MAX:
            return replace(self, open_trials=self.open_trials + 1)
        settled = replace(self, open_trials=0)
        if verdict is not Verdict.AGREES:
            return _fail(settled, block, values)
        span = _with_neighbours(block, values)
        proven = _joined((*settled.known.proven, span))
        return replace(settled, known=replace(settled.known, proven=proven)).answered(block)

    def _middle(self) -> int:
        """Return the length to try: half-way between what is answered and what is too long."""
        if not self.known.registers_max:
            return 0
        return max(self.known.registers_max, (self.answered_max + self.too_long) // 2)


def _fail(learned: Learned, block: Block, values: Sequence[Span]) -> Learned:
    """Remember the one unproven hole of a trial that failed, or its length."""
    holes = [
        hole
        for hole in unused(block, values)
        if not any(Block(*span).covers(hole) for span in learned.known.proven)
    ]
    if len(holes) == 1:
        return _refuse(learned, holes[0])
    return replace(learned, too_long=block.count)


def _refuse(learned: Learned, span: Span) -> Learned:
    # a refused span within another one says all that the other says
    others = (other for other in learned.known.refused if not Block(*other).covers(span))
    refused = (*others, span)[-SPANS_MAX:]
    return replace(learned, known=replace(learned.known, refused=refused))


def _one_hole(block: Block, values: Sequence[Span], limits: Limits, known: Known) -> Block:
    """Cut a read down to the first hole in it that is not known to be readable.

    A read across several unknown holes that is refused would not say which of them it was.
    """
    inside = sorted(
        (Block(*value) for value in values if block.covers(value)), key=lambda b: (b.start, b.end)
    )
    end = 0
    for one, other in pairwise(inside):
        end = max(end, one.end)
        across = Block(block.function, one.start, max(one.end, other.end) - one.start)
        if other.start > end and not may_read(across, values, limits, known):
            return across
    return block


def _with_neighbours(block: Block, values: Sequence[Span]) -> Span:
    """Stretch a read over the values that adjoin it: they are read already."""
    start, end = block.start, block.end
    places = sorted(
        (first, first + count) for function, first, count in values if function == block.function
    )
    for first, behind in places:
        if first <= end < behind:
            end = behind
    for first, behind in reversed(places):
        if first < start <= behind:
            start = first
    return block.function, start, end - start


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Join spans that overlap; of too many, the shortest are forgotten."""
    joined: list[Span] = []
    for function, start, count in sorted(spans):
        if joined and joined[-1][0] == function and start < joined[-1][1] + joined[-1][2]:
            _, first, length = joined.pop()
            joined.append((function, first, max(first + length, start + count) - first))
        else:
            joined.append((function, start, count))
    longest = sorted(joined, key=lambda span: -span[2])[:SPANS_MAX]
    return tuple(sorted(longest))


def _touch(block: Block, span: Span) -> bool:
    function, start, count = span
    return block.function == function and start < block.end and block.start < start + count


def _span(kept: Sequence[int]) -> Span:
    function, start, count = kept
    return int(function), int(start), int(count)
