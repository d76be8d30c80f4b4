"""The commands that show what gateways judge: audits of totalisers, and demands.

Owns their options and which rows are asked for; the words are the reports' business.
"""

from __future__ import annotations

import argparse
import datetime as dt
import re
import sys
import zoneinfo
from typing import Any

from edgeagg import report_judged
from edgeagg.cli_common import (
    TIME,
    checked,
    gateway_of,
    instant,
    known_gateways,
    print_json,
    print_lines,
    zone_of,
)
from edgeagg.errors import ConfigError
from edgeagg.receiver.site import midnight_ms
from edgeagg.receiver.store import Store, open_store

_AUDITS_EXAMPLES = """examples:
  edgeagg audits --store sqlite:///platform.db
  edgeagg audits --store sqlite:///platform.db --meter incomer --from 2026-11-01 --to 2026-12-01
  edgeagg audits --store postgresql://edgeagg@db/energy --gateway qp-0001 --json
"""

_DEMAND_EXAMPLES = """examples:
  edgeagg demand --store sqlite:///platform.db
  edgeagg demand --store sqlite:///platform.db --meter incomer --month 2026-11
  edgeagg demand --store postgresql://edgeagg@db/energy --gateway qp-0001 --json

Exit status 1: no demand has come; a site file asks for one with `demand`.
"""

_ALWAYS_MS = 2**45
_ZONE_USUAL = "Asia/Shanghai"  # of gateways that do not name theirs


def add_commands(
    commands: Any,  # noqa: ANN401 - argparse has no name for it
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Add both commands; return their parsers."""
    raw = argparse.RawDescriptionHelpFormatter
    bridged: argparse.ArgumentParser = commands.add_parser(
        "audits",
        help="show where registers did not simply count on, and what was made of it",
        epilog=_AUDITS_EXAMPLES,
        formatter_class=raw,
    )
    bridged.add_argument("--from", dest="since", help=TIME)
    bridged.add_argument("--to", dest="until", help="the end, not included")
    bridged.set_defaults(command=_audits)
    peak: argparse.ArgumentParser = commands.add_parser(
        "demand",
        help="show the greatest demand of each month",
        epilog=_DEMAND_EXAMPLES,
        formatter_class=raw,
    )
    peak.add_argument("--month", help="only this one, such as 2026-11")
    peak.set_defaults(command=_demand)
    for command in (bridged, peak):
        command.add_argument("--meter", help="only this meter")
        command.add_argument("--zone", help="of all times (that of the site)")
    return bridged, peak


async def _audits(options: argparse.Namespace) -> int:
    store = await open_store(checked(options.store))
    try:
        found = []
        for gateway in await _wanted(store, options):
            zone = await _zone(store, gateway, options.zone)
            since_ms = instant("--from", options.since, zone) or 0
            until_ms = instant("--to", options.until, zone)
            until_ms = _ALWAYS_MS if until_ms is None else until_ms
            if since_ms >= until_ms:
                text = f"{options.until} is not after {options.since}"
                raise ConfigError("--to", "time", text, "an end behind its beginning")
            audits = await store.audits(gateway, since_ms, until_ms, options.meter)
            found.append((gateway, zone, audits))
    finally:
        await store.close()
    if options.json:
        print_json(
            [
                report_judged.audit_json(gateway, one)
                for gateway, _, audits in found
                for one in audits
            ]
        )
    else:
        for gateway, zone, audits in found:
            print_lines(report_judged.audit_lines(gateway, audits, zone))
    return 0


async def _demand(options: argparse.Namespace) -> int:
    store = await open_store(checked(options.store))
    try:
        found = []
        for gateway in await _wanted(store, options):
            zone = await _zone(store, gateway, options.zone)
            from_ms, to_ms = _month(options.month, zone)
            days = await store.demands(gateway, from_ms, to_ms, options.meter)
            found.append((gateway, zone, report_judged.peaks(days, zone)))
    finally:
        await store.close()
    is_any = any(peaks for _, _, peaks in found)
    if options.json:
        print_json(
            [report_judged.peak_json(gateway, one) for gateway, _, peaks in found for one in peaks]
        )
    elif is_any:
        for gateway, zone, peaks in found:
            print_lines(report_judged.peak_lines(gateway, peaks, zone))
    else:
        print("edgeagg: no demand has come; a site file asks for it", file=sys.stderr)
    return 0 if is_any else 1


async def _wanted(store: Store, options: argparse.Namespace) -> list[str]:
    gateways = await known_gateways(store, options.gateway)
    if options.meter is None:
        return gateways
    return [await gateway_of(store, gateways, options.meter, ())]


async def _zone(store: Store, gateway: str, wanted: str | None) -> zoneinfo.ZoneInfo:
    """Return the zone that was asked for, else that of the site."""
    if wanted is not None:
        return zone_of(wanted)
    newest = [found.local_time for found in (await store.catalogues(gateway))[-1:]]
    return zone_of(next((local.zone for local in newest if local is not None), _ZONE_USUAL))


def _month(text: str | None, zone: zoneinfo.ZoneInfo) -> tuple[int, int]:
    if text is None:
        return 0, _ALWAYS_MS
    allowed = "a month such as 2026-11"
    if not re.fullmatch(r"(19|20)\d\d-\d\d", text):
        raise ConfigError("--month", "month", repr(text), allowed)
    year, month = int(text[:4]), int(text[5:])
    if not 1 <= month <= 12:
        raise ConfigError("--month", "month", repr(text), allowed)
    following = dt.date(year + month // 12, month % 12 + 1, 1)
    return max(0, midnight_ms(dt.date(year, month, 1), zone)), midnight_ms(following, zone)
