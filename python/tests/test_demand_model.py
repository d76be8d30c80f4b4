"""The core's demand against the naive model, on random histories with faults and restarts."""

from __future__ import annotations

from collections import Counter

import pytest

from edgeagg import _core
from python.tests.demand_histories import (
    MINUTE_MS,
    Gateway,
    Restart,
    days_of,
    difference,
    history,
    naive,
)

HISTORIES = 40
HOUR_MS = 60 * MINUTE_MS
GROUP = (MINUTE_MS, [False, True])


@pytest.mark.parametrize("seed", range(10))
def test_core_and_model_agree_on_every_day(seed: int) -> None:
    for number in range(HISTORIES):
        assert difference(f"{seed}:{number}") is None


def test_the_histories_hold_everything_they_speak_of() -> None:
    seen: Counter[str] = Counter()
    for number in range(200):
        life = history(f"faults:{number}")
        seen["restarts"] += sum(isinstance(event, Restart) for event in life.events)
        seen["cuts"] += sum(isinstance(event, int) for event in life.events)
        shapes = dict(life.demands)
        for (point, start_ms), told in naive(life).items():
            _, length_ms, block, _, sliding, end_ms, _ = told
            seen[f"kind {life.kinds[point]}"] += 1
            seen["days"] += 1
            seen["days without demand"] += sliding is None
            seen["days with sliding demand only"] += block is None and sliding is not None
            seen["sliding above block"] += block is not None and sliding != block
            seen["changed clocks"] += length_ms != 24 * HOUR_MS
            period_ms = shapes[point].period_ms
            seen["periods across midnight"] += end_ms is not None and end_ms - start_ms < period_ms
    assert len(seen) == 11
    assert all(count > 5 for count in seen.values()), seen
    assert seen["days"] > 300, seen


def test_a_day_twice_would_be_seen() -> None:
    life = history("twice")
    gateway = Gateway(life)
    for event in life.events:
        gateway.take(event)
    assert days_of(gateway.payloads) == naive(life) != {}
    with pytest.raises(AssertionError, match="twice"):
        days_of(gateway.payloads * 2)


@pytest.mark.parametrize(
    ("demand", "message"),
    [
        ((1, 0, 900_000, MINUTE_MS), "no such group"),
        ((0, 2, 900_000, MINUTE_MS), "no such point"),
        ((0, 0, 7 * MINUTE_MS, MINUTE_MS), "divides an hour"),
        ((0, 0, 900_000, 7 * MINUTE_MS), "divides an hour"),
        ((0, 0, 900_000, 30_000), "not below the period"),
    ],
)
def test_a_demand_that_cannot_be_taken_is_named(
    demand: tuple[int, int, int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        _core.Aggregator([GROUP], [900_000], demands=[demand])


def test_a_point_has_one_demand() -> None:
    twice = [(0, 1, 900_000, MINUTE_MS), (0, 1, 1_800_000, MINUTE_MS)]
    with pytest.raises(ValueError, match="has a demand already"):
        _core.Aggregator([GROUP], [900_000], demands=twice)
