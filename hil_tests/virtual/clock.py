"""The gateway host's clock, which is behind true time and is set right in steps.

Owns the relation of the two. `SystemClock`, the agent's own, stands on it; the meters and the
platform live in true time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from edgeagg_agent.clock import SystemClock

_NS_PER_MS = 1_000_000
_EVER_MS = -(1 << 62)
_NAP_MS = 1_000  # what a poller sleeps at most, lest it sleep through a step of the clock


@dataclass(frozen=True, slots=True)
class Step:
    """At this true time, the host's clock was put forward by so much."""

    at_ms: int
    by_ms: int


class HostClock:
    """Reads behind by the sum of the steps still to come; right after the last one."""

    def __init__(self, true_ms: Callable[[], int], steps: Sequence[Step]) -> None:
        """`true_ms` tells true UTC; the steps stand in the order of time."""
        self._true_ms = true_ms
        to_come_ms = sum(step.by_ms for step in steps)
        behind_ms = accumulate((-step.by_ms for step in steps), initial=to_come_ms)
        starts_ms = [_EVER_MS, *(step.at_ms for step in steps)]
        self._spans = list(zip(starts_ms, behind_ms, strict=True))[::-1]

    def utc_ns(self) -> int:
        """Return what the host takes for UTC, in nanoseconds."""
        return self.host_ms(self._true_ms()) * _NS_PER_MS

    def host_ms(self, true_ms: int) -> int:
        """Return what the host's clock shows at a true time."""
        for start_ms, behind_ms in self._spans:
            if true_ms >= start_ms:
                return true_ms - behind_ms
        raise ValueError(f"{true_ms} lies before all time")

    def true_ms_of(self, host_ms: int) -> int:
        """Return the true time of a time that the host noted.

        A time that the clock leapt over was noted after the step, of a read that began before it.
        """
        for (start_ms, behind_ms), (_, before_ms) in pairwise(self._spans):
            if host_ms >= start_ms - before_ms:
                return host_ms + behind_ms
        return host_ms + self._spans[-1][1]

    def until_step_ms(self) -> int:
        """Return how long the clock runs on before its next step; very long after the last."""
        true_ms = self._true_ms()
        return min(
            (start - true_ms for start, _ in self._spans if start > true_ms), default=-_EVER_MS
        )


class LeapingClock(SystemClock):
    """The agent's clock, whose naps last until there is something to wake up for.

    A poller that has nothing to do looks at the clock every second; a month of such seconds costs
    more than all its work. Here it wakes at the next slot, or a second after the clock stepped.
    """

    def __init__(self, host: HostClock, monotonic_ns: Callable[[], int], period_ms: int) -> None:
        """Slots fall due at multiples of `period_ms`."""
        super().__init__(host.utc_ns, monotonic_ns)
        self._host, self._period_ms = host, period_ms

    async def sleep_ms(self, duration_ms: int) -> None:
        """Wait; a second or more may last longer."""
        if duration_ms >= _NAP_MS:
            slot_ms = self._period_ms - self.now_ms() % self._period_ms
            duration_ms = max(duration_ms, min(slot_ms, self._host.until_step_ms() + _NAP_MS))
        await super().sleep_ms(duration_ms)

    async def leap_ms(self, free_ms: int) -> None:
        """Wait, but no longer than a second after the next step of the clock."""
        await super().sleep_ms(min(free_ms, self._host.until_step_ms() + _NAP_MS))
