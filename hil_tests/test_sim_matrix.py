"""The fault matrix: what the agent's serial bus makes of every fault the line can do.

Registers hold their own address, and requests of one length go to changing addresses, so that a
reply taken for another's is a wrong value. None may be accepted but where the checksum is right.
A reply is late by up to three seconds; the bus states to guard against four.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from edgeagg.errors import EdgeaggError
from edgeagg_agent.bus import LineSettings, ReadRequest
from edgeagg_agent.bus.port import line_loop
from edgeagg_agent.bus.serial import SerialBus
from edgeagg_agent.protocol.modbus import RtuQuestion, words_of
from hil_tests.sim.faults import LineFaults, parse_faults
from hil_tests.sim.framing import Rtu
from hil_tests.sim.kinds import KINDS
from hil_tests.sim.line import Line, Options

REGISTERS = 10
TIMES = {
    "unplug": {"from_s": 0.2, "for_s": 0.3},
    "brown_out": {"from_s": 0.2, "for_s": 0.2},
    "echo": {},
}


SETTINGS = LineSettings(115200, "8N1")


def words(start: int, count: int = REGISTERS) -> tuple[int, ...]:
    return tuple((start + place) * 257 & 0xFFFF for place in range(count))


async def answer(frame: bytes) -> bytes:
    body = Rtu().unwrap(frame)
    if not body:
        return b""
    start, count = (int.from_bytes(body[place : place + 2], "big") for place in (2, 4))
    data = b"".join(word.to_bytes(2, "big") for word in words(start, count))
    return Rtu().wrap(body[:2] + bytes((len(data),)) + data)


async def play(
    kind: str, tmp_path: Path, *, late_ms: int, for_s: float, spare: int = 4
) -> Counter[str]:
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    fault: dict[str, object] = {"line": "bus1", "kind": kind}
    fault |= TIMES.get(kind, {"probability": 0.3})
    if kind == "late":
        fault["ms"] = late_ms
    faults = LineFaults(
        parse_faults([fault], where="matrix"),
        line="bus1",
        units={"meter": 1},
        framing=Rtu(),
        start_ms=0,
        now_ms=lambda: round((loop.time() - begun_s) * 1000),
        seed=7,
    )
    line = Line(
        "bus1",
        tmp_path / "bus1",
        baud=115200,
        format="8N1",
        turnaround_ms=(3, 6),
        rng=Random(1),
        answer=answer,
        options=Options(faults=faults),
    )
    seen: Counter[str] = Counter()
    with line:
        task = asyncio.create_task(line.serve())
        bus = SerialBus(name="bus1", port=str(line.link))
        for number in range(10_000):
            if loop.time() > begun_s + for_s and seen["good"]:
                break
            assert loop.time() < begun_s + for_s + 10, seen
            request = ReadRequest(unit=1, function=3, start=10 * (number % 7), count=REGISTERS)
            try:
                reply = await bus.exchange(RtuQuestion(request, spare=spare), SETTINGS)
            except EdgeaggError:
                seen["error"] += 1
                await asyncio.sleep(0.01)
            else:
                is_right = words_of(reply.payload) == words(request.start)
                seen["good" if is_right else "wrong"] += 1
        await bus.close()
        task.cancel()
        await asyncio.wait([task])
    assert faults.struck[kind] > 0
    assert line.gap_violations == 0
    assert not line.writes_seen
    return seen


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "late_ms"),
    [(kind, 0) for kind in KINDS if kind != "late"]
    + [("late", ms) for ms in (160, 300, 350, 600, 700, 1500, 3000)],
)
def test_no_fault_that_can_be_told_becomes_a_value(tmp_path: Path, kind: str, late_ms: int) -> None:
    with asyncio.Runner(loop_factory=line_loop) as runner:
        seen = runner.run(play(kind, tmp_path, late_ms=late_ms, for_s=1.5 + late_ms / 800))
    assert seen["good"] > 0
    if kind == "bit_error_good_crc":  # the bench's own canary: the matrix can tell a wrong value
        assert seen["wrong"] > 0
    else:
        assert seen["wrong"] == 0


@pytest.mark.long
@pytest.mark.parametrize("late_ms", [700, 3000])
def test_a_meter_that_can_be_asked_in_one_shape_only_is_held_back(
    tmp_path: Path, late_ms: int
) -> None:
    with asyncio.Runner(loop_factory=line_loop) as runner:
        seen = runner.run(play("late", tmp_path, late_ms=late_ms, for_s=6, spare=0))
    assert seen["good"] > 0
    assert seen["wrong"] == 0
