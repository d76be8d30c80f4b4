"""What a platform's database holds, read by plain SQL; nothing here is shared with the receiver.

Reads SQLite and PostgreSQL, whose tables have the same names.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import msgpack

OWN_METER = "gateway"
"""The meter whose points are the gateway's own measurements."""


@dataclass(frozen=True, slots=True)
class StoredPoint:
    """One column of a group: value = mantissa x 10**exponent."""

    name: str
    exponent: int
    kind: str = "gauge"
    unit: str = ""  # that of the profile, if not told


@dataclass(frozen=True, slots=True)
class Group:
    """The points of one meter that are read together."""

    number: int
    meter: str
    period_ms: int
    points: tuple[StoredPoint, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """One slot with its values, None where there is a reason instead."""

    due_ms: int
    at_ms: int
    mantissas: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of slots that nobody read."""

    first_due_ms: int
    last_due_ms: int
    slot_count: int
    reason: int


@dataclass(frozen=True, slots=True)
class Window:
    """The energies of a closed window [start, start + length), None where there is none."""

    length_ms: int
    start_ms: int
    energies: tuple[int | None, ...]

    @property
    def end_ms(self) -> int:
        """The first moment behind it."""
        return self.start_ms + self.length_ms


@dataclass(frozen=True, slots=True)
class Audit:
    """How the course of the totaliser at `point` in its group was bridged; values are mantissas."""

    point: int
    kind: int
    closing_ms: int
    closing: int
    opening_ms: int
    opening: int
    energy: int


@dataclass(frozen=True, slots=True)
class Guard:
    """What the gateway says that a totaliser can do, in mantissas."""

    wraps_at: int | None
    rate_max_per_h: int
    resolution: int


@dataclass(frozen=True, slots=True)
class Stored:
    """Everything of all gateways; `guards` by meter, period and point."""

    groups: tuple[Group, ...]
    readings: dict[Group, list[Reading]] = field(default_factory=dict)
    gaps: dict[Group, list[Gap]] = field(default_factory=dict)
    digests: dict[tuple[int, int], bytes] = field(default_factory=dict)  # by epoch and sequence
    conflicts: int = 0
    windows: dict[Group, list[Window]] = field(default_factory=dict)
    audits: dict[Group, list[Audit]] = field(default_factory=dict)
    guards: dict[tuple[str, int, str], Guard] = field(default_factory=dict)


_GROUPS = "SELECT id, meter, period_ms, points FROM groups ORDER BY id"
_READINGS = "SELECT group_id, due_ms, at_ms, mantissas FROM readings ORDER BY group_id, due_ms"
_GAPS = (
    "SELECT group_id, first_due_ms, last_due_ms, slot_count, reason FROM gaps"
    " ORDER BY group_id, first_due_ms"
)
_WINDOWS = (
    "SELECT group_id, length_ms, start_ms, energies FROM windows"
    " ORDER BY group_id, length_ms, start_ms"
)
_AUDITS = (
    "SELECT group_id, point, kind, closing_ms, closing, opening_ms, opening, energy FROM audits"
    " ORDER BY group_id, point, closing_ms, opening_ms"
)
_CATALOGUES = "SELECT body FROM catalogues ORDER BY received_ms"
_BATCHES = "SELECT epoch, sequence, digest FROM batches"
_CONFLICTS = "SELECT count(*) FROM quarantine WHERE reason LIKE '%with other bytes%'"
_THROUGH = "SELECT epoch, sequence FROM batches"
_LOST = "SELECT sequence FROM batches WHERE kind = 2"

_NEEDS_WRITING = (sqlite3.SQLITE_READONLY_ROLLBACK, sqlite3.SQLITE_READONLY_RECOVERY)

Ask = Callable[[str], Sequence[Sequence[Any]]]


def load(store: str) -> Stored:
    """Read everything from the database at `store`, as the receiver's --store names it."""
    return _stored(_ask(store))


def count_batches(store: str) -> int:
    """Count the batches that are committed now; 0 while the database has no tables yet."""
    try:
        return len(_ask(store)(_THROUGH))
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return 0


def count_lost(store: str) -> int:
    """Count the batches that the gateway declared lost."""
    return len(_ask(store)(_LOST))


def _ask(store: str) -> Ask:
    if store.startswith("sqlite:///"):
        file = Path(store.removeprefix("sqlite:///"))
        return lambda statement: ask_sqlite(file, statement)
    return lambda statement: asyncio.run(_ask_postgres(store, statement))


def ask_sqlite(file: Path, statement: str) -> Sequence[Sequence[Any]]:
    """Ask the database in `file`, which nothing is written into."""
    try:
        return _ask_file(f"file:{file}?mode=ro", statement)
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in _NEEDS_WRITING:
            raise
    # who wrote last was killed in the middle, and what it began is to be rolled back by whoever
    # opens the file for writing; that is for the next receiver to do, so a copy is asked
    with tempfile.TemporaryDirectory() as folder:
        for part in (file, *(file.with_name(f"{file.name}-{log}") for log in ("wal", "journal"))):
            if part.exists():
                shutil.copyfile(part, Path(folder) / part.name)
        return _ask_file(f"file:{Path(folder) / file.name}?mode=rw", statement)


def _ask_file(uri: str, statement: str) -> Sequence[Sequence[Any]]:
    connection = sqlite3.connect(uri, uri=True, timeout=30)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


async def _ask_postgres(url: str, statement: str) -> Sequence[Sequence[Any]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


def _stored(ask: Ask) -> Stored:
    groups = {
        number: Group(
            number,
            meter,
            period_ms,
            tuple(
                StoredPoint(name, exponent, kind, unit)
                for name, unit, exponent, kind in _list(points)
            ),
        )
        for number, meter, period_ms, points in ask(_GROUPS)
    }
    stored = Stored(
        tuple(groups.values()),
        digests={(epoch, sequence): bytes(digest) for epoch, sequence, digest in ask(_BATCHES)},
        conflicts=int(ask(_CONFLICTS)[0][0]),
    )
    for number, due_ms, at_ms, mantissas in ask(_READINGS):
        reading = Reading(due_ms, at_ms, tuple(_list(mantissas)))
        stored.readings.setdefault(groups[number], []).append(reading)
    for number, length_ms, start_ms, energies in ask(_WINDOWS):
        window = Window(length_ms, start_ms, tuple(_list(energies)))
        stored.windows.setdefault(groups[number], []).append(window)
    for number, *audit in ask(_AUDITS):
        stored.audits.setdefault(groups[number], []).append(Audit(*audit))
    for (body,) in ask(_CATALOGUES):
        stored.guards.update(_guards(bytes(body)))
    for number, *gap in ask(_GAPS):
        stored.gaps.setdefault(groups[number], []).append(Gap(*gap))
    return stored


def _guards(catalogue: bytes) -> Iterator[tuple[tuple[str, int, str], Guard]]:
    """Yield the guards of a catalogue: only its second version has any."""
    version, *items = msgpack.unpackb(catalogue)
    if version == 1:
        return
    for meter, period_ms, points, *_ in items[3]:
        for name, _, _, _, *judged in points:
            if judged and judged[0] is not None:
                yield (meter, period_ms, name), Guard(*judged[0])


def _list(column: str | Sequence[Any]) -> Sequence[Any]:
    """Return a column that is an array; SQLite keeps those as JSON text."""
    values: Sequence[Any] = json.loads(column) if isinstance(column, str) else column
    return values
