"""What the bench's DL/T 645 meters say: items of both generations, blocks in several frames."""

from __future__ import annotations

from fractions import Fraction

import pytest

from hil_tests.dlt645_asking import ADDRESS, NOON, WIRE_ADDRESS, ask, make_meter, unwrapped, wrapped
from hil_tests.sim.bcd import counter, gauge
from hil_tests.sim.dlt645 import Dlt645Meter, Generation, Habits
from hil_tests.sim.dlt645_items import Identity, Readings


@pytest.mark.parametrize(
    ("di", "content"),
    [
        ("00010000", "78563412"),  # 123456.789 kWh: full steps only
        ("0001ff00", "78563412 50010000 28553412 00000000 00000000"),  # total and four tariffs
        ("00000000", "34120080"),  # -12.34 kWh
        ("00060000", "00040000"),  # second quadrant
        ("02010100", "1423"),  # 231.4 V
        ("0201ff00", "1423 0000 0000"),  # absent phases read as 0
        ("02020100", "462381"),  # -12.346 A: the sign is the top bit
        ("02020200", "999979"),  # more than 799.999 A: held at the end of the digits
        ("02030000", "563492"),  # -12.3456 kW
        ("02030100", "999979"),  # 250 kW on the meter's side: held, as such meters do
        ("02060000", "8789"),  # -0.987
        ("02800002", "9849"),  # 49.985 Hz: the nearest even step
        ("04000101", "00221126"),  # Sunday 2026-11-22
        ("04000102", "050012"),  # 12:00:05
        ("04000103", "15"),
        ("04000401", "070022112620"),
        ("04000402", "563412000000"),
        ("04000409", "001600"),
        ("040005ff", "00" * 14),
        ("04000502", "0000"),
        ("0400040b", "000000" + b"ggaegde".hex()),  # text: the last character travels first
        ("00010001", "78553412"),  # one settlement day ago
        ("00010002", "78543412"),
        ("02040100", "005684"),  # -4.56 kvar
        ("02070100", "1503"),
        ("02080200", "2501"),
        ("01010000", "947856 4517031126"),  # 56.7894 kW on 2026-11-03 17:45
        ("0101ff00", "947856 4517031126" + "00" * 8 * 4),
        ("05060101", "78563312" + "00" * 16),  # at the last midnight
        ("05060102", "78563212" + "00" * 16),  # at the one before
    ],
)
def test_item_of_2007(di: str, content: str) -> None:
    assert ask(make_meter(settled=2), di) == (0x91, content.replace(" ", ""))


@pytest.mark.parametrize(
    ("di", "content"),
    [
        ("9010", "78563412"),
        ("9012", "28553412"),
        ("901f", "78563412 50010000 28553412 00000000 00000000"),
        ("9150", "00040000"),  # second quadrant: 1997 has them in the order 1, 4, 2, 3
        ("9140", "00050000"),
        ("921f", "78563312" + "00" * 16),  # at the last midnight
        ("9410", "78553412"),  # last settlement
        ("9810", "78543412"),  # the one before
        ("b641", "5604"),  # 4.56 kvar in two bytes
        ("b650", "8709"),
        ("b611", "3102"),  # whole volts
        ("b61f", "3102 0000 0000"),
        ("b621", "3512"),  # 12.35 A: 1997 has no sign
        ("b630", "563412"),
        ("c010", "00221126"),
        ("c011", "050012"),
        ("c030", "001600"),
        ("c032", "563412000000"),
    ],
)
def test_item_of_1997(di: str, content: str) -> None:
    meter = make_meter(settled=2, generation=Generation.OF_1997)
    assert ask(meter, di, control=0x01) == (0x81, content.replace(" ", ""))


@pytest.mark.parametrize(
    "di",
    [
        "00120000",
        "00010003",
        "02070000",
        "00013f00",
        "02010000",
        "02010400",
        "02010101",
        "04000500",
        "05060100",
    ],
)
def test_unknown_identifier_is_refused_with_no_data(di: str) -> None:
    assert ask(make_meter(), di) == (0xD1, "02")


