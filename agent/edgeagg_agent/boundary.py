"""Reads around the quarter hours, so that their energy is known there.

Pure arithmetic. A totaliser's value at :00, :15, :30 or :45 is interpolated between a reading
before it and one behind it, and is as good as these are near.

No slot is added for this, and none is moved: slots stay multiples of their period, each is one row.
A slot may be read at any time until the next one falls due. So the last slot before a boundary is
not read when it falls due but as late as the bus can promise (`lead_ms` before the boundary), and
the slot on the boundary goes first behind it. For this a slot must stand on the boundary and one
before it: the period has to be a part of 15 minutes, and at most half of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

QUARTER_MS = 900_000
PERIOD_MAX_MS = QUARTER_MS // 2
MARGIN_MS = 200  # for a task that wakes late, on a board with other work


@dataclass(frozen=True, slots=True)
class Load:
    """What one group asks of the bus: `cost_ms` of bus time in every period."""

    period_ms: int
    cost_ms: int
    is_billed: bool = False  # it has totalisers


def brackets(period_ms: int) -> bool:
    """Tell whether slots of this period can be read on both sides of every boundary."""
    return period_ms <= PERIOD_MAX_MS and QUARTER_MS % period_ms == 0


def bracketing_period_ms(period_ms: int) -> int:
    """Return the longest period up to this one whose slots bracket every boundary.

    A period beyond 15 minutes is returned as it is: it was not meant to bracket anything.
    """
    if period_ms > QUARTER_MS or brackets(period_ms):
        return period_ms
    parts = max(2, -(-QUARTER_MS // period_ms))
    while QUARTER_MS % parts:
        parts += 1
    return QUARTER_MS // parts


def lead_ms(loads: Iterable[Load], *, blocking_ms: int) -> int:
    """Return how long before and behind a boundary all totalisers of the bus are read.

    It is the shortest time L such that in every span of at least L up to the boundary the bus has
    time for one read of every totaliser group, for all others that fall due and expire inside the
    span, and for `blocking_ms`, the longest read, time-out or retry that is under way. Then reading
    the earliest deadline first makes no slot late. At most half a quarter hour.
    """
    known = list(loads)
    billed = [load for load in known if load.is_billed]
    if not billed:
        return 0
    fixed_ms = blocking_ms + MARGIN_MS
    share = sum(load.cost_ms / load.period_ms for load in known)
    needed_ms = fixed_ms + sum(load.cost_ms for load in billed)
    # beyond the horizon there is time enough, whatever the periods
    horizon_ms = int(needed_ms / (1 - share)) + 1 if share < 1 else PERIOD_MAX_MS
    horizon_ms = min(horizon_ms, PERIOD_MAX_MS)
    jumps = {0} | {
        n * period_ms
        for period_ms in {load.period_ms for load in known}
        for n in range(1, horizon_ms // period_ms + 1)
    }
    behind_ms = horizon_ms
    for jump_ms in sorted(jumps, reverse=True):
        demand_ms = fixed_ms + _demand_ms(known, jump_ms)
        if demand_ms > jump_ms:
            return min(demand_ms, behind_ms)
        behind_ms = jump_ms
    return behind_ms


def distance_ms(period_ms: int, lead: int) -> int:
    """Return how far from a boundary the readings next to it may be taken, on the worse side."""
    return min(period_ms, lead) if brackets(period_ms) else period_ms


def release_ms(due_ms: int, period_ms: int, lead: int) -> int:
    """Return from when on the slot of a totaliser group is to be read."""
    end_ms = due_ms + period_ms
    if end_ms % QUARTER_MS == 0 and brackets(period_ms):
        return max(due_ms, end_ms - lead)
    return due_ms


def deadline_ms(due_ms: int, period_ms: int, lead: int) -> int:
    """Return until when the slot of a totaliser group is to be read."""
    end_ms = due_ms + period_ms
    return min(end_ms, due_ms + lead) if due_ms % QUARTER_MS == 0 else end_ms


def _demand_ms(loads: Sequence[Load], span_ms: int) -> int:
    """Return the bus time of what must be read within a span that ends at a boundary."""
    return sum(load.cost_ms * max(span_ms // load.period_ms, int(load.is_billed)) for load in loads)
