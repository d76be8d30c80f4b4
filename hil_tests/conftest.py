"""The servers of the bench as fixtures, each on loopback and gone after its test or worker."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

import pytest

from hil_tests.report import pytest_terminal_summary  # noqa: F401 - pytest finds it here
from hil_tests.services import process
from hil_tests.services.broker import Broker, start_broker
from hil_tests.services.database import Postgres, start_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from edgeagg.receiver.store import Store
    from hil_tests.bench import Bench
    from hil_tests.deliveries import Engine


@pytest.fixture
def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on."""
    return process.free_port()


@pytest.fixture
def broker(tmp_path: Path, free_port: int) -> Iterator[Broker]:
    """Run a broker for one test."""
    running = start_broker(tmp_path, free_port)
    yield running
    running.kill()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Run one server per worker; a test that stops it must start it again."""
    running = start_postgres(tmp_path_factory.mktemp("postgres"))
    yield running
    running.kill()  # in good order it would sync thousands of files that nobody needs


@pytest.fixture
def database(postgres: Postgres, request: pytest.FixtureRequest) -> str:
    """Return the address of an empty database of this test's own."""
    # PostgreSQL cuts names at 63 bytes, and two parameters of one test may differ behind that.
    name = re.sub(r"\W+", "_", request.node.name.lower())[:40]
    return postgres.create_database(f"{name}_{secrets.token_hex(4)}")


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """Give each database of the receiver in turn, an empty one."""
    from hil_tests.deliveries import postgres_engine, sqlite_engine  # noqa: PLC0415

    if request.param == "sqlite":
        return sqlite_engine(tmp_path)
    return postgres_engine(request.getfixturevalue("database"))


@pytest.fixture
async def store(engine: Engine) -> AsyncIterator[Store]:
    """Open the database's store."""
    from edgeagg.receiver.store import open_store  # noqa: PLC0415

    opened = await open_store(engine.url)
    yield opened
    await opened.close()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """Give the meters of EDGEAGG_BENCH, or simulated ones; see docs/hardware-bench.md."""
    # most tests need no bench, and do without the import of its simulator and of the agent
    from hil_tests.bench import open_bench  # noqa: PLC0415

    async with open_bench(tmp_path) as opened:
        yield opened
