"""What a gateway states of each meter's day, and what a platform finds in its tables: one sum.

A tally adds up whatever lies in a span of time: it does not matter in which order, in how many
parts, or in which batches rows come, so parts made before and after a restart add up as well. Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack

from edgeagg.errors import FormatError
from edgeagg.localdays import LocalDays
from edgeagg.model import unpack_bounded

LATENESS_MS = 300_000
"""How long after a day its statement waits for rows that are still on their way."""

_DIGEST_BYTES = 32
_NUMBER_MAX = 2**63 - 1
_READINGS, _GAPS = 1, 3

Cells = Sequence[int | None]
_Ends = tuple[int, int, int, int]
Registers = dict[int, _Ends]
"""By point: due_ms and mantissa of the first value, due_ms and mantissa of the last."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Slots of one group that fell due in [start, end): a local day, or whole days of one gap."""

    group: int
    start_ms: int
    end_ms: int


@dataclass(slots=True)
class Tally:
    """Point slots by what became of them, a hash of all rows, the registers at both ends."""

    slots: int = 0
    values: int = 0
    reasons: int = 0
    missed: int = 0
    digest: int = 0
    registers: Registers = field(default_factory=dict)

    def add_row(
        self,
        due_ms: int,
        at_ms: int,
        *,
        mantissas: Cells,
        qualities: Sequence[int],
        totalisers: Sequence[int],
    ) -> None:
        """Add a slot that was read."""
        values = len(mantissas) - mantissas.count(None)
        self.slots += len(mantissas)
        self.values += values
        self.reasons += len(mantissas) - values
        self._hash([due_ms, at_ms, mantissas, qualities])
        for point in totalisers:
            shown = mantissas[point]
            if shown is None:
                continue
            known = self.registers.get(point)
            if known is not None and known[2] < due_ms:
                self.registers[point] = (known[0], known[1], due_ms, shown)
            else:
                self._note(point, (due_ms, shown, due_ms, shown))

    def add_gap(self, first_ms: int, last_ms: int, *, slots: int, reason: int, points: int) -> None:
        """Add a run of slots that nobody read."""
        self.slots += slots * points
        self.missed += slots * points
        self._hash([first_ms, last_ms, reason])

    def add(self, other: Tally) -> None:
        """Add what another tally found."""
        self.slots += other.slots
        self.values += other.values
        self.reasons += other.reasons
        self.missed += other.missed
        self.digest = (self.digest + other.digest) % 2 ** (8 * _DIGEST_BYTES)
        for point, ends in other.registers.items():
            self._note(point, ends)

    def _hash(self, row: Sequence[Any]) -> None:
        found = hashlib.sha256(msgpack.packb(row)).digest()
        self.digest = (self.digest + int.from_bytes(found, "big")) % 2 ** (8 * _DIGEST_BYTES)

    def _note(self, point: int, ends: _Ends) -> None:
        known = self.registers.get(point, ends)
        self.registers[point] = min(known[:2], ends[:2]) + max(known[2:], ends[2:])


class DayBook:
    """The tallies of a gateway's days that are not stated yet."""

    def __init__(
        self, totalisers: Sequence[tuple[int, Sequence[int]]], days: LocalDays | None = None
    ) -> None:
        """Take (points, the totalisers' places) of every group of the catalogue.

        Without `days` those of China Standard Time count.
        """
        self._days = days or LocalDays()
        self._totalisers = tuple(totalisers)
        self._periods: dict[Span, Tally] = {}

    def fold(self, tables: Iterable[tuple[int, int, int, int, Sequence[Cells]]]) -> None:
        """Add the readings and gaps among the tables of a payload, as the core decodes them."""
        for kind, group, _, _, columns in tables:
            if kind == _READINGS:
                self._fold_rows(group, columns)
            elif kind == _GAPS:
                for first_ms, last_ms, slots, reason in zip(*columns, strict=True):
                    self._fold_gap(group, _known(first_ms), _known(last_ms), _known(slots), reason)

    def take(self, now_ms: int | None) -> list[tuple[Span, Tally]]:
        """Take out what is over at `now_ms`; everything, if that is None."""
        over = sorted(
            span for span in self._periods if now_ms is None or span.end_ms + LATENESS_MS <= now_ms
        )
        return [(span, self._periods.pop(span)) for span in over]

    def to_bytes(self) -> bytes:
        """Encode what is not taken yet."""
        return encode(sorted(self._periods.items(), key=lambda item: item[0]))

    def restore(self, data: bytes) -> None:
        """Take over what `to_bytes` wrote."""
        self._periods = dict(decode(data))

    def _fold_rows(self, group: int, columns: Sequence[Cells]) -> None:
        points, totalisers = self._totalisers[group]
        tally, until_ms = Tally(), -1
        for due, delay, *cells in zip(*columns, strict=True):
            due_ms, delay_ms = _known(due), _known(delay)
            if due_ms >= until_ms:
                span = day_of(group, due_ms, self._days)
                tally, until_ms = self._periods.setdefault(span, Tally()), span.end_ms
            tally.add_row(
                due_ms,
                due_ms + delay_ms,
                mantissas=cells[:points],
                qualities=[_known(quality) for quality in cells[points:]],
                totalisers=totalisers,
            )

    def _fold_gap(
        self, group: int, first_ms: int, last_ms: int, slots: int, reason: int | None
    ) -> None:
        points, _ = self._totalisers[group]
        period_ms = (last_ms - first_ms) // (slots - 1) if slots > 1 else 1
        for span in spans_of(group, first_ms, last_ms, self._days):
            begin_ms, end_ms, count = clip(span, first_ms, last_ms, period_ms)
            if count:
                self._periods.setdefault(span, Tally()).add_gap(
                    begin_ms, end_ms, slots=count, reason=_known(reason), points=points
                )


