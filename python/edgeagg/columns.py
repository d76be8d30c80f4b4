"""A data batch, decoded into columns that polars, pyarrow and numpy take without a copy.

Owns the columns' names. For rows that are checked cell by cell, see `edgeagg.content`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edgeagg import _core
from edgeagg.errors import FormatError
from edgeagg.model import Catalogue, Group

_READINGS, _WINDOWS, _GAPS, _AUDITS, _UNCERTAINTIES, _, _DEMANDS = range(1, 8)
_GAP_NAMES = ("first_due_ms", "last_due_ms", "slots", "reason")
_AUDIT_NAMES = (
    *("point", "kind", "closing_ms", "closing", "opening_ms", "opening"),
    *("energy", "set_aside", "furthest"),
)
_WINDOW_NAMES = (
    *("slots", "values", "minimum", "maximum", "mean", "first", "last"),
    *("energy", "covered_ms", "worst"),
)
_STATISTICS_NAMES = ("deviation", "median", "p95")
_DEMAND_NAMES = (
    *("point", "start_ms", "length_ms", "block", "block_end_ms"),
    *("sliding", "sliding_end_ms", "periods"),
)
_NAMES = {_GAPS: _GAP_NAMES, _AUDITS: _AUDIT_NAMES, _DEMANDS: _DEMAND_NAMES}
"""Of tables whose columns are the same for every group."""


@dataclass(frozen=True, slots=True)
class Column:
    """One signed 64-bit integer per row, in Arrow's layout.

    `values` has the format "q" and 0 where there is no value. `validity` has one bit per row,
    lowest first, 1 where there is a value; None when every row has one.
    """

    values: memoryview
    validity: bytes | None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.values)

    def __iter__(self) -> Iterator[int | None]:
        """Give every row's value, or None."""
        if self.validity is None:
            yield from self.values
            return
        for row, value in enumerate(self.values):
            yield value if self.validity[row >> 3] >> (row & 7) & 1 else None


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one kind of one group; kinds and columns are those of `docs/batch-format.md`.

    `length_ms` is the windows' length, 0 for other kinds. A column of a point is named
    `POINT` (its mantissas) and `POINT.quality` in readings, `POINT.minimum` and so on in windows,
    `POINT.uncertainty`, `POINT.deviation` and so on where the catalogue asks for these.
    """

    kind: int
    group: Group
    length_ms: int
    rows: int
    columns: Mapping[str, Column]


def decode(
    codec: int, payload: bytes, catalogue: Catalogue, keyframe: _core.Keyframe | None = None
) -> list[Table]:
    """Decode a payload made under `catalogue`; raise FormatError when it does not fit it.

    An anchored payload (`edgeagg.content.anchor_of`) needs its keyframe.
    The cells are those that were sent: the receiver judges times and qualities of each.
    """
    try:
        tables = _core.decode_columns(codec, payload, keyframe)
    except _core.CodecError as error:
        raise FormatError(f"payload: {error}") from None
    found = []
    for kind, number, length_ms, rows, columns in tables:
        if number >= len(catalogue.groups):
            raise FormatError(f"group {number} is not in the catalogue")
        group = catalogue.groups[number]
        names = _names(kind, group)
        if len(names) != len(columns):
            raise FormatError(
                f"meter {group.meter}: {len(columns)} columns, the catalogue makes {len(names)}"
            )
        if len(set(names)) != len(names):
            raise FormatError(f"meter {group.meter}: two of its points have one name")
        named = (Column(memoryview(values).cast("q"), bits) for values, bits in columns)
        found.append(Table(kind, group, length_ms, rows, dict(zip(names, named, strict=True))))
    return found


def _names(kind: int, group: Group) -> Sequence[str]:
    if kind in _NAMES:
        return _NAMES[kind]
    points = [point.name for point in group.points]
    if kind == _READINGS:
        return "due_ms", "delay_ms", *points, *(f"{point}.quality" for point in points)
    if kind == _WINDOWS:
        return "start_ms", *(f"{point}.{name}" for point in points for name in _WINDOW_NAMES)
    if kind == _UNCERTAINTIES:
        guarded = [point.name for point in group.points if point.guard is not None]
        return "start_ms", "length_ms", *(f"{point}.uncertainty" for point in guarded)
    sampled = [point.name for point in group.points if point.statistics]
    asked = (f"{point}.{name}" for point in sampled for name in _STATISTICS_NAMES)
    return "start_ms", "length_ms", *asked
