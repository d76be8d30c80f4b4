"""How many batches may be under way to one destination, and how long to wait for their receipt.

Pure; knows no batch and no network. The way to a platform has no fixed speed and no fixed delay, so
both are learned from receipts: the window grows while they come as fast as ever, and shrinks when
they come later, since then batches stand in a queue, where a new one would wait behind old ones.
"""

from __future__ import annotations

from collections.abc import Callable

from edgeagg.batch import CREDIT_MAX

Uniform = Callable[[float, float], float]
"""Draws from an interval."""

WINDOW_FIRST = 16
WINDOW_MIN = 2
TIMEOUT_MS = 5_000
TIMEOUT_MAX_MS = 60_000
_QUEUE_SHARE = 0.25  # of the shortest delay: what batches may stand in queues
_QUEUE_MIN_MS = 20.0  # below this a delay is noise
_FORGET_MS = 600_000  # a route may have changed since its shortest delay was seen


class Pace:
    """The window and the time-out of one destination."""

    def __init__(self, uniform: Uniform) -> None:
        self.timeout_ms = TIMEOUT_MS
        self.is_stalled = False
        self._uniform = uniform
        self._window = float(WINDOW_FIRST)
        self._credit = CREDIT_MAX
        self._is_starting = True
        self._smooth_ms, self._spread_ms = 0.0, 0.0
        self._least_ms: tuple[float, float] = (float("inf"), float("inf"))
        self._least_since_ms = 0
        self._shrunk_ms = -TIMEOUT_MAX_MS

    @property
    def backlog_limit(self) -> int:
        """Batches under way beyond which no old one is sent; leaves room for a new one."""
        return min(int(self._window), max(1, self._credit - 1))

    @property
    def limit(self) -> int:
        """Batches under way beyond which none is sent."""
        return max(WINDOW_MIN, self._credit)

    def grant(self, credit: int) -> None:
        """Note what the platform allows."""
        self._credit = min(credit, CREDIT_MAX)

    def answered(self, delays_ms: list[int], now_ms: int, *, is_full: bool) -> None:
        """Learn from the delays of batches that a receipt has just covered, sent once each.

        `is_full` tells whether the window was what kept more batches from being sent.
        """
        self.is_stalled = False
        if not delays_ms:
            # the time-out was too short for all of these, or nothing came: keep the longer one
            return
        longest_ms, shortest_ms = max(delays_ms), min(delays_ms)
        self._note(longest_ms)
        self.timeout_ms = self._patience_ms()
        if now_ms - self._least_since_ms > _FORGET_MS:
            self._least_ms = self._least_ms[1], float("inf")
            self._least_since_ms = now_ms
        self._least_ms = self._least_ms[0], min(self._least_ms[1], shortest_ms)
        least_ms = min(self._least_ms)
        bearable_ms = least_ms + max(_QUEUE_SHARE * least_ms, _QUEUE_MIN_MS)
        if shortest_ms > bearable_ms:
            self._is_starting = False
            if now_ms - self._shrunk_ms >= shortest_ms:
                # what was sent before the last shrinking says nothing about it
                self._shrunk_ms = now_ms
                self._resize(self._window * max(0.5, bearable_ms / shortest_ms))
        elif is_full:
            grown = len(delays_ms) if self._is_starting else len(delays_ms) / self._window
            self._resize(self._window + grown)

    def stalled(self) -> None:
        """Note that batches were sent and no receipt came: send few, and wait longer.

        The next time-out is drawn evenly (full jitter): gateways that lost the same platform do not
        come back in step.
        """
        self.is_stalled = True
        self._is_starting = True
        self._resize(WINDOW_MIN)
        least_ms = self._patience_ms()
        limit_ms = max(least_ms, min(2 * self.timeout_ms, TIMEOUT_MAX_MS))
        self.timeout_ms = int(self._uniform(least_ms, limit_ms))

    def back(self) -> None:
        """Note that the platform speaks again after a stall."""
        self.is_stalled = False
        self.timeout_ms = self._patience_ms()

    def _note(self, delay_ms: float) -> None:
        """Smooth the delay and its spread (RFC 6298, 2.3)."""
        if not self._smooth_ms:
            self._smooth_ms, self._spread_ms = delay_ms, delay_ms / 2
            return
        self._spread_ms += (abs(delay_ms - self._smooth_ms) - self._spread_ms) / 4
        self._smooth_ms += (delay_ms - self._smooth_ms) / 8

    def _patience_ms(self) -> int:
        """Return the time-out when all goes well."""
        # twice: a delay that never changes must not come close to the time-out
        expected_ms = 2 * self._smooth_ms + 4 * self._spread_ms
        return int(min(max(TIMEOUT_MS, expected_ms), TIMEOUT_MAX_MS))

    def _resize(self, window: float) -> None:
        self._window = min(max(window, WINDOW_MIN), CREDIT_MAX)
