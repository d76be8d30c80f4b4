"""Numbers as packed decimal digits (BCD), low byte first, as Chinese meter protocols carry them.

Owns digits, signs and the frame sum that DL/T 645 and CJ/T 188 share. It is the bench's own
encoder, written from the frame rules, and must never share a line with the agent's decoder.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from fractions import Fraction

_CHINA_TIME = timedelta(hours=8)  # meters keep Beijing time, which has no summer time
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - meters show a wall clock without a zone


def packed(number: int, *, length: int) -> bytes:
    """Pack a number of at most 2 x `length` digits, low byte first."""
    return bytes.fromhex(f"{number:0{length * 2}d}")[::-1]


def digits(text: str, *, length: int) -> bytes:
    """Pack the digits of an address or a number, low byte first."""
    if len(text) != length * 2 or not text.isascii() or not text.isdigit():
        raise ValueError(f'"{text}": {length * 2} digits expected')
    return bytes.fromhex(text)[::-1]


def counter(value: Fraction, *, length: int, decimals: int, signed: bool = False) -> bytes:
    """Pack a counter: full steps only, rolled over where the digits end, as the meter's own does.

    A signed one loses the top bit to its sign and so rolls over at 8 instead of at 10.
    """
    steps = math.floor(abs(value) * 10**decimals)
    steps %= 10 ** (length * 2) if not signed else 8 * 10 ** (length * 2 - 1)
    return _with_sign(steps, length=length, negative=signed and value < 0)


def gauge(value: Fraction, *, length: int, decimals: int, signed: bool = False) -> bytes:
    """Pack a gauge: the nearest step, held at the end of its digits.

    The sign is the top bit of the most significant byte (DL/T 645-2007). Without one the meter
    shows the magnitude alone.
    """
    steps = round(abs(value) * 10**decimals)
    steps = min(steps, (8 * 10 ** (length * 2 - 1) if signed else 10 ** (length * 2)) - 1)
    return _with_sign(steps, length=length, negative=signed and value < 0 and steps > 0)


def checksum(body: bytes) -> bytes:
    """Return the sum of a frame's bytes from its first 68H on, modulo 256."""
    return bytes((sum(body) % 256,))


def local_time(t_ms: int) -> datetime:
    """Return the wall clock of a meter in China at a UTC instant."""
    return _EPOCH + timedelta(milliseconds=t_ms) + _CHINA_TIME


def utc_ms(clock: datetime) -> int:
    """Return the UTC instant of a wall clock in China."""
    return (clock - _CHINA_TIME - _EPOCH) // timedelta(milliseconds=1)


def _with_sign(steps: int, *, length: int, negative: bool) -> bytes:
    data = bytearray(packed(steps, length=length))
    data[-1] |= 0x80 if negative else 0
    return bytes(data)
