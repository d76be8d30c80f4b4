"""Where the unit codes stand in item 901F, and what a water meter's numbers then mean."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tests.item_meters import shown_by
from edgeagg_agent.protocol.cjt188 import UNIT_CODES, quantity
from edgeagg_agent.protocol.cjt188_units import LENGTHS, unit_first

TAIL = bytes.fromhex("31012211051520 0400")  # clock and status
VOLUMES = bytes.fromhex("34120000 2c 00050000 2c")
TEMPERATURES = bytes.fromhex("004500 303800 215400")  # and hours
CODES = {
    kind: [code for code in UNIT_CODES if quantity(code) == kind]
    for kind in ("energy", "power", "volume", "flow")
}
NUMBERS = {
    19: ((4, "volume"), (4, "volume")),
    40: ((4, "energy"), (4, "energy"), (3, "power"), (3, "flow"), (4, "volume")),
    43: ((4, "energy"), (4, "energy"), (4, "power"), (4, "flow"), (4, "volume")),
}


def packed(number, size):
    digits = f"{number:0{2 * size}d}"
    return bytes(int(digits[at : at + 2], 16) for at in range(2 * size - 2, -1, -2))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (VOLUMES + TAIL, False),
        (bytes.fromhex("2c 34120000 2c 00050000") + TAIL, True),
        (bytes.fromhex("34120000 2c 2c 00050000") + TAIL, None),  # one of each
        (bytes.fromhex("34120000 05 00050000 05") + TAIL, None),  # kWh of water
        (bytes.fromhex("34120000 2c 00050000 00") + TAIL, None),
        (bytes.fromhex("ffffffff 2c 00050000 2c") + TAIL, False),  # a number that it does not have
        (VOLUMES + bytes(9), False),  # a clock that was never set
        (bytes(19), None),
        (bytes(20), None),
        (b"", None),
    ],
)
def test_the_place_of_the_unit_codes_is_told(payload, expected):
    assert unit_first(payload) is expected


def test_one_code_by_chance_does_not_tell_the_place_of_all():
    # 051234.56 kWh with the codes in front: read behind, 05 is kWh and the digits are plausible
    heat = bytes.fromhex("05 00000000 05 56341205 17 50210000 35 34120000 2c 00307500")
    payload = heat + TEMPERATURES + TAIL
    assert unit_first(payload) is True
    assert shown_by("cjt188-heat-unit-first", payload)["heat_energy_total"] == Fraction("51234.56")
    assert shown_by("cjt188-heat", payload)["heat_energy_total"] is None


def test_a_code_in_both_places_is_settled_by_the_digits():
    # 12.29 m3 in hundredths: 29 is the code of litres too, 2C are no digits
    assert unit_first(bytes.fromhex("29120000 2c 29050000 2c") + TAIL) is False
    assert unit_first(bytes.fromhex("2c 34120029 2c 00050029") + TAIL) is True


def test_litres_that_end_in_29_could_be_either_and_are_no_answer():
    payload = bytes.fromhex("29120000 29 29050000 29") + TAIL
    assert unit_first(payload) is None
    assert shown_by("cjt188-generic", payload)["volume_total"] is None


def test_a_unit_code_of_ten_times_is_ten_times():
    found = shown_by("cjt188-generic", bytes.fromhex("34120000 2d 00050000 2b") + TAIL)
    assert found["volume_total"] == Fraction("123.4")
    assert found["volume_settlement"] == Fraction("0.5")


def test_ff_in_place_of_a_number_is_no_value_of_this_point_only():
    found = shown_by("cjt188-generic", bytes.fromhex("ffffffff 2c 00050000 2c") + TAIL)
    assert (found["volume_total"], found["volume_settlement"]) == (None, 5)


@st.composite
def answers(draw):
    """Draw a payload and whether its unit codes come first."""
    length = draw(st.sampled_from(sorted(NUMBERS)))
    first, data = draw(st.booleans()), b""
    for size, measured in NUMBERS[length]:
        number = packed(draw(st.integers(0, 10 ** (2 * size) - 1)), size)
        code = bytes((draw(st.sampled_from(CODES[measured])),))
        data += code + number if first else number + code
    return data.ljust(length, b"\0"), first


@settings(deadline=None)  # the machine may be busy
@given(answers())
def test_the_place_is_told_right_or_not_at_all(answer):
    payload, first = answer
    assert unit_first(payload) in {first, None}


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=64))
def test_random_bytes_have_a_place_only_at_a_known_length(payload):
    assert unit_first(payload) is None or len(payload) in LENGTHS


@settings(deadline=None)  # the machine may be busy
@given(
    st.sampled_from(sorted(LENGTHS)).flatmap(lambda size: st.binary(min_size=size, max_size=size))
)
def test_random_bytes_of_a_known_length_raise_nothing(payload):
    assert unit_first(payload) in {True, False, None}
