"""The changes of local time, against dates that anybody can look up."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from edgeagg.localtime import offsets

HOUR_MS = 3_600_000


def utc_ms(year: int, month: int, day: int, hour: int = 0) -> int:
    return int(datetime(year, month, day, hour, tzinfo=UTC).timestamp()) * 1_000


def test_shanghai_is_eight_hours_ahead_all_year() -> None:
    assert offsets("Asia/Shanghai", from_year=2020, to_year=2040) == [
        (utc_ms(2020, 1, 1), 8 * HOUR_MS)
    ]


def test_central_europe_changes_at_one_oclock_utc_on_two_sundays() -> None:
    assert offsets("Europe/Berlin", from_year=2026, to_year=2026) == [
        (utc_ms(2026, 1, 1), HOUR_MS),
        (utc_ms(2026, 3, 29, 1), 2 * HOUR_MS),
        (utc_ms(2026, 10, 25, 1), HOUR_MS),
    ]


def test_the_last_day_of_the_last_year_is_looked_at_too() -> None:
    # Samoa crossed the date line at the end of 29 December 2011, local time
    changes = offsets("Pacific/Apia", from_year=2011, to_year=2011)
    assert changes[-1] == (utc_ms(2011, 12, 30, 10), 14 * HOUR_MS)


def test_a_zone_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="Asia/Qingpu"):
        offsets("Asia/Qingpu", from_year=2026, to_year=2026)
