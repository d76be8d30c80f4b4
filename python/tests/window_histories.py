"""Random histories of a gateway with everything that goes wrong, lived by the core and the model.

Run as a program it lives as many as asked, from a seed:
`python -m python.tests.window_histories --seed 1 --count 100000`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from edgeagg import _core
from edgeagg.localtime import offsets
from edgeagg.model import Quality
from python.tests.naive_windows import NaiveGroup, Point, Read, Statistics

HOUR_MS = 3_600_000
PERIODS_MS = (1_000, 5_000, 60_000, 900_000, HOUR_MS)
LENGTHS_MS = (1_000, 5_000, 7_500, 60_000, 900_000, HOUR_MS, 6 * HOUR_MS, 24 * HOUR_MS)
ZONES = ("Asia/Shanghai", "Asia/Kolkata", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo")
OFFSETS = {zone: tuple(offsets(zone, from_year=2025, to_year=2027)) for zone in ZONES}
REASONS = (Quality.NO_REPLY, Quality.BAD_FRAME, Quality.OVERRUN, Quality.STOPPED)
LONG_AFTER_MS = 10**13
WINDOWS, STATISTICS = 2, 6
PROGRESS_COUNT = 1_000

GroupShape = tuple[int, tuple[bool, ...]]
Windows = dict[tuple[int, int, int], list[Point]]
"""By group, length and start; one entry per point."""
Tables = tuple[Windows, dict[tuple[int, int, int], list[Statistics]]]
"""The same for statistics, of the points that they are asked for."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A row of one group."""

    group: int
    read: Read


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of slots of one group that nobody read."""

    group: int
    first_due_ms: int
    last_due_ms: int
    slots: int
    reason: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The gateway makes a batch of what is pending."""

    now_ms: int


@dataclass(frozen=True, slots=True)
class Restart:
    """The gateway is killed and comes back from its snapshot and its journal."""


Event = Slot | Gap | Cut | Restart


@dataclass(frozen=True, slots=True)
class History:
    """What a gateway is set up to do, and what happens to it."""

    groups: tuple[GroupShape, ...]
    lengths_ms: tuple[int, ...]
    zone: str
    statistics: tuple[tuple[int, int], ...]
    events: tuple[Event, ...]

    def sampled(self, group: int) -> list[int]:
        """Return the points of a group that statistics are asked for."""
        return [point for number, point in self.statistics if number == group]


class Clock:
    """The gateway's clock: mostly right, sometimes stepped, sometimes trembling."""

    def __init__(self, dice: random.Random, period_ms: int) -> None:
        self._dice, self._period_ms, self._off_ms = dice, period_ms, 0

    def at_ms(self, due_ms: int) -> int:
        """Return what the clock shows when the slot that fell due at `due_ms` has been read."""
        dice = self._dice
        if dice.random() < 0.02:
            self._off_ms = dice.choice((0, 0, -1, 1)) * dice.randrange(5 * self._period_ms)
        delay_ms = dice.choice((0, 0, dice.randrange(300), dice.randrange(self._period_ms)))
        if dice.random() < 0.02:
            delay_ms += dice.randrange(4 * self._period_ms)
        return due_ms + delay_ms + self._off_ms


