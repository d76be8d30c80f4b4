"""TLS on real sockets: what is refused is one line that says why, what is right goes through."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edgeagg.errors import LinkError
from edgeagg.receiver.inbox import Inbox
from edgeagg.receiver.mqtt import Broker, receive
from edgeagg.receiver.store import open_store
from edgeagg.tls import TlsFiles, context, explain
from edgeagg_agent.clock import SystemClock
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.site import Destination
from edgeagg_agent.uplink import Uplink
from hil_tests.certificates import LONG_AGO, LONG_HENCE, Authority, Pair

CONNACK = bytes((0x20, 2, 0, 0))
DISCONNECT = 0xE0

# paho leaves the socket of a failed handshake to the garbage collector
HANDSHAKE_FAILS = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Peer:
    """A server that welcomes every MQTT client that gets through TLS, one after the other."""

    def __init__(self, certificate: Pair, *, clients_of: Authority | None = None) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.cert_file, certificate.key_file)
        if clients_of is not None:
            self._context.load_verify_locations(clients_of.ca_file)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.names: list[str] = []
        """The common names of the clients that came in."""

    @contextlib.contextmanager
    def running(self) -> Iterator[Peer]:
        thread = threading.Thread(target=self._serve)
        thread.start()
        try:
            yield self
        finally:
            self._listening.shutdown(socket.SHUT_RDWR)
            thread.join()
            self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            connection.settimeout(5)
            # a client that minds our certificate, or has none of its own
            with connection, contextlib.suppress(OSError), self._secured(connection) as secured:
                shown: Any = secured.getpeercert() or {}
                parts = [part for parts in shown.get("subject", ()) for part in parts]
                self.names += [str(value) for _, value in parts]
                secured.recv(64)
                secured.sendall(CONNACK)
                while (heard := secured.recv(64)) and heard[0] != DISCONNECT:
                    pass

    def _secured(self, connection: socket.socket) -> ssl.SSLSocket:
        return self._context.wrap_socket(connection, server_side=True)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def destination(port: int, files: TlsFiles, host: str = "localhost") -> Destination:
    return Destination(
        "platform",
        host,
        port,
        tls=True,
        username="",
        password_file="",
        ca_file=files.ca_file,
        cert_file=files.cert_file,
        cert_key_file=files.cert_key_file,
    )


async def what_the_agent_says(
    tmp_path: Path, to: Destination, caplog: pytest.LogCaptureFixture, *, lines: int = 1
) -> list[str]:
    """Let an uplink try until it has said so many lines."""
    caplog.set_level(logging.INFO)
    outbox = Outbox(tmp_path / "state", now_ms=1, bytes_max=32 << 20)
    cursor = outbox.cursor("platform")
    uplink = Uplink(to, "qp-0001", outbox, cursor, SystemClock(), lambda _origin: None)
    running = asyncio.create_task(uplink.run())
    try:
        async with asyncio.timeout(40):
            while len(own_lines(caplog)) < lines:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])
        outbox.close()
    assert running.cancelled(), "it gave up"
    return own_lines(caplog)


def own_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("edgeagg")]


@HANDSHAKE_FAILS
@pytest.mark.parametrize(
    ("since", "until", "host", "said"),
    [
        (
            LONG_AGO,
            LONG_AGO + timedelta(days=90),
            "localhost",
            "certificate has expired; the clock",
        ),
        (LONG_HENCE, LONG_HENCE + timedelta(days=90), "localhost", "not yet valid: is the clock"),
        (LONG_AGO, LONG_HENCE, "mq.example", "certificate is not for localhost: wrong address"),
    ],
    ids=["expired", "not-yet-valid", "other-host"],
)
async def test_a_brokers_wrong_certificate_is_one_line_and_tried_again(
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    since: datetime,
    until: datetime,
    host: str,
    said: str,
) -> None:
    shown = authority.issue("broker", host=host, since=since, until=until)
    with Peer(shown).running() as peer:
        to = destination(peer.port, TlsFiles(ca_file=str(authority.ca_file)))
        lines = await what_the_agent_says(tmp_path, to, caplog, lines=2)
    for line in lines:
        assert line.startswith(f"platform: no connection to localhost:{peer.port}: the broker's")
        assert said in line
        assert "\n" not in line


@HANDSHAKE_FAILS
async def test_a_broker_of_an_unknown_authority_is_refused(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Authority(tmp_path, "impostor")
    with Peer(other.issue("broker")).running() as peer:
        to = destination(peer.port, TlsFiles(ca_file=str(authority.ca_file)))
        (line,) = await what_the_agent_says(tmp_path, to, caplog)
    assert "of an unknown authority: see ca_file" in line


async def test_both_ends_show_their_certificates(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gateway, platform = authority.issue("qp-0001"), authority.issue("receiver")
    caplog.set_level(logging.INFO)
    with Peer(authority.issue("broker"), clients_of=authority).running() as peer:
        (line,) = await what_the_agent_says(
            tmp_path, destination(peer.port, files(authority, gateway)), caplog
        )
        assert line == f"platform: connected to localhost:{peer.port}"
        assert peer.names == ["qp-0001"]
        store = await open_store(f"sqlite:///{tmp_path / 'platform.db'}")
        broker = Broker("localhost", peer.port, tls=True, tls_files=files(authority, platform))
        receiving = asyncio.create_task(receive(Inbox(store), broker, None))
        async with asyncio.timeout(40):
            while len(peer.names) < 2:  # noqa: ASYNC110 - the peer is a thread
                await asyncio.sleep(0.01)
        receiving.cancel()
        await asyncio.wait([receiving])
        await store.close()
    assert peer.names == ["qp-0001", "receiver"]


@pytest.mark.long  # the uplink waits 20 s for an answer
@HANDSHAKE_FAILS
async def test_a_client_without_the_certificate_that_is_asked_for_keeps_trying(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Peer(authority.issue("broker"), clients_of=authority).running() as peer:
        to = destination(peer.port, TlsFiles(ca_file=str(authority.ca_file)))
        lines = await what_the_agent_says(tmp_path, to, caplog)
    assert lines[0] == (
        f"platform: no connection to localhost:{peer.port}: Operation timed out behind TLS: "
        "does the broker know the certificate of cert_file?"
    )
    assert peer.names == []


def files(authority: Authority, pair: Pair) -> TlsFiles:
    return TlsFiles(
        ca_file=str(authority.ca_file),
        cert_file=str(pair.cert_file),
        cert_key_file=str(pair.key_file),
    )


def test_nothing_older_than_tls_1_2_is_spoken() -> None:
    assert context(TlsFiles()).minimum_version == ssl.TLSVersion.TLSv1_2
    assert context(TlsFiles()).check_hostname
    assert context(TlsFiles()).verify_mode == ssl.CERT_REQUIRED


def test_a_certificate_with_another_ones_key_or_with_none_is_one_line(
    authority: Authority, tmp_path: Path
) -> None:
    one, other = authority.issue("one"), authority.issue("other")
    mixed = TlsFiles(cert_file=str(one.cert_file), cert_key_file=str(other.key_file))
    with pytest.raises(LinkError, match=r"one.pem with .*other.key.*: they do not belong together"):
        context(mixed)
    with pytest.raises(LinkError, match=r"one.pem with .*none: .*No such file or directory"):
        context(TlsFiles(cert_file=str(one.cert_file), cert_key_file=str(tmp_path / "none")))
    with pytest.raises(LinkError, match=r"one.key: no certificates: not PEM"):
        context(TlsFiles(ca_file=str(one.key_file)))


async def test_a_file_that_is_being_replaced_ends_no_agent(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = TlsFiles(ca_file=str(tmp_path / "being-replaced.pem"))
    lines = await what_the_agent_says(tmp_path, destination(1, gone), caplog, lines=2)
    assert all("being-replaced.pem: no certificates: No such file" in line for line in lines)


def test_a_clock_in_1970_is_named_where_a_certificate_is_not_yet_valid() -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code = 9
    said = explain(error, "mq.example", 60_000, is_tls=True)
    assert said.endswith("is the clock right? It says 1970-01-01 00:01 UTC")
