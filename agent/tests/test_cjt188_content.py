"""What stands in item 901F: layouts by length, unit codes before or behind the number."""

from datetime import datetime
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagg_agent.protocol.cjt188 import UNIT_CODES, quantity, unit_factor
from edgeagg_agent.protocol.cjt188_content import LAYOUTS, decode_content, unit_first

CLOCK = bytes.fromhex("31012211051520")
TAIL = CLOCK + b"\x04\x00"
VOLUMES = bytes.fromhex("34120000 2c 00050000 2c")
CODES = {
    kind: [code for code in UNIT_CODES if quantity(code) == kind]
    for kind in ("energy", "power", "volume", "flow")
}


def packed(number, size):
    digits = f"{number:0{2 * size}d}"
    return bytes(int(digits[at : at + 2], 16) for at in range(2 * size - 2, -1, -2))


def test_a_water_meters_answer():
    content = decode_content(VOLUMES + TAIL)
    assert content.amounts["volume"].value("m3") == Fraction("12.34")
    assert content.amounts["settled_volume"].value("L") == 5000
    assert content.clock == datetime(2015, 5, 11, 22, 1, 31)  # noqa: DTZ001 - no zone in a meter
    assert content.status == b"\x04\x00"


def test_a_clock_in_the_other_order_is_read():
    assert (
        decode_content(VOLUMES + CLOCK[::-1] + b"\0\0").clock
        == decode_content(VOLUMES + TAIL).clock
    )


def test_a_clock_never_set_and_a_status_of_ff_spoil_nothing():
    content = decode_content(VOLUMES + bytes(7) + b"\xff\xff")
    assert content.clock is None
    assert content.status == b"\xff\xff"
    assert content.amounts["volume"].value("m3") == Fraction("12.34")


def test_the_length_chooses_the_layout_of_heat():
    wide = bytes.fromhex(
        "00201000 05"
        "50251000 05"
        "50210000 17"  # power in four bytes
        "34120000 35"
        "00307500 2c"
        "004500 303800 215400"  # temperatures and hours in three
    )
    content = decode_content(wide + TAIL)
    assert content.amounts["power"].value("kW") == Fraction("21.50")
    assert content.amounts["flow"].value("m3/h") == Fraction("0.1234")
    assert content.amounts["supply_temperature"].value() == 45
    assert content.amounts["hours"].value() == 5421
    narrow = bytes.fromhex(
        "00201000 05"
        "50251000 05"
        "502100 17"  # power in three bytes
        "341200 35"
        "00307500 2c"
        "0045 3038 21540000"  # temperatures in two, hours in four
    )
    content = decode_content(narrow + TAIL)
    assert content.amounts["power"].value("kW") == Fraction("21.50")
    assert content.amounts["flow"].value("m3/h") == Fraction("1.234")
    assert content.amounts["return_temperature"].value() == Fraction("38.30")
    assert content.amounts["hours"].value() == 5421


@pytest.mark.parametrize("size", [*range(19), *range(20, 40), 41, 42, *range(44, 101)])
def test_an_unknown_length_has_no_layout(size):
    assert decode_content(bytes(size)) is None


def test_a_unit_code_in_front_of_the_number_is_seen():
    content = decode_content(bytes.fromhex("2c 34120000 2c 00050000") + TAIL)
    assert content.amounts["volume"].value("m3") == Fraction("12.34")
    assert content.amounts["settled_volume"].value("m3") == 5


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (VOLUMES + TAIL, False),
        (bytes.fromhex("2c 34120000 2c 00050000") + TAIL, True),
        (bytes.fromhex("34120000 2c 2c 00050000") + TAIL, None),  # one of each
        (bytes(19), None),
        (bytes(20), None),
        (b"", None),
    ],
)
def test_the_place_of_the_unit_codes_is_told(payload, expected):
    assert unit_first(payload) is expected


