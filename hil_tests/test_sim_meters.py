"""The bench's meters: registers as profiles describe them, read through real pymodbus code."""

from __future__ import annotations

from contextlib import asynccontextmanager
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.client.mixin import ModbusClientMixin
from pymodbus.exceptions import ModbusIOException
from pymodbus.framer.rtu import FramerRTU

from hil_tests.sim.electrical import Node, Supply
from hil_tests.sim.errors import SimError
from hil_tests.sim.loads import Series, Week
from hil_tests.sim.meters import SimMeter
from hil_tests.sim.ports import LOOPBACK
from hil_tests.sim.profile import parse_profile
from hil_tests.sim.registers import crc16, encode, encode_float, encode_integer
from hil_tests.sim.servers import RtuServer, TcpServer
from hil_tests.sim.site import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

START_MS = 1_764_000_000_000
AGENT_PROFILES = CHECKOUT / "agent/edgeagg_agent/profiles"
Types = ModbusClientMixin.DATATYPE

PROFILE = """
[limits]
registers_max = 12
holes = "readable"

[[identify]]
function = 3
register = 0x0020
type = "u16"
min = 1234
max = 1300

[ratios.ct]
function = 3
register = 0x0006
type = "u16"

[ratios.pt]
function = 3
register = 0x0007
type = "u16"
scale = 0.1

[points.active_power_total]
function = 4
register = 0x0010
type = "f32"
unit = "W"
resolution = 1

[points.active_power_l1]
function = 4
register = 0x0014
type = "i32"
order = "CDAB"
scale = 0.1
ratios = ["ct", "pt"]
unit = "W"
resolution = 0.1

[points.active_energy_import]
function = 3
register = 0x0030
type = "u32"
scale = 0.01
ratios = ["ct", "pt"]
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


def constant_supply(power_mw: int = 12_345_600, *, initial_kwh: Fraction = Fraction(0)) -> Supply:
    week = Week.at_speed(2400)
    own = Series(week, [power_mw] * week.period_s)
    return Supply(
        node=Node(week, own=own, tan_phi_permille=500, children=[], loss_ppm=0),
        start_ms=START_MS,
        initial_kwh=initial_kwh,
        full_scale_w=60_000,
        shares_permille=(340, 320, 340),
        grid_seed=1,
        meter_seed=2,
    )


def make_meter(
    *,
    text: str = PROFILE,
    unit: int = 1,
    ratios: Mapping[str, int] | None = None,
    supply: Supply | None = None,
    dead: bool = False,
) -> SimMeter:
    return SimMeter(
        name=f"meter{unit}",
        unit=unit,
        profile=parse_profile("mini", text, where="mini.toml"),
        ratios={name: Fraction(value) for name, value in (ratios or {}).items()},
        supply=supply or constant_supply(),
        dead=dead,
    )


class Ticks:
    """A clock that moves ten seconds whenever it is looked at."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> int:
        self.looks += 1
        return START_MS + 10_000 * self.looks


def frame(body: bytes) -> bytes:
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


@asynccontextmanager
async def tcp_client(port: int) -> AsyncIterator[AsyncModbusTcpClient]:
    client = AsyncModbusTcpClient(LOOPBACK, port=port, timeout=0.2, retries=0)
    assert await client.connect()
    try:
        yield client
    finally:
        client.close()


@pytest.mark.parametrize(("order", "word_order"), [("ABCD", "big"), ("CDAB", "little")])
@pytest.mark.parametrize(
    ("kind", "value", "datatype"),
    [
        ("u16", 40_000, Types.UINT16),
        ("i16", -12_345, Types.INT16),
        ("u32", 3_000_000_019, Types.UINT32),
        ("i32", -1_234_567_890, Types.INT32),
        ("u64", 2**63 + 12_345_678_901, Types.UINT64),
        ("i64", -(2**62) - 9, Types.INT64),
        ("f32", -1234.5, Types.FLOAT32),
        ("f64", 1 / 3, Types.FLOAT64),
    ],
)
def test_registers_are_what_pymodbus_decodes(
    kind: str, value: float, datatype: Types, order: str, word_order: str
) -> None:
    words = encode(Fraction(value), kind=kind, order=order, factor=Fraction(1), resolution=None)
    decoded = ModbusClientMixin.convert_from_registers(
        list(words), datatype, word_order="big" if word_order == "big" else "little"
    )
    assert decoded == value


