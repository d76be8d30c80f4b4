"""What the kernel's TCP is asked for, and what it tells."""

from __future__ import annotations

import socket
import time

import pytest

from edgeagg_agent.tcp import heard, known


def test_what_this_kernel_does_not_know_is_left_out() -> None:
    no_delay = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    unknown = (socket.IPPROTO_TCP, 9_999, 1)
    assert known([unknown, no_delay]) == (no_delay,)


def test_all_that_it_takes_can_be_set_on_a_connection() -> None:
    options = known()
    assert (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) in options
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as connection,
    ):
        for level, name, value in options:
            connection.setsockopt(level, name, value)
            assert connection.getsockopt(level, name) == value


def test_silence_ends_with_data_and_not_with_acknowledgements() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as connection,
        server.accept()[0] as peer,
    ):
        time.sleep(0.1)  # the kernel's own clock
        connection.send(b"?")
        peer.recv(1)
        assert heard(connection).silent_ms >= 90
        peer.send(b"!")
        connection.recv(1)
        assert heard(connection).silent_ms < 90
        assert heard(connection).answer_ms < 1_000


def test_a_closed_connection_tells_nothing() -> None:
    connection = socket.socket()
    connection.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        heard(connection)
