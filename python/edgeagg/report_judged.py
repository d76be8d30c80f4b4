"""What the commands print of audits, demands and registers: lines for people, and JSON. Pure."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from edgeagg.judged import AuditKind
from edgeagg.receiver.judgements import StoredAudit, StoredDemand
from edgeagg.receiver.registers import Beside, Shown
from edgeagg.report import local_text

_KINDS = {
    AuditKind.ROLLOVER: "rolled over",
    AuditKind.RESET: "went on from a lower number",
    AuditKind.REPLACED: "another meter hangs there",
    AuditKind.JUMP: "went on from a number higher than it can have counted",
    AuditKind.FREEZE: "stood still and caught up",
    AuditKind.DIP: "showed less for a while",
    AuditKind.GLITCH: "showed what it cannot have counted for a while",
    AuditKind.GAP: "was not read for too long to tell when it was counted",
}


@dataclass(frozen=True, slots=True)
class Peak:
    """The greatest demands of one point in one month; `day_count` days are known of it."""

    meter: str
    point: str
    month: str
    block: StoredDemand | None
    sliding: StoredDemand | None
    day_count: int


def audit_lines(
    gateway: str, found: Sequence[StoredAudit], zone: zoneinfo.ZoneInfo
) -> Iterator[str]:
    """Yield what was bridged as lines for people."""
    count = "1 register was" if len(found) == 1 else f"{len(found)} times a register was"
    yield f"{gateway}: {count} bridged" if found else f"{gateway}: nothing was bridged"
    for one in found:
        yield f"  {audit_text(one, zone)}"


def audit_text(one: StoredAudit, zone: zoneinfo.ZoneInfo) -> str:
    """Say what was bridged and why."""
    aside = ""
    if one.doubted:
        furthest = "" if one.extreme is None else f", as far as {_exact(one.extreme)} {one.unit}"
        aside = f"; {one.doubted} readings set aside{furthest}"
    return (
        f"{_local_s(one.opening_ms, zone)} {one.meter} {one.point} {_KINDS[one.kind]}:"
        f" {_exact(one.closing)} {one.unit} at {_local_s(one.closing_ms, zone)},"
        f" then {_exact(one.opening)} {one.unit};"
        f" {_exact(one.energy)} {one.unit} counted in between{aside}"
    )


def audit_json(gateway: str, one: StoredAudit) -> dict[str, Any]:
    """Return the same as plain JSON values; decimals as text, exactly."""
    return {
        "gateway": gateway,
        "meter": one.meter,
        "point": one.point,
        "unit": one.unit,
        "kind": one.kind.name.lower(),
        "closing_ms": one.closing_ms,
        "closing": _exact(one.closing),
        "opening_ms": one.opening_ms,
        "opening": _exact(one.opening),
        "energy": _exact(one.energy),
        "doubted": one.doubted,
        "extreme": None if one.extreme is None else _exact(one.extreme),
    }


def peaks(found: Iterable[StoredDemand], zone: zoneinfo.ZoneInfo) -> list[Peak]:
    """Return the greatest demands of every point by local month."""
    months: dict[tuple[str, str, str], list[StoredDemand]] = {}
    for day in found:
        month = dt.datetime.fromtimestamp(day.start_ms / 1000, zone).strftime("%Y-%m")
        months.setdefault((day.meter, day.point, month), []).append(day)
    return [
        Peak(
            *identity,
            _greatest((day.block, day) for day in days),
            _greatest((day.sliding, day) for day in days),
            sum(day.periods > 0 for day in days),
        )
        for identity, days in sorted(months.items())
    ]


def peak_lines(gateway: str, found: Iterable[Peak], zone: zoneinfo.ZoneInfo) -> Iterator[str]:
    """Yield the greatest demands as lines for people."""
    for peak in found:
        yield f"{gateway} {peak.meter} {peak.point} {peak.month}, {peak.day_count} days known"
        for name, _, end_ms, text in _sides(peak):
            at = "" if end_ms is None else f" in the period that ended {local_text(end_ms, zone)}"
            yield f"  {name:<8} {text}{at}"


def peak_json(gateway: str, peak: Peak) -> dict[str, Any]:
    """Return the same as plain JSON values; decimals as text."""
    sides = {
        name: None if value is None else {"value": f"{float(value):.6f}", "end_ms": end_ms}
        for name, value, end_ms, _ in _sides(peak)
    }
    day = peak.block or peak.sliding
    return {
        "gateway": gateway,
        "meter": peak.meter,
        "point": peak.point,
        "month": peak.month,
        "unit": None if day is None else day.unit,
        "days": peak.day_count,
        **sides,
    }


def register_lines(
    found: Iterable[tuple[str, Shown]], beside: Beside, zone: zoneinfo.ZoneInfo
) -> Iterator[str]:
    """Yield registers at a moment as lines for people, with the readings around it."""
    for point, shown in found:
        yield (
            f"{point} {float(shown.shown_kwh):.4f} kWh ± {float(shown.uncertainty_kwh):.4f}"
            f" at {local_text(shown.at_ms, zone)}"
        )
        for side, reading in (("before", shown.before), ("after", shown.after)):
            apart_s = abs(reading.at_ms - shown.at_ms) / 1000
            yield f"  {float(reading.shown):.4f} kWh read {apart_s:.1f} s {side}"
        for one in beside.uncertainties:
            if one.point == point:
                yield (
                    f"  {_exact(one.energy)} ± {_exact(one.error)} {one.unit} in the"
                    f" {one.length_ms / 1000:g} s from {local_text(one.start_ms, zone)},"
                    " as the gateway has it"
                )
        for audit in beside.audits:
            if audit.point == point:
                yield f"  bridged: {audit_text(audit, zone)}"


def registers_json(found: Iterable[tuple[str, Shown]], beside: Beside) -> list[dict[str, Any]]:
    """Return the same as plain JSON values; decimals as text, exactly enough for billing."""
    return [
        {
            "point": point,
            "at_ms": shown.at_ms,
            "kwh": f"{float(shown.shown_kwh):.6f}",
            "uncertainty_kwh": f"{float(shown.uncertainty_kwh):.6f}",
            "read_before_ms": shown.before.at_ms,
            "read_after_ms": shown.after.at_ms,
            "windows": [
                {
                    "length_ms": one.length_ms,
                    "start_ms": one.start_ms,
                    "energy": _exact(one.energy),
                    "uncertainty": _exact(one.error),
                    "unit": one.unit,
                }
                for one in beside.uncertainties
                if one.point == point
            ],
            "audits": [one.kind.name.lower() for one in beside.audits if one.point == point],
        }
        for point, shown in found
    ]


def _greatest(days: Iterable[tuple[Fraction | None, StoredDemand]]) -> StoredDemand | None:
    """Return the day of the greatest value, the first of them."""
    known = [(value, day) for value, day in days if value is not None]
    return max(known, key=lambda one: (one[0], -one[1].start_ms))[1] if known else None


def _sides(peak: Peak) -> Iterator[tuple[str, Fraction | None, int | None, str]]:
    """Yield name, value, end of its period and words of the block and the sliding maximum."""
    for name, day in (("block", peak.block), ("sliding", peak.sliding)):
        if day is None:
            yield name, None, None, "not known"
            continue
        value = day.block if name == "block" else day.sliding
        end_ms = day.block_end_ms if name == "block" else day.sliding_end_ms
        yield name, value, end_ms, f"{float(value or 0):.3f} {day.unit}"


def _exact(value: Fraction) -> str:
    """Return a decimal: values are mantissas times powers of ten."""
    digits = 0
    while (value * 10**digits).denominator != 1:
        digits += 1
    whole = str(abs(value.numerator * 10**digits // value.denominator)).rjust(digits + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{whole[:-digits]}.{whole[-digits:]}" if digits else f"{sign}{whole}"


def _local_s(at_ms: int, zone: zoneinfo.ZoneInfo) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, zone).isoformat(timespec="seconds")
