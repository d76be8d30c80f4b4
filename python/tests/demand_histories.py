"""Random histories of metered demand with everything that goes wrong, lived by core and model.

Run as a program it lives as many as asked, from a seed:
`python -m python.tests.demand_histories --seed 1 --count 100000`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from edgeagg import _core
from python.tests.naive_demand import HOUR_MS, NaiveDemand, Shape, Told
from python.tests.naive_windows import Read
from python.tests.window_histories import OFFSETS, REASONS, ZONES, Clock

MINUTE_MS = 60_000
PERIODS_MS = (20_000, MINUTE_MS, 5 * MINUTE_MS, 15 * MINUTE_MS)
DEMANDS = tuple(
    Shape(period * MINUTE_MS, slip * MINUTE_MS)
    for period in (15, 30, 60)
    for slip in (1, 3, 5, 15, period)
)
GUARD = (None, 10**15, 1)
"""That of a totaliser that is never in doubt as long as it rises."""
WINDOW_MS = 15 * MINUTE_MS
LONG_AFTER_MS = 10**13
DEMAND_ROWS = 7
PROGRESS_COUNT = 1_000

Kind = bool | tuple[None, int, int]
Cut = int
"""The time of a cut."""
Days = dict[tuple[int, int], Told]
"""By point and start of the day."""


@dataclass(frozen=True, slots=True)
class Restart:
    """The gateway is killed and comes back from its snapshot and its journal."""


@dataclass(frozen=True, slots=True)
class History:
    """A meter with demand, and what happens to it."""

    period_ms: int
    kinds: tuple[Kind, ...]
    demands: tuple[tuple[int, Shape], ...]
    zone: str
    events: tuple[Read | Cut | Restart, ...]


def value(dice: random.Random, former: int, kind: Kind) -> int:
    """Return the next reading of a point."""
    if kind is False:
        return dice.choice((former, dice.randrange(-1_000, 1_000)))
    if kind is True and dice.random() < 0.01:
        return dice.choice((0, -(2**63), max(former - 1, -(2**63)), former // 10))
    rise = dice.choice((0, 7, dice.randrange(10), dice.randrange(10**6)))
    return former + rise


def history(seed: str) -> History:
    """Return the history of this seed: some hours before and behind a local midnight."""
    dice = random.Random(seed)
    period_ms, zone = dice.choice(PERIODS_MS), dice.choice(ZONES)
    fitting = [shape for shape in DEMANDS if shape.slip_ms >= period_ms]
    kinds = tuple(dice.choice((False, True, GUARD)) for _ in range(dice.randrange(1, 4)))
    demands = [(point, dice.choice(fitting)) for point in range(len(kinds)) if dice.random() < 0.8]
    dice.shuffle(demands)
    slots = dice.randrange(1, 120)
    # within two days of a change of the clock, in zones that have any; midnight as often as not
    changed_ms = dice.choice(OFFSETS[zone])[0] // period_ms * period_ms
    start_ms = changed_ms + dice.randrange(-48, 24) * HOUR_MS - slots // 2 * period_ms
    clock, values = Clock(dice, period_ms), [dice.randrange(10**6) for _ in kinds]
    events: list[Read | Cut | Restart] = []
    silent = 0
    for due_ms in range(start_ms, start_ms + slots * period_ms, period_ms):
        values = [value(dice, *each) for each in zip(values, kinds, strict=True)]
        silent = dice.randrange(1, 30) if dice.random() < 0.01 else max(0, silent - 1)
        if dice.random() < 0.04:
            continue
        why = [dice.choice(REASONS) if silent or dice.random() < 0.02 else 0 for _ in kinds]
        told = tuple(None if bad else one for one, bad in zip(values, why, strict=True))
        events.append(Read(due_ms, clock.at_ms(due_ms), told, tuple(map(int, why))))
        if dice.random() < 0.15:
            events.append(max(0, due_ms + dice.randrange(-3_000, 4 * period_ms)))
        if dice.random() < 0.05:
            events.append(Restart())
    return History(period_ms, kinds, tuple(demands), zone, (*events, LONG_AFTER_MS))


class Gateway:
    """The core as the recorder uses it: a journal since the last cut, a snapshot behind it."""

    def __init__(self, life: History) -> None:
        self._life = life
        self._aggregator = self._new()
        self._snapshot = self._aggregator.snapshot()
        self._journal: list[bytes] = []
        self.payloads: list[bytes] = []

    def _new(self) -> _core.Aggregator:
        life = self._life
        return _core.Aggregator(
            [(life.period_ms, life.kinds)],
            [WINDOW_MS],
            offsets=OFFSETS[life.zone],
            demands=[(0, at, shape.period_ms, shape.slip_ms) for at, shape in life.demands],
        )

    def take(self, event: Read | Cut | Restart) -> None:
        """Do what the event says."""
        match event:
            case Read(due_ms, at_ms, values, qualities):
                record = self._aggregator.push_row(0, due_ms, at_ms, values, qualities)
                self._journal.append(record)
            case Restart():
                self._aggregator = self._new()
                self._aggregator.restore(self._snapshot)
                for record in self._journal:
                    self._aggregator.replay(record)
            case now_ms:
                while (part := self._aggregator.cut(now_ms)) is not None:
                    self.payloads.append(part.encode(_core.CODEC_DELTA)[1])
                self._journal, self._snapshot = [], self._aggregator.snapshot()


def days_of(payloads: Sequence[bytes]) -> Days:
    """Decode every row of demand; AssertionError for one that is there twice."""
    days: Days = {}
    for payload in payloads:
        for kind, _, _, _, columns in _core.decode(_core.CODEC_DELTA, payload):
            if kind != DEMAND_ROWS:
                continue
            for point, start_ms, length_ms, *maxima, blocks in zip(*columns, strict=True):
                assert None not in (point, start_ms, length_ms, blocks)
                assert (point, start_ms) not in days, f"day {start_ms} of point {point} twice"
                days[point, start_ms] = (start_ms, length_ms, *maxima, blocks)
    return days


def naive(life: History) -> Days:
    """Return the model's days."""
    points = {
        point: NaiveDemand(shape, life.period_ms, life.kinds[point] is not False, life.zone)
        for point, shape in life.demands
    }
    days: Days = {}
    for event in life.events:
        for point, demand in points.items():
            match event:
                case Read():
                    demand.read(event.at_ms, event.values[point])
                case int():
                    for told in demand.cut(event):
                        assert (point, told[0]) not in days
                        days[point, told[0]] = told
    return days


def difference(seed: str) -> str | None:
    """Live the history of this seed; return what core and model do not agree on."""
    life = history(seed)
    killed, whole = Gateway(life), Gateway(life)
    for event in life.events:
        killed.take(event)
        if not isinstance(event, Restart):
            whole.take(event)
    if killed.payloads != whole.payloads:
        return f"seed {seed}: a restart changed a payload"
    found, expected = days_of(whole.payloads), naive(life)
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key):
            return f"seed {seed}: day {key} is {found.get(key)}, not {expected.get(key)}"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Live `--count` histories from `--seed` on; return 1 at the first that differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100_000)
    options = parser.parse_args(arguments)
    for number in range(options.count):
        if (found := difference(f"{options.seed}:{number}")) is not None:
            sys.stdout.write(f"{found}\n")
            return 1
        if (number + 1) % PROGRESS_COUNT == 0:
            sys.stdout.write(f"{number + 1} histories, no difference\n")
            sys.stdout.flush()
    sys.stdout.write(f"{options.count} histories from seed {options.seed}: core and model agree\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
