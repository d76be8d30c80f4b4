"""A run from its seed to its result, and the command around it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from hil_tests.virtual.loop import VirtualLoop
from hil_tests.virtual.network import Traffic
from hil_tests.virtual.plan import DAY_MS, draw
from hil_tests.virtual.truth import Tally
from hil_tests.virtual.world import World

_START_MS = 1_790_000_041_000  # 21 September 2026, between two slots
_WORK_MS = (1, 60)  # of blocking work, such as a commit on an SD card
_PERIOD_MS = 120_000
_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class Result:
    """What a run that kept every promise leaves."""

    seed: int
    days: float
    tally: Tally
    traffic: Traffic
    gateway_kills: int
    torn_bytes: int
    platform_kills: int
    outages: int
    digest: str
    took_s: float
    cpu_s: float

    def __str__(self) -> str:
        """Say it to a person."""
        tally, traffic = self.tally, self.traffic
        speed = self.days * DAY_MS / 1000 / self.took_s
        return f"""\
seed {self.seed}: {self.days:g} days in {self.took_s:.1f} s ({self.cpu_s:.1f} s of a processor), \
{speed:,.0f} times as fast as life
  slots due {tally.due:,}: {_counted(tally.slots)}; unexplained 0, doubled 0
  values {tally.values:,}, wrong 0; reasons: {_counted(tally.reasons)}
  batches {tally.batches:,}, missing 0; windows {tally.windows:,}
  days of meters stated {tally.meter_days:,}, all match; alarms 0
  messages {traffic.sent:,}: {traffic.lost:,} lost, {traffic.doubled:,} doubled
  gateway killed {self.gateway_kills} times, {self.torn_bytes:,} torn bytes wiped from its outbox
  platform killed {self.platform_kills} times; outages {self.outages}
  digest {self.digest}"""


def simulate(seed: int, *, days: float, period_ms: int, directory: Path) -> Result:
    """Run in `directory`, which must be empty; raise ViolationError when a promise was broken.

    Whatever is raised carries the command that repeats the run.
    """
    try:
        return _simulate(seed, days, period_ms, directory)
    except BaseException as error:
        error.add_note(f"to repeat it: {again(seed, days, period_ms)}")
        raise


def _simulate(seed: int, days: float, period_ms: int, directory: Path) -> Result:
    begun_s, cpu_s = time.perf_counter(), time.process_time()
    rng = Random(f"{seed}/work")
    loop = VirtualLoop(lambda: rng.randint(*_WORK_MS))
    span_ms = int(days * DAY_MS)
    plan = draw(seed, start_ms=_START_MS, span_ms=span_ms)
    world = World(loop, plan, directory, seed=seed, start_ms=_START_MS, period_ms=period_ms)
    with _quiet(), asyncio.Runner(loop_factory=lambda: loop) as runner:
        tally, digest = runner.run(world.run(span_ms))
    return Result(
        seed=seed,
        days=days,
        tally=tally,
        traffic=world.network.traffic,
        gateway_kills=world.gateway_kills,
        torn_bytes=world.torn_bytes,
        platform_kills=world.platform_kills,
        outages=len(plan.outages),
        digest=digest,
        took_s=time.perf_counter() - begun_s,
        cpu_s=time.process_time() - cpu_s,
    )


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder for a run, in memory where there is one: a disk would make it wait."""
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="edgeagg-virtual-", dir=memory) as folder:
        yield Path(folder)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the agent's log, which has ten thousand lines of faults that were planned."""
    log = logging.getLogger("edgeagg_agent")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m hil_tests.virtual",
        description="Days of a site with ten meters and everything that goes wrong, in seconds.",
    )
    parser.add_argument("--seed", type=int, default=1, help="draws everything (default 1)")
    parser.add_argument("--days", type=float, default=30, help="how long (default 30)")
    parser.add_argument(
        "--period",
        type=int,
        default=_PERIOD_MS // 1000,
        metavar="S",
        help="of reading (%(default)s)",
    )
    given = parser.parse_args(arguments)
    with scratch() as directory:
        result = simulate(
            given.seed, days=given.days, period_ms=given.period * 1000, directory=directory
        )
    print(result)
    return 0


def again(seed: int, days: float, period_ms: int) -> str:
    """Return the command that repeats a run."""
    period = "" if period_ms == _PERIOD_MS else f" --period {period_ms // 1000}"
    return f"python -m hil_tests.virtual --seed {seed} --days {days:g}{period}"
