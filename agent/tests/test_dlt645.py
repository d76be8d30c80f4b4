"""Questions to DL/T 645 meters: every published frame, every trap that other programs fell into."""

from datetime import date, datetime, time
from fractions import Fraction

import pytest

from agent.tests.meter_frames import dlt645, published, right_sum, summed
from edgeagg.errors import FrameError, RefusedError
from edgeagg_agent.protocol import telegram
from edgeagg_agent.protocol.bcd import decode_bcd, decode_digits
from edgeagg_agent.protocol.dlt645 import (
    ALL,
    ANY,
    PARTS_MAX,
    SHAPE,
    AddressQuestion,
    Generation,
    Read,
    ReadQuestion,
    address_question,
    decode_address,
    error_text,
    request_frame,
)

FRAMES = published("dlt645")
REPLIES = [frame for frame in FRAMES if frame["direction"] == "reply"]
REQUESTS = [frame for frame in FRAMES if frame["direction"] == "request"]
ITEMS = [frame for frame in REPLIES if "item" in frame]
REFUSALS = [frame for frame in REPLIES if "error" in frame]
OF_1997, OF_2007 = Generation.OF_1997, Generation.OF_2007
ADDRESS = "001210174069"
VOLTAGE = ReadQuestion(ADDRESS, "02010100")
VOLTAGE_DATA = bytes.fromhex("00010102 1423")  # 231.4 V
VOLTAGE_REPLY = dlt645(ADDRESS, 0x91, VOLTAGE_DATA)
OLD = ReadQuestion(ADDRESS, "9010", OF_1997)
READS = [0x01, 0x02, 0x11, 0x12, 0x13]


def asked(frame):
    return ReadQuestion(frame["address"], frame["item"], Generation(frame["edition"]))


def payload(question, buffer):
    found = question.find(buffer)
    assert found is not None
    assert found.frame == bytes(buffer[found.start : found.end]).lstrip(b"\xfe")
    return question.payload(found.frame)


def by_hex(frame):
    return frame["hex"]


def test_published_frames_are_all_there():
    assert (len(FRAMES), len(ITEMS), len(REFUSALS)) == (50, 28, 6)
    assert sum("checksum" in frame for frame in FRAMES) == 2


@pytest.mark.parametrize("frame", [f for f in ITEMS if "checksum" not in f], ids=by_hex)
def test_published_reply_decodes_to_its_stated_value(frame):
    buffer = bytes.fromhex(frame["hex"])
    found = asked(frame).find(buffer)
    assert found is not None
    assert (found.start, found.end) == (0, len(buffer))
    assert found.frame == buffer.lstrip(b"\xfe")
    data = asked(frame).payload(buffer)
    for value in frame.get("values", ()):
        number = decode_bcd(data[value["at"] :][: value["size"]], signed=value["signed"])
        assert Fraction(number, 10 ** value["decimals"]) == Fraction(value["value"])
    if "date" in frame:  # the last two digits are the day of the week
        assert decode_digits(data)[:6] == f"{date.fromisoformat(frame['date']):%y%m%d}"
    if "time" in frame:
        assert decode_digits(data) == f"{time.fromisoformat(frame['time']):%H%M%S}"
    if "minute" in frame:
        minute = datetime.fromisoformat(frame["minute"])
        assert decode_digits(data[3:]) == f"{minute:%y%m%d%H%M}"
    assert {"values", "date", "time"} & set(frame)


@pytest.mark.parametrize("frame", [f for f in FRAMES if "checksum" in f], ids=by_hex)
def test_published_frame_with_a_wrong_sum_is_refused(frame):
    question = ReadQuestion(frame["address"], frame.get("item", "02010100"))
    wrong = bytes.fromhex(frame["hex"])
    assert question.find(wrong) is None
    assert question.describe_junk(wrong) == "the checksum is wrong"
    (found,) = telegram.telegrams(right_sum(frame), SHAPE)
    assert found.control == frame["control"]
    assert (question.find(right_sum(frame)) is not None) == ("item" in frame)


