"""Proof, from the database alone, that nothing is missing: slots, batches, the tree's balance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from edgeagg.balance import Node, balance
from edgeagg.errors import FormatError
from edgeagg.model import Catalogue, PointInfo
from edgeagg.receiver.store import SlotCount, Store, StoredRow, StreamStatus

_IMPORT, _EXPORT = "active_energy_import", "active_energy_export"


@dataclass(frozen=True, slots=True)
class SlotBalance:
    """Slots of one group between its first and its last, in rows."""

    count: SlotCount

    @property
    def due(self) -> int:
        """Slots that fell due: a matter of the period alone."""
        return (self.count.last_due_ms - self.count.first_due_ms) // self.count.period_ms + 1

    @property
    def unexplained(self) -> int:
        """Slots with neither a row nor a declared gap; negative when some came twice."""
        return self.due - self.count.rows - self.count.gap_slots


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything found for one gateway."""

    gateway: str
    streams: tuple[StreamStatus, ...]
    slots: tuple[SlotBalance, ...]
    windows: int
    nodes: tuple[Node, ...]
    from_ms: int
    to_ms: int

    @property
    def point_slots_due(self) -> int:
        """Point slots (one point due once) that fell due."""
        return sum(slot.due * slot.count.points for slot in self.slots)

    @property
    def values(self) -> int:
        """Point slots with a value."""
        return sum(slot.count.values for slot in self.slots)

    @property
    def reasons(self) -> int:
        """Point slots with a reason instead."""
        return sum(slot.count.reasons for slot in self.slots)

    @property
    def missed(self) -> int:
        """Point slots declared as not read."""
        return sum(slot.count.gap_slots * slot.count.points for slot in self.slots)

    @property
    def unexplained(self) -> int:
        """Point slots nobody accounts for."""
        return self.point_slots_due - self.values - self.reasons - self.missed

    @property
    def batches_missing(self) -> int:
        """Sequences between the first and the highest that are not there."""
        return sum(stream.highest - stream.batches for stream in self.streams)

    @property
    def is_whole(self) -> bool:
        """Whether every slot is explained and every batch is there."""
        each = all(slot.unexplained == 0 for slot in self.slots)
        return each and self.unexplained == 0 and self.batches_missing == 0

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "gateway": self.gateway,
            "whole": self.is_whole,
            "slots": {
                "due": self.point_slots_due,
                "values": self.values,
                "reasons": self.reasons,
                "missed": self.missed,
                "unexplained": self.unexplained,
            },
            "batches": {
                "stored": sum(stream.batches for stream in self.streams),
                "missing": self.batches_missing,
                "lost": sum(stream.lost_batches for stream in self.streams),
                "bytes": sum(stream.bytes_count for stream in self.streams),
            },
            "windows": self.windows,
            "balance": [
                {
                    "meter": node.meter,
                    "tier": node.tier,
                    "depth": node.depth,
                    "net_kwh": _rounded(node.net_kwh),
                    "children": list(node.children),
                    "children_kwh": _rounded(node.children_kwh),
                    "gap_kwh": _rounded(node.gap_kwh),
                    "gap_share": node.gap_share,
                }
                for node in self.nodes
            ],
            "from_ms": self.from_ms,
            "to_ms": self.to_ms,
        }


async def audit(store: Store, gateway: str) -> Audit:
    """Look at everything the store has of a gateway."""
    streams = [stream for stream in await store.streams() if stream.gateway == gateway]
    slots = [SlotBalance(count) for count in await store.slots(gateway)]
    catalogues = await store.catalogues(gateway)
    from_ms, to_ms = _common(slots)
    nodes: tuple[Node, ...] = ()
    if catalogues and to_ms > from_ms:
        nodes = await _nodes(store, gateway, catalogues[-1], from_ms, to_ms)
    return Audit(
        gateway,
        tuple(streams),
        tuple(slots),
        await store.window_count(gateway),
        nodes,
        from_ms,
        to_ms,
    )


def _common(slots: Sequence[SlotBalance]) -> tuple[int, int]:
    """Return the interval in which every group was read, the ends left out."""
    if not slots:
        return 0, 0
    period_ms = max(slot.count.period_ms for slot in slots)
    first = max(slot.count.first_due_ms for slot in slots) + period_ms
    last = min(slot.count.last_due_ms for slot in slots)
    return first, last


async def _nodes(
    store: Store, gateway: str, catalogue: Catalogue, from_ms: int, to_ms: int
) -> tuple[Node, ...]:
    net: dict[str, Fraction | None] = {}
    for meter in catalogue.meters:
        opening = await _register(store, gateway, meter.name, from_ms)
        closing = await _register(store, gateway, meter.name, to_ms)
        net[meter.name] = None if opening is None or closing is None else closing - opening
    try:
        return balance(catalogue.meters, net)
    except ValueError as error:
        raise FormatError(f"the catalogue of {gateway}: {error}") from None


async def _register(store: Store, gateway: str, meter: str, at_ms: int) -> Fraction | None:
    """Interpolate a meter's net register (import minus export, kWh) at one instant."""
    before, after = await store.bracket(gateway, meter, at_ms)
    if before is None or after is None:
        return None
    values = _net(before), _net(after)
    if values[0] is None or values[1] is None:
        return None
    span_ms = after.at_ms - before.at_ms
    share = Fraction(at_ms - before.at_ms, span_ms) if span_ms else Fraction(0)
    return values[0] + (values[1] - values[0]) * share


def _net(row: StoredRow) -> Fraction | None:
    imported = _total(row, _IMPORT)
    exported = _total(row, _EXPORT)
    if imported is None and exported is None:
        return None
    return (imported or Fraction(0)) - (exported or Fraction(0))


def _total(row: StoredRow, name: str) -> Fraction | None:
    for point, mantissa in zip(row.points, row.mantissas, strict=True):
        if point.name == name and mantissa is not None:
            return _scaled(point, mantissa)
    return None


def _scaled(point: PointInfo, mantissa: int) -> Fraction:
    return mantissa * Fraction(10) ** point.exponent


def _rounded(energy_kwh: Fraction | None) -> float | None:
    return None if energy_kwh is None else round(float(energy_kwh), 4)
