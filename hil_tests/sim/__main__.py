"""`python -m hil_tests.sim run sim.toml`: play a site of simulated meters until stopped.

Owns the process: arguments, signals, the wall clock, exit status.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import selectors
import signal
import sys
import time
from pathlib import Path

from hil_tests.sim.errors import SimError
from hil_tests.sim.site import SiteSpec, load_site
from hil_tests.sim.stage import describe, play

_EXAMPLE = """\
example of a site file:

  seed = 1
  start_ms = 1764000000000      # counters are zero (plus initial_kwh) at this UTC time
  day_speed = 240               # a day of the loads' course takes six minutes
  # profiles = "/folder/with/profiles"   default: those of the agent in this checkout

  [[line]]                      # RS-485 on a pty
  name = "bus1"
  link = "/tmp/demo/bus1"       # the agent's `port`
  baud = 9600
  format = "8E1"
  turnaround_ms = [10, 25]
  [[line.meter]]
  name = "incomer"
  unit = 1
  profile = "acrel-adl400"
  ratios = { ct = 40, pt = 1 }
  initial_kwh = 12345.0
  children = ["workshop_a", "pv"]
  loss_percent = 1.5            # of what the children take
  [[line.meter]]
  name = "workshop_a"
  unit = 2
  profile = "chint-dtsu666"
  load = "plant"                # plant, lighting, hvac, pv or base
  scale_kw = 60
  [[line]]                      # Modbus TCP on 127.0.0.1
  name = "roof"
  tcp = 15502
  [[line.meter]]
  name = "pv"
  unit = 1
  profile = "sunspec-meter-213"
  load = "pv"
  scale_kw = 30
  # dead = true                 # never answers

stop with Ctrl-C or SIGTERM; counters go on as if it had never stopped.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return the exit status: 0 stopped, 2 the file is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m hil_tests.sim",
        description="Simulated meters on RS-485 lines (ptys at wire time) and on Modbus TCP.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="run")
    run = commands.add_parser("run", help="play a site until SIGINT or SIGTERM")
    run.add_argument("file", type=Path, metavar="sim.toml")
    options = parser.parse_args(arguments)
    try:
        with asyncio.Runner(loop_factory=_precise_loop) as runner:
            runner.run(_play(load_site(options.file)))
    except SimError as error:
        sys.stderr.write(f"sim: {error}\n")
        return 2
    return 0


async def _play(spec: SiteSpec) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with play(spec, now_ms=lambda: time.time_ns() // 1_000_000) as stage:
        for row in [*describe(spec, stage), "ready"]:
            print(row, flush=True)
        await stopped.wait()


def _precise_loop() -> asyncio.AbstractEventLoop:
    """Make a loop whose timers keep microseconds: epoll rounds them up to whole milliseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
