"""Profiles of DL/T 645 and CJ/T 188 meters: what a file must hold, and the exact arithmetic."""

import functools
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagg.errors import ConfigError
from edgeagg.model import Kind, Quality
from edgeagg_agent.profile import (
    ItemIdentity,
    ItemPoint,
    Layout,
    Poll,
    decode_item,
    decode_item_identity,
    item_wraps_at,
    load,
)

IMPLAUSIBLE = (None, Quality.IMPLAUSIBLE)
TENTH, CENT = Fraction(1, 10), Fraction(1, 100)
GOOD_FILE = """
vendor = "Maker"
models = ["M1"]
status = "draft"
sources = ["display"]
kind = "heat"
protocol = "cjt188"

[limits]
request_gap_ms = 40

[identity.serial_number]
item = "C032"
type = "digits"
length = 6

[points.heat_energy_total]
item = "901F"
type = "bcd"
offset_bytes = 5
length = 4
unit_byte = 9
reply_bytes = 43
scale = 0.01
unit = "kWh"
resolution = 0.01
kind = "totaliser"
block = "90FF"
block_offset_bytes = 3

[[points.heat_energy_total.layout]]
offset_bytes = 1
length = 3
unit_byte = 0
reply_bytes = 6
scale = 0.1

[points.status_word_1]
item = "901F"
type = "bin"
length = 2
unit = "1"
resolution = 1
poll = "status"
"""


def write(folder, text):
    file = folder / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return file


def item(**changes):
    layout = changes.pop("layout", Layout(0, 2, TENTH))
    given_ = {
        "name": "p",
        "unit": "V",
        "exponent": -1,
        "kind": Kind.GAUGE,
        "item": "02010100",
        "type": "bcd",
        "layouts": (layout,),
    }
    return ItemPoint(**(given_ | changes))


def test_every_key_of_a_profile_of_items_arrives(tmp_path):
    write(tmp_path, GOOD_FILE)
    loaded = load("mine", [tmp_path])
    assert (loaded.protocol, loaded.kind, loaded.points) == ("cjt188", "heat", ())
    assert loaded.limits.request_gap_ms == 40
    assert loaded.item_identity == (ItemIdentity("serial_number", "C032", "digits", 0, 6),)
    assert loaded.every_point == loaded.items
    assert loaded.items[0] == ItemPoint(
        name="heat_energy_total",
        unit="kWh",
        exponent=-2,
        kind=Kind.TOTALISER,
        item="901F",
        type="bcd",
        layouts=(Layout(5, 4, CENT, 9, 43), Layout(1, 3, TENTH, 0, 6)),
        poll=Poll.ENERGY,
        block="90FF",
        block_offset_bytes=3,
        status="draft",
    )
    assert loaded.items[1].layouts == (Layout(0, 2, Fraction(1)),)
    assert (loaded.items[1].type, loaded.items[1].poll) == ("bin", Poll.STATUS)


