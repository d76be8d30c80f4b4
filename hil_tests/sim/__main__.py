"""`edgeagg-sim`: play a site of simulated meters until stopped, or say what can be simulated.

Owns the process: arguments, signals, the wall clock, exit status.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import selectors
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hil_tests.sim.agentsite import load_agent_site
from hil_tests.sim.catalogue import EXAMPLE, fault_rows, profile_rows
from hil_tests.sim.errors import SimError
from hil_tests.sim.site import PROFILES, SiteSpec, add_faults, load_site
from hil_tests.sim.stage import describe, play, summarise

_EXAMPLES = """\
examples:
  edgeagg-sim run sim.toml                          play a site until Ctrl-C
  edgeagg-sim run sim.toml --faults bad-day.toml    with faults, counted from start_ms
  edgeagg-sim run sim.toml --from-now               counters and faults start now
  edgeagg-sim run --agent-site site.toml --link-dir /tmp/site
                                                    play what the agent's own file names
  edgeagg-sim faults                                list faults, counter patterns and loads
  edgeagg-sim profiles                              list the meters that can be played

Inside the checkout the command is `python -m hil_tests.sim`.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0 stopped, 2 a file is wrong."""
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "run":
                with asyncio.Runner(loop_factory=_precise_loop) as runner:
                    runner.run(_play(_site(options)))
            case "faults":
                _print(fault_rows())
            case _:
                _print(profile_rows(options.directory))
    except SimError as error:
        sys.stderr.write(f"sim: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="edgeagg-sim",
        description="Simulated meters on RS-485 lines at wire time, on Modbus TCP and behind "
        "serial servers; with faults on command.",
        epilog=_EXAMPLES,
        formatter_class=raw,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="run|faults|profiles")
    run = commands.add_parser(
        "run", help="play a site until SIGINT or SIGTERM", epilog=EXAMPLE, formatter_class=raw
    )
    site = run.add_mutually_exclusive_group(required=True)
    site.add_argument("file", nargs="?", type=Path, metavar="sim.toml", help="the site to play")
    site.add_argument(
        "--agent-site", type=Path, metavar="FILE", help="play the meters of the agent's site.toml"
    )
    run.add_argument(
        "--link-dir", type=Path, metavar="DIR", help="put links for the agent's ports here"
    )
    run.add_argument(
        "--day-speed",
        type=float,
        metavar="N",
        help="N days of load pass in one real day (--agent-site: 24)",
    )
    run.add_argument("--faults", type=Path, metavar="FILE", help="more [[fault]] tables")
    run.add_argument(
        "--from-now", action="store_true", help="start_ms is now, not what the file says"
    )
    commands.add_parser("faults", help="list faults, counter patterns and loads")
    profiles = commands.add_parser("profiles", help="list the meters that can be played")
    profiles.add_argument("directory", nargs="?", type=Path, default=PROFILES)
    return parser


def _site(options: argparse.Namespace) -> SiteSpec:
    if options.agent_site is not None:
        spec = load_agent_site(options.agent_site, link_directory=options.link_dir)
    elif options.link_dir is not None:
        raise SimError("--link-dir is for --agent-site; a sim.toml names its own links")
    else:
        spec = load_site(options.file)
    if options.day_speed is not None:
        if not 0 < options.day_speed <= 86_400:
            raise SimError(f"--day-speed {options.day_speed:g}: more than 0 to 86400 expected")
        spec = replace(spec, day_speed=options.day_speed)
    if options.from_now:
        spec = replace(spec, start_ms=_now_ms())
    return spec if options.faults is None else add_faults(spec, options.faults)


async def _play(spec: SiteSpec) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with play(spec, now_ms=_now_ms) as stage:
        _print([*describe(spec, stage), "ready"])
        await stopped.wait()
        _print(summarise(stage))


def _print(rows: Sequence[str]) -> None:
    try:
        print("\n".join(rows), flush=True)
    except BrokenPipeError:
        # `edgeagg-sim faults | head`: nobody is interested in the rest, and the interpreter must
        # not complain of it when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _precise_loop() -> asyncio.AbstractEventLoop:
    """Make a loop whose timers keep microseconds: epoll rounds them up to whole milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    sys.exit(main())
