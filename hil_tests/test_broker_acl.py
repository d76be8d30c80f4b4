"""The shipped Mosquitto configuration: every account on every topic, and what must not come in."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiomqtt
import pytest

from edgeagg import tls, topics
from hil_tests.certificates import Authority, Pair
from hil_tests.services.process import Child, accepts_connections, free_port, tied_to_parent

SHIPPED = Path(__file__).parents[1] / "deploy" / "broker"
FOLDER = "/etc/mosquitto/edgeagg"
SYSTEM_PATH = "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin"
MOSQUITTO = shutil.which("mosquitto", path=SYSTEM_PATH)
PASSWD = shutil.which("mosquitto_passwd", path=SYSTEM_PATH)

pytestmark = [
    pytest.mark.skipif(
        MOSQUITTO is None or PASSWD is None, reason="needs Debian's package mosquitto"
    ),
    # paho leaves the socket of a failed handshake to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

GATEWAYS = ("qp-0001", "qp-0002")
UP = {"hello": topics.hello, "batch": topics.batch, "answer": topics.answer}
DOWN = {"receipt": topics.receipt, "command": topics.command}
TOPICS = [
    *(make(gateway) for make in {**UP, **DOWN}.values() for gateway in GATEWAYS),
    "edgeagg/v1/qp-0001/other",
    "edgeagg/v1/qp-0001",
    "edgeagg/v2/qp-0001/batch",
    "anything",
    "$SYS/broker/log",
]
PASSWORDS = {"receiver": "one of them", "operator": "the other"}
MESSAGE_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Site:
    """A broker with the shipped files, and what its clients need."""

    folder: Path
    authority: Authority
    gateways: dict[str, Pair]
    gateway_port: int
    platform_port: int

    def gateway(self, name: str, client_id: str | None = None) -> aiomqtt.Client:
        pair = self.gateways[name]
        files = tls.TlsFiles(
            ca_file=str(self.authority.ca_file),
            cert_file=str(pair.cert_file),
            cert_key_file=str(pair.key_file),
        )
        return self._client(self.gateway_port, files, client_id or f"edgeagg-{name}-platform")

    def platform(self, user: str, password: str | None = None) -> aiomqtt.Client:
        files = tls.TlsFiles(ca_file=str(self.authority.ca_file))
        return self._client(self.platform_port, files, None, user, password or PASSWORDS[user])

    def client(self, name: str) -> aiomqtt.Client:
        return self.gateway(name) if name in GATEWAYS else self.platform(name)

    @staticmethod
    def _client(
        port: int,
        files: tls.TlsFiles,
        client_id: str | None,
        user: str | None = None,
        password: str | None = None,
    ) -> aiomqtt.Client:
        return aiomqtt.Client(
            "localhost",
            port,
            identifier=client_id,
            username=user,
            password=password,
            tls_context=tls.context(files),
            protocol=aiomqtt.ProtocolVersion.V311,
            timeout=3,
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Run mosquitto on the shipped files, with their folder and their ports replaced."""
    authority = Authority(tmp_path, "gateways-ca")
    authority.issue("broker")
    gateways = {name: authority.issue(name, host=name) for name in GATEWAYS}
    ports = free_port(), free_port()
    text = (SHIPPED / "mosquitto.conf").read_text("utf-8")
    for shipped, here in (("8883", ports[0]), ("8884", ports[1])):
        assert f"\nlistener {shipped}\n" in text
        text = text.replace(f"\nlistener {shipped}\n", f"\nlistener {here} 127.0.0.1\n")
    assert FOLDER in text
    configuration = tmp_path / "mosquitto.conf"
    # as another user mosquitto could not read the test's folder
    configuration.write_text(f"user root\n{text.replace(FOLDER, str(tmp_path))}", "utf-8")
    for name in ("gateways.acl", "platform.acl"):
        shutil.copy(SHIPPED / name, tmp_path / name)
    passwords = tmp_path / "platform.passwd"
    passwords.touch(0o600)
    for user, password in PASSWORDS.items():
        assert PASSWD is not None
        subprocess.run([PASSWD, "-b", passwords, user, password], check=True)
    child = Child(
        tied_to_parent([str(MOSQUITTO), "-c", str(configuration)]),
        name="broker",
        log=tmp_path / "broker.log",
    )
    child.start()
    child.wait_ready(lambda: all(map(accepts_connections, ports)))
    yield Site(tmp_path, authority, gateways, *ports)
    child.kill()


@dataclass(slots=True)
class Ear:
    """One account that subscribes to everything, and what it gets to hear."""

    name: str
    heard: set[tuple[str, bytes]] = field(default_factory=set)

    async def listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            self.heard.add((message.topic.value, bytes(message.payload)))


