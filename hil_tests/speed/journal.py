"""What keeping costs the disk, and what history takes: `python -m hil_tests.speed.journal`.

Three parts in one run: commits of our journal beside SQLite's on an ext4 of their own, by the bytes
that reach the device; a day of a whole gateway's writes; the history of 128 meters with 30 points
each, its size, the start on it and a query of one meter and day. Without root there is no disk of
our own: then the kernel's count of bytes sent to the disk stands in its place.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeagg._core import Aggregator, Journal
from edgeagg.batch import Batch, BatchKind
from edgeagg.model import Kind
from edgeagg_agent.history import Asked, History
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder
from hil_tests.speed.metering import METERS, POINTS, catalogue, hour

DAY_MS = 86_400_000
MINUTE_MS = 60_000
START_MS = 1_790_006_400_000  # a midnight in Shanghai, 22 September 2026
GATEWAY = "qp-bench"
PAYLOAD = os.urandom(250)
"""As many bytes as 128 meters with 30 points make in a second, when each is read once a minute."""
_SEGMENT_BYTES = 1 << 20
_IMAGE_BYTES = 96 << 20
_SECTOR_BYTES = 512
_RECORD_HEAD_BYTES = 20
_FOREVER = 1 << 40


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder, and how many bytes have reached what is below it."""

    folder: Path
    written_bytes: Callable[[], int]
    what: str


@contextlib.contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """Have an ext4 on a loop device below `folder`; without root, the folder itself."""
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        counted = Path("/proc/self/io")
        yield Disk(folder, lambda: _io_bytes(counted.read_text("utf-8")), "bytes sent to the disk")
        return
    image, mount = folder / "image", folder / "mount"
    mount.mkdir()
    image.touch()
    os.truncate(image, _IMAGE_BYTES)
    _run("mkfs.ext4", "-q", "-F", str(image))
    device = _run("losetup", "--find", "--show", str(image))
    try:
        _run("mount", device, str(mount))
        try:
            stat = Path("/sys/block") / Path(device).name / "stat"
            sectors = 6  # of the kernel's Documentation/block/stat.rst: sectors written
            yield Disk(
                mount,
                lambda: int(stat.read_text("utf-8").split()[sectors]) * _SECTOR_BYTES,
                "bytes reaching the device",
            )
        finally:
            _run("umount", str(mount))
    finally:
        _run("losetup", "--detach", device)


def _io_bytes(text: str) -> int:
    return int(dict(line.split(": ") for line in text.splitlines())["write_bytes"])


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commits(at: Disk, count: int) -> dict[str, Any]:
    """Return bytes per commit, commits a second and recovery by way, one behind the other."""
    return {
        "journal": _ours(at, count),
        "sqlite WAL+FULL": _sqlite(at, count, "WAL"),
        "sqlite DELETE+FULL": _sqlite(at, count, "DELETE"),
    }


def _ours(at: Disk, count: int) -> dict[str, float]:
    folder = at.folder / "journal"
    before = at.written_bytes()
    journal = Journal(folder, _SEGMENT_BYTES)
    os.sync()
    segment_bytes = at.written_bytes() - before

    def commit() -> None:
        journal.append(1, PAYLOAD)
        journal.commit()

    found = _timed(at, count, commit)
    # a segment's zeros are written once for all the records it takes
    found["bytes"] += segment_bytes * (len(PAYLOAD) + _RECORD_HEAD_BYTES) / _SEGMENT_BYTES
    start_s = time.perf_counter()
    again = Journal(folder, _SEGMENT_BYTES)
    found["recovery_ms"] = (time.perf_counter() - start_s) * 1000
    if again.committed != count + 1:
        raise RuntimeError(f"{again.committed - 1} of {count} records came back")
    return found


