"""History as rows of texts with named columns, and as files: table, CSV, JSON, Parquet.

Values are the exact decimals that were recorded; times stand in UTC and in the site's local time.
"""

from __future__ import annotations

import csv
import importlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import IO, Any
from zoneinfo import ZoneInfo

from edgeagg.content import ReadingRow, WindowRow
from edgeagg.errors import ConfigError
from edgeagg.model import Kind, Quality
from edgeagg_agent.decimals import decimal_text
from edgeagg_agent.history import Asked, Part

Row = tuple[str | None, ...]

READING_COLUMNS = ("utc", "local", "read_utc", "meter", "point", "value", "unit", "quality")
WINDOW_COLUMNS = (
    *("utc", "local", "end_utc", "meter", "point", "slots", "values", "min", "max", "mean"),
    *("first", "last", "energy", "unit", "covered_s", "worst"),
)
NUMBERS = frozenset(
    ("value", "slots", "values", "min", "max", "mean", "first", "last", "energy", "covered_s")
)
_TIMES = frozenset(("utc", "read_utc", "end_utc"))
_MEAN_DECIMALS = 3
_PARQUET_ROWS = 65_536
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def columns(asked: Asked) -> tuple[str, ...]:
    """Return the names of the columns of `rows`."""
    return READING_COLUMNS if asked.length_ms is None else WINDOW_COLUMNS


def rows(part: Part, asked: Asked, zone: ZoneInfo) -> Iterator[Row]:
    """Yield what is asked for of one part, one row per point and time."""
    if asked.length_ms is None:
        for reading in part.content.readings:
            if asked.since_ms <= reading.due_ms < asked.until_ms:
                yield from _reading(reading, asked, zone)
        return
    for window in part.content.windows:
        if window.length_ms == asked.length_ms and (
            asked.since_ms <= window.start_ms < asked.until_ms
        ):
            yield from _window(window, asked, zone)


def _reading(row: ReadingRow, asked: Asked, zone: ZoneInfo) -> Iterator[Row]:
    times = utc(row.due_ms), _local(row.due_ms, zone), utc(row.at_ms), row.group.meter
    for point, mantissa, quality in zip(
        row.group.points, row.mantissas, row.qualities, strict=True
    ):
        if asked.point in {None, point.name}:
            value = decimal_text(mantissa, point.exponent)
            yield *times, point.name, value, point.unit, Quality(quality).name.lower()


def _window(row: WindowRow, asked: Asked, zone: ZoneInfo) -> Iterator[Row]:
    end_ms = row.start_ms + row.length_ms
    times = utc(row.start_ms), _local(row.start_ms, zone), utc(end_ms), row.group.meter
    for place, point in enumerate(row.group.points):
        if asked.point not in {None, point.name}:
            continue
        numbers = (row.minima, row.maxima, row.means, row.firsts, row.lasts, row.energies)
        low, high, mean, first, last, energy = (
            decimal_text(column[place], point.exponent - (_MEAN_DECIMALS if is_mean else 0))
            for column, is_mean in zip(
                numbers, (False, False, True, False, False, False), strict=True
            )
        )
        worst = row.worst[place]
        yield (
            *(*times, point.name, str(row.slots[place]), str(row.values[place])),
            *(low, high, mean, first, last),
            energy if point.kind is Kind.TOTALISER else None,
            point.unit,
            decimal_text(row.covered_ms[place], -3),
            None if worst is None else Quality(worst).name.lower(),
        )


def utc(at_ms: int) -> str:
    """Return a time in UTC with milliseconds."""
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"


def _local(at_ms: int, zone: ZoneInfo) -> str:
    moment = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone)
    return moment.isoformat(timespec="milliseconds")


def write_table(names: tuple[str, ...], found: Iterable[Row], out: IO[str]) -> None:
    """Write aligned columns; those who look want no more than a screen of them at once."""
    found = iter(found)
    while page := list(itertools.islice(found, 200)):
        texts = [names, *(tuple(cell or "-" for cell in row) for row in page)]
        widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
        for row in texts:
            cells = (
                text.rjust(width) if name in NUMBERS else text.ljust(width)
                for name, text, width in zip(names, row, widths, strict=True)
            )
            out.write("  ".join(cells).rstrip() + "\n")


def write_csv(names: tuple[str, ...], found: Iterable[Row], out: IO[str]) -> None:
    """Write RFC 4180 with a head; where there is no value the field is empty."""
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows(found)


def write_json(names: tuple[str, ...], found: Iterable[Row], out: IO[str]) -> None:
    """Write one array of objects; numbers keep every digit."""
    out.write("[")
    for place, row in enumerate(found):
        fields = (
            f"{json.dumps(name)}: {_json(name, cell)}"
            for name, cell in zip(names, row, strict=True)
        )
        out.write(f"{',' if place else ''}\n {{{', '.join(fields)}}}")
    out.write("\n]\n")


def _json(name: str, cell: str | None) -> str:
    if cell is None:
        return "null"
    return cell if name in NUMBERS else json.dumps(cell, ensure_ascii=False)


def write_parquet(names: tuple[str, ...], found: Iterable[Row], out: IO[bytes]) -> None:
    """Write a Parquet file: UTC times as timestamps, numbers as doubles; needs pyarrow."""
    arrow, parquet = need_parquet()
    kinds: dict[str, tuple[Any, Callable[[str], Any]]] = {
        **{name: (arrow.timestamp("ms", tz="UTC"), datetime.fromisoformat) for name in _TIMES},
        **{name: (arrow.float64(), float) for name in NUMBERS},
    }
    plain = (arrow.string(), str)
    schema = arrow.schema([(name, kinds.get(name, plain)[0]) for name in names])
    found = iter(found)
    with parquet.ParquetWriter(out, schema) as writer:
        while page := list(itertools.islice(found, _PARQUET_ROWS)):
            arrays = []
            for name, cells in zip(names, zip(*page, strict=True), strict=True):
                kind, read = kinds.get(name, plain)
                values = [None if cell is None else read(cell) for cell in cells]
                arrays.append(arrow.array(values, kind))
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def need_parquet() -> tuple[Any, Any]:
    """Return pyarrow and its Parquet module, which a gateway does without."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ConfigError(
            "--format",
            "parquet",
            "pyarrow is not installed",
            "pip install 'edgeagg-agent[parquet]', or take csv",
        ) from None
