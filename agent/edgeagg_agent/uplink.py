"""One destination: what to send next, and the MQTT connection it goes over.

`Sender` decides and knows no network; `Uplink` is its shell. A publish that the broker acknowledged
has reached nobody yet: only the platform's receipt moves the cursor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Callable
from pathlib import Path

import aiomqtt

from edgeagg import topics
from edgeagg.batch import Hello, Range, Receipt
from edgeagg.errors import FormatError
from edgeagg.seal import Domain, signed_by
from edgeagg_agent.clock import JudgedClock
from edgeagg_agent.outbox import Cursor, Outbox
from edgeagg_agent.site import Destination

_log = logging.getLogger(__name__)

_WINDOW = 16
_TIMEOUT_MS = 5_000
_TIMEOUT_MAX_MS = 60_000
_RECONNECT_MAX_S = 30.0
_KEEPALIVE_S = 10
_QUIET_S = 1.0


class Sender:
    """Sends a window of batches past the cursor, again after a time-out, until a receipt comes."""

    def __init__(self, through: int, uniform: Callable[[float, float], float]) -> None:
        """Begin behind `through`; `uniform` draws from an interval."""
        self.through = through
        self.resent_count = 0
        self._uniform = uniform
        self._ranges: tuple[Range, ...] = ()
        self._sent_ms: dict[int, int] = {}
        self._timeout_ms = _TIMEOUT_MS
        self._answered_ms = 0

    def due(self, head: int, now_ms: int) -> list[int]:
        """Return the sequences to publish now, by a clock that only runs forward."""
        if any(now_ms - sent_ms >= self._timeout_ms for sent_ms in self._sent_ms.values()):
            self.resent_count += len(self._sent_ms)
            self._sent_ms.clear()
            # full jitter: gateways that lost the same broker do not come back in step
            limit_ms = min(2 * self._timeout_ms, _TIMEOUT_MAX_MS)
            self._timeout_ms = int(self._uniform(_TIMEOUT_MS, limit_ms))
        window = self._window(head)
        # a restored platform may ask for earlier ones: those beyond the window have to wait again
        self._sent_ms = {s: self._sent_ms[s] for s in window if s in self._sent_ms}
        due = [sequence for sequence in window if sequence not in self._sent_ms]
        self._sent_ms.update(dict.fromkeys(due, now_ms))
        return due

    def take(self, receipt: Receipt) -> None:
        """Let a receipt move the cursor: forward, or back when the platform lost what it had."""
        if receipt.server_ms < self._answered_ms:
            return  # overtaken by a later one
        self._answered_ms = receipt.server_ms
        if receipt.through > self.through or receipt.ranges != self._ranges:
            self._timeout_ms = _TIMEOUT_MS
        if receipt.through < self.through:
            self._sent_ms.clear()
        self.through = receipt.through
        self._ranges = receipt.ranges
        for sequence in list(self._sent_ms):
            if sequence <= self.through or any(f <= sequence <= t for f, t in self._ranges):
                del self._sent_ms[sequence]

    def reconnected(self) -> None:
        """Forget what was published on a connection that is gone."""
        self.resent_count += len(self._sent_ms)
        self._sent_ms.clear()

    def _window(self, head: int) -> list[int]:
        """Return the lowest sequences up to `head` that are not receipted."""
        window: list[int] = []
        first = self.through + 1
        for begin, end in (*self._ranges, (head + 1, head + 1)):
            window += range(first, min(begin, head + 1, first + _WINDOW - len(window)))
            first = max(first, end + 1)
        return window


class Uplink:
    """Keeps one destination supplied for as long as it runs."""

    def __init__(
        self,
        destination: Destination,
        gateway: str,
        outbox: Outbox,
        cursor: Cursor,
        clock: JudgedClock,
    ) -> None:
        self.sender = Sender(cursor.through, random.uniform)
        self.is_connected = False
        self._destination, self._gateway = destination, gateway
        self._outbox, self._cursor, self._clock = outbox, cursor, clock
        self._news = asyncio.Event()

    @property
    def name(self) -> str:
        """The destination's name."""
        return self._destination.name

    @property
    def waiting_count(self) -> int:
        """Batches that this destination has not receipted."""
        return max(0, self._outbox.head - self.sender.through)

    def wake(self) -> None:
        """Say that the outbox has grown."""
        self._news.set()

    async def run(self) -> None:
        """Connect, deliver, reconnect; ends only by cancellation."""
        pause_s = 1.0
        while True:
            try:
                async with self._client() as client:
                    self.is_connected = True
                    pause_s = 1.0
                    _log.info("%s: connected to %s", self.name, self._where)
                    await self._deliver(client)
            except* aiomqtt.MqttError as errors:
                state = "connection lost" if self.is_connected else "no connection"
                _log.warning("%s: %s to %s: %s", self.name, state, self._where, _first(errors))
            finally:
                self.is_connected = False
            await asyncio.sleep(random.uniform(0, pause_s))  # noqa: S311 - jitter, no secret
            pause_s = min(2 * pause_s, _RECONNECT_MAX_S)

    @property
    def _where(self) -> str:
        return f"{self._destination.host}:{self._destination.port}"

    def _client(self) -> aiomqtt.Client:
        to = self._destination
        password = Path(to.password_file).read_text("utf-8").strip() if to.password_file else None
        return aiomqtt.Client(
            to.host,
            to.port,
            identifier=f"edgeagg-{self._gateway}-{to.name}",
            username=to.username or None,
            password=password,
            tls_context=ssl.create_default_context(cafile=to.ca_file or None) if to.tls else None,
            protocol=aiomqtt.ProtocolVersion.V311,
            keepalive=_KEEPALIVE_S,
            timeout=_KEEPALIVE_S,
            max_queued_incoming_messages=100,
        )

    async def _deliver(self, client: aiomqtt.Client) -> None:
        self.sender.reconnected()
        await client.subscribe(topics.receipt(self._gateway), qos=1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(client), name=f"listen[{self.name}]")
            tasks.create_task(self._publish(client), name=f"publish[{self.name}]")

    async def _publish(self, client: aiomqtt.Client) -> None:
        resent_count = -1
        while True:
            now_ms = int(1000 * self._clock.monotonic_s())
            due = self.sender.due(self._outbox.head, now_ms)
            if resent_count != self.sender.resent_count:
                # on connecting, and when a receiver may have started behind the last hello
                await client.publish(topics.hello(self._gateway), self._hello(), qos=1)
                resent_count = self.sender.resent_count
            for sequence in due:
                try:
                    message = await asyncio.to_thread(self._outbox.read, sequence, self._gateway)
                except OSError as error:
                    # as if it had been sent and not been receipted: the time-out sends it again
                    _log.warning("%s: batch %d: %s", self.name, sequence, error.strerror)
                    continue
                await client.publish(topics.batch(self._gateway), message, qos=1)
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                # not wait_for: Python 3.11's loses a cancellation that comes together with the news
                async with asyncio.timeout(_QUIET_S):
                    await self._news.wait()

    def _hello(self) -> bytes:
        signer = self._outbox.signer
        public = signer.public if signer else b""
        return Hello(self._gateway, self._outbox.epoch, self._outbox.head, public).to_bytes(signer)

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            try:
                receipt = self._receipt(bytes(message.payload))
            except FormatError as error:
                _log.warning("%s: not a receipt: %s", self.name, error)
                continue
            self._take(receipt)

    def _receipt(self, data: bytes) -> Receipt:
        keys = self._destination.platform_keys
        if keys and signed_by(data, Domain.RECEIPT, keys) is None:
            raise FormatError("signed by none of the platform_keys")
        return Receipt.from_bytes(data)

    def _take(self, receipt: Receipt) -> None:
        if receipt.gateway != self._gateway or receipt.epoch != self._outbox.epoch:
            return  # of a former life of this gateway
        self._clock.take_platform(receipt.server_ms)
        if receipt.through > self._outbox.head:
            _log.error(
                "%s has sequence %d of epoch %d, the outbox ends at %d: the state directory was "
                "put back from an older copy; move it away to open a new epoch",
                self.name,
                receipt.through,
                receipt.epoch,
                self._outbox.head,
            )
            return
        self.sender.take(receipt)
        self._cursor.advance(self.sender.through)
        self._news.set()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
