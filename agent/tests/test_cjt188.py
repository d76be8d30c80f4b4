"""Questions to CJ/T 188 meters: every published frame, and what meters in the field do."""

from fractions import Fraction

import pytest

from agent.tests.item_meters import shown_by
from agent.tests.meter_frames import cjt188, published, right_sum, summed
from edgeagg.errors import FrameError, RefusedError
from edgeagg_agent.protocol import telegram
from edgeagg_agent.protocol.cjt188 import (
    ANY,
    ANY_TYPE,
    SHAPE,
    UNIT_CODES,
    UNITS,
    Edition,
    Read,
    ReadQuestion,
    address_question,
    decode_address,
    quantity,
    request_frame,
    status_text,
    unit_factor,
)

FRAMES = published("cjt188")
REPLIES = [frame for frame in FRAMES if frame["direction"] == "reply"]
REQUESTS = [frame for frame in FRAMES if frame["direction"] == "request"]
WATER, HEAT = 0x10, 0x20
HEAT_PROFILES = ["cjt188-heat", "cjt188-heat-unit-first"]
POINTS = {
    "heat": "heat_energy_total",
    "settled_heat": "heat_energy_settlement",
    "power": "heat_power",
    "flow": "flow_rate",
    "volume": "volume_total",
    "settled_volume": "volume_settlement",
    "supply_temperature": "supply_temperature",
    "return_temperature": "return_temperature",
    "hours": "operating_hours",
}
TIMES = {"MWh": 1000, "kW": 1000}  # of the profiles' kWh and W
ADDRESS = "78330011223344"
QUESTION = ReadQuestion(WATER, ADDRESS, "901F", 7)
CONTENT = bytes.fromhex("34120000 2c 00050000 2c 31012211051520 0000")
REPLY = cjt188(WATER, ADDRESS, 0x81, b"\x90\x1f\x07" + CONTENT)


def asked(frame):
    if frame["item"] == "810A":
        return address_question(frame["ser"])
    return ReadQuestion(frame["type"], frame["address"], frame["item"], frame["ser"])


def payload(question, buffer):
    found = question.find(buffer)
    assert found is not None
    assert found.frame == bytes(buffer[found.start : found.end]).lstrip(b"\xfe")
    return question.payload(found.frame)


def by_hex(frame):
    return frame["hex"]


def test_published_frames_are_all_there():
    assert (len(REQUESTS), len(REPLIES)) == (5, 6)
    assert sum("checksum" in frame for frame in FRAMES) == 1


@pytest.mark.parametrize("frame", REPLIES, ids=by_hex)
def test_published_reply_decodes_to_its_stated_values(frame):
    data = payload(asked(frame), right_sum(frame))
    if frame["item"] == "810A":
        assert decode_address(data) == (frame["type"], frame["address"])
        return
    profiles = HEAT_PROFILES if frame["type"] == HEAT else ["cjt188-generic"]
    told = [shown_by(profile, data) for profile in profiles]
    (found,) = (one for one in told if all(value is not None for value in one.values()))
    for amount in frame["amounts"]:
        point, times = POINTS[amount["name"]], TIMES.get(amount["unit"], 1)
        assert found[point] == Fraction(amount["value"]) * times, amount
    status = int(found["status_word_1"]).to_bytes(2, "little")
    assert status.hex() == frame["status"].lower()


@pytest.mark.parametrize("frame", [f for f in FRAMES if "checksum" in f], ids=by_hex)
def test_published_frame_with_a_wrong_sum_is_refused(frame):
    wrong = bytes.fromhex(frame["hex"])
    assert asked(frame).find(wrong) is None
    assert asked(frame).describe_junk(wrong) == "the checksum is wrong"


@pytest.mark.parametrize("frame", [f for f in REQUESTS if f["control"] in set(Read)], ids=by_hex)
def test_published_request_is_the_one_we_send(frame):
    sent = bytes.fromhex(frame["hex"]).lstrip(b"\xfe")
    orders = {sent[11:13].hex().upper(): sent, sent[12:10:-1].hex().upper(): None}
    edition = Edition.OF_2004 if orders[frame["item"]] is sent else Edition.OF_2018
    question = (
        address_question(frame["ser"], edition)
        if frame["item"] == "810A"
        else ReadQuestion(frame["type"], frame["address"], frame["item"], frame["ser"], edition)
    )
    assert question.request == b"\xfe" * 4 + sent