def day_of(group: int, at_ms: int, days: LocalDays) -> Span:
    """Return the local day of a time; that of a clock in 1970 begins at 0."""
    start_ms, end_ms = days.bounds(at_ms)
    return Span(group, max(0, start_ms), end_ms)


def spans_of(group: int, first_ms: int, last_ms: int, days: LocalDays) -> Iterator[Span]:
    """Yield the days of a gap's ends, and the whole days between them as one.

    A clock that was set right by decades leaves a gap of as many days, which must stay small.
    """
    first, last = day_of(group, first_ms, days), day_of(group, last_ms, days)
    yield first
    if first.end_ms < last.start_ms:
        yield Span(group, first.end_ms, last.start_ms)
    if first != last:
        yield last


def clip(span: Span, first_ms: int, last_ms: int, period_ms: int) -> tuple[int, int, int]:
    """Return the first and last slot of a gap that fall into the span, and their count."""
    ahead = max(0, -((first_ms - span.start_ms) // period_ms))
    begin_ms = first_ms + ahead * period_ms
    behind = max(0, (last_ms - span.end_ms) // period_ms + 1)
    end_ms = last_ms - behind * period_ms
    return begin_ms, end_ms, max(0, (end_ms - begin_ms) // period_ms + 1)


def encode(entries: Iterable[tuple[Span, Tally]]) -> bytes:
    """Encode canonically, as docs/batch-format.md says."""
    body: bytes = msgpack.packb(
        [
            [
                *(span.group, span.start_ms, span.end_ms),
                *(tally.slots, tally.values, tally.reasons, tally.missed),
                tally.digest.to_bytes(_DIGEST_BYTES, "big"),
                [[point, *ends] for point, ends in sorted(tally.registers.items())],
            ]
            for span, tally in entries
        ]
    )
    return body


def decode(data: bytes) -> list[tuple[Span, Tally]]:
    """Decode and check; raise FormatError on anything but what `encode` writes."""
    entries = []
    try:
        for *numbers, digest, registers in unpack_bounded(data):
            group, start_ms, end_ms, slots, values, reasons, missed = map(_number, numbers)
            shown = {_number(point): _ends(*ends) for point, *ends in registers}
            tally = Tally(slots, values, reasons, missed, _digest(digest), shown)
            entries.append((_span(group, start_ms, end_ms), _whole(tally)))
    except (TypeError, ValueError) as error:
        raise FormatError(f"not a statement: {error}") from None
    return entries


def registers_json(registers: Mapping[int, _Ends]) -> list[list[int]]:
    """Return registers as plain lists: point, then both ends."""
    return [[point, *ends] for point, ends in sorted(registers.items())]


def _span(group: int, start_ms: int, end_ms: int) -> Span:
    if start_ms >= end_ms:
        raise ValueError(f"a span from {start_ms} to {end_ms}")
    return Span(group, start_ms, end_ms)


def _whole(tally: Tally) -> Tally:
    if tally.slots != tally.values + tally.reasons + tally.missed:
        raise ValueError(f"{tally.slots} slots that are not what became of them")
    return tally


def _digest(value: object) -> int:
    if not isinstance(value, bytes) or len(value) != _DIGEST_BYTES:
        raise ValueError(f"a digest that is not {_DIGEST_BYTES} bytes")
    return int.from_bytes(value, "big")


def _ends(first_ms: object, first: object, last_ms: object, last: object) -> _Ends:
    return _number(first_ms), _mantissa(first), _number(last_ms), _mantissa(last)


def _mantissa(value: object) -> int:
    if type(value) is not int or not -_NUMBER_MAX - 1 <= value <= _NUMBER_MAX:
        raise ValueError(f"{value!r} is not a mantissa")
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _NUMBER_MAX:
        raise ValueError(f"{value!r} is not a whole number from 0 to 2^63-1")
    return value


def _known(value: int | None) -> int:
    if value is None:
        raise FormatError("a number is missing")
    return value
