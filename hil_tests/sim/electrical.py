"""The metering tree and what a three-phase meter sees of it.

Owns the sums of the tree (own load + children + loss) and the electrical state that fits a power:
voltages, currents, reactive and apparent power, counters. It knows no registers and no clock.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

from hil_tests.sim.loads import UJ_PER_KWH, Series, Week

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PHASES = ("l1", "l2", "l3")
_ENERGY = re.compile(r"(active|reactive|apparent)_energy_(import|export|sum|net)(?:_(l[123]))?")
_MASK = (1 << 64) - 1


class Node:
    """A meter's place in the tree: its own load, the nodes below it, what is lost between.

    All power is whole milliwatts per second, so the integrals balance exactly: net energy = own +
    sum of the children's net energy + loss.
    """

    def __init__(
        self,
        week: Week,
        *,
        own: Series | None,
        tan_phi_permille: int,
        children: Sequence[Node],
        loss_ppm: int,
    ) -> None:
        self._week = week
        self._own = own
        self._tan_phi_permille = tan_phi_permille
        self._children = tuple(children)
        self._loss_ppm = loss_ppm
        if own is not None and not children:
            self.active = own
        else:
            own_mw = own.power_mw_table if own is not None else [0] * week.period_s
            total = (
                mw + below + self._lost_mw(below)
                for mw, below in zip(own_mw, self._below_mw(), strict=True)
            )
            self.active = Series(week, total)

    @cached_property
    def loss(self) -> Series:
        """Power lost between this meter and those below it, in whole milliwatts."""
        return Series(self._week, map(self._lost_mw, self._below_mw()))

    @cached_property
    def reactive(self) -> Series:
        """Reactive power of the own load and of all below, in whole millivar."""
        own = self._own.power_mw_table if self._own is not None else [0] * self._week.period_s
        own_mvar = (power * self._tan_phi_permille // 1000 for power in own)
        flows = [child.reactive.power_mw_table for child in self._children]
        return Series(self._week, map(sum, zip(own_mvar, *flows, strict=True)))

    def _below_mw(self) -> Iterable[int]:
        if not self._children:
            return [0] * self._week.period_s
        return map(
            sum, zip(*(child.active.power_mw_table for child in self._children), strict=True)
        )

    def _lost_mw(self, below_mw: int) -> int:
        return abs(below_mw) * self._loss_ppm // 1_000_000

    def reactive_mvar(self, t_ms: int) -> int:
        """Return the reactive power at `t_ms` without building the whole week."""
        own = self._own.power_mw(t_ms) * self._tan_phi_permille // 1000 if self._own else 0
        return own + sum(child.reactive_mvar(t_ms) for child in self._children)


@dataclass(frozen=True, slots=True)
class Supply:
    """What one meter is connected to; the grid's seed is common to a site, the meter's is not."""

    node: Node
    start_ms: int
    initial_kwh: Fraction  # on the import totaliser at start_ms
    full_scale_w: float
    shares_permille: tuple[int, int, int]  # of the power on each phase, together 1000
    grid_seed: int
    meter_seed: int

    def at(self, t_ms: int) -> Snapshot:
        """Freeze the meter at one instant."""
        return Snapshot(self, t_ms)


class Snapshot:
    """All quantities of one meter at one instant, in V, A, W, var, VA, Hz, degrees, 1 and kWh."""

    def __init__(self, supply: Supply, t_ms: int) -> None:
        self._supply = supply
        self._t_ms = t_ms
        self._gauges: dict[str, float] | None = None

    def value(self, name: str) -> Fraction:
        """Return a quantity by its name in the profiles; energies are exact."""
        if energy := _ENERGY.fullmatch(name):
            kind, direction, phase = energy.groups()
            total = self._kwh(kind, direction)
            return total if phase is None else total * self._share(phase)
        if self._gauges is None:
            self._gauges = _gauges(self._supply, self._t_ms)
        return Fraction(self._gauges[name])

    def _kwh(self, kind: str, direction: str) -> Fraction:
        """Return a counter in kWh, kvarh or kVAh; only the active import has an initial value."""
        supply = self._supply
        match kind:
            case "active":
                initial = supply.initial_kwh if direction != "export" else Fraction(0)
                return initial + _counted(supply.node.active, supply, self._t_ms, direction)
            case "reactive":
                return _counted(supply.node.reactive, supply, self._t_ms, direction)
            case _:
                # The root of the squares of both counters, which rises whenever one of them does:
                # true apparent energy is an integral of a root and has no exact value.
                active, reactive = self._kwh("active", direction), self._kwh("reactive", direction)
                squared = (active * active + reactive * reactive) * UJ_PER_KWH**2
                return Fraction(math.isqrt(int(squared)), UJ_PER_KWH)

    def _share(self, phase: str) -> Fraction:
        """Return the share of one phase in the power and in every counter."""
        return Fraction(self._supply.shares_permille[_PHASES.index(phase)], 1000)


def _counted(series: Series, supply: Supply, t_ms: int, direction: str) -> Fraction:
    end_ms = max(t_ms, supply.start_ms)
    taken = 0 if direction == "export" else series.import_uj(supply.start_ms, end_ms)
    given = 0 if direction == "import" else series.export_uj(supply.start_ms, end_ms)
    return Fraction(taken - given if direction == "net" else taken + given, UJ_PER_KWH)


def _gauges(supply: Supply, t_ms: int) -> dict[str, float]:
    gauges: dict[str, float] = {"frequency": 50 + 0.02 * _drift(supply.grid_seed, t_ms)}
    volts = _voltages(supply, t_ms)
    total_w = supply.node.active.power_w(t_ms)
    total_var = supply.node.reactive_mvar(t_ms) / 1000
    amps = []
    for phase, share, volt in zip(_PHASES, supply.shares_permille, volts, strict=True):
        active_w, reactive_var = total_w * share / 1000, total_var * share / 1000
        amps.append(math.hypot(active_w, reactive_var) / volt)
        gauges |= _powers(phase, active_w, reactive_var)
        gauges |= {f"voltage_{phase}": volt, f"current_{phase}": amps[-1]}
    gauges |= _powers("total", total_w, total_var)
    gauges |= _line_to_line(volts)
    a, b, c = amps
    gauges["current_n"] = math.sqrt(max(0.0, a * a + b * b + c * c - a * b - b * c - c * a))
    gauges |= {"current_sum": sum(amps), "current_avg": sum(amps) / 3}
    quarter_uj = supply.node.active.import_uj(t_ms - 900_000, t_ms)
    gauges["active_power_demand"] = quarter_uj / 900 / 1_000_000
    return gauges


def _powers(phase: str, active_w: float, reactive_var: float) -> dict[str, float]:
    apparent_va = math.hypot(active_w, reactive_var)
    return {
        f"active_power_{phase}": active_w,
        f"reactive_power_{phase}": reactive_var,
        f"apparent_power_{phase}": apparent_va,
        f"power_factor_{phase}": active_w / apparent_va if apparent_va else 1.0,
        f"phase_angle_{phase}": math.degrees(math.atan2(reactive_var, active_w)),
    }


def _voltages(supply: Supply, t_ms: int) -> list[float]:
    """Return 230 V with the grid's slow drift, the feeder's drop and a little unbalance."""
    load = supply.node.active.power_w(t_ms) / supply.full_scale_w if supply.full_scale_w else 0.0
    common = 230 * (1 + 0.012 * _drift(supply.grid_seed ^ 0x5EED, t_ms)) - 1.5 * load
    return [
        common + 0.7 * _drift(supply.meter_seed + number, t_ms) for number in range(len(_PHASES))
    ]


def _line_to_line(volts: Sequence[float]) -> dict[str, float]:
    between = {
        f"voltage_l{i + 1}{j + 1}": math.sqrt(
            volts[i] * volts[i] + volts[j] * volts[j] + volts[i] * volts[j]
        )
        for i, j in ((0, 1), (1, 2), (2, 0))
    }
    return between | {
        "voltage_ll_avg": sum(between.values()) / 3,
        "voltage_ln_avg": sum(volts) / 3,
    }


def _drift(seed: int, t_ms: int) -> float:
    """Wander within [-1, 1]: minutes-long waves and a little noise that is new each second."""
    bits = _mix(seed)
    slow = math.sin(t_ms / 97_700 + (bits & 0xFFFF) / 10_430)
    slower = math.sin(t_ms / 613_000 + (bits >> 16 & 0xFFFF) / 10_430)
    noise = (_mix(bits ^ t_ms // 1000) >> 11) / (1 << 52) - 1
    return 0.6 * slower + 0.3 * slow + 0.1 * noise


def _mix(number: int) -> int:
    """Scatter a number over 64 bits (splitmix64), so that each second has its own noise."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _MASK
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _MASK
    return number ^ number >> 31


def knows(name: str) -> bool:
    """Tell whether the simulator has a quantity of this name."""
    return name in GAUGES or _ENERGY.fullmatch(name) is not None


def needs_reactive_energy(name: str) -> bool:
    """Tell whether a quantity is counted from a whole week of reactive power."""
    return name.startswith(("reactive_energy_", "apparent_energy_"))


GAUGES = frozenset(
    ["frequency", "current_n", "current_sum", "current_avg", "active_power_demand"]
    + ["voltage_l12", "voltage_l23", "voltage_l31", "voltage_ll_avg", "voltage_ln_avg"]
    + [f"{what}_{phase}" for what in ("voltage", "current") for phase in _PHASES]
    + [
        f"{what}_{phase}"
        for what in (
            "active_power",
            "reactive_power",
            "apparent_power",
            "power_factor",
            "phase_angle",
        )
        for phase in (*_PHASES, "total")
    ]
)
