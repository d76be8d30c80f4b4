"""A whole simulated site: its file, its command, and reads across its lines."""

from __future__ import annotations

import asyncio
import signal
import sys
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from pymodbus.client import AsyncModbusSerialClient
from pymodbus.client.mixin import ModbusClientMixin

from hil_tests.sim.__main__ import main
from hil_tests.sim.errors import SimError
from hil_tests.sim.site import CHECKOUT, load_site
from hil_tests.sim.stage import play

if TYPE_CHECKING:
    from pathlib import Path

    from hil_tests.sim.meters import SimMeter

START_MS = 1_764_000_000_000
Types = ModbusClientMixin.DATATYPE

PROFILE = """
[ratios.ct]
function = 3
register = 0x0006
type = "u16"

[points.active_power_total]
function = 4
register = 0x0010
type = "f32"
unit = "W"
resolution = 1

[points.active_energy_import]
function = 3
register = 0x0030
type = "u32"
scale = 0.01
ratios = ["ct"]
unit = "kWh"
resolution = 0.01
kind = "totaliser"

[points.temperature_1]
function = 3
register = 0x0032
type = "u16"
unit = "degC"
resolution = 1
"""

SITE = """
start_ms = 1764000000000
day_speed = 2400
profiles = "{profiles}"
[[line]]
name = "bus1"
link = "{folder}/bus1"
baud = 115200
format = "8E1"
turnaround_ms = [2, 4]
[[line.meter]]
name = "incomer"
unit = 1
profile = "mini"
ratios = {{ ct = 40 }}
children = ["workshop", "pv"]
loss_percent = 1.5
[[line.meter]]
name = "workshop"
unit = 2
profile = "mini"
load = "plant"
scale_kw = 60
[[line]]
name = "roof"
tcp = 0
[[line.meter]]
name = "pv"
unit = 1
profile = "mini"
load = "pv"
scale_kw = 30
"""


@pytest.fixture
def site_file(tmp_path: Path) -> Path:
    (tmp_path / "mini.toml").write_text(PROFILE)
    path = tmp_path / "sim.toml"
    path.write_text(SITE.format(profiles=tmp_path, folder=tmp_path))
    return path


async def test_a_pymodbus_serial_client_reads_a_meter_across_the_line(site_file: Path) -> None:
    async with play(load_site(site_file), now_ms=lambda: START_MS + 5000) as stage:
        line, meter = stage.lines["bus1"], stage.meters["workshop"]
        client = AsyncModbusSerialClient(
            str(line.link), baudrate=115200, parity="N", timeout=0.5, retries=0
        )
        assert await client.connect()
        reply = await client.read_input_registers(0x10, count=2, device_id=2)
        client.close()
    power_w = client.convert_from_registers(reply.registers, Types.FLOAT32)
    assert power_w == pytest.approx(meter.supply.node.active.power_w(START_MS + 5000))
    assert [frame.data[:2] for frame in line.log] == [b"\x02\x04", b"\x02\x04"]


async def test_registers_of_a_site_balance_within_their_resolution(site_file: Path) -> None:
    def kwh(meter: SimMeter) -> Fraction:
        words = meter.read(function=3, address=0x30, count=2, t_ms=START_MS + 900_000)
        assert words is not None
        step = Fraction("0.4") if meter.name == "incomer" else Fraction("0.01")
        return (words[0] << 16 | words[1]) * step

    async with play(load_site(site_file), now_ms=lambda: START_MS) as stage:
        meters = stage.meters
        below = [meters["workshop"].supply, meters["pv"].supply]
        incomer = meters["incomer"].supply
        end_ms = START_MS + 900_000
        net = incomer.at(end_ms).value("active_energy_net")
        lost = Fraction(incomer.node.loss.import_uj(START_MS, end_ms), 3_600_000_000_000)
        assert net == lost + sum(each.at(end_ms).value("active_energy_net") for each in below)
        shown = kwh(meters["incomer"])
        exact = incomer.at(end_ms).value("active_energy_import")
        assert exact - Fraction("0.4") < shown <= exact
        assert kwh(meters["pv"]) == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('load = "pv"', 'load = "wind"', 'load "wind" is none of plant, lighting'),
        ("unit = 2", "unit = 1", "unit 1 is used twice"),
        ("unit = 2", "unit = 248", "1 to 247 expected"),
        ("scale_kw = 60", "scale_w = 60", 'unknown key "scale_w"'),
        ("scale_kw = 60", "scale_kw = true", "int or float expected"),
        ('"pv"]', '"sun"]', 'no meter "sun" for "children"'),
        ('"pv"]', '"workshop"]', "workshop is below incomer already"),
        ('"pv"]', '"incomer"]', "cannot be below itself"),
        ('name = "pv"', 'name = "workshop"', 'the name "workshop" is used twice'),
        ("tcp = 0", 'tcp = 0\nlink = "x"', 'either "link" (serial) or "tcp" (port) expected'),
        ("8E1", "9E1", 'format "9E1"'),
        ("[2, 4]", "[4, 2]", '"turnaround_ms" = [4, 2], [smallest, largest] expected'),
        ("start_ms = 1764000000000", "", '"start_ms" is missing'),
        ("day_speed = 2400", "day_speed = 0", "more than 0 to 86400 expected"),
        ('load = "plant"', "", '"load" or "children" expected'),
        ("ct = 40", 'ct = "40"', "int or float expected"),
        ("[[line]]", "[[line]", "Expected"),
    ],
)
def test_a_wrong_site_file_is_an_error_that_names_the_place(
    site_file: Path, old: str, new: str, message: str
) -> None:
    site_file.write_text(site_file.read_text().replace(old, new))
    with pytest.raises(SimError) as raised:
        load_site(site_file)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{site_file}: ")
    assert "\n" not in str(raised.value)


def test_missing_files_end_with_one_line_and_status_2(
    site_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(site_file.with_name("none.toml"))]) == 2
    (site_file.parent / "mini.toml").rename(site_file.parent / "maxi.toml")
    assert main(["run", str(site_file)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].endswith("none.toml: No such file or directory")
    assert 'no profile "mini" here (maxi, sim found)' in errors[1]
    assert [error[:5] for error in errors] == ["sim: ", "sim: "]


async def test_the_command_says_where_meters_are_and_stops_on_sigterm(site_file: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hil_tests.sim", "run", str(site_file)),
        cwd=CHECKOUT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    rows = []
    async with asyncio.timeout(20):
        while (row := (await process.stdout.readline()).decode().rstrip()) not in ("ready", ""):
            rows.append(row)
        link = site_file.with_name("bus1")
        assert f"bus1  115200 8E1  {link}  unit 1 incomer mini" in rows
        assert any(row.startswith("roof  tcp  127.0.0.1:") for row in rows)
        assert "  note: pv reads 0 for temperature_1" in rows
        assert link.is_symlink()
        process.send_signal(signal.SIGTERM)
        summary = (await process.stdout.read()).decode()
        assert await process.wait() == 0
    zeros = "0 frames, at most 0 us late, 0 collisions, 0 gaps too short, 0 writes"
    assert summary == f"bus1  {zeros}\nroof  tcp, 0 writes\n"
    assert not link.is_symlink()
