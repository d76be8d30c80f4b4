"""Readings taken before anybody vouched for the time: they wait, and are then given the right one.

Owns which groups wait, the journal's records of what was read of them, and where that belongs once
the time is known, or is given up. The clock's offset stands beside every row, so its monotonic time
is known whatever the clock showed; that means nothing in another boot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgpack

from edgeagg._core import Aggregator
from edgeagg.model import Quality
from edgeagg_agent.slots import flagged, is_elsewhere, runs

HOLD_MAX_MS = 3_600_000
"""Rows wait for no longer: a crystal that is off by 200 ppm is off by 0.7 s then."""
HELD_BYTES_MAX = 1 << 20
"""Of records: half of what may wait in memory for a disk, an hour of 128 meters a minute."""
_HYSTERESIS_MS = 1_000  # a clock that is slowed down by less leaves a group in its slots


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRow:
    """A slot in the clock's own time, which was `offset_ms` more than the monotonic clock's.

    Without values it says that from here on another meter hangs there. `knows_past` tells whether
    slots between the last known one and this one were slots at all, should the time be given up.
    """

    group: int
    due_ms: int
    at_ms: int
    offset_ms: int
    values: tuple[int | None, ...] | None
    qualities: bytes = b""
    knows_past: bool = True

    @property
    def monotonic_ms(self) -> int:
        """When it was read, by the monotonic clock."""
        return self.at_ms - self.offset_ms

    def to_bytes(self, boot: str) -> bytes:
        """Return the journal's record of a row that was read in this boot."""
        times = self.due_ms, self.at_ms, self.offset_ms
        record: bytes = msgpack.packb(
            [boot, self.group, *times, self.values, self.qualities, self.knows_past]
        )
        return record

    @classmethod
    def from_bytes(cls, record: bytes) -> tuple[str, HeldRow]:
        """Return boot and row of a record; ValueError for what is none."""
        items = _unpacked(record, 8)
        boot, group, due_ms, at_ms, offset_ms, values, qualities, knows_past = items
        return boot, cls(
            group=group,
            due_ms=due_ms,
            at_ms=at_ms,
            offset_ms=offset_ms,
            values=None if values is None else tuple(values),
            qualities=qualities,
            knows_past=knows_past,
        )


@dataclass(frozen=True, slots=True)
class Release:
    """Tells that groups wait no longer: the right offset in ms, or None when it was given up."""

    groups: tuple[int, ...]
    offset_ms: int | None

    def to_bytes(self) -> bytes:
        """Return the journal's record."""
        record: bytes = msgpack.packb([self.groups, self.offset_ms])
        return record

    @classmethod
    def from_bytes(cls, record: bytes) -> Release:
        """Return what a record says; ValueError for what is none."""
        groups, offset_ms = _unpacked(record, 2)
        return cls(groups=tuple(groups), offset_ms=offset_ms)


def _unpacked(record: bytes, count: int) -> list[Any]:
    try:
        items = msgpack.unpackb(record)
    except (ValueError, msgpack.UnpackException) as error:
        raise ValueError("not a record of held readings") from error
    if not isinstance(items, list) or len(items) != count:
        raise ValueError("not a record of held readings")
    return items


