"""The receiver's connection: messages in, groups of them committed, receipts out.

The client acknowledges to the broker before we have seen a message; that is harmless, since only
our receipt, sent after the commit, lets a gateway go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import aiomqtt

from edgeagg import tls, topics
from edgeagg.batch import Receipt
from edgeagg.errors import LinkError, StoreError
from edgeagg.receiver.credit import QUEUE_MAX
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.seal import Signer
from edgeagg.tls import TlsFiles

_log = logging.getLogger(__name__)

_GROUP_MAX = 64
_ANNOUNCE_PAUSE_S = 0.01  # so that a thousand gateways do not answer at once
_KEEPALIVE_S = 10
_RECONNECT_MAX_S = 10.0
_STORE_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Broker:
    """Where the gateways' messages are."""

    host: str
    port: int
    tls: bool = False
    username: str = ""
    password_file: str = ""
    tls_files: TlsFiles = field(default_factory=TlsFiles)


async def receive(inbox: Inbox, broker: Broker, signer: Signer | None) -> None:
    """Take messages in until cancelled; reconnect for ever. The signer vouches for receipts."""
    forgive_closed_sockets(asyncio.get_running_loop())
    pause_s = 1.0
    while True:
        try:
            async with client(broker) as connection:
                await connection.subscribe([(topics.BATCHES, 1), (topics.HELLOS, 1)])
                _log.info("connected to %s:%d", broker.host, broker.port)
                pause_s = 1.0
                await _serve(inbox, connection, signer)
        except* (aiomqtt.MqttError, LinkError) as errors:
            now_ms = time.time_ns() // 1_000_000
            why = tls.explain(errors.exceptions[0], broker.host, now_ms, is_tls=broker.tls)
            _log.warning("no connection to %s:%d: %s", broker.host, broker.port, why)
        await asyncio.sleep(random.uniform(0, pause_s))  # noqa: S311 - jitter, no secret
        pause_s = min(2 * pause_s, _RECONNECT_MAX_S)


def forgive_closed_sockets(loop: asyncio.AbstractEventLoop) -> None:
    """Leave out of the log that a socket to be watched is closed by now.

    The MQTT client asks the loop to watch its socket, and may close it before the loop gets round
    to it; that the connection is lost is told anyway.
    """

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not (isinstance(error, OSError) and error.errno == errno.EBADF):
            loop.default_exception_handler(context)

    loop.set_exception_handler(handle)


def client(broker: Broker) -> aiomqtt.Client:
    """Return a client that is not connected yet; raise LinkError for a file that is unreadable."""
    return aiomqtt.Client(
        broker.host,
        broker.port,
        username=broker.username or None,
        password=tls.password(broker.password_file),
        tls_context=tls.context(broker.tls_files) if broker.tls else None,
        protocol=aiomqtt.ProtocolVersion.V311,
        keepalive=_KEEPALIVE_S,
        timeout=_KEEPALIVE_S,
        # what overflows is sent again by its gateway
        max_queued_incoming_messages=QUEUE_MAX,
    )


async def _serve(inbox: Inbox, client: aiomqtt.Client, signer: Signer | None) -> None:
    waiting: asyncio.Queue[Message] = asyncio.Queue(QUEUE_MAX)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_fill(client, waiting), name="listen")
        tasks.create_task(_drain(inbox, client, signer, waiting), name="commit")
        tasks.create_task(_announce(inbox, client, signer), name="announce")


async def _announce(inbox: Inbox, client: aiomqtt.Client, signer: Signer | None) -> None:
    """Tell the gateways that somebody takes batches in again: they may be waiting long already."""
    try:
        async for receipt in inbox.announce(time.time_ns() // 1_000_000):
            await _answer(client, signer, [receipt])
            await asyncio.sleep(_ANNOUNCE_PAUSE_S)
    except StoreError as error:
        # the gateways ask by themselves
        _log.error("nothing announced: %s", error)


async def _fill(client: aiomqtt.Client, waiting: asyncio.Queue[Message]) -> None:
    async for message in client.messages:
        await waiting.put(Message(message.topic.value, bytes(message.payload)))


async def _drain(
    inbox: Inbox,
    client: aiomqtt.Client,
    signer: Signer | None,
    waiting: asyncio.Queue[Message],
) -> None:
    """Commit everything that waits in one transaction, then answer."""
    while True:
        group = [await waiting.get()]
        with contextlib.suppress(asyncio.QueueEmpty):
            while len(group) < _GROUP_MAX:
                group.append(waiting.get_nowait())
        try:
            receipts = await inbox.take(group, time.time_ns() // 1_000_000)
        except StoreError as error:
            # no receipt: the gateways send again when the database is back
            _log.error("%d messages not committed: %s", len(group), error)
            await asyncio.sleep(_STORE_PAUSE_S)
            continue
        await _answer(client, signer, receipts)


async def _answer(
    client: aiomqtt.Client, signer: Signer | None, receipts: Sequence[Receipt]
) -> None:
    for receipt in receipts:
        await client.publish(topics.receipt(receipt.gateway), receipt.to_bytes(signer), qos=1)
