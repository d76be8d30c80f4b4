"""Slots that nobody read: by a restart, by a step of the clock, for want of time on a bus.

Owns their declaration, so that every slot is a row or lies in a declared gap (invariant I2).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from edgeagg.model import Quality
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.schedule import Schedule

_log = logging.getLogger(__name__)

_FLAGGED = bytes.maketrans(bytes([Quality.GOOD]), bytes([Quality.CLOCK_UNTRUSTED]))
_RUN_SLOTS_MAX = 2**31 - 1  # what the core and every database can hold


AHEAD_MAX_MS = 60_000
"""Slots that were read further ahead of now are left behind: a wrong clock read them."""
GAP_MAX_MS = 400 * 86_400_000
"""A longer time without slots is a clock that was wrong before, and no gap."""


def take_over(
    schedule: Schedule,
    periods_ms: Mapping[int, int],
    recorder: Recorder,
    now_ms: int,
    *,
    reason: Quality = Quality.STOPPED,
    knows_past: bool = True,
) -> None:
    """Let each group go on behind its last slot, and declare those since then as not read.

    A group that was read in the future, by a wrong clock, is read again at once: its slots begin
    anew with the next one. So do those of a group that is behind by more than a gap can be, or at
    all when nobody knows what was before (`knows_past`).
    """
    for group, period_ms in periods_ms.items():
        last_due_ms = recorder.last_due_ms(group)
        if last_due_ms is None:
            continue
        ahead_ms = last_due_ms - now_ms
        behind_max_ms = GAP_MAX_MS if knows_past else period_ms
        if ahead_ms > max(period_ms, AHEAD_MAX_MS) or -ahead_ms > behind_max_ms:
            _log.warning(
                "meter %s: its last slot lies %d s in the %s: a wrong clock; it goes on from now",
                recorder.catalogue.groups[group].meter,
                abs(ahead_ms) // 1000,
                "future" if ahead_ms > 0 else "past",
            )
            recorder.restart(group, schedule.next_due_ms(group) - period_ms)
            continue
        schedule.postpone(group, last_due_ms)
        slots = (schedule.next_due_ms(group) - last_due_ms) // period_ms - 1
        declare(recorder, group, last_due_ms + period_ms, slots, period_ms, reason)


def declare(
    recorder: Recorder, group: int, first_due_ms: int, slots: int, period_ms: int, reason: Quality
) -> None:
    """Declare slots that nobody read, in as many runs as it takes to count them.

    A clock that begins in 1970 and is set by NTP steps over more slots than one run can hold.
    """
    for done in range(0, slots, _RUN_SLOTS_MAX):
        run = min(slots - done, _RUN_SLOTS_MAX)
        recorder.gap(
            group,
            first_due_ms=first_due_ms + done * period_ms,
            last_due_ms=first_due_ms + (done + run - 1) * period_ms,
            slots=run,
            reason=reason,
        )


def flagged(qualities: bytes, *, is_trusted: bool) -> bytes:
    """Return the qualities of a row: values whose time nobody vouches for are kept and flagged."""
    return qualities if is_trusted else qualities.translate(_FLAGGED)
