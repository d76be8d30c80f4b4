"""The command as an installer uses it: lists, the agent's own site file, reads by mbpoll."""

from __future__ import annotations

import asyncio
import math
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hil_tests.sim.__main__ import main
from hil_tests.sim.agentsite import load_agent_site
from hil_tests.sim.errors import SimError
from hil_tests.sim.kinds import KINDS
from hil_tests.sim.loads import LOADS, Week
from hil_tests.sim.patterns import PATTERNS
from hil_tests.sim.replay import load_csv
from hil_tests.sim.site import CHECKOUT, MeterSpec

AGENT_SITE = """
[site]
gateway = "qp-0001"
name = "Plant"
[state]
directory = "/nowhere"
[[destination]]
name = "platform"
broker = "mqtt://127.0.0.1:1883"
[[bus]]
name = "bus1"
port = "/dev/rs485/bus1"
baud = 19200
format = "8N1"
[[bus.meter]]
name = "incomer"
unit = 1
profile = "eastron-sdm630"
tier = 1
[[bus.meter]]
name = "workshop"
unit = 2
profile = "eastron-sdm630"
period = "2s"
tier = 2
parent = "incomer"
[[bus]]
name = "roof"
tcp = "192.168.1.20:{port}"
[[bus.meter]]
name = "pv"
unit = 1
profile = "sunspec-meter-213"
tier = 2
parent = "incomer"
[[bus.meter]]
name = "office"
unit = 2
profile = "sunspec-meter-213"
tier = 2
parent = "incomer"
sub_item = "hvac"
"""
_NEEDS_MBPOLL = pytest.mark.skipif(
    shutil.which("mbpoll") is None, reason="mbpoll is not installed (Debian package mbpoll)"
)


@pytest.fixture
def agent_site(tmp_path: Path, unused_tcp_port_factory: Callable[[], int]) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(AGENT_SITE.format(port=unused_tcp_port_factory()))
    return path


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[list[str]]:
    """Run the command; give what it printed before "ready"."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hil_tests.sim", "run", *arguments),
        cwd=CHECKOUT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        rows = []
        async with asyncio.timeout(20):
            while (row := (await process.stdout.readline()).decode().rstrip()) not in ("ready", ""):
                rows.append(row)
        yield rows
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def mbpoll(*arguments: str) -> list[float]:
    process = await asyncio.create_subprocess_exec(
        *("mbpoll", "-1", "-0", "-B", *arguments), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return [
        float(value) for value in re.findall(r"^\[\d+\]:\s+(\S+)", output.decode(), re.MULTILINE)
    ]


@_NEEDS_MBPOLL
async def test_mbpoll_reads_sensible_values_from_a_played_site(
    agent_site: Path, tmp_path: Path
) -> None:
    arguments = ("--agent-site", str(agent_site), "--link-dir", str(tmp_path), "--day-speed", "240")
    async with running(*arguments) as rows:
        (port,) = {match[1] for row in rows if (match := re.search(r"127\.0\.0\.1:(\d+)", row))}
        serial = ("-m", "rtu", "-b", "19200", "-P", "none", "-t", "3:float")
        volts = await mbpoll(*serial, "-a", "2", "-r", "0", "-c", "3", str(tmp_path / "bus1"))
        amps = await mbpoll(*serial, "-a", "2", "-r", "6", "-c", "3", str(tmp_path / "bus1"))
        watts = await mbpoll(*serial, "-a", "2", "-r", "12", "-c", "3", str(tmp_path / "bus1"))
        roof = ("-m", "tcp", "-p", port, "-t", "4:float", "-a", "2")
        roof_volts = await mbpoll(*roof, "-r", "40082", "-c", "3", "127.0.0.1")
    assert volts == pytest.approx([230] * 3, abs=6)
    assert roof_volts == pytest.approx([230] * 3, abs=6)
    # Loads change between two reads; what must fit is the size of each phase's power.
    for volt, ampere, watt in zip(volts, amps, watts, strict=True):
        assert 0 < watt < 60_000
        assert math.isclose(volt * ampere * 0.86, watt, rel_tol=0.4)


async def test_the_agents_site_file_is_played_where_the_agent_looks(
    agent_site: Path, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    arguments = ("--agent-site", str(agent_site), "--link-dir", str(links), "--day-speed", "240")
    async with running(*arguments, "--from-now") as rows:
        assert rows[0] == f"bus1  19200 8N1  {links}/bus1  unit 1 incomer eastron-sdm630"
        assert (links / "bus1").is_symlink()
        assert re.fullmatch(r"roof  tcp  127.0.0.1:\d+  unit 1 pv sunspec-meter-213", rows[2])
    assert not (links / "bus1").exists()


def agent_meters(path: Path) -> dict[str, MeterSpec]:
    return {meter.name: meter for line in load_agent_site(path).lines for meter in line.meters}


def test_loads_are_invented_from_tier_and_name(agent_site: Path) -> None:
    meters = agent_meters(agent_site)
    assert [meters[name].load for name in ("incomer", "workshop", "pv", "office")] == [
        *(None, "plant", "pv", "lighting")
    ]
    assert meters["incomer"].children == ("workshop", "pv", "office")
    assert meters["workshop"].scale_kw == 80


def test_ports_of_the_agents_file_stand_where_it_says_without_a_folder(agent_site: Path) -> None:
    agent_site.write_text(
        agent_site.read_text().replace("192.168.1.20:", "192.168.1.20 #").replace(" #", '"#')
    )
    bus1, roof = load_agent_site(agent_site).lines
    assert bus1.link == Path("/dev/rs485/bus1")
    assert roof.tcp == 10_502  # 502 is for root only


def test_a_bus_of_the_agents_file_may_be_a_serial_server_or_ascii(agent_site: Path) -> None:
    text = agent_site.read_text()
    for key, port in (("127.0.0.1:15555", 15_555), ("127.0.0.1:777", 10_777), ("127.0.0.1", 4001)):
        server = text.replace('port = "/dev/rs485/bus1"', f'rtu_tcp = "{key}"')
        agent_site.write_text(server)
        bus1 = load_agent_site(agent_site).lines[0]
        assert (bus1.link, bus1.tcp, bus1.rtu_tcp, bus1.baud) == (None, None, port, 19_200)
    ascii_mode = text.replace('port = "/dev/rs485/bus1"', 'port = "x"\nmode = "ascii"')
    agent_site.write_text(ascii_mode)
    assert [line.ascii_mode for line in load_agent_site(agent_site).lines] == [True, False]


def test_meters_of_the_agents_file_may_have_addresses(agent_site: Path) -> None:
    feeder = """