def test_the_published_valve_command_cannot_be_built():
    (valve,) = (frame for frame in REQUESTS if frame["control"] not in set(Read))
    assert valve["control"] == 0x04
    with pytest.raises(ValueError, match="not a valid Read"):
        request_frame(valve["type"], valve["address"], valve["control"], b"\xa0\x17\x01\x55")


def test_no_control_code_but_a_read_can_be_built():
    # among them 04 write, 15 write address, 16 set the totaliser
    for control in {*range(-1, 0x200)} - {0x01, 0x03}:
        with pytest.raises(ValueError, match="not a valid Read"):
            request_frame(WATER, ADDRESS, control, b"")
    assert sorted(Read) == [0x01, 0x03]


def test_the_identifiers_order_is_that_of_the_edition():
    assert QUESTION.request[15:17] == b"\x90\x1f"
    newer = ReadQuestion(WATER, ADDRESS, "901F", 7, Edition.OF_2018)
    assert newer.request[15:17] == b"\x1f\x90"


@pytest.mark.parametrize("edition", Edition)
@pytest.mark.parametrize("order", ["901f", "1f90"])
def test_an_answer_is_taken_in_both_orders_of_the_identifier(edition, order):
    question = ReadQuestion(WATER, ADDRESS, "901F", 7, edition)
    reply = cjt188(WATER, ADDRESS, 0x81, bytes.fromhex(order) + b"\x07" + CONTENT)
    assert payload(question, reply) == CONTENT


def test_data_carries_no_33h():
    assert QUESTION.request[4:] == cjt188(WATER, ADDRESS, 0x01, b"\x90\x1f\x07")
    assert payload(QUESTION, REPLY) == CONTENT


def test_an_answer_with_an_earlier_serial_number_is_late():
    late = cjt188(WATER, ADDRESS, 0x81, b"\x90\x1f\x06" + CONTENT)
    assert QUESTION.find(late) is None
    assert QUESTION.describe_junk(late) == "an answer with SER 6 came instead of 7"
    assert payload(QUESTION, late + REPLY) == CONTENT


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 6])
def test_any_number_of_fe_bytes_may_stand_in_front(count):
    found = QUESTION.find(b"\x00\x68" + b"\xfe" * count + REPLY + b"\xfe")
    assert (found.start, found.end) == (2, 2 + count + len(REPLY))


def test_our_own_echo_is_no_reply():
    assert QUESTION.find(QUESTION.request) is None
    assert payload(QUESTION, QUESTION.request + REPLY) == CONTENT
    assert QUESTION.find(cjt188(WATER, ADDRESS, 0x01, b"\x90\x1f\x07" + CONTENT)) is None


def test_a_sum_of_16h_is_not_the_end():
    for low in range(256):
        reply = cjt188(WATER, ADDRESS, 0x81, b"\x90\x1f\x07" + bytes((low, 0x16, 0x16, 0x68)))
        assert payload(QUESTION, reply)[0] == low


