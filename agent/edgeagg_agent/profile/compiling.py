"""From a point to what the core decodes it by: places, codings, and one exact factor each."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from edgeagg_agent.profile.schema import Point

MANTISSA_MAX = 2**63 - 1

Factor = tuple[int, int]
CompiledPart = tuple[int, str, str, Factor]
Compiled = tuple[
    int, CompiledPart, int, CompiledPart | None, list[int], int | None, int | None, bool
]


def compiled(point: Point, read: int, at: int, ratios: Mapping[str, Fraction]) -> Compiled:
    """Return a point of the core's `ScanPlan`: it begins at byte `at` of the reply to `read`."""
    factor, second = factors(point, ratios)
    plus = None
    if point.plus is not None and second is not None:
        part = point.plus
        plus = (at + 2 * (part.register - point.register), part.type, part.order, second)
    step = Fraction(10) ** point.exponent
    return (
        read,
        (at, point.type, point.order, factor),
        point.offset.numerator,
        plus,
        sorted(point.invalid),
        None if point.min is None else _bounded(-(-point.min // step)),
        None if point.max is None else _bounded(point.max // step),
        bool(point.ratios),
    )


def factors(point: Point, ratios: Mapping[str, Fraction]) -> tuple[Factor, Factor | None]:
    """Return what the raw number counts for in mantissas, and its second part if it has one."""
    unit = Fraction(1) / Fraction(10) ** point.exponent
    for name in point.ratios:
        unit *= ratios[name]
    first = (point.scale * unit).as_integer_ratio()
    return first, None if point.plus is None else (point.plus.scale * unit).as_integer_ratio()


def _bounded(mantissa: int) -> int:
    return max(-MANTISSA_MAX, min(MANTISSA_MAX, mantissa))
