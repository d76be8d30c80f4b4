"""The bench's CJ/T 188 meters send what real ones were seen to send, and answer only whole frames.

Published frames are data in frames/cjt188.toml. The tests wrap and unwrap frames on their own.
"""

from __future__ import annotations

import tomllib
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_tests.sim.cjt188 import (
    UNIT_CODES,
    Cjt188Meter,
    Edition,
    Habits,
    HeatLayout,
    HeatReadings,
    VolumeReadings,
)
from hil_tests.sim.mixed import is_read

if TYPE_CHECKING:
    from collections.abc import Mapping

FRAMES = tomllib.loads(
    (Path(__file__).parent / "frames" / "cjt188.toml").read_text(encoding="utf-8")
)["frame"]
REPLIES = [frame for frame in FRAMES if frame["direction"] == "reply"]
REQUESTS = [frame for frame in FRAMES if frame["direction"] == "request"]
ADDRESS = "78330011223344"
WIRE_ADDRESS = b"\x44\x33\x22\x11\x00\x33\x78"
ANYBODY = b"\xaa" * 7
WATER, HEAT, ANY = 0x10, 0x20, 0xAA
CLOCK = datetime(2026, 11, 22, 10, 30, 59)  # noqa: DTZ001 - a meter's clock has no zone
VOLUMES = VolumeReadings(
    volume_m3=Fraction("123456.789"), settled_m3=Fraction(2), clock=CLOCK, status=b"\x04\x00"
)
WARMTH = HeatReadings(
    heat_kwh=Fraction("1025.5"),
    settled_kwh=Fraction(1000),
    power_kw=Fraction("21.5"),
    flow_m3h=Fraction("1.2345"),
    volume_m3=Fraction(7530),
    supply_c=Fraction(45),
    return_c=Fraction("38.3"),
    hours=5421,
    clock=CLOCK,
)


def wrapped(kind: int, address: bytes, control: int, data: bytes) -> bytes:
    body = b"\x68" + bytes((kind,)) + address + bytes((control, len(data))) + data
    return body + bytes((sum(body) & 0xFF, 0x16))


def unwrapped(reply: bytes, *, preamble: int) -> tuple[int, bytes, int, bytes]:
    """Check all that makes a frame whole; return type, address, control code and data."""
    assert reply[:preamble] == b"\xfe" * preamble
    body = reply[preamble:]
    assert (body[0], body[-1]) == (0x68, 0x16)
    assert len(body) == 13 + body[10]
    assert body[10] <= 0x64
    assert sum(body[:-2]) & 0xFF == body[-2]
    return body[1], body[2:9], body[9], body[11:-2]


def published_meter(frame: Mapping[str, Any]) -> Cjt188Meter:
    told = dict(frame["meter"])
    if "heat_layout" in told:
        told["heat_layout"] = HeatLayout(told["heat_layout"])
    heat = "heat" in frame
    values: dict[str, Any] = dict(frame["heat" if heat else "volume"])
    fields: dict[str, Any] = {
        "clock": datetime.fromisoformat(values.pop("clock")) if "clock" in values else None,
        "status": bytes.fromhex(values.pop("status", "0000")),
    }
    if "hours" in values:
        fields["hours"] = int(values.pop("hours"))
    fields |= {name: Fraction(value) for name, value in values.items()}
    readings = HeatReadings(**fields) if heat else VolumeReadings(**fields)
    return Cjt188Meter(
        meter_type=told.pop("meter_type"),
        address=told.pop("address"),
        readings=lambda _now_ms: readings,
        habits=Habits(**told),
    )


def make_meter(
    readings: VolumeReadings | HeatReadings = VOLUMES, *, kind: int | None = None, **habits: Any
) -> Cjt188Meter:
    if kind is None:
        kind = WATER if isinstance(readings, VolumeReadings) else HEAT
    return Cjt188Meter(
        meter_type=kind,
        address=ADDRESS,
        readings=lambda _now_ms: readings,
        habits=Habits(**{"preamble": 0, **habits}),
    )


