"""What goes wrong in a run, and when: all of it drawn from the seed before the run begins.

Owns the rates: about three kills of the gateway and two of the platform a day, an outage every
other day, a meter without power every four days, five steps of the gateway's clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from hil_tests.virtual.bus import Span
from hil_tests.virtual.clock import Step
from hil_tests.virtual.network import Cut, Outage
from hil_tests.virtual.site import METERS

DAY_MS = 86_400_000
_HOUR_MS = 3_600_000
_MIN_MS = 60_000
_STEPS = 5
_STEP_MS = (500, _HOUR_MS)


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill after `from_ms` of the loop's time, start again after `down_ms`.

    Of `works` pieces of blocking work from then on, the last one is killed `into_ms` after its
    begin; with 0 of them the kill comes at once.
    """

    from_ms: int
    down_ms: int
    works: int
    into_ms: int
    tears: bool  # whether the disk has a part of what the gateway was just going to write


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything, in the order of time; `steps` in true UTC, the others in the loop's time."""

    outages: tuple[Outage, ...]
    steps: tuple[Step, ...]
    gateway_kills: tuple[Kill, ...]
    platform_kills: tuple[Kill, ...]
    dark: Mapping[str, tuple[Span, ...]]


def draw(seed: int, *, start_ms: int, span_ms: int) -> Plan:
    """Draw the plan of a run that begins at `start_ms` of true UTC and takes `span_ms`."""
    rng = Random(f"{seed}/plan")
    outages = _spans(rng, span_ms, every_ms=2 * DAY_MS, length_ms=(10 * _MIN_MS, 8 * _HOUR_MS))
    steps = sorted(rng.randrange(span_ms) for _ in range(_STEPS))
    kills = _spans(rng, span_ms, every_ms=DAY_MS // 3, length_ms=(1_000, _HOUR_MS))
    platform_kills = _spans(rng, span_ms, every_ms=DAY_MS // 2, length_ms=(1_000, _HOUR_MS))
    return Plan(
        outages=tuple(Outage(*span, rng.choice(list(Cut))) for span in outages),
        steps=tuple(Step(start_ms + at, _log_uniform(rng, _STEP_MS)) for at in steps),
        gateway_kills=tuple(_kill(rng, span) for span in kills),
        platform_kills=tuple(_kill(rng, span) for span in platform_kills),
        dark={
            meter: _spans(rng, span_ms, every_ms=4 * DAY_MS, length_ms=(_MIN_MS, 6 * _HOUR_MS))
            for meter in METERS
        },
    )


def _kill(rng: Random, span: Span) -> Kill:
    works = rng.choice((0, rng.randint(1, 12)))
    return Kill(span[0], span[1] - span[0], works, rng.randrange(80), tears=rng.random() < 0.3)


def _spans(
    rng: Random, span_ms: int, *, every_ms: int, length_ms: tuple[int, int]
) -> tuple[Span, ...]:
    """Draw spans that do not touch, short ones more often than long ones."""
    spans = []
    at_ms = int(rng.expovariate(1 / every_ms))
    while at_ms < span_ms:
        end_ms = at_ms + _log_uniform(rng, length_ms)
        spans.append((at_ms, end_ms))
        at_ms = end_ms + 1 + int(rng.expovariate(1 / every_ms))
    return tuple(spans)


def _log_uniform(rng: Random, bounds: tuple[int, int]) -> int:
    return round(math.exp(rng.uniform(math.log(bounds[0]), math.log(bounds[1]))))
