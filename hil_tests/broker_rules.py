"""Try a running broker's rules over MQTT: who hears whom, and what must come to nothing.

Owns the table of deploy/broker/README.md as attempts, for any broker. Starts none, and judges by
what is heard, not by codes: a broker may grant what it then never delivers.

    python -m hil_tests.broker_rules broker.toml

publishes in the names of two gateways that the file names; a real one's name does not belong there.
Exit status 1 when a rule does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import secrets
import socket
import ssl
import sys
import tomllib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiomqtt

from edgeagg import tls, topics
from edgeagg.errors import EdgeaggError

RECEIVER: Final = "receiver"
OPERATOR: Final = "operator"
PLATFORM: Final = (RECEIVER, OPERATOR)
MESSAGE_BYTES_MAX: Final = 256 * 1024
LONG_BYTES: Final = 300_000

UP: Final = (topics.hello, topics.batch, topics.answer)
DOWN: Final = (topics.receipt, topics.command)
_ACCOUNT_KEYS: Final = ("cert_file", "cert_key_file", "password_file")
_WIDE: Final = ("#", "$SYS/#", "edgeagg/#", "edgeagg/v1/+/+", "$share/all/edgeagg/v1/+/batch")


_FORM: Final = """\
form of the file; names of files count from its folder:

  host = "mq.example"
  gateway_port = 8883
  platform_port = 8884
  ca_file = "gateways-ca.pem"

  [accounts]
  try-0001 = { cert_file = "try-0001.pem", cert_key_file = "try-0001.key" }
  try-0002 = { password_file = "try-0002.passwd" }
  receiver = { password_file = "receiver.passwd" }
  operator = { password_file = "operator.passwd" }
