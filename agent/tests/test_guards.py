"""What a totaliser can do, as its profile and the meter's rating say, and in words."""

from dataclasses import replace
from fractions import Fraction

import pytest

from edgeagg.model import Guard, Kind, PointInfo
from edgeagg_agent.guards import Rating, guard, guard_lines
from edgeagg_agent.profile import ItemPoint, Layout, Part, Point, Poll, load

KWH = Point(
    name="active_energy_import",
    unit="kWh",
    exponent=-2,
    kind=Kind.TOTALISER,
    function=3,
    register=0,
    type="u32",
    order="ABCD",
    scale=Fraction(1, 100),
    ratios=(),
    invalid=frozenset(),
    min=None,
    max=None,
    poll=Poll.ENERGY,
)
ITEM = ItemPoint(
    name="active_energy_import",
    unit="kWh",
    exponent=-2,
    kind=Kind.TOTALISER,
    item="00010000",
    type="bcd",
    layouts=(Layout(0, 4, Fraction(1, 100)),),
)
RATED = Rating(power_max_kw=Fraction(400), flow_max_m3_per_h=Fraction(25))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Guard(2**32, 40_000, 1)),
        ({"exponent": 0}, Guard(42_949_673, 400, 1)),
        ({"wraps": Fraction(10**6)}, Guard(10**8, 40_000, 1)),
        ({"unit": "Wh", "exponent": 1, "scale": Fraction(10)}, Guard(2**32, 40_000, 1)),
        ({"unit": "MWh", "exponent": -3, "scale": Fraction(1, 10)}, Guard(2**32 * 100, 400, 100)),
        ({"unit": "GJ", "exponent": -3}, Guard(2**32 * 10, 1_440, 10)),
        ({"unit": "m3"}, Guard(2**32, 2_500, 1)),
        ({"unit": "kvarh"}, Guard(2**32, 40_000, 1)),
        ({"type": "i32"}, Guard(2**31, 40_000, 1)),
        ({"type": "bcd32"}, Guard(10**8, 40_000, 1)),
        # more than a mantissa can hold is never reached
        ({"type": "u64"}, Guard(None, 40_000, 1)),
        # 24 bits behind 100 000 h at 400 kW: steps of 4.77 kWh, but meters show single ones
        ({"type": "f32", "scale": Fraction(1)}, Guard(None, 40_000, 100)),
        ({"type": "f64", "scale": Fraction(1)}, Guard(None, 40_000, 1)),
        ({"plus": Part(2, "u16", "ABCD", Fraction(1, 1000))}, Guard(2**32, 40_000, 1)),
        # 400 kW behind 1 A and 100 V is a ratio of up to 2312.1
        ({"ratios": ("ct",)}, Guard(None, 40_000, 2_313)),
    ],
)
def test_a_guard_follows_from_the_register_and_the_rating(changes, expected):
    assert guard(replace(KWH, **changes), RATED) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": Kind.GAUGE},
        {"unit": "h"},
        {"name": "active_energy_sum"},
        {"name": "active_energy_sum_t1"},
        {"name": "active_energy_net"},
        {"name": "reactive_energy_combined_1"},
        {"min": Fraction(-1)},
    ],
)
def test_a_register_that_may_fall_by_right_has_no_guard(changes):
    assert guard(replace(KWH, **changes), RATED) is None


def test_a_meter_without_a_rating_is_taken_for_the_largest():
    assert guard(KWH, Rating()) == Guard(2**32, 10**7, 1)
    assert guard(replace(KWH, unit="m3"), Rating()) == Guard(2**32, 10**7, 1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Guard(10**8, 40_000, 1)),
        ({"type": "bcd-signed"}, None),
        ({"type": "bin"}, Guard(None, 40_000, 1)),
        # the unit that the meter sends along may be a thousand times the profile's
        (
            {"layouts": (Layout(0, 4, Fraction(1, 100), unit_byte=4),)},
            Guard(None, 40_000, 1_000),
        ),
    ],
)
def test_items_of_the_other_protocols_have_guards_as_well(changes, expected):
    assert guard(replace(ITEM, **changes), RATED) == expected


def test_guards_are_said_in_words_alike_ones_in_one_line():
    points = [
        PointInfo("active_energy_import", "kWh", -2, Kind.TOTALISER, Guard(10**8, 120_000, 1)),
        PointInfo("active_energy_export", "kWh", -2, Kind.TOTALISER, Guard(10**8, 120_000, 1)),
        PointInfo("volume_total", "m3", -3, Kind.TOTALISER, Guard(None, 2_500, 1)),
        PointInfo("active_energy_sum", "kWh", 0, Kind.TOTALISER),
        PointInfo("voltage_l1", "V", -1, Kind.GAUGE),
    ]
    assert guard_lines(points) == [
        "active_energy_import, active_energy_export: rolls over at 1000000 kWh, at most 1200 kW",
        "volume_total: not known where it rolls over, at most 2.5 m3/h",
        "active_energy_sum: not guarded, it may fall",
    ]


def test_the_totalisers_of_a_shipped_meter_are_guarded():
    points = {point.name: point for point in load("dlt645-2007-generic", ()).every_point}
    assert guard(points["active_energy_import"], Rating()) == Guard(10**8, 10**7, 1)
    assert guard(points["active_energy_sum"], Rating()) is None
