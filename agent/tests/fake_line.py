"""A serial line for tests: bytes that take their wire time, on a clock that jumps."""

import asyncio
import contextlib
import dataclasses
import selectors
import socket

from pymodbus.framer import FramerRTU

from edgeagg.errors import EdgeaggError
from edgeagg_agent.bus import LineSettings, ReadRequest
from edgeagg_agent.bus.serial import SerialBus
from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.protocol.modbus import RtuQuestion, words_of

BAUD = 9600
WIRE = Timing.of(BAUD, "8E1")
CHAR_S = WIRE.frame_us(1) / 1e6
T35_S = WIRE.t35_us / 1e6
REQUEST_S = 8 * 11 / BAUD
FIRST = ReadRequest(unit=1, function=3, start=100, count=10)
OTHER_ADDRESS = ReadRequest(unit=1, function=3, start=500, count=10)
OTHER_UNIT = ReadRequest(unit=2, function=3, start=100, count=10)
SILENT = ()


class JumpingSelector(selectors.DefaultSelector):
    """Never waits: when nothing is ready, the clock jumps to when the next timer is due."""

    now_s = 1000.0

    def select(self, timeout=None):
        events = super().select(0)
        if not events:
            assert timeout is not None, "nothing would ever happen again"
            self.now_s += max(timeout, 0)
        return events


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop in the time of its selector."""

    def __init__(self):
        self.selector = JumpingSelector()
        self.watched = 0
        super().__init__(self.selector)

    def time(self):
        return self.selector.now_s

    def add_reader(self, fd, callback, *args):
        self.watched += 1
        super().add_reader(fd, callback, *args)


class Line:
    """The meters' end of an RS-485 line.

    `script(number, request)` gives what the meters send as (seconds after the request's end,
    bytes); every byte arrives when it has passed the wire.
    """

    def __init__(self, script):
        self.script = script
        self.requests = []  # (when its first byte went out, the request)
        self.last_byte_s = 0.0
        self.opened = 0

    def open(self):
        self.opened += 1
        ours, self.meters = socket.socketpair()
        ours.setblocking(False)
        asyncio.get_running_loop().add_reader(self.meters, self._hear)
        return ours

    def unplug(self):
        asyncio.get_running_loop().remove_reader(self.meters)
        self.meters.close()

    def _hear(self):
        loop = asyncio.get_running_loop()
        raw = self.meters.recv(4096)
        if not raw:
            self.unplug()
            return
        if raw.startswith(b":"):
            raw = bytes.fromhex(raw[1:-2].decode()) + b"\x00"
        assert len(raw) == 8
        assert raw[1] in (3, 4), "no request but a read is ever sent"
        request = ReadRequest(raw[0], raw[1], int.from_bytes(raw[2:4]), int.from_bytes(raw[4:6]))
        self.requests.append((loop.time(), request))
        for after_s, data in self.script(len(self.requests), request):
            self.send(loop.time() + REQUEST_S + after_s, data)

    def send(self, at_s, data):
        for place, byte in enumerate(data, start=1):
            asyncio.get_running_loop().call_at(at_s + place * CHAR_S, self._deliver, bytes([byte]))

    def _deliver(self, byte):
        self.last_byte_s = asyncio.get_running_loop().time()
        with contextlib.suppress(OSError):
            self.meters.send(byte)


@dataclasses.dataclass
class Words:
    """What came of a read: one number per register, and when."""

    words: tuple[int, ...]
    sent_s: float
    received_s: float


class Asking:
    """A bus that is asked for registers, and waits while a late reply could be taken for theirs."""

    def __init__(self, bus, settings=None, gaps_ms=None):
        self.bus, self.stats = bus, bus.stats
        self.exchange, self.close = bus.exchange, bus.close
        self._settings = settings or LineSettings(BAUD, "8E1")
        self._gaps_ms = gaps_ms or {}

    async def read(self, request):
        question = RtuQuestion(request)
        gap_ms = self._gaps_ms.get(request.unit, 0)
        settings = dataclasses.replace(self._settings, request_gap_ms=gap_ms)
        if hasattr(self.bus, "held_until_s"):
            now_s = asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, self.bus.held_until_s(question) - now_s))
        answer = await self.bus.exchange(question, settings)
        return Words(words_of(answer.payload), answer.sent_s, answer.received_s)


def play(script, work, *, turnaround_max_ms=150, request_gaps_ms=None, **settings):
    """Run `work(bus, line)` on a line with that script; return what it returns."""

    async def main():
        line = Line(script)
        settings.setdefault("opener", line.open)
        bus = Asking(
            SerialBus(name="bus1", port="/dev/none", **settings),
            LineSettings(BAUD, "8E1", turnaround_max_ms=turnaround_max_ms),
            request_gaps_ms,
        )
        try:
            return await work(bus, line)
        finally:
            await bus.close()
            await asyncio.sleep(5)  # whatever is still on the wire

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main())


async def outcome(bus, request):
    try:
        return (await bus.read(request)).words
    except EdgeaggError as error:
        return error


def values(request):
    return tuple((request.unit * 1000 + request.start + n) & 0xFFFF for n in range(request.count))


def with_crc(body):
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


def reply(request, *, unit=None, function=None, count=None):
    words = values(request)[:count]
    head = bytes((unit or request.unit, function or request.function, 2 * len(words)))
    return with_crc(head + b"".join(word.to_bytes(2, "big") for word in words))


def sent(request):
    body = bytes((request.unit, request.function))
    return with_crc(body + request.start.to_bytes(2, "big") + request.count.to_bytes(2, "big"))


def refusal(request, code):
    return with_crc(bytes((request.unit, request.function | 0x80, code)))


def clean(_number, request):
    return [(0.02, reply(request))]


def first_then_clean(fault):
    return lambda number, request: fault(request) if number == 1 else clean(number, request)
