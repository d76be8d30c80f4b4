"""Profiles of Modbus meters: the four written by hand, and the exact arithmetic."""

import math
import struct
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagg.errors import ProtocolError
from edgeagg.model import Kind, Quality
from edgeagg_agent import profile as profile_module
from edgeagg_agent.profile import (
    REGISTER_COUNTS,
    Check,
    Identity,
    Part,
    Point,
    Ratio,
    decode_identity,
    load,
    wraps_at,
)

BY_HAND = ["acrel-adl400", "chint-dtsu666", "eastron-sdm630", "sunspec-meter-213"]
IMPLAUSIBLE = (None, Quality.IMPLAUSIBLE)


def point(**changes):
    given_ = {
        "name": "p",
        "unit": "V",
        "exponent": 0,
        "kind": Kind.GAUGE,
        "function": 3,
        "register": 0,
        "type": "u16",
        "order": "ABCD",
        "scale": Fraction(1),
        "ratios": (),
        "invalid": frozenset(),
        "min": None,
        "max": None,
    }
    return Point(**(given_ | changes))


def shipped_point(meter, name):
    return next(p for p in load(meter, []).points if p.name == name)


def packed(words):
    return struct.pack(f">{len(words)}H", *words)


def decode(which, words, ratios):
    return profile_module.decode(which, packed(words), ratios)


def decode_ratio(ratio, words):
    return profile_module.decode_ratio(ratio, packed(words))


def matches(check, words):
    return profile_module.matches(check, packed(words))


def words_of(code, value):
    data = struct.pack(code, value)
    return struct.unpack(f">{len(data) // 2}H", data)


@pytest.mark.parametrize("name", BY_HAND)
def test_a_shipped_profile_loads_and_its_first_line_names_the_model(name):
    loaded = load(name, [])
    assert loaded.name == name
    assert 15 <= len(loaded.points) <= 25
    assert {"voltage_l1", "current_l1", "active_power_total"} <= {p.name for p in loaded.points}
    assert "active_energy_import" in {p.name for p in loaded.points if p.kind == Kind.TOTALISER}
    assert all((p.kind == Kind.TOTALISER) == ("energy" in p.name) for p in loaded.points)
    first_line = (profile_module.SHIPPED / f"{name}.toml").read_text("utf-8").splitlines()[0]
    assert first_line.startswith(f"# {loaded.vendor} ")
    assert name.split("-")[1].upper() in first_line.upper()


@pytest.mark.parametrize(
    ("meter", "name", "words", "ratios", "mantissa"),
    [
        # the example of the SDM630 protocol document, 230.2 V
        ("eastron-sdm630", "voltage_l1", (0x4366, 0x3334), {}, 2302),
        ("eastron-sdm630", "active_energy_import", words_of(">f", 1234.5), {}, 1_234_500),
        # SmartEVSE's Acrel profile tests: 16 A and 3680 W at direct connection
        ("acrel-adl400", "current_l2", (1600,), {"pt": 1, "ct": 1}, 1600),
        ("acrel-adl400", "active_power_l2", (0, 3680), {"pt": 1, "ct": 1}, 3680),
        # a 100 : 1 current transformer on a 10 kV : 100 V feeder
        ("acrel-adl400", "current_l1", (123,), {"pt": 100, "ct": 100}, 12_300),
        ("acrel-adl400", "voltage_l1", (577,), {"pt": 100, "ct": 100}, 57_700),
        ("acrel-adl400", "active_power_total", (0xFFFF, 0xFFF6), {"pt": 100, "ct": 100}, -100_000),
        ("acrel-adl400", "active_energy_import", (1, 0), {"pt": 100, "ct": 100}, 655_360_000),
        ("acrel-adl400", "power_factor_total", (0xFC18,), {}, -1000),
        # the DTSU666 sends U and P times ten, I and PF times 1000, f times 100
        ("chint-dtsu666", "voltage_l1", words_of(">f", 2301.0), {"pt": 1}, 2301),
        ("chint-dtsu666", "current_l1", words_of(">f", 1500.0), {"ct": 40}, 60_000),
        ("chint-dtsu666", "active_power_total", words_of(">f", 10.0), {"pt": 1, "ct": 40}, 400),
        ("chint-dtsu666", "frequency", words_of(">f", 5001.0), {}, 5001),
        ("chint-dtsu666", "active_energy_import", words_of(">f", 2.5), {"pt": 1, "ct": 40}, 10_000),
        ("sunspec-meter-213", "active_energy_export", words_of(">f", 1500.0), {}, 1500),
    ],
)
def test_known_register_contents(meter, name, words, ratios, mantissa):
    factors = {key: Fraction(value) for key, value in ratios.items()}
    assert decode(shipped_point(meter, name), words, factors) == (mantissa, Quality.GOOD)


