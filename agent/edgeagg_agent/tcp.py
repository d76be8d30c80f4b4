"""What a connection to a platform asks of the kernel's TCP, and what it tells of the connection.

TCP waits twice as long for each further acknowledgement that does not come, up to two minutes, and
takes every delay that a loss caused for the line's own. A gateway says one short thing a minute:
sending that again each second costs a bad line little, and two minutes of silence cost much.
Decides nothing about connections.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

Option = tuple[int, int, int]
"""Level, name and value, as for setsockopt(2)."""

# from linux/tcp.h
_TCP_THIN_LINEAR_TIMEOUTS = 16
TCP_RTO_MAX_MS = 44
_RTO_MAX_MS = 1_000  # the least that Linux takes
# with time-outs so short the kernel would give up after 15 s, before the uplink does
_UNACKNOWLEDGED_MAX_MS = 100_000
# struct tcp_info: milliseconds since the last data came, the smoothed round trip and its mean
# deviation in microseconds
_HEARD_AT, _ROUND_TRIP_AT, _INFO_BYTES = 52, 68, 104

_OPTIONS: tuple[Option, ...] = (
    # a word must not wait for the acknowledgement of the one before
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    # before Linux 6.15: time-outs of a stream with few packets under way do not double at first
    (socket.IPPROTO_TCP, _TCP_THIN_LINEAR_TIMEOUTS, 1),
    (socket.IPPROTO_TCP, TCP_RTO_MAX_MS, _RTO_MAX_MS),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MAX_MS),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """How a connection is."""

    silent_ms: int
    """Since data came, or since the connection was made."""
    answer_ms: int
    """Within which an acknowledgement is to be expected (RFC 6298, before any limit)."""


def known(options: Iterable[Option] = _OPTIONS) -> tuple[Option, ...]:
    """Return those of the options that this kernel takes, asked with a socket of its own."""
    with socket.socket() as probe:
        return tuple(option for option in options if _is_taken(probe, option))


def heard(connection: socket.socket) -> Heard:
    """Ask the kernel how a connection is; an `OSError` if it is closed."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    (silent_ms,) = struct.unpack_from("=I", info, _HEARD_AT)
    smooth_us, deviation_us = struct.unpack_from("=II", info, _ROUND_TRIP_AT)
    return Heard(silent_ms=silent_ms, answer_ms=(smooth_us + 4 * deviation_us) // 1_000)


def _is_taken(probe: socket.socket, option: Option) -> bool:
    try:
        probe.setsockopt(*option)
    except OSError:
        return False
    return True
