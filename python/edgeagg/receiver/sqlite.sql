-- One row per meter and time. Arrays are JSON text with one entry per point of the group.
-- value = mantissa x 10^exponent, in the point's unit; times are UTC milliseconds.

CREATE TABLE IF NOT EXISTS streams (
    gateway TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    through INTEGER NOT NULL,
    PRIMARY KEY (gateway, epoch)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS batches (
    gateway TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    kind INTEGER NOT NULL,          -- 0 catalogue, 1 data, 2 lost, 3 statement, 4 key
    digest BLOB NOT NULL,           -- SHA-256 of the message
    cut_at_ms INTEGER NOT NULL,
    received_ms INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (gateway, epoch, sequence)
) WITHOUT ROWID;

-- Payloads that batches to come may begin with; those too old for that go.
CREATE TABLE IF NOT EXISTS keyframes (
    gateway TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (gateway, epoch, sequence)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS catalogues (
    hash BLOB NOT NULL,
    gateway TEXT NOT NULL,
    received_ms INTEGER NOT NULL,   -- the last time: a gateway may go back to an older one
    body BLOB NOT NULL,             -- msgpack, docs/batch-format.md
    PRIMARY KEY (gateway, hash)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS groups (
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,
    meter TEXT NOT NULL,
    period_ms INTEGER NOT NULL,
    points TEXT NOT NULL,           -- [[name, unit, exponent, kind], ...]
    UNIQUE (gateway, meter, period_ms, points)
);

CREATE TABLE IF NOT EXISTS readings (
    group_id INTEGER NOT NULL REFERENCES groups,
    due_ms INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,
    mantissas TEXT NOT NULL,
    qualities TEXT,                 -- NULL when all are good
    PRIMARY KEY (group_id, due_ms)
) WITHOUT ROWID;

-- good rows by the time they were read: what a register showed on either side of a moment
CREATE INDEX IF NOT EXISTS readings_by_time ON readings (group_id, at_ms) WHERE qualities IS NULL;

CREATE TABLE IF NOT EXISTS windows (
    group_id INTEGER NOT NULL REFERENCES groups,
    length_ms INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    slots TEXT NOT NULL,
    value_counts TEXT NOT NULL,
    minima TEXT NOT NULL,
    maxima TEXT NOT NULL,
    means TEXT NOT NULL,            -- three more decimals than the point
    firsts TEXT NOT NULL,
    lasts TEXT NOT NULL,
    energies TEXT NOT NULL,         -- of totalisers
    covered_ms TEXT NOT NULL,
    worst TEXT NOT NULL,
    PRIMARY KEY (group_id, length_ms, start_ms)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS gaps (
    group_id INTEGER NOT NULL REFERENCES groups,
    first_due_ms INTEGER NOT NULL,
    last_due_ms INTEGER NOT NULL,
    slot_count INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    PRIMARY KEY (group_id, first_due_ms)
) WITHOUT ROWID;

-- Slots that were in batches the gateway no longer has, as far as no row or gap explains them.
CREATE TABLE IF NOT EXISTS lost_slots (
    group_id INTEGER NOT NULL REFERENCES groups,
    first_due_ms INTEGER NOT NULL,
    last_due_ms INTEGER NOT NULL,
    slot_count INTEGER NOT NULL,
    PRIMARY KEY (group_id, first_due_ms)
) WITHOUT ROWID;

-- How the course of a guarded totaliser was bridged; values are mantissas of the point.
CREATE TABLE IF NOT EXISTS audits (
    group_id INTEGER NOT NULL REFERENCES groups,
    point INTEGER NOT NULL,         -- its place in the group, from 0
    opening_ms INTEGER NOT NULL,
    kind INTEGER NOT NULL,          -- 1 rollover, 2 reset, 3 replaced, 4 jump, 5 freeze, 6 dip, ...
    closing_ms INTEGER NOT NULL,
    closing INTEGER NOT NULL,
    opening INTEGER NOT NULL,
    energy INTEGER NOT NULL,        -- counted between the two
    doubted INTEGER NOT NULL,       -- values in between that were set aside
    extreme INTEGER,                -- the one of them furthest off
    PRIMARY KEY (group_id, point, opening_ms, kind)
) WITHOUT ROWID;

-- How far the energies of a window can be off for being interpolated at its ends.
CREATE TABLE IF NOT EXISTS uncertainties (
    group_id INTEGER NOT NULL REFERENCES groups,
    length_ms INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    errors TEXT NOT NULL,
    PRIMARY KEY (group_id, length_ms, start_ms)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS statistics (
    group_id INTEGER NOT NULL REFERENCES groups,
    length_ms INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    deviations TEXT NOT NULL,       -- three more decimals than the point
    medians TEXT NOT NULL,
    p95s TEXT NOT NULL,
    PRIMARY KEY (group_id, length_ms, start_ms)
) WITHOUT ROWID;

-- The greatest demand of a point on a local day; of a totaliser in mantissas per hour, of a gauge
-- with three more decimals than the point.
CREATE TABLE IF NOT EXISTS demands (
    group_id INTEGER NOT NULL REFERENCES groups,
    point INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    length_ms INTEGER NOT NULL,     -- of the day
    block INTEGER,
    block_end_ms INTEGER,
    sliding INTEGER,
    sliding_end_ms INTEGER,
    periods INTEGER NOT NULL,       -- block periods that were known
    PRIMARY KEY (group_id, point, start_ms)
) WITHOUT ROWID;

-- What gateways stated of the slots of a group in [start_ms, end_ms), mostly a local day. Parts of
-- one span add up; a part that comes in two epochs is the same part.
CREATE TABLE IF NOT EXISTS statements (
    group_id INTEGER NOT NULL REFERENCES groups,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    cut_at_ms INTEGER NOT NULL,
    slots INTEGER NOT NULL,         -- of points: values + reasons + missed
    value_count INTEGER NOT NULL,
    reasons INTEGER NOT NULL,
    missed INTEGER NOT NULL,
    digest BLOB NOT NULL,           -- sum of the SHA-256 of all rows
    registers TEXT NOT NULL,        -- [[point, first due_ms, first, last due_ms, last], ...]
    PRIMARY KEY (group_id, start_ms, end_ms, cut_at_ms)
) WITHOUT ROWID;

-- Whether the tables held what was stated, when it was last compared.
CREATE TABLE IF NOT EXISTS reconciled (
    group_id INTEGER NOT NULL REFERENCES groups,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    checked_ms INTEGER NOT NULL,
    matches INTEGER NOT NULL,
    PRIMARY KEY (group_id, start_ms, end_ms)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS alarms (
    gateway TEXT NOT NULL,
    kind TEXT NOT NULL,             -- fork, rollback
    epoch INTEGER NOT NULL,
    sequence INTEGER NOT NULL,      -- where it was seen first
    first_ms INTEGER NOT NULL,
    last_ms INTEGER NOT NULL,
    times INTEGER NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (gateway, kind, epoch)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS quarantine (
    received_ms INTEGER NOT NULL,
    topic TEXT NOT NULL,
    reason TEXT NOT NULL,
    data BLOB NOT NULL,
    UNIQUE (topic, data)
);

CREATE TABLE IF NOT EXISTS keys (
    gateway TEXT NOT NULL,
    public BLOB NOT NULL,           -- Ed25519, 32 bytes
    state TEXT NOT NULL CHECK (state IN ('active', 'retired', 'revoked')),
    until_epoch INTEGER NOT NULL,   -- of a retired key: the batch that names the next one
    until_sequence INTEGER NOT NULL,
    added_ms INTEGER NOT NULL,
    ended_ms INTEGER NOT NULL,      -- 0 while it is active
    PRIMARY KEY (gateway, public)
) WITHOUT ROWID;

-- One row: what quarantine holds, and what had to go because it holds no more.
CREATE TABLE IF NOT EXISTS quarantine_totals (
    only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
    row_count INTEGER NOT NULL,
    byte_count INTEGER NOT NULL,    -- of topics, reasons and data
    dropped_rows INTEGER NOT NULL,
    dropped_bytes INTEGER NOT NULL
);
INSERT OR IGNORE INTO quarantine_totals
SELECT 1, count(*),
       coalesce(sum(length(CAST(topic AS BLOB)) + length(CAST(reason AS BLOB)) + length(data)), 0),
       0, 0
FROM quarantine WHERE NOT EXISTS (SELECT 1 FROM quarantine_totals);

-- Groups that hold totalisers of the energy that a meter balances with.
CREATE VIEW IF NOT EXISTS energy_groups AS
SELECT g.id, g.gateway, g.meter, g.period_ms, g.points FROM groups g
WHERE EXISTS (
    SELECT 1 FROM json_each(g.points) p
    WHERE json_extract(p.value, '$[0]') IN ('active_energy_import', 'active_energy_export')
      AND json_extract(p.value, '$[3]') = 'totaliser'
);

CREATE VIEW IF NOT EXISTS reading AS
SELECT g.gateway,
       g.meter,
       json_extract(p.value, '$[0]') AS point,
       strftime('%Y-%m-%dT%H:%M:%fZ', r.at_ms / 1000.0, 'unixepoch') AS at,
       CAST(json_extract(r.mantissas, '$[' || p.key || ']')
            || 'e' || json_extract(p.value, '$[2]') AS REAL) AS value,
       json_extract(p.value, '$[1]') AS unit,
       coalesce(json_extract(r.qualities, '$[' || p.key || ']'), 0) AS quality,
       r.due_ms
FROM readings r JOIN groups g ON g.id = r.group_id, json_each(g.points) p;

CREATE VIEW IF NOT EXISTS energy AS
SELECT g.gateway,
       g.meter,
       json_extract(p.value, '$[0]') AS point,
       w.length_ms / 1000 AS window_s,
       strftime('%Y-%m-%dT%H:%M:%SZ', w.start_ms / 1000, 'unixepoch') AS start,
       CAST(json_extract(w.energies, '$[' || p.key || ']')
            || 'e' || json_extract(p.value, '$[2]') AS REAL) AS energy,
       json_extract(p.value, '$[1]') AS unit,
       json_extract(w.value_counts, '$[' || p.key || ']') AS value_count,
       json_extract(w.slots, '$[' || p.key || ']') AS slot_count
FROM windows w JOIN groups g ON g.id = w.group_id, json_each(g.points) p
WHERE json_extract(p.value, '$[3]') = 'totaliser';

CREATE VIEW IF NOT EXISTS audit AS
SELECT g.gateway,
       g.meter,
       json_extract(g.points, '$[' || a.point || '][0]') AS point,
       CASE a.kind WHEN 1 THEN 'rollover' WHEN 2 THEN 'reset' WHEN 3 THEN 'replaced'
                   WHEN 4 THEN 'jump' WHEN 5 THEN 'freeze' WHEN 6 THEN 'dip'
                   WHEN 7 THEN 'glitch' ELSE 'gap' END AS kind,
       strftime('%Y-%m-%dT%H:%M:%fZ', a.closing_ms / 1000.0, 'unixepoch') AS closing_at,
       CAST(a.closing || 'e' || json_extract(g.points, '$[' || a.point || '][2]') AS REAL)
           AS closing,
       strftime('%Y-%m-%dT%H:%M:%fZ', a.opening_ms / 1000.0, 'unixepoch') AS opening_at,
       CAST(a.opening || 'e' || json_extract(g.points, '$[' || a.point || '][2]') AS REAL)
           AS opening,
       CAST(a.energy || 'e' || json_extract(g.points, '$[' || a.point || '][2]') AS REAL)
           AS energy,
       json_extract(g.points, '$[' || a.point || '][1]') AS unit,
       a.doubted
FROM audits a JOIN groups g ON g.id = a.group_id;
