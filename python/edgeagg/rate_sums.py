"""Whether a total is the sum of its rates, and if not, what the likely mistake is.

Pure. A meter cuts every register off behind its last digit, so that the sum of n rates is off the
total by n + 1 last digits at most. A difference beyond that is judged by how it goes along: with
one rate alone (a wrong ratio), ever upwards (a rate that is not read), up and down (registers that
were not read at one moment), or not at all.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

_POWERS = tuple(Fraction(10) ** power for power in (-3, -2, -1, 1, 2, 3))
"""Factors that tell a wrong resolution by the size of registers that stand still."""


class Cause(enum.StrEnum):
    """Why a total may differ from the sum of its rates."""

    RATIO = "ratio"
    NOT_READ = "not_read"
    MOMENTS = "moments"
    STANDING = "standing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Registers:
    """A total and its parts at one moment, in one unit."""

    at_ms: int
    total: Fraction
    parts: tuple[Fraction, ...]

    @property
    def difference(self) -> Fraction:
        """What the parts do not explain of the total."""
        return self.total - sum(self.parts)


@dataclass(frozen=True, slots=True)
class Broken:
    """A total that is not the sum of its parts, as last seen.

    For Cause.RATIO part number `part` shows `factor` times what it should.
    """

    last: Registers
    tolerance: Fraction
    cause: Cause
    part: int | None = None
    factor: Fraction | None = None


def judge(course: Sequence[Registers], digits: Sequence[Fraction]) -> Broken | None:
    """Judge registers of ascending times; `digits` are the last digits of the total and each part.

    None when the total is the sum of its parts at the last of these times, or there is none.
    """
    tolerance = sum(digits, Fraction(0))
    if not course or abs(course[-1].difference) <= tolerance:
        return None
    last = course[-1]
    for part in range(len(last.parts)):
        factor = _wrong_factor(course, part, tolerance)
        if factor is not None:
            return Broken(last, tolerance, Cause.RATIO, part, factor)
    return Broken(last, tolerance, _cause(course, tolerance))


def _wrong_factor(course: Sequence[Registers], part: int, tolerance: Fraction) -> Fraction | None:
    """Return how many times what it should this part shows, if one factor explains every moment."""
    last = course[-1]
    shown, should = last.parts[part], last.parts[part] + last.difference
    if shown <= 0 or should <= 0:
        return None
    is_moving = shown - course[0].parts[part] > tolerance
    factors = [factor for factor in _POWERS if _explains(factor, last, part, tolerance)]
    if is_moving:
        factors.append(shown / should)
    fits = (f for f in factors if all(_explains(f, one, part, tolerance) for one in course))
    return next(fits, None)


def _explains(factor: Fraction, one: Registers, part: int, tolerance: Fraction) -> bool:
    left = one.parts[part] / factor - one.parts[part] - one.difference
    return abs(left) <= tolerance * max(Fraction(1), 1 / factor)


def _cause(course: Sequence[Registers], tolerance: Fraction) -> Cause:
    if len(course) == 1:
        return Cause.UNKNOWN
    steps = [after.difference - before.difference for before, after in itertools.pairwise(course)]
    holds = [abs(one.difference) <= tolerance for one in course]
    turns = sum(before != after for before, after in itertools.pairwise(holds))
    if turns > 1 or (max(steps) > tolerance and min(steps) < -tolerance):
        return Cause.MOMENTS
    grown = course[-1].difference - course[0].difference
    if abs(grown) <= 2 * tolerance:
        return Cause.STANDING
    return Cause.NOT_READ if grown > 0 else Cause.UNKNOWN