@pytest.mark.parametrize(
    ("meter", "places"),
    [
        (
            "eastron-sdm630",  # input registers of the protocol document, 3X number - 30001
            {
                "voltage_l1": (4, 0x00, "f32"),
                "current_l1": (4, 0x06, "f32"),
                "active_power_l1": (4, 0x0C, "f32"),
                "active_power_total": (4, 0x34, "f32"),
                "apparent_power_total": (4, 0x38, "f32"),
                "reactive_power_total": (4, 0x3C, "f32"),
                "power_factor_total": (4, 0x3E, "f32"),
                "frequency": (4, 0x46, "f32"),
                "active_energy_import": (4, 0x48, "f32"),
                "active_energy_export": (4, 0x4A, "f32"),
            },
        ),
        (
            "acrel-adl400",
            {
                "active_energy_import": (3, 0x000A, "u32"),
                "active_energy_export": (3, 0x0014, "u32"),
                "voltage_l1": (3, 0x0061, "u16"),
                "current_l1": (3, 0x0064, "u16"),
                "frequency": (3, 0x0077, "u16"),
                "active_power_l1": (3, 0x0164, "i32"),
                "active_power_total": (3, 0x016A, "i32"),
                "reactive_power_total": (3, 0x0172, "i32"),
                "apparent_power_total": (3, 0x017A, "u32"),
                "power_factor_total": (3, 0x017F, "i16"),
            },
        ),
        (
            "chint-dtsu666",
            {
                "voltage_l1": (3, 0x2006, "f32"),
                "current_l1": (3, 0x200C, "f32"),
                "active_power_total": (3, 0x2012, "f32"),
                "active_power_l1": (3, 0x2014, "f32"),
                "reactive_power_total": (3, 0x201A, "f32"),
                "power_factor_total": (3, 0x202A, "f32"),
                "frequency": (3, 0x2044, "f32"),
                "active_energy_import": (3, 0x401E, "f32"),
                "active_energy_export": (3, 0x4028, "f32"),
            },
        ),
        (
            "sunspec-meter-213",  # 40070 and the offset in the model block
            {
                "current_l1": (3, 40070 + 4, "f32"),
                "voltage_l1": (3, 40070 + 12, "f32"),
                "frequency": (3, 40070 + 26, "f32"),
                "active_power_total": (3, 40070 + 28, "f32"),
                "active_power_l1": (3, 40070 + 30, "f32"),
                "apparent_power_total": (3, 40070 + 36, "f32"),
                "reactive_power_total": (3, 40070 + 44, "f32"),
                "power_factor_total": (3, 40070 + 52, "f32"),
                "active_energy_export": (3, 40070 + 60, "f32"),
                "active_energy_import": (3, 40070 + 68, "f32"),
            },
        ),
    ],
)
def test_the_main_registers_stand_where_the_documents_say(meter, places):
    found = {p.name: (p.function, p.register, p.type) for p in load(meter, []).points}
    assert {name: found[name] for name in places} == places


@pytest.mark.parametrize("meter", BY_HAND)
def test_the_phases_of_a_quantity_follow_each_other(meter):
    points = {p.name: p for p in load(meter, []).points}
    for name, first in points.items():
        if name.endswith("_l1"):
            second, third = points[f"{name[:-1]}2"], points[f"{name[:-1]}3"]
            assert second.register == first.register + first.count
            assert third.register == second.register + first.count
            same = [(p.type, p.scale, p.ratios, p.unit) for p in (first, second, third)]
            assert same == same[:1] * 3


