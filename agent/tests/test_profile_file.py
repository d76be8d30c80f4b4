"""What the reader of profile files accepts, and what it tells about a wrong file."""

from fractions import Fraction
from pathlib import Path

import pytest

from edgeagg.errors import ConfigError
from edgeagg.model import Kind
from edgeagg_agent.profile import (
    Check,
    Identity,
    Limits,
    Part,
    Point,
    Poll,
    Ratio,
    Serial,
    SunSpec,
    load,
    names,
)

GOOD_FILE = """
vendor = "Maker"
models = ["M1"]
status = "draft"
sources = ["display"]
kind = "storage"
notes = ["set the current ratio on the meter"]

[serial]
baud = 9600
format = "8N1"
unit = 11

[limits]
registers_max = 80
request_gap_ms = 40
holes = "readable"
illegal = [[4, 0x30, 2]]
proven = [[4, 0, 40], [3, 0x10, 2]]

[sunspec]
models = [201, 203]
start = 40070

[[identify]]
function = 3
register = 0x10
type = "u16"
min = 4500
max = 6500

[[identify]]
function = 3
register = 0x11
type = "u16"
equals = [331, 335]

[identity.serial_number]
function = 3
register = 0x5000
type = "str"
count = 7

[identity.model_code]
function = 3
register = 0x11
type = "u16"

[ratios.ct]
function = 3
register = 0x20
type = "u16"

[ratios.w_sf]
function = 3
register = 0x21
type = "i16"
op = "pow10"

[points.voltage_l1]
function = 4
register = 0x0000
type = "f32"
order = "CDAB"
scale = 0.1
ratios = ["ct"]
unit = "V"
resolution = 0.1
invalid = [0xFFFFFFFF]
min = 0
max = 500

[points.active_energy_import]
function = 4
register = 0x0002
type = "u32"
unit = "kWh"
resolution = 0.01
kind = "totaliser"
plus = { register = 0x0004, type = "f32", order = "CDAB", scale = 0.5 }
digits = 8
status = "verified"

[points.state]
function = 4
register = 0x0010
type = "u8hi"
offset = -2
unit = "1"
resolution = 1
poll = "status"

[points.tariff]
function = 4
register = 0x0010
type = "u8lo"
unit = "1"
resolution = 1
"""


def write(folder: Path, text: str, name: str = "mine") -> Path:
    file = folder / f"{name}.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_every_key_of_a_profile_file_arrives(tmp_path):
    write(tmp_path, GOOD_FILE)
    loaded = load("mine", [tmp_path])
    assert (loaded.vendor, loaded.models, loaded.status) == ("Maker", ("M1",), "draft")
    assert loaded.sources == ("display",)
    assert (loaded.kind, loaded.protocol) == ("storage", "modbus")
    assert loaded.notes == ("set the current ratio on the meter",)
    assert loaded.serial == Serial(baud=9600, format="8N1", unit=11)
    assert loaded.limits == Limits(
        registers_max=80,
        request_gap_ms=40,
        holes="readable",
        illegal=((4, 0x30, 2),),
        proven=((4, 0, 40), (3, 0x10, 2)),
    )
    assert loaded.sunspec == SunSpec(models=(201, 203), start=40070)
    low, high = Fraction(331), Fraction(335)
    assert loaded.identify == (
        Check(3, 0x10, "u16", "ABCD", Fraction(4500), Fraction(6500)),
        Check(3, 0x11, "u16", "ABCD", low, high, frozenset({low, high})),
    )
    assert loaded.identity == (
        Identity("serial_number", 3, 0x5000, "str", "ABCD", 7),
        Identity("model_code", 3, 0x11, "u16", "ABCD", 1),
    )
    no_content = frozenset()
    assert loaded.ratios == (
        Ratio("ct", "mine", 3, 0x20, "u16", "ABCD", Fraction(1), no_content),
        Ratio("w_sf", "mine", 3, 0x21, "i16", "ABCD", Fraction(1), no_content, "pow10"),
    )
    assert loaded.points[0] == Point(
        name="voltage_l1",
        unit="V",
        exponent=-1,
        kind=Kind.GAUGE,
        function=4,
        register=0,
        type="f32",
        order="CDAB",
        scale=Fraction(1, 10),
        ratios=("ct",),
        invalid=frozenset({0xFFFFFFFF}),
        min=Fraction(0),
        max=Fraction(500),
        status="draft",
    )
    energy = loaded.points[1]
    assert (energy.kind, energy.poll) == (Kind.TOTALISER, Poll.ENERGY)
    assert energy.plus == Part(4, "f32", "CDAB", Fraction(1, 2))
    assert (energy.count, energy.wraps, energy.status) == (4, 10**8, "verified")
    assert (loaded.points[2].offset, loaded.points[2].poll) == (Fraction(-2), Poll.STATUS)
    assert loaded.every_point == loaded.points
    assert (loaded.items, loaded.item_identity) == ((), ())


