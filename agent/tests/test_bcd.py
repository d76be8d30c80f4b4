"""Digits and numbers as DL/T 645 and CJ/T 188 meters send them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagg_agent.protocol.bcd import decode_bcd, decode_digits


def packed(digits: str) -> bytes:
    return bytes(int(digits[at : at + 2], 16) for at in range(len(digits) - 2, -1, -2))


@pytest.mark.parametrize(
    ("data", "signed", "value"),
    [
        ("26000000", False, 26),
        ("78563412", False, 12345678),
        ("78563492", True, -12345678),
        ("78563492", False, 92345678),  # an unsigned counter uses its highest digit up to 9
        ("01100080", True, -1001),
        ("00000080", True, 0),
        ("999979", True, 799999),
        ("9999f9", True, -799999),
        ("999999", False, 999999),
        ("3412", True, 1234),
        ("00", False, 0),
    ],
)
def test_numbers(data, signed, value):
    assert decode_bcd(bytes.fromhex(data), signed=signed) == value


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("data", ["", "ff", "ffffffff", "ffff", "0a", "a000", "00000f", "ffffff7f"])
def test_what_holds_no_digits_is_no_number(data, signed):
    assert decode_bcd(bytes.fromhex(data), signed=signed) is None


def test_a_signed_field_cannot_hold_more_than_79_in_its_highest_byte():
    # -25.0000 kW and 105.0000 kW would be the same bytes: the meter's limits must rule one out
    assert decode_bcd(bytes.fromhex("0000a5"), signed=True) == -250000


@settings(deadline=None)  # the machine may be busy
@given(st.integers(0, 10**8 - 1))
def test_every_unsigned_number_reads_back(value):
    assert decode_bcd(packed(f"{value:08d}"), signed=False) == value


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1 - 8 * 10**5, 8 * 10**5 - 1))
def test_every_signed_number_reads_back(value):
    data = bytearray(packed(f"{abs(value):06d}"))
    data[-1] |= 0x80 if value < 0 else 0
    assert decode_bcd(bytes(data), signed=True) == value


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=8), st.booleans())
def test_any_bytes_are_a_number_in_range_or_none(data, signed):
    value = decode_bcd(data, signed=signed)
    assert value is None or abs(value) < 10 ** (2 * len(data))


def test_digits_keep_their_zeros():
    assert decode_digits(bytes.fromhex("694017101200")) == "001210174069"
    assert decode_digits(bytes.fromhex("aa")) is None
    assert decode_digits(b"") is None
