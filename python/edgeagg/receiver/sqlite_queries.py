"""What is asked of SQLite beyond single rows: statements of the store, and nothing else."""

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

INSERT_GAP = """
INSERT INTO gaps VALUES (?, ?, ?, ?, ?) ON CONFLICT (group_id, first_due_ms) DO UPDATE
SET last_due_ms = excluded.last_due_ms, slot_count = excluded.slot_count
WHERE excluded.last_due_ms > last_due_ms
"""

# 5: nobody vouched for the time of this reading, and the slot may have come again in true time
INSERT_READING = """
INSERT INTO readings VALUES (?, ?, ?, ?, ?) ON CONFLICT (group_id, due_ms) DO
UPDATE SET at_ms = excluded.at_ms, mantissas = excluded.mantissas, qualities = excluded.qualities
WHERE readings.qualities LIKE '%5%' AND coalesce(excluded.qualities, '') NOT LIKE '%5%'
"""

INSERT_LOST = """
INSERT INTO lost_slots VALUES (?, ?, ?, ?) ON CONFLICT (group_id, first_due_ms) DO UPDATE
SET last_due_ms = excluded.last_due_ms, slot_count = excluded.slot_count
WHERE excluded.last_due_ms > last_due_ms
"""

INSERTS = {"gaps": INSERT_GAP, "lost_slots": INSERT_LOST, "readings": INSERT_READING}
"""Tables in which a row that comes again may change the one that is there."""

SPAN = """
SELECT min((SELECT min(start_ms) FROM windows WHERE group_id = g.id AND length_ms = ?2)),
       max((SELECT max(start_ms) FROM windows WHERE group_id = g.id AND length_ms = ?2))
FROM energy_groups g WHERE g.gateway = ?1
"""

ENERGIES = """
SELECT g.meter, g.period_ms, g.points, w.start_ms, w.energies, w.value_counts, w.worst
FROM energy_groups g JOIN windows w ON w.group_id = g.id
WHERE g.gateway = ?1 AND w.length_ms = ?2 AND w.start_ms >= ?3 AND w.start_ms <= ?4 - ?2
ORDER BY g.meter, w.start_ms, g.id
"""

AUDITS = """
SELECT g.meter, g.points, a.point, a.kind, a.closing_ms, a.closing, a.opening_ms, a.opening,
       a.energy, a.doubted, a.extreme
FROM audits a JOIN groups g ON g.id = a.group_id
WHERE g.gateway = ?1 AND a.opening_ms >= ?2 AND a.closing_ms < ?3 AND (?4 IS NULL OR g.meter = ?4)
ORDER BY a.opening_ms, g.meter, a.point, a.kind
"""

DEMANDS = """
SELECT g.meter, g.points, d.point, d.start_ms, d.length_ms, d.block, d.block_end_ms, d.sliding,
       d.sliding_end_ms, d.periods
FROM demands d JOIN groups g ON g.id = d.group_id
WHERE g.gateway = ?1 AND d.start_ms >= ?2 AND d.start_ms < ?3 AND (?4 IS NULL OR g.meter = ?4)
ORDER BY g.meter, d.point, d.start_ms, g.id
"""

UNCERTAINTIES = """
SELECT g.points, u.length_ms, u.start_ms, w.energies, u.errors
FROM uncertainties u
JOIN windows w USING (group_id, length_ms, start_ms) JOIN groups g ON g.id = u.group_id
WHERE g.gateway = ?1 AND g.meter = ?2 AND (u.start_ms = ?3 OR u.start_ms + u.length_ms = ?3)
ORDER BY u.length_ms, u.start_ms, g.id
"""

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

SLOTS = """
SELECT g.gateway, g.meter, g.period_ms, json_array_length(g.points),
       (SELECT min(value) FROM json_each(json_array(r.first_due, p.first_due, l.first_due))),
       (SELECT max(value) FROM json_each(json_array(r.last_due, p.last_due, l.last_due))),
       coalesce(r.n, 0), coalesce(r.v, 0), coalesce(r.q, 0), coalesce(p.n, 0),
       g.id IN (SELECT id FROM energy_groups), coalesce(l.n, 0)
FROM groups g
LEFT JOIN (
    SELECT group_id, min(due_ms) AS first_due, max(due_ms) AS last_due, count(*) AS n,
           sum((SELECT count(value) FROM json_each(mantissas))) AS v,
           sum((SELECT count(*) - count(value) FROM json_each(mantissas))) AS q
    FROM readings GROUP BY group_id
) r ON r.group_id = g.id
LEFT JOIN (
    SELECT group_id, min(first_due_ms) AS first_due, max(last_due_ms) AS last_due,
           -- who was stopped cannot know what was read meanwhile, with a copy of its state
           sum(slot_count - CASE reason WHEN 7 THEN (
               SELECT count(*) FROM readings r
               WHERE r.group_id = gaps.group_id
                 AND r.due_ms BETWEEN gaps.first_due_ms AND gaps.last_due_ms
           ) ELSE 0 END) AS n
    FROM gaps GROUP BY group_id
) p ON p.group_id = g.id
LEFT JOIN (
    SELECT group_id, min(first_due_ms) AS first_due, max(last_due_ms) AS last_due,
           -- another destination may have lost what came here
           sum(slot_count - (
               SELECT count(*) FROM readings r
               WHERE r.group_id = lost_slots.group_id
                 AND r.due_ms BETWEEN lost_slots.first_due_ms AND lost_slots.last_due_ms
           ) - (
               SELECT coalesce(sum((min(o.last_due_ms, lost_slots.last_due_ms)
                    - max(o.first_due_ms, lost_slots.first_due_ms)) / i.period_ms + 1), 0)
               FROM gaps o JOIN groups i ON i.id = o.group_id
               WHERE o.group_id = lost_slots.group_id
                 AND o.last_due_ms >= lost_slots.first_due_ms
                 AND o.first_due_ms <= lost_slots.last_due_ms
           )) AS n
    FROM lost_slots GROUP BY group_id
) l ON l.group_id = g.id
WHERE g.gateway = ? AND (r.n > 0 OR p.n > 0 OR l.n > 0)
ORDER BY g.meter, g.period_ms, g.id
"""

KEYS = """
SELECT gateway, public, state, until_epoch, until_sequence, added_ms, ended_ms FROM keys
WHERE ?1 IS NULL OR gateway = ?1 ORDER BY gateway, added_ms, public
"""

# of all three: a key that was revoked stays so, and RETURNING tells whether anything changed
ADD_KEY = """
INSERT INTO keys VALUES (?1, ?2, 'active', 0, 0, ?3, 0) ON CONFLICT DO NOTHING RETURNING 1
"""

RETIRE_KEY = """
UPDATE keys SET state = 'retired', until_epoch = ?3, until_sequence = ?4, ended_ms = ?5
WHERE gateway = ?1 AND public = ?2 AND state = 'active' RETURNING 1
"""

REVOKE_KEY = """
UPDATE keys SET state = 'revoked', ended_ms = ?3
WHERE gateway = ?1 AND public = ?2 AND state <> 'revoked' RETURNING 1
"""

KEYFRAME = "SELECT payload FROM keyframes WHERE gateway = ? AND epoch = ? AND sequence = ?"
"""The payload of a keyframe."""
