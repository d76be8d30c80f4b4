"""Serial servers: the frames of a line, raw, over a TCP connection.

Owns the connection. The engine and its rules are those of a serial port (`edgeagg_agent.bus.line`),
but bytes come when the network hands them over: a reply is told by its frame, and the silence
before the next request is counted from when its last byte came, which is never too early. The
server's own setting is the line's speed; it cannot be changed from here.
"""

from __future__ import annotations

import asyncio
import socket

from edgeagg.errors import LinkError
from edgeagg_agent.bus import LineSettings
from edgeagg_agent.bus.line import LineBus
from edgeagg_agent.bus.port import FdPort, LineClock, LoopClock, TunedPort

NETWORK_LATENCY_S = 0.1  # there and back, with the server's own time for packing bytes
CONNECT_MAX_S = 2.0
DEAD_PEER_MS = 10_000  # unacknowledged data this old ends a connection whose server lost its power


class StreamBus(LineBus):
    """One line behind a serial server; see `LineBus`.

    Every question must come with the `baud` and `format` that the server is set to; another raises
    LinkError.
    """

    def __init__(
        self,
        *,
        name: str,
        host: str,
        port: int,
        baud: int,
        format: str,  # noqa: A002 - the word of the site file
        clock: LineClock | None = None,
    ) -> None:
        """Prepare; nothing is connected."""
        where = f"{host}:{port}"

        async def opened(settings: LineSettings) -> TunedPort:
            line = TunedPort(FdPort(await _connect(host, port)), baud=baud, form=format)
            try:
                line.retune(settings)
            except LinkError:
                line.close()
                raise
            return line

        super().__init__(
            name=name,
            where=where,
            opener=opened,
            clock=clock or LoopClock(),
            handover_s=NETWORK_LATENCY_S,
        )


async def _connect(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_MAX_S):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, address = found[0]
            connection = socket.socket(family, kind, protocol)
            try:
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, DEAD_PEER_MS)
                await loop.sock_connect(connection, address)
            except BaseException:
                connection.close()
                raise
    except TimeoutError as error:
        raise LinkError(f"{host}:{port} does not answer; is the serial server on?") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise LinkError(f"{host}:{port} does not accept connections ({reason})") from error
    return connection