def test_the_voltage_ratio_of_the_dtsu666_is_held_times_ten():
    pt = next(r for r in load("chint-dtsu666", []).ratios if r.name == "pt")
    assert decode_ratio(pt, (10,)) == 1


def test_a_meter_is_recognised_by_its_checks():
    voltage, frequency = load("eastron-sdm630", []).identify
    assert matches(voltage, words_of(">f", 230.0))
    assert not matches(frequency, words_of(">f", 230.0))
    assert not matches(voltage, words_of(">f", math.nan))


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("ABCD", (0x1122, 0x3344)),
        ("CDAB", (0x3344, 0x1122)),
        ("BADC", (0x2211, 0x4433)),
        ("DCBA", (0x4433, 0x2211)),
    ],
)
def test_byte_orders_of_32_bits(order, words):
    assert decode(point(type="u32", order=order), words, {}) == (0x11223344, Quality.GOOD)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ("ABCD", (0x1122, 0x3344, 0x5566, 0x7788)),
        ("CDAB", (0x7788, 0x5566, 0x3344, 0x1122)),
        ("BADC", (0x2211, 0x4433, 0x6655, 0x8877)),
        ("DCBA", (0x8877, 0x6655, 0x4433, 0x2211)),
    ],
)
def test_byte_orders_of_64_bits(order, words):
    assert decode(point(type="i64", order=order), words, {})[0] == 0x1122334455667788


def test_a_single_register_has_two_byte_orders():
    assert decode(point(order="ABCD"), (0x1122,), {})[0] == 0x1122
    assert decode(point(order="BADC"), (0x1122,), {})[0] == 0x2211


@pytest.mark.parametrize(
    ("raw", "mantissa"), [(5, 0), (15, 2), (25, 2), (26, 3), (-5, 0), (-15, -2), (-25, -2)]
)
def test_one_rounding_half_to_even_at_the_end(raw, mantissa):
    tenths = point(type="i16", scale=Fraction(1, 10))
    assert decode(tenths, (raw & 0xFFFF,), {}) == (mantissa, Quality.GOOD)


def test_a_coarse_resolution_rounds_too():
    assert decode(point(exponent=2), (1250,), {})[0] == 12


LAYOUTS = {
    "u16": ">H",
    "i16": ">h",
    "u32": ">I",
    "i32": ">i",
    "u64": ">Q",
    "i64": ">q",
    "f32": ">f",
    "f64": ">d",
}
types = st.sampled_from(sorted(LAYOUTS))
fractions = st.fractions(Fraction(1, 1000), 1000, max_denominator=1000)


@settings(deadline=None)  # the machine may be busy
@given(types, st.binary(min_size=8, max_size=8), fractions, fractions, st.integers(-6, 3))
def test_every_value_equals_the_rounding_of_exact_fractions(code, data, scale, ratio, exponent):
    count, layout = REGISTER_COUNTS[code], LAYOUTS[code]
    words = struct.unpack(f">{count}H", data[: 2 * count])
    raw = struct.unpack(layout, data[: 2 * count])[0]
    where = point(type=code, scale=scale, ratios=("ct",), exponent=exponent)
    if math.isfinite(raw):
        expected = round(Fraction(raw) * scale * ratio / Fraction(10) ** exponent)
    if not math.isfinite(raw) or abs(expected) > 2**63 - 1:
        assert decode(where, words, {"ct": ratio}) == IMPLAUSIBLE
    else:
        assert decode(where, words, {"ct": ratio}) == (expected, Quality.GOOD)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("code", "layout"), [("f32", ">f"), ("f64", ">d")])
def test_a_float_that_is_no_number_is_implausible(value, code, layout):
    assert decode(point(type=code), words_of(layout, value), {}) == IMPLAUSIBLE


def test_a_content_that_means_not_available_is_implausible_whatever_the_sign_of_its_type():
    marked = point(type="i16", invalid=frozenset({0x8000}))
    assert decode(marked, (0x8000,), {}) == IMPLAUSIBLE
    assert decode(marked, (0x7FFF,), {}) == (0x7FFF, Quality.GOOD)


