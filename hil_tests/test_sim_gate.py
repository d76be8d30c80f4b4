"""Faults on Modbus TCP, and faults of a whole site across its lines."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymodbus import FramerType
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusIOException

from hil_tests.sim.errors import SimError
from hil_tests.sim.framing import Ascii, Framing, Rtu
from hil_tests.sim.gate import TcpGate
from hil_tests.sim.ports import LOOPBACK
from hil_tests.sim.site import PatternSpec, SiteSpec, add_faults, parse_site
from hil_tests.sim.stage import Stage, build_meters, describe, play
from hil_tests.test_sim_line import Master
from hil_tests.test_sim_meters import START_MS

PROFILE = """
[points.active_energy_import]
function = 4
register = 0
type = "u32"
scale = 0.001
unit = "kWh"
resolution = 0.001
kind = "totaliser"
[points.voltage_l1]
function = 4
register = 2
type = "u16"
scale = 0.1
unit = "V"
resolution = 0.1
"""
READ = bytes.fromhex("0001 0000 0006 01 04 0000 0003")


def site(
    folder: Path, *faults: Mapping[str, Any], line: Mapping[str, Any] | None = None
) -> SiteSpec:
    (folder / "mini.toml").write_text(PROFILE)
    meters = [
        {"name": name, "unit": unit, "profile": "mini", "load": "base", "scale_kw": 36}
        for unit, name in enumerate(("a", "b"), start=1)
    ]
    return parse_site(
        {
            "start_ms": START_MS,
            "day_speed": 2400,
            "profiles": str(folder),
            "line": [{"name": "roof", **(line or {"tcp": 0}), "meter": meters}],
            "fault": [{"meter": "a", **fault} for fault in faults],
        },
        where="sim.toml",
        folder=folder,
    )


class Clock:
    """UTC that a test sets."""

    since_s = 0.0

    def __call__(self) -> int:
        return START_MS + round(self.since_s * 1000)


async def exchange(where: Stage | int, request: bytes = READ, *, within_s: float = 0.1) -> bytes:
    """Return all that comes back within a time."""
    port = where if isinstance(where, int) else where.tcp["roof"].port
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(request)
    data = b""
    try:
        async with asyncio.timeout(within_s):
            while piece := await reader.read(1000):
                data += piece
    except TimeoutError:
        pass
    finally:
        writer.close()
        await writer.wait_closed()
    return data


@pytest.mark.parametrize(
    ("fault", "length", "head"),
    [
        ({"kind": "busy", "every": 2}, 15, "0001 0000 0009 01 04"),
        ({"kind": "busy"}, 9, "0001 0000 0003 01 84 06"),
        ({"kind": "short"}, 11, "0001 0000 0005 01 04 02"),
        ({"kind": "truncated"}, 12, "0001 0000 0009 01 04 06"),
        ({"kind": "merged"}, 30, "0001 0000 0009 01 04 06"),
        ({"kind": "wrong_unit"}, 15, "0001 0000 0009 02 04 06"),
        ({"kind": "dead"}, 0, ""),
        ({"kind": "late", "ms": 500}, 0, ""),
        ({"kind": "slow", "ms": 20}, 15, "0001 0000 0009 01 04 06"),
    ],
)
async def test_a_fault_strikes_on_modbus_tcp(
    tmp_path: Path, fault: Mapping[str, Any], length: int, head: str
) -> None:
    async with play(site(tmp_path, fault), now_ms=Clock()) as stage:
        data = await exchange(stage)
    assert len(data) == length
    assert data.startswith(bytes.fromhex(head))


async def test_a_late_reply_on_modbus_tcp_holds_up_no_other(tmp_path: Path) -> None:
    both = READ + bytes.fromhex("0002 0000 0006 02 04 0002 0001")
    spec = site(tmp_path, {"kind": "late", "ms": 60})
    async with play(spec, now_ms=Clock()) as stage:
        data = await exchange(stage, both, within_s=0.3)
    assert [data[:2], data[11:13]] == [b"\0\2", b"\0\1"]


async def test_a_line_without_faults_has_no_gate_and_one_with_faults_reads_the_same(
    tmp_path: Path,
) -> None:
    replies = []
    for fault in ((), ({"kind": "dead", "from_s": 1e6},)):
        async with play(site(tmp_path, *fault), now_ms=Clock()) as stage:
            assert isinstance(stage.tcp["roof"], TcpGate) == bool(fault)
            replies.append(
                [await exchange(stage), await exchange(stage, READ[:6] + b"\x07" + READ[7:])]
            )
    assert replies[0] == replies[1]
    assert len(replies[0][0]) == 15
    assert replies[0][1] == b""  # unit 7 is not there


async def test_a_gate_remembers_writes(tmp_path: Path) -> None:
    async with play(site(tmp_path, {"kind": "slow"}), now_ms=Clock()) as stage:
        data = await exchange(stage, bytes.fromhex("0001 0000 0006 01 06 0000 0003"), within_s=0.2)
        assert data[7:] == b"\x86\x01"
        assert stage.tcp["roof"].writes_seen == [(1, 6)]


async def test_an_unplugged_tcp_meter_refuses_and_comes_back(tmp_path: Path) -> None:
    clock = Clock()
    spec = site(tmp_path, {"kind": "unplug", "from_s": 10, "for_s": 10})
    async with play(spec, now_ms=clock) as stage:
        reader, writer = await asyncio.open_connection(LOOPBACK, stage.tcp["roof"].port)
        clock.since_s = 10
        async with asyncio.timeout(1):
            assert await reader.read() == b""
        with pytest.raises(OSError, match="Connect call failed"):
            await exchange(stage)
        clock.since_s = 20
        await asyncio.sleep(0.05)
        assert len(await exchange(stage)) == 15
        writer.close()
        await writer.wait_closed()
        assert stage.faults["roof"].struck == {"unplug": 1}


@pytest.mark.parametrize("mode", ["rtu", "ascii"])
async def test_pymodbus_reads_meters_behind_a_serial_server(tmp_path: Path, mode: str) -> None:
    line = {"rtu_tcp": 0, "baud": 115200, "mode": mode, "turnaround_ms": [1, 2]}
    spec = site(tmp_path, line=line)
    async with play(spec, now_ms=Clock()) as stage:
        port = stage.rtu_tcp["roof"].port
        framer = FramerType.ASCII if mode == "ascii" else FramerType.RTU
        client = AsyncModbusTcpClient(
            LOOPBACK, port=port, framer=framer, timeout=0.3, retries=0, reconnect_delay=0
        )
        assert await client.connect()
        reply = await client.read_input_registers(2, count=1, device_id=2)
        with pytest.raises(ModbusIOException):
            await client.read_input_registers(2, count=1, device_id=9)
        rows = describe(spec, stage)
        client.close()
    assert reply.registers[0] == pytest.approx(2300, abs=60)
    word = " ascii" if mode == "ascii" else ""
    assert f"roof  115200 8N1{word}  127.0.0.1:{port} (serial server)  unit 1 a mini" in rows


async def test_a_brown_out_is_silence_and_then_a_counter_that_fell_back(tmp_path: Path) -> None:
    clock = Clock()
    spec = site(tmp_path, {"kind": "brown_out", "from_s": 119, "for_s": 5, "saved_every_s": 60})
    async with play(spec, now_ms=clock) as stage:

        async def energy(since_s: float) -> int:
            clock.since_s = since_s
            data = await exchange(stage, within_s=0.05)
            return int.from_bytes(data[9:13], "big") if data else -1

        before, silent, behind = [await energy(since_s) for since_s in (118, 120, 124)]
        saved = stage.meters["b"].read(function=4, address=0, count=2, t_ms=START_MS + 60_000)
    assert silent == -1
    assert before > behind > 0
    assert saved is not None
    assert behind == pytest.approx(saved[0] << 16 | saved[1], rel=0.05)


@pytest.mark.parametrize("line", [{"tcp": 0}, {"rtu_tcp": 0, "baud": 115200}])
async def test_a_meter_in_a_gap_is_silent_and_its_neighbour_is_not(
    tmp_path: Path, line: Mapping[str, Any]
) -> None:
    clock = Clock()
    spec = site(tmp_path, line=line)
    (bus,) = spec.lines
    broken = replace(bus.meters[0], pattern=PatternSpec("gap", at_s=10, for_s=10))
    spec = replace(spec, lines=(replace(bus, meters=(broken, bus.meters[1])),))
    async with play(spec, now_ms=clock) as stage:
        port = (stage.tcp or stage.rtu_tcp)["roof"].port
        answered = []
        for since_s in (9, 10, 20):
            clock.since_s = since_s
            for unit in (b"\1", b"\2"):
                body = unit + READ[7:]
                frame = READ[:6] + body if "tcp" in line else Rtu().wrap(body)
                answered.append(bool(await exchange(port, frame)))
    assert answered == [True, True, False, True, True, True]


def test_a_scenario_file_adds_faults_to_a_site(tmp_path: Path) -> None:
    scenario = tmp_path / "bad-day.toml"
    scenario.write_text('[[fault]]\nmeter = "b"\nkind = "dead"\nfrom_s = 5\n')
    spec = add_faults(site(tmp_path, {"kind": "late"}), scenario)
    assert [(fault.kind, fault.target) for fault in spec.faults] == [("late", "a"), ("dead", "b")]
    scenario.write_text('[[fault]]\nmeter = "c"\nkind = "dead"\n')
    with pytest.raises(SimError, match='fault dead: no line or meter "c"'):
        add_faults(spec, scenario)
    with pytest.raises(SimError, match="fault echo: not possible on Modbus TCP"):
        site(tmp_path, {"kind": "echo"})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"rtu_tcp": 0, "mode": "tcp"}, 'mode "tcp": rtu or ascii expected'),
        ({"rtu_tcp": 0, "format": "7E1"}, '7 data bits need mode = "ascii"'),
        ({"rtu_tcp": 0, "tcp": 0}, 'or "rtu_tcp" (port of a serial server)'),
    ],
)
def test_a_wrong_line_is_an_error(tmp_path: Path, line: Mapping[str, Any], message: str) -> None:
    with pytest.raises(SimError) as raised:
        site(tmp_path, line=line)
    assert message in str(raised.value)


async def test_a_port_in_use_is_an_error(tmp_path: Path) -> None:
    async with play(site(tmp_path, {"kind": "slow"}), now_ms=Clock()) as stage:
        port = stage.tcp["roof"].port
        for line in ({"tcp": port}, {"rtu_tcp": port}):
            spec = site(tmp_path, {"kind": "slow"}, line=line)
            with pytest.raises(SimError, match="is the port in use"):
                async with play(spec, now_ms=Clock()):
                    pass


@pytest.mark.parametrize("mode", ["rtu", "ascii"])
async def test_a_fault_of_a_site_strikes_its_meter_on_a_pty_and_no_other(
    tmp_path: Path, mode: str
) -> None:
    framing: Framing = Ascii() if mode == "ascii" else Rtu()
    line = {"link": f"{tmp_path}/roof", "baud": 115200, "mode": mode, "turnaround_ms": [1, 2]}
    async with play(site(tmp_path, {"kind": "busy"}, line=line), now_ms=Clock()) as stage:
        master = Master(stage.lines["roof"].link)
        for unit, length in ((1, 3), (2, 5)):
            master.write(framing.wrap(bytes((unit, 4, 0, 2, 0, 1))))
            await master.read(len(framing.wrap(bytes(length))))
            await asyncio.sleep(0.03)
        master.close()
        assert stage.faults["roof"].struck == {"busy": 1}
        _, first, _, second = stage.lines["roof"].log
    assert framing.unwrap(first.data) == b"\x01\x84\x06"
    assert (framing.unwrap(second.data) or b"")[:3] == b"\x02\x04\x02"


def test_a_csv_of_a_site_stands_beside_its_file(tmp_path: Path) -> None:
    (tmp_path / "power.csv").write_text("t_s,power_w\n0,36000\n")
    (tmp_path / "mini.toml").write_text(PROFILE)
    meter = {"name": "a", "unit": 1, "profile": "mini", "csv": "power.csv"}
    document = {
        "start_ms": START_MS,
        "day_speed": 2400,
        "profiles": str(tmp_path),
        "line": [{"name": "roof", "tcp": 0, "meter": [meter]}],
    }
    sim = build_meters(parse_site(document, where="sim.toml", folder=tmp_path))["a"]
    assert sim.read(function=4, address=0, count=2, t_ms=START_MS + 3000) == [0, 30]  # Wh
    meter["load"] = "pv"
    with pytest.raises(SimError, match='either "load" or "csv" expected'):
        parse_site(document, where="sim.toml", folder=tmp_path)
