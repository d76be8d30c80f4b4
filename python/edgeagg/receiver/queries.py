"""What is asked of both databases in the same words, with PostgreSQL's places ($1, $2).

Owns those words only. What the dialects say differently stands with each of them.
"""

from __future__ import annotations

from edgeagg.model import Quality
from edgeagg.receiver.rows import WINDOW_ARRAYS

INSERT_GAP = """
INSERT INTO gaps AS known VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (group_id, first_due_ms) DO UPDATE
SET last_due_ms = excluded.last_due_ms, slot_count = excluded.slot_count,
    reason = excluded.reason
WHERE excluded.last_due_ms > known.last_due_ms
"""

INSERT_LOST = """
INSERT INTO lost_slots AS known VALUES ($1, $2, $3, $4)
ON CONFLICT (group_id, first_due_ms) DO UPDATE
SET last_due_ms = excluded.last_due_ms, slot_count = excluded.slot_count
WHERE excluded.last_due_ms > known.last_due_ms
"""

_WINDOW_KEY = ("group_id", "length_ms", "start_ms")
_WINDOW_PLACES = range(1, len(_WINDOW_KEY) + len(WINDOW_ARRAYS) + 1)
_WINDOW = """
INSERT INTO windows AS known VALUES ({places})
ON CONFLICT ({key}) DO UPDATE SET {columns}
WHERE {is_known_flagged} AND NOT {is_new_flagged}
"""
_OF_WINDOW = """
DELETE FROM {table} WHERE group_id = $1 AND length_ms = $2 AND start_ms = $3 AND EXISTS (
    SELECT 1 FROM windows w
    WHERE w.group_id = $1 AND w.length_ms = $2 AND w.start_ms = $3 AND {is_flagged}
)
"""
_TABLES_OF_WINDOW = "uncertainties", "statistics"


def insert_window(flagged: str) -> str:
    """Return the statement that inserts a window; `flagged` tells whether an array {} holds a 5.

    One whose time nobody vouches for gives way to one that has come again in true time.
    """
    return _WINDOW.format(
        places=", ".join(f"${place}" for place in _WINDOW_PLACES),
        key=", ".join(_WINDOW_KEY),
        columns=", ".join(f"{name} = excluded.{name}" for name in WINDOW_ARRAYS),
        is_known_flagged=flagged.format("known.worst"),
        is_new_flagged=flagged.format("excluded.worst"),
    )


def make_way(flagged: str) -> tuple[str, ...]:
    """Return what removes what is said of a window that is to give way, before it does."""
    is_flagged = flagged.format("w.worst")
    return tuple(
        _OF_WINDOW.format(table=table, is_flagged=is_flagged) for table in _TABLES_OF_WINDOW
    )


STREAMS = """
SELECT s.gateway, s.epoch, s.through, count(*), count(*) FILTER (WHERE b.kind = 2),
       max(b.sequence), CAST(sum(b.bytes) AS bigint)
FROM streams s JOIN batches b USING (gateway, epoch)
GROUP BY s.gateway, s.epoch, s.through ORDER BY s.gateway, min(b.received_ms), s.epoch
"""

CATALOGUE = "SELECT body FROM catalogues WHERE hash = $1 LIMIT 1"
"""That with a hash, of whomever."""

CATALOGUES = "SELECT body FROM catalogues WHERE gateway = $1 ORDER BY received_ms, hash"
"""Those of a gateway."""

QUARANTINED = "SELECT row_count, byte_count, dropped_rows, dropped_bytes FROM quarantine_totals"
"""What quarantine holds and what it dropped."""

WINDOW_COUNT = """
SELECT count(*) FROM windows JOIN groups ON groups.id = group_id WHERE gateway = $1
"""

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
  AND (CAST($4 AS text) IS NULL OR g.meter = $4)
ORDER BY a.opening_ms, g.meter, a.point, a.kind
"""

DEMANDS = """
SELECT g.meter, g.points, d.point, d.start_ms, d.length_ms, d.block, d.block_end_ms, d.sliding,
       d.sliding_end_ms, d.periods
FROM demands d JOIN groups g ON g.id = d.group_id
WHERE g.gateway = $1 AND d.start_ms >= $2 AND d.start_ms < $3
  AND (CAST($4 AS text) IS NULL OR g.meter = $4)
ORDER BY g.meter, d.point, d.start_ms, g.id
"""

UNCERTAINTIES = """
SELECT g.points, u.length_ms, u.start_ms, w.energies, u.errors
FROM uncertainties u
JOIN windows w USING (group_id, length_ms, start_ms) JOIN groups g ON g.id = u.group_id
WHERE g.gateway = $1 AND g.meter = $2 AND (u.start_ms = $3 OR u.start_ms + u.length_ms = $3)
ORDER BY u.length_ms, u.start_ms, g.id
"""

KEYS = """
SELECT gateway, public, state, until_epoch, until_sequence, added_ms, ended_ms FROM keys
WHERE CAST($1 AS text) IS NULL OR gateway = $1 ORDER BY gateway, added_ms, public
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

