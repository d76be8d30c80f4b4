"""Every profile that ships can be played, and its registers mean what the profile says.

Registers are read back by a decoder of this test alone, written from the meaning of each type.
"""

from __future__ import annotations

import struct
import tomllib
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_tests.sim import electrical
from hil_tests.sim.electrical import Node, Supply
from hil_tests.sim.loads import LOADS, Week, make_load
from hil_tests.sim.meters import SimMeter
from hil_tests.sim.profile import Point, Register, load_profile, parse_profile
from hil_tests.sim.registers import ORDERS, REGISTER_COUNTS, encode, encode_integer
from hil_tests.sim.site import PROFILES

START_MS = 1_764_000_000_000
NOW_MS = START_MS + 36_000_000
NAMES = sorted(file.stem for file in PROFILES.glob("*.toml"))
SHUFFLES = {"ABCD": (1, 1), "CDAB": (-1, 1), "BADC": (1, -1), "DCBA": (-1, -1)}


def in_order(words: Sequence[int], order: str) -> bytes:
    """Undo a byte order: the first direction is that of the words, the second of their bytes."""
    of_words, of_bytes = SHUFFLES[order]
    return b"".join(word.to_bytes(2, "big")[::of_bytes] for word in list(words)[::of_words])


def raw_of(words: Sequence[int], kind: str, order: str) -> Fraction:
    data = in_order(words, order)
    number = int.from_bytes(data, "big")
    bits = 8 * len(data)
    if kind in ("f32", "f64"):
        return Fraction(struct.unpack(">f" if kind == "f32" else ">d", data)[0])
    if kind.startswith("bcd"):
        return Fraction(int(data.hex()))
    if kind in ("u8hi", "u8lo"):
        return Fraction(data[0] if kind == "u8hi" else data[1])
    if kind == "sm32":
        magnitude = number % 2**31
        return Fraction(-magnitude if number >> 31 else magnitude)
    if kind in ("t5", "t6"):
        power = (data[0] ^ 0x80) - 0x80
        mantissa = number % 2**24
        if kind == "t6" and mantissa >= 2**23:
            mantissa -= 2**24
        return mantissa * Fraction(10) ** power
    if kind.startswith("i") and number >> bits - 1:
        number -= 1 << bits
    return Fraction(number)


@pytest.fixture(scope="module")
def supply() -> Supply:
    week = Week.at_speed(2400)
    own = make_load(LOADS["hvac"], week, scale_w=6_000, rng=Random(1))
    node = Node(week, own=own, tan_phi_permille=540, children=[], loss_ppm=0)
    return Supply(
        node=node,
        start_ms=START_MS,
        initial_kwh=Fraction("234.5"),
        full_scale_w=6_000,
        shares_permille=(333, 333, 334),
        grid_seed=1,
        meter_seed=2,
    )


def meter_of(supply: Supply, profile: str, text: str = "") -> SimMeter:
    described = (
        parse_profile(profile, text, where=profile) if text else load_profile(profile, PROFILES)
    )
    return SimMeter(name="m", unit=1, profile=described, ratios={}, supply=supply)


def shown(meter: SimMeter, point: Point, t_ms: int = NOW_MS) -> Fraction:
    """Read a point as the profile says that it is to be read."""

    def raw(address: int, count: int, kind: str, order: str) -> Fraction:
        words = meter.read(
            function=point.register.function, address=address, count=count, t_ms=t_ms
        )
        assert words is not None, point.name
        return raw_of(words, kind, order)

    place = point.register
    number = raw(place.address, place.count, place.kind, place.order) + point.offset
    value = number * point.scale
    if point.part is not None:
        place = point.part.register
        value += raw(place.address, place.count, place.kind, place.order) * point.part.scale
    for name in point.ratios:
        value *= meter._ratios[name]
    return value


def overlap(one: Register, other: Register) -> bool:
    first, last = sorted((one, other), key=lambda place: place.address)
    return one.function == other.function and last.address < first.address + first.count


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_that_ships_is_played_as_it_says(supply: Supply, name: str) -> None:
    meter = meter_of(supply, name)
    profile = meter.profile
    if profile.protocol != "modbus":
        assert profile.items_count > 0
        assert profile.points == ()
        return
    for number, point in enumerate(profile.points):
        later = [other.register for other in profile.points[number + 1 :]]
        # What several points share shows the last of them.
        hidden = any(overlap(point.register, other) for other in later)
        if not electrical.knows(point.name) or hidden:
            continue
        factor = abs(point.scale)
        for ratio in point.ratios:
            factor *= meter._ratios[ratio]
        step = point.resolution if point.register.kind[0] == "f" else max(point.resolution, factor)
        true = meter.value(point, NOW_MS)
        fits = abs(true / factor) < 2**15 or REGISTER_COUNTS[point.register.kind] > 1
        if fits and (true >= 0 or point.register.kind[0] in "fist"):
            relative = abs(true) / 2**22
            assert abs(shown(meter, point) - true) <= step + relative, point.name


