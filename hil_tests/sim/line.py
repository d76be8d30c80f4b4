"""A half-duplex RS-485 line, kept at wire time.

Owns the clock of one line: when each byte is on the wire, when a frame has ended, when a meter may
speak, what happens when two speak at once. It knows nothing of meters or registers: `answer` turns
a frame into a reply. It must not read a wall clock; all times are those of the event loop.

A master is on a pseudo-terminal (`Line`) or behind a serial server's raw TCP port (`TcpLine`). A
pty refuses parity, so the tty stays 8N1 and the line's own clock counts the bits per character.
Timers of the default event loop are up to 1 ms late (epoll counts in ms); a loop on
`selectors.SelectSelector` keeps tens of microseconds, and `python -m hil_tests.sim` runs on one.
"""

from __future__ import annotations

import asyncio
import enum
import re
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

from hil_tests.sim.errors import SimError
from hil_tests.sim.faults import LineFaults
from hil_tests.sim.framing import is_read
from hil_tests.sim.kinds import Burst
from hil_tests.sim.ports import Port, PtyPort, TcpPort

FIFO_CHARS = 8  # a Raspberry Pi's PL011 wakes the driver when its 16-byte FIFO is half full
_LOG_ENTRIES = 4096
_US = 1_000_000
_ASCII_END = b"\r\n"
_ASCII_PAUSE_S = 1.0  # longest between two characters (Modbus serial guide V1.02, 2.5.2)
_PLUG_LOOK_S = 0.02


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
        match = re.fullmatch(r"([78])([NEO])([12])", format)
        if match is None:
            raise SimError(f'format "{format}": 8N1, 8E1, 8O1, 8N2 or with 7 data bits expected')
        if baud <= 0:
            raise SimError(f"baud {baud}: a positive number expected")
        bits = 1 + int(match[1]) + (match[2] != "N") + int(match[3])
        char_s = bits / baud
        return cls(char_s, 0.00175 if baud > 19200 else 3.5 * char_s)


@dataclass(frozen=True, slots=True)
class Options:
    """What a line may have beyond plain Modbus RTU."""

    ascii_mode: bool = False  # frames end with CR LF, not with silence
    faults: LineFaults | None = None
    is_read: Callable[[bytes], bool] = is_read  # other requests are kept in `writes_seen`


PLAIN = Options()


