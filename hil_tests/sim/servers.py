"""pymodbus servers in front of simulated meters.

Owns the two ways to a meter: RTU or ASCII frames for a line (`RtuServer.answer`) and Modbus TCP
(`TcpServer`). Reads cross pymodbus' own framer, decoder and server. Nothing can be written: every
function but 3 and 4 is refused and remembered in `writes_seen`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from hil_tests.sim.errors import SimError
from hil_tests.sim.framing import Ascii, Framing, Rtu
from hil_tests.sim.ports import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

    from pymodbus.pdu import ModbusPDU

    from hil_tests.sim.meters import SimMeter

_READS = (3, 4)
_REQUEST_BYTES = 6  # of a read: unit, function, start, count
_REPLY_TIMEOUT_S = 60.0  # a server on loopback that takes longer is broken, not slow
_ANY_UNIT = 0  # pymodbus' own number for units that no device claims


class TcpServer:
    """Modbus TCP on 127.0.0.1: `async with TcpServer(...)`. Dead and unknown units stay silent."""

    def __init__(
        self,
        meters: Iterable[SimMeter],
        *,
        port: int,
        now_ms: Callable[[], int],
        framer: FramerType = FramerType.SOCKET,
    ) -> None:
        self.writes_seen: list[tuple[int, int]] = []  # (unit, function code)
        self.port = port
        self._framer = framer
        self._now_ms = now_ms
        self._meters = tuple(meters)
        self._silenced = False
        self._server: ModbusTcpServer | None = None

    async def __aenter__(self) -> Self:
        """Listen; port 0 takes a free one, which is then in `port`."""
        self._server = ModbusTcpServer(
            [_device(meter, self._now_ms) for meter in self._meters] + [_nobody()],
            framer=self._framer,
            address=(LOOPBACK, self.port),
            trace_pdu=self._watch,
            trace_packet=self._mute,
        )
        try:
            await self._server.serve_forever(background=True)
        except RuntimeError as error:
            raise SimError(f"{LOOPBACK}:{self.port}: cannot listen, is the port in use?") from error
        listener = self._server.transport
        if isinstance(listener, asyncio.Server):
            self.port = listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the listener and all connections."""
        if self._server is not None:
            await self._server.shutdown()  # type: ignore[no-untyped-call]  # so in pymodbus

    def _watch(self, sending: bool, pdu: ModbusPDU) -> ModbusPDU:  # noqa: FBT001 - pymodbus calls it
        """See each message as a PDU: remember writes, notice replies that no meter would give."""
        if sending:
            self._silenced = not is_there(self._meters, pdu.dev_id, self._now_ms)
        elif pdu.function_code not in _READS:
            self.writes_seen.append((pdu.dev_id, pdu.function_code))
        return pdu

    def _mute(self, sending: bool, packet: bytes) -> bytes:  # noqa: FBT001 - pymodbus calls it
        """Swallow the reply of a meter that is not there; called right behind `_watch`."""
        return b"" if sending and self._silenced else packet


class RtuServer:
    """The meters of one line: `answer` is what a `Line` asks.

    It judges a frame as meters do before any of it reaches pymodbus: right checksum, own unit id.
    """

    def __init__(
        self, meters: Iterable[SimMeter], *, now_ms: Callable[[], int], ascii_mode: bool = False
    ) -> None:
        self.framing: Framing = Ascii() if ascii_mode else Rtu()
        self._meters = tuple(meters)
        self._now_ms = now_ms
        self._ascii = ascii_mode
        framer = FramerType.ASCII if ascii_mode else FramerType.RTU
        self._server = TcpServer(self._meters, port=0, now_ms=now_ms, framer=framer)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        """Start the pymodbus server and connect to it."""
        await self._server.__aenter__()
        self._reader, self._writer = await asyncio.open_connection(LOOPBACK, self._server.port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect and stop the server."""
        if self._writer is not None:
            self._writer.close()
            await self._writer.wait_closed()
        await self._server.__aexit__(kind, error, traceback)

    async def answer(self, frame: bytes) -> bytes:
        """Return the reply to a frame, empty if no meter would answer."""
        body = self.framing.unwrap(frame)
        if not body or not is_there(self._meters, body[0], self._now_ms):
            return b""
        if body[1] not in _READS:
            return self._refusal(body, ExcCodes.ILLEGAL_FUNCTION)
        if len(body) != _REQUEST_BYTES:
            return b""
        if not 1 <= int.from_bytes(body[4:6], "big") <= 125:
            # pymodbus answers this one with function code 0x80, which no meter does.
            return self._refusal(body, ExcCodes.ILLEGAL_VALUE)
        return await self._exchange(self.framing.wrap(body))

    def calls(self, unit: int, frame: bytes) -> bool:
        """Tell whether a frame is for a unit id, before anything else is judged."""
        return frame[1:3] == b"%02X" % unit if self._ascii else frame[:1] == bytes((unit,))

    async def _exchange(self, frame: bytes) -> bytes:
        if self._reader is None or self._writer is None:
            raise RuntimeError("answer() outside of the server's with block")
        async with asyncio.timeout(_REPLY_TIMEOUT_S):
            self._writer.write(frame)
            if self._ascii:
                return await self._reader.readuntil(b"\r\n")
            head = await self._reader.readexactly(3)
            rest = 2 if head[1] & 0x80 else head[2] + 2
            return head + await self._reader.readexactly(rest)

    def _refusal(self, body: bytes, code: ExcCodes) -> bytes:
        return self.framing.wrap(bytes((body[0], body[1] | 0x80, code)))


def is_there(meters: Iterable[SimMeter], unit: int, now_ms: Callable[[], int]) -> bool:
    """Tell whether a meter with this unit id answers; the clock is looked at only if it matters."""
    return any(
        meter.unit == unit and not meter.dead and not (meter.patterns and meter.silent(now_ms()))
        for meter in meters
    )


def _device(meter: SimMeter, now_ms: Callable[[], int]) -> SimDevice:
    """Give pymodbus a block over all registers of a meter; its content is computed when read."""
    first, end = meter.span()

    async def fill(
        function: int,
        block_start: int,
        address: int,
        count: int,
        registers: list[int],
        written: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        if written is not None or function not in _READS:
            return ExcCodes.ILLEGAL_FUNCTION
        words = meter.read(function=function, address=address, count=count, t_ms=now_ms())
        if words is None:
            return ExcCodes.ILLEGAL_ADDRESS
        registers[address - block_start : address - block_start + count] = words
        return None

    block = SimData(first, values=[0] * (end - first), datatype=DataType.REGISTERS)
    return SimDevice(meter.unit, simdata=block, action=fill)


def _nobody() -> SimDevice:
    """Catch requests to units that are not there, which pymodbus would log as its own failure."""
    return SimDevice(_ANY_UNIT, simdata=SimData(0, datatype=DataType.REGISTERS))
