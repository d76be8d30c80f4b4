"""A server as a child process: started, awaited, killed with everything it started.

Owns processes, ports and log files. Knows nothing of MQTT or SQL, and never looks for processes
by name: it touches only what it started itself. Linux only, as the gateway is.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 90.0  # a killed PostgreSQL syncs every file before it takes connections again
STOP_TIMEOUT_S = 60.0

_POLL_S = 0.01
_LOG_LINES_SHOWN = 15
_FIRST_PORT = 10_000
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class ServiceError(Exception):
    """A server of the bench did not do what the bench needs; the message says what to do."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on.

    It lies below the range the kernel hands to outgoing connections: in that range a client which
    keeps trying to reach a dead server may one day connect to itself, and then holds the port.
    """
    first_ephemeral = int(_PORT_RANGE.read_text().split()[0])
    for _ in range(200):
        port = _FIRST_PORT + secrets.randbelow(first_ephemeral - _FIRST_PORT)
        if port_is_free(port):
            return port
    raise ServiceError(f"no free port between {_FIRST_PORT} and {first_ephemeral} on {LOOPBACK}")


def port_is_free(port: int) -> bool:
    """Tell whether a server could bind `port` on 127.0.0.1 now."""
    with socket.socket() as probe:
        # Servers set it too: without it a port of closed connections looks taken for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def accepts_connections(port: int) -> bool:
    """Tell whether something answers on `port` of 127.0.0.1."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=0.2):
            return True
    except OSError:
        return False


class Child:
    """One server process and everything it started."""

    def __init__(self, command: Sequence[str], *, name: str, log: Path) -> None:
        self._command = tuple(command)
        self._name = name
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise ServiceError(f"{self._name} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server in a session of its own, with its output appended to the log file."""
        if self.running:
            raise ServiceError(f"{self._name} is running already, process {self.pid}")
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_ready(
        self, is_ready: Callable[[], bool], *, timeout_s: float = START_TIMEOUT_S
    ) -> None:
        """Wait until `is_ready`, at most `timeout_s`; on failure kill the server and raise."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            if not self.running:
                code = self._process.returncode if self._process else None
                self.kill()
                raise ServiceError(
                    f"{self._name} ended at once, exit code {code}; {tail(self._log)}"
                )
            if is_ready():
                return
            time.sleep(_POLL_S)
        self.kill()
        raise ServiceError(
            f"{self._name} did not come up within {timeout_s:g} s; {tail(self._log)}"
        )

    def kill(self) -> None:
        """End the server and everything below it by SIGKILL, as a power cut would."""
        if self._process is None:
            return
        doomed: list[int] = []
        if self.running:
            # Stopped first, it cannot start another process while we look for the ones it has.
            self._process.send_signal(signal.SIGSTOP)
            doomed = _descendants(self._process.pid)
        self._process.kill()
        for pid in doomed:
            _send(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        _wait_gone(doomed, name=self._name)

    def stop(
        self, how: signal.Signals = signal.SIGTERM, *, timeout_s: float = STOP_TIMEOUT_S
    ) -> None:
        """End the server by the signal `how`, or kill it after `timeout_s`. May be repeated."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServiceError(
                f"{self._name} did not end within {timeout_s:g} s and was killed; {tail(self._log)}"
            ) from None
        self._process = None


def tail(log: Path) -> str:
    """Return the last lines of a log, for a message."""
    with log.open(errors="replace") as lines:
        return f"last lines of {log}:\n{''.join(deque(lines, _LOG_LINES_SHOWN))}"


def tied_to_parent(command: Sequence[str]) -> list[str]:
    """Return `command` so that the kernel kills it when the thread that started it ends.

    A killed test run then leaves no server behind. It belongs right before the server: becoming
    another user, as `unshare` does, undoes the tie.
    """
    return ["setpriv", "--pdeathsig", "KILL", "--", *command]


def _descendants(pid: int) -> list[int]:
    """Return the processes below `pid`, however deep; groups and sessions do not matter."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat_fields(int(entry.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    to_visit = [pid]
    while to_visit:
        below = children.get(to_visit.pop(), [])
        found += below
        to_visit += below
    return found


def _stat_fields(pid: int) -> list[str]:
    """Return /proc/PID/stat from the state on (proc(5)), or nothing if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    # The name before it stands in parentheses and may hold spaces and parentheses itself.
    return text.rpartition(")")[2].split()


def _wait_gone(pids: Sequence[int], *, name: str) -> None:
    deadline_s = time.monotonic() + STOP_TIMEOUT_S
    # A zombie has let go of its files and memory; who collects it is not our business.
    while alive := [pid for pid in pids if _stat_fields(pid)[:1] not in ([], ["Z"], ["X"])]:
        if time.monotonic() > deadline_s:
            raise ServiceError(f"{name}: processes {alive} survive SIGKILL")
        time.sleep(_POLL_S)


def _send(pid: int, how: signal.Signals) -> None:
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return  # It ended by itself between the look and the signal.
