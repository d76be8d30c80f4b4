"""The fault matrix: what the agent's serial bus makes of every fault the line can do.

Registers hold their own address, and requests of one length go to changing addresses, so that a
reply taken for another's is a wrong value. None may be accepted but where the checksum is right.
A reply is late by at most what the bus states to guard against: half a second behind its deadline.
"""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from edgeagg.errors import EdgeaggError
from edgeagg_agent.bus import ReadRequest
from edgeagg_agent.bus.serial import SerialBus
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


def words(start: int) -> tuple[int, ...]:
    return tuple((start + place) * 257 & 0xFFFF for place in range(REGISTERS))


async def answer(frame: bytes) -> bytes:
    body = Rtu().unwrap(frame)
    if not body:
        return b""
    start = int.from_bytes(body[2:4], "big")
    data = b"".join(word.to_bytes(2, "big") for word in words(start))
    return Rtu().wrap(body[:2] + bytes((len(data),)) + data)


def precise_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def play(kind: str, tmp_path: Path, *, late_ms: int, for_s: float) -> Counter[str]:
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
        bus = SerialBus(name="bus1", port=str(line.link), baud=115200, format="8N1")
        for number in range(10_000):
            if loop.time() > begun_s + for_s and seen["good"]:
                break
            assert loop.time() < begun_s + 10, seen
            request = ReadRequest(unit=1, function=3, start=10 * (number % 7), count=REGISTERS)
            try:
                reply = await bus.read(request)
            except EdgeaggError:
                seen["error"] += 1
                await asyncio.sleep(0.01)
            else:
                seen["good" if reply.words == words(request.start) else "wrong"] += 1
        await bus.close()
        task.cancel()
        await asyncio.wait([task])
    assert faults.struck[kind] > 0
    assert line.gap_violations == 0
    return seen


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "late_ms"),
    [(kind, 0) for kind in KINDS if kind != "late"] + [("late", ms) for ms in (160, 350, 600)],
)
def test_no_fault_that_can_be_told_becomes_a_value(tmp_path: Path, kind: str, late_ms: int) -> None:
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        seen = runner.run(play(kind, tmp_path, late_ms=late_ms, for_s=1.5))
    assert seen["good"] > 0
    if kind == "bit_error_good_crc":  # the bench's own canary: the matrix can tell a wrong value
        assert seen["wrong"] > 0
    else:
        assert seen["wrong"] == 0
