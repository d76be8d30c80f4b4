"""From readings to batches, without losing one: aggregator, readings' journal, outbox.

Readings are journaled in group commits. A cut is a record of the journal too, so replaying the
journal after a restart cuts the same batches again, bit for bit; those the outbox already has are
not kept twice. A checkpoint behind each cut frees the journal before it.
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeagg import statement
from edgeagg._core import CODEC_DELTA, Aggregator, Cut, Journal, ScanPlan, decode
from edgeagg.batch import Batch, BatchKind
from edgeagg.model import Catalogue, Kind, Quality
from edgeagg_agent.outbox import Outbox

_SEGMENT_BYTES = 1 << 20
_ROW, _CUT, _CHECKPOINT, _LAST_CUT = 1, 2, 3, 4  # the last one under a catalogue ends its days
_CUT_AT = struct.Struct("<Q")
# the cut it stands behind, the catalogue's hash, the bytes of the days that are not stated yet
_CHECKPOINT_HEAD = struct.Struct("<Q16sI")
_STATED_MAX = 256  # days of groups in one batch


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    cut: int
    catalogue: Catalogue
    days: bytes
    snapshot: bytes


@dataclass(slots=True)
class Counters:
    """What was recorded since the start, in point slots, and the batches cut."""

    values: int = 0
    reasons: int = 0
    missed: int = 0
    windows: int = 0
    batches: int = 0
    batch_bytes: int = 0
    damaged: int = 0


class Recorder:
    """The only writer of the state directory."""

    codec: int | None = None
    """Of payloads; None: whichever makes the fewest bytes."""

    def __init__(
        self, directory: Path, outbox: Outbox, gateway: str, catalogue: Catalogue, *, now_ms: int
    ) -> None:
        """Open the readings' journal and take up what a former run left in it. Blocks."""
        self.counters = Counters()
        self._gateway, self._outbox = gateway, outbox
        self._catalogues = directory / "catalogues"
        self._journal = Journal(directory / f"readings-{outbox.epoch}", _SEGMENT_BYTES)
        self._staged: list[tuple[int, bytes]] = []
        self._last_cut = 0
        self._cutting = asyncio.Lock()
        self._committing = asyncio.Lock()
        checkpoint = self._last_checkpoint()
        self._catalogue = checkpoint.catalogue if checkpoint else catalogue
        self._aggregator = _aggregator(self._catalogue)
        self._days = _day_book(self._catalogue)
        if checkpoint is None:
            self._announce(now_ms)
            return
        self._take_up(checkpoint)
        if self._catalogue != catalogue:
            self._change_catalogue(catalogue, now_ms)

    @property
    def schema(self) -> bytes:
        """The hash of the catalogue in use."""
        return self._catalogue.hash

    @property
    def pending_cells(self) -> int:
        """Cells waiting for the next cut."""
        return self._aggregator.pending_cells

    def last_due_ms(self, group: int) -> int | None:
        """Return the group's last slot that is accounted for."""
        return self._aggregator.last_due_ms(group)

    def name(self, group: int) -> str:
        """Name a group in messages."""
        return f"meter {self._catalogue.groups[group].meter}"

    def scan(
        self,
        group: int,
        *,
        due_ms: int,
        at_ms: int,
        plan: ScanPlan,
        replies: Sequence[bytes | int],
        ratios: Quality,
    ) -> bytes:
        """Record one slot from the replies of its reads; return one quality per point."""
        record, qualities = self._aggregator.push_scan(
            group, due_ms, at_ms, plan, replies, ratios=int(ratios)
        )
        self._staged.append((_ROW, record))
        return qualities

    def row(
        self,
        group: int,
        *,
        due_ms: int,
        at_ms: int,
        values: Sequence[int | None],
        qualities: bytes,
    ) -> None:
        """Record one slot: a value or a reason for every point of the group."""
        record = self._aggregator.push_row(group, due_ms, at_ms, values, qualities)
        self._staged.append((_ROW, record))

    def gap(
        self, group: int, *, first_due_ms: int, last_due_ms: int, slots: int, reason: Quality
    ) -> None:
        """Declare a run of slots that nobody read."""
        record = self._aggregator.push_gap(group, first_due_ms, last_due_ms, slots, reason)
        self._staged.append((_ROW, record))

    async def commit(self) -> None:
        """Return when everything recorded before this call is on the disk."""
        async with self._committing:
            staged, self._staged = self._staged, []
            if staged:
                await asyncio.to_thread(self._write, staged)

    async def cut(self, now_ms: int) -> int:
        """Make batches of everything pending; return how many. They are in the outbox then."""
        async with self._cutting:
            # from here to the commit nothing else can record: the cut stands behind its readings
            parts = list(self._parts(now_ms))
            snapshot = self._aggregator.snapshot()
            self._staged.append((_CUT, _CUT_AT.pack(now_ms)))
            async with self._committing:
                staged, self._staged = self._staged, []
                await asyncio.to_thread(self._write, staged)
                await asyncio.to_thread(self._deliver, parts, now_ms, snapshot)
            return len(parts)

    def _write(self, staged: Sequence[tuple[int, bytes]]) -> None:
        """Append and commit."""
        for kind, payload in staged:
            number = self._journal.append(kind, payload)
            if kind in {_CUT, _LAST_CUT}:
                self._last_cut = number
        self._journal.commit()

    def _keep(self, batches: Sequence[bytes], snapshot: bytes) -> None:
        """Keep what the last cut made, then a checkpoint that stands for all records up to it."""
        self._outbox.append(self._last_cut, batches)
        days = self._days.to_bytes()
        head = _CHECKPOINT_HEAD.pack(self._last_cut, self._catalogue.hash, len(days))
        self._journal.append(_CHECKPOINT, head + days + snapshot)
        self._journal.commit()
        self._journal.free_before(self._last_cut + 1)

    def _parts(self, now_ms: int) -> Iterator[Cut]:
        """Take what is pending, part by part."""
        while (part := self._aggregator.cut(now_ms)) is not None:
            values, reasons, missed, windows = part.counts
            self.counters.values += values
            self.counters.reasons += reasons
            self.counters.missed += missed
            self.counters.windows += windows
            yield part

    def _deliver(
        self,
        parts: Sequence[Cut],
        now_ms: int,
        snapshot: bytes,
        *,
        kept: int = 0,
        ends_days: bool = False,
    ) -> None:
        """Encode the parts and the statements that are due, number them on, and keep them.

        `kept` of them the outbox has already; `ends_days` states days that are not over.
        """
        coded = [part.encode(self.codec) for part in parts]
        for part, (codec, payload) in zip(parts, coded, strict=True):
            # what the smaller codec makes takes longer to read than to make again the fast way
            quick = payload if codec == CODEC_DELTA else part.encode(CODEC_DELTA)[1]
            self._days.fold(decode(CODEC_DELTA, quick))
        over = self._days.take(None if ends_days else now_ms)
        first = self._outbox.head + 1
        batches = [
            self._message(first + place, now_ms, BatchKind.DATA, codec, payload)
            for place, (codec, payload) in enumerate(coded[kept:])
        ]
        first += len(batches)
        stated = [over[at : at + _STATED_MAX] for at in range(0, len(over), _STATED_MAX)]
        batches += [
            self._message(first + place, now_ms, BatchKind.STATEMENT, 0, statement.encode(entries))
            for place, entries in enumerate(stated[max(0, kept - len(parts)) :])
        ]
        self._keep(batches, snapshot)

    def _message(
        self, sequence: int, now_ms: int, kind: BatchKind, codec: int, payload: bytes
    ) -> bytes:
        message = Batch(
            self._gateway,
            self._outbox.epoch,
            sequence,
            kind,
            self._catalogue.hash,
            now_ms,
            codec,
            payload,
        ).to_bytes()
        self.counters.batches += 1
        self.counters.batch_bytes += len(message)
        return message

    def _take_up(self, checkpoint: _Checkpoint) -> None:
        """Rebuild the state behind the last record, and keep the batches that were not kept yet."""
        self._aggregator.restore(checkpoint.snapshot)
        self._days.restore(checkpoint.days)
        lost = 0
        for number in range(checkpoint.cut + 1, self._journal.committed):
            record = self._journal.read(number)
            if record is None:
                lost += 1
                continue
            kind, payload = record
            if kind == _ROW:
                self._replay(payload, is_behind_damage=lost > 0)
            elif kind in {_CUT, _LAST_CUT}:
                self._last_cut = number
                (now_ms,) = _CUT_AT.unpack(payload)
                self._deliver(
                    list(self._parts(now_ms)),
                    now_ms,
                    self._aggregator.snapshot(),
                    kept=self._outbox.parts_of(number, now_ms),
                    ends_days=kind == _LAST_CUT,
                )
        self.counters.damaged += lost

    def _replay(self, payload: bytes, *, is_behind_damage: bool) -> None:
        try:
            if is_behind_damage:
                self._declare_lost(payload)
            self._aggregator.replay(payload)
        except ValueError:
            # damage that the checksum missed, or a slot twice: its group goes on behind it
            self.counters.damaged += 1

    def _declare_lost(self, payload: bytes) -> None:
        """Declare the slots between the last one known of a group and those of this record."""
        probe = _aggregator(self._catalogue)
        probe.replay(payload)
        part = probe.cut(0)
        for _, group, _, _, columns in decode(*part.encode()) if part else ():
            first_due_ms, last_due_ms = columns[0][0], self._aggregator.last_due_ms(group)
            period_ms = self._catalogue.groups[group].period_ms
            if first_due_ms is None or last_due_ms is None:
                continue
            slots = (first_due_ms - last_due_ms) // period_ms - 1
            if slots > 0:
                gap_ms = last_due_ms + period_ms, first_due_ms - period_ms
                self._aggregator.push_gap(group, *gap_ms, slots, Quality.STOPPED)

    def _last_checkpoint(self) -> _Checkpoint | None:
        for number in range(self._journal.committed - 1, self._journal.first - 1, -1):
            record = self._journal.read(number)
            if record is not None and record[0] == _CHECKPOINT:
                cut, schema, days = _CHECKPOINT_HEAD.unpack_from(record[1])
                file = self._catalogues / schema.hex()
                if file.exists():
                    catalogue = Catalogue.from_bytes(file.read_bytes())
                    end = _CHECKPOINT_HEAD.size + days
                    book = record[1][_CHECKPOINT_HEAD.size : end]
                    return _Checkpoint(cut, catalogue, book, record[1][end:])
        return None

    def _change_catalogue(self, catalogue: Catalogue, now_ms: int) -> None:
        """Finish what was read under the former catalogue, then announce and use the new one."""
        self._write([(_LAST_CUT, _CUT_AT.pack(now_ms))])
        parts = list(self._parts(now_ms))
        self._deliver(parts, now_ms, self._aggregator.snapshot(), ends_days=True)
        aggregator = _aggregator(catalogue)
        for number, group in enumerate(catalogue.groups):
            if group in self._catalogue.groups:
                former = self._catalogue.groups.index(group)
                last_due_ms = self._aggregator.last_due_ms(former)
                if last_due_ms is not None:
                    # so that the group's first slot is counted from there, and no slot is forgotten
                    aggregator.push_gap(number, last_due_ms, last_due_ms, 1, Quality.STOPPED)
        while aggregator.cut(now_ms) is not None:
            pass  # those slots were delivered under the former catalogue
        self._catalogue, self._aggregator = catalogue, aggregator
        self._days = _day_book(catalogue)
        self._announce(now_ms)

    def _announce(self, now_ms: int) -> None:
        """Send the catalogue ahead of the first batch under it. Only then it has a checkpoint."""
        _write_catalogue(self._catalogues, self._catalogue)
        announcement = Batch(
            self._gateway,
            self._outbox.epoch,
            self._outbox.head + 1,
            BatchKind.CATALOGUE,
            self._catalogue.hash,
            now_ms,
            0,
            self._catalogue.to_bytes(),
        )
        self._write([(_CUT, _CUT_AT.pack(now_ms))])
        self._keep([announcement.to_bytes()], self._aggregator.snapshot())


def _aggregator(catalogue: Catalogue) -> Aggregator:
    return Aggregator(
        [
            (group.period_ms, [point.kind is Kind.TOTALISER for point in group.points])
            for group in catalogue.groups
        ],
        catalogue.window_lengths_ms,
    )


def _day_book(catalogue: Catalogue) -> statement.DayBook:
    return statement.DayBook([(len(g.points), g.totalisers) for g in catalogue.groups])


def _write_catalogue(directory: Path, catalogue: Catalogue) -> None:
    """Write the file in one step that a power cut cannot halve."""
    directory.mkdir(exist_ok=True)
    file = directory / catalogue.hash.hex()
    new = file.with_suffix(".new")
    with new.open("wb") as stream:
        stream.write(catalogue.to_bytes())
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(file)
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
