"""What a line may do to DL/T 645 and CJ/T 188 frames: noise, damage, hostile bytes."""

import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.tests.meter_frames import cjt188, dlt645
from edgeagg.errors import FrameError, RefusedError
from edgeagg_agent.protocol import cjt188 as c188
from edgeagg_agent.protocol import dlt645 as d645
from edgeagg_agent.protocol.telegram import telegrams

METER, WATER = "001210174069", "78330011223344"
ITEM = {d645.Generation.OF_1997: "B611", d645.Generation.OF_2007: "02010100"}
reads = st.sampled_from(d645.Generation).map(
    lambda generation: d645.ReadQuestion(METER, ITEM[generation], generation, lengths=(4,))
)
metered = st.builds(
    c188.ReadQuestion,
    st.just(0x10),
    st.just(WATER),
    st.just("901F"),
    st.integers(0, 255),
    st.sampled_from(c188.Edition),
    lengths=st.just((4,)),
)
questions = st.one_of(
    reads,
    metered,
    st.sampled_from(d645.Generation).map(d645.address_question),
    st.integers(0, 255).map(c188.address_question),
)
contents = st.binary(min_size=4, max_size=4)


def reply_to(question, content):
    """Answer as a meter would."""
    if isinstance(question, c188.ReadQuestion):
        item = bytes.fromhex(question.item) + bytes((question.ser,))
        is_address = question.control == c188.Read.ADDRESS
        data = item if is_address else item + content
        return cjt188(0x10, WATER, question.control | 0x80, data)
    code = question.request[12] | 0x80
    if isinstance(question, d645.AddressQuestion):
        told = bytes.fromhex(METER)[::-1] if code == 0x93 else b"\x10\x90" + content
        return dlt645(METER, code, told)
    return dlt645(METER, code, bytes.fromhex(question.item)[::-1] + content)


def shape_of(question):
    return c188.SHAPE if isinstance(question, c188.ReadQuestion) else d645.SHAPE


def outcome(question, buffer):
    """Return the payload, or None for all that is no value."""
    found = question.find(buffer)
    if found is None:
        assert question.describe_junk(buffer)
        return None
    try:
        data = question.payload(found.frame)
        question.more(found.frame)
    except (FrameError, RefusedError):
        return None
    return data


def right(question, content):
    return outcome(question, reply_to(question, content))


@settings(deadline=None)  # the machine may be busy
@given(questions, st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_typed_errors(question, data):
    outcome(question, data)
    with pytest.raises((FrameError, RefusedError)):
        question.payload(data + b"\x00")


@settings(deadline=None)  # the machine may be busy
@given(questions, st.lists(st.sampled_from(b"\x68\x16\xfe\x91\x81\x93\x00\x33\x0a"), max_size=200))
def test_bytes_that_look_like_frames_raise_nothing_but_typed_errors(question, data):
    assert outcome(question, bytes(data)) is None


@settings(deadline=None)  # the machine may be busy
@given(questions, contents)
def test_every_reply_is_read(question, content):
    reply = reply_to(question, content)
    found = question.find(bytearray(reply))
    assert (found.start, found.end, found.frame) == (0, len(reply), reply)
    assert question.find(b"") is None
    for end in range(len(reply)):
        assert question.find(reply[:end]) is None


@settings(deadline=None)  # the machine may be busy
@given(questions, contents)
def test_damage_of_any_single_byte_never_gives_a_wrong_value(question, content):
    reply = reply_to(question, content)
    for at in range(len(reply)):
        for change in (1, 0x20, 0x40, 0x80, 0xFF, 0x6E):
            damaged = bytearray(reply)
            damaged[at] ^= change
            assert outcome(question, bytes(damaged)) is None


@pytest.mark.parametrize(
    "question",
    [
        d645.ReadQuestion(METER, "02010100"),
        d645.ReadQuestion(METER, "B611", d645.Generation.OF_1997),
        d645.address_question(d645.Generation.OF_2007),
        c188.ReadQuestion(0x10, WATER, "901F", 7),
        c188.address_question(7),
    ],
    ids=str,
)
def test_no_change_of_a_single_byte_passes(question):
    reply = reply_to(question, bytes.fromhex("34120000"))
    assert outcome(question, reply) is not None
    for at in range(len(reply)):
        for value in {*range(256)} - {reply[at]}:
            assert question.find(reply[:at] + bytes((value,)) + reply[at + 1 :]) is None


@settings(deadline=None)  # the machine may be busy
@given(questions, contents, st.binary(max_size=40), st.binary(max_size=40))
def test_a_reply_is_found_behind_noise(question, content, before, behind):
    # noise that begins a frame which happens to end right, inside the reply, is one in 65536
    reply = reply_to(question, content)
    whole = [telegram.start for telegram in telegrams(before + reply, shape_of(question))]
    assume(whole == [len(before)])
    found = question.find(before + reply + behind)
    assert found.frame == reply
    assert found.end == len(before) + len(reply)
    assert outcome(question, before + reply + behind) == right(question, content)


@settings(deadline=None)  # the machine may be busy
@given(questions, contents)
def test_the_reply_is_found_behind_the_echo(question, content):
    found = question.find(question.request + reply_to(question, content))
    assert found.start == len(question.request)


@settings(deadline=None)  # the machine may be busy
@given(reads, contents, st.integers(0, 255))
def test_no_part_of_another_number_is_taken(question, content, number):
    following = d645.ReadQuestion(METER, question.item, question.generation, part=2)
    is_2007 = question.generation is d645.Generation.OF_2007
    data = bytes.fromhex(question.item)[::-1] + content + (bytes((number,)) if is_2007 else b"")
    found = following.find(dlt645(METER, 0x92 if is_2007 else 0x82, data))
    assert (found is not None) == (number == 2 or not is_2007)


@settings(deadline=None)  # the machine may be busy
@given(questions)
def test_every_question_is_a_read(question):
    request = question.request
    if isinstance(question, c188.ReadQuestion):
        assert request[13] in {0x01, 0x03}
    else:
        assert request[12] in {0x01, 0x02, 0x11, 0x12, 0x13}
    assert [found.end for found in telegrams(request, shape_of(question))] == [len(request)]


@pytest.mark.parametrize(
    "question", [d645.ReadQuestion(METER, "02010100"), c188.address_question(0)]
)
@pytest.mark.parametrize(
    "filler", [b"\x68", b"\x68\x16", b"\xfe", b"\x00", b"\x68\x00" * 5 + b"\x91"]
)
def test_a_babbling_line_takes_time_by_its_length_only(question, filler):
    data = (filler * 4096)[:4096]
    before = time.process_time()
    assert question.find(data) is None
    assert question.describe_junk(data)
    assert time.process_time() - before < 0.2


def test_what_is_named_lies_at_the_beginning_of_a_babbling_lines_bytes():
    question = d645.ReadQuestion(METER, "02010100")
    other = dlt645("000000000001", 0x91, bytes(6))
    assert question.describe_junk(bytes(400) + other) == "meter 000000000001 answered instead"
    assert question.describe_junk(bytes(512) + other).startswith("only noise")
