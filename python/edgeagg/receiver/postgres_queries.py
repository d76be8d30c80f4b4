"""What is asked of PostgreSQL beyond single rows: statements of the store, and nothing else."""

SYNCHRONOUS = """
SELECT set_config('synchronous_commit', 'on', true)
WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')
"""

STREAMS = """
SELECT s.gateway, s.epoch, s.through, count(*), count(*) FILTER (WHERE b.kind = 2),
       max(b.sequence), sum(b.bytes)::bigint
FROM streams s JOIN batches b USING (gateway, epoch)
GROUP BY s.gateway, s.epoch ORDER BY s.gateway, min(b.received_ms), s.epoch
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

INSERT_GAP = """
INSERT INTO gaps AS known VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (group_id, first_due_ms) DO UPDATE
SET last_due_ms = excluded.last_due_ms, slot_count = excluded.slot_count
WHERE excluded.last_due_ms > known.last_due_ms
"""

# 5: nobody vouched for the time of this reading, and the slot may have come again in true time
INSERT_READING = """
INSERT INTO readings VALUES ($1, $2, $3, $4, $5) ON CONFLICT (group_id, due_ms) DO
UPDATE SET at_ms = excluded.at_ms, mantissas = excluded.mantissas, qualities = excluded.qualities
WHERE 5 = ANY(readings.qualities) AND NOT 5 = ANY(coalesce(excluded.qualities, '{}'))
"""

INSERT_LOST = """
INSERT INTO lost_slots AS known VALUES ($1, $2, $3, $4)
ON CONFLICT (group_id, first_due_ms) DO UPDATE
SET last_due_ms = excluded.last_due_ms, slot_count = excluded.slot_count
WHERE excluded.last_due_ms > known.last_due_ms
"""

INSERTS = {"gaps": INSERT_GAP, "lost_slots": INSERT_LOST, "readings": INSERT_READING}
"""Tables in which a row that comes again may change the one that is there."""

SPAN = """
SELECT min((SELECT min(start_ms) FROM windows WHERE group_id = g.id AND length_ms = $2)),
       max((SELECT max(start_ms) FROM windows WHERE group_id = g.id AND length_ms = $2))
FROM energy_groups g WHERE g.gateway = $1
"""

ENERGIES = """
SELECT g.meter, g.period_ms, g.points, w.start_ms, w.energies, w.value_counts, w.worst
FROM energy_groups g JOIN windows w ON w.group_id = g.id
WHERE g.gateway = $1 AND w.length_ms = $2 AND w.start_ms >= $3 AND w.start_ms <= $4 - $2
ORDER BY g.meter, w.start_ms, g.id
"""

AUDITS = """
SELECT g.meter, g.points, a.point, a.kind, a.closing_ms, a.closing, a.opening_ms, a.opening,
       a.energy, a.doubted, a.extreme
FROM audits a JOIN groups g ON g.id = a.group_id
WHERE g.gateway = $1 AND a.opening_ms >= $2 AND a.closing_ms < $3
  AND ($4::text IS NULL OR g.meter = $4)
ORDER BY a.opening_ms, g.meter, a.point, a.kind
"""

DEMANDS = """
SELECT g.meter, g.points, d.point, d.start_ms, d.length_ms, d.block, d.block_end_ms, d.sliding,
       d.sliding_end_ms, d.periods
FROM demands d JOIN groups g ON g.id = d.group_id
WHERE g.gateway = $1 AND d.start_ms >= $2 AND d.start_ms < $3
  AND ($4::text IS NULL OR g.meter = $4)
ORDER BY g.meter, d.point, d.start_ms, g.id
"""

UNCERTAINTIES = """
SELECT g.points, u.length_ms, u.start_ms, w.energies, u.errors
FROM uncertainties u
JOIN windows w USING (group_id, length_ms, start_ms) JOIN groups g ON g.id = u.group_id
WHERE g.gateway = $1 AND g.meter = $2 AND (u.start_ms = $3 OR u.start_ms + u.length_ms = $3)
ORDER BY u.length_ms, u.start_ms, g.id
"""

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

SLOTS = """
SELECT g.gateway, g.meter, g.period_ms, jsonb_array_length(g.points),
       least(r.first_due, p.first_due, l.first_due), greatest(r.last_due, p.last_due, l.last_due),
       r.n, coalesce(r.v, 0), coalesce(r.q, 0), coalesce(p.n, 0),
       g.id IN (SELECT id FROM energy_groups), coalesce(l.n, 0)
FROM groups g
CROSS JOIN LATERAL (
    SELECT min(due_ms) AS first_due, max(due_ms) AS last_due, count(*) AS n,
           sum(num_nonnulls(VARIADIC mantissas))::bigint AS v,
           sum(num_nulls(VARIADIC mantissas))::bigint AS q
    FROM readings WHERE group_id = g.id
) r
CROSS JOIN LATERAL (
    SELECT min(first_due_ms) AS first_due, max(last_due_ms) AS last_due,
           -- who was stopped cannot know what was read meanwhile, with a copy of its state
           sum(slot_count - CASE reason WHEN 7 THEN (
               SELECT count(*) FROM readings
               WHERE group_id = g.id AND due_ms BETWEEN first_due_ms AND last_due_ms
           ) ELSE 0 END)::bigint AS n
    FROM gaps WHERE group_id = g.id
) p
CROSS JOIN LATERAL (
    SELECT min(first_due_ms) AS first_due, max(last_due_ms) AS last_due,
           -- another destination may have lost what came here
           sum(slot_count - (
               SELECT count(*) FROM readings
               WHERE group_id = g.id AND due_ms BETWEEN s.first_due_ms AND s.last_due_ms
           ) - (
               SELECT coalesce(sum((least(o.last_due_ms, s.last_due_ms)
                    - greatest(o.first_due_ms, s.first_due_ms)) / g.period_ms + 1), 0)
               FROM gaps o
               WHERE o.group_id = g.id AND o.last_due_ms >= s.first_due_ms
                 AND o.first_due_ms <= s.last_due_ms
           ))::bigint AS n
    FROM lost_slots s WHERE group_id = g.id
) l
WHERE g.gateway = $1 AND (r.n > 0 OR p.n > 0 OR l.n > 0)
ORDER BY g.meter, g.period_ms, g.id
"""

KEYS = """
SELECT gateway, public, state, until_epoch, until_sequence, added_ms, ended_ms FROM keys
WHERE $1::text IS NULL OR gateway = $1 ORDER BY gateway, added_ms, public
"""

# of all three: a key that was revoked stays so, and RETURNING tells whether anything changed
ADD_KEY = """
INSERT INTO keys VALUES ($1, $2, 'active', 0, 0, $3, 0) ON CONFLICT DO NOTHING RETURNING 1
"""

RETIRE_KEY = """
UPDATE keys SET state = 'retired', until_epoch = $3, until_sequence = $4, ended_ms = $5
WHERE gateway = $1 AND public = $2 AND state = 'active' RETURNING 1
"""

REVOKE_KEY = """
UPDATE keys SET state = 'revoked', ended_ms = $3
WHERE gateway = $1 AND public = $2 AND state <> 'revoked' RETURNING 1
"""

KEYFRAME = "SELECT payload FROM keyframes WHERE gateway = $1 AND epoch = $2 AND sequence = $3"
"""The payload of a keyframe."""

DROP_KEYFRAMES = "DELETE FROM keyframes WHERE gateway = $1 AND epoch = $2 AND sequence < $3"
"""Forget the keyframes that are too old for any batch to come."""