def test_meter_without_blocks_refuses_them() -> None:
    meter = make_meter(identity=Identity(address=ADDRESS, blocks=False))
    assert ask(meter, "0001ff00") == (0xD1, "02")
    assert ask(meter, "00010000")[0] == 0x91


def test_more_tariffs_make_longer_blocks() -> None:
    meter = make_meter(identity=Identity(address=ADDRESS, tariffs=14))
    assert len(ask(meter, "0001ff00")[1]) == 2 * 4 * 15


def test_block_of_thirteen_settlements_comes_in_numbered_frames() -> None:
    meter = make_meter(settled=12)
    first = ask(meter, "0001ffff")
    second = ask(meter, "0001ffff", control=0x12, more=b"\x01")
    again = ask(meter, "0001ffff", control=0x12, more=b"\x01")
    beyond = ask(meter, "0001ffff", control=0x12, more=b"\x02")
    before = ask(meter, "0001ffff", control=0x12, more=b"\x00")
    without = ask(meter, "0001ffff", control=0x12)
    days = "".join(ask(meter, f"0001ff{day:02x}")[1] for day in range(13))
    assert first[0] == 0xB1  # more follow
    assert second[0] == 0x92  # the last
    assert second[1].endswith("01")
    assert first[1] + second[1][:-2] == days
    assert again == second
    assert beyond == before == (0xD2, "02")
    assert without == (0xD2, "01")


def test_middle_frame_says_that_more_follow() -> None:
    meter = make_meter(data_bytes_max=4 + 8 + 1)
    told = [ask(meter, "0001ff00")[0]]
    told += [ask(meter, "0001ff00", control=0x12, more=bytes((n,)))[0] for n in (1, 2)]
    assert told == [0xB1, 0xB2, 0x92]


def test_block_of_1997_is_read_on_without_numbers() -> None:
    meter = make_meter(generation=Generation.OF_1997, data_bytes_max=2 + 8 + 1)
    parts = [ask(meter, "901f", control=0x01), *(ask(meter, "901f", control=0x02) for _ in "ab")]
    assert [control for control, _ in parts] == [0xA1, 0xA2, 0x82]
    assert (
        "".join(data for _, data in parts)
        == ask(make_meter(generation=Generation.OF_1997), "901f", control=0x01)[1]
    )
    assert ask(meter, "901f", control=0x02) == (0xC2, "02")


def test_block_stays_as_it_was_while_it_is_read() -> None:
    meter = Dlt645Meter(
        Identity(address=ADDRESS),
        readings=lambda now_ms: Readings(
            clock=NOON, now={"active_energy_import_t4": Fraction(now_ms)}
        ),
        habits=Habits(preamble=0, data_bytes_max=4 + 16 + 1),
    )
    meter.answer(wrapped(WIRE_ADDRESS, 0x11, b"\x00\xff\x01\x00"), 5)
    reply = meter.answer(wrapped(WIRE_ADDRESS, 0x12, b"\x00\xff\x01\x00\x01"), 900)
    assert unwrapped(reply, preamble=0)[2] == b"\x00\xff\x01\x00\x00\x05\x00\x00\x01"


def test_block_of_another_identifier_is_not_read_on() -> None:
    meter = make_meter(settled=12)
    ask(meter, "0001ffff")
    assert ask(meter, "0002ffff", control=0x12, more=b"\x01") == (0xD2, "02")


def test_read_of_wrong_length_is_refused_as_other_error() -> None:
    assert ask(make_meter(), "901f") == (0xD1, "01")


@pytest.mark.parametrize(
    ("value", "signed", "data"),
    [
        ("999999.99", False, "99999999"),
        ("1000000.00", False, "00000000"),  # rolls over behind eight digits
        ("1000000.019", False, "01000000"),
        ("-799999.99", True, "999999f9"),
        ("-800000", True, "00000080"),
        ("800000.01", True, "01000000"),
    ],
)
def test_counter_rolls_over_where_its_digits_end(value: str, signed: bool, data: str) -> None:
    assert counter(Fraction(value), length=4, decimals=2, signed=signed).hex() == data


def test_gauge_that_rounds_to_zero_has_no_sign() -> None:
    assert gauge(Fraction("-0.00004"), length=3, decimals=4, signed=True) == b"\x00\x00\x00"