@contextlib.asynccontextmanager
async def everybody(site: Site) -> AsyncIterator[tuple[dict[str, aiomqtt.Client], list[Ear]]]:
    """Connect every account and let each try to hear all there is."""
    ears = [Ear(name) for name in (*GATEWAYS, *PASSWORDS)]
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        for ear in ears:
            client = await stack.enter_async_context(site.client(ear.name))
            clients[ear.name] = client
            for wanted in ("#", "$SYS/#", "edgeagg/v1/+/+", *TOPICS):
                with contextlib.suppress(aiomqtt.MqttError):
                    await client.subscribe(wanted, qos=1)
            listening = tasks.create_task(ear.listen(client))
            stack.callback(listening.cancel)
        yield clients, ears


def may_publish(name: str) -> set[str]:
    if name == "receiver":
        return {topics.receipt(gateway) for gateway in GATEWAYS}
    if name == "operator":
        return {topics.command(gateway) for gateway in GATEWAYS}
    return {make(name) for make in UP.values()}


def may_hear(name: str) -> set[str]:
    if name == "receiver":
        return {make(gateway) for make in (topics.hello, topics.batch) for gateway in GATEWAYS}
    if name == "operator":
        return {topics.answer(gateway) for gateway in GATEWAYS}
    return {make(name) for make in DOWN.values()}


async def test_every_account_on_every_topic(site: Site) -> None:
    async with everybody(site) as (clients, ears):
        for name, client in clients.items():
            for topic in TOPICS:
                await client.publish(topic, name.encode(), qos=1)
        # what is allowed comes behind everything that is not
        for name, client in clients.items():
            for topic in may_publish(name):
                await client.publish(topic, b"the end of " + name.encode(), qos=1)
        expected = {
            ear.name: {
                (topic, payload)
                for name in clients
                for topic in may_publish(name) & may_hear(ear.name)
                for payload in (name.encode(), b"the end of " + name.encode())
            }
            for ear in ears
        }
        async with asyncio.timeout(20):
            while any(expected[ear.name] - ear.heard for ear in ears):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        for ear in ears:
            assert ear.heard == expected[ear.name], ear.name
    # the matrix is not empty: each of them may do something, and nobody everything
    assert all(0 < len(found) < 2 * len(TOPICS) for found in expected.values())


async def test_a_message_above_256_kib_is_not_passed_on(site: Site) -> None:
    async with everybody(site) as (clients, ears):
        receiver = next(ear for ear in ears if ear.name == "receiver")
        topic = topics.batch("qp-0001")
        for size in (MESSAGE_BYTES_MAX + 1, MESSAGE_BYTES_MAX):
            await clients["qp-0001"].publish(topic, bytes(size), qos=1)
        async with asyncio.timeout(20):
            while not receiver.heard:  # noqa: ASYNC110 - the ear has no event
                await asyncio.sleep(0.01)
        assert receiver.heard == {(topic, bytes(MESSAGE_BYTES_MAX))}


async def publish_twice(site: Site, *, payload: bytes, retain: bool = False) -> None:
    async with site.gateway("qp-0001") as client:
        await client.publish(topics.batch("qp-0001"), payload, qos=1, retain=retain)
        await client.publish(topics.batch("qp-0001"), b"later", qos=1)


async def test_a_much_longer_message_or_a_retained_one_ends_the_connection(site: Site) -> None:
    with pytest.raises(aiomqtt.MqttError):
        await publish_twice(site, payload=bytes(1 << 20))
    with pytest.raises(aiomqtt.MqttError):
        await publish_twice(site, payload=b"stays", retain=True)
    await publish_twice(site, payload=b"allowed")


async def test_nobody_is_thrown_out_by_another_who_takes_their_client_id(site: Site) -> None:
    async with site.gateway("qp-0001", "mine") as client, site.gateway("qp-0002", "mine") as other:
        await client.publish(topics.hello("qp-0001"), b"here", qos=1)
        await other.publish(topics.hello("qp-0002"), b"here too", qos=1)
        await client.publish(topics.hello("qp-0001"), b"still here", qos=1)


async def test_nobody_comes_in_without_what_their_port_asks_for(site: Site) -> None:
    stranger = Authority(site.folder, "stranger").issue("qp-0001-stolen-name")
    own = tls.TlsFiles(ca_file=str(site.authority.ca_file))
    forged = tls.TlsFiles(
        ca_file=own.ca_file,
        cert_file=str(stranger.cert_file),
        cert_key_file=str(stranger.key_file),
    )
    for client in (
        site._client(site.gateway_port, own, "no-certificate"),
        site._client(site.gateway_port, own, "password", "receiver", PASSWORDS["receiver"]),
        site._client(site.gateway_port, forged, "of-a-stranger"),
        site._client(site.platform_port, own, "no-password"),
        site.platform("receiver", "wrong"),
        site.platform("qp-0001", "anything"),
    ):
        with pytest.raises(aiomqtt.MqttError):
            async with client:
                pass
