"""What totalisers did by their readings and the audits beside them: stretches of a running total.

Owns its own words for what a guard allows, apart from the core's; it knows no truth and no window's
energy. A plain totaliser's total is its register; a guarded one's begins at 0, rises by what is
between two readings, and over an audit by the energy that the audit names.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hil_tests.stored import Audit, Guard, Window

BRIDGE_PERIODS = 3
LATENESS_MS = 2_000  # a reading may enter its window this long behind the end
DOUBT_MS = 1_200_000  # so long a totaliser may be in doubt, and its windows wait
_HOUR_MS = 3_600_000
_ROLLOVER, _RESET, _REPLACED, _JUMP = 1, 2, 3, 4
_UNCOUNTED = frozenset({_RESET, _REPLACED, _JUMP})

Taken = tuple[int, int]
"""UTC ms and mantissa of one good reading."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a totaliser did between two good readings, in mantissas; totals may be others."""

    from_ms: int
    first: int
    to_ms: int
    last: int
    total: int  # at `from_ms`
    rise: int
    audit: Audit | None = None

    def holds(self, at_ms: int) -> bool:
        """Tell whether a moment lies between the readings, or at one of them."""
        return self.from_ms <= at_ms <= self.to_ms and self.from_ms < self.to_ms

    def touches(self, window: Window) -> bool:
        """Tell whether any of it lies in the window."""
        return window.start_ms <= self.to_ms and self.from_ms < window.end_ms

    def at(self, at_ms: int, first: Fraction, last: Fraction) -> Fraction:
        """Interpolate between what stood at its two ends."""
        return first + (last - first) * (at_ms - self.from_ms) / (self.to_ms - self.from_ms)

    def total_at(self, at_ms: int) -> Fraction:
        """Interpolate the running total."""
        return self.at(at_ms, Fraction(self.total), Fraction(self.total + self.rise))

    @property
    def offsets(self) -> tuple[int, int]:
        """By how much the totals at both ends are more than what was shown there."""
        return self.total - self.first, self.total + self.rise - self.last


@dataclass(frozen=True, slots=True)
class Course:
    """The good readings of one totaliser as stretches, and what no rule allows in them."""

    bridges: Sequence[Stretch]
    disturbed: Sequence[tuple[int, int]]
    """From when to when nothing need be known: falls, audits and what waits for them."""
    faults: Sequence[str]
    settled_ms: int

    def around(self, at_ms: int) -> list[Stretch]:
        """Return what a value at this moment may be interpolated in."""
        return [one for one in self.bridges if one.holds(at_ms)]

    def must_have(self, window: Window) -> bool:
        """Tell whether a window has readings enough for an energy, all of them in time."""
        return (
            bool(self.around(window.start_ms))
            and bool(self.around(window.end_ms))
            and window.end_ms <= self.settled_ms
        )

    def is_disturbed(self, window: Window) -> bool:
        """Tell whether what happened here may leave the window without energies."""
        return any(
            window.start_ms <= to_ms and from_ms < window.end_ms
            for from_ms, to_ms in self.disturbed
        )


def plain_course(readings: Sequence[Taken], *, period_ms: int) -> Course:
    """Follow a totaliser that nobody judges: where it falls, nothing is known."""
    bridge_ms = BRIDGE_PERIODS * period_ms
    stretches = [
        Stretch(from_ms, first, to_ms, last, first, last - first)
        for (from_ms, first), (to_ms, last) in itertools.pairwise(readings)
    ]
    return Course(
        [one for one in stretches if one.rise >= 0 and one.to_ms - one.from_ms <= bridge_ms],
        [(one.from_ms, one.to_ms) for one in stretches if one.rise < 0],
        [],
        _settled_ms(readings, bridge_ms),
    )


