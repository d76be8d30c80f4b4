"""How much of a line's time becomes readings: all meters alive, and some of them dead.

Owns the scenarios and their figures. Two optima stand beside what was measured: that of the wire,
which keeps the silence of T3.5 behind every frame as Modbus asks, and that of a model without it,
which no master that keeps the silence can reach.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from edgeagg_agent.bus.port import line_loop
from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.plan import plan_blocks, scan_us
from hil_tests.speed.line import Playing, Wiring, playing
from hil_tests.speed.master import LIMITS, SDM630, Log, Master

_T = TypeVar("_T")

METERS = 16
WARM_UP_S = 2.0
KNOWN_DEAD_S = 8.0  # two failures each: two rounds
BACK_MAX_S = 60.0


@dataclass(frozen=True, slots=True)
class Speed:
    """All meters alive; ratios of 1."""

    turnaround_ms: float
    seconds: float
    meters_per_min: float
    utilisation: float
    of_wire_optimum: float
    of_bare_model: float
    failures: int
    wrong_values: int


@dataclass(frozen=True, slots=True)
class Deaths:
    """Some meters dead, then revived.

    `lost_beside_alive` is what the others lose beside the same line with all alive (less than 0:
    they gain the time of the dead), `lost_beside_alone` beside a line that never had the dead: both
    compare two runs, and a busy machine may have served them differently. `wasted` is the share of
    the time that failed questions took in this run; nothing else is lost by the others.
    """

    dead: int
    others_per_min: float
    lost_beside_alive: float
    lost_beside_alone: float
    wasted: float
    back_s: float
    wrong_values: int


def optimum_per_min(wiring: Wiring, *, bare: bool = False) -> float:
    """Return the meters per minute that the least bus time allows; `bare` without silences."""
    timing = Timing.of(wiring.baud, "8N1")
    turnaround_us = round(wiring.turnaround_ms * 1000)
    blocks = plan_blocks(SDM630, LIMITS, timing, turnaround_us)
    us = scan_us(blocks, LIMITS, timing, turnaround_us)
    return 60e6 / (us - len(blocks) * timing.t35_us * bare)


def measure_speed(master: Master, wiring: Wiring, seconds: float) -> Speed:
    """Read all meters for a while."""

    async def run(line: Playing) -> tuple[Log, float, float]:
        log = Log()
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(master.run(line.link, wiring, range(1, METERS + 1), log))
            await asyncio.sleep(WARM_UP_S)
            begun_s, busy_s = loop.time(), log.busy_s
            await asyncio.sleep(seconds)
            rate = rate_per_min(log.reads, begun_s)
            busy = (log.busy_s - busy_s) / (loop.time() - begun_s)
            task.cancel()
        return log, rate, busy

    log, rate, busy = _on_a_line(run, wiring)
    return Speed(
        turnaround_ms=wiring.turnaround_ms,
        seconds=seconds,
        meters_per_min=rate,
        utilisation=busy,
        of_wire_optimum=rate / optimum_per_min(wiring),
        of_bare_model=rate / optimum_per_min(wiring, bare=True),
        failures=log.failures,
        wrong_values=log.wrong_values,
    )


def measure_deaths(
    master: Master, wiring: Wiring, seconds: float, dead: Sequence[int], alive_per_min: float
) -> Deaths:
    """Read with `dead` units silent, revive them, and wait until all were seen again."""

    async def run(line: Playing) -> tuple[Log, float, float, float]:
        log = Log()
        loop = asyncio.get_running_loop()
        line.kill_meters(dead)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(master.run(line.link, wiring, range(1, METERS + 1), log))
            await asyncio.sleep(KNOWN_DEAD_S)
            begun_s, wasted_s = loop.time(), log.wasted_s
            await asyncio.sleep(seconds)
            rate = rate_per_min(log.reads, begun_s)
            wasted = (log.wasted_s - wasted_s) / (loop.time() - begun_s)
            revived_s, seen = loop.time(), len(log.reads)
            line.kill_meters(())
            while loop.time() < revived_s + BACK_MAX_S + 5:
                await asyncio.sleep(0.2)
                if set(dead) <= {unit for _, unit in log.reads[seen:]}:
                    break
            task.cancel()
        back_s = max(
            min((at_s for at_s, unit in log.reads[seen:] if unit == one), default=float("inf"))
            for one in dead
        )
        return log, rate, wasted, back_s - revived_s

    log, rate, wasted, back_s = _on_a_line(run, wiring)
    alive = METERS - len(dead)
    return Deaths(
        dead=len(dead),
        others_per_min=rate,
        lost_beside_alive=1 - rate / (alive_per_min * alive / METERS),
        lost_beside_alone=1 - rate / alive_per_min,
        wasted=wasted,
        back_s=back_s,
        wrong_values=log.wrong_values,
    )


def rate_per_min(reads: Sequence[tuple[float, int]], begun_s: float) -> float:
    """Return reads per minute between the first and the last read behind `begun_s`."""
    times_s = [at_s for at_s, _ in reads if at_s >= begun_s]
    if len(times_s) < 2:
        return 0.0
    return (len(times_s) - 1) * 60 / (times_s[-1] - times_s[0])


def measure_all(master: Master, *, seconds: float, baud: int = 9600) -> dict[str, Any]:
    """Run every scenario; `seconds` each."""
    speeds = [measure_speed(master, Wiring(baud, ms), seconds) for ms in (5, 20, 50, 100)]
    alive = speeds[1].meters_per_min
    wiring = Wiring(baud, 20)
    deaths = [measure_deaths(master, wiring, seconds, dead, alive) for dead in ((7,), (3, 8, 13))]
    return {
        "baud": baud,
        "meters": METERS,
        "speeds": [asdict(speed) for speed in speeds],
        "deaths": [asdict(death) for death in deaths],
    }


def table(results: dict[str, Any]) -> list[str]:
    """Return the results in lines."""
    lines = [
        f"{results['meters']} meters, 17 floats each, {results['baud']} 8N1",
        "turnaround  meters/min  utilisation  of the wire's optimum  of the bare model  wrong",
    ]
    lines += [
        f"{s['turnaround_ms']:7.0f} ms  {s['meters_per_min']:10.1f}  {s['utilisation']:11.3f}"
        f"  {s['of_wire_optimum']:21.3f}  {s['of_bare_model']:17.3f}  {s['wrong_values']:5d}"
        for s in results["speeds"]
    ]
    lines.append(
        "dead  others/min  wasted  lost beside all alive  lost beside the others alone  back"
    )
    lines += [
        f"{d['dead']:4d}  {d['others_per_min']:10.1f}  {d['wasted']:6.1%}"
        f"  {d['lost_beside_alive']:21.1%}  {d['lost_beside_alone']:28.1%}  {d['back_s']:4.1f} s"
        for d in results["deaths"]
    ]
    return lines


def _on_a_line(run: Callable[[Playing], Coroutine[None, None, _T]], wiring: Wiring) -> _T:
    with (
        tempfile.TemporaryDirectory() as folder,
        playing(Path(folder), wiring) as line,
        asyncio.Runner(loop_factory=line_loop) as runner,
    ):
        return runner.run(run(line))
