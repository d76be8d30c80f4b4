"""The bench's own servers do what the other tests rely on: loopback only, real kills, restarts."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import aiomqtt
import asyncpg
import pytest

from hil_tests.services.broker import Broker, BrokerKind, start_broker
from hil_tests.services.database import Postgres, start_postgres
from hil_tests.services.process import Child, ServiceError, port_is_free

CHECKOUT = Path(__file__).parent.parent

_LISTEN = "0A"  # TCP_LISTEN in the column `st` of /proc/net/tcp
_LOOPBACK_HEX = "0100007F"  # 127.0.0.1 as the kernel prints it on a little-endian machine


def listening_addresses(port: int) -> set[str]:
    """Return the local addresses, in the kernel's hex, that listen on `port`."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, _, port_hex = local.partition(":")
            if state == _LISTEN and int(port_hex, 16) == port:
                found.add(address)
    return found


async def roundtrip(port: int, payload: bytes) -> bytes:
    """Publish `payload` with QoS 1 and return what a subscriber of the topic gets."""
    async with asyncio.timeout(5), aiomqtt.Client("127.0.0.1", port) as client:
        await client.subscribe("edgeagg/test", qos=1)
        await client.publish("edgeagg/test", payload, qos=1)
        message = await anext(aiter(client.messages))
    assert isinstance(message.payload, bytes)
    return message.payload


def process_ids(parent: int) -> set[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return {int(pid) for pid in children.split()}


def ends_within(pid: int, *, timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while is_alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    return not is_alive(pid)


def is_alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] != "Z"


def test_broker_listens_on_loopback_only(broker: Broker) -> None:
    assert listening_addresses(broker.port) == {_LOOPBACK_HEX}


async def test_broker_passes_a_message_of_200_kib(broker: Broker) -> None:
    payload = bytes(range(256)) * 800
    assert await roundtrip(broker.port, payload) == payload


async def test_a_killed_broker_is_gone_and_comes_back_on_its_port(broker: Broker) -> None:
    first_pid = broker.pid
    await roundtrip(broker.port, b"before")
    broker.kill()
    assert not broker.running
    assert listening_addresses(broker.port) == set()
    with pytest.raises(aiomqtt.MqttError):
        await roundtrip(broker.port, b"nobody there")
    broker.restart()
    assert broker.pid != first_pid
    assert await roundtrip(broker.port, b"after") == b"after"


async def test_a_running_broker_restarts(broker: Broker) -> None:
    first_pid = broker.pid
    broker.restart()
    assert broker.pid != first_pid
    assert not is_alive(first_pid)
    assert await roundtrip(broker.port, b"after") == b"after"


def test_a_taken_port_is_named(tmp_path: Path, free_port: int) -> None:
    with (
        socket.create_server(("127.0.0.1", free_port)),
        pytest.raises(ServiceError, match=rf"port {free_port} of 127\.0\.0\.1 is taken"),
    ):
        start_broker(tmp_path, free_port, kind=BrokerKind.IOTCORE)


def test_a_server_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    child = Child([sys.executable, "-c", "raise SystemExit('no such option')"], name="it", log=log)
    child.start()
    with pytest.raises(ServiceError, match=rf"exit code 1; last lines of {log}:\nno such option"):
        child.wait_ready(lambda: False)


def test_a_server_that_never_answers_is_killed_after_the_bound(tmp_path: Path) -> None:
    child = Child(["sleep", "60"], name="it", log=tmp_path / "server.log")
    child.start()
    pid = child.pid
    with pytest.raises(ServiceError, match=r"it did not come up within 0\.1 s"):
        child.wait_ready(lambda: False, timeout_s=0.1)
    assert not is_alive(pid)


def test_a_killed_server_takes_along_a_process_in_a_session_of_its_own(tmp_path: Path) -> None:
    child = Child(["sh", "-c", "setsid sleep 60 & wait"], name="it", log=tmp_path / "server.log")
    child.start()
    child.wait_ready(lambda: bool(process_ids(child.pid)))
    (grandchild,) = process_ids(child.pid)
    child.kill()
    assert not is_alive(grandchild)


PARENT_THAT_IS_KILLED = """
import os, signal, sys
from pathlib import Path
from hil_tests.services.process import Child, tied_to_parent

child = Child(tied_to_parent(["sleep", "60"]), name="it", log=Path(sys.argv[1]))
child.start()
child.wait_ready(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "sleep\\n")
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT_THAT_IS_KILLED, str(tmp_path / "server.log")]
    parent = subprocess.run(command, capture_output=True, text=True, check=False, cwd=CHECKOUT)
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    assert ends_within(int(parent.stdout), timeout_s=10)


def test_the_database_listens_on_loopback_only(postgres: Postgres) -> None:
    assert listening_addresses(postgres.port) == {_LOOPBACK_HEX}


async def test_sql_makes_the_round_trip(database: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("SELECT current_setting('fsync')") == "on"
        await connection.execute("CREATE TABLE readings (at_ms bigint PRIMARY KEY, value bigint)")
        await connection.execute("INSERT INTO readings VALUES ($1, $2)", 1_790_000_000_000, -230_1)
        assert await connection.fetchval("SELECT value FROM readings") == -230_1
    finally:
        await connection.close()


@pytest.mark.parametrize("run", ["one", "two"])
async def test_every_test_has_an_empty_database(database: str, run: str) -> None:
    connection = await asyncpg.connect(database)
    try:
        await connection.execute("CREATE TABLE left_behind (run text)")
        await connection.execute("INSERT INTO left_behind VALUES ($1)", run)
    finally:
        await connection.close()


async def test_a_killed_database_keeps_what_was_committed(
    postgres: Postgres, database: str
) -> None:
    committed = await asyncpg.connect(database)
    await committed.execute("CREATE TABLE batches (sequence bigint PRIMARY KEY)")
    await committed.execute("INSERT INTO batches VALUES (1)")
    open_transaction = await asyncpg.connect(database)
    await open_transaction.execute("BEGIN; INSERT INTO batches VALUES (2)")
    backends = process_ids(postgres.pid)
    assert len(backends) > 2, "the two connections have a backend each"
    first_pid = postgres.pid

    postgres.kill()
    assert not [pid for pid in (first_pid, *backends) if is_alive(pid)]
    assert port_is_free(postgres.port)
    with pytest.raises(asyncpg.PostgresConnectionError):
        await committed.fetchval("SELECT 1")
    open_transaction.terminate()

    postgres.restart()
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetch("SELECT sequence FROM batches") == [(1,)]
    finally:
        await connection.close()


async def test_a_stopped_database_ends_in_good_order_despite_a_client(
    postgres: Postgres, database: str
) -> None:
    client = await asyncpg.connect(database)
    postgres.restart()
    client.terminate()
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("SELECT pg_is_in_recovery()") is False
    finally:
        await connection.close()


def test_root_without_user_namespaces_gets_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match=r"refuses to run as root.*Run the tests as an ordinary"):
        start_postgres(tmp_path)