def _sqlite(at: Disk, count: int, mode: str) -> dict[str, float]:
    file = at.folder / f"{mode}.db"
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode={mode}")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE records (number INTEGER PRIMARY KEY, payload BLOB)")
    found = _timed(
        at, count, lambda: connection.execute("INSERT INTO records (payload) VALUES (?)", [PAYLOAD])
    )
    # a copy is what a process that was killed leaves: nobody has closed it
    killed = at.folder / "killed"
    killed.mkdir()
    for path in at.folder.glob(f"{mode}.db*"):
        shutil.copy(path, killed)
    connection.close()
    start_s = time.perf_counter()
    again = sqlite3.connect(killed / file.name)
    (kept,) = again.execute("SELECT count(*) FROM records").fetchone()
    found["recovery_ms"] = (time.perf_counter() - start_s) * 1000
    again.close()
    shutil.rmtree(killed)
    if kept != count:
        raise RuntimeError(f"{kept} of {count} rows came back")
    return found


def _timed(at: Disk, count: int, commit: Callable[[], object]) -> dict[str, float]:
    os.sync()
    before, start_s = at.written_bytes(), time.perf_counter()
    for _ in range(count):
        commit()
    seconds = time.perf_counter() - start_s
    os.sync()
    return {"bytes": (at.written_bytes() - before) / count, "per_s": count / seconds}


