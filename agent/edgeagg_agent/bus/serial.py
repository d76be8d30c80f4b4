"""Modbus RTU on a serial line: the engine that keeps the silences and trusts no stale reply.

Owns the port and every moment on the line. It decodes nothing but frames; which registers mean what
is the profile's business, what to do about a dead meter the poller's.

An RTU reply does not say which registers it carries. After a time-out the reply may still be under
way and would fit the next request of the same shape, so that unit is held back (quarantined) until
its late reply must have come and gone. Requests to other units go on: a late reply carries the old
unit's id.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import serial

from edgeagg.errors import FrameError, LinkError, RefusedError
from edgeagg_agent.bus import BusStats, ReadRequest, Reply
from edgeagg_agent.bus.timing import REQUEST_BYTES, Timing
from edgeagg_agent.protocol.modbus import (
    RtuReply,
    describe_junk,
    find_rtu_reply,
    rtu_reply_length,
    rtu_request,
    skip_echo,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LATE_MIN_S = 0.5  # a reply later than this behind its deadline is beyond what we guard against
REOPEN_S = 1.0  # a vanished port is looked for this often, so that nothing spins
SPIKE_BYTES_MAX = 2
FIFO_BYTES = 8  # a Raspberry Pi's UART hands bytes over when its FIFO is half full
TTY_LATENCY_S = 0.016  # FTDI adapters hand bytes over only every 16 ms unless told otherwise
PORT_PATTERNS = (
    "rs485/*",
    "serial/by-path/*",
    "ttyUSB*",
    "ttyACM*",
    "ttyAMA*",
    "ttySC*",
    "ttyS[0-9]",
)


class SerialPort(Protocol):
    """What the engine needs of an open port: a file descriptor in non-blocking mode."""

    def fileno(self) -> int:
        """Return the file descriptor."""
        ...

    def close(self) -> None:
        """Give the port back."""
        ...


def open_port(port: str, *, baud: int, form: str) -> SerialPort:
    """Open `port` raw, exclusive and non-blocking; raise LinkError saying what can be done."""
    # A pty refuses parity with EINVAL. The bits on a pty are imaginary, so 8N1 loses nothing there;
    # the timing keeps the bits per character that the site file asks for.
    if os.path.realpath(port).startswith("/dev/pts/"):
        form = "8N1"
    try:
        line: SerialPort = serial.Serial(
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
    os.set_blocking(line.fileno(), False)
    return line


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


@dataclass(frozen=True, slots=True)
class _Quarantine:
    """A request whose reply may still come, until `until_s` of the event loop's clock."""

    request: ReadRequest
    until_s: float


