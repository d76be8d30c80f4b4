"""Histories of a recorder, and what the batches that come out must hold.

What was read and when, played into a state directory, killed on the way and taken up again.
"""

import random
import shutil
from dataclasses import dataclass

from agent.tests.fakes import GATEWAY, START_MS
from agent.tests.killing import KilledError
from edgeagg import content, statement
from edgeagg._core import Keyframe
from edgeagg.batch import Batch, BatchKind
from edgeagg.model import Catalogue, Quality
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder

BYTES_MAX = 64 << 20


@dataclass(frozen=True)
class Row:
    """One slot of one group."""

    group: int
    due_ms: int
    at_ms: int
    values: tuple
    qualities: bytes
    slots = 1

    @property
    def first_due_ms(self):
        return self.due_ms

    def push(self, recorder):
        known_ms = recorder.last_due_ms(self.group)
        if known_ms is None or known_ms < self.due_ms:
            recorder.row(
                self.group,
                due_ms=self.due_ms,
                at_ms=self.at_ms,
                values=self.values,
                qualities=self.qualities,
            )


@dataclass(frozen=True)
class Gap:
    """Slots of one group that nobody read."""

    group: int
    first_due_ms: int
    last_due_ms: int
    slots: int
    reason: Quality

    def push(self, recorder):
        known_ms = recorder.last_due_ms(self.group)
        if known_ms is None or known_ms < self.first_due_ms:
            recorder.gap(
                self.group,
                first_due_ms=self.first_due_ms,
                last_due_ms=self.last_due_ms,
                slots=self.slots,
                reason=self.reason,
            )


@dataclass(frozen=True)
class Commit:
    """The end of a group commit."""


@dataclass(frozen=True)
class Cut:
    """The end of a batch."""

    now_ms: int


def history(seed, catalogue, seconds):
    """Make up what a site reads: rows, gaps, commits and cuts, in the order of time."""
    rng = random.Random(seed)
    steps = []
    energy = rng.randrange(10**6)
    next_ms = [START_MS] * len(catalogue.groups)
    for second in range(seconds):
        now_ms = START_MS + second * 1_000
        for number, group in enumerate(catalogue.groups):
            while next_ms[number] <= now_ms:
                due_ms = next_ms[number]
                slots = rng.randrange(1, 5) if rng.random() < 0.1 else 0
                energy += rng.randrange(50)
                next_ms[number] = due_ms + max(1, slots) * group.period_ms
                if slots:
                    last_ms = next_ms[number] - group.period_ms
                    reason = rng.choice((Quality.OVERRUN, Quality.STOPPED))
                    steps.append(Gap(number, due_ms, last_ms, slots, reason))
                else:
                    steps.append(_row(rng, number, due_ms, energy, len(group.points)))
        if rng.random() < 0.5:
            steps.append(Commit())
        if rng.random() < 0.2:
            steps.append(Cut(now_ms + 900))
    return [*steps, Cut(START_MS + seconds * 1_000 + 60_000)]


def _row(rng, group, due_ms, energy, points):
    at_ms = due_ms + rng.randrange(900)
    values = [2_300 + rng.randrange(-9, 9) if p % 2 == 0 else energy for p in range(points)]
    qualities = bytearray(points)
    if rng.random() < 0.2:
        point = rng.randrange(points)
        values[point] = None
        qualities[point] = rng.choice((Quality.NO_REPLY, Quality.BAD_FRAME, Quality.IMPLAUSIBLE))
    return Row(group, due_ms, at_ms, tuple(values), bytes(qualities))