def ask(meter: Cjt188Meter, data: str = "901f07", *, control: int = 0x01) -> tuple[int, str]:
    request = wrapped(meter.meter_type, WIRE_ADDRESS, control, bytes.fromhex(data))
    kind, address, told, content = unwrapped(
        meter.answer(request, 0), preamble=meter.habits.preamble
    )
    assert (kind, address) == (meter.meter_type, WIRE_ADDRESS)
    return told, content.hex()


@pytest.mark.parametrize("frame", REPLIES, ids=lambda frame: frame["hex"])
def test_published_reply_is_reproduced_byte_for_byte(frame: Mapping[str, Any]) -> None:
    asked = frame["request"]
    expected = bytearray.fromhex(frame["hex"])
    if "checksum" in frame:
        assert expected[-2] != frame["checksum"]
        expected[-2] = frame["checksum"]
    body = bytes(expected).lstrip(b"\xfe")
    request = wrapped(body[1], body[2:9], asked["control"], bytes.fromhex(asked["data"]))
    assert published_meter(frame).answer(request, 0).hex() == expected.hex()


@pytest.mark.parametrize("frame", REQUESTS, ids=lambda frame: frame["hex"])
def test_published_request_is_answered(frame: Mapping[str, Any]) -> None:
    meter = published_meter(frame)
    request = bytes.fromhex(frame["hex"])
    kind, address, control, data = unwrapped(
        meter.answer(request, 0), preamble=meter.habits.preamble
    )
    assert kind == frame["meter"]["meter_type"]
    assert address == bytes.fromhex(frame["meter"]["address"])[::-1]
    assert control == frame["answer"]["control"]
    assert data == bytes.fromhex(frame["answer"]["data"])
    assert meter.writes_seen == ([request] if control == 0xC4 else [])


def test_published_frames_are_all_there() -> None:
    assert len(REPLIES) == 6
    assert len(REQUESTS) == 5
    assert sum("checksum" in frame for frame in FRAMES) == 1


def test_volume_reply_has_the_layout_of_22_bytes() -> None:
    control, data = ask(make_meter())
    assert control == 0x81
    assert bytes.fromhex(data) == (
        b"\x90\x1f"  # identifier
        b"\x07"  # SER
        b"\x78\x56\x34\x12\x2c"  # full steps of 0.01 m3
        b"\x00\x02\x00\x00\x2c"  # settled
        b"\x59\x30\x10\x22\x11\x26\x20"  # ss mm hh DD MM YY CC
        b"\x04\x00"  # status
    )


def test_heat_reply_has_the_layout_of_46_bytes() -> None:
    _, data = ask(make_meter(WARMTH))
    assert bytes.fromhex(data) == (
        b"\x90\x1f"  # identifier
        b"\x07"  # SER
        b"\x00\x00\x10\x00\x05"  # settled heat, kWh
        b"\x50\x25\x10\x00\x05"  # heat
        b"\x50\x21\x00\x00\x17"  # power, kW
        b"\x45\x23\x01\x00\x35"  # flow, m3/h with four decimals
        b"\x00\x30\x75\x00\x2c"  # volume
        b"\x00\x45\x00"  # supply temperature
        b"\x30\x38\x00"  # return temperature
        b"\x21\x54\x00"  # hours
        b"\x59\x30\x10\x22\x11\x26\x20"  # clock
        b"\x00\x00"  # status
    )


def test_heat_reply_of_43_bytes_has_narrow_fields() -> None:
    _, data = ask(make_meter(WARMTH, heat_layout=HeatLayout.OF_43_BYTES))
    assert len(data) == 2 * 43
    assert bytes.fromhex(data)[13:21] == (
        b"\x50\x21\x00\x17"  # power, kW
        b"\x34\x12\x00\x35"  # flow, m3/h with three decimals
    )
    assert bytes.fromhex(data)[26:34] == (
        b"\x00\x45"  # supply temperature
        b"\x30\x38"  # return temperature
        b"\x21\x54\x00\x00"  # hours
    )


