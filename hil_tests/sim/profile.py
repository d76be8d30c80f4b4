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
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Register:
    """Where a number stands and how it is written: PDU address, type, byte order."""

    function: int
    address: int
    kind: str
    order: str

    @property
    def count(self) -> int:
        """Number of 16-bit registers."""
        return REGISTER_COUNTS[self.kind]


@dataclass(frozen=True, slots=True)
class Point:
    """One quantity: raw x scale x ratios = value in `unit`."""

    name: str
    register: Register
    scale: Fraction
    ratios: tuple[str, ...]
    unit: str
    resolution: Fraction
    is_totaliser: bool


@dataclass(frozen=True, slots=True)
class Ratio:
    """A register that tells a transformer ratio: raw x scale = ratio."""

    register: Register
    scale: Fraction


@dataclass(frozen=True, slots=True)
class Identity:
    """A register by which the model is recognised; `low` is the smallest raw value it may have."""

    register: Register
    low: Fraction


@dataclass(frozen=True, slots=True)
class Profile:
    """The part of a profile file that a simulated meter needs."""

    name: str
    registers_max: int
    holes_readable: bool
    points: tuple[Point, ...]
    ratios: Mapping[str, Ratio]
    identities: tuple[Identity, ...]


def load_profile(name: str, directory: Path) -> Profile:
    """Read `<directory>/<name>.toml`."""
    path = directory / f"{name}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        known = ", ".join(sorted(found.stem for found in directory.glob("*.toml"))) or "none"
        raise SimError(f'{path}: no profile "{name}" here ({known} found)') from error
    return parse_profile(name, text, where=str(path))


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
    limits = table.get("limits", {})
    return Profile(
        name=name,
        registers_max=int(limits.get("registers_max", 125)),
        holes_readable=limits.get("holes") == "readable",
        points=tuple(_point(key, entry) for key, entry in table["points"].items()),
        ratios={
            key: Ratio(_register(entry), Fraction(entry.get("scale", 1)))
            for key, entry in table.get("ratios", {}).items()
        },
        identities=tuple(
            Identity(_register(entry), Fraction(entry.get("min", 0)))
            for entry in table.get("identify", ())
        ),
    )


def _point(name: str, entry: dict[str, Any]) -> Point:
    return Point(
        name=name,
        register=_register(entry),
        scale=Fraction(entry.get("scale", 1)),
        ratios=tuple(entry.get("ratios", ())),
        unit=entry["unit"],
        resolution=Fraction(entry["resolution"]),
        is_totaliser=entry.get("kind") == "totaliser",
    )


def _register(entry: dict[str, Any]) -> Register:
    kind, order = entry["type"], entry.get("order", "ABCD")
    if kind not in REGISTER_COUNTS:
        raise KeyError(f'type "{kind}"')
    if order not in ORDERS:
        raise KeyError(f'order "{order}"')
    return Register(entry["function"], entry["register"], kind, order)
