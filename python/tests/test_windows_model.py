"""The core's windows against the naive model, on random histories with faults and restarts."""

from __future__ import annotations

from collections import Counter

import pytest

from edgeagg import _core
from python.tests.window_histories import (
    DAY_MS,
    HOUR_MS,
    Cut,
    Gap,
    Gateway,
    Replaced,
    Restart,
    difference,
    history,
    naive,
    told_by,
)

HISTORIES = 30


@pytest.mark.parametrize("seed", range(10))
def test_core_and_model_agree_whatever_happens_to_the_gateway(seed: int) -> None:
    for number in range(HISTORIES):
        assert difference(f"{seed}:{number}") is None


def test_the_histories_hold_every_fault_they_speak_of() -> None:
    seen: Counter[str] = Counter()
    for number in range(150):
        life = history(f"faults:{number}")
        told, late = naive(life)
        seen["late rows"] += late
        for kind in (Gap, Replaced, Restart, Cut):
            seen[kind.__name__] += sum(isinstance(event, kind) for event in life.events)
        for (_, length_ms, _), points in told.windows.items():
            seen["energies"] += sum(point[7] is not None for point in points)
            seen["energies unknown"] += sum(point[7] is None for point in points)
            seen["windows not covered"] += sum(point[8] == 0 for point in points)
            seen["days"] += length_ms == DAY_MS
            seen["months"] += length_ms == _core.MONTH_MS
            seen["windows longer than an hour"] += length_ms > HOUR_MS
        seen["statistics"] += len(told.statistics)
        seen["uncertainties"] += sum(
            each is not None and each > 0 for row in told.uncertainties.values() for each in row
        )
        seen.update(f"audits of kind {audit[0]}" for _, _, audit in told.audits)
    kinds = ["late rows", "Gap", "Restart", "Cut", "energies", "energies unknown"]
    kinds += ["windows not covered", "windows longer than an hour", "statistics", "uncertainties"]
    assert all(seen[kind] > 50 for kind in kinds), seen
    rare = ["Replaced", "days", "months", *(f"audits of kind {kind}" for kind in range(1, 9))]
    assert all(seen[kind] > 5 for kind in rare), seen


def test_a_window_twice_would_be_seen() -> None:
    life = history("twice:1")
    gateway = Gateway(life)
    for event in life.events:
        gateway.take(event)
    assert told_by(gateway.payloads).windows
    with pytest.raises(AssertionError, match="twice"):
        told_by(gateway.payloads * 2)
