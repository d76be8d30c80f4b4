"""A gateway that can be killed: the agent's own parts, put together as `edgeagg_agent.app` does.

Owns what `Agent` and `Uplink` do around the parts, since those bring sockets and signals: commits
each second, cuts, publishing, receipts. Seconds in which nothing was read are leapt over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from edgeagg import topics
from edgeagg._core import CODEC_DELTA, CUT_CELLS_MAX
from edgeagg.batch import Hello, Receipt
from edgeagg.receiver.inbox import Message
from edgeagg_agent.believed import Believed
from edgeagg_agent.bus import Bus
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.own_points import OwnPoints
from edgeagg_agent.poller import Poller
from edgeagg_agent.reader import MeterReader
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.sender import Sender
from edgeagg_agent.site import Site
from hil_tests.virtual.clock import LeapingClock
from hil_tests.virtual.errors import ViolationError
from hil_tests.virtual.network import Network

_TICK_S = 1.0
_QUIET_S = 1.0


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a gateway stands in, and keeps when it is started again."""

    site: Site
    clock: Callable[[], LeapingClock]
    buses: Mapping[str, Bus]
    network: Network
    platform: Callable[[Message], None]
    rng: Random


class NotingRecorder(Recorder):
    """Tells when there is something to commit, so that idle seconds can be leapt over.

    Payloads are coded the fast way: a simulated month has as many as a real one.
    """

    codec = CODEC_DELTA
    news: asyncio.Event | None = None

    def _has_room(self, group: int, first_due_ms: int, last_due_ms: int, slots: int) -> bool:
        """Tell: every row and gap asks this first."""
        if self.news is not None:
            self.news.set()
        return super()._has_room(group, first_due_ms, last_due_ms, slots)


class LeapingPoller(Poller):
    """Waits in one go for whatever its bus does next: a slot, or a probe of an absent meter."""

    def __init__(
        self,
        bus: Bus,
        groups: Mapping[int, tuple[MeterReader, int]],
        recorder: Recorder,
        clock: LeapingClock,
    ) -> None:
        super().__init__(bus, groups, recorder, clock)
        self._leaping = clock

    async def _idle(self, free_ms: int) -> None:
        """Wait; what longer reads teach is left out, since a leap has no time for trials."""
        await self._leaping.leap_ms(free_ms)


