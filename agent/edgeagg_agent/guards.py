"""What each totaliser can do: where it rolls over, how fast it counts, in which steps.

Owns the rule by which a guard follows from a point's profile and the rating that the site file
gives a meter. What a guard does to readings is the core's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from edgeagg.model import Guard, Kind, PointInfo
from edgeagg_agent.decimals import decimal_text
from edgeagg_agent.profile import MANTISSA_MAX, ItemPoint, Point, item_wraps_at, wraps_at

POWER_MAX_KW = Fraction(100_000)
"""Of a meter whose site file names no power: more than any one meter of an enterprise carries."""
FLOW_MAX_M3_PER_H = Fraction(100_000)

# what 1 kW (or 1 m3/h) counts in an hour, and the unit that a float register counts singly
_POWERS = {
    "Wh": (Fraction(1000), Fraction(1000)),
    "kWh": (Fraction(1), Fraction(1)),
    "MWh": (Fraction(1, 1000), Fraction(1)),
    "kvarh": (Fraction(1), Fraction(1)),
    "kVAh": (Fraction(1), Fraction(1)),
    "GJ": (Fraction(36, 10_000), Fraction(1)),
}
_FLOWS = {"m3": (Fraction(1), Fraction(1))}
_RATES = {"Wh": "W", "kWh": "kW", "MWh": "MW", "kvarh": "kvar", "kVAh": "kVA"}
# a register of 24 bits that has counted at full power for 100 000 h moves in steps of this
_FLOAT_STEP_H = Fraction(100_000, 2**23)
# behind the smallest transformers, 1 A and 100 V: no ratio exceeds a rating divided by this
_SECONDARY_KW = Fraction(173, 1000)
_UNIT_FACTOR_MAX = 1000  # of CJ/T 188: a meter may send MWh where its profile says kWh


@dataclass(frozen=True, slots=True)
class Rating:
    """The most that a meter can measure; None where the site file does not say."""

    power_max_kw: Fraction | None = None
    flow_max_m3_per_h: Fraction | None = None


def guard(point: Point | ItemPoint, rating: Rating) -> Guard | None:
    """Return the guard of a point; None for what is no totaliser of energy or volume.

    A register that sums up import and export, or that may be negative, may fall by right, and so
    has none. Where a float register rolls over only a profile can tell: that is the counter's own
    limit. Behind ratios that the meter itself is asked for, nobody can: a guard is agreed on before
    the meter is asked, and its ratio may be set anew. Such a register counts what flows behind the
    transformers, so that six digits of kWh last for decades; if it does roll over, that is audited
    as a reset, and what was counted between the two readings is left out.
    """
    if point.kind is not Kind.TOTALISER or _may_fall(point):
        return None
    if point.unit in _POWERS:
        per_hour, single = _POWERS[point.unit]
        most = POWER_MAX_KW if rating.power_max_kw is None else rating.power_max_kw
    elif point.unit in _FLOWS:
        per_hour, single = _FLOWS[point.unit]
        most = FLOW_MAX_M3_PER_H if rating.flow_max_m3_per_h is None else rating.flow_max_m3_per_h
    else:
        return None
    mantissas = Fraction(10) ** -point.exponent
    rate = most * per_hour
    ratios = _ratios(point)
    step = _step(point, rate=rate, single=single)
    if ratios:
        step *= max(Fraction(1), most / _SECONDARY_KW)
    end = None if ratios else _rolls_over_at(point)
    wraps = None if end is None else round(end * mantissas)
    return Guard(
        wraps if wraps is not None and 0 < wraps <= MANTISSA_MAX else None,
        min(max(1, round(rate * mantissas)), MANTISSA_MAX),
        min(max(1, -(-step * mantissas // 1)), MANTISSA_MAX),
    )


def guard_lines(points: Iterable[PointInfo]) -> list[str]:
    """Say in words what guards are in force, one line for all points with the same one."""
    alike: dict[str, list[str]] = {}
    for point in points:
        if point.kind is Kind.TOTALISER:
            alike.setdefault(_words(point), []).append(point.name)
    return [f"{', '.join(names)}: {words}" for words, names in alike.items()]


def _words(point: PointInfo) -> str:
    if point.guard is None:
        return "not guarded, it may fall"
    end = point.guard.wraps_at
    rate = _RATES.get(point.unit, f"{point.unit}/h")
    rolls = "not known where it rolls over"
    if end is not None:
        rolls = f"rolls over at {_short(end, point.exponent)} {point.unit}"
    return f"{rolls}, at most {_short(point.guard.rate_max_per_h, point.exponent)} {rate}"


def _short(mantissa: int, exponent: int) -> str:
    text = decimal_text(mantissa, exponent)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _may_fall(point: Point | ItemPoint) -> bool:
    words = point.name.split("_")
    return (
        any(word in words for word in ("sum", "net", "combined"))
        or point.type == "bcd-signed"
        or (point.min is not None and point.min < 0)
    )


def _ratios(point: Point | ItemPoint) -> Sequence[str]:
    return point.ratios if isinstance(point, Point) else ()


def _rolls_over_at(point: Point | ItemPoint) -> Fraction | None:
    return wraps_at(point, {}) if isinstance(point, Point) else item_wraps_at(point)


def _step(point: Point | ItemPoint, *, rate: Fraction, single: Fraction) -> Fraction:
    """Return by how much the register moves at once, in the point's unit."""
    if isinstance(point, ItemPoint):
        scales = [
            layout.scale * (1 if layout.unit_byte is None else _UNIT_FACTOR_MAX)
            for layout in point.layouts
        ]
        return max(map(abs, scales))
    if point.type in {"f32", "t5", "t6"}:
        return min(rate * _FLOAT_STEP_H, single)
    if point.plus is not None:
        return min(abs(point.scale), abs(point.plus.scale))
    return Fraction(0) if point.type == "f64" else abs(point.scale)
