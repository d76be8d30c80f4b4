"""Where windows begin by the clock on the wall, asked from Python's own time zones.

Owns no table and no arithmetic on offsets: it asks what the wall shows. It must not import the
core.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

HOUR_MS = 3_600_000
MONTH_MS = 31 * 24 * HOUR_MS
"""Stands for a month, however long that is."""
_MINUTE_MS = 60_000
_MIDNIGHT = datetime(1970, 1, 1)  # noqa: DTZ001 what a wall shows has no zone


@lru_cache(maxsize=4_096)
def bounds(at_ms: int, length_ms: int, zone: str) -> tuple[int, int]:
    """Return start and end of the window of this length that `at_ms` lies in."""
    if length_ms < HOUR_MS:
        start_ms = at_ms // length_ms * length_ms
        return start_ms, start_ms + length_ms
    if length_ms == HOUR_MS:
        return _hour(at_ms, zone)
    if length_ms == MONTH_MS:
        return _month(at_ms, zone)
    number = (_wall(at_ms, zone) - _MIDNIGHT) // timedelta(milliseconds=length_ms)
    # a clock set back shows a time for the second time: the window is one that had begun before
    while _reached_ms(number + 1, length_ms, zone) <= at_ms:
        number += 1
    while _reached_ms(number, length_ms, zone) > at_ms:
        number -= 1
    return _reached_ms(number, length_ms, zone), _reached_ms(number + 1, length_ms, zone)


def _wall(at_ms: int, zone: str) -> datetime:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
    return at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


def _reached_ms(number: int, length_ms: int, zone: str) -> int:
    """Return when the wall first shows so many lengths (no gap of the zones used hides one)."""
    wall = _MIDNIGHT + timedelta(milliseconds=number * length_ms)
    at = wall.replace(tzinfo=ZoneInfo(zone), fold=0)
    return int(at.timestamp()) * 1_000


def _month(at_ms: int, zone: str) -> tuple[int, int]:
    """Ask the wall for its month; no zone used changes its clock around the first midnight."""
    wall = _wall(at_ms, zone)
    first = datetime(wall.year, wall.month, 1)  # noqa: DTZ001 what a wall shows has no zone
    following = (first + timedelta(days=32)).replace(day=1)
    start, end = (it.replace(tzinfo=ZoneInfo(zone)).timestamp() for it in (first, following))
    return int(start) * 1_000, int(end) * 1_000


def _hour(at_ms: int, zone: str) -> tuple[int, int]:
    """Walk by minutes to where the wall shows a whole hour or has been changed."""
    start_ms = at_ms // _MINUTE_MS * _MINUTE_MS
    while not _begins_hour(start_ms, zone):
        start_ms -= _MINUTE_MS
    end_ms = start_ms + _MINUTE_MS
    while not _begins_hour(end_ms, zone):
        end_ms += _MINUTE_MS
    return start_ms, end_ms


def _begins_hour(at_ms: int, zone: str) -> bool:
    shown, before = _wall(at_ms, zone), _wall(at_ms - _MINUTE_MS, zone)
    return shown.minute == 0 or shown - before != timedelta(minutes=1)
