"""How far a destination is: one small file, which a power cut cannot spoil.

Owns the file's format. What of a receipt moves it is the sender's matter.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from pathlib import Path

from edgeagg.batch import Range

_SLOT = struct.Struct("<QQ")  # generation, through
_SLOT_BYTES = 64


class Cursor:
    """The last sequence that a destination has committed, with all before it.

    Two slots are written in turn, each with a generation and a CRC, so that a torn write leaves the
    other. An old cursor costs a few batches sent again, so it is not synced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        slots = [_slot(part) for part in _parts(path)]
        self._generation, self.through = max(slots)
        self._ranges: tuple[Range, ...] = ()

    def has(self, sequence: int) -> bool:
        """Tell whether the last receipt of this run holds a sequence."""
        if sequence <= self.through:
            return True
        return any(first <= sequence <= last for first, last in self._ranges)

    def advance(self, through: int, ranges: tuple[Range, ...] = ()) -> None:
        """Move, and remember; what is beyond a gap only until the next start."""
        self._ranges = ranges
        if through == self.through:
            return
        self.through = through
        body = _SLOT.pack(self._generation + 1, through)
        slot = (body + zlib.crc32(body).to_bytes(4, "little")).ljust(_SLOT_BYTES, b"\0")
        # a disk that refuses leaves an old cursor; the good slot is not touched until it gives in
        with contextlib.suppress(OSError):
            self._write(slot, (self._generation + 1) % 2 * _SLOT_BYTES)
            self._generation += 1

    def prepare(self) -> None:
        """Take the room for both slots now, while there may be some."""
        if not self._path.exists():
            with contextlib.suppress(OSError):
                self._write(bytes(2 * _SLOT_BYTES), 0)

    def _write(self, slot: bytes, at: int) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, slot, at)
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
