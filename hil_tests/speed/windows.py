"""Windows beside the usual ways: `python -m hil_tests.speed.windows`, on one thread.

A million readings of 2,000 series, one a second each, in the order they come in, from the crate's
seeded generator. Every peer makes count, minimum, maximum, mean, first and last per series and
window of what lies in arrays already. Ours takes the same in row by row, as a gateway does, and
does more on the way: it weighs by time, judges totalisers, looks at qualities and lateness, makes
each row's journal record, and takes finished windows and the readings out for batches. Two more
polars queries come as near to that as one query can: the mean weighed by time, the time covered,
the worst quality and the energy of a totaliser, and with the statistics on top. Each row of ours
has its ratio to the simple query and to the one that comes nearest to it.

Then one poll of a meter of 44 points is pushed from Python. Ways whose package is not installed are
named and left out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import struct
import subprocess
import tempfile
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from edgeagg._core import Aggregator, ScanPlan

CRATE = Path(__file__).parents[2] / "aggregator-rs"
SERIES = 2_000
MINUTE_MS = 60_000
LENGTHS_MS = (MINUTE_MS, 15 * MINUTE_MS)
START_MS = 1_790_000_000_000
NAIVE_READINGS = 100_000
"""Plain Python is measured on a part: it takes seconds for the whole."""
POLL_POINTS, POLL_TOTALISERS = 44, 4
POLL_LENGTHS_MS = (15 * MINUTE_MS, 60 * MINUTE_MS, 24 * 60 * MINUTE_MS)
BATCH_REPEATS, POLL_REPEATS, POLLS = 5, 7, 500

HOLD_MS = 2_000
"""How long a value stands for its series: two of its periods."""
POLARS, POLARS_AS_OURS = "polars group_by", "polars, near to ours"
POLARS_STATISTICS = "polars, near to ours, statistics"
STATISTICS = ("60 s, statistics", "60 s, all features")
"""The cases of ours that have standard deviation and percentiles of every series."""
LEGEND = (
    "ours, rows in, records, windows and readings out; rows of 40 points unless said otherwise",
    "  totalisers: 4 of 40 points are judged, with energy; the others are gauges",
    "  statistics: deviation and two percentiles of every point; all features: one demand, too",
)

Way = Callable[[int], int]
"""Aggregate into windows of so many milliseconds; return how many there are."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings in the order they came in."""

    series: array[int]
    at_ms: array[int]
    values: array[int]

    @classmethod
    def of(cls, values: array[int], series: int) -> Columns:
        """Return the columns of rows that hold a value of each series."""
        seconds = len(values) // series
        numbers = array("q", list(range(series)) * seconds)
        times = (START_MS + second * 1_000 + 40 for second in range(seconds) for _ in range(series))
        return cls(numbers, array("q", times), values)


