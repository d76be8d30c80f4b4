"""TOML files of the bench: reading them, and tables whose every key is checked.

Owns the wording of errors about a file: one line, the place first.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from hil_tests.sim.errors import SimError

_REQUIRED: Any = object()


class Table:
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


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SimError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SimError(f"{path}: {error}") from error
