"""The site file: TOML in, frozen values out, or one error that says what to change.

Nothing is opened and nothing is started here; what can be known wrong from the file and the
profiles alone is found here.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from edgeagg.batch import check_gateway
from edgeagg.errors import ConfigError, FormatError
from edgeagg.model import Catalogue, Group, MeterInfo, PointInfo
from edgeagg_agent import plan
from edgeagg_agent.bus.timing import CHAR_BITS, Timing
from edgeagg_agent.feasible import check_feasible
from edgeagg_agent.plan import Block
from edgeagg_agent.profile import Point, Profile, load
from edgeagg_agent.tomltable import Table, hint

BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)

_DURATION = re.compile(r"(\d+)\s*(ms|s|min|h)")
_DURATION_MS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}
_SIZE = re.compile(r"(\d+)\s*(MB|GB)")
_SIZE_BYTES = {"MB": 1 << 20, "GB": 1 << 30}
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_DAY_MS = 86_400_000
_TURNAROUND_MS = 25


@dataclass(frozen=True, slots=True)
class Meter:
    """One meter of a bus, with the reads that fetch its points."""

    name: str
    unit: int
    profile: Profile
    period_ms: int
    tier: int
    parent: str
    sub_item: str
    points: tuple[Point, ...]
    blocks: tuple[Block, ...]
    ratio_blocks: tuple[Block, ...]
    scan_us: int


@dataclass(frozen=True, slots=True)
class BusConfig:
    """One serial line (`port`) or one Modbus TCP connection (`host`)."""

    name: str
    port: str
    baud: int
    format: str
    host: str
    tcp_port: int
    turnaround_ms: int
    meters: tuple[Meter, ...]

    @property
    def share(self) -> float:
        """The part of the bus that its meters ask for: 1.0 is all of it."""
        return plan.utilisation((meter.period_ms, meter.scan_us) for meter in self.meters)

    @property
    def where(self) -> str:
        """Return the port or address, for messages."""
        if self.host:
            return f"tcp {self.host}:{self.tcp_port}"
        return f"{self.port} {self.baud} {self.format}"


@dataclass(frozen=True, slots=True)
class Destination:
    """One platform, behind one broker."""

    name: str
    host: str
    port: int
    tls: bool
    username: str
    password_file: str
    ca_file: str


@dataclass(frozen=True, slots=True)
class Site:
    """The whole site file."""

    file: Path
    gateway: str
    name: str
    state_directory: Path
    state_bytes_max: int
    status_file: Path | None
    window_lengths_ms: tuple[int, ...]
    flush_ms: int
    destinations: tuple[Destination, ...]
    buses: tuple[BusConfig, ...]

    @property
    def meters(self) -> tuple[Meter, ...]:
        """All meters, in the order of their groups in the catalogue."""
        return tuple(meter for bus in self.buses for meter in bus.meters)

    def catalogue(self) -> Catalogue:
        """Return what the platform must know."""
        return Catalogue(
            self.name,
            tuple(
                MeterInfo(m.name, m.profile.name, m.tier, m.parent, m.sub_item) for m in self.meters
            ),
            tuple(
                Group(
                    meter.name,
                    meter.period_ms,
                    tuple(PointInfo(p.name, p.unit, p.exponent, p.kind) for p in meter.points),
                )
                for meter in self.meters
            ),
            self.window_lengths_ms,
        )


def load_site(file: Path) -> Site:
    """Read and check a site file.

    Raises ConfigError naming the file, the key, what was found and what is allowed.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(file, "file", str(error), "a readable TOML file in UTF-8") from error
    top = Table(file, "", content, "site state windows batch status destination bus")
    site = top.table("site", "gateway name profiles")
    state = top.table("state", "directory bytes_max")
    folders = tuple(file.parent / folder for folder in site.texts("profiles", ()))
    for folder in folders:
        if not folder.is_dir():
            raise site.error("profiles", f"no folder {folder}", "folders with profiles")
    buses = tuple(
        _bus(file, table, folders)
        for table in top.array("bus", "name port baud format tcp turnaround_ms meter")
    )
    if not buses:
        raise top.error("bus", "missing", "at least one [[bus]]")
    destinations = tuple(map(_destination, top.array("destination", _DESTINATION_KEYS)))
    if not destinations:
        raise top.error("destination", "missing", "at least one [[destination]]")
    _refuse_twice(file, "bus", "name", [bus.name for bus in buses])
    _refuse_twice(file, "destination", "name", [d.name for d in destinations])
    meters = [meter for bus in buses for meter in bus.meters]
    _refuse_twice(file, "bus.meter", "name", [meter.name for meter in meters])
    _check_ports(file, buses)
    _check_tree(file, meters)
    for bus in buses:
        check_feasible(file, bus, BAUDS)
    status = top.table("status", "file", {})
    return Site(
        file=file,
        gateway=_gateway(site),
        name=_plain(site, "name"),
        state_directory=Path(state.text("directory")),
        state_bytes_max=_size(state, "bytes_max", "1GB"),
        status_file=Path(status.text("file")) if status.has("file") else None,
        window_lengths_ms=_lengths(top.table("windows", "lengths", {})),
        flush_ms=_duration(top.table("batch", "flush", {}), "flush", "60s"),
        destinations=destinations,
        buses=buses,
    )