def test_byte_orders_of_the_profile_schema() -> None:
    words = {
        order: encode_integer(0x0A0B0C0D, kind="u32", order=order)
        for order in ("ABCD", "CDAB", "BADC", "DCBA")
    }
    assert words == {
        "ABCD": (0x0A0B, 0x0C0D),
        "CDAB": (0x0C0D, 0x0A0B),
        "BADC": (0x0B0A, 0x0D0C),
        "DCBA": (0x0D0C, 0x0B0A),
    }
    assert encode_float(230.0, kind="f32", order="ABCD") == (0x4366, 0x0000)
    assert encode_integer(1, kind="u64", order="DCBA") == (0x0100, 0, 0, 0)


def test_crc_is_that_of_the_serial_guide() -> None:
    request = (
        b"\x02"  # unit
        b"\x07"  # function of the guide's example
    )
    assert crc16(request) == b"\x41\x12"


def test_a_totaliser_shows_full_steps_and_a_gauge_the_nearest() -> None:
    value, step = Fraction("123.4567"), Fraction("0.01")
    for kind in ("u32", "f32", "f64"):
        words = encode(value, kind=kind, order="ABCD", factor=Fraction(1), resolution=step)
        datatype = {"u32": Types.UINT32, "f32": Types.FLOAT32, "f64": Types.FLOAT64}[kind]
        shown = ModbusClientMixin.convert_from_registers(list(words), datatype)
        assert shown == (123 if kind == "u32" else pytest.approx(123.45, abs=1e-5))
    assert encode(value, kind="u16", order="ABCD", factor=step, resolution=None) == (12346,)


def test_a_totaliser_rolls_over_and_a_gauge_stops_at_its_range() -> None:
    one = Fraction(1)
    assert encode(Fraction(65_538), kind="u16", order="ABCD", factor=one, resolution=one) == (2,)
    assert encode(Fraction(32_769), kind="i16", order="ABCD", factor=one, resolution=one) == (1,)
    assert encode(Fraction(70_000), kind="u16", order="ABCD", factor=one, resolution=None) == (
        0xFFFF,
    )
    assert encode(Fraction(70_000), kind="i16", order="ABCD", factor=one, resolution=None) == (
        0x7FFF,
    )
    assert encode(Fraction(-70_000), kind="i16", order="ABCD", factor=one, resolution=None) == (
        0x8000,
    )


def test_ratios_divide_the_points_and_stand_in_their_own_registers() -> None:
    meter = make_meter(ratios={"ct": 40, "pt": 2})
    t_ms = START_MS + 7_200_000
    assert meter.read(function=3, address=6, count=2, t_ms=t_ms) == [40, 20]
    energy = meter.read(function=3, address=0x30, count=2, t_ms=t_ms)
    assert energy == [0, int(24.6912 / 80 / 0.01)]  # 12.3456 kW over two hours
    power = meter.read(function=4, address=0x14, count=2, t_ms=t_ms)
    assert power == [round(4197.504 / 80 / 0.1), 0]  # 34 % of 12345.6 W, low word first


def test_a_ratio_that_is_not_set_is_one_and_one_that_is_not_there_is_an_error() -> None:
    assert make_meter().read(function=3, address=6, count=2, t_ms=START_MS) == [1, 10]
    with pytest.raises(SimError, match=r'"vt" is not in mini \(ct, pt allowed\)'):
        make_meter(ratios={"vt": 2})
    with pytest.raises(SimError, match="does not fit its u16 register"):
        make_meter(ratios={"ct": 70_000})


def test_holes_read_as_zero_or_not_at_all() -> None:
    readable = make_meter().read(function=4, address=0x12, count=4, t_ms=START_MS)
    assert readable is not None
    assert readable[:2] == [0, 0]
    for holes in ("illegal", "unknown"):
        meter = make_meter(text=PROFILE.replace("readable", holes))
        assert meter.read(function=4, address=0x12, count=4, t_ms=START_MS) is None
        assert meter.read(function=4, address=0x14, count=2, t_ms=START_MS) is not None


@pytest.mark.parametrize(
    ("function", "address", "count"),
    [
        (4, 0x10, 13),  # more than registers_max
        (4, 0x0F, 2),  # before the first register
        (4, 0x15, 2),  # behind the last
        (3, 0x10, 20),
    ],
)
def test_reads_that_a_meter_refuses(function: int, address: int, count: int) -> None:
    meter = make_meter()
    assert meter.read(function=function, address=address, count=count, t_ms=START_MS) is None


