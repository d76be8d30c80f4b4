"""Alarms and statements in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from edgeagg.receiver import rows
from edgeagg.receiver.ledger import Alarm, StatedSpan, Verdict
from edgeagg.statement import Tally

Run = Callable[[Callable[[], list[tuple[Any, ...]]]], Awaitable[list[tuple[Any, ...]]]]
"""Runs in the connection's own thread."""

_RAISE = """
INSERT INTO alarms VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (gateway, kind, epoch) DO UPDATE
SET last_ms = max(last_ms, excluded.last_ms), times = times + excluded.times
"""
_ALARMS = "SELECT * FROM alarms ORDER BY gateway, first_ms, epoch, kind"
_STATED = """
SELECT g.meter, g.id, g.period_ms, g.points, s.start_ms, s.end_ms,
       s.slots, s.value_count, s.reasons, s.missed, s.digest, s.registers
FROM statements s JOIN groups g ON g.id = s.group_id
WHERE g.gateway = ? AND s.start_ms >= ? AND s.start_ms < ?
ORDER BY s.start_ms, g.meter, g.id, s.end_ms, s.cut_at_ms
"""
_READINGS = """
SELECT due_ms, at_ms, mantissas, qualities FROM readings
WHERE group_id = ? AND due_ms >= ? AND due_ms < ?
"""
_GAPS = """
SELECT first_due_ms, last_due_ms, slot_count, reason FROM gaps
WHERE group_id = ? AND last_due_ms >= ? AND first_due_ms < ?
"""
_KEEP = """
INSERT INTO reconciled VALUES (?, ?, ?, ?, ?) ON CONFLICT (group_id, start_ms, end_ms) DO UPDATE
SET checked_ms = excluded.checked_ms, matches = excluded.matches
"""


class SqliteLedger:
    """Works over the store's connection, in its thread."""

    def __init__(self, connection: sqlite3.Connection, run: Run) -> None:
        self._connection, self._run = connection, run

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
        return [rows.alarm_from(row) for row in await self._all(_ALARMS)]

    async def stated(self, gateway: str, from_ms: int, to_ms: int) -> Sequence[StatedSpan]:
        """Return the spans that begin in [from_ms, to_ms)."""
        return rows.stated_spans(await self._all(_STATED, gateway, from_ms, to_ms))

    async def found(self, span: StatedSpan) -> Tally:
        """Add up what the tables hold of a span."""
        place = (span.group_id, span.start_ms, span.end_ms)
        readings = [
            (due_ms, at_ms, json.loads(mantissas), json.loads(qualities or "null"))
            for due_ms, at_ms, mantissas, qualities in await self._all(_READINGS, *place)
        ]
        return rows.tally_of(span, readings, await self._all(_GAPS, *place))

    async def keep_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Keep what came of comparing."""
        for one in verdicts:
            place = (one.group_id, one.start_ms, one.end_ms)
            await self._all(_KEEP, *place, one.checked_ms, int(one.matches))

    async def _all(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return await self._run(lambda: self._connection.execute(statement, values).fetchall())
