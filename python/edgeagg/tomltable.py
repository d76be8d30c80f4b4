"""Read TOML tables strictly: every complaint names the file, the whole key and what is allowed.

Owns the wording of those complaints. It knows no profile and no site file.
"""

from __future__ import annotations

import datetime as dt
import difflib
import re
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

from edgeagg.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


def hint(word: str, allowed: Iterable[str]) -> str:
    """Say what is allowed, the likely meaning first."""
    choices = sorted(allowed)
    close = difflib.get_close_matches(word, choices, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    return f"{meant}allowed: {', '.join(choices) or 'none'}"


class Table:
    """One table of a file; every complaint names the file and the whole key."""

    def __init__(self, file: Path, key: str, values: object, allowed: str) -> None:
        """Take `values` found at `key`; refuse keys that are not in `allowed`."""
        self._file, self._key = file, key
        if not isinstance(values, dict):
            raise ConfigError(file, key, repr(values), "a table")
        self._values: dict[str, object] = values
        for name in values:
            if name not in allowed.split():
                raise self.error(name, "unknown key", hint(name, allowed.split()))

    def error(self, name: str, found: str, allowed: str) -> ConfigError:
        """Build the complaint about key `name`."""
        key = f"{self._key}.{name}" if self._key else name
        return ConfigError(self._file, key, found, allowed)

    def has(self, name: str) -> bool:
        """Tell whether the key is there."""
        return name in self._values

    def _value(self, name: str, default: object, allowed: str) -> object:
        value = self._values.get(name, default)
        if value is None:
            raise self.error(name, "missing", allowed)
        return value

    def text(self, name: str, allowed: Sequence[str] = (), default: str | None = None) -> str:
        """Read a text, one of `allowed` when that is given; without default it is required."""
        rule = f"one of {', '.join(allowed)}" if allowed else "text"
        value = self._value(name, default, rule)
        if not isinstance(value, str) or not value.strip() or (allowed and value not in allowed):
            raise self.error(name, repr(value), rule)
        return value

    def texts(self, name: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Read a list of texts."""
        value = self._value(name, default, "a list of texts")
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise self.error(name, repr(value), "a list of texts")
        return tuple(value)

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """Read a whole number from `low` to `high`."""
        rule = f"a whole number from {low} to {high}"
        value = self._value(name, default, rule)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(name, repr(value), rule)
        return value

    def boolean(self, name: str, *, default: bool | None = None) -> bool:
        """Read true or false."""
        value = self._value(name, default, "true or false")
        if not isinstance(value, bool):
            raise self.error(name, repr(value), "true or false")
        return value

    def number(self, name: str, default: Fraction | None = None) -> Fraction:
        """Read a number exactly as it is written."""
        value = self._value(name, default, "a number")
        if isinstance(value, Decimal) and value.is_finite():
            return Fraction(value)
        if isinstance(value, int | Fraction) and not isinstance(value, bool):
            return Fraction(value)
        raise self.error(name, str(value), "a number")

    def date(self, name: str, default: dt.date | None = None) -> dt.date:
        """Read a day, written 2026-07-01 without quotes."""
        value = self._value(name, default, "a day such as 2026-07-01")
        if not isinstance(value, dt.date) or isinstance(value, dt.datetime):
            raise self.error(name, repr(value), "a day such as 2026-07-01")
        return value

    def numbers(self, name: str) -> tuple[Fraction, ...]:
        """Read a list of numbers, at least one, exactly as they are written."""
        rule = "a list of numbers"
        values = self._value(name, None, rule)
        if not isinstance(values, list) or not values:
            raise self.error(name, repr(values), rule)
        return tuple(
            Table(self._file, self._key, {name: value}, name).number(name) for value in values
        )

    def integers(self, name: str, low: int, high: int) -> tuple[int, ...]:
        """Read a list of whole numbers from `low` to `high`, at least one."""
        rule = f"a list of whole numbers from {low} to {high}"
        values = self._value(name, None, rule)
        if (
            not isinstance(values, list)
            or not values
            or not all(type(value) is int and low <= value <= high for value in values)
        ):
            raise self.error(name, repr(values), rule)
        return tuple(values)

    def spans(self, name: str) -> tuple[tuple[int, int, int], ...]:
        """Read an optional list of register spans, [function, start, count] each."""
        rule = "a list of [function, start, count] such as [3, 0x14, 4]"
        values = self._value(name, (), rule)
        if not isinstance(values, list | tuple) or not all(map(_is_span, values)):
            raise self.error(name, repr(values), rule)
        return tuple((function, start, count) for function, start, count in values)

    def contents(self, name: str, registers: int) -> frozenset[int]:
        """Read an optional list of unsigned contents of that many registers."""
        high = 2 ** (16 * registers) - 1
        rule = f"a list of register contents from 0 to 0x{high:X}"
        values = self._value(name, (), rule)
        if not isinstance(values, list | tuple) or not all(
            type(value) is int and 0 <= value <= high for value in values
        ):
            raise self.error(name, repr(values), rule)
        return frozenset(values)

    def table(self, name: str, allowed: str, default: object = None) -> Table:
        """Read a table with the keys in `allowed`, separated by spaces."""
        key = f"{self._key}.{name}" if self._key else name
        return Table(self._file, key, self._value(name, default, "a table"), allowed)

    def tables(self, name: str, allowed: str) -> list[tuple[str, Table]]:
        """Read an optional table of tables, with their names."""
        outer = self._value(name, {}, "a table")
        if not isinstance(outer, dict):
            raise self.error(name, repr(outer), "a table")
        for key in outer:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", key):
                raise self.error(f"{name}.{key}", repr(key), "a name of a-z, 0-9 and _")
        return [(k, Table(self._file, f"{name}.{k}", v, allowed)) for k, v in outer.items()]

    def mappings(self, name: str) -> list[tuple[str, dict[str, object]]]:
        """Read a table of tables whose names and keys are free."""
        outer = self._value(name, None, "a table of tables")
        if not isinstance(outer, dict) or not all(isinstance(v, dict) for v in outer.values()):
            raise self.error(name, repr(outer), "a table of tables")
        return list(outer.items())

    def array(self, name: str, allowed: str) -> list[Table]:
        """Read an optional list of tables."""
        values = self._value(name, (), "a list of tables")
        if not isinstance(values, list | tuple):
            raise self.error(name, repr(values), f"a list of tables, [[{name}]]")
        prefix = f"{self._key}." if self._key else ""
        return [
            Table(self._file, f"{prefix}{name}[{_label(value, place)}]", value, allowed)
            for place, value in enumerate(values)
        ]


def _is_span(value: object) -> bool:
    """Tell whether this is function 3 or 4 and at least one register of those that exist."""
    if not isinstance(value, list) or len(value) != 3 or any(type(v) is not int for v in value):
        return False
    function, start, count = value
    return function in (3, 4) and start >= 0 and count >= 1 and start + count <= 0x10000


def _label(value: object, place: int) -> str:
    """Call an entry of a list by its name if it has one: nobody counts tables in a file."""
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) and name else str(place)
