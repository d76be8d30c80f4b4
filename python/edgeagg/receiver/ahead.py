"""Rows from the future: kept as they came, and marked as not to be believed.

Refusing them would hold the gateway's later batches up for good; taking them for good would let a
gateway with a wrong clock write next year's consumption.
"""

from __future__ import annotations

from dataclasses import replace

from edgeagg.content import Content, GapRow, ReadingRow, WindowRow
from edgeagg.model import Quality

AHEAD_MAX_MS = 5 * 60_000
"""How far a gateway's clock may be ahead of the platform's."""


def marked(rows: Content, now_ms: int) -> Content:
    """Return the rows with `CLOCK_UNTRUSTED` wherever a good value is of later than allowed.

    It is the reason of gaps there, too: a clock that goes wrong may be put right, and then the
    slots come again.
    """
    limit_ms = now_ms + AHEAD_MAX_MS
    if (
        not any(row.at_ms > limit_ms for row in rows.readings)
        and not any(row.start_ms + row.length_ms > limit_ms for row in rows.windows)
        and not any(row.last_due_ms > limit_ms for row in rows.gaps)
    ):
        return rows
    return replace(
        rows,
        readings=tuple(_reading(row, limit_ms) for row in rows.readings),
        windows=tuple(_window(row, limit_ms) for row in rows.windows),
        gaps=tuple(_gap(row, limit_ms) for row in rows.gaps),
    )


def _reading(row: ReadingRow, limit_ms: int) -> ReadingRow:
    if row.at_ms <= limit_ms:
        return row
    return replace(
        row, qualities=tuple(quality or int(Quality.CLOCK_UNTRUSTED) for quality in row.qualities)
    )


def _window(row: WindowRow, limit_ms: int) -> WindowRow:
    if row.start_ms + row.length_ms <= limit_ms:
        return row
    return replace(row, worst=tuple(worst or int(Quality.CLOCK_UNTRUSTED) for worst in row.worst))


def _gap(row: GapRow, limit_ms: int) -> GapRow:
    if row.last_due_ms <= limit_ms:
        return row
    return replace(row, reason=Quality.CLOCK_UNTRUSTED)
