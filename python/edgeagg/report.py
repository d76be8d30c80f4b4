"""What the commands print: audits, balances and energies as lines for people and as JSON. Pure."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

from edgeagg.balance import Energy, Gap, Node
from edgeagg.model import Quality
from edgeagg.receiver.audit import Audit
from edgeagg.receiver.site import MeterDays, SiteBalance
from edgeagg.receiver.sums import BrokenSum
from edgeagg.tariff import Tariff


def audit_lines(found: Audit) -> Iterator[str]:
    """Yield an audit as lines for people."""
    streams = found.streams
    yield f"{found.gateway}: {'whole' if found.is_whole else 'NOT WHOLE'}"
    yield (
        f"  slots due {found.point_slots_due} = {found.values} values + {found.reasons} reasons"
        f" + {found.missed} declared missed"
        + (f" + {found.lost} declared lost" if found.lost else "")
        + f" + {found.unexplained} unexplained"
    )
    yield (
        f"  batches {sum(s.batches for s in streams)} in {len(streams)} epoch(s),"
        f" {found.batches_missing} missing, {sum(s.lost_batches for s in streams)} lost;"
        f" {found.windows} windows"
    )
    for node in found.nodes:
        if not node.children:
            continue
        if node.net_kwh is None or node.children_kwh is None or node.gap_kwh is None:
            yield f"  {node.meter} (tier {node.tier}): not enough readings to balance"
            continue
        share = "" if node.gap_share is None else f" ({node.gap_share:.2%})"
        yield (
            f"  {node.meter} (tier {node.tier}) {float(node.net_kwh):.3f} kWh ="
            f" {' + '.join(node.children)} {float(node.children_kwh):.3f}"
            f" + gap {float(node.gap_kwh):.3f}{share}"
        )


def balance_lines(found: SiteBalance, zone: zoneinfo.ZoneInfo) -> Iterator[str]:
    """Yield a balanced tree as lines for people; each gap stands below its meter's children."""
    count = found.nodes[0].window_count if found.nodes else 0
    yield (
        f"{found.gateway} ({found.site}): {local_text(found.from_ms, zone)} to"
        f" {local_text(found.to_ms, zone)}, {count} windows of {found.length_ms // 1000} s"
    )
    yield f"  {'meter':<30} tier {'kWh':>14} {'complete':>9}  worst"
    waiting: list[Node] = []
    for node in found.nodes:
        yield from _gap_lines(_ended(waiting, node.depth))
        name = f"{'  ' * node.depth}{node.meter}{' (virtual)' * (node.meter in found.virtual)}"
        known = (
            ""
            if node.known_count == node.window_count
            else f" ({node.known_count} of {node.window_count} windows have energy)"
        )
        yield f"  {name:<30} {node.tier:>4} {_energy(node.energy)}{known}"
        waiting.append(node)
    yield from _gap_lines(_ended(waiting, 0))
    for tier in found.tiers:
        yield f"  gap of tier {tier.tier}: {_kwh(tier.gap_kwh)} of {_kwh(tier.own_kwh)} kWh"
    for above, suspect in found.suspects.items():
        yield f"  look, below {above}, at {suspect}"
    for overlap in found.overlaps:
        yield f"  look at the virtual meters: {overlap}"
    for one in found.sums:
        yield f"  look at {one}"


def balance_json(found: SiteBalance) -> dict[str, Any]:
    """Return a balanced tree as plain JSON values; gaps are nodes of their own."""
    nodes: list[dict[str, Any]] = []
    waiting: list[Node] = []
    for node in found.nodes:
        nodes += [_gap_json(*ended) for ended in _ended(waiting, node.depth)]
        nodes.append(_node_json(node, is_virtual=node.meter in found.virtual))
        waiting.append(node)
    nodes += [_gap_json(*ended) for ended in _ended(waiting, 0)]
    return {
        "gateway": found.gateway,
        "site": found.site,
        "from_ms": found.from_ms,
        "to_ms": found.to_ms,
        "window_s": found.length_ms // 1000,
        "nodes": nodes,
        "tiers": [
            {
                "tier": tier.tier,
                "own_kwh": _number(tier.own_kwh),
                "gap_kwh": _number(tier.gap_kwh),
            }
            for tier in found.tiers
        ],
        "suspects": [
            {
                "below": above,
                "meter": suspect.meter,
                "fault": suspect.fault,
                "factor": suspect.factor,
                "explained": suspect.explained,
                "advice": str(suspect),
            }
            for above, suspect in found.suspects.items()
        ],
        "overlaps": [
            {"into": overlap.into, "meter": overlap.meter, "times": overlap.times}
            for overlap in found.overlaps
        ],
        "sums": [_sum_json(one) for one in found.sums],
    }


def _sum_json(found: BrokenSum) -> dict[str, Any]:
    broken = found.broken
    return {
        "meter": found.meter,
        "total": found.total,
        "total_kwh": _number(broken.last.total),
        "parts_kwh": {
            name: _number(kwh) for name, kwh in zip(found.parts, broken.last.parts, strict=True)
        },
        "at_ms": broken.last.at_ms,
        "difference_kwh": _number(broken.last.difference),
        "tolerance_kwh": _number(broken.tolerance),
        "cause": broken.cause,
        "part": None if broken.part is None else found.parts[broken.part],
        "advice": str(found),
    }


