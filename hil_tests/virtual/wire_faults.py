"""What the wire makes of a reply: pieces of bytes, drawn from a random generator.

Owns the faults by name. Pure functions; when a piece is on the wire is `hil_tests.virtual.wire`'s
business. The checksum is pymodbus's, so that it shares none with the engine it strikes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from pymodbus.framer import FramerRTU

Piece = tuple[float | None, bytes]
"""Seconds behind the piece before (the first: behind the turnaround) and bytes; None: an echo."""

_LATE_S = (0.1, 0.3, 0.5, 0.7, 1.5, 3.0)
_GLUED_S = 0.0005  # two frames with no more than a character between them
_SPLIT_S = (0.001, 0.02)
_NOISE_BYTES, _SPIKE_BYTES = 20, 8  # as much noise as a reply has bytes may hide a second one
_ELSEWHERE = 100  # units from here on are not on the line


@dataclass(frozen=True, slots=True)
class Reply:
    """A request, its good reply, and the one that the meter gave to a request like it before."""

    request: bytes
    frame: bytes
    before: bytes


def crc_of(body: bytes) -> bytes:
    """Return Modbus's checksum as it travels."""
    return FramerRTU.compute_CRC(body).to_bytes(2, "big")


def shape_reply(fault: str, reply: Reply, rng: Random) -> tuple[Sequence[Piece], int]:
    """Return what is heard instead of a good reply, and how often it had to be drawn again."""
    redrawn = 0
    while True:
        pieces = FAULTS[fault](reply, rng)
        if not _is_forged(b"".join(data for _, data in pieces), reply):
            return pieces, redrawn
        redrawn += 1


def _is_forged(stream: bytes, reply: Reply) -> bool:
    """Tell whether chance has made another valid reply to this request."""
    head, length = reply.frame[:3], len(reply.frame)
    start = stream.find(head)
    while 0 <= start <= len(stream) - length:
        frame = stream[start : start + length]
        if frame not in (reply.frame, reply.before) and crc_of(frame[:-2]) == frame[-2:]:
            return True
        start = stream.find(head, start + 1)
    return False


def _noise(rng: Random) -> bytes:
    return rng.randbytes(rng.randint(1, _NOISE_BYTES))


def _spike(rng: Random) -> bytes:
    return rng.randbytes(rng.randint(1, _SPIKE_BYTES))


def _foreign(reply: Reply, head: bytes) -> bytes:
    """Return a reply of the same length by somebody else, with other registers."""
    return _with_crc(head + reply.frame[2:3] + bytes(~byte & 0xFF for byte in reply.frame[3:-2]))


def _with_crc(body: bytes) -> bytes:
    return body + crc_of(body)


def _noise_before(reply: Reply, rng: Random) -> Sequence[Piece]:
    return (0.0, _noise(rng)), (rng.choice((0.0, rng.uniform(0, 0.01))), reply.frame)


def _noise_after(reply: Reply, rng: Random) -> Sequence[Piece]:
    return (0.0, reply.frame), (rng.choice((0.0, rng.uniform(0, 0.002))), _spike(rng))


def _noise_inside(reply: Reply, rng: Random) -> Sequence[Piece]:
    frame, noise = reply.frame, _noise(rng)
    place = rng.randrange(1, len(frame))
    behind = place + rng.choice((0, len(noise)))  # put in between, or put over
    return ((0.0, frame[:place] + noise + frame[behind:]),)


def _bit_errors(reply: Reply, rng: Random) -> Sequence[Piece]:
    damaged = bytearray(reply.frame)
    for bit in rng.sample(range(8 * len(damaged)), rng.randint(1, 6)):
        damaged[bit // 8] ^= 1 << bit % 8
    return ((0.0, bytes(damaged)),)


def _truncated(reply: Reply, rng: Random) -> Sequence[Piece]:
    return ((0.0, reply.frame[: rng.randrange(1, len(reply.frame))]),)


def _merged(reply: Reply, rng: Random) -> Sequence[Piece]:
    """Glue another unit's reply in front or behind."""
    other = _foreign(reply, bytes((reply.frame[0] + _ELSEWHERE, reply.frame[1])))
    return ((0.0, rng.choice((other + reply.frame, reply.frame + other))),)


def _late(reply: Reply, rng: Random) -> Sequence[Piece]:
    return ((rng.choice(_LATE_S), reply.frame),)


def _stale(reply: Reply, rng: Random) -> Sequence[Piece]:
    """Repeat the reply to the request before, glued in front of the true one."""
    if not reply.before:
        return ((0.0, reply.frame),)
    return (0.0, reply.before), (rng.uniform(0, _GLUED_S), reply.frame)


def _stale_damaged(reply: Reply, rng: Random) -> Sequence[Piece]:
    """Repeat the reply before, and spoil the true one behind it."""
    if not reply.before:
        return ()
    place = rng.randrange(3, len(reply.frame))
    return ((0.0, reply.before + reply.frame[:place]),)


def _short(reply: Reply, rng: Random) -> Sequence[Piece]:
    """Send fewer registers than were asked for, with a byte count and a checksum that fit."""
    size = 2 * rng.randrange(1, reply.frame[2] // 2)
    return ((0.0, _with_crc(reply.frame[:2] + bytes((size,)) + reply.frame[3 : 3 + size])),)


def _wrong_unit(reply: Reply, rng: Random) -> Sequence[Piece]:
    unit = rng.randrange(_ELSEWHERE, 248)
    return ((0.0, _foreign(reply, bytes((unit, reply.frame[1])))),)


def _wrong_function(reply: Reply, rng: Random) -> Sequence[Piece]:
    function = rng.choice((1, 2, 4, 6))
    return ((0.0, _foreign(reply, bytes((reply.frame[0], function)))),)


def _refused(reply: Reply, rng: Random) -> Sequence[Piece]:
    return (
        (0.0, _with_crc(bytes((reply.frame[0], reply.frame[1] | 0x80, rng.choice((2, 4, 6)))))),
    )


def _echo(reply: Reply, _rng: Random) -> Sequence[Piece]:
    return (None, reply.request), (0.0, reply.frame)


def _echo_and_noise(reply: Reply, rng: Random) -> Sequence[Piece]:
    return (None, reply.request), (0.0, _noise(rng)), (rng.uniform(0, 0.01), reply.frame)


def _split(reply: Reply, rng: Random) -> Sequence[Piece]:
    place = rng.randrange(1, len(reply.frame))
    return (0.0, reply.frame[:place]), (rng.uniform(*_SPLIT_S), reply.frame[place:])


FAULTS: Mapping[str, Callable[[Reply, Random], Sequence[Piece]]] = MappingProxyType(
    {
        "clean": lambda reply, _rng: ((0.0, reply.frame),),
        "noise before": _noise_before,
        "noise after": _noise_after,
        "noise inside": _noise_inside,
        "bit errors": _bit_errors,
        "truncated": _truncated,
        "merged": _merged,
        "late": _late,
        "stale in front": _stale,
        "stale, then damaged": _stale_damaged,
        "short": _short,
        "wrong unit": _wrong_unit,
        "wrong function": _wrong_function,
        "refused": _refused,
        "silent": lambda _reply, _rng: (),
        "twice": lambda reply, _rng: ((0.0, reply.frame * 2),),
        "echo": _echo,
        "echo and noise": _echo_and_noise,
        "split": _split,
    }
)
RECOVERABLE = frozenset(
    {"noise before", "noise after", "merged", "twice", "echo", "echo and noise", "split"}
)
"""Faults that leave the whole reply on the line, among other bytes."""
