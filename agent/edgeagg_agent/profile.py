"""Meter profiles: what a profile is, and from registers to a reading.

A profile is a data file that names a meter model's points: where they stand, how they are coded,
at which resolution they are kept. This module reads the files and decodes registers by them. It
talks to no meter and knows no unit id.

Values are exact. A register's content is a whole number or a binary float, scale and ratios are
fractions, and one rounding (half to even) to the point's resolution happens at the very end.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from edgeagg.errors import ConfigError, ProtocolError
from edgeagg.model import Kind, Quality
from edgeagg_agent.bus import READ_FUNCTIONS, REGISTERS_MAX
from edgeagg_agent.bus.timing import CHAR_BITS
from edgeagg_agent.tomltable import Table, hint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# registers, and the struct code of their big-endian bytes
TYPES = {
    "u16": (1, ">H"),
    "i16": (1, ">h"),
    "u32": (2, ">I"),
    "i32": (2, ">i"),
    "u64": (4, ">Q"),
    "i64": (4, ">q"),
    "f32": (2, ">f"),
    "f64": (4, ">d"),
}
ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")  # of the bytes on the wire; ABCD is high word first
HOLES = ("readable", "illegal", "unknown")
STATUS = ("verified", "draft")
# other units are taken as they are; these are checked for their spelling
UNITS = ("V", "A", "W", "var", "VA", "Hz", "kWh", "kvarh", "kVAh", "1", "deg", "%", "degC", "m3")
MANTISSA_MAX = 2**63 - 1
EXPONENT_MAX = 18  # what the batch format's catalogue can carry
SHIPPED = Path(__file__).parent / "profiles"


class _Located:
    """A value at `register`, read with `function`, coded as `type` in byte `order`."""

    __slots__ = ()
    type: str

    @property
    def count(self) -> int:
        """Registers the value takes."""
        return TYPES[self.type][0]


@dataclass(frozen=True, slots=True)
class Point(_Located):
    """One quantity: value = raw x scale x ratios, in `unit`, kept as mantissa x 10**exponent.

    `invalid` holds register contents, as unsigned numbers, that mean "not available"; `min` and
    `max` are in `unit`.
    """

    name: str
    unit: str
    exponent: int
    kind: Kind
    function: int
    register: int
    type: str
    order: str
    scale: Fraction
    ratios: tuple[str, ...]
    invalid: frozenset[int]
    min: Fraction | None
    max: Fraction | None


@dataclass(frozen=True, slots=True)
class Ratio(_Located):
    """A transformer ratio that the meter of `profile` holds: factor = raw x scale."""

    name: str
    profile: str
    function: int
    register: int
    type: str
    order: str
    scale: Fraction
    invalid: frozenset[int]


@dataclass(frozen=True, slots=True)
class Check(_Located):
    """A register that tells the model: its raw value lies in [min, max]."""

    function: int
    register: int
    type: str
    order: str
    min: Fraction
    max: Fraction


@dataclass(frozen=True, slots=True)
class Limits:
    """What one read may ask of the meter.

    `request_gap_ms` is the silence it needs before a request when that is more than T3.5; `holes`
    says whether a read may cross registers that no point uses: readable, illegal or unknown.
    """

    registers_max: int = REGISTERS_MAX
    request_gap_ms: int = 0
    holes: str = "unknown"


@dataclass(frozen=True, slots=True)
class Serial:
    """The factory setting of the meter's port, for messages only."""

    baud: int
    format: str


@dataclass(frozen=True, slots=True)
class Profile:
    """One meter model, or several with the same registers."""

    name: str
    vendor: str
    models: tuple[str, ...]
    status: str
    sources: tuple[str, ...]
    serial: Serial | None
    limits: Limits
    identify: tuple[Check, ...]
    ratios: tuple[Ratio, ...]
    points: tuple[Point, ...]


