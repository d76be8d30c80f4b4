"""The core's windows against the naive model, on random histories with faults and restarts."""

from __future__ import annotations

from collections import Counter

import pytest

from python.tests.window_histories import (
    HOUR_MS,
    Cut,
    Gap,
    Gateway,
    Restart,
    difference,
    history,
    naive,
    windows_of,
)

HISTORIES = 30


@pytest.mark.parametrize("seed", range(10))
def test_core_and_model_agree_whatever_happens_to_the_gateway(seed: int) -> None:
    for number in range(HISTORIES):
        assert difference(f"{seed}:{number}") is None


def test_the_histories_hold_every_fault_they_speak_of() -> None:
    seen: Counter[str] = Counter()
    for number in range(100):
        life = history(f"faults:{number}")
        (windows, statistics), late = naive(life)
        seen["late rows"] += late
        seen["gaps"] += sum(isinstance(event, Gap) for event in life.events)
        seen["restarts"] += sum(isinstance(event, Restart) for event in life.events)
        seen["cuts"] += sum(isinstance(event, Cut) for event in life.events)
        for points in windows.values():
            seen["energies"] += sum(point[7] is not None for point in points)
            seen["energies unknown"] += sum(point[7] is None for point in points)
            seen["windows not covered"] += sum(point[8] == 0 for point in points)
        seen["statistics"] += len(statistics)
        seen["days"] += sum(length_ms == 24 * HOUR_MS for _, length_ms, _ in windows)
    kinds = ["late rows", "gaps", "restarts", "cuts", "energies", "energies unknown"]
    kinds += ["windows not covered", "statistics"]
    assert all(seen[kind] > 50 for kind in kinds), seen
    assert seen["days"] > 10, seen


def test_a_window_twice_would_be_seen() -> None:
    life = history("twice")
    gateway = Gateway(life)
    for event in life.events:
        gateway.take(event)
    windows, _ = windows_of(gateway.payloads)
    assert windows
    with pytest.raises(AssertionError, match="twice"):
        windows_of(gateway.payloads * 2)
