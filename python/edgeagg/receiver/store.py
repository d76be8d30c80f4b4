"""What the receiver asks of a database, and what travels to and from it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Protocol

from edgeagg.balance import Energy
from edgeagg.batch import CHECK_BYTES, RANGES_MAX, Batch, BatchKind, Range
from edgeagg.content import Content
from edgeagg.errors import ConfigError
from edgeagg.model import Catalogue
from edgeagg.receiver.judgements import StoredAudit, StoredDemand, StoredUncertainty
from edgeagg.receiver.keys import Change, GatewayKey
from edgeagg.receiver.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Delivery:
    """A batch that has passed every check, decoded. `catalogue` is its own, or the one it needs."""

    batch: Batch
    data: bytes
    """The message as it came."""
    digest: bytes
    received_ms: int
    catalogue: Catalogue | None
    content: Content | None
    change: Change | None = None
    """The gateway's next key, where the batch names it."""


class Outcome(enum.Enum):
    """What became of a delivery."""

    NEW = "new"
    AGAIN = "again"  # the same bytes as before: nothing changed
    CONFLICT = "conflict"  # other bytes under the same identity: the first ones stay


def repeated(delivery: Delivery, digest: bytes, kind: int) -> Outcome:
    """Say what a delivery is to the batch that stands under its identity.

    A batch and the word that it is lost may come in any order when it is freed with a copy of it
    still on the way: that is no conflict, and what came first stays.
    """
    if digest == delivery.digest or BatchKind.LOST in {kind, delivery.batch.kind}:
        return Outcome.AGAIN
    return Outcome.CONFLICT


