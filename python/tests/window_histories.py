"""Random histories of a gateway with everything that goes wrong, lived by the core and the model.

Run as a program it lives as many as asked, from a seed:
`python -m python.tests.window_histories --seed 1 --count 100000 --processes 2`.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TypeVar, cast

from edgeagg import _core
from edgeagg.localtime import offsets
from edgeagg.model import Quality
from python.tests.naive_calendar import bounds
from python.tests.naive_totaliser import Audit, Guard
from python.tests.naive_windows import Finished, Kind, NaiveGroup, Point, Read, Statistics

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
PERIODS_MS = (1_000, 5_000, 60_000, 900_000, HOUR_MS, 6 * HOUR_MS)
LENGTHS_MS = (
    *(1_000, 5_000, 7_500, 60_000, 420_000, 900_000, 2_400_000),
    *(HOUR_MS, 2 * HOUR_MS, 6 * HOUR_MS, DAY_MS, _core.MONTH_MS),
)
YEARS = {
    "Asia/Shanghai": (1985, 1992),  # with summer time from 1986 to 1991
    "Asia/Kolkata": (2025, 2027),
    "Europe/Berlin": (2025, 2027),
    "Australia/Lord_Howe": (2025, 2027),
    "Africa/Cairo": (2025, 2027),
    "Asia/Hong_Kong": (2025, 2027),
}
ZONES = tuple(YEARS)
OFFSETS = {
    zone: tuple(offsets(zone, from_year=first, to_year=last))
    for zone, (first, last) in YEARS.items()
}
REASONS = (Quality.NO_REPLY, Quality.BAD_FRAME, Quality.OVERRUN, Quality.STOPPED)
LONG_AFTER_MS = 10**13
WINDOWS, AUDITS, UNCERTAINTIES, STATISTICS = 2, 4, 5, 6
PROGRESS_COUNT = 1_000

T = TypeVar("T")
GroupShape = tuple[int, tuple[Kind, ...]]
Key = tuple[int, int, int]
"""Group, length and start of a window."""


@dataclass(slots=True)
class Told:
    """What is told of all windows, one entry per point that has one, and of the totalisers."""

    windows: dict[Key, list[Point]] = field(default_factory=dict)
    statistics: dict[Key, list[Statistics]] = field(default_factory=dict)
    uncertainties: dict[Key, list[int | None]] = field(default_factory=dict)
    audits: list[tuple[int, int, Audit]] = field(default_factory=list)

    def add(self, group: int, done: Finished, sampled: Sequence[int]) -> None:
        """Add a window of the model."""
        key = group, done.length_ms, done.start_ms
        assert key not in self.windows
        self.windows[key] = done.points
        if sampled:
            self.statistics[key] = [done.statistics[point] for point in sampled]
        if done.uncertainties:
            self.uncertainties[key] = done.uncertainties

    def difference(self, wanted: Told) -> str | None:
        """Return where the other says something else."""
        for own, other in (
            (self.windows, wanted.windows),
            (self.statistics, wanted.statistics),
            (self.uncertainties, wanted.uncertainties),
        ):
            for key in sorted(own.keys() | other.keys()):
                if own.get(key) != other.get(key):  # type: ignore[attr-defined]
                    return f"window {key} is {own.get(key)}, not {other.get(key)}"  # type: ignore[attr-defined]
        if sorted(self.audits, key=repr) != sorted(wanted.audits, key=repr):
            return f"audits are {self.audits}, not {wanted.audits}"
        return None


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
class Replaced:
    """Another meter is found in the place of a group's."""

    group: int


@dataclass(frozen=True, slots=True)
class Cut:
    """The gateway makes a batch of what is pending."""

    now_ms: int


@dataclass(frozen=True, slots=True)
class Restart:
    """The gateway is killed and comes back from its snapshot and its journal."""


Event = Slot | Gap | Replaced | Cut | Restart


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


