"""The oracle: what the database holds, against the outbox and the meters' own state.

Owns the checks after a run. Batches are opened with the product's decoder, but what a value must be
comes from the simulator's loads alone. A row whose points have reasons counts as a row.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeagg import content
from edgeagg._core import Keyframe
from edgeagg.batch import Batch, BatchKind
from edgeagg.localdays import DAY_MS, LocalDays
from edgeagg.model import Catalogue, Quality
from edgeagg.receiver.reconcile import MeterDay
from edgeagg.statement import LATENESS_MS
from edgeagg_agent import metrics
from edgeagg_agent.outbox import Outbox
from hil_tests.sim.loads import UJ_PER_KWH
from hil_tests.sim.meters import UNITS
from hil_tests.virtual.errors import ViolationError
from hil_tests.virtual.site import GATEWAY, Played

_TABLES = {  # with what puts their rows in order
    "streams": "1, 2",
    "batches": "1, 2, 3",
    "catalogues": "1, 2",
    "groups": "1",
    "readings": "1, 2",
    "windows": "1, 2, 3",
    "gaps": "1, 2",
    "lost_slots": "1, 2",
    "audits": "1, 2, 3, 4",
    "uncertainties": "1, 2, 3",
    "statistics": "1, 2, 3",
    "demands": "1, 2, 3",
    "statements": "1, 2, 3, 4",
    "quarantine": "1, 2, 3, 4",
}
_ROWS = ("readings", "windows", "gaps", "audits", "uncertainties", "statistics", "demands")
FLUSH_MS = 600_000
"""After this long what is over was cut, for sure."""
_F32_ERROR = 2.0**-23  # of what a float register makes of a value, generously


@dataclass(slots=True)
class Tally:
    """What the database holds: slots by what became of them, values and reasons of their points."""

    due: int = 0
    slots: Counter[str] = field(default_factory=Counter)
    values: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    windows: int = 0
    batches: int = 0
    meter_days: int = 0


@dataclass(frozen=True, slots=True)
class Span:
    """When polling began and when it ended, by the gateway's clock."""

    begun_ms: int
    ended_ms: int

    def slots(self, period_ms: int) -> range:
        """Return when the slots of a period fell due in it."""
        first_ms = (self.begun_ms // period_ms + 1) * period_ms
        return range(first_ms, self.ended_ms + 1, period_ms)


class Oracle:
    """Checks one finished run; every method raises ViolationError."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        meters: Mapping[str, Played],
        true_ms_of: Callable[[int], int],
    ) -> None:
        """`true_ms_of` turns times of the gateway into true ones."""
        self.tally = Tally()
        self._connection, self._meters, self._true_ms_of = connection, meters, true_ms_of

    def check(self, span: Span, outbox: Outbox) -> None:
        """Check everything."""
        self._check_batches(outbox)
        self._check_counts(outbox)
        groups = list(self._rows("SELECT id, meter, period_ms, points FROM groups ORDER BY id"))
        found = sorted((meter, name) for _, meter, _, p in groups for name, *_ in json.loads(p))
        wanted = [(name, point) for name, meter in self._meters.items() for point in meter.steps]
        if [one for one in found if one[0] != metrics.METER] != sorted(wanted):
            raise ViolationError(f"points in the database: {found}")
        for group, meter, period_ms, points in groups:
            self._check_slots(group, meter, span.slots(period_ms))
            if meter == metrics.METER:
                self._check_own(group)
            else:
                self._check_values(group, self._meters[meter], json.loads(points))

    def digest(self) -> bytes:
        """Return a hash over every row of every table."""
        found = hashlib.sha256()
        for table, order in _TABLES.items():
            for row in self._rows(f"SELECT * FROM {table} ORDER BY {order}"):
                found.update(repr(row).encode())
        return found.digest()

    def _rows(self, statement: str, *values: object) -> Iterator[tuple[Any, ...]]:
        return iter(self._connection.execute(statement, values))

    def _check_batches(self, outbox: Outbox) -> None:
        """Each sequence is in the database, with the bytes that the gateway keeps."""
        kept = [(outbox.epoch, n, _sha256(outbox, n)) for n in range(1, outbox.head + 1)]
        stored = list(self._rows("SELECT epoch, sequence, digest FROM batches ORDER BY 1, 2"))
        if kept != stored:
            wrong = set(kept) ^ set(stored)
            raise ViolationError(f"{len(wrong)} batches differ, the first is {min(wrong)[:2]}")
        if list(self._rows("SELECT epoch, through FROM streams")) != [(outbox.epoch, outbox.head)]:
            raise ViolationError("the platform does not count the batches as complete")
        for kind, detail in self._rows("SELECT kind, detail FROM alarms"):
            raise ViolationError(f"a false alarm: {kind}: {detail}")
        for reason, topic in self._rows("SELECT reason, topic FROM quarantine"):
            raise ViolationError(f"quarantined: {topic}: {reason}")
        self.tally.batches = len(kept)

    def check_days(self, days: Sequence[MeterDay], span: Span) -> None:
        """Each meter's whole day was stated, and the tables hold what was stated."""
        for day in days:
            if not day.matches:
                raise ViolationError(
                    f"{day.meter}, day from {day.start_ms}: stated {day.stated}, here {day.found}"
                )
        first_ms, _ = LocalDays().bounds(span.begun_ms)
        whole = (span.ended_ms - LATENESS_MS - FLUSH_MS - first_ms) // DAY_MS
        wanted = max(0, whole) * (len(self._meters) + 1)
        if len({(day.meter, day.start_ms) for day in days}) < wanted:
            raise ViolationError(f"{len(days)} days of meters were stated, {wanted} are over")
        self.tally.meter_days = len(days)

    def _check_counts(self, outbox: Outbox) -> None:
        """No row is in two batches: the tables, whose keys are unique, hold all that were sent."""
        sent = Counter(dict.fromkeys(_ROWS, 0))
        for rows in _contents(outbox):
            sent.update({table: len(getattr(rows, table)) for table in _ROWS})
        for table, count in sent.items():
            ((stored,),) = self._rows(f"SELECT count(*) FROM {table}")
            if stored != count:
                raise ViolationError(f"{count} {table} in the batches, {stored} in the database")
        self.tally.windows = sent["windows"]

    def _check_slots(self, group: int, meter: str, due: range) -> None:
        """Each slot is a row or lies in one gap: the runs follow on one another without a step."""
        runs = [
            *self._rows("SELECT due_ms, due_ms, -1 FROM readings WHERE group_id = ?", group),
            *self._rows(
                "SELECT first_due_ms, last_due_ms, reason FROM gaps WHERE group_id = ?", group
            ),
        ]
        expected_ms, slots = due.start, self.tally.slots
        for first_ms, last_ms, reason in sorted(runs):
            if first_ms != expected_ms:
                raise ViolationError(f"{meter}: slot {expected_ms} is due, {first_ms} comes next")
            expected_ms = last_ms + due.step
            name = "row" if reason < 0 else Quality(reason).name.lower()
            slots[name] += (last_ms - first_ms) // due.step + 1
        if expected_ms != due[-1] + due.step:
            raise ViolationError(f"{meter}: nothing from slot {expected_ms} on")
        self.tally.due += len(due)

    def _check_own(self, group: int) -> None:
        """Look for what must not be: own points that the gateway does not know."""
        for at_ms, mantissas in self._rows(
            "SELECT at_ms, mantissas FROM readings WHERE group_id = ?", group
        ):
            if None in json.loads(mantissas):
                raise ViolationError(f"the gateway at {at_ms}: {mantissas}")

    def _check_values(self, group: int, meter: Played, points: Sequence[list[Any]]) -> None:
        """Each value is the truth at its row's time, to one step; each other one has a reason."""
        truths = [
            (name, _truth(meter, name, unit), 10.0**exponent, meter.steps[name])
            for name, unit, exponent, _ in points
        ]
        for at_ms, mantissas, qualities in self._rows(
            "SELECT at_ms, mantissas, qualities FROM readings WHERE group_id = ?", group
        ):
            true_ms = self._true_ms_of(at_ms)
            values = json.loads(mantissas)
            reasons = json.loads(qualities) if qualities else (0,) * len(truths)
            for (name, truth, unit, step), value, reason in zip(
                truths, values, reasons, strict=True
            ):
                if value is None and reason:
                    self.tally.reasons[Quality(reason).name.lower()] += 1
                    continue
                if value is None or reason:
                    raise ViolationError(f"{meter.sim.name}.{name} at {at_ms}: {value}, {reason}")
                expected = truth(true_ms)
                if abs(value * unit - expected) > step + abs(expected) * _F32_ERROR:
                    raise ViolationError(
                        f"{meter.sim.name}.{name} at {at_ms}: {value * unit}, in truth {expected}"
                    )
                self.tally.values += 1


def _sha256(outbox: Outbox, sequence: int) -> bytes:
    return hashlib.sha256(outbox.read(sequence, GATEWAY)).digest()


def _contents(outbox: Outbox) -> Iterator[content.Content]:
    catalogue: Catalogue | None = None
    for sequence in range(1, outbox.head + 1):
        batch = Batch.from_bytes(outbox.read(sequence, GATEWAY))
        if batch.kind is BatchKind.CATALOGUE:
            catalogue = Catalogue.from_bytes(batch.payload)
        elif batch.kind is BatchKind.LOST or catalogue is None:
            raise ViolationError(f"the outbox does not have batch {sequence}")
        elif batch.kind is BatchKind.DATA:
            back = content.anchor_of(batch.codec, batch.payload)
            payload = outbox.keyframe_payload(sequence - back) if back else None
            keyframe = Keyframe(payload) if payload is not None else None
            yield content.decode(batch.codec, batch.payload, catalogue, keyframe)


def _truth(meter: Played, name: str, unit: str) -> Callable[[int], float]:
    """Return a point's value as a function of true time, straight from the integral of its load."""
    load, factor = meter.load, float(UNITS[unit])
    initial_kwh = float(meter.sim.supply.initial_kwh)
    match name:
        case "active_energy_import":
            return lambda t_ms: (initial_kwh + load.import_uj(t_ms) / UJ_PER_KWH) * factor
        case "active_energy_export":
            return lambda t_ms: load.export_uj(t_ms) / UJ_PER_KWH * factor
        case "active_power_total":
            return lambda t_ms: load.power_mw(t_ms) / 1000 * factor
    raise ValueError(f"no truth for {name}")