@pytest.mark.parametrize("frame", REFUSALS, ids=by_hex)
def test_published_refusal_names_its_error_bits(frame):
    item = "00010000" if frame["edition"] == OF_2007 else "9010"
    question = ReadQuestion(frame["address"], item, Generation(frame["edition"]))
    buffer = bytes.fromhex(frame["hex"])
    if frame["control"] & 0x1F not in READS:  # the refusal of somebody's write is no answer to us
        assert question.find(buffer) is None
        (found,) = telegram.telegrams(buffer, SHAPE)
        assert (found.control, found.data[0] - 0x33) == (frame["control"], frame["error"])
        return
    with pytest.raises(RefusedError) as caught:
        payload(question, buffer)
    assert caught.value.code == frame["error"]
    assert error_text(frame["error"]) in str(caught.value)


@pytest.mark.parametrize("frame", [f for f in REPLIES if "told" in f], ids=by_hex)
def test_published_address_reply_tells_the_address(frame):
    data = payload(address_question(OF_2007), bytes.fromhex(frame["hex"]))
    assert decode_address(data) == frame["told"]


def published_question(frame):
    if frame["control"] == 0x13:
        return address_question(OF_2007)
    return asked(frame)


@pytest.mark.parametrize(
    "frame", [f for f in REQUESTS if f["control"] != 0x11 or len(f["item"]) == 8], ids=by_hex
)
def test_published_request_is_the_one_we_send(frame):
    sent = published_question(frame).request
    assert sent.removeprefix(b"\xfe\xfe\xfe\xfe") == bytes.fromhex(frame["hex"]).lstrip(b"\xfe")
    assert sent.startswith(b"\xfe" * 4)


def test_a_1997_item_is_never_asked_for_with_the_2007_control_code():
    # as one program does: 6867452301000068110244e9e016
    (peer,) = (f for f in REQUESTS if f["control"] == 0x11 and len(f["item"]) == 4)
    sent = ReadQuestion(peer["address"], peer["item"], OF_1997).request
    assert sent[4:] == dlt645(peer["address"], 0x01, bytes.fromhex("11b6"))
    with pytest.raises(ValueError, match="8 digits"):
        ReadQuestion(peer["address"], peer["item"], OF_2007)


def test_no_control_code_but_a_read_can_be_built():
    # among them 04, 08, 0A, 0C, 0F, 10 of 1997 and 14 to 1D of 2007
    for control in {*range(-1, 0x200)} - set(READS):
        with pytest.raises(ValueError, match="not a valid Read"):
            request_frame(ADDRESS, control, b"")


def test_the_reads_are_five_and_no_more():
    assert sorted(Read) == READS
    for control in READS:
        assert request_frame(ADDRESS, control, b"")[12] == control


def test_the_baud_word_on_which_peers_disagree_is_never_sent():
    assert {0x17, 0x0C}.isdisjoint(Read)


def test_a_sum_of_16h_is_not_the_end():
    question = ReadQuestion("000000000161", "00030000")
    assert question.request[-2:] == b"\x16\x16"
    for low in range(256):
        reply = dlt645("000000000161", 0x91, bytes((0, 0, 3, 0, low, 0, 0, 0)))
        assert payload(question, reply)[0] == low


def test_16h_and_68h_among_the_data_are_data():
    for wire in (0x16, 0x68, 0xFE):
        data = bytes(((wire - 0x33) & 0xFF,)) * 4
        reply = dlt645(ADDRESS, 0x91, bytes.fromhex("00000100") + data)
        assert payload(ReadQuestion(ADDRESS, "00010000"), b"\x68\x16" + reply) == data


def test_an_address_with_16h_and_68h_is_an_address():
    question = ReadQuestion("681600000068", "02010100")
    assert payload(question, dlt645("681600000068", 0x91, VOLTAGE_DATA)) == VOLTAGE_DATA[4:]


def test_the_error_byte_is_a_bit_field_and_no_enumeration():
    for code in range(256):
        text = error_text(code)
        assert ("no such data" in text) == bool(code & 0x02)
        assert ("password wrong" in text) == bool(code & 0x04)
        assert text.count(",") == max(0, code.bit_count() - 1)
    assert error_text(0) == "no reason given (00H)"


def test_error_bits_are_read_behind_33h():
    reply = bytes.fromhex("68 694017101200 68 d1 01 35")
    with pytest.raises(
        RefusedError, match=r"item 02010100: refused: no such data \(02H\)"
    ) as caught:
        payload(VOLTAGE, summed(reply))
    assert caught.value.code == 2


def test_an_error_byte_that_wraps_around_does_not_crash():
    with pytest.raises(RefusedError, match=r"reserved bit 7 \(FEH\)"):
        payload(VOLTAGE, dlt645(ADDRESS, 0xD1, b"\xfe"))


