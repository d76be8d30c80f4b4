"""What strikes a site and when, drawn from a seed. Pure: it kills nobody and reads no clock.

A strike is one or several processes killed in one moment. Strikes come in storms, with calms in
between: in a storm lives end during start-up and replay, in a calm deliveries get through, and rows
that are older than a commit must outlive the next kill.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

AGENT, BROKER, RECEIVER = "agent", "broker", "receiver"

_VICTIMS = {
    (AGENT,): 34,
    (RECEIVER,): 22,
    (BROKER,): 14,
    (AGENT, RECEIVER): 8,
    (AGENT, BROKER): 8,
    (BROKER, RECEIVER): 7,
    (AGENT, BROKER, RECEIVER): 7,
}
_STORM_MAX = 6
_STORM_PAUSE_S = (0.05, 1.2)
_CALM_S = (2.0, 8.0)
_EARLY = 0.5
_EARLY_SHARE = 0.2
"""The first tenth of a second of a start is worth as much as the rest: state is taken up in it."""
_AT_ONCE = 0.7
_AWAY_SHORT_S = (0.0, 0.3)
_AWAY_LONG_S = (0.5, 4.0)


class Moment(enum.Enum):
    """What a strike is aimed at; each has the longest time that it may come later."""

    ANY = ("any time", 0.0)
    START = ("start", 0.5)
    JOURNALED = ("rows journaled", 0.02)
    KEPT = ("batch kept", 0.03)
    COMMITTED = ("platform's commit", 0.015)
    RECEIPTED = ("receipt taken", 0.01)

    def __init__(self, text: str, delay_max_s: float) -> None:
        self.text, self.delay_max_s = text, delay_max_s


_MOMENTS_OF_ALL = (Moment.ANY, Moment.START, Moment.COMMITTED)
_MOMENTS_OF = {
    AGENT: (Moment.JOURNALED, Moment.KEPT, Moment.RECEIPTED),
    # a receipt that came too early is one for what the receiver has not committed when it dies
    RECEIVER: (Moment.RECEIPTED,),
    BROKER: (),
}


@dataclass(frozen=True, slots=True)
class Strike:
    """Who is killed, and when: a pause, then the moment, then a delay."""

    victims: tuple[str, ...]
    moment: Moment
    pause_s: float
    delay_s: float
    aways_s: tuple[float, ...]
    """How long each victim stays away."""


def strikes(rng: Random) -> Iterator[Strike]:
    """Draw strikes for ever."""
    while True:
        for place in range(rng.randint(1, _STORM_MAX)):
            pause_s = rng.uniform(*(_STORM_PAUSE_S if place else _CALM_S))
            (victims,) = rng.choices(list(_VICTIMS), list(_VICTIMS.values()))
            own = [moment for name in victims for moment in _MOMENTS_OF[name]]
            moment = rng.choice([*_MOMENTS_OF_ALL, *own])
            delay_s = rng.uniform(0, moment.delay_max_s)
            if moment is Moment.START and rng.random() < _EARLY:
                delay_s *= _EARLY_SHARE
            aways_s = tuple(_away_s(rng) for _ in victims)
            yield Strike(victims, moment, pause_s, delay_s, aways_s)


def _away_s(rng: Random) -> float:
    return rng.uniform(*(_AWAY_SHORT_S if rng.random() < _AT_ONCE else _AWAY_LONG_S))
