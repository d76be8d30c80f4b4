"""Both databases of the receiver, real ones, keep the same promises and give the same answers."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from edgeagg import _core, content
from edgeagg.batch import Batch, BatchKind
from edgeagg.errors import StoreError
from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo, Quality
from edgeagg.receiver import postgres as postgres_module
from edgeagg.receiver.postgres import PostgresStore
from edgeagg.receiver.store import (
    Delivery,
    Outcome,
    Progress,
    SlotCount,
    Store,
    StoredRow,
    StreamStatus,
    open_store,
)
from hil_tests.services.database import Postgres, start_postgres

GATEWAY = "qp-0001"
OTHER_GATEWAY = "qp-0002"
EPOCH = 1_790_000_000_000  # a multiple of 10 s: 2026-09-21T14:13:20Z
SLOTS = 20  # of each group in one batch, one a second
NEW, AGAIN, CONFLICT = Outcome.NEW, Outcome.AGAIN, Outcome.CONFLICT

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
TABLES = ("streams", "batches", "catalogues", "groups", "readings", "windows", "gaps", "quarantine")


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


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    if request.param == "sqlite":
        return sqlite_engine(tmp_path)
    return postgres_engine(request.getfixturevalue("database"))


@pytest.fixture
async def store(engine: Engine) -> AsyncIterator[Store]:
    opened = await open_store(engine.url)
    yield opened
    await opened.close()


@pytest.fixture(scope="module")
def doomed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Run a server to be killed. It has few databases: recovery syncs every file of every one."""
    running = start_postgres(tmp_path_factory.mktemp("doomed"))
    running.create_database("platform")
    yield running
    running.stop()


@pytest.fixture
async def doomed_url(doomed: Postgres) -> str:
    """Return the address of the doomed server's database, empty again."""
    url = doomed.dsn_of("platform")
    await postgres_engine(url).rows("DROP SCHEMA public CASCADE; CREATE SCHEMA public;")
    return url


@pytest.fixture
async def doomed_store(doomed_url: str) -> AsyncIterator[PostgresStore]:
    opened = await PostgresStore.open(doomed_url)
    yield opened
    await opened.close()


def deliver(batch: Batch, catalogue: Catalogue = CATALOGUE) -> Delivery:
    """Return the batch as the inbox hands it over."""
    data = batch.to_bytes()
    rows = None
    if batch.kind is BatchKind.DATA:
        rows = content.decode(batch.codec, batch.payload, catalogue)
    received_ms = EPOCH + 1_000 * batch.sequence
    digest = hashlib.sha256(data).digest()
    own = None if batch.kind is BatchKind.LOST else catalogue
    return Delivery(batch, digest, len(data), received_ms, own, rows)


def catalogue_of(gateway: str = GATEWAY, *, epoch: int = EPOCH, sequence: int = 1) -> Delivery:
    body = CATALOGUE.to_bytes()
    kind = BatchKind.CATALOGUE
    return deliver(Batch(gateway, epoch, sequence, kind, CATALOGUE.hash, EPOCH, 0, body))


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
    payload, _ = cut
    kind, cut_at_ms = BatchKind.DATA, first_ms + SLOTS * 1_000
    return deliver(Batch(gateway, epoch, sequence, kind, CATALOGUE.hash, cut_at_ms, 1, payload))


async def answers(store: Store) -> list[object]:
    """Ask the store everything that the receiver and the audit ask it."""
    found: list[object] = [await store.streams(), await store.catalogue(CATALOGUE.hash)]
    for gateway in (GATEWAY, OTHER_GATEWAY, "qp-0003"):
        found += [
            await store.progress(gateway, EPOCH),
            await store.progress(gateway, EPOCH + 1),
            await store.catalogues(gateway),
            await store.slots(gateway),
            await store.window_count(gateway),
        ]
        for meter in ("incomer", "pv", "nobody"):
            for second in (-5, 0, 20, 33, 41, 95, 500):
                found.append(await store.bracket(gateway, meter, EPOCH + 1_000 * second + 2))
    return found


