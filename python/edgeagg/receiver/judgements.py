"""Stored audits, demands and uncertainties as exact values in their points' units. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from edgeagg.judged import AuditKind
from edgeagg.model import Kind, PointInfo
from edgeagg.receiver.points import points_from

_GAUGE_DEMAND_DIGITS = 3  # more than the point has: the mean of its values


@dataclass(frozen=True, slots=True)
class StoredAudit:
    """One bridge in the course of a totaliser."""

    meter: str
    point: str
    unit: str
    kind: AuditKind
    closing_ms: int
    closing: Fraction
    opening_ms: int
    opening: Fraction
    energy: Fraction
    doubted: int
    extreme: Fraction | None

    @staticmethod
    def of(meter: str, points: str, place: int, kind: int, *numbers: Any) -> StoredAudit:  # noqa: ANN401 - as the database has them
        """Make one of what the database holds; numbers are mantissas where they are values."""
        closing_ms, closing, opening_ms, opening, energy, doubted, extreme = numbers
        point = points_from(points)[place]
        step = Fraction(10) ** point.exponent
        return StoredAudit(
            meter,
            point.name,
            point.unit,
            AuditKind(kind),
            closing_ms,
            closing * step,
            opening_ms,
            opening * step,
            energy * step,
            doubted,
            None if extreme is None else extreme * step,
        )


@dataclass(frozen=True, slots=True)
class StoredDemand:
    """The greatest demand of a point on one local day, in `unit`; None where it is not known."""

    meter: str
    point: str
    unit: str
    start_ms: int
    length_ms: int
    block: Fraction | None
    block_end_ms: int | None
    sliding: Fraction | None
    sliding_end_ms: int | None
    periods: int

    @staticmethod
    def of(meter: str, points: str, place: int, *numbers: Any) -> StoredDemand:  # noqa: ANN401 - as the database has them
        """Make one of what the database holds."""
        start_ms, length_ms, block, block_end_ms, sliding, sliding_end_ms, periods = numbers
        point = points_from(points)[place]
        unit, step = _demand_unit(point)
        return StoredDemand(
            meter,
            point.name,
            unit,
            start_ms,
            length_ms,
            None if block is None else block * step,
            block_end_ms,
            None if sliding is None else sliding * step,
            sliding_end_ms,
            periods,
        )


@dataclass(frozen=True, slots=True)
class StoredUncertainty:
    """How far the energy of one window of one totaliser can be off."""

    point: str
    unit: str
    length_ms: int
    start_ms: int
    energy: Fraction
    error: Fraction

    @staticmethod
    def of(
        points: str,
        length_ms: int,
        start_ms: int,
        energies: Sequence[int | None],
        errors: Sequence[int | None],
    ) -> Iterator[StoredUncertainty]:
        """Yield those of the totalisers whose energy is known."""
        known = zip(points_from(points), energies, errors, strict=True)
        for point, energy, error in known:
            if energy is not None and error is not None:
                step = Fraction(10) ** point.exponent
                yield StoredUncertainty(
                    point.name, point.unit, length_ms, start_ms, energy * step, error * step
                )


def _demand_unit(point: PointInfo) -> tuple[str, Fraction]:
    """Return the unit of a point's demand, and what a stored number is worth in it."""
    if point.kind is Kind.GAUGE:
        return point.unit, Fraction(10) ** (point.exponent - _GAUGE_DEMAND_DIGITS)
    unit = point.unit.removesuffix("h") if point.unit.endswith("h") else f"{point.unit}/h"
    return unit, Fraction(10) ** point.exponent
