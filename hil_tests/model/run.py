"""Checks `delivery.pml` with SPIN: the rules as they are, then with one broken at a time.

Every state that a case can reach is visited. A rule that is broken and not noticed means that the
model proves nothing about it, so that is an error too.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("delivery.pml")
_DEPTH_MAX = 1_000_000
_MEMORY_MAX_MB = 4_000
_STATES = re.compile(r"^ *([0-9.e+]+) states, stored", re.MULTILINE)
_ERRORS = re.compile(r"errors: (\d+)")
_INCOMPLETE = re.compile(
    r"max search depth too small|reached -DMEMLIM|out of memory", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Case:
    """One run of the model checker."""

    name: str
    flags: tuple[str, ...]
    finds: bool = False
    """Whether a broken rule must be found."""

    @property
    def is_liveness(self) -> bool:
        """Whether it asks for what must happen, not for what must not."""
        return "LIVENESS" in self.flags


@dataclass(frozen=True, slots=True)
class Found:
    """What the model checker found."""

    case: Case
    states: int
    errors: int
    is_complete: bool
    took_s: float

    @property
    def is_right(self) -> bool:
        """Whether it is what was expected."""
        if self.case.finds:
            return self.errors > 0
        return self.errors == 0 and self.is_complete

    @property
    def verdict(self) -> str:
        """Say it in a word."""
        if not self.is_complete and not self.errors:
            return "NOT COMPLETE"
        if self.case.finds:
            word = "breaks, as stated" if self.case in LIMITS else "caught"
            return word if self.errors else "SURVIVES"
        return "FAILS" if self.errors else "holds"


_TWO = ("D=2", "N=2", "C=2", "F=2")
_ONE = ("D=1", "N=3", "C=4", "F=4")
_CROWD = ("D=1", "N=2", "C=3", "F=2", "UP=2", "DOWN=2")
_SMALL = ("D=1", "N=2", "C=3", "F=2")
_ALIVE = ("LIVENESS", "D=1", "N=2", "C=2", "F=2")

RULES = (
    Case("two platforms, any two faults: safe", _TWO),
    Case("one platform, longer, any four faults: safe", _ONE),
    Case("one platform, messages overtake: safe", _CROWD),
    Case("messages outlive a copy put back: safe", (*_SMALL, "LATE", "FULL=0")),
    Case("one platform, any two faults: all arrives", ("LIVENESS", "D=1", "N=2", "C=3", "F=2")),
    Case("two platforms, a fault: all arrives", ("LIVENESS", "D=2", "N=1", "C=2", "F=1")),
)
MUTANTS = (
    Case("the broker's word moves the cursor", (*_SMALL, "BUG_TRUST_THE_BROKER"), finds=True),
    Case("a receipt before the commit", (*_SMALL, "BUG_ANSWER_FIRST"), finds=True),
    Case("every copy counts", (*_SMALL, "BUG_EVERY_COPY_COUNTS"), finds=True),
    Case("the last bytes win", (*_SMALL, "BUG_LAST_WINS"), finds=True),
    Case("late data is taken for a fork", (*_CROWD, "BUG_LATE_DATA_IS_A_FORK"), finds=True),
    Case("sent before it is on the disk", (*_SMALL, "BUG_SEND_BEFORE_COMMIT"), finds=True),
    Case("a lost store keeps its epoch", (*_SMALL, "BUG_SAME_EPOCH"), finds=True),
    Case("what was freed is not declared", (*_SMALL, "BUG_LOST_UNSAID"), finds=True),
    Case("an older copy is not noticed", (*_SMALL, "BUG_NO_ALARM"), finds=True),
    Case("an older copy, only heads compared", (*_SMALL, "BUG_COMPARE_HEADS"), finds=True),
    Case(
        "only the last batch is compared",
        (*_SMALL, "LATE", "FULL=0", "BUG_CHECK_THE_LAST_ONLY"),
        finds=True,
    ),
    Case("sent before the first receipt", (*_SMALL, "BUG_NO_GREETING"), finds=True),
    Case("a new epoch forgets what was freed", (*_ONE, "BUG_CARRY_KEPT_ONLY"), finds=True),
    Case("a new epoch carries too little", ("D=2", *_SMALL[1:], "BUG_CARRY_FEWER"), finds=True),
    Case("a cursor never goes back", (*_ALIVE, "BUG_ONLY_FORWARD"), finds=True),
    Case("nothing is sent again", (*_ALIVE, "BUG_NEVER_AGAIN"), finds=True),
)
# docs/model-and-power-cuts.md explains them; when the rules cover one of these, it belongs to RULES
LIMITS = (
    Case("limit: so does the word that a batch is lost", (*_SMALL, "LATE"), finds=True),
    Case("limit: a copy put back fills its disk", (*_SMALL, "LIMIT_FULL"), finds=True),
)


def check(case: Case) -> Found:
    """Run one case in a folder of its own; raise CalledProcessError when a tool refuses."""
    begun_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="edgeagg-model-") as folder:
        defines = [f"-D{flag}" for flag in case.flags]
        _run(folder, "spin", "-a", *defines, str(MODEL))
        kind = ["-DNFAIR=4"] if case.is_liveness else ["-DSAFETY", "-DNOFAIR"]
        # the checker of a mutant runs shorter than it is compiled
        effort = "-O0" if case.finds else "-O2"
        limits = f"-DMEMLIM={_MEMORY_MAX_MB}"
        _run(folder, "gcc", effort, "-w", limits, *kind, "-o", "pan", "pan.c")
        goal = ["-a", "-f"] if case.is_liveness else []
        said = _run(folder, "./pan", f"-m{_DEPTH_MAX}", *goal)
    states, errors = _STATES.search(said), _ERRORS.search(said)
    if states is None or errors is None:
        raise RuntimeError(f"{case.name}: the checker said\n{said}")
    return Found(
        case,
        int(float(states[1])),
        int(errors[1]),
        _INCOMPLETE.search(said) is None,
        time.perf_counter() - begun_s,
    )


def table(found: Sequence[Found]) -> str:
    """Lay out what was found."""
    width = max(len(one.case.name) for one in found)
    return "\n".join(
        f"{one.case.name:<{width}}  {one.states:>12,} states  {one.took_s:>5.1f} s  {one.verdict}"
        for one in found
    )


def missing_tools() -> str:
    """Say in one sentence what to install; empty when all is there."""
    missing = [tool for tool in ("spin", "gcc") if shutil.which(tool) is None]
    return f"{' and '.join(missing)}: not installed; install the Debian package" if missing else ""


def _run(folder: str, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout + done.stderr


def main() -> int:
    """Check everything; return 1 when a rule fails or a mutant survives, 2 without the tools."""
    missing = missing_tools()
    if missing:
        print(missing, file=sys.stderr)
        return 2
    begun_s = time.perf_counter()
    cases = (*RULES, *MUTANTS, *LIMITS)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(check, cases))
    rules = sum(one.states for one in found if not one.case.finds)
    caught = sum(one.is_right for one in found if one.case in MUTANTS)
    cpu_s = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    print(table(found))
    print(
        f"{rules:,} states, all there are; {caught} of {len(MUTANTS)} mutants caught;"
        f" {time.perf_counter() - begun_s:.0f} s ({cpu_s:.0f} s of a processor)"
    )
    return 0 if all(one.is_right for one in found) else 1