async def test_both_engines_answer_the_same_to_the_same_history(
    tmp_path: Path, database: str
) -> None:
    dice = random.Random(7)
    deliveries = [catalogue_of(), catalogue_of(OTHER_GATEWAY), catalogue_of(epoch=EPOCH + 1)]
    deliveries += [data_of(sequence) for sequence in (2, 3, 5, 6, 9)]
    deliveries += [data_of(2, gateway=OTHER_GATEWAY), data_of(4, epoch=EPOCH + 1)]
    deliveries += [lost(8), lost(3), data_of(5, voltage=1), data_of(2)]
    dice.shuffle(deliveries)
    sqlite = await open_store(sqlite_engine(tmp_path).url)
    postgres = await open_store(database)
    try:
        while deliveries:
            some = [deliveries.pop() for _ in range(min(dice.randint(1, 4), len(deliveries)))]
            assert await sqlite.commit(some) == await postgres.commit(some)
            assert await answers(sqlite) == await answers(postgres)
    finally:
        await sqlite.close()
        await postgres.close()


async def test_an_empty_store_answers_that_it_has_nothing(store: Store) -> None:
    assert await store.streams() == []
    assert await store.catalogue(CATALOGUE.hash) is None
    assert await store.progress(GATEWAY, EPOCH) == Progress(0, ())
    assert await store.catalogues(GATEWAY) == []
    assert await store.slots(GATEWAY) == []
    assert await store.window_count(GATEWAY) == 0
    assert await store.bracket(GATEWAY, "incomer", EPOCH) == (None, None)
    assert await store.commit([]) == []


async def test_a_committed_batch_is_counted_slot_by_slot(store: Store) -> None:
    data = data_of(2)
    assert await store.commit([catalogue_of(), data]) == [NEW, NEW]
    first_ms, last_ms = EPOCH + 40_000, EPOCH + 59_000
    assert await store.slots(GATEWAY) == [
        SlotCount(GATEWAY, "incomer", 1_000, 2, first_ms, last_ms, 20, 38, 2, 0),
        SlotCount(GATEWAY, "pv", 1_000, 1, first_ms, last_ms, 19, 19, 0, 1),
    ]
    assert await store.window_count(GATEWAY) == 4
    (status,) = await store.streams()
    total_bytes = data.bytes_count + catalogue_of().bytes_count
    assert status == StreamStatus(GATEWAY, EPOCH, 2, 2, 0, 2, total_bytes)


async def test_a_batch_twice_changes_nothing(engine: Engine, store: Store) -> None:
    await store.commit([catalogue_of(), data_of(2)])
    before = await engine.dump()
    assert await store.commit([data_of(2), catalogue_of()]) == [AGAIN, AGAIN]
    assert await engine.dump() == before


async def test_a_batch_twice_in_one_commit_counts_once(store: Store) -> None:
    forked = data_of(2, voltage=1)
    deliveries = [catalogue_of(), data_of(2), data_of(2), forked]
    assert await store.commit(deliveries) == [NEW, NEW, AGAIN, CONFLICT]
    assert [count.rows for count in await store.slots(GATEWAY)] == [20, 19]


async def test_other_bytes_of_the_same_identity_conflict_and_the_first_stay(
    engine: Engine, store: Store
) -> None:
    await store.commit([catalogue_of(), data_of(2)])
    before = await engine.dump()
    assert await store.commit([data_of(2, voltage=1), data_of(3)]) == [CONFLICT, NEW]
    after = await engine.dump()
    assert before["readings"] < after["readings"]
    assert before["batches"] < after["batches"]


async def test_a_gap_is_asked_for_until_it_is_closed(store: Store) -> None:
    await store.commit([catalogue_of(), data_of(4), data_of(5), data_of(8)])
    progress = await store.progress(GATEWAY, EPOCH)
    assert progress == Progress(1, ((4, 5), (8, 8)))
    assert progress.want == ((2, 3), (6, 7))
    await store.commit([data_of(3), lost(2)])
    assert await store.progress(GATEWAY, EPOCH) == Progress(5, ((8, 8),))
    await store.commit([data_of(7), data_of(6)])
    assert await store.progress(GATEWAY, EPOCH) == Progress(8, ())


