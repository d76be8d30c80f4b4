"""The bytes of a day file: rows by group and time, with an index; docs/delivery-protocol.md.

Owns the format, in both directions. A block that is damaged costs itself; where the index is, the
blocks are looked for by their heads. Knows neither what a state directory holds nor when a file is
made.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, Self

from edgeagg.batch import SCHEMA_BYTES
from edgeagg.errors import FormatError
from edgeagg.model import Catalogue

_MAGIC = b"EdgD"
# magic; kind, codec, place of the catalogue, group, bytes, first_ms, last_ms; CRC-32
_HEAD = struct.Struct("<4sBBHIIqq")
_CRC = struct.Struct("<I")
_HEAD_BYTES = _HEAD.size + _CRC.size
# where the block is, then the fields of its head
_ENTRY = struct.Struct("<QBBHIIqq")
# where the index is, its entries; epoch, first and last sequence, batches that were lost; CRC-32
_FOOT = struct.Struct("<QIQQQQI4s")
_CATALOGUE_BYTES_MAX = 16 << 20

_Entry = tuple[int, int, int, int, int, int, int, int]
"""The fields of a block, in their order."""


class BlockKind(IntEnum):
    """What a block's payload is."""

    CATALOGUE = 0  # the hash, then the catalogue, deflated; nothing where it is not known
    READINGS = 1  # a payload with readings and gaps of one group
    WINDOWS = 2  # a payload with windows and what else is made of readings, of one group
    MESSAGE = 3  # a batch that says something of others, as it was signed


@dataclass(frozen=True, slots=True)
class Block:
    """Where a block is and what is in it; the times are those of its earliest and latest row."""

    offset: int
    kind: BlockKind
    codec: int
    place: int
    """Of its catalogue among those of the file."""
    group: int
    length: int
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """Which batches a file was made of, and how many of them could not be read then."""

    epoch: int
    first: int
    through: int
    lost: int


class Writer:
    """Writes a file block by block; it is one only after `finish`. OSError from a refusing disk."""

    def __init__(self, path: Path) -> None:
        """Begin the file at `path` anew."""
        self._file = path.open("wb", buffering=0)
        self._blocks: list[Block] = []
        self._offset = 0
        self._synced = 0

    def close(self) -> None:
        """Let go of the file, finished or not."""
        self._file.close()

    def add(
        self,
        kind: BlockKind,
        payload: bytes,
        *,
        place: int,
        codec: int = 0,
        group: int = 0,
        span_ms: tuple[int, int] = (0, 0),
    ) -> None:
        """Add a block. Blocks the caller."""
        block = Block(self._offset, kind, codec, place, group, len(payload), *span_ms)
        head = _HEAD.pack(_MAGIC, *astuple(block)[1:])
        self._write(head + _CRC.pack(zlib.crc32(payload, zlib.crc32(head))) + payload)
        self._blocks.append(block)

    def sync(self) -> None:
        """Return when the disk has what was written so far. Blocks."""
        if self._synced != self._offset:
            os.fdatasync(self._file.fileno())
            self._synced = self._offset

    def finish(self, made: Made) -> None:
        """Write the index behind the blocks, and return when the disk has all of it. Blocks."""
        index = b"".join(_ENTRY.pack(*astuple(block)) for block in self._blocks)
        numbers = made.epoch, made.first, made.through, made.lost
        foot = _FOOT.pack(self._offset, len(self._blocks), *numbers, 0, _MAGIC)
        check = zlib.crc32(foot, zlib.crc32(index))
        self._write(index + _FOOT.pack(self._offset, len(self._blocks), *numbers, check, _MAGIC))
        os.fsync(self._file.fileno())

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = self._file.write(view)
            self._offset += written
            view = view[written:]


