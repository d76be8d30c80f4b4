"""The agent's time: the only module that reads the host's clocks.

UTC is the monotonic clock plus an offset. Who sets the offset, in this order: the host's clock
while the kernel says it is synchronised; the platform's receipts; what was known before (holdover);
the host's clock unconfirmed, unless it lies before a time that has been already. It is trusted or
not, and says so. It never runs backwards but for a step, and steps are counted: whoever plans by it
looks at `stepped_ms` and plans anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

_log = logging.getLogger(__name__)

NS_PER_MS = 1_000_000
_SECOND_NS = 1_000_000_000
SLEW_MAX_MS = 1_000
"""A clock that is ahead by no more is slowed down; one further ahead is put back."""
FORWARD_MAX_MS = 86_400_000
"""A clock that is put forward by more is no clock that was late: all is planned anew."""
_SLEW_DIVISOR = 10  # of the time that passes: a second is gone within ten
_CONFIRMED_NS = _SECOND_NS  # by how much a receipt may be late
_PLATFORM_EVERY_NS = 600 * _SECOND_NS


class Trust(IntEnum):
    """Who vouches for the time; the numbers are those of the gateway's own point."""

    NEVER = 0
    RTC = 1
    PLATFORM = 2
    HOLDOVER = 3
    NTP = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockState:
    """What a clock went through: the last confirmation, and the steps it was put by."""

    trust: Trust
    unconfirmed_s: int
    steps: int
    last_step_ms: int


class Clock(Protocol):
    """What the agent asks of time."""

    @property
    def stepped_ms(self) -> int:
        """Return by how much the clock was put forth or back so far, lesser steps left out."""
        ...

    @property
    def is_trusted(self) -> bool:
        """Tell whether somebody vouches for the time."""
        ...

    @property
    def knows_past(self) -> bool:
        """Tell whether slots that a step forward leaves out were slots at all."""
        ...

    @property
    def offset_ns(self) -> int:
        """Return UTC less the monotonic clock."""
        ...

    def now_ms(self) -> int:
        """Return UTC in milliseconds; less than before only if `stepped_ms` tells so."""
        ...

    def monotonic_s(self) -> float:
        """Return the seconds of the event loop's clock."""
        ...

    async def sleep_ms(self, duration_ms: int) -> None:
        """Wait."""
        ...


class JudgedClock(Clock, Protocol):
    """A clock that says who vouches for it, and lets the platform do so."""

    @property
    def state(self) -> ClockState:
        """Return what there is to say of the clock."""
        ...

    def take_platform(self, server_ms: int) -> None:
        """Take in that the platform sent this time a moment ago."""
        ...


def _always() -> bool:
    return True