async def gateway_day(at: Disk, minutes: int) -> dict[str, float]:
    """Return GB a day of a whole gateway: a commit each second, a cut each minute."""
    outbox = Outbox(at.folder / "state", now_ms=START_MS, bytes_max=_FOREVER)
    recorder = Recorder(at.folder / "state", outbox, GATEWAY, catalogue(), now_ms=START_MS)
    rows = hour(START_MS)
    os.sync()
    before, commits_made = at.written_bytes(), 0
    for minute in range(minutes):
        for second in range(60):
            # the meters of a site are read one behind the other, all through the minute
            for meter in range(second * METERS // 60, (second + 1) * METERS // 60):
                _record(recorder, meter, START_MS + minute * MINUTE_MS, rows[minute % 60][meter])
            await recorder.commit()
            commits_made += 1
        await recorder.cut(START_MS + (minute + 1) * MINUTE_MS)
    os.sync()
    written = at.written_bytes() - before
    outbox.close()
    return {
        "gb_per_day": written / minutes * 1440 / 1e9,
        "bytes_per_commit": written / commits_made,
    }


def _record(recorder: Recorder, meter: int, due_ms: int, values: list[int]) -> None:
    recorder.row(
        meter, due_ms=due_ms, at_ms=due_ms + 5 * meter, values=values, qualities=bytes(POINTS)
    )


def history(folder: Path, days: int) -> dict[str, float]:
    """Return what history takes, and how long a start on it and a query of a meter-day."""
    state = folder / "state"
    outbox = Outbox(state, now_ms=START_MS, bytes_max=_FOREVER)
    Recorder(state, outbox, GATEWAY, catalogue(), now_ms=START_MS)
    outbox.close()
    day = list(_day(outbox.epoch, 1))
    bytes_per_day = _bytes(day)
    _fill(state / f"batches-{outbox.epoch}", day, days)
    start_s = time.perf_counter()
    kept = Outbox(state, now_ms=START_MS, bytes_max=_FOREVER)
    opened_s = time.perf_counter() - start_s
    kept_bytes = kept.bytes_count
    kept.close()
    asked = Asked(since_ms=START_MS, until_ms=START_MS + DAY_MS, meter="meter-064")
    start_s = time.perf_counter()
    found = {
        row.due_ms
        for part in History(state).read(asked)
        for row in part.content.readings
        if asked.since_ms <= row.due_ms < asked.until_ms
    }
    query_s = time.perf_counter() - start_s
    if len(found) != 1440:
        raise RuntimeError(f"{len(found)} of 1440 rows were found")
    readings = 1440 * METERS * POINTS
    return {
        "bytes_per_reading": bytes_per_day / readings,
        "gb_per_180_days": bytes_per_day * 180 / 1e9,
        "gb_per_180_days_flushed_each_15min": _bytes(_day(outbox.epoch, 15)) * 180 / 1e9,
        "days": days,
        "kept_gb": kept_bytes / 1e9,
        "start_s": opened_s,
        "query_s": query_s,
    }


def _bytes(day: Iterable[Batch]) -> int:
    return sum(len(batch.to_bytes()) + _RECORD_HEAD_BYTES for batch in day)


def _day(epoch: int, minutes: int) -> Iterator[Batch]:
    """Yield the batches of a day, whose hours are all alike, cut every so many minutes."""
    site, rows = catalogue(), hour(START_MS)
    kinds = [point.kind is Kind.TOTALISER for point in site.groups[0].points]
    aggregator = Aggregator([(MINUTE_MS, kinds)] * METERS, site.window_lengths_ms)
    for minute in range(1440):
        due_ms = START_MS + minute * MINUTE_MS
        for meter, values in enumerate(rows[minute % 60]):
            aggregator.push_row(meter, due_ms, due_ms + 5 * meter, values, bytes(POINTS))
        cut_ms = due_ms + MINUTE_MS
        if (minute + 1) % minutes:
            continue
        while (part := aggregator.cut(cut_ms)) is not None:
            codec, payload = part.encode()
            yield Batch(GATEWAY, epoch, 1, BatchKind.DATA, site.hash, cut_ms, codec, payload)


def _fill(folder: Path, day: list[Batch], days: int) -> None:
    """Add days of the same batches, later by their envelopes: a query must not decode them."""
    journal = Journal(folder, _SEGMENT_BYTES)
    for ahead in range(days):
        for batch in day:
            later = replace(
                batch, sequence=journal.next, cut_at_ms=batch.cut_at_ms + ahead * DAY_MS
            )
            journal.append(int(BatchKind.DATA), later.to_bytes())
        journal.commit()


def table(results: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the report."""
    ways = results["commits"]
    ours = ways["journal"]
    yield f"a commit of {len(PAYLOAD)} bytes ({results['what']}):"
    for name, way in ways.items():
        yield (
            f"  {name:<20} {way['bytes'] / 1024:6.1f} KiB  x{way['bytes'] / ours['bytes']:5.2f}"
            f"  {way['bytes'] * 86_400 / 1e9:6.3f} GB/day at 1/s  {way['per_s']:6.0f} commits/s"
            f"  x{way['per_s'] / ours['per_s']:4.2f}  recovery {way['recovery_ms']:6.1f} ms"
        )
    day = results["gateway"]
    yield (
        f"a gateway with {METERS} meters of {POINTS} points, a commit each second, a cut each"
        f" minute: {day['gb_per_day']:.3f} GB/day (at most 0.25),"
        f" {day['bytes_per_commit'] / 1024:.1f} KiB per commit (at most 3)"
    )
    past = results["history"]
    yield (
        f"its history: {past['bytes_per_reading']:.2f} bytes per reading, windows of 15 min and"
        f" envelopes in; {past['gb_per_180_days']:.2f} GB in 180 days (at most 1),"
        f" {past['gb_per_180_days_flushed_each_15min']:.2f} GB with a cut each 15 minutes"
    )
    yield (
        f"on {past['days']:.0f} days of it ({past['kept_gb']:.2f} GB): start"
        f" {past['start_s']:.2f} s (at most 10), one meter and day {past['query_s']:.2f} s"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m hil_tests.speed.journal", description=__doc__)
    parser.add_argument("--commits", type=int, default=1000, help="of each way (%(default)s)")
    parser.add_argument("--minutes", type=int, default=10, help="of the gateway (%(default)s)")
    parser.add_argument("--days", type=int, default=30, help="of history (%(default)s)")
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with disk(folder) as at:
            results = {
                "what": at.what,
                "commits": commits(at, words.commits),
                "gateway": asyncio.run(gateway_day(at, words.minutes)),
            }
        results["history"] = history(folder / "history", words.days)
    print(json.dumps(results, indent=1) if words.json else "\n".join(table(results)))


if __name__ == "__main__":
    main()
