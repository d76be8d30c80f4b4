"""edgeagg-agent: the installer's commands.

Exit status: 0 all is well; 1 something did not work (a meter that does not answer, a full disk);
2 something in a file or on the command line must be changed, and nothing was started.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeagg import __version__
from edgeagg.errors import ConfigError, EdgeaggError, LinkError
from edgeagg.model import Quality
from edgeagg_agent import app, profile
from edgeagg_agent.bus.serial import check_port
from edgeagg_agent.clock import SystemClock
from edgeagg_agent.config import BusConfig, Site, load_site
from edgeagg_agent.poller import MeterReader, Scan

_EXAMPLES = """examples:
  edgeagg-agent check /etc/edgeagg/site.toml          is the file right, are the ports there, is there time enough?
  edgeagg-agent read /etc/edgeagg/site.toml           read every meter once and show its values
  edgeagg-agent read site.toml --meter incomer --json
  edgeagg-agent run /etc/edgeagg/site.toml            poll and deliver until stopped
  edgeagg-agent status /etc/edgeagg/site.toml         what the running agent is doing
  edgeagg-agent profiles                              the meter models that are known
"""  # noqa: E501 - lines of a terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    # what it complains of reaches us as errors, which are reported once
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    try:
        return int(options.command(options))
    except ConfigError as error:
        print(f"edgeagg-agent: {error}", file=sys.stderr)
        return 2
    except (EdgeaggError, OSError) as error:
        print(f"edgeagg-agent: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgeagg-agent",
        description="Polls a site's energy meters and delivers every reading to its platform.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgeagg-agent {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command, text in (
        ("run", _run, "poll and deliver until stopped"),
        ("check", _check, "check the site file, the ports and the time on each bus"),
        ("read", _read, "read every meter once"),
        ("status", _status, "show what the running agent is doing"),
    ):
        sub = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        sub.add_argument(
            "site", type=Path, help="the site file, for example /etc/edgeagg/site.toml"
        )
        sub.set_defaults(command=command)
        if name != "run":
            sub.add_argument("--json", action="store_true", help="print JSON")
        if name == "read":
            sub.add_argument("--meter", help="only this meter")
    sub = commands.add_parser("profiles", help="list the meter models that are known")
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.set_defaults(command=_profiles)
    return parser


def _run(options: argparse.Namespace) -> int:
    site = load_site(options.site)
    _check_ports(site)
    agent = app.Agent(site, SystemClock())
    meters = len(site.meters)
    logging.getLogger(__name__).info(
        "%s: %d meters on %d buses, state in %s",
        site.gateway,
        meters,
        len(site.buses),
        site.state_directory,
    )
    try:
        asyncio.run(agent.run())
    except ExceptionGroup as errors:
        known, unknown = errors.split((EdgeaggError, OSError))
        if known is None or unknown is not None:
            raise  # a mistake of ours: with its whole trace
        raise _first(known) from None
    return 0


def _first(errors: ExceptionGroup[Exception]) -> Exception:
    """Return the first error, however deep the task group that raised it."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


def _check(options: argparse.Namespace) -> int:
    site = load_site(options.site)
    _check_ports(site)
    if options.json:
        print(json.dumps([_plan(bus) for bus in site.buses], indent=1))
        return 0
    for bus in site.buses:
        print(f"{bus.name}  {bus.where}  {bus.share:.0%} of its time is asked for")
        for meter in bus.meters:
            reads = len(meter.blocks)
            print(
                f"  {meter.name:<16} unit {meter.unit:<4} {meter.profile.name:<20}"
                f" {len(meter.points):>3} points in {reads} read{'s' if reads > 1 else ''},"
                f" {meter.scan_us / 1000:.0f} ms every {meter.period_ms / 1000:g} s"
                f"{'' if meter.profile.status == 'verified' else '  (draft: compare with display)'}"
            )
    print(f"{options.site} is right: {len(site.meters)} meters on {len(site.buses)} buses.")
    return 0


def _read(options: argparse.Namespace) -> int:
    site = load_site(options.site)
    names = [meter.name for meter in site.meters]
    if options.meter is not None and options.meter not in names:
        raise ConfigError(
            options.site, "--meter", f"no meter {options.meter!r}", f"one of {', '.join(names)}"
        )
    _check_ports(site)
    results = asyncio.run(_scan_all(site, options.meter))
    if options.json:
        print(json.dumps([_result(reader, scan) for reader, scan in results], indent=1))
    else:
        for reader, scan in results:
            _print_scan(reader, scan)
    failed = [reader for reader, scan in results if any(scan.qualities)]
    return 1 if failed else 0


