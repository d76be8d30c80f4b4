"""Who reads the line: the agent's planner, dispatcher and serial engine, in one small loop.

Owns the `Master` seam, so that the same scenarios can be run with another reader of the line.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgeagg.errors import FrameError, LinkError, RefusedError
from edgeagg_agent.attention import Attention
from edgeagg_agent.bus import LineSettings, ReadRequest
from edgeagg_agent.bus.serial import SerialBus
from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.dispatch import Ask, Dispatcher, GiveUp, Probe, Rest
from edgeagg_agent.plan import Block, plan_blocks, scan_us
from edgeagg_agent.profile import Limits
from edgeagg_agent.protocol.modbus import RtuQuestion
from edgeagg_agent.schedule import Schedule, Trait, Wait
from hil_tests.speed.line import Wiring, content

# 17 floats of an SDM630: voltages, currents, powers per phase; totals, frequency, energies
SDM630 = tuple((4, start, 2) for start in (*range(0, 18, 2), 52, 56, 60, 62, 70, 72, 74, 342))
LIMITS = Limits(registers_max=80, holes="readable")
PERIOD_MS = 1_000  # far less than a round takes: the line is never idle


@dataclass(slots=True)
class Log:
    """What a master saw: the meters it read and when, in seconds of the monotonic clock."""

    reads: list[tuple[float, int]] = field(default_factory=list)
    failures: int = 0
    wasted_s: float = 0.0  # the time of questions that failed
    wrong_values: int = 0
    transactions: int = 0
    busy_s: float = 0.0


class Master(Protocol):
    """Reads all units of a line again and again, as fast as it goes."""

    async def run(self, link: Path, wiring: Wiring, units: Sequence[int], log: Log) -> None:
        """Read until cancelled."""
        ...


class AgentMaster:
    """The agent's own parts."""

    def __init__(self, clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._clock_ms = clock_ms

    async def run(self, link: Path, wiring: Wiring, units: Sequence[int], log: Log) -> None:
        """Read until cancelled."""
        timing = Timing.of(wiring.baud, "8N1")
        turnaround_us = round(wiring.turnaround_ms * 1000)
        blocks = plan_blocks(SDM630, LIMITS, timing, turnaround_us)
        cost_ms = -(-scan_us(blocks, LIMITS, timing, turnaround_us) // 1000)
        now_ms = self._clock_ms()
        schedule = Schedule(
            dict.fromkeys(units, PERIOD_MS),
            now_ms,
            {unit: Trait(meter=unit, cost_ms=cost_ms) for unit in units},
        )
        dispatcher = Dispatcher(schedule, Attention(now_ms), {unit: unit for unit in units})
        reader = _Reader(link, wiring, blocks, log)
        try:
            while True:
                await self._step(dispatcher, reader)
        finally:
            await reader.bus.close()

    async def _step(self, dispatcher: Dispatcher, reader: _Reader) -> None:
        now_ms = self._clock_ms()
        match dispatcher.next(now_ms):
            case Ask() as ask:
                wasted_us = await reader.scan(ask.meter)
                dispatcher.done(ask, self._clock_ms(), wasted_us=wasted_us)
            case Probe(meter):
                wasted_us = await reader.scan(meter)
                dispatcher.probed(meter, self._clock_ms(), wasted_us=wasted_us)
            case Wait(until_ms):
                await asyncio.sleep((until_ms - now_ms) / 1000)
            case Rest() | GiveUp():
                pass


class _Reader:
    """Asks one meter for all its blocks, and checks every value."""

    def __init__(self, link: Path, wiring: Wiring, blocks: Sequence[Block], log: Log) -> None:
        self.bus = SerialBus(name="line", port=str(link))
        self._settings = LineSettings(wiring.baud, "8N1")
        self._blocks, self._log = blocks, log
        self._questions: dict[int, list[RtuQuestion]] = {}

    async def scan(self, unit: int) -> int:
        """Read a unit once; return the bus time in us that a failure took, 0 for none."""
        log, stats = self._log, self.bus.stats
        begun_s = asyncio.get_running_loop().time()
        try:
            for question in self._asking(unit):
                answer = await self.bus.exchange(question, self._settings)
                read = question.read
                expected = content(unit, read.start, read.count)
                log.wrong_values += answer.payload != expected
        except (LinkError, FrameError, RefusedError):
            log.failures += 1
            wasted_s = asyncio.get_running_loop().time() - begun_s
            log.wasted_s += wasted_s
            return max(1, round(wasted_s * 1e6))
        finally:
            log.transactions, log.busy_s = stats.transactions, stats.busy_s
        log.reads.append((asyncio.get_running_loop().time(), unit))
        return 0

    def _asking(self, unit: int) -> list[RtuQuestion]:
        if unit not in self._questions:
            self._questions[unit] = [
                RtuQuestion(ReadRequest(unit, block.function, block.start, block.count))
                for block in self._blocks
            ]
        return self._questions[unit]
