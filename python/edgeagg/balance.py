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
    """One meter; energies in kWh over one interval, None when not known.

    `depth` counts the meters above it. A meter without children has neither a sum nor a gap.
    """

    meter: str
    tier: int
    depth: int
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
    """Return every meter, each followed by the meters below it.

    Raises ValueError when the parents form a circle or name a meter that is not there.
    """
    below: dict[str, list[MeterInfo]] = {meter.name: [] for meter in meters}
    for meter in meters:
        if meter.parent:
            if meter.parent not in below:
                raise ValueError(f"meter {meter.name}: no meter {meter.parent!r} above it")
            below[meter.parent].append(meter)
    nodes: list[Node] = []
    waiting = [(meter, 0) for meter in reversed(meters) if not meter.parent]
    while waiting:
        meter, depth = waiting.pop()
        children = below[meter.name]
        energies = [net_kwh.get(child.name) for child in children]
        known = [energy for energy in energies if energy is not None]
        whole = bool(children) and len(known) == len(children)
        nodes.append(
            Node(
                meter.name,
                meter.tier,
                depth,
                net_kwh.get(meter.name),
                tuple(child.name for child in children),
                sum(known, Fraction(0)) if whole else None,
            )
        )
        waiting += [(child, depth + 1) for child in reversed(children)]
    if len(nodes) < len(meters):
        circle = sorted(set(below) - {node.meter for node in nodes})
        raise ValueError(f"meters {', '.join(circle)} stand below each other in a circle")
    return tuple(nodes)
