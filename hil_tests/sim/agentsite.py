"""The agent's own site file, played: each meter it names is simulated where the agent looks for it.

Owns what is invented for it: loads by tier and name. The file is read as data, with our own eyes:
the agent's reader must never be imported here, and judging the file stays the agent's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from hil_tests.sim.addressed import MEDIA, Nameplate, checked_address
from hil_tests.sim.errors import SimError
from hil_tests.sim.profile import Profile, find_profile
from hil_tests.sim.site import PROFILES, LineSpec, MeterSpec, SiteSpec, check_site
from hil_tests.sim.tables import Table, read_toml

_START_MS = 1_764_547_200_000  # 2025-12-01 in Shanghai: counters have run since then
_DEFAULT_PORTS = {"tcp": 502, "rtu_tcp": 4001}
_PRIVILEGED = 1024  # ports below are moved up by 10000
_SCALE_KW = {1: 400.0, 2: 80.0, 3: 20.0}
# The first of these that stands in a meter's name or sub-item decides its load.
_HINTS = (
    *(("pv", "pv"), ("solar", "pv"), ("roof", "pv"), ("inverter", "pv")),
    *(("light", "lighting"), ("office", "lighting"), ("hvac", "hvac"), ("air", "hvac")),
    *(("cool", "hvac"), ("storage", "storage"), ("battery", "storage"), ("charg", "charger")),
    *(("server", "base"), ("pump", "base"), ("", "plant")),
)


def load_agent_site(
    path: Path, *, link_directory: Path | None = None, day_speed: float = 24, seed: int = 1
) -> SiteSpec:
    """Read `site.toml`; ports become links in `link_directory`, or stand where the file says."""
    document = read_toml(path)
    buses = [_entries(bus, f"{path}: bus") for bus in _list(document, "bus", str(path))]
    if not buses:
        raise SimError(f'{path}: "bus" is missing')
    meters = [
        _entries(meter, f"{path}: bus.meter")
        for bus in buses
        for meter in _list(bus, "meter", f"{path}: bus")
    ]
    folders = _profile_folders(document, path)
    spec = SiteSpec(
        seed=seed,
        start_ms=_START_MS,
        day_speed=day_speed,
        profiles=PROFILES,
        lines=tuple(
            _line(bus, _Around(meters, folders), link_directory, str(path)) for bus in buses
        ),
        more_profiles=folders,
    )
    check_site(str(path), spec)
    return spec


def _profile_folders(document: Mapping[str, Any], path: Path) -> tuple[Path, ...]:
    site = document.get("site", {})
    folders = site.get("profiles", ()) if isinstance(site, dict) else ()
    return tuple(path.parent / str(folder) for folder in folders)


@dataclass(frozen=True, slots=True)
class _Around:
    """What a meter's table is read against: the meters of the whole file, folders of profiles."""

    meters: list[dict[str, Any]]
    folders: tuple[Path, ...]


def _line(bus: Mapping[str, Any], around: _Around, links: Path | None, where: str) -> LineSpec:
    table = Table(f"{where}: bus", bus)
    name = table.take("name", str)
    table.where = f"{where}: bus ({name})"
    port = table.take("port", str, None)
    tcp, rtu_tcp = (table.take(key, str, None) for key in ("tcp", "rtu_tcp"))
    if [port, tcp, rtu_tcp].count(None) != 2:
        raise SimError(f'{table.where}: one of "port", "tcp" and "rtu_tcp" expected')
    link = None
    if port is not None:
        link = Path(port) if links is None else links / name
    return LineSpec(
        name=name,
        link=link,
        baud=table.take("baud", int, 9600) if tcp is None else 9600,
        format=table.take("format", str, "8E1"),
        turnaround_ms=(8.0, 20.0),
        tcp=None if tcp is None else _tcp_port(tcp, "tcp", table.where),
        rtu_tcp=None if rtu_tcp is None else _tcp_port(rtu_tcp, "rtu_tcp", table.where),
        ascii_mode=table.take("mode", str, "rtu") == "ascii",
        meters=tuple(
            _meter(_entries(entry, table.where), around, table.where)
            for entry in table.take("meter", list)
        ),
    )


def _tcp_port(address: str, key: str, where: str) -> int:
    port = address.rpartition(":")[2] if ":" in address else str(_DEFAULT_PORTS[key])
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise SimError(f'{where}: "{key}" = "{address}", HOST or HOST:PORT expected')
    return int(port) if int(port) >= _PRIVILEGED else int(port) + 10_000


def _meter(entry: dict[str, Any], around: _Around, where: str) -> MeterSpec:
    table = Table(where, entry)
    name = table.take("name", str)
    table.where = f"{where}, meter {name}"
    tier = table.take("tier", int, 2)
    hint = f"{name} {table.take('sub_item', str, '')}".lower()
    below = tuple(str(other.get("name")) for other in around.meters if other.get("parent") == name)
    load = next(load for word, load in _HINTS if word in hint)
    profile = table.take("profile", str)
    plate = _plate(table, find_profile(profile, (*around.folders, PROFILES)))
    return MeterSpec(
        name=name,
        unit=table.take("unit", int) if plate is None else 0,
        profile=profile if plate is None else "",
        ratios={},
        initial_kwh=Fraction(0),
        # The meter of the whole site shows its parts and what is lost; others have loads besides.
        load=None if tier == 1 and below else load,
        scale_kw=_SCALE_KW.get(tier, 10.0),
        children=below,
        loss_percent=Fraction(3, 2) if below else Fraction(0),
        dead=False,
        plate=plate,
        baud=table.take("baud", int, None),
        format=table.take("format", str, None),
    )


def _plate(table: Table, profile: Profile) -> Nameplate | None:
    """Take the address of a meter whose profile is none of Modbus."""
    if profile.protocol == "modbus":
        return None
    usual = profile.kind if profile.kind in MEDIA else "water"
    number = table.take("type", int, MEDIA[usual])
    medium = next((name for name, known in MEDIA.items() if known == number), usual)
    address = table.take("address", str)
    return Nameplate(
        protocol=profile.protocol,
        address=checked_address(table.where, profile.protocol, address),
        medium=medium if profile.protocol == "cjt188" else "",
    )


def _list(table: Mapping[str, Any], key: str, where: str) -> list[object]:
    entries = table.get(key, [])
    if not isinstance(entries, list):
        raise SimError(f'{where}: "{key}" is no array of tables')
    return entries


def _entries(entry: object, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise SimError(f"{where}: a table expected")
    return entry
