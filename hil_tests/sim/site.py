"""The site file of the simulator: lines, meters, and the tree they form.

Owns the file's keys: each is checked here, and an unknown one is an error. It starts nothing;
`hil_tests.sim.stage` plays a site.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil_tests.sim.errors import SimError
from hil_tests.sim.line import Pace
from hil_tests.sim.loads import LOADS

if TYPE_CHECKING:
    from collections.abc import Mapping

CHECKOUT = Path(__file__).parents[2]
_REQUIRED: Any = object()


@dataclass(frozen=True, slots=True)
class MeterSpec:
    """One [[line.meter]]."""

    name: str
    unit: int
    profile: str
    ratios: Mapping[str, Fraction]
    initial_kwh: Fraction
    load: str | None
    scale_kw: float
    children: tuple[str, ...]
    loss_percent: Fraction
    dead: bool


@dataclass(frozen=True, slots=True)
class LineSpec:
    """One [[line]]: serial if it has a link, Modbus TCP if it has a port."""

    name: str
    link: Path | None
    baud: int
    format: str
    turnaround_ms: tuple[float, float]
    tcp: int | None
    meters: tuple[MeterSpec, ...]


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """A site file."""

    seed: int
    start_ms: int
    day_speed: float
    profiles: Path
    lines: tuple[LineSpec, ...]


class _Table:
    """One table of the file; `take` hands out its keys, `finish` refuses what is left."""

    def __init__(self, where: str, entries: object) -> None:
        if not isinstance(entries, dict):
            raise SimError(f"{where}: a table expected")
        self.where = where
        self._left = dict(entries)
        self._known: list[str] = []

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = _REQUIRED) -> Any:  # noqa: ANN401
        """Return the value of `key`, which must be a `kind`; bool is no number here."""
        self._known.append(key)
        value = self._left.pop(key, default)
        if value is _REQUIRED:
            raise SimError(f'{self.where}: "{key}" is missing')
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if value is not default and (
            not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)
        ):
            wanted = " or ".join(one.__name__ for one in kinds)
            raise SimError(f'{self.where}: "{key}" = {value!r}, {wanted} expected')
        return value

    def names(self) -> list[str]:
        """Return the keys not taken yet, for tables whose keys are names."""
        return list(self._left)

    def finish(self) -> None:
        """Refuse unknown keys."""
        for key in self._left:
            raise SimError(f'{self.where}: unknown key "{key}" ({", ".join(self._known)} allowed)')


def load_site(path: Path) -> SiteSpec:
    """Read a site file."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SimError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SimError(f"{path}: {error}") from error
    return parse_site(document, where=str(path))


def parse_site(document: Mapping[str, Any], *, where: str) -> SiteSpec:
    """Check a site's tables; `where` names the file in messages."""
    table = _Table(where, dict(document))
    lines = table.take("line", list)
    profiles = table.take("profiles", str, "agent/edgeagg_agent/profiles")
    spec = SiteSpec(
        seed=table.take("seed", int, 1),
        start_ms=table.take("start_ms", int),
        day_speed=float(table.take("day_speed", (int, float), 1)),
        profiles=CHECKOUT / profiles,
        lines=tuple(
            _line(_Table(f"{where}: line {number}", entry))
            for number, entry in enumerate(lines, start=1)
        ),
    )
    table.finish()
    if not 0 < spec.day_speed <= 86_400:
        raise SimError(f'{where}: "day_speed" = {spec.day_speed}, more than 0 to 86400 expected')
    _check_names(where, spec)
    return spec


def _line(table: _Table) -> LineSpec:
    name = table.take("name", str)
    table.where = f"{table.where} ({name})"
    link, tcp = table.take("link", str, None), table.take("tcp", int, None)
    if (link is None) == (tcp is None):
        raise SimError(f'{table.where}: either "link" (serial) or "tcp" (port) expected')
    spec = LineSpec(
        name=name,
        link=None if link is None else Path(link),
        baud=table.take("baud", int, 9600),
        format=table.take("format", str, "8N1"),
        turnaround_ms=_range(table, "turnaround_ms", (10.0, 25.0)),
        tcp=tcp,
        meters=tuple(
            _meter(_Table(f"{table.where}, meter {number}", entry))
            for number, entry in enumerate(table.take("meter", list), start=1)
        ),
    )
    table.finish()
    try:
        Pace.of(baud=spec.baud, format=spec.format)
    except SimError as error:
        raise SimError(f"{table.where}: {error}") from error
    units = [meter.unit for meter in spec.meters]
    if doubles := {unit for unit in units if units.count(unit) > 1}:
        raise SimError(f"{table.where}: unit {min(doubles)} is used twice")
    return spec


def _meter(table: _Table) -> MeterSpec:
    name = table.take("name", str)
    table.where = f"{table.where} ({name})"
    spec = MeterSpec(
        name=name,
        unit=table.take("unit", int),
        profile=table.take("profile", str),
        ratios=_ratios(_Table(f"{table.where}, ratios", table.take("ratios", dict, {}))),
        initial_kwh=_exact(table.take("initial_kwh", (int, float), 0)),
        load=table.take("load", str, None),
        scale_kw=float(table.take("scale_kw", (int, float), 10)),
        children=tuple(map(str, table.take("children", list, []))),
        loss_percent=_exact(table.take("loss_percent", (int, float), 0)),
        dead=table.take("dead", bool, default=False),
    )
    table.finish()
    if not 1 <= spec.unit <= 247:
        raise SimError(f'{table.where}: "unit" = {spec.unit}, 1 to 247 expected')
    if spec.load is not None and spec.load not in LOADS:
        raise SimError(f'{table.where}: load "{spec.load}" is none of {", ".join(LOADS)}')
    if spec.load is None and not spec.children and not spec.dead:
        raise SimError(f'{table.where}: "load" or "children" expected')
    return spec


def _ratios(table: _Table) -> dict[str, Fraction]:
    return {name: _exact(table.take(name, (int, float))) for name in table.names()}


def _exact(number: float) -> Fraction:
    """Take a number as it is written in the file: 1.5 is 3/2, 0.1 is 1/10."""
    return Fraction(str(number))


def _range(table: _Table, key: str, default: tuple[float, float]) -> tuple[float, float]:
    pair = table.take(key, list, list(default))
    match pair:
        case [(int() | float()) as low, (int() | float()) as high] if 0 <= low <= high:
            return float(low), float(high)
        case _:
            raise SimError(f'{table.where}: "{key}" = {pair}, [smallest, largest] expected')


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