def test_a_meter_is_recognised_by_its_profile() -> None:
    assert make_meter().read(function=3, address=0x20, count=1, t_ms=START_MS) == [1234]


def test_a_quantity_that_the_bench_does_not_have_reads_zero_and_is_named() -> None:
    meter = make_meter()
    assert meter.read(function=3, address=0x32, count=1, t_ms=START_MS) == [0]
    assert meter.unknown_points == ("temperature_1",)


def test_a_sunspec_meter_carries_its_model_headers() -> None:
    text = PROFILE.replace("registers_max = 12", "registers_max = 125").replace("0x00", "0x9C8")
    meter = SimMeter(
        name="pv",
        unit=1,
        profile=parse_profile("sunspec-meter-213", text, where=""),
        ratios={},
        supply=constant_supply(),
    )

    def read(address: int, count: int) -> list[int] | None:
        return meter.read(function=3, address=address, count=count, t_ms=START_MS)

    assert read(40000, 4) == [0x5375, 0x6E53, 1, 66]
    assert read(40004, 4) == [0x6564, 0x6765, 0x6167, 0x6700]  # "edgeagg"
    assert read(40070, 2) == [213, 124]
    assert read(40196, 2) == [0xFFFF, 0]


async def test_all_registers_of_a_read_are_of_one_instant() -> None:
    ticks = Ticks()
    async with RtuServer([make_meter()], now_ms=ticks) as server:
        reply = await server.answer(frame(b"\x01\x03\x00\x30\x00\x03"))
    assert ticks.looks == 1
    assert reply == frame(b"\x01\x03\x06" + (3).to_bytes(4, "big") + b"\0\0")  # 10 s of 12.3 kW


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"\x01\x04\x00\x10\x00\x0d", b"\x01\x84\x02"),  # longer than the meter allows
        (b"\x01\x03\x01\x00\x00\x01", b"\x01\x83\x02"),  # a register that it does not have
        (b"\x01\x03\x00\x30\x00\x00", b"\x01\x83\x03"),  # no register at all
        (b"\x01\x06\x00\x30\x00\x00", b"\x01\x86\x01"),  # a write
    ],
)
async def test_a_refusal_is_an_exception_reply(request_: bytes, reply: bytes) -> None:
    async with RtuServer([make_meter()], now_ms=lambda: START_MS) as server:
        assert await server.answer(frame(request_)) == frame(reply)


async def test_nobody_answers_a_bad_frame_another_unit_or_for_the_dead() -> None:
    read = b"\x03\x00\x30\x00\x02"
    meters = [make_meter(unit=1), make_meter(unit=2, dead=True), make_meter(unit=33)]
    async with RtuServer(meters, now_ms=lambda: START_MS) as server:
        assert await server.answer(frame(b"\x01" + read)[:-1] + b"\x00") == b""
        assert await server.answer(frame(b"\x01" + read) + frame(b"\x21" + read)) == b""
        assert await server.answer(frame(b"\x01" + read + b"\x00\x00")) == b""
        for unit in (b"\x00", b"\x02", b"\x04"):
            assert await server.answer(frame(unit + read)) == b""
        assert (await server.answer(frame(b"\x21" + read)))[:3] == b"\x21\x03\x04"


async def test_modbus_tcp_reads_refuses_and_stays_silent_for_the_dead() -> None:
    meters = [make_meter(unit=1), make_meter(unit=2, dead=True)]
    async with TcpServer(meters, port=0, now_ms=lambda: START_MS) as server:
        async with tcp_client(server.port) as client:
            good = await client.read_input_registers(0x10, count=2, device_id=1)
            assert client.convert_from_registers(good.registers, Types.FLOAT32) == pytest.approx(
                12345.6
            )
            refused = await client.write_register(0x10, 1, device_id=1)
            assert (refused.isError(), refused.exception_code) == (True, 1)
            for unit in (2, 9):
                with pytest.raises(ModbusIOException):
                    await client.read_input_registers(0x10, count=2, device_id=unit)
        assert server.writes_seen == [(1, 6)]


async def test_a_port_in_use_is_an_error_of_one_line() -> None:
    async with TcpServer([make_meter()], port=0, now_ms=lambda: START_MS) as server:
        second = TcpServer([make_meter()], port=server.port, now_ms=lambda: START_MS)
        with pytest.raises(SimError, match="is the port in use"):
            await second.__aenter__()
