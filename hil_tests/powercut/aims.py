"""Where the power is cut: which step of the writer, how far behind it, and whose power.

Two courses. In one the cuts of a disk's life are independent. In the other the process is killed in
the middle of a sync while a disk keeps its power, and the power goes soon behind its successor's
start: what the killed process wrote and never synced is there for the successor to read, and must
not be relied on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random

from hil_tests.powercut.rig import Aim

Step = tuple[int, int, int, int]
"""How often it is aimed at, up to which of its occurrences, how long and how many syncs later."""
Steps = Mapping[str, Step]
Course = Callable[[Random], Iterator[Aim]]
"""The cuts of a disk's life."""

STEPS: Steps = {
    "open": (4, 1, 12_000, 8),
    "store": (2, 2, 6_000, 6),
    "commit": (3, 60, 2_500, 1),
    "cut": (8, 30, 6_000, 3),
    "receive": (4, 50, 6_000, 3),
    "cursor": (1, 50, 1_000, 1),
    "trim": (2, 30, 1_500, 1),
    "history": (6, 120, 6_000, 3),
    "free": (2, 30, 1_500, 1),
}
_KILLED: Steps = {
    "commit": (1, 10, 3_000, 2),
    "cut": (2, 10, 3_000, 2),
    "receive": (1, 10, 3_000, 2),
    "history": (1, 60, 3_000, 3),
}
_SUCCEEDING: Steps = {
    "open": (7, 1, 12_000, 8),
    "store": (1, 2, 6_000, 3),
    "commit": (1, 1, 2_000, 2),
    "cut": (1, 1, 2_000, 2),
    "receive": (1, 1, 2_000, 2),
}
_HELD = 0.7
_FIRST_STARTS = 0.4
_UNJUDGED = 0.3
_BOTH = 0.3


def independent(rng: Random, steps: Steps = STEPS) -> Iterator[Aim]:
    """Cut the power of the gateway, of the platform or of both at any of these steps."""
    # the folders and first segments of a state are made once only
    is_start = "open" in steps and rng.random() < _FIRST_STARTS
    first = {"open": steps["open"]} if is_start else steps
    for around in itertools.chain([first], itertools.repeat(steps)):
        gateway, platform = rng.choice([(True, False), (True, False), (False, True), (True, True)])
        # a start on a state that nobody has repaired yet may be cut, too
        is_judged = rng.random() > _UNJUDGED
        yield _aim(rng, around, gateway=gateway, platform=platform, is_judged=is_judged)


def succeeding(rng: Random) -> Iterator[Aim]:
    """Kill the process while a disk keeps its power, and cut that soon behind the next start."""
    while True:
        kept = rng.choice([(True, False), (True, False), (False, True), (True, True)])
        gateway, platform = (not it for it in kept)
        # whoever judges a disk that kept its power syncs what was not synced
        yield _aim(rng, _KILLED, gateway=gateway, platform=platform, is_judged=False)
        both = rng.random() < _BOTH
        gateway, platform = (it or both for it in kept)
        is_judged = rng.random() > _UNJUDGED
        yield _aim(rng, _SUCCEEDING, gateway=gateway, platform=platform, is_judged=is_judged)


COURSES: Sequence[Course] = (independent, succeeding)


def _aim(rng: Random, steps: Steps, *, gateway: bool, platform: bool, is_judged: bool) -> Aim:
    (phase,) = rng.choices(list(steps), [weight for weight, *_ in steps.values()])
    _, occurrences, delay_us, spared = steps[phase]
    return Aim(
        phase,
        rng.randint(1, occurrences),
        rng.randint(0, delay_us),
        gateway,
        platform,
        rng.randint(0, spared) if rng.random() < _HELD else None,
        is_judged,
    )
