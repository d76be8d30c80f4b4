"""Checks of a payload's cells: a column of numbers comes in, or a FormatError goes out.

Owns what a time, a count and a quality may be. It knows no table and no row.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgeagg.errors import FormatError
from edgeagg.model import Group, Quality

Columns = Sequence[Sequence[int | None]]

_TIME_MAX_MS = 2**45  # the year 3084: a later time is a mistake, not a measurement
_QUALITIES = frozenset(int(quality) for quality in Quality)


def check_width(group: Group, columns: Columns, expected: int) -> None:
    """Refuse a table with other columns than the catalogue makes."""
    if len(columns) != expected:
        raise FormatError(
            f"meter {group.meter}: {len(columns)} columns, the catalogue makes {expected}"
        )


def number(value: int | None) -> int:
    """Return a number that must be there."""
    if value is None:
        raise FormatError("a number is missing")
    return value


def count(value: int | None) -> int:
    """Return a number that must be there and is not negative."""
    if number(value) < 0:
        raise FormatError(f"{value} is less than nothing")
    return number(value)


def time(value: int | None) -> int:
    """Return a time in UTC milliseconds."""
    if value is None or not 0 <= value < _TIME_MAX_MS:
        raise FormatError(f"{value!r} is not a time in milliseconds")
    return value


def quality(value: int | None) -> int:
    """Return a quality's number."""
    if value not in _QUALITIES:
        raise FormatError(f"{value!r} is not a quality")
    return int(value)
