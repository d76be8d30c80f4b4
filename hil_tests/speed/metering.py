"""Readings of a large site for the benches: 128 meters with 30 points, from the simulator's loads.

The values are those of `hil_tests.sim`, in the resolutions of common profiles; no registers, no
line and no decoder are in between.
"""

from __future__ import annotations

from fractions import Fraction
from random import Random

from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo
from hil_tests.sim.electrical import Node, Supply
from hil_tests.sim.loads import LOADS, Week, make_load

METERS = 128
_MINUTE_MS = 60_000
_WINDOW_MS = 900_000
_PHASES = ("l1", "l2", "l3")
_ALL = (*_PHASES, "total")
_POINTS = (
    *((f"voltage_{phase}", "V", -1, Kind.GAUGE) for phase in _PHASES),
    *((f"current_{phase}", "A", -2, Kind.GAUGE) for phase in _PHASES),
    *((f"voltage_{pair}", "V", -1, Kind.GAUGE) for pair in ("l12", "l23", "l31")),
    *((f"active_power_{phase}", "W", 0, Kind.GAUGE) for phase in _ALL),
    *((f"reactive_power_{phase}", "var", 0, Kind.GAUGE) for phase in _ALL),
    *((f"apparent_power_{phase}", "VA", 0, Kind.GAUGE) for phase in _ALL),
    *((f"power_factor_{phase}", "1", -3, Kind.GAUGE) for phase in _ALL),
    ("frequency", "Hz", -2, Kind.GAUGE),
    *((f"active_energy_{way}", "kWh", -2, Kind.TOTALISER) for way in ("import", "export")),
    *((f"reactive_energy_{way}", "kvarh", -2, Kind.TOTALISER) for way in ("import", "export")),
)
POINTS = len(_POINTS)


def catalogue() -> Catalogue:
    """Return the catalogue of the site: each meter read once a minute, windows of 15 minutes."""
    points = tuple(PointInfo(*point) for point in _POINTS)
    names = [f"meter-{number:03d}" for number in range(METERS)]
    return Catalogue(
        "large site",
        tuple(MeterInfo(name, "bench", 1, "", "") for name in names),
        tuple(Group(name, _MINUTE_MS, points) for name in names),
        (_WINDOW_MS,),
    )


def hour(start_ms: int) -> list[list[list[int]]]:
    """Return an hour's mantissas by minute, meter and point; the same for the same start."""
    return minutes(start_ms, 60)


def minutes(start_ms: int, count: int) -> list[list[list[int]]]:
    """Return the mantissas of so many minutes by minute, meter and point, as `hour` does."""
    rng = Random(start_ms)
    week = Week.at_speed(1)
    nodes = [_node(week, kind, rng) for kind in ("plant", "lighting", "hvac")]
    supplies = [_supply(nodes[number % len(nodes)], number, start_ms) for number in range(METERS)]
    found = []
    for minute in range(count):
        at_ms = start_ms + minute * _MINUTE_MS
        found.append([_row(supply, at_ms + 37 * n) for n, supply in enumerate(supplies)])
    return found


def _node(week: Week, kind: str, rng: Random) -> Node:
    load = make_load(LOADS[kind], week, scale_w=60_000, rng=rng)
    return Node(
        week, own=load, tan_phi_permille=LOADS[kind].tan_phi_permille, children=(), loss_ppm=0
    )


def _supply(node: Node, number: int, start_ms: int) -> Supply:
    # no two meters of a site began to count, or were read, at the same moment
    begun_ms = start_ms - (number + 1) * 3_600_000
    return Supply(node, begun_ms, Fraction(1234 + number), 60_000, (330, 340, 330), 1, number)


def _row(supply: Supply, at_ms: int) -> list[int]:
    state = supply.at(at_ms)
    return [round(state.value(name) / Fraction(10) ** exponent) for name, _, exponent, _ in _POINTS]