class SerialBus:
    """One RS-485 line, one transaction at a time.

    Opens `port` at the first read and again, at most once a second, after it vanished. A meter gets
    `turnaround_max_ms` to begin its reply. `request_gaps_ms` holds, by unit, the silence a meter
    needs before a request when that is more than T3.5. `opener` replaces the real port in tests.
    """

    def __init__(
        self,
        *,
        name: str,
        port: str,
        baud: int,
        format: str,  # noqa: A002 - the word of the site file
        turnaround_max_ms: int = 150,
        request_gaps_ms: Mapping[int, int] | None = None,
        opener: Callable[[], SerialPort] | None = None,
    ) -> None:
        """Prepare; nothing is opened. Raises ValueError for a format no line has."""
        self.stats = BusStats()
        self.timing = Timing.of(baud, format)
        self._name = name
        self._path = port
        self._opener = opener or functools.partial(open_port, port, baud=baud, form=format)
        self._turnaround_max_s = turnaround_max_ms / 1000
        self._gaps_s = {unit: ms / 1000 for unit, ms in (request_gaps_ms or {}).items()}
        self._t35_s = self.timing.t35_us / 1e6
        self._port: SerialPort | None = None
        self._was_open = False
        self._open_again_s = 0.0
        self._line_end_s = 0.0  # when the last byte passed, as far as we know
        self._quarantine: dict[int, _Quarantine] = {}
        self._lock = asyncio.Lock()

    async def read(self, request: ReadRequest) -> Reply:
        """Read registers; see `Bus.read` for what is raised."""
        while True:
            await _sleep_until(self._held_until_s(request.unit))
            async with self._lock:
                # another task's request to this unit may have timed out while we waited
                if self._held_until_s(request.unit) <= _now_s():
                    return await self._transact(request)

    async def close(self) -> None:
        """Give the port back."""
        async with self._lock:
            self._drop_port()

    def _held_until_s(self, unit: int) -> float:
        held = self._quarantine.get(unit)
        return held.until_s if held else 0.0

    async def _transact(self, request: ReadRequest) -> Reply:
        port = self._port or self._open()
        try:
            await self._settle(port.fileno(), request)
            return await self._exchange(port.fileno(), request)
        except OSError as error:
            self._drop_port()
            reason = error.strerror or "it stopped answering"
            raise LinkError(
                f"{self._name}: {self._path} is gone ({reason}); is the adapter plugged in?"
            ) from error

    def _open(self) -> SerialPort:
        if _now_s() < self._open_again_s:
            raise LinkError(f"{self._name}: {self._path} is not open; tried once a second")
        self._open_again_s = _now_s() + REOPEN_S
        try:
            self._port = self._opener()
        except LinkError as error:
            raise LinkError(f"{self._name}: {error}") from error
        self.stats.reopened += self._was_open
        self._was_open = True
        self._line_end_s = _now_s()  # nobody knows what was on the line a moment ago
        return self._port

    def _drop_port(self) -> None:
        if self._port:
            self._port.close()
            self._port = None

    async def _settle(self, fd: int, request: ReadRequest) -> None:
        """Keep the silence before a request and throw away what came since the last reply."""
        gap_s = max(self._t35_s, self._gaps_s.get(request.unit, 0.0))
        give_up_s = _now_s() + gap_s + self._late_max_s(request)
        await _sleep_until(self._line_end_s + gap_s)
        stray = b""
        while fresh := self._take(fd):
            stray += fresh
            if _now_s() >= give_up_s:
                self._count_noise(stray)
                self.stats.bad_frame += 1
                raise FrameError(f"{self._name}: {request}: the line is never silent", stray)
            await _sleep_until(self._line_end_s + max(gap_s, self._silence_s(stray, request)))
        self._count_noise(stray)

    async def _exchange(self, fd: int, request: ReadRequest) -> Reply:
        sent_s = _now_s()
        request_end_s = sent_s + self.timing.frame_us(REQUEST_BYTES) / 1e6
        reply_s = self.timing.frame_us(rtu_reply_length(request)) / 1e6
        look_s = request_end_s + self._t35_s + reply_s
        deadline_s = request_end_s + self._turnaround_max_s + reply_s + TTY_LATENCY_S
        if os.write(fd, rtu_request(request)) != REQUEST_BYTES:
            raise OSError(errno.EIO, "the port takes no bytes")
        # pessimistic until a valid reply has come, so that a cancelled read is covered as well
        self._quarantine[request.unit] = _Quarantine(
            request, deadline_s + self._late_max_s(request)
        )
        self.stats.transactions += 1
        self._line_end_s = request_end_s
        try:
            await _sleep_until(look_s)
            buffer, found = await self._collect(fd, request, deadline_s)
        except asyncio.CancelledError:
            self._line_end_s = deadline_s  # the meter will answer into the next request otherwise
            raise
        self.stats.busy_s += (self._line_end_s if found else _now_s()) - sent_s + self._t35_s
        words = self._judge(buffer, found, request)
        return Reply(words, sent_s, self._line_end_s)

    async def _collect(
        self, fd: int, request: ReadRequest, deadline_s: float
    ) -> tuple[bytearray, RtuReply | None]:
        """Gather bytes until they hold a reply followed by silence, or the deadline passes."""
        buffer = bytearray()
        woken = False
        while True:
            fresh = self._take(fd)
            if woken and not fresh:  # this is how Linux shows a serial port that was unplugged
                raise OSError(errno.EIO, "the port hung up")
            woken = False
            buffer += fresh
            found = find_rtu_reply(buffer, request)
            if found and (found.end == len(buffer) or not fresh):
                return buffer, found
            if _now_s() >= deadline_s:
                return buffer, found
            missing = rtu_reply_length(request) - (len(buffer) - skip_echo(buffer, request))
            unwatched = missing - FIFO_BYTES
            if found:
                # A stale reply may have come in front of the true one: see what the line brings.
                await _sleep_until(_now_s() + self._silence_s(buffer[found.end :], request))
            elif fresh and unwatched > 0:
                # Being woken for every few bytes is most of the cost of a slow line.
                rest_s = self.timing.frame_us(unwatched) / 1e6
                await _sleep_until(min(deadline_s, _now_s() + rest_s))
            else:
                woken = await self._wait_readable(fd, deadline_s)

    def _judge(
        self, buffer: bytearray, found: RtuReply | None, request: ReadRequest
    ) -> tuple[int, ...]:
        """Count what came, lift the quarantine when it is a valid reply; return its words."""
        echo_bytes = REQUEST_BYTES if skip_echo(buffer, request) else 0
        self.stats.echoes += echo_bytes > 0
        if not found:
            self._count_noise(buffer, echo_bytes=echo_bytes)
            if len(buffer) > echo_bytes:
                self.stats.bad_frame += 1
                self._line_end_s += TTY_LATENCY_S  # the rest may follow in another piece
                junk = describe_junk(buffer, request)
                raise FrameError(f"{self._name}: {request}: {junk}", bytes(buffer))
            self.stats.no_reply += 1
            raise LinkError(f"{self._name}: {request}: no reply")
        behind = buffer[found.end :]
        second = find_rtu_reply(behind, request)
        if second and second.frame != found.frame:
            self.stats.bad_frame += 1
            raise FrameError(f"{self._name}: {request}: two replies differ", bytes(buffer))
        del self._quarantine[request.unit]
        self._count_noise(buffer[: found.start], echo_bytes=echo_bytes)
        self._count_noise(behind)
        try:
            return found.words()
        except RefusedError as error:
            self.stats.refused += 1
            raise RefusedError(f"{self._name}: {error}", error.code) from None

    def _take(self, fd: int) -> bytes:
        """Return what has arrived, without waiting."""
        taken = b""
        try:
            while chunk := os.read(fd, 4096):
                taken += chunk
        except BlockingIOError:
            pass
        if taken:
            self._line_end_s = _now_s()
        return taken

    async def _wait_readable(self, fd: int, deadline_s: float) -> bool:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(fd, readable.set)
        try:
            async with asyncio.timeout_at(deadline_s):
                return await readable.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(fd)

    def _late_max_s(self, request: ReadRequest) -> float:
        """How long after its deadline a reply may still come."""
        wire_us = self.timing.frame_us(REQUEST_BYTES + rtu_reply_length(request))
        return max(LATE_MIN_S, self._turnaround_max_s + wire_us / 1e6)

    def _silence_s(self, stray: bytes | bytearray, request: ReadRequest) -> float:
        """How long the line must be quiet before stray bytes are taken to be over.

        One or two bytes are the spike of a transceiver switching over, which many lines have after
        every frame. More, or anything while another unit's reply is outstanding, may be the first
        piece of a reply that the adapter hands over in pieces.
        """
        awaited = any(
            unit != request.unit and held.until_s > _now_s()
            for unit, held in self._quarantine.items()
        )
        pieces = awaited or len(stray) > SPIKE_BYTES_MAX
        return self._t35_s + (TTY_LATENCY_S if pieces else 0.0)

    def _count_noise(self, noise: bytes | bytearray, *, echo_bytes: int = 0) -> None:
        self.stats.noise_bytes += len(noise) - echo_bytes
        for held in self._quarantine.values():
            self.stats.late_replies += find_rtu_reply(noise, held.request) is not None


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def _sleep_until(at_s: float) -> None:
    delay_s = at_s - _now_s()
    if delay_s > 0:
        await asyncio.sleep(delay_s)