_DESTINATION_KEYS = "name broker username password_file ca_file"


def _gateway(table: Table) -> str:
    try:
        return check_gateway(table.text("gateway"))
    except FormatError as error:
        raise table.error("gateway", str(error), "for example qp-0001") from None


def _bus(file: Path, table: Table, folders: Sequence[Path]) -> BusConfig:
    name = _name(table)
    if table.has("port") == table.has("tcp"):
        found = "both" if table.has("port") else "neither"
        raise table.error("port", f"{found} of port and tcp", "one of the two")
    port, host, tcp_port, baud, form = "", "", 0, 0, ""
    timing = None
    if table.has("port"):
        port = table.text("port")
        baud = _baud(table)
        form = table.text("format", tuple(CHAR_BITS), "8E1")
        timing = Timing.of(baud, form)
    else:
        host, tcp_port = _address(table, "tcp", 502)
    turnaround_ms = table.integer("turnaround_ms", 0, 1000, _TURNAROUND_MS)
    keys = "name unit profile period tier parent sub_item points"
    meters = tuple(
        _meter(meter, folders, timing, turnaround_ms * 1000) for meter in table.array("meter", keys)
    )
    if not meters:
        raise table.error("meter", "missing", "at least one [[bus.meter]]")
    for index, meter in enumerate(meters):
        for other in meters[:index]:
            if other.unit == meter.unit:
                raise ConfigError(
                    file,
                    f"bus[{name}].meter[{meter.name}].unit",
                    f"{meter.unit} is the unit of meter {other.name} already",
                    "a unit id of its own for every meter of a bus",
                )
    return BusConfig(name, port, baud, form, host, tcp_port, turnaround_ms, meters)


def _meter(
    table: Table, folders: Sequence[Path], timing: Timing | None, turnaround_us: int
) -> Meter:
    name = _name(table)
    try:
        profile = load(table.text("profile"), folders)
    except ConfigError as error:
        if error.key != "profile":
            raise
        raise table.error("profile", error.found, error.allowed) from None
    points = _points(table, profile)
    limits = profile.limits
    wanted = [(p.function, p.register, p.count) for p in points]
    used = {ratio for point in points for ratio in point.ratios}
    ratios = [(r.function, r.register, r.count) for r in profile.ratios if r.name in used]
    blocks = plan.plan_blocks(wanted, limits, timing, turnaround_us)
    return Meter(
        name=name,
        unit=table.integer("unit", 1, 247),
        profile=profile,
        period_ms=_period(table),
        tier=table.integer("tier", 1, 3),
        parent=table.text("parent") if table.has("parent") else "",
        sub_item=_plain(table, "sub_item") if table.has("sub_item") else "",
        points=points,
        blocks=blocks,
        ratio_blocks=plan.plan_blocks(ratios, limits, timing, turnaround_us),
        scan_us=plan.scan_us(blocks, limits, timing, turnaround_us),
    )


def _points(table: Table, profile: Profile) -> tuple[Point, ...]:
    known = {point.name: point for point in profile.points}
    for name in table.texts("points", ()):
        if name not in known:
            raise table.error("points", f"{profile.name} has no point {name!r}", hint(name, known))
    wanted = table.texts("points", tuple(known))
    if not wanted:
        raise table.error("points", "none", f"at least one of {', '.join(known)}")
    return tuple(point for point in profile.points if point.name in wanted)


