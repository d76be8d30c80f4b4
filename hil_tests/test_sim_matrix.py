"""The fault matrix: what the agent's serial bus makes of every fault the line can do.

None may be accepted but where the checksum is right. A reply is late by up to three seconds; the
bus states to guard against four.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from edgeagg_agent.bus.port import line_loop
from edgeagg_agent.bus.serial import SerialBus
from hil_tests.fault_matrix import NAME, strike
from hil_tests.sim.kinds import KINDS
from hil_tests.sim.line import Line

TIMES: dict[str, dict[str, float]] = {
    "unplug": {"from_s": 0.2, "for_s": 0.3},
    "brown_out": {"from_s": 0.2, "for_s": 0.2},
    "echo": {},
}


def play(kind: str, folder: Path, *, late_ms: int, for_s: float, spare: int = 4) -> Counter[str]:
    parameters = TIMES.get(kind, {"probability": 0.3})
    if kind == "late":
        parameters = {**parameters, "ms": late_ms}
    with asyncio.Runner(loop_factory=line_loop) as runner:
        return runner.run(
            strike(
                kind,
                parameters,
                lambda terms: Line(NAME, folder / NAME, **terms),
                lambda line: SerialBus(name=NAME, port=str(line.link)),
                for_s=for_s,
                spare=spare,
            )
        )


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "late_ms"),
    [(kind, 0) for kind in KINDS if kind != "late"]
    + [("late", ms) for ms in (160, 300, 350, 600, 700, 1500, 3000)],
)
def test_no_fault_that_can_be_told_becomes_a_value(tmp_path: Path, kind: str, late_ms: int) -> None:
    seen = play(kind, tmp_path, late_ms=late_ms, for_s=1.5 + late_ms / 800)
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
    seen = play("late", tmp_path, late_ms=late_ms, for_s=6, spare=0)
    assert seen["good"] > 0
    assert seen["wrong"] == 0
