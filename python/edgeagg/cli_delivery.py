"""The commands that prove the delivery: alarms of copied or restored state, and stated days.

Owns their options and what is asked of the store; the words are the report's business.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from edgeagg import delivery_report, statement
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
from edgeagg.receiver.reconcile import meter_days, reconcile
from edgeagg.receiver.store import open_store


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
    for command in (alarms, days):
        command.add_argument(
            "--zone", default="Asia/Shanghai", help="of days and times (%(default)s)"
        )
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
    zone = zone_of(options.zone)
    from_ms, to_ms = 0, TIME_MAX_MS
    if options.day is not None:
        from_ms = instant("--day", options.day, zone) or 0
        to_ms = from_ms + statement.DAY_MS
    now_ms = time.time_ns() // 1_000_000
    store = await open_store(checked(options.store))
    try:
        compared = [
            one
            for gateway in await known_gateways(store, options.gateway)
            for one in await reconcile(store, gateway, from_ms=from_ms, to_ms=to_ms, now_ms=now_ms)
        ]
    finally:
        await store.close()
    days = meter_days(compared)
    if options.json:
        print_json([delivery_report.day_json(day, zone) for day in days])
    else:
        print_lines(delivery_report.day_lines(days, zone))
    return 0 if all(day.matches for day in days) else 1
