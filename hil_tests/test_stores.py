"""Both databases of the receiver, real ones, keep the same promises and give the same answers."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from edgeagg import content
from edgeagg.balance import Energy
from edgeagg.batch import Batch, BatchKind
from edgeagg.errors import StoreError
from edgeagg.model import Group, Kind, PointInfo, Quality
from edgeagg.receiver import sqlite_queries
from edgeagg.receiver.store import (
    Bound,
    Delivery,
    Outcome,
    Progress,
    Quarantined,
    Refused,
    Register,
    SlotCount,
    Store,
    StreamStatus,
    open_store,
)
from edgeagg.seal import MESSAGE_BYTES_MAX
from hil_tests.deliveries import (
    CATALOGUE,
    ENERGY,
    EPOCH,
    GATEWAY,
    INCOMER,
    OTHER_GATEWAY,
    PV,
    VOLTAGE,
    Engine,
    catalogue_of,
    data_of,
    deliver,
    lost,
    sqlite_engine,
)

NEW, AGAIN, CONFLICT = Outcome.NEW, Outcome.AGAIN, Outcome.CONFLICT


IMPORT = "active_energy_import"


def rows_of(sequence: int, *found: content.ReadingRow | content.WindowRow) -> Delivery:
    """Return a delivery with these rows."""
    readings = tuple(row for row in found if isinstance(row, content.ReadingRow))
    windows = tuple(row for row in found if isinstance(row, content.WindowRow))
    rows = content.Content(readings, windows, ())
    return dataclasses.replace(data_of(sequence), content=rows)


def reading(group: Group, at_ms: int, *mantissas: int) -> content.ReadingRow:
    """Return a row in which all is good."""
    return content.ReadingRow(group, at_ms, at_ms, mantissas, (0,) * len(mantissas))


def window(
    group: Group, start_ms: int, energies: Sequence[int | None], values: int | None
) -> content.WindowRow:
    """Return a window of 10 s with these energies, and as many values of each point."""
    columns: dict[str, tuple[int | None, ...]] = {
        field.name: (0,) * len(energies)
        for field in dataclasses.fields(content.WindowRow)
        if field.name not in {"group", "length_ms", "start_ms"}
    }
    columns |= {"energies": tuple(energies), "values": (values,) * len(energies)}
    return content.WindowRow(group=group, length_ms=10_000, start_ms=start_ms, **columns)


async def answers(store: Store) -> list[object]:
    """Ask the store everything that the receiver and the audit ask it."""
    found: list[object] = [await store.streams(), await store.catalogue(CATALOGUE.hash)]
    for gateway in (GATEWAY, OTHER_GATEWAY, "qp-0003"):
        found += [
            await store.progress(gateway, EPOCH),
            await store.progress(gateway, EPOCH + 1),
            await store.catalogues(gateway),
            await store.slots(gateway),
            await store.window_count(gateway),
        ]
        for meter in ("incomer", "pv", "nobody"):
            for point in ("active_energy_import", "voltage_l1"):
                for second in (-5, 0, 20, 33, 41, 95, 500):
                    at_ms = EPOCH + 1_000 * second + 2
                    found.append(await store.bracket(gateway, meter, point, at_ms))
        for length_ms in (10_000, 900_000):
            found.append(await store.span(gateway, length_ms))
            for to_ms in (EPOCH, EPOCH + 70_000, EPOCH + 500_000):
                found.append(await store.energies(gateway, length_ms, EPOCH, to_ms))
    return found


async def test_both_engines_answer_the_same_to_the_same_history(
    tmp_path: Path, database: str
) -> None:
    dice = random.Random(7)
    deliveries = [catalogue_of(), catalogue_of(OTHER_GATEWAY), catalogue_of(epoch=EPOCH + 1)]
    deliveries += [data_of(sequence) for sequence in (2, 3, 5, 6, 9)]
    deliveries += [data_of(2, gateway=OTHER_GATEWAY), data_of(4, epoch=EPOCH + 1)]
    deliveries += [lost(8), lost(3), data_of(5, voltage=1), data_of(2)]
    dice.shuffle(deliveries)
    sqlite = await open_store(sqlite_engine(tmp_path).url)
    postgres = await open_store(database)
    try:
        while deliveries:
            some = [deliveries.pop() for _ in range(min(dice.randint(1, 4), len(deliveries)))]
            assert await sqlite.commit(some) == await postgres.commit(some)
            assert await answers(sqlite) == await answers(postgres)
    finally:
        await sqlite.close()
        await postgres.close()


async def test_an_empty_store_answers_that_it_has_nothing(store: Store) -> None:
    assert await store.streams() == []
    assert await store.catalogue(CATALOGUE.hash) is None
    assert await store.progress(GATEWAY, EPOCH) == Progress(0, ())
    assert await store.catalogues(GATEWAY) == []
    assert await store.slots(GATEWAY) == []
    assert await store.window_count(GATEWAY) == 0
    assert await store.bracket(GATEWAY, "incomer", IMPORT, EPOCH) == (None, None)
    assert await store.span(GATEWAY, 10_000) is None
    assert await store.energies(GATEWAY, 10_000, 0, EPOCH) == {}
    assert await store.quarantined() == Quarantined(0, 0, 0, 0)
    assert await store.commit([]) == []


async def test_a_committed_batch_is_counted_slot_by_slot(store: Store) -> None:
    data = data_of(2)
    assert await store.commit([catalogue_of(), data]) == [NEW, NEW]
    first_ms, last_ms = EPOCH + 40_000, EPOCH + 59_000
    assert await store.slots(GATEWAY) == [
        SlotCount(GATEWAY, "incomer", 1_000, 2, first_ms, last_ms, 20, 38, 2, 0, has_energy=True),
        SlotCount(GATEWAY, "pv", 1_000, 1, first_ms, last_ms, 19, 19, 0, 1, has_energy=True),
    ]
    assert await store.window_count(GATEWAY) == 4
    (status,) = await store.streams()
    total_bytes = len(data.data) + len(catalogue_of().data)
    assert status == StreamStatus(GATEWAY, EPOCH, 2, 2, 0, 2, total_bytes)


async def test_a_batch_twice_changes_nothing(engine: Engine, store: Store) -> None:
    await store.commit([catalogue_of(), data_of(2)])
    before = await engine.dump()
    assert await store.commit([data_of(2), catalogue_of()]) == [AGAIN, AGAIN]
    assert await engine.dump() == before


async def test_keyframes_are_kept_for_16_batches(store: Store) -> None:
    first = data_of(2)
    assert content.anchor_of(first.batch.codec, first.batch.payload) is None
    await store.commit([catalogue_of(), first])
    assert await store.keyframe(GATEWAY, EPOCH, 2) == first.batch.payload
    assert await store.keyframe(OTHER_GATEWAY, EPOCH, 2) is None
    # 18 is the last that may begin with 2; a gap in front of it holds the keyframe, too
    await store.commit([lost(sequence) for sequence in (*range(3, 17), 18, 19, 20)])
    assert await store.keyframe(GATEWAY, EPOCH, 2) == first.batch.payload
    await store.commit([lost(17)])
    assert await store.keyframe(GATEWAY, EPOCH, 2) is None


async def test_a_batch_twice_in_one_commit_counts_once(store: Store) -> None:
    forked = data_of(2, voltage=1)
    deliveries = [catalogue_of(), data_of(2), data_of(2), forked]
    assert await store.commit(deliveries) == [NEW, NEW, AGAIN, CONFLICT]
    assert [count.rows for count in await store.slots(GATEWAY)] == [20, 19]


async def test_other_bytes_of_the_same_identity_conflict_and_the_first_stay(
    engine: Engine, store: Store
) -> None:
    await store.commit([catalogue_of(), data_of(2)])
    before = await engine.dump()
    assert await store.commit([data_of(2, voltage=1), data_of(3)]) == [CONFLICT, NEW]
    after = await engine.dump()
    assert before["readings"] < after["readings"]
    assert before["batches"] < after["batches"]


async def test_a_gap_is_asked_for_until_it_is_closed(store: Store) -> None:
    await store.commit([catalogue_of(), data_of(4), data_of(5), data_of(8)])
    progress = await store.progress(GATEWAY, EPOCH)
    assert progress == Progress(1, ((4, 5), (8, 8)))
    assert progress.want == ((2, 3), (6, 7))
    await store.commit([data_of(3), lost(2)])
    assert await store.progress(GATEWAY, EPOCH) == Progress(5, ((8, 8),))
    await store.commit([data_of(7), data_of(6)])
    assert await store.progress(GATEWAY, EPOCH) == Progress(8, ())


async def test_a_loss_never_displaces_a_batch(engine: Engine, store: Store) -> None:
    await store.commit([catalogue_of(), data_of(2)])
    before = await engine.dump()
    assert await store.commit([lost(2)]) == [AGAIN]
    assert await engine.dump() == before


async def test_a_batch_behind_its_declared_loss_changes_nothing_and_is_no_conflict(
    engine: Engine, store: Store
) -> None:
    await store.commit([catalogue_of(), lost(2)])
    before = await engine.dump()
    assert await store.commit([data_of(2)]) == [AGAIN]
    assert await store.commit([lost(3), data_of(3)]) == [NEW, AGAIN]
    assert (await engine.dump())["readings"] == before["readings"]


async def test_a_commit_that_fails_midway_leaves_nothing(engine: Engine, store: Store) -> None:
    await store.commit([catalogue_of()])
    before = await engine.dump()
    await engine.rows(engine.sabotage)
    with pytest.raises(StoreError, match="full"):
        await store.commit([data_of(2), catalogue_of(OTHER_GATEWAY), data_of(3)])
    assert await engine.dump() == before
    assert await store.progress(GATEWAY, EPOCH) == Progress(1, ())
    await engine.rows(engine.repair)
    assert await store.commit([data_of(2), data_of(3)]) == [NEW, NEW]
    assert await store.progress(GATEWAY, EPOCH) == Progress(3, ())


async def test_a_row_that_the_database_refuses_takes_the_whole_commit_along(
    engine: Engine, store: Store
) -> None:
    before = await engine.dump()
    nameless: Any = None
    with pytest.raises(StoreError):
        await store.commit([catalogue_of(), dataclasses.replace(data_of(2), digest=nameless)])
    assert await engine.dump() == before


async def test_the_views_show_values_in_their_units(engine: Engine, store: Store) -> None:
    await store.commit([catalogue_of(), data_of(2)])
    readings = await engine.rows(
        "SELECT gateway, meter, point, value, unit, quality, due_ms FROM reading"
        f" WHERE due_ms IN ({EPOCH + 41_000}, {EPOCH + 53_000}) ORDER BY due_ms, meter, point"
    )
    early_ms, late_ms = EPOCH + 41_000, EPOCH + 53_000
    assert readings == [
        (GATEWAY, "incomer", "active_energy_import", 41.0, "kWh", 0, early_ms),
        (GATEWAY, "incomer", "voltage_l1", 230.1, "V", 0, early_ms),
        (GATEWAY, "pv", "active_energy_import", -41.0, "kWh", 0, early_ms),
        (GATEWAY, "incomer", "active_energy_import", None, "kWh", 1, late_ms),
        (GATEWAY, "incomer", "voltage_l1", None, "V", 1, late_ms),
    ]
    energies = await engine.rows(
        "SELECT gateway, meter, point, window_s, energy, unit, value_count, slot_count"
        " FROM energy ORDER BY meter, start"
    )
    assert energies == [
        (GATEWAY, "incomer", "active_energy_import", 10, 10.0, "kWh", 10, 10),
        (GATEWAY, "incomer", "active_energy_import", 10, None, "kWh", 9, 10),
        (GATEWAY, "pv", "active_energy_import", 10, None, "kWh", 10, 10),
        (GATEWAY, "pv", "active_energy_import", 10, None, "kWh", 9, 9),
    ]
    times = [str(at) for (at,) in await engine.rows("SELECT DISTINCT at FROM reading ORDER BY at")]
    assert times[1].replace("T", " ").startswith("2026-09-21 14:14:00.005")
    starts = await engine.rows("SELECT DISTINCT start FROM energy ORDER BY start")
    assert str(starts[1][0]).replace("T", " ").startswith("2026-09-21 14:14:10")


async def test_values_of_every_size_and_exponent_are_shown(engine: Engine, store: Store) -> None:
    points = tuple(PointInfo(f"p{e}", "1", e, Kind.GAUGE) for e in (-18, -9, 0, 3))
    group = Group("incomer", 1_000, points)
    mantissas = (2**63 - 1, -(2**63), 2**53 + 1, -7)
    row = content.ReadingRow(group, EPOCH, EPOCH, mantissas, (0, 0, 0, 0))
    delivery = dataclasses.replace(data_of(2), content=content.Content((row,), (), ()))
    await store.commit([delivery])
    values = await engine.rows("SELECT value FROM reading ORDER BY point")
    expected = [-(2**63) / 10**9, (2**63 - 1) / 10**18, float(2**53 + 1), -7_000.0]
    assert sorted(value for (value,) in values) == sorted(expected)


async def test_a_catalogue_belongs_to_every_gateway_that_sent_it(store: Store) -> None:
    await store.commit([catalogue_of(), catalogue_of(OTHER_GATEWAY)])
    assert await store.catalogues(GATEWAY) == [CATALOGUE]
    assert await store.catalogues(OTHER_GATEWAY) == [CATALOGUE]
    assert await store.catalogue(CATALOGUE.hash) == CATALOGUE


async def test_the_newest_catalogue_is_the_one_that_came_last_though_it_came_before(
    store: Store,
) -> None:
    other = dataclasses.replace(CATALOGUE, site="another")
    body = Batch(GATEWAY, EPOCH, 2, BatchKind.CATALOGUE, other.hash, EPOCH, 0, other.to_bytes())
    await store.commit([catalogue_of(), deliver(body, other)])
    assert await store.catalogues(GATEWAY) == [CATALOGUE, other]
    await store.commit([catalogue_of(sequence=3)])
    assert await store.catalogues(GATEWAY) == [other, CATALOGUE]


async def test_a_group_of_512_points_with_long_names_finds_its_rows(store: Store) -> None:
    # more than any index entry of PostgreSQL can hold
    names = [f"{n}-" + "表" * 80 for n in range(511)]
    points = (*(PointInfo(name, "kWh", -2, Kind.GAUGE) for name in names), ENERGY)
    group = Group("incomer", 1_000, points)
    for sequence, due_ms in ((2, EPOCH), (3, EPOCH + 1_000)):
        await store.commit([rows_of(sequence, reading(group, due_ms, *[5] * 512))])
    (count,) = await store.slots(GATEWAY)
    assert (count.points, count.rows, count.values) == (512, 2, 1_024)
    before, _ = await store.bracket(GATEWAY, "incomer", IMPORT, EPOCH)
    assert before == Register(EPOCH, Fraction(5, 100))


async def test_a_meter_whose_points_change_gets_a_new_group(store: Store) -> None:
    changed = dataclasses.replace(INCOMER, points=(ENERGY,))
    await store.commit([rows_of(2, reading(INCOMER, EPOCH, 1, 2))])
    await store.commit([rows_of(3, reading(changed, EPOCH + 5, 3))])
    assert [count.points for count in await store.slots(GATEWAY)] == [2, 1]
    assert await store.bracket(GATEWAY, "incomer", IMPORT, EPOCH + 1) == (
        Register(EPOCH, Fraction(2, 100)),
        Register(EPOCH + 5, Fraction(3, 100)),
    )


async def test_a_register_is_looked_for_in_groups_that_hold_it_and_rows_that_are_good(
    store: Store,
) -> None:
    gauges = Group("incomer", 100, (VOLTAGE,))
    sold = PointInfo("active_energy_export", "MWh", -4, Kind.TOTALISER)
    look_alike = PointInfo("active_energy_import", "kWh", 0, Kind.GAUGE)
    export = Group("incomer", 1_000, (sold,))
    await store.commit(
        [
            rows_of(
                2,
                reading(INCOMER, EPOCH, 2_301, 700),
                content.ReadingRow(INCOMER, EPOCH + 1_000, EPOCH + 1_000, (None, 720), (1, 0)),
                reading(INCOMER, EPOCH + 9_000, 2_301, 900),
                *(reading(gauges, EPOCH + ms, 2_300) for ms in range(0, 9_000, 100)),
                reading(export, EPOCH + 2_000, 3),
                reading(Group("incomer", 10, (look_alike,)), EPOCH + 1_500, 1),
            )
        ]
    )
    assert await store.bracket(GATEWAY, "incomer", IMPORT, EPOCH + 1_500) == (
        Register(EPOCH, Fraction(7)),
        Register(EPOCH + 9_000, Fraction(9)),
    )
    assert await store.bracket(GATEWAY, "incomer", "active_energy_export", EPOCH + 1_500) == (
        None,
        Register(EPOCH + 2_000, Fraction(3, 10)),
    )
    assert await store.bracket(GATEWAY, "incomer", "voltage_l1", EPOCH + 1_500) == (None, None)
    assert [count.has_energy for count in await store.slots(GATEWAY)] == [False, False, True, True]


async def test_registers_are_found_through_an_index(engine: Engine, store: Store) -> None:
    assert await store.streams() == []
    found = await engine.rows(
        "SELECT sql FROM sqlite_master WHERE name = 'readings_by_time'"
        if engine.url.startswith("sqlite")
        else "SELECT indexdef FROM pg_indexes WHERE indexname = 'readings_by_time'"
    )
    ((definition,),) = found
    assert "(group_id, at_ms)" in definition
    if engine.url.startswith("sqlite"):
        plan = await engine.rows(
            "EXPLAIN QUERY PLAN "
            + sqlite_queries.BEFORE.replace("?1", "'g'")
            .replace("?2", "'m'")
            .replace("?3", "'p'")
            .replace("?4", "5")
        )
        assert any("readings_by_time" in str(step) for step in plan)


async def test_energies_are_net_and_by_window(store: Store) -> None:
    await store.commit([catalogue_of(), data_of(2), data_of(3)])
    first_ms = EPOCH + 40_000
    assert await store.span(GATEWAY, 10_000) == (first_ms, first_ms + 40_000)
    assert await store.span(GATEWAY, 900_000) is None
    found = await store.energies(GATEWAY, 10_000, EPOCH, EPOCH + 80_000)
    assert list(found) == ["incomer", "pv"]
    assert found["incomer"][first_ms] == Energy(Fraction(10), Fraction(1), Quality.GOOD)
    late = found["incomer"][first_ms + 10_000]
    assert (late.net_kwh, late.completeness) == (None, Fraction(9, 10))
    assert late.worst is Quality.NO_REPLY
    assert len(found["incomer"]) == 4
    # only what lies in the range as a whole
    some = await store.energies(GATEWAY, 10_000, first_ms + 1, first_ms + 30_000)
    assert list(some["incomer"]) == [first_ms + 10_000, first_ms + 20_000]
    assert await store.energies(OTHER_GATEWAY, 10_000, EPOCH, EPOCH + 80_000) == {}
    assert await store.energies(GATEWAY, 900_000, EPOCH, EPOCH + 80_000) == {}


async def test_meters_of_tier_0_have_no_place_in_the_energies(store: Store) -> None:
    meters = (CATALOGUE.meters[0], dataclasses.replace(CATALOGUE.meters[1], tier=0))
    newer = dataclasses.replace(CATALOGUE, meters=meters)
    body = Batch(GATEWAY, EPOCH, 3, BatchKind.CATALOGUE, newer.hash, EPOCH, 0, newer.to_bytes())
    await store.commit([catalogue_of(), data_of(2)])
    both = await store.energies(GATEWAY, 10_000, EPOCH, EPOCH + 80_000)
    assert list(both) == ["incomer", "pv"]
    await store.commit([deliver(body, newer)])
    assert list(await store.energies(GATEWAY, 10_000, EPOCH, EPOCH + 80_000)) == ["incomer"]


async def test_the_group_that_knows_more_of_a_window_counts(store: Store) -> None:
    sold = PointInfo("active_energy_export", "Wh", 0, Kind.TOTALISER)
    both = Group("incomer", 1_000, (sold, ENERGY))
    slower = Group("incomer", 5_000, (ENERGY,))
    apart = Group("incomer", 2_000, (sold,))
    alone = Group("pv", 1_000, (sold,))
    await store.commit(
        [
            rows_of(
                2,
                # the period was changed: the second knows its whole window, the first half of it
                window(both, EPOCH, (3_000, 700), 5),
                window(slower, EPOCH, (900,), 2),
                window(both, EPOCH + 10_000, (None, None), 5),
                window(slower, EPOCH + 10_000, (800,), 1),
                window(slower, EPOCH + 20_000, (600,), 2),
                window(apart, EPOCH + 20_000, (1_000,), 5),
                window(slower, EPOCH + 30_000, (600,), 2),
                window(both, EPOCH + 40_000, (3_000, 700), 10),
                window(slower, EPOCH + 40_000, (900,), 1),
                window(alone, EPOCH, (2_500,), 10),
            )
        ]
    )
    found = await store.energies(GATEWAY, 10_000, EPOCH, EPOCH + 80_000)
    energies = {start_ms - EPOCH: energy.net_kwh for start_ms, energy in found["incomer"].items()}
    # one window has no export, and a group of export alone should have brought it
    assert energies == {0: 6, 10_000: None, 20_000: 5, 30_000: None, 40_000: 4}
    assert found["incomer"][EPOCH].completeness == Fraction(1, 2)
    assert found["pv"] == {EPOCH: Energy(Fraction(-5, 2), Fraction(1), Quality.GOOD)}


async def test_a_window_that_makes_no_sense_is_unknown_and_harms_nobody(store: Store) -> None:
    odd = dataclasses.replace(ENERGY, unit="kvarh")
    await store.commit(
        [
            rows_of(
                2,
                dataclasses.replace(window(PV, EPOCH, (5,), None), worst=(77,)),
                dataclasses.replace(window(PV, EPOCH + 10_000, (5,), 10**9), worst=(None,)),
                window(Group("incomer", 1_000, (odd,)), EPOCH, (5,), 10),
            )
        ]
    )
    assert await store.energies(GATEWAY, 10_000, EPOCH, EPOCH + 80_000) == {
        "pv": {
            EPOCH: Energy(Fraction(5, 100), Fraction(0), None),
            EPOCH + 10_000: Energy(Fraction(5, 100), Fraction(1), None),
        }
    }


async def test_a_refused_message_is_kept_once_whatever_is_in_it(
    engine: Engine, store: Store
) -> None:
    largest = random.Random(1).randbytes(256 * 1024)
    for _ in range(2):
        await store.quarantine(EPOCH, [Refused("edgeagg/v1/a/batch", "damaged", largest)])
        await store.quarantine(EPOCH, [Refused("edgeagg/v1/a\0/b", "on \0", b"\0")])
        await store.quarantine(EPOCH, [Refused("edgeagg/v1/b/batch", "damaged", largest)])
    found = await engine.rows("SELECT data FROM quarantine")
    assert sorted(found) == sorted([(b"\0",), (largest,), (largest,)])


async def test_quarantine_drops_the_oldest_beyond_its_rows_and_counts_them(
    engine: Engine, store: Store
) -> None:
    del store  # it has made the tables
    bounded = await open_store(engine.url, Bound(rows_max=20))
    for number in range(20):
        await bounded.quarantine(EPOCH + number, [Refused("t", "r", bytes([number]))])
    assert await bounded.quarantined() == Quarantined(20, 60, 0, 0)
    await bounded.quarantine(EPOCH + 20, [Refused("t", "r", bytes([20]))])
    await bounded.quarantine(
        EPOCH + 21, [Refused("t", "r", bytes([20]))]
    )  # again: it changes nothing
    kept = sorted(data[0] for (data,) in await engine.rows("SELECT data FROM quarantine"))
    assert kept == list(range(3, 21))
    assert await bounded.quarantined() == Quarantined(18, 54, 3, 9)
    await bounded.close()


async def test_quarantine_drops_the_oldest_beyond_its_bytes_and_keeps_the_newest(
    engine: Engine, store: Store
) -> None:
    del store
    bounded = await open_store(engine.url, Bound(bytes_max=1_000))
    for number in range(4):
        await bounded.quarantine(EPOCH + number, [Refused("表", "r", bytes([number]) * 296)])
    assert [row[0] for row in await engine.rows("SELECT received_ms FROM quarantine")] == [
        EPOCH + 1,
        EPOCH + 2,
        EPOCH + 3,
    ]
    assert await bounded.quarantined() == Quarantined(3, 900, 1, 300)
    await bounded.quarantine(EPOCH + 4, [Refused("t", "r", bytes(5_000))])
    assert await bounded.quarantined() == Quarantined(1, 5_002, 4, 1_200)
    await bounded.close()


async def test_of_a_message_larger_than_any_may_be_only_the_beginning_is_kept(
    engine: Engine, store: Store
) -> None:
    monster = random.Random(2).randbytes(MESSAGE_BYTES_MAX + 1)
    for _ in range(2):
        await store.quarantine(EPOCH, [Refused("t", "too long", monster)])
    ((reason, data),) = await engine.rows("SELECT reason, data FROM quarantine")
    assert data == monster[:-1]
    assert reason == "too long (262145 bytes, the first 262144 are kept)"


async def test_a_quarantine_of_before_there_was_a_bound_is_counted_when_it_is_opened(
    engine: Engine, store: Store
) -> None:
    await store.quarantine(EPOCH, [Refused("表", "r", bytes(10))])
    await engine.rows("DROP TABLE quarantine_totals;")
    again = await open_store(engine.url)
    assert await again.quarantined() == Quarantined(1, 14, 0, 0)
    await again.close()


async def test_receivers_that_refuse_at_once_count_every_message(engine: Engine) -> None:
    stores = [await open_store(engine.url, Bound(rows_max=10)) for _ in range(3)]
    await asyncio.gather(
        *(
            each.quarantine(EPOCH + number, [Refused("t", "r", bytes([number]))])
            for each in stores
            for number in range(30)
        )
    )
    found = await stores[0].quarantined()
    ((rows, size),) = await engine.rows("SELECT count(*), sum(length(data) + 2) FROM quarantine")
    assert (found.row_count, found.byte_count) == (rows, size)
    # one that was dropped may come again and be new again
    assert found.row_count + found.dropped_rows >= 30
    assert found.row_count <= 10
    for each in stores:
        await each.close()


async def test_receivers_that_open_at_once_do_not_fail(engine: Engine) -> None:
    stores = await asyncio.gather(*(open_store(engine.url) for _ in range(4)))
    for one in stores:
        assert await one.streams() == []
        await one.close()


async def test_receivers_that_commit_the_same_at_once_store_it_once(engine: Engine) -> None:
    stores = [await open_store(engine.url) for _ in range(3)]
    deliveries = [catalogue_of(), catalogue_of(OTHER_GATEWAY)]
    # the rows of the two epochs are the same, so their keys meet as well
    deliveries += [data_of(sequence, epoch=EPOCH + sequence % 2) for sequence in range(2, 10)]
    deliveries += [data_of(s, epoch=EPOCH + 1 - s % 2, voltage=7) for s in range(2, 10)]
    deliveries += [data_of(sequence, gateway=OTHER_GATEWAY) for sequence in range(2, 6)]

    async def one(store: Store, seed: int) -> list[Delivery]:
        mine = random.Random(seed).sample(deliveries, len(deliveries))
        new = []
        for at in range(0, len(mine), 6):
            outcomes = await store.commit(mine[at : at + 6])
            pairs = zip(mine[at : at + 6], outcomes, strict=True)
            assert {outcome for _, outcome in pairs} <= {NEW, AGAIN}
            pairs = zip(mine[at : at + 6], outcomes, strict=True)
            new += [delivery for delivery, outcome in pairs if outcome is NEW]
        return new

    found = await asyncio.gather(*(one(each, seed) for seed, each in enumerate(stores)))
    assert sorted(d.digest for new in found for d in new) == sorted(d.digest for d in deliveries)
    assert sum(count.rows for count in await stores[0].slots(GATEWAY)) == 8 * 39
    for each in stores:
        await each.close()
