"""Values to Modbus registers, and the checksum of RTU frames.

Owns the simulator's encoder. It is written from the profile schema alone and must never share a
line with the agent's decoder: a bug that both sides have is invisible to every test on the bench.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

REGISTER_COUNTS = {"u16": 1, "i16": 1, "u32": 2, "i32": 2, "u64": 4, "i64": 4, "f32": 2, "f64": 4}
ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")


def encode_integer(raw: int, *, kind: str, order: str) -> tuple[int, ...]:
    """Lay out an integer that fits `kind` ("u16" ... "i64") as registers in byte order `order`."""
    size = REGISTER_COUNTS[kind] * 2
    return _ordered(raw.to_bytes(size, "big", signed=kind.startswith("i")), order)


def encode_float(raw: float, *, kind: str, order: str) -> tuple[int, ...]:
    """Lay out a float ("f32", "f64") as registers; "f32" rounds to the nearest, as meters do."""
    return _ordered(struct.pack(">f" if kind == "f32" else ">d", raw), order)


def wrap(raw: int, *, kind: str) -> int:
    """Roll a totaliser over at the width of its register, as the meter's own counter does."""
    bits = REGISTER_COUNTS[kind] * 16
    return raw % (1 << (bits if kind.startswith("u") else bits - 1))


def clamp(raw: int, *, kind: str) -> int:
    """Hold a gauge at the end of its register's range, as meters do, instead of wrapping it."""
    bits = REGISTER_COUNTS[kind] * 16
    if kind.startswith("u"):
        return min(max(raw, 0), (1 << bits) - 1)
    return min(max(raw, -(1 << bits - 1)), (1 << bits - 1) - 1)


def encode(
    value: Fraction, *, kind: str, order: str, factor: Fraction, resolution: Fraction | None
) -> tuple[int, ...]:
    """Encode `value` (in the point's unit) so that raw x `factor` gives it back.

    A totaliser names its `resolution` (in the point's unit): it shows full steps only, so it is
    rounded down and can never be ahead of the energy. A gauge (None) is rounded to the nearest.
    """
    if kind.startswith("f"):
        if resolution is not None:
            value = math.floor(value / resolution) * resolution
        return encode_float(float(value / factor), kind=kind, order=order)
    if resolution is not None:
        return encode_integer(wrap(math.floor(value / factor), kind=kind), kind=kind, order=order)
    return encode_integer(clamp(round(value / factor), kind=kind), kind=kind, order=order)


def crc16(data: bytes) -> bytes:
    """Compute the CRC of an RTU frame, low byte first as it travels (Modbus serial guide V1.02)."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")


def _ordered(data: bytes, order: str) -> tuple[int, ...]:
    """Cut big-endian bytes into registers: C and D first = words reversed, B and A = bytes."""
    words = list(struct.unpack(f">{len(data) // 2}H", data))
    if order in ("CDAB", "DCBA"):
        words.reverse()
    if order in ("BADC", "DCBA"):
        words = [(word >> 8) | (word & 0xFF) << 8 for word in words]
    return tuple(words)
