"""Modbus, DL/T 645 and CJ/T 188 meters share a line, and show the bench's loads.

A meter must hear its own protocol only, whatever else is on the wire.
"""

from __future__ import annotations

import asyncio
import os
import tty
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer.rtu import FramerRTU
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadInputRegistersRequest, WriteSingleRegisterRequest

from hil_tests.sim import cjt188, dlt645
from hil_tests.sim.cjt188 import Cjt188Meter, VolumeReadings
from hil_tests.sim.cjt188_supply import heat_of, volume_of
from hil_tests.sim.dlt645 import Dlt645Meter
from hil_tests.sim.dlt645_items import Identity, Readings
from hil_tests.sim.dlt645_supply import EXAMPLE_DAY, SupplyReadings, Tariffs
from hil_tests.sim.electrical import Node, Supply
from hil_tests.sim.line import Line, Options
from hil_tests.sim.loads import LOADS, UJ_PER_KWH, Week, make_load
from hil_tests.sim.meters import SimMeter
from hil_tests.sim.mixed import Meter, MixedLine, Seat, answering, is_read
from hil_tests.sim.profile import parse_profile
from hil_tests.sim.servers import RtuServer
from hil_tests.sim.voices import Heard

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CLOCK = datetime(2026, 11, 22, 12)  # noqa: DTZ001 - a meter's clock has no zone
ELECTRICITY = b"\x68\x61\x01\x00\x00\x00\x00\x68\x11\x04\x33\x33\x34\x33\x14\x16"  # 00010000
WATER = b"\x68\x10\x12\x00\x00\x00\x00\x00\x00\x01\x03\x90\x1f\x00\x3d\x16"  # 901F
PROFILE = """
[limits]
registers_max = 12
holes = "readable"

[points.active_power_total]
function = 4
register = 0
type = "f32"
unit = "W"
resolution = 1
"""
START_MS = 1_764_000_000_000  # 2025-11-25 00:00 in China
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def modbus(pdu: ReadInputRegistersRequest | WriteSingleRegisterRequest) -> bytes:
    return FramerRTU(DecodePDU(is_server=False)).buildFrame(pdu)


READ = modbus(ReadInputRegistersRequest(address=0, count=2, dev_id=1))
WRITE = modbus(WriteSingleRegisterRequest(address=0, registers=[1], dev_id=1))


def electricity_meter(address: str = "000000000161", kwh: str = "12.34") -> Dlt645Meter:
    readings = Readings(clock=CLOCK, now={"active_energy_import": Fraction(kwh)})
    return Dlt645Meter(Identity(address=address), readings=lambda _now_ms: readings)


def water_meter() -> Cjt188Meter:
    readings = VolumeReadings(volume_m3=Fraction(1))
    return Cjt188Meter(meter_type=0x10, address="00000000000012", readings=lambda _now_ms: readings)


def seats(*meters: Meter) -> list[Seat]:
    return [Seat(answering(meter, lambda: START_MS)) for meter in meters]


async def only_reply(line: MixedLine, request: bytes) -> bytes:
    (voice,) = await line.hear(Heard(request, 9600))
    return voice.data


async def modbus_meters(frame: bytes) -> bytes:
    return b"modbus" if frame == READ else b""


@pytest.fixture(scope="module")
def supply() -> Supply:
    week, shape = Week.at_speed(240), LOADS["plant"]
    return Supply(
        node=Node(
            week,
            own=make_load(shape, week, scale_w=60_000, rng=Random(1)),
            tan_phi_permille=shape.tan_phi_permille,
            children=[],
            loss_ppm=0,
        ),
        start_ms=START_MS,
        initial_kwh=Fraction("100.005"),
        full_scale_w=60_000,
        shares_permille=(333, 333, 334),
        grid_seed=1,
        meter_seed=2,
    )


async def test_each_protocol_is_answered_by_its_own_meter_alone() -> None:
    line = MixedLine([*seats(electricity_meter(), water_meter()), Seat(modbus_meters)])
    assert dlt645.parse(await only_reply(line, ELECTRICITY)) is not None
    assert cjt188.parse(await only_reply(line, WATER)) is not None
    assert await only_reply(line, READ) == b"modbus"
    assert await line.hear(Heard(b"\xfe\xfe", 9600)) == []
    assert line.contentions == 0