WRONG = {
    "another meter": (
        cjt188(WATER, "78330011223345", 0x81, b"\x90\x1f\x07" + CONTENT),
        "meter 78330011223345 of type 10H answered instead",
    ),
    "another type": (
        cjt188(HEAT, ADDRESS, 0x81, b"\x90\x1f\x07" + CONTENT),
        "meter 78330011223344 of type 20H answered instead",
    ),
    "wildcard as sender": (
        cjt188(ANY_TYPE, ANY, 0x81, b"\x90\x1f\x07" + CONTENT),
        "meter aaaaaaaaaaaaaa of type AAH",
    ),
    "another item": (
        cjt188(WATER, ADDRESS, 0x81, b"\xd1\x20\x07" + CONTENT),
        "item D120 came instead of 901F",
    ),
    "address reply": (cjt188(WATER, ADDRESS, 0x83, b"\x81\x0a\x07"), "83H came instead of 81H"),
    "valve reply": (cjt188(WATER, ADDRESS, 0x84, b"\xa0\x17\x07\x00\x00"), "84H came"),
    "no data": (cjt188(WATER, ADDRESS, 0x81, b"\x90\x1f\x07"), "an answer without data"),
    "nothing": (cjt188(WATER, ADDRESS, 0x81, b""), "item  came"),
    "refusal without status": (cjt188(WATER, ADDRESS, 0xC1, b"\x07"), "without the meter's status"),
    "late refusal": (cjt188(WATER, ADDRESS, 0xC1, b"\x06\0\0"), "SER 6 came instead of 7"),
    "longer than a read may be": (
        cjt188(WATER, ADDRESS, 0x81, b"\x90\x1f\x07" + bytes(98)),
        "only noise",
    ),
    "echo only": (QUESTION.request, "only our own request came back"),
    "cut short": (REPLY[:-3], "the reply ends 3 bytes early"),
    "wrong sum": (REPLY[:-2] + b"\x00\x16", "the checksum is wrong"),
    "wrong end": (REPLY[:-1] + b"\x17", "the checksum is wrong"),
    "noise": (b"\x00\xff\x68", "only noise"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_provably_the_answer_is_refused_and_named(what):
    buffer, text = WRONG[what]
    assert QUESTION.find(buffer) is None
    assert text in QUESTION.describe_junk(buffer)
    with pytest.raises(FrameError, match="not an answer"):
        QUESTION.payload(buffer)


def test_the_longest_answer_is_taken():
    reply = cjt188(WATER, ADDRESS, 0x81, b"\x90\x1f\x07" + bytes(97))
    assert payload(QUESTION, reply) == bytes(97)


def test_a_length_that_the_profile_rules_out_is_no_answer():
    strict = ReadQuestion(HEAT, ADDRESS, "901F", 7, lengths=(40, 43))
    short = cjt188(HEAT, ADDRESS, 0x81, b"\x90\x1f\x07" + bytes(19))
    assert strict.find(short) is None
    assert strict.describe_junk(short) == "19 bytes came behind SER, 40 or 43 were asked for"
    assert payload(strict, cjt188(HEAT, ADDRESS, 0x81, b"\x90\x1f\x07" + bytes(43))) == bytes(43)


def test_an_abnormal_answer_tells_the_status_in_words():
    refusal = cjt188(WATER, ADDRESS, 0xC1, b"\x07\x05\x00")
    with pytest.raises(
        RefusedError, match=r"refused: valve closed, battery low \(status 05 00\)"
    ) as told:
        payload(QUESTION, refusal)
    assert told.value.code == 5


def test_status_bits_are_named_and_the_makers_are_told_apart():
    assert status_text(b"\x00\x00") == "nothing to report (status 00 00)"
    assert status_text(b"\x02\x00") == "valve faulty (status 02 00)"
    assert status_text(b"\x00\xff") == "bits of the maker's (status 00 FF)"
    every = "valve closed, valve faulty, battery low, bits of the maker's (status FF FF)"
    assert status_text(b"\xff\xff") == every


def test_the_only_meter_of_a_line_tells_its_type_and_address():
    question = address_question(9)
    assert question.request[4:] == cjt188(0xAA, ANY, 0x03, b"\x81\x0a\x09")
    reply = cjt188(0x30, "00001126000042", 0x83, b"\x81\x0a\x09")
    assert decode_address(payload(question, reply)) == (0x30, "00001126000042")
    assert question.more(reply) is None
    for wrong in (
        cjt188(0xAA, ANY, 0x83, b"\x81\x0a\x09"),
        cjt188(0xAA, "00001126000042", 0x83, b"\x81\x0a\x09"),
        cjt188(0x30, "0000112600004F", 0x83, b"\x81\x0a\x09"),
        cjt188(0x30, "00001126000042", 0x83, b"\x81\x0a\x08"),
        cjt188(0x30, "00001126000042", 0x83, b"\x81\x0a\x09\x00"),
        question.request,
    ):
        assert question.find(wrong) is None
    assert decode_address(b"\x10\x00") is None


def test_a_question_to_any_meter_takes_the_answer_of_any():
    question = ReadQuestion(ANY_TYPE, ANY, "901F", 7)
    assert payload(question, REPLY) == CONTENT
    assert ReadQuestion(HEAT, ANY, "901F", 7).find(REPLY) is None
    assert ReadQuestion(ANY_TYPE, "78330011223345", "901F", 7).find(REPLY) is None


@pytest.mark.parametrize(
    ("meter_type", "address", "item", "ser", "what"),
    [
        (256, ADDRESS, "901F", 0, "type 256"),
        (-1, ADDRESS, "901F", 0, "type -1"),
        (WATER, "123", "901F", 0, "14 digits"),
        (WATER, "AA330011223344", "901F", 0, "14 digits"),
        (WATER, ADDRESS, "901f", 0, "4 digits"),
        (WATER, ADDRESS, "90", 0, "4 digits"),
        (WATER, ADDRESS, "901F", 256, "ser 256"),
        (WATER, ADDRESS, "901F", -1, "ser -1"),
    ],
)
def test_a_question_that_cannot_be_is_refused(meter_type, address, item, ser, what):
    with pytest.raises(ValueError, match=what):
        ReadQuestion(meter_type, address, item, ser)


def test_the_line_is_told_who_is_asked_and_how_long_the_answer_is():
    assert QUESTION.meter == "meter 78330011223344 of type 10H"
    assert QUESTION.reply_bytes == len(REPLY)
    heat = ReadQuestion(HEAT, ADDRESS, "901F", 7, lengths=(43, 40))
    assert heat.reply_bytes == len(summed(bytes(11 + 3 + 40)))
    assert address_question(0).reply_bytes == len(summed(bytes(11 + 3)))


@pytest.mark.parametrize(
    ("code", "unit", "factor"),
    [
        (0x01, "MJ", Fraction(1, 1_000_000)),
        (0x02, "kWh", Fraction(1, 1000)),
        (0x03, "kWh", Fraction(1, 100)),
        (0x04, "Wh", 100),
        (0x05, "kWh", 1),
        (0x07, "kWh", 100),
        (0x08, "kWh", 1000),
        (0x0A, "MWh", 100),
        (0x0B, "kWh", Fraction(1, 3600)),
        (0x0E, "kWh", Fraction(5, 18)),
        (0x10, "MJ", 100),
        (0x11, "kWh", Fraction(2500, 9)),
        (0x13, "GJ", 100),
        (0x14, "kW", Fraction(1, 1000)),
        (0x17, "W", 1000),
        (0x1C, "MW", 100),
        (0x29, "m3", Fraction(1, 1000)),
        (0x2B, "L", 100),
        (0x2C, "m3", 1),
        (0x2E, "m3", 100),
        (0x32, "m3/h", Fraction(1, 1000)),
        (0x37, "m3/h", 100),
        (0x40, "J/h", 1),
        (0x43, "kW", Fraction(1, 3600)),
        (0x46, "kW", Fraction(5, 18)),
        (0x49, "kW", Fraction(2500, 9)),
        (0x4B, "GJ/h", 100),
    ],
)
def test_a_unit_code_has_an_exact_factor(code, unit, factor):
    assert unit_factor(code, unit) == factor


def test_a_unit_code_that_is_unknown_or_measures_something_else_has_no_factor():
    known = {*range(0x01, 0x1D), *range(0x29, 0x2F), *range(0x32, 0x38), 0x40, *range(0x43, 0x4C)}
    assert set(UNIT_CODES) == known
    for code in range(256):
        for unit, (measured, _) in UNITS.items():
            assert (unit_factor(code, unit) is not None) == (quantity(code) == measured)
    assert unit_factor(0x2C, "kWh") is None
    assert unit_factor(0xFF, "kWh") is None
    with pytest.raises(ValueError, match="unit 'kvarh': allowed are"):
        unit_factor(0x05, "kvarh")


def test_a_frame_that_belongs_to_dlt645_is_none_of_ours():
    assert QUESTION.find(bytes.fromhex("68694017101200689106333434344756cc16")) is None
    assert list(telegram.telegrams(REPLY, SHAPE))
