"""What keeping costs the disk: `python -m hil_tests.speed.journal`.

Two parts in one run: commits of our journal beside SQLite's on an ext4 of their own, by the bytes
that reach the device; a day of a whole gateway's writes. Without root there is no disk of our own:
then the kernel's count of bytes sent to the disk stands in its place. What becomes of it, and how
it is found again, is measured by `hil_tests.speed.history`.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeagg._core import Journal
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m hil_tests.speed.journal", description=__doc__)
    parser.add_argument("--commits", type=int, default=1000, help="of each way (%(default)s)")
    parser.add_argument("--minutes", type=int, default=10, help="of the gateway (%(default)s)")
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
    print(json.dumps(results, indent=1) if words.json else "\n".join(table(results)))


if __name__ == "__main__":
    main()
