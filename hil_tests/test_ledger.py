"""Both databases keep alarms, and find out whether a statement is true."""

from __future__ import annotations

import dataclasses

import pytest

from edgeagg.batch import check_of
from edgeagg.content import Content, GapRow
from edgeagg.model import Quality
from edgeagg.receiver.audit import SlotBalance
from edgeagg.receiver.ledger import Alarm, AlarmKind
from edgeagg.receiver.reconcile import meter_days, reconcile
from edgeagg.receiver.store import Outcome, Store
from hil_tests.deliveries import (
    EPOCH,
    GATEWAY,
    INCOMER,
    OTHER_GATEWAY,
    PV,
    SLOTS,
    Engine,
    catalogue_of,
    data_of,
    lost,
    statement_of,
)

NEW = Outcome.NEW
NOW_MS = EPOCH + 10**8
ALARM = Alarm(GATEWAY, AlarmKind.FORK, EPOCH, 7, 1_000, 1_000, 1, "two writers")


async def test_an_alarm_is_kept_once_and_counts_how_often_it_was_seen(store: Store) -> None:
    await store.ledger.raise_alarm(ALARM)
    later = dataclasses.replace(ALARM, sequence=9, first_ms=5_000, last_ms=5_000, detail="again")
    await store.ledger.raise_alarm(later)
    other = dataclasses.replace(ALARM, kind=AlarmKind.ROLLBACK)
    await store.ledger.raise_alarm(other)
    counted = dataclasses.replace(ALARM, last_ms=5_000, times=2)
    assert list(await store.ledger.alarms()) == [counted, other]


async def test_the_newest_epoch_of_every_gateway_is_known(store: Store) -> None:
    await store.commit([catalogue_of(), catalogue_of(epoch=EPOCH + 5), catalogue_of(OTHER_GATEWAY)])
    newest = {(GATEWAY, EPOCH + 5), (OTHER_GATEWAY, EPOCH)}
    assert set(await store.ledger.newest()) == newest


async def test_progress_tells_how_the_last_message_hashes_and_when_it_was_cut(
    store: Store,
) -> None:
    assert (await store.progress(GATEWAY, EPOCH)).check == bytes(8)
    await store.commit([catalogue_of(), data_of(2), data_of(4)])
    progress = await store.progress(GATEWAY, EPOCH)
    last = data_of(4).batch
    assert (progress.last, progress.check) == (4, check_of(last.to_bytes()))
    assert progress.cut_at_ms == last.cut_at_ms


async def matches(store: Store) -> list[bool]:
    compared = await reconcile(store, GATEWAY, from_ms=0, to_ms=2**45, now_ms=NOW_MS)
    return [one.matches for one in compared]


async def test_what_was_stated_is_found_in_the_tables_whatever_the_order_of_its_parts(
    engine: Engine, store: Store
) -> None:
    first, second = data_of(2), data_of(3)
    await store.commit([catalogue_of(), second])
    await store.commit([statement_of(4, first), statement_of(5, second, cut_at_ms=EPOCH + 9)])
    assert await matches(store) == [False, False], "a batch is still missing"
    await store.commit([first])
    assert await matches(store) == [True, True]
    kept = await engine.rows("SELECT checked_ms, matches FROM reconciled")
    assert [(ms, bool(truth)) for ms, truth in kept] == [(NOW_MS, True)] * 2
    compared = await reconcile(store, GATEWAY, from_ms=0, to_ms=2**45, now_ms=NOW_MS)
    days = meter_days(compared)
    assert [(day.meter, day.stated.slots, day.stated.missed) for day in days] == [
        ("incomer", 2 * 2 * SLOTS, 0),
        ("pv", 2 * SLOTS, 2),
    ]


async def test_a_statement_that_comes_in_two_epochs_counts_once(store: Store) -> None:
    stated = statement_of(3, data_of(2))
    again = statement_of(2, data_of(2), epoch=EPOCH + 5)
    assert await store.commit([catalogue_of(), data_of(2), stated, again]) == [NEW] * 4
    assert await matches(store) == [True, True]


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM readings WHERE due_ms = (SELECT max(due_ms) FROM readings);",
        "UPDATE readings SET at_ms = at_ms + 1 WHERE due_ms = (SELECT min(due_ms) FROM readings);",
        "DELETE FROM gaps;",
    ],
    ids=["dropped", "moved", "gap dropped"],
)
async def test_one_row_that_is_not_as_it_was_stated_makes_the_day_differ(
    engine: Engine, store: Store, harm: str
) -> None:
    data = data_of(2)
    await store.commit([catalogue_of(), data, statement_of(3, data)])
    assert await matches(store) == [True, True]
    await engine.rows(harm)
    assert False in await matches(store)


async def test_what_a_lost_batch_held_is_lost_as_far_as_nothing_explains_it(store: Store) -> None:
    """Nine slots before the batch that came, all of its own, and ten behind it."""
    await store.commit([catalogue_of(), data_of(3)])
    first_ms = EPOCH + SLOTS * 1_000 * 3 - 9_000
    told = [GapRow(INCOMER, first_ms, first_ms + 4_000, 5, Quality.NOT_KEPT)]
    told.append(GapRow(PV, first_ms, first_ms + 38_000, 39, Quality.NOT_KEPT))
    # the next lost batch tells of more, and one that comes late of less
    longer = dataclasses.replace(told[0], last_due_ms=first_ms + 38_000, slot_count=39)
    for sequence, rows in ((4, told), (5, [longer, told[1]]), (6, told)):
        delivery = lost(sequence)
        delivery = dataclasses.replace(delivery, content=Content((), (), (), lost=tuple(rows)))
        assert await store.commit([delivery]) == [NEW]
    counts = {count.meter: count for count in await store.slots(GATEWAY)}
    # one of the batch's slots of the second meter lies in a gap
    assert [counts[meter].gap_slots for meter in ("incomer", "pv")] == [0, 1]
    assert [counts[meter].lost_slots for meter in ("incomer", "pv")] == [19, 19]
    for count in counts.values():
        assert count.first_due_ms == first_ms
        assert SlotBalance(count).unexplained == 0


async def test_rows_explain_the_slots_that_a_put_back_gateway_believes_to_have_missed(
    engine: Engine, store: Store
) -> None:
    await store.commit([catalogue_of(), data_of(2), data_of(3)])
    before = await store.slots(GATEWAY)
    (group,) = await engine.rows("SELECT id FROM groups WHERE meter = 'incomer'")
    first_ms = EPOCH + SLOTS * 1_000 * 2
    last_ms = first_ms + (2 * SLOTS + 4) * 1_000
    values = f"({group[0]}, {first_ms}, {last_ms}, {2 * SLOTS + 5}, {int(Quality.STOPPED)})"
    await engine.rows(f"INSERT INTO gaps VALUES {values};")
    incomer = next(count for count in await store.slots(GATEWAY) if count.meter == "incomer")
    assert incomer.rows == next(count.rows for count in before if count.meter == "incomer")
    assert incomer.gap_slots == 5, "those that nobody has read"
    assert incomer.last_due_ms == last_ms
    assert INCOMER.period_ms == 1_000