ENERGY = "points.heat_energy_total"
WRONG = {
    "register of an item": ("offset_bytes = 5", "register = 5", f"{ENERGY}.register", "offset_byt"),
    "item of another protocol": ('"901F"', '"0201FF00"', f"{ENERGY}.item", "4 digits"),
    "item in small letters": ('"901F"', '"901f"', f"{ENERGY}.item", "0-9 and A-F"),
    "item missing": ('item = "901F"\ntype = "bcd"', 'type = "bcd"', f"{ENERGY}.item", "text"),
    "register type": ('"bcd"', '"u32"', f"{ENERGY}.type", "bcd, bcd-signed, bin"),
    "too long": ("length = 4", "length = 9", f"{ENERGY}.length", "from 1 to 8"),
    "behind the reply": ("reply_bytes = 43", "reply_bytes = 9", f"{ENERGY}.reply_bytes", "10"),
    "unit no code has": ('"kWh"', '"kvarh"', f"{ENERGY}.unit", "kWh, m3, m3/h"),
    "two for one reply": ("reply_bytes = 6", "reply_bytes = 43", f"{ENERGY}.layout", "another"),
    "one for all replies": ("reply_bytes = 43\n", "", f"{ENERGY}.layout", "another reply_bytes"),
    "offset without block": ('block = "90FF"\n', "", f"{ENERGY}.block_offset_bytes", "several"),
    "layout with an item": ("offset_bytes = 1", 'item = "1"', f"{ENERGY}.layout[0].item", "length"),
    "identity type": ('"digits"', '"u32"', "identity.serial_number.type", "str, digits"),
    "ratios": ('kind = "heat"', 'kind = "heat"\nratios = {}', "ratios", "protocol modbus"),
    "identify": ('kind = "heat"', 'kind = "heat"\nidentify = []', "identify", "protocol modbus"),
    "sunspec": ('kind = "heat"', 'kind = "heat"\nsunspec = {}', "sunspec", "protocol modbus"),
    "no points": (GOOD_FILE[GOOD_FILE.index("[points.") :], "", "points", "at least one"),
    "modbus": ('protocol = "cjt188"', "", f"{ENERGY}.item", "function"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_named_with_file_key_and_what_is_allowed(tmp_path, mistake):
    before, after, key, allowed = WRONG[mistake]
    assert before in GOOD_FILE
    file = write(tmp_path, GOOD_FILE.replace(before, after, 1))
    with pytest.raises(ConfigError) as caught:
        load("mine", [tmp_path])
    assert caught.value.file == str(file)
    assert (caught.value.key, allowed in caught.value.allowed) == (key, True), caught.value


def test_a_unit_code_is_only_sent_by_cjt188(tmp_path):
    text = GOOD_FILE.replace('"cjt188"', '"dlt645-2007"').replace('"901F"', '"02010100"')
    write(tmp_path, text.replace('"C032"', '"04000402"'))
    with pytest.raises(ConfigError) as caught:
        load("mine", [tmp_path])
    assert caught.value.key == f"{ENERGY}.unit_byte"
    assert caught.value.allowed == "only for protocol cjt188"


@pytest.mark.parametrize(
    ("changes", "payload", "mantissa"),
    [
        ({}, "01 23", 2301),  # low byte first
        ({"type": "bcd-signed"}, "01 A3", -2301),
        ({"type": "bin"}, "01 23", 0x2301),
        ({"exponent": 0}, "25 00", 2),  # 2.5 V: half to even
        ({"exponent": 0}, "35 00", 4),
        ({"layout": Layout(2, 2, TENTH)}, "FF FF 01 23", 2301),
        ({"exponent": 1, "layout": Layout(0, 2, Fraction(10))}, "34 12", 1234),
    ],
)
def test_an_item_becomes_a_mantissa(changes, payload, mantissa):
    assert decode_item(item(**changes), bytes.fromhex(payload)) == (mantissa, Quality.GOOD)


@pytest.mark.parametrize("payload", ["", "01", "FF FF", "0A 00", "01 A3"])
def test_what_is_no_number_is_implausible(payload):
    assert decode_item(item(), bytes.fromhex(payload)) == IMPLAUSIBLE


@pytest.mark.parametrize(("digits", "good"), [("09", False), ("10", True), ("50", True)])
def test_the_bounds_belong_to_the_plausible_values(digits, good):
    bounded = item(layout=Layout(0, 1, TENTH), min=Fraction(1), max=Fraction(5))
    expected = (int(digits), Quality.GOOD) if good else IMPLAUSIBLE
    assert decode_item(bounded, bytes.fromhex(digits)) == expected


def test_a_block_holds_the_item_at_another_place():
    second = item(block="0201FF00", block_offset_bytes=2)
    assert decode_item(second, bytes.fromhex("99 99 01 23 99 99"), is_block=True)[0] == 2301
    assert decode_item(second, bytes.fromhex("99 99 01"), is_block=True) == IMPLAUSIBLE


def heat(payload):
    layouts = (Layout(0, 2, TENTH, 2, 4), Layout(1, 2, CENT, 0, 3))
    return decode_item(item(unit="kWh", layouts=layouts, exponent=-2), bytes.fromhex(payload))


@pytest.mark.parametrize(
    ("payload", "mantissa"),
    [
        ("34 12 05 00", 12_340),  # kWh
        ("34 12 06 00", 123_400),  # 10 kWh
        ("34 12 08 00", 12_340_000),  # MWh
        ("18 00 11 00", 50_000),  # 1.8 GJ
        ("01 00 11 00", 2778),  # 0.1 GJ is 27.777... kWh
        ("05 34 12", 1234),  # the short reply: other place, other scale, unit in front
    ],
)
def test_the_unit_travels_with_the_value_and_the_length_tells_the_layout(payload, mantissa):
    assert heat(payload) == (mantissa, Quality.GOOD)


@pytest.mark.parametrize(
    "payload",
    [
        "34 12 2C 00",  # cubic metres are no energy
        "34 12 FF 00",  # no unit
        "05 34 12 00 00",  # a reply of a length that no layout has
        "34 12",
    ],
)
def test_a_reply_of_another_layout_is_implausible(payload):
    assert heat(payload) == IMPLAUSIBLE


def test_a_unit_code_behind_the_reply_is_implausible():
    short = item(unit="kWh", layout=Layout(0, 2, TENTH, unit_byte=2))
    assert decode_item(short, bytes.fromhex("34 12")) == IMPLAUSIBLE


load_once = functools.cache(load)


@settings(deadline=None, max_examples=25)  # the machine may be busy
@given(st.binary(max_size=60), st.booleans())
def test_any_payload_gives_a_value_or_a_reason(payload, is_block):
    for name in ("cjt188-heat", "cjt188-heat-unit-first", "cjt188-generic", "dlt645-2007-generic"):
        for point in load_once(name, ()).items:
            value, quality = decode_item(point, payload, is_block=is_block)
            assert (value is None) == (quality is Quality.IMPLAUSIBLE)


def test_what_a_meter_tells_of_itself():
    digits = ItemIdentity("serial_number", "04000402", "digits", 0, 6)
    assert decode_item_identity(digits, bytes.fromhex("69 40 17 10 12 00")) == "001210174069"
    text = ItemIdentity("model_name", "0400040B", "str", 1, 4)
    assert decode_item_identity(text, b"x\0" + b"666"[::-1]) == "666"
    assert decode_item_identity(text, b"x") == ""


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({"layout": Layout(0, 4, CENT)}, 1_000_000),
        ({"layout": Layout(0, 4, CENT), "wraps": Fraction(10_000)}, 10_000),
        ({"layout": Layout(0, 4, CENT), "type": "bcd-signed"}, None),
        ({"layout": Layout(0, 4, CENT, 4)}, None),
        ({"layout": Layout(0, 2, CENT), "type": "bin"}, None),
    ],
)
def test_where_a_totaliser_begins_anew(changes, end):
    assert item_wraps_at(item(**changes)) == end