@pytest.mark.parametrize("name", NAMES)
def test_every_profile_that_ships_is_recognised(supply: Supply, name: str) -> None:
    meter = meter_of(supply, name)
    content = tomllib.loads((PROFILES / f"{name}.toml").read_text())
    if meter.profile.protocol != "modbus":
        return
    orders = {
        (place.function, place.address): place.order
        for place in (point.register for point in meter.profile.points)
    }
    for check in content.get("identify", ()):
        # A check of a point's registers means the point's number, in its byte order.
        place = (check["function"], check["register"])
        kind, order = check["type"], orders.get(place, check.get("order", "ABCD"))
        words = meter.read(
            function=check["function"],
            address=check["register"],
            count=REGISTER_COUNTS[kind],
            t_ms=NOW_MS,
        )
        assert words is not None, check
        raw = raw_of(words, kind, order)
        if "equals" in check:
            assert raw in check["equals"]
        else:
            assert check["min"] <= raw <= check["max"], check


@pytest.mark.parametrize(
    "name", ["acrel-adl400", "chint-dtsu666", "eastron-sdm630", "sunspec-meter-213"]
)
def test_the_bench_has_every_quantity_of_its_own_meters(supply: Supply, name: str) -> None:
    assert meter_of(supply, name).unknown_points == ()


@given(
    raw=st.integers(),
    kind=st.sampled_from(sorted(REGISTER_COUNTS.keys() - {"f32", "f64", "t5", "t6"})),
    order=st.sampled_from(ORDERS),
)
def test_integers_of_every_type_read_back(raw: int, kind: str, order: str) -> None:
    bits = 8 if kind.startswith("u8") else 16 * REGISTER_COUNTS[kind]
    if kind.startswith("bcd"):
        raw %= 10 ** (bits // 4)
    elif kind in ("i16", "i32", "i64"):
        raw = raw % 2**bits - 2 ** (bits - 1)
    elif kind == "sm32":
        raw = raw % (2**32 - 1) - (2**31 - 1)
    else:
        raw %= 2**bits
    assert raw_of(encode_integer(raw, kind=kind, order=order), kind, order) == raw


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("t5", "230.5", "230.5"),
        ("t5", "16777215", "16777215"),
        ("t5", "16777216", "16777220"),  # 24 bits hold it in tens only
        ("t6", "-0.987", "-0.987"),
        ("t6", "-123456789", "-123456800"),
        ("t5", "-5", "0"),  # no sign
        ("bcd32", "123456785", "99999999"),  # a gauge stays at its end
        ("sm32", "-2147483648", "-2147483647"),
    ],
)
def test_numbers_of_rare_types_are_exact_or_held(kind: str, value: str, expected: str) -> None:
    words = encode(Fraction(value), kind=kind, order="CDAB", factor=Fraction(1), resolution=None)
    assert raw_of(words, kind, "CDAB") == Fraction(expected)


def test_a_counter_in_digits_rolls_over_at_its_digits() -> None:
    words = encode(
        Fraction("1000012.349"),
        kind="bcd32",
        order="ABCD",
        factor=Fraction("0.01"),
        resolution=Fraction("0.01"),
    )
    assert words == (0x0000, 0x1234)


POINT = """
[limits]
holes = "{holes}"
illegal = [[3, 20, 2]]
proven = [[3, 0, 12]]
[points.{name}]
function = 3
register = 4
type = "{kind}"
unit = "{unit}"
resolution = 0.001
{more}
"""


def one_point(supply: Supply, **more: str) -> SimMeter:
    values = {"name": "voltage_l1", "kind": "u32", "unit": "V", "holes": "unknown", "more": ""}
    return meter_of(supply, "one", POINT.format(**(values | more)))


@pytest.mark.parametrize(
    "more",
    [
        'scale = 1\nplus = { register = 6, type = "u16", scale = 0.001 }',
        'scale = 0.001\nplus = { register = 6, type = "u16", scale = 10 }',
        'scale = 1\nplus = { register = 6, type = "f64" }',
        "scale = 0.001\noffset = -100000",
    ],
)
@pytest.mark.parametrize("totaliser", [False, True])
def test_parts_and_offsets_add_up_to_the_value(supply: Supply, more: str, totaliser: bool) -> None:
    lines = more + ('\nkind = "totaliser"' if totaliser else "")
    name, unit = ("active_energy_import", "kWh") if totaliser else ("voltage_l1", "V")
    meter = one_point(supply, name=name, unit=unit, more=lines)
    (point,) = meter.profile.points
    for t_ms in (START_MS, NOW_MS, NOW_MS + 12_345_678):
        behind = meter.value(point, t_ms) - shown(meter, point, t_ms)
        assert abs(behind) < Fraction("0.00101")
        assert behind >= 0 or not totaliser