def days_lines(found: MeterDays, tariff: Tariff | None) -> Iterator[str]:
    """Yield a meter's days as lines for people."""
    yield f"{found.gateway} {found.meter}: net energy in kWh, import minus export"
    if tariff is not None:
        yield f"  {tariff.title}{_warning(tariff)}"
    rates = () if tariff is None else tariff.rates
    columns = "".join(f" {rate:>12}" for rate in (*rates, "all"))
    yield f"  {'day':<10}{columns} {'complete':>9}  worst"
    for day in found.days:
        parts = "".join(f" {_kwh(day.by_rate.get(rate)):>12}" for rate in rates)
        known = (
            ""
            if day.known_count == day.window_count
            else f" ({day.known_count} of {day.window_count} windows have energy)"
        )
        yield (
            f"  {day.day}{parts} {_kwh(day.energy.net_kwh):>12}"
            f" {float(day.energy.completeness):>9.1%}  {_worst(day.energy.worst)}{known}"
            f"{_bridges(day.audit_count)}"
        )
    sums = [_kwh(sum((day.by_rate[rate] for day in found.days), Fraction(0))) for rate in rates]
    known_kwh = [day.energy.net_kwh for day in found.days if day.energy.net_kwh is not None]
    sums.append(_kwh(sum(known_kwh, Fraction(0)) if known_kwh else None))
    yield f"  {'sum':<10}{''.join(f' {text:>12}' for text in sums)}"


def days_json(found: MeterDays, tariff: Tariff | None) -> dict[str, Any]:
    """Return a meter's days as plain JSON values."""
    return {
        "gateway": found.gateway,
        "meter": found.meter,
        "window_s": found.length_ms // 1000,
        "tariff": None if tariff is None else tariff.name,
        "tariff_status": None if tariff is None else tariff.status,
        "days": [
            {
                "day": day.day.isoformat(),
                **_energy_json(day.energy),
                "by_rate": {rate: _number(kwh) for rate, kwh in day.by_rate.items()},
                "windows": day.window_count,
                "windows_known": day.known_count,
                "audits": day.audit_count,
            }
            for day in found.days
        ],
    }


def tariff_lines(tariff: Tariff) -> Iterator[str]:
    """Yield what is known of a tariff as lines for people."""
    since = ", ".join(str(version.since) for version in tariff.versions)
    yield f"{tariff.name}: {tariff.title}{_warning(tariff)}"
    yield f"  rates {', '.join(tariff.rates)}; from {since} on; {tariff.zone.key}"
    for source in tariff.sources:
        yield f"  source: {source}"


def tariff_json(tariff: Tariff) -> dict[str, Any]:
    """Return what is known of a tariff as plain JSON values."""
    return {
        "name": tariff.name,
        "title": tariff.title,
        "status": tariff.status,
        "sources": list(tariff.sources),
        "zone": tariff.zone.key,
        "rates": list(tariff.rates),
        "since": [version.since.isoformat() for version in tariff.versions],
    }


def _ended(waiting: list[Node], depth: int) -> list[tuple[Node, Gap]]:
    """Take out, innermost first, the meters whose children end before a node of this depth."""
    ended = []
    while waiting and waiting[-1].depth >= depth:
        node = waiting.pop()
        if node.gap is not None:
            ended.append((node, node.gap))
    return ended


def _gap_lines(ended: Iterable[tuple[Node, Gap]]) -> Iterator[str]:
    for node, gap in ended:
        name = f"{'  ' * (node.depth + 1)}gap below {node.meter}"
        share = "" if gap.share is None else f" ({gap.share:.2%})"
        over = (
            ""
            if gap.compared_count == node.window_count
            else f" (over the {gap.compared_count} windows that all of them have:"
            f" {_kwh(gap.own_kwh)} - {_kwh(gap.children_kwh)})"
        )
        yield f"  {name:<30}      {_energy(_gap_energy(gap))}{share}{over}"


def _gap_energy(gap: Gap) -> Energy:
    return Energy(gap.net_kwh, gap.completeness, gap.worst)


def _node_json(node: Node, *, is_virtual: bool) -> dict[str, Any]:
    return {
        "kind": "virtual" if is_virtual else "meter",
        "meter": node.meter,
        "tier": node.tier,
        "depth": node.depth,
        **_energy_json(node.energy),
        "windows": node.window_count,
        "windows_known": node.known_count,
        "children": list(node.children),
    }


def _gap_json(node: Node, gap: Gap) -> dict[str, Any]:
    return {
        "kind": "gap",
        "below": node.meter,
        "tier": node.tier,
        "depth": node.depth + 1,
        **_energy_json(_gap_energy(gap)),
        "windows": node.window_count,
        "windows_compared": gap.compared_count,
        "own_kwh": _number(gap.own_kwh),
        "children_kwh": _number(gap.children_kwh),
        "share": gap.share,
    }


def _energy_json(energy: Energy) -> dict[str, Any]:
    return {
        "net_kwh": _number(energy.net_kwh),
        "completeness": float(energy.completeness),
        "worst": None if energy.worst is None else energy.worst.name.lower(),
    }


def _energy(energy: Energy) -> str:
    kwh = f"{_kwh(energy.net_kwh):>14}"
    return f"{kwh} {float(energy.completeness):>9.1%}  {_worst(energy.worst)}"


def _worst(quality: Quality | None) -> str:
    return "windows missing" if quality is None else quality.name.lower().replace("_", " ")


def _kwh(energy: Fraction | None) -> str:
    return "unknown" if energy is None else f"{float(energy):.3f}"


def _number(energy: Fraction | None) -> float | None:
    return None if energy is None else round(float(energy), 6)


def _bridges(audit_count: int) -> str:
    return f" ({audit_count} bridged: see `edgeagg audits`)" if audit_count else ""


def _warning(tariff: Tariff) -> str:
    if tariff.status == "verified":
        return ""
    return " (a draft: compare it with the utility's notice before billing)"


def local_text(at_ms: int, zone: zoneinfo.ZoneInfo) -> str:
    """Return a time in the zone, to the minute."""
    return dt.datetime.fromtimestamp(at_ms / 1000, zone).isoformat(timespec="minutes")
