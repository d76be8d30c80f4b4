"""What a meter teaches: turnarounds, refusals, larger reads; bounded, kept, and forgotten."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.tests.fakes import START_MS
from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.learned import (
    SAMPLES_MAX,
    SPANS_MAX,
    TRIAL_EVERY_MS,
    TRIAL_FIRST_MS,
    Learned,
    TurnaroundMeter,
    Verdict,
    compare,
    turnaround_us,
)
from edgeagg_agent.plan import Block, Known, may_read, plan_blocks
from edgeagg_agent.profile import Limits

LINE = Timing.of(9600, "8N1")
UNKNOWN = Limits(holes="unknown")
VALUES = [(3, 0, 2), (3, 2, 2), (3, 6, 2), (3, 10, 2)]


class SimMeter:
    """Refuses reads that touch an illegal register or are too long."""

    def __init__(self, illegal=(), longest=125):
        self.illegal, self.longest = set(illegal), longest

    def takes(self, block):
        touched = {(block.function, block.start + n) for n in range(block.count)}
        return block.count <= self.longest and not touched & self.illegal


def plan(learned, values, limits, turnaround=50_000):
    return plan_blocks(values, limits, LINE, turnaround, learned.known)


def scan(learned, meter, values, limits):
    """Read once as planned; return what was learned, and the refused reads."""
    refused = []
    for block in plan(learned, values, limits):
        if meter.takes(block):
            learned = learned.answered(block)
        else:
            refused.append(block)
            learned = learned.refused(block, values, 2)
    return learned, refused


def live(learned, meter, values, limits, *, trials):
    """Try whatever is worth trying, `trials` times at most; return what was tried."""
    now_ms, tried = START_MS, []
    learned, block = learned.trial(values, limits, LINE, 50_000, now_ms)
    assert block is None, "the first trial waits until the meter has been read"
    now_ms += TRIAL_FIRST_MS
    for _ in range(trials):
        learned, block = learned.trial(values, limits, LINE, 50_000, now_ms)
        if block is None:
            break
        tried.append(block)
        verdict = Verdict.AGREES if meter.takes(block) else Verdict.DIFFERS
        learned = learned.tried(block, values, verdict)
        now_ms += TRIAL_EVERY_MS
    return learned, tried


def test_a_plan_goes_by_the_slow_tenth_and_one_slow_answer_does_not_move_it():
    meter = TurnaroundMeter()
    for _ in range(15):
        meter.add(20_000)
    assert meter.planned_us is None
    meter.add(900_000)
    assert meter.planned_us == 20_000
    for _ in range(30):
        meter.add(21_000)
    assert meter.planned_us == 20_000, "five per cent are no reason for another plan"
    for _ in range(SAMPLES_MAX):
        meter.add(40_000)
    assert meter.planned_us == 40_000


def test_a_turnaround_below_nothing_is_nothing():
    meter = TurnaroundMeter()
    for _ in range(SAMPLES_MAX):
        meter.add(-50_000)
    assert meter.planned_us == 0


def test_only_the_last_turnarounds_count():
    meter = TurnaroundMeter()
    for took_us in [90_000] * 1000 + [20_000] * SAMPLES_MAX:
        meter.add(took_us)
    assert meter.planned_us == 20_000


def test_a_turnaround_is_what_the_wire_does_not_explain():
    # 8 and 9 characters of 10 bits at 9600 Bd
    assert turnaround_us(0.0377083, LINE, request_bytes=8, reply_bytes=9) == pytest.approx(
        20_000, abs=2
    )


def test_a_refused_read_across_a_hole_is_split_there():
    learned = Learned("p").refused(Block(3, 0, 8), VALUES, 2)
    assert learned.known.refused == ((3, 4, 2),)
    limits = Limits(holes="readable")
    assert plan(learned, VALUES, limits) == (Block(3, 0, 4), Block(3, 6, 6))


def test_a_refused_read_shorter_than_others_that_were_answered_says_nothing_about_length():
    learned = Learned("p").answered(Block(3, 100, 40)).refused(Block(3, 0, 4), VALUES, 2)
    assert learned.known == Known(refused=((3, 0, 4),))
    assert learned.too_long == 0


@pytest.mark.parametrize("code", [1, 4, 6, 11])
def test_a_busy_or_broken_meter_teaches_nothing(code):
    assert Learned("p").refused(Block(3, 0, 8), VALUES, code) == Learned("p")


def test_a_refused_single_value_teaches_nothing_about_reads():
    assert Learned("p").refused(Block(3, 0, 2), VALUES, 2) == Learned("p")


def test_a_refusal_longer_than_any_answer_halves_the_reads_and_a_trial_finds_the_limit():
    values = [(3, n, 2) for n in range(0, 120, 2)]
    meter, learned, most = SimMeter(longest=50), Learned("p"), []
    for _ in range(3):
        learned, refused = scan(learned, meter, values, UNKNOWN)
        most.append(learned.known.registers_max)
    assert most == [60, 30, 30]
    assert refused == []
    learned, tried = live(learned, meter, values, UNKNOWN, trials=20)
    assert 0 < len(tried) <= 8, "a bisection, and only while it saves a read"
    learned, refused = scan(learned, meter, values, UNKNOWN)
    assert refused == []
    assert len(plan(learned, values, UNKNOWN)) == 3


def test_an_unknown_hole_is_crossed_once_a_trial_agreed_and_never_after_a_refusal():
    learned, tried = live(Learned("p"), SimMeter({(3, 9)}), VALUES, UNKNOWN, trials=9)
    assert tried == [Block(3, 2, 6), Block(3, 6, 6)], "one hole at a time"
    assert learned.known.proven == ((3, 0, 8),), "the neighbours are read already"
    assert learned.known.refused == ((3, 8, 2),)
    assert plan(learned, VALUES, UNKNOWN) == (Block(3, 0, 8), Block(3, 10, 2))
    assert learned.trials == 2


def test_trials_come_ten_minutes_apart_and_begin_a_minute_after_the_start():
    learned, block = Learned("p").trial(VALUES, UNKNOWN, LINE, 50_000, START_MS)
    assert block is None
    for wait_ms in (TRIAL_FIRST_MS, TRIAL_EVERY_MS, TRIAL_EVERY_MS):
        due_ms = learned.next_trial_ms
        learned, block = learned.trial(VALUES, UNKNOWN, LINE, 50_000, due_ms - 1)
        assert block is None
        learned, block = learned.trial(VALUES, UNKNOWN, LINE, 50_000, due_ms)
        assert block is not None, wait_ms
    early_ms = START_MS - 100_000_000
    learned, block = learned.trial(VALUES, UNKNOWN, LINE, 50_000, early_ms)
    assert block is None
    assert learned.next_trial_ms == early_ms + TRIAL_FIRST_MS, "the clock was set back"


@pytest.mark.parametrize(
    ("limits", "turnaround"),
    [
        (Limits(holes="illegal"), 50_000),
        (Limits(holes="unknown", illegal=((3, 0, 99),)), 50_000),
        (Limits(holes="readable"), 50_000),
        (Limits(holes="unknown", registers_max=4), 50_000),
    ],
)
def test_nothing_is_tried_that_the_profile_settles(limits, turnaround):
    learned, _ = Learned("p").trial(VALUES, limits, LINE, turnaround, START_MS)
    _, block = learned.trial(VALUES, limits, LINE, turnaround, START_MS + TRIAL_FIRST_MS)
    assert block is None


def test_nothing_is_tried_that_would_not_save_time():
    far = [(3, 0, 2), (3, 100, 2)]
    learned, _ = Learned("p").trial(far, UNKNOWN, LINE, 5_000, START_MS)
    assert learned.trial(far, UNKNOWN, LINE, 5_000, START_MS + TRIAL_FIRST_MS)[1] is None
    assert learned.trial(far, UNKNOWN, LINE, 500_000, START_MS + TRIAL_FIRST_MS)[1] is not None


def test_a_trial_that_proves_nothing_is_made_three_times():
    learned = Learned("p")
    for _ in range(2):
        learned = learned.tried(Block(3, 2, 6), VALUES, Verdict.OPEN)
        assert learned.known == Known()
    learned = learned.tried(Block(3, 2, 6), VALUES, Verdict.OPEN)
    assert learned.known.refused == ((3, 4, 2),)


A, B, C = (3, 0, 2), (3, 2, 2), (3, 6, 2)


@pytest.mark.parametrize(
    ("trial", "after", "verdict"),
    [
        ({A: b"\1\2", B: b"\0\0"}, {A: b"\1\2", B: b"\0\0"}, Verdict.AGREES),
        ({A: b"\1\3", B: b"\0\0"}, {A: b"\1\2", B: b"\0\0"}, Verdict.DIFFERS),
        ({A: b"\1\3", B: b"\0\0"}, {A: b"\1\4", B: b"\0\0"}, Verdict.OPEN),
        ({A: b"\1\3", B: b"\0\1"}, {A: b"\1\4", B: b"\0\0"}, Verdict.DIFFERS),
        ({A: b"\1\2"}, {A: b"\1\2", B: b"\0\0"}, Verdict.DIFFERS),
        ({}, {}, Verdict.OPEN),
    ],
)
def test_a_trial_is_judged_by_the_values_that_stood_still(trial, after, verdict):
    assert compare({A: b"\1\2", B: b"\0\0"}, trial, after) is verdict


def test_a_refusal_inside_a_proven_span_takes_the_proof_back():
    learned = Learned("p", Known(proven=((3, 0, 12), (4, 0, 12))))
    learned = learned.refused(Block(3, 0, 12), VALUES, 2)
    assert learned.known.proven == ((4, 0, 12),)
    assert learned.known.refused == ((3, 0, 12),)


def test_what_was_learned_is_kept_as_json_for_its_profile_only():
    learned, _ = live(Learned("p"), SimMeter({(3, 9)}), VALUES, UNKNOWN, trials=9)
    kept = json.loads(json.dumps(learned.to_json()))
    again = Learned.from_json(kept, "p")
    assert again.known == learned.known
    assert again.to_json() == learned.to_json()
    assert Learned.from_json(kept, "changed") == Learned("changed")


@pytest.mark.parametrize(
    "kept", [{}, {"profile": "p"}, {"profile": "p", "proven": [[1]], "refused": 3}]
)
def test_what_cannot_be_read_is_learned_anew(kept):
    assert Learned.from_json(kept, "p") == Learned("p")


def test_what_is_kept_is_bounded_whatever_a_meter_does():
    learned = Learned("p")
    for start in range(0, 4000, 20):
        values = [(3, start, 2), (3, start + 4, 2)]
        learned = learned.refused(Block(3, start, 6), values, 2)
        learned = learned.tried(Block(3, start + 5000, 2), [], Verdict.AGREES)
    assert len(learned.known.refused) == SPANS_MAX
    assert len(learned.known.proven) == SPANS_MAX


places = st.lists(
    st.tuples(st.just(3), st.integers(0, 60), st.integers(1, 3)), min_size=1, max_size=8
)


@settings(deadline=None)  # the machine may be busy
@example([(3, 0, 1), (3, 0, 1), (3, 1, 1), (3, 3, 2)], {(3, 0)}, 3, "unknown")
@example([(3, 2, 1), (3, 2, 1), (3, 3, 1), (3, 5, 2)], {(3, 2)}, 3, "unknown")
@example([(3, 0, 3), (3, 2, 3), (3, 5, 1), (3, 7, 1)], set(), 3, "unknown")
@given(
    places,
    st.sets(st.tuples(st.just(3), st.integers(0, 64)), max_size=6),
    st.integers(3, 70),
    st.sampled_from(("readable", "unknown", "illegal")),
)
def test_every_value_a_meter_has_is_read_in_the_end_with_no_more_refusals(
    values, illegal, longest, holes
):
    meter, limits = SimMeter(illegal, longest), Limits(holes=holes)
    learned = Learned("p")
    for _ in range(60):
        learned, refused = scan(learned, meter, values, limits)
        if not [block for block in refused if _can_be_split(block, values)]:
            break
    else:
        raise AssertionError(refused)
    learned, tried = live(learned, meter, values, limits, trials=60)
    assert len(tried) < 60, "trials end"
    for _ in range(60):
        learned, refused = scan(learned, meter, values, limits)
        if not [block for block in refused if _can_be_split(block, values)]:
            break
    else:
        raise AssertionError(refused)
    for block in plan(learned, values, limits):
        if meter.takes(block):
            continue
        assert not _can_be_split(block, values)


def _can_be_split(block, values):
    inside = [v for v in values if block.covers(v)]
    cuts = {s for _, s, _ in inside} | {s + c for _, s, c in inside}
    return any(
        block.start < cut < block.end and not any(s < cut < s + c for _, s, c in inside)
        for cut in cuts
    )


@settings(deadline=None)  # the machine may be busy
@given(places, st.sets(st.tuples(st.just(3), st.integers(0, 64)), max_size=6), st.integers(3, 70))
def test_no_trial_is_outside_the_profile_or_already_known(values, illegal, longest):
    limits = Limits(holes="unknown", illegal=tuple((3, place, 1) for _, place in illegal))
    meter = SimMeter(illegal, longest)
    learned, tried = live(Learned("p"), meter, values, limits, trials=30)
    wanted = {(3, s + n) for _, s, c in values for n in range(c)}
    for block in tried:
        crossed = {(3, block.start + n) for n in range(block.count)} - wanted
        assert not crossed & illegal
        if meter.takes(block):
            assert may_read(block, values, limits, learned.known)
