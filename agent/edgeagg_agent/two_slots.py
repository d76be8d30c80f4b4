"""A small value in a file whose writing a power cut cannot spoil.

Two slots are written in turn, each with a generation and a CRC, so that a torn write leaves the
other. The room for both can be taken beforehand, so that a full disk takes the writes, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from pathlib import Path

_HEAD = struct.Struct("<QII")  # generation, bytes, CRC-32 of both and of what follows


class TwoSlots:
    """The value that was written last, and the file it is in."""

    def __init__(self, path: Path, slot_bytes: int, *, is_synced: bool) -> None:
        """Read what a former run left; a file that cannot be read holds nothing.

        A value has `bytes_max` at most. `is_synced` waits for the disk: behind each write, and for
        what a killed run did not wait for.
        """
        self.bytes_max = slot_bytes - _HEAD.size
        self._path, self._slot_bytes, self._is_synced = path, slot_bytes, is_synced
        data = b""
        with contextlib.suppress(OSError):
            data = path.read_bytes()
            if is_synced:
                # written once more: of what a failed sync left the kernel says no more that the
                # disk lacks it
                self._put(data, 0)
        slots = (data[:slot_bytes], data[slot_bytes : 2 * slot_bytes])
        self._generation, self.value = max(map(_read, slots))

    def reserve(self) -> None:
        """Take what room the file has not yet. Blocks; OSError when there is none."""
        size = self._path.stat().st_size if self._path.exists() else 0
        if size < 2 * self._slot_bytes:
            self._put(bytes(2 * self._slot_bytes - size), size)

    def write(self, value: bytes) -> None:
        """Put a value in the place of the one before the last. Blocks.

        On OSError the last one stays, and the next write goes to the same slot.
        """
        generation = self._generation + 1
        check = zlib.crc32(value, zlib.crc32(_HEAD.pack(generation, len(value), 0)))
        slot = _HEAD.pack(generation, len(value), check) + value
        self._put(slot, generation % 2 * self._slot_bytes)
        self._generation, self.value = generation, value

    def _put(self, data: bytes, at: int) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            if os.pwrite(descriptor, data, at) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if self._is_synced:
                os.fdatasync(descriptor)
        finally:
            os.close(descriptor)


def _read(slot: bytes) -> tuple[int, bytes]:
    """Return generation and value of a slot; none of a damaged one or one never written."""
    if len(slot) < _HEAD.size:
        return 0, b""
    generation, length, check = _HEAD.unpack_from(slot)
    value = slot[_HEAD.size : _HEAD.size + length]
    is_whole = zlib.crc32(value, zlib.crc32(_HEAD.pack(generation, length, 0))) == check
    return (generation, value) if is_whole and len(value) == length else (0, b"")