def _status(options: argparse.Namespace) -> int:
    site = load_site(options.site)
    if site.status_file is None:
        raise ConfigError(
            options.site, "status.file", "missing", "a file in a tmpfs, /run/edgeagg/status.json"
        )
    if not site.status_file.exists():
        message = f"edgeagg-agent: {site.status_file} is not there: is the agent running?"
        print(message, file=sys.stderr)
        return 1
    text = site.status_file.read_text(encoding="utf-8")
    if options.json:
        print(text)
        return 0
    _print_status(json.loads(text), SystemClock().now_ms())
    return 0


def _profiles(options: argparse.Namespace) -> int:
    found = [profile.load(name, ()) for name in profile.names(())]
    if options.json:
        rows = [
            {"name": p.name, "vendor": p.vendor, "models": p.models, "status": p.status}
            for p in found
        ]
        print(json.dumps(rows, indent=1, ensure_ascii=False))
        return 0
    for item in found:
        print(f"{item.name:<24} {item.status:<9} {item.vendor}: {', '.join(item.models)}")
    return 0


def _check_ports(site: Site) -> None:
    for bus in site.buses:
        if not bus.port:
            continue
        try:
            check_port(bus.port)
        except LinkError as error:
            raise ConfigError(
                site.file, f"bus[{bus.name}].port", str(error), "a serial port that can be opened"
            ) from None


async def _scan_all(site: Site, only: str | None) -> list[tuple[MeterReader, Scan]]:
    clock = SystemClock()
    results = []
    for config in site.buses:
        bus = app.make_bus(config)
        try:
            for meter in config.meters:
                if only in {None, meter.name}:
                    reader = MeterReader(meter, bus, clock)
                    results.append((reader, await reader.scan()))
        finally:
            await bus.close()
    return results


def _value(mantissa: int, exponent: int) -> str:
    """Return the exact decimal."""
    if exponent >= 0:
        return str(mantissa * 10**exponent)
    digits = str(abs(mantissa)).rjust(1 - exponent, "0")
    return f"{'-' if mantissa < 0 else ''}{digits[:exponent]}.{digits[exponent:]}"


def _print_scan(reader: MeterReader, scan: Scan) -> None:
    meter = reader.meter
    took_ms = (scan.received_s - scan.sent_s) * 1000
    print(f"{meter.name}  unit {meter.unit}  {meter.profile.name}  {took_ms:.0f} ms")
    for point, value, quality in zip(meter.points, scan.values, scan.qualities, strict=True):
        shown = Quality(quality).name.lower() if value is None else _value(value, point.exponent)
        print(f"  {point.name:<28} {shown:>16} {'' if value is None else point.unit}".rstrip())
    if reader.trouble:
        print(f"  ! {reader.trouble}")


def _result(reader: MeterReader, scan: Scan) -> dict[str, Any]:
    points = zip(reader.meter.points, scan.values, scan.qualities, strict=True)
    return {
        "meter": reader.meter.name,
        "unit": reader.meter.unit,
        "profile": reader.meter.profile.name,
        "took_ms": round((scan.received_s - scan.sent_s) * 1000, 1),
        "trouble": reader.trouble,
        "points": [
            {
                "name": point.name,
                "value": None if value is None else _value(value, point.exponent),
                "unit": point.unit,
                "quality": Quality(quality).name.lower(),
            }
            for point, value, quality in points
        ],
    }


def _plan(bus: BusConfig) -> dict[str, Any]:
    return {
        "name": bus.name,
        "where": bus.where,
        "share": round(bus.share, 4),
        "meters": [
            {
                "name": meter.name,
                "unit": meter.unit,
                "profile": meter.profile.name,
                "status": meter.profile.status,
                "points": len(meter.points),
                "reads": [[b.function, b.start, b.count] for b in meter.blocks],
                "scan_ms": meter.scan_us / 1000,
                "period_ms": meter.period_ms,
            }
            for meter in bus.meters
        ],
    }


def _print_status(values: dict[str, Any], now_ms: int) -> None:
    age_s = (now_ms - values["at_ms"]) / 1000
    print(f"{values['gateway']}  up {values['uptime_s']} s  (written {age_s:.0f} s ago)")
    for bus in values["buses"]:
        print(f"  {bus['name']}  {bus['where']}  {bus['busy_share']:.0%} busy")
        for meter in bus["meters"]:
            print(f"    {meter['name']:<16} {meter['quality']:<10} {meter['trouble']}".rstrip())
    slots = values["slots"]
    print(
        f"  slots: {slots['values']} values, {slots['reasons']} reasons, {slots['missed']} missed;"
        f" {values['windows']} windows; {values['batches']['cut']} batches"
    )
    for to in values["destinations"]:
        state = "connected" if to["connected"] else "not connected"
        print(f"  {to['name']}: {state}, {to['receipted']} receipted, {to['waiting']} waiting")
