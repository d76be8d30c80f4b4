"""A data batch, decoded: one row per meter and time.

The codec is the core's; here its tables are checked against the catalogue and given names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from edgeagg import _core, cells, judged, statement
from edgeagg.errors import FormatError
from edgeagg.judged import AuditRow, DemandRow, StatisticsRow, UncertaintyRow
from edgeagg.model import Catalogue, Group, Quality

Mantissas = tuple[int | None, ...]

_READING_LEAD = 2


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


_Row = (
    ReadingRow
    | WindowRow
    | GapRow
    | AuditRow
    | UncertaintyRow
    | StatisticsRow
    | DemandRow
    | StatementRow
)


@dataclass(frozen=True, slots=True)
class Content:
    """All rows of one data batch, or of one statement."""

    readings: tuple[ReadingRow, ...]
    windows: tuple[WindowRow, ...]
    gaps: tuple[GapRow, ...]
    audits: tuple[AuditRow, ...] = ()
    uncertainties: tuple[UncertaintyRow, ...] = ()
    statistics: tuple[StatisticsRow, ...] = ()
    demands: tuple[DemandRow, ...] = ()
    statements: tuple[StatementRow, ...] = ()
    lost: tuple[GapRow, ...] = ()
    """Slots whose batch the gateway no longer has."""

    def groups(self) -> list[Group]:
        """Return every group there are rows for, each once."""
        tables: tuple[Sequence[_Row], ...] = (
            *(self.readings, self.windows, self.gaps, self.audits),
            *(self.uncertainties, self.statistics, self.demands, self.statements, self.lost),
        )
        groups = [row.group for table in tables for row in table]
        # one object per group of the catalogue: hashing its points for every row would cost most
        return list(dict.fromkeys({id(group): group for group in groups}.values()))


def anchor_of(codec: int, payload: bytes) -> int | None:
    """Return how many sequences before its own a payload's keyframe is, None if it needs none."""
    try:
        return _core.anchor_of(codec, payload)
    except _core.CodecError as error:
        raise FormatError(f"payload: {error}") from None


def decode(
    codec: int,
    payload: bytes,
    catalogue: Catalogue,
    keyframe: _core.Keyframe | None = None,
    is_wanted: Callable[[Group], bool] = lambda _: True,
) -> Content:
    """Decode a payload made under `catalogue`; raise FormatError when it does not fit it.

    A payload that begins with what another one taught needs that one's `keyframe`. Rows of a group
    that is not wanted are left out, and cost little.
    """
    try:
        tables = _core.decode(codec, payload, keyframe)
    except _core.CodecError as error:
        raise FormatError(f"payload: {error}") from None
    found = _Found()
    for kind, number, length_ms, _, columns in tables:
        if number >= len(catalogue.groups):
            raise FormatError(f"group {number} is not in the catalogue")
        group = catalogue.groups[number]
        if is_wanted(group):
            found.add(kind, group, length_ms, columns)
    return Content(
        tuple(found.readings),
        tuple(found.windows),
        tuple(found.gaps),
        tuple(found.audits),
        tuple(found.uncertainties),
        tuple(found.statistics),
        tuple(found.demands),
    )


def decode_lost(codec: int, payload: bytes, catalogue: Catalogue) -> Content:
    """Decode the slots that a lost batch tells of; raise FormatError for anything but gaps."""
    found = decode(codec, payload, catalogue)
    if found != Content((), (), found.gaps):
        raise FormatError("a lost batch tells of gaps only")
    return Content((), (), (), lost=found.gaps)


def decode_statement(payload: bytes, catalogue: Catalogue) -> Content:
    """Decode a statement made under `catalogue`; raise FormatError when it does not fit it."""
    found = []
    for span, tally in statement.decode(payload):
        if span.group >= len(catalogue.groups):
            raise FormatError(f"group {span.group} is not in the catalogue")
        group = catalogue.groups[span.group]
        if not tally.registers.keys() <= set(group.totalisers):
            raise FormatError(f"meter {group.meter}: a register of a point that is no totaliser")
        row = StatementRow(group, cells.time(span.start_ms), cells.time(span.end_ms), tally)
        found.append(row)
    return Content((), (), (), statements=tuple(found))


@dataclass(slots=True)
class _Found:
    """The rows of a payload, while its tables are read."""

    readings: list[ReadingRow] = field(default_factory=list)
    windows: list[WindowRow] = field(default_factory=list)
    gaps: list[GapRow] = field(default_factory=list)
    audits: list[AuditRow] = field(default_factory=list)
    uncertainties: list[UncertaintyRow] = field(default_factory=list)
    statistics: list[StatisticsRow] = field(default_factory=list)
    demands: list[DemandRow] = field(default_factory=list)

    def add(self, kind: int, group: Group, length_ms: int, columns: cells.Columns) -> None:
        """Take in the rows of one table."""
        match kind:
            case 1:
                self.readings.extend(_readings(group, columns))
            case 2:
                self.windows.extend(_windows(group, length_ms, columns))
            case 3:
                self.gaps.extend(_gaps(group, columns))
            case 4:
                self.audits.extend(judged.audits(group, columns))
            case 5:
                self.uncertainties.extend(judged.uncertainties(group, columns))
            case 6:
                self.statistics.extend(judged.statistics(group, columns))
            case 7:
                self.demands.extend(judged.demands(group, columns))
            case _:
                raise FormatError(f"tables of kind {kind} have no place here")


def _readings(group: Group, columns: cells.Columns) -> Iterator[ReadingRow]:
    points = len(group.points)
    cells.check_width(group, columns, _READING_LEAD + 2 * points)
    for due_ms, delay_ms, *row in zip(*columns, strict=True):
        qualities = tuple(cells.quality(quality) for quality in row[points:])
        mantissas = tuple(row[:points])
        for value, quality in zip(mantissas, qualities, strict=True):
            if value is None and quality == Quality.GOOD:
                raise FormatError(f"meter {group.meter}: a value is missing without a reason")
        due_ms = cells.time(due_ms)
        yield ReadingRow(
            group, due_ms, cells.time(due_ms + cells.number(delay_ms)), mantissas, qualities
        )


def _windows(group: Group, length_ms: int, columns: cells.Columns) -> Iterator[WindowRow]:
    width = _core.WINDOW_COLUMNS
    cells.check_width(group, columns, 1 + width * len(group.points))
    for start_ms, *row in zip(*columns, strict=True):
        yield WindowRow(
            group, length_ms, cells.time(start_ms), *(tuple(row[at::width]) for at in range(width))
        )


def _gaps(group: Group, columns: cells.Columns) -> Iterator[GapRow]:
    for first, last, slots, reason in zip(*columns, strict=True):
        row = GapRow(
            group, cells.time(first), cells.time(last), cells.number(slots), cells.quality(reason)
        )
        due = (row.last_due_ms - row.first_due_ms) // group.period_ms + 1
        if due < 1 or row.slot_count != due or row.reason == Quality.GOOD:
            raise FormatError(
                f"meter {group.meter}: a gap of {row.slot_count} slots, {due} were due"
            )
        yield row
