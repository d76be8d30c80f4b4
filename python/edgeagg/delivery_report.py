"""What the commands print of deliveries, as lines and as JSON: alarms, reconciled days. Pure."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Iterable, Iterator
from typing import Any

from edgeagg.localdays import DAY_MS
from edgeagg.receiver.ledger import Alarm
from edgeagg.receiver.reconcile import MeterDay


def alarm_lines(alarms: Iterable[Alarm], zone: zoneinfo.ZoneInfo) -> Iterator[str]:
    """Yield alarms as lines for people."""
    for alarm in alarms:
        place = f"epoch {alarm.epoch}" + (f" sequence {alarm.sequence}" if alarm.sequence else "")
        seen = f"{_local(alarm.first_ms, zone)}"
        if alarm.times > 1:
            seen += f", {alarm.times} times until {_local(alarm.last_ms, zone)}"
        yield f"{alarm.gateway}: {alarm.kind.value}, {place}, {seen}: {alarm.detail}"


def alarm_json(alarm: Alarm) -> dict[str, Any]:
    """Return an alarm as plain JSON values."""
    return {
        "gateway": alarm.gateway,
        "kind": alarm.kind.value,
        "epoch": alarm.epoch,
        "sequence": alarm.sequence,
        "first_ms": alarm.first_ms,
        "last_ms": alarm.last_ms,
        "times": alarm.times,
        "detail": alarm.detail,
    }


def day_lines(days: Iterable[tuple[MeterDay, zoneinfo.ZoneInfo]]) -> Iterator[str]:
    """Yield reconciled days as a table for people; what is here instead stands below.

    Each is named by the clock of its site.
    """
    yield f"{'gateway':<12} {'day':<10} {'meter':<20} {'due':>9} {'values':>9} reasons  missed"
    for day, zone in days:
        tally = day.stated
        yield (
            f"{day.gateway:<12} {_day(day, zone):<10} {day.meter:<20} {tally.slots:>9}"
            f" {tally.values:>9} {tally.reasons:>7} {tally.missed:>7}"
            f"  {'matches' if day.matches else 'DIFFERS'}"
        )
        if not day.matches:
            found = day.found
            same = found.slots == tally.slots and found.values == tally.values
            yield (
                f"{'here':>44} {found.slots:>9} {found.values:>9} {found.reasons:>7}"
                f" {found.missed:>7}{'  other contents' if same else ''}"
            )


def day_json(day: MeterDay, zone: zoneinfo.ZoneInfo) -> dict[str, Any]:
    """Return a reconciled day as plain JSON values."""
    return {
        "gateway": day.gateway,
        "meter": day.meter,
        "day": _day(day, zone),
        "start_ms": day.start_ms,
        "end_ms": day.end_ms,
        "matches": day.matches,
        **{
            side: {
                "due": tally.slots,
                "values": tally.values,
                "reasons": tally.reasons,
                "missed": tally.missed,
            }
            for side, tally in (("stated", day.stated), ("found", day.found))
        },
    }


def _day(day: MeterDay, zone: zoneinfo.ZoneInfo) -> str:
    begin = dt.datetime.fromtimestamp(day.start_ms / 1000, zone).date().isoformat()
    # days are an hour shorter or longer where the clock is changed
    more = round((day.end_ms - day.start_ms) / DAY_MS) - 1
    return begin if more < 1 else f"{begin}+{more}"


def _local(at_ms: int, zone: zoneinfo.ZoneInfo) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, zone).isoformat(timespec="seconds")
