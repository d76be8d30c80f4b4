"""A bus in virtual time: replies are what the simulated meters hold at that instant.

Owns the times on the line and the faults a reply may meet. The values come from `hil_tests.sim`
alone; how long a reply takes is drawn, not computed from a baud rate.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from random import Random

from edgeagg.errors import FrameError, LinkError, RefusedError
from edgeagg_agent.bus import Answer, BusStats, LineSettings, ReadRequest
from edgeagg_agent.protocol import Question
from edgeagg_agent.protocol.modbus import RtuQuestion
from hil_tests.virtual.loop import VirtualLoop
from hil_tests.virtual.registers import Registers
from hil_tests.virtual.site import Played

_TIMEOUT_MS = 1_000
_REPLY_MS = (40, 160)
_REPLY_LATE_MS = (500, 990)  # late, but within the time-out
# shares of all requests
_SILENT, _BAD, _REFUSED, _LATE = 0.003, 0.003, 0.001, 0.005

Span = tuple[int, int]
"""From, and before when, in milliseconds of the loop."""


class WiredMeter:
    """A simulated meter on the line, and when it is without power."""

    def __init__(self, played: Played, dark: Sequence[Span]) -> None:
        """`dark` stands in the order of time."""
        self._played, self._dark = played, dark
        self._registers: dict[ReadRequest, Registers | None] = {}

    def is_dark(self, now_ms: int) -> bool:
        """Tell whether the meter has no power now."""
        place = bisect_right(self._dark, now_ms, key=lambda span: span[0]) - 1
        return place >= 0 and now_ms < self._dark[place][1]

    def registers(self, request: ReadRequest) -> Registers | None:
        """Return what a request reads; None for one that the meter refuses."""
        if request not in self._registers:
            played = self._played
            try:
                found = Registers(played.sim, played.ratios, played.load, request)
            except ValueError:
                found = None
            self._registers[request] = found
        return self._registers[request]


class VirtualBus:
    """The `Bus` of the agent, in front of the simulator's meters, by their unit ids."""

    def __init__(
        self,
        loop: VirtualLoop,
        rng: Random,
        meters: Mapping[int, WiredMeter],
        true_ms: Callable[[], int],
    ) -> None:
        self.stats = BusStats()
        self._loop, self._rng, self._true_ms = loop, rng, true_ms
        self._meters = meters

    async def exchange(self, question: Question, settings: LineSettings) -> Answer:  # noqa: ARG002
        """Answer as the meter's registers stand in the middle of the exchange."""
        if not isinstance(question, RtuQuestion):
            raise TypeError(f"{question}: the meters of this line speak Modbus RTU")
        request = question.read
        self.stats.transactions += 1
        meter = self._meters[request.unit]
        fate = self._rng.random()
        if meter.is_dark(self._loop.now_ms) or fate < _SILENT:
            await self._pass(_TIMEOUT_MS)
            self.stats.no_reply += 1
            raise LinkError(f"{request}: no reply")
        fate -= _SILENT
        bounds_ms = _REPLY_LATE_MS if fate > 1 - _SILENT - _LATE else _REPLY_MS
        # what the meter will hold is known before its time has come: one wait less for each read
        half_ms = self._rng.randint(*bounds_ms) // 2
        sent_s = self._loop.time()
        held = meter.registers(request)
        payload = held.at(self._true_ms() + half_ms) if held is not None else b""
        await self._pass(2 * half_ms)
        if fate < _BAD:
            self.stats.bad_frame += 1
            raise FrameError(f"{request}: the CRC does not match")
        if fate < _BAD + _REFUSED:
            self.stats.refused += 1
            raise RefusedError(f"{request}: busy", 6)
        if held is None:
            self.stats.refused += 1
            raise RefusedError(f"{request}: illegal data address", 2)
        return Answer(payload, sent_s, self._loop.time())

    async def close(self) -> None:
        """Give back what was never opened."""

    async def _pass(self, duration_ms: int) -> None:
        await asyncio.sleep(duration_ms / 1000)
