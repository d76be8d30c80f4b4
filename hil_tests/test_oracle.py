"""The oracle on databases made by hand: each kind of damage is named, and only what is there."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from fractions import Fraction

import pytest

from edgeagg.model import Quality
from hil_tests.oracle import judge
from hil_tests.report import table
from hil_tests.sim.profile import Point
from hil_tests.sim.site import parse_site
from hil_tests.stored import (
    OWN_METER,
    Gap,
    Group,
    Reading,
    Stored,
    StoredPoint,
)
from hil_tests.truth import Truth
from hil_tests.verdict import Run, Span, Verdict, Wanted

_BEGIN_MS = 1_764_000_000_000
_SLOTS = 10
_SITE = {
    "seed": 1,
    "start_ms": _BEGIN_MS,
    "day_speed": 86_400,
    "line": [
        {
            "name": "bus",
            "tcp": 1502,
            "meter": [{"name": "m", "unit": 1, "profile": "eastron-sdm630", "load": "base"}],
        }
    ],
}
_POINTS = (
    StoredPoint("active_power_total", -2),
    StoredPoint("active_energy_import", -2, "totaliser"),
)
_GROUP = Group(1, "m", 1_000, _POINTS)
_MESSAGES = {(7, 1): b"first", (7, 2): b"second"}
_RUN = Run(
    span=Span(_BEGIN_MS - 5_000, _BEGIN_MS + 20_000),
    agent_span=Span(_BEGIN_MS, _BEGIN_MS + (_SLOTS - 1) * 1_000),
)


@pytest.fixture(scope="module")
def truth() -> Truth:
    """Return one meter with a constant load."""
    return Truth(parse_site(_SITE, where="here"))


@pytest.fixture
def stored(truth: Truth) -> Stored:
    """Return what a faultless run leaves."""
    readings = []
    for slot in range(_SLOTS):
        due_ms = _BEGIN_MS + slot * 1_000
        mantissas = tuple(
            round(
                truth.modbus["m"].value(register(truth, point.name), due_ms + 50)
                * 10**-point.exponent
            )
            for point in _POINTS
        )
        readings.append(Reading(due_ms, due_ms + 50, mantissas))
    digests = {
        identity: hashlib.sha256(message).digest() for identity, message in _MESSAGES.items()
    }
    return Stored((_GROUP,), {_GROUP: readings}, {}, digests, 0)


def register(truth: Truth, name: str) -> Point:
    point = truth.point("m", name)
    assert isinstance(point, Point)
    return point


def verdict_on(stored: Stored, truth: Truth, run: Run = _RUN) -> Verdict:
    return judge(stored, _MESSAGES, truth, run)


def test_a_faultless_run_holds(stored: Stored, truth: Truth) -> None:
    verdict = verdict_on(stored, truth)
    assert verdict == Verdict(due=20, values=20)
    assert verdict.holds


def test_an_empty_run_does_not_hold(stored: Stored, truth: Truth) -> None:
    stored.gaps[_GROUP] = [
        Gap(_BEGIN_MS, _BEGIN_MS + (_SLOTS - 1) * 1_000, _SLOTS, Quality.OVERRUN)
    ]
    stored.readings.clear()
    verdict = verdict_on(stored, truth)
    assert verdict == Verdict(due=20, missed=20)
    assert not verdict.holds


def test_a_value_the_meter_never_had_is_wrong(stored: Stored, truth: Truth) -> None:
    reading = stored.readings[_GROUP][3]
    power, energy = reading.mantissas
    assert power is not None
    assert energy is not None
    stored.readings[_GROUP][3] = replace(reading, mantissas=(power + power // 50, energy))
    assert verdict_on(stored, truth).wrong == 1
    stored.readings[_GROUP][3] = replace(reading, mantissas=(power, energy + 10))
    assert verdict_on(stored, truth).wrong == 1


def test_a_reading_at_a_time_when_nothing_ran_is_wrong(stored: Stored, truth: Truth) -> None:
    reading = stored.readings[_GROUP][3]
    stored.readings[_GROUP][3] = replace(reading, at_ms=reading.at_ms + 3_600_000)
    assert verdict_on(stored, truth).wrong == 2
    run = replace(_RUN, offsets_ms=(0, 3_600_000))
    assert verdict_on(stored, truth, run).holds, "the bench had set that clock"


def test_a_slot_that_nobody_accounts_for_is_lost(stored: Stored, truth: Truth) -> None:
    del stored.readings[_GROUP][4:6]
    verdict = verdict_on(stored, truth)
    assert (verdict.due, verdict.lost) == (20, 4)


def test_a_declared_gap_is_missed_not_lost(stored: Stored, truth: Truth) -> None:
    gap = Gap(_BEGIN_MS + 4_000, _BEGIN_MS + 5_000, 2, Quality.OVERRUN)
    del stored.readings[_GROUP][4:6]
    stored.gaps[_GROUP] = [gap]
    assert verdict_on(stored, truth) == Verdict(due=20, values=16, missed=4)


def test_slots_given_up_while_the_agent_ran_are_lost(stored: Stored, truth: Truth) -> None:
    gap = Gap(_BEGIN_MS + 4_000, _BEGIN_MS + 5_000, 2, Quality.STOPPED)
    del stored.readings[_GROUP][4:6]
    stored.gaps[_GROUP] = [gap]
    assert verdict_on(stored, truth).lost == 4
    down = Span(_BEGIN_MS + 3_500, _BEGIN_MS + 5_500)
    assert verdict_on(stored, truth, replace(_RUN, downs=[down])).lost == 0


def test_a_slot_with_a_value_and_a_gap_is_doubled(stored: Stored, truth: Truth) -> None:
    stored.gaps[_GROUP] = [Gap(_BEGIN_MS + 4_000, _BEGIN_MS + 5_000, 2, Quality.OVERRUN)]
    verdict = verdict_on(stored, truth)
    assert (verdict.lost, verdict.doubled) == (0, 4)


def test_a_slot_under_two_groups_of_one_meter_is_doubled(stored: Stored, truth: Truth) -> None:
    other = replace(_GROUP, number=2)
    both = replace(stored, groups=(_GROUP, other))
    both.readings[other] = [stored.readings[_GROUP][2]]
    assert verdict_on(both, truth).doubled == 2


def test_groups_of_one_meter_with_other_points_are_judged_each_for_itself(
    stored: Stored, truth: Truth
) -> None:
    power, energy = _POINTS
    slow = Group(2, "m", 5_000, (power,))
    fast = Group(3, "m", 1_000, (energy,))
    rows = stored.readings[_GROUP]
    both = replace(
        stored,
        groups=(slow, fast),
        readings={
            slow: [replace(one, mantissas=one.mantissas[:1]) for one in rows[::5]],
            fast: [replace(one, mantissas=one.mantissas[1:]) for one in rows],
        },
    )
    assert verdict_on(both, truth) == Verdict(due=12, values=12)
    del both.readings[fast][4]
    assert verdict_on(both, truth).lost == 1


def test_the_gateways_own_points_are_counted_and_always_there(stored: Stored, truth: Truth) -> None:
    own = Group(2, OWN_METER, 1_000, (StoredPoint("bus_lateness", -3),))
    both = replace(stored, groups=(_GROUP, own))
    both.readings[own] = [Reading(one.due_ms, one.at_ms, (7,)) for one in stored.readings[_GROUP]]
    assert verdict_on(both, truth) == Verdict(due=30, values=30)
    both.readings[own][4] = replace(both.readings[own][4], mantissas=(None,))
    assert verdict_on(both, truth).lost == 1
    del both.readings[own][4]
    assert verdict_on(both, truth).lost == 1


def test_points_of_which_nothing_came_are_lost_once_they_were_due(
    stored: Stored, truth: Truth
) -> None:
    wanted = Wanted(OWN_METER, 5_000, ("bus_lateness",))
    assert verdict_on(stored, truth, replace(_RUN, wanted=[wanted])).holds, "not due for sure"
    often = replace(wanted, period_ms=1_000)
    verdict = verdict_on(stored, truth, replace(_RUN, wanted=[often]))
    assert verdict.notes == ["lost 1: nothing came of 1 points of meter gateway"]


_ADDRESSED = {
    "name": "bus",
    "link": "none",
    "baud": 2400,
    "format": "8E1",
    "meter": [
        {"name": "e", "protocol": "dlt645-2007", "address": "001210174069", "load": "base"},
        {"name": "w", "protocol": "cjt188", "address": "00000000000020", "load": "base"},
        {
            "name": "h",
            "protocol": "cjt188",
            "address": "00000000000021",
            "medium": "heat",
            "load": "base",
        },
    ],
}


@pytest.mark.parametrize(
    ("meter", "name", "unit"),
    [
        ("e", "active_energy_import", 1),
        ("e", "active_power_total", 10),
        ("w", "volume_total", 1),
        ("h", "heat_energy_total", 1),
        ("h", "heat_power", 1_000),
        ("h", "supply_temperature", 1),
    ],
)
def test_what_an_addressed_meter_answered_fits_its_truth_and_three_steps_more_do_not(
    meter: str, name: str, unit: int
) -> None:
    truth = Truth(parse_site(_SITE | {"line": [_ADDRESSED]}, where="here"))
    point, at_ms = truth.point(meter, name), _BEGIN_MS + 3_600_000
    had = truth.addressed[meter].shown(name, at_ms)
    assert truth.fits(meter, point, had, at_ms=at_ms, blur_ms=0)
    assert had > 0
    assert truth.fits(meter, point, had - unit * Fraction(1, 100), at_ms=at_ms, blur_ms=0)
    off = had + 3 * unit * Fraction(1, 100)
    assert not truth.fits(meter, point, off, at_ms=at_ms, blur_ms=0)


@pytest.mark.parametrize("kept", [slice(4, None), slice(None, 6)])
def test_a_meter_that_begins_late_or_ends_early_is_lost(
    stored: Stored, truth: Truth, kept: slice
) -> None:
    stored.readings[_GROUP] = stored.readings[_GROUP][kept]
    assert verdict_on(stored, truth).lost > 0


def test_a_meter_of_which_nothing_came_is_lost(stored: Stored, truth: Truth) -> None:
    assert verdict_on(replace(stored, groups=()), truth).lost == 1


def test_a_batch_that_is_not_in_the_database_is_lost(stored: Stored, truth: Truth) -> None:
    del stored.digests[7, 2]
    assert verdict_on(stored, truth).lost == 1


def test_a_hole_in_the_sequences_is_lost(stored: Stored, truth: Truth) -> None:
    stored.digests[7, 4] = bytes(32)
    assert verdict_on(stored, truth).lost == 1


def test_a_second_epoch_is_a_lost_state(stored: Stored, truth: Truth) -> None:
    stored.digests[8, 1] = bytes(32)
    assert verdict_on(stored, truth).lost == 1


def test_a_batch_with_other_bytes_or_a_conflict_is_doubled(stored: Stored, truth: Truth) -> None:
    stored.digests[7, 2] = bytes(32)
    assert verdict_on(stored, truth).doubled == 1
    assert verdict_on(replace(stored, conflicts=1), truth).doubled == 2


def test_a_receipt_before_its_commit_is_lost(stored: Stored, truth: Truth) -> None:
    assert verdict_on(stored, truth, replace(_RUN, ahead=2)).lost == 2


def test_a_totaliser_fits_only_near_its_time(truth: Truth) -> None:
    point = register(truth, "active_energy_import")
    at_ms = _BEGIN_MS + 3_600_000
    had = truth.modbus["m"].value(point, at_ms)
    assert truth.fits("m", point, had, at_ms=at_ms, blur_ms=1_000)
    assert not truth.fits("m", point, had + Fraction(1), at_ms=at_ms, blur_ms=1_000)


def test_a_meter_after_a_brown_out_is_taken_at_what_it_shows() -> None:
    fault = {"kind": "brown_out", "meter": "m", "from_s": 100.25, "for_s": 5, "saved_every_s": 60}
    truth = Truth(parse_site(_SITE | {"fault": [fault]}, where="here"))
    meter, point = truth.modbus["m"], register(truth, "active_energy_import")
    at_ms = _BEGIN_MS + 105_300
    words = meter.read(function=4, address=0x48, count=2, t_ms=at_ms)
    assert words is not None
    (shown,) = struct.unpack(">f", struct.pack(">2H", *words))
    assert truth.fits("m", point, Fraction(shown), at_ms=at_ms, blur_ms=1_000)
    counted = meter.value(point, at_ms)
    assert counted - Fraction(shown) > Fraction(1, 10), "forty seconds were not saved"
    assert not truth.fits("m", point, counted, at_ms=at_ms + 2_000, blur_ms=1_000)
    # the fall lies between two full seconds, and the lowest value of all right behind it
    lowest = truth.shown("m", point, _BEGIN_MS + 105_250)
    assert truth.fits("m", point, lowest, at_ms=at_ms + 500, blur_ms=600)


def test_the_table_names_what_is_wrong() -> None:
    row = {"name": "a", "due": 1234, "values": 1, "reasons": 2, "missed": 3, "energies": 4}
    row |= {"wrong": 0, "lost": 5, "doubled": 0, "notes": ["lost 5: here"], "remark": "hello"}
    lines = table([row])
    assert lines[0].startswith(
        "scenario  readings due  values  reasons  missed  energies  wrong values"
    )
    assert lines[1].split() == ["a", "1,234", "1", "2", "3", "4", "0", "5", "0"]
    assert lines[2:] == ["a: hello", "a: lost 5: here"]
