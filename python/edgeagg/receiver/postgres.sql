-- One row per meter and time. Arrays have one entry per point of the group, NULL where there is none.
-- value = mantissa x 10^exponent, in the point's unit; times are UTC milliseconds.
-- Names sort by code point, as they do in SQLite and Python: receivers take locks in that order.

CREATE TABLE IF NOT EXISTS streams (
    gateway text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    through bigint NOT NULL,
    PRIMARY KEY (gateway, epoch)
);

CREATE TABLE IF NOT EXISTS batches (
    gateway text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    sequence bigint NOT NULL,
    kind smallint NOT NULL,         -- 0 catalogue, 1 data, 2 lost, 3 statement, 4 key
    digest bytea NOT NULL,          -- SHA-256 of the message
    cut_at_ms bigint NOT NULL,
    received_ms bigint NOT NULL,
    bytes bigint NOT NULL,
    PRIMARY KEY (gateway, epoch, sequence)
);

-- Payloads that batches to come may begin with; those too old for that go.
CREATE TABLE IF NOT EXISTS keyframes (
    gateway text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    sequence bigint NOT NULL,
    payload bytea NOT NULL,
    PRIMARY KEY (gateway, epoch, sequence)
);

CREATE TABLE IF NOT EXISTS catalogues (
    hash bytea NOT NULL,
    gateway text COLLATE "C" NOT NULL,
    received_ms bigint NOT NULL,    -- the last time: a gateway may go back to an older one
    body bytea NOT NULL,            -- msgpack, docs/batch-format.md
    PRIMARY KEY (gateway, hash)
);
CREATE INDEX IF NOT EXISTS catalogues_by_hash ON catalogues (hash);

CREATE TABLE IF NOT EXISTS groups (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text COLLATE "C" NOT NULL,
    meter text COLLATE "C" NOT NULL,
    period_ms bigint NOT NULL,
    points jsonb NOT NULL,          -- [[name, unit, exponent, kind], ...]
    digest bytea NOT NULL,          -- SHA-256 of the points: they may be too long for an index
    UNIQUE (gateway, meter, period_ms, digest)
);

CREATE TABLE IF NOT EXISTS readings (
    group_id bigint NOT NULL REFERENCES groups,
    due_ms bigint NOT NULL,
    at_ms bigint NOT NULL,
    mantissas bigint[] NOT NULL,
    qualities smallint[],           -- NULL when all are good
    PRIMARY KEY (group_id, due_ms)
);

-- good rows by the time they were read: what a register showed on either side of a moment
CREATE INDEX IF NOT EXISTS readings_by_time ON readings (group_id, at_ms) WHERE qualities IS NULL;

CREATE TABLE IF NOT EXISTS windows (
    group_id bigint NOT NULL REFERENCES groups,
    length_ms bigint NOT NULL,
    start_ms bigint NOT NULL,
    slots bigint[] NOT NULL,
    value_counts bigint[] NOT NULL,
    minima bigint[] NOT NULL,
    maxima bigint[] NOT NULL,
    means bigint[] NOT NULL,        -- three more decimals than the point
    firsts bigint[] NOT NULL,
    lasts bigint[] NOT NULL,
    energies bigint[] NOT NULL,     -- of totalisers
    covered_ms bigint[] NOT NULL,
    worst bigint[] NOT NULL,
    PRIMARY KEY (group_id, length_ms, start_ms)
);

CREATE TABLE IF NOT EXISTS gaps (
    group_id bigint NOT NULL REFERENCES groups,
    first_due_ms bigint NOT NULL,
    last_due_ms bigint NOT NULL,
    slot_count bigint NOT NULL,
    reason smallint NOT NULL,
    PRIMARY KEY (group_id, first_due_ms)
);

-- Slots that were in batches the gateway no longer has, as far as no row or gap explains them.
CREATE TABLE IF NOT EXISTS lost_slots (
    group_id bigint NOT NULL REFERENCES groups,
    first_due_ms bigint NOT NULL,
    last_due_ms bigint NOT NULL,
    slot_count bigint NOT NULL,
    PRIMARY KEY (group_id, first_due_ms)
);