async def test_a_loss_never_displaces_a_batch(engine: Engine, store: Store) -> None:
    await store.commit([catalogue_of(), data_of(2)])
    before = await engine.dump()
    assert await store.commit([lost(2)]) == [AGAIN]
    assert await engine.dump() == before


async def test_a_commit_that_fails_midway_leaves_nothing(engine: Engine, store: Store) -> None:
    await store.commit([catalogue_of()])
    before = await engine.dump()
    await engine.rows(engine.sabotage)
    with pytest.raises(StoreError, match="full"):
        await store.commit([data_of(2), catalogue_of(OTHER_GATEWAY), data_of(3)])
    assert await engine.dump() == before
    assert await store.progress(GATEWAY, EPOCH) == Progress(1, ())
    await engine.rows(engine.repair)
    assert await store.commit([data_of(2), data_of(3)]) == [NEW, NEW]
    assert await store.progress(GATEWAY, EPOCH) == Progress(3, ())


async def test_a_row_that_the_database_refuses_takes_the_whole_commit_along(
    engine: Engine, store: Store
) -> None:
    before = await engine.dump()
    nameless: Any = None
    with pytest.raises(StoreError):
        await store.commit([catalogue_of(), dataclasses.replace(data_of(2), digest=nameless)])
    assert await engine.dump() == before


async def test_the_views_show_values_in_their_units(engine: Engine, store: Store) -> None:
    await store.commit([catalogue_of(), data_of(2)])
    readings = await engine.rows(
        "SELECT gateway, meter, point, value, unit, quality, due_ms FROM reading"
        f" WHERE due_ms IN ({EPOCH + 41_000}, {EPOCH + 53_000}) ORDER BY due_ms, meter, point"
    )
    early_ms, late_ms = EPOCH + 41_000, EPOCH + 53_000
    assert readings == [
        (GATEWAY, "incomer", "active_energy_import", 41.0, "kWh", 0, early_ms),
        (GATEWAY, "incomer", "voltage_l1", 230.1, "V", 0, early_ms),
        (GATEWAY, "pv", "active_energy_import", -41.0, "kWh", 0, early_ms),
        (GATEWAY, "incomer", "active_energy_import", None, "kWh", 1, late_ms),
        (GATEWAY, "incomer", "voltage_l1", None, "V", 1, late_ms),
    ]
    energies = await engine.rows(
        "SELECT gateway, meter, point, window_s, energy, unit, value_count, slot_count"
        " FROM energy ORDER BY meter, start"
    )
    assert energies == [
        (GATEWAY, "incomer", "active_energy_import", 10, 10.0, "kWh", 10, 10),
        (GATEWAY, "incomer", "active_energy_import", 10, None, "kWh", 9, 10),
        (GATEWAY, "pv", "active_energy_import", 10, None, "kWh", 10, 10),
        (GATEWAY, "pv", "active_energy_import", 10, None, "kWh", 9, 9),
    ]
    times = [str(at) for (at,) in await engine.rows("SELECT DISTINCT at FROM reading ORDER BY at")]
    assert times[1].replace("T", " ").startswith("2026-09-21 14:14:00.005")
    starts = await engine.rows("SELECT DISTINCT start FROM energy ORDER BY start")
    assert str(starts[1][0]).replace("T", " ").startswith("2026-09-21 14:14:10")


async def test_values_of_every_size_and_exponent_are_shown(engine: Engine, store: Store) -> None:
    points = tuple(PointInfo(f"p{e}", "1", e, Kind.GAUGE) for e in (-18, -9, 0, 3))
    group = Group("incomer", 1_000, points)
    mantissas = (2**63 - 1, -(2**63), 2**53 + 1, -7)
    row = content.ReadingRow(group, EPOCH, EPOCH, mantissas, (0, 0, 0, 0))
    delivery = dataclasses.replace(data_of(2), content=content.Content((row,), (), ()))
    await store.commit([delivery])
    assert await store.bracket(GATEWAY, "incomer", EPOCH) == (
        StoredRow(EPOCH, points, mantissas),
        StoredRow(EPOCH, points, mantissas),
    )
    values = await engine.rows("SELECT value FROM reading ORDER BY point")
    expected = [-(2**63) / 10**9, (2**63 - 1) / 10**18, float(2**53 + 1), -7_000.0]
    assert sorted(value for (value,) in values) == sorted(expected)