class Gateway:
    """One life of the agent: from a start to a kill, or to the stop in order at the end."""

    def __init__(self, around: Surroundings) -> None:
        """Open the state directory and take up what a former life left."""
        self._around, self._site = around, around.site
        self._clock = around.clock()
        now_ms = self._clock.now_ms()
        self.outbox = Outbox(
            self._site.state_directory, now_ms=now_ms, bytes_max=self._site.state_bytes_max
        )
        self.recorder = NotingRecorder(
            self._site.state_directory,
            self.outbox,
            self._site.gateway,
            self._site.catalogue(),
            now_ms=now_ms,
            knows_time=True,
        )
        self._groups = range(len(self._site.catalogue().groups))
        self._cursor = self.outbox.cursor("platform")
        self.sender = Sender(self._cursor.through, around.rng.uniform)
        self._believed = Believed(self._cursor.through)
        self._read_news, self._send_news = asyncio.Event(), asyncio.Event()
        self._all_sent = asyncio.Event()
        self._received = asyncio.Queue[Receipt]()
        self.recorder.news = self._read_news
        self._polling: list[asyncio.Task[None]] = []
        self.promised = self.last_due_ms()

    def last_due_ms(self) -> list[int]:
        """Return, for every group, its last slot that is accounted for; 0 before the first."""
        return [self.recorder.last_due_ms(group) or 0 for group in self._groups]

    async def run(self) -> None:
        """Poll, record and deliver until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            pollers = self._pollers()
            points = OwnPoints.of(self._site, pollers, self.outbox, self.recorder, self._clock)
            work = [*(poller.run() for poller in pollers), points.run()]
            self._polling = [tasks.create_task(one) for one in work]
            tasks.create_task(self._keep_time())
            tasks.create_task(self._publish())
            tasks.create_task(self._listen())

    async def finish(self) -> None:
        """Poll no more, cut what is pending and wait until the platform has everything."""
        for task in self._polling:
            task.cancel()
        await asyncio.wait(self._polling)
        await self._flush()
        while self.sender.through < self.outbox.head:
            self._all_sent.clear()
            await self._all_sent.wait()

    def close(self) -> None:
        """Let go of the directory, as the kernel does for a process that is gone."""
        self.outbox.close()

    def take(self, message: bytes) -> None:
        """Let a receipt arrive."""
        self._received.put_nowait(Receipt.from_bytes(message))

    async def _listen(self) -> None:
        # a task of this life, so that what a receipt must not say ends the run
        while True:
            self._take(await self._received.get())

    def _take(self, receipt: Receipt) -> None:
        if receipt.gateway != self._site.gateway or receipt.epoch != self.outbox.epoch:
            raise ViolationError(f"a receipt for epoch {receipt.epoch} of {receipt.gateway}")
        if receipt.through > self.outbox.head:
            raise ViolationError(
                f"the platform has {receipt.through}, the outbox ends at {self.outbox.head}"
            )
        other = self._believed.compare(receipt, self.outbox.check)
        if other is not None:
            raise ViolationError(f"the platform has other bytes for sequence {other}")
        self.sender.take(self._believed.of(receipt), self._now_ms())
        self._cursor.advance(self.sender.through, self.sender.ranges)
        if self.sender.through == self.outbox.head:
            self._all_sent.set()
        self._send_news.set()

    def _pollers(self) -> list[Poller]:
        pollers: list[Poller] = []
        group = 0
        for config in self._site.buses:
            bus = self._around.buses[config.name]
            groups = {}
            for meter in config.meters:
                reader = MeterReader(meter, bus, self._clock)
                for place in range(len(meter.groups)):
                    groups[group] = reader, place
                    group += 1
            pollers.append(LeapingPoller(bus, groups, self.recorder, self._clock))
        return pollers

    async def _keep_time(self) -> None:
        flush_ms = self._site.flush_ms
        next_flush_ms = self._clock.now_ms() + flush_ms
        while True:
            await self._read_news.wait()
            await asyncio.sleep(_TICK_S)
            self._read_news.clear()
            reached = self.last_due_ms()
            await self.recorder.commit()
            self.promised = reached
            now_ms = self._clock.now_ms()
            if now_ms >= next_flush_ms or self.recorder.pending_cells >= CUT_CELLS_MAX // 2:
                await self._flush()
                next_flush_ms = now_ms + flush_ms

    async def _flush(self) -> None:
        await self.recorder.cut(self._clock.now_ms(), receipted=self.sender.through)
        await asyncio.to_thread(self.outbox.trim)
        self._send_news.set()

    async def _publish(self) -> None:
        network, gateway = self._around.network, self._site.gateway
        while True:
            await network.connect()
            self.sender.reconnected()
            while network.is_connected():
                if self.sender.hello_due(self._now_ms()):
                    self._say_hello()
                for sequence in self.sender.due(self.outbox.head, self._now_ms()):
                    data = await asyncio.to_thread(self.outbox.read, sequence, gateway)
                    network.send(Message(topics.batch(gateway), data), self._around.platform)
                self._send_news.clear()
                await self._wait_for_news()

    def _say_hello(self) -> None:
        box, gateway = self.outbox, self._site.gateway
        hello = Hello(gateway, box.epoch, box.head, self._clock.now_ms(), *box.origin).to_bytes()
        self._around.network.send(Message(topics.hello(gateway), hello), self._around.platform)

    def _now_ms(self) -> int:
        return int(self._clock.monotonic_s() * 1000)

    async def _wait_for_news(self) -> None:
        if self.sender.is_greeted and self.sender.through >= self.outbox.head:
            await self._send_news.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_QUIET_S):
                await self._send_news.wait()
