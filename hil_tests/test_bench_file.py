"""The bench file: read as it is meant, and one clear complaint for each mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeagg.errors import ConfigError
from hil_tests.bench import VARIABLE, SerialNumber, load_bench, meter_names, parse_bench

FILE = Path("bench.toml")
RACK = """
[[bus]]
name = "rack"
port = "/dev/rs485/rack"
baud = 19200
format = "8E1"
[[bus.meter]]
name = "incomer"
unit = 1
profile = "eastron-sdm630"
[[bus.meter]]
name = "workshop"
unit = 2
profile = "chint-dtsu666"
[bus.meter.serial_number]
function = 3
register = 0x0100
registers = 3
coding = "digits"
is = "202611220007"
[[bus]]
name = "roof"
tcp = "192.0.2.7"
[[bus.meter]]
name = "pv"
unit = 126
profile = "sunspec-meter-213"
"""


def test_a_bench_file_gives_the_meters_that_are_there() -> None:
    meters = parse_bench(RACK, FILE)
    assert list(meters) == ["incomer", "workshop", "pv"]
    workshop, pv = meters["workshop"], meters["pv"]
    assert (workshop.bus.port, workshop.bus.baud, workshop.bus.format) == (
        "/dev/rs485/rack",
        19200,
        "8E1",
    )
    assert [meter.name for meter in workshop.bus.meters] == ["incomer", "workshop"]
    assert workshop.meter.points == workshop.meter.profile.points
    assert workshop.blocks
    assert workshop.ratio_blocks
    assert workshop.meter.settings.format == "8E1"
    assert workshop.serial_number == SerialNumber(3, 0x100, 3, "digits", "202611220007")
    assert (pv.bus.host, pv.bus.tcp_port, pv.meter.address.unit) == ("192.0.2.7", 502, 126)
    assert pv.serial_number is None


@pytest.mark.parametrize(
    ("coding", "words", "text"),
    [
        ("number", (0x0001, 0x0002), "65538"),
        ("digits", (0x2026, 0x1122), "20261122"),
        ("text", (0x5345, 0x2D37, 0x2000, 0x0000), "SE-7"),
    ],
)
def test_a_serial_number_is_read_in_the_coding_of_its_meter(
    coding: str, words: tuple[int, ...], text: str
) -> None:
    number = SerialNumber(3, 0, len(words), coding, "")
    assert number.text(words) == text


MISTAKES = [
    ('name = "rack"', 'title = "rack"', "bus[0].title: unknown key; allowed: baud, format"),
    ('port = "/dev/rs485/rack"', "", "bus[rack].port: neither of port and tcp; one of the two"),
    ("baud = 19200", 'tcp = "x"', "bus[rack].port: both of port and tcp; one of the two"),
    ("baud = 19200", "", "bus[rack].baud: missing; a whole number from"),
    ("baud = 19200", "baud = 9601", "bus[rack].baud: 9601; one of 1200, 2400, 4800"),
    ('"8E1"', '"7E1"', "bus[rack].format: '7E1'; one of 8N1"),
    ("unit = 1\n", "unit = 0\n", "bus[rack].meter[incomer].unit: 0; a whole number from 1 to 247"),
    ("unit = 2", "unit = 1", "bus[rack].meter.unit: '1' stands twice; each once"),
    ('"workshop"', '"incomer"', "bus[rack].meter.name: 'incomer' stands twice; each once"),
    ('"pv"', '"incomer"', "bus[roof].meter.name: 'incomer' stands twice; each once"),
    ('"roof"', '"rack"', "bus[rack].name: 'rack' stands twice; each once"),
    (
        '"eastron-sdm630"',
        '"eastron-sdm63"',
        "bus[rack].meter[incomer].profile: no profile 'eastron-sdm63'; did you mean",
    ),
    ('"digits"', '"hex"', "serial_number.coding: 'hex'; one of number, digits, text"),
    ("registers = 3", "registers = 0", "serial_number.registers: 0; a whole number from 1 to 32"),
    (
        '"chint-dtsu666"',
        '"dlt645-2007-generic"',
        "bus[rack].meter[workshop].profile: dlt645-2007-generic speaks dlt645-2007; Modbus",
    ),
    ('is = "202611220007"', "is = 7", "serial_number.is: 7; text"),
    ('"192.0.2.7"', '"192.0.2.7:x"', "bus[roof].tcp: '192.0.2.7:x'; HOST or HOST:PORT"),
    ("[[bus]]", "lines = 1\n[[bus]]", "lines: unknown key; allowed: bus, profiles"),
    ('name = "rack"', 'name = "rack', "file: Illegal character"),
]


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES, ids=lambda text: text[:24])
def test_a_mistake_is_named_with_its_key_and_what_is_allowed(
    old: str, new: str, message: str
) -> None:
    assert old in RACK
    with pytest.raises(ConfigError) as caught:
        parse_bench(RACK.replace(old, new, 1), FILE)
    assert message in str(caught.value)
    assert str(caught.value).startswith("bench.toml: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "bus: missing; at least one [[bus]]"),
        ('[[bus]]\nname = "a"\ntcp = "b"\n', "bus[a].meter: missing; at least one [[bus.meter]]"),
        (
            RACK + RACK.replace("rack", "rack2", 1),
            "bus[rack2].port: '/dev/rs485/rack' stands twice",
        ),
    ],
)
def test_what_is_missing_or_doubled_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_bench(text, FILE)
    assert message in str(caught.value)


def test_own_profiles_lie_beside_the_bench_file(
    tmp_path: Path, write_profile: Callable[[Path], None]
) -> None:
    (tmp_path / "own").mkdir()
    write_profile(tmp_path / "own" / "one-point.toml")
    file = tmp_path / "bench.toml"
    own = RACK.replace('"eastron-sdm630"', '"one-point"')
    file.write_text(f'profiles = ["own"]\n{own}', encoding="utf-8")
    assert load_bench(file)["incomer"].meter.profile.vendor == "Test"


@pytest.fixture
def write_profile() -> Callable[[Path], None]:
    def write(file: Path) -> None:
        file.write_text(
            'vendor = "Test"\nmodels = ["one"]\nstatus = "draft"\nsources = ["this test"]\n'
            '[points.voltage_l1]\nfunction = 4\nregister = 0\ntype = "f32"\nunit = "V"\n'
            "resolution = 0.1\n",
            encoding="utf-8",
        )

    return write


def test_the_variable_chooses_the_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert meter_names() == ["incomer", "workshop", "lighting", "pv"]
    file = tmp_path / "bench.toml"
    file.write_text(RACK, encoding="utf-8")
    monkeypatch.setenv(VARIABLE, str(file))
    assert meter_names() == ["incomer", "workshop", "pv"]
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none.toml"))
    with pytest.raises(pytest.UsageError, match=r"none\.toml: file: .*No such file"):
        meter_names()
