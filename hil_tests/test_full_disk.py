"""The hour of full disk, in minutes; what its judge notices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hil_tests import full_disk
from hil_tests.full_disk import Outcome
from hil_tests.stored import Gap, Group, Reading, Stored, StoredPoint
from hil_tests.verdict import Verdict

OWN = Group(
    1, "gateway", 60_000, tuple(StoredPoint(f"state_{name}", 0) for name in full_disk.OWN_COUNTS)
)
METER = Group(2, "incomer", 1_000, (StoredPoint("a", 0), StoredPoint("b", 0)))


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("mode", ["away", "thief"])
def test_what_a_full_disk_costs_is_what_the_platform_is_told(tmp_path: Path, mode: str) -> None:
    outcome = full_disk.run(mode, tmp_path, 90)
    assert not outcome.faults, "\n".join(outcome.lines())
    assert outcome.dropped > 0


def compared(
    *, dropped: int = 3, declared: int = 3, reported: int = 3, cut: int = 100
) -> list[str]:
    """Return the faults of a run in which two slots were not kept."""
    found = Stored((OWN, METER))
    found.readings[OWN] = [Reading(0, 0, (0, 0)), Reading(60_000, 60_000, (reported, 2))]
    found.gaps[METER] = [Gap(0, 0, 1, 8), Gap(5_000, 9_000, 5, 7)]
    status = {
        "slots": {"cut": cut},
        "disk": {"not_kept": 2},
        "batches": {"dropped": dropped},
    }
    outcome = Outcome("away")
    full_disk.compare(status, declared, found, Verdict(due=100, values=70, missed=10), outcome)
    assert outcome.hole_slots == 20
    return outcome.faults


def test_a_run_that_adds_up_has_no_faults() -> None:
    assert compared() == []


@pytest.mark.parametrize("count", ["dropped", "declared", "reported", "cut"])
def test_a_count_that_is_off_by_one_is_a_fault(count: str) -> None:
    right = {"dropped": 3, "declared": 3, "reported": 3, "cut": 100}
    assert compared(**(right | {count: right[count] - 1}))
