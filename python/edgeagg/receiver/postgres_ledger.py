"""Alarms and statements in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from edgeagg.receiver import rows
from edgeagg.receiver.ledger import Alarm, StatedSpan, Verdict
from edgeagg.statement import Tally

Transaction = Callable[[], AbstractAsyncContextManager[Any]]

_RAISE = """
INSERT INTO alarms AS known VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (gateway, kind, epoch) DO UPDATE
SET last_ms = greatest(known.last_ms, excluded.last_ms), times = known.times + excluded.times
"""
_ALARMS = "SELECT * FROM alarms ORDER BY gateway, first_ms, epoch, kind"
_STATED = """
SELECT g.meter, g.id, g.period_ms, g.points::text, s.start_ms, s.end_ms,
       s.slots, s.value_count, s.reasons, s.missed, s.digest, s.registers::text
FROM statements s JOIN groups g ON g.id = s.group_id
WHERE g.gateway = $1 AND s.start_ms >= $2 AND s.start_ms < $3
ORDER BY s.start_ms, g.meter, g.id, s.end_ms, s.cut_at_ms
"""
_READINGS = """
SELECT due_ms, at_ms, mantissas, qualities FROM readings
WHERE group_id = $1 AND due_ms >= $2 AND due_ms < $3
"""
_GAPS = """
SELECT first_due_ms, last_due_ms, slot_count, reason FROM gaps
WHERE group_id = $1 AND last_due_ms >= $2 AND first_due_ms < $3
"""
_KEEP = """
INSERT INTO reconciled VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (group_id, start_ms, end_ms) DO UPDATE
SET checked_ms = excluded.checked_ms, matches = excluded.matches
"""


class PostgresLedger:
    """Works over the store's connections."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def newest(self) -> Sequence[tuple[str, int]]:
        """Return every gateway with its newest epoch."""
        found = await self._all("SELECT gateway, max(epoch) FROM streams GROUP BY gateway")
        return [(gateway, epoch) for gateway, epoch in found]

    async def raise_alarm(self, alarm: Alarm) -> None:
        """Keep an alarm; one that is known of this epoch only counts once more."""
        place = (alarm.gateway, alarm.kind.value, alarm.epoch, alarm.sequence)
        seen = (alarm.first_ms, alarm.last_ms, alarm.times, alarm.detail)
        await self._all(_RAISE, *place, *seen)

    async def alarms(self) -> Sequence[Alarm]:
        """Return all alarms."""
        return [rows.alarm_from(tuple(row)) for row in await self._all(_ALARMS)]

    async def stated(self, gateway: str, from_ms: int, to_ms: int) -> Sequence[StatedSpan]:
        """Return the spans that begin in [from_ms, to_ms)."""
        found = await self._all(_STATED, gateway, from_ms, to_ms)
        return rows.stated_spans(tuple(row) for row in found)

    async def found(self, span: StatedSpan) -> Tally:
        """Add up what the tables hold of a span."""
        place = (span.group_id, span.start_ms, span.end_ms)
        readings, gaps = await self._all(_READINGS, *place), await self._all(_GAPS, *place)
        return rows.tally_of(span, readings, gaps)

    async def keep_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Keep what came of comparing."""
        async with self._transaction() as connection:
            await connection.executemany(
                _KEEP,
                sorted(
                    (one.group_id, one.start_ms, one.end_ms, one.checked_ms, one.matches)
                    for one in verdicts
                ),
            )

    async def _all(self, statement: str, *values: object) -> Sequence[Any]:
        async with self._transaction() as connection:
            found: Sequence[Any] = await connection.fetch(statement, *values)
            return found
