"""The line keeps wire time within 1 %, by the clock of the master that reads from it.

What the line itself knows to have been late (a busy machine woke it late) is not held against it;
a line whose time is wrong does not know that it is, which the canary shows.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median

import pytest

from hil_tests.sim.line import Line
from hil_tests.sim.pace import Pace
from hil_tests.test_sim_line import READ, REPLY, Master, reply_of_ten_registers

BITS = 11  # 8E1
TURNAROUND_MS = 5.0
READS = 12
BUSY_PERCENT = 0.5


@dataclass(frozen=True, slots=True)
class Timed:
    """One read: how much longer than the formula it took, and what of that the line knows."""

    excess_percent: float
    known_percent: float


def formula_ms(baud: int) -> float:
    """Return request + T3.5 + turnaround + reply."""
    char_ms = BITS / baud * 1000
    silence_ms = 1.75 if baud > 19200 else 3.5 * char_ms
    return (len(READ) + len(REPLY)) * char_ms + silence_ms + TURNAROUND_MS


def timed_reads(folder: Path, baud: int, change: Callable[[Line], None]) -> list[Timed]:
    async def reads() -> list[Timed]:
        line = Line(
            "bus1",
            folder / "bus1",
            baud=baud,
            format="8E1",
            turnaround_ms=(TURNAROUND_MS, TURNAROUND_MS),
            rng=Random(1),
            answer=reply_of_ten_registers,
        )
        change(line)
        with line:
            serving = asyncio.create_task(line.serve())
            master = Master(line.link)
            timed = [await timed_read(line, master, formula_ms(baud)) for _ in range(READS)]
            master.close()
            serving.cancel()
            await asyncio.wait([serving])
            return timed

    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    ) as runner:
        return runner.run(reads())


async def timed_read(line: Line, master: Master, expected_ms: float) -> Timed:
    written_s = master.write(READ)
    assert await master.read(len(REPLY)) == REPLY
    took_ms = (master.pieces[-1][0] - written_s) * 1000
    request, reply = list(line.log)[-2:]
    heard_late_ms = max(0.0, request.start_us / 1000 - written_s * 1000)
    await asyncio.sleep(2 * line.pace.silence_s)
    return Timed(
        (took_ms - expected_ms) / expected_ms * 100,
        (heard_late_ms + reply.late_us / 1000) / expected_ms * 100,
    )


def off_percent(timed: list[Timed]) -> float:
    """Return the line's own error: what it does not know of itself.

    That is the median of all reads on a calm machine. On a busy one, which the line's lateness
    tells, the master is late as well: there the calmest quarter of the reads decides, for a line
    whose time is wrong is wrong in every read.
    """
    unknown = sorted(read.excess_percent - read.known_percent for read in timed)
    busy = max(read.known_percent for read in timed) > BUSY_PERCENT
    return unknown[len(unknown) // 4] if busy else median(unknown)


@pytest.mark.parametrize("baud", [9600, 19200, 115200])
def test_reads_take_their_wire_time_within_one_percent(tmp_path: Path, baud: int) -> None:
    timed = timed_reads(tmp_path, baud, lambda _line: None)
    seen = [read.excess_percent for read in timed]
    print(
        f"{baud} Bd: {off_percent(timed):+.2f} %; as the master saw it, with the machine's "
        f"lateness: median {median(seen):+.2f} %, worst {max(seen):+.2f} %"
    )
    assert abs(off_percent(timed)) <= 1, timed


@pytest.mark.parametrize("factor", [0.98, 1.02])
@pytest.mark.parametrize("baud", [9600, 115200])
def test_a_line_whose_time_is_wrong_by_two_percent_is_found_out(
    tmp_path: Path, baud: int, factor: float
) -> None:
    def mistime(line: Line) -> None:
        line._paces[baud] = Pace(line.pace.char_s * factor, line.pace.silence_s * factor)
        line._turnaround_ms = (TURNAROUND_MS * factor,) * 2

    timed = timed_reads(tmp_path, baud, mistime)
    assert abs(off_percent(timed)) > 1, timed