async def test_a_catalogue_belongs_to_every_gateway_that_sent_it(store: Store) -> None:
    await store.commit([catalogue_of(), catalogue_of(OTHER_GATEWAY)])
    assert await store.catalogues(GATEWAY) == [CATALOGUE]
    assert await store.catalogues(OTHER_GATEWAY) == [CATALOGUE]
    assert await store.catalogue(CATALOGUE.hash) == CATALOGUE


async def test_a_group_of_512_points_with_long_names_finds_its_rows(store: Store) -> None:
    # more than any index entry of PostgreSQL can hold
    points = tuple(PointInfo(f"{n}-" + "表" * 80, "kWh", -2, Kind.GAUGE) for n in range(512))
    group = Group("incomer", 1_000, points)
    rows = tuple(
        content.ReadingRow(group, due_ms, due_ms, (5,) * 512, (0,) * 512)
        for due_ms in (EPOCH, EPOCH + 1_000)
    )
    for sequence, row in zip((2, 3), rows, strict=True):
        delivery = dataclasses.replace(data_of(sequence), content=content.Content((row,), (), ()))
        await store.commit([delivery])
    (count,) = await store.slots(GATEWAY)
    assert (count.points, count.rows, count.values) == (512, 2, 1_024)
    before, _ = await store.bracket(GATEWAY, "incomer", EPOCH)
    assert before == StoredRow(EPOCH, points, (5,) * 512)


async def test_a_meter_whose_points_change_gets_a_new_group(store: Store) -> None:
    older = content.ReadingRow(INCOMER, EPOCH, EPOCH, (1, 2), (0, 0))
    changed = dataclasses.replace(INCOMER, points=(ENERGY,))
    newer = content.ReadingRow(changed, EPOCH, EPOCH + 5, (3,), (0,))
    rows = content.Content((older, newer), (), ())
    await store.commit([dataclasses.replace(data_of(2), content=rows)])
    assert [count.points for count in await store.slots(GATEWAY)] == [2, 1]
    assert await store.bracket(GATEWAY, "incomer", EPOCH + 1) == (
        StoredRow(EPOCH, (VOLTAGE, ENERGY), (1, 2)),
        StoredRow(EPOCH + 5, (ENERGY,), (3,)),
    )


async def test_a_refused_message_is_kept_once_whatever_is_in_it(
    engine: Engine, store: Store
) -> None:
    largest = random.Random(1).randbytes(256 * 1024)
    for _ in range(2):
        await store.quarantine(EPOCH, "edgeagg/v1/a/batch", "damaged", largest)
        await store.quarantine(EPOCH, "edgeagg/v1/a\0/b", "on \0", b"\0")
        await store.quarantine(EPOCH, "edgeagg/v1/b/batch", "damaged", largest)
    found = await engine.rows("SELECT data FROM quarantine")
    assert sorted(found) == sorted([(b"\0",), (largest,), (largest,)])


async def test_receivers_that_open_at_once_do_not_fail(engine: Engine) -> None:
    stores = await asyncio.gather(*(open_store(engine.url) for _ in range(4)))
    for one in stores:
        assert await one.streams() == []
        await one.close()