@pytest.mark.parametrize(("raw", "good"), [(9, False), (10, True), (50, True), (51, False)])
def test_the_bounds_belong_to_the_plausible_values(raw, good):
    bounded = point(min=Fraction(1), max=Fraction(5), scale=Fraction(1, 10), exponent=-1)
    assert decode(bounded, (raw,), {}) == ((raw, Quality.GOOD) if good else IMPLAUSIBLE)


def test_registers_of_the_wrong_number_are_a_programming_error():
    with pytest.raises(ValueError, match="1 registers for a u32"):
        decode(point(type="u32"), (1,), {})


@pytest.mark.parametrize("raw", [0, 0xFFFF])
def test_a_ratio_that_nobody_set_is_an_error_and_not_a_plausible_zero(raw):
    ratio = Ratio("ct", "mine", 3, 0x20, "u16", "ABCD", Fraction(1), frozenset({0xFFFF}))
    with pytest.raises(ProtocolError, match=r"profile mine: ratio 'ct' at 0x0020"):
        decode_ratio(ratio, (raw,))
    assert decode_ratio(ratio, (40,)) == 40


def test_half_a_register_is_a_programming_error():
    with pytest.raises(ValueError, match=r"1\.5 registers for a i32 that takes 2"):
        profile_module.decode(point(type="i32"), b"\0\0\0", {})


@pytest.mark.parametrize(
    ("code", "words", "mantissa"),
    [
        ("bcd16", (0x1234,), 1234),
        ("bcd32", (0x1234, 0x5678), 12_345_678),
        ("bcd48", (0x0000, 0x0001, 0x9999), 19_999),
        ("bcd64", (0x1234, 0x5678, 0x9012, 0x3456), 1_234_567_890_123_456),
        ("u8hi", (0x12FF,), 0x12),
        ("u8lo", (0x12FF,), 0xFF),
        ("sm32", (0x8000, 0x0005), -5),
        ("sm32", (0x0001, 0x0000), 65_536),
        ("sm32", (0x8000, 0x0000), 0),
        ("t5", (0x02FF, 0xFFFF), 1_677_721_500),  # all 24 bits are size
        ("t6", (0x02FF, 0xFFFF), -100),  # the same bits with a sign: -1 x 10**2
        ("t5", (0xFF00, 0x0019), 2),  # 25 x 10**-1, half to even
        ("t6", (0xFE80, 0x0000), -83_886),  # -8388608 x 10**-2
    ],
)
def test_registers_of_every_type(code, words, mantissa):
    assert decode(point(type=code), words, {}) == (mantissa, Quality.GOOD)


@pytest.mark.parametrize("words", [(0x000A,), (0xFFFF,), (0xA000,)])
def test_half_bytes_that_are_no_digits_are_implausible(words):
    assert decode(point(type="bcd16"), words, {}) == IMPLAUSIBLE


def test_one_byte_of_a_register_is_judged_without_the_other():
    marked = point(type="u8lo", invalid=frozenset({0xFF}))
    assert decode(marked, (0x12FF,), {}) == IMPLAUSIBLE
    assert decode(marked, (0xFF12,), {}) == (0x12, Quality.GOOD)


@pytest.mark.parametrize("power", [0x7F, 0x80])
def test_a_decimal_exponent_beyond_all_mantissas_is_bounded(power):
    value, quality = decode(point(type="t6"), (power << 8, 1), {})
    assert (value, quality) == (IMPLAUSIBLE if power == 0x7F else (0, Quality.GOOD))


def test_the_offset_belongs_to_the_raw_number():
    kelvin = point(offset=Fraction(-2731), scale=Fraction(1, 10), exponent=-1)
    assert decode(kelvin, (2981,), {}) == (250, Quality.GOOD)


