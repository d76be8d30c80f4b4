"""Both databases of the receiver, real ones, keep the same promises and give the same answers."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edgeagg import content
from edgeagg.errors import StoreError
from edgeagg.model import Group, Kind, PointInfo
from edgeagg.receiver.store import (
    Delivery,
    Outcome,
    Progress,
    SlotCount,
    Store,
    StoredRow,
    StreamStatus,
    open_store,
)
from hil_tests.deliveries import (
    CATALOGUE,
    ENERGY,
    EPOCH,
    GATEWAY,
    INCOMER,
    OTHER_GATEWAY,
    VOLTAGE,
    Engine,
    catalogue_of,
    data_of,
    lost,
    postgres_engine,
    sqlite_engine,
)

NEW, AGAIN, CONFLICT = Outcome.NEW, Outcome.AGAIN, Outcome.CONFLICT


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    if request.param == "sqlite":
        return sqlite_engine(tmp_path)
    return postgres_engine(request.getfixturevalue("database"))


@pytest.fixture
async def store(engine: Engine) -> AsyncIterator[Store]:
    opened = await open_store(engine.url)
    yield opened
    await opened.close()


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
            for second in (-5, 0, 20, 33, 41, 95, 500):
                found.append(await store.bracket(gateway, meter, EPOCH + 1_000 * second + 2))
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
    assert await store.bracket(GATEWAY, "incomer", EPOCH) == (None, None)
    assert await store.commit([]) == []


async def test_a_committed_batch_is_counted_slot_by_slot(store: Store) -> None:
    data = data_of(2)
    assert await store.commit([catalogue_of(), data]) == [NEW, NEW]
    first_ms, last_ms = EPOCH + 40_000, EPOCH + 59_000
    assert await store.slots(GATEWAY) == [
        SlotCount(GATEWAY, "incomer", 1_000, 2, first_ms, last_ms, 20, 38, 2, 0),
        SlotCount(GATEWAY, "pv", 1_000, 1, first_ms, last_ms, 19, 19, 0, 1),
    ]
    assert await store.window_count(GATEWAY) == 4
    (status,) = await store.streams()
    total_bytes = data.bytes_count + catalogue_of().bytes_count
    assert status == StreamStatus(GATEWAY, EPOCH, 2, 2, 0, 2, total_bytes)


async def test_a_batch_twice_changes_nothing(engine: Engine, store: Store) -> None:
    await store.commit([catalogue_of(), data_of(2)])
    before = await engine.dump()
    assert await store.commit([data_of(2), catalogue_of()]) == [AGAIN, AGAIN]
    assert await engine.dump() == before


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
    assert await store.bracket(GATEWAY, "incomer", EPOCH) == (
        StoredRow(EPOCH, points, mantissas),
        StoredRow(EPOCH, points, mantissas),
    )
    values = await engine.rows("SELECT value FROM reading ORDER BY point")
    expected = [-(2**63) / 10**9, (2**63 - 1) / 10**18, float(2**53 + 1), -7_000.0]
    assert sorted(value for (value,) in values) == sorted(expected)


async def test_a_catalogue_belongs_to_every_gateway_that_sent_it(store: Store) -> None:
    await store.commit([catalogue_of(), catalogue_of(OTHER_GATEWAY)])
    assert await store.catalogues(GATEWAY) == [CATALOGUE]
    assert await store.catalogues(OTHER_GATEWAY) == [CATALOGUE]
    assert await store.catalogue(CATALOGUE.hash) == CATALOGUE


async def test_a_group_of_512_points_with_long_names_finds_its_rows(store: Store) -> None:
    # more than any index entry of PostgreSQL can hold
    points = tuple(PointInfo(f"{n}-" + "表" * 80, "kWh", -2, Kind.GAUGE) for n in range(512))
    group = Group("incomer", 1_000, points)
    rows = tuple(
        content.ReadingRow(group, due_ms, due_ms, (5,) * 512, (0,) * 512)
        for due_ms in (EPOCH, EPOCH + 1_000)
    )
    for sequence, row in zip((2, 3), rows, strict=True):
        delivery = dataclasses.replace(data_of(sequence), content=content.Content((row,), (), ()))
        await store.commit([delivery])
    (count,) = await store.slots(GATEWAY)
    assert (count.points, count.rows, count.values) == (512, 2, 1_024)
    before, _ = await store.bracket(GATEWAY, "incomer", EPOCH)
    assert before == StoredRow(EPOCH, points, (5,) * 512)


async def test_a_meter_whose_points_change_gets_a_new_group(store: Store) -> None:
    older = content.ReadingRow(INCOMER, EPOCH, EPOCH, (1, 2), (0, 0))
    changed = dataclasses.replace(INCOMER, points=(ENERGY,))
    newer = content.ReadingRow(changed, EPOCH, EPOCH + 5, (3,), (0,))
    for sequence, row in ((2, older), (3, newer)):
        rows = content.Content((row,), (), ())
        await store.commit([dataclasses.replace(data_of(sequence), content=rows)])
    assert [count.points for count in await store.slots(GATEWAY)] == [2, 1]
    assert await store.bracket(GATEWAY, "incomer", EPOCH + 1) == (
        StoredRow(EPOCH, (VOLTAGE, ENERGY), (1, 2)),
        StoredRow(EPOCH + 5, (ENERGY,), (3,)),
    )


async def test_a_refused_message_is_kept_once_whatever_is_in_it(
    engine: Engine, store: Store
) -> None:
    largest = random.Random(1).randbytes(256 * 1024)
    for _ in range(2):
        await store.quarantine(EPOCH, "edgeagg/v1/a/batch", "damaged", largest)
        await store.quarantine(EPOCH, "edgeagg/v1/a\0/b", "on \0", b"\0")
        await store.quarantine(EPOCH, "edgeagg/v1/b/batch", "damaged", largest)
    found = await engine.rows("SELECT data FROM quarantine")
    assert sorted(found) == sorted([(b"\0",), (largest,), (largest,)])


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
