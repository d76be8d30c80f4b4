"""The line engine's times, exact: silences, deadlines, reopening."""

import asyncio
import itertools

import pytest

from agent.tests.fake_line import (
    CHAR_S,
    FIRST,
    OTHER_ADDRESS,
    OTHER_UNIT,
    REQUEST_S,
    SILENT,
    T35_S,
    clean,
    outcome,
    play,
    refusal,
    reply,
    values,
)
from edgeagg.errors import FrameError, LinkError, RefusedError
from edgeagg_agent.bus import ReadRequest

CLOCK_S = 1e-9  # adding up floating-point seconds


def test_the_silence_before_a_request_is_kept_and_not_much_longer():
    async def work(bus, line):
        gaps = []
        for request in (FIRST, OTHER_ADDRESS, OTHER_UNIT):
            await bus.read(request)
            quiet_since_s = line.last_byte_s
            await bus.read(request)
            gaps.append(line.requests[-1][0] - quiet_since_s)
        return gaps

    for gap_s in play(clean, work):
        assert T35_S - CLOCK_S <= gap_s < T35_S + CHAR_S


def test_a_meter_that_needs_a_longer_silence_gets_it_and_others_do_not_wait():
    async def work(bus, line):
        await bus.read(FIRST)
        before_other_s = line.last_byte_s
        await bus.read(OTHER_UNIT)
        before_same_s = line.last_byte_s
        await bus.read(FIRST)
        return line.requests[1][0] - before_other_s, line.requests[2][0] - before_same_s

    other_s, same_s = play(clean, work, request_gaps_ms={1: 100})
    assert other_s < 0.01
    assert 0.1 <= same_s < 0.1 + CHAR_S


def test_a_spike_behind_every_reply_costs_two_silences_at_most():
    def script(_number, request):
        return [(0.02, reply(request) + b"\x00")]

    async def work(bus, line):
        await bus.read(FIRST)
        quiet_since_s = line.last_byte_s
        await bus.read(FIRST)
        return line.requests[1][0] - quiet_since_s

    assert play(script, work) < 2 * T35_S + CHAR_S


def test_a_line_that_is_never_silent_is_a_bad_frame_in_bounded_time():
    async def work(bus, line):
        await bus.read(FIRST)
        line.send(asyncio.get_running_loop().time(), b"\xaa" * 3000)
        await asyncio.sleep(2 * CHAR_S)
        begin_s = asyncio.get_running_loop().time()
        return await outcome(bus, FIRST), asyncio.get_running_loop().time() - begin_s

    result, took_s = play(clean, work)
    assert isinstance(result, FrameError)
    assert "never silent" in str(result)
    assert took_s < 0.7


def test_a_dead_meter_costs_its_turnaround_limit_and_the_wire_time():
    async def work(bus, _line):
        begin_s = asyncio.get_running_loop().time()
        result = await outcome(bus, FIRST)
        return result, asyncio.get_running_loop().time() - begin_s, bus.stats.busy_s

    result, took_s, busy_s = play(lambda *_: SILENT, work, turnaround_max_ms=50)
    assert isinstance(result, LinkError)
    wire_s = REQUEST_S + 25 * CHAR_S
    assert took_s == pytest.approx(wire_s + 0.05, abs=0.022)
    assert busy_s == pytest.approx(wire_s + 0.05, abs=0.022)


def test_a_refusal_of_a_long_read_does_not_wait_for_the_deadline():
    long = ReadRequest(unit=1, function=4, start=0, count=125)

    async def work(bus, _line):
        begin_s = asyncio.get_running_loop().time()
        result = await outcome(bus, long)
        return result, asyncio.get_running_loop().time() - begin_s

    result, took_s = play(lambda _n, r: [(0.02, refusal(r, 2))], work, turnaround_max_ms=400)
    assert isinstance(result, RefusedError)
    assert took_s < REQUEST_S + T35_S * 3 + 255 * CHAR_S + 0.001


def test_the_tty_is_not_watched_while_a_long_reply_comes_in_byte_by_byte():
    long = ReadRequest(unit=1, function=4, start=0, count=125)

    async def work(bus, _line):
        await bus.read(long)
        before = asyncio.get_running_loop().watched
        await bus.read(long)
        return asyncio.get_running_loop().watched - before

    assert play(clean, work) <= 9  # of 255 bytes, those of the last half FIFO


def test_times_of_a_reply_are_those_of_the_wire():
    async def work(bus, line):
        result = await bus.read(FIRST)
        return result, line.requests[0][0], line.last_byte_s, bus.stats.busy_s

    result, first_byte_s, last_byte_s, busy_s = play(clean, work)
    assert result.sent_s == first_byte_s
    assert last_byte_s <= result.received_s < last_byte_s + CHAR_S
    assert busy_s == pytest.approx(REQUEST_S + 0.02 + 25 * CHAR_S + T35_S, abs=CHAR_S)


def test_an_absent_port_is_tried_once_a_second():
    tried = []

    def opener():
        tried.append(asyncio.get_running_loop().time())
        raise LinkError("/dev/none does not exist")

    async def work(bus, _line):
        messages = []
        for _ in range(30):
            messages.append(str(await outcome(bus, FIRST)))
            await asyncio.sleep(0.1)
        return messages

    messages = play(clean, work, opener=opener)
    assert len(tried) == 3
    assert min(b - a for a, b in itertools.pairwise(tried)) >= 1.0
    assert messages[0] == "bus1: /dev/none does not exist"
    assert messages[1] == "bus1: /dev/none is not open; tried once a second"


def test_a_vanished_port_is_a_link_error_and_the_next_read_opens_it_again():
    async def work(bus, line):
        before = await outcome(bus, FIRST)
        line.unplug()
        await asyncio.sleep(2)
        gone = await outcome(bus, FIRST)
        await asyncio.sleep(1)
        return before, gone, await outcome(bus, FIRST), bus.stats.reopened

    before, gone, after, reopened = play(clean, work)
    assert before == after == values(FIRST)
    assert isinstance(gone, LinkError)
    assert "/dev/none is gone" in str(gone)
    assert reopened == 1


def test_a_port_that_vanishes_while_a_reply_is_awaited_does_not_spin():
    async def work(bus, line):
        asyncio.get_running_loop().call_later(0.1, line.unplug)
        return await outcome(bus, FIRST), asyncio.get_running_loop().watched

    result, watched = play(lambda *_: SILENT, work)
    assert "is gone" in str(result)
    assert watched < 5