def test_one_code_by_chance_does_not_tell_the_place_of_all():
    # 051234.56 kWh with the codes in front: read behind, 05 is kWh and the digits are plausible
    heat = bytes.fromhex(
        "05 00000000 05 56341205 17 50210000 35 34120000 2c 00307500 004500 303800 215400"
    )
    content = decode_content(heat + TAIL)
    assert content.amounts["heat"].value("kWh") == Fraction("51234.56")


def test_a_unit_code_of_ten_times_is_ten_times():
    content = decode_content(bytes.fromhex("34120000 2d 00050000 2b") + TAIL)
    assert content.amounts["volume"].value("m3") == Fraction("123.4")
    assert content.amounts["settled_volume"].value("m3") == Fraction("0.5")


def test_a_unit_code_of_something_else_is_no_answer():
    assert decode_content(bytes.fromhex("34120000 05 00050000 05") + TAIL) is None
    assert decode_content(bytes.fromhex("34120000 2c 00050000 00") + TAIL) is None


def test_a_code_in_both_places_is_settled_by_the_digits():
    # 12.29 m3 in hundredths: 29 is the code of litres too, 2C are no digits
    content = decode_content(bytes.fromhex("29120000 2c 29050000 2c") + TAIL)
    assert content.amounts["volume"].value("m3") == Fraction("12.29")
    content = decode_content(bytes.fromhex("2c 34120029 2c 00050029") + TAIL)
    assert content.amounts["volume"].value("m3") == Fraction("290012.34")


def test_litres_that_end_in_29_could_be_either_and_are_no_answer():
    assert decode_content(bytes.fromhex("29120000 29 29050000 29") + TAIL) is None


def test_ff_in_place_of_a_number_is_no_value():
    content = decode_content(bytes.fromhex("ffffffff 2c 00050000 2c") + TAIL)
    assert content.amounts["volume"].value("m3") is None
    assert content.amounts["settled_volume"].value("m3") == 5


def test_a_value_is_not_turned_into_a_unit_of_something_else():
    content = decode_content(VOLUMES + TAIL)
    assert content.amounts["volume"].value("kWh") is None
    with pytest.raises(ValueError, match="kvarh"):
        content.amounts["volume"].value("kvarh")


@st.composite
def answers(draw):
    """Draw a payload, whether its unit codes come first, and what it says: name to number, code."""
    fields = LAYOUTS[draw(st.sampled_from(sorted(LAYOUTS)))]
    first, said, data = draw(st.booleans()), {}, b""
    for field in fields:
        number = draw(st.integers(0, 10 ** (2 * field.size) - 1))
        code = draw(st.sampled_from(CODES[field.quantity])) if field.quantity else None
        parts = [packed(number, field.size)] + ([bytes((code,))] if field.quantity else [])
        data += b"".join(reversed(parts) if first else parts)
        said[field.name] = (number, code, field.decimals)
    return data + TAIL, said


@settings(deadline=None)  # the machine may be busy
@given(answers())
def test_what_is_read_is_what_was_said(answer):
    data, said = answer
    content = decode_content(data)
    if content is None:
        return  # both places fit: no guess
    for name, (number, code, decimals) in said.items():
        unit = {"energy": "kWh", "power": "kW", "volume": "m3", "flow": "m3/h", None: ""}[
            None if code is None else quantity(code)
        ]
        factor = Fraction(1) if code is None else unit_factor(code, unit)
        assert content.amounts[name].value(unit) == number * factor / 10**decimals


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=64))
def test_random_bytes_are_an_answer_or_none(data):
    content = decode_content(data)
    assert content is None or set(content.amounts) == {field.name for field in LAYOUTS[len(data)]}


@settings(deadline=None)  # the machine may be busy
@given(
    st.sampled_from(sorted(LAYOUTS)).flatmap(lambda size: st.binary(min_size=size, max_size=size))
)
def test_random_bytes_of_a_layouts_length_raise_nothing(data):
    decode_content(data)