def test_a_refused_block_is_a_refusal_so_that_single_items_can_be_read():
    with pytest.raises(RefusedError, match="no such data"):
        payload(ReadQuestion(ADDRESS, "0001FF00"), dlt645(ADDRESS, 0xD1, b"\x02"))


def test_the_address_goes_out_low_byte_first():
    assert VOLTAGE.request[4:12] == bytes.fromhex("68 694017101200 68")


def test_a_frame_with_an_xor_checksum_is_none():
    body, xor = VOLTAGE_REPLY[:-2], 0
    for byte in body:
        xor ^= byte
    assert VOLTAGE.find(body + bytes((xor, 0x16))) is None


def test_a_frame_without_the_second_68h_is_none():
    assert VOLTAGE.find(summed(VOLTAGE_REPLY[:7] + VOLTAGE_REPLY[8:-2])) is None
    assert VOLTAGE.find(summed(VOLTAGE_REPLY[:7] + b"\x69" + VOLTAGE_REPLY[8:-2])) is None


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 40])
def test_any_number_of_fe_bytes_may_stand_in_front(count):
    found = VOLTAGE.find(b"\x00\x68" + b"\xfe" * count + VOLTAGE_REPLY + b"\xfe\x00")
    assert (found.start, found.end) == (2, 2 + count + len(VOLTAGE_REPLY))
    assert VOLTAGE.payload(found.frame) == VOLTAGE_DATA[4:]


def test_our_own_echo_is_no_reply():
    assert VOLTAGE.find(VOLTAGE.request) is None
    found = VOLTAGE.find(VOLTAGE.request + VOLTAGE_REPLY)
    assert found.start == len(VOLTAGE.request)
    mirrored = dlt645(ADDRESS, 0x11, VOLTAGE_DATA)
    assert VOLTAGE.find(mirrored) is None


