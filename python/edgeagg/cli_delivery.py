"""The commands that prove the delivery: alarms of copied or restored state, and stated days.

Owns their options and what is asked of the store; the words are the report's business.
"""

from __future__ import annotations

import argparse
import datetime as dt
import time
import zoneinfo
from typing import Any

from edgeagg import delivery_report
from edgeagg.cli_common import (
    TIME,
    TIME_MAX_MS,
    checked,
    instant,
    known_gateways,
    print_json,
    print_lines,
    zone_of,
)
from edgeagg.receiver.reconcile import MeterDay, meter_days, reconcile
from edgeagg.receiver.store import Store, open_store

_ZONE = "Asia/Shanghai"


def add_commands(
    commands: Any,  # noqa: ANN401 - argparse has no name for it
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Add both commands; return their parsers."""
    alarms: argparse.ArgumentParser = commands.add_parser(
        "alarms", help="list gateways whose state was copied or restored"
    )
    alarms.add_argument("--from", dest="since", help=f"only those seen since {TIME}")
    alarms.set_defaults(command=_alarms)
    days: argparse.ArgumentParser = commands.add_parser(
        "reconcile", help="compare what gateways stated of each meter's day with what is here"
    )
    days.add_argument("--day", help="only this day, such as 2026-11-01")
    days.set_defaults(command=_reconcile)
    alarms.add_argument("--zone", default=_ZONE, help="of times (%(default)s)")
    days.add_argument("--zone", help="of days (that of each gateway's site)")
    return alarms, days


async def _alarms(options: argparse.Namespace) -> int:
    zone = zone_of(options.zone)
    since_ms = instant("--from", options.since, zone) or 0
    store = await open_store(checked(options.store))
    try:
        wanted = await known_gateways(store, options.gateway)
        found = [
            alarm
            for alarm in await store.ledger.alarms()
            if alarm.last_ms >= since_ms and (options.gateway is None or alarm.gateway in wanted)
        ]
    finally:
        await store.close()
    if options.json:
        print_json([delivery_report.alarm_json(alarm) for alarm in found])
    else:
        print_lines(delivery_report.alarm_lines(found, zone))
    return 1 if found else 0


async def _reconcile(options: argparse.Namespace) -> int:
    now_ms = time.time_ns() // 1_000_000
    store = await open_store(checked(options.store))
    days: list[tuple[MeterDay, zoneinfo.ZoneInfo]] = []
    try:
        for gateway in await known_gateways(store, options.gateway):
            zone = zone_of(options.zone or await _site_zone(store, gateway))
            from_ms, to_ms = _asked_day(options.day, zone)
            compared = await reconcile(store, gateway, from_ms=from_ms, to_ms=to_ms, now_ms=now_ms)
            days += [(day, zone) for day in meter_days(compared)]
    finally:
        await store.close()
    if options.json:
        print_json([delivery_report.day_json(day, zone) for day, zone in days])
    else:
        print_lines(delivery_report.day_lines(days))
    return 0 if all(day.matches for day, _ in days) else 1


async def _site_zone(store: Store, gateway: str) -> str:
    """Return the zone by which a gateway's days are stated."""
    catalogues = await store.catalogues(gateway)
    local = catalogues[-1].local_time if catalogues else None
    return _ZONE if local is None else local.zone


def _asked_day(text: str | None, zone: zoneinfo.ZoneInfo) -> tuple[int, int]:
    """Return where the day begins and where the next one does; all time without one."""
    if text is None:
        return 0, TIME_MAX_MS
    from_ms = instant("--day", text, zone) or 0
    following = dt.datetime.fromtimestamp(from_ms / 1000, zone).date() + dt.timedelta(days=1)
    midnight = dt.datetime.combine(following, dt.time(), zone)
    return from_ms, round(midnight.timestamp() * 1000)
