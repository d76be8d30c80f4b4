"""make soak, and the chaos of make hil: kills on several sites at once, then the judgement.

Exit status: 0 nothing was lost, doubled, wrong or told differently by the two sides; 1 something
was; 2 something is missing on this machine.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hil_tests.chaos.judge import judge_life
from hil_tests.chaos.life import Life, Toll
from hil_tests.services.broker import has_mosquitto
from hil_tests.services.nursery import Nursery
from hil_tests.services.process import ServiceError
from hil_tests.verdict import Verdict

_EXAMPLES = """examples:
  python -m hil_tests.chaos                          500 kills, some three minutes
  python -m hil_tests.chaos --kills 10000 --seed 7   a soak, under an hour
  python -m hil_tests.chaos --kills 60 --sites 2 --keep /tmp/chaos

A seed gives the same strikes, in the same order on each site; what they meet is the machine's.
Ctrl-C ends the strikes; what came of them is still judged.
"""
_LOOK_S = 1.0
_LOG_EVERY_S = 10.0
_COUNTS = ("due", "values", "reasons", "missed", "energies", "wrong", "lost", "doubled")


@dataclass(slots=True)
class Result:
    """What a run of kills found."""

    seed: int
    sites: int
    toll: Toll = field(default_factory=Toll)
    counts: Counter[str] = field(default_factory=Counter)
    batches: int = 0
    journaled: int = 0
    struck_s: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong, and something was delivered at all."""
        return not self.toll.lies and self.counts["values"] > 0

    def add(self, life: Life, verdict: Verdict) -> None:
        """Add what came of one site."""
        self.toll.add(life.toll)
        self.counts.update({name: getattr(verdict, name) for name in _COUNTS})
        self.batches += len(life.witness.committed())
        self.journaled += len(life.witness.rows)
        self.struck_s = max(self.struck_s, life.struck_s)

    def __str__(self) -> str:
        """Say it to a person."""
        toll, counts = self.toll, self.counts
        sizes = ", ".join(f"{toll.strikes[size]:,} of {size}" for size in sorted(toll.strikes))
        rate = toll.total / self.struck_s if self.struck_s else 0.0
        missing = counts["due"] - counts["values"] - counts["reasons"] - counts["missed"]
        rows = {
            "kills": f"{toll.total:,} ({_counted(toll.kills)}), {rate:.1f} a second",
            "  in one moment": sizes,
            "  aimed at": _counted(toll.moments),
            "  met": _counted(toll.phases),
            "  behind a commit, no receipt": f"{toll.unreceipted:,}",
            "  with rows in no batch yet": f"{toll.uncut:,}",
            "sites": f"{self.sites} beside each other, seed {self.seed}",
            "slots due": f"{counts['due']:,} = {counts['values']:,} values + {counts['reasons']:,}"
            f" reasons + {counts['missed']:,} declared missed + {missing:,} unexplained",
            "rows journaled at kills": f"{self.journaled:,}, all looked for in the database",
            "batches": f"{self.batches:,}, the same bytes on both sides",
            "energies compared": f"{counts['energies']:,}",
            "lost, doubled, wrong": f"{counts['lost']:,}, {counts['doubled']:,},"
            f" {counts['wrong']:,}",
            "lies": f"{len(toll.lies):,}",
        }
        return "\n".join(f"{name:<32}{text}" for name, text in rows.items())


def kill_often(
    directory: Path,
    *,
    seed: int,
    kills: int,
    sites: int,
    environment: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Result:
    """Strike so many sites in folders of `directory` until all together had so many kills.

    `environment` is that of agents and receivers; `say` is told each second how far it is.
    """
    result = Result(seed, sites)
    is_over = threading.Event()
    nursery = Nursery(directory / "nursery.log", environment)
    lives = [
        Life(
            directory / f"site{place}",
            nursery,
            Random(f"{seed} {place}"),
            kills=(kills + sites - 1 - place) // sites,
        )
        for place in range(sites)
    ]
    try:
        with ThreadPoolExecutor(sites) as threads:
            verdicts = [threads.submit(_live, life, is_over) for life in lives]
            try:
                _watch(verdicts, lives, kills, say)
            except KeyboardInterrupt:
                is_over.set()
                say("no more strikes; what came of them is judged")
        for life, verdict in zip(lives, verdicts, strict=True):
            result.add(life, verdict.result())
    finally:
        for life in lives:
            life.chain.kill()
        nursery.close()
    return result


def _live(life: Life, is_over: threading.Event) -> Verdict:
    """Strike and judge in one thread: when it ends, its site's processes do."""
    try:
        life.run(is_over.is_set)
        return judge_life(life)
    except BaseException:
        # nobody would look at the other sites any more
        is_over.set()
        raise


def _watch(
    verdicts: Sequence[Future[Verdict]],
    lives: Sequence[Life],
    kills: int,
    say: Callable[[str], None],
) -> None:
    begun_s = time.monotonic()
    while wait(verdicts, timeout=_LOOK_S).not_done:
        took_s = time.monotonic() - begun_s
        done = sum(life.toll.total for life in lives)
        lies = sum(len(life.toll.lies) for life in lives)
        batches = sum(life.scenario.receipted for life in lives)
        rate = f"{done / took_s:.1f} a second"
        say(f"{done:,}/{kills:,} kills, {took_s:.0f} s, {rate}, {batches:,} receipted, {lies} lies")


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()))


class _Progress:
    """Shows how far it is, in place on a terminal, now and then in a log."""

    def __init__(self) -> None:
        self._said_s = time.monotonic()

    def __call__(self, text: str) -> None:
        if sys.stdout.isatty():
            print(f"\r{text:<78}", end="", flush=True)
        elif time.monotonic() - self._said_s >= _LOG_EVERY_S:
            self._said_s = time.monotonic()
            print(text, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="chaos",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=_count, default=500, help="in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the strikes (%(default)s)")
    parser.add_argument(
        "--sites", type=_count, default=8, help="struck beside each other (%(default)s)"
    )
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="leave all files here, in a folder that is new"
    )
    return parser.parse_args(arguments)


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text}: 1 or more expected")
    return count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    options = _options(arguments)
    if not has_mosquitto():
        print("chaos: the broker is mosquitto: install the package mosquitto", file=sys.stderr)
        return 2
    directory: Path = options.keep or Path(tempfile.mkdtemp(prefix="edgeagg-chaos-"))
    if options.keep is not None:
        try:
            directory.mkdir(parents=True)
        except FileExistsError:
            print(f"chaos: --keep {directory}: is there; name a new folder", file=sys.stderr)
            return 2
    print(f"seed {options.seed}, files in {directory}", flush=True)
    try:
        result = kill_often(
            directory.absolute(),
            seed=options.seed,
            kills=options.kills,
            sites=options.sites,
            say=_Progress(),
        )
    except (ServiceError, TimeoutError) as error:
        print(f"\nchaos: {error}; see {directory}", file=sys.stderr)
        return 1
    print(f"\n{result}")
    for lie in result.toll.lies:
        print(f"  {lie}")
    if result.holds and options.keep is None:
        shutil.rmtree(directory)
    return 0 if result.holds and result.toll.total >= options.kills else 1
