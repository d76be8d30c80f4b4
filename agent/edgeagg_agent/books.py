"""Slots that nobody read: what a restart left out, and what a bus had no time for.

Owns their declaration, so that every slot is a row or lies in a declared gap (invariant I2).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from edgeagg.model import Quality
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.schedule import Schedule

_log = logging.getLogger(__name__)

_RUN_SLOTS_MAX = 2**31 - 1  # what the core and every database can hold


def take_over(
    schedule: Schedule, periods_ms: Mapping[int, int], recorder: Recorder, now_ms: int
) -> None:
    """Let each group go on behind its last slot, and declare those since then as not read."""
    for group, period_ms in periods_ms.items():
        last_due_ms = recorder.last_due_ms(group)
        if last_due_ms is None:
            continue
        ahead_ms = last_due_ms - now_ms
        if ahead_ms > period_ms:
            _log.error(
                "%s: was read up to %d s in the future, by a wrong clock; it is not read "
                "again before then. Is the clock right now? Then move the state directory away",
                recorder.name(group),
                ahead_ms // 1000,
            )
        schedule.postpone(group, last_due_ms)
        slots = (schedule.next_due_ms(group) - last_due_ms) // period_ms - 1
        declare(recorder, group, last_due_ms + period_ms, slots, period_ms, Quality.STOPPED)


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
