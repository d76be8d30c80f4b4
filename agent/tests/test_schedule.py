"""The schedule: earliest deadline first, every slot picked once or counted as missed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tests.fakes import START_MS
from edgeagg_agent.schedule import Retry, Schedule, Slot, Trait, Wait, next_due_ms


def test_slots_fall_due_at_multiples_of_the_period_after_now():
    assert next_due_ms(START_MS, 1_000) == START_MS + 1_000
    assert next_due_ms(START_MS + 1, 1_000) == START_MS + 1_000
    assert next_due_ms(START_MS + 999, 1_000) == START_MS + 1_000
    schedule = Schedule({0: 1_000, 1: 5_000}, START_MS + 10)
    assert schedule.pick(START_MS + 10) == Wait(START_MS + 1_000)
    assert schedule.pick(START_MS + 999) == Wait(START_MS + 1_000)
    assert schedule.pick(START_MS + 1_000) == Slot(0, START_MS + 1_000, 0, 1_000)
    assert schedule.pick(START_MS + 1_000) == Wait(START_MS + 2_000)


def test_the_earliest_deadline_goes_first():
    schedule = Schedule({0: 60_000, 1: 5_000, 2: 1_000}, START_MS - 1)
    picked = [schedule.pick(START_MS + 40_000) for _ in range(3)]
    assert [slot.group for slot in picked] == [2, 1, 0]


def test_of_equal_deadlines_the_first_group_goes_first():
    schedule = Schedule({1: 1_000, 0: 1_000}, START_MS - 1)
    assert [schedule.pick(START_MS).group for _ in range(2)] == [0, 1]


def test_of_equal_deadlines_those_at_the_present_speed_go_first():
    lines = {0: Trait(line=1), 1: Trait(line=2), 2: Trait(line=1), 3: Trait(line=2)}
    schedule = Schedule(dict.fromkeys(range(4), 1_000), START_MS - 1, lines)
    assert [schedule.pick(START_MS).group for _ in range(4)] == [0, 2, 1, 3]
    # and the speed of the last read is the first one of the next round: one change for each round
    assert [schedule.pick(START_MS + 1_000).group for _ in range(4)] == [1, 3, 0, 2]


def test_a_slot_that_was_put_back_comes_when_nothing_else_is_due():
    schedule = Schedule({0: 1_000, 1: 1_000}, START_MS - 1)
    slot = schedule.pick(START_MS)
    assert schedule.put_back(slot, START_MS + 10)
    assert schedule.pick(START_MS + 10).group == 1
    assert schedule.pick(START_MS + 20) == Retry(slot, in_time=True)
    assert schedule.pick(START_MS + 30) == Wait(START_MS + 1_000)


def test_a_slot_that_was_put_back_comes_unread_when_its_time_is_over():
    schedule = Schedule({0: 1_000}, START_MS - 1)
    slot = schedule.pick(START_MS)
    assert schedule.put_back(slot, START_MS + 10)
    assert schedule.pick(START_MS + 2_500) == Retry(slot, in_time=False)
    assert schedule.pick(START_MS + 2_500) == Slot(0, START_MS + 2_000, 1, 1_000)


def test_a_slot_without_time_for_another_read_is_not_put_back():
    schedule = Schedule({0: 1_000}, START_MS - 1, {0: Trait(cost_ms=300)})
    slot = schedule.pick(START_MS)
    assert schedule.put_back(slot, START_MS + 699)
    schedule = Schedule({0: 1_000}, START_MS - 1, {0: Trait(cost_ms=300)})
    slot = schedule.pick(START_MS)
    assert not schedule.put_back(slot, START_MS + 700)
    assert schedule.pick(START_MS + 700) == Wait(START_MS + 1_000)


def test_overrun_slots_are_handed_back_with_the_slot_behind_them():
    schedule = Schedule({0: 1_000}, START_MS - 1)
    assert schedule.pick(START_MS) == Slot(0, START_MS, 0, 1_000)
    slot = schedule.pick(START_MS + 4_500)
    assert slot == Slot(0, START_MS + 4_000, 3, 1_000)
    assert slot.first_missed_ms == START_MS + 1_000


def test_a_slot_is_missed_when_the_next_one_falls_due_and_no_earlier():
    schedule = Schedule({0: 1_000}, START_MS - 1)
    assert schedule.pick(START_MS + 999).missed == 0
    schedule = Schedule({0: 1_000}, START_MS - 1)
    assert schedule.pick(START_MS + 1_000).missed == 1


def test_slots_that_a_former_run_took_are_not_taken_again():
    schedule = Schedule({0: 1_000, 1: 1_000}, START_MS)
    schedule.postpone(0, START_MS + 3_000)
    schedule.postpone(1, START_MS - 3_000)
    assert schedule.next_due_ms(0) == START_MS + 4_000
    assert schedule.next_due_ms(1) == START_MS + 1_000


periods = st.lists(
    st.sampled_from((200, 1_000, 1_500, 2_000, 5_000, 60_000)), min_size=1, max_size=6
)


def play(schedule, count, now_ms, durations_ms):
    """Read until every duration is used up; yield (when, slot, next slots before the pick)."""
    for duration_ms in durations_ms:
        while True:
            next_ms = {group: schedule.next_due_ms(group) for group in range(count)}
            picked = schedule.pick(now_ms)
            if isinstance(picked, Slot):
                break
            assert picked.until_ms == min(next_ms.values())
            assert picked.until_ms > now_ms, "waits for what is due"
            now_ms = picked.until_ms
        yield now_ms, picked, next_ms
        now_ms += duration_ms


@settings(deadline=None)
@given(
    periods,
    st.integers(START_MS, START_MS + 120_000),
    st.lists(st.one_of(st.integers(0, 300), st.integers(0, 20_000)), max_size=80),
)
def test_every_slot_is_picked_once_or_counted_as_missed_in_order(all_ms, start_ms, durations_ms):
    schedule = Schedule(dict(enumerate(all_ms)), start_ms)
    expected_ms = {group: next_due_ms(start_ms, period) for group, period in enumerate(all_ms)}
    for now_ms, slot, _ in play(schedule, len(all_ms), start_ms, durations_ms):
        assert slot.first_missed_ms == expected_ms[slot.group]
        assert slot.due_ms <= now_ms < slot.due_ms + slot.period_ms
        expected_ms[slot.group] = slot.due_ms + slot.period_ms
    assert {group: schedule.next_due_ms(group) for group in expected_ms} == expected_ms


@settings(deadline=None)
@given(periods, st.lists(st.integers(0, 20_000), max_size=80))
def test_no_group_starves_however_slow_the_bus(all_ms, durations_ms):
    schedule = Schedule(dict(enumerate(all_ms)), START_MS)
    overtaken = dict.fromkeys(range(len(all_ms)), 0)
    for now_ms, slot, next_ms in play(schedule, len(all_ms), START_MS, durations_ms):
        assert slot.group == min(
            (group for group, due_ms in next_ms.items() if due_ms <= now_ms),
            key=lambda group: (next_ms[group] + all_ms[group], next_ms[group], group),
        )
        overtaken[slot.group] = 0
        for group, due_ms in next_ms.items():
            if group != slot.group and due_ms + all_ms[group] <= now_ms:
                overtaken[group] += 1
                assert overtaken[group] < len(all_ms)


@settings(deadline=None)
@given(periods, st.integers(START_MS, START_MS + 60_000), st.data())
def test_with_enough_bus_time_nothing_is_missed(all_ms, start_ms, data):
    # reads that together fit into the shortest period meet every deadline (Jeffay et al., 1991)
    budget_ms = min(all_ms) // len(all_ms)
    durations_ms = data.draw(st.lists(st.integers(0, budget_ms), max_size=150))
    schedule = Schedule(dict(enumerate(all_ms)), start_ms)
    for _, slot, _ in play(schedule, len(all_ms), start_ms, durations_ms):
        assert slot.missed == 0


@pytest.mark.parametrize("lateness_ms", [0, 499, 500, 1_700])
def test_a_bus_that_wakes_late_still_reads_the_newest_slot(lateness_ms):
    schedule = Schedule({0: 500}, START_MS)
    slot = schedule.pick(START_MS + 500 + lateness_ms)
    assert slot.due_ms == START_MS + 500 + lateness_ms // 500 * 500
    assert slot.missed == lateness_ms // 500
