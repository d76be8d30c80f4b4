"""The accounts of meters that fail: two failures, then what the refill pays for."""

import pytest

from agent.tests.fakes import START_MS
from edgeagg_agent.attention import BACK_MS, PROBE_EVERY_MS, Attention

COST_US = 200_000


def failing(*meters, times=2, spare=0.0):
    attention = Attention(START_MS, spare=spare)
    for meter in meters:
        for _ in range(times):
            attention.failed(meter, START_MS, cost_us=COST_US)
    return attention


def test_a_meter_may_fail_twice_and_then_rests_until_another_failure_is_paid_for():
    attention = failing(1, times=1)
    assert attention.may_ask(1, START_MS)
    attention.failed(1, START_MS, cost_us=COST_US)
    # 0.2 s at 1 % take 20 s to earn
    assert not attention.may_ask(1, START_MS + 19_999)
    assert attention.may_ask(1, START_MS + 20_000)
    assert attention.may_ask(2, START_MS), "the others have nothing to do with it"


def test_several_in_trouble_share_the_rate_and_none_waits_longer_than_a_minute():
    attention = failing(1, 2)
    assert not attention.may_ask(1, START_MS + 39_999)
    assert attention.may_ask(1, START_MS + 40_000)
    many = failing(*range(40))
    assert not many.may_ask(3, START_MS + BACK_MS - 1)
    assert all(many.may_ask(meter, START_MS + BACK_MS) for meter in range(40))


def test_half_of_what_the_plan_leaves_over_may_be_wasted():
    attention = failing(1, spare=0.4)
    assert not attention.may_ask(1, START_MS + 999)
    assert attention.may_ask(1, START_MS + 1_000)


def test_a_question_the_bus_turned_down_does_not_make_the_next_one_cheap():
    attention = failing(1)
    attention.failed(1, START_MS, cost_us=1)
    assert not attention.may_ask(1, START_MS + 19_999)
    assert attention.may_ask(1, START_MS + 20_001)


def test_an_answer_does_not_fill_the_account():
    attention = failing(1)
    attention.answered(1, START_MS + 10_000)
    attention.failed(1, START_MS + 10_000, cost_us=COST_US)
    assert not attention.may_ask(1, START_MS + 20_001)


def test_an_account_that_time_has_filled_is_closed():
    attention = failing(1)
    attention.answered(1, START_MS + 1)
    assert attention.may_ask(1, START_MS + 40_000)
    attention.failed(1, START_MS + 40_000, cost_us=COST_US)
    assert attention.may_ask(1, START_MS + 40_000), "two failures again"


def test_only_a_meter_that_failed_last_is_probed_and_after_two_failures_it_is_absent():
    attention = failing(1, times=1)
    assert attention.next_probe_ms() == START_MS + PROBE_EVERY_MS
    assert not attention.is_absent(1)
    attention.answered(1, START_MS)
    assert attention.next_probe_ms() is None
    attention.failed(1, START_MS, cost_us=COST_US)
    assert not attention.is_absent(1), "an answer came in between"
    attention.failed(1, START_MS, cost_us=COST_US)
    assert attention.is_absent(1)


def test_a_probe_is_due_when_it_is_paid_for_the_longest_waiting_first():
    attention = failing(2, 1)
    attention.answered(3, START_MS)
    due_ms = attention.next_probe_ms()
    assert due_ms == START_MS + 40_000
    assert attention.probe(due_ms - 1) is None
    assert attention.probe(due_ms) == 1
    attention.failed(1, due_ms, cost_us=COST_US)
    assert attention.probe(due_ms) == 2
    attention.answered(2, due_ms)
    assert attention.probe(due_ms) is None


def test_probes_of_one_meter_keep_their_distance_on_an_idle_bus():
    attention = failing(1, spare=1.0)
    assert attention.may_ask(1, START_MS + 400), "a slot may be asked for"
    assert attention.next_probe_ms() == START_MS + PROBE_EVERY_MS


@pytest.mark.parametrize("step_ms", [13, 1_000, 10_000])
def test_the_refill_does_not_depend_on_how_often_it_is_looked_at(step_ms):
    attention = failing(*range(30))
    for at_ms in range(START_MS, START_MS + BACK_MS, step_ms):
        assert not attention.may_ask(3, at_ms)
    assert attention.may_ask(3, START_MS + BACK_MS)


def test_a_clock_that_stands_still_or_goes_back_pays_nothing():
    attention = failing(1)
    assert not attention.may_ask(1, START_MS - 100_000)
    assert not attention.may_ask(1, START_MS - 100_000 + 19_999)
