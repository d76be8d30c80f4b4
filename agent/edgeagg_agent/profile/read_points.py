"""Read the tables of a Modbus profile: points, ratios, checks, identity.

Owns what one such table must hold; what the file as a whole must hold is the loader's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from edgeagg.tomltable import Table, hint
from edgeagg_agent.bus import READ_FUNCTIONS
from edgeagg_agent.profile.read_common import (
    read_bounds,
    read_exponent,
    read_kind,
    read_poll,
    read_scale,
    read_unit,
    read_wraps,
)
from edgeagg_agent.profile.registers import ORDERS, REGISTER_COUNTS, WHOLE_TYPES
from edgeagg_agent.profile.schema import (
    RATIO_OPS,
    STATUS,
    Check,
    Identity,
    Limits,
    Part,
    Point,
    Ratio,
)

POINT_KEYS = (
    "function register type order scale ratios offset plus unit resolution kind poll invalid"
    " min max digits bits wraps_at status"
)
RATIO_KEYS = "function register type order scale invalid op"
CHECK_KEYS = "function register type order min max equals"
IDENTITY_KEYS = "function register type order count"
_TEXT_REGISTERS_MAX = 64


def read_point(
    name: str, table: Table, ratios: Sequence[str], limits: Limits, status: str
) -> Point:
    """Read [points.<name>]; `status` is what the profile says of all its points."""
    function, register, code, order = _place(table)
    used = table.texts("ratios", ())
    for ratio in used:
        if ratio not in ratios:
            raise table.error("ratios", f"unknown ratio {ratio!r}", hint(ratio, ratios))
    low, high = read_bounds(table)
    scale, kind = read_scale(table), read_kind(table)
    point = Point(
        name,
        read_unit(table),
        read_exponent(table),
        kind,
        function,
        register,
        code,
        order,
        scale,
        used,
        table.contents("invalid", REGISTER_COUNTS[code]),
        low,
        high,
        offset=_offset(table),
        plus=_part(table, register + REGISTER_COUNTS[code]) if table.has("plus") else None,
        poll=read_poll(table, kind),
        wraps=read_wraps(table, kind, scale),
        status=table.text("status", STATUS, status),
    )
    if point.count > limits.registers_max:
        key = "type" if point.plus is None else "plus.register"
        found = code if point.plus is None else f"{point.count} registers from 0x{register:04X}"
        raise table.error(key, found, f"at most {limits.registers_max} registers")
    return point


def _part(table: Table, behind: int) -> Part:
    """Read the second part of a value, which stands behind the first."""
    part = table.table("plus", "register type order scale")
    code = part.text("type", tuple(REGISTER_COUNTS))
    return Part(
        part.integer("register", behind, 0x10000 - REGISTER_COUNTS[code]),
        code,
        part.text("order", ORDERS, "ABCD"),
        read_scale(part),
    )


def read_ratio(profile: str, name: str, table: Table) -> Ratio:
    """Read [ratios.<name>] of a profile."""
    scale = table.number("scale", Fraction(1))
    if scale <= 0:
        raise table.error("scale", str(scale), "more than 0")
    function, register, code, order = _place(table)
    op = table.text("op", RATIO_OPS, RATIO_OPS[0])
    if op == "pow10" and code not in WHOLE_TYPES:
        raise table.error("type", code, f"for op pow10 one of {', '.join(WHOLE_TYPES)}")
    invalid = table.contents("invalid", REGISTER_COUNTS[code])
    return Ratio(name, profile, function, register, code, order, scale, invalid, op)


def read_check(table: Table) -> Check:
    """Read one [[identify]]: a range, or the values that it may have."""
    place = _place(table)
    if table.has("equals"):
        if table.has("min") or table.has("max"):
            raise table.error("equals", "together with min or max", "either equals or min and max")
        values = table.numbers("equals")
        return Check(*place, min(values), max(values), frozenset(values))
    low, high = table.number("min"), table.number("max")
    if low > high:
        raise table.error("max", str(high), f"at least min, {low}")
    return Check(*place, low, high)


def read_identity(name: str, table: Table) -> Identity:
    """Read [identity.<name>]."""
    code = table.text("type", ("str", *WHOLE_TYPES))
    if code == "str":
        count = table.integer("count", 1, _TEXT_REGISTERS_MAX)
    else:
        count = table.integer("count", *[REGISTER_COUNTS[code]] * 3)
    return Identity(name, *_where(table, code, count), count)


def _place(table: Table) -> tuple[int, int, str, str]:
    code = table.text("type", tuple(REGISTER_COUNTS))
    return _where(table, code, REGISTER_COUNTS[code])


def _where(table: Table, code: str, count: int) -> tuple[int, int, str, str]:
    return (
        table.integer("function", min(READ_FUNCTIONS), max(READ_FUNCTIONS)),
        table.integer("register", 0, 0x10000 - count),
        code,
        table.text("order", ORDERS, "ABCD"),
    )


def _offset(table: Table) -> Fraction:
    offset = table.number("offset", Fraction(0))
    if offset.denominator != 1:
        raise table.error(
            "offset", str(float(offset)), "a whole number: it is added to the register"
        )
    return offset
