"""What the gateway keeps: the journal of batches, one cursor per destination, the epoch.

A batch's sequence is its number in the journal, so it can neither be used twice nor change. The
epoch is the name of the journal's folder: losing the folder loses both together, and the next start
opens a new epoch.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from edgeagg._core import Journal
from edgeagg.batch import Batch, BatchKind, Origin, check_of
from edgeagg.errors import StoreError
from edgeagg_agent import epochs

_SEGMENT_BYTES = 1 << 20
_RECORD_BATCH = 1
_PREFIX = struct.Struct("<Q")  # the cut that the batch is a part of
_SLOT = struct.Struct("<QQ")  # generation, through
_SLOT_BYTES = 64


class Outbox:
    """All batches that are kept, delivered or not."""

    def __init__(self, directory: Path, *, now_ms: int, bytes_max: int) -> None:
        """Open or create `directory`; raise StoreError when it is in use or cannot be."""
        self._directory = directory
        self._bytes_max = bytes_max
        self._lock = _lock(directory)
        self.epoch = epochs.current(directory, now_ms)
        self.origin = epochs.origin(directory, self.epoch)
        self._journal = Journal(epochs.batches(directory, self.epoch), _SEGMENT_BYTES)
        self.repairs = self._journal.repairs
        # a platform has these sequences: a tail the journal lost must not bring them back
        delivered = [Cursor(path).through for path in directory.glob(f"cursor-*-{self.epoch}")]
        self._journal.skip_to(max(delivered, default=0) + 1)
        self.dropped_count = 0
        self._former = epochs.former_folders(directory, self.epoch)

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
        """Bytes on the disk, those of former epochs included."""
        return self._journal.bytes + sum(map(_size, self._former))

    def append(self, cut: int, batches: Iterable[bytes]) -> None:
        """Keep the parts of a cut; returns when the disk has them. Blocks.

        The batches must carry the sequences from `head` + 1 on.
        """
        for batch in batches:
            self._journal.append(_RECORD_BATCH, _PREFIX.pack(cut) + batch)
            # one by one: of a larger write a power cut may leave the later parts and not the first
            self._journal.commit()

    def read(self, sequence: int, gateway: str) -> bytes:
        """Return the message of a sequence up to `head`. Blocks.

        What is no longer kept, or can no longer be read, becomes a batch that says so.
        """
        record = self._journal.read(sequence)
        if record is not None:
            return record[1][_PREFIX.size :]
        lost = Batch(gateway, self.epoch, sequence, BatchKind.LOST, bytes(16), 0, 0, b"")
        return lost.to_bytes()

    def check(self, sequence: int) -> bytes | None:
        """Return what a receipt must say of this message; None if it is not kept. Blocks."""
        record = self._journal.read(sequence)
        return None if record is None else check_of(record[1][_PREFIX.size :])

    def catalogue_behind(self, through: int) -> int:
        """Return the last sequence behind `through` that carries a catalogue; 0: none. Blocks."""
        for sequence in range(self.head, through, -1):
            record = self._journal.read(sequence)
            if record is None:
                continue
            if Batch.from_bytes(record[1][_PREFIX.size :]).kind is BatchKind.CATALOGUE:
                return sequence
        return 0

    def begin_epoch(
        self, gateway: str, schema: bytes, *, after: int, why: Origin, now_ms: int
    ) -> None:
        """Take the batches behind `after` into a new epoch, for the next one who opens. Blocks.

        `schema` is the hash of the catalogue in use; `after` is the last sequence that every
        destination has of this epoch as it is here.
        """
        messages = (self.read(number, gateway) for number in range(after + 1, self.head + 1))
        epochs.begin(
            self._directory,
            self.epoch,
            messages,
            gateway=gateway,
            schema=schema,
            why=why,
            now_ms=now_ms,
        )

    def parts_of(self, cut: int, cut_at_ms: int) -> int:
        """Count the batches at the end of the journal that are parts of this cut."""
        parts = 0
        for sequence in range(self.head, 0, -1):
            record = self._journal.read(sequence)
            if record is None or _PREFIX.unpack_from(record[1])[0] != cut:
                break
            if Batch.from_bytes(record[1][_PREFIX.size :]).cut_at_ms != cut_at_ms:
                break
            parts += 1
        return parts

    def trim(self, delivered: int) -> None:
        """Keep to the size limit: delivered batches go first, then the oldest.

        `delivered` is the last sequence that every destination has. Blocks.
        """
        while self._former and self.bytes_count > self._bytes_max:
            shutil.rmtree(self._former.pop(0))
        while self._journal.bytes > self._bytes_max:
            first = self._journal.first
            if not self._journal.free_oldest():
                return
            self.dropped_count += max(0, self._journal.first - max(delivered + 1, first))

    def cursor(self, destination: str) -> Cursor:
        """Return the cursor of a destination."""
        return Cursor(self._directory / f"cursor-{destination}-{self.epoch}")


class Cursor:
    """The last sequence that a destination has committed, with all before it.

    Two slots are written in turn, each with a generation and a CRC, so that a torn write leaves the
    other. An old cursor costs a few batches sent again, so it is not synced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        slots = [_slot(part) for part in _parts(path)]
        self._generation, self.through = max(slots)

    def advance(self, through: int) -> None:
        """Move, and remember."""
        if through == self.through:
            return
        self._generation += 1
        self.through = through
        body = _SLOT.pack(self._generation, through)
        slot = (body + zlib.crc32(body).to_bytes(4, "little")).ljust(_SLOT_BYTES, b"\0")
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, slot, self._generation % 2 * _SLOT_BYTES)
        finally:
            os.close(descriptor)


def _parts(path: Path) -> tuple[bytes, bytes]:
    data = path.read_bytes() if path.exists() else b""
    return data[:_SLOT_BYTES], data[_SLOT_BYTES : 2 * _SLOT_BYTES]


def _slot(data: bytes) -> tuple[int, int]:
    body, check = data[: _SLOT.size], data[_SLOT.size : _SLOT.size + 4]
    if len(body) < _SLOT.size or zlib.crc32(body).to_bytes(4, "little") != check:
        return 0, 0
    generation, through = _SLOT.unpack(body)
    return generation, through


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


def _size(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())
