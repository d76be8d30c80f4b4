"""The site file of the simulator: lines, meters, and the tree they form.

Owns the file's keys: each is checked here, and an unknown one is an error. It starts nothing;
`hil_tests.sim.stage` plays a site.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from hil_tests.sim.addressed import ADDRESS_DIGITS, MEDIA, Nameplate, checked_address
from hil_tests.sim.errors import SimError
from hil_tests.sim.faults import FaultSpec, parse_faults
from hil_tests.sim.kinds import KINDS
from hil_tests.sim.loads import LOADS
from hil_tests.sim.pace import Pace
from hil_tests.sim.patterns import PATTERNS
from hil_tests.sim.sunspec import sunspec_name
from hil_tests.sim.tables import Table, read_toml

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).parents[2]
# Where the simulator is installed without the checkout, the profiles lie beside it.
_BESIDE = Path(__file__).with_name("profiles")
PROFILES = _BESIDE if _BESIDE.is_dir() else CHECKOUT / "agent/edgeagg_agent/profiles"


@dataclass(frozen=True, slots=True)
class PatternSpec:
    """What the meter's totalisers do wrong, seconds behind `start_ms`."""

    name: str
    at_s: float
    for_s: float | None  # None = as long as it lasted where it was seen


@dataclass(frozen=True, slots=True)
class MeterSpec:
    """One [[line.meter]]."""

    name: str
    unit: int  # 0 = not Modbus: `plate` has the address
    profile: str  # "" = not Modbus
    ratios: Mapping[str, Fraction]
    initial_kwh: Fraction
    load: str | None
    scale_kw: float
    children: tuple[str, ...]
    loss_percent: Fraction
    dead: bool
    csv: Path | None = None  # instead of a load
    pattern: PatternSpec | None = None
    plate: Nameplate | None = None  # DL/T 645 or CJ/T 188
    baud: int | None = None  # None = the line's; it hears no other
    format: str | None = None
    turnaround_ms: tuple[float, float] | None = None
    same_unit: bool = False  # it may have the unit id or address of another one


@dataclass(frozen=True, slots=True)
class LineSpec:
    """One [[line]]: serial, Modbus TCP or serial behind a TCP port."""

    name: str
    link: Path | None
    baud: int
    format: str
    turnaround_ms: tuple[float, float]
    tcp: int | None
    meters: tuple[MeterSpec, ...]
    rtu_tcp: int | None = None  # the raw port of a serial server
    ascii_mode: bool = False

    @property
    def formats(self) -> dict[int, str]:
        """Return the character format at each baud rate of the line's meters."""
        return {meter.baud or self.baud: meter.format or self.format for meter in self.meters} | {
            self.baud: self.format
        }


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """A site file."""

    seed: int
    start_ms: int
    day_speed: float
    profiles: Path
    lines: tuple[LineSpec, ...]
    faults: tuple[FaultSpec, ...] = ()
    more_profiles: tuple[Path, ...] = ()  # looked into first


def load_site(path: Path) -> SiteSpec:
    """Read a site file."""
    return parse_site(read_toml(path), where=str(path), folder=path.parent)


def parse_site(document: Mapping[str, Any], *, where: str, folder: Path = CHECKOUT) -> SiteSpec:
    """Check a site's tables; `where` names the file, paths in it are relative to `folder`."""
    table = Table(where, dict(document))
    lines = table.take("line", list)
    profiles = table.take("profiles", str, None)
    spec = SiteSpec(
        seed=table.take("seed", int, 1),
        start_ms=table.take("start_ms", int),
        day_speed=float(table.take("day_speed", (int, float), 1)),
        profiles=PROFILES if profiles is None else folder / profiles,
        lines=tuple(
            _line(Table(f"{where}: line {number}", entry), folder)
            for number, entry in enumerate(lines, start=1)
        ),
        faults=parse_faults(table.take("fault", list, []), where=where),
    )
    table.finish()
    check_site(where, spec)
    return spec


def check_site(where: str, spec: SiteSpec) -> None:
    """Refuse what is wrong with the site as a whole."""
    if not 0 < spec.day_speed <= 86_400:
        raise SimError(f'{where}: "day_speed" = {spec.day_speed}, more than 0 to 86400 expected')
    for line in spec.lines:
        _check_line(f"{where}: line {line.name}", line)
    _check_names(where, spec)
    _check_targets(where, spec)


def add_faults(spec: SiteSpec, path: Path) -> SiteSpec:
    """Add the [[fault]] tables of a scenario file to a site."""
    table = Table(str(path), read_toml(path))
    faults = parse_faults(table.take("fault", list), where=str(path))
    table.finish()
    spec = replace(spec, faults=spec.faults + faults)
    _check_targets(str(path), spec)
    return spec