async def test_three_protocols_take_turns_on_one_pty(tmp_path: Path, supply: Supply) -> None:
    modbus_meter = SimMeter(
        name="m1",
        unit=1,
        profile=parse_profile("mini", PROFILE, where="mini.toml"),
        ratios={},
        supply=supply,
    )
    meters: list[Dlt645Meter | Cjt188Meter] = [electricity_meter(), water_meter()]
    async with RtuServer([modbus_meter], now_ms=lambda: START_MS) as rtu:
        mixed = MixedLine([*seats(*meters), Seat(rtu.answer)])
        line = Line(
            "bus1",
            tmp_path / "bus1",
            baud=19200,
            format="8E1",
            turnaround_ms=(5, 5),
            rng=Random(1),
            answer=mixed,
            options=Options(is_read=is_read),
        )
        with line:
            serving = asyncio.create_task(line.serve())
            port = os.open(line.link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
            tty.setraw(port)
            replies = [await exchange(line, port, frame) for frame in (ELECTRICITY, READ, WATER)]
            serving.cancel()
            await asyncio.wait([serving])
            os.close(port)
    assert replies[0] == meters[0].answer(ELECTRICITY, 0)
    assert replies[1][:3] == b"\x01\x04\x04"  # unit, function, two registers
    assert replies[2] == meters[1].answer(WATER, 0)
    assert line.writes_seen == []
    assert mixed.contentions == 0


async def exchange(line: Line, port: int, request: bytes) -> bytes:
    done = len(line.log) + 2
    os.write(port, request)
    async with asyncio.timeout(0.8):
        while len(line.log) < done:  # noqa: ASYNC110 - the log wakes nobody
            await asyncio.sleep(0.002)
    await asyncio.sleep(2 * line.pace.silence_s)
    return os.read(port, 256)


async def test_all_meters_with_one_address_answer() -> None:
    meters = [electricity_meter(), electricity_meter(kwh="777.77")]
    line = MixedLine(seats(*meters))
    voices = await line.hear(Heard(ELECTRICITY, 9600))
    assert [voice.data for voice in voices] == [meter.answer(ELECTRICITY, 0) for meter in meters]
    assert line.contentions == 1


async def test_a_meter_hears_its_own_baud_rate_only() -> None:
    line = MixedLine(
        [
            Seat(answering(electricity_meter(), lambda: 0), name="slow", baud=2400),
            Seat(answering(electricity_meter(), lambda: 0), name="fast", baud=9600),
            Seat(answering(electricity_meter(), lambda: 0), name="any"),
        ]
    )
    names = {
        baud: [voice.meter for voice in await line.hear(Heard(ELECTRICITY, baud))]
        for baud in (2400, 9600, 19200)
    }
    assert names == {2400: ["slow", "any"], 9600: ["fast", "any"], 19200: ["any"]}


@pytest.mark.parametrize(
    ("request_frame", "write"),
    [
        (READ, False),
        (WRITE, True),
        (WRITE[:-1] + b"\x00", False),  # damaged: obeyed by no meter
        (ELECTRICITY, False),
        (b"\xfe\xfe" + ELECTRICITY, False),
        (dlt645.frame(dlt645.Message(b"\xaa" * 6, 0x13, b"")), False),
        (dlt645.frame(dlt645.Message(b"\x99" * 6, 0x08, b"\x00" * 6)), True),
        (dlt645.frame(dlt645.Message(b"\xaa" * 6, 0x1C, b"\x00" * 16)), True),
        (WATER, False),
        (cjt188.frame(cjt188.Message(0x10, b"\xaa" * 7, 0x04, b"\xa0\x17\x01\x55")), True),
        (b"", False),
    ],
)
def test_write_is_told_from_a_read_in_every_protocol(request_frame: bytes, write: bool) -> None:
    assert is_read(request_frame) is not write


@given(
    control=st.integers(0, 0xFF),
    data=st.binary(max_size=40),
    digits=st.binary(min_size=6, max_size=6),
)
def test_frame_of_one_protocol_is_none_of_the_other(
    control: int, data: bytes, digits: bytes
) -> None:
    # Made of the same address bytes, so that only the frame format tells them apart.
    of_645 = dlt645.frame(dlt645.Message(digits, control, data))
    meter = Cjt188Meter(
        meter_type=digits[0],
        address="00000000000012",
        readings=lambda _now_ms: VolumeReadings(volume_m3=Fraction(0)),
    )
    assert meter.answer(of_645, 0) == b""
    of_188 = cjt188.frame(cjt188.Message(0x61, b"\x01" + b"\x00" * 4 + digits[:2], 0x01, data))
    assert electricity_meter().answer(of_188, 0) == b""


@pytest.mark.parametrize("after_ms", [0, 1, 7 * HOUR_MS, 30 * HOUR_MS + 1234, 40 * DAY_MS])
def test_total_is_the_sum_of_its_tariffs_and_of_the_energy_taken(
    supply: Supply, after_ms: int
) -> None:
    t_ms = START_MS + after_ms
    now = SupplyReadings(supply)(t_ms).now
    total = now["active_energy_import"]
    tariffs = [now[f"active_energy_import_t{number}"] for number in (1, 2, 3, 4)]
    assert total == sum(tariffs)
    # Four registers in full steps: each is behind by less than a step of 0.01 kWh.
    exact = supply.at(t_ms).value("active_energy_import")
    assert 0 <= exact - total < Fraction(4, 100)


def test_nothing_is_counted_before_the_start(supply: Supply) -> None:
    late = replace(supply, start_ms=START_MS + 9 * HOUR_MS + HOUR_MS // 2)
    for t_ms in (START_MS, late.start_ms, late.start_ms + 5 * DAY_MS):
        total = SupplyReadings(late)(t_ms).now["active_energy_import"]
        exact = late.at(t_ms).value("active_energy_import")
        assert 0 <= exact - total < Fraction(4, 100)


def test_tariff_runs_in_its_own_hours_only(supply: Supply) -> None:
    source = SupplyReadings(supply)
    for hour, tariff in enumerate(EXAMPLE_DAY.by_hour):
        start_ms = START_MS + 3 * DAY_MS + hour * HOUR_MS
        before, after = source(start_ms).now, source(start_ms + HOUR_MS).now
        taken = supply.node.active.import_uj(start_ms, start_ms + HOUR_MS)
        for number in (1, 2, 3, 4):
            name = f"active_energy_import_t{number}"
            wanted = Fraction(taken, UJ_PER_KWH) if number == tariff else 0
            assert abs(after[name] - before[name] - wanted) < Fraction(1, 100)


def test_frozen_and_settled_counters_are_those_of_their_instants(supply: Supply) -> None:
    now_ms = START_MS + 40 * DAY_MS + 5 * HOUR_MS
    readings = SupplyReadings(supply)(now_ms)
    midnights = [START_MS + (40 - day) * DAY_MS for day in range(12)]
    source = SupplyReadings(supply)  # a bench that has just begun again
    assert [day["active_energy_import"] for day in readings.frozen] == [
        source(t_ms).now["active_energy_import"] for t_ms in midnights
    ]
    # 40 days behind 25 November: settled on 1 January and 1 December, not before the start.
    firsts = [START_MS + 37 * DAY_MS, START_MS + 6 * DAY_MS]
    assert [month["active_energy_import"] for month in readings.settled] == [
        source(t_ms).now["active_energy_import"] for t_ms in firsts
    ]


def test_quantity_that_the_tree_does_not_know_is_missing(supply: Supply) -> None:
    now = SupplyReadings(supply)(START_MS + DAY_MS).now
    for name in ("active_energy_import_t9", "active_energy_sum_t1", "thd_voltage_l1"):
        assert name not in now
    reactive = supply.at(START_MS + DAY_MS).value("reactive_energy_import")
    assert now["reactive_energy_q1"] == now["reactive_energy_combined_1"] == reactive > 0


@pytest.mark.parametrize("by_hour", [(1,) * 23, (0,) * 24])
def test_tariffs_cover_the_day(by_hour: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="24 numbers"):
        Tariffs(by_hour)


def test_meter_on_a_load_answers_a_block_whose_total_is_the_sum(supply: Supply) -> None:
    meter = Dlt645Meter(
        Identity(address="000000000161"),
        readings=SupplyReadings(supply),
        habits=dlt645.Habits(preamble=0),
    )
    request = dlt645.frame(dlt645.Message(b"\x61\x01\x00\x00\x00\x00", 0x11, b"\x00\xff\x01\x00"))
    message = dlt645.parse(meter.answer(request, START_MS + 50 * HOUR_MS))
    assert message is not None
    registers = [
        int(message.data[at : at + 4][::-1].hex()) for at in range(4, len(message.data), 4)
    ]
    assert len(registers) == 5
    assert registers[0] == sum(registers[1:]) > 10_000  # 100 kWh at the start in steps of 0.01


def test_water_and_heat_follow_the_load(supply: Supply) -> None:
    now_ms = START_MS + 10 * DAY_MS
    taken_kwh = supply.at(now_ms).value("active_energy_import")
    water = volume_of(supply, m3_per_kwh=Fraction(1, 50))(now_ms)
    assert water.volume_m3 == taken_kwh / 50
    december_ms = START_MS + 6 * DAY_MS
    assert water.settled_m3 == supply.at(december_ms).value("active_energy_import") / 50
    assert water.clock == datetime(2025, 12, 5)  # noqa: DTZ001 - a meter's clock has no zone
    heat = heat_of(supply, supply_c=60, return_c=40)(now_ms)
    assert heat.heat_kwh == taken_kwh
    assert heat.volume_m3 * 20 * Fraction("1.163") == taken_kwh
    assert heat.flow_m3h * 20 * Fraction("1.163") == heat.power_kw > 0
    assert heat.power_kw == Fraction(supply.node.active.power_mw(now_ms), 10**6)
    assert heat.hours == 240


def test_readings_are_the_same_after_a_restart(supply: Supply) -> None:
    def shown(source: SupplyReadings, t_ms: int) -> Mapping[str, Fraction]:
        now = source(t_ms).now
        return {name: now[name] for name in ("active_energy_import", "active_energy_import_t1")}

    old = SupplyReadings(supply)
    times = [START_MS + step * 7 * HOUR_MS + 999 for step in range(20)]
    assert [shown(old, t_ms) for t_ms in times] == [
        shown(SupplyReadings(supply), t_ms) for t_ms in times
    ]
