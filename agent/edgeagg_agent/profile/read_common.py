"""Read what points of every protocol have: unit, resolution, kind, polling class, bounds.

Owns the rules of these keys; where a point stands is another module's business.
"""

from __future__ import annotations

from fractions import Fraction

from edgeagg.model import Kind
from edgeagg.tomltable import Table
from edgeagg_agent.profile.schema import UNITS, Poll

EXPONENT_MAX = 18  # what the batch format's catalogue can carry
_DIGITS_MAX, _BITS_MAX = 18, 64


def read_unit(table: Table) -> str:
    """Read the unit; refuse a known one in another spelling."""
    unit = table.text("unit")
    for known in UNITS:
        if unit.lower() == known.lower() and unit not in UNITS:
            raise table.error("unit", repr(unit), f"write {known}")
    return unit


def read_exponent(table: Table) -> int:
    """Read the resolution, a power of ten, as its exponent."""
    resolution = table.number("resolution")
    for exponent in range(-EXPONENT_MAX, EXPONENT_MAX + 1):
        if resolution == Fraction(10) ** exponent:
            return exponent
    raise table.error("resolution", str(float(resolution)), "a power of ten such as 0.01, 1, 10")


def read_kind(table: Table) -> Kind:
    """Read how the point behaves in time; a gauge unless it says otherwise."""
    return Kind(table.text("kind", tuple(Kind), Kind.GAUGE))


def read_poll(table: Table, kind: Kind) -> Poll:
    """Read the polling class; a totaliser is energy unless it says otherwise."""
    usual = Poll.ENERGY if kind is Kind.TOTALISER else Poll.INSTANT
    return Poll(table.text("poll", tuple(Poll), usual))


def read_scale(table: Table) -> Fraction:
    """Read the factor between the raw number and the unit; 1 unless it says otherwise."""
    scale = table.number("scale", Fraction(1))
    if scale == 0:
        raise table.error("scale", "0", "any other number")
    return scale


def read_bounds(table: Table) -> tuple[Fraction | None, Fraction | None]:
    """Read min and max, in the point's unit."""
    low = table.number("min") if table.has("min") else None
    high = table.number("max") if table.has("max") else None
    if low is not None and high is not None and low > high:
        raise table.error("max", str(high), f"at least min, {low}")
    return low, high


def read_wraps(table: Table, kind: Kind, scale: Fraction) -> Fraction | None:
    """Read where a totaliser begins anew, in its unit, when its register's width does not tell.

    A meter may count fewer decimal `digits` or `bits` than its register could hold.
    """
    given = [key for key in ("digits", "bits", "wraps_at") if table.has(key)]
    if not given:
        return None
    key = given[-1]
    if len(given) > 1:
        raise table.error(key, f"together with {given[0]}", "one of digits, bits and wraps_at")
    if kind is not Kind.TOTALISER:
        raise table.error(key, "of a gauge", 'only for kind = "totaliser"')
    if key == "digits":
        return Fraction(10) ** table.integer(key, 1, _DIGITS_MAX) * abs(scale)
    if key == "bits":
        return Fraction(2) ** table.integer(key, 1, _BITS_MAX) * abs(scale)
    if (at := table.number(key)) <= 0:
        raise table.error(key, str(at), "more than 0")
    return at