def _check_targets(where: str, spec: SiteSpec) -> None:
    for fault in spec.faults:
        hit = [line for line in spec.lines if fault.target in (line.name, *_names(line))]
        if not hit:
            raise SimError(f'{where}: fault {fault.kind}: no line or meter "{fault.target}"')
        if hit[0].tcp is not None and not KINDS[fault.kind].tcp:
            possible = ", ".join(name for name, kind in KINDS.items() if kind.tcp)
            raise SimError(
                f"{where}: fault {fault.kind}: not possible on Modbus TCP ({possible} are)"
            )


def _names(line: LineSpec) -> list[str]:
    return [meter.name for meter in line.meters]


def _line(table: Table, folder: Path) -> LineSpec:
    name = table.take("name", str)
    table.where = f"{table.where} ({name})"
    link, tcp = table.take("link", str, None), table.take("tcp", int, None)
    rtu_tcp = table.take("rtu_tcp", int, None)
    if (link, tcp, rtu_tcp).count(None) != 2:
        raise SimError(
            f'{table.where}: either "link" (serial) or "tcp" (port) expected, or "rtu_tcp" (port '
            "of a serial server)"
        )
    spec = LineSpec(
        name=name,
        link=None if link is None else Path(link),
        baud=table.take("baud", int, 9600),
        format=table.take("format", str, "8N1"),
        turnaround_ms=_range(table, "turnaround_ms", (10.0, 25.0)),
        tcp=tcp,
        rtu_tcp=rtu_tcp,
        ascii_mode=_mode(table),
        meters=tuple(
            _meter(Table(f"{table.where}, meter {number}", entry), folder)
            for number, entry in enumerate(table.take("meter", list), start=1)
        ),
    )
    table.finish()
    if spec.format.startswith("7") and not spec.ascii_mode:
        raise SimError(f'{table.where}: format "{spec.format}": 7 data bits need mode = "ascii"')
    return spec


def _mode(table: Table) -> bool:
    mode = table.take("mode", str, "rtu")
    if mode not in ("rtu", "ascii"):
        raise SimError(f'{table.where}: mode "{mode}": rtu or ascii expected')
    return bool(mode == "ascii")


def _meter(table: Table, folder: Path) -> MeterSpec:
    name = table.take("name", str)
    table.where = f"{table.where} ({name})"
    plate = _plate(table)
    unit, profile = (0, "") if plate is not None else _modbus(table)
    csv = table.take("csv", str, None)
    spec = MeterSpec(
        name=name,
        unit=unit,
        profile=profile,
        ratios=_ratios(Table(f"{table.where}, ratios", table.take("ratios", dict, {}))),
        initial_kwh=_exact(table.take("initial_kwh", (int, float), 0)),
        load=table.take("load", str, None),
        scale_kw=float(table.take("scale_kw", (int, float), 10)),
        children=tuple(map(str, table.take("children", list, []))),
        loss_percent=_exact(table.take("loss_percent", (int, float), 0)),
        dead=table.take("dead", bool, default=False),
        csv=None if csv is None else folder / csv,
        pattern=_pattern(table),
        plate=plate,
        baud=table.take("baud", int, None),
        format=table.take("format", str, None),
        turnaround_ms=_range(table, "turnaround_ms", None),
        same_unit=table.take("same_unit", bool, default=False),
    )
    table.finish()
    _check_meter(table.where, spec)
    return spec


def _modbus(table: Table) -> tuple[int, str]:
    """Take unit id and profile."""
    unit, models = table.take("unit", int), table.take("sunspec", list, None)
    if not 1 <= unit <= 247:
        raise SimError(f'{table.where}: "unit" = {unit}, 1 to 247 expected')
    if models is not None:
        return unit, sunspec_name(models, table.where)
    return unit, table.take("profile", str)


def _plate(table: Table) -> Nameplate | None:
    """Take protocol and address; None = Modbus."""
    protocol = table.take("protocol", str, "modbus")
    if protocol == "modbus":
        return None
    if protocol not in ADDRESS_DIGITS:
        allowed = ", ".join(("modbus", *ADDRESS_DIGITS))
        raise SimError(f'{table.where}: protocol "{protocol}" is none of {allowed}')
    plate = Nameplate(
        protocol=protocol,
        address=checked_address(table.where, protocol, table.take("address", str)),
        medium=table.take("medium", str, "water") if protocol == "cjt188" else "",
        preamble=table.take("preamble", int, 4),
        heat_bytes=table.take("heat_bytes", int, 46) if protocol == "cjt188" else 46,
    )
    if plate.medium and plate.medium not in MEDIA:
        raise SimError(f'{table.where}: medium "{plate.medium}" is none of {", ".join(MEDIA)}')
    if not 0 <= plate.preamble <= 4:
        raise SimError(f'{table.where}: "preamble" = {plate.preamble}, 0 to 4 expected')
    if plate.heat_bytes not in (43, 46):
        raise SimError(f'{table.where}: "heat_bytes" = {plate.heat_bytes}, 43 or 46 expected')
    return plate


