"""The messages between gateway and platform, byte for byte as in docs/batch-format.md.

Pure: bytes in, values out. Everything is checked before it is believed: size, shape, seal, ranges.
Whose signature a message bears is `edgeagg.seal`'s matter.
"""

from __future__ import annotations

import enum
import hashlib
import re
from dataclasses import dataclass

from edgeagg.errors import FormatError
from edgeagg.seal import PUBLIC_BYTES, Domain, Signer, is_signed, sealed, unsealed

RANGES_MAX = 64
CHECKS_MAX = 64
SCHEMA_BYTES = 16
CHECK_BYTES = 8
CREDIT_MAX = 256

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
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
    KEY = 4  # the gateway's next key; sealed by the one that it follows


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
            check_number(name, getattr(self, name))
        if self.codec > _CODEC_MAX:
            raise FormatError(f"codec {self.codec}: codecs are numbered up to {_CODEC_MAX}")
        if self.sequence == 0:
            raise FormatError("sequence 0: sequences start at 1")
        if len(self.schema) != SCHEMA_BYTES:
            raise FormatError(f"a schema hash of {len(self.schema)} bytes, not {SCHEMA_BYTES}")

    def to_bytes(self, signer: Signer | None = None) -> bytes:
        """Encode; the same batch under the same key always gives the same bytes."""
        return sealed(
            [
                self.gateway,
                self.epoch,
                self.sequence,
                int(self.kind),
                self.schema,
                self.cut_at_ms,
                self.codec,
                self.payload,
            ],
            Domain.BATCH,
            signer,
        )

    @staticmethod
    def from_bytes(data: bytes) -> Batch:
        """Decode and check all but a signature; raise FormatError on anything else."""
        gateway, epoch, sequence, kind, schema, cut_at_ms, codec, payload = unsealed(data, 8)
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
    the last sequence in all of these begins when it is hashed (`check_of`), or zeros. `checks` says
    the same of single sequences: those that the receipt answers, or the last ones; zeros where one
    is declared lost.
    """

    gateway: str
    epoch: int
    through: int
    ranges: tuple[Range, ...]
    want: tuple[Range, ...]
    server_ms: int
    credit: int = CREDIT_MAX
    check: bytes = bytes(CHECK_BYTES)
    checks: tuple[tuple[int, bytes], ...] = ()

    def __post_init__(self) -> None:
        check_gateway(self.gateway)
        for name in ("epoch", "through", "server_ms", "credit"):
            check_number(name, getattr(self, name))
        for check in (self.check, *(check for _, check in self.checks)):
            if not isinstance(check, bytes) or len(check) != CHECK_BYTES:
                raise FormatError(f"a check that is not {CHECK_BYTES} bytes")

    @property
    def last(self) -> int:
        """The highest sequence that is committed."""
        return max(self.through, *(last for _, last in self.ranges), 0)

    def to_bytes(self, signer: Signer | None = None) -> bytes:
        """Encode."""
        return sealed(
            [
                self.gateway,
                self.epoch,
                self.through,
                [list(r) for r in self.ranges[:RANGES_MAX]],
                [list(r) for r in self.want[:RANGES_MAX]],
                self.server_ms,
                self.credit,
                self.check,
                [list(one) for one in self.checks[:CHECKS_MAX]],
            ],
            Domain.RECEIPT,
            signer,
        )

    @staticmethod
    def from_bytes(data: bytes) -> Receipt:
        """Decode and check all but a signature; raise FormatError on anything else."""
        gateway, epoch, through, ranges, want, server_ms, *rest = unsealed(data, 9)
        credit, check, checks = rest
        lists = _ranges(ranges), _ranges(want)
        return Receipt(gateway, epoch, through, *lists, server_ms, credit, check, _checks(checks))


@dataclass(frozen=True, slots=True)
class Hello:
    """A gateway asks for its receipt; `head` is the last sequence it has cut, by `at_ms`.

    `origin` and `former` say why this epoch began and which one it follows; 0: none. `public` is
    the key that it signs with, empty where it does not: a platform that does not know the gateway
    yet can take it from here.
    """

    gateway: str
    epoch: int
    head: int
    at_ms: int
    origin: Origin = Origin.FRESH
    former: int = 0
    public: bytes = b""

    def __post_init__(self) -> None:
        check_gateway(self.gateway)
        for name in ("epoch", "head", "at_ms", "former"):
            check_number(name, getattr(self, name))
        if not isinstance(self.public, bytes) or len(self.public) not in {0, PUBLIC_BYTES}:
            raise FormatError(f"a public key has {PUBLIC_BYTES} bytes")

    def to_bytes(self, signer: Signer | None = None) -> bytes:
        """Encode."""
        fields = [self.epoch, self.head, self.at_ms, int(self.origin), self.former, self.public]
        return sealed([self.gateway, *fields], Domain.HELLO, signer)

    @staticmethod
    def from_bytes(data: bytes) -> Hello:
        """Decode and check all but a signature; raise FormatError on anything else."""
        gateway, epoch, head, at_ms, origin, former, public = unsealed(data, 7)
        if type(origin) is not int or origin not in tuple(Origin):
            raise FormatError(f"origin {origin!r} is unknown to this version")
        return Hello(gateway, epoch, head, at_ms, Origin(origin), former, public)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A gateway's next key, and the proof that the gateway has its secret half.

    The payload of a batch of kind KEY, which the former key seals.
    """

    public: bytes
    proof: bytes

    @staticmethod
    def make(signer: Signer, gateway: str, former: bytes) -> NewKey:
        """Let the next key sign what it is for and whom it follows."""
        return NewKey(signer.public, signer.sign(Domain.NEW_KEY, gateway.encode() + former))

    def to_bytes(self) -> bytes:
        """Encode: 32 bytes of key, 64 of signature."""
        return self.public + self.proof

    @staticmethod
    def from_bytes(data: bytes, gateway: str, former: bytes) -> NewKey:
        """Decode and check against the key that sealed the batch; raise FormatError."""
        key = NewKey(data[:PUBLIC_BYTES], data[PUBLIC_BYTES:])
        if not is_signed(key.public, Domain.NEW_KEY, gateway.encode() + former, key.proof):
            raise FormatError("a new key without the proof that the gateway has it")
        return key


