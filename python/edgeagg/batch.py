"""The messages between gateway and platform, byte for byte as in docs/batch-format.md.

Pure: bytes in, values out. Everything is checked before it is believed: size, shape, seal, ranges.
"""

from __future__ import annotations

import enum
import hashlib
import re
import zlib
from dataclasses import dataclass
from typing import Any

import msgpack

from edgeagg.errors import FormatError
from edgeagg.model import unpack_bounded

MESSAGE_BYTES_MAX = 256 * 1024
RANGES_MAX = 64
SCHEMA_BYTES = 16
CHECK_BYTES = 8
CREDIT_MAX = 256

_VERSION = 1
_SUITE_CRC32 = 0  # 1 and 2 are reserved for Ed25519 and SM2
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_SEAL_BYTES = 4
_SEAL_HEAD_BYTES = 2  # msgpack's bin 8 head
_CODEC_MAX = 255
_NUMBER_MAX = 2**63 - 1  # so that every database can hold it

Range = tuple[int, int]
"""First and last sequence of a run, both included."""


class BatchKind(enum.IntEnum):
    """What a batch's payload is."""

    CATALOGUE = 0
    DATA = 1
    LOST = 2  # the gateway no longer has what this sequence carried
    STATEMENT = 3  # what the batches of a day, or of a part of it, add up to


class Origin(enum.IntEnum):
    """Why an epoch began."""

    FRESH = 0  # the gateway had no store: its first start, or a lost card
    BEHIND = 1  # a platform had more of the former epoch than the gateway: an old copy was put back
    DIVERGED = 2  # a platform had other bytes than the gateway: somebody else writes the epoch too


@dataclass(frozen=True, slots=True)
class Batch:
    """One numbered message of a gateway. Its identity is (gateway, epoch, sequence)."""

    gateway: str
    epoch: int
    sequence: int
    kind: BatchKind
    schema: bytes
    cut_at_ms: int
    codec: int
    payload: bytes

    def __post_init__(self) -> None:
        check_gateway(self.gateway)
        for name in ("epoch", "sequence", "cut_at_ms", "codec"):
            _check_number(name, getattr(self, name))
        if self.codec > _CODEC_MAX:
            raise FormatError(f"codec {self.codec}: codecs are numbered up to {_CODEC_MAX}")
        if self.sequence == 0:
            raise FormatError("sequence 0: sequences start at 1")
        if len(self.schema) != SCHEMA_BYTES:
            raise FormatError(f"a schema hash of {len(self.schema)} bytes, not {SCHEMA_BYTES}")

    def to_bytes(self) -> bytes:
        """Encode; the same batch always gives the same bytes."""
        return _seal(
            [
                self.gateway,
                self.epoch,
                self.sequence,
                int(self.kind),
                self.schema,
                self.cut_at_ms,
                self.codec,
                self.payload,
            ]
        )

    @staticmethod
    def from_bytes(data: bytes) -> Batch:
        """Decode and check; raise FormatError on anything else."""
        gateway, epoch, sequence, kind, schema, cut_at_ms, codec, payload = _unseal(data, 8)
        if not isinstance(schema, bytes) or not isinstance(payload, bytes):
            raise FormatError("schema and payload must be binary")
        if type(kind) is not int or kind not in tuple(BatchKind):
            raise FormatError(f"batch kind {kind!r} is unknown to this version")
        return Batch(gateway, epoch, sequence, BatchKind(kind), schema, cut_at_ms, codec, payload)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the platform has committed of one epoch of one gateway.

    Every sequence up to `through`, and those in `ranges`, is safe; those in `want` are asked for.
    `credit` is how many batches may be under way without a receipt. `check` is how the message of
    the last sequence in all of these begins when it is hashed (`check_of`), or zeros.
    """

    gateway: str
    epoch: int
    through: int
    ranges: tuple[Range, ...]
    want: tuple[Range, ...]
    server_ms: int
    credit: int = CREDIT_MAX
    check: bytes = bytes(CHECK_BYTES)

    def __post_init__(self) -> None:
        check_gateway(self.gateway)
        for name in ("epoch", "through", "server_ms", "credit"):
            _check_number(name, getattr(self, name))
        if not isinstance(self.check, bytes) or len(self.check) != CHECK_BYTES:
            raise FormatError(f"a check that is not {CHECK_BYTES} bytes")

    @property
    def last(self) -> int:
        """The highest sequence that is committed."""
        return max(self.through, *(last for _, last in self.ranges), 0)

    def to_bytes(self) -> bytes:
        """Encode."""
        return _seal(
            [
                self.gateway,
                self.epoch,
                self.through,
                [list(r) for r in self.ranges[:RANGES_MAX]],
                [list(r) for r in self.want[:RANGES_MAX]],
                self.server_ms,
                self.credit,
                self.check,
            ]
        )

    @staticmethod
    def from_bytes(data: bytes) -> Receipt:
        """Decode and check; raise FormatError on anything else."""
        gateway, epoch, through, ranges, want, *rest = _unseal(data, 8)
        return Receipt(gateway, epoch, through, _ranges(ranges), _ranges(want), *rest)


@dataclass(frozen=True, slots=True)
class Hello:
    """A gateway asks for its receipt; `head` is the last sequence it has cut, by `at_ms`.

    `origin` and `former` say why this epoch began and which one it follows; 0: none.
    """

    gateway: str
    epoch: int
    head: int
    at_ms: int
    origin: Origin = Origin.FRESH
    former: int = 0

    def __post_init__(self) -> None:
        check_gateway(self.gateway)
        for name in ("epoch", "head", "at_ms", "former"):
            _check_number(name, getattr(self, name))

    def to_bytes(self) -> bytes:
        """Encode."""
        fields = [self.epoch, self.head, self.at_ms, int(self.origin), self.former]
        return _seal([self.gateway, *fields])

    @staticmethod
    def from_bytes(data: bytes) -> Hello:
        """Decode and check; raise FormatError on anything else."""
        gateway, epoch, head, at_ms, origin, former = _unseal(data, 6)
        if type(origin) is not int or origin not in tuple(Origin):
            raise FormatError(f"origin {origin!r} is unknown to this version")
        return Hello(gateway, epoch, head, at_ms, Origin(origin), former)


def check_of(message: bytes) -> bytes:
    """Return what a receipt says of a message: the first bytes of its SHA-256."""
    return hashlib.sha256(message).digest()[:CHECK_BYTES]


def check_gateway(name: object) -> str:
    """Return `name` if it may name a gateway; raise FormatError if not."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise FormatError(
            f"{name!r} cannot name a gateway: 1 to 32 of a-z, 0-9 and -, no - at either end"
        )
    return name


