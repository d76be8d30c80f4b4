"""Meters made from profile files: registers and items filled with values that are known exactly.

Owns the way from a number to the bytes of a meter, written from the meaning of the profile schema
alone. It must never share a line with the agent's decoder: a bug that both sides have is invisible.
"""

from __future__ import annotations

import math
import struct
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

WIDTHS = {
    **dict.fromkeys(("u16", "i16", "bcd16", "u8hi", "u8lo"), 1),
    **dict.fromkeys(("u32", "i32", "f32", "bcd32", "t5", "t6", "sm32"), 2),
    "bcd48": 3,
    **dict.fromkeys(("u64", "i64", "f64", "bcd64"), 4),
}
EDGES = ("random", "zero", "lowest", "highest", "behind_highest", "nothing")
_MANTISSA_MAX = 2**63 - 1
_LARGE = 10**9

Table = Mapping[str, Any]


@dataclass(slots=True)
class Played:
    """What a meter shows at one instant, and what a reader must make of it.

    `words` by (function, register); `payloads` by item; `mantissas` by point, None where the meter
    shows nothing that could be a value.
    """

    words: dict[tuple[int, int], int] = field(default_factory=dict)
    payloads: dict[str, bytes] = field(default_factory=dict)
    mantissas: dict[str, int | None] = field(default_factory=dict)


def read_profile(file: Path) -> Table:
    """Read a profile file as plain tables, numbers exactly as they are written."""
    return tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)


def play_registers(profile: Table, rng: Random, edge: str) -> Played:
    """Fill the registers of every point and ratio; `edge` is one of EDGES for all of them."""
    played = Played()
    ratios: dict[str, Fraction] = {}
    for name, ratio in profile.get("ratios", {}).items():
        is_power = ratio.get("op") == "pow10"
        raw = rng.randint(-4, 4) if is_power else rng.randint(1, 5000)
        size = Fraction(10) ** raw if is_power else Fraction(raw)
        ratios[name] = size * Fraction(ratio.get("scale", 1))
        _store(played.words, ratio, ratio["function"], _bits(raw, ratio["type"]))
    for name, point in profile["points"].items():
        value = _play_value(played.words, point, point, rng, edge)
        if value is not None and "plus" in point:
            part = {"function": point["function"], **point["plus"]}
            rest = _play_value(played.words, part, part, rng, edge)
            value = None if rest is None else value + rest
        for used in point.get("ratios", ()):
            value = None if value is None else value * ratios[used]
        played.mantissas[name] = _mantissa(value, point)
    return played


def play_items(profile: Table, rng: Random, edge: str, *, reply_bytes: int | None) -> Played:
    """Fill the items of every point; `reply_bytes` is the length of a reply of CJ/T 188."""
    played = Played()
    frames: dict[str, bytearray] = {}
    for name, point in profile["points"].items():
        layouts = [point, *point.get("layout", ())]
        wanted = (layout for layout in layouts if layout.get("reply_bytes") == reply_bytes)
        layout = next(wanted, None)
        length = (layout or point)["length"]
        raw, data = _play_digits(point["type"], length, rng, edge)
        frame = frames.setdefault(point["item"], bytearray(reply_bytes or 0))
        if layout is None:
            played.mantissas[name] = None
            continue
        _put(frame, layout.get("offset_bytes", 0), data)
        if "unit_byte" in layout:
            frame[layout["unit_byte"]] = _UNIT_CODES[point["unit"]]
        if "block" in point:
            block = frames.setdefault(point["block"], bytearray())
            _put(block, point.get("block_offset_bytes", 0), data)
        scale = Fraction(layout.get("scale", point.get("scale", 1)))
        if "unit_byte" in layout and point["unit"] == "W":
            scale *= 1000  # the meter is played in kW
        played.mantissas[name] = _mantissa(None if raw is None else raw * scale, point)
    played.payloads = {item: bytes(frame) for item, frame in frames.items()}
    return played


_UNIT_CODES = {"m3": 0x2C, "kWh": 0x05, "W": 0x17, "m3/h": 0x35}


def _play_value(
    words: dict[tuple[int, int], int], where: Table, coded: Table, rng: Random, edge: str
) -> Fraction | None:
    """Store one number; return it in the point's unit, without ratios, None for no number."""
    code = where["type"]
    invalid = coded.get("invalid", ())
    if edge == "nothing" and invalid:
        _store(words, where, where["function"], rng.choice(invalid))
        return None
    if code.startswith("bcd") and edge == "nothing":
        _store(words, where, where["function"], 0xA)  # no decimal digit
        return None
    raw = _number(code, rng, edge)
    bits = _bits(raw, code)
    _store(words, where, where["function"], bits)
    if bits in invalid or (isinstance(raw, float) and not math.isfinite(raw)):
        return None
    return (Fraction(raw) + Fraction(coded.get("offset", 0))) * Fraction(coded.get("scale", 1))