class Held:
    """The groups that wait for the time, and what was read of them since."""

    def __init__(self, boot: str = "") -> None:
        """Hold nothing; `boot` is this boot's id, empty where nobody knows it."""
        self.boot = boot
        self.bytes_count = 0
        self.retimed_count = 0
        """Rows of this run that were given another time than the clock showed."""
        self.surplus_count = 0
        """Rows of this run that had no slot of their own: those were accounted for already."""
        self._rows: dict[int, list[tuple[int, HeldRow]]] = {}
        self._count = 0
        self._found: set[str] = set()

    def __len__(self) -> int:
        """Count the rows that wait."""
        return sum(map(len, self._rows.values()))

    def __bool__(self) -> bool:
        """Tell whether any group waits, though nothing may have been read of it."""
        return bool(self._rows)

    @property
    def is_of_this_boot(self) -> bool:
        """Tell whether all that waits was read by the monotonic clock that runs now."""
        return self.boot != "" and self._found <= {self.boot}

    def begin(self, groups: Iterable[int]) -> None:
        """Let these groups wait from now on; what waits already goes on."""
        for group in groups:
            self._rows.setdefault(group, [])

    def holds(self, group: int) -> bool:
        """Tell whether the group waits."""
        return group in self._rows

    def is_over(self, groups: Collection[int], monotonic_ms: int) -> bool:
        """Tell whether these groups have waited for as long as they may, or all are too many."""
        if not any(map(self.holds, groups)):
            return False
        first_ms = (rows[0][1].monotonic_ms for rows in self._rows.values() if rows)
        waited_ms = monotonic_ms - min(first_ms, default=monotonic_ms)
        return waited_ms >= HOLD_MAX_MS or self.bytes_count >= HELD_BYTES_MAX

    def add(self, row: HeldRow) -> bytes:
        """Keep a row of a group that waits; return its journal record."""
        record = row.to_bytes(self.boot)
        self._keep(self.boot, row, len(record))
        return record

    def found(self, record: bytes) -> None:
        """Keep a row of a former run; ValueError for what is none."""
        self._keep(*HeldRow.from_bytes(record), len(record))

    def _keep(self, boot: str, row: HeldRow, record_bytes: int) -> None:
        self._found.add(boot)
        self._count += 1
        self._rows.setdefault(row.group, []).append((self._count, row))
        self.bytes_count += record_bytes

    def settle(
        self, release: Release, aggregator: Aggregator, periods_ms: Sequence[int]
    ) -> frozenset[int]:
        """Record what was read of groups that wait no longer, each row in its slot.

        Without an offset rows stay where the clock put them, and are flagged. Slots between the
        last one known and the first row are declared as `stopped`, those between rows as `overrun`.
        A slot that is accounted for already takes no second value. Return the groups that were
        read; `periods_ms` are those of all groups.
        """
        offset_ms, begun = release.offset_ms, set[int]()
        shifts_ms: dict[int, int] = {}
        for row in self._take(release.groups):
            if row.values is None:
                aggregator.replace_meter(row.group)
                continue
            period_ms = periods_ms[row.group]
            if offset_ms is None:
                placed = replace(row, qualities=flagged(row.qualities, is_trusted=False))
            else:
                placed = _moved(row, offset_ms, period_ms, shifts_ms)
            if _push(placed, aggregator, period_ms, is_first=row.group not in begun):
                self.retimed_count += placed.at_ms != row.at_ms
            else:
                self.surplus_count += 1
            begun.add(row.group)
        return frozenset(begun)

    def _take(self, groups: Collection[int]) -> list[HeldRow]:
        """Let groups wait no longer; return what was read of them, in its order."""
        rows = [row for group in groups for row in self._rows.pop(group, ())]
        if not self._rows:
            self.bytes_count = 0
            self._found.clear()
        return [row for _, row in sorted(rows, key=lambda row: row[0])]


def _moved(row: HeldRow, offset_ms: int, period_ms: int, shifts_ms: dict[int, int]) -> HeldRow:
    """Return the row in right time, in the last slot that had begun when it fell due.

    `shifts_ms` are the whole slots by which its group was moved last: a clock that was slewed a
    little puts no two rows into one slot.
    """
    shift_ms = offset_ms - row.offset_ms
    slots_ms = shifts_ms.get(row.group)
    margin_ms = min(_HYSTERESIS_MS, period_ms // 2)
    if slots_ms is None or not -margin_ms <= shift_ms - slots_ms < period_ms + margin_ms:
        slots_ms = shift_ms // period_ms * period_ms
    shifts_ms[row.group] = slots_ms
    due_ms = row.due_ms + slots_ms
    return replace(row, due_ms=due_ms, at_ms=max(due_ms, row.at_ms + shift_ms))


def _push(row: HeldRow, aggregator: Aggregator, period_ms: int, *, is_first: bool) -> bool:
    """Record a row where it is now; False when its slot is accounted for already."""
    last_due_ms = aggregator.last_due_ms(row.group)
    if last_due_ms is not None:
        knows_past = row.knows_past or not is_first
        if is_elsewhere(last_due_ms, row.due_ms, period_ms, knows_past=knows_past):
            aggregator.restart_group(row.group, row.due_ms - period_ms)
        elif row.due_ms <= last_due_ms:
            return False
        else:
            reason = Quality.STOPPED if is_first else Quality.OVERRUN
            slots = (row.due_ms - last_due_ms) // period_ms - 1
            for first_ms, last_ms, count in runs(last_due_ms + period_ms, slots, period_ms):
                aggregator.push_gap(row.group, first_ms, last_ms, count, reason)
    aggregator.push_row(row.group, row.due_ms, row.at_ms, row.values or (), row.qualities)
    return True
