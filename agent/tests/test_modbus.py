"""The frame format: requests, CRC, and finding a reply in whatever came."""

import struct
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersRequest, ReadInputRegistersRequest

from edgeagg.errors import RefusedError
from edgeagg_agent.bus import ReadRequest
from edgeagg_agent.protocol.modbus import (
    RtuQuestion,
    crc16,
    describe_junk,
    rtu_reply_length,
    rtu_request,
    words_of,
)

FRAMES = tomllib.loads((Path(__file__).parent / "frames" / "modbus.toml").read_text())["frame"]
REQUEST = ReadRequest(unit=3, function=3, start=0x0010, count=2)
REPLY = (
    b"\x03"  # unit
    b"\x03"  # function
    b"\x04"  # bytes of registers
    b"\x12\x34"  # first register
    b"\xab\xcd"  # second register
    b"\x23\xe0"  # CRC, low byte first
)
WORDS = (0x1234, 0xABCD)
requests = st.builds(
    ReadRequest,
    unit=st.integers(1, 247),
    function=st.sampled_from((3, 4)),
    start=st.integers(0, 0xFFFF - 125),
    count=st.integers(1, 125),
)


def with_crc(body: bytes) -> bytes:
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


def reply_to(request: ReadRequest, words: Sequence[int]) -> bytes:
    head = bytes((request.unit, request.function, 2 * request.count))
    return with_crc(head + b"".join(word.to_bytes(2, "big") for word in words))


@pytest.mark.parametrize("function", [0, 1, 2, 5, 6, 15, 16, 22, 23, 43, 0x83, 255, -1])
def test_no_request_but_a_register_read_can_be_built(function):
    with pytest.raises(ValueError, match="only the reads 3 and 4"):
        ReadRequest(unit=1, function=function, start=0, count=1)


@pytest.mark.parametrize(
    ("unit", "start", "count", "what"),
    [
        (0, 0, 1, "unit 0"),  # broadcast: nobody answers
        (248, 0, 1, "unit 248"),
        (1, 0, 0, "0 registers"),
        (1, 0, 126, "126 registers"),
        (1, 65535, 2, "65535"),
        (1, -1, 1, "-1"),
    ],
)
def test_a_request_outside_the_limits_cannot_be_built(unit, start, count, what):
    with pytest.raises(ValueError, match=what):
        ReadRequest(unit=unit, function=3, start=start, count=count)


def test_the_last_register_can_be_read():
    assert rtu_request(ReadRequest(unit=247, function=4, start=0xFFFF, count=1))[2:4] == b"\xff\xff"


def test_the_check_value_of_the_serial_line_guide():
    assert crc16(b"\x02\x07") == 0x1241


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: frame["source"])
def test_documented_frames(frame):
    request = ReadRequest(frame["unit"], frame["function"], frame["start"], frame["count"])
    assert rtu_request(request) == bytes.fromhex(frame["request"])
    found = RtuQuestion(request).find(bytes.fromhex(frame["reply"]))
    assert found is not None
    if "refused" in frame:
        with pytest.raises(RefusedError) as caught:
            words_of(RtuQuestion(request).payload(found.frame))
        assert caught.value.code == frame["refused"]
    else:
        assert words_of(RtuQuestion(request).payload(found.frame)) == tuple(frame["words"])


@settings(deadline=None)  # the machine may be busy
@given(requests)
def test_request_bytes_equal_those_of_pymodbus(request):
    message = ReadHoldingRegistersRequest if request.function == 3 else ReadInputRegistersRequest
    pdu = message(address=request.start, count=request.count, dev_id=request.unit)
    assert rtu_request(request) == FramerRTU(DecodePDU(is_server=True)).buildFrame(pdu)


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=260))
def test_crc_equals_that_of_pymodbus(data):
    assert crc16(data).to_bytes(2, "little") == FramerRTU.compute_CRC(data).to_bytes(2, "big")


@settings(deadline=None)  # the machine may be busy
@given(requests, st.data())
def test_every_reply_is_found_behind_noise(request, data):
    size = 2 * request.count
    words = struct.unpack(f">{request.count}H", data.draw(st.binary(min_size=size, max_size=size)))
    # noise without the unit id cannot hold the start of a reply
    noise = data.draw(st.binary(max_size=20)).replace(bytes((request.unit,)), b"\x00")
    after = data.draw(st.binary(max_size=20))
    frame = reply_to(request, words)
    found = RtuQuestion(request).find(noise + frame + after)
    assert found is not None
    assert (found.start, found.end) == (len(noise), len(noise) + len(frame))
    assert words_of(RtuQuestion(request).payload(found.frame)) == words
    assert len(frame) == rtu_reply_length(request)


@pytest.mark.parametrize("size", range(len(REPLY)))
def test_no_part_of_a_reply_is_a_reply(size):
    assert RtuQuestion(REQUEST).find(REPLY[:size]) is None


