"""The metering tree's balance: a meter's energy against the sum of the meters below it.

What is left over is a node of its own, the gap: losses, errors, and what nobody meters. It is never
spread over the meters. Net energy is import minus export, in kWh, so that PV below a meter lowers
it. Pure: which meters there are and what they counted comes in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from edgeagg.model import MeterInfo, Quality


@dataclass(frozen=True, slots=True)
class Energy:
    """Net energy of one meter over one window, or over several, and what it rests on.

    `net_kwh` is None when it is not known. `completeness` is the part of the readings due that have
    a value; `worst` is the worst quality among them, None where nothing is stored.
    """

    net_kwh: Fraction | None
    completeness: Fraction
    worst: Quality | None


NOTHING = Energy(None, Fraction(0), None)
"""A window that the platform does not have."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What a meter counts and the meters below it do not.

    Made over the windows in which the meter and all below it have energy, `compared_count` of them;
    energies in kWh, None when there is no such window. Completeness and worst quality are the worst
    of what went in, over all windows.
    """

    compared_count: int
    own_kwh: Fraction | None
    children_kwh: Fraction | None
    completeness: Fraction
    worst: Quality | None

    @property
    def net_kwh(self) -> Fraction | None:
        """The meter's own energy minus that of the meters below it."""
        if self.own_kwh is None or self.children_kwh is None:
            return None
        return self.own_kwh - self.children_kwh

    @property
    def share(self) -> float | None:
        """The gap as a part of the meter's own energy."""
        if self.net_kwh is None or not self.own_kwh:
            return None
        return float(self.net_kwh / self.own_kwh)


@dataclass(frozen=True, slots=True)
class Node:
    """One meter over one interval of `window_count` windows.

    `depth` counts the meters above it; `energy` is that of the `known_count` windows that have one.
    A meter without children has no gap.
    """

    meter: str
    tier: int
    depth: int
    energy: Energy
    known_count: int
    window_count: int
    children: tuple[str, ...]
    gap: Gap | None

    @property
    def net_kwh(self) -> Fraction | None:
        """The meter's own energy."""
        return self.energy.net_kwh

    @property
    def children_kwh(self) -> Fraction | None:
        """The energy of the meters below it, in the windows that all of them have."""
        return None if self.gap is None else self.gap.children_kwh

    @property
    def gap_kwh(self) -> Fraction | None:
        """The meter's own energy minus that of the meters below it."""
        return None if self.gap is None else self.gap.net_kwh

    @property
    def gap_share(self) -> float | None:
        """The gap as a part of the meter's own energy."""
        return None if self.gap is None else self.gap.share


@dataclass(frozen=True, slots=True)
class TierGap:
    """The gaps of one tier's meters together; None when one of them is not known."""

    tier: int
    own_kwh: Fraction | None
    gap_kwh: Fraction | None


def combine(parts: Iterable[tuple[int, Energy]]) -> Energy:
    """Add up energies of different meters over the same window, each multiplied by its factor.

    One unknown part leaves the sum unknown; completeness and quality are the worst of the parts.
    """
    net, completeness, worst = _Sum(), Fraction(1), _Worst()
    for factor, part in parts:
        net.add(part.net_kwh, factor)
        completeness = min(completeness, part.completeness)
        worst.add(part.worst)
    return Energy(net.whole, completeness, worst.quality)


def total(windows: Sequence[Energy]) -> Energy:
    """Add up one meter's energies over windows of one length: those that are known."""
    net, worst = _Sum(), _Worst()
    for window in windows:
        net.add(window.net_kwh)
        worst.add(window.worst)
    share = sum((window.completeness for window in windows), Fraction(0))
    return Energy(
        net.known,
        share / len(windows) if windows else Fraction(0),
        worst.quality if windows else None,
    )


def walk(meters: Sequence[MeterInfo]) -> list[tuple[MeterInfo, int]]:
    """Return every meter and its depth, each followed by the meters below it.

    Raises ValueError when the parents form a circle or name a meter that is not there.
    """
    below = _below(meters)
    found: list[tuple[MeterInfo, int]] = []
    waiting = [(meter, 0) for meter in reversed(meters) if not meter.parent]
    while waiting:
        meter, depth = waiting.pop()
        found.append((meter, depth))
        waiting += [(child, depth + 1) for child in reversed(below[meter.name])]
    if len(found) < len(meters):
        circle = sorted(set(below) - {meter.name for meter, _ in found})
        raise ValueError(f"meters {', '.join(circle)} stand below each other in a circle")
    return found


