"""The metering tree's balance: a meter's energy against the sum of the meters below it.

What is left over is a node of its own, the gap: losses, errors, and what nobody meters. It is never
spread over the meters. Net energy is import minus export, in kWh, so that PV below a meter lowers
it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from edgeagg.model import MeterInfo


@dataclass(frozen=True, slots=True)
class Node:
    """One meter with meters below it; energies in kWh over one interval, None when not known."""

    meter: str
    tier: int
    net_kwh: Fraction | None
    children: tuple[str, ...]
    children_kwh: Fraction | None

    @property
    def gap_kwh(self) -> Fraction | None:
        """The meter's own energy minus that of the meters below it."""
        if self.net_kwh is None or self.children_kwh is None:
            return None
        return self.net_kwh - self.children_kwh

    @property
    def gap_share(self) -> float | None:
        """The gap as a part of the meter's own energy."""
        if self.gap_kwh is None or not self.net_kwh:
            return None
        return float(self.gap_kwh / self.net_kwh)


def balance(
    meters: Sequence[MeterInfo], net_kwh: Mapping[str, Fraction | None]
) -> tuple[Node, ...]:
    """Balance every meter that has meters below it, the lowest tier number first."""
    nodes = []
    for meter in sorted(meters, key=lambda meter: meter.tier):
        children = tuple(other.name for other in meters if other.parent == meter.name)
        if not children:
            continue
        energies = [net_kwh.get(child) for child in children]
        known = [energy for energy in energies if energy is not None]
        total = sum(known, Fraction(0)) if len(known) == len(children) else None
        nodes.append(Node(meter.name, meter.tier, net_kwh.get(meter.name), children, total))
    return tuple(nodes)