-- How the course of a guarded totaliser was bridged; values are mantissas of the point.
CREATE TABLE IF NOT EXISTS audits (
    group_id bigint NOT NULL REFERENCES groups,
    point integer NOT NULL,         -- its place in the group, from 0
    opening_ms bigint NOT NULL,
    kind smallint NOT NULL,         -- 1 rollover, 2 reset, 3 replaced, 4 jump, 5 freeze, 6 dip, ...
    closing_ms bigint NOT NULL,
    closing bigint NOT NULL,
    opening bigint NOT NULL,
    energy bigint NOT NULL,         -- counted between the two
    doubted bigint NOT NULL,        -- values in between that were set aside
    extreme bigint,                 -- the one of them furthest off
    PRIMARY KEY (group_id, point, opening_ms, kind)
);

-- How far the energies of a window can be off for being interpolated at its ends.
CREATE TABLE IF NOT EXISTS uncertainties (
    group_id bigint NOT NULL REFERENCES groups,
    length_ms bigint NOT NULL,
    start_ms bigint NOT NULL,
    errors bigint[] NOT NULL,
    PRIMARY KEY (group_id, length_ms, start_ms)
);

CREATE TABLE IF NOT EXISTS statistics (
    group_id bigint NOT NULL REFERENCES groups,
    length_ms bigint NOT NULL,
    start_ms bigint NOT NULL,
    deviations bigint[] NOT NULL,   -- three more decimals than the point
    medians bigint[] NOT NULL,
    p95s bigint[] NOT NULL,
    PRIMARY KEY (group_id, length_ms, start_ms)
);

-- The greatest demand of a point on a local day; of a totaliser in mantissas per hour, of a gauge
-- with three more decimals than the point.
CREATE TABLE IF NOT EXISTS demands (
    group_id bigint NOT NULL REFERENCES groups,
    point integer NOT NULL,
    start_ms bigint NOT NULL,
    length_ms bigint NOT NULL,      -- of the day
    block bigint,
    block_end_ms bigint,
    sliding bigint,
    sliding_end_ms bigint,
    periods bigint NOT NULL,        -- block periods that were known
    PRIMARY KEY (group_id, point, start_ms)
);

-- What gateways stated of the slots of a group in [start_ms, end_ms), mostly a local day. Parts of
-- one span add up; a part that comes in two epochs is the same part.
CREATE TABLE IF NOT EXISTS statements (
    group_id bigint NOT NULL REFERENCES groups,
    start_ms bigint NOT NULL,
    end_ms bigint NOT NULL,
    cut_at_ms bigint NOT NULL,
    slots bigint NOT NULL,          -- of points: values + reasons + missed
    value_count bigint NOT NULL,
    reasons bigint NOT NULL,
    missed bigint NOT NULL,
    digest bytea NOT NULL,          -- sum of the SHA-256 of all rows
    registers jsonb NOT NULL,       -- [[point, first due_ms, first, last due_ms, last], ...]
    PRIMARY KEY (group_id, start_ms, end_ms, cut_at_ms)
);

-- Whether the tables held what was stated, when it was last compared.
CREATE TABLE IF NOT EXISTS reconciled (
    group_id bigint NOT NULL REFERENCES groups,
    start_ms bigint NOT NULL,
    end_ms bigint NOT NULL,
    checked_ms bigint NOT NULL,
    matches boolean NOT NULL,
    PRIMARY KEY (group_id, start_ms, end_ms)
);

CREATE TABLE IF NOT EXISTS alarms (
    gateway text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL, -- fork, rollback
    epoch bigint NOT NULL,
    sequence bigint NOT NULL,       -- where it was seen first
    first_ms bigint NOT NULL,
    last_ms bigint NOT NULL,
    times bigint NOT NULL,
    detail text NOT NULL,
    PRIMARY KEY (gateway, kind, epoch)
);

CREATE TABLE IF NOT EXISTS quarantine (
    digest bytea PRIMARY KEY,       -- SHA-256 over topic and data: they may be too long for an index
    received_ms bigint NOT NULL,
    topic text NOT NULL,
    reason text NOT NULL,
    data bytea NOT NULL
);

