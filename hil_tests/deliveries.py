"""Deliveries as the inbox hands them to a store, and the databases as their owner sees them."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Any

import asyncpg

from edgeagg import _core, content, statement
from edgeagg.batch import Batch, BatchKind
from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo, Quality
from edgeagg.receiver.store import Delivery

GATEWAY = "qp-0001"
OTHER_GATEWAY = "qp-0002"
EPOCH = 1_790_000_000_000  # a multiple of 10 s: 2026-09-21T14:13:20Z
SLOTS = 20  # of each group in one batch, one a second

VOLTAGE = PointInfo("voltage_l1", "V", -1, Kind.GAUGE)
ENERGY = PointInfo("active_energy_import", "kWh", -2, Kind.TOTALISER)
INCOMER = Group("incomer", 1_000, (VOLTAGE, ENERGY))
PV = Group("pv", 1_000, (ENERGY,))
CATALOGUE = Catalogue(
    "青浦",
    (
        MeterInfo("incomer", "acrel-adl400", 1, "", ""),
        MeterInfo("pv", "sunspec-meter-213", 2, "incomer", ""),
    ),
    (INCOMER, PV),
    (10_000,),
)
JUDGED_TABLES = ("audits", "uncertainties", "statistics", "demands")
LEDGER_TABLES = ("statements", "reconciled", "alarms")
TABLES = (
    *("streams", "batches", "catalogues", "groups", "readings", "windows", "gaps", "quarantine"),
    "lost_slots",
    *JUDGED_TABLES,
    *LEDGER_TABLES,
)


class Engine:
    """A database as its owner sees it, beside the store under test."""

    def __init__(self, url: str, sabotage: str, repair: str) -> None:
        self.url = url
        self.sabotage = sabotage
        self.repair = repair

    async def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Run SQL over a connection of its own."""
        if self.url.startswith("sqlite"):
            with sqlite3.connect(self.url.removeprefix("sqlite:///")) as connection:
                found = connection.executescript if ";" in statement else connection.execute
                result = [tuple(row) for row in found(statement)]
            connection.close()
            return result
        server = await asyncpg.connect(self.url)
        try:
            if ";" in statement:
                await server.execute(statement)
                return []
            return [tuple(row) for row in await server.fetch(statement)]
        finally:
            await server.close()

    async def dump(self) -> dict[str, set[str]]:
        """Return all rows of all tables, in words."""
        return {table: set(map(str, await self.rows(f"SELECT * FROM {table}"))) for table in TABLES}


def sqlite_engine(directory: Path) -> Engine:
    return Engine(
        f"sqlite:///{directory}/edgeagg.db",
        "CREATE TRIGGER full BEFORE INSERT ON gaps BEGIN SELECT RAISE(ABORT, 'full'); END;",
        "DROP TRIGGER full;",
    )


def postgres_engine(url: str) -> Engine:
    return Engine(
        url,
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'full'; END $$;"
        "CREATE TRIGGER full_disk BEFORE INSERT ON gaps EXECUTE FUNCTION full_disk();",
        "DROP FUNCTION full_disk CASCADE;",
    )


def deliver(batch: Batch, catalogue: Catalogue = CATALOGUE) -> Delivery:
    """Return the batch as the inbox hands it over."""
    data = batch.to_bytes()
    rows = None
    if batch.kind is BatchKind.DATA:
        rows = content.decode(batch.codec, batch.payload, catalogue)
    elif batch.kind is BatchKind.STATEMENT:
        rows = content.decode_statement(batch.payload, catalogue)
    received_ms = EPOCH + 1_000 * batch.sequence
    digest = hashlib.sha256(data).digest()
    own = None if batch.kind is BatchKind.LOST else catalogue
    return Delivery(batch, data, digest, received_ms, own, rows)


def catalogue_of(gateway: str = GATEWAY, *, epoch: int = EPOCH, sequence: int = 1) -> Delivery:
    body = CATALOGUE.to_bytes()
    kind = BatchKind.CATALOGUE
    return deliver(Batch(gateway, epoch, sequence, kind, CATALOGUE.hash, EPOCH, 0, body))


def statement_of(
    sequence: int, *deliveries: Delivery, epoch: int = EPOCH, cut_at_ms: int = EPOCH
) -> Delivery:
    """Return the statement of what these deliveries hold."""
    days = statement.DayBook([(len(g.points), g.totalisers) for g in CATALOGUE.groups])
    for delivery in deliveries:
        days.fold(_core.decode(delivery.batch.codec, delivery.batch.payload))
    payload = statement.encode(days.take(None))
    kind = BatchKind.STATEMENT
    return deliver(Batch(GATEWAY, epoch, sequence, kind, CATALOGUE.hash, cut_at_ms, 0, payload))


def lost(sequence: int) -> Delivery:
    return deliver(Batch(GATEWAY, EPOCH, sequence, BatchKind.LOST, bytes(16), EPOCH, 0, b""))


def data_of(
    sequence: int, *, gateway: str = GATEWAY, epoch: int = EPOCH, voltage: int = 2_301
) -> Delivery:
    """Return slots of its own for each sequence: 18 good rows, one failed, one missed."""
    core = _core.Aggregator([(1_000, [False, True]), (1_000, [True])], [10_000])
    first_ms = EPOCH + SLOTS * 1_000 * sequence
    for slot in range(SLOTS):
        due_ms = first_ms + 1_000 * slot
        if slot == 13:
            core.push_row(0, due_ms, due_ms, [None, None], [Quality.NO_REPLY] * 2)
            core.push_gap(1, due_ms, due_ms, 1, Quality.OVERRUN)
            continue
        total = 100 * SLOTS * sequence + 100 * slot
        core.push_row(0, due_ms, due_ms, [voltage, total], [0, 0])
        core.push_row(1, due_ms, due_ms + 5, [-total], [0])
    cut = core.cut(first_ms + 10**9)
    assert cut is not None
    codec, payload = cut.encode()
    kind, cut_at_ms = BatchKind.DATA, first_ms + SLOTS * 1_000
    return deliver(Batch(gateway, epoch, sequence, kind, CATALOGUE.hash, cut_at_ms, codec, payload))