def balance(
    meters: Sequence[MeterInfo], energies: Mapping[str, Sequence[Energy]]
) -> tuple[Node, ...]:
    """Balance every meter against those below it; the order is that of `walk`.

    `energies` holds each meter's energies over the same windows; a meter that is not in it has
    none. Raises ValueError as `walk` does, and when the numbers of windows differ.
    """
    counts = {len(windows) for windows in energies.values()}
    if len(counts) > 1:
        raise ValueError("energies of the same windows are needed for every meter")
    count = counts.pop() if counts else 0
    nothing = [NOTHING] * count
    below = _below(meters)
    nodes = []
    for meter, depth in walk(meters):
        own = energies.get(meter.name, nothing)
        children = tuple(child.name for child in below[meter.name])
        nodes.append(
            Node(
                meter.name,
                meter.tier,
                depth,
                total(own),
                sum(window.net_kwh is not None for window in own),
                count,
                children,
                _gap(own, [energies.get(child, nothing) for child in children]),
            )
        )
    return tuple(nodes)


def compared(windows: Sequence[Sequence[Energy]]) -> list[int]:
    """Return the places of the windows in which every one of these meters has energy."""
    return [
        place
        for place, parts in enumerate(zip(*windows, strict=True))
        if all(part.net_kwh is not None for part in parts)
    ]


def tier_gaps(nodes: Iterable[Node], virtual: Collection[str] = ()) -> tuple[TierGap, ...]:
    """Add up own energies and gaps of the meters that have meters below them, tier by tier.

    A virtual meter is left out: what it is the sum of has nothing in between.
    """
    owns: dict[int, _Sum] = {}
    gaps: dict[int, _Sum] = {}
    for node in nodes:
        if node.gap is not None and node.meter not in virtual:
            owns.setdefault(node.tier, _Sum()).add(node.gap.own_kwh)
            gaps.setdefault(node.tier, _Sum()).add(node.gap.net_kwh)
    return tuple(TierGap(tier, owns[tier].whole, gaps[tier].whole) for tier in sorted(owns))


class _Sum:
    """A sum that knows whether all of its parts were known."""

    def __init__(self) -> None:
        self._sum = Fraction(0)
        self._known = self._unknown = False

    def add(self, kwh: Fraction | None, factor: int = 1) -> None:
        if kwh is None:
            self._unknown = True
        else:
            self._known = True
            self._sum += factor * kwh

    @property
    def whole(self) -> Fraction | None:
        """The sum, if every part was known."""
        return None if self._unknown else self.known

    @property
    def known(self) -> Fraction | None:
        """The sum of the known parts, if there was any."""
        return self._sum if self._known else None


class _Worst:
    """The worst quality so far; nothing stored is worse than any."""

    def __init__(self) -> None:
        self.quality: Quality | None = Quality.GOOD

    def add(self, quality: Quality | None) -> None:
        if self.quality is not None:
            self.quality = None if quality is None else max(self.quality, quality)


def _below(meters: Sequence[MeterInfo]) -> dict[str, list[MeterInfo]]:
    below: dict[str, list[MeterInfo]] = {meter.name: [] for meter in meters}
    for meter in meters:
        if meter.parent:
            if meter.parent not in below:
                raise ValueError(f"meter {meter.name}: no meter {meter.parent!r} above it")
            below[meter.parent].append(meter)
    return below


def _gap(own: Sequence[Energy], children: Sequence[Sequence[Energy]]) -> Gap | None:
    if not children:
        return None
    places = compared([own, *children])
    below = [total([windows[place] for place in places]).net_kwh for windows in children]
    known = [kwh for kwh in below if kwh is not None]
    all_of_them = combine((1, total(windows)) for windows in (own, *children))
    return Gap(
        len(places),
        total([own[place] for place in places]).net_kwh,
        sum(known, Fraction(0)) if places else None,
        all_of_them.completeness,
        all_of_them.worst,
    )
