"""The bad network on loopback: what it does to bytes, on real sockets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from hil_tests.proxy import Proxy, Weather
from hil_tests.services.process import LOOPBACK
from hil_tests.shifted import shifted


@pytest.fixture
def echo_port() -> Iterator[int]:
    """Return the port of a server that gives back what it gets."""
    with socket.create_server((LOOPBACK, 0)) as server:
        thread = threading.Thread(target=_echo_all, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def _echo_all(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(4096):
            connection.sendall(data)


def call(proxy: Proxy) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port), timeout=10)


def assert_silent(connection: socket.socket) -> None:
    """Check that nothing comes; a machine under load can only make that easier."""
    connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        connection.recv(1)


def received(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += connection.recv(count - len(data))
    return data


def test_bytes_pass_unchanged_and_in_order(echo_port: int) -> None:
    sent = Random(1).randbytes(50_000)
    with Proxy(echo_port).running() as proxy, call(proxy) as connection:
        connection.sendall(sent)
        assert received(connection, len(sent)) == sent


def test_latency_is_paid_each_way(echo_port: int) -> None:
    with Proxy(echo_port).running() as proxy, call(proxy) as connection:
        proxy.weather = Weather(latency_s=0.1)
        begun_s = time.monotonic()
        connection.sendall(b"x")
        assert received(connection, 1) == b"x"
        assert time.monotonic() - begun_s >= 0.2


def test_a_half_open_connection_says_nothing_and_a_new_one_works_after_healing(
    echo_port: int,
) -> None:
    with Proxy(echo_port).running() as proxy, call(proxy) as old:
        old.sendall(b"a")
        assert received(old, 1) == b"a"
        proxy.half_open()
        old.sendall(b"b")
        assert_silent(old)
        proxy.heal()
        with call(proxy) as new:
            new.sendall(b"c")
            assert received(new, 1) == b"c"
        assert_silent(old)


def test_a_cut_ends_every_connection(echo_port: int) -> None:
    with Proxy(echo_port).running() as proxy, call(proxy) as connection:
        connection.sendall(b"a")
        assert received(connection, 1) == b"a"
        proxy.cut()
        assert connection.recv(1) == b""


def test_lost_segments_wait_for_ever_longer_time_outs() -> None:
    weather = Weather(latency_s=1.0, loss=0.3)
    rng = Random(1)
    delays = [weather.delay_s(rng) for _ in range(20_000)]
    assert sorted(set(delays))[:4] == [1.0, 3.0, 7.0, 15.0], "0, 1, 2 and 3 losses: 2 + 4 + 8 s"
    assert abs(delays.count(1.0) / len(delays) - 0.7) < 0.02


def test_a_shifted_clock_follows_its_file(tmp_path: Path) -> None:
    file = tmp_path / "clock"
    file.write_text("3600000", "utf-8")
    now_ns = shifted(file, lambda: 5_000_000_000)
    assert now_ns() == 3_605_000_000_000
    file.write_text("-9000", "utf-8")
    assert now_ns() == 0, "time before 1970 is no time of a host"
