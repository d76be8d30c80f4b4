"""The installer's commands, as typed: what they print, what they return, what they leave alone."""

import asyncio
import errno
import json
import os
import socketserver
import subprocess
import sys
import threading

import pytest

from agent.tests.fakes import START_MS, FakeBus, FakeClock, write_site
from agent.tests.mixed_site import FEEDER, write_mixed
from edgeagg.errors import LinkError
from edgeagg_agent import app, cli
from edgeagg_agent.cli import main
from edgeagg_agent.decimals import decimal_text
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.uplink import Uplink

F32_230 = (0x4366, 0x0000)
WITHOUT_SERIAL = """
[site]
gateway = "qp-0001"
clock = "host"
name = "Example plant"

[state]
directory = "DIRECTORY/state"

[status]
file = "DIRECTORY/status.json"

[[destination]]
name = "platform"
broker = "mqtt://127.0.0.1:1"

[[bus]]
name = "roof"
tcp = "127.0.0.1:502"

[[bus.meter]]
name = "pv"
unit = 1
profile = "eastron-sdm630"
period = "1s"
tier = 1
points = ["voltage_l1", "active_energy_import"]

[[bus.meter]]
name = "hvac"
unit = 2
profile = "chint-dtsu666"
period = "2s"
tier = 2
parent = "pv"
"""


@pytest.fixture
def site(tmp_path):
    return write_site(tmp_path, text=WITHOUT_SERIAL)


@pytest.fixture
def bus(monkeypatch):
    """Put a bus in place of every real one, whose meters answer 230.0 for all they are asked."""
    bus = FakeBus(FakeClock(), lambda request: (F32_230 * 63)[: request.count])
    monkeypatch.setattr(app, "make_bus", lambda _config: bus)
    return bus


def lines(text):
    return text.splitlines()