def test_a_profile_may_leave_out_what_is_not_known(tmp_path):
    short = GOOD_FILE[: GOOD_FILE.index("[serial]")].replace('kind = "storage"\n', "")
    short += '[serial]\nbaud = 9600\n[points.p]\nfunction = 3\nregister = 1\ntype = "u16"\n'
    write(tmp_path, short + 'unit = "V"\nresolution = 1\n')
    loaded = load("mine", [tmp_path])
    assert loaded.serial == Serial(baud=9600, format="", unit=None)
    assert loaded.limits == Limits(registers_max=125)
    assert (loaded.kind, loaded.sunspec, loaded.identify) == ("electricity", None, ())


@pytest.mark.parametrize(
    ("line", "wraps"), [("bits = 24", 2**24), ("wraps_at = 999.5", Fraction(1999, 2))]
)
def test_a_totaliser_may_begin_anew_before_its_register_is_full(tmp_path, line, wraps):
    write(tmp_path, GOOD_FILE.replace("digits = 8", line))
    assert load("mine", [tmp_path]).points[1].wraps == wraps


def test_a_sunspec_profile_moves_to_where_the_model_stands(tmp_path):
    write(tmp_path, GOOD_FILE)
    moved = load("mine", [tmp_path]).moved(base=50000, start=50072)
    by = 50072 - 40070
    assert [point.register for point in moved.points] == [by, by + 2, by + 16, by + 16]
    assert moved.points[1].plus.register == by + 4
    assert [ratio.register for ratio in moved.ratios] == [by + 0x20, by + 0x21]
    assert [one.register for one in moved.identity] == [0x5000 + 10_000, 0x11 + 10_000]
    assert moved.identify == ()  # discovery has found the model
    assert moved.sunspec.start == 50072
    write(tmp_path, GOOD_FILE.replace("[sunspec]\nmodels = [201, 203]\nstart = 40070", ""))
    with pytest.raises(ValueError, match="profile mine has no SunSpec model"):
        load("mine", [tmp_path]).moved(base=0, start=70)


def test_the_first_directory_wins_and_the_shipped_profiles_are_last(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a", GOOD_FILE, "eastron-sdm630")
    write(tmp_path / "b", GOOD_FILE.replace("Maker", "Other"), "eastron-sdm630")
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "absent"]
    assert load("eastron-sdm630", folders).vendor == "Maker"
    assert load("chint-dtsu666", folders).vendor == "Chint"
    assert names(folders).count("eastron-sdm630") == 1


@pytest.mark.parametrize("name", ["eastron-sdm360", "../secret", "", ".hidden", "a/b"])
def test_an_unknown_profile_is_answered_with_the_known_ones(tmp_path, name):
    (tmp_path / "inner" / "a").mkdir(parents=True)
    for place in ("secret", "inner/.hidden", "inner/a/b"):
        write(tmp_path, GOOD_FILE, place)
    with pytest.raises(ConfigError) as caught:
        load(name, [tmp_path / "inner"])
    assert caught.value.key == "profile"
    assert repr(name) in caught.value.found
    assert "chint-dtsu666" in caught.value.allowed
    if name == "eastron-sdm360":
        assert caught.value.allowed.startswith("did you mean 'eastron-sdm630'?")


