"""A disk that may write what it was given in any order, and half: until it is told to sync.

The kernel hands writes to a disk as it likes, and a disk keeps some in its own memory. So a cut
leaves any of the sectors that were written and not synced. The file system's own log is not
touched: its order is the kernel's affair.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from pathlib import Path
from random import Random

from hil_tests.disks import PowerCutDisk

_SECTOR_BYTES = 512
_WRITE_AND_WAIT = 7  # SYNC_FILE_RANGE_WAIT_BEFORE | _WRITE | _WAIT_AFTER
# FS_IOC_FIEMAP and its structures, from the kernel's linux/fs.h and linux/fiemap.h
_FS_IOC_FIEMAP = 0xC020660B
_FIEMAP = struct.Struct("=QQIIII")  # start, length, flags, found, room, reserved
_EXTENT = struct.Struct("=QQQ16xI12x")  # in the file, on the disk, length, flags
_EXTENTS_MAX = 1024
_NO_PLACE = 0x2 | 0x4  # unknown, or not yet chosen


class TornDisk(PowerCutDisk):
    """A PowerCutDisk that can keep a random part of what was not synced."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._before = b""
        self._rng: Random | None = None
        self._extents: list[range] = []
        self.kept_sectors = 0
        self.lost_sectors = 0

    def tear(self, rng: Random) -> None:
        """Let the next cut, which must follow at once, leave a part of what is not synced now.

        Nothing may write meanwhile.
        """
        self._before, self._rng = self.image.read_bytes(), rng
        self._extents = []
        for file in sorted(self.directory.rglob("*")):
            if file.is_file():
                self._extents += _write_out(file)

    def plug(self) -> None:
        """Have it at its directory again, with the sectors that the cut left."""
        if self._rng is not None:
            self._mix(self._before, self._rng)
            self._before, self._rng = b"", None
        super().plug()

    def _mix(self, before: bytes, rng: Random) -> None:
        share = rng.random()
        with self.image.open("r+b") as image:
            after = image.read()
            for extent in self._extents:
                if before[extent.start : extent.stop] == after[extent.start : extent.stop]:
                    continue
                for at in range(extent.start, extent.stop, _SECTOR_BYTES):
                    old = before[at : at + _SECTOR_BYTES]
                    if old == after[at : at + _SECTOR_BYTES]:
                        continue
                    if rng.random() < share:
                        self.kept_sectors += 1
                        continue
                    self.lost_sectors += 1
                    image.seek(at)
                    image.write(old)


def _write_out(file: Path) -> list[range]:
    """Write the data of a file to its place on the disk, without the log; return those places."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        whole = ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_WRITE_AND_WAIT)
        library = ctypes.CDLL(None, use_errno=True)
        if library.sync_file_range(descriptor, *whole):
            raise OSError(ctypes.get_errno(), f"cannot write out {file}")
        return _places(descriptor)
    finally:
        os.close(descriptor)


def _places(descriptor: int) -> list[range]:
    """Return where on the disk a file lies, in bytes."""
    request = bytearray(_FIEMAP.size + _EXTENTS_MAX * _EXTENT.size)
    _FIEMAP.pack_into(request, 0, 0, 2**64 - 1, 0, 0, _EXTENTS_MAX, 0)
    fcntl.ioctl(descriptor, _FS_IOC_FIEMAP, request)
    _, _, _, found, _, _ = _FIEMAP.unpack_from(request)
    places = []
    for number in range(found):
        _, begin, length, flags = _EXTENT.unpack_from(request, _FIEMAP.size + number * _EXTENT.size)
        if not flags & _NO_PLACE:
            places.append(range(begin, begin + length))
    return places
