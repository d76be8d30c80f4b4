"""A half-duplex RS-485 line, kept at wire time.

Owns the clock of one line: when each byte is on the wire, when a frame has ended, when a meter may
speak, what happens when two speak at once. It knows nothing of meters or registers: `answer` turns
a frame into a reply. It must not read a wall clock; all times are those of the event loop.

A master is on a pseudo-terminal (`Line`) or behind a serial server's raw TCP port (`TcpLine`). A
pty refuses parity, so the tty stays 8N1 and the line's own clock counts the bits per character. The
baud rate is what the master sets on its side, request by request.

Every deadline is computed from the request, never from when the one before was met, so errors do
not add up; the last moments before one are spent polling, because timers fire late. Timers of the
default event loop are up to 1 ms late all the same (epoll counts in ms): a loop on
`selectors.SelectSelector` keeps tens of microseconds, and `python -m hil_tests.sim` runs on one.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from types import TracebackType
from typing import NotRequired, Self, TypedDict, Unpack

from hil_tests.sim import damage
from hil_tests.sim.faults import LineFaults
from hil_tests.sim.framing import is_read
from hil_tests.sim.kinds import Burst
from hil_tests.sim.pace import Pace
from hil_tests.sim.ports import Port, PtyPort, TcpPort
from hil_tests.sim.voices import Answer, Heard, OneSpeaker, Speakers, Voice

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
    late_us: int = 0  # how long behind its last bit a reply was handed over


@dataclass(frozen=True, slots=True)
class _Speech:
    """A reply on its way to the wire."""

    start_s: float
    bursts: Sequence[Burst]
    baud: int
    pace: Pace


@dataclass(frozen=True, slots=True)
class Options:
    """What a line may have beyond plain Modbus RTU."""

    ascii_mode: bool = False  # frames end with CR LF, not with silence
    faults: LineFaults | None = None
    is_read: Callable[[bytes], bool] = is_read  # other requests are kept in `writes_seen`
    formats: Mapping[int, str] = field(default_factory=dict)  # of other bauds than the line's own
    spin_s: float = 0.0003  # before a deadline time is polled, not slept


PLAIN = Options()


class Terms(TypedDict):
    """What every line takes, whatever port it is on; see `Wire`."""

    baud: int
    format: str
    turnaround_ms: tuple[float, float]
    rng: Random
    answer: Answer | Speakers
    options: NotRequired[Options]


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
        baud: int,
        format: str,  # noqa: A002 - the word of every serial setting
        turnaround_ms: tuple[float, float],
        rng: Random,
        answer: Answer | Speakers,
        options: Options = PLAIN,
    ) -> None:
        self.name = name
        self.pace = Pace.of(baud=baud, format=format)
        self.faults = options.faults
        self.log: deque[Frame] = deque(maxlen=_LOG_ENTRIES)
        self.frames_count = 0  # ever, requests and replies
        self.busy_us = 0  # requests, silence and turnaround before replies, replies
        self.writes_seen: list[bytes] = []  # requests that are no reads
        self.gap_violations = 0  # requests that came before T3.5 behind the frame before them
        self.collisions = 0
        self.overrun_bytes = 0  # bytes that nobody took out of a full tty
        self.late_us_max = 0  # worst delivery behind its wire time: the bench's own inaccuracy
        self._port = port
        self._options = options
        self._format = format
        self._paces = {baud: self.pace}
        self._own_baud = self._baud = baud  # `_baud`: of the request that is being heard
        self._turnaround_ms = turnaround_ms
        self._rng = rng
        self._speakers = answer if isinstance(answer, Speakers) else OneSpeaker(answer, baud)
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
        asked_s, baud, heard_count = self._quiet_from_s, self._baud, self._heard_count
        if self._jammed:
            self._jammed = False
            return
        prompt = []
        for voice in await self._speakers.hear(Heard(request, baud)):
            speech = self._speech(voice, asked_s=asked_s, baud=baud)
            if speech is None:
                continue
            if speech.bursts[0].delay_s:
                # The line goes on meanwhile: a late reply may meet the next request or its reply.
                tasks.create_task(self._speak_late(speech), name=f"late[{self.name}]")
            else:
                prompt.append(speech)
        if not prompt:
            return
        speech = self._together(prompt)
        if not await self._speak(speech, heard_count=heard_count):
            self.collisions += 1
            await self._request()
            return
        self.busy_us += round((speech.start_s - asked_s) * _US)

    def _speech(self, voice: Voice, *, asked_s: float, baud: int) -> _Speech | None:
        """Shape a reply as faults will have it and set its time; None = nothing is heard."""
        bursts: Sequence[Burst] = (Burst(voice.data),)
        if self.faults is not None:
            bursts = self.faults.shape(voice.data, voice.framing, meter=voice.meter)
        if not bursts:
            return None
        turnaround_s = self._rng.uniform(*(voice.turnaround_ms or self._turnaround_ms)) / 1000
        start_s = asked_s + self._silence_s(baud) + turnaround_s + bursts[0].delay_s
        return _Speech(start_s, bursts, baud, self._pace_at(baud))

    def _together(self, speeches: Sequence[_Speech]) -> _Speech:
        """Let meters that answer one request meet on the wire: where two drive it, a 0 wins."""
        first, *others = sorted(speeches, key=lambda speech: speech.start_s)
        for other in others:
            data = b"".join(burst.data for burst in first.bursts)
            more = b"".join(burst.data for burst in other.bursts)
            lag_chars = (other.start_s - first.start_s) / first.pace.char_s
            if lag_chars >= len(data):
                pause_s = (lag_chars - len(data)) * first.pace.char_s
                first = replace(first, bursts=(Burst(data), Burst(more, pause_s)))
            else:
                self.collisions += 1
                mixed = damage.talk_over(data, more, lag_chars=lag_chars)
                first = replace(first, bursts=(Burst(mixed),))
        return first

    async def _request(self) -> bytes:
        """Wait for a frame and for its end."""
        while not self._heard:
            self._arrived.clear()
            await self._arrived.wait()
        if self._options.ascii_mode:
            await self._end_of_line()
        while _now_s() < (due_s := self._heard_end_s + self._silence_s(self._baud)):
            await self._until(due_s)
        request = bytes(self._heard)
        self._heard.clear()
        self._record(
            Frame(
                round(self._heard_start_s * _US),
                round(self._heard_end_s * _US),
                Direction.REQUEST,
                request,
            ),
            self._heard_end_s,
        )
        if not self._options.is_read(request):
            self.writes_seen.append(request)
        return request

    def _silence_s(self, baud: int) -> float:
        return 0.0 if self._options.ascii_mode else self._pace_at(baud).silence_s

    def _pace_at(self, baud: int) -> Pace:
        if baud not in self._paces:
            format_ = self._options.formats.get(baud, self._format)
            self._paces[baud] = Pace.of(baud=baud, format=format_)
        return self._paces[baud]

    async def _until(self, at_s: float) -> None:
        """Sleep most of the way and poll the rest; always lets others run."""
        await asyncio.sleep(max(0.0, at_s - _now_s() - self._options.spin_s))
        while _now_s() < at_s:  # noqa: ASYNC110 - an event cannot tell time either
            await asyncio.sleep(0)

    async def _end_of_line(self) -> None:
        while not self._heard.endswith(_ASCII_END):
            self._arrived.clear()
            try:
                async with asyncio.timeout(_ASCII_PAUSE_S):
                    await self._arrived.wait()
            except TimeoutError:
                return

    async def _speak_late(self, speech: _Speech) -> None:
        """Speak when the master may have gone on: into its request, or as if in answer to it."""
        await self._until(speech.start_s)
        if self._heard:
            self._jammed = True
            if _now_s() < self._heard_end_s:
                self.collisions += 1  # a master that speaks does not hear
                return
        if not await self._speak(speech, heard_count=self._heard_count):
            self.collisions += 1
            self._jammed = True

    async def _speak(self, speech: _Speech, *, heard_count: int) -> bool:
        """Deliver a reply as its wire time passes; False if the master spoke meanwhile."""
        await self._until(speech.start_s)
        if self._talking:
            self._spoilt = True
            self.collisions += 1
            return True
        self._talking = True
        try:
            start_s = speech.start_s
            for number, burst in enumerate(speech.bursts):
                start_s += burst.delay_s if number else 0
                data = self._as_received(burst.data, speech.baud)
                end_s = start_s + len(burst.data) * speech.pace.char_s
                char_s = (end_s - start_s) / len(data) if data else 0.0
                late_s = await self._put(data, char_s, start_s=start_s, heard_count=heard_count)
                if late_s is None:
                    return False
                start_us, end_us = round(start_s * _US), round(end_s * _US)
                frame = Frame(start_us, end_us, Direction.REPLY, data, round(late_s * _US))
                self._record(frame, end_s)
                start_s = end_s
        finally:
            self._talking = self._spoilt = False
        return True

    def _as_received(self, data: bytes, baud: int) -> bytes:
        """Return what the master's side reads: it may have changed its baud rate meanwhile."""
        now_baud = self._port.baud() or self._own_baud
        return data if now_baud == baud else damage.misread(data, ratio=now_baud / baud)

    async def _put(
        self, data: bytes, char_s: float, *, start_s: float, heard_count: int
    ) -> float | None:
        """Hand bytes over as they fall due; return how late the last was, None = interrupted."""
        sent, late_s = 0, 0.0
        while sent < len(data):
            wake = min(sent + FIFO_CHARS, len(data))
            # Handed over a little early: the system takes its time to wake the master.
            due_s = start_s + wake * char_s - self._port.taken_late_s
            await self._until(due_s)
            if self._heard_count != heard_count:
                return None
            passed = max(wake, int((_now_s() - start_s) / char_s))
            piece = data[sent:passed]
            self._deliver(bytes(byte & 0x55 for byte in piece) if self._spoilt else piece)
            now_s = _now_s()
            self.late_us_max = max(self.late_us_max, round((now_s - due_s) * _US))
            sent = min(passed, len(data))
            # Bytes that fell due meanwhile came along, less late than the one waited for.
            late_s = now_s - (start_s + sent * char_s - self._port.taken_late_s)
        return late_s

    def _hear(self, data: bytes) -> None:
        """Take what the master wrote: its bytes are on the wire from now, one behind the other."""
        noticed_s = _now_s()
        now_s = max(noticed_s - self._port.heard_late_s, self._quiet_from_s)
        if not self._heard:
            self._baud = self._port.baud() or self._own_baud
            self._heard_start_s = self._heard_end_s = now_s
            # What the system takes of the gap at both of its ends is not the master's fault.
            gap_end_s = noticed_s + self._port.taken_late_s
            self.gap_violations += gap_end_s < self._quiet_from_s + self._silence_s(self._baud)
        start_s = max(self._heard_end_s, now_s)
        self._heard += data
        self._heard_count += len(data)
        self._heard_end_s = start_s + len(data) * self._pace_at(self._baud).char_s
        self._arrived.set()
        if self._tasks is not None and self.faults is not None and self.faults.holds("echo"):
            self.faults.struck["echo"] += 1
            self._tasks.create_task(self._echo(data, start_s), name=f"echo[{self.name}]")

    async def _echo(self, data: bytes, start_s: float) -> None:
        char_s = self._pace_at(self._baud).char_s
        for sent in range(0, len(data), FIFO_CHARS):
            piece = data[sent : sent + FIFO_CHARS]
            await self._until(start_s + (sent + len(piece)) * char_s)
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

    def _record(self, frame: Frame, end_s: float) -> None:
        self.log.append(frame)
        self.frames_count += 1
        self.busy_us += frame.end_us - frame.start_us
        self._quiet_from_s = end_s


class Line(Wire):
    """A line on a pseudo-terminal; `link` points at the master's end."""

    def __init__(self, name: str, link: Path, **terms: Unpack[Terms]) -> None:
        self.link = link
        super().__init__(name, PtyPort(name, link, baud=terms["baud"]), **terms)


class TcpLine(Wire):
    """A line behind a serial server: raw frames over TCP, at the wire time of the line."""

    def __init__(self, name: str, port: int, **terms: Unpack[Terms]) -> None:
        self._tcp = TcpPort(name, port)
        super().__init__(name, self._tcp, **terms)

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        return self._tcp.port


def _now_s() -> float:
    return asyncio.get_running_loop().time()