@dataclass(frozen=True, slots=True)
class Progress:
    """What is committed of one epoch: everything up to `through`, and the ranges beyond it.

    `check` is how the hash of the last message begins, zeros if there is none; `cut_at_ms` is when
    that was cut.
    """

    through: int
    ranges: tuple[Range, ...]
    check: bytes = field(default=bytes(CHECK_BYTES), compare=False)
    cut_at_ms: int = field(default=0, compare=False)

    @property
    def last(self) -> int:
        """The highest sequence that is committed."""
        return max(self.through, *(last for _, last in self.ranges), 0)

    def ending(self, digest: bytes, cut_at_ms: int) -> Progress:
        """Return it with what is known of the last message."""
        return replace(self, check=digest[:CHECK_BYTES], cut_at_ms=cut_at_ms)

    def has(self, sequence: int) -> bool:
        """Whether this sequence is known to be committed."""
        return sequence <= self.through or any(a <= sequence <= b for a, b in self.ranges)

    @property
    def want(self) -> tuple[Range, ...]:
        """The gaps below the last committed sequence."""
        edges = (self.through, *(last for _, last in self.ranges))
        return tuple(
            (end + 1, first - 1) for end, (first, _) in zip(edges, self.ranges, strict=False)
        )


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One epoch of one gateway, as the store has it."""

    gateway: str
    epoch: int
    through: int
    batches: int
    lost_batches: int
    highest: int
    bytes_count: int


@dataclass(frozen=True, slots=True)
class SlotCount:
    """All slots of one group of one meter: what was due, and what became of it (in rows)."""

    gateway: str
    meter: str
    period_ms: int
    points: int
    first_due_ms: int
    last_due_ms: int
    rows: int
    values: int
    reasons: int
    gap_slots: int
    has_energy: bool  # it holds totalisers of import or export (SQLite says 0 or 1)
    lost_slots: int = 0  # declared as lost, and neither a row nor in a gap


@dataclass(frozen=True, slots=True)
class Register:
    """What an energy totaliser showed at one moment."""

    at_ms: int
    shown_kwh: Fraction


@dataclass(frozen=True, slots=True)
class Bound:
    """How much quarantine keeps; bytes are those of topics, reasons and data.

    Beyond either the oldest go, a tenth more than needed, so that a flood does not count anew for
    every message.
    """

    rows_max: int = 10_000
    bytes_max: int = 64 * 1024 * 1024

    @property
    def rows_left(self) -> int:
        """How many rows stay when the oldest go."""
        return self.rows_max - self.rows_max // 10

    @property
    def bytes_left(self) -> int:
        """How many bytes stay when the oldest go."""
        return self.bytes_max - self.bytes_max // 10


QUARANTINE = Bound()


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that cannot be right, and why."""

    topic: str
    reason: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What quarantine holds, and what had to go."""

    row_count: int
    byte_count: int
    dropped_rows: int
    dropped_bytes: int


class Store(Protocol):
    """A database behind the receiver. Every method may raise StoreError."""

    async def commit(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Store all of them in one durable transaction, or none."""

    async def catalogue(self, schema: bytes) -> Catalogue | None:
        """Return the catalogue with this hash, if it was delivered."""

    async def progress(self, gateway: str, epoch: int) -> Progress:
        """Return what is committed of this epoch."""

    async def keyframe(self, gateway: str, epoch: int, sequence: int) -> bytes | None:
        """Return the payload of a committed keyframe that batches to come may begin with."""

    async def quarantine(self, received_ms: int, refused: Sequence[Refused]) -> None:
        """Keep messages for somebody to look at, in one transaction; the oldest go for them."""

    async def quarantined(self) -> Quarantined:
        """Count what quarantine holds and what it dropped."""

    @property
    def ledger(self) -> Ledger:
        """What is kept of the gateways' own word: alarms and statements."""

    async def streams(self) -> Sequence[StreamStatus]:
        """Return every epoch of every gateway."""

    async def catalogues(self, gateway: str) -> Sequence[Catalogue]:
        """Return the gateway's catalogues, oldest first."""

    async def slots(self, gateway: str) -> Sequence[SlotCount]:
        """Count the slots of every group of the gateway."""

    async def window_count(self, gateway: str) -> int:
        """Count the gateway's windows."""

    async def bracket(
        self, gateway: str, meter: str, point: str, at_ms: int
    ) -> tuple[Register | None, Register | None]:
        """Return the last state of a totaliser at or before, and the first at or after, `at_ms`.

        Only groups that hold the totaliser are looked at, and only rows in which all is good.
        """

    async def audits(
        self, gateway: str, from_ms: int, to_ms: int, meter: str | None = None
    ) -> Sequence[StoredAudit]:
        """Return what was bridged in [from_ms, to_ms), of one meter or all, oldest first."""

    async def demands(
        self, gateway: str, from_ms: int, to_ms: int, meter: str | None = None
    ) -> Sequence[StoredDemand]:
        """Return the demands of days that begin in [from_ms, to_ms), oldest first."""

    async def uncertainties(
        self, gateway: str, meter: str, at_ms: int
    ) -> Sequence[StoredUncertainty]:
        """Return those of a meter's windows that begin or end at a moment, the shortest first."""

    async def span(self, gateway: str, length_ms: int) -> tuple[int, int] | None:
        """Return where the windows of this length with energies begin and end, if there are any."""

    async def energies(
        self, gateway: str, length_ms: int, from_ms: int, to_ms: int
    ) -> Mapping[str, Mapping[int, Energy]]:
        """Return net energies (import minus export) by meter and start of the window.

        Windows of this length that lie in [from_ms, to_ms) as a whole; meters of tier 0 are left
        out.
        """

    async def keys(self, gateway: str | None = None) -> Sequence[GatewayKey]:
        """Return the keys of a gateway, or of all, oldest first."""

    async def add_key(self, gateway: str, public: bytes, now_ms: int) -> bool:
        """Let a key sign for a gateway; return whether it is new."""

    async def revoke_key(self, gateway: str, public: bytes, now_ms: int) -> bool:
        """Let a key sign for nothing any more; return whether it could until now."""

    async def close(self) -> None:
        """Let go of the database."""


def collapse(through: int, sequences: Iterable[int]) -> Progress:
    """Advance `through` over sequences (ascending, all above it) and fold the rest into ranges."""
    ranges: list[Range] = []
    for sequence in sequences:
        if not ranges and sequence == through + 1:
            through = sequence
        elif ranges and sequence == ranges[-1][1] + 1:
            ranges[-1] = (ranges[-1][0], sequence)
        elif len(ranges) < RANGES_MAX:
            ranges.append((sequence, sequence))
    return Progress(through, tuple(ranges))


async def open_store(url: str, quarantine: Bound = QUARANTINE) -> Store:
    """Open sqlite:///path/to/file.db or postgresql://user@host/database; make its tables."""
    if url.startswith("sqlite:///"):
        from edgeagg.receiver.sqlite import SqliteStore  # noqa: PLC0415 - only the one asked for

        return await SqliteStore.open(url.removeprefix("sqlite:///"), quarantine)
    if url.startswith(("postgresql://", "postgres://")):
        from edgeagg.receiver.postgres import PostgresStore  # noqa: PLC0415

        return await PostgresStore.open(url, quarantine)
    raise ConfigError(
        "--store", "url", f"{url!r}", "use sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    )