@pytest.mark.parametrize("arguments", [["--help"], ["read", "--help"], ["--version"]])
def test_asking_for_help_is_no_mistake(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    assert "edgeagg-agent" in capsys.readouterr().out


def test_the_help_shows_an_example_of_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    examples = text.split("examples:")[1]
    for command in ("check", "plan", "read", "run", "status", "history", "profiles"):
        assert f"edgeagg-agent {command}" in examples


@pytest.mark.parametrize("arguments", [[], ["reed", "site.toml"], ["read"], ["run", "a", "--json"]])
def test_a_wrong_command_line_ends_with_2(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: edgeagg-agent" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "check", "plan", "read", "status", "history"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("period", "perriod"), "bus[roof].meter[pv].perriod: unknown key; did you mean 'period'?"),
        (('"chint-dtsu666"', '"chint"'), "bus[roof].meter[hvac].profile: no profile 'chint'"),
        (("[site]", "[site"), "file: "),
    ],
)
def test_a_mistake_in_the_file_is_one_line_and_2_and_starts_nothing(
    tmp_path, capsys, command, change, said
):
    file = write_site(tmp_path, change, text=WITHOUT_SERIAL)
    assert main([command, str(file)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = lines(output.err)
    assert line.startswith(f"edgeagg-agent: {file}: ")
    assert said in line
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("command", ["run", "check", "read"])
def test_a_serial_port_that_is_not_there_is_a_mistake_in_the_file_too(tmp_path, capsys, command):
    file = write_site(tmp_path)
    assert main([command, str(file)]) == 2
    (line,) = lines(capsys.readouterr().err)
    assert "bus[switchroom].port: /dev/none-a does not exist; ports found: " in line
    assert list(tmp_path.iterdir()) == [file]


def test_check_tells_what_is_read_how_often_and_the_budget_of_every_bus(site, capsys):
    assert main(["check", str(site)]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    head, pv, guarded, hvac, also, budget, first, *_, end = lines(output.out)
    assert head == "roof  tcp 127.0.0.1:502"
    assert pv.split()[:4] == ["pv", "unit", "1", "eastron-sdm630"]
    assert pv.endswith("2 points every 1 s")
    assert hvac.split()[0] == "hvac"
    assert hvac.endswith("15 points every 2 s")
    assert budget.startswith("bus roof: TCP, 2 meters, ")
    assert "6.2% of its time: feasible" in budget
    assert guarded == ("    active_energy_import: not known where it rolls over, at most 100000 kW")
    assert also.endswith("active_energy_export: not known where it rolls over, at most 100000 kW")
    assert first.startswith("  pv: 1 read, 25 ms, 2.5%")
    assert end == f"{site} is right: 2 meters on 1 bus."
    assert list(site.parent.iterdir()) == [site]


def test_check_marks_a_draft_profile_and_names_every_period(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "check_port", lambda _port: None)
    periods = ('name = "feeder"', 'name = "feeder"\nperiods = { energy = "15min" }')
    file = write_mixed(tmp_path, periods)
    assert main(["check", str(file)]) == 0
    rows = {line.split()[0]: line for line in lines(capsys.readouterr().out)}
    assert f"address {FEEDER}" in rows["feeder"]
    assert rows["feeder"].endswith("2 points every 60 s, 1 points every 900 s")
    assert rows["water"].endswith("(draft: compare with display)")
    assert rows["yard"] == "yard  serial server 127.0.0.1:4001"


def test_check_gives_the_plan_as_json(site, capsys):
    assert main(["check", str(site), "--json"]) == 0
    (roof,) = json.loads(capsys.readouterr().out)
    assert (roof["name"], roof["where"]) == ("roof", "tcp 127.0.0.1:502")
    assert roof["budget"]["is_feasible"]
    assert 0 < roof["budget"]["share"] < 1
    assert [meter["name"] for meter in roof["meters"]] == ["pv", "hvac"]
    pv = roof["meters"][0]
    assert (pv["address"], pv["groups"]) == ("unit 1", [{"period_ms": 1000, "points": 2}])
    (guard,) = pv["guards"]
    assert guard == "active_energy_import: not known where it rolls over, at most 100000 kW"
    assert roof["budget"]["meters"]["pv"]["reads"] == 1


def test_plan_prints_the_budget_of_every_bus_though_its_port_is_not_there(tmp_path, capsys):
    file = write_mixed(tmp_path)
    assert main(["plan", str(file)]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    cellar, *rest = lines(output.out)
    assert "feeder  active_energy_import: rolls over at 1000000 kWh, at most 100000 kW" in rest
    assert cellar.startswith("bus cellar: 2400 Bd, 5 meters, one read of everything ")
    assert any(line.startswith("bus yard: 9600 Bd, ") for line in rest)
    assert any(line.startswith("  with 4800 Bd: ") for line in rest)
    assert any(line.startswith("  with periods ") for line in rest)
    assert list(tmp_path.iterdir()) == [file]


def test_plan_as_json_has_a_budget_for_every_bus(tmp_path, capsys):
    assert main(["plan", str(write_mixed(tmp_path)), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["cellar", "yard"]
    assert list(found["cellar"]["meters"]) == ["feeder", "old", "water", "heating", "pump"]
    assert found["cellar"]["meters"]["feeder"]["reads"] == 2  # both voltages are one block
    assert found["cellar"]["is_feasible"]
    assert {way["change"] for way in found["yard"]["ways"]} >= {"19200 Bd"}


def test_an_infeasible_plan_is_shown_whole_before_it_is_refused(tmp_path, capsys):
    file = write_site(tmp_path, *[('period = "2s"', 'period = "200ms"')] * 2)
    assert main(["plan", str(file)]) == 2
    output = capsys.readouterr()
    shown = lines(output.out)
    assert shown[0].startswith("bus switchroom: ")
    assert "NOT feasible: the meters ask for " in shown[0]
    assert sum("it would do with " in line for line in shown) == 3
    assert any(line.startswith("bus roof: ") and line.endswith("feasible") for line in shown)
    (refusal,) = lines(output.err)
    assert "bus[switchroom].meter.period: the meters ask for " in refusal
    assert main(["plan", str(file), "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert [found[name]["is_feasible"] for name in ("switchroom", "roof")] == [False, True]


@pytest.mark.parametrize("command", ["plan", "check", "run"])
def test_an_infeasible_plan_is_refused_with_three_changes_that_would_make_it_feasible(
    tmp_path, capsys, command
):
    file = write_site(tmp_path, *[('period = "2s"', 'period = "200ms"')] * 2)
    assert main([command, str(file)]) == 2
    output = capsys.readouterr()
    assert (output.out == "") == (command != "plan")
    (line,) = lines(output.err)
    assert "bus[switchroom].meter.period: the meters ask for " in line
    _, ways = line.split("what would help: ")
    assert len(ways.split("; or ")) == 3


def test_nobody_is_told_of_a_pipe_that_was_closed(site):
    command = [sys.executable, "-m", "edgeagg_agent", "plan", str(site)]
    pipe = subprocess.PIPE
    # what is printed shall wait in a buffer, as it does for an installer
    buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, env=buffered) as process:
        process.stdout.close()
        _, error = process.communicate(timeout=20)
    assert (process.returncode, error) == (0, b"")


def test_read_shows_every_value_with_its_unit(site, capsys, bus):
    assert main(["read", str(site), "--meter", "pv"]) == 0
    output = capsys.readouterr()
    assert output.err == ""
    head, voltage, energy = lines(output.out)
    assert head.split()[:4] == ["pv", "unit", "1", "eastron-sdm630"]
    assert voltage.split() == ["voltage_l1", "230.0", "V"]
    assert energy.split()[0] == "active_energy_import"
    assert energy.split()[2] == "kWh"
    assert float(energy.split()[1]) == 230
    assert bus.is_closed
    assert list(site.parent.iterdir()) == [site]


def test_read_gives_values_as_exact_decimals_in_json(site, capsys, bus):
    assert main(["read", str(site), "--meter", "pv", "--json"]) == 0
    (pv,) = json.loads(capsys.readouterr().out)
    assert (pv["meter"], pv["address"], pv["trouble"]) == ("pv", "unit 1", "")
    assert pv["points"][0] == {
        "name": "voltage_l1",
        "value": "230.0",
        "unit": "V",
        "quality": "good",
    }


def test_read_reads_all_groups_of_a_meter_in_one_go(tmp_path, capsys, bus):
    periods = ("tier = 1", 'tier = 1\nperiods = { energy = "60s" }')
    site = write_site(tmp_path, periods, text=WITHOUT_SERIAL)
    assert main(["read", str(site), "--meter", "pv"]) == 0
    _, voltage, energy = lines(capsys.readouterr().out)
    assert voltage.split() == ["voltage_l1", "230.0", "V"]
    assert energy.split()[:1] + energy.split()[2:] == ["active_energy_import", "kWh"]
    (asked,) = bus.asked  # both groups stand in one read
    assert (asked[1].start, asked[1].count) == (0, 74)


def test_read_shows_reasons_and_ends_with_1_when_a_meter_does_not_answer(site, capsys, bus):
    def answer(request):
        if request.unit == 2:
            return LinkError("roof: unit 2: no reply")
        return (F32_230 * 63)[: request.count]

    bus.script = answer
    assert main(["read", str(site)]) == 1
    text = capsys.readouterr().out
    assert "230.0 V" in text
    assert "no_reply" in text
    assert "  ! roof: unit 2: no reply" in lines(text)
    assert main(["read", str(site), "--json"]) == 1
    pv, hvac = json.loads(capsys.readouterr().out)
    assert {point["quality"] for point in pv["points"]} == {"good"}
    assert {(p["quality"], p["value"]) for p in hvac["points"]} == {("no_reply", None)}
    assert hvac["trouble"] == "roof: unit 2: no reply"


def test_read_of_a_meter_that_is_not_in_the_file_is_a_mistake(site, capsys, bus):
    assert main(["read", str(site), "--meter", "pw"]) == 2
    (line,) = lines(capsys.readouterr().err)
    assert "--meter: no meter 'pw'; " in line
    assert "pv, hvac" in line
    assert bus.asked == []


class _Meter(socketserver.StreamRequestHandler):
    """A Modbus TCP meter: 230.0 in every pair of registers of unit 1; it knows no unit 2."""

    def handle(self):
        while len(head := self.rfile.read(12)) == 12:
            unit, function, count = head[6], head[7], int.from_bytes(head[10:12], "big")
            words = b"".join(word.to_bytes(2, "big") for word in (F32_230 * 63)[:count])
            pdu = bytes((function, len(words))) + words
            if unit != 1:
                pdu = bytes((function | 0x80, 0x0B))  # gateway target failed to respond
            self.wfile.write(head[:4] + (len(pdu) + 1).to_bytes(2, "big") + bytes((unit,)) + pdu)


@pytest.fixture
def meter_port():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Meter) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_read_asks_real_meters_over_tcp(tmp_path, capsys, meter_port):
    site = write_site(tmp_path, ("127.0.0.1:502", f"127.0.0.1:{meter_port}"), text=WITHOUT_SERIAL)
    assert main(["read", str(site), "--meter", "pv"]) == 0
    assert "230.0 V" in capsys.readouterr().out
    assert main(["read", str(site)]) == 1
    output = capsys.readouterr()
    assert "230.0 V" in output.out
    assert "  ! roof: unit 2" in output.out
    assert output.err == ""


def test_profiles_lists_what_is_shipped(capsys):
    assert main(["profiles"]) == 0
    table = {line.split()[0]: line.split()[1] for line in lines(capsys.readouterr().out)}
    assert table.keys() >= {"acrel-adl400", "chint-dtsu666", "eastron-sdm630", "sunspec-meter-213"}
    assert set(table.values()) <= {"verified", "draft"}
    assert main(["profiles", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["status"] for row in rows} == table
    assert all(row["vendor"] and row["models"] for row in rows)


def test_check_says_in_words_that_nobody_keeps_the_clock(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "kernel_synchronised", lambda: False)
    site = write_site(tmp_path, ('clock = "host"\n', ""), text=WITHOUT_SERIAL)
    assert main(["check", str(site)]) == 0
    assert "clock: not synchronised for 0 s, times are flagged\n" in capsys.readouterr().out


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_status_without_a_running_agent_says_so_and_ends_with_1(site, capsys, options):
    assert main(["status", str(site), *options]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "status.json is not there: is the agent running?" in output.err


def test_status_without_a_status_file_is_a_mistake_in_the_site_file(tmp_path, capsys):
    change = ('[status]\nfile = "DIRECTORY/status.json"\n', "")
    site = write_site(tmp_path, change, text=WITHOUT_SERIAL)
    assert main(["status", str(site)]) == 2
    assert "status.file: missing; " in capsys.readouterr().err


@pytest.fixture
def fast(monkeypatch, bus):
    """Let the agent look round every 5 ms, and stop itself when something was read and recorded."""
    monkeypatch.setattr(app, "_TICK_MS", 5)
    monkeypatch.setattr(app, "_FAREWELL_MS", 1)
    commit = Recorder.commit

    async def commit_and_stop(self):
        await commit(self)
        # slots that a slow start missed are recorded before anything is read
        if not bus.asked or (self.counters.batches == 0 and self.pending_cells == 0):
            return
        os.kill(os.getpid(), 15)

    monkeypatch.setattr(Recorder, "commit", commit_and_stop)


@pytest.fixture
def site_that_reads_fast(tmp_path):
    changes = ('period = "1s"', 'period = "200ms"')
    return write_site(tmp_path, changes, text=WITHOUT_SERIAL)


def test_run_polls_until_a_signal_and_status_tells_of_it(site_that_reads_fast, capsys, bus, fast):
    site = site_that_reads_fast
    assert main(["run", str(site)]) == 0
    assert bus.is_closed
    assert bus.asked
    assert main(["status", str(site)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("qp-0001  up ")
    assert "platform: not connected, 0 receipted, 2 waiting" in text
    assert "  clock: synchronised\n" in text
    assert main(["status", str(site), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["slots"]["values"] >= 2
    assert values["batches"]["head"] == 2


def test_run_on_a_directory_in_use_ends_with_1(site, capsys):
    outbox = Outbox(site.parent / "state", now_ms=START_MS, bytes_max=32 << 20)
    try:
        assert main(["run", str(site)]) == 1
    finally:
        outbox.close()
    (line,) = lines(capsys.readouterr().err)
    assert line.endswith("state is in use: another agent runs on it")


def test_a_full_disk_ends_the_run_with_1_and_one_line(site, capsys, bus, fast, monkeypatch):
    async def commit(_recorder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Recorder, "commit", commit)
    assert main(["run", str(site)]) == 1
    errors = [line for line in lines(capsys.readouterr().err) if line.startswith("edgeagg-agent:")]
    assert errors == ["edgeagg-agent: [Errno 28] No space left on device"]


def test_an_error_deep_in_an_uplink_ends_the_run_with_one_line_too(
    site, capsys, bus, fast, monkeypatch
):
    async def run(_uplink):
        async with asyncio.TaskGroup():
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Uplink, "run", run)
    assert main(["run", str(site)]) == 1
    errors = [line for line in lines(capsys.readouterr().err) if line.startswith("edgeagg-agent:")]
    assert errors == ["edgeagg-agent: [Errno 5] Input/output error"]


def test_a_bug_in_a_poller_is_not_hidden(site, bus, fast, monkeypatch):
    def answer(_request):
        raise ZeroDivisionError

    bus.script = answer
    changed = ('period = "1s"', 'period = "200ms"')
    file = write_site(site.parent, changed, text=WITHOUT_SERIAL)
    with pytest.raises(ExceptionGroup):
        main(["run", str(file)])


@pytest.mark.parametrize(
    ("mantissa", "exponent", "text"),
    [
        (2305, -1, "230.5"),
        (-5, -2, "-0.05"),
        (0, -3, "0.000"),
        (-123456, -3, "-123.456"),
        (17, 0, "17"),
        (17, 2, "1700"),
        (10**18 + 1, -18, "1.000000000000000001"),
    ],
)
def test_a_value_is_printed_exactly(mantissa, exponent, text):
    assert decimal_text(mantissa, exponent) == text
