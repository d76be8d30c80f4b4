"""The line engine on a line in memory: no faulted transaction yields a wrong value.

`python -m hil_tests.virtual.wire` plays a million of them.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from edgeagg_agent.protocol import Found
from edgeagg_agent.protocol.modbus import RtuQuestion
from hil_tests.virtual.wire import CHAR_S, MemoryWire, Run, WireClock, table
from hil_tests.virtual.wire_faults import FAULTS, Reply, crc_of, shape_reply

HANDOVERS = ("fifo", "byte", "tick")
SHARE = 6_700  # of 20,000 transactions


@pytest.mark.long
@pytest.mark.parametrize("handover", HANDOVERS)
def test_no_faulted_transaction_yields_a_wrong_value(handover: str) -> None:
    run = Run(20_261_122, handover=handover)
    run.play(SHARE)
    assert run.wrong == 0, table([run])
    good, whole = run.recovered()
    assert good >= 0.99 * whole > 1000
    assert run.wire.writes == 0
    assert run.bus.stats.late_replies > 100
    assert run.bus.stats.doubles > 100


@pytest.mark.parametrize("handover", HANDOVERS)
def test_faulted_transactions_reproduce_from_their_seed(handover: str) -> None:
    first, second = Run(7, handover=handover), Run(7, handover=handover)
    first.play(250)
    second.play(250)
    assert first.wrong == second.wrong == 0
    assert first.tallies == second.tallies
    assert first.clock.now_s() == second.clock.now_s()


def _any_frame_with_a_good_crc(_question: RtuQuestion, buffer: bytes | bytearray) -> Found | None:
    for start in range(len(buffer) - 5):
        end = start + 5 + buffer[start + 2]
        frame = bytes(buffer[start:end])
        if len(frame) == end - start and crc_of(frame[:-2]) == frame[-2:]:
            return Found(start, end, frame)
    return None


@pytest.mark.parametrize("fault", ["short", "wrong unit", "wrong function"])
def test_canary_without_the_reply_check_values_are_wrong(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RtuQuestion, "find", _any_frame_with_a_good_crc)
    run = Run(1, handover="fifo", faults=(fault,))
    run.play(200)
    assert run.wrong > 100


def test_canary_without_the_guard_late_replies_become_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgeagg_agent.bus.doubt.GUARD_MAX_S", 0.0)
    monkeypatch.setattr(RtuQuestion, "reshaped", lambda _question, _taken: None)
    run = Run(1, handover="byte", faults=("late", "silent", "clean"))
    run.play(600)
    assert run.wrong > 0


def test_canary_without_the_hold_a_stale_reply_becomes_a_value() -> None:
    run = Run(1, handover="byte", faults=("stale in front",))
    run.bus._paces[run.settings] = replace(run.pace, hold_s=0.0)
    run.play(500)
    assert run.wrong > 0


@pytest.mark.parametrize("fault", FAULTS)
def test_no_injury_makes_another_valid_reply(fault: str) -> None:
    rng = Random(1)
    head = b"\x01\x03\x08"
    frame, before = (head + data + crc_of(head + data) for data in (b"12345678", b"abcdefgh"))
    request = b"\x01\x03\x00\x64\x00\x04"
    reply = Reply(request + crc_of(request), frame, before)
    for _ in range(200):
        pieces, _redrawn = shape_reply(fault, reply, rng)
        stream = b"".join(data for _, data in pieces)
        whole = [
            stream[n : n + len(frame)] for n in range(len(stream)) if stream[n : n + 3] == head
        ]
        valid = [one for one in whole if crc_of(one[:-2]) == one[-2:]]
        assert set(valid) <= {frame, before}


def test_a_port_always_hands_over_a_byte_and_never_before_it_has_come() -> None:
    rng = Random(5)
    for handover in HANDOVERS:
        wire = MemoryWire(WireClock(), rng, handover=handover)
        for _ in range(2000):
            begin_s = round(rng.uniform(0, 1e6), 3)  # on a tick, but for the rounding
            wire._queue[:] = [(begin_s + n * CHAR_S, n) for n in range(12)]
            count, at_s = wire._piece()
            assert 1 <= count <= 12
            assert at_s >= wire._queue[count - 1][0]