def test_captured_replies_of_water_and_heat_meters():
    # data behind SER of frames published with right checksums
    water = bytes.fromhex("00020000 2c 00020000 2c 00000000000000 00ff")
    found = {p.name: decode_item(p, water)[0] for p in load("cjt188-generic", ()).items}
    assert found == {"volume_total": 200, "volume_settlement": 200, "status_word_1": 0xFF00}
    jy = bytes.fromhex(
        "0802000000 0802000000 1700000000 3500000000 2c34100000 352500 662500 000000"
        "53001210071520 0000"
    )
    found = {p.name: decode_item(p, jy)[0] for p in load("cjt188-heat-unit-first", ()).items}
    assert found["heat_energy_total"] == found["heat_energy_settlement"] == 2000  # 0.02 MWh
    assert (found["heat_power"], found["flow_rate"], found["volume_total"]) == (0, 0, 1034)
    assert (found["supply_temperature"], found["return_temperature"]) == (2535, 2566)
    wrong = {p.name: decode_item(p, jy)[0] for p in load("cjt188-heat", ()).items}
    names = ("heat_energy_total", "heat_energy_settlement", "heat_power", "volume_total")
    assert [wrong[name] for name in names] == [None] * 4


def test_the_shorter_reply_of_a_heat_meter():
    # a frame constructed from the 2018 layout, 40 bytes of data
    payload = bytes.fromhex(
        "0020100005 5025100005 50210017 34120035 003075002c 0045 3038 0021540030102211262000 0000"
    )
    found = {p.name: decode_item(p, payload)[0] for p in load("cjt188-heat", ()).items}
    assert found["heat_energy_settlement"] == 102_000
    assert found["heat_energy_total"] == 102_550
    assert (found["heat_power"], found["flow_rate"], found["volume_total"]) == (
        21_500,
        1234,
        753_000,
    )
    assert (found["supply_temperature"], found["return_temperature"]) == (4500, 3830)
    assert found["operating_hours"] == 542_100


def test_a_number_that_holds_a_unit_code_does_not_pass_for_another_layout():
    # 51234.56 kWh and all other numbers with their unit codes in front; read as if they stood
    # behind, the first two numbers would be plausible kilowatt-hours
    heat = bytes.fromhex("0500000005")[:5] + bytes.fromhex("0556341205")
    rest = bytes.fromhex("1700000000 3500000000 2C00000000 000000 000000 000000")
    payload = heat + rest + bytes(9)
    assert len(payload) == 43
    behind = load("cjt188-heat", ())
    first = load("cjt188-heat-unit-first", ())
    wanted = {p.name: p for p in behind.items}["heat_energy_total"]
    right = {p.name: p for p in first.items}["heat_energy_total"]
    assert decode_item(right, payload) == (5123456, Quality.GOOD)
    assert decode_item(wanted, payload) == IMPLAUSIBLE
