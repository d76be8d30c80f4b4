"""Audits, uncertainties, statistics and demands in both databases, and files from before them."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest

from edgeagg.content import Content
from edgeagg.errors import StoreError
from edgeagg.judged import AuditKind, AuditRow, DemandRow, StatisticsRow, UncertaintyRow
from edgeagg.receiver.judgements import StoredAudit, StoredDemand, StoredUncertainty
from edgeagg.receiver.ledger import Alarm, AlarmKind
from edgeagg.receiver.store import Delivery, Outcome, Store, open_store
from hil_tests.deliveries import (
    EPOCH,
    GATEWAY,
    INCOMER,
    JUDGED_TABLES,
    LEDGER_TABLES,
    PV,
    Engine,
    catalogue_of,
    data_of,
)
from hil_tests.test_stores import reading, rows_of, window

MINUTE_MS = 60_000
NEXT = EPOCH + 10_000_000
FAR = 2**45
ROLLOVER = AuditRow(
    *(INCOMER, 1, AuditKind.ROLLOVER, EPOCH, 99_999_990, EPOCH + MINUTE_MS, 10, 20, 0, None)
)
DIP = AuditRow(*(PV, 0, AuditKind.DIP, NEXT, 100, NEXT + MINUTE_MS, 105, 5, 3, -7))
BIGGEST = 2**63 - 1


def judged(sequence: int = 2) -> Delivery:
    """Return a delivery with rows of every kind that a gateway judges."""
    demand = DemandRow(INCOMER, 1, EPOCH, 86_400_000, 4_000, NEXT, 4_100, NEXT + 1, 96)
    gauge = dataclasses.replace(demand, point=0, sliding=None, sliding_end_ms=None, periods=0)
    content = Content(
        readings=(),
        windows=(window(INCOMER, EPOCH, (None, 700), 10), window(PV, EPOCH, (None,), 0)),
        gaps=(),
        audits=(ROLLOVER, DIP),
        uncertainties=(
            UncertaintyRow(INCOMER, 10_000, EPOCH, (None, 3)),
            UncertaintyRow(PV, 10_000, EPOCH, (9,)),
        ),
        statistics=(StatisticsRow(INCOMER, 10_000, EPOCH, (5, None), (2_300, None), (-1, None)),),
        demands=(demand, gauge),
    )
    return dataclasses.replace(data_of(sequence), content=content)


async def test_an_audit_comes_back_in_its_units(store: Store) -> None:
    assert await store.commit([catalogue_of(), judged()]) == [Outcome.NEW] * 2
    found = await store.audits(GATEWAY, 0, FAR)
    assert list(found) == [
        StoredAudit(
            meter="incomer",
            point="active_energy_import",
            unit="kWh",
            kind=AuditKind.ROLLOVER,
            closing_ms=EPOCH,
            closing=Fraction(99_999_990, 100),
            opening_ms=EPOCH + MINUTE_MS,
            opening=Fraction(1, 10),
            energy=Fraction(1, 5),
            doubted=0,
            extreme=None,
        ),
        StoredAudit(
            meter="pv",
            point="active_energy_import",
            unit="kWh",
            kind=AuditKind.DIP,
            closing_ms=NEXT,
            closing=Fraction(1),
            opening_ms=NEXT + MINUTE_MS,
            opening=Fraction(105, 100),
            energy=Fraction(5, 100),
            doubted=3,
            extreme=Fraction(-7, 100),
        ),
    ]


@pytest.mark.parametrize(
    ("from_ms", "to_ms", "meters"),
    [
        (0, EPOCH, []),
        (0, EPOCH + 1, ["incomer"]),
        (EPOCH + MINUTE_MS, NEXT, ["incomer"]),  # bridges into the range, so it is of the range
        (EPOCH + MINUTE_MS + 1, NEXT, []),
        (EPOCH + MINUTE_MS + 1, FAR, ["pv"]),
    ],
)
async def test_audits_are_found_by_the_time_they_bridge(
    store: Store, from_ms: int, to_ms: int, meters: list[str]
) -> None:
    await store.commit([catalogue_of(), judged()])
    assert [one.meter for one in await store.audits(GATEWAY, from_ms, to_ms)] == meters


async def test_audits_and_demands_are_found_by_the_meter(store: Store) -> None:
    await store.commit([catalogue_of(), judged()])
    assert [one.kind for one in await store.audits(GATEWAY, 0, FAR, "pv")] == [AuditKind.DIP]
    assert await store.audits(GATEWAY, 0, FAR, "nobody") == []
    assert await store.audits("qp-0003", 0, FAR) == []
    assert len(await store.demands(GATEWAY, 0, FAR, "incomer")) == 2
    assert await store.demands(GATEWAY, 0, FAR, "pv") == []


async def test_a_demand_has_the_unit_of_its_kind_of_point(store: Store) -> None:
    await store.commit([catalogue_of(), judged()])
    gauge, totaliser = await store.demands(GATEWAY, EPOCH, EPOCH + 1)
    assert totaliser == StoredDemand(
        meter="incomer",
        point="active_energy_import",
        unit="kW",
        start_ms=EPOCH,
        length_ms=86_400_000,
        block=Fraction(40),
        block_end_ms=NEXT,
        sliding=Fraction(41),
        sliding_end_ms=NEXT + 1,
        periods=96,
    )
    assert (gauge.point, gauge.unit, gauge.block) == ("voltage_l1", "V", Fraction(4_000, 10_000))
    assert (gauge.sliding, gauge.sliding_end_ms, gauge.periods) == (None, None, 0)
    assert await store.demands(GATEWAY, EPOCH + 1, FAR) == []
    assert await store.demands(GATEWAY, 0, EPOCH) == []


async def test_an_uncertainty_is_found_at_both_ends_of_its_window(store: Store) -> None:
    await store.commit([catalogue_of(), judged()])
    known = StoredUncertainty(
        "active_energy_import", "kWh", 10_000, EPOCH, Fraction(7), Fraction(3, 100)
    )
    assert await store.uncertainties(GATEWAY, "incomer", EPOCH) == [known]
    assert await store.uncertainties(GATEWAY, "incomer", EPOCH + 10_000) == [known]
    assert await store.uncertainties(GATEWAY, "incomer", EPOCH + 5_000) == []
    assert await store.uncertainties(GATEWAY, "pv", EPOCH) == [], "its energy is not known"


async def test_judged_rows_twice_change_nothing(engine: Engine, store: Store) -> None:
    await store.commit([catalogue_of(), judged()])
    before = await engine.dump()
    assert all(before[table] for table in JUDGED_TABLES)
    # the same rows under another identity: a gateway whose state was restored sends them again
    assert await store.commit([judged(), judged(3)]) == [Outcome.AGAIN, Outcome.NEW]
    after = await engine.dump()
    assert {table: after[table] for table in JUDGED_TABLES} == {
        table: before[table] for table in JUDGED_TABLES
    }


async def test_the_largest_numbers_that_a_batch_can_carry_are_stored(store: Store) -> None:
    huge = dataclasses.replace(
        ROLLOVER, closing=-BIGGEST - 1, energy=BIGGEST, doubted=BIGGEST, extreme=-BIGGEST - 1
    )
    demand = DemandRow(INCOMER, 1, EPOCH, 2**32 - 1, BIGGEST, 0, -BIGGEST, 0, BIGGEST)
    content = Content((), (), (), audits=(huge,), demands=(demand,))
    await store.commit([catalogue_of(), dataclasses.replace(data_of(2), content=content)])
    (found,) = await store.audits(GATEWAY, 0, FAR)
    assert (found.energy, found.doubted) == (Fraction(BIGGEST, 100), BIGGEST)
    assert (await store.demands(GATEWAY, 0, FAR))[0].periods == BIGGEST


async def test_the_view_of_audits_says_kinds_in_words(engine: Engine, store: Store) -> None:
    await store.commit([catalogue_of(), judged()])
    found = await engine.rows(
        "SELECT gateway, meter, point, kind, closing, opening, energy, unit, doubted FROM audit"
        " ORDER BY meter"
    )
    assert found == [
        (GATEWAY, "incomer", "active_energy_import", "rollover", 999_999.9, 0.1, 0.2, "kWh", 0),
        (GATEWAY, "pv", "active_energy_import", "dip", 1.0, 1.05, 0.05, "kWh", 3),
    ]


async def test_a_database_from_before_audits_is_taken_over_with_what_it_holds(
    engine: Engine,
) -> None:
    store = await open_store(engine.url)
    await store.commit([catalogue_of(), data_of(2)])
    slots = await store.slots(GATEWAY)
    await store.close()
    dropped = "".join(f"DROP TABLE {table};" for table in JUDGED_TABLES)
    is_sqlite = engine.url.startswith("sqlite")
    version = "PRAGMA user_version = 0;" if is_sqlite else "DROP TABLE schema_version;"
    await engine.rows(f"DROP VIEW audit;{dropped}{version}")
    store = await open_store(engine.url)
    try:
        assert await store.slots(GATEWAY) == slots
        assert await store.commit([judged(3)]) == [Outcome.NEW]
        assert len(await store.audits(GATEWAY, 0, FAR)) == 2
    finally:
        await store.close()


async def test_a_database_from_before_statements_and_alarms_is_taken_over(engine: Engine) -> None:
    store = await open_store(engine.url)
    await store.commit([catalogue_of(), judged(2)])
    await store.close()
    dropped = "".join(f"DROP TABLE {table};" for table in (*LEDGER_TABLES, "lost_slots"))
    is_sqlite = engine.url.startswith("sqlite")
    version = "PRAGMA user_version = 2;" if is_sqlite else "UPDATE schema_version SET version = 2;"
    await engine.rows(f"{dropped}{version}")
    store = await open_store(engine.url)
    try:
        assert len(await store.audits(GATEWAY, 0, FAR)) == 2
        alarm = Alarm(GATEWAY, AlarmKind.FORK, 7, 1, 1, 1, 1, "two writers")
        await store.ledger.raise_alarm(alarm)
        assert await store.ledger.alarms() == [alarm]
        assert await store.ledger.stated(GATEWAY, 0, FAR) == []
    finally:
        await store.close()


async def test_tables_of_a_newer_edgeagg_are_refused_and_left_alone(engine: Engine) -> None:
    store = await open_store(engine.url)
    await store.close()
    is_sqlite = engine.url.startswith("sqlite")
    newer = "PRAGMA user_version = 99;" if is_sqlite else "UPDATE schema_version SET version = 99;"
    await engine.rows(newer)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"of version 99; this edgeagg reads up to 4") as found:
            await open_store(engine.url)
        assert "\n" not in str(found.value)


@pytest.mark.parametrize("is_flagged_first", [True, False])
async def test_a_reading_whose_time_nobody_vouched_for_gives_way(
    engine: Engine, store: Store, is_flagged_first: bool
) -> None:
    good = reading(INCOMER, EPOCH, 2_301, 70)
    flagged = dataclasses.replace(good, mantissas=(2_299, 60), qualities=(5, 5))
    both = (flagged, good) if is_flagged_first else (good, flagged)
    await store.commit([catalogue_of(), *(rows_of(n, row) for n, row in enumerate(both, 2))])
    ((at_ms, qualities),) = await engine.rows("SELECT at_ms, qualities FROM readings")
    assert (at_ms, qualities) == (EPOCH, None)