@pytest.mark.parametrize("bit", range(8 * len(REPLY)))
def test_one_wrong_bit_is_no_reply(bit):
    wrong = bytearray(REPLY)
    wrong[bit // 8] ^= 1 << bit % 8
    assert RtuQuestion(REQUEST).find(wrong) is None


def test_a_reply_of_the_right_length_that_claims_another_byte_count_is_none():
    claims_six = with_crc(
        b"\x03"  # unit
        b"\x03"  # function
        b"\x06"  # bytes of registers, but only four follow
        b"\x12\x34\xab\xcd"
    )
    assert len(claims_six) == rtu_reply_length(REQUEST)
    assert RtuQuestion(REQUEST).find(claims_six) is None


def test_the_echo_of_a_request_is_not_taken_for_its_reply():
    # the echo's start address says "2 bytes", and its low count and CRC bytes were searched for so
    # that the first seven bytes of the echo are a valid reply for one register
    for start in range(0x0200, 0x0300):
        for unit in range(1, 248):
            for function in (3, 4):
                request = ReadRequest(unit, function, start, 1)
                echo = rtu_request(request)
                assert RtuQuestion(request).find(echo) is None
                if crc16(echo[:5]).to_bytes(2, "little") == echo[5:7]:
                    frame = reply_to(request, [7])
                    found = RtuQuestion(request).find(echo + frame)
                    assert found is not None
                    assert words_of(RtuQuestion(request).payload(found.frame)) == (7,)
                    return
    pytest.fail("no request whose echo looks like a reply")


def test_a_refusal_names_the_exception_in_words():
    found = RtuQuestion(REQUEST).find(with_crc(b"\x03\x83\x02"))
    assert found is not None
    with pytest.raises(RefusedError, match=r"unit 3.*0x0010.*illegal data address \(2\)") as caught:
        words_of(RtuQuestion(REQUEST).payload(found.frame))
    assert caught.value.code == 2


def test_an_unknown_exception_code_keeps_its_number():
    found = RtuQuestion(REQUEST).find(with_crc(b"\x03\x83\x77"))
    assert found is not None
    with pytest.raises(RefusedError, match=r"unknown exception \(119\)"):
        words_of(RtuQuestion(REQUEST).payload(found.frame))


@pytest.mark.parametrize(
    ("buffer", "text"),
    [
        (with_crc(b"\x04\x03\x04\x00\x01\x00\x02"), "unit 4 answered instead"),
        (with_crc(b"\x03\x04\x04\x00\x01\x00\x02"), "function 4 came instead of 3"),
        (with_crc(b"\x03\x03\x02\x00\x01"), "2 bytes of registers came, 4 were asked for"),
        (REPLY[:-3], "ends 3 bytes early"),
        (REPLY[:-1] + b"\x00", "the CRC is wrong"),
        (REPLY[:2] + b"\x05" + REPLY[3:], "a damaged reply"),
        (b"\x00\xff\xff", "only noise; check baud rate"),
        (rtu_request(REQUEST) + b"\xff", "only noise"),
    ],
)
def test_junk_is_described_by_what_it_shows(buffer, text):
    assert text in describe_junk(buffer, REQUEST)


def test_a_question_carries_its_frame_its_meter_and_the_length_of_its_answer():
    question = RtuQuestion(REQUEST)
    assert question.request == rtu_request(REQUEST)
    assert (question.meter, question.reply_bytes, question.wanted) == ("unit 3", 9, 2)
    assert str(question) == str(REQUEST)
    found = question.find(b"\x00" + question.request + REPLY + b"\x03")
    assert (found.start, found.end, found.frame) == (9, 18, REPLY)
    assert words_of(question.payload(found.frame)) == WORDS
    assert question.more(found.frame) is None


def test_a_question_in_another_shape_carries_the_registers_that_were_wanted():
    wider = RtuQuestion(REQUEST, spare=1).reshaped({RtuQuestion(REQUEST).shape})
    assert wider.request == rtu_request(ReadRequest(unit=3, function=3, start=0x0010, count=3))
    found = wider.find(reply_to(wider.read, (1, 2, 3)))
    assert words_of(wider.payload(found.frame)) == (1, 2)


@pytest.mark.parametrize(
    ("start", "count", "spare"), [(0, 10, 0), (0, 10, 1), (0, 125, 5), (0xFFF6, 10, 5)]
)
def test_no_shape_beyond_what_profile_frame_and_address_space_allow(start, count, spare):
    question = RtuQuestion(ReadRequest(unit=1, function=3, start=start, count=count), spare=spare)
    taken = {(1, 3, count), (1, 3, count + 1)}
    assert question.reshaped(taken) is None


def test_a_shape_that_has_become_free_is_used_again():
    question = RtuQuestion(REQUEST, spare=3)
    assert question.reshaped({(3, 3, 4)}).read.count == 2


@pytest.mark.parametrize(
    ("behind", "may_hold"),
    [
        (b"", False),
        (b"\x55\xaa\x03", False),
        (b"\xff" * 8, False),
        (b"\xff" * 9, True),  # as long as a reply
        (b"\x00\x03\x03\x04\x12", True),  # the head of one
        (with_crc(b"\x07\x03\x04\x00\x01\x00\x02"), False),  # another unit's
        (with_crc(b"\x07\x03\x04\x00\x01\x00\x02") + b"\x03\x03\x04", True),
        (with_crc(b"\x03\x04\x04\x00\x01\x00\x02"), True),  # this unit's own, whatever it is
    ],
)
def test_what_stands_behind_a_reply_may_be_another_one(behind, may_hold):
    assert RtuQuestion(REQUEST).may_hold(behind) is may_hold


def test_the_head_of_a_reply_is_seen_behind_the_echo_only():
    question = RtuQuestion(ReadRequest(unit=3, function=3, start=0x0210, count=1))
    assert question.request[:3] == b"\x03\x03\x02"  # looks like the head of its own reply
    assert not question.begins(question.request)
    assert question.begins(question.request + b"\x03\x03\x02\x00")
