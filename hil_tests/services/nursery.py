"""Agents and receivers that start in milliseconds: forked off a process that has imported them.

The nursery imports both commands once and then does nothing but fork. A child runs the very `main`
that `python -m` runs, with the same arguments, in a session of its own, its output appended to its
log; nothing of it was computed before the fork but the modules. The nursery has one thread, or it
refuses to fork. Only `Child`s do: started, killed by a real SIGKILL, ended by a signal.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hil_tests.services.process import (
    STOP_TIMEOUT_S,
    ServiceError,
    tail,
    tied_to_parent,
)

_PROGRAMS = {"edgeagg_agent": "edgeagg_agent.cli", "edgeagg": "edgeagg.cli"}
_BEFOREHAND = ("edgeagg.receiver.mqtt", "edgeagg.receiver.sqlite")
"""What the receiver imports when it runs: it would do so again in each life."""
_MESSAGE_BYTES_MAX = 1 << 16
_PR_SET_PDEATHSIG = 1


class Nursery:
    """The process that forks, asked over a socket; several threads may ask."""

    def __init__(self, log: Path, environment: Sequence[str] = ()) -> None:
        """Start it with `environment` (NAME=VALUE) and wait until it has imported everything."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "hil_tests.services.nursery", str(theirs.fileno())]
        with theirs, log.open("ab") as output:
            self._process = subprocess.Popen(
                tied_to_parent(["env", *environment, *command]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._socket, self._log, self._asking = ours, log, threading.Lock()
        self._ask({})

    def start(self, program: str, arguments: Sequence[str], log: Path) -> int:
        """Run a program of the project; return its process id."""
        asked = {"program": program, "arguments": list(arguments), "log": str(log)}
        return int(self._ask(asked)["pid"])

    def collect(self, pid: int) -> int:
        """Wait for the end of a child and return its exit status, negative for a signal."""
        return int(self._ask({"collect": pid})["status"])

    def close(self) -> None:
        """End it, and by that whatever it started and still runs."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        with self._asking:
            self._socket.send(json.dumps(asked).encode())
            said = self._socket.recv(_MESSAGE_BYTES_MAX)
        if not said:
            raise ServiceError(f"the nursery has ended; {tail(self._log)}")
        answer: dict[str, Any] = json.loads(said)
        return answer


class Forked:
    """One agent or receiver of a nursery, to be treated like a `Child`."""

    def __init__(
        self, nursery: Nursery, program: str, arguments: Sequence[str], *, name: str, log: Path
    ) -> None:
        self._nursery, self._program, self._arguments = nursery, program, tuple(arguments)
        self._name, self._log = name, log
        self._pid: int | None = None
        self._descriptor = -1

    @property
    def pid(self) -> int:
        """Process id of the running process."""
        if self._pid is None:
            raise ServiceError(f"{self._name} is not running")
        return self._pid

    @property
    def running(self) -> bool:
        return self._pid is not None and not self._has_ended(0)

    def start(self) -> None:
        """Start it; it may not have done anything yet when this returns."""
        if self.running:
            raise ServiceError(f"{self._name} is running already, process {self._pid}")
        if self._pid is not None:
            self._forget()
        self._pid = self._nursery.start(self._program, self._arguments, self._log)
        # until it is collected its number is nobody else's
        self._descriptor = os.pidfd_open(self._pid)

    def kill(self) -> None:
        """End it by SIGKILL."""
        if self._pid is not None:
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)
            self._forget()

    def stop(
        self, how: signal.Signals = signal.SIGTERM, *, timeout_s: float = STOP_TIMEOUT_S
    ) -> None:
        """End it by the signal `how`, or kill it after `timeout_s`. May be repeated."""
        if self._pid is None:
            return
        signal.pidfd_send_signal(self._descriptor, how)
        if not self._has_ended(timeout_s):
            self.kill()
            text = f"{self._name} did not end within {timeout_s:g} s and was killed"
            raise ServiceError(f"{text}; {tail(self._log)}")
        self._forget()

    def _has_ended(self, timeout_s: float) -> bool:
        # a poll object, for select() knows no descriptors above 1023
        look = select.poll()
        look.register(self._descriptor, select.POLLIN)
        return bool(look.poll(1000 * timeout_s))

    def _forget(self) -> None:
        if self._pid is not None:
            self._nursery.collect(self._pid)
            os.close(self._descriptor)
        self._pid = None


def main(arguments: Sequence[str]) -> int:
    """Serve the socket with this descriptor; in a child return what its program returns."""
    programs = {name: importlib.import_module(module) for name, module in _PROGRAMS.items()}
    for module in _BEFOREHAND:
        importlib.import_module(module)
    # what was imported is garbage for nobody, and looking at it would copy its pages in each child
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(arguments[0])) as asked_by:
        asked = _serve(asked_by)
    if asked is None:
        return 0
    sys.argv = [asked["program"], *asked["arguments"]]
    run: Callable[[Sequence[str]], int] = programs[asked["program"]].main
    return run(asked["arguments"])


def _serve(asked_by: socket.socket) -> dict[str, Any] | None:
    """Fork and collect until nobody asks any more; in a child return what it is to run."""
    while message := asked_by.recv(_MESSAGE_BYTES_MAX):
        asked: dict[str, Any] = json.loads(message)
        answer = {}
        if "collect" in asked:
            status = os.waitpid(asked["collect"], 0)[1]
            answer["status"] = os.waitstatus_to_exitcode(status)
        elif "program" in asked:
            if len(list(Path("/proc/self/task").iterdir())) != 1:
                raise RuntimeError("a process with threads must not fork children that live on")
            answer["pid"] = os.fork()
            if answer["pid"] == 0:
                _settle(Path(asked["log"]))
                return asked
        asked_by.send(json.dumps(answer).encode())
    return None


def _settle(log: Path) -> None:
    """Give a child what `Child` gives: a session, a log, and an end when the bench ends."""
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
