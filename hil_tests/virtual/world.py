"""One run: gateway, platform, network and meters in one loop, and the plan that breaks them.

Owns the lives: who runs, who is killed when, and that the end is in order. Everything that travels
goes into the digest, so that two runs of a seed can be compared bit for bit.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

from edgeagg.receiver.inbox import Message
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg_agent import boundary, metrics
from hil_tests.virtual.bus import VirtualBus, WiredMeter
from hil_tests.virtual.clock import HostClock, LeapingClock
from hil_tests.virtual.errors import ViolationError
from hil_tests.virtual.gateway import Gateway, Surroundings
from hil_tests.virtual.loop import VirtualLoop
from hil_tests.virtual.network import Network
from hil_tests.virtual.plan import Kill, Plan
from hil_tests.virtual.platform import Platform
from hil_tests.virtual.site import make_meters, make_site
from hil_tests.virtual.truth import Oracle, Span, Tally

_NS_PER_MS = 1_000_000
_DRAIN_MAX_S = 12 * 3_600
_TORN_BYTES_MAX = 400
_TORN_AFTER_BYTES = 64  # so that no committed record, which may end in zeros, is written over


class World:
    """Everything of one run; each part draws from a generator of its own."""

    def __init__(
        self,
        loop: VirtualLoop,
        plan: Plan,
        directory: Path,
        *,
        seed: int,
        start_ms: int,
        period_ms: int,
    ) -> None:
        """Set the site up in `directory`; true time is `start_ms` when the loop's is 0."""
        self.gateway_kills, self.platform_kills, self.torn_bytes = 0, 0, 0
        self._travelled = hashlib.sha256()
        self._loop, self._plan, self._directory = loop, plan, directory
        self._start_ms, self._period_ms = start_ms, period_ms
        self._host = HostClock(self._true_ms, plan.steps)
        self._disk_rng = Random(f"{seed}/disk")
        self.network = Network(loop, Random(f"{seed}/network"), plan.outages)
        site = make_site(directory, period_ms=period_ms)
        self._meters = make_meters(site, seed=seed, start_ms=start_ms)
        self._around = Surroundings(
            site=site,
            clock=self._clock,
            buses={
                bus.name: VirtualBus(
                    loop,
                    Random(f"{seed}/bus/{bus.name}"),
                    {
                        meter.address.unit: WiredMeter(
                            self._meters[meter.name], plan.dark[meter.name]
                        )
                        for meter in bus.meters
                    },
                    self._true_ms,
                )
                for bus in site.buses
            },
            network=self.network,
            platform=self._to_platform,
            rng=Random(f"{seed}/sender"),
        )
        self._gateway: Gateway | None = None
        self._platform: Platform | None = None
        self._promised = [0] * len(site.catalogue().groups)

    async def run(self, span_ms: int) -> tuple[Tally, str]:
        """Let the site live for `span_ms`, then check it; return what there is, and its digest."""
        try:
            return await self._run(span_ms)
        finally:
            if self._gateway is not None:
                self._gateway.close()
            if self._platform is not None:
                await self._platform.close()

    async def _run(self, span_ms: int) -> tuple[Tally, str]:
        begun_ms = self._host.host_ms(self._true_ms())
        async with asyncio.TaskGroup() as lives:
            gateways = lives.create_task(self._live_gateways(lives))
            platforms = lives.create_task(self._live_platforms(lives))
            await self._until(span_ms)
            gateway, gateway_life = await gateways
            platform_life = await platforms
            await self._between_slots()
            span = Span(begun_ms, self._host.host_ms(self._true_ms()))
            await self._finish(gateway)
            days = [] if self._platform is None else await self._platform.reconcile()
            for life in (gateway_life, platform_life):
                life.cancel()
        with closing(sqlite3.connect(self._database)) as connection:
            oracle = Oracle(connection, self._meters, self._host.true_ms_of)
            oracle.check(span, gateway.outbox)
            oracle.check_days(days, span)
            self._travelled.update(oracle.digest())
        return oracle.tally, self._travelled.hexdigest()

    async def _between_slots(self) -> None:
        """Wait until nothing is being read, so that what was due is known exactly.

        That is two thirds into a period, except in the last one before a quarter hour, in which
        totalisers are read late.
        """
        quarter_ms = boundary.QUARTER_MS
        host_ms = self._host.host_ms(self._true_ms())
        wait_ms = (self._period_ms * 2 // 3 - host_ms) % self._period_ms
        while (host_ms + wait_ms) % quarter_ms >= quarter_ms - self._period_ms:
            wait_ms += self._period_ms
        await asyncio.sleep(wait_ms / 1000)

    @property
    def _database(self) -> str:
        return str(self._directory / "platform.db")

    def _true_ms(self) -> int:
        return self._start_ms + self._loop.now_ms

    def _clock(self) -> LeapingClock:
        return LeapingClock(
            self._host,
            lambda: self._loop.now_ms * _NS_PER_MS,
            min(self._period_ms, metrics.PERIOD_MS),
        )

    async def _until(self, at_ms: int) -> None:
        await asyncio.sleep((at_ms - self._loop.now_ms) / 1000)

    async def _live_gateways(self, lives: asyncio.TaskGroup) -> tuple[Gateway, asyncio.Task[None]]:
        """Start and kill one gateway after the other; return the last one."""
        gateway, life = self._start_gateway(lives)
        for kill in self._plan.gateway_kills:
            await self._until(kill.from_ms)
            await self._moment(kill)
            self._gateway = None
            try:
                life.cancel()
                await asyncio.wait([life])
            finally:
                gateway.close()
            self._promised = gateway.promised
            self.gateway_kills += 1
            if kill.tears:
                self._tear()
            await asyncio.sleep(kill.down_ms / 1000)
            gateway, life = self._start_gateway(lives)
        return gateway, life

    def _start_gateway(self, lives: asyncio.TaskGroup) -> tuple[Gateway, asyncio.Task[None]]:
        gateway = self._gateway = Gateway(self._around)
        self.torn_bytes += gateway.outbox.repairs[0]
        for group, promised_ms in enumerate(self._promised):
            if gateway.promised[group] < promised_ms:
                raise ViolationError(
                    f"group {group}: slot {promised_ms} was committed before the kill, "
                    f"{gateway.promised[group]} is the last after it"
                )
        return gateway, lives.create_task(gateway.run())

    async def _moment(self, kill: Kill) -> None:
        """Wait for the piece of blocking work that the kill is to hit."""
        reached = asyncio.Event()
        for _ in range(kill.works):
            reached.clear()
            self._loop.at_work = reached.set
            await reached.wait()
        self._loop.at_work = _nobody
        await asyncio.sleep(kill.into_ms / 1000)

    async def _live_platforms(self, lives: asyncio.TaskGroup) -> asyncio.Task[None]:
        """Start and kill one platform after the other; return the life of the last one."""
        platform, life = await self._start_platform(lives)
        for kill in self._plan.platform_kills:
            await self._until(kill.from_ms)
            self._platform = None
            try:
                life.cancel()
                await asyncio.wait([life])
            finally:
                await platform.close()
            self.platform_kills += 1
            await asyncio.sleep(kill.down_ms / 1000)
            platform, life = await self._start_platform(lives)
        return life

    async def _start_platform(
        self, lives: asyncio.TaskGroup
    ) -> tuple[Platform, asyncio.Task[None]]:
        platform = Platform(await SqliteStore.open(self._database), self._true_ms)
        self._platform = platform
        return platform, lives.create_task(platform.run(self._answer))

    async def _finish(self, gateway: Gateway) -> None:
        try:
            async with asyncio.timeout(_DRAIN_MAX_S):
                await gateway.finish()
        except TimeoutError:
            raise ViolationError(
                f"batch {gateway.sender.through + 1} of {gateway.outbox.head} was not delivered"
                f" within {_DRAIN_MAX_S // 3600} h after the end"
            ) from None

    def _to_platform(self, message: Message) -> None:
        self._travelled.update(f"{self._loop.now_ms} {message.topic}".encode() + message.data)
        if self._platform is not None:
            self._platform.arrive(message)

    def _answer(self, receipt: bytes) -> None:
        self.network.send(receipt, self._to_gateway)

    def _to_gateway(self, receipt: bytes) -> None:
        self._travelled.update(f"{self._loop.now_ms} receipt".encode() + receipt)
        if self._gateway is not None:
            self._gateway.take(receipt)

    def _tear(self) -> None:
        """Leave the begin of a record that was never committed, as a power cut may."""
        for journal in sorted(self._around.site.state_directory.glob("*-[0-9]*/")):
            if not journal.is_dir():
                continue
            segment = max(journal.iterdir())
            data = segment.read_bytes()
            torn = b"EJ" + self._disk_rng.randbytes(self._disk_rng.randrange(_TORN_BYTES_MAX))
            place = len(data.rstrip(b"\0")) + _TORN_AFTER_BYTES
            if place + len(torn) <= len(data):
                with segment.open("r+b") as stream:
                    stream.seek(place)
                    stream.write(torn)


def _nobody() -> None:
    """Take no notice of blocking work."""
