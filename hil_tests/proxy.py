"""A bad network on loopback: a TCP proxy that delays, loses, swallows and cuts.

A proxy cannot lose a TCP segment; what a lost one does to the stream is played instead: everything
behind it waits for the retransmission, whose time-out doubles with each further loss (RFC 6298).
Runs in a thread of its own, so that a test can wait for real processes meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from hil_tests.services.process import LOOPBACK, free_port

_SEGMENT_BYTES = 1460
_RTO_MIN_S = 0.2  # Linux' smallest retransmission time-out
_QUEUE_MAX = 256


@dataclass(frozen=True, slots=True)
class Weather:
    """How the network is: one way's delay in seconds, share of segments lost.

    `timeout_max_s` is what a retransmission time-out may grow to, Linux' limit if nobody set one.
    """

    latency_s: float = 0.0
    loss: float = 0.0
    timeout_max_s: float = 120.0

    def delay_s(self, rng: Random) -> float:
        """Draw how long a segment takes, retransmissions included."""
        delay_s = self.latency_s
        timeout_s = max(_RTO_MIN_S, 2 * self.latency_s)
        while rng.random() < self.loss:
            timeout_s = min(timeout_s, self.timeout_max_s)
            delay_s += timeout_s
            timeout_s *= 2
        return delay_s


FAIR = Weather()


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target_port`: `with Proxy(...).running():`.

    With `listener`, a socket that listens already, it takes connections there instead, and owns it.
    """

    def __init__(
        self, target_port: int, *, seed: int = 1, listener: socket.socket | None = None
    ) -> None:
        self._listener = listener or socket.create_server((LOOPBACK, free_port()))
        self.port: int = self._listener.getsockname()[1]
        self.weather = FAIR
        self.connections = 0
        self._target_port = target_port
        self._rng = Random(seed)
        self._loop = asyncio.new_event_loop()
        self._links: dict[_Link, asyncio.Task[None]] = {}
        self._is_half_open = False

    @contextlib.contextmanager
    def running(self) -> Iterator[Proxy]:
        """Serve while the `with` block lasts."""
        listening = threading.Event()
        stop = asyncio.Event()
        thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._serve(listening, stop),), daemon=True
        )
        thread.start()
        listening.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(stop.set)
            thread.join()
            self._loop.close()

    def cut(self) -> None:
        """End every connection."""
        self._do(self._cut)

    def half_open(self) -> None:
        """Let every connection hang for ever without a word to either end, new ones included."""
        self._do(self._hang)

    def heal(self) -> None:
        """Let new connections through again; those that hang are dead, as behind a lost NAT."""
        self._do(self._unhang)

    def _do(self, what: Callable[[], None]) -> None:
        """Return when the proxy's own thread has done it."""
        done = threading.Event()

        def do() -> None:
            what()
            done.set()

        self._loop.call_soon_threadsafe(do)
        done.wait()

    async def _serve(self, listening: threading.Event, stop: asyncio.Event) -> None:
        server = await asyncio.start_server(self._accept, sock=self._listener)
        listening.set()
        async with server:
            await stop.wait()
            tasks = list(self._links.values())
            self._cut()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        link = _Link(self, reader, writer)
        task = asyncio.current_task()
        if task is not None:
            self._links[link] = task
        if self._is_half_open:
            link.hang()
        try:
            # a cut cancels this task; the server must not see that as its own failure
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await link.carry(self._target_port)
        finally:
            self._links.pop(link, None)
            writer.close()

    def _cut(self) -> None:
        for task in list(self._links.values()):
            task.cancel()

    def _hang(self) -> None:
        self._is_half_open = True
        for link in self._links:
            link.hang()

    def _unhang(self) -> None:
        self._is_half_open = False

    def delay_s(self) -> float:
        """Draw how long the next segment takes."""
        return self.weather.delay_s(self._rng)


class _Link:
    """One connection through the proxy, both ways."""

    def __init__(
        self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy, self._reader, self._writer = proxy, reader, writer
        self._flows = asyncio.Event()
        self._flows.set()

    def hang(self) -> None:
        """Pass nothing on any more."""
        self._flows.clear()

    async def carry(self, target_port: int) -> None:
        """Carry bytes both ways until one end closes or the link is cut."""
        await self._flows.wait()
        reader, writer = await asyncio.open_connection(LOOPBACK, target_port)
        ways = [
            asyncio.ensure_future(self._way(self._reader, writer)),
            asyncio.ensure_future(self._way(reader, self._writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()

    async def _way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUE_MAX)
        delivering = asyncio.ensure_future(self._deliver(queue, writer))
        loop, last_s = asyncio.get_running_loop(), 0.0
        try:
            while data := await reader.read(_SEGMENT_BYTES):
                # a stream: nothing overtakes a segment that is sent again
                last_s = max(last_s, loop.time() + self._proxy.delay_s())
                await queue.put((last_s, data))
            await self._flows.wait()
        finally:
            delivering.cancel()
            await asyncio.gather(delivering, return_exceptions=True)

    async def _deliver(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_s, data = await queue.get()
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            await self._flows.wait()
            writer.write(data)
            await writer.drain()
