"""What the line engine stands on: a port that gives bytes, and a clock that lets time pass.

Owns file descriptors' bytes and waits, and the precision of the waits. It knows no frame, no
silence and no meter. A line in memory on a clock of its own takes their place in the benches.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import selectors
import termios
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from edgeagg.errors import LinkError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeagg_agent.bus import LineSettings

_READ_BYTES = 4096
AHEAD_S = 60e-6  # how late select() and the interpreter usually are together
LOOKS_MAX = 400  # ends the last wait on a clock that stands still while it is looked at
SPEEDS: Mapping[int, int] = MappingProxyType(
    {
        300: termios.B300,
        600: termios.B600,
        1200: termios.B1200,
        2400: termios.B2400,
        4800: termios.B4800,
        9600: termios.B9600,
        19200: termios.B19200,
        38400: termios.B38400,
        57600: termios.B57600,
        115200: termios.B115200,
        230400: termios.B230400,
        460800: termios.B460800,
        921600: termios.B921600,
    }
)


class SerialPort(Protocol):
    """An open port: a file descriptor in non-blocking mode."""

    def fileno(self) -> int:
        """Return the file descriptor."""
        ...

    def close(self) -> None:
        """Give the port back."""
        ...


class LinePort(Protocol):
    """One end of a line. Every method but `close` raises OSError when the line is gone."""

    def read(self) -> bytes:
        """Return what has arrived, without waiting."""
        ...

    def write(self, data: bytes) -> int:
        """Send; return how many bytes were taken."""
        ...

    async def wait(self, deadline_s: float) -> bool:
        """Wait until something can be read; return False when the deadline came first."""
        ...

    def retune(self, settings: LineSettings) -> None:
        """Change speed and format; raise LinkError when the port does not take them."""
        ...

    def close(self) -> None:
        """Give the port back."""
        ...


class LineClock(Protocol):
    """Seconds of a monotonic clock."""

    def now_s(self) -> float:
        """Return the time."""
        ...

    async def sleep_until(self, at_s: float) -> None:
        """Let time pass; return at once when it has passed."""
        ...

    async def sleep_sharp(self, at_s: float) -> None:
        """Let time pass, as exactly as the machine can, at the cost of some work."""
        ...


def line_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop whose timers keep tens of microseconds.

    epoll, the default, counts in milliseconds: a silence of 3.6 ms would take up to 4.6 ms.
    """
    return asyncio.SelectorEventLoop(_LineSelector())


class _LineSelector(selectors.SelectSelector):
    """Goes on when somebody closes a descriptor that is still watched, as epoll does.

    The MQTT client asks to be told when its socket can be written, and may have closed it by the
    time that the loop gets round to it. That must not end the agent.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        try:
            return super().select(timeout)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
        for key in list(self.get_map().values()):
            try:
                os.fstat(key.fd)
            except OSError:
                self.unregister(key.fd)
        return []


class LoopClock:
    """The clock of the running event loop."""

    def now_s(self) -> float:
        """Return the loop's time."""
        return asyncio.get_running_loop().time()

    async def sleep_until(self, at_s: float) -> None:
        """Wait for a timer of the loop."""
        delay_s = at_s - self.now_s()
        if delay_s > 0:
            await asyncio.sleep(delay_s)

    async def sleep_sharp(self, at_s: float) -> None:
        """Wait for a timer a little ahead, then look at the clock until it is time."""
        now_s = asyncio.get_running_loop().time
        await self.sleep_until(at_s - AHEAD_S)
        for _ in range(LOOKS_MAX):
            if now_s() >= at_s:
                return
        await self.sleep_until(at_s)


class FdPort:
    """A line on a file descriptor: a tty, a socket, or the tap of a test."""

    def __init__(self, port: SerialPort) -> None:
        """Take over an open port."""
        self._port = port
        self._fd = port.fileno()
        self._is_tty = os.isatty(self._fd)

    def read(self) -> bytes:
        """Return what has arrived; raise OSError at the end of a stream."""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return b""
        # a tty with VMIN 0 reads as nothing while the line is quiet; a socket only at its end
        if not data and not self._is_tty:
            raise ConnectionResetError("the other end hung up")
        return data

    def write(self, data: bytes) -> int:
        """Send; return how many bytes were taken."""
        with contextlib.suppress(BlockingIOError):
            return os.write(self._fd, data)
        return 0

    async def wait(self, deadline_s: float) -> bool:
        """Watch the descriptor until it can be read or the deadline has come."""
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[bool] = loop.create_future()
        timer = loop.call_at(deadline_s, _settle, readable, False)
        loop.add_reader(self._fd, _settle, readable, True)
        try:
            return await readable
        finally:
            timer.cancel()
            loop.remove_reader(self._fd)

    def retune(self, settings: LineSettings) -> None:
        """Change a tty once its bytes have gone out; anything else has no speed of its own."""
        if not self._is_tty:
            return
        speed = SPEEDS.get(settings.baud)
        if speed is None:
            raise LinkError(f"{settings.baud} Bd: allowed are {', '.join(map(str, SPEEDS))}")
        try:
            attributes = termios.tcgetattr(self._fd)
            attributes[4] = attributes[5] = speed
            # A pty refuses parity with EINVAL; the bits on it are imaginary anyway.
            if not os.ttyname(self._fd).startswith("/dev/pts/"):
                attributes[2] = _with_format(attributes[2], settings.format)
            termios.tcsetattr(self._fd, termios.TCSADRAIN, attributes)
        except termios.error as error:
            raise OSError(*error.args) from error

    def close(self) -> None:
        """Give the port back."""
        self._port.close()


class TunedPort:
    """A line whose speed and format somebody else has set."""

    def __init__(self, port: LinePort, *, baud: int, form: str) -> None:
        """Take over a port that is set to these."""
        self.read, self.write, self.wait, self.close = port.read, port.write, port.wait, port.close
        self._baud, self._form = baud, form

    def retune(self, settings: LineSettings) -> None:
        """Raise LinkError unless the line is set so."""
        if (settings.baud, settings.format) != (self._baud, self._form):
            raise LinkError(
                f"the serial server is set to {self._baud} Bd {self._form}; "
                f"a meter with {settings.baud} Bd {settings.format} cannot be asked through it"
            )


def _settle(readable: asyncio.Future[bool], is_readable: bool) -> None:  # noqa: FBT001 - a callback
    if not readable.done():
        readable.set_result(is_readable)


def _with_format(flags: int, form: str) -> int:
    """Return a tty's control flags with a character format such as "8E1"."""
    flags &= ~(termios.CSIZE | termios.PARENB | termios.PARODD | termios.CSTOPB)
    flags |= termios.CS7 if form[0] == "7" else termios.CS8
    if form[1] != "N":
        flags |= termios.PARENB | (termios.PARODD if form[1] == "O" else 0)
    if form[2] == "2":
        flags |= termios.CSTOPB
    return flags