def guarded_course(
    readings: Sequence[Taken], audits: Sequence[Audit], guard: Guard, *, period_ms: int
) -> Course:
    """Follow a guarded totaliser from reading to reading, over a bridge where an audit is.

    What falls, or rises faster than the guard allows, without an audit is a fault, unless it is so
    young that the gateway may still be in doubt.
    """
    possible = [one for one in readings if _can_show(guard, one[1])]
    bridge_ms = BRIDGE_PERIODS * period_ms
    faults = [text for audit in audits for text in _audit_faults(audit, guard, dict(readings))]
    stretches, doubt_ms = [], None
    by_closing: dict[int, list[Audit]] = {}
    for audit in audits:
        by_closing.setdefault(audit.closing_ms, []).append(audit)
    walk = _walk(possible, by_closing)
    total = 0
    for from_reading, to_reading, bridge in walk:
        (from_ms, first), (to_ms, last) = from_reading, to_reading
        rise = last - first if bridge is None else bridge.energy
        if bridge is None and not 0 <= rise <= _rise_max(guard, to_ms - from_ms, period_ms):
            if possible[-1][0] - to_ms >= DOUBT_MS + bridge_ms:
                faults.append(f"{first} at {from_ms} goes on as {last} at {to_ms} and no audit")
            doubt_ms = from_ms
            break
        stretches.append(Stretch(from_ms, first, to_ms, last, total, rise, bridge))
        total += rise
    disturbed = [(one.closing_ms, one.opening_ms + DOUBT_MS + bridge_ms) for one in audits]
    if doubt_ms is not None:
        disturbed.append((doubt_ms, 2**62))
    return Course(
        [one for one in stretches if one.to_ms - one.from_ms <= _longest_ms(one, bridge_ms)],
        disturbed,
        faults,
        _settled_ms(readings, bridge_ms),
    )


def _walk(
    readings: Sequence[Taken], by_closing: Mapping[int, Sequence[Audit]]
) -> Iterator[tuple[Taken, Taken, Audit | None]]:
    """Yield neighbours; an audit leads from its closing reading straight to its opening one."""
    places = {at_ms: place for place, (at_ms, _) in enumerate(readings)}
    place = 0
    while place + 1 < len(readings):
        here = readings[place]
        audit = next(
            (one for one in by_closing.get(here[0], ()) if places.get(one.opening_ms, -1) > place),
            None,
        )
        following = place + 1 if audit is None else places[audit.opening_ms]
        yield here, readings[following], audit
        place = following


def _audit_faults(audit: Audit, guard: Guard, shown: Mapping[int, int]) -> Iterator[str]:
    """Yield what is wrong with an audit by itself: its readings, and the energy it names."""
    for what, at_ms, value in (
        ("closes", audit.closing_ms, audit.closing),
        ("opens", audit.opening_ms, audit.opening),
    ):
        if shown.get(at_ms) != value:
            yield f"an audit {what} with {value} at {at_ms}, where {shown.get(at_ms)} was read"
    rise = audit.opening - audit.closing
    if audit.kind in _UNCOUNTED:
        expected = 0
    elif audit.kind == _ROLLOVER:
        expected = rise + (guard.wraps_at or 0)
    else:
        expected = rise
    if audit.energy != expected or expected < 0:
        yield f"an audit of kind {audit.kind} at {audit.opening_ms} counts {audit.energy}"


def _can_show(guard: Guard, value: int) -> bool:
    return value >= 0 and (guard.wraps_at is None or value < guard.wraps_at)


def _rise_max(guard: Guard, elapsed_ms: int, period_ms: int) -> int:
    return guard.rate_max_per_h * (elapsed_ms + period_ms) // _HOUR_MS + 2 * guard.resolution


def _longest_ms(stretch: Stretch, bridge_ms: int) -> int:
    """Return over how long a time the total may be interpolated."""
    return bridge_ms if stretch.audit is None else bridge_ms + max(DOUBT_MS, bridge_ms)


def _settled_ms(readings: Sequence[Taken], bridge_ms: int) -> int:
    # a window waits this long for the totalisers beside this one
    return (readings[-1][0] if readings else 0) - LATENESS_MS - bridge_ms