class DayFile:
    """One file, opened for reading; OSError when it is gone."""

    def __init__(self, path: Path) -> None:
        """Read the index, or where it is damaged look for the blocks."""
        self._file = path.open("rb", buffering=0)
        found = _indexed(self._file)
        self.is_damaged = found is None
        """Whether the index is: nobody knows what else the file held, `lost` counts the holes."""
        self._entries, self.lost = found or _looked_for(path.read_bytes())

    def __enter__(self) -> Self:
        """Return the file itself, which is closed at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def blocks(self) -> list[Block]:
        """All blocks, in the order in which they stand."""
        return list(map(_made, self._entries))

    def find(self, kind: BlockKind, since_ms: int, until_ms: int) -> Iterator[Block]:
        """Yield the blocks of a kind that may hold rows in [since, until)."""
        for entry in self._entries:
            # most are of other meters' days: no object is made of these
            if entry[1] == kind and entry[6] < until_ms and entry[7] >= since_ms:
                yield _made(entry)

    def payload(self, block: Block) -> bytes | None:
        """Return what a block holds; None when it is damaged."""
        return _payload(self._file, block)

    def schemas(self) -> dict[int, bytes]:
        """Return the hashes of the file's catalogues by their places."""
        found: dict[int, bytes] = {}
        for entry in self._entries:
            # each stands twice, so one that is damaged is no loss yet
            if entry[1] == BlockKind.CATALOGUE and entry[3] not in found:
                payload = _payload(self._file, _made(entry))
                if payload is not None:
                    found[entry[3]] = payload[:SCHEMA_BYTES]
        return found

    def catalogue(self, place: int) -> Catalogue | None:
        """Return the catalogue at this place, None when the file does not hold it or not whole."""
        for entry in self._entries:
            if entry[1] == BlockKind.CATALOGUE and entry[3] == place:
                payload = _payload(self._file, _made(entry)) or b""
                with contextlib.suppress(FormatError, zlib.error):
                    inflated = zlib.decompressobj()
                    body = inflated.decompress(payload[SCHEMA_BYTES:], _CATALOGUE_BYTES_MAX)
                    return Catalogue.from_bytes(body)
        return None


def packed(schema: bytes, catalogue: bytes | None) -> bytes:
    """Return the payload of the block of the catalogue with this hash."""
    return schema + (b"" if catalogue is None else zlib.compress(catalogue, 9))


def _made(entry: _Entry) -> Block:
    offset, kind, *fields = entry
    return Block(offset, BlockKind(kind), *fields)


def _payload(file: BinaryIO, block: Block) -> bytes | None:
    data = os.pread(file.fileno(), _HEAD_BYTES + block.length, block.offset)
    found = _block(data, 0, block.offset)
    return data[_HEAD_BYTES:] if found == block else None


def _block(data: bytes, at: int, offset: int) -> Block | None:
    """Return the block that stands at `at`, which is `offset` in its file; None if none does."""
    if len(data) - at < _HEAD_BYTES:
        return None
    magic, kind, *fields = _HEAD.unpack_from(data, at)
    length = fields[3]
    end = at + _HEAD_BYTES + length
    if magic != _MAGIC or kind not in tuple(BlockKind) or end > len(data):
        return None
    head = zlib.crc32(data[at : at + _HEAD.size])
    if zlib.crc32(data[at + _HEAD_BYTES : end], head) != _CRC.unpack_from(data, at + _HEAD.size)[0]:
        return None
    return Block(offset, BlockKind(kind), *fields)


def _indexed(file: BinaryIO) -> tuple[Sequence[_Entry], int] | None:
    """Return the blocks that the index names, and the batches lost; None when it is damaged."""
    size = file.seek(0, os.SEEK_END)
    if size < _FOOT.size:
        return None
    foot = os.pread(file.fileno(), _FOOT.size, size - _FOOT.size)
    offset, entries, *numbers, check, magic = _FOOT.unpack(foot)
    if magic != _MAGIC or offset + entries * _ENTRY.size + _FOOT.size != size:
        return None
    index = os.pread(file.fileno(), entries * _ENTRY.size, offset)
    unchecked = _FOOT.pack(offset, entries, *numbers, 0, _MAGIC)
    if zlib.crc32(unchecked, zlib.crc32(index)) != check:
        return None
    return list(_ENTRY.iter_unpack(index)), numbers[-1]


def _looked_for(data: bytes) -> tuple[Sequence[_Entry], int]:
    """Return the blocks that can be read, and in how many places others were."""
    entries: list[_Entry] = []
    holes, end, at = 0, 0, data.find(_MAGIC)
    while at >= 0:
        block = _block(data, at, at)
        if block is None:
            at = data.find(_MAGIC, at + 1)
            continue
        holes += at > end
        entries.append(astuple(block))
        end = at + _HEAD_BYTES + block.length
        at = data.find(_MAGIC, end)
    # what stands behind the last block is the index, which is damaged
    return entries, holes + 1
