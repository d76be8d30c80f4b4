"""Values to Modbus registers, and the checksum of RTU frames.

Owns the simulator's encoder. It is written from the profile schema alone and must never share a
line with the agent's decoder: a bug that both sides have is invisible to every test on the bench.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction

REGISTER_COUNTS = {
    **dict.fromkeys(("u16", "i16", "bcd16", "u8hi", "u8lo"), 1),
    **dict.fromkeys(("u32", "i32", "f32", "bcd32", "sm32", "t5", "t6"), 2),
    "bcd48": 3,
    **dict.fromkeys(("u64", "i64", "f64", "bcd64"), 4),
}
ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
HALVES = ("u8hi", "u8lo")  # of a register that two values share
_DECIMAL_FLOATS = {"t5": (0, (1 << 24) - 1), "t6": (-(1 << 23), (1 << 23) - 1)}
_POWERS = range(-20, 21)  # of ten, in the top byte of t5 and t6: enough for any meter


def _range(kind: str) -> tuple[int, int]:
    """Return the smallest and the largest number that an integer type holds."""
    bits = REGISTER_COUNTS[kind] * 16
    if kind in HALVES:
        return 0, 0xFF
    if kind.startswith("bcd"):
        return 0, 10 ** (bits // 4) - 1
    if kind.startswith("u"):
        return 0, (1 << bits) - 1
    top = (1 << bits - 1) - 1
    return (-top if kind == "sm32" else -top - 1), top


def encode_integer(raw: int, *, kind: str, order: str) -> tuple[int, ...]:
    """Lay out an integer that fits `kind` ("u16" ... "bcd64") as registers in byte order `order`.

    BCD has a digit in each half byte, sm32 its sign in the top bit, u8hi stands in a high byte.
    """
    size = REGISTER_COUNTS[kind] * 2
    if kind.startswith("bcd"):
        raw = int(str(raw), 16)
    elif kind == "sm32":
        raw = abs(raw) | (raw < 0) << 31
    elif kind == "u8hi":
        raw <<= 8
    return ordered(raw.to_bytes(size, "big", signed=kind.startswith("i")), order)


def encode_float(raw: float, *, kind: str, order: str) -> tuple[int, ...]:
    """Lay out a float ("f32", "f64") as registers; "f32" rounds to the nearest, as meters do."""
    return ordered(struct.pack(">f" if kind == "f32" else ">d", raw), order)


def wrap(raw: int, *, kind: str) -> int:
    """Roll a totaliser over at the width of its register, as the meter's own counter does."""
    return raw % (_range(kind)[1] + 1)


def clamp(raw: int, *, kind: str) -> int:
    """Hold a gauge at the end of its register's range, as meters do, instead of wrapping it."""
    low, high = _range(kind)
    return min(max(raw, low), high)


def encode(
    value: Fraction, *, kind: str, order: str, factor: Fraction, resolution: Fraction | None
) -> tuple[int, ...]:
    """Encode `value` (in the point's unit) so that raw x `factor` gives it back.

    A totaliser names its `resolution` (in the point's unit): it shows full steps only, so it is
    rounded down and can never be ahead of the energy. A gauge (None) is rounded to the nearest.
    """
    if kind.startswith("f") or kind in _DECIMAL_FLOATS:
        if resolution is not None:
            value = math.floor(value / resolution) * resolution
        if kind in _DECIMAL_FLOATS:
            return _decimal_float(value / factor, kind=kind, order=order)
        return encode_float(float(value / factor), kind=kind, order=order)
    if resolution is not None:
        return encode_integer(wrap(math.floor(value / factor), kind=kind), kind=kind, order=order)
    return encode_integer(clamp(round(value / factor), kind=kind), kind=kind, order=order)


def _decimal_float(raw: Fraction, *, kind: str, order: str) -> tuple[int, ...]:
    """Lay out mantissa x 10^power, the power a signed byte: exact if any power makes it so.

    Otherwise the smallest power whose mantissa fits; what fits nowhere is held at the end.
    """
    low, high = _DECIMAL_FLOATS[kind]
    fitting = [power for power in _POWERS if low <= round(raw / Fraction(10) ** power) <= high]
    exact = [power for power in fitting if (raw / Fraction(10) ** power).denominator == 1]
    power = (exact or fitting or [_POWERS[-1]])[0]
    mantissa = min(max(round(raw / Fraction(10) ** power), low), high)
    data = power.to_bytes(1, "big", signed=True) + (mantissa % (1 << 24)).to_bytes(3, "big")
    return ordered(data, order)


def crc16(data: bytes) -> bytes:
    """Compute the CRC of an RTU frame, low byte first as it travels (Modbus serial guide V1.02)."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")


def ordered(data: bytes, order: str) -> tuple[int, ...]:
    """Cut big-endian bytes into registers: C and D first = words reversed, B and A = bytes."""
    words = list(struct.unpack(f">{len(data) // 2}H", data))
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [(word >> 8) | (word & 0xFF) << 8 for word in words]
    return tuple(words)
