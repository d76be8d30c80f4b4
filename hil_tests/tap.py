"""A tap on a serial port: every byte between the agent's bus and the line, overheard.

Owns nothing of the line's timing and judges no byte; it works on a pty as on a real adapter.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass

from edgeagg_agent.bus import LineSettings
from edgeagg_agent.bus.line import LineBus
from edgeagg_agent.bus.port import FdPort, LoopClock, SerialPort
from edgeagg_agent.bus.serial import TTY_LATENCY_S, open_port
from edgeagg_agent.site import BusConfig


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and every byte that came before the next one."""

    request: bytes
    reply: bytes


class Tap:
    """Overhears the serial port `name`: a bus with `open` as its opener speaks through it.

    Every write begins an exchange. Bytes are passed on by the event loop, microseconds late.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._heard: list[tuple[bytes, bytearray]] = []

    @property
    def exchanges(self) -> list[Exchange]:
        """Return what was said so far."""
        return [Exchange(request, bytes(reply)) for request, reply in self._heard]

    async def open(self, settings: LineSettings) -> FdPort:
        """Open the port behind the tap."""
        port = open_port(self._name, baud=settings.baud, form=settings.format)
        return _TappedLine(_TappedPort(port, self._heard), FdPort(port))


class _TappedLine(FdPort):
    """Bytes go through the tap; speed and format are those of the port behind it."""

    def __init__(self, tapped: _TappedPort, behind: FdPort) -> None:
        super().__init__(tapped)
        self._behind = behind

    def retune(self, settings: LineSettings) -> None:
        """Change the port behind the tap."""
        self._behind.retune(settings)


class _TappedPort:
    """One end of a socket pair; the other end and the port are pumped into each other."""

    def __init__(self, port: SerialPort, heard: list[tuple[bytes, bytearray]]) -> None:
        self._port = port
        self._heard = heard
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._far, self._send)
        self._loop.add_reader(port.fileno(), self._receive)

    def fileno(self) -> int:
        return self._near.fileno()

    def close(self) -> None:
        self._hang_up()
        self._near.close()
        self._port.close()

    def _send(self) -> None:
        request = self._far.recv(4096)
        self._heard.append((request, bytearray()))
        try:
            os.write(self._port.fileno(), request)
        except OSError:
            self._hang_up()

    def _receive(self) -> None:
        try:
            data = os.read(self._port.fileno(), 4096)
        except BlockingIOError:
            return
        except OSError:  # a pty whose other side is gone
            data = b""
        if not data:
            self._hang_up()  # the bus sees the end of the stream, as at an unplugged adapter
            return
        if self._heard:
            self._heard[-1][1].extend(data)
        # a line that babbles while nobody listens loses its bytes, as in a real port's buffer
        with contextlib.suppress(BlockingIOError):
            self._far.send(data)

    def _hang_up(self) -> None:
        if self._far.fileno() >= 0:
            self._loop.remove_reader(self._far)
            self._loop.remove_reader(self._port.fileno())
            self._far.close()


def tapped_bus(config: BusConfig) -> tuple[LineBus, Tap]:
    """Make the agent's bus of a serial line, and the tap it speaks through."""
    tap = Tap(config.port)
    bus = LineBus(
        name=config.name,
        where=config.port,
        opener=tap.open,
        clock=LoopClock(),
        handover_s=TTY_LATENCY_S,
    )
    return bus, tap
