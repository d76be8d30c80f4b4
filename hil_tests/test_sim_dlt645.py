"""The bench's DL/T 645 meters send what real ones were seen to send, and answer only whole frames.

Published frames are data in frames/dlt645.toml. The tests wrap and unwrap frames on their own.
"""

from __future__ import annotations

import asyncio
import os
import tomllib
import tty
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil_tests.dlt645_asking import (
    ANYBODY,
    EVERYBODY,
    NOON,
    VALUES,
    WIRE_ADDRESS,
    fractions,
    make_meter,
    unwrapped,
    wrapped,
)
from hil_tests.sim.dlt645 import Dlt645Meter, Generation, Habits
from hil_tests.sim.dlt645_items import Identity, Readings
from hil_tests.sim.line import Direction, Line
from hil_tests.sim.mixed import answering, is_read

if TYPE_CHECKING:
    from collections.abc import Mapping

FRAMES = tomllib.loads(
    (Path(__file__).parent / "frames" / "dlt645.toml").read_text(encoding="utf-8")
)["frame"]
REPLIES = [frame for frame in FRAMES if frame["direction"] == "reply" and frame["request"]]
REQUESTS = [frame for frame in FRAMES if frame["direction"] == "request"]


def published_meter(frame: Mapping[str, Any]) -> Dlt645Meter:
    told = dict(frame["meter"])
    readings = Readings(
        clock=datetime.fromisoformat(told.pop("clock", NOON.isoformat())),
        now=fractions(frame["readings"]),
        peaked={name: datetime.fromisoformat(at) for name, at in frame.get("peaked", {}).items()},
    )
    identity = {key: told.pop(key) for key in ("blocks", "pulses_per_kwh") if key in told}
    return Dlt645Meter(
        Identity(address=told.pop("address"), **identity),
        readings=lambda _now_ms: readings,
        habits=Habits(generation=Generation(told.pop("generation")), **told),
    )


@pytest.mark.parametrize("frame", REPLIES, ids=lambda frame: frame["hex"])
def test_published_reply_is_reproduced_byte_for_byte(frame: Mapping[str, Any]) -> None:
    asked = frame["request"]
    expected = bytearray.fromhex(frame["hex"])
    if "checksum" in frame:
        assert expected[-2] != frame["checksum"]
        expected[-2] = frame["checksum"]
    address = ANYBODY if asked["control"] == 0x13 else bytes(expected).lstrip(b"\xfe")[1:7]
    request = wrapped(address, asked["control"], bytes.fromhex(asked["data"]))
    assert published_meter(frame).answer(request, 0).hex() == expected.hex()


@pytest.mark.parametrize("frame", REQUESTS, ids=lambda frame: frame["hex"])
def test_published_request_is_answered(frame: Mapping[str, Any]) -> None:
    meter = published_meter(frame)
    reply = meter.answer(bytes.fromhex(frame["hex"]), 0)
    if not frame["answer"]:
        assert reply == b""
        return
    address, control, data = unwrapped(reply, preamble=0)
    assert address == bytes.fromhex(frame["meter"]["address"])[::-1]
    assert control == frame["answer"]["control"]
    assert data == bytes.fromhex(frame["answer"]["data"])
    assert meter.writes_seen == []


def test_published_frames_are_all_there() -> None:
    assert len(FRAMES) == 50
    assert len(REPLIES) == 35
    assert len(REQUESTS) == 14
    assert sum("checksum" in frame for frame in FRAMES) == 2


@pytest.mark.parametrize("preamble", [0, 1, 4])
def test_meter_sends_its_own_preamble_whatever_it_was_asked_with(preamble: int) -> None:
    meter = make_meter(preamble=preamble)
    for asked_with in (0, 4, 9):
        request = b"\xfe" * asked_with + wrapped(ANYBODY, 0x13, b"")
        address, control, data = unwrapped(meter.answer(request, 0), preamble=preamble)
        assert (address, control, data) == (WIRE_ADDRESS, 0x93, WIRE_ADDRESS)


