"""The store in PostgreSQL: one transaction per commit, on the server's disk before it is answered.

Any number of receivers may share the database. They lock and insert everything in the same order
(streams, groups, rows by their keys), so that two of them can wait for each other but never block.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from edgeagg.errors import StoreError
from edgeagg.model import Group
from edgeagg.receiver import postgres_queries, queries, rows
from edgeagg.receiver.points import points_text
from edgeagg.receiver.postgres_ledger import PostgresLedger
from edgeagg.receiver.reads import Reads
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

_SCHEMA = Path(__file__).with_name("postgres.sql")
_ADDRESS = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
_SCHEMA_LOCK = 0x65646765_61676700  # "edgeagg": any number that nobody else takes
_CONNECTIONS_MAX = 4
_CONNECT_TIMEOUT_S = 10
_COMMAND_TIMEOUT_S = 60
_CLOSE_TIMEOUT_S = 5

Connection = Any
"""What asyncpg's pool hands out: a proxy that has no type."""

_GroupIds = dict[tuple[str, Group], int]


class PostgresStore(Reads):
    """A few connections that are made again when the server has gone."""

    _dialect = postgres_queries.DIALECT

    def __init__(self, pool: asyncpg.Pool, bound: Bound) -> None:
        self._pool = pool
        self._bound = bound
        self._ledger = PostgresLedger(self._transaction)

    @property
    def ledger(self) -> PostgresLedger:
        """Alarms and statements."""
        return self._ledger

    @staticmethod
    async def open(url: str, quarantine: Bound = QUARANTINE) -> PostgresStore:
        """Connect to the database at `url` and make its tables."""
        pool = await asyncpg.create_pool(
            url,
            # connections are made when they are needed, here and after every loss
            min_size=0,
            max_size=_CONNECTIONS_MAX,
            timeout=_CONNECT_TIMEOUT_S,
            command_timeout=_COMMAND_TIMEOUT_S,
        )
        store = PostgresStore(pool, quarantine)
        try:
            async with store._transaction() as connection:
                # CREATE ... IF NOT EXISTS fails when two sessions run it at the same moment
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _SCHEMA_LOCK)
                rows.check_version(await _version(connection))
                await connection.execute(_SCHEMA.read_text(encoding="utf-8"))
        except ValueError:
            pool.terminate()
            # asyncpg's own words may quote the password when the address is cut in the wrong place
            raise StoreError(f"PostgreSQL: the address is none; write {_ADDRESS}") from None
        except BaseException:
            pool.terminate()
            raise
        return store

    async def close(self) -> None:
        """Let go of the connections; cut them when the server does not answer."""
        try:
            async with _translated(), asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._pool.close()
        except StoreError:
            self._pool.terminate()

    async def commit(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """Store all of them in one transaction."""
        async with self._transaction() as connection:
            streams = sorted({(d.batch.gateway, d.batch.epoch) for d in deliveries})
            await _lock_streams(connection, streams)
            outcomes = await _outcomes(connection, deliveries)
            await _insert(
                connection,
                [
                    delivery
                    for delivery, outcome in zip(deliveries, outcomes, strict=True)
                    if outcome is Outcome.NEW
                ],
            )
            for gateway, epoch in streams:
                progress = await _progress(connection, gateway, epoch)
                identity = gateway, epoch, progress.through
                await connection.execute(postgres_queries.ADVANCE, *identity)
                oldest = rows.oldest_keyframe(progress.through)
                await connection.execute(postgres_queries.DROP_KEYFRAMES, gateway, epoch, oldest)
        return outcomes

    async def progress(self, gateway: str, epoch: int) -> Progress:
        """Return what is committed of this epoch."""
        async with self._connection() as connection:
            return await _progress(connection, gateway, epoch)

    async def checks(
        self, gateway: str, epoch: int, sequences: Sequence[int]
    ) -> Sequence[tuple[int, bytes]]:
        """Return how the messages of these sequences hash."""
        identity = gateway, epoch, list(sequences)
        return rows.check_rows(await self._all(postgres_queries.CHECKS, *identity))

    async def quarantine(self, received_ms: int, refused: Sequence[Refused]) -> None:
        """Keep refused messages, each once however often it comes; the oldest go for them."""
        # receivers that refuse the same at once must not wait for each other in a circle
        by_digest = {_identity(one): rows.kept(one) for one in refused}
        async with self._transaction() as connection:
            sizes = []
            for digest, (topic, reason, data) in sorted(by_digest.items()):
                texts = _storable(topic), _storable(reason)
                size = await connection.fetchval(
                    postgres_queries.QUARANTINE, digest, received_ms, *texts, data
                )
                if size is not None:
                    sizes.append(size)
            if not sizes:
                return
            row_count, byte_count = await connection.fetchrow(
                "UPDATE quarantine_totals SET row_count = row_count + $1,"
                " byte_count = byte_count + $2 RETURNING row_count, byte_count",
                len(sizes),
                sum(sizes),
            )
            if row_count > self._bound.rows_max or byte_count > self._bound.bytes_max:
                await connection.execute(
                    postgres_queries.DROP_OLDEST, self._bound.rows_left, self._bound.bytes_left
                )

    async def _all(self, statement: str, *values: object) -> Sequence[Any]:
        async with self._connection() as connection:
            found: Sequence[Any] = await connection.fetch(statement, *values)
            return found

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with _translated():
            try:
                async with self._pool.acquire() as connection:
                    yield connection
            except (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError):
                # the idle connections may be lost as well, and each would cost its own time-out
                await self._pool.expire_connections()
                raise

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        async with self._connection() as connection, connection.transaction():
            # a receipt is sent after the commit, so the commit must survive a power cut; a server
            # that is set to wait for more than its own disk keeps that
            await connection.execute(postgres_queries.SYNCHRONOUS)
            yield connection


async def _version(connection: Connection) -> int:
    """Return of which version the tables are; 0 while there are none that say."""
    if await connection.fetchval("SELECT to_regclass('schema_version')") is None:
        return 0
    return int(await connection.fetchval("SELECT version FROM schema_version") or 0)


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        raise StoreError(f"PostgreSQL: {error or type(error).__name__}") from error


async def _lock_streams(connection: Connection, streams: Sequence[tuple[str, int]]) -> None:
    gateways, epochs = [gateway for gateway, _ in streams], [epoch for _, epoch in streams]
    await connection.execute(
        "INSERT INTO streams SELECT gateway, epoch, 0"
        " FROM unnest($1::text[], $2::bigint[]) AS s (gateway, epoch) ON CONFLICT DO NOTHING",
        gateways,
        epochs,
    )
    await connection.execute(
        "SELECT 1 FROM streams JOIN unnest($1::text[], $2::bigint[]) AS s (gateway, epoch)"
        " USING (gateway, epoch) ORDER BY streams.gateway, streams.epoch FOR UPDATE OF streams",
        gateways,
        epochs,
    )


async def _outcomes(connection: Connection, deliveries: Sequence[Delivery]) -> list[Outcome]:
    """Say what becomes of each delivery; their streams are locked, so nobody comes in between."""
    found = await connection.fetch(
        "SELECT gateway, epoch, sequence, digest, kind FROM batches"
        " JOIN unnest($1::text[], $2::bigint[], $3::bigint[]) AS s (gateway, epoch, sequence)"
        " USING (gateway, epoch, sequence)",
        [d.batch.gateway for d in deliveries],
        [d.batch.epoch for d in deliveries],
        [d.batch.sequence for d in deliveries],
    )
    known: dict[tuple[str, int, int], tuple[bytes, int]] = {
        (gateway, epoch, sequence): (digest, kind)
        for gateway, epoch, sequence, digest, kind in found
    }
    outcomes = []
    for delivery in deliveries:
        batch = delivery.batch
        identity = (batch.gateway, batch.epoch, batch.sequence)
        if identity not in known:
            known[identity] = delivery.digest, batch.kind
            outcomes.append(Outcome.NEW)
        else:
            outcomes.append(repeated(delivery, *known[identity]))
    return outcomes


async def _insert(connection: Connection, deliveries: Sequence[Delivery]) -> None:
    await connection.executemany(
        "INSERT INTO batches VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        [rows.batch_row(delivery) for delivery in deliveries],
    )
    await connection.executemany(
        "INSERT INTO catalogues AS known (gateway, hash, received_ms, body)"
        " VALUES ($1, $2, $3, $4) ON CONFLICT (gateway, hash) DO UPDATE"
        " SET received_ms = greatest(known.received_ms, excluded.received_ms)",
        sorted(
            (d.batch.gateway, d.batch.schema, d.received_ms, d.batch.payload)
            for d in deliveries
            if d.catalogue is not None and d.content is None
        ),
    )
    for delivery in deliveries:
        await connection.executemany(queries.ADD_KEY, rows.added_key(delivery))
        await connection.executemany(queries.RETIRE_KEY, rows.retired_key(delivery))
    keyframes = map(rows.keyframe_row, deliveries)
    await connection.executemany(
        "INSERT INTO keyframes VALUES ($1, $2, $3, $4)", [row for row in keyframes if row]
    )
    numbers = await _group_ids(connection, rows.groups_of(deliveries))
    windows = sorted(
        (numbers[delivery.batch.gateway, group], *key)
        for delivery in deliveries
        if delivery.content is not None
        for group, *key in rows.good_windows(delivery.content)
    )
    for statement in postgres_queries.MAKE_WAY:
        await connection.executemany(statement, windows)
    for table in rows.TABLES:
        await _insert_rows(
            connection,
            table,
            (
                (numbers[delivery.batch.gateway, group], *values)
                for delivery in deliveries
                if delivery.content is not None
                for group, values in table.rows(delivery.content, delivery.batch)
            ),
        )


async def _insert_rows(
    connection: Connection, table: rows.Table, values: Iterable[tuple[Any, ...]]
) -> None:
    """Insert in the order of the key, so that two receivers cannot block each other."""
    places = ", ".join(f"${place}" for place in range(1, table.width + 1))
    plain = f"INSERT INTO {table.name} VALUES ({places}) ON CONFLICT DO NOTHING"  # noqa: S608 - names of ours
    await connection.executemany(
        postgres_queries.INSERTS.get(table.name, plain),
        sorted(values, key=lambda row: row[: table.key_width]),
    )


async def _group_ids(connection: Connection, groups: Sequence[tuple[str, Group]]) -> _GroupIds:
    """Return the number of each group, new ones included."""
    texts = [points_text(group) for _, group in groups]
    identities = [
        (gateway, group.meter, group.period_ms, hashlib.sha256(text.encode()).digest())
        for (gateway, group), text in zip(groups, texts, strict=True)
    ]
    columns = [list(column) for column in zip(*identities, strict=True)] or [[], [], [], []]
    numbers = await _known_ids(connection, columns)
    missing = sorted(
        (*identity, text)
        for identity, text in zip(identities, texts, strict=True)
        if identity not in numbers
    )
    if missing:
        await connection.executemany(
            "INSERT INTO groups (gateway, meter, period_ms, digest, points)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            missing,
        )
        numbers = await _known_ids(connection, columns)
    return {item: numbers[identity] for item, identity in zip(groups, identities, strict=True)}


async def _known_ids(
    connection: Connection, columns: Sequence[list[Any]]
) -> dict[tuple[Any, ...], int]:
    found = await connection.fetch(postgres_queries.GROUP_IDS, *columns)
    return {tuple(identity): number for number, *identity in found}


async def _progress(connection: Connection, gateway: str, epoch: int) -> Progress:
    through = await connection.fetchval(
        "SELECT through FROM streams WHERE gateway = $1 AND epoch = $2", gateway, epoch
    )
    beyond = await connection.fetch(
        "SELECT sequence FROM batches WHERE gateway = $1 AND epoch = $2 AND sequence > $3"
        " ORDER BY sequence LIMIT 4096",
        gateway,
        epoch,
        through or 0,
    )
    progress = collapse(through or 0, (sequence for (sequence,) in beyond))
    last = await connection.fetchrow(postgres_queries.LAST, gateway, epoch, progress.last)
    return progress if last is None else progress.ending(*last)


def _identity(refused: Refused) -> bytes:
    topic = hashlib.sha256(refused.topic.encode()).digest()
    return hashlib.sha256(topic + refused.data).digest()


def _storable(text: str) -> str:
    # the one character that PostgreSQL's text cannot hold
    return text.replace("\0", "\ufffd")
