"""edgeagg: the platform engineer's commands.

Exit status: 0 all is well; 1 something did not work, an audit found something missing, or a balance
a meter to look at; 2 something in a file or on the command line must be changed.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import logging
import sys
import zoneinfo
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgeagg import __version__, cli_configure, cli_receive, report, tariff, tree
from edgeagg.errors import ConfigError, EdgeaggError, FormatError, StoreError
from edgeagg.receiver.audit import audit
from edgeagg.receiver.energies import DIRECTIONS
from edgeagg.receiver.registers import Shown
from edgeagg.receiver.site import Range, balance_site, meter_days
from edgeagg.receiver.store import Store, open_store
from edgeagg.tomltable import hint

_EXAMPLES = """examples:
  edgeagg receive --broker mqtt://127.0.0.1:1883 --store sqlite:////var/lib/edgeagg/platform.db
  edgeagg receive --broker mqtts://mq.example:8883 --store postgresql://edgeagg@db/energy
  edgeagg gateways --store sqlite:///platform.db         whose batches are let in
  edgeagg configure qp-0001 site.toml --broker … --store … --key-file platform.key
  edgeagg audit --store sqlite:///platform.db            is anything missing, does the tree balance?
  edgeagg audit --store sqlite:///platform.db --gateway qp-0001 --json
  edgeagg balance --store sqlite:///platform.db          where does energy go that nobody meters?
  edgeagg energy --store sqlite:///platform.db --meter incomer --tariff shanghai-two-part
  edgeagg register --store sqlite:///platform.db --meter incomer --at 2026-11-01
  edgeagg tariffs                                        the tariffs that are known
"""

_BALANCE_EXAMPLES = """examples:
  edgeagg balance --store sqlite:///platform.db
  edgeagg balance --store sqlite:///platform.db --gateway qp-0001 --from 2026-11-01 --to 2026-12-01
  edgeagg balance --store postgresql://edgeagg@db/energy --virtual virtual.toml --json

Exit status 1: a meter to look at (reversed, a wrong ratio, counted twice), or no windows yet.
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

