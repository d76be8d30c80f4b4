"""Modbus TCP with faults: a door in front of the pymodbus server.

Owns the client connections of one TCP line that has faults. It passes frames on whole and changes
replies as `LineFaults` says; what stands in registers is not its business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Self

from hil_tests.sim.errors import SimError
from hil_tests.sim.faults import LineFaults
from hil_tests.sim.framing import Mbap
from hil_tests.sim.kinds import Burst
from hil_tests.sim.meters import SimMeter
from hil_tests.sim.ports import LOOPBACK
from hil_tests.sim.servers import TcpServer, is_there

_HEADER_BYTES = 6
_PLUG_LOOK_S = 0.02
_ANSWER_S = 5.0


class TcpGate:
    """Modbus TCP on 127.0.0.1 as `TcpServer` offers it, through which faults strike."""

    def __init__(
        self,
        meters: Iterable[SimMeter],
        *,
        port: int,
        now_ms: Callable[[], int],
        faults: LineFaults,
    ) -> None:
        self.port = port
        self.faults = faults
        self._meters = tuple(meters)
        self._now_ms = now_ms
        self._server = TcpServer(self._meters, port=0, now_ms=now_ms)
        self._listener: asyncio.Server | None = None
        self._clients: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    @property
    def writes_seen(self) -> list[tuple[int, int]]:
        """Unit and function code of every request that was no read."""
        return self._server.writes_seen

    async def __aenter__(self) -> Self:
        """Listen; port 0 takes a free one, which is then in `port`."""
        await self._server.__aenter__()
        try:
            await self._listen()
        except OSError as error:
            await self._server.__aexit__(None, None, None)
            raise SimError(f"{LOOPBACK}:{self.port}: cannot listen, is the port in use?") from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the listener, all connections and the server behind."""
        await self._hang_up()
        await self._server.__aexit__(kind, error, traceback)

    async def serve(self) -> None:
        """Take the port away while "unplug" holds, until cancelled."""
        while True:
            unplugged = self.faults.holds("unplug")
            if unplugged and self._listener is not None:
                self.faults.struck["unplug"] += 1
                await self._hang_up()
            elif not unplugged and self._listener is None:
                await self._listen()
            await asyncio.sleep(_PLUG_LOOK_S)

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._client, LOOPBACK, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _hang_up(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        clients = dict(self._clients)
        for task, writer in clients.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a client without a task")
        self._clients[task] = writer
        try:
            # A task that ends cancelled makes asyncio's streams of Python 3.11 log an error.
            with contextlib.suppress(asyncio.CancelledError):
                await self._pass_on(reader, writer)
        finally:
            del self._clients[task]
            writer.close()
            await _closed(writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client; each reply has its own task, so that a late one stops no other."""
        meters, back = await asyncio.open_connection(LOOPBACK, self._server.port)
        try:
            async with asyncio.TaskGroup() as replies:
                while (request := await _frame(reader)) is not None:
                    back.write(request)
                    if len(request) <= _HEADER_BYTES or not is_there(
                        self._meters, request[_HEADER_BYTES], self._now_ms
                    ):
                        continue
                    async with asyncio.timeout(_ANSWER_S):
                        reply = await _frame(meters)
                    if reply is None:
                        return
                    framing = Mbap(int.from_bytes(request[:2], "big"))
                    replies.create_task(_speak(writer, self.faults.shape(reply, framing)))
        finally:
            back.close()
            await _closed(back)


async def _speak(writer: asyncio.StreamWriter, bursts: Sequence[Burst]) -> None:
    for burst in bursts:
        if burst.delay_s:
            await asyncio.sleep(burst.delay_s)
        if not writer.is_closing():
            writer.write(burst.data)


async def _closed(writer: asyncio.StreamWriter) -> None:
    """Wait until the socket is gone; how the other side went does not matter."""
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _frame(reader: asyncio.StreamReader) -> bytes | None:
    """Read one frame; None = the other side has gone."""
    try:
        head = await reader.readexactly(_HEADER_BYTES)
        return head + await reader.readexactly(int.from_bytes(head[4:6], "big"))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
