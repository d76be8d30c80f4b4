"""What core and statements are told of a catalogue: groups, guards, demands, local time."""

from __future__ import annotations

from edgeagg._core import Aggregator
from edgeagg.localdays import LocalDays
from edgeagg.model import Catalogue, Kind, PointInfo
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


def _kind(point: PointInfo) -> bool | tuple[int | None, int, int]:
    guard = point.guard
    if guard is None:
        return point.kind is Kind.TOTALISER
    return guard.wraps_at, guard.rate_max_per_h, guard.resolution
