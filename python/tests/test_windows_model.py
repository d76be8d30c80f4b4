"""The core's windows against the naive model, on random histories with faults and restarts."""

from __future__ import annotations

from collections import Counter

import pytest

from edgeagg import _core
from edgeagg.model import Quality
from python.tests.naive_windows import Read
from python.tests.window_histories import (
    DAY_MS,
    HOUR_MS,
    LONG_AFTER_MS,
    Cut,
    Gap,
    Gateway,
    History,
    Replaced,
    Restart,
    Slot,
    difference,
    disagreement,
    history,
    naive,
    told_by,
)

HISTORIES = 30
MINUTE_MS = 60_000
END_MS = 40 * MINUTE_MS
ENERGY = 7


@pytest.mark.parametrize("seed", range(10))
def test_core_and_model_agree_whatever_happens_to_the_gateway(seed: int) -> None:
    for number in range(HISTORIES):
        assert difference(f"{seed}:{number}") is None


@pytest.mark.parametrize(("cut_ms", "energy"), [(END_MS + 1_999, None), (END_MS + 2_000, 15)])
def test_a_fall_across_the_end_of_a_window_counts_until_the_window_has_been_told(
    cut_ms: int, energy: int | None
) -> None:
    # a clock that is ahead puts a reading behind the window's end, and is set back
    events = [
        Slot(0, Read(due_ms, at_ms, (value,), (Quality.GOOD,)))
        for due_ms, at_ms, value in (
            (0, 0, 1_000),
            (15 * MINUTE_MS, 15 * MINUTE_MS, 1_000),
            (30 * MINUTE_MS, 45 * MINUTE_MS, 1_018),
            (45 * MINUTE_MS, 38 * MINUTE_MS, 1_018),
            (60 * MINUTE_MS, 60 * MINUTE_MS, 100),
        )
    ]
    life = History(
        groups=((15 * MINUTE_MS, (True,)),),
        lengths_ms=(END_MS,),
        zone="Asia/Shanghai",
        statistics=(),
        events=(*events[:3], Cut(cut_ms), *events[3:], Cut(LONG_AFTER_MS)),
    )
    told, _ = naive(life)
    assert told.windows[0, END_MS, 0][0][ENERGY] == energy
    assert disagreement(life) is None


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
