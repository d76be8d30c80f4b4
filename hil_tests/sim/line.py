"""A half-duplex RS-485 line on a pseudo-terminal, kept at wire time.

Owns the clock of one line: when each byte is on the wire, when a frame has ended, when a meter may
speak. It knows nothing of meters or registers: `answer` turns a frame into a reply. It must not
read a wall clock; all times are those of the event loop.

A pty refuses parity, so the tty stays 8N1 and the line's own clock counts the bits per character.
Timers of the default event loop are up to 1 ms late (epoll counts in ms); a loop on
`selectors.SelectSelector` keeps tens of microseconds, and `python -m hil_tests.sim` runs on one.
"""

from __future__ import annotations

import asyncio
import enum
import os
import re
import tty
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from hil_tests.sim.errors import SimError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path
    from random import Random
    from types import TracebackType

FIFO_CHARS = 8  # a Raspberry Pi's PL011 wakes the driver when its 16-byte FIFO is half full
_LOG_ENTRIES = 4096
_US = 1_000_000


class Direction(enum.Enum):
    """Who spoke."""

    REQUEST = "request"
    REPLY = "reply"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as it stood on the wire: event-loop time of its first and behind its last bit."""

    start_us: int
    end_us: int
    direction: Direction
    data: bytes


@dataclass(frozen=True, slots=True)
class Pace:
    """The wire time of a baud rate and a character format."""

    char_s: float
    silence_s: float

    @classmethod
    def of(cls, *, baud: int, format: str) -> Pace:  # noqa: A002 - the word of every serial setting
        """Derive times from e.g. 9600 and "8E1": start bit, data, parity, stop bits.

        Silence is T3.5: 3.5 characters, 1750 us above 19200 Bd (Modbus serial guide V1.02).
        """
        match = re.fullmatch(r"8([NEO])([12])", format)
        if match is None:
            raise SimError(f'format "{format}": 8N1, 8E1, 8O1 or 8N2 expected')
        if baud <= 0:
            raise SimError(f"baud {baud}: a positive number expected")
        bits = 1 + 8 + (match[1] != "N") + int(match[2])
        char_s = bits / baud
        return cls(char_s, 0.00175 if baud > 19200 else 3.5 * char_s)


class Line:
    """Serve meters on a pty: `with line: await line.serve()` until cancelled.

    A request's bytes go over the wire one character time each from when they are written; after
    T3.5 of silence `answer` is asked; the reply starts a random turnaround later and is delivered
    in pieces of `FIFO_CHARS` as its wire time passes. A master that speaks while an answer is due
    or under way destroys it, and is not heard itself: this is counted in `collisions`.
    """

    def __init__(
        self,
        name: str,
        link: Path,
        *,
        baud: int,
        format: str,  # noqa: A002 - the word of every serial setting
        turnaround_ms: tuple[float, float],
        rng: Random,
        answer: Callable[[bytes], Awaitable[bytes]],
    ) -> None:
        self.name = name
        self.link = link
        self.pace = Pace.of(baud=baud, format=format)
        self.log: deque[Frame] = deque(maxlen=_LOG_ENTRIES)
        self.busy_us = 0  # requests, silence and turnaround before replies, replies
        self.writes_seen: list[bytes] = []  # requests with a function code other than 3 and 4
        self.gap_violations = 0  # requests that came before T3.5 behind the frame before them
        self.collisions = 0
        self.overrun_bytes = 0  # bytes that nobody took out of a full tty
        self.late_us_max = 0  # worst delivery behind its wire time: the bench's own inaccuracy
        self._turnaround_ms = turnaround_ms
        self._rng = rng
        self._answer = answer
        self._master = self._slave = -1
        self._arrived = asyncio.Event()
        self._heard = bytearray()
        self._heard_start_s = self._heard_end_s = 0.0
        self._quiet_from_s = 0.0  # when the last frame on the wire ended

    def __enter__(self) -> Self:
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
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the pty; remove the link if it is still ours."""
        if self.link.is_symlink() and str(self.link.readlink()) == os.ttyname(self._slave):
            self.link.unlink()
        self._close_pty()

    async def serve(self) -> None:
        """Hear requests and speak replies until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._master, self._hear)
        try:
            while True:
                await self._serve_one()
        finally:
            loop.remove_reader(self._master)

    async def _serve_one(self) -> None:
        request = await self._request()
        reply = await self._answer(request)
        if not reply:
            return
        turnaround_s = self._rng.uniform(*self._turnaround_ms) / 1000
        start_s = self._quiet_from_s + self.pace.silence_s + turnaround_s
        if not await self._speak(reply, start_s=max(start_s, _now_s())):
            self.collisions += 1
            await self._request()

    async def _request(self) -> bytes:
        """Wait for a frame and for the silence behind it."""
        while not self._heard:
            self._arrived.clear()
            await self._arrived.wait()
        while _now_s() < (due_s := self._heard_end_s + self.pace.silence_s):
            await _sleep_until(due_s)
        request = bytes(self._heard)
        self._heard.clear()
        self._record(Direction.REQUEST, request, self._heard_start_s, self._heard_end_s)
        self.busy_us += round((self._heard_end_s - self._heard_start_s) * _US)
        if len(request) > 1 and request[1] not in (3, 4):
            self.writes_seen.append(request)
        return request

    async def _speak(self, reply: bytes, *, start_s: float) -> bool:
        """Deliver a reply as its wire time passes; False if the master spoke meanwhile."""
        char_s, sent = self.pace.char_s, 0
        asked_s = self._quiet_from_s
        while sent < len(reply):
            wake = min(sent + FIFO_CHARS, len(reply))
            await _sleep_until(start_s + wake * char_s)
            if self._heard:
                return False
            passed = max(wake, int((_now_s() - start_s) / char_s))
            self._deliver(reply[sent:passed])
            late_s = _now_s() - (start_s + wake * char_s)
            self.late_us_max = max(self.late_us_max, round(late_s * _US))
            sent = passed
        end_s = start_s + len(reply) * char_s
        self._record(Direction.REPLY, reply, start_s, end_s)
        self.busy_us += round((end_s - asked_s) * _US)
        return True

    def _hear(self) -> None:
        """Take what the master wrote: its bytes are on the wire from now, one behind the other."""
        data = os.read(self._master, 4096)
        now_s = _now_s()
        if not self._heard:
            self._heard_start_s = self._heard_end_s = now_s
            self.gap_violations += now_s < self._quiet_from_s + self.pace.silence_s
        self._heard += data
        self._heard_end_s = max(self._heard_end_s, now_s) + len(data) * self.pace.char_s
        self._arrived.set()

    def _deliver(self, data: bytes) -> None:
        try:
            written = os.write(self._master, data)
        except BlockingIOError:
            written = 0
        self.overrun_bytes += len(data) - written

    def _record(self, direction: Direction, data: bytes, start_s: float, end_s: float) -> None:
        self.log.append(Frame(round(start_s * _US), round(end_s * _US), direction, data))
        self._quiet_from_s = end_s

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


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def _sleep_until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - _now_s()))
