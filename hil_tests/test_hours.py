"""Registers that roll over, start anew or lie: every bridge is an audit in the database.

Two hours of a line by the agent's and the platform's own parts, judged by the meters' own counters.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from edgeagg.cli import main
from hil_tests.hours import GATEWAY, POWER_MAX_KW, Fate, Lived, live
from hil_tests.oracle import judge
from hil_tests.stored import Audit, Stored, load
from hil_tests.verdict import Verdict

ROLLOVER, RESET, REPLACED, JUMP, FREEZE, DIP, GLITCH, GAP = range(1, 9)
NEVER: dict[str, Fate | None] = {"plain": None}
TWO: dict[str, Fate | None] = {
    **NEVER,
    "rolls": Fate("rollover"),
    "swapped": Fate("replaced"),
}
OTHERS: dict[str, Fate | None] = {
    "resets": Fate("reset"),
    "dips": Fate("dip_436", for_s=130),
    "jumps": Fate("jump"),
    "huge": Fate("huge"),
    "zeros": Fate("zeros"),
    "dark": Fate("gap", for_s=1_800),
    "freezes": Fate("freeze"),
}

Found = tuple[Stored, Lived, str]
"""What the database holds, what is known besides, and where the database is."""


def lived(fates: Mapping[str, Fate | None], directory: Path, url: str) -> Found:
    left = asyncio.run(live(fates, directory, url, hours=2))
    return load(url), left, url


def verdict_on(found: Found, stored: Stored | None = None) -> Verdict:
    _, left, _ = found
    return judge(stored or found[0], left.batches, left.truth, left.run)


def audits_of(stored: Stored) -> dict[str, list[Audit]]:
    return {group.meter: found for group, found in stored.audits.items()}


def kinds_of(stored: Stored) -> dict[str, list[int]]:
    return {meter: [one.kind for one in found] for meter, found in audits_of(stored).items()}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """Return a rollover and a replaced meter in SQLite; tests change copies of it."""
    folder = tmp_path_factory.mktemp("hours")
    return lived(TWO, folder, f"sqlite:///{folder}/platform.db")


def check_two(found: Found) -> None:
    stored = found[0]
    verdict = verdict_on(found)
    assert verdict.holds, verdict.notes
    assert verdict.energies > 50
    assert kinds_of(stored) == {"rolls": [ROLLOVER], "swapped": [REPLACED]}
    (rollover,), (replaced,) = audits_of(stored).values()
    # a counter of six digits and two decimals passes its last number
    assert rollover.closing > 99_990_000
    assert rollover.energy == 10**8 - rollover.closing + rollover.opening
    assert (replaced.energy, replaced.closing > 500_000) == (0, True)
    assert replaced.opening < 1_000


def test_a_rollover_and_a_replaced_meter_are_audits_in_sqlite(two: Found) -> None:
    check_two(two)


def test_a_rollover_and_a_replaced_meter_are_audits_in_postgresql(
    tmp_path: Path, database: str
) -> None:
    check_two(lived(TWO, tmp_path, database))


def test_the_command_shows_both_in_words(two: Found, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audits", "--store", two[2]]) == 0
    head, rollover, replaced = capsys.readouterr().out.splitlines()
    assert head == f"{GATEWAY}: 2 times a register was bridged"
    assert " rolls active_energy_import rolled over: 999999." in rollover
    assert " swapped active_energy_import another meter hangs there: " in replaced
    assert main(["audits", "--store", two[2], "--json"]) == 0
    assert [one["kind"] for one in json.loads(capsys.readouterr().out)] == ["rollover", "replaced"]


def test_the_greatest_demand_is_the_meters_own_and_no_bridge_spoils_it(
    two: Found, capsys: pytest.CaptureFixture[str]
) -> None:
    # the hours cross a local midnight: the day before it is known
    assert main(["demand", "--store", two[2], "--json"]) == 0
    found = {one["meter"]: one for one in json.loads(capsys.readouterr().out)}
    assert found.keys() == TWO.keys()
    truth = two[1].truth
    for meter, one in found.items():
        block, sliding = float(one["block"]["value"]), float(one["sliding"]["value"])
        assert (one["unit"], one["month"], one["days"]) == ("kW", "2026-09", 1)
        assert 0 < block <= sliding <= POWER_MAX_KW
        end_ms, point = one["block"]["end_ms"], truth.point(meter, "active_energy_import")
        begin_ms = end_ms - 900_000
        energy = truth.counted(meter, point, end_ms) - truth.counted(meter, point, begin_ms)
        assert block == pytest.approx(float(4 * energy), rel=0.03), meter


def test_whatever_a_register_does_nothing_is_negative_and_nothing_bridged_in_silence(
    tmp_path: Path,
) -> None:
    found = lived(OTHERS, tmp_path, f"sqlite:///{tmp_path}/platform.db")
    verdict = verdict_on(found)
    assert verdict.holds, verdict.notes
    kinds = kinds_of(found[0])
    # a frozen register that catches up within what the meter can count is no bridge at all
    frozen = kinds.pop("freezes", [])
    assert set(frozen) <= {FREEZE}
    assert kinds == {
        "resets": [RESET],
        "dips": [DIP],
        "jumps": [JUMP],
        "huge": [GLITCH],
        "zeros": [DIP],
        "dark": [GAP],
    }


# databases of a build that is broken: each must be noticed


def with_audits(stored: Stored, meter: str, audits: list[Audit]) -> Stored:
    changed = {
        group: audits if group.meter == meter else found for group, found in stored.audits.items()
    }
    return replace(stored, audits=changed)


def test_a_bridge_without_its_audit_is_noticed(two: Found) -> None:
    for meter in ("rolls", "swapped"):
        verdict = verdict_on(two, with_audits(two[0], meter, []))
        assert verdict.wrong > 0
        assert any("and no audit" in note and meter in note for note in verdict.notes)


@pytest.mark.parametrize("more", [-1, 1, 10**8])
def test_an_audit_that_counts_otherwise_is_noticed(two: Found, more: int) -> None:
    (audit,) = audits_of(two[0])["rolls"]
    changed = with_audits(two[0], "rolls", [replace(audit, energy=audit.energy + more)])
    verdict = verdict_on(two, changed)
    assert any("an audit of kind 1" in note for note in verdict.notes)


def test_an_energy_for_a_replaced_meter_is_noticed(two: Found) -> None:
    (audit,) = audits_of(two[0])["swapped"]
    changed = with_audits(two[0], "swapped", [replace(audit, energy=187)])
    assert any("counts 187" in note for note in verdict_on(two, changed).notes)


def test_an_audit_of_readings_that_nobody_took_is_noticed(two: Found) -> None:
    (audit,) = audits_of(two[0])["rolls"]
    changed = with_audits(two[0], "rolls", [replace(audit, closing=audit.closing + 1)])
    assert any("an audit closes with" in note for note in verdict_on(two, changed).notes)


def test_a_negative_energy_is_noticed(two: Found) -> None:
    stored = two[0]
    (group,) = (group for group in stored.groups if group.meter == "rolls")
    windows = [replace(one, energies=(-1,)) for one in stored.windows[group]]
    verdict = verdict_on(two, replace(stored, windows={**stored.windows, group: windows}))
    assert verdict.wrong >= len(windows)
