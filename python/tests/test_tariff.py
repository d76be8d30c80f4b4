"""Tariff calendars: rates by local time, versions by day, and the shipped tables."""

import datetime as dt
import itertools
import zoneinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg import tariff
from edgeagg.errors import ConfigError

SHANGHAI = zoneinfo.ZoneInfo("Asia/Shanghai")
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
HOUR_MS = 3_600_000
QUARTER_MS = 900_000
SMALL = """
title = "a small one"
status = "draft"
sources = ["a test"]
zone = "Europe/Berlin"
rates = ["day", "night", "holiday"]

[[version]]
from = 2026-01-01
[version.tables.work]
"00:00" = "night"
"06:00" = "day"
"22:00" = "night"
[version.tables.rest]
"00:00" = "night"
[version.tables.feast]
"00:00" = "holiday"
[[version.season]]
from = "01-01"
to = "12-31"
table = "work"
sat = "rest"
sun = "rest"
[[version.holiday]]
from = 2026-05-01
table = "feast"
[[version.holiday]]
from = 2026-12-25
to = 2026-12-26
table = "feast"

[[version]]
from = 2027-01-01
[version.tables.all]
"00:00" = "night"
[[version.season]]
from = "11-01"
to = "03-31"
table = "all"
[[version.season]]
from = "04-01"
to = "10-31"
table = "all"
"""


def ms(year, month, day, hour=0, minute=0, zone=SHANGHAI):
    return round(dt.datetime(year, month, day, hour, minute, tzinfo=zone).timestamp() * 1000)


def rate_at(known, at_ms):
    return next(known.stretches(at_ms, at_ms + 1)).rate


def small(folder, *changes, text=SMALL):
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    (folder / "small.toml").write_text(text, encoding="utf-8")
    return tariff.load("small", [folder])


@pytest.mark.parametrize("name", tariff.names())
def test_shipped_tariffs_cover_every_minute_of_a_leap_year(name):
    shipped = tariff.load(name)
    stretches = list(shipped.stretches(ms(2024, 1, 1), ms(2025, 1, 1)))
    assert stretches[0].start_ms == ms(2024, 1, 1)
    assert stretches[-1].end_ms == ms(2025, 1, 1)
    for before, after in itertools.pairwise(stretches):
        assert before.end_ms == after.start_ms
        assert before.rate != after.rate


@pytest.mark.parametrize(
    ("month", "hour", "rate"),
    [
        (7, 5, "valley"),
        (7, 7, "flat"),
        (7, 9, "peak"),
        (8, 12, "sharp"),
        (8, 13, "sharp"),
        (8, 14, "peak"),
        (9, 12, "peak"),
        (9, 15, "flat"),
        (1, 18, "peak"),
        (1, 19, "sharp"),
        (12, 20, "sharp"),
        (12, 21, "flat"),
        (3, 10, "peak"),
        (3, 11, "flat"),
        (11, 19, "peak"),
        (11, 22, "valley"),
    ],
)
def test_two_part_tariff_of_shanghai_by_month_and_hour(month, hour, rate):
    shipped = tariff.load("shanghai-two-part")
    assert rate_at(shipped, ms(2026, month, 15, hour)) == rate
    assert rate_at(shipped, ms(2026, month, 15, hour, 59)) == rate


def test_weekends_and_holidays_have_tables_of_their_own(tmp_path):
    known = small(tmp_path)
    at = {
        (2026, 4, 30): "day",  # a Thursday
        (2026, 5, 1): "holiday",
        (2026, 5, 2): "night",  # a Saturday
        (2026, 12, 24): "day",
        (2026, 12, 25): "holiday",
        (2026, 12, 26): "holiday",
        (2026, 12, 28): "day",
    }
    assert {day: rate_at(known, ms(*day, 12, zone=BERLIN)) for day in at} == at


def test_a_new_version_holds_from_its_local_midnight_on(tmp_path):
    known = small(tmp_path, ('"00:00" = "night"\n"06:00"', '"00:00" = "day"\n"06:00"'))
    midnight_ms = ms(2027, 1, 1, zone=BERLIN)
    assert rate_at(known, midnight_ms - 1) == "night"  # from 22:00 of the old version
    assert rate_at(known, midnight_ms + 7 * HOUR_MS) == "night"


def test_a_day_before_the_first_version_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match="holds from 2026-01-01 on, not on 2025-12-31"):
        rate_at(small(tmp_path), ms(2025, 12, 31, zone=BERLIN))


@pytest.mark.parametrize(
    ("day", "hours"),
    [((2026, 3, 27), 16), ((2026, 3, 29), 23), ((2026, 10, 25), 25)],
    ids=["a usual day", "the clocks go forward", "the clocks go back"],
)
def test_days_of_23_and_25_hours_are_covered_without_gap(tmp_path, day, hours):
    known = small(tmp_path)
    start_ms = ms(*day, zone=BERLIN)
    next_day = dt.date(*day) + dt.timedelta(days=1)
    end_ms = ms(next_day.year, next_day.month, next_day.day, zone=BERLIN)
    stretches = list(known.stretches(start_ms, end_ms))
    longest = max(stretches, key=lambda s: s.end_ms - s.start_ms)
    assert (longest.end_ms - longest.start_ms) == hours * HOUR_MS
    assert sum(s.end_ms - s.start_ms for s in stretches) == end_ms - start_ms


