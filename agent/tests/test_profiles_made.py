"""The script that makes profiles from register tables: what it takes, and what it leaves out."""

import importlib.util
import tomllib
from fractions import Fraction
from pathlib import Path

import pytest

from edgeagg.model import Kind
from edgeagg_agent.profile import Limits, Poll, Serial, load

SCRIPT = Path(__file__).parents[2] / "tools/make_profiles.py"
HEAD = """
[device]
vendor = "Maker"
models = ["M1", "M2"]
kind = "electricity"
protocol = "modbus"
[serial]
baud = 9600
parity = "E"
stopbits = 1
unit = 7
notes = "PyPI says 2400"
[limits]
gaps = "illegal"
illegal_ranges = [[3, 0x50, 2]]
proven_spans = [[3, 0, 40]]
inter_request_ms = 25
[identify]
method = "register"
checks = [
  { fc = 3, address = 0x60, count = 1, type = "u16", expect = [5, 7] },
  { fc = 3, address = 0x62, count = 2, type = "u16", min = 1, max = 9 },
  { fc = 3, address = 0x70, count = 4, type = "str", expect = "SOCO" },
  { fc = 3, address = 0x80, count = 1, type = "u16", note = "model code, values not known" },
]
[quirks]
list = ["two channels"]
[[conflicts]]
field = "frequency"
text = "0.1 or 0.01"
[[sources]]
ref = "maker/manual"
[[sources]]
ref = "PyPI m1 1.0"
"""


def row(quantity, address, **changes):
    given = {"type": "u32", "scale": 1, "unit": "W", "group": "instant", "confidence": "agree"}
    values = given | {"quantity": quantity, "address": address, "fc": 3} | changes
    return ", ".join(f"{key} = {value!r}" for key, value in values.items())


MAIN = [
    row("voltage_l1", 0, unit="V", scale=0.01),
    row("current_l1", 2, unit="A", scale=0.001, order="CDAB"),
    row("active_power_total", 4, type="f32", scale=1000),
    row("active_energy_import", 6, unit="kWh", scale=0.01, group="energy"),
]


