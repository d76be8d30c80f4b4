"""A serial port as a line: opening it, naming what can be done when it does not open.

Owns the operating system's side of a port. What happens on the line is the engine's business
(`edgeagg_agent.bus.line`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import serial

from edgeagg.errors import LinkError
from edgeagg_agent.bus import LineSettings
from edgeagg_agent.bus.line import LineBus
from edgeagg_agent.bus.port import FdPort, LineClock, LoopClock, SerialPort

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeagg_agent.bus.port import LinePort

__all__ = ["SerialBus", "SerialPort", "check_port", "existing_ports", "open_port"]

TTY_LATENCY_S = 0.016  # adapters with FTDI's chip that take no low-latency mode
PORT_PATTERNS = (
    "rs485/*",
    "serial/by-path/*",
    "ttyUSB*",
    "ttyACM*",
    "ttyAMA*",
    "ttySC*",
    "ttyS[0-9]",
)


def open_port(port: str, *, baud: int, form: str) -> SerialPort:
    """Open `port` raw, exclusive and non-blocking; raise LinkError saying what can be done."""
    # A pty refuses parity with EINVAL. The bits on a pty are imaginary, so 8N1 loses nothing there;
    # the timing keeps the bits per character that the site file asks for.
    if os.path.realpath(port).startswith("/dev/pts/"):
        form = "8N1"
    try:
        line = serial.Serial(
            port,
            baudrate=baud,
            bytesize=int(form[0]),
            parity=form[1],
            stopbits=int(form[2]),
            timeout=0,
            exclusive=True,
        )
    except OSError as error:
        raise LinkError(_why_not_open(port, error.errno, str(error))) from error
    except termios.error as error:
        raise LinkError(f"{port} does not take {baud} Bd {form}: {error.args[-1]}") from error
    with contextlib.suppress(ValueError, OSError):  # what has no latency timer refuses
        line.set_low_latency_mode(True)
    os.set_blocking(line.fileno(), False)
    port_opened: SerialPort = line
    return port_opened


def check_port(port: str) -> None:
    """Raise LinkError when `port` cannot be opened, saying which ports exist."""
    open_port(port, baud=9600, form="8N1").close()


def existing_ports(dev: Path) -> list[str]:
    """List the serial ports under `dev`, stable names first."""
    return [str(path) for pattern in PORT_PATTERNS for path in sorted(dev.glob(pattern))]


def _why_not_open(port: str, code: int | None, text: str) -> str:
    if code in {errno.EACCES, errno.EPERM}:
        return f"{port}: no permission; add the user to the group that owns it (dialout)"
    if code in {errno.EBUSY, errno.EAGAIN}:
        return f"{port} is in use by another program"
    found = ", ".join(existing_ports(Path("/dev"))) or "none"
    if code in {errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EIO}:
        return f"{port} does not exist; ports found: {found}"
    return f"{port} cannot be opened: {text}; ports found: {found}"


class SerialBus(LineBus):
    """One RS-485 line on a serial port; see `LineBus`. `opener` replaces the real port in tests."""

    def __init__(
        self,
        *,
        name: str,
        port: str,
        opener: Callable[[], SerialPort] | None = None,
        clock: LineClock | None = None,
    ) -> None:
        """Prepare; nothing is opened."""

        async def opened(settings: LineSettings) -> LinePort:
            if opener:
                return FdPort(opener())
            return FdPort(open_port(port, baud=settings.baud, form=settings.format))

        super().__init__(
            name=name,
            where=port,
            opener=opened,
            clock=clock or LoopClock(),
            handover_s=TTY_LATENCY_S,
        )
