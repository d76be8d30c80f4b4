"""The line engine against the fault matrix: a wrong value is never accepted."""

import asyncio
import contextlib
import random

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
    first_then_clean,
    outcome,
    play,
    refusal,
    reply,
    sent,
    values,
)
from edgeagg.errors import FrameError, LinkError, RefusedError
from edgeagg_agent.bus import ReadRequest

GOOD = values(FIRST)
FAULTS = {
    "a clean reply": (lambda r: [(0.02, reply(r))], GOOD),
    "bytes far apart": (
        lambda r: [(0.02 + n * 3e-3, reply(r)[n : n + 1]) for n in range(25)],
        GOOD,
    ),
    "00 in front": (lambda r: [(0.02, b"\x00" + reply(r))], GOOD),
    "FF FF in front": (lambda r: [(0.02, b"\xff\xff" + reply(r))], GOOD),
    "our own header in front": (lambda r: [(0.02, b"\x01\x03\x14" + reply(r))], GOOD),
    "noise, a pause, reply": (lambda r: [(0, b"\x00\x80\x11\x22"), (0.02, reply(r))], GOOD),
    "noise behind": (lambda r: [(0.02, reply(r) + b"\x55\xaa\x03")], GOOD),
    "another unit first": (lambda r: [(0.01, reply(r, unit=2)), (0.06, reply(r))], GOOD),
    "another unit in front": (lambda r: [(0.02, reply(r, unit=2) + reply(r))], GOOD),
    "the reply twice": (lambda r: [(0, reply(r) * 2)], GOOD),
    "echo and reply": (lambda r: [(-REQUEST_S, sent(r)), (0.02, reply(r))], GOOD),
    "noise, echo, noise, reply": (
        lambda r: [(-REQUEST_S, b"\x00" + sent(r)), (0.02, b"\xff" + reply(r))],
        GOOD,
    ),
    "wrong CRC": (lambda r: [(0.02, reply(r)[:-1] + b"\x00")], (FrameError, "CRC is wrong")),
    "truncated": (lambda r: [(0.02, reply(r)[:-4])], (FrameError, "ends 4 bytes early")),
    "8 registers for 10": (lambda r: [(0.02, reply(r, count=8))], (FrameError, "16 bytes")),
    "function 4 for 3": (lambda r: [(0.02, reply(r, function=4))], (FrameError, "function 4 came")),
    "another unit only": (lambda r: [(0.02, reply(r, unit=2))], (FrameError, "unit 2 answered")),
    "two replies that differ": (
        lambda r: [(0, reply(OTHER_ADDRESS) + reply(r))],
        (FrameError, "two replies differ"),
    ),
    "illegal data address": (lambda r: [(0.02, refusal(r, 2))], (RefusedError, r"address \(2\)")),
    "device busy": (lambda r: [(0.02, refusal(r, 6))], (RefusedError, r"busy \(6\)")),
    "silence": (lambda r: SILENT, (LinkError, "unit 1, function 3, 10 registers.*no reply")),
    "only the echo": (lambda r: [(-REQUEST_S, sent(r))], (LinkError, "no reply")),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_matrix_and_the_clean_read_behind_each_fault(fault):
    script, expected = FAULTS[fault]

    async def work(bus, _line):
        return await outcome(bus, FIRST), await outcome(bus, OTHER_ADDRESS), bus.stats

    first, second, stats = play(first_then_clean(script), work)
    if expected is GOOD:
        assert first == GOOD
    else:
        kind, text = expected
        with pytest.raises(kind, match=text):
            raise first
    assert second == values(OTHER_ADDRESS)
    assert stats.transactions == 2


def test_every_fault_is_counted_once():
    def script(number, request):
        return [
            [(0.02, b"\xff" + reply(request) + b"\x00")],
            [(0.02, refusal(request, 2))],
            [(0.02, reply(request)[:-1] + b"\x00")],
            SILENT,
            [(-REQUEST_S, sent(request)), (0.02, reply(request))],
        ][number - 1]

    async def work(bus, _line):
        for unit in range(1, 6):
            await outcome(bus, ReadRequest(unit, 3, 0, 10))
        return bus.stats

    stats = play(script, work)
    assert (stats.transactions, stats.refused, stats.bad_frame) == (5, 1, 1)
    assert (stats.no_reply, stats.echoes, stats.reopened) == (1, 1, 0)
    assert stats.noise_bytes == 2 + 25


@pytest.mark.parametrize("late_s", [n / 50 for n in range(12, 35)])
def test_a_late_reply_never_answers_a_later_request(late_s):
    def script(number, request):
        return [(late_s if number == 1 else 0.1, reply(request))]

    async def work(bus, line):
        first = await outcome(bus, FIRST)
        second = await outcome(bus, OTHER_ADDRESS)
        return first, second, bus.stats.late_replies, line.requests

    first, second, late, requests = play(script, work)
    assert isinstance(first, LinkError | FrameError)
    assert second == values(OTHER_ADDRESS)
    assert late == 1
    assert requests[1][0] - requests[0][0] >= 0.15 + 0.5  # time-out, then held back


def test_a_late_reply_is_noise_to_another_unit_which_is_not_held_back():
    def script(number, request):
        return [(0.21 if number == 1 else 0.1, reply(request))]

    async def work(bus, line):
        first = await outcome(bus, FIRST)
        second = await outcome(bus, OTHER_UNIT)
        return first, second, bus.stats, line.requests

    first, second, stats, requests = play(script, work)
    assert isinstance(first, LinkError)
    assert second == values(OTHER_UNIT)
    assert (stats.late_replies, stats.noise_bytes) == (1, 25)
    assert requests[1][0] - requests[0][0] < 0.22


@pytest.mark.parametrize(
    ("first_s", "second_s", "pause_s", "error"),
    [
        (0.180, 0.205, 0.0, FrameError),  # the read ends with the first piece
        (0.196, 0.214, 0.008, LinkError),  # the first piece comes between the reads
    ],
)
def test_a_late_reply_in_pieces_is_let_pass_before_another_unit_is_asked(
    first_s, second_s, pause_s, error
):
    def script(number, request):
        late = [(first_s, reply(request)[:5]), (second_s, reply(request)[5:])]
        return late if number == 1 else clean(number, request)

    async def work(bus, line):
        first = await outcome(bus, FIRST)
        await asyncio.sleep(pause_s)
        return first, await outcome(bus, OTHER_UNIT), line.requests

    first, second, requests = play(script, work)
    assert isinstance(first, error)
    assert second == values(OTHER_UNIT)
    end_of_second_piece_s = requests[0][0] + REQUEST_S + second_s + 20 * CHAR_S
    assert requests[1][0] >= end_of_second_piece_s + T35_S


def test_a_held_back_unit_does_not_keep_others_waiting():
    def script(number, request):
        return SILENT if number == 1 else clean(number, request)

    async def work(bus, line):
        await outcome(bus, FIRST)
        again = asyncio.create_task(outcome(bus, OTHER_ADDRESS))
        others = [await outcome(bus, OTHER_UNIT) for _ in range(3)]
        return await again, others, [request.unit for _, request in line.requests]

    again, others, units = play(script, work)
    assert again == values(OTHER_ADDRESS)
    assert others == [values(OTHER_UNIT)] * 3
    assert units == [1, 2, 2, 2, 1]


def test_of_two_tasks_that_wait_for_one_unit_the_second_is_refused_when_the_first_times_out():
    def script(number, request):
        return SILENT if number <= 2 else clean(number, request)

    async def work(bus, line):
        await outcome(bus, FIRST)
        both = await asyncio.gather(outcome(bus, OTHER_ADDRESS), outcome(bus, OTHER_ADDRESS))
        return both, len(line.requests), await outcome(bus, OTHER_ADDRESS)

    both, requests, later = play(script, work)
    assert all(isinstance(result, LinkError) for result in both)
    assert "can be asked again in" in str(both[1])
    assert requests == 2  # the second was not put on the line
    assert later == values(OTHER_ADDRESS)


def test_a_cancelled_read_leaves_no_reply_for_the_next_one():
    async def work(bus, line):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await bus.read(FIRST)
        other = await outcome(bus, OTHER_UNIT)
        same = await outcome(bus, OTHER_ADDRESS)
        return other, same, line.requests

    other, same, requests = play(clean, work)
    assert (other, same) == (values(OTHER_UNIT), values(OTHER_ADDRESS))
    reply_end_s = requests[0][0] + REQUEST_S + 0.02 + 25 * CHAR_S
    assert requests[1][0] >= reply_end_s + T35_S  # even another unit's request waits for the line


def test_a_late_reply_to_a_cancelled_read_is_thrown_away():
    def script(number, request):
        return [(0.25 if number == 1 else 0.1, reply(request))]

    async def work(bus, _line):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.02):
                await bus.read(FIRST)
        return await outcome(bus, OTHER_ADDRESS), bus.stats.late_replies

    assert play(script, work) == (values(OTHER_ADDRESS), 1)


