"""What a gateway makes of readings besides windows: audits, uncertainties, statistics, demands.

Rows with names, checked against the catalogue that asked for them; the numbers are the core's.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeagg.cells import Columns, check_width, count, number, time
from edgeagg.errors import FormatError
from edgeagg.model import Group, PointInfo

_AUDIT_COLUMNS = 9
_DEMAND_COLUMNS = 8
_WINDOW_LEAD = 2  # start_ms and length
_STATISTICS = 3


class AuditKind(enum.IntEnum):
    """Why a totaliser's line was left. The numbers are part of the batch format."""

    ROLLOVER = 1  # it passed its last number and went on from 0
    RESET = 2  # it went on from a lower number
    REPLACED = 3  # another meter was found in its place
    JUMP = 4  # it went on from a number higher than it can have counted
    FREEZE = 5  # it stood still and caught up
    DIP = 6  # it showed less for a while
    GLITCH = 7  # it showed what it cannot have counted, for a while
    GAP = 8  # nobody read sense from it for too long to interpolate


@dataclass(frozen=True, slots=True)
class AuditRow:
    """How the course of a guarded totaliser was bridged; `point` is its place in the group.

    `energy` was counted between the two readings, `doubted` values in between were set aside, of
    which `extreme` lay furthest off. Values are mantissas.
    """

    group: Group
    point: int
    kind: AuditKind
    closing_ms: int
    closing: int
    opening_ms: int
    opening: int
    energy: int
    doubted: int
    extreme: int | None


@dataclass(frozen=True, slots=True)
class UncertaintyRow:
    """How far the energies of a window can be off for being interpolated, an entry per point."""

    group: Group
    length_ms: int
    start_ms: int
    errors: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class StatisticsRow:
    """Standard deviation (three more decimals) and percentiles of a window, an entry per point."""

    group: Group
    length_ms: int
    start_ms: int
    deviations: tuple[int | None, ...]
    medians: tuple[int | None, ...]
    p95s: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class DemandRow:
    """The greatest demand of one point on one local day, and when the period of it ended.

    Of a totaliser in its own mantissas per hour, of a gauge with three more decimals than the
    point. `periods` is how many block periods were known.
    """

    group: Group
    point: int
    start_ms: int
    length_ms: int
    block: int | None
    block_end_ms: int | None
    sliding: int | None
    sliding_end_ms: int | None
    periods: int


def audits(group: Group, columns: Columns) -> Iterator[AuditRow]:
    """Yield the rows of a table of kind 4; raise FormatError where the catalogue has no guard."""
    check_width(group, columns, _AUDIT_COLUMNS)
    for place, kind, closing_ms, closing, opening_ms, opening, energy, doubted, extreme in zip(
        *columns, strict=True
    ):
        point = _point(group, place)
        if point.guard is None:
            raise FormatError(f"meter {group.meter}: an audit of {point.name}, which has no guard")
        if kind not in _KINDS:
            raise FormatError(f"meter {group.meter}: {kind!r} is no kind of audit")
        yield AuditRow(
            group,
            number(place),
            AuditKind(kind),
            time(closing_ms),
            number(closing),
            time(opening_ms),
            number(opening),
            count(energy),
            count(doubted),
            extreme,
        )


def uncertainties(group: Group, columns: Columns) -> Iterator[UncertaintyRow]:
    """Yield the rows of a table of kind 5."""
    wanted = [point.guard is not None for point in group.points]
    check_width(group, columns, _WINDOW_LEAD + sum(wanted))
    for start_ms, length_ms, *cells in zip(*columns, strict=True):
        yield UncertaintyRow(group, _length(length_ms), time(start_ms), _spread(wanted, cells))


def statistics(group: Group, columns: Columns) -> Iterator[StatisticsRow]:
    """Yield the rows of a table of kind 6."""
    wanted = [point.statistics for point in group.points]
    check_width(group, columns, _WINDOW_LEAD + _STATISTICS * sum(wanted))
    for start_ms, length_ms, *cells in zip(*columns, strict=True):
        parts = (_spread(wanted, cells[at::_STATISTICS]) for at in range(_STATISTICS))
        yield StatisticsRow(group, _length(length_ms), time(start_ms), *parts)


def demands(group: Group, columns: Columns) -> Iterator[DemandRow]:
    """Yield the rows of a table of kind 7."""
    check_width(group, columns, _DEMAND_COLUMNS)
    for place, start_ms, length_ms, block, block_ms, sliding, sliding_ms, periods in zip(
        *columns, strict=True
    ):
        point = _point(group, place)
        if point.demand is None:
            raise FormatError(f"meter {group.meter}: a demand of {point.name}, which has none")
        yield DemandRow(
            group,
            number(place),
            time(start_ms),
            _length(length_ms),
            block,
            None if block_ms is None else time(block_ms),
            sliding,
            None if sliding_ms is None else time(sliding_ms),
            count(periods),
        )


_KINDS = frozenset(int(kind) for kind in AuditKind)


def _point(group: Group, place: int | None) -> PointInfo:
    if place is None or not 0 <= place < len(group.points):
        raise FormatError(f"meter {group.meter} has no point {place!r}")
    return group.points[place]


def _length(value: int | None) -> int:
    if value is None or not 0 < value < 2**32:
        raise FormatError(f"{value!r} is not a length of time")
    return value


def _spread(wanted: Sequence[bool], cells: Sequence[int | None]) -> tuple[int | None, ...]:
    """Put the cells where they belong among all points of the group."""
    found = iter(cells)
    return tuple(next(found) if is_there else None for is_there in wanted)