def decode(
    point: Point, words: Sequence[int], ratios: Mapping[str, Fraction]
) -> tuple[int | None, Quality]:
    """Return (mantissa, GOOD), or (None, IMPLAUSIBLE) for what the meter or the profile rules out.

    `words` are the point's registers; `ratios` holds at least the ratios the point names.
    """
    bits, raw = _content(point, words)
    if bits in point.invalid or not math.isfinite(raw):
        return None, Quality.IMPLAUSIBLE
    # plain integers: Fraction arithmetic would cost a gateway ten times as much
    top, bottom = raw.as_integer_ratio()
    top *= point.scale.numerator
    bottom *= point.scale.denominator
    for name in point.ratios:
        top *= ratios[name].numerator
        bottom *= ratios[name].denominator
    if point.exponent < 0:
        top *= 10**-point.exponent
    else:
        bottom *= 10**point.exponent
    mantissa = _divide_half_even(top, bottom)
    if abs(mantissa) > MANTISSA_MAX or not _within(point, mantissa):
        return None, Quality.IMPLAUSIBLE
    return mantissa, Quality.GOOD


def decode_ratio(ratio: Ratio, words: Sequence[int]) -> Fraction:
    """Return the factor; raise ProtocolError when the register holds no positive number.

    A ratio of 0 would turn every reading of the meter into a plausible 0.
    """
    bits, raw = _content(ratio, words)
    if bits in ratio.invalid or not math.isfinite(raw) or raw <= 0:
        raise ProtocolError(
            f"profile {ratio.profile}: ratio {ratio.name!r} at 0x{ratio.register:04X} is {raw}; "
            f"set it on the meter"
        )
    return Fraction(raw) * ratio.scale


def matches(check: Check, words: Sequence[int]) -> bool:
    """Tell whether the registers hold a value that the model would show there."""
    _, raw = _content(check, words)
    return math.isfinite(raw) and check.min <= Fraction(raw) <= check.max


def _content(where: Point | Ratio | Check, words: Sequence[int]) -> tuple[int, int | float]:
    """Return the registers as an unsigned number and as the value they code."""
    count, code = TYPES[where.type]
    if len(words) != count:
        raise ValueError(f"{len(words)} registers for a {where.type} that takes {count}")
    ordered = reversed(words) if where.order in {"CDAB", "DCBA"} else words
    data = struct.pack(f">{count}H", *ordered)
    if where.order in {"BADC", "DCBA"}:
        data = struct.pack(f"<{count}H", *struct.unpack(f">{count}H", data))
    value: int | float = struct.unpack(code, data)[0]
    return int.from_bytes(data), value


def _divide_half_even(top: int, bottom: int) -> int:
    """Return top / bottom, for bottom > 0, rounded to the nearest whole number, ties to even."""
    quotient, rest = divmod(top, bottom)
    if 2 * rest > bottom or (2 * rest == bottom and quotient & 1):
        quotient += 1
    return quotient


def _within(point: Point, mantissa: int) -> bool:
    if point.min is None and point.max is None:
        return True
    value = mantissa * Fraction(10) ** point.exponent
    low, high = point.min, point.max
    return (low is None or low <= value) and (high is None or value <= high)


def names(directories: Sequence[Path]) -> list[str]:
    """List every profile that `load` finds, sorted."""
    found = (path for folder in (*directories, SHIPPED) for path in folder.glob("*.toml"))
    return sorted({path.stem for path in found})


def load(name: str, directories: Sequence[Path]) -> Profile:
    """Read the profile `name` from the first of `directories` that has it, or as shipped.

    Raises ConfigError naming the file, the key, what was found and what is allowed.
    """
    for folder in (*directories, SHIPPED):
        file = folder / f"{name}.toml"
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) and file.is_file():
            return _parse(name, file)
    where = ", ".join(str(folder) for folder in (*directories, SHIPPED))
    raise ConfigError(where, "profile", f"no profile {name!r}", hint(name, names(directories)))


