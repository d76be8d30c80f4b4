"""A site file's DL/T 645 and CJ/T 188 meters, each at its own baud rate on one line."""

from __future__ import annotations

import asyncio
import os
import termios
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hil_tests.sim import cjt188, dlt645
from hil_tests.sim.addressed import AddressedMeter
from hil_tests.sim.bcd import digits
from hil_tests.sim.cjt188 import UNIT_CODES
from hil_tests.sim.damage import talk_over
from hil_tests.sim.errors import SimError
from hil_tests.sim.faults import LineFaults, parse_faults
from hil_tests.sim.framing import Rtu
from hil_tests.sim.kinds import KINDS
from hil_tests.sim.line import Direction, Line
from hil_tests.sim.site import SiteSpec, parse_site
from hil_tests.sim.stage import Stage, describe, play
from hil_tests.test_sim_line import Master, heard
from hil_tests.test_sim_meters import START_MS

PROFILE = """
[points.voltage_l1]
function = 4
register = 0
type = "u16"
scale = 0.1
unit = "V"
resolution = 0.1
"""
READ = Rtu().wrap(bytes.fromhex("01 04 0000 0001"))
ADDRESSES = {"mains": "001210174069", "old": "000000000161", "water": "00000000000012"}
ADDRESSES["heat"] = "00000000000020"
HOUR_MS = 3_600_000


def site(folder: Path, **changes: Any) -> SiteSpec:
    """Make a line of five meters at four bauds; `changes` go to the meter of that name."""
    (folder / "mini.toml").write_text(PROFILE)
    kinds: list[dict[str, Any]] = [
        {"name": "modbus", "unit": 1, "profile": "mini"},
        {"name": "mains", "protocol": "dlt645-2007", "baud": 2400, "format": "8E1"},
        {"name": "old", "protocol": "dlt645-1997", "baud": 1200, "format": "8E1"},
        {"name": "water", "protocol": "cjt188", "baud": 4800, "format": "8E1"},
        {"name": "heat", "protocol": "cjt188", "medium": "heat", "baud": 4800, "format": "8E1"},
    ]
    meters = []
    for meter in kinds:
        name = meter["name"]
        if name in ADDRESSES:
            meter |= {"address": ADDRESSES[name], "turnaround_ms": [1, 2]}
        meter |= {"load": "base", "scale_kw": 36, "initial_kwh": 100.5} | changes.get(name, {})
        meters.append({key: value for key, value in meter.items() if value is not None})
    line = {"name": "bus1", "link": str(folder / "bus1"), "baud": 9600, "format": "8N1"}
    line |= {"turnaround_ms": [1, 2], "meter": meters} | changes.get("line", {})
    return parse_site(
        {
            "start_ms": START_MS,
            "day_speed": 2400,
            "profiles": ".",
            "line": [line],
            "fault": changes.get("fault", []),
        },
        where="sim.toml",
        folder=folder,
    )


def read_2007(di: str, address: str = ADDRESSES["mains"]) -> bytes:
    message = dlt645.Message(digits(address, length=6), 0x11, bytes.fromhex(di)[::-1])
    return dlt645.frame(message)


def read_1997(di: str) -> bytes:
    address = digits(ADDRESSES["old"], length=6)
    return dlt645.frame(dlt645.Message(address, 0x01, bytes.fromhex(di)[::-1]))


def read_188(name: str, meter_type: int) -> bytes:
    address = digits(ADDRESSES[name], length=7)
    return cjt188.frame(cjt188.Message(meter_type, address, 0x01, b"\x90\x1f\x07"))


def number(data: bytes) -> int:
    return int(data[::-1].hex())


@asynccontextmanager
async def playing(spec: SiteSpec, t_ms: int = START_MS) -> AsyncIterator[tuple[Stage, Master]]:
    async with play(spec, now_ms=lambda: t_ms) as stage:
        master = Master(stage.lines["bus1"].link)
        try:
            yield stage, master
        finally:
            master.close()


