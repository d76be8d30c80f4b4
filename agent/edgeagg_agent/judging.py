"""What core and statements are told of a catalogue: groups, guards, demands, local time.

And what is said of slots whose record the journal lost.
"""

from __future__ import annotations

from edgeagg._core import Aggregator, decode
from edgeagg.localdays import LocalDays
from edgeagg.model import Catalogue, Kind, PointInfo, Quality
from edgeagg.statement import DayBook


def day_book(catalogue: Catalogue) -> DayBook:
    """Return the book of days that nothing was read in yet."""
    local = catalogue.local_time
    days = LocalDays() if local is None else LocalDays(local.offsets)
    return DayBook([(len(group.points), group.totalisers) for group in catalogue.groups], days)


def make_aggregator(catalogue: Catalogue) -> Aggregator:
    """Return an aggregator that knows nothing yet."""
    local = catalogue.local_time
    every = [
        (number, place, point)
        for number, group in enumerate(catalogue.groups)
        for place, point in enumerate(group.points)
    ]
    return Aggregator(
        [(group.period_ms, list(map(_kind, group.points))) for group in catalogue.groups],
        catalogue.window_lengths_ms,
        offsets=None if local is None else local.offsets,
        statistics=[(number, place) for number, place, point in every if point.statistics],
        demands=[
            (number, place, point.demand.period_ms, point.demand.slip_ms)
            for number, place, point in every
            if point.demand is not None
        ],
    )


def begin(catalogue: Catalogue, aggregator: Aggregator, announced_ms: int) -> None:
    """Let the slots of groups that were never read count from the announcement on."""
    for number, group in enumerate(catalogue.groups):
        if aggregator.last_due_ms(number) is None:
            behind_ms = announced_ms // group.period_ms * group.period_ms
            aggregator.restart_group(number, behind_ms)


def declare_lost(catalogue: Catalogue, aggregator: Aggregator, payload: bytes) -> None:
    """Declare the slots between the last one known of a group and those of this record."""
    probe = make_aggregator(catalogue)
    probe.replay(payload)
    part = probe.cut(0)
    for _, group, _, _, columns in decode(*part.encode()) if part else ():
        first_due_ms, last_due_ms = columns[0][0], aggregator.last_due_ms(group)
        period_ms = catalogue.groups[group].period_ms
        if first_due_ms is None or last_due_ms is None:
            continue
        slots = (first_due_ms - last_due_ms) // period_ms - 1
        if slots > 0:
            gap_ms = last_due_ms + period_ms, first_due_ms - period_ms
            aggregator.push_gap(group, *gap_ms, slots, Quality.STOPPED)


def _kind(point: PointInfo) -> bool | tuple[int | None, int, int]:
    guard = point.guard
    if guard is None:
        return point.kind is Kind.TOTALISER
    return guard.wraps_at, guard.rate_max_per_h, guard.resolution
