"""Read plans: least bus time, nothing split, nothing crossed that must not be crossed."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.plan import (
    SWITCH_US,
    Block,
    Item,
    Known,
    failed_us,
    items_us,
    may_read,
    plan_blocks,
    scan_us,
    switch_us,
    unused,
    utilisation,
)
from edgeagg_agent.profile import Limits, load

LINE = Timing.of(9600, "8N1")
READABLE = Limits(registers_max=80, holes="readable")
# 17 floats of an SDM630: voltages, currents, powers per phase; totals, frequency, energies
SDM630 = [(4, start, 2) for start in (*range(0, 18, 2), 52, 56, 60, 62, 70, 72, 74, 342)]


def test_the_sdm630_needs_three_reads_at_20_ms_turnaround():
    blocks = plan_blocks(SDM630, READABLE, LINE, 20_000)
    assert blocks == (Block(4, 0, 18), Block(4, 52, 24), Block(4, 342, 2))
    # 24 bytes of requests, 103 of replies, three turnarounds, three silences
    assert scan_us(blocks, READABLE, LINE, 20_000) == pytest.approx(203_230, abs=10)


@pytest.mark.parametrize(
    ("turnaround_us", "reads"), [(5_000, 3), (20_000, 3), (100_000, 2), (1_000_000, 2)]
)
def test_the_slower_a_meter_the_fewer_reads(turnaround_us, reads):
    assert len(plan_blocks(SDM630, READABLE, LINE, turnaround_us)) == reads


def test_without_a_line_the_fewest_reads_win_and_then_the_fewest_registers():
    limits = Limits(registers_max=10, holes="readable")
    late_hole = [(3, 0, 2), (3, 2, 2), (3, 6, 2), (3, 14, 2)]
    assert plan_blocks(late_hole, limits, None, 1000) == (Block(3, 0, 8), Block(3, 14, 2))
    early_hole = [(3, 0, 2), (3, 8, 2), (3, 12, 2), (3, 14, 2)]
    assert plan_blocks(early_hole, limits, None, 1000) == (Block(3, 0, 2), Block(3, 8, 8))


@pytest.mark.parametrize("holes", ["illegal", "unknown"])
def test_a_hole_is_not_crossed_unless_it_is_readable(holes):
    limits = Limits(holes=holes)
    wanted = [(3, 0, 2), (3, 2, 2), (3, 5, 2)]
    assert plan_blocks(wanted, limits, LINE, 100_000) == (Block(3, 0, 4), Block(3, 5, 2))
    assert plan_blocks(wanted, limits, None, 1000) == (Block(3, 0, 4), Block(3, 5, 2))


def test_functions_are_never_mixed():
    wanted = [(4, 0, 2), (3, 2, 2), (4, 4, 2)]
    assert plan_blocks(wanted, READABLE, LINE, 0) == (Block(3, 2, 2), Block(4, 0, 6))


def test_a_register_wanted_twice_is_read_once():
    assert plan_blocks([(3, 0, 2), (3, 0, 2), (3, 1, 1)], READABLE, LINE, 0) == (Block(3, 0, 2),)


def test_overlapping_values_stay_together():
    limits = Limits(registers_max=3)
    wanted = [(3, 0, 2), (3, 1, 2), (3, 3, 1)]
    assert plan_blocks(wanted, limits, LINE, 0) == (Block(3, 0, 3), Block(3, 3, 1))


def test_a_value_longer_than_one_read_is_refused():
    with pytest.raises(ValueError, match="longer than the 2 of one read"):
        plan_blocks([(3, 0, 4)], Limits(registers_max=2), LINE, 0)


def test_nothing_wanted_is_nothing_read():
    assert plan_blocks([], READABLE, LINE, 0) == ()
    assert scan_us([], READABLE, LINE, 0) == 0


def test_the_silence_a_meter_needs_counts_and_makes_reads_dearer():
    slow = Limits(registers_max=80, request_gap_ms=100, holes="readable")
    blocks = plan_blocks(SDM630, slow, LINE, 20_000)
    assert blocks == (Block(4, 0, 76), Block(4, 342, 2))
    beyond_us = scan_us(blocks, slow, LINE, 20_000) - scan_us(blocks, READABLE, LINE, 20_000)
    assert beyond_us == 2 * (100_000 - LINE.t35_us)


def test_a_gap_shorter_than_the_silence_of_the_line_costs_nothing():
    short = Limits(request_gap_ms=3)
    assert scan_us([Block(3, 0, 1)], short, LINE, 0) == scan_us([Block(3, 0, 1)], READABLE, LINE, 0)


@pytest.mark.parametrize(
    ("turnaround_ms", "optimum_ms"), [(5, 147), (20, 192), (50, 282), (100, 390)]
)
def test_the_sdm630_takes_the_least_time_there_is_and_the_silences(turnaround_ms, optimum_ms):
    blocks = plan_blocks(SDM630, READABLE, LINE, turnaround_ms * 1000)
    silences_us = len(blocks) * LINE.t35_us  # the optimum is that of a line without them
    bare_us = scan_us(blocks, READABLE, LINE, turnaround_ms * 1000) - silences_us
    assert round(bare_us / 1000) == optimum_ms


def test_a_hole_inside_a_proven_span_is_crossed_when_the_whole_read_lies_inside():
    wanted = [(3, 0, 2), (3, 4, 2), (3, 8, 2)]
    limits = Limits(holes="unknown", proven=((3, 0, 6),))
    split = (Block(3, 0, 6), Block(3, 8, 2))
    assert plan_blocks(wanted, limits, LINE, 100_000) == split
    assert plan_blocks(wanted, limits, None, 1000) == split
    taught = Known(proven=((3, 0, 10),))
    assert plan_blocks(wanted, limits, LINE, 100_000, taught) == (Block(3, 0, 10),)
    other = Known(proven=((4, 0, 10),))
    assert plan_blocks(wanted, Limits(), LINE, 100_000, other) == tuple(Block(*w) for w in wanted)


def test_a_read_with_a_hole_does_not_reach_beyond_the_proven_span():
    wanted = [(3, 0, 2), (3, 2, 2), (3, 6, 2)]
    limits = Limits(holes="unknown", proven=((3, 2, 6),))
    assert len(plan_blocks(wanted, limits, LINE, 100_000)) == 2


@pytest.mark.parametrize("proven", [(), ((3, 0, 20),)])
def test_an_illegal_range_is_never_crossed_whatever_else_is_said(proven):
    wanted = [(3, 0, 2), (3, 4, 2), (3, 8, 2)]
    limits = Limits(holes="readable", illegal=((3, 7, 1),), proven=proven)
    assert plan_blocks(wanted, limits, LINE, 100_000) == (Block(3, 0, 6), Block(3, 8, 2))


def test_a_read_that_was_refused_is_not_planned_again_nor_one_around_it():
    wanted = [(3, 0, 2), (3, 2, 2), (3, 4, 2)]
    taught = Known(refused=((3, 1, 3),))
    assert len(plan_blocks(wanted, Limits(), LINE, 100_000, taught)) == 2
    # by itself a value is asked for all the same: there is no other way to it
    assert plan_blocks([(3, 0, 2)], Limits(), LINE, 0, Known(refused=((3, 0, 2),)))


def test_what_a_meter_answers_at_most_bounds_its_reads_but_no_value():
    wanted = [(3, 0, 4), (3, 4, 1), (3, 5, 1), (3, 6, 1)]
    blocks = plan_blocks(wanted, Limits(), LINE, 100_000, Known(registers_max=2))
    assert sorted(block.count for block in blocks) == [1, 2, 4]
    assert blocks[0] == Block(3, 0, 4)


def test_the_unused_registers_of_a_read_are_named():
    assert unused(Block(3, 0, 10), [(3, 2, 2), (3, 3, 3), (4, 0, 9), (3, 9, 2)]) == [
        (3, 0, 2),
        (3, 6, 4),
    ]


def test_items_take_their_frames_the_turnaround_and_the_silence():
    line = Timing.of(2400, "8E1")
    one = items_us([Item(16, 20)], line, 30_000, 0)
    # 36 characters of 11 bits at 2400 Bd, the turnaround, 3.5 characters
    assert one == pytest.approx(165_000 + 30_000 + 16_042, abs=3)
    assert items_us([Item(16, 20)] * 2, line, 30_000, 0) == 2 * one
    assert items_us([Item(16, 20)], line, 30_000, 100) == one + 100_000 - line.t35_us
    assert items_us([Item(16, 20)], line, 0, 0) == one - 30_000 + line.t35_us


def test_a_question_without_an_answer_costs_the_whole_wait():
    # 8 and 9 characters at 9600 8N1, the longest turnaround, the adapter, 3.5 characters
    assert failed_us(LINE, 150_000, 9, 16_000) == pytest.approx(17_708 + 166_000 + 3_646, abs=3)
    assert failed_us(None, 500_000, 9) == 500_000


def test_going_on_at_another_speed_costs_the_silence_of_the_slower_one():
    slow = Timing.of(2400, "8E1")
    assert switch_us(LINE, slow) == switch_us(slow, LINE) == SWITCH_US + slow.t35_us - LINE.t35_us
    assert switch_us(slow, slow) == 0


spans = st.tuples(st.sampled_from((3, 4)), st.integers(0, 60), st.integers(1, 30))
values = st.lists(
    st.tuples(st.sampled_from((3, 4)), st.integers(0, 60), st.integers(1, 4)), max_size=7
)
few = st.lists(spans, max_size=2).map(tuple)
limits = st.builds(
    Limits,
    registers_max=st.integers(16, 40),
    request_gap_ms=st.sampled_from((0, 50)),
    holes=st.sampled_from(("readable", "illegal", "unknown")),
    illegal=few,
    proven=few,
)
taught = st.builds(
    Known, proven=few, refused=few, registers_max=st.one_of(st.just(0), st.integers(1, 40))
)
timings = st.sampled_from((None, LINE, Timing.of(1200, "8E1"), Timing.of(115200, "8N1")))


@settings(deadline=None)  # the machine may be busy
@given(values, limits, taught, timings, st.integers(0, 100_000))
def test_a_plan_covers_every_value_whole_and_keeps_the_limits(
    wanted, bounds, known, timing, turnaround_us
):
    blocks = plan_blocks(wanted, bounds, timing, turnaround_us, known)
    for value in wanted:
        assert any(block.covers(value) for block in blocks)
    singles = _singles(wanted)
    for block in blocks:
        assert block.count <= bounds.registers_max
        assert block in singles or _allowed(block, bounds, known, wanted)


@settings(deadline=None, max_examples=60)  # the machine may be busy
@given(values, limits, taught, timings, st.integers(0, 100_000))
def test_no_other_plan_takes_less_bus_time(wanted, bounds, known, timing, turnaround_us):
    def cost(blocks):
        us = scan_us(blocks, bounds, timing, turnaround_us)
        return us, len(blocks), sum(block.count for block in blocks)

    planned = plan_blocks(wanted, bounds, timing, turnaround_us, known)
    whole = _singles(wanted)
    for cuts in itertools.product((False, True), repeat=max(0, len(whole) - 1)):
        other = _joined(whole, cuts)
        if other is None:
            continue
        if all(b in whole or _allowed(b, bounds, known, wanted) for b in other):
            assert cost(planned) <= cost(other)


def _singles(wanted):
    """Return the smallest reads that split no value, in the order of the registers."""
    places = sorted({(f, s + n) for f, s, c in wanted for n in range(c)})
    singles = []
    for function, place in places:
        held = any(f == function and s < place < s + c for f, s, c in wanted)
        if held:
            last = singles.pop()
            singles.append(Block(function, last.start, place + 1 - last.start))
        else:
            singles.append(Block(function, place, 1))
    return singles


def _joined(whole, cuts):
    blocks = list(whole[:1])
    for value, cut in zip(whole[1:], cuts, strict=True):
        if cut:
            blocks.append(value)
        elif value.function != blocks[-1].function:
            return None
        else:
            last = blocks.pop()
            blocks.append(Block(last.function, last.start, value.end - last.start))
    return blocks


def _allowed(block, bounds, known, wanted):
    """Judge register by register, another way than the planner does."""
    most = min(bounds.registers_max, known.registers_max or bounds.registers_max)
    read = {(block.function, block.start + n) for n in range(block.count)}
    crossed = read - _registers(wanted)
    proven = (*bounds.proven, *known.proven)
    return (
        block.count <= most
        and not any(_registers([span]) <= read for span in known.refused)
        and not crossed & _registers(bounds.illegal)
        and (
            not crossed
            or bounds.holes == "readable"
            or any(read <= _registers([span]) for span in proven)
        )
    )


def _registers(places):
    return {(function, start + n) for function, start, count in places for n in range(count)}


@settings(deadline=None)  # the machine may be busy
@given(values, limits, taught, spans)
def test_a_read_is_judged_by_the_same_rules_outside_a_plan(wanted, bounds, known, span):
    assert may_read(Block(*span), wanted, bounds, known) == _allowed(
        Block(*span), bounds, known, [v for v in wanted if Block(*span).covers(v)]
    )


def test_a_shipped_float_meter_is_read_with_one_request_over_tcp():
    profile = load("sunspec-meter-213", [])
    wanted = [(point.function, point.register, point.count) for point in profile.points]
    assert plan_blocks(wanted, profile.limits, None, 5_000) == (Block(3, 40074, 66),)


def test_the_utilisation_of_a_bus_adds_up_over_its_meters():
    entries = [(1000, 250_000), (500, 50_000), (60_000, 600_000)]
    assert utilisation(entries) == pytest.approx(0.25 + 0.1 + 0.01)
    assert utilisation([(1000, 1_000_001)]) > 1
    assert utilisation([(1000, 1_000_000)]) == 1
    assert utilisation([]) == 0
