"""edgeagg: the platform engineer's commands.

Exit status: 0 all is well; 1 something did not work, an audit found something missing, or a balance
a meter to look at; 2 something in a file or on the command line must be changed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from edgeagg import (
    __version__,
    cli_delivery,
    cli_judged,
    cli_receive,
    report,
    report_judged,
    tariff,
)
from edgeagg.cli_common import (
    TIME,
    asked_range,
    checked,
    gateway_of,
    instant,
    known_gateways,
    print_json,
    print_lines,
    tariff_folders,
    virtual_meters,
    zone_of,
)
from edgeagg.errors import ConfigError, EdgeaggError, FormatError, StoreError
from edgeagg.receiver.audit import audit
from edgeagg.receiver.energies import DIRECTIONS
from edgeagg.receiver.registers import Beside, Shown
from edgeagg.receiver.site import balance_site, meter_days
from edgeagg.receiver.store import open_store

_EXAMPLES = """examples:
  edgeagg receive --broker mqtt://127.0.0.1:1883 --store sqlite:////var/lib/edgeagg/platform.db
  edgeagg receive --broker mqtts://mq.example:8883 --store postgresql://edgeagg@db/energy
  edgeagg gateways --store sqlite:///platform.db         whose batches are let in
  edgeagg audit --store sqlite:///platform.db            is anything missing, does the tree balance?
  edgeagg audit --store sqlite:///platform.db --gateway qp-0001 --json
  edgeagg balance --store sqlite:///platform.db          where does energy go that nobody meters?
  edgeagg energy --store sqlite:///platform.db --meter incomer --tariff shanghai-two-part
  edgeagg register --store sqlite:///platform.db --meter incomer --at 2026-11-01
  edgeagg audits --store sqlite:///platform.db --from 2026-11-01    what was bridged, and why?
  edgeagg demand --store sqlite:///platform.db --month 2026-11      the greatest demand of a month
  edgeagg tariffs                                        the tariffs that are known
  edgeagg alarms --store sqlite:///platform.db           copied or restored gateways
  edgeagg reconcile --store sqlite:///platform.db --day 2026-11-01
"""

_BALANCE_EXAMPLES = """examples:
  edgeagg balance --store sqlite:///platform.db
  edgeagg balance --store sqlite:///platform.db --gateway qp-0001 --from 2026-11-01 --to 2026-12-01
  edgeagg balance --store postgresql://edgeagg@db/energy --virtual virtual.toml --json

Exit status 1: a meter to look at (reversed, a wrong ratio, counted twice, rates that are not their
total), or no windows yet.
"""

_ENERGY_EXAMPLES = """examples:
  edgeagg energy --store sqlite:///platform.db --meter incomer
  edgeagg energy --store sqlite:///platform.db --meter incomer --tariff shanghai-two-part
  edgeagg energy --store sqlite:///platform.db --meter site --virtual virtual.toml --from 2026-11-01
  edgeagg energy --store sqlite:///platform.db --meter incomer --tariff ours --tariffs /etc/edgeagg
"""

_REGISTER_EXAMPLES = """examples:
  edgeagg register --store sqlite:///platform.db --meter incomer --at 2026-11-01
  edgeagg register --store sqlite:///platform.db --meter incomer --at 2026-11-01T08:15 --json

