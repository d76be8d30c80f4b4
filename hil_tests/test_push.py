"""Sending a command over a real broker: again until it is answered, and whose answer counts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import aiomqtt
import pytest

from edgeagg import topics
from edgeagg._core import SecretKey
from edgeagg.command import Answer, Command, CommandKind, Outcome
from edgeagg.receiver import push as pushing
from edgeagg.receiver.mqtt import Broker as Address
from edgeagg.receiver.push import Sending, push
from edgeagg.seal import Signer
from hil_tests.services.broker import Broker

GATEWAY, PLATFORM, STRANGER = (Signer(SecretKey(bytes([n]) * 32)) for n in (1, 2, 3))
COMMAND = Command("qp-0001", 7, CommandKind.CONFIGURE, 1, 2, b"[site]\n")
SENDING = Sending(COMMAND, COMMAND.to_bytes(PLATFORM), [GATEWAY.public])
DONE = Answer("qp-0001", 7, COMMAND.digest, Outcome.CONFIRMED, 3, "a receipt came")
TRIED = replace(DONE, outcome=Outcome.ON_TRIAL, text="it goes back")


@contextlib.asynccontextmanager
async def a_gateway(port: int, answers: list[list[bytes]]) -> AsyncIterator[list[bytes]]:
    """Answer the first command with the first answers, and so on; yield the commands heard."""
    heard: list[bytes] = []

    async def run(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            heard.append(bytes(message.payload))
            for answer in answers[len(heard) - 1] if len(heard) <= len(answers) else ():
                await client.publish(topics.answer("qp-0001"), answer, qos=1)

    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V311) as client:
        await client.subscribe(topics.command("qp-0001"), qos=1)
        running = asyncio.create_task(run(client))
        try:
            yield heard
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.fixture
def address(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Address:
    monkeypatch.setattr(pushing, "_AGAIN_S", 0.2)
    return Address("127.0.0.1", broker.port)


async def test_it_waits_for_the_end_of_the_trial(address: Address) -> None:
    said: list[Answer] = []
    answers = [[TRIED.to_bytes(GATEWAY), DONE.to_bytes(GATEWAY)]]
    async with a_gateway(address.port, answers) as heard:
        last = await push(address, SENDING, wait_s=20, say=said.append)
    assert last == DONE
    assert said == [TRIED, DONE]
    assert heard == [SENDING.data]


async def test_it_sends_again_until_somebody_answers(address: Address) -> None:
    async with a_gateway(address.port, [[], [], [DONE.to_bytes(GATEWAY)]]) as heard:
        last = await push(address, SENDING, wait_s=20, say=lambda _answer: None)
    assert last == DONE
    assert heard == [SENDING.data] * 3


async def test_what_is_no_answer_of_this_gateway_to_this_command_does_not_count(
    address: Address,
) -> None:
    false = [
        DONE.to_bytes(STRANGER),
        DONE.to_bytes(None),
        replace(DONE, number=6).to_bytes(GATEWAY),
        replace(DONE, digest=bytes(32)).to_bytes(GATEWAY),
        replace(DONE, gateway="qp-0002").to_bytes(GATEWAY),
        b"no answer at all",
    ]
    said: list[Answer] = []
    async with a_gateway(address.port, [false]):
        last = await push(address, SENDING, wait_s=1, say=said.append)
    assert last is None
    assert said == []


async def test_a_broker_that_is_away_is_tried_again(
    broker: Broker, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "_RECONNECT_S", 0.05)
    broker.kill()
    pending = asyncio.create_task(push(address, SENDING, wait_s=20, say=lambda _answer: None))
    await asyncio.sleep(0.2)
    await asyncio.to_thread(broker.start)
    async with a_gateway(address.port, [[DONE.to_bytes(GATEWAY)]]):
        assert await pending == DONE
