"""Local days where clocks are changed, against the core's calendar and against the zones."""

from __future__ import annotations

import datetime as dt
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg import _core
from edgeagg.localdays import DAY_MS, LocalDays
from edgeagg.localtime import offsets

H_MS = 3_600_000
ZONES = ("Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Shanghai")


def days_of(zone: str) -> LocalDays:
    return LocalDays(offsets(zone, from_year=2015, to_year=2021))


def utc_ms(text: str, zone: str) -> int:
    at = dt.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone))
    return round(at.timestamp() * 1000)


@pytest.mark.parametrize(
    ("zone", "noon", "hours"),
    [
        ("Europe/Berlin", "2020-03-29T12:00", 23),
        ("Europe/Berlin", "2020-10-25T12:00", 25),
        ("Europe/Berlin", "2020-10-26T12:00", 24),
        ("America/Sao_Paulo", "2017-10-15T12:00", 23),  # its midnight did not exist
        ("America/Sao_Paulo", "2018-02-17T12:00", 25),  # its last hour came twice
        ("America/Sao_Paulo", "2018-02-18T12:00", 24),
        ("Australia/Lord_Howe", "2020-10-04T12:00", 23.5),
        ("Asia/Shanghai", "2020-10-25T12:00", 24),
    ],
)
def test_a_day_is_as_long_as_the_clock_makes_it(zone: str, noon: str, hours: float) -> None:
    at_ms = utc_ms(noon, zone)
    start_ms, end_ms = days_of(zone).bounds(at_ms)
    assert (end_ms - start_ms) / H_MS == hours
    assert start_ms < at_ms < end_ms


@given(st.sampled_from(ZONES), st.integers(1_420_000_000, 1_640_000_000))
def test_days_follow_one_another_and_are_the_cores(zone: str, at_s: int) -> None:
    changes = offsets(zone, from_year=2015, to_year=2021)
    days = LocalDays(changes)
    at_ms = at_s * 1_000
    start_ms, end_ms = days.bounds(at_ms)
    assert start_ms <= at_ms < end_ms
    assert days.bounds(start_ms) == days.bounds(end_ms - 1) == (start_ms, end_ms)
    assert days.bounds(end_ms)[0] == end_ms
    core = _core.Aggregator([(1_000, [False])], [DAY_MS], offsets=changes)
    core.push_row(0, at_ms - at_ms % 1_000, at_ms - at_ms % 1_000, [1], [0])
    core.push_row(0, at_ms + 3 * DAY_MS, at_ms + 3 * DAY_MS, [1], [0])
    cut = core.cut(at_ms + 3 * DAY_MS)
    assert cut is not None
    windows = [t for t in _core.decode(*cut.encode()) if t[0] == 2]
    assert windows[0][4][0][0] == start_ms
