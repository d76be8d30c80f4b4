"""What the receiver asks of a database, and what travels to and from it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeagg.batch import RANGES_MAX, Batch, Range
from edgeagg.content import Content
from edgeagg.errors import ConfigError
from edgeagg.model import Catalogue, PointInfo


@dataclass(frozen=True, slots=True)
class Delivery:
    """A batch that has passed every check, decoded. `catalogue` is its own, or the one it needs."""

    batch: Batch
    digest: bytes
    bytes_count: int
    received_ms: int
    catalogue: Catalogue | None
    content: Content | None


class Outcome(enum.Enum):
    """What became of a delivery."""

    NEW = "new"
    AGAIN = "again"  # the same bytes as before: nothing changed
    CONFLICT = "conflict"  # other bytes under the same identity: the first ones stay


@dataclass(frozen=True, slots=True)
class Progress:
    """What is committed of one epoch: everything up to `through`, and the ranges beyond it."""

    through: int
    ranges: tuple[Range, ...]

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


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A reading row as it stands in the store."""

    at_ms: int
    points: tuple[PointInfo, ...]
    mantissas: tuple[int | None, ...]


class Store(Protocol):
    """A database behind the receiver. Every method may raise StoreError."""

    async def commit(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Store all of them in one durable transaction, or none."""

    async def catalogue(self, schema: bytes) -> Catalogue | None:
        """Return the catalogue with this hash, if it was delivered."""

    async def progress(self, gateway: str, epoch: int) -> Progress:
        """Return what is committed of this epoch."""

    async def quarantine(self, received_ms: int, topic: str, reason: str, data: bytes) -> None:
        """Keep a message that was refused, for somebody to look at."""

    async def streams(self) -> Sequence[StreamStatus]:
        """Return every epoch of every gateway."""

    async def catalogues(self, gateway: str) -> Sequence[Catalogue]:
        """Return the gateway's catalogues, oldest first."""

    async def slots(self, gateway: str) -> Sequence[SlotCount]:
        """Count the slots of every group of the gateway."""

    async def window_count(self, gateway: str) -> int:
        """Count the gateway's windows."""

    async def bracket(
        self, gateway: str, meter: str, at_ms: int
    ) -> tuple[StoredRow | None, StoredRow | None]:
        """Return the meter's last row at or before, and its first at or after, `at_ms`."""

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


async def open_store(url: str) -> Store:
    """Open sqlite:///path/to/file.db or postgresql://user@host/database; make its tables."""
    if url.startswith("sqlite:///"):
        from edgeagg.receiver.sqlite import SqliteStore  # noqa: PLC0415 - only the one asked for

        return await SqliteStore.open(url.removeprefix("sqlite:///"))
    if url.startswith(("postgresql://", "postgres://")):
        from edgeagg.receiver.postgres import PostgresStore  # noqa: PLC0415

        return await PostgresStore.open(url)
    raise ConfigError(
        "--store", "url", f"{url!r}", "use sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    )
