"""Where a line meets its master: a pseudo-terminal, or a TCP port as serial servers have.

Owns file descriptors and sockets. Bytes pass as they come; wire time is the line's business.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import socket
import termios
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from hil_tests.sim.errors import SimError

LOOPBACK = "127.0.0.1"
_READ_BYTES = 4096
_OUTPUT_SPEED = 5  # place in the attributes of `termios.tcgetattr`
# Baud rates by what this system's termios calls them, B9600 and so on; B0 hangs up.
_BAUDS = {
    getattr(termios, name): int(name[1:])
    for name in dir(termios)
    if re.fullmatch(r"B[1-9][0-9]*", name)
}


_LAG_BYTES = 9  # how many are sent to and fro to learn how long the system takes
_LAG_PAUSE_S = 0.001  # between them: a system that has rested takes longer, and lines mostly rest
_LAG_WAIT_S = 0.05
_LAG_MAX_S = 0.00006  # more is another program's doing, and would make bytes come early later on


class Port(Protocol):
    """One end of a line. Open and closed as often as the adapter is plugged in and pulled.

    Between a write on one side and its notice on the other the system itself needs some time, for
    which no wire would be to blame: `heard_late_s` and `taken_late_s` say how much at least.
    """

    heard_late_s: float
    taken_late_s: float

    def open(self) -> None:
        """Make the port visible to masters."""
        ...

    def close(self) -> None:
        """Take the port away; a master that has it open notices."""
        ...

    def listen(self, heard: Callable[[bytes], None]) -> None:
        """Hand over what masters write, from the running loop, until `close` or `deafen`."""
        ...

    def deafen(self) -> None:
        """Stop handing over."""
        ...

    def write(self, data: bytes) -> int:
        """Give bytes to the master; return how many it has room for."""
        ...

    def baud(self) -> int | None:
        """Return the baud rate that the master's side has set; None = there is no telling."""
        ...


