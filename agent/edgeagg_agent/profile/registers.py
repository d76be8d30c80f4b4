"""Register bytes and the numbers they code.

Owns the register types and byte orders. It knows no point, no scale and no meter: bytes in, a raw
number out.
"""

from __future__ import annotations

import struct
from fractions import Fraction

REGISTER_COUNTS = {
    "u16": 1,
    "i16": 1,
    "u32": 2,
    "i32": 2,
    "u64": 4,
    "i64": 4,
    "f32": 2,
    "f64": 4,
    "bcd16": 1,
    "bcd32": 2,
    "bcd48": 3,
    "bcd64": 4,
    "u8hi": 1,
    "u8lo": 1,
    "t5": 2,
    "t6": 2,
    "sm32": 2,
}
ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")  # of the bytes on the wire; ABCD is high word first
WHOLE_TYPES = tuple(code for code in REGISTER_COUNTS if code[0] in "uibs")
_STRUCT = {
    "u16": ">H",
    "i16": ">h",
    "u32": ">I",
    "i32": ">i",
    "u64": ">Q",
    "i64": ">q",
    "f32": ">f",
    "f64": ">d",
}
_SIGN_32 = 1 << 31

Raw = int | float | Fraction


def high_first(data: bytes, order: str) -> bytes:
    """Put the bytes of a value into the order high word first, high byte first."""
    if order == "ABCD":
        return data
    if order == "DCBA":
        return data[::-1]
    swapped = bytearray(data)
    swapped[0::2], swapped[1::2] = data[1::2], data[0::2]
    return bytes(swapped if order == "BADC" else swapped[::-1])


def read_raw(data: bytes, code: str, order: str) -> tuple[int, Raw | None]:
    """Return a value's bytes as an unsigned number, and the number that they code.

    The latter is None where the bytes are no number: a BCD digit above nine. A float may be NaN or
    infinite. `data` holds whole registers, as many as the type takes.
    """
    data = high_first(data, order)
    bits = int.from_bytes(data)
    if code in _STRUCT:
        return bits, struct.unpack(_STRUCT[code], data)[0]
    match code:
        case "u8hi":
            return data[0], data[0]
        case "u8lo":
            return data[1], data[1]
        case "sm32":  # the top bit is the sign, the rest is the size
            return bits, _SIGN_32 - bits if bits & _SIGN_32 else bits
        case "t5" | "t6":  # a signed decimal exponent in the top byte, then 24 bits
            power = int.from_bytes(data[:1], signed=True)
            mantissa = int.from_bytes(data[1:], signed=code == "t6")
            return bits, mantissa * Fraction(10) ** power
        case _:
            digits = data.hex()
            return bits, int(digits) if digits.isdecimal() else None


def full_scale(code: str) -> int | None:
    """Return the number at which a counter of this type begins anew; None where it has none.

    A signed register is taken to count to its largest positive number, for energy is not negative;
    floats have no such number.
    """
    bits = 16 * REGISTER_COUNTS[code]
    match code[0], code:
        case "b", _:
            return int(10 ** (bits // 4))
        case _, "u8hi" | "u8lo":
            return 1 << 8
        case "u", _:
            return 1 << bits
        case _, "i16" | "i32" | "i64" | "sm32":
            return 1 << (bits - 1)
    return None
