"""One destination: the MQTT connection to it, supplied with what its `Sender` says.

Owns the connection, the pauses between two of them, and the check that the platform's history is
the gateway's own. It decides nothing about what is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
from collections.abc import Callable
from typing import Any

import aiomqtt

from edgeagg import tls, topics
from edgeagg.batch import CREDIT_MAX, Hello, Origin, Receipt
from edgeagg.errors import FormatError, LinkError
from edgeagg.seal import Domain, signed_by
from edgeagg_agent.believed import Believed
from edgeagg_agent.clock import JudgedClock
from edgeagg_agent.cursor import Cursor
from edgeagg_agent.desk import Desk
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.pace import Uniform
from edgeagg_agent.sender import Sender
from edgeagg_agent.site import Destination

_log = logging.getLogger(__name__)
_client_log = logging.getLogger(f"{__name__}.client")
# it warns of publishes that wait for the broker, and tells errors that it then raises
_client_log.setLevel(logging.CRITICAL)

_PATIENCE_S = 20.0  # for the broker's word
_PATIENCE_MAX_S = 40.0
_KEEPALIVE_SHARE = 0.45  # a silent connection is given up after twice as long
_QUIET_S = 1.0
_NUDGE_S = 1.0
_NUDGES_MAX = 60  # while nothing comes from the platform
# from linux/tcp.h: time-outs of a stream with few packets under way do not double at first
_TCP_THIN_LINEAR_TIMEOUTS = 16
_SOCKET_OPTIONS = (
    # a word must not wait for the acknowledgement of the one before
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, _TCP_THIN_LINEAR_TIMEOUTS, 1),
)
_RECONNECT_MIN_S = 4.0
_RECONNECT_MAX_S = 60.0


class Backoff:
    """How long to pause before the next connection: drawn evenly from nothing to a limit.

    The limit doubles with each try and falls back only when a platform has answered: a broker that
    comes back sees its gateways spread over the whole limit, and one that accepts connections and
    drops them again is not stormed.
    """

    def __init__(self, uniform: Uniform) -> None:
        self._uniform = uniform
        self._limit_s = _RECONNECT_MIN_S

    def pause_s(self) -> float:
        """Draw the next pause."""
        pause_s = self._uniform(0, self._limit_s)
        self._limit_s = min(2 * self._limit_s, _RECONNECT_MAX_S)
        return pause_s

    def reset(self) -> None:
        """Begin anew: all is well."""
        self._limit_s = _RECONNECT_MIN_S


class _Client(aiomqtt.Client):
    """One that is as patient with the first packet as with any other."""

    def __init__(self, host: str, port: int, *, timeout: float, **options: Any) -> None:  # noqa: ANN401 - aiomqtt's own
        super().__init__(host, port, timeout=timeout, **options)
        self._client.connect_timeout = timeout


class Uplink:
    """Keeps one destination supplied for as long as it runs."""

    def __init__(
        self,
        destination: Destination,
        gateway: str,
        outbox: Outbox,
        cursor: Cursor,
        clock: JudgedClock,
        on_foreign: Callable[[Origin], None],
        desk: Desk | None = None,
    ) -> None:
        """Deliver what `outbox` holds; `on_foreign` is told once of a history that is not ours.

        A `desk` takes this destination's commands, if it may.
        """
        self._desk = desk if desk is not None and desk.listens_to(destination) else None
        self.is_connected = False
        self.dropped_count = 0
        announced = outbox.announcements_behind(cursor.through)
        first = announced[-1] if announced else 0
        self.sender = Sender(cursor.through, random.uniform, first=first)
        self._keys = outbox.keys()
        self._destination, self._gateway = destination, gateway
        self._outbox, self._cursor, self._clock = outbox, cursor, clock
        self._on_foreign = on_foreign
        self._backoff = Backoff(random.uniform)
        self._believed = Believed(cursor.through)
        self._is_foreign = False
        self._nudges = 0
        self._news = asyncio.Event()

    @property
    def name(self) -> str:
        """The destination's name."""
        return self._destination.name

    @property
    def waiting_count(self) -> int:
        """Batches that this destination has not receipted."""
        return self.sender.waiting(self._outbox.head)

    def note_dropped(self, first: int, end: int) -> None:
        """Count what the outbox has dropped of [first, end): this destination gets it as lost."""
        self.dropped_count += self.sender.waiting(end - 1) - self.sender.waiting(first - 1)

    def wake(self) -> None:
        """Say that the outbox has grown."""
        self._news.set()

    async def run(self) -> None:
        """Connect, deliver, reconnect; ends only by cancellation."""
        while True:
            try:
                async with self._client() as client:
                    self.is_connected = True
                    _log.info("%s: connected to %s", self.name, self._where)
                    await self._deliver(client)
            except* (aiomqtt.MqttError, LinkError) as errors:
                state = "connection lost" if self.is_connected else "no connection"
                to, now_ms = self._destination, self._clock.now_ms()
                why = tls.explain(_first(errors), to.host, now_ms, is_tls=to.tls)
                _log.warning("%s: %s to %s: %s", self.name, state, self._where, why)
            finally:
                self.is_connected = False
            await asyncio.sleep(self._backoff.pause_s())

    @property
    def _where(self) -> str:
        return f"{self._destination.host}:{self._destination.port}"

    def _client(self) -> aiomqtt.Client:
        to = self._destination
        # a line over which receipts take long needs longer for everything: a new connection begins
        # with nothing that the old one had got through
        patience_s = min(max(_PATIENCE_S, 4 * self.sender.timeout_ms / 1000), _PATIENCE_MAX_S)
        return _Client(
            to.host,
            to.port,
            identifier=f"edgeagg-{self._gateway}-{to.name}",
            username=to.username or None,
            password=tls.password(to.password_file),
            tls_context=tls.context(to.tls_files) if to.tls else None,
            protocol=aiomqtt.ProtocolVersion.V311,
            keepalive=round(_KEEPALIVE_SHARE * patience_s),
            timeout=patience_s,
            max_queued_incoming_messages=100,
            # the sender has a window of its own
            max_inflight_messages=CREDIT_MAX,
            logger=_client_log,
            socket_options=_SOCKET_OPTIONS,
        )

    async def _deliver(self, client: aiomqtt.Client) -> None:
        self.sender.reconnected()
        async with asyncio.TaskGroup() as tasks:
            # the broker takes it before the hello behind it, so nobody waits for its word
            tasks.create_task(self._subscribe(client), name=f"subscribe[{self.name}]")
            tasks.create_task(self._listen(client), name=f"listen[{self.name}]")
            tasks.create_task(self._publish(client, tasks), name=f"publish[{self.name}]")
            tasks.create_task(self._nudge(client, tasks), name=f"nudge[{self.name}]")

    async def _subscribe(self, client: aiomqtt.Client) -> None:
        await client.subscribe(topics.receipt(self._gateway), qos=1)
        if self._desk is not None:
            await client.subscribe(topics.command(self._gateway), qos=1)
            await self._tell(client, self._desk.last_answer(self.name))

    async def _publish(self, client: aiomqtt.Client, tasks: asyncio.TaskGroup) -> None:
        """Publish what is due; the broker's word for each may take long and is not waited for."""
        while True:
            now_ms = self._now_ms()
            if self.sender.hello_due(now_ms):
                for message in self._introduction():
                    tasks.create_task(client.publish(topics.batch(self._gateway), message, qos=1))
                hello = self._hello()
                tasks.create_task(client.publish(topics.hello(self._gateway), hello, qos=1))
            for sequence in self.sender.due(self._outbox.head, now_ms):
                utc_ms = self._clock.now_ms() if self._clock.is_trusted else None
                try:
                    message = await asyncio.to_thread(
                        self._outbox.read, sequence, self._gateway, utc_ms
                    )
                except OSError as error:
                    # as if it had been sent and not been receipted: the time-out sends it again
                    _log.warning("%s: batch %d: %s", self.name, sequence, error.strerror)
                    continue
                tasks.create_task(client.publish(topics.batch(self._gateway), message, qos=1))
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                # not wait_for: Python 3.11's loses a cancellation that comes together with the news
                async with asyncio.timeout(_QUIET_S):
                    await self._news.wait()

    async def _nudge(self, client: aiomqtt.Client, tasks: asyncio.TaskGroup) -> None:
        """Keep words going both ways while a receipt is overdue.

        TCP notices a lost packet soon by what comes behind it, and otherwise only by a time-out
        that doubles each time. A subscription that is there already changes nothing, and the broker
        answers it. Only for so long: a platform that is away answers nothing of it all.
        """
        while True:
            await asyncio.sleep(_NUDGE_S)
            since_ms = self.sender.waits_since_ms()
            if since_ms is None or self._now_ms() - since_ms < 1000 * _NUDGE_S:
                continue
            if self._nudges < _NUDGES_MAX:
                self._nudges += 1
                tasks.create_task(self._ask_again(client))

    async def _ask_again(self, client: aiomqtt.Client) -> None:
        # whoever waits for a batch's word gives the connection up, not this
        with contextlib.suppress(aiomqtt.MqttError):
            await client.subscribe(topics.receipt(self._gateway), qos=1)

    def _introduction(self) -> list[bytes]:
        """Return the batches without which the platform may not believe the hello.

        They name keys. One of a former epoch goes out as it was, for nobody can sign it again. A
        platform that does not answer may have been restored to before any of them.
        """
        if self.sender.is_unheard:
            return [key.message for key in self._keys]
        epoch, is_new_here = self._outbox.epoch, not self.sender.through
        return [
            key.message
            for key in self._keys
            if (self.sender.is_missing(key.sequence) if key.epoch == epoch else is_new_here)
        ]

    def _hello(self) -> bytes:
        box, signer = self._outbox, self._outbox.signer
        origin, former = box.origin
        public = signer.public if signer else b""
        hello = Hello(
            self._gateway, box.epoch, box.head, self._clock.now_ms(), origin, former, public
        )
        return hello.to_bytes(signer)

    def _now_ms(self) -> int:
        return int(self._clock.monotonic_s() * 1000)

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            if self._desk is not None and message.topic.value == topics.command(self._gateway):
                answer = await self._desk.take(bytes(message.payload), self._destination)
                await self._tell(client, answer)
                continue
            try:
                receipt = self._receipt(bytes(message.payload))
            except FormatError as error:
                _log.warning("%s: not a receipt: %s", self.name, error)
                continue
            await self._take(receipt)
            heard_of = (receipt.gateway, receipt.epoch)
            if self._desk is not None and heard_of == (self._gateway, self._outbox.epoch):
                await self._tell(client, self._desk.heard(self.name))

    async def _tell(self, client: aiomqtt.Client, answer: bytes | None) -> None:
        """Publish what became of a command."""
        if answer is not None:
            await client.publish(topics.answer(self._gateway), answer, qos=1)

    def _receipt(self, data: bytes) -> Receipt:
        keys = self._destination.platform_keys
        if keys and signed_by(data, Domain.RECEIPT, keys) is None:
            raise FormatError("signed by none of the platform_keys")
        return Receipt.from_bytes(data)

    async def _take(self, receipt: Receipt) -> None:
        if receipt.gateway != self._gateway or receipt.epoch != self._outbox.epoch:
            return  # of a former life of this gateway
        self._nudges = 0
        self._clock.take_platform(receipt.server_ms)
        if self._is_foreign:
            return
        origin = await self._foreign(receipt)
        if origin is not None:
            self._is_foreign = True
            self._on_foreign(origin)
            return
        self._backoff.reset()
        self.sender.take(self._believed.of(receipt), self._now_ms())
        self._cursor.advance(self.sender.through, self.sender.ranges)
        self._news.set()

    async def _foreign(self, receipt: Receipt) -> Origin | None:
        """Tell how the platform's history of this epoch differs from ours, if it does."""
        if receipt.last > self._outbox.head:
            _log.error(
                "%s has sequence %d of epoch %d, the outbox ends at %d: the state directory was "
                "put back from an older copy, or two gateways use it; a new epoch begins",
                self.name,
                receipt.last,
                receipt.epoch,
                self._outbox.head,
            )
            return Origin.BEHIND
        other = await asyncio.to_thread(self._believed.compare, receipt, self._outbox.check)
        if other is not None:
            _log.error(
                "%s has other bytes than the outbox for sequence %d of epoch %d: two gateways use "
                "copies of one state directory; a new epoch begins",
                self.name,
                other,
                receipt.epoch,
            )
            return Origin.DIVERGED
        return None


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