def set_baud(master: Master, baud: int) -> None:
    attributes = termios.tcgetattr(master._fd)
    attributes[4:6] = [getattr(termios, f"B{baud}")] * 2
    termios.tcsetattr(master._fd, termios.TCSANOW, attributes)


async def ask(line: Line, master: Master, baud: int, request: bytes) -> bytes:
    """Ask at a baud rate; return what the line then logs as the reply."""
    set_baud(master, baud)
    await asyncio.sleep(2 * line._pace_at(baud).silence_s)
    done = len(line.log) + 2
    master.write(request)
    await heard(line, done)
    reply = line.log[-1]
    assert reply.direction is Direction.REPLY
    os.read(master._fd, 4096)
    return reply.data


async def test_meters_of_four_bauds_and_three_protocols_answer_on_one_line(tmp_path: Path) -> None:
    t_ms = START_MS + 10 * HOUR_MS
    async with playing(site(tmp_path), t_ms) as (stage, master):
        line = stage.lines["bus1"]
        modbus = await ask(line, master, 9600, READ)
        mains = await ask(line, master, 2400, read_2007("00010000"))
        water = await ask(line, master, 4800, read_188("water", 0x10))
    assert modbus[:3] == b"\x01\x04\x02"
    message, volume = dlt645.parse(mains), cjt188.parse(water)
    assert message is not None
    assert volume is not None
    energy = stage.addressed["mains"].supply.at(t_ms).value("active_energy_import")
    shown = Fraction(number(message.data[4:8]), 100)
    assert energy > 360  # ten hours of 36 kW
    assert 0 <= energy - shown < Fraction(4, 100)  # four tariff registers in full steps
    taken = stage.addressed["water"].supply.at(t_ms).value("active_energy_import") / 50
    assert volume.data[7] == 0x2C
    assert (
        0 <= taken - Fraction(number(volume.data[3:7]), 100) * UNIT_CODES[0x2C] < Fraction(1, 100)
    )
    assert line.gap_violations == line.collisions == 0
    assert line.writes_seen == []


async def test_frames_take_the_wire_time_of_the_baud_they_are_sent_at(tmp_path: Path) -> None:
    async with playing(site(tmp_path)) as (stage, master):
        line = stage.lines["bus1"]
        await ask(line, master, 9600, READ)
        await ask(line, master, 2400, read_2007("00010000"))
    times = {
        frame.direction.value + str(number): (frame.end_us - frame.start_us) / len(frame.data)
        for number, frame in enumerate(line.log)
    }
    fast_us, slow_us = 10 / 9600 * 1e6, 11 / 2400 * 1e6
    assert times == pytest.approx(
        {"request0": fast_us, "reply1": fast_us, "request2": slow_us, "reply3": slow_us}, abs=1
    )


async def test_a_meter_does_not_hear_another_baud_rate(tmp_path: Path) -> None:
    async with playing(site(tmp_path)) as (stage, master):
        line = stage.lines["bus1"]
        for baud, request in ((9600, read_2007("00010000")), (2400, READ), (19200, READ)):
            set_baud(master, baud)
            done = len(line.log) + 1
            master.write(request)
            await heard(line, done)
            with pytest.raises(TimeoutError):
                await master.read(1, within_s=0.05)
    assert [frame.direction for frame in line.log] == [Direction.REQUEST] * 3


async def test_a_reply_at_another_baud_than_the_port_now_has_is_garbage(tmp_path: Path) -> None:
    late = {"meter": "mains", "kind": "late", "ms": 60}
    async with playing(site(tmp_path, fault=[late])) as (stage, master):
        line = stage.lines["bus1"]
        set_baud(master, 2400)
        master.write(read_2007("00010000"))
        await heard(line, 1)
        set_baud(master, 9600)
        await heard(line, 2)
    assert dlt645.parse(line.log[1].data) is None


