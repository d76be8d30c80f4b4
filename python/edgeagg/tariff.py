"""Tariff calendars: which rate is in force at an instant.

A tariff is a data file, because utilities change theirs every year: versions with the day they take
effect, each with day tables (which rate from which local time on), seasons (which table on which
day of the week) and holidays. Local time exists only here; what comes in and goes out is UTC.
"""

from __future__ import annotations

import bisect
import datetime as dt
import itertools
import re
import tomllib
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from edgeagg.errors import ConfigError
from edgeagg.tomltable import Table, hint

SHIPPED = Path(__file__).parent / "tariffs"
RATES_MAX = 255  # DL/T 645-2007 meters have up to 63
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MIN = 1440
_ONE_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A half-open stretch [start_ms, end_ms) of UTC with one rate."""

    start_ms: int
    end_ms: int
    rate: str


@dataclass(frozen=True, slots=True)
class DayTable:
    """Rates of one day: `rates[n]` holds from `starts_min[n]`, minutes of local time, on."""

    starts_min: tuple[int, ...]
    rates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Season:
    """From one day of the year to another, both included; a table for each weekday from Monday."""

    first: tuple[int, int]
    last: tuple[int, int]
    tables: tuple[DayTable, ...]

    def holds(self, day: dt.date) -> bool:
        """Tell whether the day lies in the season; one may run over New Year."""
        at = (day.month, day.day)
        if self.first <= self.last:
            return self.first <= at <= self.last
        return at >= self.first or at <= self.last


@dataclass(frozen=True, slots=True)
class Version:
    """What holds from the local day `since` on."""

    since: dt.date
    seasons: tuple[Season, ...]
    holidays: Mapping[dt.date, DayTable]

    def table(self, day: dt.date) -> DayTable:
        """Return the table of a day: the holiday's, else its season's."""
        holiday = self.holidays.get(day)
        if holiday is not None:
            return holiday
        season = next(season for season in self.seasons if season.holds(day))
        return season.tables[day.weekday()]


@dataclass(frozen=True, slots=True)
class Tariff:
    """All versions of one tariff, in the order of their days."""

    name: str
    title: str
    status: str
    sources: tuple[str, ...]
    zone: zoneinfo.ZoneInfo
    rates: tuple[str, ...]
    versions: tuple[Version, ...]

    def table(self, day: dt.date) -> DayTable:
        """Return the table of a local day; raise ValueError for one before the first version."""
        place = bisect.bisect_right(self.versions, day, key=lambda version: version.since)
        if not place:
            raise ValueError(
                f"tariff {self.name} holds from {self.versions[0].since} on, not on {day}"
            )
        return self.versions[place - 1].table(day)

    def stretches(self, start_ms: int, end_ms: int) -> Iterator[Stretch]:
        """Yield the stretches of equal rate that make up [start_ms, end_ms), in order."""
        waiting: Stretch | None = None
        for piece in self._pieces(start_ms, end_ms):
            if waiting is not None and waiting.rate == piece.rate:
                waiting = Stretch(waiting.start_ms, piece.end_ms, piece.rate)
                continue
            if waiting is not None:
                yield waiting
            waiting = piece
        if waiting is not None:
            yield waiting

    def _pieces(self, start_ms: int, end_ms: int) -> Iterator[Stretch]:
        day = dt.datetime.fromtimestamp(start_ms / 1000, self.zone).date()
        while start_ms < end_ms:
            table = self.table(day)
            next_day = day + _ONE_DAY
            for place, rate in enumerate(table.rates):
                is_last = place + 1 == len(table.rates)
                until_ms = (
                    self._utc_ms(next_day, 0)
                    if is_last
                    else self._utc_ms(day, table.starts_min[place + 1])
                )
                if until_ms > start_ms:
                    stop_ms = min(until_ms, end_ms)
                    yield Stretch(start_ms, stop_ms, rate)
                    start_ms = stop_ms
                if start_ms >= end_ms:
                    return
            day = next_day

    def _utc_ms(self, day: dt.date, minute: int) -> int:
        """Return when the clocks on the wall show this; the first time if they show it twice."""
        local = dt.datetime(
            day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=self.zone
        )
        return round(local.timestamp() * 1000)


def energy_by_rate(
    tariff: Tariff, windows: Iterable[tuple[int, int, Fraction]]
) -> dict[str, Fraction]:
    """Add up energies by rate; windows come as (start_ms, length_ms, energy), of one unit.

    Raises ValueError for a window that lies in two rates: shorter windows are needed then, because
    dividing its energy would be a guess.
    """
    sums = dict.fromkeys(tariff.rates, Fraction(0))
    for start_ms, length_ms, energy in windows:
        stretches = list(itertools.islice(tariff.stretches(start_ms, start_ms + length_ms), 2))
        if len(stretches) > 1:
            at = dt.datetime.fromtimestamp(stretches[0].end_ms / 1000, tariff.zone)
            raise ValueError(
                f"tariff {tariff.name} changes to {stretches[1].rate} at {at:%Y-%m-%d %H:%M}, "
                f"inside a window of {length_ms // 1000} s; use windows that end there"
            )
        sums[stretches[0].rate] += energy
    return sums


def names(directories: Sequence[Path] = ()) -> list[str]:
    """List every tariff that `load` finds, sorted."""
    return sorted({f.stem for folder in (*directories, SHIPPED) for f in folder.glob("*.toml")})


def load(name: str, directories: Sequence[Path] = ()) -> Tariff:
    """Read the tariff `name` from the first of `directories` that has it, or as shipped.

    Raises ConfigError naming the file, the key, what was found and what is allowed.
    """
    for folder in (*directories, SHIPPED):
        file = folder / f"{name}.toml"
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) and file.is_file():
            return _parse(name, file)
    where = ", ".join(str(folder) for folder in (*directories, SHIPPED))
    raise ConfigError(where, "tariff", f"no tariff {name!r}", hint(name, names(directories)))


def _parse(name: str, file: Path) -> Tariff:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(file, "file", str(error), "a readable TOML file in UTF-8") from error
    top = Table(file, "", content, "title status sources zone rates version")
    rates = top.texts("rates")
    if not 1 <= len(set(rates)) == len(rates) <= RATES_MAX:
        raise top.error("rates", ", ".join(rates), f"1 to {RATES_MAX} names, each once")
    versions = tuple(
        _version(table, rates) for table in top.array("version", "from tables season holiday")
    )
    days = [version.since for version in versions]
    if not days or days != sorted(set(days)):
        raise top.error("version", f"from {', '.join(map(str, days))}", "rising days, one or more")
    return Tariff(
        name=name,
        title=top.text("title"),
        status=top.text("status", ("verified", "draft")),
        sources=top.texts("sources"),
        zone=_zone(top),
        rates=rates,
        versions=versions,
    )


def _zone(table: Table) -> zoneinfo.ZoneInfo:
    zone = table.text("zone")
    try:
        return zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        raise table.error("zone", repr(zone), "a time zone such as Asia/Shanghai") from None


def _version(table: Table, rates: Sequence[str]) -> Version:
    tables = {
        name: _day_table(table, name, hours, rates) for name, hours in table.mappings("tables")
    }
    seasons = tuple(
        _season(season, tables)
        for season in table.array("season", f"from to table {' '.join(WEEKDAYS)}")
    )
    leap = dt.date(2024, 1, 1)
    for number in range(366):
        day = leap + number * _ONE_DAY
        count = sum(season.holds(day) for season in seasons)
        if count != 1:
            found = "no season" if not count else f"{count} seasons"
            raise table.error("season", f"{day:%m-%d} lies in {found}", "every day in one season")
    holidays: dict[dt.date, DayTable] = {}
    for holiday in table.array("holiday", "from to table"):
        chosen = _table_of(holiday, "table", tables)
        first, last = holiday.date("from"), holiday.date("to", holiday.date("from"))
        if last < first:
            raise holiday.error("to", str(last), f"{first} or later")
        for number in range((last - first).days + 1):
            holidays[first + number * _ONE_DAY] = chosen
    return Version(table.date("from"), seasons, holidays)


def _day_table(
    table: Table, name: str, hours: Mapping[str, object], rates: Sequence[str]
) -> DayTable:
    key = f"tables.{name}"
    starts = [_minute(table, key, text) for text in hours]
    if not starts or starts[0] != 0 or starts != sorted(set(starts)):
        raise table.error(key, ", ".join(hours) or "nothing", 'rising times from "00:00" on')
    for start, rate in hours.items():
        if rate not in rates:
            raise table.error(f"{key}.{start}", repr(rate), hint(str(rate), rates))
    return DayTable(tuple(starts), tuple(str(rate) for rate in hours.values()))


def _minute(table: Table, key: str, text: str) -> int:
    found = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", text)
    if not found:
        raise table.error(key, repr(text), 'a local time such as "06:30"')
    return int(found[1]) * 60 + int(found[2])


def _season(table: Table, tables: Mapping[str, DayTable]) -> Season:
    return Season(
        _day_of_year(table, "from"),
        _day_of_year(table, "to"),
        tuple(_table_of(table, day if table.has(day) else "table", tables) for day in WEEKDAYS),
    )


def _table_of(table: Table, key: str, tables: Mapping[str, DayTable]) -> DayTable:
    name = table.text(key)
    if name not in tables:
        raise table.error(key, f"no table {name!r}", hint(name, tables))
    return tables[name]


def _day_of_year(table: Table, key: str) -> tuple[int, int]:
    text = table.text(key)
    try:
        day = dt.date.fromisoformat(f"2024-{text}")
    except ValueError:
        raise table.error(key, repr(text), 'month and day, such as "07-01"') from None
    return day.month, day.day