def test_a_power_of_ten_scales_what_stands_in_the_register(supply: Supply) -> None:
    text = POINT.format(
        name="active_power_total", kind="i32", unit="W", holes="unknown", more='ratios = ["sf"]'
    )
    text += '[ratios.sf]\nfunction = 3\nregister = 6\ntype = "i16"\nop = "pow10"\n'
    profile = parse_profile("one", text, where="one")
    for power, register in ((Fraction(1, 100), 0xFFFE), (Fraction(1), 0), (Fraction(1000), 3)):
        meter = SimMeter(name="m", unit=1, profile=profile, ratios={"sf": power}, supply=supply)
        (point,) = profile.points
        assert meter.read(function=3, address=6, count=1, t_ms=NOW_MS) == [register]
        assert abs(shown(meter, point) - meter.value(point, NOW_MS)) <= power / 2


def test_what_a_meter_does_not_have_reads_as_not_available(supply: Supply) -> None:
    more = 'order = "CDAB"\ninvalid = [0x80001234]'
    meter = one_point(supply, name="dc_voltage", more=more)
    assert meter.read(function=3, address=4, count=2, t_ms=NOW_MS) == [0x1234, 0x8000]


def test_holes_are_read_where_that_is_proven_and_nowhere_else(supply: Supply) -> None:
    def readable(meter: SimMeter, address: int, count: int) -> bool:
        return meter.read(function=3, address=address, count=count, t_ms=NOW_MS) is not None

    meter = one_point(
        supply,
        more="[points.current_l1]\nfunction = 3\nregister = 30\n"
        'type = "u16"\nunit = "A"\nresolution = 1',
    )
    assert readable(meter, 0, 12)
    assert readable(meter, 4, 2)
    assert not readable(meter, 0, 13)
    assert not readable(meter, 4, 27)
    known = one_point(
        supply,
        holes="readable",
        more="[points.current_l1]\nfunction = 3\n"
        'register = 30\ntype = "u16"\nunit = "A"\nresolution = 1',
    )
    assert readable(known, 4, 16)
    assert not readable(known, 4, 17)  # crosses what is never answered


def test_two_values_share_a_register(supply: Supply) -> None:
    more = (
        '[points.current_l1]\nfunction = 3\nregister = 4\ntype = "u8lo"\nunit = "A"\nresolution = 1'
    )
    meter = one_point(supply, kind="u8hi", more=more)
    words = meter.read(function=3, address=4, count=1, t_ms=NOW_MS)
    assert words is not None
    (word,) = words
    volt, ampere = (meter.value(point, NOW_MS) for point in meter.profile.points)
    assert word >> 8 == round(volt)
    assert word & 0xFF == round(ampere) > 0


def test_a_meter_says_who_it_is(supply: Supply) -> None:
    more = '[identity.serial_number]\nfunction = 3\nregister = 6\ntype = "str"\ncount = 2\n'
    more += '[identity.firmware]\nfunction = 3\nregister = 8\ntype = "u16"\n'
    more += '[[identify]]\nfunction = 3\nregister = 9\ntype = "u16"\nequals = [77, 78]\n'
    words = one_point(supply, more=more).read(function=3, address=6, count=4, t_ms=NOW_MS)
    assert words is not None
    assert b"".join(word.to_bytes(2, "big") for word in words) == b"0001" + b"\0\1" + b"\0\x4d"


def test_the_sunspec_chain_of_a_profile_file_leads_to_its_model(supply: Supply) -> None:
    meter = meter_of(supply, "sunspec-inverter-int")
    words = meter.read(function=3, address=40000, count=4, t_ms=NOW_MS)
    header = meter.read(function=3, address=40070, count=2, t_ms=NOW_MS)
    end = meter.read(function=3, address=40122, count=2, t_ms=NOW_MS)
    assert words == [0x5375, 0x6E53, 1, 66]
    assert (header, end) == ([103, 50], [0xFFFF, 0])


def test_profiles_lie_beside_an_installed_simulator_or_in_the_checkout() -> None:
    assert Path(PROFILES).is_dir()
    assert "eastron-sdm630" in NAMES