def test_unit_byte_can_stand_before_its_number() -> None:
    _, data = ask(make_meter(unit_first=True))
    assert data[6:26] == "2c785634122c00020000"


def test_clock_can_begin_with_the_century() -> None:
    _, data = ask(make_meter(century_first=True))
    assert data[26:40] == "20261122103059"


def test_clock_that_was_never_set_is_sent_as_zeros() -> None:
    _, data = ask(make_meter(VolumeReadings(volume_m3=Fraction(1), status=b"\xff\xff")))
    assert data[26:] == "00" * 7 + "ffff"


@pytest.mark.parametrize(
    ("unit", "digits"),
    [
        (0x02, "00005502"),  # 1,025,500.00 Wh rolls over to 25,500
        (0x05, "50251000"),  # 1,025.50 kWh
        (0x06, "55020100"),  # 102.55 of ten kWh
        (0x07, "25100000"),  # 10.25 of a hundred kWh: full steps
        (0x08, "02010000"),  # 1.02 MWh
        (0x0E, "80913600"),  # 3,691.80 MJ
        (0x11, "69030000"),  # 3.69 GJ
    ],
)
def test_heat_unit_scales_the_number(unit: int, digits: str) -> None:
    _, data = ask(make_meter(WARMTH, heat_unit=unit))
    assert data[16:26] == digits + f"{unit:02x}"


def test_units_are_the_same_energy_in_steps_of_ten() -> None:
    assert UNIT_CODES[0x10] == 100 * UNIT_CODES[0x0E]
    assert 3600 * UNIT_CODES[0x0B] == UNIT_CODES[0x05]  # 3600 kJ are a kWh
    assert UNIT_CODES[0x11] == 10**6 * UNIT_CODES[0x0B]


@pytest.mark.parametrize(
    ("editions", "understood"),
    [
        ((Edition.OF_2004,), ["901f"]),
        ((Edition.OF_2018,), ["1f90"]),
        ((Edition.OF_2004, Edition.OF_2018), ["901f", "1f90"]),
    ],
)
def test_identifier_is_understood_in_the_order_of_the_edition_and_echoed(
    editions: tuple[Edition, ...], understood: list[str]
) -> None:
    meter = make_meter(editions=editions)
    for order in ("901f", "1f90"):
        control, data = ask(meter, order + "2a")
        if order in understood:
            assert control == 0x81
            assert data.startswith(order + "2a")
        else:
            assert (control, data) == (0xC1, "2a0400")


@pytest.mark.parametrize("serial", ["00", "01", "ff"])
def test_serial_number_of_the_exchange_is_echoed(serial: str) -> None:
    assert ask(make_meter(), "901f" + serial)[1][4:6] == serial
    assert ask(make_meter(), "d120" + serial) == (0xC1, serial + "0400")


@pytest.mark.parametrize("order", ["810a", "0a81"])
def test_meter_tells_its_address_to_everybody(order: str) -> None:
    request = wrapped(ANY, ANYBODY, 0x03, bytes.fromhex(order + "05"))
    kind, address, control, data = unwrapped(make_meter().answer(request, 0), preamble=0)
    assert (kind, address, control) == (WATER, WIRE_ADDRESS, 0x83)
    assert data.hex() == order + "05"


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        (HEAT, WIRE_ADDRESS),
        (HEAT, ANYBODY),
        (WATER, b"\x45" + WIRE_ADDRESS[1:]),
        (ANY, b"\x44" + b"\xaa" * 6),  # there are no shortened addresses in this protocol
    ],
)
def test_meter_is_deaf_to_other_types_and_addresses(kind: int, address: bytes) -> None:
    assert make_meter().answer(wrapped(kind, address, 0x01, b"\x90\x1f\x00"), 0) == b""


@pytest.mark.parametrize("control", [0x04, 0x15, 0x16])
def test_write_is_refused_and_remembered(control: int) -> None:
    meter = make_meter()
    request = wrapped(WATER, WIRE_ADDRESS, control, b"\xa0\x17\x09\x99")
    _, _, told, data = unwrapped(meter.answer(request, 0), preamble=0)
    assert told == control | 0xC0
    assert data == b"\x09\x04\x00"
    assert meter.writes_seen == [request]
    assert not is_read(request)