@pytest.mark.parametrize("seed", range(20))
def test_no_faulted_transaction_yields_a_wrong_value(seed):
    rng = random.Random(seed)

    def script(_number, request):
        pieces = [reply(request)]
        if rng.random() < 0.3:
            pieces.insert(rng.randrange(2), rng.randbytes(rng.randrange(1, 6)))
        if rng.random() < 0.2:
            pieces.insert(rng.randrange(2), reply(request, unit=rng.randrange(1, 5), count=3))
        data = b"".join(pieces)
        if rng.random() < 0.2:
            data = data[: rng.randrange(len(data))]
        if rng.random() < 0.2:
            place = rng.randrange(len(data) + 1)
            data = data[:place] + rng.randbytes(1) + data[place + 1 :]
        late_s = rng.choice([0.0, 0.0, 0.1, 0.2, 0.4])
        return SILENT if rng.random() < 0.1 else [(0.02 + rng.random() * late_s, data)]

    async def work(bus, _line):
        good = 0
        for _ in range(50):
            request = ReadRequest(rng.randrange(1, 5), 3, rng.randrange(0, 900, 100), 10)
            result = await outcome(bus, request)
            if isinstance(result, tuple):
                assert result == values(request)
                good += 1
        return good

    assert play(script, work) > 10
