"""Deliveries as rows of the tables both databases share. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from edgeagg import _core
from edgeagg.batch import CHECK_BYTES, Batch, BatchKind
from edgeagg.content import Content, GapRow, ReadingRow, StatementRow, WindowRow, anchor_of
from edgeagg.errors import StoreError
from edgeagg.judged import AuditRow, DemandRow
from edgeagg.model import Group, Quality
from edgeagg.receiver.keys import GatewayKey, State
from edgeagg.receiver.ledger import Alarm, AlarmKind, StatedSpan
from edgeagg.receiver.points import points_from
from edgeagg.receiver.store import Delivery, Refused
from edgeagg.seal import MESSAGE_BYTES_MAX
from edgeagg.statement import Span, Tally, clip

SCHEMA_VERSION = 4
"""Of the tables: 1 had no audits, uncertainties, statistics, demands; 2 no statements, alarms; 3 no
lost slots."""
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


def key_rows(found: Iterable[Sequence[Any]]) -> list[GatewayKey]:
    """Read (gateway, public, state, until epoch, until sequence, added_ms, ended_ms) rows."""
    return [
        GatewayKey(gateway, bytes(public), State(state), (epoch, sequence), added_ms, ended_ms)
        for gateway, public, state, epoch, sequence, added_ms, ended_ms in found
    ]


def added_key(delivery: Delivery) -> list[tuple[Any, ...]]:
    """Return (gateway, public, added_ms) of the key that a batch names, if it does."""
    if delivery.change is None:
        return []
    return [(delivery.batch.gateway, delivery.change.public, delivery.received_ms)]


def retired_key(delivery: Delivery) -> list[tuple[Any, ...]]:
    """Return (gateway, public, until epoch, until sequence, ended_ms) of the key before it."""
    if delivery.change is None:
        return []
    batch = delivery.batch
    return [
        (
            batch.gateway,
            delivery.change.former,
            batch.epoch,
            batch.sequence,
            delivery.received_ms,
        )
    ]


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
        len(delivery.data),
    )


def check_rows(found: Iterable[Sequence[Any]]) -> list[tuple[int, bytes]]:
    """Make checks of (sequence, digest, kind) rows."""
    nothing = bytes(CHECK_BYTES)
    return [
        (sequence, nothing if kind == BatchKind.LOST else bytes(digest[:CHECK_BYTES]))
        for sequence, digest, kind in found
    ]


def keyframe_row(delivery: Delivery) -> tuple[str, int, int, bytes] | None:
    """Return (gateway, epoch, sequence, payload) of a batch that others may begin with."""
    batch = delivery.batch
    if batch.kind is not BatchKind.DATA or batch.codec != _core.CODEC_CM:
        return None
    if anchor_of(batch.codec, batch.payload) is not None:
        return None
    return batch.gateway, batch.epoch, batch.sequence, batch.payload


def oldest_keyframe(through: int) -> int:
    """Return the first sequence that batches beyond `through` may begin with."""
    return through + 1 - _core.KEYFRAME_BACK_MAX


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


def good_windows(content: Content) -> Iterator[tuple[Group, int, int]]:
    """Yield group, length and start of the windows that one with a doubtful time gives way to."""
    for row in content.windows:
        if Quality.CLOCK_UNTRUSTED not in row.worst:
            yield row.group, row.length_ms, row.start_ms


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


def audit_values(row: AuditRow) -> tuple[int | None, ...]:
    """Return the columns of the table `audits` behind the group, its key first."""
    return (
        row.point,
        row.opening_ms,
        int(row.kind),
        row.closing_ms,
        row.closing,
        row.opening,
        row.energy,
        row.doubted,
        row.extreme,
    )


def demand_values(row: DemandRow) -> tuple[int | None, ...]:
    """Return the columns of the table `demands` behind the group, its key first."""
    return (
        row.point,
        row.start_ms,
        row.length_ms,
        row.block,
        row.block_end_ms,
        row.sliding,
        row.sliding_end_ms,
        row.periods,
    )


@dataclass(frozen=True, slots=True)
class Table:
    """A table of rows of batches: how many of its columns are the key, and how many there are."""

    name: str
    key_width: int
    width: int
    rows: Callable[[Content, Batch], Iterator[tuple[Group, tuple[Any, ...]]]]
    """Yields each row's group, and its columns behind the group's number."""


TABLES = (
    Table(
        "readings", 2, 5, lambda it, _: ((row.group, reading_values(row)) for row in it.readings)
    ),
    Table(
        "windows",
        3,
        3 + len(WINDOW_ARRAYS),
        lambda it, _: (
            (row.group, (row.length_ms, row.start_ms, *window_values(row))) for row in it.windows
        ),
    ),
    Table("gaps", 2, 5, lambda it, _: ((row.group, gap_values(row)) for row in it.gaps)),
    Table("lost_slots", 2, 4, lambda it, _: ((row.group, gap_values(row)[:3]) for row in it.lost)),
    Table("audits", 4, 10, lambda it, _: ((row.group, audit_values(row)) for row in it.audits)),
    Table(
        "uncertainties",
        3,
        4,
        lambda it, _: (
            (row.group, (row.length_ms, row.start_ms, list(row.errors))) for row in it.uncertainties
        ),
    ),
    Table(
        "statistics",
        3,
        6,
        lambda it, _: (
            (
                row.group,
                (
                    *(row.length_ms, row.start_ms),
                    *(list(row.deviations), list(row.medians), list(row.p95s)),
                ),
            )
            for row in it.statistics
        ),
    ),
    Table("demands", 3, 9, lambda it, _: ((row.group, demand_values(row)) for row in it.demands)),
    Table(
        "statements",
        4,
        10,
        lambda it, batch: (
            (row.group, statement_values(row, batch.cut_at_ms)) for row in it.statements
        ),
    ),
)


def kept(refused: Refused) -> tuple[str, str, bytes]:
    """Return what quarantine keeps of a message: no more than a message may hold."""
    reason, data = refused.reason, refused.data
    if len(data) > MESSAGE_BYTES_MAX:
        reason = f"{reason} ({len(data)} bytes, the first {MESSAGE_BYTES_MAX} are kept)"
    return refused.topic, reason, data[:MESSAGE_BYTES_MAX]


def check_version(found: int) -> None:
    """Refuse tables that a newer edgeagg has written."""
    if found > SCHEMA_VERSION:
        raise StoreError(
            f"the tables are of version {found}; this edgeagg reads up to {SCHEMA_VERSION}:"
            " install the newer one"
        )
