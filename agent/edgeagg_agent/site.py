"""What a site is: buses, their meters, and where the readings go. Frozen values, nothing more.

`edgeagg_agent.config` makes them from the site file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo
from edgeagg.tls import TlsFiles
from edgeagg_agent import metrics
from edgeagg_agent.asking import Address, Asker, byte_chars, item_reads, spans
from edgeagg_agent.budget import BusLoad, GroupLoad, MeterLoad
from edgeagg_agent.bus import LineSettings
from edgeagg_agent.profile import ItemPoint, Point, Profile


@dataclass(frozen=True, slots=True)
class PointGroup:
    """The points of one meter that are read together."""

    period_ms: int
    points: tuple[Point | ItemPoint, ...]

    @property
    def is_billed(self) -> bool:
        """Tell whether energy or volume is among them."""
        return any(point.kind is Kind.TOTALISER for point in self.points)

    def catalogued(self, meter: str) -> Group:
        """Return what the platform must know of the group."""
        points = tuple(PointInfo(p.name, p.unit, p.exponent, p.kind) for p in self.points)
        return Group(meter, self.period_ms, points)


@dataclass(frozen=True, slots=True)
class Meter:
    """One meter of a bus; its groups are in the order of their periods."""

    name: str
    address: Address
    profile: Profile
    settings: LineSettings
    tier: int
    parent: str
    sub_item: str
    groups: tuple[PointGroup, ...]

    @property
    def points(self) -> tuple[Point | ItemPoint, ...]:
        """The points of all groups."""
        return tuple(point for group in self.groups for point in group.points)

    def load(self, turnaround_us: int, *, ascii_mode: bool = False) -> MeterLoad:
        """Return what the meter asks of its bus."""
        asker = Asker(self.profile, self.address, ascii_mode=False)
        protocol = self.profile.protocol
        return MeterLoad(
            name=self.name,
            baud=self.settings.baud,
            format=self.settings.format,
            limits=self.profile.limits,
            turnaround_us=turnaround_us,
            groups=tuple(
                GroupLoad(
                    group.period_ms,
                    spans(group.points, self.profile),
                    tuple(asker.cost(read) for read in item_reads(group.points, protocol)),
                    group.is_billed,
                )
                for group in self.groups
            ),
            turnaround_max_us=self.settings.turnaround_max_ms * 1000,
            byte_chars=byte_chars(self.profile, ascii_mode=ascii_mode),
        )


@dataclass(frozen=True, slots=True)
class BusConfig:
    """One line: a serial port, Modbus TCP, or a serial server that passes bytes on.

    `port` is set for a serial port, `host` for the others; `is_raw` tells a serial server from
    Modbus TCP. `baud` and `format` are those of meters that name none of their own.
    """

    name: str
    port: str
    host: str
    tcp_port: int
    is_raw: bool
    ascii_mode: bool
    baud: int
    format: str
    turnaround_ms: int
    meters: tuple[Meter, ...]

    def load(self) -> BusLoad:
        """Return what its meters ask of it, for `budget`."""
        turnaround_us = self.turnaround_ms * 1000
        return BusLoad(
            self.name,
            self.baud,
            tuple(meter.load(turnaround_us, ascii_mode=self.ascii_mode) for meter in self.meters),
        )

    @property
    def where(self) -> str:
        """Return the port or address, for messages."""
        if self.port:
            return f"{self.port} {self.baud} {self.format}"
        kind = "serial server" if self.is_raw else "tcp"
        return f"{kind} {self.host}:{self.tcp_port}"


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
    platform_keys: tuple[bytes, ...] = ()
    """Whose receipts are believed; where there is none, anybody's."""
    cert_file: str = ""
    cert_key_file: str = ""

    @property
    def tls_files(self) -> TlsFiles:
        """The files of its TLS."""
        return TlsFiles(
            ca_file=self.ca_file, cert_file=self.cert_file, cert_key_file=self.cert_key_file
        )


@dataclass(frozen=True, slots=True)
class Site:
    """The whole site file."""

    file: Path
    gateway: str
    name: str
    state_directory: Path
    state_bytes_max: int
    key_file: Path
    """The gateway's secret key, made at the first start."""
    takes_commands: bool
    """Whether the platform may push another site file."""
    trial_ms: int
    """How long a pushed file may run without a receipt."""
    status_file: Path | None
    metrics_address: tuple[str, int] | None
    window_lengths_ms: tuple[int, ...]
    flush_ms: int
    destinations: tuple[Destination, ...]
    buses: tuple[BusConfig, ...]

    @property
    def meters(self) -> tuple[Meter, ...]:
        """All meters, in the order in which the catalogue has their groups."""
        return tuple(meter for bus in self.buses for meter in bus.meters)

    def catalogue(self) -> Catalogue:
        """Return what the platform must know."""
        return Catalogue(
            self.name,
            (
                *(
                    MeterInfo(m.name, m.profile.name, m.tier, m.parent, m.sub_item)
                    for m in self.meters
                ),
                metrics.gateway_meter(),
            ),
            (
                *(group.catalogued(meter.name) for meter in self.meters for group in meter.groups),
                metrics.gateway_group(
                    [(bus.name, [meter.name for meter in bus.meters]) for bus in self.buses]
                ),
            ),
            self.window_lengths_ms,
        )