class Gateway:
    """A recorder on a state directory, that comes back whenever it was killed."""

    def __init__(self, folder, catalogue, *, now_ms=START_MS):
        self.folder, self.catalogue, self.now_ms = folder, catalogue, now_ms
        self.kills = 0
        self.safe = 0  # steps that were acknowledged

    async def play(self, steps, after_kill=None):
        """Do all steps; after a kill go on behind the last one that was safe."""
        self.safe = 0
        while True:
            outbox = Outbox(self.folder, now_ms=self.now_ms, bytes_max=BYTES_MAX)
            try:
                await self._run(steps, outbox)
            except KilledError:
                outbox.close()  # as the kernel does for a process that is gone
                self.kills += 1
                if after_kill is not None:
                    await after_kill(self)
            else:
                outbox.close()
                return

    async def _run(self, steps, outbox):
        recorder = Recorder(self.folder, outbox, GATEWAY, self.catalogue, now_ms=self.now_ms)
        for place in range(self.safe, len(steps)):
            match steps[place]:
                case Commit():
                    await recorder.commit()
                    self.safe = self.safe if recorder.is_refused else place + 1
                case Cut(now_ms):
                    # as if all that is kept were receipted: what may be referred to changes at once
                    await recorder.cut(now_ms, receipted=outbox.head)
                    self.safe = self.safe if recorder.is_refused else place + 1
                case step:
                    step.push(recorder)


def messages(folder):
    """Return all batches of a state directory, in order, as the platform would get them."""
    outbox = Outbox(folder, now_ms=0, bytes_max=BYTES_MAX)
    found = [outbox.read(sequence, GATEWAY) for sequence in range(1, outbox.head + 1)]
    outbox.close()
    return found


async def after_restart(folder, catalogue, now_ms):
    """Restart on a copy of a state directory and cut; return its batches before and after."""
    copy = folder.with_name(f"{folder.name}-copy")
    shutil.copytree(folder, copy)
    before = messages(copy)
    outbox = Outbox(copy, now_ms=START_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(copy, outbox, GATEWAY, catalogue, now_ms=now_ms)
    await recorder.cut(now_ms)
    outbox.close()
    after = messages(copy)
    shutil.rmtree(copy)
    return before, after


class Delivered:
    """What a platform learns from batches; fails where they contradict each other."""

    def __init__(self, found):
        self.events = []  # rows and gaps
        self.windows = []
        self.anchored_count = 0
        self.stated = {}
        self.batches = [Batch.from_bytes(message) for message in found]
        announced = {}
        for sequence, batch in enumerate(self.batches, start=1):
            assert batch.sequence == sequence
            if batch.kind is BatchKind.CATALOGUE:
                announced[batch.schema] = Catalogue.from_bytes(batch.payload)
                continue
            assert batch.schema in announced, f"{sequence} comes before its catalogue"
            if batch.kind is BatchKind.STATEMENT:
                for span, tally in statement.decode(batch.payload):
                    self.stated.setdefault((batch.schema, span), statement.Tally()).add(tally)
                continue
            assert batch.kind is BatchKind.DATA, f"{sequence} is {batch.kind!r}"
            self._take(batch, announced[batch.schema])

    @property
    def data(self):
        """The data batches, but for their sequences."""
        return [
            (b.schema, b.cut_at_ms, b.payload) for b in self.batches if b.kind is BatchKind.DATA
        ]

    def _take(self, batch, catalogue):
        groups = {group: number for number, group in enumerate(catalogue.groups)}
        back = content.anchor_of(batch.codec, batch.payload)
        keyframe = Keyframe(self.batches[batch.sequence - back - 1].payload) if back else None
        self.anchored_count += back is not None
        found = content.decode(batch.codec, batch.payload, catalogue, keyframe)
        self.events += [
            Row(groups[r.group], r.due_ms, r.at_ms, r.mantissas, bytes(r.qualities))
            for r in found.readings
        ]
        self.events += [
            Gap(groups[g.group], g.first_due_ms, g.last_due_ms, g.slot_count, g.reason)
            for g in found.gaps
        ]
        self.windows += found.windows


def in_groups(steps):
    """Return the rows and gaps of every group, in the order of their slots."""
    groups = {}
    for step in steps:
        if isinstance(step, Row | Gap):
            groups.setdefault(step.group, []).append(step)
    return {number: sorted(groups[number], key=lambda s: s.first_due_ms) for number in groups}


def slots(steps, catalogue):
    """Return every slot that is accounted for as (group, due_ms), sorted."""
    found = []
    for step in steps:
        if isinstance(step, Row | Gap):
            period_ms = catalogue.groups[step.group].period_ms
            found += [(step.group, step.first_due_ms + n * period_ms) for n in range(step.slots)]
    return sorted(found)
