"""edgeagg-agent: the installer's commands.

Exit status: 0 all is well; 1 something did not work (a meter that does not answer, a full disk);
2 something in a file or on the command line must be changed, and nothing was started.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeagg import __version__, keyfile
from edgeagg.errors import ConfigError, EdgeaggError, LinkError, StoreError
from edgeagg.model import Quality
from edgeagg.seal import key_id, key_text
from edgeagg_agent import app, history_cli, identity, profile
from edgeagg_agent.budget_report import budget_json, budget_lines
from edgeagg_agent.bus.port import line_loop
from edgeagg_agent.bus.serial import check_port
from edgeagg_agent.clock import SystemClock
from edgeagg_agent.clock_trust import TimeFile, kernel_synchronised, words
from edgeagg_agent.config import check_loads, load_site, read_site
from edgeagg_agent.config_values import BAUDS
from edgeagg_agent.decimals import decimal_text
from edgeagg_agent.desk import Desk, site_that_runs
from edgeagg_agent.guards import guard_lines
from edgeagg_agent.reader import MeterReader
from edgeagg_agent.scan import Scan
from edgeagg_agent.site import BusConfig, Meter, Site

_EXAMPLES = """examples:
  edgeagg-agent check /etc/edgeagg/site.toml          is the file right, are the ports there, is there time enough?
  edgeagg-agent plan /etc/edgeagg/site.toml           how full is each bus, what would a faster one give?
  edgeagg-agent read /etc/edgeagg/site.toml           read every meter once and show its values
  edgeagg-agent read site.toml --meter incomer --json
  edgeagg-agent run /etc/edgeagg/site.toml            poll and deliver until stopped
  edgeagg-agent status /etc/edgeagg/site.toml         what the running agent is doing
  edgeagg-agent key /etc/edgeagg/site.toml            the key that the platform must know this gateway by
  edgeagg-agent history /etc/edgeagg/site.toml        what was read in the last 24 hours, from its own disk
  edgeagg-agent profiles                              the meter models that are known
"""  # noqa: E501 - lines of a terminal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    # what it complains of reaches us as errors, which are reported once
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    try:
        status = int(options.command(options))
        sys.stdout.flush()
    except ConfigError as error:
        print(f"edgeagg-agent: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        if options.command is _run:
            raise
        # `edgeagg-agent profiles | head`: nobody wants the rest, and closing must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (EdgeaggError, OSError) as error:
        print(f"edgeagg-agent: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status


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
        ("plan", _plan, "show what each bus has time for, and what would give it more"),
        ("read", _read, "read every meter once"),
        ("status", _status, "show what the running agent is doing"),
        ("key", _key, "show the gateway's public key, or make it a new one"),
    ):
        sub = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        sub.add_argument(
            "site", type=Path, help="the site file, for example /etc/edgeagg/site.toml"
        )
        sub.set_defaults(command=command)
        if name != "run":
            sub.add_argument("--json", action="store_true", help="print JSON")
        if name == "key":
            sub.add_argument(
                "--renew", action="store_true", help="make the key that follows at the next start"
            )
        if name == "read":
            sub.add_argument("--meter", help="only this meter")
    history_cli.add_parser(commands)
    sub = commands.add_parser("profiles", help="list the meter models that are known")
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.set_defaults(command=_profiles)
    return parser


def _run(options: argparse.Namespace) -> int:
    while _run_site(options.site):
        pass
    return 0


def _run_site(file: Path) -> bool:
    """Run the agent until it ends; return whether it shall begin anew with another site file."""
    desk = Desk(file, SystemClock(), _check_ports)
    try:
        try:
            _check_ports(desk.site)
            clock = _clock(desk.site)
            agent = app.Agent(desk.site, clock, desk)
        except (ConfigError, StoreError) as error:
            if not desk.is_on_trial:
                raise
            desk.roll_back(str(error))
            return True
        _say_begin(desk.site)
        with asyncio.Runner(loop_factory=line_loop) as runner:
            runner.run(agent.run())
            while agent.next_origin is not None:
                agent = app.Agent(desk.site, clock, desk)
                runner.run(agent.run())
    except ExceptionGroup as errors:
        known, unknown = errors.split((EdgeaggError, OSError))
        if known is None or unknown is not None:
            raise  # a mistake of ours: with its whole trace
        raise _first(known) from None
    finally:
        desk.close()
    return desk.wants_restart and not agent.is_told_to_stop


def _say_begin(site: Site) -> None:
    logging.getLogger(__name__).info(
        "%s: %d meters on %d buses, state in %s",
        site.gateway,
        len(site.meters),
        len(site.buses),
        site.state_directory,
    )


def _clock(site: Site) -> SystemClock:
    """Return the host's clock, which is right by itself only where the site file says so."""
    if site.believes_host_clock:
        return SystemClock()
    known = TimeFile(site.state_directory)
    return known.clock(time.time_ns, time.monotonic_ns, kernel_synchronised)


