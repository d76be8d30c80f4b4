"""The line behind a serial server: the fault matrix over TCP, at the wire time of the line."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest

from edgeagg.errors import EdgeaggError
from edgeagg_agent.bus import LineSettings, ReadRequest
from edgeagg_agent.bus.port import line_loop
from edgeagg_agent.bus.stream import StreamBus
from edgeagg_agent.protocol.modbus import RtuQuestion, words_of
from hil_tests.sim.faults import LineFaults, parse_faults
from hil_tests.sim.framing import Rtu
from hil_tests.sim.line import Options, TcpLine
from hil_tests.test_sim_matrix import REGISTERS, answer, words

SETTINGS = LineSettings(115200, "8N1")


async def play(kind: str, *, for_s: float, **parameters: float) -> Counter[str]:
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    fault: dict[str, object] = {"line": "bus1", "kind": kind, **parameters}
    faults = LineFaults(
        parse_faults([fault], where="matrix"),
        line="bus1",
        units={"meter": 1},
        framing=Rtu(),
        start_ms=0,
        now_ms=lambda: round((loop.time() - begun_s) * 1000),
        seed=7,
    )
    line = TcpLine(
        "bus1",
        0,
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
        bus = StreamBus(name="bus1", host="127.0.0.1", port=line.port, baud=115200, format="8N1")
        number = 0
        while loop.time() < begun_s + for_s:
            number += 1
            request = ReadRequest(unit=1, function=3, start=10 * (number % 7), count=REGISTERS)
            try:
                reply = await bus.exchange(RtuQuestion(request, spare=4), SETTINGS)
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
    ("kind", "parameters"),
    [
        ("noise_before", {"probability": 0.3}),
        ("stale", {"probability": 0.3}),
        ("split", {"probability": 0.3}),
        ("truncated", {"probability": 0.3}),
        ("wrong_unit", {"probability": 0.3}),
        ("late", {"probability": 0.2, "ms": 700}),
        ("echo", {}),
    ],
)
def test_no_fault_through_a_serial_server_becomes_a_value(
    kind: str, parameters: dict[str, float]
) -> None:
    with asyncio.Runner(loop_factory=line_loop) as runner:
        seen = runner.run(play(kind, for_s=2, **parameters))
    assert seen["good"] > 5
    assert seen["wrong"] == 0
