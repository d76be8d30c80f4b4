"""Slots that nobody read are declared, each exactly once, in runs that can be counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tests.fakes import START_MS, FakeRecorder
from edgeagg.model import Quality
from edgeagg_agent import books
from edgeagg_agent.schedule import Schedule

RUN_MAX = 2**31 - 1


def test_no_slots_are_no_gap():
    recorder = FakeRecorder()
    books.declare(recorder, 0, START_MS, 0, 1_000, Quality.OVERRUN)
    assert recorder.gaps == []


@pytest.mark.parametrize("slots", [1, RUN_MAX, RUN_MAX + 1, 2 * RUN_MAX, 2 * RUN_MAX + 5])
def test_a_run_is_never_longer_than_can_be_counted(slots):
    recorder = FakeRecorder()
    books.declare(recorder, 3, START_MS, slots, 200, Quality.OVERRUN)
    next_ms = START_MS
    for group, first_ms, last_ms, count, reason in recorder.gaps:
        assert (group, first_ms, reason) == (3, next_ms, Quality.OVERRUN)
        assert (last_ms - first_ms) // 200 + 1 == count <= RUN_MAX
        next_ms = last_ms + 200
    assert sum(gap[3] for gap in recorder.gaps) == slots
    assert len(recorder.gaps) == -(-slots // RUN_MAX)


@given(
    period_ms=st.sampled_from((200, 1_000, 60_000, 900_000, 86_400_000)),
    now_ms=st.integers(0, 2 * START_MS),
    behind=st.integers(-3, 5_000),
)
def test_behind_a_restart_every_slot_is_declared_or_still_to_be_read(period_ms, now_ms, behind):
    last_due_ms = max(0, now_ms // period_ms - behind) * period_ms
    recorder = FakeRecorder({7: last_due_ms})
    schedule = Schedule({7: period_ms}, now_ms)
    books.take_over(schedule, {7: period_ms}, recorder, now_ms)
    declared = [at for gap in recorder.gaps for at in range(gap[1], gap[2] + 1, period_ms)]
    next_ms = schedule.next_due_ms(7)
    assert declared == list(range(last_due_ms + period_ms, next_ms, period_ms))
    assert next_ms > max(now_ms, last_due_ms)
    assert {gap[4] for gap in recorder.gaps} <= {Quality.STOPPED}


def test_a_group_that_was_never_read_begins_with_its_next_slot():
    recorder = FakeRecorder()
    schedule = Schedule({0: 60_000}, START_MS + 5)
    books.take_over(schedule, {0: 60_000}, recorder, START_MS + 5)
    assert recorder.gaps == []
    assert schedule.next_due_ms(0) == (START_MS // 60_000 + 1) * 60_000


def test_a_group_read_by_a_wrong_clock_is_named_and_one_slot_ahead_is_not_wrong(caplog):
    recorder = FakeRecorder({0: START_MS + 1_000, 1: START_MS + 2_000})
    schedule = Schedule({0: 1_000, 1: 1_000}, START_MS)
    books.take_over(schedule, {0: 1_000, 1: 1_000}, recorder, START_MS)
    (complaint,) = [record.getMessage() for record in caplog.records]
    assert complaint.startswith("meter number 1: was read up to 2 s in the future")
    assert [schedule.next_due_ms(group) - START_MS for group in (0, 1)] == [2_000, 3_000]
    assert recorder.gaps == []