def check_of(message: bytes) -> bytes:
    """Return what a receipt says of a message, seal and all: how its SHA-256 begins."""
    return hashlib.sha256(message).digest()[:CHECK_BYTES]


def check_gateway(name: object) -> str:
    """Return `name` if it may name a gateway; raise FormatError if not."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise FormatError(
            f"{name!r} cannot name a gateway: 1 to 32 of a-z, 0-9 and -, no - at either end"
        )
    return name


def check_number(name: str, value: object) -> None:
    """Raise FormatError for what is no whole number that every database can hold."""
    if type(value) is not int or not 0 <= value <= _NUMBER_MAX:
        raise FormatError(f"{name} is {value!r}, not a whole number from 0 to 2^63-1")


def _checks(value: object) -> tuple[tuple[int, bytes], ...]:
    if not isinstance(value, list) or len(value) > CHECKS_MAX:
        raise FormatError(f"at most {CHECKS_MAX} checks are expected")
    checks = []
    for item in value:
        if not isinstance(item, list) or len(item) != 2:
            raise FormatError(f"{item!r} is not a check of a sequence")
        sequence, check = item
        check_number("a checked sequence", sequence)
        checks.append((sequence, check))
    return tuple(checks)


def _ranges(value: object) -> tuple[Range, ...]:
    if not isinstance(value, list) or len(value) > RANGES_MAX:
        raise FormatError(f"at most {RANGES_MAX} ranges are expected")
    ranges = []
    for item in value:
        if not isinstance(item, list) or len(item) != 2:
            raise FormatError(f"{item!r} is not a range")
        first, last = item
        check_number("a range's first sequence", first)
        check_number("a range's last sequence", last)
        if first > last:
            raise FormatError(f"a range from {first} to {last}")
        ranges.append((first, last))
    return tuple(ranges)
