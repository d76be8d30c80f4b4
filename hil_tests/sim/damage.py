"""What can happen to the bytes of a reply: pure functions, randomness is an argument.

Owns single injuries; when and to whom they happen is `hil_tests.sim.faults`' business. Modbus
bodies (unit, function, byte count, registers) and frames as they stand on the wire are kept apart:
an injury to a body gets a right checksum afterwards, one to a frame does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

_HEAD = 3  # unit, function, byte count of a reply to a read
_LEVEL_BITS = 10  # start bit, eight data bits, stop bit


def noise(count: int, rng: Random) -> bytes:
    """Return bytes that a receiver makes of a disturbed line."""
    return rng.randbytes(count)


def flip(data: bytes, bits: int, rng: Random) -> bytes:
    """Turn over `bits` different bits."""
    damaged = bytearray(data)
    for bit in rng.sample(range(8 * len(data)), min(bits, 8 * len(data))):
        damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def flip_registers(body: bytes, bits: int, rng: Random) -> bytes:
    """Turn over bits of the registers only: shape and length stay those of a good reply."""
    return body[:_HEAD] + flip(body[_HEAD:], bits, rng) if is_registers(body) else body


def shorten(body: bytes, registers: int) -> bytes:
    """Keep fewer registers than were asked for, with a byte count that fits them."""
    if not is_registers(body):
        return body
    kept = min(2 * registers, body[2] - 2)
    return body[:2] + bytes((kept,)) + body[_HEAD : _HEAD + kept]


def is_registers(body: bytes) -> bool:
    """Tell a reply with registers from an exception."""
    return len(body) > _HEAD and body[1] in (3, 4) and body[2] == len(body) - _HEAD


def overlay(first: bytes, second: bytes, *, lag_chars: int) -> bytes:
    """Let two drivers talk at once: where both do, a 0 of either wins."""
    lagging = b"\xff" * lag_chars + second
    length = max(len(first), len(lagging))
    pairs = zip(first.ljust(length, b"\xff"), lagging.ljust(length, b"\xff"), strict=True)
    return bytes(one & other for one, other in pairs)


def talk_over(first: bytes, second: bytes, *, lag_chars: float) -> bytes:
    """Return what a receiver makes of two 8N1 drivers, the second `lag_chars` behind the first.

    A 0 of either wins each bit; a start bit found in the wrong place shifts all behind it.
    """
    one, other, lag_bits = _levels(first), _levels(second), lag_chars * _LEVEL_BITS

    def level(time_bits: float) -> int:
        return _level(one, time_bits) & _level(other, time_bits - lag_bits)

    return _received(level, max(len(one), lag_bits + len(other)))


def misread(data: bytes, *, ratio: float) -> bytes:
    """Return what a receiver makes of 8N1 characters whose bits last `ratio` of its own bits."""
    levels = _levels(data)
    return _received(lambda time_bits: _level(levels, time_bits / ratio), len(levels) * ratio)


def _levels(data: bytes) -> list[int]:
    """Lay characters out bit by bit: start bit, eight data bits, stop bit."""
    return [level for byte in data for level in (0, *(byte >> bit & 1 for bit in range(8)), 1)]


def _level(levels: list[int], time_bits: float) -> int:
    """Return the level at a time; a line that nobody drives reads 1."""
    place = math.floor(time_bits)
    return levels[place] if 0 <= place < len(levels) else 1


def _received(level: Callable[[float], int], end_bits: float) -> bytes:
    heard = bytearray()
    time_bits = 0.0
    while time_bits < end_bits:
        if level(time_bits):
            time_bits += 0.125  # a receiver looks for the edge of a start bit many times per bit
            continue
        heard.append(sum(level(time_bits + 1.5 + bit) << bit for bit in range(8)))
        time_bits += _LEVEL_BITS - 0.5
    return bytes(heard)