@pytest.mark.parametrize("known", range(7))
def test_shortened_address_is_answered_with_the_whole_one(known: int) -> None:
    called = WIRE_ADDRESS[:known] + b"\xaa" * (6 - known)
    reply = make_meter().answer(wrapped(called, 0x11, b"\x00\x00\x01\x00"), 0)
    assert unwrapped(reply, preamble=0)[:2] == (WIRE_ADDRESS, 0x91)


@pytest.mark.parametrize(
    "called",
    [
        b"\x08\x00\x22\x11\x26\x20",
        b"\x08" + b"\xaa" * 5,
        b"\xaa" * 5 + b"\x20",  # a wildcard stands in high bytes only
        b"\xaa" * 5 + b"\x07",
        EVERYBODY,
    ],
)
def test_meter_is_deaf_to_other_addresses(called: bytes) -> None:
    meter = make_meter()
    for control, data in ((0x11, b"\x00\x00\x01\x00"), (0x13, b"")):
        assert meter.answer(wrapped(called, control, data), 0) == b""


def test_meters_of_1997_have_no_read_address_command() -> None:
    meter = make_meter(generation=Generation.OF_1997)
    assert meter.answer(wrapped(ANYBODY, 0x13, b""), 0) == b""


def test_generations_do_not_know_each_others_reads() -> None:
    asked = wrapped(WIRE_ADDRESS, 0x01, b"\x10\x90")
    assert make_meter().answer(asked, 0) == b""
    asked = wrapped(WIRE_ADDRESS, 0x11, b"\x00\x00\x01\x00")
    assert make_meter(generation=Generation.OF_1997).answer(asked, 0) == b""


@pytest.mark.parametrize("control", [0x03, *range(0x14, 0x1E)])
def test_write_is_refused_and_remembered(control: int) -> None:
    meter = make_meter()
    request = wrapped(WIRE_ADDRESS, control, b"\x00" * 8)
    reply = meter.answer(request, 0)
    assert unwrapped(reply, preamble=0) == (WIRE_ADDRESS, control | 0xC0, b"\x04")
    assert meter.writes_seen == [request]
    assert not is_read(request)


def test_broadcast_time_is_remembered_and_not_answered() -> None:
    for called in (EVERYBODY, WIRE_ADDRESS):
        meter = make_meter()
        assert meter.answer(wrapped(called, 0x08, b"\x00" * 6), 0) == b""
        assert len(meter.writes_seen) == 1


def test_broadcast_freeze_is_remembered_and_not_answered() -> None:
    meter = make_meter()
    assert meter.answer(wrapped(EVERYBODY, 0x16, b"\x99" * 4), 0) == b""
    assert len(meter.writes_seen) == 1


def test_reply_of_a_meter_is_not_taken_for_a_request() -> None:
    meter = make_meter()
    for control in range(0x80, 0x100):
        assert meter.answer(wrapped(WIRE_ADDRESS, control, b"\x00\x00\x01\x00"), 0) == b""
    assert meter.writes_seen == []


@pytest.mark.parametrize("preamble", [-1, 5])
def test_preamble_has_at_most_four_bytes(preamble: int) -> None:
    with pytest.raises(ValueError, match="0 to 4"):
        make_meter(preamble=preamble)


@pytest.mark.parametrize("address", ["12345", "1234567890ab", "１２３４５６７８９０１２"])
def test_address_has_twelve_digits(address: str) -> None:
    with pytest.raises(ValueError, match="12 digits"):
        make_meter(identity=Identity(address=address))


CONTROLS = st.sampled_from([0x01, 0x02, 0x11, 0x12, 0x13, 0x14, 0x1C]) | st.integers(0, 0x7F)
CALLED = st.sampled_from([WIRE_ADDRESS, ANYBODY, EVERYBODY])
KNOWN_DIS = [b"\x00\xff\x01\x00", b"\x00\xff\x03\x02", b"\x10\x90", b"\x1f\x90", b"\x30\xb6", b""]
DATA = st.sampled_from(KNOWN_DIS) | st.binary(max_size=8)


