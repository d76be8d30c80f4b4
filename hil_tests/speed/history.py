"""What half a year of history takes, and how fast it is found: `python -m hil_tests.speed.history`.

A whole gateway records a day of 128 meters with 30 points each minute, batches each minute behind
keyframes as an agent cuts them; the historian makes its day file, on an ext4 of its own, while an
event loop is watched. 180 copies of that file, later by their indices, are what is searched. So the
sizes are those of one day times 180, and a query reads as much as it would of 180 days, but finds
the first day's rows in each. `--hours` fewer than 24 are repeated to a day, with their registers
going on; the loads of night and day differ, so 24 are what the figures in the documents are from.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeagg.model import Kind
from edgeagg_agent import epochs, segments
from edgeagg_agent.clock import SystemClock
from edgeagg_agent.day_file import DayFile, Made, Writer
from edgeagg_agent.days import Day, listed
from edgeagg_agent.historian import Historian
from edgeagg_agent.history import Asked, History
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder
from hil_tests.speed.journal import DAY_MS, GATEWAY, MINUTE_MS, START_MS, Disk, disk
from hil_tests.speed.metering import METERS, POINTS, catalogue, minutes

DAYS = 180
_FOREVER = 1 << 40
_METER, _POINT = "meter-064", "active_power_total"
_RECORD_HEAD_BYTES = 20

Minutes = list[list[list[int]]]


def day_of(hours: int) -> Minutes:
    """Return a day's mantissas by minute, meter and point, of so many hours."""
    pattern = minutes(START_MS, 60 * hours + 1)
    totalisers = [
        at for at, p in enumerate(catalogue().groups[0].points) if p.kind is Kind.TOTALISER
    ]
    found = []
    for minute in range(24 * 60 + 2):
        turn, place = divmod(minute, 60 * hours)
        meters = [list(values) for values in pattern[place]]
        for meter, values in enumerate(meters):
            for at in totalisers:
                values[at] += turn * (pattern[-1][meter][at] - pattern[0][meter][at])
        found.append(meters)
    return found


async def record(state: Path, day: Minutes) -> int:
    """Let a gateway record the day and two minutes more; return the bytes of the day's batches."""
    outbox = Outbox(state, now_ms=START_MS, bytes_max=_FOREVER)
    cursor = outbox.cursor("platform")
    recorder = Recorder(state, outbox, GATEWAY, catalogue(), now_ms=START_MS)
    for minute, meters in enumerate(day):
        due_ms = START_MS + minute * MINUTE_MS
        for meter, values in enumerate(meters):
            recorder.row(
                meter,
                due_ms=due_ms,
                at_ms=due_ms + 37 * meter,
                values=values,
                qualities=bytes(POINTS),
            )
        cursor.advance(outbox.head)
        await recorder.cut(due_ms + MINUTE_MS - 1, receipted=cursor.through)
    cursor.advance(outbox.head)
    folder = epochs.batches(state, outbox.epoch)
    kept = segments.messages(folder, 1, outbox.head)
    outbox.close()
    return sum(len(message) + _RECORD_HEAD_BYTES for _, message in kept)


async def make_day(at: Disk, state: Path) -> dict[str, float]:
    """Make the day file; return what that took, and how long the event loop stood still."""
    outbox = Outbox(state, now_ms=START_MS, bytes_max=_FOREVER)
    outbox.cursor("platform")
    local_time = catalogue().local_time
    historian = Historian(
        state, outbox, SystemClock(), local_time=local_time, resend_ms=7 * DAY_MS, history_ms=DAY_MS
    )
    alone_ms = await _longest_pause_ms(asyncio.sleep(5))
    _forget_peak()
    before_kb, written, cpu_s = _peak_kb(), at.written_bytes(), time.process_time()
    steps_s: list[float] = []

    async def work() -> None:
        while not listed(state):
            start_s = time.monotonic()
            await asyncio.to_thread(historian.step)
            steps_s.append(time.monotonic() - start_s)
            await asyncio.sleep(0.01)

    pause_ms = await _longest_pause_ms(work())
    cpu_s = time.process_time() - cpu_s
    historian.close()
    outbox.close()
    (day,) = listed(state)
    return {
        "day_bytes": day.bytes_count,
        "written_bytes": at.written_bytes() - written,
        "cpu_s": cpu_s,
        "steps": len(steps_s),
        "longest_step_ms": 1000 * max(steps_s),
        "pause_ms": pause_ms,
        "pause_alone_ms": alone_ms,
        "memory_mb": (_peak_kb() - before_kb) / 1000,
    }


async def _longest_pause_ms(work: Any) -> float:  # noqa: ANN401 - whatever can be awaited
    """Return by how much a task that wakes each 2 ms was late at worst while the work was done."""
    task = asyncio.ensure_future(work)
    longest_s = 0.0
    while not task.done():
        start_s = time.monotonic()
        await asyncio.sleep(0.002)
        longest_s = max(longest_s, time.monotonic() - start_s - 0.002)
    await task
    return 1000 * longest_s


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # proc(5)


