"""Slots that nobody read are declared, each exactly once, in runs that can be counted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tests.fakes import START_MS, FakeRecorder
from edgeagg.model import Quality
from edgeagg_agent import books, slots
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
    behind=st.integers(-300, 5_000),
)
def test_behind_a_restart_every_slot_is_declared_or_still_to_be_read(period_ms, now_ms, behind):
    last_due_ms = max(0, now_ms // period_ms - behind) * period_ms
    recorder = FakeRecorder({7: last_due_ms})
    schedule = Schedule({7: period_ms}, now_ms)
    books.take_over(schedule, {7: period_ms}, recorder, now_ms)
    declared = [at for gap in recorder.gaps for at in range(gap[1], gap[2] + 1, period_ms)]
    next_ms = schedule.next_due_ms(7)
    is_wrong = (
        last_due_ms - now_ms > max(period_ms, slots.AHEAD_MAX_MS)
        or now_ms - last_due_ms > slots.GAP_MAX_MS
    )
    if is_wrong:
        assert recorder.restarts == [(7, next_ms - period_ms)]
        assert declared == []
        assert now_ms < next_ms <= now_ms + period_ms
        return
    assert recorder.restarts == []
    assert declared == list(range(last_due_ms + period_ms, next_ms, period_ms))
    assert max(now_ms, last_due_ms) < next_ms <= now_ms + slots.AHEAD_MAX_MS + 2 * period_ms
    assert {gap[4] for gap in recorder.gaps} <= {Quality.STOPPED}


def test_a_group_that_was_never_read_begins_with_its_next_slot():
    recorder = FakeRecorder()
    schedule = Schedule({0: 60_000}, START_MS + 5)
    books.take_over(schedule, {0: 60_000}, recorder, START_MS + 5)
    assert recorder.gaps == []
    assert schedule.next_due_ms(0) == (START_MS // 60_000 + 1) * 60_000
    assert recorder.restarts == [(0, schedule.next_due_ms(0) - 60_000)]


def test_a_group_that_waits_for_the_time_begins_with_its_first_row():
    recorder = FakeRecorder()
    recorder.held.begin([0])
    books.take_over(Schedule({0: 60_000}, START_MS), {0: 60_000}, recorder, START_MS)
    assert recorder.gaps == recorder.restarts == []


def test_a_group_read_by_a_wrong_clock_is_named_and_goes_on_at_once(caplog):
    recorder = FakeRecorder({0: START_MS + 60_000, 1: START_MS + 61_000})
    schedule = Schedule({0: 1_000, 1: 1_000}, START_MS)
    books.take_over(schedule, {0: 1_000, 1: 1_000}, recorder, START_MS)
    (complaint,) = [record.getMessage() for record in caplog.records]
    assert complaint.startswith("meter number 1: its last slot lies 61 s in the future")
    assert [schedule.next_due_ms(group) - START_MS for group in (0, 1)] == [61_000, 1_000]
    assert recorder.restarts == [(1, START_MS)]
    assert recorder.gaps == []


def test_where_nobody_knows_what_was_before_no_gap_is_declared():
    recorder = FakeRecorder({0: START_MS - 86_400_000})
    schedule = Schedule({0: 1_000}, START_MS)
    books.take_over(schedule, {0: 1_000}, recorder, START_MS, knows_past=False)
    assert recorder.gaps == []
    assert recorder.restarts == [(0, START_MS)]


def test_values_that_nobody_vouches_for_the_time_of_are_flagged_and_reasons_stay():
    qualities = bytes([Quality.GOOD, Quality.NO_REPLY, Quality.GOOD])
    assert slots.flagged(qualities, is_trusted=True) == qualities
    told = slots.flagged(qualities, is_trusted=False)
    assert list(told) == [Quality.CLOCK_UNTRUSTED, Quality.NO_REPLY, Quality.CLOCK_UNTRUSTED]
