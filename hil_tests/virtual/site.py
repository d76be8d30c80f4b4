"""The site of the virtual days: ten meters on three buses, for the agent and for the simulator.

Owns both descriptions, which must name the same meters. A meter's points lie in one block, so that
a row has one instant, at which the truth is known exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from edgeagg_agent.config import load_site
from edgeagg_agent.site import Site
from hil_tests.sim.meters import SimMeter
from hil_tests.sim.profile import Point
from hil_tests.sim.site import parse_site
from hil_tests.sim.stage import build_meters
from hil_tests.virtual.registers import DenseLoad

GATEWAY = "qp-virtual"
_DAY_SPEED = 84  # a week of load in two hours: the tables of a real week take seconds to compute

_IMPORT = ("active_energy_import",)
_BOTH = ("active_power_total", "active_energy_import", "active_energy_export")


@dataclass(frozen=True, slots=True)
class _Kind:
    """One kind of meter of the site."""

    profile: str
    points: tuple[str, ...]
    ratios: Mapping[str, int] = field(default_factory=dict)
    power_periods: int = 1  # the periods of the site between two reads of power


_KINDS: Mapping[str, _Kind] = {
    "sdm-both": _Kind("eastron-sdm630", _BOTH, power_periods=5),
    "sdm": _Kind("eastron-sdm630", _IMPORT),
    "acrel": _Kind("acrel-adl400", _IMPORT, {"ct": 4, "pt": 1}),
    "chint": _Kind("chint-dtsu666", _IMPORT, {"ct": 10, "pt": 10}),
    "sunspec": _Kind("sunspec-meter-213", _BOTH[::2]),
}
_METERS = (  # bus, name, kind, load, scale in kW
    ("switchroom", "incomer", "sdm-both", "pv", 180),
    ("switchroom", "workshop", "chint", "plant", 120),
    ("switchroom", "compressor", "sdm", "plant", 45),
    ("switchroom", "kitchen", "sdm", "hvac", 30),
    ("building", "lighting", "acrel", "lighting", 30),
    ("building", "hvac", "sdm", "hvac", 80),
    ("building", "servers", "acrel", "base", 20),
    ("building", "lift", "sdm", "plant", 15),
    ("roof", "pv-east", "sunspec", "pv", 60),
    ("roof", "pv-west", "sunspec", "pv", 40),
)
METERS = tuple(name for _, name, *_ in _METERS)
_BUSES = {
    "switchroom": 'port = "/dev/virtual-1"\nbaud = 9600\nformat = "8E1"',
    "building": 'port = "/dev/virtual-2"\nbaud = 19200\nformat = "8N1"',
    "roof": 'tcp = "192.0.2.20:502"',
}


@dataclass(frozen=True, slots=True)
class Played:
    """A simulated meter, what is on it, and by how much each of its points moves at least."""

    sim: SimMeter
    load: DenseLoad
    ratios: Mapping[str, Fraction]
    steps: Mapping[str, float]


def make_site(directory: Path, *, period_ms: int) -> Site:
    """Write the agent's site file into `directory` and load it, as the agent would."""
    parts = [
        f'[site]\ngateway = "{GATEWAY}"\nname = "Virtual plant"',
        f'[state]\ndirectory = "{directory}/state"',
        '[windows]\nlengths = ["15min"]',
        '[batch]\nflush = "5min"',
        '[[destination]]\nname = "platform"\nbroker = "mqtt://192.0.2.1:1883"',
    ]
    for bus, where in _BUSES.items():
        parts.append(f'[[bus]]\nname = "{bus}"\n{where}')
        for unit, (_, name, kind, _, _) in _numbered(bus):
            played = _KINDS[kind]
            points = ", ".join(f'"{point}"' for point in played.points)
            parts.append(
                f'[[bus.meter]]\nname = "{name}"\nunit = {unit}\nprofile = "{played.profile}"'
                f'\nperiod = "{period_ms}ms"\ntier = 1\npoints = [{points}]'
            )
            if played.power_periods > 1:
                slow_ms = period_ms * played.power_periods
                parts.append(f'[bus.meter.periods]\nactive_power_total = "{slow_ms}ms"')
    file = directory / "site.toml"
    file.write_text("\n\n".join(parts), "utf-8")
    return load_site(file)


def make_meters(site: Site, *, seed: int, start_ms: int) -> dict[str, Played]:
    """Build the simulator's meters, by name, with the registers that the agent reads."""
    lines = [
        {
            "name": bus,
            "tcp": 502,
            "meter": [
                {
                    "name": name,
                    "unit": unit,
                    "profile": _KINDS[kind].profile,
                    "ratios": dict(_KINDS[kind].ratios),
                    "load": load,
                    "scale_kw": scale_kw,
                    "initial_kwh": 100 * unit,
                }
                for unit, (_, name, kind, load, scale_kw) in _numbered(bus)
            ],
        }
        for bus in _BUSES
    ]
    document = {"seed": seed, "start_ms": start_ms, "day_speed": _DAY_SPEED, "line": lines}
    spec = parse_site(document, where="the virtual site")
    whole = build_meters(spec)
    wanted = {meter.name: {point.name for point in meter.points} for meter in site.meters}
    found = {}
    for meter in (meter for line in spec.lines for meter in line.meters):
        profile = whole[meter.name].profile
        points = tuple(point for point in profile.points if point.name in wanted[meter.name])
        # a read of the whole register map would compute thirty quantities that nobody decodes
        sim = SimMeter(
            name=meter.name,
            unit=meter.unit,
            profile=replace(profile, points=points, identities=()),
            ratios=meter.ratios,
            supply=whole[meter.name].supply,
        )
        steps = {point.name: float(_step(point, meter.ratios)) for point in points}
        load = DenseLoad(sim.supply.node.active, start_ms)
        found[meter.name] = Played(sim, load, meter.ratios, steps)
    return found


def _step(point: Point, ratios: Mapping[str, Fraction]) -> Fraction:
    """Return the step of an integer register, or the resolution to which a float is kept."""
    if point.register.kind.startswith("f"):
        return point.resolution
    return math.prod((ratios[name] for name in point.ratios), start=point.scale)


def _numbered(bus: str) -> list[tuple[int, tuple[str, str, str, str, int]]]:
    """Return the meters of a bus with their unit ids."""
    return list(enumerate((meter for meter in _METERS if meter[0] == bus), start=1))
