"""From the bytes that a meter answered to a scaled integer, exactly.

Owns the arithmetic. A register's content is a whole number or a binary float, scale and ratios are
fractions, and one rounding (half to even) to the point's resolution happens at the very end. It
talks to no meter and reads no file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

from edgeagg._core import ScanPlan
from edgeagg.errors import ProtocolError
from edgeagg.model import Quality
from edgeagg_agent.profile.compiling import MANTISSA_MAX, compiled
from edgeagg_agent.profile.registers import full_scale, read_raw
from edgeagg_agent.profile.schema import Check, Identity, Point, Ratio

POW10_MAX = 18  # SunSpec allows -10 to 10; beyond, the register holds something else


def decode(
    point: Point, content: bytes, ratios: Mapping[str, Fraction]
) -> tuple[int | None, Quality]:
    """Return (mantissa, GOOD), or (None, IMPLAUSIBLE) for what the meter or the profile rules out.

    `content` is the point's registers, `point.count` of them; `ratios` holds at least the ratios
    the point names. A whole scan goes through one `ScanPlan` instead.
    """
    _check(content, point.type, point.count)
    values, qualities = ScanPlan(1, [compiled(point, 0, 0, ratios)]).decode([content])
    return values[0], Quality(qualities[0])


def decode_ratio(ratio: Ratio, content: bytes) -> Fraction:
    """Return the factor; raise ProtocolError when the register holds none.

    A ratio of 0 would turn every reading of the meter into a plausible 0, and one that is not
    available must never be taken for 1.
    """
    _check(content, ratio.type, ratio.count)
    bits, raw = read_raw(content, ratio.type, ratio.order)
    factor: Fraction | None = None
    if raw is not None and bits not in ratio.invalid and math.isfinite(raw):
        value = Fraction(raw)
        if ratio.op == "pow10" and abs(value) <= POW10_MAX:
            factor = Fraction(10) ** value.numerator
        elif ratio.op != "pow10" and value > 0:
            factor = value
    if factor is None:
        raise ProtocolError(
            f"profile {ratio.profile}: ratio {ratio.name!r} at 0x{ratio.register:04X} is "
            f"{'no number' if raw is None else raw}; set it on the meter"
        )
    return factor * ratio.scale


def matches(check: Check, content: bytes) -> bool:
    """Tell whether the registers hold a value that the model would show there."""
    _check(content, check.type, check.count)
    _, raw = read_raw(content, check.type, check.order)
    if raw is None or not math.isfinite(raw):
        return False
    value = Fraction(raw)
    return check.min <= value <= check.max and (not check.equals or value in check.equals)


def decode_identity(identity: Identity, content: bytes) -> str:
    """Return what the meter tells of itself, without padding; "" where it tells nothing.

    Some meters put one character into each register, so zero bytes are left out wherever they are;
    what cannot be printed becomes "?".
    """
    _check(content, identity.type, identity.count)
    if identity.type != "str":
        _, raw = read_raw(content, identity.type, identity.order)
        return "" if raw is None else str(raw)
    if identity.order in {"BADC", "DCBA"}:
        pairs = zip(content[::2], content[1::2], strict=True)
        content = b"".join(bytes((low, high)) for high, low in pairs)
    return printable(content)


def printable(data: bytes) -> str:
    """Return the characters of a padded ASCII text."""
    text = data.replace(b"\0", b"").decode("ascii", errors="replace").strip()
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in text)


def wraps_at(point: Point, ratios: Mapping[str, Fraction]) -> Fraction | None:
    """Return the value at which a totaliser begins anew, in its unit; None where nobody can say.

    It is what the profile states, else the register's own width.
    """
    at = point.wraps
    if at is None:
        end = full_scale(point.type)
        at = None if end is None else abs((end + point.offset) * point.scale)
    if at is None:
        return None
    for name in point.ratios:
        at *= ratios[name]
    return at


def to_mantissa(
    top: int, bottom: int, exponent: int, low: Fraction | None, high: Fraction | None
) -> tuple[int | None, Quality]:
    """Round top / bottom to 10**exponent and judge it by its bounds, which belong to the good."""
    if exponent < 0:
        top *= 10**-exponent
    else:
        bottom *= 10**exponent
    mantissa = _divide_half_even(top, bottom)
    if abs(mantissa) > MANTISSA_MAX or not _is_within(mantissa, exponent, low, high):
        return None, Quality.IMPLAUSIBLE
    return mantissa, Quality.GOOD


def _check(content: bytes, code: str, count: int) -> None:
    if len(content) != 2 * count:
        raise ValueError(f"{len(content) / 2:g} registers for a {code} that takes {count}")


def _divide_half_even(top: int, bottom: int) -> int:
    """Return top / bottom, for bottom > 0, rounded to the nearest whole number, ties to even."""
    quotient, rest = divmod(top, bottom)
    if 2 * rest > bottom or (2 * rest == bottom and quotient & 1):
        quotient += 1
    return quotient


def _is_within(mantissa: int, exponent: int, low: Fraction | None, high: Fraction | None) -> bool:
    if low is None and high is None:
        return True
    value = mantissa * Fraction(10) ** exponent
    return (low is None or low <= value) and (high is None or value <= high)
