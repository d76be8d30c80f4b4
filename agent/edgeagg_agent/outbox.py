"""What the gateway keeps: the journal of batches, one cursor per destination, the epoch.

A batch's sequence is its number in the journal, so it can neither be used twice nor change. The
epoch is the name of the journal's folder: losing the folder loses both together, and the next start
opens a new epoch.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO

from edgeagg._core import CODEC_CM, KEYFRAME_BACK_MAX, Journal, Keyframe, anchor_of, recode
from edgeagg.batch import Batch, BatchKind, Origin, check_of
from edgeagg.errors import StoreError
from edgeagg.model import Catalogue
from edgeagg.seal import Signer
from edgeagg_agent import epochs
from edgeagg_agent.catalogues import Announced, Catalogues
from edgeagg_agent.cursor import Cursor
from edgeagg_agent.days import Days
from edgeagg_agent.former_epochs import FormerEpochs
from edgeagg_agent.losses import Losses, Run, as_gaps, is_keyframe, keyframe_of
from edgeagg_agent.neighbours import Neighbours

_SEGMENT_BYTES = 1 << 20
_RECORD_BATCH = 1
_SPARE_SEGMENTS = 1
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_ROOM_TRIES = 4
_READ_TRIES = 10
_NOBODY = "nobody"  # the gateway of a batch that is only looked at


class Outbox:
    """All batches that are kept, delivered or not."""

    def __init__(
        self, directory: Path, *, now_ms: int, bytes_max: int, signer: Signer | None = None
    ) -> None:
        """Open or create `directory`; raise StoreError when it is in use or cannot be.

        `signer` vouches for what the gateway says from now on; without one nobody does.
        """
        self.signer = signer
        self._directory = directory
        self._bytes_max = bytes_max
        self._lock = _lock(directory)
        self.epoch = epochs.current(directory, now_ms)
        begun = epochs.beginning(directory, self.epoch)
        self.origin = begun.why, begun.former
        self._folder = epochs.batches(directory, self.epoch)
        self._journal = Journal(self._folder, _SEGMENT_BYTES)
        self.repairs = self._journal.repairs
        self._catalogues = Catalogues(directory)
        self._losses = Losses(directory, self.epoch)
        self._former = FormerEpochs(directory, self.epoch)
        self.days = Days(directory)
        """The history that was made of batches."""
        self._cursors: list[Cursor] = []
        self._unreadable: Counter[int] = Counter()
        # a platform has these sequences: a tail the journal lost must not bring them back
        delivered = [Cursor(path).through for path in directory.glob(f"cursor-*-{self.epoch}")]
        self.skip_to(max(delivered, default=0) + 1)
        self.dropped_count = 0
        """Batches that were let go before every destination had them."""

    def close(self) -> None:
        """Let another process have the directory."""
        self._lock.close()

    @property
    def head(self) -> int:
        """The last sequence that is safe on the disk; 0 when there is none."""
        return self._journal.committed - 1

    @property
    def first(self) -> int:
        """The first sequence that was not dropped."""
        return self._journal.first

    @property
    def bytes_count(self) -> int:
        """Bytes on the disk, history and former epochs with them, spare segments left out."""
        return self._journal.bytes + self._former.bytes_count + self.days.bytes_count

    @property
    def delivered(self) -> int:
        """The last sequence that every destination has, with all before it."""
        return min((cursor.through for cursor in self._cursors), default=0)

    def reserve(self) -> None:
        """Keep room for what must be written on a full disk; OSError when there is none yet."""
        self._losses.reserve()
        self._journal.reserve(_SPARE_SEGMENTS)

    def skip_to(self, sequence: int) -> None:
        """Give up sequences so that the next batch gets at least this one."""
        self._journal.skip_to(sequence)

    def append(self, batches: Iterable[bytes]) -> None:
        """Keep batches; returns when the disk has them. Blocks.

        The batches must carry the sequences from `head` + 1 on. On OSError some may be kept, which
        `head` tells, and one more may be written by the next call.
        """
        self.commit()
        for batch in batches:
            self._stage(batch)
            # one by one: of a larger write a power cut may leave the later parts and not the first
            self.commit()

    def commit(self) -> None:
        """Write what a refusing disk has left to write. Blocks."""
        try:
            self._journal.commit()
        except OSError as error:
            if not self.make_room(error, self._folder):
                raise
            self._journal.commit()

    def read(self, sequence: int, gateway: str, now_ms: int | None = None) -> bytes:
        """Return the message of a sequence up to `head`. Blocks; OSError when the disk fails.

        What is no longer kept, or can no longer be read, becomes a batch that says so. `now_ms`
        bounds the slots that the last batch may have held, if somebody vouches for it.
        """
        try:
            record = self._journal.read(sequence)
        except OSError:
            # a disk that fails may come back; a block of it that is bad for good must end some day
            self._unreadable[sequence] += 1
            if self._unreadable[sequence] < _READ_TRIES:
                raise
            record = None
        self._unreadable.pop(sequence, None)
        if record is not None:
            return record[1]
        if (announcement := self._catalogues.message(self.epoch, sequence)) is not None:
            return announcement
        return self._lost(sequence, gateway, now_ms).to_bytes(self.signer)

    def _lost(self, sequence: int, gateway: str, now_ms: int | None) -> Batch:
        """Return the word that a sequence is lost, and of what slots that is known.

        Of one that is still between others its own; where it is its turn, those of all let go.
        """
        lost = Batch(gateway, self.epoch, sequence, BatchKind.LOST, bytes(16), 0, 0, b"")
        own = self._slots_of(sequence, now_ms)
        turn = self._losses.of(sequence)
        schema = turn or (own and own[0].hash)
        catalogue = None if schema is None else self._catalogues.find(schema)
        if catalogue is None:
            return lost
        parts = [] if turn is None else [self._losses.runs(turn)]
        if own is not None and own[0].hash == schema:
            parts.append(own[1])
        said = as_gaps(catalogue, *parts)
        if said is None:
            return lost
        codec, payload = said
        return replace(lost, schema=catalogue.hash, codec=codec, payload=payload)

    def _slots_of(
        self, sequence: int, now_ms: int | None
    ) -> tuple[Catalogue, dict[int, list[Run]]] | None:
        """Return what a damaged batch covered, as far as those around it tell."""
        if not self.first <= sequence <= self.head:
            return None
        around = Neighbours(self._batch, self.keyframe_payload, self._catalogues.find)
        return around.slots_of(sequence, self.first, self.head, now_ms)

    def _batch(self, sequence: int) -> Batch | None:
        record = self._record(sequence)
        return None if record is None else Batch.from_bytes(record)

    def check(self, sequence: int) -> bytes | None:
        """Return what a receipt must say of this message; None if it is not kept. Blocks."""
        record = self._record(sequence)
        return None if record is None else check_of(record)

    def announcements_behind(self, through: int) -> list[int]:
        """Return the sequences behind `through` that others need: catalogues and keys. Blocks.

        They are known by their files: reading all batches for them would take as long as the
        history is.
        """
        known = self._catalogues.sequences(self.epoch)
        return [sequence for sequence in known if through < sequence <= self.head]

    def announced_ms(self, schema: bytes) -> int | None:
        """Return when a catalogue was announced behind which there are announcements only.

        Of several the first; None where there is none, or slots may have been recorded since, also
        in a batch that cannot be read. Blocks.
        """
        found = None
        for sequence in range(self.head, self.first - 1, -1):
            batch = self._batch(sequence)
            if batch is None or batch.kind not in {BatchKind.CATALOGUE, BatchKind.KEY}:
                break
            if batch.schema == schema:
                found = batch.cut_at_ms
        return found

    def keys(self) -> list[Announced]:
        """Return what announced the gateway's keys, in all its epochs, oldest first. Blocks."""
        return self._catalogues.keys()

    def begin_epoch(
        self, gateway: str, catalogue: Catalogue, *, after: int, why: Origin, now_ms: int
    ) -> None:
        """Take the batches behind `after` into a new epoch, for the next one who opens. Blocks.

        `catalogue` is the one in use; `after` is the last sequence that every destination has of
        this epoch as it is here.
        """
        epoch = max(now_ms, self.epoch + 1)
        body, kind = catalogue.to_bytes(), BatchKind.CATALOGUE
        first = Batch(gateway, epoch, 1, kind, catalogue.hash, now_ms, 0, body)
        kept = (self._alone(number, gateway) for number in range(after + 1, self.head + 1))
        epochs.begin(
            self._directory,
            self.epoch,
            kept,
            catalogue=first,
            # day files hold some of them already where a platform was put back, or a new one is
            counted=max(after, self.days.covered(self.epoch)),
            signer=self.signer,
            why=why,
        )

    def _alone(self, sequence: int, gateway: str) -> Batch:
        """Return a batch that refers to no other; lost, where it cannot be made from what is kept.

        In another epoch the sequence that an anchored payload counts from is another batch's.
        """
        batch = Batch.from_bytes(self.read(sequence, gateway))
        if batch.kind is not BatchKind.DATA:
            return batch
        back = anchor_of(batch.codec, batch.payload)
        if back is None:
            return batch
        begins = sequence - back
        payload = self.keyframe_payload(begins) or self._losses.keyframe(begins)
        if payload is None:
            return self._lost(sequence, gateway, None)
        codec, payload = recode(batch.codec, batch.payload, Keyframe(payload))
        return replace(batch, codec=codec, payload=payload)

    def _record(self, sequence: int) -> bytes | None:
        with contextlib.suppress(OSError):
            record = self._journal.read(sequence)
            return None if record is None else record[1]
        return None

    def keyframe(self, receipted: int) -> int:
        """Return the newest sequence that the next batch may begin with; 0 when there is none.

        `receipted` is the last sequence that every destination has. Blocks.
        """
        oldest = self.head + 1 - KEYFRAME_BACK_MAX
        for sequence in range(min(receipted, self.head), max(oldest, 1) - 1, -1):
            if self.keyframe_payload(sequence) is not None:
                return sequence
        return 0

    def keyframe_payload(self, sequence: int) -> bytes | None:
        """Return the payload of a batch that others may begin with, None of any other. Blocks."""
        record = self._record(sequence)
        if record is None:
            return None
        batch = Batch.from_bytes(record)
        if batch.kind is not BatchKind.DATA or batch.codec != CODEC_CM:
            return None
        return batch.payload if anchor_of(batch.codec, batch.payload) is None else None

    def announces(self, public: bytes) -> bool:
        """Tell whether a batch names this key as the gateway's next.

        Then its file is there, too: a kill may have come between the two. Blocks; OSError.
        """
        if any(Batch.from_bytes(it.message).payload.startswith(public) for it in self.keys()):
            return True
        record = self._journal.read(self.head) if self.head else None
        if record is None:
            return False
        batch = Batch.from_bytes(record[1])
        if batch.kind is not BatchKind.KEY or not batch.payload.startswith(public):
            return False
        self._catalogues.keep(record[1])
        return True

    def trim(self) -> None:
        """Keep to the size limit: former epochs go first, then the oldest days, then batches.

        Blocks. What cannot be removed now is removed by a later call.
        """
        with contextlib.suppress(OSError):
            while self.bytes_count > self._bytes_max:
                if not self._free_history() and not self._free_oldest(None):
                    break
        self._losses.keep()

    def free_delivered(self, cut_ms: int) -> None:
        """Let go of delivered batches that are in day files, cut before `cut_ms`. Blocks.

        Those that the next ones may begin with stay. What cannot be removed now is removed later.
        """
        through = min(self.days.covered_until(self.epoch, cut_ms), self.delivered)
        with contextlib.suppress(OSError):
            self._journal.free_before(max(0, through + 1 - KEYFRAME_BACK_MAX))

    def free_days(self, cut_ms: int) -> None:
        """Let go of day files whose batches were cut before `cut_ms` and are not kept. Blocks."""
        with contextlib.suppress(OSError):
            self.days.free_before(cut_ms, epoch=self.epoch, kept_from=self.first)

    def free_former(self, epoch: int) -> None:
        """Let go of the batches of a former epoch. Blocks."""
        with contextlib.suppress(OSError):
            self._former.free(epoch)

    def _free_history(self) -> bool:
        """Let go of the oldest of what former epochs left and of days whose batches are gone."""
        return self._former.free_oldest() or self.days.free_oldest(
            epoch=self.epoch, kept_from=self.first
        )

    def make_room(self, error: OSError, folder: Path) -> bool:
        """Let go of the oldest segment for the journal in `folder`, if room is what was missing.

        Its blocks become a spare segment there: whoever else fills the disk does not get them.
        Return whether trying again is worth it. Blocks.
        """
        if error.errno not in _NO_ROOM:
            return False
        with contextlib.suppress(OSError):
            return self.days.free_unfinished() or self._free_history() or self._free_oldest(folder)
        return False

    def cursor(self, destination: str) -> Cursor:
        """Return the cursor of a destination; what it does not have is not delivered."""
        cursor = Cursor(self._directory / f"cursor-{destination}-{self.epoch}")
        cursor.prepare()
        self._cursors.append(cursor)
        return cursor

    def _free_oldest(self, give_to: Path | None) -> bool:
        first, delivered = self._journal.first, self.delivered
        self._losses.forget(delivered)
        leaving = self._leaving()
        known = {
            schema: self._catalogues.find(schema) for schema in {batch.schema for batch in leaving}
        }
        for batch in leaving:
            self._note_leaving(batch, known[batch.schema])
        # before they go: noting them in vain changes nothing, losing them in between would
        self._losses.keep()
        if not self._journal.free_oldest(give_to=give_to):
            return False
        self.dropped_count += sum(
            not self._is_delivered(sequence)
            and self._catalogues.message(self.epoch, sequence) is None
            for sequence in range(max(delivered + 1, first), self._journal.first)
        )
        return True

    def _is_delivered(self, sequence: int) -> bool:
        """Tell whether every destination has a sequence."""
        return bool(self._cursors) and all(cursor.has(sequence) for cursor in self._cursors)

    def _leaving(self) -> list[Batch]:
        """Return those of the oldest segment that lose something, or that others begin with."""
        files = sorted(self._folder.glob("*.journal"))
        if len(files) < 2:  # the only one stays
            return []
        end = int(files[1].stem)
        after = max(self._journal.first, end - KEYFRAME_BACK_MAX)
        leaving = []
        for sequence in range(self._journal.first, end):
            if sequence < after and self._is_delivered(sequence):
                continue
            # of one that cannot be read what it covered is known as long as those around it are
            leaving.append(self._batch(sequence) or self._lost(sequence, _NOBODY, None))
        return leaving

    def _note_leaving(self, batch: Batch, catalogue: Catalogue | None) -> None:
        if is_keyframe(batch):
            self._losses.note_keyframe(batch.sequence, batch.payload)
        holds_slots = batch.kind is BatchKind.DATA or (batch.kind is BatchKind.LOST and batch.codec)
        if self._is_delivered(batch.sequence) or not holds_slots:
            return
        begins = keyframe_of(batch)
        if catalogue is not None and begins is not None:
            own = begins == batch.sequence
            keyframe = None if own else self._losses.keyframe(begins)
            self._losses.note(batch, catalogue, keyframe)

    def _stage(self, record: bytes) -> None:
        for _ in range(_ROOM_TRIES):
            try:
                self._journal.append(_RECORD_BATCH, record)
            except OSError as error:
                if not self.make_room(error, self._folder):
                    raise
            else:
                return
        self._journal.append(_RECORD_BATCH, record)


def _lock(directory: Path) -> IO[bytes]:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (directory / "lock").open("wb")
    except OSError as error:
        raise StoreError(f"cannot use {directory}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise StoreError(f"{directory} is in use: another agent runs on it") from None
    return file
