"""Which replies may still come: shapes, guards, what is learned."""

import pytest

from agent.tests.fake_line import reply
from edgeagg_agent.bus import ReadRequest
from edgeagg_agent.bus.doubt import (
    GUARD_MAX_S,
    GUARD_MIN_S,
    REMEMBERED_S,
    UNANSWERED_MAX,
    Doubts,
)
from edgeagg_agent.protocol import Found
from edgeagg_agent.protocol.modbus import RtuQuestion

READ = ReadRequest(unit=1, function=3, start=100, count=10)
FIXED = RtuQuestion(READ)
WIDER = RtuQuestion(READ, spare=2)
ELSEWHERE = RtuQuestion(ReadRequest(unit=1, function=3, start=500, count=10))
LONGER = RtuQuestion(ReadRequest(unit=1, function=3, start=500, count=20))
OTHER = RtuQuestion(ReadRequest(unit=2, function=3, start=100, count=10))


class Named:
    """A question whose answer names what it answers, as in DL/T 645."""

    meter = "meter 12"
    reply_bytes = 20

    def __init__(self, item):
        self.request = item

    def find(self, buffer):
        start = buffer.find(self.request)
        return Found(start, start + 1, self.request) if start >= 0 else None


def owing(question, deadline_s=10.0):
    doubts = Doubts()
    doubts.expect(question, deadline_s)
    return doubts


def test_a_meter_that_owes_nothing_is_asked_at_once_and_as_wanted():
    doubts = Doubts()
    assert doubts.held_until_s(FIXED) == 0.0
    assert doubts.ask_as(WIDER, 0.0) is WIDER


@pytest.mark.parametrize("question", [FIXED, ELSEWHERE])
def test_a_question_of_a_shape_that_is_owed_waits_for_the_guard(question):
    assert owing(FIXED).held_until_s(question) == 10.0 + GUARD_MIN_S


@pytest.mark.parametrize("question", [LONGER, OTHER])
def test_other_shapes_and_other_meters_do_not_wait(question):
    doubts = owing(FIXED)
    assert doubts.held_until_s(question) == 0.0
    assert doubts.ask_as(question, 10.0) is question


def test_a_question_with_spare_registers_is_asked_in_a_shape_that_is_not_owed():
    doubts = owing(FIXED)
    counts = []
    for deadline_s in (11.0, 12.0):
        assert doubts.held_until_s(WIDER) == 0.0
        asked = doubts.ask_as(WIDER, deadline_s)
        counts.append((asked.read.count, asked.wanted))
        doubts.expect(asked, deadline_s)
    assert counts == [(11, 10), (12, 10)]
    assert doubts.held_until_s(WIDER) == 10.0 + GUARD_MIN_S  # no shape is left


def test_an_answer_ends_the_debt_of_its_own_question_only():
    doubts = owing(FIXED)
    asked = doubts.ask_as(WIDER, 10.0)
    doubts.expect(asked, 11.0)
    assert not doubts.owes_nothing_else(asked)
    doubts.answered(asked)
    assert doubts.held_until_s(FIXED) == 10.0 + GUARD_MIN_S


def test_a_late_reply_is_counted_once_and_a_repetition_of_it_is_still_guarded_against():
    doubts = owing(FIXED)
    assert doubts.take_noise(b"\x00" + reply(READ), 10.5) == 1
    assert doubts.take_noise(reply(READ), 10.6) == 0
    assert doubts.held_until_s(FIXED) == 10.0 + GUARD_MIN_S


@pytest.mark.parametrize(
    ("late_s", "guard_s"), [(1.0, GUARD_MIN_S), (3.0, 6.0), (40.0, GUARD_MAX_S)]
)
def test_the_guard_is_twice_the_latest_reply_ever_seen_within_its_limits(late_s, guard_s):
    doubts = owing(FIXED)
    doubts.take_noise(b"", 10.0 + late_s)
    doubts.take_noise(reply(READ), 10.0 + late_s)
    assert doubts.guard_s("unit 1") == guard_s
    assert doubts.guard_s("unit 2") == GUARD_MIN_S


def test_a_reply_that_lay_unread_for_long_teaches_no_lateness_it_may_not_have_had():
    doubts = owing(FIXED)
    doubts.take_noise(b"", 10.5)
    doubts.take_noise(reply(READ), 50.0)
    assert doubts.guard_s("unit 1") == GUARD_MIN_S


def test_an_old_debt_is_forgotten():
    doubts = owing(FIXED)
    assert doubts.is_owed_alike(ELSEWHERE, 10.0 + REMEMBERED_S - 0.1)
    assert not doubts.is_owed_alike(ELSEWHERE, 10.0 + REMEMBERED_S)


def test_a_dead_meter_fills_no_memory():
    doubts = Doubts()
    for number in range(100):
        doubts.expect(FIXED, number * 5.0)
    assert len(doubts._unanswered["unit 1"]) == UNANSWERED_MAX


def test_others_owe_a_reply_while_their_guard_lasts():
    doubts = owing(OTHER)
    assert doubts.is_owed_by_others("unit 1", 10.0 + GUARD_MIN_S - 0.1)
    assert not doubts.is_owed_by_others("unit 1", 10.0 + GUARD_MIN_S)
    assert not doubts.is_owed_by_others("unit 2", 10.0)


def test_an_answer_that_names_itself_waits_for_the_very_same_question_only():
    doubts = owing(Named(b"\x01"))
    assert doubts.held_until_s(Named(b"\x02")) == 0.0
    assert doubts.held_until_s(Named(b"\x01")) == 10.0 + GUARD_MIN_S