@given(
    generation=st.sampled_from(Generation),
    preamble=st.integers(0, 4),
    called=CALLED,
    control=CONTROLS,
    data=DATA,
    power=st.fractions(-(10**9), 10**9),
)
def test_every_reply_is_whole(
    generation: Generation, preamble: int, called: bytes, control: int, data: bytes, power: Fraction
) -> None:
    values = {**VALUES, "active_power_total": str(power), "active_energy_sum": str(power)}
    meter = make_meter(values, generation=generation, preamble=preamble)
    reply = meter.answer(wrapped(called, control, data), 0)
    if reply:
        address, told, _ = unwrapped(reply, preamble=preamble)
        assert address == WIRE_ADDRESS
        assert told & 0x80
        assert told & 0x1F == control & 0x1F


@given(
    at=st.integers(0, 15),
    flip=st.integers(1, 255),
    frame=st.sampled_from(
        [wrapped(WIRE_ADDRESS, 0x11, b"\x00\x00\x01\x00"), wrapped(ANYBODY, 0x13, b"\x00" * 4)]
    ),
)
def test_damaged_request_gets_no_answer(at: int, flip: int, frame: bytes) -> None:
    damaged = bytearray(frame)
    damaged[at] ^= flip
    assert make_meter().answer(bytes(damaged), 0) == b""


@given(cut=st.integers(0, 15), added=st.binary(min_size=1, max_size=3))
def test_short_and_long_requests_get_no_answer(cut: int, added: bytes) -> None:
    frame = wrapped(WIRE_ADDRESS, 0x11, b"\x00\x00\x01\x00")
    assert make_meter().answer(frame[:cut], 0) == b""
    assert make_meter().answer(frame + added, 0) == b""


@pytest.mark.parametrize("at", [0, 7, 9])
def test_wrong_start_or_length_with_a_right_sum_gets_no_answer(at: int) -> None:
    damaged = bytearray(wrapped(WIRE_ADDRESS, 0x11, b"\x00\x00\x01\x00"))
    damaged[at] -= 1
    damaged[-2] = sum(damaged[:-2]) & 0xFF
    assert make_meter().answer(bytes(damaged), 0) == b""


def test_noise_before_a_request_spoils_it() -> None:
    assert make_meter().answer(b"\x00" + wrapped(ANYBODY, 0x13, b""), 0) == b""


async def test_meter_answers_on_a_line_at_its_wire_time(tmp_path: Path) -> None:
    line = Line(
        "bus1",
        tmp_path / "bus1",
        baud=9600,
        format="8E1",
        turnaround_ms=(20, 20),
        rng=Random(1),
        answer=answering(make_meter(preamble=4), lambda: 0),
    )
    request = b"\xfe" * 4 + wrapped(WIRE_ADDRESS, 0x11, b"\x00\x00\x01\x00")
    with line:
        serving = asyncio.create_task(line.serve())
        port = os.open(line.link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(port)
        os.write(port, request)
        async with asyncio.timeout(1):
            while len(line.log) < 2:  # noqa: ASYNC110 - the log wakes nobody
                await asyncio.sleep(0.005)
        reply = os.read(port, 64)
        serving.cancel()
        await asyncio.wait([serving])
        os.close(port)
    assert unwrapped(reply, preamble=4)[1:] == (0x91, bytes.fromhex("00000100 78563412"))
    asked, told = line.log
    assert (asked.direction, told.direction) == (Direction.REQUEST, Direction.REPLY)
    # 20 + 24 characters of 11 bits, T3.5 and the turnaround between them
    char_us = 11 / 9600 * 1_000_000
    assert told.end_us - asked.start_us == pytest.approx(
        (20 + 24 + 3.5) * char_us + 20_000, rel=0.01, abs=3000
    )
