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
from collections.abc import Callable, Iterable
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
from edgeagg_agent.tcp import Heard, Option, heard, known

_log = logging.getLogger(__name__)
_client_log = logging.getLogger(f"{__name__}.client")
# it warns of publishes that wait for the broker, and tells errors that it then raises
_client_log.setLevel(logging.CRITICAL)

_PATIENCE_S = 20.0  # for a new connection
_PATIENCE_MAX_S = 40.0
# A connection over which nothing comes is asked for a word, and given up if none comes either:
# within as many of the times in which its own round trips let an answer be expected. These are long
# where packets are lost, and half of all answers are where a third of the packets is.
_ASK_MS = 8_000
_UNANSWERED_MS = 9_000
_UNANSWERED_MAX_MS = 81_000
_ANSWERS = 8
_WORD_S = 90.0  # for the broker's word for one message, while there are others
_KEEPALIVE_S = 60  # what the broker is told; the client waits no longer for the first word either
_QUIET_S = 1.0
_LOOK_S = 1.0
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


class Client(aiomqtt.Client):
    """One as patient with the first packet as with any other, that knows its connection."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        timeout: float,
        tcp_options: Iterable[Option],
        **more: Any,  # noqa: ANN401 - aiomqtt's own
    ) -> None:
        super().__init__(host, port, timeout=timeout, **more)
        self._client.connect_timeout = timeout
        connect = self._client._create_socket_connection  # noqa: SLF001 - the only way in

        def connect_with_options() -> socket.socket:
            # aiomqtt would set them behind the handshakes, each of which can lose packets
            connection: socket.socket = connect()
            for option in tcp_options:
                connection.setsockopt(*option)
            return connection

        self._client._create_socket_connection = connect_with_options  # type: ignore[method-assign]  # noqa: SLF001

    def heard(self) -> Heard | None:
        """Tell how the connection is; None where it is closed."""
        connection = self._client.socket()
        try:
            return heard(connection) if isinstance(connection, socket.socket) else None
        except OSError:
            return None


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

    def _client(self) -> Client:
        to = self._destination
        # a line over which receipts take long needs longer for everything: a new connection begins
        # with nothing that the old one had got through
        patience_s = min(max(_PATIENCE_S, 4 * self.sender.timeout_ms / 1000), _PATIENCE_MAX_S)
        return Client(
            to.host,
            to.port,
            identifier=f"edgeagg-{self._gateway}-{to.name}",
            username=to.username or None,
            password=tls.password(to.password_file),
            tls_context=tls.context(to.tls_files) if to.tls else None,
            protocol=aiomqtt.ProtocolVersion.V311,
            keepalive=_KEEPALIVE_S,
            timeout=patience_s,
            max_queued_incoming_messages=100,
            # the sender has a window of its own
            max_inflight_messages=CREDIT_MAX,
            logger=_client_log,
            tcp_options=self._tcp_options(),
        )

    def _tcp_options(self) -> tuple[Option, ...]:
        return known()

    async def _deliver(self, client: Client) -> None:
        self.sender.reconnected()
        async with asyncio.TaskGroup() as tasks:
            # the broker takes it before the hello behind it, so nobody waits for its word
            tasks.create_task(self._subscribe(client), name=f"subscribe[{self.name}]")
            tasks.create_task(self._listen(client), name=f"listen[{self.name}]")
            tasks.create_task(self._publish(client, tasks), name=f"publish[{self.name}]")
            tasks.create_task(self._watch(client, tasks), name=f"watch[{self.name}]")

    async def _subscribe(self, client: Client) -> None:
        await self._listen_to(client, topics.receipt(self._gateway))
        if self._desk is not None:
            await self._listen_to(client, topics.command(self._gateway))
            await self._tell(client, self._desk.last_answer(self.name))

    async def _listen_to(self, client: Client, topic: str) -> None:
        await client.subscribe(topic, qos=1, timeout=_WORD_S)

    async def _say(self, client: Client, topic: str, message: bytes) -> None:
        await client.publish(topic, message, qos=1, timeout=_WORD_S)

    async def _publish(self, client: Client, tasks: asyncio.TaskGroup) -> None:
        """Publish what is due; the broker's word for each may take long and is not waited for."""
        while True:
            now_ms = self._now_ms()
            if self.sender.hello_due(now_ms):
                for message in self._introduction():
                    tasks.create_task(self._say(client, topics.batch(self._gateway), message))
                hello = self._hello()
                tasks.create_task(self._say(client, topics.hello(self._gateway), hello))
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
                tasks.create_task(self._say(client, topics.batch(self._gateway), message))
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                # not wait_for: Python 3.11's loses a cancellation that comes together with the news
                async with asyncio.timeout(_QUIET_S):
                    await self._news.wait()

    async def _watch(self, client: Client, tasks: asyncio.TaskGroup) -> None:
        """Give up a connection that is silent; ask for a word before.

        A subscription that is there already changes nothing, and the broker answers it.
        """
        asking: asyncio.Task[None] | None = None
        while True:
            await asyncio.sleep(_LOOK_S)
            heard = client.heard()
            if heard is None:
                continue  # whoever reads from it says why
            answer_ms = min(max(_UNANSWERED_MS, _ANSWERS * heard.answer_ms), _UNANSWERED_MAX_MS)
            if heard.silent_ms >= _ASK_MS + answer_ms:
                raise LinkError(f"silent for {heard.silent_ms / 1000:.0f} s")
            if heard.silent_ms >= _ASK_MS and (asking is None or asking.done()):
                asking = tasks.create_task(self._listen_to(client, topics.receipt(self._gateway)))

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

    async def _listen(self, client: Client) -> None:
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

    async def _tell(self, client: Client, answer: bytes | None) -> None:
        """Publish what became of a command."""
        if answer is not None:
            await self._say(client, topics.answer(self._gateway), answer)

    def _receipt(self, data: bytes) -> Receipt:
        keys = self._destination.platform_keys
        if keys and signed_by(data, Domain.RECEIPT, keys) is None:
            raise FormatError("signed by none of the platform_keys")
        return Receipt.from_bytes(data)

    async def _take(self, receipt: Receipt) -> None:
        if receipt.gateway != self._gateway or receipt.epoch != self._outbox.epoch:
            return  # of a former life of this gateway
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