def _first(errors: ExceptionGroup[Exception]) -> Exception:
    """Return the first error, however deep the task group that raised it."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


def _check(options: argparse.Namespace) -> int:
    site = load_site(options.site)
    pushed = site_that_runs(options.site)[1]
    if pushed:
        text = f"the platform pushed another site file (command {pushed}), which runs instead"
        print(f"edgeagg-agent: {text} until {options.site} is changed", file=sys.stderr)
    _check_ports(site)
    if options.json:
        print(json.dumps([_checked(bus) for bus in site.buses], indent=1))
        return 0
    for bus in site.buses:
        print(f"{bus.name}  {bus.where}")
        for meter in bus.meters:
            periods = ", ".join(
                f"{len(group.points)} points every {group.period_ms / 1000:g} s"
                for group in meter.groups
            )
            print(
                f"  {meter.name:<16} {meter.address!s:<10} {meter.profile.name:<20} {periods}"
                f"{'' if meter.profile.status == 'verified' else '  (draft: compare with display)'}"
            )
            for line in _guard_lines(meter):
                print(f"    {line}")
    for line in budget_lines([bus.load() for bus in site.buses], BAUDS):
        print(line)
    print(f"clock: {words(_clock(site).state)}")
    buses = "1 bus" if len(site.buses) == 1 else f"{len(site.buses)} buses"
    print(f"{options.site} is right: {len(site.meters)} meters on {buses}.")
    return 0


def _plan(options: argparse.Namespace) -> int:
    site, _ = site_that_runs(options.site, read_site)
    loads = [bus.load() for bus in site.buses]
    if options.json:
        print(json.dumps(budget_json(loads, BAUDS), indent=1))
    else:
        print("\n".join(budget_lines(loads, BAUDS)))
        for meter in site.meters:
            for line in _guard_lines(meter):
                print(f"{meter.name}  {line}")
    check_loads(site)  # behind the whole budget, so that whoever is refused sees what it is made of
    return 0


def _guard_lines(meter: Meter) -> list[str]:
    return guard_lines(point for group in meter.catalogued() for point in group.points)


def _read(options: argparse.Namespace) -> int:
    site, _ = site_that_runs(options.site)
    names = [meter.name for meter in site.meters]
    if options.meter is not None and options.meter not in names:
        raise ConfigError(
            options.site, "--meter", f"no meter {options.meter!r}", f"one of {', '.join(names)}"
        )
    _check_ports(site)
    with asyncio.Runner(loop_factory=line_loop) as runner:
        results = runner.run(_scan_all(site, options.meter))
    if options.json:
        print(json.dumps([_result(reader, scans) for reader, scans in results], indent=1))
    else:
        for reader, scans in results:
            _print_scans(reader, scans)
    failed = any(any(scan.decode()[1]) for _, scans in results for scan in scans)
    return 1 if failed else 0


def _status(options: argparse.Namespace) -> int:
    site, _ = site_that_runs(options.site)
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


def _key(options: argparse.Namespace) -> int:
    site, _ = site_that_runs(options.site)
    signer = keyfile.load_or_make(site.key_file)
    following = (
        identity.renew(site.key_file) if options.renew else identity.following(site.key_file)
    )
    text = key_text(signer.public)
    if options.json:
        then = None if following is None else key_text(following.public)
        print(json.dumps({"gateway": site.gateway, "key": text, "next": then}, indent=1))
        return 0
    print(f"{site.gateway}  {key_id(signer.public).hex()}  {text}")
    print(f"on the platform: edgeagg gateways --store … add {site.gateway} {text}")
    if following is not None:
        named = key_id(following.public).hex()
        print(f"{named} follows when the agent starts again; the platform learns it by itself")
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


async def _scan_all(site: Site, only: str | None) -> list[tuple[MeterReader, tuple[Scan, ...]]]:
    clock = SystemClock()
    results = []
    for config in site.buses:
        bus = app.make_bus(config)
        try:
            for meter in config.meters:
                if only in {None, meter.name}:
                    reader = app.make_reader(config, meter, bus, clock)
                    places = tuple(range(len(meter.groups)))
                    results.append((reader, await reader.scan(places)))
        finally:
            await bus.close()
    return results


def _print_scans(reader: MeterReader, scans: Sequence[Scan]) -> None:
    meter = reader.meter
    took_ms = scans[0].skew_s * 1000
    print(f"{meter.name}  {meter.address}  {meter.profile.name}  {took_ms:.0f} ms")
    for name, value, unit, quality in _readings(scans):
        shown = quality if value is None else value
        print(f"  {name:<28} {shown:>16} {'' if value is None else unit}".rstrip())
    if reader.trouble:
        print(f"  ! {reader.trouble}")


def _result(reader: MeterReader, scans: Sequence[Scan]) -> dict[str, Any]:
    return {
        "meter": reader.meter.name,
        "address": str(reader.meter.address),
        "profile": reader.meter.profile.name,
        "took_ms": round(scans[0].skew_s * 1000, 1),
        "trouble": reader.trouble,
        "points": [
            {"name": name, "value": value, "unit": unit, "quality": quality}
            for name, value, unit, quality in _readings(scans)
        ],
    }


def _readings(scans: Sequence[Scan]) -> Iterator[tuple[str, str | None, str, str]]:
    """Yield name, exact decimal, unit and quality of every point."""
    for scan in scans:
        values, qualities = scan.decode()
        for point, value, quality in zip(scan.group.points, values, qualities, strict=True):
            shown = decimal_text(value, point.exponent)
            yield point.name, shown, point.unit, Quality(quality).name.lower()


def _checked(bus: BusConfig) -> dict[str, Any]:
    return {
        "name": bus.name,
        "where": bus.where,
        "budget": budget_json([bus.load()], BAUDS)[bus.name],
        "meters": [
            {
                "name": meter.name,
                "address": str(meter.address),
                "profile": meter.profile.name,
                "status": meter.profile.status,
                "groups": [
                    {"period_ms": group.period_ms, "points": len(group.points)}
                    for group in meter.groups
                ],
                "guards": _guard_lines(meter),
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
    print(f"  clock: {values['clock']['text']}")
    if values["clock"]["steps"]:
        step_s = values["clock"]["last_step_ms"] / 1000
        print(f"    put {values['clock']['steps']} times since the start, last by {step_s:+g} s")
    if values["clock"]["retimed_rows"]:
        print(f"    {values['clock']['retimed_rows']} rows were read before it was, and moved")
    disk = values["disk"]
    if disk["refuses"] or disk["not_kept"] or values["batches"]["dropped"]:
        print(
            f"  disk: {'REFUSES to be written' if disk['refuses'] else 'takes writes again'};"
            f" {disk['not_kept']} readings not kept, {values['batches']['dropped']} batches let go"
        )
    for to in values["destinations"]:
        state = "connected" if to["connected"] else "not connected"
        print(f"  {to['name']}: {state}, {to['receipted']} receipted, {to['waiting']} waiting")