Exit status 1: no good reading on both sides of that time.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        return int(asyncio.run(options.command(options)))
    except ConfigError as error:
        print(f"edgeagg: {error}", file=sys.stderr)
        return 2
    except (EdgeaggError, OSError) as error:
        print(f"edgeagg: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="edgeagg",
        description="Receives every reading of the gateways once, and proves that none is missing.",
        epilog=_EXAMPLES,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"edgeagg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    cli_receive.add_commands(commands)
    look = commands.add_parser("audit", help="show what is there and what is missing")
    look.set_defaults(command=_audit)
    weigh = commands.add_parser(
        "balance", help="balance the metering tree", epilog=_BALANCE_EXAMPLES, formatter_class=raw
    )
    weigh.set_defaults(command=_balance)
    energy = commands.add_parser(
        "energy",
        help="show a meter's energy by day and rate",
        epilog=_ENERGY_EXAMPLES,
        formatter_class=raw,
    )
    energy.add_argument("--meter", required=True, help="a meter, real or virtual")
    energy.add_argument("--tariff", help="by the rates of this tariff")
    energy.set_defaults(command=_energy)
    shown = commands.add_parser(
        "register",
        help="show what a meter's energy registers were at a moment",
        epilog=_REGISTER_EXAMPLES,
        formatter_class=raw,
    )
    shown.add_argument("--meter", required=True, help="a meter")
    shown.add_argument("--at", required=True, help=TIME)
    shown.add_argument("--zone", default="Asia/Shanghai", help="of that time (%(default)s)")
    shown.set_defaults(command=_register)
    known = commands.add_parser("tariffs", help="list the tariffs that are known")
    known.set_defaults(command=_tariffs)
    judging = cli_judged.add_commands(commands)
    delivery = cli_delivery.add_commands(commands)
    for command in (look, weigh, energy, shown, *judging, *delivery):
        command.add_argument(
            "--store", required=True, help="sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        )
    for command in (look, weigh, energy, shown, *judging, *delivery):
        command.add_argument("--gateway", help="only this gateway")
    for command in (weigh, energy):
        _add_range(command)
    for command in (energy, known):
        command.add_argument("--tariffs", type=Path, help="folder with tariffs of your own")
    for command in (look, weigh, energy, shown, known, *judging, *delivery):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_range(command: argparse.ArgumentParser) -> None:
    command.add_argument("--from", dest="since", help=TIME)
    command.add_argument("--to", dest="until", help="the end, not included")
    command.add_argument(
        "--zone", default="Asia/Shanghai", help="of days, unless a tariff has its own (%(default)s)"
    )
    command.add_argument("--virtual", type=Path, help="file of virtual meters, sums of others")


async def _audit(options: argparse.Namespace) -> int:
    store = await open_store(checked(options.store))
    try:
        audits = [
            await audit(store, gateway) for gateway in await known_gateways(store, options.gateway)
        ]
        quarantined = await store.quarantined()
    finally:
        await store.close()
    if options.json:
        print_json([found.to_json() for found in audits])
    else:
        for found in audits:
            print_lines(report.audit_lines(found))
        if quarantined.row_count or quarantined.dropped_rows:
            print(
                f"quarantine: {quarantined.row_count} messages, {quarantined.byte_count} bytes;"
                f" {quarantined.dropped_rows} older ones dropped"
            )
    return 0 if all(found.is_whole for found in audits) else 1


async def _balance(options: argparse.Namespace) -> int:
    zone = zone_of(options.zone)
    asked = asked_range(options, zone)
    virtual = virtual_meters(options.virtual)
    store = await open_store(checked(options.store))
    try:
        found = []
        failed = False
        for gateway in await known_gateways(store, options.gateway, virtual, options.virtual):
            try:
                found.append(await balance_site(store, gateway, asked, virtual, options.virtual))
            except (StoreError, FormatError) as error:
                # one gateway that has sent no windows yet, or nonsense, hides no other
                print(f"edgeagg: {error}", file=sys.stderr)
                failed = True
    finally:
        await store.close()
    if options.json:
        print_json([report.balance_json(site) for site in found])
    else:
        for site in found:
            print_lines(report.balance_lines(site, zone))
    return 1 if failed or not found or any(site.has_mistakes for site in found) else 0


async def _energy(options: argparse.Namespace) -> int:
    folders = tariff_folders(options)
    known = None if options.tariff is None else tariff.load(options.tariff, folders)
    zone = zone_of(options.zone) if known is None else known.zone
    asked = asked_range(options, zone)
    virtual = virtual_meters(options.virtual)
    store = await open_store(checked(options.store))
    try:
        wanted = await known_gateways(store, options.gateway, virtual, options.virtual)
        gateway = await gateway_of(store, wanted, options.meter, virtual)
        found = await meter_days(
            store, gateway, options.meter, asked, known or zone, virtual, options.virtual
        )
    finally:
        await store.close()
    if options.json:
        print_json(report.days_json(found, known))
    else:
        print_lines(report.days_lines(found, known))
    return 0


async def _register(options: argparse.Namespace) -> int:
    zone = zone_of(options.zone)
    at_ms = instant("--at", options.at, zone) or 0
    found = []
    store = await open_store(checked(options.store))
    try:
        wanted = await known_gateways(store, options.gateway)
        gateway = await gateway_of(store, wanted, options.meter, ())
        for point in DIRECTIONS:
            before, after = await store.bracket(gateway, options.meter, point, at_ms)
            if before is not None and after is not None:
                found.append((point, Shown.between(before, after, at_ms)))
        beside = Beside(
            [
                one
                for one in await store.uncertainties(gateway, options.meter, at_ms)
                if one.point in DIRECTIONS
            ],
            [
                one
                for one in await store.audits(gateway, at_ms, at_ms + 1, options.meter)
                if one.point in DIRECTIONS
            ],
        )
    finally:
        await store.close()
    if options.json:
        print_json(report_judged.registers_json(found, beside))
    elif found:
        print_lines(report_judged.register_lines(found, beside, zone))
    else:
        print(f"edgeagg: {options.meter}: no good readings around {options.at}", file=sys.stderr)
    return 0 if found else 1


async def _tariffs(options: argparse.Namespace) -> int:
    folders = tariff_folders(options)
    found = [tariff.load(name, folders) for name in tariff.names(folders)]
    if options.json:
        print_json([report.tariff_json(one) for one in found])
    else:
        for one in found:
            print_lines(report.tariff_lines(one))
    return 0