def make(tmp_path, rows, head=HEAD, scales=(), name="mine"):
    """Run the script on one table; return the profile it made, loaded."""
    tables, into = tmp_path / "tables", tmp_path / "made"
    tables.mkdir(exist_ok=True)
    into.mkdir(exist_ok=True)
    lists = {"registers": rows, "scale_registers": scales}
    body = [f"{key} = [{', '.join(f'{{ {r} }}' for r in of)}]" for key, of in lists.items()]
    (tables / f"{name}.toml").write_text("\n".join([head, "[map]", *body]), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("make_profiles", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.main([str(tables), "--into", str(into)]) == 0
    return load(name, [into])


def points(profile):
    return {point.name: point for point in profile.points}


def test_a_table_becomes_a_profile_in_our_words(tmp_path):
    made = make(tmp_path, MAIN)
    assert (made.vendor, made.models, made.kind) == ("Maker", ("M1", "M2"), "electricity")
    assert made.sources == ("maker/manual", "Python package m1 1.0")
    assert made.serial == Serial(9600, "8E1", 7)
    assert made.limits == Limits(40, 25, "illegal", ((3, 0x50, 2),), ((3, 0, 40),))
    assert made.notes == (
        "port: Python package says 2400",
        "two inputs",
        "frequency: 0.1 or 0.01",
    )
    found = points(made)
    assert found["current_l1"].order == "CDAB"
    assert found["voltage_l1"].scale == Fraction(1, 100)
    assert found["active_energy_import"].kind is Kind.TOTALISER


def test_checks_become_values_and_ranges_of_registers(tmp_path):
    checks = [(c.register, c.type, c.min, c.equals) for c in make(tmp_path, MAIN).identify]
    soco = 0x0053_004F_0043_004F
    assert checks == [
        (0x60, "u16", 5, {5, 7}),
        (0x62, "u16", 1, set()),
        (0x63, "u16", 1, set()),
        (0x70, "u64", soco, {soco}),  # one character in each register
    ]


@pytest.mark.parametrize(
    ("changes", "resolution"),
    [
        ({"unit": "V", "scale": 0.001}, "0.1"),
        ({"unit": "V", "scale": 1}, "1"),
        ({"unit": "A", "scale": 0.01}, "0.01"),
        ({"unit": "A", "type": "f32"}, "0.001"),
        ({"unit": "W", "scale": 0.01}, "0.1"),
        ({"unit": "W", "scale": 10}, "10"),
        ({"unit": "W", "type": "f32"}, "0.1"),
        ({"unit": "W", "type": "f32", "scale": 1000}, "1"),
        ({"unit": "kWh", "scale": 0.0001, "group": "energy"}, "0.0001"),
        ({"unit": "kWh", "type": "f32", "group": "energy"}, "0.001"),
        ({"unit": "1", "scale": 0.0001}, "0.001"),
        ({"unit": "Hz", "scale": 0.001}, "0.01"),
    ],
)
def test_the_resolution_is_the_registers_step_or_the_finest_of_the_unit(
    tmp_path, changes, resolution
):
    made = make(tmp_path, [row("some_value", 0, **changes)])
    assert Fraction(10) ** made.points[0].exponent == Fraction(resolution)


def test_kilowatts_become_watts_and_what_has_no_unit_is_1(tmp_path):
    rows = [row("heat_power", 0, unit="kW"), row("state", 2, unit="", group="status")]
    heat, state = make(tmp_path, rows).points
    assert (heat.unit, heat.scale, heat.exponent) == ("W", 1000, 3)
    assert (state.unit, state.poll) == ("1", Poll.STATUS)


@pytest.mark.parametrize(
    ("rows", "register"),
    [
        # a whole counter before a float of more sources
        ([{"type": "f32"}, {"variant": "i64", "type": "i64", "confidence": "single"}], 100),
        # more sources before the main register
        ([{"confidence": "single"}, {"variant": "primary"}], 100),
        # the main register before what anybody can reset
        ([{"variant": "resettable"}, {}], 100),
        ([{}, {"variant": "int"}], 0),
    ],
)
def test_one_of_several_registers_is_taken(tmp_path, rows, register):
    energy = {"unit": "kWh", "group": "energy"}
    lines = [row("active_energy_import", 100 * n, **energy, **r) for n, r in enumerate(rows)]
    made = make(tmp_path, lines)
    assert [point.register for point in made.points] == [register]


def test_what_cannot_be_trusted_is_left_out_and_named(tmp_path):
    rows = [
        *MAIN,
        row("frequency", 10, unit="Hz", confidence="conflict"),
        row("voltage_l2", 12, unit="V", variant="raw"),
        row("active_energy_export", 14, unit="kWh", variant="month", group="energy"),
        row("ct_ratio", 16, unit="1", group="config"),
        row("clock_year", 18, unit="", group="clock"),
        row("voltage_l1", 20, unit="V", variant="raw"),  # there is another row for it
        row("reactive_energy_import", 22, unit="kvarh", variant="resettable", group="energy"),
    ]
    made = make(tmp_path, rows)
    assert points(made).keys() == {
        "voltage_l1",
        "current_l1",
        "active_power_total",
        "active_energy_import",
        "reactive_energy_import",
    }
    assert made.notes[-4:] == (
        "can be reset on the meter: reactive_energy_import",
        "left out because sources disagree: frequency",
        "left out because their scaling is unknown: voltage_l2",
        "left out because the meter clears them every month: active_energy_export",
    )


@pytest.mark.parametrize("place", range(4))
def test_a_profile_is_verified_when_two_sources_agree_on_all_its_main_points(tmp_path, place):
    assert make(tmp_path, [*MAIN, row("frequency", 9, unit="Hz")]).status == "verified"
    weak = [
        line.replace("'agree'", "'family'") if n == place else line for n, line in enumerate(MAIN)
    ]
    assert make(tmp_path, weak, name="weak").status == "draft"


def test_other_points_of_a_verified_profile_are_drafts(tmp_path):
    made = make(tmp_path, [*MAIN, row("frequency", 10, unit="Hz", confidence="single")])
    assert {name: p.status for name, p in points(made).items() if p.status == "draft"} == {
        "frequency": "draft"
    }


@pytest.mark.parametrize("name", ["active_energy_net", "active_energy_import_today"])
def test_an_energy_that_may_fall_is_no_totaliser(tmp_path, name):
    made = make(tmp_path, [row(name, 0, unit="kWh", group="energy")])
    assert (made.points[0].kind, made.points[0].poll) == (Kind.GAUGE, Poll.ENERGY)


def test_a_total_with_all_rates_of_the_meter_is_their_sum(tmp_path):
    energy = {"unit": "kWh", "group": "energy"}
    known = ["a", "a_t1", "a_t2", "b", "b_t1", "c_t1", "c_t2", "d", "e", "e_t2", "net", "net_t1"]
    rows = [row(f"energy_{name}", 2 * at, **energy) for at, name in enumerate(known)]
    (one,) = make(tmp_path, rows).sums
    assert (one.total, one.parts) == ("energy_a", ("energy_a_t1", "energy_a_t2"))
    assert make(tmp_path, rows[3:], name="fewer").sums == ()


def test_ratios_are_registers_to_be_read_and_unused_ones_are_left_out(tmp_path):
    scales = [
        "name = 'CT', fc = 3, address = 0x20, type = 'u16', op = 'mul', factor = 0.1, default = 1",
        "name = 'SF', fc = 3, address = 0x21, type = 'i16', op = 'pow10'",
        "name = 'PT', fc = 3, address = 0x22, type = 'u16', op = 'mul'",
    ]
    rows = [row("current_l1", 0, unit="A", scale_by=["CT"]), row("p", 2, scale_by=["SF", "CT"])]
    made = make(tmp_path, rows, scales=scales)
    assert [(r.name, r.op, r.scale) for r in made.ratios] == [
        ("ct", "multiply", Fraction(1, 10)),
        ("sf", "pow10", 1),
    ]
    assert points(made)["p"].ratios == ("sf", "ct")
    assert points(made)["p"].exponent == -1  # the step is only known when the power is read


def test_two_parts_of_a_counter_become_one_point(tmp_path):
    energy = {"unit": "m3", "group": "energy", "confidence": "single"}
    rows = [
        row("volume_total", 8, plus="volume_total/fraction", **energy),
        row("volume_total", 10, variant="fraction", type="f32", scale=0.5, order="CDAB", **energy),
    ]
    (volume,) = make(tmp_path, rows).points
    assert (volume.count, volume.exponent) == (4, -3)
    assert (volume.plus.register, volume.plus.scale, volume.plus.order) == (
        10,
        Fraction(1, 2),
        "CDAB",
    )


def test_a_limit_nobody_documented_is_small(tmp_path):
    unknown = HEAD.replace("proven_spans = [[3, 0, 40]]\n", "max_registers = 125\n")
    assert make(tmp_path, MAIN, unknown).limits.registers_max == 32
    known = unknown.replace("gaps", 'max_registers_status = "documented"\ngaps')
    assert make(tmp_path, MAIN, known, name="known").limits.registers_max == 125


def test_a_sunspec_table_stands_behind_the_common_model(tmp_path):
    sunspec = HEAD.replace('"modbus"', '"sunspec"').replace('["M1", "M2"]', '["models 201, 203"]')
    made = make(tmp_path, MAIN, sunspec)
    assert (made.sunspec.models, made.sunspec.start) == ((201, 203), 40_070)
    assert points(made)["current_l1"].register == 40_072
    assert [(c.register, c.equals) for c in made.identify] == [
        (40_000, {0x5375_6E53}),
        (40_002, {1}),
        (40_070, {201, 203}),
    ]


def test_a_profile_that_is_there_is_never_touched(tmp_path, capsys):
    make(tmp_path, MAIN)
    file = tmp_path / "made/mine.toml"
    file.write_text(file.read_text("utf-8").replace('"Maker"', '"Edited"'), encoding="utf-8")
    assert make(tmp_path, MAIN).vendor == "Edited"
    assert capsys.readouterr().err == "mine: is there\n"


def test_the_same_table_gives_the_same_bytes(tmp_path):
    for one in "ab":
        (tmp_path / one).mkdir()
        make(tmp_path / one, MAIN)
    made = [(tmp_path / one / "made/mine.toml").read_bytes() for one in "ab"]
    assert made[0] == made[1]
    assert tomllib.loads(made[0].decode())["points"].keys() == points(make(tmp_path, MAIN)).keys()