def value(dice: random.Random, former: int, *, totaliser: bool) -> int:
    """Return the next reading of a point."""
    if dice.random() < 0.01:
        return dice.choice((0, 2**63 - 1, -(2**63), max(former - 1, -(2**63)), former // 10))
    if not totaliser:
        return dice.randrange(-1_000, 1_000)
    rise = dice.choice((0, 0, dice.randrange(10), dice.randrange(10**9)))
    return min(former + rise, 2**63 - 1)


def reads(dice: random.Random, group: int, shape: GroupShape, start_ms: int) -> list[Slot | Gap]:
    """Return the slots of one group in order."""
    period_ms, totalisers = shape
    clock, due_ms = Clock(dice, period_ms), start_ms // period_ms * period_ms
    values = [dice.randrange(10**6) for _ in totalisers]
    events: list[Slot | Gap] = []
    silent = 0
    for _ in range(dice.randrange(1, 60)):
        if dice.random() < 0.05:
            slots = dice.randrange(1, 9)
            last_due_ms = due_ms + (slots - 1) * period_ms
            events.append(Gap(group, due_ms, last_due_ms, slots, int(dice.choice(REASONS))))
            due_ms = last_due_ms + period_ms
            continue
        silent = dice.randrange(1, 6) if dice.random() < 0.05 else max(0, silent - 1)
        values = [
            value(dice, former, totaliser=totaliser)
            for former, totaliser in zip(values, totalisers, strict=True)
        ]
        qualities = [
            dice.choice(REASONS) if silent or dice.random() < 0.05 else Quality.GOOD for _ in values
        ]
        told = tuple(
            None if quality else one for one, quality in zip(values, qualities, strict=True)
        )
        # a flagged value is a value all the same
        flagged = tuple(
            int(Quality.CLOCK_UNTRUSTED if one is not None and dice.random() < 0.03 else quality)
            for one, quality in zip(told, qualities, strict=True)
        )
        events.append(Slot(group, Read(due_ms, clock.at_ms(due_ms), told, flagged)))
        due_ms += period_ms
    return events


def history(seed: str) -> History:
    """Return the history of this seed."""
    dice = random.Random(seed)
    lengths_ms = tuple(sorted(dice.sample(LENGTHS_MS, dice.randrange(1, 4))))
    groups = tuple(
        (dice.choice(PERIODS_MS), tuple(dice.random() < 0.5 for _ in range(dice.randrange(1, 4))))
        for _ in range(dice.randrange(1, 3))
    )
    zone = dice.choice(ZONES)
    # within three days of a change of the clock, in zones that have any
    start_ms = dice.choice(OFFSETS[zone])[0] + dice.randrange(-72 * HOUR_MS, 72 * HOUR_MS)
    statistics = tuple(
        (number, point)
        for number, (_, totalisers) in enumerate(groups)
        for point in range(len(totalisers))
        if dice.random() < 0.5
    )
    slots = [
        slot for number, shape in enumerate(groups) for slot in reads(dice, number, shape, start_ms)
    ]
    slots.sort(key=due_of)
    events: list[Event] = []
    for slot in slots:
        events.append(slot)
        if dice.random() < 0.15:
            events.append(Cut(max(0, due_of(slot) + dice.randrange(-3_000, 30_000))))
        if dice.random() < 0.05:
            events.append(Restart())
    return History(groups, lengths_ms, zone, statistics, (*events, Cut(LONG_AFTER_MS)))


def due_of(event: Slot | Gap) -> int:
    """Return when the event's first slot fell due."""
    return event.read.due_ms if isinstance(event, Slot) else event.first_due_ms


class Gateway:
    """The core as the recorder uses it: a journal since the last cut, a snapshot behind it."""

    def __init__(self, life: History) -> None:
        self._life = life
        self._aggregator = self._new()
        self._snapshot = self._aggregator.snapshot()
        self._journal: list[bytes] = []
        self.payloads: list[bytes] = []

    @property
    def late(self) -> int:
        """Rows that came too late for one of their windows."""
        return self._aggregator.late

    def _new(self) -> _core.Aggregator:
        life = self._life
        return _core.Aggregator(
            list(life.groups),
            life.lengths_ms,
            offsets=OFFSETS[life.zone],
            statistics=life.statistics,
        )

    def take(self, event: Event) -> None:
        """Do what the event says."""
        core = self._aggregator
        match event:
            case Slot(group, row):
                record = core.push_row(group, row.due_ms, row.at_ms, row.values, row.qualities)
                self._journal.append(record)
            case Gap(group, first_due_ms, last_due_ms, slots, reason):
                record = core.push_gap(group, first_due_ms, last_due_ms, slots, reason)
                self._journal.append(record)
            case Cut(now_ms):
                while (part := core.cut(now_ms)) is not None:
                    self.payloads.append(part.encode())
                self._journal, self._snapshot = [], core.snapshot()
            case Restart():
                self._aggregator = self._new()
                self._aggregator.restore(self._snapshot)
                for record in self._journal:
                    self._aggregator.replay(record)


def windows_of(payloads: Sequence[tuple[int, bytes]]) -> Tables:
    """Decode every window; AssertionError for one that is there twice."""
    windows: Windows = {}
    statistics: dict[tuple[int, int, int], list[Statistics]] = {}
    tables = [table for each in payloads for table in _core.decode(*each)]
    for kind, group, length_ms, _, columns in tables:
        for start_ms, *cells in zip(*columns, strict=True):
            assert start_ms is not None
            if kind == WINDOWS:
                key = group, length_ms, start_ms
                assert key not in windows, f"window {key} twice"
                windows[key] = parts(cells, _core.WINDOW_COLUMNS)
            elif kind == STATISTICS:
                assert cells[0] is not None
                key = group, cells[0], start_ms
                assert key not in statistics, f"statistics of window {key} twice"
                statistics[key] = parts(cells[1:], 3)
    return windows, statistics


def parts(cells: Sequence[int | None], width: int) -> list[tuple[int | None, ...]]:
    """Return the cells, so many together."""
    return [tuple(cells[at : at + width]) for at in range(0, len(cells), width)]


def naive(life: History) -> tuple[Tables, int]:
    """Return the model's windows, and how many rows came too late."""
    groups = [NaiveGroup(*shape, life.lengths_ms, life.zone) for shape in life.groups]
    windows: Windows = {}
    statistics: dict[tuple[int, int, int], list[Statistics]] = {}
    late = 0
    for event in life.events:
        match event:
            case Slot(group, row):
                late += not groups[group].read(row)
            case Cut(now_ms):
                for number, each in enumerate(groups):
                    for length_ms, rows in each.cut(now_ms).items():
                        for done in rows:
                            key = number, length_ms, done.start_ms
                            assert key not in windows
                            windows[key] = done.points
                            if points := life.sampled(number):
                                statistics[key] = [done.statistics[point] for point in points]
    return (windows, statistics), late


def difference(seed: str) -> str | None:
    """Live the history of this seed; return what core and model do not agree on."""
    life = history(seed)
    killed, whole = Gateway(life), Gateway(life)
    for event in life.events:
        killed.take(event)
        if not isinstance(event, Restart):
            whole.take(event)
    if killed.payloads != whole.payloads or killed.late != whole.late:
        return f"seed {seed}: a restart changed a payload"
    found, (expected, late) = windows_of(whole.payloads), naive(life)
    if whole.late != late:
        return f"seed {seed}: {whole.late} rows too late, the model says {late}"
    for told, wanted in zip(found, expected, strict=True):
        for key in sorted(told.keys() | wanted.keys()):
            if told.get(key) != wanted.get(key):
                return f"seed {seed}: window {key} is {told.get(key)}, not {wanted.get(key)}"
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