WRONG = {
    "another meter": (dlt645("001210174068", 0x91, VOLTAGE_DATA), "001210174068 answered instead"),
    "wildcard as sender": (dlt645(ANY, 0x91, VOLTAGE_DATA), "meter aaaaaaaaaaaa answered instead"),
    "another item": (
        dlt645(ADDRESS, 0x91, bytes.fromhex("00020102 1423")),
        "item 02010200 came instead of 02010100",
    ),
    "item high byte first": (
        dlt645(ADDRESS, 0x91, bytes.fromhex("02010100 1423")),
        "item 00010102 came",
    ),
    "1997 control code": (dlt645(ADDRESS, 0x81, VOLTAGE_DATA), "81H came instead of 91H"),
    "next part": (dlt645(ADDRESS, 0x92, VOLTAGE_DATA + b"\x01"), "92H came instead of 91H"),
    "reply to a write": (dlt645(ADDRESS, 0x94, b""), "94H came instead of 91H"),
    "refused write": (dlt645(ADDRESS, 0xD4, b"\x04"), "D4H came"),
    "abnormal and more": (dlt645(ADDRESS, 0xF1, b"\x04"), "F1H came"),
    "refusal with data": (dlt645(ADDRESS, 0xD1, VOLTAGE_DATA), "a refusal without its error byte"),
    "no data": (dlt645(ADDRESS, 0x91, VOLTAGE_DATA[:4]), "an answer without data"),
    "nothing": (dlt645(ADDRESS, 0x91, b""), "item  came instead"),
    "echo only": (VOLTAGE.request, "only our own request came back"),
    "cut short": (VOLTAGE_REPLY[:-3], "the reply ends 3 bytes early"),
    "wrong sum": (VOLTAGE_REPLY[:-2] + b"\x00\x16", "the checksum is wrong"),
    "wrong end": (VOLTAGE_REPLY[:-1] + b"\x17", "the checksum is wrong"),
    "too long": (summed(VOLTAGE_REPLY[:9] + b"\xc9" + VOLTAGE_DATA * 40), "only noise"),
    "noise": (bytes.fromhex("00ff8068"), "only noise; check baud rate, parity"),
    "silence": (b"", "only noise"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_provably_the_answer_is_refused_and_named(what):
    buffer, text = WRONG[what]
    assert VOLTAGE.find(buffer) is None
    assert text in VOLTAGE.describe_junk(buffer)
    with pytest.raises(FrameError, match="not an answer"):
        VOLTAGE.payload(buffer)
    with pytest.raises(FrameError):
        VOLTAGE.more(buffer)


@pytest.mark.parametrize("what", ["another meter", "another item", "echo only", "cut short"])
def test_the_answer_is_found_behind_what_is_none(what):
    assert payload(VOLTAGE, WRONG[what][0] + VOLTAGE_REPLY) == VOLTAGE_DATA[4:]


def test_an_answer_inside_another_meters_frame_is_that_frames_data():
    inner = bytes((byte - 0x33) & 0xFF for byte in VOLTAGE_REPLY)
    assert VOLTAGE.find(dlt645("000000000001", 0x91, inner)) is None


def test_a_length_that_the_profile_rules_out_is_no_answer():
    strict = ReadQuestion(ADDRESS, "02010100", lengths=(2,))
    assert payload(strict, VOLTAGE_REPLY) == VOLTAGE_DATA[4:]
    short = dlt645(ADDRESS, 0x91, VOLTAGE_DATA[:-1])
    assert strict.find(short) is None
    assert "1 bytes came behind the identifier, 2 were asked for" in strict.describe_junk(short)


def test_a_long_answer_is_read_part_by_part():
    question = ReadQuestion(ADDRESS, "0001FF00", lengths=(6,))
    item = bytes.fromhex("00ff0100")
    parts = [
        dlt645(ADDRESS, 0xB1, item + b"\x01\x02"),
        dlt645(ADDRESS, 0xB2, item + b"\x03\x04" + b"\x01"),
        dlt645(ADDRESS, 0x92, item + b"\x05\x06" + b"\x02"),
    ]
    requests, data = [], b""
    for part in parts:
        assert question is not None
        requests.append(question.request[4:])
        data += payload(question, part)
        for other in parts:
            assert (question.find(other) is None) == (other is not part)
        question = question.more(part)
    assert question is None
    assert data == bytes(range(1, 7))
    assert requests == [
        dlt645(ADDRESS, 0x11, item),
        dlt645(ADDRESS, 0x12, item + b"\x01"),
        dlt645(ADDRESS, 0x12, item + b"\x02"),
    ]


def test_a_part_with_another_number_is_no_answer():
    question = ReadQuestion(ADDRESS, "0001FF00", part=2)
    late = dlt645(ADDRESS, 0xB2, bytes.fromhex("00ff0100 0304 01"))
    assert question.find(late) is None
    assert question.describe_junk(late) == "part 1 came instead of part 2"
    assert str(question) == f"meter {ADDRESS}, item 0001FF00, part 2"


def test_parts_of_1997_have_no_numbers():
    second = OLD.more(dlt645(ADDRESS, 0xA1, bytes.fromhex("1090 0102")))
    assert second.request[4:] == dlt645(ADDRESS, 0x02, bytes.fromhex("1090"))
    last = dlt645(ADDRESS, 0x82, bytes.fromhex("1090 0304"))
    assert payload(second, last) == b"\x03\x04"
    assert second.more(last) is None


@pytest.mark.parametrize("generation", Generation)
def test_a_meter_that_never_ends_its_answer_is_left(generation):
    question = ReadQuestion(ADDRESS, "9010" if generation is OF_1997 else "00010000", generation)
    data = bytes.fromhex(question.item)[::-1] + b"\x01"
    code = question.request[12] | 0xA0
    for part in range(1, PARTS_MAX):
        question = question.more(dlt645(ADDRESS, code, data))
        code = question.request[12] | 0xA0
        data = question.request[14:-2]
        data = bytes((byte - 0x33) & 0xFF for byte in data)
        data = data[: len(question.item) // 2] + b"\x01" + data[len(question.item) // 2 :]
        assert question.part == part
    with pytest.raises(FrameError, match="more than 16 parts"):
        question.more(dlt645(ADDRESS, code, data))


def test_a_refused_part_is_a_refusal():
    with pytest.raises(RefusedError, match="part 1: refused: no such data"):
        payload(ReadQuestion(ADDRESS, "0001FF00", part=1), dlt645(ADDRESS, 0xD2, b"\x02"))


@pytest.mark.parametrize("address", ["AAAAAA174069", "AAAAAAAAAA69", ANY])
def test_a_shortened_address_takes_the_answer_of_a_meter_that_fits(address):
    question = ReadQuestion(address, "02010100")
    assert question.request[4:] == dlt645(address, 0x11, VOLTAGE_DATA[:4])
    assert payload(question, VOLTAGE_REPLY) == VOLTAGE_DATA[4:]
    other = dlt645("001210174068", 0x91, VOLTAGE_DATA)
    assert (question.find(other) is None) == (address != ANY)
    for sender in (ANY, ALL, "0012101740AF"):
        assert question.find(dlt645(sender, 0x91, VOLTAGE_DATA)) is None


def test_a_1997_meter_answers_the_broadcast_with_its_address():
    reply = bytes.fromhex("6895320600000068810643c3493333330c16")
    question = ReadQuestion(ALL, "9010", OF_1997)
    assert payload(question, reply) == bytes.fromhex("16000000")
    with pytest.raises(ValueError, match="nobody answers"):
        ReadQuestion(ALL, "00010000", OF_2007)


def test_the_address_of_a_1997_meter_is_told_by_any_answer():
    for question in (address_question(OF_1997), address_question(OF_1997, broadcast=True)):
        assert question.request[12:14] == b"\x01\x02"
        for reply in (
            bytes.fromhex("6895320600000068810643c3493333330c16"),
            dlt645("000000063295", 0xC1, b"\x02"),
            dlt645("000000063295", 0xA1, b"\x10\x90\x00"),
        ):
            assert decode_address(payload(question, reply)) == "000000063295"
            assert question.more(reply) is None
        assert question.find(dlt645("000000063295", 0x81, b"\x20\x90\0\0\0\0")) is None


def test_an_address_answer_must_be_digits_and_of_one_mind():
    question = address_question(OF_2007)
    wire = bytes.fromhex(ADDRESS)[::-1]
    assert decode_address(payload(question, dlt645(ANY, 0x93, wire))) == ADDRESS
    assert decode_address(payload(question, dlt645(ADDRESS, 0xD3, b"\x02"))) == ADDRESS
    for wrong in (
        dlt645("000000000001", 0x93, wire),
        dlt645(ADDRESS, 0x93, wire[:5]),
        dlt645(ADDRESS, 0x93, b"\xaa" * 6),
        dlt645(ANY, 0xD3, b"\x02"),
        dlt645(ANY, 0x93, b"\x99" * 6),
        dlt645(ADDRESS, 0x91, wire),
        question.request,
    ):
        assert question.find(wrong) is None
    assert "meter 000000000001 tells the address" in question.describe_junk(
        dlt645("000000000001", 0x93, wire)
    )
    assert "91H came instead of 93H" in question.describe_junk(dlt645(ADDRESS, 0x91, wire))
    assert "not an address" in question.describe_junk(dlt645(ANY, 0xD3, b"\x02"))


@pytest.mark.parametrize(
    "address", ["", "12345678901", "1234567890123", "12345678901A", "0012AAAAAAAA", "A01210174069"]
)
def test_an_address_that_cannot_be_is_refused(address):
    with pytest.raises(ValueError, match="12 digits"):
        ReadQuestion(address, "02010100")


@pytest.mark.parametrize("item", ["", "0201", "0201010", "0201010g", "020101000", "02 10100"])
def test_an_item_that_cannot_be_is_refused(item):
    with pytest.raises(ValueError, match="8 digits"):
        ReadQuestion(ADDRESS, item)
    with pytest.raises(ValueError, match="part 16"):
        ReadQuestion(ADDRESS, "02010100", part=16)


def test_only_the_two_wildcards_ask_for_an_address():
    with pytest.raises(ValueError, match="expected"):
        AddressQuestion(ADDRESS, OF_2007)
    with pytest.raises(ValueError, match="nobody answers"):
        address_question(OF_2007, broadcast=True)


def test_the_line_is_told_who_is_asked_and_how_long_the_answer_is():
    assert VOLTAGE.meter == "meter 001210174069"
    assert ReadQuestion(ADDRESS, "02010100", lengths=(2,)).reply_bytes == len(VOLTAGE_REPLY)
    second = ReadQuestion(ADDRESS, "00010000", part=1)
    assert second.reply_bytes == len(dlt645(ADDRESS, 0x92, bytes(4 + 4 + 1)))
    assert OLD.reply_bytes == len(dlt645(ADDRESS, 0x81, bytes(2 + 4)))
    assert address_question(OF_2007).reply_bytes == len(dlt645(ADDRESS, 0x93, bytes(6)))
    assert address_question(OF_1997).reply_bytes == len(dlt645(ADDRESS, 0xC1, bytes(1)))
    assert str(address_question(OF_1997)) == f"meter {ANY}, its address"