class Wire:
    """Serve meters on a port: `with wire: await wire.serve()` until cancelled.

    A request's bytes go over the wire one character time each from when they are written; after
    T3.5 of silence (Modbus ASCII: behind CR LF) `answer` is asked; the reply starts a random
    turnaround later and is delivered in pieces of `FIFO_CHARS` as its wire time passes. Who speaks
    while another does destroys both, and is not heard itself: this is counted in `collisions`.
    """

    def __init__(
        self,
        name: str,
        port: Port,
        *,
        pace: Pace,
        turnaround_ms: tuple[float, float],
        rng: Random,
        answer: Callable[[bytes], Awaitable[bytes]],
        options: Options = PLAIN,
    ) -> None:
        self.name = name
        self.pace = pace
        self.faults = options.faults
        self.log: deque[Frame] = deque(maxlen=_LOG_ENTRIES)
        self.busy_us = 0  # requests, silence and turnaround before replies, replies
        self.writes_seen: list[bytes] = []  # requests that are no reads
        self.gap_violations = 0  # requests that came before T3.5 behind the frame before them
        self.collisions = 0
        self.overrun_bytes = 0  # bytes that nobody took out of a full tty
        self.late_us_max = 0  # worst delivery behind its wire time: the bench's own inaccuracy
        self._port = port
        self._ascii = options.ascii_mode
        self._silence_s = 0.0 if options.ascii_mode else pace.silence_s
        self._is_read = options.is_read
        self._turnaround_ms = turnaround_ms
        self._rng = rng
        self._answer = answer
        self._tasks: asyncio.TaskGroup | None = None  # of the running `serve`
        self._arrived = asyncio.Event()
        self._heard = bytearray()
        self._heard_count = 0  # bytes ever
        self._heard_start_s = self._heard_end_s = 0.0
        self._quiet_from_s = 0.0  # when the last frame on the wire ended
        self._talking = False  # a reply is on the wire
        self._spoilt = False  # and another one started meanwhile
        self._jammed = False  # a meter spoke into the request that is being heard

    def __enter__(self) -> Self:
        """Open the port."""
        self._port.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the port."""
        self._port.close()

    async def serve(self) -> None:
        """Hear requests and speak replies until cancelled."""
        self._port.listen(self._hear)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                if self.faults is not None and self.faults.pulls_the_plug:
                    tasks.create_task(self._follow_plug(self.faults), name=f"plug[{self.name}]")
                while True:
                    await self._serve_one(tasks)
        finally:
            self._tasks = None
            self._port.deafen()

    async def _serve_one(self, tasks: asyncio.TaskGroup) -> None:
        request = await self._request()
        asked_s, heard_count = self._quiet_from_s, self._heard_count
        if self._jammed:
            self._jammed = False
            return
        reply = await self._answer(request)
        if not reply:
            return
        bursts = (Burst(reply),) if self.faults is None else self.faults.shape(reply)
        if not bursts:
            return
        turnaround_s = self._rng.uniform(*self._turnaround_ms) / 1000
        start_s = asked_s + self._silence_s + turnaround_s + bursts[0].delay_s
        if bursts[0].delay_s:
            # The line goes on meanwhile: a late reply may meet the next request, or its reply.
            tasks.create_task(self._speak_late(bursts, start_s), name=f"late[{self.name}]")
            return
        start_s = max(start_s, _now_s())
        if not await self._speak(bursts, start_s=start_s, heard_count=heard_count):
            self.collisions += 1
            await self._request()
            return
        self.busy_us += round((start_s - asked_s) * _US)

    async def _request(self) -> bytes:
        """Wait for a frame and for its end."""
        while not self._heard:
            self._arrived.clear()
            await self._arrived.wait()
        if self._ascii:
            await self._end_of_line()
        while _now_s() < (due_s := self._heard_end_s + self._silence_s):
            await _sleep_until(due_s)
        request = bytes(self._heard)
        self._heard.clear()
        self._record(Direction.REQUEST, request, self._heard_start_s, self._heard_end_s)
        if not self._is_read(request):
            self.writes_seen.append(request)
        return request

    async def _end_of_line(self) -> None:
        while not self._heard.endswith(_ASCII_END):
            self._arrived.clear()
            try:
                async with asyncio.timeout(_ASCII_PAUSE_S):
                    await self._arrived.wait()
            except TimeoutError:
                return

    async def _speak_late(self, bursts: Sequence[Burst], start_s: float) -> None:
        """Speak when the master may have gone on: into its request, or as if in answer to it."""
        await _sleep_until(start_s)
        if self._heard:
            self._jammed = True
            if _now_s() < self._heard_end_s:
                self.collisions += 1  # a master that speaks does not hear
                return
        if not await self._speak(bursts, start_s=start_s, heard_count=self._heard_count):
            self.collisions += 1
            self._jammed = True

    async def _speak(self, bursts: Sequence[Burst], *, start_s: float, heard_count: int) -> bool:
        """Deliver a reply as its wire time passes; False if the master spoke meanwhile."""
        await _sleep_until(start_s)
        if self._talking:
            self._spoilt = True
            self.collisions += 1
            return True
        self._talking = True
        try:
            for number, burst in enumerate(bursts):
                start_s += burst.delay_s if number else 0
                end_s = start_s + len(burst.data) * self.pace.char_s
                if not await self._put(burst.data, start_s=start_s, heard_count=heard_count):
                    return False
                self._record(Direction.REPLY, burst.data, start_s, end_s)
                start_s = end_s
        finally:
            self._talking = self._spoilt = False
        return True

    async def _put(self, data: bytes, *, start_s: float, heard_count: int) -> bool:
        char_s, sent = self.pace.char_s, 0
        while sent < len(data):
            wake = min(sent + FIFO_CHARS, len(data))
            await _sleep_until(start_s + wake * char_s)
            if self._heard_count != heard_count:
                return False
            passed = max(wake, int((_now_s() - start_s) / char_s))
            piece = data[sent:passed]
            self._deliver(bytes(byte & 0x55 for byte in piece) if self._spoilt else piece)
            late_s = _now_s() - (start_s + wake * char_s)
            self.late_us_max = max(self.late_us_max, round(late_s * _US))
            sent = passed
        return True

    def _hear(self, data: bytes) -> None:
        """Take what the master wrote: its bytes are on the wire from now, one behind the other."""
        now_s = _now_s()
        if not self._heard:
            self._heard_start_s = self._heard_end_s = now_s
            self.gap_violations += now_s < self._quiet_from_s + self._silence_s
        start_s = max(self._heard_end_s, now_s)
        self._heard += data
        self._heard_count += len(data)
        self._heard_end_s = start_s + len(data) * self.pace.char_s
        self._arrived.set()
        if self._tasks is not None and self.faults is not None and self.faults.holds("echo"):
            self.faults.struck["echo"] += 1
            self._tasks.create_task(self._echo(data, start_s), name=f"echo[{self.name}]")

    async def _echo(self, data: bytes, start_s: float) -> None:
        for sent in range(0, len(data), FIFO_CHARS):
            piece = data[sent : sent + FIFO_CHARS]
            await _sleep_until(start_s + (sent + len(piece)) * self.pace.char_s)
            self._deliver(piece)

    async def _follow_plug(self, faults: LineFaults) -> None:
        """Take the port away while "unplug" holds."""
        plugged = True
        while True:
            if plugged == faults.holds("unplug"):
                if plugged:
                    faults.struck["unplug"] += 1
                    self._port.deafen()
                    self._port.close()
                    self._heard.clear()
                else:
                    self._port.open()
                    self._port.listen(self._hear)
                plugged = not plugged
            await asyncio.sleep(_PLUG_LOOK_S)

    def _deliver(self, data: bytes) -> None:
        self.overrun_bytes += len(data) - self._port.write(data)

    def _record(self, direction: Direction, data: bytes, start_s: float, end_s: float) -> None:
        self.log.append(Frame(round(start_s * _US), round(end_s * _US), direction, data))
        self.busy_us += round((end_s - start_s) * _US)
        self._quiet_from_s = end_s


class Line(Wire):
    """A line on a pseudo-terminal; `link` points at the master's end."""

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
        options: Options = PLAIN,
    ) -> None:
        self.link = link
        super().__init__(
            name,
            PtyPort(name, link),
            pace=Pace.of(baud=baud, format=format),
            turnaround_ms=turnaround_ms,
            rng=rng,
            answer=answer,
            options=options,
        )


class TcpLine(Wire):
    """A line behind a serial server: raw frames over TCP, at the wire time of the line."""

    def __init__(
        self,
        name: str,
        port: int,
        *,
        baud: int,
        format: str,  # noqa: A002 - the word of every serial setting
        turnaround_ms: tuple[float, float],
        rng: Random,
        answer: Callable[[bytes], Awaitable[bytes]],
        options: Options = PLAIN,
    ) -> None:
        self._tcp = TcpPort(name, port)
        super().__init__(
            name,
            self._tcp,
            pace=Pace.of(baud=baud, format=format),
            turnaround_ms=turnaround_ms,
            rng=rng,
            answer=answer,
            options=options,
        )

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        return self._tcp.port


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def _sleep_until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - _now_s()))