async def test_receivers_that_commit_the_same_at_once_store_it_once(engine: Engine) -> None:
    stores = [await open_store(engine.url) for _ in range(3)]
    deliveries = [catalogue_of(), catalogue_of(OTHER_GATEWAY)]
    # the rows of the two epochs are the same, so their keys meet as well
    deliveries += [data_of(sequence, epoch=EPOCH + sequence % 2) for sequence in range(2, 10)]
    deliveries += [data_of(s, epoch=EPOCH + 1 - s % 2, voltage=7) for s in range(2, 10)]
    deliveries += [data_of(sequence, gateway=OTHER_GATEWAY) for sequence in range(2, 6)]

    async def one(store: Store, seed: int) -> list[Delivery]:
        mine = random.Random(seed).sample(deliveries, len(deliveries))
        new = []
        for at in range(0, len(mine), 6):
            outcomes = await store.commit(mine[at : at + 6])
            pairs = zip(mine[at : at + 6], outcomes, strict=True)
            assert {outcome for _, outcome in pairs} <= {NEW, AGAIN}
            pairs = zip(mine[at : at + 6], outcomes, strict=True)
            new += [delivery for delivery, outcome in pairs if outcome is NEW]
        return new

    found = await asyncio.gather(*(one(each, seed) for seed, each in enumerate(stores)))
    assert sorted(d.digest for new in found for d in new) == sorted(d.digest for d in deliveries)
    assert sum(count.rows for count in await stores[0].slots(GATEWAY)) == 8 * 39
    for each in stores:
        await each.close()


async def waiting(server: asyncpg.Connection, *, sessions: int) -> None:
    """Return when so many sessions wait for a lock."""
    while await server.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < sessions:
        pass


async def test_two_receivers_with_the_same_rows_in_opposite_order_do_not_block_each_other(
    database: str,
) -> None:
    # a gateway restored from an old image sends old slots again, in a new epoch
    one, other = await PostgresStore.open(database), await PostgresStore.open(database)
    await one.commit([catalogue_of(), data_of(1)])
    up = [data_of(sequence) for sequence in range(2, 80)]
    down = [data_of(sequence, epoch=EPOCH + 1) for sequence in range(79, 1, -1)]
    gate = await asyncpg.connect(database)
    # both reach the slot in the middle before either can pass it
    middle_ms = data_of(40).batch.cut_at_ms - 10_000
    await gate.execute(
        f"BEGIN; INSERT INTO readings SELECT id, {middle_ms}, 0, '{{}}' FROM groups"
        " WHERE meter = 'incomer'"
    )
    async with asyncio.TaskGroup() as tasks:
        commits = [tasks.create_task(one.commit(up)), tasks.create_task(other.commit(down))]
        await waiting(gate, sessions=2)
        await gate.execute("ROLLBACK")
    for commit in commits:
        assert commit.result() == [NEW] * 78
    await gate.close()
    await one.close()
    await other.close()


async def until_it_works(store: Store, deliveries: Sequence[Delivery]) -> tuple[int, list[Outcome]]:
    """Commit as the receiver does: again while the store refuses; return the refusals, too."""
    for refusals in range(10):
        try:
            return refusals, list(await store.commit(deliveries))
        except StoreError:
            continue
    raise AssertionError("the store never came back")


async def test_a_killed_server_keeps_what_was_committed_and_the_store_finds_it_again(
    doomed: Postgres, doomed_url: str, doomed_store: PostgresStore
) -> None:
    # several connections are open and idle when the server dies
    await asyncio.gather(*(doomed_store.streams() for _ in range(4)))
    await doomed_store.commit([catalogue_of(), data_of(2)])
    before = await postgres_engine(doomed_url).dump()
    doomed.kill()
    try:
        for _ in range(3):
            with pytest.raises(StoreError, match="PostgreSQL: "):
                await doomed_store.commit([data_of(3)])
        with pytest.raises(StoreError, match="PostgreSQL: "):
            await doomed_store.progress(GATEWAY, EPOCH)
    finally:
        doomed.restart()
    assert await postgres_engine(doomed_url).dump() == before
    refusals, outcomes = await until_it_works(doomed_store, [data_of(2), data_of(3)])
    assert refusals == 0
    assert outcomes == [AGAIN, NEW]
    assert await doomed_store.progress(GATEWAY, EPOCH) == Progress(3, ())


async def test_a_server_restarted_unseen_costs_one_refusal_at_most(
    doomed: Postgres, doomed_store: PostgresStore
) -> None:
    await doomed_store.commit([catalogue_of(), data_of(2)])
    await asyncio.gather(*(doomed_store.streams() for _ in range(4)))
    doomed.kill()
    doomed.restart()
    refusals, outcomes = await until_it_works(doomed_store, [data_of(3)])
    assert refusals <= 1
    assert outcomes == [NEW]


