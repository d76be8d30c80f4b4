"""What a site is: buses, their meters, and where the readings go. Frozen values, nothing more.

`edgeagg_agent.config` makes them from the site file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeagg.model import (
    Catalogue,
    Demand,
    Group,
    Kind,
    LocalTime,
    MeterInfo,
    PointInfo,
    PointSum,
)
from edgeagg.tls import TlsFiles
from edgeagg_agent import metrics
from edgeagg_agent.asking import Address, Asker, byte_chars, item_reads, spans
from edgeagg_agent.budget import BusLoad, GroupLoad, MeterLoad
from edgeagg_agent.bus import LineSettings
from edgeagg_agent.guards import Rating, guard
from edgeagg_agent.profile import ItemPoint, Point, Profile, Sum


@dataclass(frozen=True, slots=True)
class PointGroup:
    """The points of one meter that are read together."""

    period_ms: int
    points: tuple[Point | ItemPoint, ...]

    @property
    def is_billed(self) -> bool:
        """Tell whether energy or volume is among them."""
        return any(point.kind is Kind.TOTALISER for point in self.points)

    def sums(self, known: Sequence[Sum]) -> tuple[PointSum, ...]:
        """Return those of a profile's sums whose points are all read here."""
        numbers = {point.name: number for number, point in enumerate(self.points)}
        return tuple(
            PointSum(numbers[one.total], tuple(numbers[name] for name in one.parts))
            for one in known
            if numbers.keys() >= {one.total, *one.parts}
        )


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is made of a meter's readings besides windows; points by their names."""

    rating: Rating = field(default_factory=Rating)
    statistics: frozenset[str] = frozenset()
    demand_points: frozenset[str] = frozenset()
    demand: Demand | None = None


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
    wishes: Wishes = field(default_factory=Wishes)

    @property
    def points(self) -> tuple[Point | ItemPoint, ...]:
        """The points of all groups."""
        return tuple(point for group in self.groups for point in group.points)

    def catalogued(self) -> tuple[Group, ...]:
        """Return what the platform must know of its groups."""
        return tuple(
            Group(
                self.name,
                group.period_ms,
                tuple(map(self._catalogued, group.points)),
                group.sums(self.profile.sums),
            )
            for group in self.groups
        )

    def _catalogued(self, point: Point | ItemPoint) -> PointInfo:
        wishes = self.wishes
        return PointInfo(
            point.name,
            point.unit,
            point.exponent,
            point.kind,
            guard(point, wishes.rating),
            point.name in wishes.statistics,
            wishes.demand if point.name in wishes.demand_points else None,
        )

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
    resend_ms: int
    """How long delivered batches stay as they were signed."""
    history_ms: int
    """How long history stays, while there is room."""
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
    local_time: LocalTime
    believes_host_clock: bool = False
    """Whether the host's clock is right although the kernel may not know."""

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
                *(group for meter in self.meters for group in meter.catalogued()),
                metrics.gateway_group(
                    [(bus.name, [meter.name for meter in bus.meters]) for bus in self.buses]
                ),
            ),
            self.window_lengths_ms,
            self.local_time,
        )