_VAGUE = f"{int(Quality.CLOCK_UNTRUSTED)}, {int(Quality.STOPPED)}"
"""Reasons of gaps that count only what nothing else explains.

Who was stopped cannot know what was read meanwhile, with a copy of its state. A clock that was put
over a time may be put back: then those slots come again.
"""

# {runs} may overlap: each counts from where those before it end, without the slots that have a row
# or lie in a gap of another reason
_LEFT = """
    SELECT t.group_id, t.first_due_ms, t.last_due_ms,
           CASE WHEN t.begin_ms > t.last_due_ms THEN 0
           ELSE (t.last_due_ms - t.begin_ms) / t.period_ms + 1 - (
               SELECT count(*) FROM readings r
               WHERE r.group_id = t.group_id AND r.due_ms BETWEEN t.begin_ms AND t.last_due_ms
           ) - (
               SELECT coalesce(sum(({least}(o.last_due_ms, t.last_due_ms)
                    - {greatest}(o.first_due_ms, t.begin_ms)) / t.period_ms + 1), 0)
               FROM gaps o
               WHERE o.group_id = t.group_id AND o.reason NOT IN ({vague})
                 AND o.last_due_ms >= t.begin_ms AND o.first_due_ms <= t.last_due_ms
           ) END AS n
    FROM (
        SELECT s.*, i.period_ms,
               coalesce({greatest}(s.first_due_ms, i.period_ms + max(s.last_due_ms) OVER (
                   PARTITION BY s.group_id ORDER BY s.first_due_ms, s.last_due_ms
                   ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
               )), s.first_due_ms) AS begin_ms
        FROM ({runs}) s JOIN groups i ON i.id = s.group_id
        WHERE i.gateway = $1
    ) t
"""

_VAGUE_RUNS = f"""
    SELECT group_id, first_due_ms, last_due_ms FROM gaps WHERE reason IN ({_VAGUE})
"""  # noqa: S608 - numbers of ours

# another destination may have lost what came here, and what was lost be declared as missed since
_LOST_RUNS = "SELECT group_id, first_due_ms, last_due_ms FROM lost_slots"
_VAGUE_OR_LOST_RUNS = f"{_VAGUE_RUNS} UNION ALL {_LOST_RUNS}"

_SLOTS = """
SELECT g.gateway, g.meter, g.period_ms, {points}, min(e.first_due), max(e.last_due),
       CAST(sum(e.n) AS bigint), CAST(sum(e.v) AS bigint), CAST(sum(e.q) AS bigint),
       CAST(sum(e.missed) AS bigint), g.id IN (SELECT id FROM energy_groups),
       CAST(sum(e.lost) AS bigint)
FROM groups g
JOIN (
    SELECT r.group_id, min(r.due_ms) AS first_due, max(r.due_ms) AS last_due, count(*) AS n,
           sum({values}) AS v, sum({nulls}) AS q, 0 AS missed, 0 AS lost
    FROM readings r JOIN groups i ON i.id = r.group_id WHERE i.gateway = $1 GROUP BY r.group_id
    UNION ALL
    SELECT p.group_id, min(p.first_due_ms), max(p.last_due_ms), 0, 0, 0, sum(p.slot_count), 0
    FROM gaps p JOIN groups i ON i.id = p.group_id
    WHERE i.gateway = $1 AND p.reason NOT IN ({vague}) GROUP BY p.group_id
    UNION ALL
    SELECT p.group_id, min(p.first_due_ms), max(p.last_due_ms), 0, 0, 0, sum(p.n), -sum(p.n)
    FROM ({vague_left}) p GROUP BY p.group_id
    UNION ALL
    SELECT l.group_id, min(l.first_due_ms), max(l.last_due_ms), 0, 0, 0, 0, sum(l.n)
    FROM ({vague_or_lost_left}) l GROUP BY l.group_id
) e ON e.group_id = g.id
WHERE g.gateway = $1
GROUP BY g.id ORDER BY g.meter, g.period_ms, g.id
"""


def slots(*, least: str, greatest: str, points: str, values: str, nulls: str) -> str:
    """Return the statement that counts the slots of a gateway's groups.

    `least` and `greatest` are functions of two numbers, the latter with no value where one has
    none, or the other one; `points`, `values` and `nulls` count those of a group
    `g` and of a reading `r`.
    """
    left = {
        name: _LEFT.format(least=least, greatest=greatest, vague=_VAGUE, runs=runs)
        for name, runs in (
            ("vague_left", _VAGUE_RUNS),
            ("vague_or_lost_left", _VAGUE_OR_LOST_RUNS),
        )
    }
    return _SLOTS.format(points=points, values=values, nulls=nulls, vague=_VAGUE, **left)
