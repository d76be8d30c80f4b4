"""The windows' energies on databases made by hand: a shift of one end is seen, a right one is not.

The hand-made windows are summed here from the readings' own numbers, in floating point, not by the
code under test.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from hil_tests.energies import judge_energies
from hil_tests.oracle import judge
from hil_tests.sim.profile import Point
from hil_tests.sim.site import parse_site
from hil_tests.stored import Audit, Group, Reading, Stored, StoredPoint, Window
from hil_tests.truth import Truth
from hil_tests.verdict import Run, Span, Verdict

_BEGIN_MS = 1_764_000_000_000
_SLOTS = 37
_LENGTH_MS = 10_000
_SITE = {
    "seed": 1,
    "start_ms": _BEGIN_MS - 3_600_000,
    "day_speed": 240,
    "line": [
        {
            "name": "bus",
            "tcp": 1502,
            "meter": [
                {
                    "name": "m",
                    "unit": 1,
                    "profile": "eastron-sdm630",
                    "load": "hvac",
                    "scale_kw": 2000,
                }
            ],
        }
    ],
}
_POINT = StoredPoint("active_energy_import", -2, "totaliser")
_GROUP = Group(1, "m", 1_000, (_POINT,))
_RUN = Run(
    span=Span(_BEGIN_MS - 60_000, _BEGIN_MS + 60_000),
    agent_span=Span(_BEGIN_MS, _BEGIN_MS + (_SLOTS - 1) * 1_000),
    blur_ms=100,
)


@pytest.fixture(scope="module")
def truth() -> Truth:
    """Return one meter whose load is never the same for long."""
    return Truth(parse_site(_SITE, where="here"))


@pytest.fixture
def stored(truth: Truth) -> Stored:
    """Return what a faultless run leaves: a reading 50 ms behind each slot, two windows."""
    point = truth.point("m", "active_energy_import")
    assert isinstance(point, Point)
    readings = []
    for slot in range(_SLOTS):
        due_ms = _BEGIN_MS + slot * 1_000
        counted = truth.modbus["m"].value(point, due_ms + 50)
        readings.append(Reading(due_ms, due_ms + 50, (int(counted * 100),)))
    windows = [
        Window(_LENGTH_MS, start_ms, (interpolated(readings, start_ms, start_ms + _LENGTH_MS),))
        for start_ms in (_BEGIN_MS + _LENGTH_MS, _BEGIN_MS + 2 * _LENGTH_MS)
    ]
    return Stored((_GROUP,), {_GROUP: readings}, windows={_GROUP: windows})


def interpolated(readings: list[Reading], start_ms: int, end_ms: int) -> int:
    """Return the energy in hundredths between two moments, by the readings around each."""

    def at(ms: int) -> int:
        before = max((one for one in readings if one.at_ms <= ms), key=lambda one: one.at_ms)
        after = min((one for one in readings if one.at_ms > ms), key=lambda one: one.at_ms)
        first, last = before.mantissas[0], after.mantissas[0]
        assert first is not None
        assert last is not None
        share = (ms - before.at_ms) / (after.at_ms - before.at_ms)
        return round(first + (last - first) * share)

    return at(end_ms) - at(start_ms)


def verdict_on(stored: Stored, truth: Truth, run: Run = _RUN) -> Verdict:
    return judge(stored, {}, truth, run)


def with_energies(stored: Stored, *energies: int | None) -> Stored:
    windows = stored.windows[_GROUP]
    changed = [
        replace(window, energies=(energy,))
        for window, energy in zip(windows, energies, strict=False)
    ]
    return replace(stored, windows={_GROUP: changed})


def energies_of(stored: Stored) -> list[int]:
    return [energy for window in stored.windows[_GROUP] for energy in window.energies if energy]


def test_right_energies_are_counted_and_hold(stored: Stored, truth: Truth) -> None:
    verdict = verdict_on(stored, truth)
    assert (verdict.energies, verdict.wrong, verdict.lost) == (2, 0, 0), verdict.notes


def test_an_energy_two_steps_off_is_wrong(stored: Stored, truth: Truth) -> None:
    first, second = energies_of(stored)
    verdict = verdict_on(with_energies(stored, first + 2, second - 2), truth)
    assert verdict.wrong == 2
    assert "the meter counted" in verdict.notes[0]


@pytest.mark.parametrize("shift_ms", [-1_000, -500, 500, 1_000])
def test_a_window_with_its_interpolation_shifted_is_wrong(
    stored: Stored, truth: Truth, shift_ms: int
) -> None:
    readings = stored.readings[_GROUP]
    shifted = [
        interpolated(readings, one.start_ms + shift_ms, one.end_ms)
        for one in stored.windows[_GROUP]
    ]
    assert verdict_on(with_energies(stored, *shifted), truth).wrong == 2


def test_readings_that_explain_an_energy_the_meter_never_had_do_not_excuse_it(
    stored: Stored, truth: Truth
) -> None:
    """Forge the readings too: each is false by a tenth, and so the windows over them agree."""
    readings = stored.readings[_GROUP]
    base = readings[0].mantissas[0]
    assert base is not None
    forged = [
        replace(one, mantissas=(base + round((one.mantissas[0] - base) * 1.1),))
        for one in readings
        if one.mantissas[0] is not None
    ]
    energies = [interpolated(forged, one.start_ms, one.end_ms) for one in stored.windows[_GROUP]]
    changed = replace(with_energies(stored, *energies), readings={_GROUP: forged})
    verdict = Verdict()
    judge_energies(verdict, changed, truth, _RUN)
    assert (verdict.energies, verdict.wrong) == (2, 2)


def test_an_energy_without_readings_around_its_end_is_wrong(stored: Stored, truth: Truth) -> None:
    del stored.readings[_GROUP][18:23]
    readings = stored.readings[_GROUP]
    bridged = [interpolated(readings, one.start_ms, one.end_ms) for one in stored.windows[_GROUP]]
    verdict = verdict_on(with_energies(stored, *bridged), truth)
    assert verdict.wrong == 2, "both windows meet in the hole, which is wider than three periods"


def test_a_missing_energy_is_lost_only_where_the_readings_were_there(
    stored: Stored, truth: Truth
) -> None:
    first, _ = energies_of(stored)
    assert verdict_on(with_energies(stored, first, None), truth).lost == 1
    assert verdict_on(with_energies(stored, first), truth).lost == 1, "a window that never came"
    late = replace(_RUN, blur_ms=10_000)
    assert verdict_on(with_energies(stored, first, None), truth, late).lost == 0
    del stored.readings[_GROUP][18:23]
    assert all("energy" not in note for note in verdict_on(with_energies(stored), truth).notes)


def test_readings_that_end_soon_behind_the_window_owe_no_energy(
    stored: Stored, truth: Truth
) -> None:
    first, _ = energies_of(stored)
    del stored.readings[_GROUP][35:]  # others may have to be waited for until 5 s behind its end
    notes = verdict_on(with_energies(stored, first, None), truth).notes
    assert not [note for note in notes if "no energy" in note]


def fallen(stored: Stored, *, slot: int) -> list[Reading]:
    """Return the readings of a totaliser that counts 200 kWh less from a slot on."""
    readings = stored.readings[_GROUP]
    below = [
        replace(one, mantissas=(one.mantissas[0] - 20_000,))
        for one in readings[slot:]
        if one.mantissas[0] is not None
    ]
    return [*readings[:slot], *below]


def test_a_totaliser_that_fell_owes_no_energy(stored: Stored, truth: Truth) -> None:
    _, second = energies_of(stored)
    changed = replace(stored, readings={_GROUP: fallen(stored, slot=15)})
    verdict = Verdict()
    judge_energies(verdict, with_energies(changed, None, second), truth, _RUN)
    assert not [note for note in verdict.notes if "no energy" in note]


def test_an_energy_through_a_fall_is_wrong(stored: Stored, truth: Truth) -> None:
    readings = fallen(stored, slot=20)
    energies = [interpolated(readings, one.start_ms, one.end_ms) for one in stored.windows[_GROUP]]
    changed = replace(with_energies(stored, *energies), readings={_GROUP: readings})
    verdict = Verdict()
    far = replace(_RUN, blur_ms=2_000_000)  # as if the meter could have shown anything
    judge_energies(verdict, changed, truth, far)
    assert verdict.wrong == 2


def test_an_energy_of_a_clock_that_was_set_is_judged_in_the_hosts_time(
    stored: Stored, truth: Truth
) -> None:
    hour_ms = 3_600_000
    shifted = [
        replace(one, due_ms=one.due_ms + hour_ms, at_ms=one.at_ms + hour_ms)
        for one in stored.readings[_GROUP]
    ]
    windows = [replace(one, start_ms=one.start_ms + hour_ms) for one in stored.windows[_GROUP]]
    moved = replace(stored, readings={_GROUP: shifted}, windows={_GROUP: windows})
    run = replace(_RUN, offsets_ms=(0, hour_ms))
    assert verdict_on(moved, truth, run).wrong == 0
    assert verdict_on(moved, truth).wrong == _SLOTS + 2


def test_a_dip_may_miss_what_a_brown_out_took_and_no_more() -> None:
    fault = {
        "kind": "brown_out",
        "meter": "m",
        "from_s": 3_610,
        "for_s": 3,
        "saved_every_s": 7,
    }
    truth = Truth(parse_site({**_SITE, "fault": [fault]}, where="here"))
    point = truth.point("m", "active_energy_import")
    closing_ms = _BEGIN_MS + 9_050
    closing = truth.shown("m", point, closing_ms)
    later = range(_BEGIN_MS + 13_050, _BEGIN_MS + 60_000, 1_000)
    opening_ms = next(at_ms for at_ms in later if truth.shown("m", point, at_ms) >= closing)
    opening = truth.shown("m", point, opening_ms)
    counted = truth.counted("m", point, opening_ms) - truth.counted("m", point, closing_ms)
    assert counted > opening - closing + 1, "the brown-out took something"

    def judged(energy: int) -> Verdict:
        shown = int(closing * 100), int(opening * 100)
        audit = Audit(0, 6, closing_ms, shown[0], opening_ms, shown[1], energy)
        verdict = Verdict()
        held = Stored((_GROUP,), audits={_GROUP: [audit]})
        judge_energies(verdict, held, truth, _RUN)
        return verdict

    across = int(opening * 100) - int(closing * 100)
    assert judged(across).wrong == 0
    assert judged(across - 10).wrong == 1
    assert judged(int(counted * 100) + 100).wrong == 1