async def test_a_line_says_where_its_meters_are(tmp_path: Path) -> None:
    spec = site(tmp_path, old={"dead": True})
    async with playing(spec) as (stage, _):
        rows = describe(spec, stage)
    where = tmp_path / "bus1"
    assert rows == [
        f"bus1  9600 8N1  {where}  unit 1 modbus mini",
        f"bus1  2400 8E1  {where}  address 001210174069 mains dlt645-2007",
        f"bus1  1200 8E1  {where}  address 000000000161 old dlt645-1997  dead",
        f"bus1  4800 8E1  {where}  address 00000000000012 water cjt188 water",
        f"bus1  4800 8E1  {where}  address 00000000000020 heat cjt188 heat",
    ]


async def meter_of(folder: Path, name: str, **changes: Any) -> AddressedMeter:
    async with play(site(folder, **{name: changes}), now_ms=lambda: START_MS) as stage:
        return stage.addressed[name]


def energy_2007(meter: AddressedMeter, t_ms: int, di: str = "00010000") -> Fraction | None:
    message = dlt645.parse(meter.answer(read_2007(di), t_ms))
    return None if message is None else Fraction(number(message.data[4:8]), 100)


@pytest.mark.parametrize(
    ("pattern", "seconds", "expected"),
    [
        ("dip_100", (99, 160, 221), ("same", "0.5", "same")),
        ("zeros", (99, 160, 1001), ("same", "0", "same")),
        ("huge", (99, 160, 941), ("same", "999999.99", "same")),
        ("below_zero", (99, 160, 941), ("same", "0", "same")),
        ("gap", (99, 160), ("same", None)),
        ("reset", (99, 100), ("same", "0")),
        ("replaced", (99, 160, 700), ("same", None, "0")),
        ("rollover", (100,), ("0",)),
    ],
)
async def test_a_pattern_reaches_the_counters_of_dlt645(
    tmp_path: Path, pattern: str, seconds: tuple[int, ...], expected: tuple[str | None, ...]
) -> None:
    true = await meter_of(tmp_path, "mains", load=None, dead=True)
    true.dead = False  # a dead meter may have no load: its counters stand at 100.5 kWh
    meter = await meter_of(tmp_path, "mains", load=None, dead=True, pattern=pattern, at_s=100)
    meter.dead = False
    for second, wanted in zip(seconds, expected, strict=True):
        t_ms = START_MS + 1000 * second
        shown, unchanged = energy_2007(meter, t_ms), energy_2007(true, t_ms)
        assert unchanged == Fraction("100.5")
        assert shown == (unchanged if wanted == "same" else wanted and Fraction(wanted))
    tariffs = [energy_2007(meter, t_ms, f"0001{tariff:02d}00") for tariff in range(1, 5)]
    assert all(tariff is None or tariff >= 0 for tariff in tariffs)


async def test_a_replaced_meter_has_another_number_and_the_same_address(tmp_path: Path) -> None:
    meter = await meter_of(tmp_path, "mains", pattern="replaced", at_s=10, for_s=5)
    numbers = []
    for second in (0, 20):
        message = dlt645.parse(meter.answer(read_2007("04000402"), START_MS + 1000 * second))
        assert message is not None
        numbers.append(message.data[4:].hex())
    assert numbers == ["010000000000", "020000000000"]


async def test_a_pattern_reaches_the_volume_and_the_heat(tmp_path: Path) -> None:
    t_ms = START_MS + 60_000
    for name, meter_type, place in (("water", 0x10, 3), ("heat", 0x20, 8)):
        meter = await meter_of(tmp_path, name, pattern="zeros", at_s=30)
        shown = []
        for at_ms in (START_MS, t_ms):
            message = cjt188.parse(meter.answer(read_188(name, meter_type), at_ms))
            assert message is not None
            shown.append(number(message.data[place : place + 4]))
        assert shown[0] > 0
        assert shown[1] == 0