"""


class RulesError(EdgeaggError):
    """The file that names a broker says something that cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """By what somebody proves who they are."""

    cert_file: str = ""
    cert_key_file: str = ""
    password: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where a broker is, and the accounts to try it with."""

    host: str
    gateway_port: int
    platform_port: int
    ca_file: str
    accounts: dict[str, Account]
    answer_timeout_s: float = 3.0
    hear_timeout_s: float = 10.0

    @property
    def gateways(self) -> tuple[str, str]:
        """The two accounts that are gateways."""
        first, second = (name for name in self.accounts if name not in PLATFORM)
        return first, second

    def client(
        self,
        port: int,
        account: Account,
        *,
        user: str | None = None,
        client_id: str | None = None,
    ) -> aiomqtt.Client:
        """Return who has not connected yet; LinkError where a file of TLS is no use."""
        return aiomqtt.Client(
            self.host,
            port,
            identifier=client_id,
            username=user,
            password=account.password,
            tls_context=self.context(account),
            protocol=aiomqtt.ProtocolVersion.V311,
            timeout=self.answer_timeout_s,
        )

    def context(self, account: Account) -> ssl.SSLContext:
        """Return how this account connects; LinkError where a file of TLS is no use."""
        files = tls.TlsFiles(
            ca_file=self.ca_file,
            cert_file=account.cert_file,
            cert_key_file=account.cert_key_file,
        )
        return tls.context(files)

    def account(self, name: str, client_id: str | None = None) -> aiomqtt.Client:
        """Return an account as edgeagg connects it."""
        known = self.accounts[name]
        if name in PLATFORM:
            return self.client(self.platform_port, known, user=name, client_id=client_id)
        user = None if known.cert_file else name
        own = client_id or f"edgeagg-{name}-platform"
        return self.client(self.gateway_port, known, user=user, client_id=own)


def may_publish(name: str, gateways: Iterable[str]) -> set[str]:
    """Return the topics that an account may publish to."""
    if name == RECEIVER:
        return {topics.receipt(gateway) for gateway in gateways}
    if name == OPERATOR:
        return {topics.command(gateway) for gateway in gateways}
    return {make(name) for make in UP}


def may_hear(name: str, gateways: Iterable[str]) -> set[str]:
    """Return the topics that an account may hear."""
    if name == RECEIVER:
        return {make(gateway) for make in (topics.hello, topics.batch) for gateway in gateways}
    if name == OPERATOR:
        return {topics.answer(gateway) for gateway in gateways}
    return {make(name) for make in DOWN}


def tried_topics(gateways: tuple[str, str]) -> list[str]:
    """Return the topics that every account tries: all of ours, and some beside them."""
    return [
        *(make(name) for make in (*UP, *DOWN) for name in (*gateways, *PLATFORM)),
        f"edgeagg/v1/{gateways[0]}/other",
        f"edgeagg/v1/{gateways[0]}",
        f"edgeagg/v2/{gateways[0]}/batch",
        "anything",
        "$SYS/broker/log",
    ]


Heard = tuple[str, bytes]
"""A topic and what came there."""


@dataclass(slots=True)
class Ear:
    """One account that listens: what it has heard of this trial."""

    name: str
    marker: bytes
    heard: set[Heard] = field(default_factory=set)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def listen(self, client: aiomqtt.Client) -> None:
        """Keep what comes; a live broker's other messages do not matter."""
        async for message in client.messages:
            payload = bytes(message.payload)
            if payload.startswith(self.marker):
                self.heard.add((message.topic.value, payload))
                self._news.set()

    async def wait(self, wanted: set[Heard], timeout_s: float) -> None:
        """Return when all of `wanted` was heard, or will not be."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while wanted - self.heard:
                    self._news.clear()
                    await self._news.wait()

    def troubles(self, wanted: set[Heard]) -> list[str]:
        """Say what was heard that should not have been, and the other way round."""
        skip = len(self.marker)
        return [
            f"{self.name} {verb} on {topic}: {payload[skip:][:40].decode()}"
            for verb, found in (("hears", self.heard - wanted), ("misses", wanted - self.heard))
            for topic, payload in sorted(found)
        ]


@contextlib.asynccontextmanager
async def listening(
    broker: Broker, names: Iterable[str], marker: bytes, filters: Iterable[str]
) -> AsyncIterator[tuple[dict[str, aiomqtt.Client], list[Ear]]]:
    """Connect accounts and let each subscribe to every filter."""
    ears = [Ear(name, marker) for name in names]
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        for ear in ears:
            client = await stack.enter_async_context(broker.account(ear.name))
            clients[ear.name] = client
            for wanted in filters:
                with contextlib.suppress(aiomqtt.MqttError):
                    await client.subscribe(wanted, qos=1)
            task = tasks.create_task(ear.listen(client))
            stack.callback(task.cancel)
        yield clients, ears


async def every_account_on_every_topic(broker: Broker, marker: bytes) -> list[str]:
    """Let all subscribe and publish to everything; return who heard what they should not."""
    tried = tried_topics(broker.gateways)
    end = marker + b"the end of "
    async with listening(broker, broker.accounts, marker, (*_WIDE, *tried)) as (clients, ears):
        for name, client in clients.items():
            for topic in tried:
                await client.publish(topic, marker + name.encode(), qos=1)
        # What is allowed comes behind everything that is not.
        for name, client in clients.items():
            for topic in may_publish(name, broker.gateways):
                await client.publish(topic, end + name.encode(), qos=1)
        troubles = []
        for ear in ears:
            wanted = {
                (topic, payload + name.encode())
                for name in clients
                for topic in may_publish(name, broker.gateways)
                & may_hear(ear.name, broker.gateways)
                for payload in (marker, end)
            }
            await ear.wait(wanted, broker.hear_timeout_s)
            troubles += ear.troubles(wanted)
    return troubles


async def long_and_retained_messages(broker: Broker, marker: bytes) -> list[str]:
    """Publish too much and something that would stay; return what came of it."""
    gateway = broker.gateways[0]
    topic = topics.batch(gateway)
    stays, longest = marker + b"stays", (marker + b"long").ljust(MESSAGE_BYTES_MAX, b".")
    async with listening(broker, [RECEIVER], marker, [topics.BATCHES]) as (_, (ear,)):
        for payload, retain in ((longest.ljust(LONG_BYTES, b"."), False), (stays, True)):
            # The broker may drop the message or the connection.
            with contextlib.suppress(aiomqtt.MqttError):
                async with broker.account(gateway) as client:
                    await client.publish(topic, payload, qos=1, retain=retain)
        async with broker.account(gateway) as client:
            await client.publish(topic, longest, qos=1)
        await ear.wait({(topic, longest)}, broker.hear_timeout_s)
        troubles = ear.troubles({(topic, longest)})
    later = marker + b"later"
    async with listening(broker, [RECEIVER], marker, [topics.BATCHES]) as (_, (ear,)):
        async with broker.account(gateway) as client:
            await client.publish(topic, later, qos=1)
        await ear.wait({(topic, later)}, broker.hear_timeout_s)
        return troubles + ear.troubles({(topic, later)})


async def gateways_that_pretend(broker: Broker, marker: bytes) -> list[str]:
    """Let one gateway take another's client id, the platform's name, and leave a last will."""
    rogue, other = broker.gateways
    account = broker.accounts[rogue]
    own, hello, receipt = topics.hello(rogue), topics.hello(other), topics.receipt(other)
    end, will = marker + b"still here", marker + b"a last will"
    names = (other, RECEIVER)
    async with listening(broker, names, marker, [topics.HELLOS, receipt]) as (clients, ears):
        with contextlib.suppress(aiomqtt.MqttError):
            async with broker.account(rogue, f"edgeagg-{other}-platform") as client:
                await client.publish(own, marker + b"with another's client id", qos=1)
        if account.cert_file:
            with contextlib.suppress(aiomqtt.MqttError):
                async with broker.client(broker.gateway_port, account, user=RECEIVER) as client:
                    await client.publish(receipt, marker + b"with the name receiver", qos=1)
        # The will that is allowed comes behind the one that is not, and shows that wills come.
        for topic in (hello, own):
            await asyncio.to_thread(_die_with_will, broker, rogue, topic, will)
        await clients[other].publish(hello, end, qos=1)
        await clients[RECEIVER].publish(receipt, end, qos=1)
        wanted = {
            other: {(receipt, end)},
            RECEIVER: {(hello, end), (own, marker + b"with another's client id"), (own, will)},
        }
        for ear in ears:
            await ear.wait(wanted[ear.name], broker.hear_timeout_s)
        return [trouble for ear in ears for trouble in ear.troubles(wanted[ear.name])]


def _die_with_will(broker: Broker, name: str, topic: str, payload: bytes) -> None:
    """Connect with a last will and end without a goodbye, as a gateway that loses its power.

    The MQTT client always says goodbye, so the one packet is made here (MQTT 3.1.1, 3.1).
    """
    account = broker.accounts[name]
    password = account.password or ""
    user = name if password else ""
    # a clean session, a will of QoS 1; where there is a password, a user name and it
    flags = 0x02 | 0x04 | 0x08 | (0xC0 if password else 0)
    texts = [f"edgeagg-{name}-will".encode(), topic.encode(), payload]
    texts += [text.encode() for text in (user, password) if text]
    body = b"\x00\x04MQTT\x04" + bytes((flags, 0, 30))
    body += b"".join(len(text).to_bytes(2, "big") + text for text in texts)
    low, high = len(body) % 128, len(body) // 128
    size = bytes((0x80 | low, high)) if high else bytes((low,))
    address = (broker.host, broker.gateway_port)
    with (
        contextlib.suppress(OSError),
        socket.create_connection(address, timeout=broker.answer_timeout_s) as plain,
        broker.context(account).wrap_socket(plain, server_hostname=broker.host) as connection,
    ):
        connection.sendall(b"\x10" + size + body)
        connection.recv(4)


async def strangers(broker: Broker, marker: bytes) -> list[str]:
    """Try to come in without what each port asks for; return who did."""
    gateway, other = broker.gateways
    # A port that takes nobody would keep all of them out.
    for name in (gateway, RECEIVER):
        async with broker.account(name):
            pass
    nothing, wrong = Account(), Account(password=marker.decode())
    receiver, known = broker.accounts[RECEIVER], broker.accounts[gateway]
    tried = [
        ("nobody at the gateways' port", broker.gateway_port, nothing, None),
        ("nobody at the platform's port", broker.platform_port, nothing, None),
        ("receiver at the gateways' port", broker.gateway_port, receiver, RECEIVER),
        ("receiver with a wrong password", broker.platform_port, wrong, RECEIVER),
        (f"{gateway} at the platform's port", broker.platform_port, known, gateway),
    ]
    if known.password:
        tried.append((f"{gateway} as {other}", broker.gateway_port, known, other))
    clients = [broker.client(port, account, user=user) for _, port, account, user in tried]
    came = await asyncio.gather(*map(_comes_in, clients))
    return [f"{one[0]} comes in" for one, is_in in zip(tried, came, strict=True) if is_in]


async def _comes_in(client: aiomqtt.Client) -> bool:
    try:
        async with client:
            return True
    except aiomqtt.MqttError:
        return False


TRIALS: Final = (
    every_account_on_every_topic,
    long_and_retained_messages,
    gateways_that_pretend,
    strangers,
)


def read(path: Path) -> Broker:
    """Read the file that names a broker and its accounts; RulesError for what is wrong with it."""
    try:
        found = tomllib.loads(path.read_text("utf-8"))
        accounts = {name: _account(path.parent, of) for name, of in found["accounts"].items()}
        made = Broker(
            host=str(found["host"]),
            gateway_port=int(found["gateway_port"]),
            platform_port=int(found["platform_port"]),
            ca_file=str(path.parent / found["ca_file"]),
            accounts=accounts,
        )
    except OSError as error:
        raise RulesError(f"{path}: {error.strerror}") from None
    except KeyError as error:
        raise RulesError(f"{path}: {error.args[0]} is missing; see --help") from None
    except (AttributeError, TypeError, ValueError, RulesError) as error:
        raise RulesError(f"{path}: {error}") from None
    if set(PLATFORM) - accounts.keys() or len(accounts) != len(PLATFORM) + 2:
        allowed = f"{RECEIVER}, {OPERATOR} and two gateways"
        raise RulesError(f"{path}: accounts: found {', '.join(accounts)}; allowed: {allowed}")
    return made


def _account(folder: Path, found: dict[str, str]) -> Account:
    for key in found:
        if key not in _ACCOUNT_KEYS:
            raise RulesError(f"accounts: found {key}; allowed: {', '.join(_ACCOUNT_KEYS)}")
    named = {key: str(folder / name) for key, name in found.items()}
    password_file = named.pop("password_file", "")
    return Account(**named, password=tls.password(password_file))


async def trials(broker: Broker, marker: bytes) -> AsyncIterator[tuple[str, list[str]]]:
    """Yield what was tried, in words, and what did not hold."""
    for trial in TRIALS:
        words = trial.__name__.replace("_", " ")
        try:
            yield words, await trial(broker, marker)
        except* aiomqtt.MqttError as errors:
            yield words, [f"a connection ends: {error}" for error in errors.exceptions]


async def _report(broker: Broker, marker: bytes) -> int:
    status = 0
    async for words, troubles in trials(broker, marker):
        print(f"{'BAD' if troubles else 'ok '}  {words}")
        for trouble in troubles:
            print(f"     {trouble}")
        status |= bool(troubles)
    return status


def main() -> int:
    """Try the broker of a file; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hil_tests.broker_rules", description=_FORM)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("file", type=Path)
    path = parser.parse_args().file
    # The MQTT client logs each connection that a broker ends, which is what is tried here.
    logging.disable()
    try:
        return asyncio.run(_report(read(path), secrets.token_hex(8).encode()))
    except EdgeaggError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