def _parse(name: str, file: Path) -> Profile:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(file, "file", str(error), "a readable TOML file in UTF-8") from error
    keys = "vendor models status sources serial limits identify ratios points"
    top = Table(file, "", content, keys)
    limits = _limits(top.table("limits", "registers_max request_gap_ms holes", {}))
    ratios = tuple(
        _ratio(name, key, table)
        for key, table in top.tables("ratios", "function register type order scale invalid")
    )
    points = tuple(
        _point(key, table, [ratio.name for ratio in ratios], limits)
        for key, table in top.tables(
            "points",
            "function register type order scale ratios unit resolution kind invalid min max",
        )
    )
    if not points:
        raise top.error("points", "missing", "at least one [points.<name>]")
    _refuse_overlaps(top, points)
    return Profile(
        name=name,
        vendor=top.text("vendor"),
        models=top.texts("models"),
        status=top.text("status", STATUS),
        sources=top.texts("sources"),
        serial=_serial(top.table("serial", "baud format")) if "serial" in content else None,
        limits=limits,
        identify=tuple(map(_check, top.array("identify", "function register type order min max"))),
        ratios=ratios,
        points=points,
    )


def _limits(table: Table) -> Limits:
    return Limits(
        table.integer("registers_max", 1, REGISTERS_MAX, REGISTERS_MAX),
        table.integer("request_gap_ms", 0, 10_000, 0),
        table.text("holes", HOLES, "unknown"),
    )


def _serial(table: Table) -> Serial:
    return Serial(table.integer("baud", 300, 4_000_000), table.text("format", tuple(CHAR_BITS)))


def _place(table: Table) -> tuple[int, int, str, str]:
    """Read function, register, type and order."""
    code = table.text("type", tuple(TYPES))
    return (
        table.integer("function", min(READ_FUNCTIONS), max(READ_FUNCTIONS)),
        table.integer("register", 0, 0x10000 - TYPES[code][0]),
        code,
        table.text("order", ORDERS, "ABCD"),
    )


def _check(table: Table) -> Check:
    low, high = table.number("min"), table.number("max")
    if low > high:
        raise table.error("max", str(high), f"at least min, {low}")
    return Check(*_place(table), low, high)


def _ratio(profile: str, name: str, table: Table) -> Ratio:
    scale = table.number("scale", Fraction(1))
    if scale <= 0:
        raise table.error("scale", str(scale), "more than 0")
    place = _place(table)
    return Ratio(name, profile, *place, scale, table.contents("invalid", TYPES[place[2]][0]))


def _point(name: str, table: Table, ratios: Sequence[str], limits: Limits) -> Point:
    place = _place(table)
    used = table.texts("ratios", ())
    for ratio in used:
        if ratio not in ratios:
            raise table.error("ratios", f"unknown ratio {ratio!r}", hint(ratio, ratios))
    scale = table.number("scale", Fraction(1))
    if scale == 0:
        raise table.error("scale", "0", "any other number")
    low = table.number("min") if table.has("min") else None
    high = table.number("max") if table.has("max") else None
    if low is not None and high is not None and low > high:
        raise table.error("max", str(high), f"at least min, {low}")
    if TYPES[place[2]][0] > limits.registers_max:
        raise table.error("type", place[2], f"at most {limits.registers_max} registers")
    return Point(
        name,
        _unit(table),
        _exponent(table),
        Kind(table.text("kind", tuple(Kind), Kind.GAUGE)),
        *place,
        scale,
        used,
        table.contents("invalid", TYPES[place[2]][0]),
        low,
        high,
    )


def _unit(table: Table) -> str:
    unit = table.text("unit")
    for known in UNITS:
        if unit.lower() == known.lower() and unit not in UNITS:
            raise table.error("unit", repr(unit), f"write {known}")
    return unit


def _exponent(table: Table) -> int:
    resolution = table.number("resolution")
    for exponent in range(-EXPONENT_MAX, EXPONENT_MAX + 1):
        if resolution == Fraction(10) ** exponent:
            return exponent
    raise table.error("resolution", str(float(resolution)), "a power of ten such as 0.01, 1, 10")


def _refuse_overlaps(top: Table, points: Sequence[Point]) -> None:
    """Two points in one register are a slip of the pen: one of them reads the wrong quantity."""
    ordered = sorted(points, key=lambda point: (point.function, point.register))
    for before, after in itertools.pairwise(ordered):
        if before.function == after.function and after.register < before.register + before.count:
            raise top.error(
                f"points.{after.name}.register",
                f"0x{after.register:04X} overlaps {before.name} at 0x{before.register:04X}",
                "one point for each register",
            )