CREATE TABLE IF NOT EXISTS keys (
    gateway text COLLATE "C" NOT NULL,
    public bytea NOT NULL,          -- Ed25519, 32 bytes
    state text NOT NULL CHECK (state IN ('active', 'retired', 'revoked')),
    until_epoch bigint NOT NULL,    -- of a retired key: the batch that names the next one
    until_sequence bigint NOT NULL,
    added_ms bigint NOT NULL,
    ended_ms bigint NOT NULL,       -- 0 while it is active
    PRIMARY KEY (gateway, public)
);

-- One row: what quarantine holds, and what had to go because it holds no more.
CREATE TABLE IF NOT EXISTS quarantine_totals (
    only_one boolean PRIMARY KEY CHECK (only_one),
    row_count bigint NOT NULL,
    byte_count bigint NOT NULL,     -- of topics, reasons and data
    dropped_rows bigint NOT NULL,
    dropped_bytes bigint NOT NULL
);
INSERT INTO quarantine_totals
SELECT true, count(*),
       coalesce(sum(octet_length(topic) + octet_length(reason) + octet_length(data)), 0), 0, 0
FROM quarantine WHERE NOT EXISTS (SELECT 1 FROM quarantine_totals)
ON CONFLICT DO NOTHING;

-- Groups that hold totalisers of the energy that a meter balances with.
CREATE OR REPLACE VIEW energy_groups AS
SELECT g.id, g.gateway, g.meter, g.period_ms, g.points FROM groups g
WHERE EXISTS (
    SELECT 1 FROM jsonb_array_elements(g.points) AS p (point)
    WHERE p.point ->> 0 IN ('active_energy_import', 'active_energy_export')
      AND p.point ->> 3 = 'totaliser'
);

CREATE OR REPLACE VIEW reading AS
SELECT g.gateway,
       g.meter,
       p.point ->> 0 AS point,
       timestamptz 'epoch' + r.at_ms * interval '1 millisecond' AS at,
       (r.mantissas[p.position] * 10::numeric ^ (p.point ->> 2)::integer)::double precision
           AS value,
       p.point ->> 1 AS unit,
       coalesce(r.qualities[p.position], 0::smallint) AS quality,
       r.due_ms
FROM readings r
JOIN groups g ON g.id = r.group_id
CROSS JOIN LATERAL jsonb_array_elements(g.points) WITH ORDINALITY AS p (point, position);

CREATE OR REPLACE VIEW energy AS
SELECT g.gateway,
       g.meter,
       p.point ->> 0 AS point,
       w.length_ms / 1000 AS window_s,
       timestamptz 'epoch' + w.start_ms * interval '1 millisecond' AS start,
       (w.energies[p.position] * 10::numeric ^ (p.point ->> 2)::integer)::double precision
           AS energy,
       p.point ->> 1 AS unit,
       w.value_counts[p.position] AS value_count,
       w.slots[p.position] AS slot_count
FROM windows w
JOIN groups g ON g.id = w.group_id
CROSS JOIN LATERAL jsonb_array_elements(g.points) WITH ORDINALITY AS p (point, position)
WHERE p.point ->> 3 = 'totaliser';

CREATE OR REPLACE VIEW audit AS
SELECT g.gateway,
       g.meter,
       p.point ->> 0 AS point,
       (ARRAY['rollover', 'reset', 'replaced', 'jump', 'freeze', 'dip', 'glitch', 'gap'])[a.kind]
           AS kind,
       timestamptz 'epoch' + a.closing_ms * interval '1 millisecond' AS closing_at,
       (a.closing * 10::numeric ^ (p.point ->> 2)::integer)::double precision AS closing,
       timestamptz 'epoch' + a.opening_ms * interval '1 millisecond' AS opening_at,
       (a.opening * 10::numeric ^ (p.point ->> 2)::integer)::double precision AS opening,
       (a.energy * 10::numeric ^ (p.point ->> 2)::integer)::double precision AS energy,
       p.point ->> 1 AS unit,
       a.doubted
FROM audits a
JOIN groups g ON g.id = a.group_id
CROSS JOIN LATERAL (SELECT g.points -> a.point AS point) p;

-- One row: which tables these are; a newer edgeagg writes a higher number.
CREATE TABLE IF NOT EXISTS schema_version (
    only_one boolean PRIMARY KEY CHECK (only_one),
    version integer NOT NULL
);
INSERT INTO schema_version VALUES (true, 4)
ON CONFLICT (only_one) DO UPDATE SET version = excluded.version;
