"""Stored totalisers as energies in kWh: what a meter showed at a moment, and took in a window.

Pure. Owns which totalisers make up net energy, and which of a meter's groups to believe.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from edgeagg.balance import NOTHING, Energy, combine
from edgeagg.model import Catalogue, Kind, PointInfo, Quality
from edgeagg.receiver.points import points_from
from edgeagg.receiver.store import Register

IMPORT, EXPORT = "active_energy_import", "active_energy_export"
DIRECTIONS = {IMPORT: 1, EXPORT: -1}
"""The totalisers that make up a meter's net energy, and how each counts."""

_MEASURES = {
    "Wh": ("kWh", -3),
    "kWh": ("kWh", 0),
    "MWh": ("kWh", 3),
    "varh": ("kvarh", -3),
    "kvarh": ("kvarh", 0),
    "Mvarh": ("kvarh", 3),
}
"""The units of energy: in which one a register of each is told, and the power of ten between."""
_QUALITIES = {int(quality): quality for quality in Quality}


def measure(point: PointInfo) -> tuple[str, Fraction] | None:
    """Return the unit of a point's `Register`, and one step of its mantissa in it, exactly.

    That is "kWh", or "kvarh" for reactive energy; None if the point holds neither.
    """
    found = _MEASURES.get(point.unit)
    return None if found is None else (found[0], Fraction(10) ** (point.exponent + found[1]))


def scale(point: PointInfo) -> Fraction | None:
    """Return the kWh of one step of a point's mantissa, exactly; None if it holds none."""
    found = measure(point)
    return None if found is None or found[0] != "kWh" else found[1]


def register(
    at_ms: int, points: str, mantissas: Sequence[int | None], name: str
) -> Register | None:
    """Return what the totaliser `name` shows in a stored row."""
    for point, mantissa in zip(points_from(points), mantissas, strict=True):
        if point.name == name and point.kind is Kind.TOTALISER and mantissa is not None:
            found = measure(point)
            return None if found is None else Register(at_ms, mantissa * found[1])
    return None


def without_place(catalogues: Sequence[Catalogue]) -> frozenset[str]:
    """Return the meters of tier 0 in the newest catalogue: they measure the gateway itself."""
    meters = catalogues[-1].meters if catalogues else ()
    return frozenset(meter.name for meter in meters if meter.tier == 0)


@dataclass(frozen=True, slots=True)
class EnergyRow:
    """One stored window of one group that holds energy totalisers; one entry per point."""

    meter: str
    period_ms: int
    points: str
    start_ms: int
    energies: Sequence[int | None]
    value_counts: Sequence[int | None]
    worst: Sequence[int | None]


@dataclass(slots=True)
class _MeterWindows:
    """What one meter's groups hold: sets of directions, and the best energy of each window."""

    groups: set[frozenset[str]] = field(default_factory=set)
    windows: dict[int, dict[str, Energy]] = field(default_factory=dict)

    def net(self, found: dict[str, Energy]) -> Energy:
        """Return import minus export of one window.

        A direction that is missing leaves it unknown if a group of its own should have brought it;
        a group that once was read without it had all there was.
        """
        expected = {
            direction for group in self.groups if group.isdisjoint(found) for direction in group
        }
        parts = [*found.items(), *((direction, NOTHING) for direction in expected)]
        return combine((DIRECTIONS[direction], energy) for direction, energy in parts)


def net_energies(
    found: Iterable[EnergyRow], length_ms: int, left_out: Collection[str]
) -> dict[str, dict[int, Energy]]:
    """Return the net energies by meter and start of the window, meters of `left_out` excepted.

    Where two groups have the same totaliser in the same window (a period that was changed, a
    gateway that was restored), the one that knows more of it counts.
    """
    meters: dict[str, _MeterWindows] = {}
    columns: dict[str, list[tuple[int, str, Fraction]]] = {}
    for row in found:
        if row.meter in left_out:
            continue
        if row.points not in columns:
            columns[row.points] = _energy_columns(row.points)
        if not columns[row.points]:
            continue
        meter = meters.setdefault(row.meter, _MeterWindows())
        meter.groups.add(frozenset(name for _, name, _ in columns[row.points]))
        window = meter.windows.setdefault(row.start_ms, {})
        for place, name, factor in columns[row.points]:
            energy = _energy(row, place, factor, length_ms)
            window[name] = max(window.get(name, energy), energy, key=_knowledge)
    return {
        name: {start_ms: meter.net(window) for start_ms, window in sorted(meter.windows.items())}
        for name, meter in meters.items()
    }


def _energy_columns(points: str) -> list[tuple[int, str, Fraction]]:
    """Return place, name and scale of each totaliser of energy."""
    return [
        (place, point.name, factor)
        for place, point in enumerate(points_from(points))
        for factor in [scale(point)]
        if point.name in DIRECTIONS and point.kind is Kind.TOTALISER and factor is not None
    ]


def _energy(row: EnergyRow, place: int, factor: Fraction, length_ms: int) -> Energy:
    mantissa, values, worst = row.energies[place], row.value_counts[place], row.worst[place]
    return Energy(
        None if mantissa is None else mantissa * factor,
        min(Fraction((values or 0) * row.period_ms, length_ms), Fraction(1)),
        None if worst is None else _QUALITIES.get(worst),
    )


def _knowledge(energy: Energy) -> tuple[bool, Fraction]:
    return energy.net_kwh is not None, energy.completeness
