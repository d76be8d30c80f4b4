"""What is asked of SQLite in its own words: statements of the store, and nothing else."""

from __future__ import annotations

import json

from edgeagg.receiver import queries
from edgeagg.receiver.reads import Dialect


def plain(statement: str) -> str:
    """Return a statement of `queries` with SQLite's places."""
    return statement.replace("$", "?")


_BRACKET = """
SELECT r.at_ms, g.points, r.mantissas FROM groups g JOIN readings r
ON r.group_id = g.id AND r.due_ms = (
    SELECT due_ms FROM readings
    WHERE group_id = g.id AND qualities IS NULL AND at_ms {side} ?4 ORDER BY at_ms {order} LIMIT 1
)
WHERE g.gateway = ?1 AND g.meter = ?2 AND EXISTS (
    SELECT 1 FROM json_each(g.points) t
    WHERE json_extract(t.value, '$[0]') = ?3 AND json_extract(t.value, '$[3]') = 'totaliser'
)
ORDER BY r.at_ms {order}, g.id LIMIT 1
"""

BEFORE = _BRACKET.format(side="<=", order="DESC")
AFTER = _BRACKET.format(side=">=", order="ASC")

# 5: nobody vouched for the time of this reading, and the slot may have come again in true time
INSERT_READING = """
INSERT INTO readings VALUES (?, ?, ?, ?, ?) ON CONFLICT (group_id, due_ms) DO
UPDATE SET at_ms = excluded.at_ms, mantissas = excluded.mantissas, qualities = excluded.qualities
WHERE readings.qualities LIKE '%5%' AND coalesce(excluded.qualities, '') NOT LIKE '%5%'
"""

_FLAGGED = "{} LIKE '%5%'"

MAKE_WAY = tuple(map(plain, queries.make_way(_FLAGGED)))

INSERTS = {
    "windows": plain(queries.insert_window(_FLAGGED)),
    "gaps": plain(queries.INSERT_GAP),
    "lost_slots": plain(queries.INSERT_LOST),
    "readings": INSERT_READING,
}
"""Tables in which a row that comes again may change the one that is there."""

DROP_OLDEST = """
DELETE FROM quarantine WHERE rowid IN (
    SELECT rowid FROM (
        SELECT rowid, row_number() OVER newest AS place, sum(size) OVER newest AS size
        FROM (
            SELECT rowid, received_ms,
                   length(CAST(topic AS BLOB)) + length(CAST(reason AS BLOB)) + length(data) AS size
            FROM quarantine
        )
        WINDOW newest AS (ORDER BY received_ms DESC, rowid DESC)
    )
    WHERE place > 1 AND (place > ?1 OR size > ?2)
)
RETURNING length(CAST(topic AS BLOB)) + length(CAST(reason AS BLOB)) + length(data)
"""

CHECKS = """
SELECT sequence, digest, kind FROM batches WHERE gateway = ? AND epoch = ?
AND sequence IN (SELECT value FROM json_each(?)) ORDER BY sequence
"""

_VALUES = "(SELECT {} FROM json_each(r.mantissas))"

DIALECT = Dialect(
    plain=plain,
    array=json.loads,
    before=BEFORE,
    after=AFTER,
    slots=plain(
        queries.slots(
            least="min",
            greatest="max",
            points="json_array_length(g.points)",
            values=_VALUES.format("count(value)"),
            nulls=_VALUES.format("count(*) - count(value)"),
        )
    ),
)