VOLTAGE = "points.voltage_l1"
ENERGY = "points.active_energy_import"
WRONG = {
    "unknown key": ("scale = 0.1", "scael = 0.1", f"{VOLTAGE}.scael", "did you mean 'scale'?"),
    "unknown top key": ("vendor", "vender", "vender", "did you mean 'vendor'?"),
    "missing unit": ('unit = "V"\n', "", f"{VOLTAGE}.unit", "text"),
    "empty unit": ('unit = "V"', 'unit = " "', f"{VOLTAGE}.unit", "text"),
    "misspelt unit": ('"kWh"', '"kwh"', f"{ENERGY}.unit", "write kWh"),
    "missing register": ("register = 0x0002\n", "", f"{ENERGY}.register", "65534"),
    "register past the end": ("0x0002", "0xFFFF", f"{ENERGY}.register", "from 0 to 65534"),
    "text as register": ("0x0002", '"2"', f"{ENERGY}.register", "whole number"),
    "true as register": ("0x0002", "true", f"{ENERGY}.register", "whole number"),
    "write function": (
        "function = 4\nregister = 0x0002",
        "function = 6\nregister = 2",
        f"{ENERGY}.function",
        "from 3 to 4",
    ),
    "resolution 0.02": ("resolution = 0.01", "resolution = 0.02", f"{ENERGY}.resolution", "ten"),
    "resolution 0": ("resolution = 0.01", "resolution = 0", f"{ENERGY}.resolution", "ten"),
    "resolution nan": ("resolution = 0.01", "resolution = nan", f"{ENERGY}.resolution", "number"),
    "unknown type": ('"u32"', '"float"', f"{ENERGY}.type", "u16, i16, u32"),
    "unknown meter kind": ('"storage"', '"battery"', "kind", "storage, ev-charger"),
    "unknown protocol": ('kind = "st', 'protocol = "knx"\nkind = "st', "protocol", "cjt188"),
    "note as text": (
        '["set the current ratio on the meter"]',
        '"set it"',
        "notes",
        "list of texts",
    ),
    "broadcast unit": ("unit = 11", "unit = 0", "serial.unit", "from 1 to 247"),
    "span of two": ("[[4, 0x30, 2]]", "[[4, 0x30]]", "limits.illegal", "[function, start, count]"),
    "span of writes": ("[[4, 0x30, 2]]", "[[6, 1, 2]]", "limits.illegal", "[3, 0x14, 4]"),
    "span of nothing": ("[4, 0, 40]", "[4, 0, 0]", "limits.proven", "[function, start, count]"),
    "span past the end": ("[4, 0, 40]", "[4, 0xFFFF, 2]", "limits.proven", "[function, start"),
    "point in illegal": ("[[4, 0x30, 2]]", "[[4, 5, 2]]", f"{ENERGY}.register", "answers"),
    "no models": ("models = [201, 203]", "models = []", "sunspec.models", "from 1 to 65534"),
    "model of text": ("[201, 203]", '["201"]', "sunspec.models", "list of whole numbers"),
    "equals and min": ("equals", "min = 1\nequals", "identify[1].equals", "either equals or"),
    "equals nothing": ("[331, 335]", "[]", "identify[1].equals", "a list of numbers"),
    "equals text": ("[331, 335]", '["x"]', "identify[1].equals", "a number"),
    "text without length": ("count = 7\n", "", "identity.serial_number.count", "from 1 to 64"),
    "length of a number": (
        'type = "u16"\n\n[ratios.ct',
        'type = "u16"\ncount = 2\n\n[ratios.ct',
        "identity.model_code.count",
        "from 1 to 1",
    ),
    "text as point": ('type = "u8hi"', 'type = "str"', "points.state.type", "u16, i16"),
    "ratio op": ('"pow10"', '"power"', "ratios.w_sf.op", "multiply, pow10"),
    "power of a float": ('type = "i16"\nop', 'type = "f32"\nop', "ratios.w_sf.type", "u16, i16"),
    "second part in front": (
        "{ register = 0x0004",
        "{ register = 0x0003",
        f"{ENERGY}.plus.register",
        "4 to",
    ),
    "second part of scale 0": ("scale = 0.5", "scale = 0", f"{ENERGY}.plus.scale", "other number"),
    "second part too far": (
        "{ register = 0x0004",
        "{ register = 0x0062",
        f"{ENERGY}.plus.register",
        "80 registers",
    ),
    "unknown poll": ('"status"\n\n', '"often"\n\n', "points.state.poll", "instant, energy"),
    "digits of a gauge": ("offset = -2", "digits = 6", "points.state.digits", "totaliser"),
    "offset of a half": ("offset = -2", "offset = -0.5", "points.state.offset", "a whole number"),
    "two widths": ("digits = 8", "digits = 8\nbits = 24", f"{ENERGY}.bits", "one of digits"),
    "wraps at 0": ("digits = 8", "wraps_at = 0", f"{ENERGY}.wraps_at", "more than 0"),
    "point status": ('status = "verified"', 'status = "ok"', f"{ENERGY}.status", "draft"),
    "unknown order": ('"CDAB"', '"ACBD"', f"{VOLTAGE}.order", "ABCD, CDAB"),
    "unknown kind": ('"totaliser"', '"counter"', f"{ENERGY}.kind", "gauge, totaliser"),
    "unknown ratio": ('["ct"]', '["cr"]', f"{VOLTAGE}.ratios", "allowed: ct"),
    "ratios as text": ('["ct"]', '"ct"', f"{VOLTAGE}.ratios", "list of texts"),
    "scale 0": ("scale = 0.1", "scale = 0", f"{VOLTAGE}.scale", "any other number"),
    "content too large": ("0xFFFFFFFF]", "0x1FFFFFFFF]", f"{VOLTAGE}.invalid", "0xFFFFFFFF"),
    "negative content": ("[0xFFFFFFFF]", "[-1]", f"{VOLTAGE}.invalid", "from 0"),
    "min above max": ("min = 0\n", "min = 501\n", f"{VOLTAGE}.max", "at least min, 501"),
    "check upside down": ("min = 4500", "min = 7000", "identify[0].max", "at least min, 7000"),
    "overlap": ("0x0002", "0x0001", f"{ENERGY}.register", "one point for each register"),
    "same register": ("0x0002", "0x0000", f"{ENERGY}.register", "one point for each register"),
    "more than one read": ("registers_max = 80", "registers_max = 1", f"{VOLTAGE}.type", "1 reg"),
    "too long a read": ("registers_max = 80", "registers_max = 126", "limits.registers_max", "125"),
    "holes": ('"readable"', '"yes"', "limits.holes", "readable, illegal, unknown"),
    "status": ('"draft"', '"good"', "status", "verified, draft"),
    "serial format": ('"8N1"', '"7E1"', "serial.format", "8N1"),
    "table as list": ("[serial]", "[[serial]]", "serial", "a table"),
    "point name": ("[points.voltage_l1]", "[points.Voltage]", "points.Voltage", "a-z"),
    "ratio scale": (
        'type = "u16"\n\n[ratios.w',
        'type = "u16"\nscale = -1\n\n[ratios.w',
        "ratios.ct.scale",
        "more than 0",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_is_named_with_file_key_and_what_is_allowed(tmp_path, mistake):
    before, after, key, allowed = WRONG[mistake]
    assert before in GOOD_FILE
    file = write(tmp_path, GOOD_FILE.replace(before, after, 1))
    with pytest.raises(ConfigError) as caught:
        load("mine", [tmp_path])
    assert caught.value.file == str(file)
    assert caught.value.key == key
    assert allowed in caught.value.allowed


def test_checks_as_one_table_are_told_how_to_be_written(tmp_path):
    checks = GOOD_FILE[GOOD_FILE.index("[[identify]]") : GOOD_FILE.index("[identity.")]
    one = '[identify]\nfunction = 3\nregister = 1\ntype = "u16"\nequals = [1]\n'
    write(tmp_path, GOOD_FILE.replace(checks, one))
    with pytest.raises(ConfigError) as caught:
        load("mine", [tmp_path])
    assert (caught.value.key, caught.value.allowed) == (
        "identify",
        "a list of tables, [[identify]]",
    )


@pytest.mark.parametrize("content", [b"vendor = ", b"\xff\xfe", b"points = 3", b""])
def test_a_file_that_is_no_profile_is_a_configuration_error(tmp_path, content):
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        load("mine", [tmp_path])