def _peak_kb() -> int:
    text = Path("/proc/self/status").read_text("ascii")
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmHWM")))


def fill(state: Path, day: Day) -> None:
    """Put the day file there for each of the days, later by its index."""
    with DayFile(day.path) as file:
        blocks = [(block, file.payload(block) or b"") for block in file.blocks]
    (state / "history").mkdir(parents=True)
    for number in range(DAYS):
        ahead_ms = number * DAY_MS
        first = number * (day.through + 1) + 1
        through = first + day.through - 1
        name = f"2026-09-22_{day.epoch}-{first}-{through}-{day.cut_at_ms + ahead_ms}.day"
        writer = Writer(state / "history" / name)
        for block, payload in blocks:
            writer.add(
                block.kind,
                payload,
                place=block.place,
                codec=block.codec,
                group=block.group,
                span_ms=(block.first_ms + ahead_ms, block.last_ms + ahead_ms),
            )
        writer.finish(Made(epoch=day.epoch, first=first, through=through, lost=0))
        writer.close()


def search(state: Path) -> dict[str, float]:
    """Return how long a start takes, a meter's day in the middle, a point over all days."""
    start_s = time.perf_counter()
    Outbox(state, now_ms=START_MS, bytes_max=_FOREVER).close()
    found = {"start_s": time.perf_counter() - start_s}
    since_ms = START_MS + DAYS // 2 * DAY_MS
    for name, asked, days in (
        ("meter_day_s", Asked(since_ms=since_ms, until_ms=since_ms + DAY_MS, meter=_METER), 1),
        (
            "point_180_days_s",
            Asked(since_ms=START_MS, until_ms=START_MS + DAYS * DAY_MS, meter=_METER, point=_POINT),
            DAYS,
        ),
    ):
        start_s = time.perf_counter()
        history = History(state)
        rows = sum(len(part.content.readings) for part in history.read(asked))
        found[name] = time.perf_counter() - start_s
        if not 1439 * days <= rows <= 1450 * days + 1450 or history.unreadable:
            raise RuntimeError(f"{rows} rows were found in {days} days")
    return found


def measure(folder: Path, hours: int) -> dict[str, float]:
    """Return everything."""
    day = day_of(hours)
    with disk(folder) as at:
        state = at.folder / "state"
        found: dict[str, float] = {"hours": hours, "batch_bytes": asyncio.run(record(state, day))}
        found |= asyncio.run(make_day(at, state))
        fill(folder / "half a year", listed(state)[0])
    return found | search(folder / "half a year")


def table(found: dict[str, float]) -> Iterator[str]:
    """Yield the lines of the report."""
    readings = 1440 * METERS * POINTS
    week_gb = 7 * found["batch_bytes"] / 1e9
    half_year_gb = DAYS * found["day_bytes"] / 1e9
    yield (
        f"a day of {METERS} meters with {POINTS} points a minute ({found['hours']:.0f} different"
        f" hours): {found['batch_bytes'] / 1e6:.2f} MB of batches,"
        f" {found['batch_bytes'] / readings:.2f} bytes per reading with windows and envelopes;"
        f" {found['day_bytes'] / 1e6:.2f} MB as a day file, {found['day_bytes'] / readings:.2f}"
    )
    yield (
        f"{DAYS} days: {half_year_gb:.2f} GB, and {week_gb:.2f} GB for a week of batches as they"
        f" were signed: {half_year_gb + week_gb:.2f} GB (at most 1); as batches alone"
        f" {DAYS * found['batch_bytes'] / 1e9:.2f} GB"
    )
    yield (
        f"making a day file writes {found['written_bytes'] / 1e9:.4f} GB, takes"
        f" {found['cpu_s']:.0f} s of CPU in {found['steps']:.0f} steps, of which the longest"
        f" {found['longest_step_ms']:.0f} ms, and {found['memory_mb']:.1f} MB of memory"
        " more at most"
    )
    yield (
        f"the event loop stood still for {found['pause_ms']:.0f} ms at worst meanwhile"
        f" ({found['pause_alone_ms']:.0f} ms when nothing was done)"
    )
    yield (
        f"found in {DAYS} days: a meter's day in {found['meter_day_s']:.2f} s (at most 2), one of"
        f" its points over all days in {found['point_180_days_s']:.1f} s; a start on it takes"
        f" {found['start_s']:.2f} s"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m hil_tests.speed.history", description=__doc__)
    parser.add_argument("--hours", type=int, default=2, help="that differ, 1 to 24 (%(default)s)")
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), words.hours)
    print(json.dumps(found, indent=1) if words.json else "\n".join(table(found)))


if __name__ == "__main__":
    main()
