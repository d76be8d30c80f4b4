"""Deliveries as rows of the tables both databases share. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from edgeagg.batch import MESSAGE_BYTES_MAX, BatchKind
from edgeagg.content import GapRow, ReadingRow, StatementRow, WindowRow
from edgeagg.errors import FormatError
from edgeagg.model import Group, Kind, PointInfo, Quality
from edgeagg.receiver.ledger import Alarm, AlarmKind, StatedSpan
from edgeagg.receiver.store import Delivery
from edgeagg.statement import Span, Tally, clip

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


def is_lost(delivery: Delivery) -> bool:
    """Whether the delivery only says that its batch is gone."""
    return delivery.batch.kind is BatchKind.LOST


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


def statement_values(row: StatementRow, cut_at_ms: int) -> tuple[Any, ...]:
    """Return start_ms, end_ms, cut_at_ms, four counts, digest, registers as JSON."""
    tally = row.tally
    return (
        *(row.start_ms, row.end_ms, cut_at_ms),
        *(tally.slots, tally.values, tally.reasons, tally.missed),
        tally.digest.to_bytes(32, "big"),
        json.dumps([[point, *ends] for point, ends in sorted(tally.registers.items())]),
    )


def stated_spans(found: Iterable[Sequence[Any]]) -> list[StatedSpan]:
    """Make spans of rows (meter, group_id, period_ms, points, start_ms, end_ms, ... as above)."""
    spans: dict[tuple[int, int, int], StatedSpan] = {}
    for meter, number, period_ms, points, start_ms, end_ms, *stated in found:
        slots, values, reasons, missed, digest, registers = stated
        group = Group(meter, period_ms, points_from(points))
        span = spans.setdefault(
            (number, start_ms, end_ms),
            StatedSpan(
                *(meter, number, period_ms, len(group.points), group.totalisers),
                *(start_ms, end_ms, Tally()),
            ),
        )
        shown = {point: tuple(ends) for point, *ends in json.loads(registers)}
        total = int.from_bytes(digest, "big")
        span.tally.add(Tally(slots, values, reasons, missed, total, shown))
    return list(spans.values())


def tally_of(
    span: StatedSpan, readings: Iterable[Sequence[Any]], gaps: Iterable[Sequence[Any]]
) -> Tally:
    """Add up rows (due_ms, at_ms, mantissas, qualities or None) and gaps, as `gap_values`."""
    tally = Tally()
    for due_ms, at_ms, mantissas, qualities in readings:
        tally.add_row(
            due_ms,
            at_ms,
            mantissas=list(mantissas),
            qualities=list(qualities or (0,) * len(mantissas)),
            totalisers=span.totalisers,
        )
    for first_ms, last_ms, _, reason in gaps:
        whole = Span(0, span.start_ms, span.end_ms)
        begin_ms, end_ms, slots = clip(whole, first_ms, last_ms, span.period_ms)
        if slots:
            tally.add_gap(begin_ms, end_ms, slots=slots, reason=reason, points=span.points)
    return tally


def alarm_from(found: Sequence[Any]) -> Alarm:
    """Make an alarm of a row of the table."""
    gateway, kind, *rest = found
    return Alarm(gateway, AlarmKind(kind), *rest)


def gap_values(row: GapRow) -> tuple[int, int, int, int]:
    """Return first_due_ms, last_due_ms, slot_count, reason."""
    return row.first_due_ms, row.last_due_ms, row.slot_count, row.reason


def kept(topic: str, reason: str, data: bytes) -> tuple[str, str, bytes]:
    """Return what quarantine keeps of a message: no more than a message may hold."""
    if len(data) > MESSAGE_BYTES_MAX:
        reason = f"{reason} ({len(data)} bytes, the first {MESSAGE_BYTES_MAX} are kept)"
    return topic, reason, data[:MESSAGE_BYTES_MAX]