async def test_a_server_killed_within_a_commit_keeps_nothing_of_it(
    doomed: Postgres, doomed_url: str, doomed_store: PostgresStore
) -> None:
    await doomed_store.commit([catalogue_of()])
    before = await postgres_engine(doomed_url).dump()
    deliveries = [data_of(sequence) for sequence in range(2, 10)]
    in_the_way = await asyncpg.connect(doomed_url)
    await in_the_way.execute("BEGIN; LOCK TABLE gaps")
    under_way = asyncio.create_task(doomed_store.commit(deliveries))
    await waiting(in_the_way, sessions=1)
    doomed.kill()
    try:
        with pytest.raises(StoreError):
            await under_way
    finally:
        in_the_way.terminate()
        doomed.restart()
    assert await postgres_engine(doomed_url).dump() == before
    _, outcomes = await until_it_works(doomed_store, deliveries)
    assert outcomes == [NEW] * len(deliveries)


class Cable:
    """A way to the server that can be cut: what goes over the connections of then is swallowed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._cut = asyncio.Event()

    def cut(self) -> None:
        """Cut it for the connections there are; new ones find a new cable."""
        self._cut.set()
        self._cut = asyncio.Event()

    async def carry(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
        cut = self._cut
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass_on(client, to_server, cut))
                tasks.create_task(self._pass_on(server, to_client, cut))
        finally:
            to_server.close()
            to_client.close()

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, cut: asyncio.Event
    ) -> None:
        while data := await source.read(65_536):
            if not cut.is_set():
                sink.write(data)
        sink.close()


async def test_a_server_that_went_without_a_word_costs_one_time_out_not_one_for_each_connection(
    doomed: Postgres, doomed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "_COMMAND_TIMEOUT_S", 0.3)
    cable = Cable(doomed.port)
    async with await asyncio.start_server(cable.carry, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        store = await PostgresStore.open(doomed_url.replace(f":{doomed.port}/", f":{port}/"))
        await asyncio.gather(*(store.streams() for _ in range(4)))
        cable.cut()
        refusals, outcomes = await until_it_works(store, [catalogue_of()])
        assert (refusals, outcomes) == (1, [NEW])
        await store.close()


async def test_a_commit_is_synchronous_in_a_database_that_is_set_not_to_be(
    database: str,
) -> None:
    name = database.rpartition("/")[2]
    engine = postgres_engine(database)
    await engine.rows(f"ALTER DATABASE {name} SET synchronous_commit = off;")
    store = await PostgresStore.open(database)
    await engine.rows(
        "CREATE TABLE seen (setting text);"
        "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NEW; END $$;"
        "CREATE TRIGGER look BEFORE INSERT ON batches FOR EACH ROW EXECUTE FUNCTION look();"
    )
    await store.commit([catalogue_of()])
    await store.close()
    assert await engine.rows("SELECT setting FROM seen") == [("on",)]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda url: url.replace("/a_store", "/no_such_database_a_store"),
        lambda url: url.replace("postgres@", "nobody:secret@"),
        lambda url: "postgresql://nobody:secret@127.0.0.1:1/nowhere",
        lambda url: "postgresql://nobody:secret@127.0.0.1:port/nowhere",
    ],
    ids=["database", "user", "port", "address"],
)
async def test_a_store_that_cannot_be_opened_says_why_without_the_password(
    database: str, spoil: Callable[[str], str]
) -> None:
    url = spoil(database.replace("/test_a_store", "/a_store"))
    with pytest.raises(StoreError, match="PostgreSQL: ") as caught:
        await open_store(url)
    assert "secret" not in str(caught.value)


async def test_a_store_closes_though_its_server_is_gone(doomed: Postgres, doomed_url: str) -> None:
    store = await PostgresStore.open(doomed_url)
    doomed.kill()
    try:
        await store.close()
    finally:
        doomed.restart()
    with pytest.raises(StoreError):
        await store.streams()