def shaped(meter: AddressedMeter, request: bytes, kind: str, **parameters: Any) -> bytes:
    faults = LineFaults(
        parse_faults([{"meter": meter.name, "kind": kind, **parameters}], where="sim.toml"),
        line="bus1",
        units={meter.name: 0, "other": 0},
        framing=Rtu(),
        start_ms=START_MS,
        now_ms=lambda: START_MS,
        seed=1,
    )
    reply = meter.answer(request, START_MS)
    assert faults.shape(reply, meter.framing, meter="other")[0].data == reply
    return b"".join(b.data for b in faults.shape(reply, meter.framing, meter=meter.name))


async def test_faults_with_a_right_checksum_fit_dlt645(tmp_path: Path) -> None:
    meter = await meter_of(tmp_path, "mains")
    request = read_2007("00010000")
    good = dlt645.parse(meter.answer(request, START_MS))
    assert good is not None

    def told(kind: str, **parameters: Any) -> dlt645.Message:
        message = dlt645.parse(shaped(meter, request, kind, **parameters))
        assert message is not None, kind
        return message

    flipped = told("bit_error_good_crc", bits=1)
    assert flipped.data[:4] == good.data[:4]
    assert flipped.data[4:] != good.data[4:]
    assert told("short", registers=1).data == good.data[:6]
    assert told("wrong_unit").address[1:] == good.address[1:]
    assert told("wrong_unit").address != good.address
    assert told("wrong_unit", unit=42).address[:1] == b"\x42"
    assert (good.control, told("wrong_function").control) == (0x91, 0x92)
    busy = told("busy")
    assert (busy.control, busy.data) == (0xD1, b"\x01")


async def test_faults_with_a_right_checksum_fit_cjt188(tmp_path: Path) -> None:
    meter = await meter_of(tmp_path, "water")
    request = read_188("water", 0x10)
    good = cjt188.parse(meter.answer(request, START_MS))
    assert good is not None
    short = cjt188.parse(shaped(meter, request, "short", registers=2))
    other = cjt188.parse(shaped(meter, request, "wrong_unit"))
    busy = cjt188.parse(shaped(meter, request, "busy"))
    wrong = cjt188.parse(shaped(meter, request, "wrong_function"))
    assert short is not None
    assert other is not None
    assert busy is not None
    assert wrong is not None
    assert short.data == good.data[:7]
    assert other.address != good.address
    assert (busy.control, busy.data) == (0xC1, b"\0\0\0")
    assert (good.control, wrong.control) == (0x81, 0x83)


