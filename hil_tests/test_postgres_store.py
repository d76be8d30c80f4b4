"""PostgreSQL dies, comes back, keeps silent; receivers share it. The store goes on, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import asyncpg
import pytest

from edgeagg.errors import StoreError
from edgeagg.receiver import postgres as postgres_module
from edgeagg.receiver.postgres import PostgresStore
from edgeagg.receiver.store import Delivery, Outcome, Progress, Store, open_store
from hil_tests.deliveries import EPOCH, GATEWAY, catalogue_of, data_of, postgres_engine
from hil_tests.services.database import Postgres, start_postgres

NEW, AGAIN = Outcome.NEW, Outcome.AGAIN


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


async def waiting(server: asyncpg.Connection, *, sessions: int) -> None:
    """Return when so many sessions wait for a lock."""
    while await server.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < sessions:
        pass


async def test_two_receivers_with_the_same_rows_in_opposite_order_do_not_block_each_other(
    database: str,
) -> None:
    # a gateway restored from an old image sends old slots again, in a new epoch
    one, other = await PostgresStore.open(database), await PostgresStore.open(database)
    assert await one.commit([catalogue_of(), data_of(2)]) == [NEW, NEW]
    up = [data_of(sequence) for sequence in range(3, 12)]
    down = [data_of(sequence, epoch=EPOCH + 1) for sequence in range(11, 2, -1)]
    gate = await asyncpg.connect(database)
    # both reach the slot in the middle before either can pass it
    middle_ms = data_of(7).batch.cut_at_ms - 10_000
    await gate.execute(
        f"BEGIN; INSERT INTO readings SELECT id, {middle_ms}, 0, '{{}}' FROM groups"
        " WHERE meter = 'incomer'"
    )
    async with asyncio.TaskGroup() as tasks:
        commits = [tasks.create_task(one.commit(up)), tasks.create_task(other.commit(down))]
        await waiting(gate, sessions=2)
        await gate.execute("ROLLBACK")
    for commit in commits:
        assert commit.result() == [NEW] * 9
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
