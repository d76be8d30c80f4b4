"""Slots that nobody read: by a restart, by a step of the clock, for want of time on a bus.

Owns their declaration, so that every slot is a row or lies in a declared gap (invariant I2).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from edgeagg.model import Quality
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.schedule import Schedule
from edgeagg_agent.slots import is_elsewhere, runs

_log = logging.getLogger(__name__)


def take_over(
    schedule: Schedule,
    periods_ms: Mapping[int, int],
    recorder: Recorder,
    now_ms: int,
    *,
    reason: Quality = Quality.STOPPED,
    knows_past: bool = True,
    known: Collection[int] = (),
) -> None:
    """Let each group go on behind its last slot, and declare those since then as not read.

    The slots of a group that has none yet count from its next one on.
    A group that was read in the future, by a wrong clock, is read again at once: its slots begin
    anew with the next one. So do those of a group that is behind by more than a gap can be, or at
    all when nobody knows what was before (`knows_past`). The last slots of `known` groups are
    right: what they miss since then the clock was put over.
    """
    for group, period_ms in periods_ms.items():
        last_due_ms = recorder.last_due_ms(group)
        if last_due_ms is None:
            recorder.begin(group, schedule.next_due_ms(group) - period_ms)
            continue
        knows = knows_past or group in known
        if is_elsewhere(last_due_ms, now_ms, period_ms, knows_past=knows):
            ahead_ms = last_due_ms - now_ms
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
        why = Quality.CLOCK_UNTRUSTED if group in known else reason
        declare(recorder, group, last_due_ms + period_ms, slots, period_ms, why)


def declare(
    recorder: Recorder, group: int, first_due_ms: int, slots: int, period_ms: int, reason: Quality
) -> None:
    """Declare slots that nobody read."""
    for first_ms, last_ms, count in runs(first_due_ms, slots, period_ms):
        recorder.gap(group, first_due_ms=first_ms, last_due_ms=last_ms, slots=count, reason=reason)
