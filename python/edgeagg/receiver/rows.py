"""Deliveries as rows of the tables both databases share. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from edgeagg.batch import MESSAGE_BYTES_MAX
from edgeagg.content import GapRow, ReadingRow, WindowRow
from edgeagg.errors import FormatError
from edgeagg.model import Group, Kind, PointInfo, Quality
from edgeagg.receiver.store import Delivery

WINDOW_ARRAYS = (
    "slots",
    "value_counts",
    "minima",
    "maxima",
    "means",
    "firsts",
    "lasts",
    "energies",
    "covered_ms",
    "worst",
)
"""Array columns of the table `windows`, one entry per point."""


def groups_of(deliveries: Sequence[Delivery]) -> list[tuple[str, Group]]:
    """Return every (gateway, group) that the deliveries have rows for, each once."""
    found: dict[tuple[str, Group], None] = {}
    for delivery in deliveries:
        if delivery.content is not None:
            for group in delivery.content.groups():
                found[delivery.batch.gateway, group] = None
    return list(found)


def points_text(group: Group) -> str:
    """Return the points of a group as JSON: [[name, unit, exponent, kind], ...]."""
    return json.dumps(
        [[p.name, p.unit, p.exponent, p.kind] for p in group.points], ensure_ascii=False
    )


def points_from(text: str) -> tuple[PointInfo, ...]:
    """Read what `points_text` wrote."""
    try:
        return tuple(PointInfo(n, u, e, Kind(k)) for n, u, e, k in json.loads(text))
    except (TypeError, ValueError) as error:
        raise FormatError(f"the store holds no list of points: {error}") from None


def batch_row(delivery: Delivery) -> tuple[Any, ...]:
    """Return (gateway, epoch, sequence, kind, digest, cut_at_ms, received_ms, bytes)."""
    batch = delivery.batch
    return (
        batch.gateway,
        batch.epoch,
        batch.sequence,
        int(batch.kind),
        delivery.digest,
        batch.cut_at_ms,
        delivery.received_ms,
        delivery.bytes_count,
    )


def reading_values(row: ReadingRow) -> tuple[int, int, list[int | None], list[int] | None]:
    """Return due_ms, at_ms, mantissas, and qualities (None when all are good)."""
    good = all(quality == Quality.GOOD for quality in row.qualities)
    return row.due_ms, row.at_ms, list(row.mantissas), None if good else list(row.qualities)


def window_values(row: WindowRow) -> Iterator[list[int | None]]:
    """Yield the arrays of WINDOW_ARRAYS."""
    for column in (
        row.slots,
        row.values,
        row.minima,
        row.maxima,
        row.means,
        row.firsts,
        row.lasts,
        row.energies,
        row.covered_ms,
        row.worst,
    ):
        yield list(column)


def gap_values(row: GapRow) -> tuple[int, int, int, int]:
    """Return first_due_ms, last_due_ms, slot_count, reason."""
    return row.first_due_ms, row.last_due_ms, row.slot_count, row.reason


def kept(topic: str, reason: str, data: bytes) -> tuple[str, str, bytes]:
    """Return what quarantine keeps of a message: no more than a message may hold."""
    if len(data) > MESSAGE_BYTES_MAX:
        reason = f"{reason} ({len(data)} bytes, the first {MESSAGE_BYTES_MAX} are kept)"
    return topic, reason, data[:MESSAGE_BYTES_MAX]
