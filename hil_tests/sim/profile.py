"""Profile files as data: what a meter's registers look like from the outside.

Owns the reading of `<name>.toml` for the simulator. It takes the keys it needs and ignores the
others: judging a profile is the agent's business, and a second judge here would only drift.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from hil_tests.sim.errors import SimError
from hil_tests.sim.registers import ORDERS, REGISTER_COUNTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Register:
    """Where a number stands and how it is written: PDU address, type, byte order."""

    function: int
    address: int
    kind: str
    order: str
    text_count: int = 0  # of kind "str"

    @property
    def count(self) -> int:
        """Number of 16-bit registers."""
        return self.text_count or REGISTER_COUNTS[self.kind]


@dataclass(frozen=True, slots=True)
class Part:
    """The second part of a value: raw x scale is added, before the ratios."""

    register: Register
    scale: Fraction


@dataclass(frozen=True, slots=True)
class Point:
    """One quantity: ((raw + offset) x scale + part) x ratios = value in `unit`."""

    name: str
    register: Register
    scale: Fraction
    ratios: tuple[str, ...]
    unit: str
    resolution: Fraction
    is_totaliser: bool
    offset: Fraction = Fraction(0)
    part: Part | None = None
    invalid: tuple[int, ...] = ()  # what the register reads where there is no such quantity


@dataclass(frozen=True, slots=True)
class Ratio:
    """A register that tells a ratio: raw x scale, or 10^raw x scale, by which values grow."""

    register: Register
    scale: Fraction
    is_power: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """A register by which the model is recognised; `low` is the smallest raw value it may have.

    An exact one may have no other value, whatever else stands there.
    """

    register: Register
    low: Fraction
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Label:
    """Registers that say what the meter is, as text or as a number: serial number, firmware."""

    name: str
    register: Register


Span = tuple[int, int, int]  # function, first register, number of registers


@dataclass(frozen=True, slots=True)
class Profile:
    """The part of a profile file that a simulated meter needs."""

    name: str
    registers_max: int
    holes_readable: bool
    points: tuple[Point, ...]
    ratios: Mapping[str, Ratio]
    identities: tuple[Identity, ...]
    protocol: str = "modbus"  # others have items, which are no registers: no points here
    kind: str = "electricity"
    items_count: int = 0
    labels: tuple[Label, ...] = ()
    illegal: tuple[Span, ...] = ()  # never answered
    proven: tuple[Span, ...] = ()  # answered in one piece, whatever is known of holes
    sunspec: tuple[tuple[int, ...], int] | None = None  # one of these models, from this register


def load_profile(name: str, directory: Path) -> Profile:
    """Read `<directory>/<name>.toml`."""
    path = directory / f"{name}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        known = ", ".join(sorted(found.stem for found in directory.glob("*.toml"))) or "none"
        raise SimError(f'{path}: no profile "{name}" here ({known} found)') from error
    return parse_profile(name, text, where=str(path))


def find_profile(name: str, folders: Sequence[Path]) -> Profile:
    """Read a profile from the first of the folders that has it."""
    found = (folder for folder in folders if (folder / f"{name}.toml").is_file())
    return load_profile(name, next(found, folders[-1]))


def parse_profile(name: str, text: str, *, where: str) -> Profile:
    """Build a profile from the text of its file; `where` names the file in messages."""
    try:
        table = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise SimError(f"{where}: {error}") from error
    try:
        return _build(name, table)
    except KeyError as error:
        raise SimError(f"{where}: {error.args[0]} is missing or unknown") from error


def _build(name: str, table: dict[str, Any]) -> Profile:
    limits, protocol = table.get("limits", {}), table.get("protocol", "modbus")
    points = table["points"]
    on_modbus = protocol == "modbus"
    chain = table.get("sunspec")
    return Profile(
        name=name,
        registers_max=int(limits.get("registers_max", 125)),
        holes_readable=limits.get("holes") == "readable",
        points=tuple(_point(key, entry) for key, entry in points.items() if on_modbus),
        ratios={key: _ratio(entry) for key, entry in table.get("ratios", {}).items()},
        identities=tuple(_identity(entry) for entry in table.get("identify", ()) if on_modbus),
        protocol=protocol,
        kind=table.get("kind", "electricity"),
        items_count=0 if on_modbus else len(points),
        labels=tuple(
            Label(key, _register(entry))
            for key, entry in table.get("identity", {}).items()
            if on_modbus
        ),
        illegal=_spans(limits, "illegal"),
        proven=_spans(limits, "proven"),
        sunspec=None if chain is None else (tuple(chain["models"]), chain["start"]),
    )


def _spans(limits: dict[str, Any], key: str) -> tuple[Span, ...]:
    return tuple((function, start, count) for function, start, count in limits.get(key, ()))


def _ratio(entry: dict[str, Any]) -> Ratio:
    is_power = entry.get("op", "multiply") == "pow10"
    return Ratio(_register(entry), Fraction(entry.get("scale", 1)), is_power)


def _identity(entry: dict[str, Any]) -> Identity:
    values = entry.get("equals", ())
    low = values[0] if values else entry.get("min", 0)
    return Identity(_register(entry), Fraction(low), exact=bool(values))


def _point(name: str, entry: dict[str, Any]) -> Point:
    part = entry.get("plus")
    return Point(
        name=name,
        register=_register(entry),
        scale=Fraction(entry.get("scale", 1)),
        ratios=tuple(entry.get("ratios", ())),
        unit=entry["unit"],
        resolution=Fraction(entry["resolution"]),
        is_totaliser=entry.get("kind") == "totaliser",
        offset=Fraction(entry.get("offset", 0)),
        part=None
        if part is None
        else Part(
            _register({"function": entry["function"], **part}), Fraction(part.get("scale", 1))
        ),
        invalid=tuple(entry.get("invalid", ())),
    )


def _register(entry: dict[str, Any]) -> Register:
    kind, order = entry["type"], entry.get("order", "ABCD")
    if kind not in REGISTER_COUNTS and kind != "str":
        raise KeyError(f'type "{kind}"')
    if order not in ORDERS:
        raise KeyError(f'order "{order}"')
    count = entry["count"] if kind == "str" else 0
    return Register(entry["function"], entry["register"], kind, order, count)
