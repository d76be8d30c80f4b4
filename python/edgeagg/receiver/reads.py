"""What stores are asked of what they hold, whatever database that is.

Owns what is made of the rows that come back. How a statement gets to the database, and all that
writes, is the matter of each store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from edgeagg.balance import Energy
from edgeagg.model import Catalogue
from edgeagg.receiver import energies, queries, rows
from edgeagg.receiver.judgements import StoredAudit, StoredDemand, StoredUncertainty
from edgeagg.receiver.keys import GatewayKey
from edgeagg.receiver.store import Quarantined, Register, SlotCount, StreamStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What a database says in words of its own."""

    plain: Callable[[str], str]
    """Makes a statement of `queries` one of its own."""
    array: Callable[[Any], Sequence[Any]]
    """Reads a column that is an array."""
    before: str
    after: str
    slots: str


class Reads(ABC):
    """The part of a store that only reads, and the keys."""

    _dialect: ClassVar[Dialect]

    @abstractmethod
    async def _all(self, statement: str, *values: object) -> Sequence[Sequence[Any]]:
        """Ask in the database's own words; return all rows."""

    async def _said(self, statement: str, *values: object) -> Sequence[Sequence[Any]]:
        return await self._all(self._dialect.plain(statement), *values)

    async def catalogue(self, schema: bytes) -> Catalogue | None:
        """Return the catalogue with this hash."""
        found = await self._said(queries.CATALOGUE, schema)
        return Catalogue.from_bytes(found[0][0]) if found else None

    async def keyframe(self, gateway: str, epoch: int, sequence: int) -> bytes | None:
        """Return the payload of a committed keyframe."""
        found = await self._said(queries.KEYFRAME, gateway, epoch, sequence)
        return found[0][0] if found else None

    async def quarantined(self) -> Quarantined:
        """Count what quarantine holds and what it dropped."""
        (found,) = await self._said(queries.QUARANTINED)
        return Quarantined(*found)

    async def streams(self) -> Sequence[StreamStatus]:
        """Return every epoch of every gateway."""
        found = await self._said(queries.STREAMS)
        return [StreamStatus(*row) for row in found]

    async def catalogues(self, gateway: str) -> Sequence[Catalogue]:
        """Return the gateway's catalogues, oldest first."""
        found = await self._said(queries.CATALOGUES, gateway)
        return [Catalogue.from_bytes(body) for (body,) in found]

    async def slots(self, gateway: str) -> Sequence[SlotCount]:
        """Count the slots of every group of the gateway."""
        found = await self._all(self._dialect.slots, gateway)
        return [SlotCount(*row) for row in found]

    async def window_count(self, gateway: str) -> int:
        """Count the gateway's windows."""
        found = await self._said(queries.WINDOW_COUNT, gateway)
        return int(found[0][0])

    async def bracket(
        self, gateway: str, meter: str, point: str, at_ms: int
    ) -> tuple[Register | None, Register | None]:
        """Return the totaliser's good states on either side of `at_ms`."""
        return (
            await self._register(self._dialect.before, gateway, meter, point, at_ms),
            await self._register(self._dialect.after, gateway, meter, point, at_ms),
        )

    async def audits(
        self, gateway: str, from_ms: int, to_ms: int, meter: str | None = None
    ) -> Sequence[StoredAudit]:
        """Return what was bridged in [from_ms, to_ms), oldest first."""
        found = await self._said(queries.AUDITS, gateway, from_ms, to_ms, meter)
        return [StoredAudit.of(*row) for row in found]

    async def demands(
        self, gateway: str, from_ms: int, to_ms: int, meter: str | None = None
    ) -> Sequence[StoredDemand]:
        """Return the demands of days that begin in [from_ms, to_ms), oldest first."""
        found = await self._said(queries.DEMANDS, gateway, from_ms, to_ms, meter)
        return [StoredDemand.of(*row) for row in found]

    async def uncertainties(
        self, gateway: str, meter: str, at_ms: int
    ) -> Sequence[StoredUncertainty]:
        """Return those of the windows that begin or end at a moment, the shortest first."""
        array = self._dialect.array
        found = await self._said(queries.UNCERTAINTIES, gateway, meter, at_ms)
        return [
            each
            for points, length_ms, start_ms, *arrays in found
            for each in StoredUncertainty.of(points, length_ms, start_ms, *map(array, arrays))
        ]

    async def span(self, gateway: str, length_ms: int) -> tuple[int, int] | None:
        """Return where the windows with energies begin and end."""
        ((first_ms, last_ms),) = await self._said(queries.SPAN, gateway, length_ms)
        return None if first_ms is None else (first_ms, last_ms + length_ms)

    async def energies(
        self, gateway: str, length_ms: int, from_ms: int, to_ms: int
    ) -> Mapping[str, Mapping[int, Energy]]:
        """Return net energies by meter and start of the window."""
        left_out = energies.without_place(await self.catalogues(gateway))
        found = await self._said(queries.ENERGIES, gateway, length_ms, from_ms, to_ms)
        windows = (
            energies.EnergyRow(*row[:4], *map(self._dialect.array, row[4:])) for row in found
        )
        return energies.net_energies(windows, length_ms, left_out)

    async def keys(self, gateway: str | None = None) -> Sequence[GatewayKey]:
        """Return the keys of a gateway, or of all."""
        return rows.key_rows(await self._said(queries.KEYS, gateway))

    async def add_key(self, gateway: str, public: bytes, now_ms: int) -> bool:
        """Let a key sign for a gateway."""
        return bool(await self._said(queries.ADD_KEY, gateway, public, now_ms))

    async def revoke_key(self, gateway: str, public: bytes, now_ms: int) -> bool:
        """Let a key sign for nothing any more."""
        return bool(await self._said(queries.REVOKE_KEY, gateway, public, now_ms))

    async def _register(
        self, statement: str, gateway: str, meter: str, point: str, at_ms: int
    ) -> Register | None:
        for found_ms, points, mantissas in await self._all(statement, gateway, meter, point, at_ms):
            return energies.register(found_ms, points, self._dialect.array(mantissas), point)
        return None
