"""Which slots follow which: what two due times of a group say about the clock between them.

Pure arithmetic; what is recorded of it is the matter of `books` and `held`.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgeagg.model import Quality

_FLAGGED = bytes.maketrans(bytes([Quality.GOOD]), bytes([Quality.CLOCK_UNTRUSTED]))
_RUN_SLOTS_MAX = 2**31 - 1  # what the core and every database can hold


AHEAD_MAX_MS = 60_000
"""Slots that were read further ahead of now are left behind: a wrong clock read them."""
GAP_MAX_MS = 400 * 86_400_000
"""A longer time without slots is a clock that was wrong before, and no gap."""


def is_elsewhere(last_due_ms: int, now_ms: int, period_ms: int, *, knows_past: bool) -> bool:
    """Tell whether a wrong clock read a group's last slot, so that none follows from it now."""
    ahead_ms = last_due_ms - now_ms
    behind_max_ms = GAP_MAX_MS if knows_past else period_ms
    return ahead_ms > max(period_ms, AHEAD_MAX_MS) or -ahead_ms > behind_max_ms


def runs(first_due_ms: int, slots: int, period_ms: int) -> Iterator[tuple[int, int, int]]:
    """Yield first and last slot and number of the runs that it takes to count `slots`.

    A clock that begins in 1970 and is set by NTP steps over more slots than one run can hold.
    """
    for done in range(0, slots, _RUN_SLOTS_MAX):
        count = min(slots - done, _RUN_SLOTS_MAX)
        first_ms = first_due_ms + done * period_ms
        yield first_ms, first_ms + (count - 1) * period_ms, count


def flagged(qualities: bytes, *, is_trusted: bool) -> bytes:
    """Return the qualities of a row: values whose time nobody vouches for are kept and flagged."""
    return qualities if is_trusted else qualities.translate(_FLAGGED)
