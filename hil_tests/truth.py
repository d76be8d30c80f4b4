"""The meters' own truth: what stood in every register at any time, computed anew.

Loads are pure functions of time in `hil_tests.sim`, so a run that is over can be judged by its
files alone. It reads no clock and knows nothing of the gateway.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hil_tests.sim.addressed import Nameplate
from hil_tests.sim.meters import UNITS, SimMeter
from hil_tests.sim.patterns import Pattern, show
from hil_tests.sim.profile import Point
from hil_tests.sim.site import PROFILES, SiteSpec
from hil_tests.sim.stage import build_addressed, build_meters

_F32_RELATIVE = Fraction(1, 1 << 22)
_SECOND_MS = 1000


@dataclass(frozen=True, slots=True)
class Item:
    """A point of a DL/T 645 or CJ/T 188 meter, and the last digit of its reply."""

    name: str
    resolution: Fraction
    scale: Fraction


class Truth:
    """What every meter had to show at any time."""

    def __init__(self, site: SiteSpec) -> None:
        self.modbus = build_meters(site)
        self.addressed = build_addressed(site)
        self._ratios = {meter.name: meter.ratios for line in site.lines for meter in line.meters}
        self._points: dict[str, dict[str, Point | Item]] = {
            **{
                name: {point.name: point for point in meter.profile.points}
                for name, meter in self.modbus.items()
            },
            **{
                name: {item.name: item for item in _items(meter.plate)}
                for name, meter in self.addressed.items()
            },
        }
        self._known: dict[tuple[str, str, int], Fraction] = {}
        self._ranges: dict[tuple[str, str, int, int], tuple[Fraction, Fraction]] = {}

    @property
    def meters(self) -> AbstractSet[str]:
        """Return the names of all meters."""
        return self._points.keys()

    def point(self, meter: str, name: str, unit: str = "") -> Point | Item:
        """Return a point of a meter as its profile has it, or in another unit."""
        found = self._points[meter][name]
        if isinstance(found, Item) or unit in {"", found.unit}:
            return found
        factor = UNITS[unit] / UNITS[found.unit]
        return replace(
            found,
            unit=unit,
            scale=found.scale * factor,
            resolution=found.resolution * factor,
        )

    def fits(
        self, meter: str, point: Point | Item, value: Fraction, *, at_ms: int, blur_ms: int
    ) -> bool:
        """Tell whether `meter` showed `value` at some time within `blur_ms` of `at_ms`."""
        # almost every value fits at once, and looking further is what takes long
        had, step = self.shown(meter, point, at_ms), self._step(meter, point)
        if abs(value - had) <= step + abs(had) * _F32_RELATIVE:
            return True
        low, high = self.around(meter, point, at_ms=at_ms, blur_ms=blur_ms)
        return low <= value <= high

    def around(
        self, meter: str, point: Point | Item, *, at_ms: int, blur_ms: int
    ) -> tuple[Fraction, Fraction]:
        """Return the least and the most that `meter` showed within `blur_ms` of `at_ms`.

        What the register itself can be off by is in both: its step, the point's, and an f32's.
        """
        key = (meter, point.name, at_ms, blur_ms)
        if key not in self._ranges:
            times = [at_ms, *_instants(at_ms, blur_ms, self._patterns(meter))]
            values = [self.shown(meter, point, t_ms) for t_ms in times]
            low, high, step = min(values), max(values), self._step(meter, point)
            self._ranges[key] = (
                low - step - abs(low) * _F32_RELATIVE,
                high + step + abs(high) * _F32_RELATIVE,
            )
        return self._ranges[key]

    def shown(self, meter: str, point: Point | Item, t_ms: int) -> Fraction:
        """Return what a point had at `t_ms`, before the resolution of its register.

        A totaliser that does something wrong by recipe shows that, not what it should have counted.
        """
        key = (meter, point.name, t_ms)
        if key not in self._known:
            self._known[key] = (
                self.addressed[meter].shown(point.name, t_ms)
                if isinstance(point, Item)
                else _in_registers(self.modbus[meter], point, t_ms)
            )
        return self._known[key]

    def counted(self, meter: str, point: Point | Item, t_ms: int) -> Fraction:
        """Return what a totaliser would show if it did nothing wrong."""
        if isinstance(point, Item):
            return self.addressed[meter].counted(point.name, t_ms)
        return self.modbus[meter].value(point, t_ms)

    def step(self, meter: str, point: Point | Item) -> Fraction:
        """Return by how much a register and its point may be off."""
        return self._step(meter, point)

    def _patterns(self, meter: str) -> Sequence[Pattern]:
        known = self.addressed.get(meter)
        return self.modbus[meter].patterns if known is None else known.patterns

    def _step(self, meter: str, point: Point | Item) -> Fraction:
        step = point.resolution
        if isinstance(point, Item):
            return step + point.scale
        if not point.register.kind.startswith("f"):
            ratios = [self._ratios[meter].get(name, Fraction(1)) for name in point.ratios]
            step += abs(point.scale * math.prod(ratios))
        return step


def _in_registers(sim: SimMeter, point: Point, t_ms: int) -> Fraction:
    if point.name in sim.unknown_points:
        return Fraction(0)
    if point.is_totaliser:
        return show(sim.patterns, lambda at: sim.value(point, at), t_ms).value
    return sim.value(point, t_ms)


def _items(plate: Nameplate) -> Sequence[Item]:
    text = (PROFILES / f"{_profile(plate)}.toml").read_text("utf-8")
    points = tomllib.loads(text, parse_float=Decimal)["points"]
    return [
        Item(name, Fraction(entry["resolution"]), Fraction(entry.get("scale", 1)) * _sent(entry))
        for name, entry in points.items()
    ]


def _sent(entry: dict[str, Any]) -> int:
    """Return the unit that travels with a value: the simulated meters send kW where W is wanted."""
    return 1000 if "unit_byte" in entry and entry["unit"] == "W" else 1


def _profile(plate: Nameplate) -> str:
    """Return the profile under which the plants of the bench have such a meter."""
    if plate.protocol != "cjt188":
        return f"{plate.protocol}-generic"
    return "cjt188-heat" if plate.medium in {"heat", "cooling"} else "cjt188-generic"


def _instants(at_ms: int, blur_ms: int, patterns: Sequence[Pattern]) -> Iterator[int]:
    """Yield the times at which a quantity may have been extreme: loads change at full seconds."""
    first_ms, last_ms = at_ms - blur_ms, at_ms + blur_ms
    yield first_ms
    yield last_ms
    seconds = range(first_ms // _SECOND_MS + 1, last_ms // _SECOND_MS + 1)
    turns_ms = [second * _SECOND_MS for second in seconds]
    turns_ms += [t_ms for one in patterns for t_ms in (one.at_ms, one.end_ms)]
    for t_ms in turns_ms:
        if first_ms < t_ms <= last_ms:
            yield t_ms - 1
            yield t_ms
