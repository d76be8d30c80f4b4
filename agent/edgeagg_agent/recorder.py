"""From readings to batches, without losing one: aggregator, readings' journal, outbox.

Readings are journaled in group commits. A cut is a record of the journal too, so replaying the
journal after a restart cuts the same batches again, bit for bit; those the outbox already has are
not kept twice. A checkpoint frees the journal before it; one is made behind a cut once as many
bytes were journaled as it has itself, so that checkpoints at most double what is written.

A disk that refuses stops nothing: rows wait in memory, and when there are too many of them the
slots that follow are owed, to be declared as not kept once the disk takes writes again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeagg._core import Cut, Journal, ScanPlan
from edgeagg.model import Catalogue, Quality
from edgeagg.seal import Signer
from edgeagg_agent.batching import Batcher, Counters, Unkept, days_over
from edgeagg_agent.catalogues import Catalogues
from edgeagg_agent.checkpoint import Checkpoint, CutFor, CutNote, last_checkpoint
from edgeagg_agent.departed import Departed
from edgeagg_agent.epochs import READINGS
from edgeagg_agent.held import Held, HeldRow, Release
from edgeagg_agent.judging import begin, day_book, declare_lost, make_aggregator
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.owed import Owed
from edgeagg_agent.rowlog import CHECKPOINT, CUT, HELD, RELEASE, ROW, RowLog

_log = logging.getLogger(__name__)

_SEGMENT_BYTES = 1 << 20

WAITING_BYTES_MAX = 2 << 20  # of journal records: two hours of 128 meters with 30 points a minute
PENDING_CELLS_MAX = 1 << 20  # of readings that wait to be cut while the disk refuses


class Recorder:
    """The only writer of the state directory."""

    codec: int | None = None
    """Of payloads; None: whichever makes the fewest bytes."""

    def __init__(
        self,
        directory: Path,
        outbox: Outbox,
        gateway: str,
        catalogue: Catalogue,
        *,
        now_ms: int,
        boot: str = "",
        knows_time: bool = False,
    ) -> None:
        """Open the readings' journal and take up what a former run left in it. Blocks.

        `boot` is this boot's id: what waits for the time since an earlier one waits in vain. If
        somebody vouches for `now_ms` (`knows_time`), slots count from their announcement on.
        """
        self.counters = Counters()
        self._outbox = outbox
        self._batcher = Batcher(gateway, outbox, self.counters)
        self._catalogues = Catalogues(directory)
        folder = directory / f"{READINGS}{outbox.epoch}"
        self._rows = RowLog(Journal(folder, _SEGMENT_BYTES), folder, outbox.make_room)
        self._owed = Owed()
        self.held = Held(boot)
        """What waits until somebody vouches for the time; nothing is cut meanwhile."""
        self._unkept: Unkept | None = None
        self.is_refused = False
        """Whether the disk refused the last write."""
        self._knows_time = knows_time
        self._cutting = asyncio.Lock()
        self._committing = asyncio.Lock()
        found = last_checkpoint(self._rows, directory, catalogue)
        self._catalogue = found[1] if found else catalogue
        self._aggregator = make_aggregator(self._catalogue)
        self._days = day_book(self._catalogue)
        self._departed = Departed()
        if found is None:
            self._announce(now_ms)
            return
        self._take_up(found[0])
        if self._catalogue != catalogue or not self.held.is_of_this_boot:
            self.release(range(len(self._catalogue.groups)))
        if self._catalogue != catalogue:
            self._change_catalogue(catalogue, now_ms)

    def reserve(self) -> None:
        """Keep room for what must be written on a full disk, if there is any now. Blocks."""
        with contextlib.suppress(OSError):
            self._rows.reserve()
            self._outbox.reserve()

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue in use."""
        return self._catalogue

    @property
    def pending_cells(self) -> int:
        """Cells waiting for the next cut."""
        return self._aggregator.pending_cells

    @property
    def waiting_bytes(self) -> int:
        """Bytes of journal records that the disk does not have yet."""
        return self._rows.waiting_bytes

    def last_due_ms(self, group: int) -> int | None:
        """Return the group's last slot that is accounted for; None while it waits for the time."""
        if self.held.holds(group):
            return None
        owed_ms = self._owed.last_due_ms(group)
        return self._aggregator.last_due_ms(group) if owed_ms is None else owed_ms

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
        if not self._has_room(group, due_ms, due_ms, 1):
            return plan.decode(replies, ratios=int(ratios))[1]
        record, qualities = self._aggregator.push_scan(
            group, due_ms, at_ms, plan, replies, ratios=int(ratios)
        )
        self._rows.stage(ROW, record)
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
        if self._has_room(group, due_ms, due_ms, 1):
            self._rows.stage(
                ROW, self._aggregator.push_row(group, due_ms, at_ms, values, qualities)
            )

    def gap(
        self, group: int, *, first_due_ms: int, last_due_ms: int, slots: int, reason: Quality
    ) -> None:
        """Declare a run of slots that nobody read; those of a group that waits show later."""
        if not self.held.holds(group) and self._has_room(group, first_due_ms, last_due_ms, slots):
            self._push_gap(group, first_due_ms, last_due_ms, slots, reason)

    def replaced(self, group: int) -> None:
        """Record that another meter hangs in the group's place: its registers go on from theirs."""
        self._rows.stage(ROW, self._aggregator.replace_meter(group))

    def begin(self, group: int, behind_ms: int) -> None:
        """Let a group's slots count from here on; those of one that waits do from its first row."""
        if not self.held.holds(group):
            self.restart(group, behind_ms)

    def restart(self, group: int, last_due_ms: int) -> None:
        """Let the group's slots go on behind this one, for the clock was set back or far ahead."""
        if (run := self._owed.take(group)) is not None:
            self._push_gap(group, *run, Quality.NOT_KEPT)
        self._rows.stage(ROW, self._aggregator.restart_group(group, last_due_ms))

    def hold(self, row: HeldRow) -> None:
        """Record one slot of a group that waits for the time."""
        self._rows.stage(HELD, self.held.add(row))

    def release(self, groups: Sequence[int], offset_ms: int | None = None) -> frozenset[int]:
        """Let groups wait no longer, and record what was held of them in its right time.

        `offset_ms` is UTC less the monotonic clock; None gives the time up, and rows are flagged.
        Return the groups of which there was anything.
        """
        release = Release(tuple(filter(self.held.holds, groups)), offset_ms)
        if release.groups:
            for _ in range(2):  # one may be damaged
                self._rows.stage(RELEASE, release.to_bytes())
        return self._settle(release)

    def _settle(self, release: Release) -> frozenset[int]:
        periods_ms = [group.period_ms for group in self._catalogue.groups]
        return self.held.settle(release, self._aggregator, periods_ms)

    async def commit(self) -> None:
        """Return when everything recorded before this call is on the disk, or the disk refused.

        Then it waits in memory, and the next call tries again.
        """
        async with self._committing:
            await self._try(self._keep_cut if self._unkept else self._rows.write)

    async def cut(self, now_ms: int, *, receipted: int = 0) -> int:
        """Make batches of everything pending; return how many. They are in the outbox then.

        `receipted` is the last sequence that every destination has: batches may begin with what a
        keyframe up to there taught. While the disk refuses nothing is cut: a cut stands behind its
        readings in the journal. Nor is it while rows wait for the time: no checkpoint has those.
        """
        async with self._cutting:
            if self.is_refused or self._unkept is not None:
                await self.commit()
            if self.is_refused or self.held:
                return 0
            keyframe = 0
            if receipted:
                keyframe = await asyncio.to_thread(self._outbox.keyframe, receipted)
            # from here to the commit nothing else can record: the cut stands behind its readings
            parts = self._parts(now_ms)
            snapshot = self._aggregator.snapshot()
            self._unkept = Unkept(parts, now_ms, snapshot, self._outbox.head + 1, keyframe)
            note = CutNote(now_ms, self._unkept.first, keyframe, CutFor.ROWS)
            self._rows.stage(CUT, note.to_bytes())
            await self.commit()
            return 0 if self._unkept else len(parts)

    def follow_key(self, following: Signer, now_ms: int) -> None:
        """Announce the gateway's next key, which then vouches for what comes behind. Blocks.

        This is called before the first slot is recorded; what a former run left is cut first.
        """
        former = self._outbox.signer
        if former is None:
            raise ValueError("a key follows another")
        self.release(range(len(self._catalogue.groups)))
        self._write_cut(now_ms, CutFor.ROWS)
        self._deliver(self._parts(now_ms), now_ms, 0)
        announcement = self._batcher.key(following, former, now_ms)
        self._write_cut(now_ms, CutFor.ANNOUNCEMENT)
        self._keep([announcement], self._aggregator.snapshot())
        # like a catalogue: whoever never hears of the key believes nothing that follows
        self._catalogues.keep(announcement)
        self._rows.write()
        self._outbox.signer = following

    async def _try(self, work: Callable[[], None]) -> None:
        """Let the disk do its work, and know whether it refused."""
        try:
            await asyncio.to_thread(work)
        except OSError as error:
            self.counters.refusals += 1
            if not self.is_refused:
                self.is_refused = True
                _log.error("state directory: %s; readings wait in memory", error.strerror)
            return
        if self.is_refused:
            self.is_refused = False
            for group, run in self._owed.take_all():
                self._push_gap(group, *run, Quality.NOT_KEPT)
            _log.warning(
                "state directory: it takes writes again; %d slots since the start were not kept",
                self.counters.not_kept,
            )
            await asyncio.to_thread(self.reserve)

    def _has_room(self, group: int, first_due_ms: int, last_due_ms: int, slots: int) -> bool:
        """Tell whether these slots can be taken in; those of a group that owes some come behind."""
        is_full = self._rows.waiting_bytes >= WAITING_BYTES_MAX or (
            self.is_refused and self.pending_cells >= PENDING_CELLS_MAX
        )
        if is_full:
            self._owed.add(group, first_due_ms, last_due_ms, slots)
            self.counters.not_kept += slots * len(self._catalogue.groups[group].points)
            return False
        if (run := self._owed.take(group)) is not None:
            self._push_gap(group, *run, Quality.NOT_KEPT)
        return True

    def _push_gap(
        self, group: int, first_due_ms: int, last_due_ms: int, slots: int, reason: Quality
    ) -> None:
        record = self._aggregator.push_gap(group, first_due_ms, last_due_ms, slots, reason)
        self._rows.stage(ROW, record)

    def _keep_cut(self) -> None:
        """Keep what the last cut made, whatever of it is kept already, then a checkpoint."""
        self._rows.write()
        unkept = self._unkept
        if unkept is None:
            return
        if unkept.batches is None:
            made = unkept.first, unkept.parts, unkept.now_ms, unkept.keyframe
            unkept.batches = self._messages(*made)
        self._outbox.commit()  # so that the head tells what is kept
        kept = self._outbox.head + 1 - unkept.first
        self._outbox.append(unkept.batches[kept:])
        if self._rows.since_checkpoint_bytes >= len(unkept.snapshot):
            self._stage_checkpoint(unkept.snapshot)
        self._unkept = None
        self._rows.write()

    def end_epoch(self) -> bool:
        """Make the next epoch begin behind the last cut, with none of this one's numbers. Blocks.

        Return False where a disk that refuses has kept that cut from being made or kept; then
        nothing has changed. OSError.
        """
        self._keep_cut()
        if self.pending_cells:
            return False
        snapshot = self._aggregator.snapshot()
        for _ in range(2):  # one may be damaged
            self._stage_checkpoint(snapshot, head=0)
        self._rows.write()
        return True

    def _write_cut(self, now_ms: int, what_for: CutFor) -> None:
        """Commit the record of a cut whose batches refer to no keyframe."""
        note = CutNote(now_ms, self._outbox.head + 1, 0, what_for)
        self._rows.stage(CUT, note.to_bytes())
        self._rows.write()

    def _keep(self, batches: Sequence[bytes], snapshot: bytes) -> None:
        """Keep batches of the last cut, and stage a checkpoint for all records up to it."""
        self._outbox.append(batches)
        self._stage_checkpoint(snapshot)

    def _stage_checkpoint(self, snapshot: bytes, *, head: int | None = None) -> None:
        head = self._outbox.head if head is None else head
        parts = self._days.to_bytes(), self._departed.to_bytes(), snapshot
        checkpoint = Checkpoint(self._rows.last_cut, head, self._catalogue.hash, *parts)
        self._rows.stage(CHECKPOINT, checkpoint.to_bytes())

    def _parts(self, now_ms: int) -> list[Cut]:
        """Take what is pending, part by part."""
        return list(iter(lambda: self._aggregator.cut(now_ms), None))

    def _deliver(
        self,
        parts: Sequence[Cut],
        now_ms: int,
        keyframe: int,
        *,
        kept: int = 0,
        ends_days: bool = False,
    ) -> None:
        """Make batches of a cut, and keep those that follow the `kept` that the outbox has.

        `ends_days` states days that are not over.
        """
        first = self._outbox.head + 1 - kept
        batches = self._messages(first, parts, now_ms, keyframe, ends_days=ends_days)
        if batches[kept:]:
            self._keep(batches[kept:], self._aggregator.snapshot())
            self._rows.write()

    def _messages(
        self,
        first: int,
        parts: Sequence[Cut],
        now_ms: int,
        keyframe: int,
        *,
        ends_days: bool = False,
    ) -> list[bytes]:
        """Make the batches of a cut: its parts, then the statements of days that are over."""
        schema, codec = self._catalogue.hash, self.codec
        batches = self._batcher.data(first, parts, schema, now_ms, keyframe=keyframe, codec=codec)
        over = days_over(self._days, parts, None if ends_days else now_ms)
        return batches + self._batcher.statements(first + len(batches), over, schema, now_ms)

    def _take_up(self, checkpoint: Checkpoint) -> None:
        """Rebuild the state behind the last record, and keep the batches that were not kept yet."""
        self._aggregator.restore(checkpoint.snapshot)
        self._days.restore(checkpoint.days)
        self._departed.restore(checkpoint.departed)
        self._rows.take_up(checkpoint.cut)
        # batches that the outbox lost since then are answered for, their numbers not used again
        self._outbox.skip_to(checkpoint.head + 1)
        lost = 0
        has_delivered = False
        for number in self._rows.numbers():
            if number <= checkpoint.cut:
                continue
            record = self._rows.read(number)
            if record is None:
                lost += 1
                continue
            kind, payload = record
            self._rows.found(payload)
            if kind in {ROW, HELD, RELEASE}:
                self._replay(kind, payload, is_behind_damage=lost > 0)
            elif kind == CUT:
                self._rows.last_cut = number
                note = CutNote.from_bytes(payload)
                if note.what_for is CutFor.ANNOUNCEMENT:
                    continue
                # behind a cut that was not kept none was; damage may have changed how many it makes
                kept = 0 if has_delivered else max(0, self._outbox.head + 1 - note.first)
                head = self._outbox.head
                self._deliver(
                    self._parts(note.now_ms),
                    note.now_ms,
                    note.keyframe,
                    kept=kept,
                    ends_days=note.what_for is CutFor.LAST_ROWS,
                )
                has_delivered = has_delivered or self._outbox.head > head
        self.counters.damaged += lost

    def _replay(self, kind: int, payload: bytes, *, is_behind_damage: bool) -> None:
        try:
            if kind == HELD:
                self.held.found(payload)
            elif kind == RELEASE:
                self._settle(Release.from_bytes(payload))
            else:
                if is_behind_damage:
                    declare_lost(self._catalogue, self._aggregator, payload)
                self._aggregator.replay(payload)
        except ValueError:
            # damage that the checksum missed, or a slot twice: its group goes on behind it
            self.counters.damaged += 1

    def _change_catalogue(self, catalogue: Catalogue, now_ms: int) -> None:
        """Finish what was read under the former catalogue, then announce and use the new one."""
        self._write_cut(now_ms, CutFor.LAST_ROWS)
        self._deliver(self._parts(now_ms), now_ms, 0, ends_days=True)
        former = self._catalogue, self._aggregator
        self._aggregator = self._departed.change(*former, catalogue, now_ms)
        self._catalogue = catalogue
        self._days = day_book(catalogue)
        self._announce(now_ms)

    def _announce(self, now_ms: int) -> None:
        """Send the catalogue ahead of the first batch under it. Only then it has a checkpoint."""
        message = self._batcher.catalogue(self._catalogue, now_ms)
        if self._knows_time:
            first_ms = self._outbox.announced_ms(self._catalogue.hash)
            begin(self._catalogue, self._aggregator, now_ms if first_ms is None else first_ms)
        self._write_cut(now_ms, CutFor.ANNOUNCEMENT)
        snapshot = self._aggregator.snapshot()
        self._keep([message], snapshot)
        # twice: what follows cannot be read under the catalogue of a checkpoint before this
        self._stage_checkpoint(snapshot)
        # ahead of the checkpoint that needs it, behind the batch whose sequence it names
        self._catalogues.keep(message)
        self._rows.write()
