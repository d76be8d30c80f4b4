"""The shipped Mosquitto configuration: every account on every topic, and what must not come in."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import aiomqtt
import pytest

from edgeagg import topics
from hil_tests import broker_rules
from hil_tests.broker_rules import MESSAGE_BYTES_MAX, Account, Broker
from hil_tests.certificates import Authority
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
PASSWORDS = {"receiver": "one of them", "operator": "the other"}
MARKER = b"0123456789abcdef"


@contextmanager
def mosquitto(folder: Path, changes: dict[str, str] | None = None) -> Iterator[Broker]:
    """Run mosquitto on the shipped files, with their folder, ports and `changes` replaced."""
    authority = Authority(folder, "gateways-ca")
    authority.issue("broker")
    ports = free_port(), free_port()
    here = {
        f"\nlistener {port}\n": f"\nlistener {own} 127.0.0.1\n"
        for port, own in zip((8883, 8884), ports, strict=True)
    }
    here[FOLDER] = str(folder)
    texts = {
        name: (SHIPPED / name).read_text("utf-8")
        for name in ("mosquitto.conf", "gateways.acl", "platform.acl")
    }
    for before, after in (here | (changes or {})).items():
        assert any(before in text for text in texts.values()), before
        texts = {name: text.replace(before, after) for name, text in texts.items()}
    # as another user mosquitto could not read the test's folder
    texts["mosquitto.conf"] = f"user root\n{texts['mosquitto.conf']}"
    for name, text in texts.items():
        (folder / name).write_text(text, "utf-8")
    accounts = {name: _password(folder / "platform.passwd", name) for name in PASSWORDS}
    for name in GATEWAYS:
        pair = authority.issue(name, host=name)
        accounts[name] = Account(cert_file=str(pair.cert_file), cert_key_file=str(pair.key_file))
    child = Child(
        tied_to_parent([str(MOSQUITTO), "-c", str(folder / "mosquitto.conf")]),
        name="broker",
        log=folder / "broker.log",
    )
    child.start()
    child.wait_ready(lambda: all(map(accepts_connections, ports)))
    yield Broker(
        host="localhost",
        gateway_port=ports[0],
        platform_port=ports[1],
        ca_file=str(authority.ca_file),
        accounts=accounts,
    )
    child.kill()


def _password(file: Path, name: str) -> Account:
    password = PASSWORDS.get(name, f"{name}'s own")
    file.touch(0o600)
    assert PASSWD is not None
    subprocess.run([PASSWD, "-b", file, name, password], check=True)
    return Account(password=password)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with mosquitto(tmp_path) as made:
        yield made


def impatient(broker: Broker) -> Broker:
    """Return the same for who waits in vain: the MQTT client notices no refusal before CONNACK."""
    return replace(broker, answer_timeout_s=1.0)


async def test_every_account_on_every_topic(broker: Broker) -> None:
    assert await broker_rules.every_account_on_every_topic(broker, MARKER) == []


async def test_the_table_allows_each_account_something_and_nobody_everything() -> None:
    tried = broker_rules.tried_topics(GATEWAYS)
    for name in (*GATEWAYS, *PASSWORDS):
        allowed = broker_rules.may_publish(name, GATEWAYS), broker_rules.may_hear(name, GATEWAYS)
        assert all(topics_of < set(tried) and topics_of for topics_of in allowed)
        assert not allowed[0] & allowed[1]


@pytest.mark.parametrize(
    ("shipped", "broken", "trouble"),
    [
        ("%u/receipt", "+/receipt", "qp-0001 hears on edgeagg/v1/qp-0002/receipt: receiver"),
        ("%u/batch", "+/batch", "receiver hears on edgeagg/v1/qp-0001/batch: qp-0002"),
        ("+/answer", "+/+", "operator hears on edgeagg/v1/qp-0001/batch: qp-0001"),
        ("write edgeagg/v1/%u/hello", "read #", "receiver misses on edgeagg/v1/qp-0001/hello: "),
    ],
)
async def test_a_wrong_rule_shows(tmp_path: Path, shipped: str, broken: str, trouble: str) -> None:
    with mosquitto(tmp_path, {shipped: broken}) as broker:
        hasty = replace(broker, hear_timeout_s=0.5)
        troubles = await broker_rules.every_account_on_every_topic(hasty, MARKER)
    assert any(found.startswith(trouble) for found in troubles), troubles


async def test_a_message_above_256_kib_is_not_passed_on(broker: Broker) -> None:
    topic = topics.batch("qp-0001")
    names, filters = ["qp-0001", "receiver"], [topics.BATCHES]
    async with broker_rules.listening(broker, names, b"", filters) as (clients, ears):
        for size in (MESSAGE_BYTES_MAX + 1, MESSAGE_BYTES_MAX):
            await clients["qp-0001"].publish(topic, bytes(size), qos=1)
        passed = {(topic, bytes(MESSAGE_BYTES_MAX))}
        await ears[1].wait(passed, broker.hear_timeout_s)
        assert ears[1].heard == passed


async def test_long_and_retained_messages_come_to_nothing(broker: Broker) -> None:
    hasty = impatient(broker)
    assert await broker_rules.long_and_retained_messages(hasty, MARKER) == []


@pytest.mark.parametrize(
    ("shipped", "broken", "trouble"),
    [
        ("message_size_limit 262144", "", "hears on edgeagg/v1/qp-0001/batch: long"),
        ("retain_available false", "", "hears on edgeagg/v1/qp-0001/batch: stays"),
    ],
)
async def test_a_broker_that_passes_on_too_much_shows(
    tmp_path: Path, shipped: str, broken: str, trouble: str
) -> None:
    with mosquitto(tmp_path, {shipped: broken}) as broker:
        troubles = await broker_rules.long_and_retained_messages(impatient(broker), MARKER)
    assert any(trouble in found for found in troubles), troubles


async def publish_twice(broker: Broker, *, payload: bytes, retain: bool = False) -> None:
    async with broker.account("qp-0001") as client:
        await client.publish(topics.batch("qp-0001"), payload, qos=1, retain=retain)
        await client.publish(topics.batch("qp-0001"), b"later", qos=1)


async def test_a_much_longer_message_or_a_retained_one_ends_the_connection(
    broker: Broker,
) -> None:
    for payload, retain in ((bytes(1 << 20), False), (b"stays", True)):
        with pytest.raises(aiomqtt.MqttError):
            await publish_twice(impatient(broker), payload=payload, retain=retain)
    await publish_twice(broker, payload=b"allowed")


async def test_nobody_is_thrown_out_by_another_who_takes_their_client_id(broker: Broker) -> None:
    async with (
        broker.account("qp-0001", "mine") as client,
        broker.account("qp-0002", "mine") as other,
    ):
        await client.publish(topics.hello("qp-0001"), b"here", qos=1)
        await other.publish(topics.hello("qp-0002"), b"here too", qos=1)
        await client.publish(topics.hello("qp-0001"), b"still here", qos=1)


async def test_no_gateway_passes_for_another_or_for_the_platform(broker: Broker) -> None:
    assert await broker_rules.gateways_that_pretend(broker, MARKER) == []


async def test_a_last_will_in_anothers_name_shows(tmp_path: Path) -> None:
    with mosquitto(tmp_path, {"%u/hello": "+/hello"}) as broker:
        troubles = await broker_rules.gateways_that_pretend(broker, MARKER)
    assert "receiver hears on edgeagg/v1/qp-0002/hello: a last will" in troubles


async def test_nobody_comes_in_without_what_their_port_asks_for(broker: Broker) -> None:
    hasty = impatient(broker)
    assert await broker_rules.strangers(hasty, MARKER) == []
    folder = Path(broker.ca_file).parent
    stranger = Authority(folder, "stranger").issue("qp-0001-stolen-name")
    forged = Account(cert_file=str(stranger.cert_file), cert_key_file=str(stranger.key_file))
    with pytest.raises(aiomqtt.MqttError):
        async with hasty.client(broker.gateway_port, forged):
            pass


async def test_an_open_door_shows(tmp_path: Path) -> None:
    with mosquitto(tmp_path, {"allow_anonymous false": "allow_anonymous true"}) as broker:
        troubles = await broker_rules.strangers(impatient(broker), MARKER)
    assert troubles == ["nobody at the platform's port comes in"]


async def test_gateways_with_passwords_are_kept_apart_as_those_with_certificates(
    tmp_path: Path,
) -> None:
    file = tmp_path / "gateways.passwd"
    accounts = {name: _password(file, name) for name in GATEWAYS}
    by_certificate = "require_certificate true\nuse_identity_as_username true"
    with mosquitto(tmp_path, {by_certificate: f"password_file {file}"}) as broker:
        known = replace(impatient(broker), accounts=broker.accounts | accounts)
        told = [trial async for trial in broker_rules.trials(known, MARKER)]
    assert len(told) == 4
    assert all(not troubles for _, troubles in told), told
