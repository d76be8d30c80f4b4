"""The store in one SQLite file: WAL, every commit on the disk before it is answered.

Arrays stand as JSON text, so that any SQLite tool can read them; the view `reading` spreads them.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from edgeagg.errors import StoreError
from edgeagg.model import Catalogue, Group
from edgeagg.receiver import rows
from edgeagg.receiver.store import (
    Delivery,
    Outcome,
    Progress,
    SlotCount,
    StoredRow,
    StreamStatus,
    collapse,
)

T = TypeVar("T")

_SCHEMA = Path(__file__).with_name("sqlite.sql")
_BUSY_TIMEOUT_S = 30


class SqliteStore:
    """One connection with a thread of its own: what was begun ends, even for a cancelled caller."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._thread = ThreadPoolExecutor(1, "sqlite")
        self._group_ids: dict[tuple[str, Group], int] = {}

    @staticmethod
    async def open(path: str) -> SqliteStore:
        """Open or create the file `path` and its tables."""
        return SqliteStore(await asyncio.to_thread(_connect, path))

    async def close(self) -> None:
        """Let go of the file."""
        await self._run(self._connection.close)
        self._thread.shutdown(wait=False)

    async def commit(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Store all of them in one transaction."""
        return await self._run(lambda: self._commit(deliveries))

    async def catalogue(self, schema: bytes) -> Catalogue | None:
        """Return the catalogue with this hash."""
        found = await self._all("SELECT body FROM catalogues WHERE hash = ?", schema)
        return Catalogue.from_bytes(found[0][0]) if found else None

    async def progress(self, gateway: str, epoch: int) -> Progress:
        """Return what is committed of this epoch."""
        return await self._run(lambda: self._progress(gateway, epoch))

    async def quarantine(self, received_ms: int, topic: str, reason: str, data: bytes) -> None:
        """Keep a refused message, once however often it comes."""
        await self._all(
            "INSERT OR IGNORE INTO quarantine (received_ms, topic, reason, data)"
            " VALUES (?, ?, ?, ?) RETURNING 1",
            received_ms,
            topic,
            reason,
            data,
        )

    async def streams(self) -> Sequence[StreamStatus]:
        """Return every epoch of every gateway."""
        found = await self._all(
            "SELECT s.gateway, s.epoch, s.through, count(*), sum(b.kind = 2), max(b.sequence),"
            " sum(b.bytes) FROM streams s JOIN batches b USING (gateway, epoch)"
            " GROUP BY s.gateway, s.epoch ORDER BY s.gateway, min(b.received_ms), s.epoch"
        )
        return [StreamStatus(*row) for row in found]

    async def catalogues(self, gateway: str) -> Sequence[Catalogue]:
        """Return the gateway's catalogues, oldest first."""
        found = await self._all(
            "SELECT body FROM catalogues WHERE gateway = ? ORDER BY received_ms, hash", gateway
        )
        return [Catalogue.from_bytes(body) for (body,) in found]

    async def slots(self, gateway: str) -> Sequence[SlotCount]:
        """Count the slots of every group of the gateway."""
        found = await self._all(_SLOTS, gateway)
        return [SlotCount(*row) for row in found]

    async def window_count(self, gateway: str) -> int:
        """Count the gateway's windows."""
        found = await self._all(
            "SELECT count(*) FROM windows JOIN groups ON groups.id = group_id WHERE gateway = ?",
            gateway,
        )
        return int(found[0][0])

    async def bracket(
        self, gateway: str, meter: str, at_ms: int
    ) -> tuple[StoredRow | None, StoredRow | None]:
        """Return the meter's good rows on either side of `at_ms`."""
        return await self._row(_BEFORE, gateway, meter, at_ms), await self._row(
            _AFTER, gateway, meter, at_ms
        )

    async def _row(self, statement: str, *values: object) -> StoredRow | None:
        for at_ms, points, mantissas in await self._all(statement, *values):
            return StoredRow(at_ms, rows.points_from(points), tuple(json.loads(mantissas)))
        return None

    def _commit(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            for gateway, group in rows.groups_of(deliveries):
                self._group_id(gateway, group)
            outcomes = [self._insert(delivery) for delivery in deliveries]
            for gateway, epoch in {(d.batch.gateway, d.batch.epoch) for d in deliveries}:
                self._advance(gateway, epoch)
            self._connection.execute("COMMIT")
        except BaseException:
            self._group_ids.clear()
            if self._connection.in_transaction:  # some errors have rolled it back already
                self._connection.execute("ROLLBACK")
            raise
        return outcomes

    def _insert(self, delivery: Delivery) -> Outcome:
        batch = delivery.batch
        identity = (batch.gateway, batch.epoch, batch.sequence)
        known = self._connection.execute(
            "SELECT digest FROM batches WHERE gateway = ? AND epoch = ? AND sequence = ?", identity
        ).fetchone()
        if known is not None:
            same = known[0] == delivery.digest or rows.is_lost(delivery)
            return Outcome.AGAIN if same else Outcome.CONFLICT
        self._connection.execute(
            "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows.batch_row(delivery)
        )
        if delivery.catalogue is not None and delivery.content is None:
            self._connection.execute(
                "INSERT OR IGNORE INTO catalogues VALUES (?, ?, ?, ?)",
                (batch.schema, batch.gateway, delivery.received_ms, batch.payload),
            )
        if delivery.content is not None:
            self._insert_content(delivery)
        return Outcome.NEW

    def _insert_content(self, delivery: Delivery) -> None:
        gateway, content = delivery.batch.gateway, delivery.content
        if content is None:
            return
        self._connection.executemany(
            "INSERT OR IGNORE INTO readings VALUES (?, ?, ?, ?, ?)",
            (
                (self._group_id(gateway, row.group), *map(_plain, rows.reading_values(row)))
                for row in content.readings
            ),
        )
        self._connection.executemany(
            f"INSERT OR IGNORE INTO windows VALUES (?, ?, ?{', ?' * len(rows.WINDOW_ARRAYS)})",  # noqa: S608
            (
                (
                    self._group_id(gateway, row.group),
                    row.length_ms,
                    row.start_ms,
                    *map(_plain, rows.window_values(row)),
                )
                for row in content.windows
            ),
        )
        self._connection.executemany(
            "INSERT OR IGNORE INTO gaps VALUES (?, ?, ?, ?, ?)",
            ((self._group_id(gateway, row.group), *rows.gap_values(row)) for row in content.gaps),
        )

    def _advance(self, gateway: str, epoch: int) -> None:
        self._connection.execute("INSERT OR IGNORE INTO streams VALUES (?, ?, 0)", (gateway, epoch))
        progress = self._progress(gateway, epoch)
        self._connection.execute(
            "UPDATE streams SET through = ? WHERE gateway = ? AND epoch = ?",
            (progress.through, gateway, epoch),
        )

    def _progress(self, gateway: str, epoch: int) -> Progress:
        identity = (gateway, epoch)
        found = self._connection.execute(
            "SELECT through FROM streams WHERE gateway = ? AND epoch = ?", identity
        ).fetchone()
        through = found[0] if found else 0
        beyond = self._connection.execute(
            "SELECT sequence FROM batches WHERE gateway = ? AND epoch = ? AND sequence > ?"
            " ORDER BY sequence LIMIT 4096",
            (*identity, through),
        )
        return collapse(through, (sequence for (sequence,) in beyond))

    def _group_id(self, gateway: str, group: Group) -> int:
        known = self._group_ids.get((gateway, group))
        if known is not None:
            return known
        identity = (gateway, group.meter, group.period_ms, rows.points_text(group))
        self._connection.execute(
            "INSERT OR IGNORE INTO groups (gateway, meter, period_ms, points) VALUES (?, ?, ?, ?)",
            identity,
        )
        (number,) = self._connection.execute(
            "SELECT id FROM groups"
            " WHERE gateway = ? AND meter = ? AND period_ms = ? AND points = ?",
            identity,
        ).fetchone()
        self._group_ids[gateway, group] = number
        return int(number)

    async def _all(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return await self._run(lambda: self._connection.execute(statement, values).fetchall())

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise StoreError(f"SQLite: {error}") from error


def _connect(path: str) -> sqlite3.Connection:
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            path, check_same_thread=False, isolation_level=None, timeout=_BUSY_TIMEOUT_S
        )
        _use_wal(connection)
        # a receipt is sent after the commit, so the commit must survive a power cut
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(_SCHEMA.read_text(encoding="utf-8"))
    except (sqlite3.Error, OSError) as error:
        raise StoreError(f"cannot open {path}: {error}") from error
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    # while somebody else switches the same new file, SQLite refuses at once, whatever the timeout
    deadline_s = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline_s:
                raise
            time.sleep(0.02)
        else:
            return


def _plain(value: object) -> object:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list) else value


_BEFORE = """
SELECT at_ms, points, mantissas FROM readings JOIN groups ON groups.id = group_id
WHERE gateway = ? AND meter = ? AND at_ms <= ? AND qualities IS NULL
ORDER BY at_ms DESC LIMIT 1
"""

_AFTER = """
SELECT at_ms, points, mantissas FROM readings JOIN groups ON groups.id = group_id
WHERE gateway = ? AND meter = ? AND at_ms >= ? AND qualities IS NULL
ORDER BY at_ms LIMIT 1
"""

_SLOTS = """
SELECT g.gateway, g.meter, g.period_ms, json_array_length(g.points),
       min(coalesce(r.first_due, p.first_due), coalesce(p.first_due, r.first_due)),
       max(coalesce(r.last_due, p.last_due), coalesce(p.last_due, r.last_due)),
       coalesce(r.n, 0), coalesce(r.v, 0), coalesce(r.q, 0), coalesce(p.n, 0)
FROM groups g
LEFT JOIN (
    SELECT group_id, min(due_ms) AS first_due, max(due_ms) AS last_due, count(*) AS n,
           sum((SELECT count(value) FROM json_each(mantissas))) AS v,
           sum((SELECT count(*) - count(value) FROM json_each(mantissas))) AS q
    FROM readings GROUP BY group_id
) r ON r.group_id = g.id
LEFT JOIN (
    SELECT group_id, min(first_due_ms) AS first_due, max(last_due_ms) AS last_due,
           sum(slot_count) AS n
    FROM gaps GROUP BY group_id
) p ON p.group_id = g.id
WHERE g.gateway = ? AND (r.n > 0 OR p.n > 0)
ORDER BY g.meter, g.period_ms, g.id
"""
