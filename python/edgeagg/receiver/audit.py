"""Proof, from the database alone, that nothing is missing: slots, batches, the tree's balance."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from edgeagg.balance import NOTHING, Energy, Node, balance
from edgeagg.model import Quality
from edgeagg.receiver.energies import DIRECTIONS
from edgeagg.receiver.registers import Shown
from edgeagg.receiver.store import Quarantined, SlotCount, Store, StreamStatus
from edgeagg.tree import Tree, grow


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
        """Slots with no row, no declared gap or loss; negative when some came twice."""
        return self.due - self.count.rows - self.count.gap_slots - self.count.lost_slots


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
    quarantined: Quarantined  # of all gateways: nobody knows who sent what was refused

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
    def lost(self) -> int:
        """Point slots that were read, in batches that the gateway had to let go."""
        return sum(slot.count.lost_slots * slot.count.points for slot in self.slots)

    @property
    def unexplained(self) -> int:
        """Point slots nobody accounts for."""
        return self.point_slots_due - self.values - self.reasons - self.missed - self.lost

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
                "lost": self.lost,
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
            "quarantine": {
                "rows": self.quarantined.row_count,
                "bytes": self.quarantined.byte_count,
                "dropped_rows": self.quarantined.dropped_rows,
                "dropped_bytes": self.quarantined.dropped_bytes,
            },
        }


async def audit(store: Store, gateway: str) -> Audit:
    """Look at everything the store has of a gateway."""
    streams = [stream for stream in await store.streams() if stream.gateway == gateway]
    slots = [SlotBalance(count) for count in await store.slots(gateway)]
    catalogues = await store.catalogues(gateway)
    tree = grow(catalogues[-1].meters if catalogues else ())
    from_ms, to_ms = _common(slots, {meter.name for meter in tree.meters})
    nodes: tuple[Node, ...] = ()
    if to_ms > from_ms:
        nodes = await _nodes(store, gateway, tree, from_ms, to_ms)
    return Audit(
        gateway,
        tuple(streams),
        tuple(slots),
        await store.window_count(gateway),
        nodes,
        from_ms,
        to_ms,
        await store.quarantined(),
    )


def _common(slots: Sequence[SlotBalance], meters: Collection[str]) -> tuple[int, int]:
    """Return the interval in which the energies of these meters were read, the ends left out."""
    counts = [slot.count for slot in slots if slot.count.has_energy and slot.count.meter in meters]
    if not counts:
        return 0, 0
    period_ms = max(count.period_ms for count in counts)
    first = max(count.first_due_ms for count in counts) + period_ms
    last = min(count.last_due_ms for count in counts)
    return first, last


async def _nodes(
    store: Store, gateway: str, tree: Tree, from_ms: int, to_ms: int
) -> tuple[Node, ...]:
    energies: dict[str, list[Energy]] = {}
    for meter in tree.meters:
        opening = await _net_register(store, gateway, meter.name, from_ms)
        closing = await _net_register(store, gateway, meter.name, to_ms)
        net = NOTHING
        if opening is not None and closing is not None:
            # a register is read between two rows that are good, or not at all
            net = Energy(closing - opening, Fraction(1), Quality.GOOD)
        energies[meter.name] = [net]
    return balance(tree.meters, energies)


async def _net_register(store: Store, gateway: str, meter: str, at_ms: int) -> Fraction | None:
    """Interpolate a meter's net register (import minus export, kWh) at one instant."""
    shown: list[Fraction] = []
    for point, factor in DIRECTIONS.items():
        before, after = await store.bracket(gateway, meter, point, at_ms)
        if before is None and after is None:
            continue  # the meter has none, or nobody reads it
        if before is None or after is None:
            return None
        shown.append(factor * Shown.between(before, after, at_ms).shown_kwh)
    return sum(shown, Fraction(0)) if shown else None


def _rounded(energy_kwh: Fraction | None) -> float | None:
    return None if energy_kwh is None else round(float(energy_kwh), 4)