[[bus.meter]]
name = "feeder"
profile = "dlt645-2007-generic"
address = "001210174069"
baud = 2400
format = "8E1"
tier = 3
[[bus]]
name = "roof"
"""
    text = agent_site.read_text()
    agent_site.write_text(text.replace('[[bus]]\nname = "roof"\n', feeder.lstrip("\n")))
    meter = agent_meters(agent_site)["feeder"]
    assert meter.plate is not None
    assert (meter.plate.protocol, meter.plate.address) == ("dlt645-2007", "001210174069")
    assert (meter.baud, meter.format, meter.unit, meter.profile) == (2400, "8E1", 0, "")


@pytest.mark.parametrize(("key", "medium"), [("", "water"), ("type = 0x11", "hot-water")])
def test_a_cjt188_meter_of_the_agents_file_has_the_type_that_it_says(
    agent_site: Path, key: str, medium: str
) -> None:
    tap = f'[[bus.meter]]\nname = "tap"\nprofile = "cjt188-generic"\n{key}\ntier = 3\n'
    tap += 'address = "00000000000020"\nbaud = 2400\nformat = "8E1"\n'
    text = agent_site.read_text()
    agent_site.write_text(
        text.replace('[[bus]]\nname = "roof"\n', f'{tap}[[bus]]\nname = "roof"\n')
    )
    plate = agent_meters(agent_site)["tap"].plate
    assert plate is not None
    assert plate.medium == medium


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[[bus", "[[lines", '"bus" is missing'),
        ('port = "/dev/rs485/bus1"', "", 'bus (bus1): one of "port", "tcp" and "rtu_tcp" expected'),
        ("unit = 2", "unit = 1", "unit 1 is used twice"),
        ("192.168.1.20:", "192.168.1.20:x", "HOST or HOST:PORT expected"),
        ("unit = 1", 'unit = "1"', "int expected"),
    ],
)
def test_a_file_that_cannot_be_played_is_one_line(
    agent_site: Path, old: str, new: str, message: str
) -> None:
    agent_site.write_text(agent_site.read_text().replace(old, new))
    with pytest.raises(SimError) as raised:
        load_agent_site(agent_site)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"{agent_site}: ")


def test_the_command_lists_every_fault_pattern_and_load(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["faults"]) == 0
    output = capsys.readouterr().out
    for name in [*KINDS, *(PATTERNS.keys() - {"brown_out"})]:
        assert re.search(rf"^  {name} ", output, re.MULTILINE), name
    assert f"loads: {', '.join(LOADS)}" in output


def test_the_command_lists_profiles(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["profiles"]) == 0
    assert "eastron-sdm630" in capsys.readouterr().out
    assert main(["profiles", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"sim: {tmp_path}: no profiles here\n"


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, text in (
        (["--help"], "edgeagg-sim run sim.toml"),
        (["run", "--help"], "[[fault]]"),
    ):
        with pytest.raises(SystemExit, match="0"):
            main(arguments)
        assert text in capsys.readouterr().out


def test_link_dir_without_agent_site_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "sim.toml", "--link-dir", "/tmp/x"]) == 2
    assert "--link-dir is for --agent-site" in capsys.readouterr().err


def test_a_csv_is_replayed_from_the_start_and_held_between_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "power.csv"
    path.write_text("t_s,power_w\n0,1000\n10,-250.5\n20,0\n")
    week, start_ms = Week.at_speed(2400), 1_764_000_000_000
    series = load_csv(path, week, start_ms=start_ms)
    watts = [series.power_w(start_ms + 1000 * second) for second in (0, 9, 10, 19, 20, 251)]
    assert watts == [1000, 1000, -250.5, -250.5, 0, 0]
    assert series.power_w(start_ms + 1000 * week.period_s) == 1000
    assert series.import_uj(start_ms, start_ms + 15_000) == 10 * 1000 * 1_000_000
    assert series.export_uj(start_ms, start_ms + 15_000) == 5 * 250_500_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,power\n", 'line 1: "t_s,power_w" expected'),
        ("t_s,power_w\n", "no values"),
        ("t_s,power_w\n0,1\n1\n", "line 3: two numbers expected"),
        ("t_s,power_w\n5,1\n4,1\n", "line 3: rising t_s"),
        ("t_s,power_w\n0,inf\n", "line 2: rising t_s from 0 and finite power_w"),
        ("t_s,power_w\n0,1\n252,1\n", "loads repeat after 252 s"),
    ],
)
def test_a_wrong_csv_is_an_error_that_names_the_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "power.csv"
    path.write_text(text)
    with pytest.raises(SimError) as raised:
        load_csv(path, Week.at_speed(2400), start_ms=0)
    assert message in str(raised.value)