def test_unknown_read_and_wrong_length_are_refused_but_no_writes() -> None:
    meter = make_meter()
    assert ask(meter, "810a07", control=0x09) == (0xC9, "070400")
    assert ask(meter, "901f") == (0xC1, "000400")
    assert meter.writes_seen == []


def test_reply_of_a_meter_is_not_taken_for_a_request() -> None:
    meter = make_meter()
    for control in range(0x80, 0x100):
        assert meter.answer(wrapped(WATER, WIRE_ADDRESS, control, b"\x90\x1f\x00"), 0) == b""
    assert meter.writes_seen == []


@pytest.mark.parametrize("preamble", [-1, 5])
def test_preamble_has_at_most_four_bytes(preamble: int) -> None:
    with pytest.raises(ValueError, match="0 to 4"):
        make_meter(preamble=preamble)


@given(
    readings=st.builds(
        VolumeReadings, volume_m3=st.fractions(0, 10**9), settled_m3=st.fractions(0, 10**9)
    )
    | st.builds(
        HeatReadings,
        heat_kwh=st.fractions(0, 10**9),
        power_kw=st.fractions(0, 10**9),
        flow_m3h=st.fractions(0, 10**9),
        supply_c=st.fractions(0, 200),
        hours=st.integers(0, 999_999),
    ),
    preamble=st.integers(0, 4),
    unit_first=st.booleans(),
    heat_layout=st.sampled_from(HeatLayout),
    called=st.sampled_from([(ANY, ANYBODY), (WATER, WIRE_ADDRESS), (HEAT, WIRE_ADDRESS)]),
    control=st.sampled_from([0x01, 0x03]) | st.integers(0, 0x7F),
    data=st.sampled_from([b"\x90\x1f\x00", b"\x1f\x90\xff", b"\x81\x0a\x01"])
    | st.binary(max_size=8),
)
def test_every_reply_is_whole(
    readings: VolumeReadings | HeatReadings,
    preamble: int,
    unit_first: bool,
    heat_layout: HeatLayout,
    called: tuple[int, bytes],
    control: int,
    data: bytes,
) -> None:
    meter = make_meter(readings, preamble=preamble, unit_first=unit_first, heat_layout=heat_layout)
    reply = meter.answer(wrapped(*called, control, data), 0)
    assert bool(reply) == (called[0] in (ANY, meter.meter_type))
    if reply:
        kind, address, told, _ = unwrapped(reply, preamble=preamble)
        assert (kind, address) == (meter.meter_type, WIRE_ADDRESS)
        assert told in (control | 0x80, control | 0xC0)


@given(at=st.integers(0, 15), flip=st.integers(1, 255))
def test_damaged_request_gets_no_answer(at: int, flip: int) -> None:
    damaged = bytearray(wrapped(WATER, WIRE_ADDRESS, 0x01, b"\x90\x1f\x00"))
    damaged[at] ^= flip
    assert make_meter().answer(bytes(damaged), 0) == b""


@given(cut=st.integers(0, 15), added=st.binary(min_size=1, max_size=3))
def test_short_and_long_requests_get_no_answer(cut: int, added: bytes) -> None:
    frame = wrapped(WATER, WIRE_ADDRESS, 0x01, b"\x90\x1f\x00")
    assert make_meter().answer(frame[:cut], 0) == b""
    assert make_meter().answer(frame + added, 0) == b""


@pytest.mark.parametrize("at", [0, 10])
def test_wrong_start_or_length_with_a_right_sum_gets_no_answer(at: int) -> None:
    damaged = bytearray(wrapped(WATER, WIRE_ADDRESS, 0x01, b"\x90\x1f\x00"))
    damaged[at] -= 1
    damaged[-2] = sum(damaged[:-2]) & 0xFF
    assert make_meter().answer(bytes(damaged), 0) == b""
