"""A time server was wrong, and is right again: what counts then, in both databases."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest

from edgeagg import content
from edgeagg.balance import Energy
from edgeagg.judged import StatisticsRow, UncertaintyRow
from edgeagg.model import Quality
from edgeagg.receiver.ahead import AHEAD_MAX_MS, marked
from edgeagg.receiver.audit import SlotBalance
from edgeagg.receiver.store import Store
from hil_tests.deliveries import EPOCH, GATEWAY, PV, Engine, catalogue_of, data_of

WRONG, TRUE = 2, 3
LENGTH_MS = 10_000


def told(sequence: int, *, kwh: int, missed: int | None) -> content.Content:
    """Return ten slots of a meter and the window over them; one slot may have been missed."""
    columns = {
        field.name: (10,)
        for field in dataclasses.fields(content.WindowRow)
        if field.name not in {"group", "length_ms", "start_ms"}
    }
    columns |= {"energies": (100 * kwh,), "worst": (0,)}
    window = content.WindowRow(group=PV, length_ms=LENGTH_MS, start_ms=EPOCH, **columns)
    rows = tuple(
        content.ReadingRow(PV, EPOCH + 1_000 * slot, EPOCH + 1_000 * slot, (sequence,), (0,))
        for slot in range(10)
        if slot != missed
    )
    at_ms = None if missed is None else EPOCH + 1_000 * missed
    gaps = () if at_ms is None else (content.GapRow(PV, at_ms, at_ms, 1, Quality.OVERRUN),)
    return content.Content(
        rows,
        (window,),
        gaps,
        uncertainties=(UncertaintyRow(PV, LENGTH_MS, EPOCH, (sequence,)),),
        statistics=(StatisticsRow(PV, LENGTH_MS, EPOCH, (sequence,), (sequence,), (sequence,)),),
    )


async def commit(store: Store, sequence: int, rows: content.Content, *, ahead: bool) -> None:
    """Store rows that come in their own time, or an hour before it."""
    now_ms = EPOCH - 3_600_000 if ahead else EPOCH + LENGTH_MS
    found = marked(rows, now_ms)
    assert (found is rows) == (not ahead)
    await store.commit([dataclasses.replace(data_of(sequence), content=found)])


async def of_window(engine: Engine) -> list[tuple[object, ...]]:
    """Return what else is said of the window."""
    found = await engine.rows("SELECT errors FROM uncertainties")
    return [*found, *(await engine.rows("SELECT medians FROM statistics"))]


@pytest.mark.parametrize("is_first", [True, False])
async def test_what_came_from_the_future_gives_way_to_what_is_read_there_in_true_time(
    engine: Engine, store: Store, *, is_first: bool
) -> None:
    wrong, true = told(WRONG, kwh=777, missed=4), told(TRUE, kwh=5, missed=None)
    both = [(WRONG, wrong, True), (TRUE, true, False)]
    await store.commit([catalogue_of()])
    for sequence, rows, ahead in both if is_first else reversed(both):
        await commit(store, sequence, rows, ahead=ahead)
    energies = await store.energies(GATEWAY, LENGTH_MS, EPOCH, EPOCH + LENGTH_MS)
    assert energies["pv"][EPOCH] == Energy(Fraction(5), Fraction(1), Quality.GOOD)
    assert {str(row) for row in await of_window(engine)} in ({"('[3]',)"}, {"([3],)"})
    ((readings,),) = await engine.rows("SELECT count(*) FROM readings WHERE qualities IS NULL")
    assert readings == 10
    (count,) = await store.slots(GATEWAY)
    assert (count.rows, count.gap_slots) == (10, 0), "the slot that was missed then was read"
    assert SlotBalance(count).unexplained == 0


async def test_what_came_from_the_future_stays_until_then(engine: Engine, store: Store) -> None:
    await store.commit([catalogue_of()])
    for sequence, kwh in ((WRONG, 777), (TRUE, 888)):
        await commit(store, sequence, told(sequence, kwh=kwh, missed=4), ahead=True)
    energies = await store.energies(GATEWAY, LENGTH_MS, EPOCH, EPOCH + LENGTH_MS)
    window = energies["pv"][EPOCH]
    assert window.net_kwh == 777
    assert window.worst is Quality.CLOCK_UNTRUSTED
    assert {str(row) for row in await of_window(engine)} in ({"('[2]',)"}, {"([2],)"})
    (count,) = await store.slots(GATEWAY)
    assert (count.rows, count.gap_slots) == (9, 1)


async def test_a_window_that_is_good_changes_no_more(engine: Engine, store: Store) -> None:
    await store.commit([catalogue_of()])
    for sequence, kwh in ((WRONG, 5), (TRUE, 888)):
        await commit(store, sequence, told(sequence, kwh=kwh, missed=None), ahead=False)
    energies = await store.energies(GATEWAY, LENGTH_MS, EPOCH, EPOCH + LENGTH_MS)
    assert energies["pv"][EPOCH].net_kwh == 5
    assert {str(row) for row in await of_window(engine)} in ({"('[2]',)"}, {"([2],)"})


def test_a_gap_of_the_future_has_the_clock_as_its_reason() -> None:
    rows = told(WRONG, kwh=1, missed=4)
    (gap,) = rows.gaps
    assert marked(rows, gap.last_due_ms - AHEAD_MAX_MS).gaps == rows.gaps
    only = dataclasses.replace(rows, readings=(), windows=())
    assert marked(only, gap.last_due_ms - AHEAD_MAX_MS) is only
    (doubted,) = marked(only, gap.last_due_ms - AHEAD_MAX_MS - 1).gaps
    assert doubted == dataclasses.replace(gap, reason=Quality.CLOCK_UNTRUSTED)
