"""The registers of the simulator's meters, computed ten times as fast.

Owns a shortcut: the numbers of the wanted points alone, in integers, from a table of running sums.
`SimMeter.read` stays the measure: a test holds the two together.
"""

from __future__ import annotations

import math
import struct
from array import array
from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import accumulate

from edgeagg_agent.bus import ReadRequest
from hil_tests.sim.loads import UJ_PER_KWH, Series
from hil_tests.sim.meters import UNITS, SimMeter
from hil_tests.sim.profile import Point
from hil_tests.sim.registers import encode_float, encode_integer

Words = Callable[[int], tuple[int, ...]]
"""The registers of a point at a true time in milliseconds."""


class DenseLoad:
    """A load's energy since `start_ms`, looked up instead of summed up."""

    def __init__(self, load: Series, start_ms: int) -> None:
        """`start_ms` is a whole second."""
        self._start_ms = start_ms
        seconds = range(len(load.power_mw_table))
        self._power_mw = array("q", (load.power_mw(start_ms + 1000 * s) for s in seconds))
        self._imports = list(accumulate((max(p, 0) for p in self._power_mw), initial=0))
        self._exports = list(accumulate((max(-p, 0) for p in self._power_mw), initial=0))

    def power_mw(self, t_ms: int) -> int:
        """Return the power in milliwatts; negative = generated."""
        return self._power_mw[(t_ms - self._start_ms) // 1000 % len(self._power_mw)]

    def import_uj(self, t_ms: int) -> int:
        """Return what was taken since the start, in microjoules."""
        return self._integral(self._imports, 1, t_ms)

    def export_uj(self, t_ms: int) -> int:
        """Return what was given since the start, in microjoules."""
        return self._integral(self._exports, -1, t_ms)

    def _integral(self, sums: list[int], sign: int, t_ms: int) -> int:
        seconds, rest_ms = divmod(t_ms - self._start_ms, 1000)
        weeks, second = divmod(seconds, len(self._power_mw))
        current_mw = max(sign * self._power_mw[second], 0)
        return (weeks * sums[-1] + sums[second]) * 1000 + current_mw * rest_ms


class Registers:
    """What one request reads from one meter."""

    def __init__(
        self, sim: SimMeter, ratios: Mapping[str, Fraction], load: DenseLoad, request: ReadRequest
    ) -> None:
        """Raise ValueError for a request that the meter would refuse."""
        start_ms = sim.supply.start_ms
        fixed = sim.read(
            function=request.function, address=request.start, count=request.count, t_ms=start_ms
        )
        if fixed is None:
            raise ValueError(f"{sim.name}: {request} is refused")
        self._fixed = fixed
        self._points = [
            (point.register.address - request.start, _words(sim, ratios, load, point))
            for point in sim.profile.points
            if point.register.function == request.function
            and request.start <= point.register.address < request.start + request.count
        ]

    def at(self, t_ms: int) -> bytes:
        """Return the registers as they are at `t_ms`, two bytes each."""
        words = self._fixed.copy()
        for place, point in self._points:
            found = point(t_ms)
            words[place : place + len(found)] = found
        return struct.pack(f">{len(words)}H", *words)


def _words(sim: SimMeter, ratios: Mapping[str, Fraction], load: DenseLoad, point: Point) -> Words:
    kind, order = point.register.kind, point.register.order
    unit = UNITS[point.unit]
    factor = math.prod((ratios[name] for name in point.ratios), start=point.scale)
    if point.name == "active_power_total":
        return lambda t_ms: encode_float(
            float(Fraction(load.power_mw(t_ms) / 1000) * unit / factor), kind=kind, order=order
        )
    initial_uj = 0
    if point.name == "active_energy_import":
        energy_uj = load.import_uj
        initial_uj = int(sim.supply.initial_kwh * UJ_PER_KWH)
    elif point.name == "active_energy_export":
        energy_uj = load.export_uj
    else:
        raise ValueError(f"{sim.name}: no shortcut for {point.name}")
    # a totaliser shows full steps: of its resolution in a float, of its last bit in an integer
    step = point.resolution if kind.startswith("f") else factor
    steps = unit / UJ_PER_KWH / step
    raw = step / factor
    of_uj, per = steps.numerator, steps.denominator
    up, down = raw.numerator, raw.denominator
    if kind.startswith("f"):
        return lambda t_ms: encode_float(
            (initial_uj + energy_uj(t_ms)) * of_uj // per * up / down, kind=kind, order=order
        )
    return lambda t_ms: encode_integer(
        (initial_uj + energy_uj(t_ms)) * of_uj // per, kind=kind, order=order
    )
