"""A gateway's disk that is full to the last byte for as long as wanted, with real processes.

`python -m hil_tests.full_disk --minutes 60` plays three gateways side by side, each on a small
disk of its own, and prints what came of them; exit status 1 when anything does not add up:

- here: the platform listens all the time. Nothing may be lost.
- away: it does not while the disk is full. The oldest batches go, and each is declared.
- thief: besides, whatever room the gateway lets go of is taken by somebody else at once.

Only root can mount a disk of a fixed size.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any

from hil_tests import stored
from hil_tests.chain import Wiring
from hil_tests.disks import fill, mounted
from hil_tests.oracle import judge_slots
from hil_tests.scenario import Scenario, make_chain
from hil_tests.stored import OWN_METER, Stored
from hil_tests.verdict import Verdict

MODES = ("here", "away", "thief")
_DISK_BYTES = 4 << 20  # what waits in memory, 2 MiB at most, must find room when there is some
_SEGMENT_BYTES = 16 << 10
OWN_COUNTS = ("dropped_batches", "not_kept_slots")
"""What the gateway tells of it by its own points."""
_NOT_KEPT = 8  # docs/batch-format.md, reasons
_LOOK_S = 5.0
_DROP_WAIT_S = 600
_THEFT_S = 0.05
_OWN_PERIOD_S = 60
_STALL_MAX_S = 30  # a bus asks many times a second


@dataclass(slots=True)
class Outcome:
    """What came of one gateway, in the words of both ends; `faults` says what does not add up."""

    mode: str
    full_s: float = 0.0
    questions: int = 0
    stall_s: float = 0.0
    dropped: int = 0
    declared: int = 0
    reported: int = 0
    not_kept: int = 0
    cut_slots: int = 0
    platform_slots: int = 0
    hole_slots: int = 0
    values: int = 0
    normal_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    def expect(self, holds: object, text: str) -> None:
        """Note a fault unless something holds."""
        if not holds:
            self.faults.append(text)

    def lines(self) -> Iterator[str]:
        """Say it to people."""
        yield (
            f"{self.mode}: full for {self.full_s:.0f} s, {self.questions} questions meanwhile,"
            f" none for {self.stall_s:.0f} s at most; normal {self.normal_s:.1f} s behind it"
        )
        yield (
            f"  batches let go {self.dropped}, declared to the platform {self.declared},"
            f" by the gateway's own point {self.reported}; slots not kept {self.not_kept}"
        )
        yield (
            f"  slots cut {self.cut_slots} = at the platform {self.platform_slots}"
            f" ({self.values} values) + in batches let go {self.hole_slots}"
        )
        yield from (f"  FAULT {text}" for text in self.faults)


def run(mode: str, directory: Path, seconds: float) -> Outcome:
    """Play one gateway in a folder of its own."""
    wiring = Wiring(segment_bytes=_SEGMENT_BYTES)
    scenario = Scenario(make_chain(directory / "chain", flush="1s", wiring=wiring))
    outcome = Outcome(mode)
    with mounted(scenario.chain.directory / "agent", bytes_max=_DISK_BYTES):
        try:
            _play(scenario, outcome, seconds)
            _judge(scenario, outcome)
        except TimeoutError as error:
            log = (scenario.chain.directory / "agent.log").read_text("utf-8", "replace")
            outcome.faults += [str(error), str(scenario.chain.status()), *log.splitlines()[-5:]]
        finally:
            scenario.chain.kill()
    return outcome


def _play(scenario: Scenario, outcome: Outcome, seconds: float) -> None:
    chain = scenario.chain
    filler = chain.directory / "agent" / "filler"
    scenario.start()
    # a row of every group, so that a hole has two ends
    scenario.run(_OWN_PERIOD_S + 10)
    agent = chain.pids()["agent"]
    if outcome.mode != "here":
        chain.receiver.kill()
    fill(filler)
    begun_s = time.monotonic()
    with _thief(filler) if outcome.mode == "thief" else contextlib.nullcontext():
        _watch(scenario, outcome, seconds)
    outcome.full_s = time.monotonic() - begun_s
    filler.unlink()
    chain.revive()
    outcome.normal_s = scenario.until(lambda: not scenario.is_refused, "writing again")
    outcome.normal_s += scenario.until(
        lambda: scenario.receipted > 0 and scenario.waiting <= 2, "delivery", seconds=600
    )
    # the gateway's own points of a minute that began behind all this
    scenario.run(_OWN_PERIOD_S + 10)
    outcome.expect(chain.pids().get("agent") == agent, "the agent was started again")


def _watch(scenario: Scenario, outcome: Outcome, seconds: float) -> None:
    """Let time pass, and see how long no bus asked anything."""
    end_s = time.monotonic() + seconds
    first = last = _questions(scenario)
    last_s = time.monotonic()
    # a short run lasts until something had to go, so that there is something to count
    while time.monotonic() < end_s or (
        outcome.mode != "here" and not scenario.dropped and time.monotonic() < end_s + _DROP_WAIT_S
    ):
        time.sleep(_LOOK_S)
        now, now_s = _questions(scenario), time.monotonic()
        outcome.stall_s = max(outcome.stall_s, now_s - last_s)
        if all(later > before for later, before in zip(now, last, strict=True)):
            last, last_s = now, now_s
        if outcome.mode == "here":
            scenario.look()
    outcome.questions = sum(_questions(scenario)) - sum(first)
    outcome.expect(outcome.stall_s < _STALL_MAX_S, "sampling stood still")


def _questions(scenario: Scenario) -> list[int]:
    """Count the questions on each bus; the status may lag by a second."""
    status = scenario.chain.status()
    return [] if status is None else [bus["transactions"] for bus in status["buses"]]


@contextlib.contextmanager
def _thief(filler: Path) -> Iterator[None]:
    """Take every byte of the disk that gets free."""
    done = Event()

    def steal() -> None:
        while not done.wait(_THEFT_S):
            fill(filler)

    thread = Thread(target=steal)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _judge(scenario: Scenario, outcome: Outcome) -> None:
    if outcome.mode == "here":
        verdict = scenario.finish()
        outcome.expect(verdict.holds, f"{verdict.notes}")
        outcome.expect(verdict.went_on, f"{verdict.reasons + verdict.missed} slots without value")
        outcome.expect(scenario.dropped == 0, "the platform had all that was let go")
        found = stored.load(scenario.chain.store)
    else:
        run, note = scenario.end()
        outcome.expect(not note, note)
        found = stored.load(scenario.chain.store)
        verdict = judge_slots(found, scenario.truth(), run)
        # holes are judged by their sum below, for nobody knows what a lost batch carried
        outcome.expect(not verdict.wrong and not verdict.doubled, f"{verdict.notes}")
        outcome.expect(scenario.dropped > 0, "no batch was let go: the disk was not full")
    declared = stored.count_lost(scenario.chain.store)
    compare(scenario.chain.status() or {}, declared, found, verdict, outcome)


def compare(
    status: Mapping[str, Any], declared: int, found: Stored, verdict: Verdict, outcome: Outcome
) -> None:
    """Lay what the gateway says of itself beside what the platform has.

    `declared` is how many batches the platform knows as lost; slots of those are holes in `found`.
    """
    outcome.dropped, outcome.declared = status["batches"]["dropped"], declared
    outcome.reported, reported_slots = (_own(found, f"state_{name}") for name in OWN_COUNTS)
    outcome.not_kept = status["disk"]["not_kept"]
    kept = sum(
        gap.slot_count * len(group.points)
        for group, gaps in found.gaps.items()
        for gap in gaps
        if gap.reason == _NOT_KEPT
    )
    outcome.cut_slots = status["slots"]["cut"]
    outcome.values = verdict.values
    outcome.platform_slots = verdict.values + verdict.reasons + verdict.missed
    outcome.hole_slots = verdict.due - outcome.platform_slots
    outcome.expect(outcome.declared == outcome.dropped, "batches let go and declared differ")
    outcome.expect(outcome.reported == outcome.dropped, "the gateway's own point tells another")
    outcome.expect(kept == outcome.not_kept, f"slots not kept: the platform has {kept}")
    outcome.expect(reported_slots == kept, f"slots not kept by its own point: {reported_slots}")
    outcome.expect(outcome.cut_slots == verdict.due, f"{verdict.due} slots are accounted for")


def _own(found: Stored, name: str) -> int:
    """Return the last value of one of the gateway's own points; -1 when there is none."""
    for group, readings in found.readings.items():
        if group.meter != OWN_METER:
            continue
        for number, point in enumerate(group.points):
            if point.name == name:
                mantissa = readings[-1].mantissas[number]
                return -1 if mantissa is None else mantissa
    return -1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all modes, print what came of them, judge."""
    parser = argparse.ArgumentParser(prog="python -m hil_tests.full_disk", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="of full disk (%(default)s)")
    parser.add_argument("modes", nargs="*", default=MODES, help="any of: here away thief")
    options = parser.parse_args(arguments)
    if unknown := set(options.modes) - set(MODES):
        parser.error(f"modes: {', '.join(sorted(unknown))} unknown; there are {', '.join(MODES)}")
    if os.geteuid() != 0:
        parser.error("only root can mount a disk of a fixed size")

    def one(mode: str) -> Outcome:
        with tempfile.TemporaryDirectory(prefix=f"full-disk-{mode}-") as folder:
            return run(mode, Path(folder), options.minutes * 60)

    with ThreadPoolExecutor(len(options.modes)) as pool:
        outcomes: list[Outcome] = list(pool.map(one, options.modes))
    for outcome in outcomes:
        print("\n".join(outcome.lines()))
    return int(any(outcome.faults for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