class PtyPort:
    """A pseudo-terminal behind a symbolic link."""

    def __init__(self, name: str, link: Path, *, baud: int) -> None:
        """Take the baud rate of a master that sets none; SimError if a tty knows none such."""
        if baud not in _BAUDS.values():
            allowed = ", ".join(map(str, sorted(_BAUDS.values())))
            raise SimError(f"{name}: baud {baud}: a tty knows {allowed}")
        self.name = name
        self.link = link
        self.heard_late_s = self.taken_late_s = 0.0
        self._baud = baud
        self._master = self._slave = -1

    def open(self) -> None:
        """Open the pty and point the link at it, replacing the link of an earlier run."""
        self._master, self._slave = os.openpty()
        # The line keeps the slave side open itself: without it the pty would hang up (EIO) each
        # time the agent closes its port.
        tty.setraw(self._slave)
        attributes = termios.tcgetattr(self._slave)
        attributes[4:6] = [next(code for code, baud in _BAUDS.items() if baud == self._baud)] * 2
        termios.tcsetattr(self._slave, termios.TCSANOW, attributes)
        if not self.heard_late_s:
            self.heard_late_s = _lag_s(self._slave, self._master)
            self.taken_late_s = _lag_s(self._master, self._slave)
        os.set_blocking(self._master, False)
        try:
            self._place_link()
        except OSError as error:
            self._close_pty()
            raise SimError(f"{self.name}: cannot make link {self.link}: {error}") from error

    def close(self) -> None:
        """Close the pty; remove the link if it is still ours."""
        if self._master < 0:
            return
        if self.link.is_symlink() and str(self.link.readlink()) == os.ttyname(self._slave):
            self.link.unlink()
        self._close_pty()

    def listen(self, heard: Callable[[bytes], None]) -> None:
        """Watch the pty."""
        master = self._master
        asyncio.get_running_loop().add_reader(master, lambda: heard(os.read(master, _READ_BYTES)))

    def deafen(self) -> None:
        """Watch no more."""
        if self._master >= 0:
            asyncio.get_running_loop().remove_reader(self._master)

    def write(self, data: bytes) -> int:
        """Put bytes into the tty's buffer."""
        if self._master < 0:
            return len(data)
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0

    def baud(self) -> int | None:
        """Look at the tty, whose settings are the master's."""
        if self._slave < 0:
            return None
        return _BAUDS.get(termios.tcgetattr(self._slave)[_OUTPUT_SPEED])

    def _place_link(self) -> None:
        self.link.parent.mkdir(parents=True, exist_ok=True)
        if self.link.exists() and not self.link.is_symlink():
            raise FileExistsError("a file that is no link stands there")
        fresh = self.link.with_name(f".{self.link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self._slave))
        fresh.replace(self.link)

    def _close_pty(self) -> None:
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = -1


def _lag_s(source: int, target: int) -> float:
    """Return how long a byte needs to wake whoever waits for it: the fastest quarter of a few.

    Not the mean: a byte must not come before its time because another one was held up.
    """
    sent_s: list[float] = []
    woken_s: list[float] = []

    def send() -> None:
        for _ in range(_LAG_BYTES):
            time.sleep(_LAG_PAUSE_S)
            sent_s.append(time.perf_counter())
            os.write(source, b"\0")

    sender = threading.Thread(target=send)
    sender.start()
    while len(woken_s) < _LAG_BYTES and select.select([target], [], [], _LAG_WAIT_S)[0]:
        woken_s += [time.perf_counter()] * len(os.read(target, _READ_BYTES))
    sender.join()
    lags_s = sorted(woken - sent for sent, woken in zip(sent_s, woken_s, strict=False))
    return min(lags_s[len(lags_s) // 4], _LAG_MAX_S) if lags_s else 0.0


class TcpPort:
    """A raw TCP port on 127.0.0.1: what any client writes is on the line, replies go to all."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.heard_late_s = self.taken_late_s = 0.0
        self._listener: socket.socket | None = None
        self._clients: set[socket.socket] = set()
        self._heard: Callable[[bytes], None] | None = None

    def open(self) -> None:
        """Listen; port 0 takes a free one, which is then in `port`."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setblocking(False)
        try:
            listener.bind((LOOPBACK, self.port))
        except OSError as error:
            listener.close()
            raise SimError(
                f"{self.name}: {LOOPBACK}:{self.port}: cannot listen, is the port in use?"
            ) from error
        listener.listen()
        self.port = listener.getsockname()[1]
        self._listener = listener

    def close(self) -> None:
        """Cut all connections and stop listening."""
        for sock in (*self._clients, *([self._listener] if self._listener else [])):
            sock.close()
        self._clients.clear()
        self._listener = None

    def listen(self, heard: Callable[[bytes], None]) -> None:
        """Accept clients."""
        self._heard = heard
        if self._listener is not None:
            asyncio.get_running_loop().add_reader(self._listener, self._accept, self._listener)

    def deafen(self) -> None:
        """Watch neither the listener nor the clients any more."""
        loop = asyncio.get_running_loop()
        for sock in (*self._clients, *([self._listener] if self._listener else [])):
            loop.remove_reader(sock)

    def write(self, data: bytes) -> int:
        """Send bytes to every client; one that does not take them has itself to blame."""
        taken = len(data)
        for client in tuple(self._clients):
            try:
                taken = min(taken, client.send(data))
            except BlockingIOError:
                taken = 0
            except OSError:
                self._drop(client)
        return taken

    def baud(self) -> int | None:
        """Return None: a serial server has one setting, which its clients do not see."""
        return None

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients.add(client)
        asyncio.get_running_loop().add_reader(client, self._take, client)

    def _take(self, client: socket.socket) -> None:
        try:
            data = client.recv(_READ_BYTES)
        except OSError:
            data = b""
        if not data:
            self._drop(client)
        elif self._heard is not None:
            self._heard(data)

    def _drop(self, client: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(client)
        self._clients.discard(client)
        client.close()
