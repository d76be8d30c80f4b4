"""The store in one SQLite file: WAL, every commit on the disk before it is answered.

Arrays stand as JSON text, so that any SQLite tool can read them; the view `reading` spreads them.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from edgeagg.disk import sync
from edgeagg.errors import StoreError
from edgeagg.model import Group
from edgeagg.receiver import queries, rows, sqlite_queries
from edgeagg.receiver.points import points_text
from edgeagg.receiver.reads import Reads
from edgeagg.receiver.sqlite_ledger import SqliteLedger
from edgeagg.receiver.store import (
    QUARANTINE,
    Bound,
    Delivery,
    Outcome,
    Progress,
    Refused,
    collapse,
    repeated,
)

T = TypeVar("T")

_SCHEMA = Path(__file__).with_name("sqlite.sql")
_BUSY_TIMEOUT_S = 30
_ADD_KEY = sqlite_queries.plain(queries.ADD_KEY)
_RETIRE_KEY = sqlite_queries.plain(queries.RETIRE_KEY)


class SqliteStore(Reads):
    """One connection with a thread of its own: what was begun ends, even for a cancelled caller."""

    _dialect = sqlite_queries.DIALECT

    def __init__(self, connection: sqlite3.Connection, bound: Bound) -> None:
        self._connection = connection
        self._bound = bound
        self._thread = ThreadPoolExecutor(1, "sqlite")
        self._group_ids: dict[tuple[str, Group], int] = {}
        self._ledger = SqliteLedger(connection, self._run)

    @property
    def ledger(self) -> SqliteLedger:
        """Alarms and statements."""
        return self._ledger

    @staticmethod
    async def open(path: str, quarantine: Bound = QUARANTINE) -> SqliteStore:
        """Open or create the file `path` and its tables."""
        return SqliteStore(await asyncio.to_thread(_connect, path), quarantine)

    async def close(self) -> None:
        """Let go of the file."""
        await self._run(self._connection.close)
        self._thread.shutdown(wait=False)

    async def commit(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Store all of them in one transaction."""
        return await self._run(lambda: self._commit(deliveries))

    async def progress(self, gateway: str, epoch: int) -> Progress:
        """Return what is committed of this epoch."""
        return await self._run(lambda: self._progress(gateway, epoch))

    async def checks(
        self, gateway: str, epoch: int, sequences: Sequence[int]
    ) -> Sequence[tuple[int, bytes]]:
        """Return how the messages of these sequences hash."""
        wanted = json.dumps(list(sequences))
        return rows.check_rows(await self._all(sqlite_queries.CHECKS, gateway, epoch, wanted))

    async def quarantine(self, received_ms: int, refused: Sequence[Refused]) -> None:
        """Keep refused messages, each once however often it comes; the oldest go for them."""
        await self._run(lambda: self._quarantine(received_ms, refused))

    def _quarantine(self, received_ms: int, refused: Sequence[Refused]) -> None:
        with self._transaction():
            sizes = []
            for topic, reason, data in map(rows.kept, refused):
                is_new = self._connection.execute(
                    "INSERT OR IGNORE INTO quarantine (received_ms, topic, reason, data)"
                    " VALUES (?, ?, ?, ?) RETURNING 1",
                    (received_ms, topic, reason, data),
                ).fetchall()
                if is_new:
                    sizes.append(len(topic.encode()) + len(reason.encode()) + len(data))
            ((row_count, byte_count),) = self._connection.execute(
                "UPDATE quarantine_totals SET row_count = row_count + ?,"
                " byte_count = byte_count + ? RETURNING row_count, byte_count",
                (len(sizes), sum(sizes)),
            ).fetchall()
            if row_count <= self._bound.rows_max and byte_count <= self._bound.bytes_max:
                return
            dropped = self._connection.execute(
                sqlite_queries.DROP_OLDEST, (self._bound.rows_left, self._bound.bytes_left)
            ).fetchall()
            self._connection.execute(
                "UPDATE quarantine_totals SET row_count = row_count - ?1,"
                " byte_count = byte_count - ?2, dropped_rows = dropped_rows + ?1,"
                " dropped_bytes = dropped_bytes + ?2",
                (len(dropped), sum(size for (size,) in dropped)),
            )

    def _commit(self, deliveries: Sequence[Delivery]) -> list[Outcome]:
        try:
            with self._transaction():
                for gateway, group in rows.groups_of(deliveries):
                    self._group_id(gateway, group)
                outcomes = [self._insert(delivery) for delivery in deliveries]
                for gateway, epoch in {(d.batch.gateway, d.batch.epoch) for d in deliveries}:
                    self._advance(gateway, epoch)
        except BaseException:
            self._group_ids.clear()
            raise
        return outcomes

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # some errors have rolled it back already
                self._connection.execute("ROLLBACK")
            raise

    def _insert(self, delivery: Delivery) -> Outcome:
        batch = delivery.batch
        identity = (batch.gateway, batch.epoch, batch.sequence)
        known = self._connection.execute(
            "SELECT digest, kind FROM batches WHERE gateway = ? AND epoch = ? AND sequence = ?",
            identity,
        ).fetchone()
        if known is not None:
            return repeated(delivery, *known)
        self._connection.execute(
            "INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows.batch_row(delivery)
        )
        if (keyframe := rows.keyframe_row(delivery)) is not None:
            self._connection.execute("INSERT INTO keyframes VALUES (?, ?, ?, ?)", keyframe)
        if delivery.catalogue is not None and delivery.content is None:
            self._connection.execute(
                "INSERT INTO catalogues (hash, gateway, received_ms, body) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (gateway, hash) DO UPDATE"
                " SET received_ms = max(received_ms, excluded.received_ms)",
                (batch.schema, batch.gateway, delivery.received_ms, batch.payload),
            )
        if delivery.content is not None:
            self._insert_content(delivery)
        self._connection.executemany(_ADD_KEY, rows.added_key(delivery))
        self._connection.executemany(_RETIRE_KEY, rows.retired_key(delivery))
        return Outcome.NEW

    def _insert_content(self, delivery: Delivery) -> None:
        gateway, content = delivery.batch.gateway, delivery.content
        if content is None:
            return
        windows = [
            (self._group_id(gateway, group), *key) for group, *key in rows.good_windows(content)
        ]
        for statement in sqlite_queries.MAKE_WAY:
            self._connection.executemany(statement, windows)
        for table in rows.TABLES:
            places = ", ".join("?" * table.width)
            plain = f"INSERT OR IGNORE INTO {table.name} VALUES ({places})"  # noqa: S608 - names of ours
            self._connection.executemany(
                sqlite_queries.INSERTS.get(table.name, plain),
                (
                    (self._group_id(gateway, group), *map(_plain, values))
                    for group, values in table.rows(content, delivery.batch)
                ),
            )

    def _advance(self, gateway: str, epoch: int) -> None:
        self._connection.execute("INSERT OR IGNORE INTO streams VALUES (?, ?, 0)", (gateway, epoch))
        progress = self._progress(gateway, epoch)
        self._connection.execute(
            "UPDATE streams SET through = ? WHERE gateway = ? AND epoch = ?",
            (progress.through, gateway, epoch),
        )
        self._connection.execute(
            "DELETE FROM keyframes WHERE gateway = ? AND epoch = ? AND sequence < ?",
            (gateway, epoch, rows.oldest_keyframe(progress.through)),
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
        progress = collapse(through, (sequence for (sequence,) in beyond))
        last = self._connection.execute(
            "SELECT digest, cut_at_ms FROM batches"
            " WHERE gateway = ? AND epoch = ? AND sequence = ?",
            (*identity, progress.last),
        ).fetchone()
        return progress if last is None else progress.ending(*last)

    def _group_id(self, gateway: str, group: Group) -> int:
        known = self._group_ids.get((gateway, group))
        if known is not None:
            return known
        identity = (gateway, group.meter, group.period_ms, points_text(group))
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
        rows.check_version(connection.execute("PRAGMA user_version").fetchone()[0])
        connection.executescript(_SCHEMA.read_text(encoding="utf-8"))
        # a write like any other: with it the disk gets what a killed process did not sync, before
        # a batch of that is called known
        connection.execute(f"PRAGMA user_version = {rows.SCHEMA_VERSION}")
        sync(Path(path).parent)
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
