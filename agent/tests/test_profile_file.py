"""What the reader of profile files accepts, and what it tells about a wrong file."""

from fractions import Fraction
from pathlib import Path

import pytest

from edgeagg.errors import ConfigError
from edgeagg.model import Kind
from edgeagg_agent.profile import Check, Limits, Point, Ratio, Serial, load, names

GOOD_FILE = """
vendor = "Maker"
models = ["M1"]
status = "draft"
sources = ["display"]

[serial]
baud = 9600
format = "8N1"

[limits]
registers_max = 80
request_gap_ms = 40
holes = "readable"

[[identify]]
function = 3
register = 0x10
type = "u16"
min = 4500
max = 6500

[ratios.ct]
function = 3
register = 0x20
type = "u16"

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
    assert loaded.serial == Serial(baud=9600, format="8N1")
    assert loaded.limits == Limits(registers_max=80, request_gap_ms=40, holes="readable")
    assert loaded.identify == (Check(3, 0x10, "u16", "ABCD", Fraction(4500), Fraction(6500)),)
    no_content = frozenset()
    assert loaded.ratios == (Ratio("ct", "mine", 3, 0x20, "u16", "ABCD", Fraction(1), no_content),)
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
    )
    assert loaded.points[1].kind == Kind.TOTALISER
    assert loaded.points[1].count == 2


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
    "check as table": ("[[identify]]", "[identify]", "identify", "[[identify]]"),
    "point name": ("[points.voltage_l1]", "[points.Voltage]", "points.Voltage", "a-z"),
    "ratio scale": (
        'type = "u16"\n\n[points',
        'type = "u16"\nscale = -1\n\n[points',
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


@pytest.mark.parametrize("content", [b"vendor = ", b"\xff\xfe", b"points = 3", b""])
def test_a_file_that_is_no_profile_is_a_configuration_error(tmp_path, content):
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"mine\.toml"):
        load("mine", [tmp_path])
