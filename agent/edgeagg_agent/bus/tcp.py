"""Modbus TCP: pymodbus's client, wrapped by the checks it does not make.

Owns the connection. pymodbus compares neither function nor register count with the request and
takes a reply with transaction id 0 for any request (3.16), so every reply is checked here, and
after a time-out the connection is closed: a late reply cannot come over a new one.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING

from edgeagg.errors import FrameError, LinkError, RefusedError
from edgeagg_agent.bus import Answer, BusStats, LineSettings, ReadRequest
from edgeagg_agent.protocol.modbus import RtuQuestion, exception_text

if TYPE_CHECKING:
    from pymodbus.client import AsyncModbusTcpClient
    from pymodbus.pdu import ModbusPDU

    from edgeagg_agent.protocol import Question

RECONNECT_S = 1.0  # after a failed attempt, so that an absent gateway is not hammered


class TcpBus:
    """One Modbus TCP connection, one transaction at a time.

    Connects at the first read, and again after the connection was lost, at most once a second while
    that fails. Connecting and each reply may take `timeout_ms`.
    """

    def __init__(self, *, name: str, host: str, port: int, timeout_ms: int = 1000) -> None:
        """Prepare; nothing is connected."""
        self.stats = BusStats()
        self._name = name
        self._host = host
        self._port = port
        self._timeout_s = timeout_ms / 1000
        self._client: AsyncModbusTcpClient | None = None
        self._was_connected = False
        self._connect_again_s = 0.0
        self._received = b""
        self._answered = False  # the last request got the reply it asked for, or a refusal
        self._lock = asyncio.Lock()

    async def exchange(self, question: Question, settings: LineSettings) -> Answer:  # noqa: ARG002
        """Ask one meter; only its request is of use here, silences and speeds are of a line.

        Raises what `Bus.exchange` raises, and TypeError for a question that is not Modbus RTU's.
        """
        if not isinstance(question, RtuQuestion):
            raise TypeError(f"{self._name}: {question}: Modbus TCP asks with RtuQuestion only")
        async with self._lock:
            client = await self._connect()
            self._answered = False
            try:
                answer = await self._exchange(client, question.read)
            finally:
                # covers cancelled reads too: their reply must not meet the next request
                if not self._answered:
                    self._disconnect()
        return Answer(answer.payload[: 2 * question.wanted], answer.sent_s, answer.received_s)

    async def close(self) -> None:
        """Close the connection."""
        async with self._lock:
            self._disconnect()
        await asyncio.sleep(0)  # the transport closes its socket in the loop's next turn

    def _disconnect(self) -> None:
        if self._client:
            self._client.close()
            self._client = None

    async def _connect(self) -> AsyncModbusTcpClient:
        if self._client and self._client.connected:
            return self._client
        # a site with serial lines only does without the time and memory of this import
        from pymodbus.client import AsyncModbusTcpClient  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        where = f"{self._name}: {self._host}:{self._port}"
        if loop.time() < self._connect_again_s:
            raise LinkError(f"{where} is not connected; tried once a second")
        client = AsyncModbusTcpClient(
            self._host,
            port=self._port,
            name=self._name,
            timeout=self._timeout_s,
            retries=0,
            reconnect_delay=0,  # its own reconnecting would be a task that nobody owns
            trace_packet=self._keep_received,
        )
        if not await client.connect():
            client.close()
            self._connect_again_s = loop.time() + RECONNECT_S
            raise LinkError(f"{where} does not accept connections")
        self.stats.reopened += self._was_connected
        self._was_connected = True
        self._client = client
        return client

    def _keep_received(self, sending: bool, data: bytes) -> bytes:  # noqa: FBT001 - pymodbus's
        self._received = b"" if sending else data
        return data

    async def _exchange(self, client: AsyncModbusTcpClient, request: ReadRequest) -> Answer:
        from pymodbus.exceptions import ModbusException  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        holding = request.function == 3
        read = client.read_holding_registers if holding else client.read_input_registers
        sent_s = loop.time()
        self.stats.transactions += 1
        try:
            pdu = await read(request.start, count=request.count, device_id=request.unit)
        except ModbusException as error:
            if self._received:
                raise self._bad_frame(request, "no reply among what came") from error
            self.stats.no_reply += 1
            raise LinkError(f"{self._name}: {request}: no reply") from error
        finally:
            received_s = loop.time()
            self.stats.busy_s += received_s - sent_s
        return Answer(self._check(request, pdu), sent_s, received_s)

    def _check(self, request: ReadRequest, pdu: ModbusPDU) -> bytes:
        if pdu.dev_id != request.unit:
            raise self._bad_frame(request, f"unit {pdu.dev_id} answered instead")
        if pdu.function_code & 0x7F != request.function:
            found = f"function {pdu.function_code & 0x7F} came instead of {request.function}"
            raise self._bad_frame(request, found)
        if pdu.isError():
            self.stats.refused += 1
            self._answered = True
            text = exception_text(pdu.exception_code)
            raise RefusedError(f"{self._name}: {request}: refused: {text}", pdu.exception_code)
        if len(pdu.registers) != request.count:
            raise self._bad_frame(request, f"{len(pdu.registers)} registers came")
        self._answered = True
        return struct.pack(f">{request.count}H", *pdu.registers)

    def _bad_frame(self, request: ReadRequest, what: str) -> FrameError:
        self.stats.bad_frame += 1
        self.stats.noise_bytes += len(self._received)
        return FrameError(f"{self._name}: {request}: {what}", self._received)