_TIME = "a day or time such as 2026-11-01, 2026-11-01T08:15 or 2026-11-01T00:15Z"
_TIME_MAX_MS = 2**45


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
    cli_configure.add_command(commands)
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
    shown.add_argument("--at", required=True, help=_TIME)
    shown.add_argument("--zone", default="Asia/Shanghai", help="of that time (%(default)s)")
    shown.set_defaults(command=_register)
    known = commands.add_parser("tariffs", help="list the tariffs that are known")
    known.set_defaults(command=_tariffs)
    for command in (look, weigh, energy, shown):
        command.add_argument(
            "--store", required=True, help="sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        )
        command.add_argument("--gateway", help="only this gateway")
    for command in (weigh, energy):
        _add_range(command)
    for command in (energy, known):
        command.add_argument("--tariffs", type=Path, help="folder with tariffs of your own")
    for command in (look, weigh, energy, shown, known):
        command.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _add_range(command: argparse.ArgumentParser) -> None:
    command.add_argument("--from", dest="since", help=_TIME)
    command.add_argument("--to", dest="until", help="the end, not included")
    command.add_argument(
        "--zone", default="Asia/Shanghai", help="of days, unless a tariff has its own (%(default)s)"
    )
    command.add_argument("--virtual", type=Path, help="file of virtual meters, sums of others")


async def _audit(options: argparse.Namespace) -> int:
    store = await open_store(_checked(options.store))
    try:
        audits = [
            await audit(store, gateway) for gateway in await _gateways(store, options.gateway)
        ]
        quarantined = await store.quarantined()
    finally:
        await store.close()
    if options.json:
        _print_json([found.to_json() for found in audits])
    else:
        for found in audits:
            _print(report.audit_lines(found))
        if quarantined.row_count or quarantined.dropped_rows:
            print(
                f"quarantine: {quarantined.row_count} messages, {quarantined.byte_count} bytes;"
                f" {quarantined.dropped_rows} older ones dropped"
            )
    return 0 if all(found.is_whole for found in audits) else 1


async def _balance(options: argparse.Namespace) -> int:
    zone = _zone(options.zone)
    asked = _range(options, zone)
    virtual = _virtual(options.virtual)
    store = await open_store(_checked(options.store))
    try:
        found = []
        failed = False
        for gateway in await _gateways(store, options.gateway, virtual, options.virtual):
            try:
                found.append(await balance_site(store, gateway, asked, virtual, options.virtual))
            except (StoreError, FormatError) as error:
                # one gateway that has sent no windows yet, or nonsense, hides no other
                print(f"edgeagg: {error}", file=sys.stderr)
                failed = True
    finally:
        await store.close()
    if options.json:
        _print_json([report.balance_json(site) for site in found])
    else:
        for site in found:
            _print(report.balance_lines(site, zone))
    return 1 if failed or not found or any(site.has_mistakes for site in found) else 0


async def _energy(options: argparse.Namespace) -> int:
    folders = _folders(options)
    known = None if options.tariff is None else tariff.load(options.tariff, folders)
    zone = _zone(options.zone) if known is None else known.zone
    asked = _range(options, zone)
    virtual = _virtual(options.virtual)
    store = await open_store(_checked(options.store))
    try:
        wanted = await _gateways(store, options.gateway, virtual, options.virtual)
        gateway = await _gateway_of(store, wanted, options.meter, virtual)
        found = await meter_days(
            store, gateway, options.meter, asked, known or zone, virtual, options.virtual
        )
    finally:
        await store.close()
    if options.json:
        _print_json(report.days_json(found, known))
    else:
        _print(report.days_lines(found, known))
    return 0


async def _register(options: argparse.Namespace) -> int:
    zone = _zone(options.zone)
    at_ms = _instant("--at", options.at, zone) or 0
    found = []
    store = await open_store(_checked(options.store))
    try:
        wanted = await _gateways(store, options.gateway)
        gateway = await _gateway_of(store, wanted, options.meter, ())
        for point in DIRECTIONS:
            before, after = await store.bracket(gateway, options.meter, point, at_ms)
            if before is not None and after is not None:
                found.append((point, Shown.between(before, after, at_ms)))
    finally:
        await store.close()
    if options.json:
        _print_json(report.registers_json(found))
    elif found:
        _print(report.register_lines(found, zone))
    else:
        print(f"edgeagg: {options.meter}: no good readings around {options.at}", file=sys.stderr)
    return 0 if found else 1


async def _tariffs(options: argparse.Namespace) -> int:
    folders = _folders(options)
    found = [tariff.load(name, folders) for name in tariff.names(folders)]
    if options.json:
        _print_json([report.tariff_json(one) for one in found])
    else:
        for one in found:
            _print(report.tariff_lines(one))
    return 0


def _checked(store: str) -> str:
    """Refuse a file that is not there: opening would make it, and an empty database is whole."""
    file = store.removeprefix("sqlite:///")
    if file != store and not Path(file).exists():
        raise ConfigError("--store", "file", f"{file!r} is not there", "a database of `receive`")
    return store


async def _gateways(
    store: Store,
    wanted: str | None,
    virtual: Iterable[tree.VirtualMeter] = (),
    file: Path | None = None,
) -> list[str]:
    """Return the gateways that are wanted; refuse names that the store does not know."""
    known = sorted({stream.gateway for stream in await store.streams()})
    for meter in virtual:
        if meter.gateway not in known:
            key = f"meter[{meter.info.name}].gateway"
            raise ConfigError(file, key, repr(meter.gateway), hint(meter.gateway, known))
    if wanted is not None and wanted not in known:
        allowed = f"one of {', '.join(known) or 'none'}"
        raise ConfigError("--gateway", "name", repr(wanted), allowed)
    return known if wanted is None else [wanted]


async def _gateway_of(
    store: Store, gateways: Sequence[str], meter: str, virtual: Iterable[tree.VirtualMeter]
) -> str:
    """Return the gateway that has this meter; names are unique on one gateway only."""
    computed = {(one.gateway, one.info.name) for one in virtual}
    names: set[str] = set()
    having = []
    for gateway in gateways:
        own = {one.name for found in (await store.catalogues(gateway))[-1:] for one in found.meters}
        own |= {name for of, name in computed if of == gateway}
        names |= own
        if meter in own:
            having.append(gateway)
    if not having:
        raise ConfigError("--meter", "name", f"no meter {meter!r}", hint(meter, names))
    if len(having) > 1:
        found = f"{meter!r} is a meter of {', '.join(having)}"
        raise ConfigError("--gateway", "name", found, "one of them")
    return having[0]


def _virtual(file: Path | None) -> tuple[tree.VirtualMeter, ...]:
    return () if file is None else tree.read(file)


def _folders(options: argparse.Namespace) -> list[Path]:
    folder: Path | None = options.tariffs
    if folder is None:
        return []
    if not folder.is_dir():
        raise ConfigError("--tariffs", "folder", f"{str(folder)!r} is not there", "a folder")
    return [folder]


def _zone(name: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        allowed = "a time zone such as Asia/Shanghai"
        raise ConfigError("--zone", "name", repr(name), allowed) from None


def _range(options: argparse.Namespace, zone: zoneinfo.ZoneInfo) -> Range:
    asked = Range(_instant("--from", options.since, zone), _instant("--to", options.until, zone))
    if asked.from_ms is not None and asked.to_ms is not None and asked.from_ms >= asked.to_ms:
        found = f"{options.until} is not after {options.since}"
        raise ConfigError("--to", "time", found, "an end behind its beginning")
    return asked


def _instant(key: str, text: str | None, zone: zoneinfo.ZoneInfo) -> int | None:
    """Return a time in UTC milliseconds; one without offset is local."""
    if text is None:
        return None
    try:
        at = dt.datetime.fromisoformat(text)
        at_ms = round((at if at.tzinfo else at.replace(tzinfo=zone)).timestamp() * 1000)
    except (ValueError, OverflowError):
        at_ms = -1
    if not 0 <= at_ms < _TIME_MAX_MS:
        raise ConfigError(key, "time", repr(text), _TIME)
    return at_ms


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def _print_json(value: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    print(json.dumps(value, indent=1))
