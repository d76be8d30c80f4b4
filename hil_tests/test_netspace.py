"""The cable between two network namespaces: real packets, carried, lost, late and swallowed."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil_tests.netspace import INTERFACE, NO_NETWORK, PLATFORM_ADDRESS, Cable
from hil_tests.proxy import Weather

pytestmark = pytest.mark.skipif(bool(NO_NETWORK), reason=NO_NETWORK)

_SAY = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])) as line:
        line.sendall(b"hello")
except OSError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.fixture
def cable(tmp_path: Path) -> Iterator[Cable]:
    with Cable(tmp_path).running() as running:
        yield running


@pytest.fixture
def listener(cable: Cable) -> Iterator[socket.socket]:
    with cable.listen() as listening:
        listening.settimeout(5)
        yield listening


def say(cable: Cable, listener: socket.socket, *, patience_s: float = 5) -> str:
    """Have a process of the gateway say hello to the platform; return why it could not."""
    port = listener.getsockname()[1]
    command = [*cable.gateway_command, "python3", "-c", _SAY, PLATFORM_ADDRESS, str(port)]
    command.append(str(patience_s))
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip()


def heard(listener: socket.socket) -> bytes:
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(5)
        return connection.recv(5)


def test_the_gateway_reaches_the_platform_and_only_by_the_cable(
    cable: Cable, listener: socket.socket
) -> None:
    assert say(cable, listener) == ""
    assert heard(listener) == b"hello"
    assert cable.carried >= 4, "a handshake, the word, an acknowledgement"
    own = [name for _, name in socket.if_nameindex()]
    assert INTERFACE not in own, "the machine's own network is left alone"


def test_a_link_that_is_down_and_a_route_that_is_gone_are_unreachable_at_once(
    cable: Cable, listener: socket.socket
) -> None:
    cable.link("down")
    assert "unreachable" in say(cable, listener)
    cable.link("up")
    assert say(cable, listener) == ""
    cable.route("del")
    assert "unreachable" in say(cable, listener)
    cable.route("add")
    assert say(cable, listener) == ""


def test_a_cable_that_swallows_answers_nobody(cable: Cable, listener: socket.socket) -> None:
    cable.swallows = True
    assert "timed out" in say(cable, listener, patience_s=0.2)
    assert cable.vanished > 0


def test_latency_is_paid_each_way_and_lost_packets_are_sent_again(
    cable: Cable, listener: socket.socket
) -> None:
    cable.weather = Weather(latency_s=0.1)
    begun_s = time.monotonic()
    assert say(cable, listener) == ""
    assert time.monotonic() - begun_s >= 0.2, "the handshake is a round trip"
    assert heard(listener) == b"hello"


def test_a_network_is_gone_after_its_block(tmp_path: Path) -> None:
    with Cable(tmp_path).running() as cable:
        (command,) = [part for part in cable.gateway_command if part.startswith("--net=")]
        namespace = Path(command.removeprefix("--net="))
        assert namespace.exists()
    assert not namespace.exists()