class SystemClock:
    """The host's clocks, and who vouches for them."""

    def __init__(
        self,
        utc_ns: Callable[[], int] = time.time_ns,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
        *,
        is_synchronised: Callable[[], bool] = _always,
        floor_ms: int = 0,
        knows_past: bool = True,
        held_offset_ns: int | None = None,
    ) -> None:
        """Begin at the host's time, or at `floor_ms` when that is later.

        `is_synchronised` asks the kernel; `knows_past` tells whether a time was trusted in a former
        run, and `held_offset_ns` is UTC less the monotonic clock when that was in this boot.
        """
        self._utc_ns, self._monotonic_ns = utc_ns, monotonic_ns
        self._is_synchronised = is_synchronised
        self._floor_ns = floor_ms * NS_PER_MS
        self.stepped_ms = 0
        self._steps = self._last_step_ms = 0
        self._last_ns = self._begun_ns = monotonic_ns()
        host_ns = utc_ns()
        self._offset_ns = host_ns - self._last_ns
        self.trust = Trust.RTC
        if is_synchronised():
            self.trust = Trust.NTP
        elif held_offset_ns is not None:
            self.trust, self._offset_ns = Trust.HOLDOVER, held_offset_ns
        elif host_ns < self._floor_ns:
            self.trust, self._offset_ns = Trust.NEVER, self._floor_ns - self._last_ns
        # for the whole run: whoever plans anew behind the first step asks for what was before it
        self.knows_past = knows_past or self.trust is not Trust.NEVER
        self._trusted_ns: int | None = None if self.trust < Trust.PLATFORM else self._last_ns
        self._best_ns: int | None = None
        self._best_since_ns = self._last_ns

    @property
    def is_trusted(self) -> bool:
        """Tell whether somebody vouches for the time."""
        return self.trust >= Trust.PLATFORM

    @property
    def offset_ns(self) -> int:
        """UTC less the monotonic clock."""
        return self._offset_ns

    @property
    def state(self) -> ClockState:
        """Return what there is to say of the clock, as of its last look at the host's."""
        since_ns = self._begun_ns if self._trusted_ns is None else self._trusted_ns
        is_right = self.trust is Trust.NTP
        return ClockState(
            trust=self.trust,
            unconfirmed_s=0 if is_right else (self._last_ns - since_ns) // _SECOND_NS,
            steps=self._steps,
            last_step_ms=self._last_step_ms,
        )

    def now_ms(self) -> int:
        """Return UTC in milliseconds; less than before only if `stepped_ms` tells so."""
        monotonic_ns = self._monotonic_ns()
        passed_ns, self._last_ns = monotonic_ns - self._last_ns, monotonic_ns
        host_ns = self._utc_ns()
        if self._is_synchronised():
            self.trust = Trust.NTP
            self._trusted_ns = monotonic_ns
            self._approach(host_ns - monotonic_ns, passed_ns)
        elif self.trust is Trust.NTP:
            self.trust = Trust.HOLDOVER
        elif self.trust is Trust.RTC or (self.trust is Trust.NEVER and host_ns >= self._floor_ns):
            self.trust = Trust.RTC
            self._approach(host_ns - monotonic_ns, passed_ns)
        return (monotonic_ns + self._offset_ns) // NS_PER_MS

    def take_platform(self, server_ms: int) -> None:
        """Take in a receipt of this time: it is that late now, or later by how long it travelled.

        Counts only while the kernel does not vouch for the host's clock.
        """
        self.now_ms()
        if self.trust is Trust.NTP:
            return
        offset_ns = server_ms * NS_PER_MS - self._last_ns
        ahead_ns = self._offset_ns - offset_ns
        self._best_ns = offset_ns if self._best_ns is None else max(self._best_ns, offset_ns)
        if not self.is_trusted:
            self._best_ns, self._best_since_ns = offset_ns, self._last_ns
            self.trust = Trust.PLATFORM
            self._trusted_ns = self._last_ns
            if not 0 <= ahead_ns <= _CONFIRMED_NS:
                self._set(offset_ns)
            return
        self._trusted_ns = self._last_ns
        if ahead_ns < 0:
            self._set(offset_ns)
        elif self._last_ns - self._best_since_ns >= _PLATFORM_EVERY_NS:
            if self._offset_ns - self._best_ns > SLEW_MAX_MS * NS_PER_MS:
                self._set(self._best_ns)
            self._best_ns, self._best_since_ns = None, self._last_ns

    def monotonic_s(self) -> float:
        """Return the seconds of the event loop's clock."""
        return self._monotonic_ns() / 1e9

    async def sleep_ms(self, duration_ms: int) -> None:
        """Wait."""
        await asyncio.sleep(duration_ms / 1000)

    def _approach(self, offset_ns: int, passed_ns: int) -> None:
        """Follow forward at once, a little back slowly, and far back at once."""
        ahead_ns = self._offset_ns - offset_ns
        if 0 < ahead_ns <= SLEW_MAX_MS * NS_PER_MS:
            self._offset_ns -= min(ahead_ns, passed_ns // _SLEW_DIVISOR)
        else:
            self._set(offset_ns)

    def _set(self, offset_ns: int) -> None:
        """Put the clock, and count what is more than a slew."""
        step_ms = (offset_ns - self._offset_ns) // NS_PER_MS
        self._offset_ns = offset_ns
        if abs(step_ms) > SLEW_MAX_MS:
            self._steps += 1
            self._last_step_ms = step_ms
            _log.warning("clock: put by %+.3f s (%s)", step_ms / 1000, self.trust.name.lower())
        if step_ms < 0 or step_ms > FORWARD_MAX_MS:
            self.stepped_ms += step_ms