def value(dice: random.Random, former: int, kind: Kind, period_ms: int) -> int:
    """Return the next reading of a point."""
    if not isinstance(kind, bool):
        return guarded_value(dice, former, kind, period_ms)
    if dice.random() < 0.01:
        return dice.choice((0, 2**63 - 1, -(2**63), max(former - 1, -(2**63)), former // 10))
    if not kind:
        return dice.randrange(-1_000, 1_000)
    rise = dice.choice((0, 0, dice.randrange(10), dice.randrange(10**9)))
    return min(former + rise, 2**63 - 1)


def guarded_value(dice: random.Random, former: int, guard: Guard, period_ms: int) -> int:
    """Return the next reading of a judged totaliser, which rolls over and sometimes jumps."""
    wraps_at, rate_max_per_h, resolution = guard
    most = max(1, rate_max_per_h * period_ms // HOUR_MS)
    if dice.random() < 0.02:
        return dice.choice((0, dice.randrange(former + 1), former + dice.randrange(10**7)))
    # three times as much is no counting, unless the register stood still before
    rise = dice.choice((0, 0, dice.randrange(most + 1), resolution, most, 3 * most))
    return (former + rise) % wraps_at if wraps_at else former + rise


def told_value(dice: random.Random, one: int, kind: Kind) -> int:
    """Return what is read of a register: now and then not what it holds."""
    if not isinstance(kind, bool) and dice.random() < 0.04:
        return dice.choice((0, one // 2, max(one - 1, 0), one + 10**6, 2**62, -1))
    return one


def guard(dice: random.Random) -> Guard:
    """Return what some meter's totaliser can do."""
    rate_max_per_h = 10 ** dice.randrange(1, 7)
    return dice.choice((None, 1_000, 2_000, 2**32)), rate_max_per_h, dice.choice((1, 1, 10))


def kind_of(dice: random.Random) -> Kind:
    """Return what a point is."""
    return dice.choice((False, False, True, guard(dice)))


def reads(
    dice: random.Random, group: int, shape: GroupShape, start_ms: int
) -> list[tuple[int, Slot | Gap | Replaced]]:
    """Return the slots of one group in order."""
    period_ms, kinds = shape
    clock, due_ms = Clock(dice, period_ms), start_ms // period_ms * period_ms
    values = [dice.randrange(1_000 if kind is not False else 10**6) for kind in kinds]
    events: list[tuple[int, Slot | Gap | Replaced]] = []
    silent = 0
    for _ in range(dice.randrange(1, 60)):
        if dice.random() < 0.05:
            slots = dice.randrange(1, 9)
            last_due_ms = due_ms + (slots - 1) * period_ms
            events.append(
                (due_ms, Gap(group, due_ms, last_due_ms, slots, int(dice.choice(REASONS))))
            )
            due_ms = last_due_ms + period_ms
            continue
        if dice.random() < 0.01:
            events.append((due_ms, Replaced(group)))
        silent = dice.randrange(1, 6) if dice.random() < 0.05 else max(0, silent - 1)
        values = [
            value(dice, former, kind, period_ms) for former, kind in zip(values, kinds, strict=True)
        ]
        qualities = [
            dice.choice(REASONS) if silent or dice.random() < 0.05 else Quality.GOOD for _ in values
        ]
        told = tuple(
            None if quality else told_value(dice, one, kind)
            for one, quality, kind in zip(values, qualities, kinds, strict=True)
        )
        # a flagged value is a value all the same
        flagged = tuple(
            int(Quality.CLOCK_UNTRUSTED if one is not None and dice.random() < 0.03 else quality)
            for one, quality in zip(told, qualities, strict=True)
        )
        events.append((due_ms, Slot(group, Read(due_ms, clock.at_ms(due_ms), told, flagged))))
        due_ms += period_ms
    return events


def start_of(dice: random.Random, zone: str) -> int:
    """Return a time shortly before or behind a change of the clock, or a month's first midnight."""
    around_ms = dice.choice(OFFSETS[zone])[0]
    if dice.random() < 0.5:
        around_ms = bounds(around_ms, _core.MONTH_MS, zone)[1]
    return around_ms + dice.randrange(-72 * HOUR_MS, 72 * HOUR_MS)


def history(seed: str) -> History:
    """Return the history of this seed."""
    dice = random.Random(seed)
    lengths_ms = tuple(dice.sample(LENGTHS_MS, dice.randrange(1, 5)))
    groups = tuple(
        (dice.choice(PERIODS_MS), tuple(kind_of(dice) for _ in range(dice.randrange(1, 4))))
        for _ in range(dice.randrange(1, 3))
    )
    zone = dice.choice(ZONES)
    start_ms = start_of(dice, zone)
    statistics = tuple(
        (number, point)
        for number, (_, kinds) in enumerate(groups)
        for point in range(len(kinds))
        if dice.random() < 0.5
    )
    slots = [
        slot for number, shape in enumerate(groups) for slot in reads(dice, number, shape, start_ms)
    ]
    slots.sort(key=itemgetter(0))
    events: list[Event] = []
    for due_ms, slot in slots:
        events.append(slot)
        if dice.random() < 0.15:
            events.append(Cut(max(0, due_ms + dice.randrange(-3_000, 30_000))))
        if dice.random() < 0.02:
            events.append(Cut(due_ms + dice.randrange(DAY_MS)))
        if dice.random() < 0.05:
            events.append(Restart())
    return History(groups, lengths_ms, zone, statistics, (*events, Cut(LONG_AFTER_MS)))


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
            case Replaced(group):
                self._journal.append(core.replace_meter(group))
            case Cut(now_ms):
                while (part := core.cut(now_ms)) is not None:
                    self.payloads.append(part.encode(_core.CODEC_PLAIN))
                self._journal, self._snapshot = [], core.snapshot()
            case Restart():
                self._aggregator = self._new()
                self._aggregator.restore(self._snapshot)
                for record in self._journal:
                    self._aggregator.replay(record)


def told_by(payloads: Sequence[tuple[int, bytes]]) -> Told:
    """Decode what is told of windows; AssertionError for one that is there twice."""
    told = Told()
    tables = [table for each in payloads for table in _core.decode(*each)]
    for kind, group, length_ms, _, columns in tables:
        for first, *cells in zip(*columns, strict=True):
            assert first is not None
            if kind == WINDOWS:
                once(told.windows, (group, length_ms, first), parts(cells, _core.WINDOW_COLUMNS))
            elif kind == AUDITS:
                told.audits.append((group, first, cast("Audit", tuple(cells))))
            elif kind in (UNCERTAINTIES, STATISTICS):
                assert cells[0] is not None
                key = group, cells[0], first
                if kind == STATISTICS:
                    once(told.statistics, key, parts(cells[1:], 3))
                else:
                    once(told.uncertainties, key, list(cells[1:]))
    return told


def once(told: dict[Key, T], key: Key, what: T) -> None:
    """Keep what is told of a window."""
    assert key not in told, f"window {key} twice"
    told[key] = what


def parts(cells: Sequence[int | None], width: int) -> list[tuple[int | None, ...]]:
    """Return the cells, so many together."""
    return [tuple(cells[at : at + width]) for at in range(0, len(cells), width)]


def naive(life: History) -> tuple[Told, int]:
    """Return what the model tells, and how many rows came too late."""
    groups = [
        NaiveGroup(*shape, life.lengths_ms, life.zone, OFFSETS[life.zone]) for shape in life.groups
    ]
    told, late = Told(), 0
    for event in life.events:
        match event:
            case Slot(group, row):
                late += not groups[group].read(row)
            case Replaced(group):
                groups[group].replace()
            case Cut(now_ms):
                for number, each in enumerate(groups):
                    for done in each.cut(now_ms):
                        told.add(number, done, life.sampled(number))
    for number, each in enumerate(groups):
        told.audits += [(number, point, audit) for point, audit in each.audits()]
    return told, late


def difference(seed: str) -> str | None:
    """Live the history of this seed; return what core and model do not agree on."""
    found = disagreement(history(seed))
    return f"seed {seed}: {found}" if found else None


def disagreement(life: History) -> str | None:
    """Live a history; return what core and model do not agree on."""
    killed, whole = Gateway(life), Gateway(life)
    for event in life.events:
        killed.take(event)
        if not isinstance(event, Restart):
            whole.take(event)
    if killed.payloads != whole.payloads or killed.late != whole.late:
        return "a restart changed a payload"
    expected, late = naive(life)
    if whole.late != late:
        return f"{whole.late} rows too late, the model says {late}"
    return told_by(whole.payloads).difference(expected)


def first_difference(seeds: Sequence[str]) -> str | None:
    """Live the histories of these seeds up to the first on which core and model do not agree."""
    return next((found for seed in seeds if (found := difference(seed)) is not None), None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Live `--count` histories from `--seed` on; return 1 at the first that differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args(arguments)
    seeds = [f"{options.seed}:{number}" for number in range(options.count)]
    parts = [seeds[at : at + PROGRESS_COUNT] for at in range(0, len(seeds), PROGRESS_COUNT)]
    done = 0
    with ProcessPoolExecutor(options.processes) as pool:
        for part, found in zip(parts, pool.map(first_difference, parts), strict=True):
            if found is not None:
                pool.shutdown(cancel_futures=True)
                sys.stdout.write(f"{found}\n")
                return 1
            done += len(part)
            sys.stdout.write(f"{done} histories, no difference\n")
            sys.stdout.flush()
    sys.stdout.write(f"{done} histories from seed {options.seed}: core and model agree\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