def _check_meter(where: str, spec: MeterSpec) -> None:
    if spec.load is not None and spec.load not in LOADS:
        raise SimError(f'{where}: load "{spec.load}" is none of {", ".join(LOADS)}')
    if spec.load is not None and spec.csv is not None:
        raise SimError(f'{where}: either "load" or "csv" expected')
    if spec.load is None and spec.csv is None and not spec.children and not spec.dead:
        raise SimError(f'{where}: "load" or "children" expected')
    if spec.plate is not None and spec.ratios:
        raise SimError(f'{where}: "ratios" are for Modbus meters with a profile')


def _pattern(table: Table) -> PatternSpec | None:
    name = table.take("pattern", str, None)
    at_s = float(table.take("at_s", (int, float), 0))
    for_s = table.take("for_s", (int, float), None)
    if name is None:
        return None
    if name not in PATTERNS or name == "brown_out":
        allowed = ", ".join(known for known in PATTERNS if known != "brown_out")
        raise SimError(f'{table.where}: pattern "{name}" is none of {allowed}')
    if at_s < 0 or (for_s is not None and for_s < 0):
        raise SimError(f'{table.where}: "at_s" and "for_s" may not be below 0')
    return PatternSpec(name, at_s, for_s)


def _ratios(table: Table) -> dict[str, Fraction]:
    return {name: _exact(table.take(name, (int, float))) for name in table.names()}


def _exact(number: float) -> Fraction:
    """Take a number as it is written in the file: 1.5 is 3/2, 0.1 is 1/10."""
    return Fraction(str(number))


@overload
def _range(table: Table, key: str, default: tuple[float, float]) -> tuple[float, float]: ...
@overload
def _range(table: Table, key: str, default: None) -> tuple[float, float] | None: ...
def _range(
    table: Table, key: str, default: tuple[float, float] | None
) -> tuple[float, float] | None:
    pair = table.take(key, list, None)
    match pair:
        case None:
            return default
        case [(int() | float()) as low, (int() | float()) as high] if 0 <= low <= high:
            return float(low), float(high)
        case _:
            raise SimError(f'{table.where}: "{key}" = {pair}, [smallest, largest] expected')


def _check_line(where: str, line: LineSpec) -> None:
    for baud, format_ in line.formats.items():
        try:
            Pace.of(baud=baud, format=format_)
        except SimError as error:
            raise SimError(f"{where}: {error}") from error
    plain = line.tcp is not None or line.ascii_mode
    for meter in line.meters:
        of = f"{where}, meter {meter.name}"
        if meter.plate is not None and plain:
            raise SimError(f"{of}: {meter.plate.protocol} is for serial lines that are not ascii")
        if line.link is None and (meter.baud, meter.format) != (None, None):
            raise SimError(f'{of}: "baud" and "format" of a meter are for lines with a "link"')
        # A pty does not tell formats apart, so a request's baud rate must tell its format.
        if (meter.format or line.format) != line.formats[meter.baud or line.baud]:
            raise SimError(f"{of}: another format at {meter.baud or line.baud} Bd than the line")
    _check_addresses(where, line)


def _check_addresses(where: str, line: LineSpec) -> None:
    """Refuse two meters with one unit id or address, but where the file says that it is meant."""
    taken: set[tuple[str, str]] = set()
    for meter in line.meters:
        plate = meter.plate
        word, number = ("unit", str(meter.unit)) if plate is None else ("address", plate.address)
        if (word, number) in taken and (not meter.same_unit or line.tcp is not None):
            raise SimError(f"{where}: {word} {number} is used twice")
        taken.add((word, number))


def _check_names(where: str, spec: SiteSpec) -> None:
    """Refuse names used twice, children that are not there and trees that are none."""
    meters = [meter for line in spec.lines for meter in line.meters]
    names = [meter.name for meter in meters]
    for known in ([line.name for line in spec.lines], names):
        for name in known:
            if known.count(name) > 1:
                raise SimError(f'{where}: the name "{name}" is used twice')
    parents: dict[str, str] = {}
    for meter in meters:
        for child in meter.children:
            if child not in names:
                raise SimError(f'{where}: meter {meter.name}: no meter "{child}" for "children"')
            if child in parents:
                raise SimError(f"{where}: meter {child} is below {parents[child]} already")
            parents[child] = meter.name
    for name in names:
        _refuse_circle(where, name, parents)


def _refuse_circle(where: str, name: str, parents: Mapping[str, str]) -> None:
    above: str | None = name
    for _ in parents:
        above = parents.get(above) if above is not None else None
    if above is not None and above in parents:
        raise SimError(f'{where}: meter {above}: a meter cannot be below itself, see "children"')
