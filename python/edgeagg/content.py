"""A data batch, decoded: one row per meter and time.

The codec is the core's; here its tables are checked against the catalogue and given names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgeagg import _core, statement
from edgeagg.errors import FormatError
from edgeagg.model import Catalogue, Group, Quality

Mantissas = tuple[int | None, ...]

_READINGS, _WINDOWS, _GAPS = 1, 2, 3
_READING_LEAD = 2
_TIME_MAX_MS = 2**45  # the year 3084: a later time is a mistake, not a measurement
_QUALITIES = frozenset(int(quality) for quality in Quality)


@dataclass(frozen=True, slots=True)
class ReadingRow:
    """One slot of one group. Where a mantissa is None, its quality says why."""

    group: Group
    due_ms: int
    at_ms: int
    mantissas: Mantissas
    qualities: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WindowRow:
    """One window over one group; every column has one entry per point.

    `means` carry three more decimals than their points; `energies` are those of totalisers.
    """

    group: Group
    length_ms: int
    start_ms: int
    slots: Mantissas
    values: Mantissas
    minima: Mantissas
    maxima: Mantissas
    means: Mantissas
    firsts: Mantissas
    lasts: Mantissas
    energies: Mantissas
    covered_ms: Mantissas
    worst: Mantissas


@dataclass(frozen=True, slots=True)
class GapRow:
    """A run of slots that nobody read."""

    group: Group
    first_due_ms: int
    last_due_ms: int
    slot_count: int
    reason: int


@dataclass(frozen=True, slots=True)
class StatementRow:
    """What the gateway stated of a group's slots in [start, end)."""

    group: Group
    start_ms: int
    end_ms: int
    tally: statement.Tally


@dataclass(frozen=True, slots=True)
class Content:
    """All rows of one data batch, or of one statement."""

    readings: tuple[ReadingRow, ...]
    windows: tuple[WindowRow, ...]
    gaps: tuple[GapRow, ...]
    statements: tuple[StatementRow, ...] = ()

    def groups(self) -> list[Group]:
        """Return every group there are rows for, each once."""
        groups = [row.group for row in self.readings]
        groups += [row.group for row in self.windows]
        groups += [row.group for row in self.gaps]
        groups += [row.group for row in self.statements]
        # one object per group of the catalogue: hashing its points for every row would cost most
        return list(dict.fromkeys({id(group): group for group in groups}.values()))


def decode(codec: int, payload: bytes, catalogue: Catalogue) -> Content:
    """Decode a payload made under `catalogue`; raise FormatError when it does not fit it."""
    try:
        tables = _core.decode(codec, payload)
    except _core.CodecError as error:
        raise FormatError(f"payload: {error}") from None
    readings: list[ReadingRow] = []
    windows: list[WindowRow] = []
    gaps: list[GapRow] = []
    for kind, number, length_ms, _, columns in tables:
        if number >= len(catalogue.groups):
            raise FormatError(f"group {number} is not in the catalogue")
        group = catalogue.groups[number]
        if kind == _READINGS:
            readings.extend(_readings(group, columns))
        elif kind == _WINDOWS:
            windows.extend(_windows(group, length_ms, columns))
        elif kind == _GAPS:
            gaps.extend(_gaps(group, columns))
        else:
            raise FormatError(f"tables of kind {kind} have no place here yet")
    return Content(tuple(readings), tuple(windows), tuple(gaps))


def decode_statement(payload: bytes, catalogue: Catalogue) -> Content:
    """Decode a statement made under `catalogue`; raise FormatError when it does not fit it."""
    found = []
    for span, tally in statement.decode(payload):
        if span.group >= len(catalogue.groups):
            raise FormatError(f"group {span.group} is not in the catalogue")
        group = catalogue.groups[span.group]
        if not tally.registers.keys() <= set(group.totalisers):
            raise FormatError(f"meter {group.meter}: a register of a point that is no totaliser")
        row = StatementRow(group, _time(span.start_ms), _time(span.end_ms), tally)
        found.append(row)
    return Content((), (), (), tuple(found))


def _readings(group: Group, columns: Sequence[Sequence[int | None]]) -> Iterator[ReadingRow]:
    points = len(group.points)
    _check_width(group, columns, _READING_LEAD + 2 * points)
    for due_ms, delay_ms, *cells in zip(*columns, strict=True):
        qualities = tuple(_quality(quality) for quality in cells[points:])
        mantissas = tuple(cells[:points])
        for value, quality in zip(mantissas, qualities, strict=True):
            if value is None and quality == Quality.GOOD:
                raise FormatError(f"meter {group.meter}: a value is missing without a reason")
        due_ms = _time(due_ms)
        yield ReadingRow(group, due_ms, _time(due_ms + _number(delay_ms)), mantissas, qualities)


def _windows(
    group: Group, length_ms: int, columns: Sequence[Sequence[int | None]]
) -> Iterator[WindowRow]:
    width = _core.WINDOW_COLUMNS
    _check_width(group, columns, 1 + width * len(group.points))
    for start_ms, *cells in zip(*columns, strict=True):
        yield WindowRow(
            group, length_ms, _time(start_ms), *(tuple(cells[at::width]) for at in range(width))
        )


def _gaps(group: Group, columns: Sequence[Sequence[int | None]]) -> Iterator[GapRow]:
    for first, last, slots, reason in zip(*columns, strict=True):
        row = GapRow(group, _time(first), _time(last), _number(slots), _quality(reason))
        due = (row.last_due_ms - row.first_due_ms) // group.period_ms + 1
        if due < 1 or row.slot_count != due or row.reason == Quality.GOOD:
            raise FormatError(
                f"meter {group.meter}: a gap of {row.slot_count} slots, {due} were due"
            )
        yield row


def _check_width(group: Group, columns: Sequence[object], expected: int) -> None:
    if len(columns) != expected:
        raise FormatError(
            f"meter {group.meter}: {len(columns)} columns, the catalogue makes {expected}"
        )


def _number(value: int | None) -> int:
    if value is None:
        raise FormatError("a number is missing")
    return value


def _time(value: int | None) -> int:
    if value is None or not 0 <= value < _TIME_MAX_MS:
        raise FormatError(f"{value!r} is not a time in milliseconds")
    return value


def _quality(value: int | None) -> int:
    if value not in _QUALITIES:
        raise FormatError(f"{value!r} is not a quality")
    return int(value)