def test_a_rate_begins_when_its_time_is_shown_first_where_the_clocks_go_back(tmp_path):
    rest = '[version.tables.rest]\n"00:00" = "night"\n'
    known = small(tmp_path, (rest, f'{rest}"02:30" = "day"\n'))
    midnight_ms = ms(2026, 10, 25, zone=BERLIN)
    night, day = known.stretches(midnight_ms, ms(2026, 10, 26, zone=BERLIN))
    assert (night.rate, night.end_ms - midnight_ms) == ("night", 5 * HOUR_MS // 2)
    assert (day.rate, day.end_ms - midnight_ms) == ("day", 25 * HOUR_MS)


@given(
    start=st.integers(ms(2026, 1, 2), ms(2026, 12, 1)),
    parts=st.lists(st.integers(1, 40 * HOUR_MS), min_size=1, max_size=4),
)
def test_stretches_of_parts_are_those_of_the_whole(start, parts):
    known = tariff.load("shanghai-two-part")
    end = start + sum(parts)
    minutes = []
    for part in parts:
        minutes += [(s.rate, s.end_ms - s.start_ms) for s in known.stretches(start, start + part)]
        start += part
    whole = [(s.rate, s.end_ms - s.start_ms) for s in known.stretches(end - sum(parts), end)]

    def by_rate(pairs):
        return {rate: sum(long for r, long in pairs if r == rate) for rate in known.rates}

    assert by_rate(minutes) == by_rate(whole)


def test_energies_add_up_by_rate():
    known = tariff.load("shanghai-two-part")
    start_ms = ms(2026, 7, 1)
    windows = [(start_ms + n * QUARTER_MS, QUARTER_MS, 100 + n) for n in range(96)]
    sums = tariff.energy_by_rate(known, windows)
    assert sum(sums.values()) == sum(energy for _, _, energy in windows)
    assert sums["sharp"] == sum(100 + n for n in range(48, 56))


def test_a_window_in_two_rates_is_refused_not_divided():
    known = tariff.load("shanghai-two-part")
    window = (ms(2026, 7, 1, 5, 30), HOUR_MS, 7)
    with pytest.raises(ValueError, match="changes to flat at 2026-07-01 06:00"):
        tariff.energy_by_rate(known, [window])


MISTAKES = [
    ('zone = "Europe/Berlin"', 'zone = "Europe/Nowhere"', "zone: 'Europe/Nowhere'; a time zone"),
    ('"06:00" = "day"', '"6:00" = "day"', "tables.work: '6:00'; a local time"),
    ('"06:00" = "day"', '"06:00" = "dya"', "'dya'; did you mean 'day'"),
    ('"00:00" = "night"\n"06:00"', '"01:00" = "night"\n"06:00"', 'rising times from "00:00" on'),
    ('table = "work"', 'table = "wrok"', "no table 'wrok'; did you mean 'work'"),
    ('to = "03-31"', 'to = "03-30"', "03-31 lies in no season; every day in one season"),
    ('to = "03-31"', 'to = "04-01"', "04-01 lies in 2 seasons"),
    ('from = "04-01"', 'from = "04-31"', "'04-31'; month and day"),
    ("from = 2027-01-01", "from = 2026-01-01", "rising days, one or more"),
    ("to = 2026-12-26", "to = 2026-12-24", "2026-12-24; 2026-12-25 or later"),
    ("from = 2026-05-01", 'from = "1 May"', "a day such as 2026-07-01"),
    ('rates = ["day",', 'rates = ["night",', "1 to 255 names, each once"),
    ('title = "a small one"', 'titel = "a small one"', "titel: unknown key; did you mean 'title'"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES)
def test_a_mistake_names_file_key_what_was_found_and_what_is_allowed(tmp_path, old, new, message):
    with pytest.raises(ConfigError) as caught:
        small(tmp_path, (old, new))
    assert str(caught.value).startswith(f"{tmp_path}/small.toml: ")
    assert message in str(caught.value)


def test_an_unknown_tariff_names_those_that_are_known():
    with pytest.raises(ConfigError, match="shanghai-two-part"):
        tariff.load("shanghai-two-parts")


def test_a_tariff_may_have_as_many_rates_as_a_meter(tmp_path):
    rates = [f"t{n}" for n in range(1, 64)]
    quoted = ", ".join(f'"{rate}"' for rate in ["day", "night", "holiday", *rates])
    known = small(tmp_path, ('rates = ["day", "night", "holiday"]', f"rates = [{quoted}]"))
    assert len(known.rates) == 66
