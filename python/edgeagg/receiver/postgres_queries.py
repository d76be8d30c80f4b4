"""What is asked of PostgreSQL in its own words: statements of the store, and nothing else."""

from __future__ import annotations

from edgeagg.receiver import queries
from edgeagg.receiver.reads import Dialect

SYNCHRONOUS = """
SELECT set_config('synchronous_commit', 'on', true)
WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')
"""

_BRACKET = """
SELECT r.at_ms, g.points, r.mantissas FROM groups g
CROSS JOIN LATERAL (
    SELECT at_ms, mantissas FROM readings
    WHERE group_id = g.id AND qualities IS NULL AND at_ms {side} $4 ORDER BY at_ms {order} LIMIT 1
) r
WHERE g.gateway = $1 AND g.meter = $2 AND EXISTS (
    SELECT 1 FROM jsonb_array_elements(g.points) t WHERE t ->> 0 = $3 AND t ->> 3 = 'totaliser'
)
ORDER BY r.at_ms {order}, g.id LIMIT 1
"""

BEFORE = _BRACKET.format(side="<=", order="DESC")
AFTER = _BRACKET.format(side=">=", order="ASC")

GROUP_IDS = """
SELECT id, gateway, meter, period_ms, digest FROM groups
JOIN unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[])
    AS s (gateway, meter, period_ms, digest) USING (gateway, meter, period_ms, digest)
"""

LAST = """
SELECT digest, cut_at_ms FROM batches WHERE gateway = $1 AND epoch = $2 AND sequence = $3
"""

# 5: nobody vouched for the time of this reading, and the slot may have come again in true time
INSERT_READING = """
INSERT INTO readings VALUES ($1, $2, $3, $4, $5) ON CONFLICT (group_id, due_ms) DO
UPDATE SET at_ms = excluded.at_ms, mantissas = excluded.mantissas, qualities = excluded.qualities
WHERE 5 = ANY(readings.qualities) AND NOT 5 = ANY(coalesce(excluded.qualities, '{}'))
"""

_FLAGGED = "coalesce(5 = ANY({}), false)"

MAKE_WAY = queries.make_way(_FLAGGED)

INSERTS = {
    "windows": queries.insert_window(_FLAGGED),
    "gaps": queries.INSERT_GAP,
    "lost_slots": queries.INSERT_LOST,
    "readings": INSERT_READING,
}
"""Tables in which a row that comes again may change the one that is there."""

ADVANCE = "UPDATE streams SET through = $3 WHERE gateway = $1 AND epoch = $2"
"""What is committed as a whole."""

QUARANTINE = """
INSERT INTO quarantine (digest, received_ms, topic, reason, data)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
RETURNING octet_length(topic) + octet_length(reason) + octet_length(data)
"""

DROP_OLDEST = """
WITH sized AS (
    SELECT digest, received_ms,
           octet_length(topic) + octet_length(reason) + octet_length(data) AS size
    FROM quarantine
), placed AS (
    SELECT digest, size, row_number() OVER newest AS place, sum(size) OVER newest AS sum
    FROM sized WINDOW newest AS (ORDER BY received_ms DESC, digest)
), gone AS (
    DELETE FROM quarantine USING placed
    WHERE quarantine.digest = placed.digest
      AND placed.place > 1 AND (placed.place > $1 OR placed.sum > $2)
    RETURNING placed.size
), counted AS (
    SELECT count(*) AS row_count, coalesce(sum(size), 0)::bigint AS byte_count FROM gone
)
UPDATE quarantine_totals t
SET row_count = t.row_count - counted.row_count,
    byte_count = t.byte_count - counted.byte_count,
    dropped_rows = t.dropped_rows + counted.row_count,
    dropped_bytes = t.dropped_bytes + counted.byte_count
FROM counted
"""

DROP_KEYFRAMES = "DELETE FROM keyframes WHERE gateway = $1 AND epoch = $2 AND sequence < $3"
"""Forget the keyframes that are too old for any batch to come."""

CHECKS = """
SELECT sequence, digest, kind FROM batches
WHERE gateway = $1 AND epoch = $2 AND sequence = ANY($3::bigint[]) ORDER BY sequence
"""

DIALECT = Dialect(
    plain=str,
    array=list,
    before=BEFORE,
    after=AFTER,
    slots=queries.slots(
        least="least",
        greatest="greatest",
        points="jsonb_array_length(g.points)",
        values="num_nonnulls(VARIADIC r.mantissas)",
        nulls="num_nulls(VARIADIC r.mantissas)",
    ),
)