@pytest.mark.parametrize(
    "kind",
    # Of the others, "stale" needs a reply before and the rest change when one comes.
    [
        name
        for name, kind in KINDS.items()
        if kind.change is not None and name not in ("stale", "slow", "late", "split")
    ],
)
async def test_every_fault_of_a_reply_changes_an_addressed_meters_reply(
    tmp_path: Path, kind: str
) -> None:
    meter = await meter_of(tmp_path, "old")
    request = read_1997("9010")
    more = {"brown_out": {"for_s": 1}, "intermittent": {"probability": 1}}.get(kind, {})
    assert shaped(meter, request, kind, **more) != meter.answer(request, START_MS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mains": {"protocol": "dlt645"}}, 'protocol "dlt645" is none of modbus, dlt645-2007'),
        ({"mains": {"address": "12"}}, '"address" = "12", 12 digits expected'),
        ({"mains": {"address": None}}, '"address" is missing'),
        ({"mains": {"unit": 3}}, 'unknown key "unit"'),
        ({"mains": {"ratios": {"ct": 2}}}, '"ratios" are for Modbus meters'),
        ({"mains": {"preamble": 5}}, '"preamble" = 5, 0 to 4 expected'),
        ({"heat": {"medium": "steam"}}, 'medium "steam" is none of water, hot-water'),
        ({"heat": {"heat_bytes": 44}}, '"heat_bytes" = 44, 43 or 46 expected'),
        ({"heat": {"address": ADDRESSES["water"]}}, "address 00000000000012 is used twice"),
        ({"heat": {"format": "8N1"}}, "another format at 4800 Bd than the line"),
        ({"heat": {"baud": 9600}}, "another format at 9600 Bd than the line"),
        ({"heat": {"format": "9E1"}}, 'format "9E1"'),
        ({"line": {"link": None, "tcp": 0}}, "dlt645-2007 is for serial lines"),
        ({"line": {"mode": "ascii"}}, "dlt645-2007 is for serial lines that are not ascii"),
        ({"line": {"link": None, "rtu_tcp": 0}}, 'are for lines with a "link"'),
        ({"fault": [{"meter": "mains", "kind": "late", "ms": 61_000}]}, "0 to 60000 expected"),
    ],
)
def test_a_meter_that_cannot_be_played_is_an_error(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    if "line" in changes:
        changes["line"] = dict(changes["line"])
    with pytest.raises(SimError) as raised:
        site(tmp_path, **changes)
    assert message in str(raised.value)


def twins(folder: Path, second_ms: float) -> SiteSpec:
    """Make two Modbus meters with unit id 1 and fixed turnarounds."""
    (folder / "mini.toml").write_text(PROFILE)
    meters = [
        {"name": name, "unit": 1, "profile": "mini", "load": load, "turnaround_ms": [ms, ms]}
        for name, load, ms in (("a", "base", 5), ("b", "plant", second_ms))
    ]
    meters[1]["same_unit"] = True
    line = {"name": "bus1", "link": str(folder / "bus1"), "baud": 9600, "meter": meters}
    document = {"start_ms": START_MS, "day_speed": 2400, "profiles": ".", "line": [line]}
    return parse_site(document, where="sim.toml", folder=folder)


async def test_two_meters_with_one_unit_id_spoil_each_others_reply(tmp_path: Path) -> None:
    async with playing(twins(tmp_path, 7.3)) as (stage, master):
        line = stage.lines["bus1"]
        reply = await ask(line, master, 9600, READ)
    assert line.collisions == 1
    assert Rtu().unwrap(reply) is None
    assert len(line.log) == 2


async def test_a_slower_twin_answers_behind_the_first_reply(tmp_path: Path) -> None:
    async with playing(twins(tmp_path, 20)) as (stage, master):
        line = stage.lines["bus1"]
        set_baud(master, 9600)
        master.write(READ)
        await heard(line, 3)
        replies = [
            stage.meters[name].read(function=4, address=0, count=1, t_ms=START_MS)
            for name in ("a", "b")
        ]
    assert line.collisions == 0
    _, first, second = line.log
    assert second.start_us - first.start_us == pytest.approx(15_000, abs=2)
    values = [int.from_bytes(frame.data[3:5], "big") for frame in (first, second)]
    assert [[value] for value in values] == replies


@pytest.mark.parametrize("seed", range(5))
def test_drivers_that_talk_over_each_other(seed: int) -> None:
    rng = Random(seed)
    one, other = Rtu().wrap(rng.randbytes(9)), Rtu().wrap(rng.randbytes(9))
    assert talk_over(one, b"", lag_chars=0) == one
    assert talk_over(one, one, lag_chars=0) == one
    assert talk_over(one, other, lag_chars=len(one)) == one + other
    together = talk_over(one, other, lag_chars=0)
    assert together == bytes(a & b for a, b in zip(one, other, strict=True))
    assert Rtu().unwrap(talk_over(one, other, lag_chars=2.35)) is None


@pytest.mark.parametrize("ms", [700, pytest.param(3000, marks=pytest.mark.long)])
async def test_a_late_reply_may_be_seconds_late(tmp_path: Path, ms: int) -> None:
    late = {"meter": "modbus", "kind": "late", "ms": ms}
    async with playing(site(tmp_path, fault=[late])) as (stage, master):
        line = stage.lines["bus1"]
        set_baud(master, 9600)
        tty.setraw(master._fd)
        master.write(READ)
        await master.read(7, within_s=4)
    request, reply = line.log
    turnaround_ms = (reply.start_us - request.end_us) / 1000 - line.pace.silence_s * 1000
    assert ms + 1 <= turnaround_ms <= ms + 2.01
