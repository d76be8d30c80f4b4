"""The agent's time: the only module that reads the host's clocks.

UTC milliseconds never run backwards while the agent runs. A step forward (the first NTP answer on a
board without RTC) is followed at once; after a step back, time goes on from where it was, at the
monotonic clock's pace, until the host's clock has caught up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """What the agent asks of time."""

    def now_ms(self) -> int:
        """Return UTC in milliseconds; never less than before."""
        ...

    def monotonic_s(self) -> float:
        """Return the seconds of the event loop's clock."""
        ...

    async def sleep_ms(self, duration_ms: int) -> None:
        """Wait."""
        ...


class SystemClock:
    """The host's clocks."""

    def __init__(
        self,
        utc_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._utc_ns, self._monotonic_ns = utc_ns, monotonic_ns
        self._last_utc_ns, self._last_monotonic_ns = utc_ns(), monotonic_ns()

    def now_ms(self) -> int:
        """Return UTC in milliseconds; never less than before."""
        monotonic_ns = self._monotonic_ns()
        held_ns = self._last_utc_ns + monotonic_ns - self._last_monotonic_ns
        utc_ns = self._utc_ns()
        # within a millisecond the host only slews; further behind, it has stepped back
        now_ns = max(utc_ns, self._last_utc_ns) if utc_ns > held_ns - 1_000_000 else held_ns
        self._last_utc_ns, self._last_monotonic_ns = now_ns, monotonic_ns
        return now_ns // 1_000_000

    def monotonic_s(self) -> float:
        """Return the seconds of the event loop's clock."""
        return self._monotonic_ns() / 1e9

    async def sleep_ms(self, duration_ms: int) -> None:
        """Wait."""
        await asyncio.sleep(duration_ms / 1000)