def _seal(fields: list[Any]) -> bytes:
    """Pack version, suite, fields and the CRC-32 of all bytes before the seal."""
    packer = msgpack.Packer()
    body = packer.pack_array_header(len(fields) + 3) + b"".join(
        packer.pack(item) for item in (_VERSION, _SUITE_CRC32, *fields)
    )
    message: bytes = body + packer.pack(zlib.crc32(body).to_bytes(_SEAL_BYTES, "little"))
    if len(message) > MESSAGE_BYTES_MAX:
        raise FormatError(f"a message of {len(message)} bytes; at most {MESSAGE_BYTES_MAX}")
    return message


def _unseal(data: bytes, count: int) -> list[Any]:
    if len(data) > MESSAGE_BYTES_MAX:
        raise FormatError(f"a message of {len(data)} bytes; at most {MESSAGE_BYTES_MAX}")
    seal = zlib.crc32(data[: -_SEAL_BYTES - _SEAL_HEAD_BYTES]).to_bytes(_SEAL_BYTES, "little")
    if data[-_SEAL_BYTES:] != seal:
        raise FormatError("the seal does not match: damaged or cut short")
    items = unpack_bounded(data)
    if not isinstance(items, list) or len(items) < 2:
        raise FormatError("not a message: an array is expected")
    version, suite, *fields = items
    if type(version) is not int or version != _VERSION:
        raise FormatError(f"format version {version!r}; this edgeagg reads version {_VERSION}")
    if type(suite) is not int or suite != _SUITE_CRC32:
        raise FormatError(f"seal suite {suite!r} is unknown to this version")
    if len(fields) != count + 1:
        raise FormatError(f"{len(items)} fields, {count + 3} expected")
    if fields[-1] != seal:
        raise FormatError("the last field is not the seal")
    return fields[:-1]


def _check_number(name: str, value: object) -> None:
    if type(value) is not int or not 0 <= value <= _NUMBER_MAX:
        raise FormatError(f"{name} is {value!r}, not a whole number from 0 to 2^63-1")


def _ranges(value: object) -> tuple[Range, ...]:
    if not isinstance(value, list) or len(value) > RANGES_MAX:
        raise FormatError(f"at most {RANGES_MAX} ranges are expected")
    ranges = []
    for item in value:
        if not isinstance(item, list) or len(item) != 2:
            raise FormatError(f"{item!r} is not a range")
        first, last = item
        _check_number("a range's first sequence", first)
        _check_number("a range's last sequence", last)
        if first > last:
            raise FormatError(f"a range from {first} to {last}")
        ranges.append((first, last))
    return tuple(ranges)
