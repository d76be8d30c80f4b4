"""Where a line meets its master: a pseudo-terminal, or a TCP port as serial servers have.

Owns file descriptors and sockets. Bytes pass as they come; wire time is the line's business.
"""

from __future__ import annotations

import asyncio
import os
import socket
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from hil_tests.sim.errors import SimError

LOOPBACK = "127.0.0.1"
_READ_BYTES = 4096


class Port(Protocol):
    """One end of a line. Open and closed as often as the adapter is plugged in and pulled."""

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


class PtyPort:
    """A pseudo-terminal behind a symbolic link."""

    def __init__(self, name: str, link: Path) -> None:
        self.name = name
        self.link = link
        self._master = self._slave = -1

    def open(self) -> None:
        """Open the pty and point the link at it, replacing the link of an earlier run."""
        self._master, self._slave = os.openpty()
        # The line keeps the slave side open itself: without it the pty would hang up (EIO) each
        # time the agent closes its port.
        tty.setraw(self._slave)
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


class TcpPort:
    """A raw TCP port on 127.0.0.1: what any client writes is on the line, replies go to all."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
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
