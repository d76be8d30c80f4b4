"""Sends one command to a gateway, and again until it answers; returns what became of it.

Owns no key and no file. An answer is believed when the gateway's key has signed it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiomqtt

from edgeagg import tls, topics
from edgeagg.command import Answer, Command, Outcome
from edgeagg.errors import FormatError, LinkError
from edgeagg.receiver.mqtt import Broker, client
from edgeagg.seal import Domain, signed_by

_log = logging.getLogger(__name__)

_AGAIN_S = 10.0
_RECONNECT_S = 2.0


@dataclass(frozen=True, slots=True)
class Sending:
    """A command under way: its bytes, and whose answers are believed."""

    command: Command
    data: bytes
    keys: Sequence[bytes]

    def parse(self, data: bytes) -> Answer | None:
        """Return the answer to this command; None for any other message."""
        try:
            if signed_by(data, Domain.ANSWER, self.keys) is None:
                return None
            answer = Answer.from_bytes(data)
        except FormatError:
            return None
        known = (self.command.gateway, self.command.number, self.command.digest)
        return answer if (answer.gateway, answer.number, answer.digest) == known else None


async def push(
    broker: Broker, sending: Sending, *, wait_s: float, say: Callable[[Answer], None]
) -> Answer | None:
    """Return the last answer, after `say` has had each; None where none came within `wait_s`.

    The gateway need not be connected yet: the command is sent until it answers.
    """
    last: list[Answer] = []

    def note(answer: Answer) -> None:
        if not last or answer.outcome is not last[-1].outcome:
            last.append(answer)
            say(answer)

    try:
        async with asyncio.timeout(wait_s):
            while not _is_final(last):
                try:
                    async with client(broker) as connection:
                        await _exchange(connection, sending, note, last)
                except (aiomqtt.MqttError, LinkError) as error:
                    now_ms = time.time_ns() // 1_000_000
                    why = tls.explain(error, broker.host, now_ms, is_tls=broker.tls)
                    _log.warning("no connection to %s:%d: %s", broker.host, broker.port, why)
                    await asyncio.sleep(_RECONNECT_S)
    except TimeoutError:
        _log.warning("no end within %g s", wait_s)
    return last[-1] if last else None


async def _exchange(
    connection: aiomqtt.Client,
    sending: Sending,
    note: Callable[[Answer], None],
    last: Sequence[Answer],
) -> None:
    gateway = sending.command.gateway
    await connection.subscribe(topics.answer(gateway), qos=1)
    messages = aiter(connection.messages)
    while not _is_final(last):
        # while a trial lasts this asks whether it is over: the gateway may have said so meanwhile
        await connection.publish(topics.command(gateway), sending.data, qos=1)
        try:
            async with asyncio.timeout(_AGAIN_S):
                while not _is_final(last):
                    answer = sending.parse(bytes((await anext(messages)).payload))
                    if answer is not None:
                        note(answer)
        except TimeoutError:
            messages = aiter(connection.messages)


def _is_final(answers: Sequence[Answer]) -> bool:
    return bool(answers) and answers[-1].outcome is not Outcome.ON_TRIAL