def test_the_second_part_of_a_value_is_added_before_the_ratios_and_the_rounding():
    counter = point(
        type="i32",
        plus=Part(2, "f32", "ABCD", Fraction(1)),
        ratios=("ct",),
        exponent=-3,
    )
    assert counter.count == 4
    words = (0, 12_345, *words_of(">f", 0.5))
    assert decode(counter, words, {"ct": Fraction(40)}) == (493_820_000, Quality.GOOD)
    assert decode(counter, (0, 1, *words_of(">f", math.nan)), {"ct": Fraction(1)}) == IMPLAUSIBLE


def test_a_second_part_stands_where_the_profile_says_and_has_its_own_order_and_scale():
    counter = point(type="u16", plus=Part(3, "u32", "CDAB", Fraction(1, 1000)), exponent=-3)
    assert counter.count == 5
    assert decode(counter, (7, 0xDEAD, 0xBEEF, 250, 0), {}) == (7250, Quality.GOOD)


@pytest.mark.parametrize(("raw", "factor"), [(2, Fraction(100)), (-3, Fraction(1, 1000)), (0, 1)])
def test_a_ratio_may_be_a_power_of_ten(raw, factor):
    scale = Ratio("sf", "mine", 3, 0, "i16", "ABCD", Fraction(1), frozenset({0x8000}), "pow10")
    assert decode_ratio(scale, (raw & 0xFFFF,)) == factor
    assert scale.is_live


@pytest.mark.parametrize("raw", [0x8000, 19, 0x10000 - 19, 0x7FFF])
def test_a_power_of_ten_that_is_not_available_is_never_taken_for_1(raw):
    scale = Ratio("sf", "mine", 3, 0, "i16", "ABCD", Fraction(1), frozenset(), "pow10")
    with pytest.raises(ProtocolError, match="ratio 'sf' at 0x0000"):
        decode_ratio(scale, (raw,))


def test_a_transformer_ratio_is_not_read_in_every_scan():
    assert not Ratio("ct", "mine", 3, 0, "u16", "ABCD", Fraction(1), frozenset()).is_live


def test_a_ratio_that_is_no_number_is_an_error():
    ratio = Ratio("ct", "mine", 3, 0, "bcd16", "ABCD", Fraction(1), frozenset())
    with pytest.raises(ProtocolError, match="is no number"):
        decode_ratio(ratio, (0xFFFF,))


@pytest.mark.parametrize(("raw", "is_model"), [(331, True), (333, False), (335, True)])
def test_a_model_is_one_of_the_values_of_its_check(raw, is_model):
    values = frozenset({Fraction(331), Fraction(335)})
    check = Check(4, 11, "u16", "ABCD", Fraction(331), Fraction(335), values)
    assert matches(check, (raw,)) is is_model


@pytest.mark.parametrize(
    ("code", "order", "data", "text"),
    [
        ("str", "ABCD", b"EM340  \0", "EM340"),
        ("str", "ABCD", b"\0S\0O\0C\0O", "SOCO"),  # one character in each register
        ("str", "BADC", b"MEX1", "EM1X"),
        ("str", "ABCD", b"\xff\xff\x01A", "???A"),
        ("u32", "CDAB", b"\x00\x02\x00\x01", "65538"),
        ("bcd32", "ABCD", b"\x00\x12\x34\x56", "123456"),
        ("bcd16", "ABCD", b"\xff\xff", ""),
    ],
)
def test_what_a_meter_tells_of_itself(code, order, data, text):
    identity = Identity("serial_number", 3, 0, code, order, len(data) // 2)
    assert decode_identity(identity, data) == text


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({"type": "u32", "scale": Fraction(1, 100)}, Fraction("42949672.96")),
        ({"type": "i32", "scale": Fraction(1, 10)}, Fraction("214748364.8")),
        ({"type": "bcd32", "scale": Fraction(1, 100)}, 1_000_000),
        ({"type": "u8hi"}, 256),
        ({"type": "u32", "scale": Fraction(1, 100), "ratios": ("ct",)}, Fraction("1717986918.4")),
        ({"type": "u32", "wraps": Fraction(1_000_000)}, 1_000_000),
        ({"type": "f32"}, None),
        ({"type": "t5"}, None),
    ],
)
def test_where_a_totaliser_begins_anew(changes, end):
    assert wraps_at(point(**changes), {"ct": Fraction(40)}) == end
