"""One kind of fault on one line: what the agent's bus makes of it.

Registers hold their own address, and requests of one length go to changing addresses, so that a
reply taken for another's is a wrong value. Owns the meter and the asking; the line and the bus are
the caller's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import TypeVar

from edgeagg.errors import EdgeaggError
from edgeagg_agent.bus import Bus, LineSettings, ReadRequest
from edgeagg_agent.protocol.modbus import RtuQuestion, words_of
from hil_tests.sim.faults import LineFaults, parse_faults
from hil_tests.sim.framing import Rtu
from hil_tests.sim.line import Options, Terms, Wire

BAUD = 115200
FORMAT = "8N1"
NAME = "bus1"

LineT = TypeVar("LineT", bound=Wire)

_SETTINGS = LineSettings(BAUD, FORMAT)
_REGISTERS = 10
_MARGIN_S = 10  # for the first good answer, on a machine with other work


async def strike(
    kind: str,
    parameters: dict[str, float],
    make_line: Callable[[Terms], LineT],
    make_bus: Callable[[LineT], Bus],
    *,
    for_s: float,
    spare: int = 4,
) -> Counter[str]:
    """Ask over a line with this fault until `for_s` is over and one answer was good.

    Return how many answers were good, wrong and errors. Fails when the fault never struck, or the
    bus broke the silence between frames or wrote.
    """
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    faults = LineFaults(
        parse_faults([{"line": NAME, "kind": kind, **parameters}], where="matrix"),
        line=NAME,
        units={"meter": 1},
        framing=Rtu(),
        start_ms=0,
        now_ms=lambda: round((loop.time() - begun_s) * 1000),
        seed=7,
    )
    line = make_line(
        Terms(
            baud=BAUD,
            format=FORMAT,
            turnaround_ms=(3, 6),
            rng=Random(1),
            answer=_answer,
            options=Options(faults=faults),
        )
    )
    seen: Counter[str] = Counter()
    with line:
        task = asyncio.create_task(line.serve())
        bus = make_bus(line)
        number = 0
        while loop.time() <= begun_s + for_s or not seen["good"]:
            assert loop.time() < begun_s + for_s + _MARGIN_S, seen
            seen[await _ask(bus, start=10 * (number % 7), spare=spare)] += 1
            number += 1
        await bus.close()
        task.cancel()
        await asyncio.wait([task])
    assert faults.struck[kind] > 0
    assert line.gap_violations == 0
    assert not line.writes_seen
    return seen


async def _ask(bus: Bus, *, start: int, spare: int) -> str:
    request = ReadRequest(unit=1, function=3, start=start, count=_REGISTERS)
    try:
        reply = await bus.exchange(RtuQuestion(request, spare=spare), _SETTINGS)
    except EdgeaggError:
        await asyncio.sleep(0.01)
        return "error"
    return "good" if words_of(reply.payload) == _words(start, _REGISTERS) else "wrong"


def _words(start: int, count: int) -> tuple[int, ...]:
    return tuple((start + place) * 257 & 0xFFFF for place in range(count))


async def _answer(frame: bytes) -> bytes:
    body = Rtu().unwrap(frame)
    if not body:
        return b""
    start, count = (int.from_bytes(body[place : place + 2], "big") for place in (2, 4))
    data = b"".join(word.to_bytes(2, "big") for word in _words(start, count))
    return Rtu().wrap(body[:2] + bytes((len(data),)) + data)
