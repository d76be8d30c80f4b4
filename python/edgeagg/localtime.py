"""The site's local time as the core takes it: the changes of its offset from UTC.

Owns the way from a zone's name to these numbers. The core itself knows no zones, so that the same
numbers give the same windows on any machine, whatever its time-zone database says.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


def offsets(zone: str, *, from_year: int, to_year: int) -> list[tuple[int, int]]:
    """Return (UTC ms, offset from UTC in ms) at the start and per change, both years included.

    Two changes within one day are taken for none; no zone has ever had them. Raise ValueError for
    a zone that the machine does not know.
    """
    try:
        known = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ValueError(f"unknown time zone {zone!r}: {error}") from None
    day = datetime(from_year, 1, 1, tzinfo=UTC)
    changes = [(_ms(day), _offset_ms(known, day))]
    while day.year <= to_year:
        following = day + timedelta(days=1)
        if _offset_ms(known, following) != changes[-1][1]:
            change = _first_change(known, day, following)
            changes.append((_ms(change), _offset_ms(known, change)))
        day = following
    return changes


def _first_change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Return the first second with another offset than `before`, by halving."""
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if _offset_ms(zone, middle) == _offset_ms(zone, before):
            before = middle
        else:
            after = middle
    return after


def _offset_ms(zone: ZoneInfo, at: datetime) -> int:
    return (at.astimezone(zone).utcoffset() or timedelta()) // _MS


def _ms(at: datetime) -> int:
    return (at - _EPOCH) // _MS
