"""The line behind a serial server: the fault matrix over TCP, at the wire time of the line."""

from __future__ import annotations

import asyncio

import pytest

from edgeagg_agent.bus.port import line_loop
from edgeagg_agent.bus.stream import StreamBus
from hil_tests.fault_matrix import BAUD, FORMAT, NAME, strike
from hil_tests.sim.line import TcpLine


def bus_to(line: TcpLine) -> StreamBus:
    return StreamBus(name=NAME, host="127.0.0.1", port=line.port, baud=BAUD, format=FORMAT)


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
        seen = runner.run(
            strike(kind, parameters, lambda terms: TcpLine(NAME, 0, **terms), bus_to, for_s=2)
        )
    assert seen["good"] > 5
    assert seen["wrong"] == 0