def _destination(table: Table) -> Destination:
    text = table.text("broker")
    rule = "mqtt://HOST:PORT or mqtts://HOST:PORT; username and password_file are keys of their own"
    try:
        broker = urlsplit(text)
        port = broker.port
    except ValueError:
        raise table.error("broker", repr(text), rule) from None
    if broker.scheme not in {"mqtt", "mqtts"} or not broker.hostname or "@" in broker.netloc:
        raise table.error("broker", repr(text), rule)
    tls = broker.scheme == "mqtts"
    for key in ("password_file", "ca_file"):
        if table.has(key) and not os.access(table.text(key), os.R_OK):
            raise table.error(key, f"cannot read {table.text(key)}", "a file the agent may read")
    return Destination(
        name=_name(table),
        host=broker.hostname,
        port=port or (8883 if tls else 1883),
        tls=tls,
        username=table.text("username") if table.has("username") else "",
        password_file=table.text("password_file") if table.has("password_file") else "",
        ca_file=table.text("ca_file") if table.has("ca_file") else "",
    )


def _name(table: Table) -> str:
    name = table.text("name")
    if not _NAME.fullmatch(name):
        raise table.error("name", repr(name), "1 to 32 of a-z, 0-9, _ and -")
    return name


def _plain(table: Table, key: str) -> str:
    text = table.text(key)
    if not text.isprintable() or len(text.encode()) > 200:
        raise table.error(key, repr(text), "up to 200 bytes of text on one line")
    return text


def _baud(table: Table) -> int:
    baud = table.integer("baud", 1, 1_000_000)
    if baud not in BAUDS:
        raise table.error("baud", str(baud), f"one of {', '.join(map(str, BAUDS))}")
    return baud


def _address(table: Table, key: str, port_default: int) -> tuple[str, int]:
    text = table.text(key)
    host, _, port = text.rpartition(":") if ":" in text else (text, "", str(port_default))
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise table.error(key, repr(text), "HOST or HOST:PORT")
    return host, int(port)


def _period(table: Table) -> int:
    period_ms = _duration(table, "period", "60s")
    if not 200 <= period_ms <= _DAY_MS or _DAY_MS % period_ms:
        raise table.error(
            "period", repr(table.text("period")), "200ms to 24h, a whole number of times a day"
        )
    return period_ms


def _lengths(table: Table) -> tuple[int, ...]:
    texts = table.texts("lengths", ("10s", "1min", "15min"))
    lengths = []
    for text in texts:
        length_ms = _parse_duration(text)
        if length_ms is None or not 1000 <= length_ms <= _DAY_MS or _DAY_MS % length_ms:
            raise table.error("lengths", repr(text), "1s to 24h, a whole number of times a day")
        lengths.append(length_ms)
    return tuple(sorted(set(lengths)))


def _duration(table: Table, key: str, default: str) -> int:
    duration_ms = _parse_duration(table.text(key, (), default))
    if not duration_ms:
        raise table.error(key, repr(table.text(key)), "a duration such as 500ms, 10s, 15min, 1h")
    return duration_ms


def _parse_duration(text: str) -> int | None:
    found = _DURATION.fullmatch(text)
    return int(found[1]) * _DURATION_MS[found[2]] if found else None


def _size(table: Table, key: str, default: str) -> int:
    text = table.text(key, (), default)
    found = _SIZE.fullmatch(text)
    if not found or int(found[1]) * _SIZE_BYTES[found[2]] < 32 << 20:
        raise table.error(key, repr(text), "a size from 32MB up, such as 500MB or 1GB")
    return int(found[1]) * _SIZE_BYTES[found[2]]


def _refuse_twice(file: Path, table: str, key: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ConfigError(file, f"{table}.{key}", f"{value!r} stands twice", "each name once")
        seen.add(value)


def _check_ports(file: Path, buses: Sequence[BusConfig]) -> None:
    ports: dict[str, str] = {}
    for bus in buses:
        if bus.port and bus.port in ports:
            raise ConfigError(
                file,
                f"bus[{bus.name}].port",
                f"{bus.port} is the port of bus {ports[bus.port]} already",
                "one bus for each port",
            )
        ports[bus.port] = bus.name


def _check_tree(file: Path, meters: Sequence[Meter]) -> None:
    known = {meter.name: meter for meter in meters}
    for meter in meters:
        if not meter.parent:
            continue
        key = f"bus.meter[{meter.name}].parent"
        parent = known.get(meter.parent)
        if parent is None:
            raise ConfigError(file, key, f"no meter {meter.parent!r}", hint(meter.parent, known))
        # tiers falling towards the root leave no room for a cycle
        if parent.tier >= meter.tier:
            raise ConfigError(
                file,
                key,
                f"{parent.name} is of tier {parent.tier}, {meter.name} of tier {meter.tier}",
                "a parent of a lower tier",
            )
