"""Modbus ASCII: frames, and the engine that waits for characters a second apart."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus.framer import FramerAscii
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest

from agent.tests.fake_line import FIRST, OTHER_ADDRESS, SILENT, play, values
from edgeagg.errors import EdgeaggError, FrameError, LinkError, RefusedError
from edgeagg_agent.bus import LineSettings, ReadRequest
from edgeagg_agent.protocol.modbus import words_of
from edgeagg_agent.protocol.modbus_ascii import AsciiQuestion, lrc

ASCII = LineSettings(9600, "7E1", pause_max_ms=1000)


def frame(body):
    return b":" + (body + bytes((lrc(body),))).hex().upper().encode() + b"\r\n"


def reply(request, *, unit=None, count=None):
    words = values(request)[:count]
    head = bytes((unit or request.unit, request.function, 2 * len(words)))
    return frame(head + b"".join(word.to_bytes(2, "big") for word in words))


async def outcome(bus, request, *, spare=0):
    try:
        answer = await bus.exchange(AsciiQuestion(request, spare=spare), ASCII)
    except EdgeaggError as error:
        return error
    return words_of(answer.payload)


def test_the_check_value_of_the_serial_line_guide():
    assert lrc(b"\x02\x07") == 0xF7


@settings(deadline=None)  # the machine may be busy
@given(st.integers(1, 247), st.integers(0, 0xFF00), st.integers(1, 125))
def test_request_bytes_equal_those_of_pymodbus(unit, start, count):
    pdu = ReadHoldingRegistersRequest(address=start, count=count, dev_id=unit)
    theirs = FramerAscii(DecodePDU(is_server=True)).buildFrame(pdu)
    assert AsciiQuestion(ReadRequest(unit, 3, start, count)).request == theirs


@pytest.mark.parametrize("place", range(len(reply(FIRST))))
def test_one_wrong_character_is_no_reply(place):
    whole = reply(FIRST)
    for character in b"0F:\r\n \x00":
        if whole[place] != character:
            wrong = whole[:place] + bytes((character,)) + whole[place + 1 :]
            assert AsciiQuestion(FIRST).find(wrong) is None


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=30), st.binary(max_size=30))
def test_a_reply_is_found_behind_noise_and_behind_the_echo(before, behind):
    question = AsciiQuestion(FIRST)
    found = question.find(before + question.request + b":01" + reply(FIRST) + behind)
    assert found is not None
    assert words_of(question.payload(found.frame)) == values(FIRST)


@pytest.mark.parametrize(
    ("buffer", "text"),
    [
        (reply(FIRST, unit=2), "unit 2 answered instead"),
        (frame(b"\x01\x04\x02\x00\x00"), "function 4 came instead of 3"),
        (reply(FIRST, count=8), "16 bytes of registers came, 20 were asked for"),
        (reply(FIRST)[:-6], "a damaged reply"),
        (b"\xff\x00", "only noise"),
    ],
)
def test_junk_is_described_by_what_it_shows(buffer, text):
    question = AsciiQuestion(FIRST)
    assert question.find(buffer) is None
    assert text in question.describe_junk(buffer)


def test_a_refusal_names_the_exception_in_words():
    question = AsciiQuestion(FIRST)
    found = question.find(frame(b"\x01\x83\x02"))
    assert found is not None
    with pytest.raises(RefusedError, match=r"illegal data address \(2\)"):
        question.payload(found.frame)


def test_a_reply_with_pauses_of_nearly_a_second_is_one_reply():
    def script(_number, request):
        whole = reply(request)
        return [(0.02, whole[:9]), (0.9, whole[9:30]), (1.8, whole[30:])]

    async def work(bus, _line):
        return await outcome(bus, FIRST), bus.stats.noise_bytes

    assert play(script, work) == (values(FIRST), 0)


def test_a_reply_whose_rest_never_comes_is_a_bad_frame_a_second_later():
    async def work(bus, line):
        result = await outcome(bus, FIRST)
        return result, bus.bus._clock.now_s() - line.last_byte_s

    result, waited_s = play(lambda _n, r: [(0.02, reply(r)[:20])], work)
    assert isinstance(result, FrameError)
    assert 1.0 <= waited_s < 1.05


def test_silence_costs_no_pause():
    async def work(bus, line):
        result = await outcome(bus, FIRST)
        return result, bus.bus._clock.now_s() - line.requests[0][0]

    result, took_s = play(lambda *_: SILENT, work)
    assert isinstance(result, LinkError)
    assert took_s < 0.3


def test_a_late_reply_in_ascii_never_answers_the_next_question():
    def script(number, request):
        return [(0.5 if number == 1 else 0.02, reply(request))]

    async def work(bus, line):
        first = await outcome(bus, FIRST, spare=1)
        second = await outcome(bus, OTHER_ADDRESS, spare=1)
        return first, second, [request.count for _, request in line.requests]

    first, second, counts = play(script, work)
    assert isinstance(first, LinkError)
    assert second == values(OTHER_ADDRESS)
    assert counts == [10, 11]
