"""Totals that are not the sum of their rates, found in both databases alike."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest

from edgeagg import content
from edgeagg.batch import Batch, BatchKind
from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo, PointSum
from edgeagg.rate_sums import Cause
from edgeagg.receiver.store import Store
from edgeagg.receiver.sums import MOMENTS, broken_sums
from hil_tests.deliveries import EPOCH, GATEWAY, data_of, deliver

NAMES = ("active_energy_import", "reactive_energy_import")
UNITS = {"active_energy_import": "kWh", "reactive_energy_import": "varh"}
RATES = 2
SUMS = (PointSum(0, (1, 2)), PointSum(3, (4, 5)))
POINTS = tuple(
    PointInfo(name, UNITS[total], -2, Kind.TOTALISER)
    for total in NAMES
    for name in (total, *(f"{total}_t{rate}" for rate in range(1, RATES + 1)))
)
METER = Group("incomer", 60_000, POINTS, SUMS)
PLANT = Catalogue("plant", (MeterInfo("incomer", "x", 1, "", ""),), (METER,), (900_000,))
MINUTES = 4 * MOMENTS
TO_MS = EPOCH + MINUTES * 60_000


def shown(minute: int) -> list[int]:
    """Return registers of energy, then of reactive energy, that count every minute."""
    active = [4_000 + 7 * minute, 9_000 + 11 * minute]
    reactive = [50_000 + 300 * minute, 20_000 + 100 * minute]
    return [sum(active), *active, sum(reactive), *reactive]


async def keep(store: Store, wrong: int | None = None, per_minute: int = 0) -> None:
    """Store what such a meter shows; one register counts more than it should."""
    body = PLANT.to_bytes()
    announced = Batch(GATEWAY, EPOCH, 1, BatchKind.CATALOGUE, PLANT.hash, EPOCH, 0, body)
    rows = []
    for minute in range(MINUTES + 1):
        values = shown(minute)
        if wrong is not None:
            values[wrong] += per_minute * minute
        at_ms = EPOCH + minute * 60_000
        rows.append(content.ReadingRow(METER, at_ms, at_ms, tuple(values), (0,) * len(values)))
    delivery = dataclasses.replace(data_of(2), content=content.Content(tuple(rows), (), ()))
    await store.commit([deliver(announced, PLANT), delivery])


async def test_registers_that_add_up_are_no_finding(store: Store) -> None:
    await keep(store)
    assert await broken_sums(store, GATEWAY, EPOCH, TO_MS) == ()


@pytest.mark.parametrize(
    ("wrong", "unit", "digit"), [(0, "kWh", Fraction(1, 100)), (3, "kvarh", Fraction(1, 100_000))]
)
async def test_a_total_that_grows_without_its_rates_is_found(
    store: Store, wrong: int, unit: str, digit: Fraction
) -> None:
    await keep(store, wrong, 5)
    (found,) = await broken_sums(store, GATEWAY, EPOCH, TO_MS)
    assert (found.meter, found.unit) == ("incomer", unit)
    assert (found.total, *found.parts) == tuple(p.name for p in POINTS[wrong : wrong + 3])
    broken = found.broken
    assert (broken.cause, broken.tolerance) == (Cause.NOT_READ, 3 * digit)
    assert broken.last.at_ms == TO_MS
    assert broken.last.difference == 5 * MINUTES * digit
    assert f"{unit}, where rounding explains" in str(found)


async def test_a_range_before_the_fault_has_no_finding(store: Store) -> None:
    await keep(store, 0, 5)
    assert await broken_sums(store, GATEWAY, EPOCH - 1, EPOCH) == ()