def _number(code: str, rng: Random, edge: str) -> int | float | Fraction:
    """Choose a number that the type can show; behind its highest a counter shows its lowest."""
    if code in {"f32", "f64"}:
        return _float(code, rng, edge)
    if code in {"t5", "t6"}:
        high = 2**24 - 1 if code == "t5" else 2**23 - 1
        low = 0 if code == "t5" else -(2**23)
        power = {"lowest": -128, "highest": 127}.get(edge, rng.randint(-6, 6))
        sizes = {"zero": 0, "lowest": low, "highest": high, "behind_highest": low}
        return sizes.get(edge, rng.randint(low, high)) * Fraction(10) ** power
    bits = 16 * WIDTHS[code]
    low, high = 0, 2**bits - 1
    if code.startswith("i"):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    elif code == "sm32":
        low, high = -(2**31 - 1), 2**31 - 1
    elif code.startswith("bcd"):
        high = int(10 ** (bits // 4)) - 1
    elif code.startswith("u8"):
        high = 255
    sizes = {"zero": 0, "lowest": low, "highest": high, "behind_highest": low}
    return sizes.get(edge, rng.randint(low, high) >> rng.randrange(bits))


def _float(code: str, rng: Random, edge: str) -> float:
    match edge:
        case "zero":
            return 0.0
        case "nothing":
            return rng.choice((math.nan, math.inf, -math.inf))
        case "lowest" | "highest" | "behind_highest":
            code_of = ">f" if code == "f32" else ">d"
            largest = "7f7fffff" if code == "f32" else "7fefffffffffffff"
            value: float = struct.unpack(code_of, bytes.fromhex(largest))[0]
            return -value if edge == "lowest" else value
    value = rng.uniform(-_LARGE, _LARGE) * 10.0 ** rng.randint(-9, 0)
    return float(struct.unpack(">f", struct.pack(">f", value))[0]) if code == "f32" else value


def _bits(raw: float | Fraction, code: str) -> int:
    """Return what the registers hold, as one unsigned number, high word first."""
    size = 16 * WIDTHS[code]
    if isinstance(raw, float):
        return int(struct.pack(">f" if code == "f32" else ">d", raw).hex(), 16)
    if code in {"t5", "t6"}:
        return _exponent_form(Fraction(raw), signed=code == "t6")
    number = int(raw)
    if code.startswith("bcd"):
        return int(str(number), 16)
    if code == "sm32" and number < 0:
        number = 2**31 - number
    return number % (1 << size)


def _exponent_form(value: Fraction, *, signed: bool) -> int:
    """Find a decimal exponent for which the mantissa is whole and has room in 24 bits."""
    limit = 2**23 if signed else 2**24
    for power in range(127, -129, -1):
        mantissa = value / Fraction(10) ** power
        if mantissa.denominator == 1 and -limit <= mantissa < limit:
            return (power % 256) << 24 | int(mantissa) % 2**24
    raise ValueError(f"{value} has no such form")


def _store(words: dict[tuple[int, int], int], where: Table, function: int, bits: int) -> None:
    """Lay the number out as registers in the byte order of the profile."""
    code, first = where["type"], where["register"]
    if code in {"u8hi", "u8lo"}:
        shift, kept = (8, 0x00FF) if code == "u8hi" else (0, 0xFF00)
        old = words.get((function, first), 0x5A5A)
        words[function, first] = old & kept | bits << shift
        return
    count = WIDTHS[code]
    row = [bits >> 16 * place & 0xFFFF for place in reversed(range(count))]
    order = where.get("order", "ABCD")
    if order in {"CDAB", "DCBA"}:  # the low word stands first
        row.reverse()
    if order in {"BADC", "DCBA"}:  # the low byte stands first in its word
        row = [word % 256 * 256 + word // 256 for word in row]
    for offset, word in enumerate(row):
        words[function, first + offset] = word


def _play_digits(code: str, length: int, rng: Random, edge: str) -> tuple[int | None, bytes]:
    """Choose a number of that many bytes, low byte first; return it with its bytes."""
    if code == "bin":
        value = 0 if edge == "zero" else rng.randrange(256**length)
        return value, value.to_bytes(length, "little")
    if edge == "nothing":
        return None, b"\xff" * length
    is_signed = code == "bcd-signed"
    high = int(10 ** (2 * length)) - 1
    if is_signed:
        high = 8 * int(10 ** (2 * length - 1)) - 1  # the sign takes the top bit of the first digit
    low = -high if is_signed else 0
    sizes = {"zero": 0, "lowest": low, "highest": high, "behind_highest": 0}
    value = sizes.get(edge, rng.randint(low, high))
    data = bytearray.fromhex(f"{abs(value):0{2 * length}d}")
    if value < 0:
        data[0] |= 0x80
    return value, bytes(reversed(data))


def _put(frame: bytearray, offset: int, data: bytes) -> None:
    if len(frame) < offset + len(data):
        frame.extend(bytes(offset + len(data) - len(frame)))
    frame[offset : offset + len(data)] = data


def _mantissa(value: Fraction | None, point: Table) -> int | None:
    """Round to the resolution, half to even; None for what no mantissa or bound can hold."""
    if value is None:
        return None
    mantissa = round(value / Fraction(point["resolution"]))
    rounded = mantissa * Fraction(point["resolution"])
    low, high = point.get("min"), point.get("max")
    if (low is not None and rounded < low) or (high is not None and rounded > high):
        return None
    return mantissa if abs(mantissa) <= _MANTISSA_MAX else None
