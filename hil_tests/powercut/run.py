"""A run of power cuts from its seed to its table, and the command around it."""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from edgeagg.errors import EdgeaggError
from hil_tests.disks import NO_COMPILER, NO_POWER_CUT, hide_mounts
from hil_tests.powercut import judge, rig
from hil_tests.powercut.aims import COURSES, Course
from hil_tests.powercut.rig import Aim, Rig
from hil_tests.powercut.told import LieError, Told

_MEMORY = Path("/dev/shm")
_CUTS_PER_LIFE = 5
_SKIP_SLOTS = 50
_CANARY_CUTS = 6


@dataclass(slots=True)
class Result:
    """What a run of cuts found."""

    seed: int
    cuts: int = 0
    lives: int = 0
    acknowledged_rows: int = 0
    acknowledged_batches: int = 0
    receipts: int = 0
    day_files: int = 0
    kept_sectors: int = 0
    lost_sectors: int = 0
    torn_tails: int = 0
    torn_bytes: int = 0
    rotations: int = 0
    longest_recovery_s: float = 0.0
    phases: Counter[str] = field(default_factory=Counter)
    victims: Counter[str] = field(default_factory=Counter)
    lies: list[str] = field(default_factory=list)
    took_s: float = 0.0

    def __str__(self) -> str:
        """Say it to a person."""
        rows = {
            "power cuts": f"{self.cuts:,} ({_counted(self.victims)})",
            "  aimed at": _counted(self.phases),
            "disks begun anew": f"{self.lives:,}",
            "rows acknowledged": f"{self.acknowledged_rows:,}",
            "batches acknowledged": f"{self.acknowledged_batches:,}",
            "receipts told": f"{self.receipts:,}",
            "day files made of them": f"{self.day_files:,}",
            "sectors not synced yet": f"{self.kept_sectors:,} kept, {self.lost_sectors:,} lost",
            "torn tails repaired": f"{self.torn_tails:,} ({self.torn_bytes:,} bytes wiped)",
            "cut while a segment was made": f"{self.rotations:,}",
            "longest recovery": f"{self.longest_recovery_s * 1000:,.0f} ms",
            "lives with something lost": f"{len(self.lies):,}",
        }
        return "\n".join(f"{name:<30}{value}" for name, value in rows.items())


def cut_often(
    seed: int,
    cuts: int,
    environment: Mapping[str, str],
    *,
    say: bool,
    courses: Sequence[Course] = COURSES,
) -> Result:
    """Cut and judge that often; a lie ends the life of a disk, not the run.

    `environment` is that of the writer, besides its own; the lives take these courses in turn.
    """
    rng = Random(seed)
    result = Result(seed)
    begun_s = time.perf_counter()
    with scratch() as folder:
        while result.cuts < cuts:
            with Rig(folder, environment).fresh() as disks:
                _live(disks, rng, result, courses[result.lives % len(courses)])
                kept, lost = disks.torn_sectors
                result.kept_sectors += kept
                result.lost_sectors += lost
            result.took_s = time.perf_counter() - begun_s
            if say:
                _say_progress(result, cuts)
    return result


def _live(disks: Rig, rng: Random, result: Result, course: Course) -> None:
    """Cut one pair of disks several times, then deliver everything and judge."""
    told = Told()
    aim: Aim | None = None
    result.lives += 1
    try:
        for aim in itertools.islice(course(rng), _CUTS_PER_LIFE):
            slot = told.end + _SKIP_SLOTS if told.end else 0
            result.cuts += aim.gateway or aim.platform
            _count(result, aim)
            lines = disks.run(aim, slot=slot, seed=rng.randrange(1 << 32))
            result.receipts += sum(line.startswith("receipt") for line in lines)
            told.take(lines)
            if aim.is_judged:
                _add(result, judge.after_cut(disks.gateway, disks.platform, told))
        ended = judge.at_end(disks.gateway, disks.platform, told)
        result.acknowledged_rows += ended.rows
        result.day_files += ended.day_files
        result.acknowledged_batches += len(told.batches)
    except (LieError, EdgeaggError, OSError) as error:
        result.lies.append(f"life {result.lives}, behind cut {result.cuts}, {aim}: {error}")
    # what an error still refers to has files open, and their disk could not be taken away
    gc.collect()


def _count(result: Result, aim: Aim) -> None:
    result.phases[aim.phase] += 1
    victims = {(True, True): "both", (True, False): "gateway", (False, True): "platform"}
    result.victims[victims.get((aim.gateway, aim.platform), "none")] += 1


def _add(result: Result, repairs: judge.Repairs) -> None:
    result.torn_tails += repairs.torn_tails
    result.torn_bytes += repairs.torn_bytes
    result.rotations += repairs.rotations
    result.longest_recovery_s = max(result.longest_recovery_s, repairs.recovery_s)


def _say_progress(result: Result, cuts: int) -> None:
    rows = f"{result.acknowledged_rows:,} rows acknowledged"
    text = f"{result.cuts}/{cuts} cuts, {result.took_s:.0f} s, {rows}, {len(result.lies)} lies"
    if sys.stdout.isatty():
        print(f"\r{text}", end="", flush=True)
    elif result.lives % 10 == 0:
        print(text, flush=True)


@contextmanager
def scratch() -> Iterator[Path]:
    """Give a folder for disk images, in memory where there is one."""
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="edgeagg-powercut-", dir=memory) as folder:
        yield Path(folder)


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))


def why_not() -> str:
    """Say in one line what is missing; empty when nothing is."""
    if NO_POWER_CUT:
        return f"{NO_POWER_CUT}: run it as root, with the package e2fsprogs"
    if NO_COMPILER:
        return f"{NO_COMPILER}: install the package gcc"
    if not shutil.which("eatmydata"):
        return "nothing would show that the cuts bite: install the package eatmydata"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 1 when something was lost, or the canary lost nothing."""
    parser = argparse.ArgumentParser(prog="powercut", description=__doc__)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    missing = why_not()
    if missing:
        print(missing, file=sys.stderr)
        return 2
    hide_mounts()
    result = cut_often(chosen.seed, chosen.cuts, {}, say=True)
    print(f"\nseed {chosen.seed}, {result.took_s:.0f} s\n{result}")
    for lie in result.lies:
        print(f"  {lie}")
    canary = cut_often(chosen.seed, _CANARY_CUTS, rig.canary_environment(), say=False)
    print(f"{'canary: syncs that do nothing':<30}{_verdict(canary)}")
    return 0 if canary.lies and not result.lies else 1


def _verdict(canary: Result) -> str:
    found = f"{len(canary.lies)} of {canary.lives} lives lose, after {canary.cuts} cuts"
    return found if canary.lies else f"{found}: THE CUTS DO NOT BITE"
