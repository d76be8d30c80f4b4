"""A bad line in small: real uplinks, the kernel's TCP, a third of the packets lost."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagg_agent.tcp import TCP_RTO_MAX_MS, known
from hil_tests.badline import SETTINGS, Trial, run
from hil_tests.netspace import NO_NETWORK, PLATFORM_ADDRESS, Cable, place_of, settings_of
from hil_tests.proxy import Weather

pytestmark = pytest.mark.skipif(bool(NO_NETWORK), reason=NO_NETWORK)

# a tenth of the time for a tenth of the line: 20 s
SMALL = Trial(weather=Weather(latency_s=0.2, loss=0.3), gateways=30, count=4, flush_s=3)


def test_thirty_gateways_on_a_bad_line_lose_nothing_and_none_waits_long(tmp_path: Path) -> None:
    endured = run(tmp_path, SMALL)
    assert endured.missing == 0, endured
    assert endured.cut == 120
    # 6 to 9 s where the kernel has all that it is asked for, else up to half a minute; more where
    # the machine has other work to do
    assert endured.p99_s <= (90 if endured.unknown else 40), endured


@pytest.mark.long
def test_without_what_the_kernel_is_asked_for_they_wait_longer(tmp_path: Path) -> None:
    trial = dataclasses.replace(SMALL, gateways=45, count=6)
    for name in ("asked", "alone"):
        (tmp_path / name).mkdir()
    asked = run(tmp_path / "asked", trial)
    if asked.unknown:
        pytest.skip(f"this kernel has no {', '.join(asked.unknown)}")
    empty = tmp_path / "empty.conf"
    empty.touch()
    unasked = dataclasses.replace(trial, settings=empty, is_old_gateway=True)
    alone = run(tmp_path / "alone", unasked)
    assert alone.missing == 0
    assert alone.p99_s > 1.5 * asked.p99_s, (asked, alone)


def test_the_settings_of_the_deployment_are_the_platforms_and_no_others(tmp_path: Path) -> None:
    settings = settings_of(SETTINGS)
    own = {name: place_of(name).read_text() for name in settings if place_of(name).exists()}
    with Cable(tmp_path).running() as cable:
        unknown = cable.set_platform(settings)
        assert set(unknown) == settings.keys() - own.keys()
        for name in own:
            assert cable.platform_setting(name) == settings[name]
    assert own == {name: place_of(name).read_text() for name in own}, (
        "the machine's own are left alone"
    )


_CONNECT = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2]))):
    time.sleep(60)
"""


@contextlib.contextmanager
def connected(cable: Cable) -> Iterator[socket.socket]:
    """Have a process of the gateway connect, and give the platform's end."""
    with cable.listen() as listener:
        port = str(listener.getsockname()[1])
        command = [*cable.gateway_command, "python3", "-c", _CONNECT, PLATFORM_ADDRESS, port]
        with subprocess.Popen(command) as gateway:
            connection, _ = listener.accept()
            with connection:
                yield connection
            gateway.kill()


def is_given_up_within(seconds: float, connection: socket.socket) -> bool:
    connection.send(b"?")
    connection.settimeout(seconds)
    try:
        connection.recv(1)
    except TimeoutError as error:
        return error.errno == errno.ETIMEDOUT
    raise AssertionError("somebody answered")


RETRIES = "net.ipv4.tcp_retries2"


@pytest.mark.long
@pytest.mark.skipif(
    all(name != TCP_RTO_MAX_MS for _, name, _ in known()), reason="needs Linux 6.15 or newer"
)
@pytest.mark.parametrize(
    ("is_set", "without", "is_given_up"),
    [
        ("platform", None, False),
        ("platform", RETRIES, True),
        ("gateway", None, False),
        ("gateway", socket.TCP_USER_TIMEOUT, True),
    ],
)
def test_short_time_outs_do_not_end_a_connection_that_is_cut_for_twenty_seconds(
    tmp_path: Path, is_set: str, without: str | int | None, *, is_given_up: bool
) -> None:
    with Cable(tmp_path).running() as cable:
        if is_set == "platform":
            settings = settings_of(SETTINGS)
            cable.set_platform({name: settings[name] for name in settings if name != without})
        with connected(cable) as connection:
            for level, name, value in known() if is_set == "gateway" else ():
                if name != without:
                    connection.setsockopt(level, name, value)
            cable.swallows = True
            assert is_given_up_within(20, connection) is is_given_up