def _optional(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _plain(columns: Columns) -> Way:
    def aggregate(length_ms: int) -> int:
        slots: dict[tuple[int, int], list[int]] = {}
        for series, at_ms, value in zip(columns.series, columns.at_ms, columns.values, strict=True):
            key = series, at_ms // length_ms
            slot = slots.get(key)
            if slot is None:
                slots[key] = [1, value, value, value, value, value]
                continue
            slot[0] += 1
            slot[1] = min(slot[1], value)
            slot[2] = max(slot[2], value)
            slot[3] += value
            slot[5] = value
        return len(slots)

    return aggregate


def _numpy(numpy: ModuleType, columns: Columns) -> Way:
    series, at_ms, values = (
        numpy.frombuffer(column, dtype=numpy.int64)
        for column in (columns.series, columns.at_ms, columns.values)
    )
    number = int(series.max()) + 1

    def aggregate(length_ms: int) -> int:
        windows = at_ms // length_ms
        keys = (windows - windows[0]) * number + series
        order = numpy.argsort(keys, kind="stable")
        ranked, sorted_values = keys[order], values[order]
        starts = numpy.flatnonzero(numpy.r_[True, ranked[1:] != ranked[:-1]])
        counts = numpy.diff(numpy.r_[starts, len(ranked)])
        numpy.minimum.reduceat(sorted_values, starts)
        numpy.maximum.reduceat(sorted_values, starts)
        numpy.add.reduceat(sorted_values, starts) / counts
        _ = sorted_values[starts], sorted_values[starts + counts - 1]
        return len(starts)

    return aggregate


def _polars(polars: ModuleType, columns: Columns) -> Way:
    frame = polars.DataFrame(
        {"series": columns.series, "at_ms": columns.at_ms, "value": columns.values}
    )
    value = polars.col("value")
    wanted = [
        value.len().alias("count"),
        *(value.min().alias("min"), value.max().alias("max"), value.mean().alias("mean")),
        *(value.first().alias("first"), value.last().alias("last")),
    ]

    def aggregate(length_ms: int) -> int:
        window = (polars.col("at_ms") // length_ms).alias("window")
        return len(frame.lazy().group_by("series", window).agg(wanted).collect())

    return aggregate


def _polars_as_ours(polars: ModuleType, columns: Columns, *, with_statistics: bool) -> Way:
    """Come near to what ours does; no totaliser is judged and no value split between windows."""
    frame = polars.DataFrame(
        {
            "series": columns.series,
            "at_ms": columns.at_ms,
            "value": columns.values,
            "quality": array("B", bytes(len(columns.values))),
        },
        schema_overrides={"quality": polars.UInt8},
    )
    value, at_ms, held_ms = (polars.col(name) for name in ("value", "at_ms", "held_ms"))
    following = (at_ms.shift(-1) - at_ms).clip(upper_bound=HOLD_MS).fill_null(0)
    wanted = [
        *(value.len().alias("count"), value.min().alias("min"), value.max().alias("max")),
        ((value * held_ms).sum() / held_ms.sum()).alias("mean"),
        *(value.first().alias("first"), value.last().alias("last")),
        (polars.col("next").last() - value.first()).alias("energy"),
        *(held_ms.sum().alias("covered_ms"), polars.col("quality").max().alias("worst")),
    ]
    if with_statistics:
        wanted += [value.std().alias("deviation")]
        wanted += [value.quantile(part).alias(f"{part}") for part in (0.5, 0.95)]

    def aggregate(length_ms: int) -> int:
        steps = frame.lazy().with_columns(
            (at_ms // length_ms).alias("window"),
            following.over("series").alias("held_ms"),
            value.shift(-1).over("series").alias("next"),
        )
        return len(steps.group_by("series", "window").agg(wanted).collect())

    return aggregate


def _pandas(pandas: ModuleType, columns: Columns) -> Way:
    frame = pandas.DataFrame(
        {"series": columns.series, "at_ms": columns.at_ms, "value": columns.values}
    )

    def aggregate(length_ms: int) -> int:
        groups = frame.groupby([frame["series"], frame["at_ms"] // length_ms], sort=False)
        return len(groups["value"].agg(["count", "min", "max", "mean", "first", "last"]))

    return aggregate


def _duckdb(duckdb: ModuleType, numpy: ModuleType, columns: Columns) -> Way:
    connection = duckdb.connect()
    connection.execute("set threads to 1")
    for name in ("series", "at_ms", "values"):
        column = numpy.frombuffer(getattr(columns, name), dtype=numpy.int64)
        connection.register(name, {name: column})
    connection.execute(
        'create table readings as select series.series, at_ms.at_ms, "values"."values" as value'
        ' from series positional join at_ms positional join "values"'
    )

    def aggregate(length_ms: int) -> int:
        rows = connection.execute(
            "select series, at_ms // ?, count(*), min(value), max(value), avg(value),"
            " first(value), last(value) from readings group by all",
            [length_ms],
        ).fetchnumpy()
        return len(rows["series"])

    return aggregate


def peers(columns: Columns) -> tuple[dict[str, Way], list[str]]:
    """Return the ways that can be measured here, and the packages that are missing."""
    found = {name: _optional(name) for name in ("numpy", "polars", "pandas", "duckdb")}
    ways: dict[str, Way] = {}
    numpy = found["numpy"]
    if numpy is not None:
        ways["numpy sort + reduceat"] = _numpy(numpy, columns)
    if found["polars"] is not None:
        polars = found["polars"]
        ways[POLARS] = _polars(polars, columns)
        ways[POLARS_AS_OURS] = _polars_as_ours(polars, columns, with_statistics=False)
        ways[POLARS_STATISTICS] = _polars_as_ours(polars, columns, with_statistics=True)
    if found["pandas"] is not None:
        ways["pandas groupby"] = _pandas(found["pandas"], columns)
    if found["duckdb"] is not None and numpy is not None:
        ways["duckdb group by"] = _duckdb(found["duckdb"], numpy, columns)
    return ways, sorted(name for name, module in found.items() if module is None)


def best_s(repeats: int, work: Callable[[], object]) -> float:
    """Return the seconds of the fastest run."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best


def ours(folder: Path, seed: int) -> list[dict[str, Any]]:
    """Run the crate's bench; it leaves its readings in the folder."""
    command = ["cargo", "bench", "--quiet", "--locked", "--bench", "windows"]
    command += ["--manifest-path", str(CRATE / "Cargo.toml"), "--"]
    command += ["--seed", str(seed), "--export", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def batch_rates(columns: Columns) -> tuple[dict[str, dict[int, float]], list[str]]:
    """Return million readings a second, by peer and window length."""
    ways, missing = peers(columns)
    rates = {}
    for name, way in ways.items():
        rates[name] = {
            length_ms: len(columns.values) / 1e6 / best_s(BATCH_REPEATS, partial(way, length_ms))
            for length_ms in LENGTHS_MS
        }
    few = Columns(
        columns.series[:NAIVE_READINGS],
        columns.at_ms[:NAIVE_READINGS],
        columns.values[:NAIVE_READINGS],
    )
    plain = _plain(few)
    rates["plain Python"] = {
        length_ms: NAIVE_READINGS / 1e6 / best_s(2, partial(plain, length_ms))
        for length_ms in LENGTHS_MS
    }
    return rates, missing


def _poll_aggregator() -> Aggregator:
    guard = (1_000_000_000, 40_000, 1)
    kinds: list[bool | tuple[int, int, int]] = [
        *[False] * (POLL_POINTS - POLL_TOTALISERS),
        *[guard] * POLL_TOTALISERS,
    ]
    return Aggregator([(1_000, kinds)], POLL_LENGTHS_MS)


def _push_rows(rows: Sequence[list[int]]) -> float:
    """Return the seconds that pushing the rows took, each with its journal record."""
    aggregator, good, due_ms = _poll_aggregator(), bytes(POLL_POINTS), START_MS
    start = time.perf_counter()
    for row in rows:
        due_ms += 1_000
        aggregator.push_row(0, due_ms, due_ms + 40, row, good)
    return time.perf_counter() - start


def _push_scans(rows: Sequence[list[int]]) -> float:
    """Return the seconds that the same took from the bytes of a reply."""
    one = (1, 1)
    places = (4 * place for place in range(POLL_POINTS))
    parts = [
        (0, (at, "u32", "ABCD", one), 0, None, list[int](), None, None, False) for at in places
    ]
    plan = ScanPlan(1, parts)
    replies = [[struct.pack(f">{POLL_POINTS}I", *row)] for row in rows]
    aggregator, due_ms = _poll_aggregator(), START_MS
    start = time.perf_counter()
    for reply in replies:
        due_ms += 1_000
        aggregator.push_scan(0, due_ms, due_ms + 40, plan, reply)
    return time.perf_counter() - start


def poll_costs(values: Sequence[int]) -> dict[str, float]:
    """Return microseconds per poll of a meter, by way; the peers aggregate one poll."""
    first = values[:POLL_POINTS]
    totalisers = range(POLL_POINTS - POLL_TOTALISERS, POLL_POINTS)
    rows = [
        [one + (turn if place in totalisers else turn % 7) for place, one in enumerate(first)]
        for turn in range(POLLS)
    ]
    costs = {
        "ours, push_row": min(_push_rows(rows) for _ in range(POLL_REPEATS)) / POLLS,
        "ours, push_scan (decoding, too)": min(_push_scans(rows) for _ in range(POLL_REPEATS))
        / POLLS,
    }
    columns = Columns.of(array("q", first), POLL_POINTS)
    ways = {"plain Python": _plain(columns), **peers(columns)[0]}
    for name, way in ways.items():
        costs[name] = best_s(5 * POLL_REPEATS, partial(way, MINUTE_MS))
    return {name: seconds * 1e6 for name, seconds in costs.items()}


def table(
    own: Sequence[dict[str, Any]],
    rates: dict[str, dict[int, float]],
    polls: dict[str, float],
) -> list[str]:
    """Lay everything out, with ratios."""
    lines = ["million readings a second, 1 M readings of 2,000 series, one thread"]
    lines += [f"{'':34}{'60 s':>10}{'15 min':>10}{'to polars, 60 s':>18}{'to the nearest':>18}"]

    def beside(rate: float, name: str) -> str:
        peer = rates.get(name, {}).get(MINUTE_MS)
        return f"{rate / peer:>16.1f} x" if peer else f"{'-':>18}"

    for name, by_length in rates.items():
        cells = "".join(f"{by_length[length_ms]:>10.2f}" for length_ms in LENGTHS_MS)
        lines.append(f"{name:34}{cells}{beside(by_length[MINUTE_MS], POLARS)}")
    lines += LEGEND
    for case in own:
        nearest = POLARS_STATISTICS if case["case"] in STATISTICS else POLARS_AS_OURS
        rate = case["readings"] / (case["push_s"] + case["cut_s"]) / 1e6
        ratios = beside(rate, POLARS) + beside(rate, nearest)
        lines.append(f"  {case['case']:32}{rate:>10.2f}{'':10}{ratios}")
    lines.append(f"microseconds per poll of {POLL_POINTS} points, from Python")
    best = polls["ours, push_row"]
    lines += [f"{name:34}{cost:>10.2f}{cost / best:>10.1f} x" for name, cost in polls.items()]
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m hil_tests.speed.windows", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    words = parser.parse_args()
    # read by the peers when they are imported
    os.environ["POLARS_MAX_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        own = ours(Path(name), words.seed)
        values = array("q", (Path(name) / "readings.i64").read_bytes())
    rates, missing = batch_rates(Columns.of(values, SERIES))
    if missing:
        print("not installed, so not measured:", ", ".join(missing))
    print("\n".join(table(own, rates, poll_costs(values))))


if __name__ == "__main__":
    main()
