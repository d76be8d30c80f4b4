"""A tap on a serial port: every byte between the agent's bus and the line, overheard.

Owns nothing of the line's timing and judges no byte; it works on a pty as on a real adapter.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from edgeagg_agent.bus.serial import SerialBus, SerialPort, open_port
from edgeagg_agent.config import BusConfig


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and every byte that came before the next one."""

    request: bytes
    reply: bytes


class Tap:
    """Overhears a serial port: a bus with `open` as its opener speaks through it.

    Every write begins an exchange. Bytes are passed on by the event loop, microseconds late.
    """

    def __init__(self, opener: Callable[[], SerialPort]) -> None:
        self._opener = opener
        self._heard: list[tuple[bytes, bytearray]] = []

    @property
    def exchanges(self) -> list[Exchange]:
        """Return what was said so far."""
        return [Exchange(request, bytes(reply)) for request, reply in self._heard]

    def open(self) -> SerialPort:
        """Open the port behind the tap."""
        return _TappedPort(self._opener(), self._heard)


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


def tapped_bus(config: BusConfig) -> tuple[SerialBus, Tap]:
    """Make the agent's bus of a serial line, and the tap it speaks through."""
    opener = functools.partial(open_port, config.port, baud=config.baud, form=config.format)
    tap = Tap(opener)
    bus = SerialBus(
        name=config.name,
        port=config.port,
        baud=config.baud,
        format=config.format,
        request_gaps_ms={m.unit: m.profile.limits.request_gap_ms for m in config.meters},
        opener=tap.open,
    )
    return bus, tap
