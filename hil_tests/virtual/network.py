"""The way between gateway and platform: it loses, delays, doubles and reorders; at times it is cut.

Owns what becomes of a message in flight. It knows neither end and looks into no message.
"""

from __future__ import annotations

import asyncio
import enum
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from hil_tests.virtual.loop import VirtualLoop

T = TypeVar("T")

_LOST, _DOUBLED, _SLOW = 0.03, 0.03, 0.05  # shares of all messages
_DELAY_MS = (20, 400)
_DELAY_SLOW_MS = (1_000, 20_000)


class Cut(enum.Enum):
    """How an outage looks to the gateway."""

    DOWN = "down"  # the connection breaks, and there is none until the end
    SILENT = "silent"  # half open: everything seems to be sent, nothing arrives


@dataclass(frozen=True, slots=True)
class Outage:
    """No message arrives from `from_ms` until before `to_ms` of the loop's time."""

    from_ms: int
    to_ms: int
    cut: Cut


@dataclass(slots=True)
class Traffic:
    """Messages by what became of them."""

    sent: int = 0
    lost: int = 0
    doubled: int = 0
    delivered: int = 0


class Network:
    """Both directions; the outages stand in the order of time and do not overlap."""

    def __init__(self, loop: VirtualLoop, rng: Random, outages: Sequence[Outage]) -> None:
        self.traffic = Traffic()
        self._loop, self._rng = loop, rng
        self._outages = outages
        self._starts_ms = [outage.from_ms for outage in outages]

    def outage(self) -> Outage | None:
        """Return the outage that is now, if there is one."""
        place = bisect_right(self._starts_ms, self._loop.now_ms) - 1
        if place >= 0 and self._loop.now_ms < self._outages[place].to_ms:
            return self._outages[place]
        return None

    def is_connected(self) -> bool:
        """Tell whether the gateway believes in its connection."""
        outage = self.outage()
        return outage is None or outage.cut is Cut.SILENT

    async def connect(self) -> None:
        """Wait until a connection can be made, with the pause a client makes in between."""
        while (outage := self.outage()) is not None and outage.cut is Cut.DOWN:
            left_ms = outage.to_ms - self._loop.now_ms + self._rng.randint(0, 30_000)
            await asyncio.sleep(left_ms / 1000)

    def send(self, message: T, arrive: Callable[[T], None]) -> None:
        """Let the message `arrive` once, twice or never."""
        rng, traffic = self._rng, self.traffic
        traffic.sent += 1
        fate = rng.random()
        if fate < _LOST:
            traffic.lost += 1
            return
        copies = 1
        if fate > 1 - _DOUBLED:
            traffic.doubled += 1
            copies = 2
        for _ in range(copies):
            bounds_ms = _DELAY_SLOW_MS if rng.random() < _SLOW else _DELAY_MS
            self._loop.call_later(rng.randint(*bounds_ms) / 1000, self._arrive, message, arrive)

    def _arrive(self, message: T, arrive: Callable[[T], None]) -> None:
        if self.outage() is not None:
            self.traffic.lost += 1
            return
        self.traffic.delivered += 1
        arrive(message)
