"""Read plans: least bus time, nothing split, nothing crossed that must not be crossed."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.plan import Block, plan_blocks, scan_us, utilisation
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


values = st.lists(
    st.tuples(st.sampled_from((3, 4)), st.integers(0, 60), st.integers(1, 4)), max_size=7
)
limits = st.builds(
    Limits,
    registers_max=st.integers(16, 40),
    request_gap_ms=st.sampled_from((0, 50)),
    holes=st.sampled_from(("readable", "illegal", "unknown")),
)
timings = st.sampled_from((None, LINE, Timing.of(1200, "8E1"), Timing.of(115200, "8N1")))


@settings(deadline=None)  # the machine may be busy
@given(values, limits, timings, st.integers(0, 100_000))
def test_a_plan_covers_every_value_whole_and_keeps_the_limits(
    wanted, bounds, timing, turnaround_us
):
    blocks = plan_blocks(wanted, bounds, timing, turnaround_us)
    for function, start, count in wanted:
        assert any(
            b.function == function and b.start <= start and start + count <= b.end for b in blocks
        )
    used = {(function, start + n) for function, start, count in wanted for n in range(count)}
    for block in blocks:
        assert block.count <= bounds.registers_max
        read = {(block.function, block.start + n) for n in range(block.count)}
        assert bounds.holes == "readable" or read <= used


@settings(deadline=None)  # the machine may be busy
@given(values, limits, timings, st.integers(0, 100_000))
def test_no_other_plan_takes_less_bus_time(wanted, bounds, timing, turnaround_us):
    def cost(blocks):
        us = scan_us(blocks, bounds, timing, turnaround_us)
        return us, len(blocks), sum(block.count for block in blocks)

    planned = plan_blocks(wanted, bounds, timing, turnaround_us)
    atoms = plan_blocks(wanted, Limits(registers_max=1000, holes="illegal"), Timing(1, 10), 0)
    whole = [v for atom in atoms for v in _pieces(atom, wanted)]
    for cuts in itertools.product((False, True), repeat=max(0, len(whole) - 1)):
        other = _joined(whole, cuts)
        if other is not None and _allowed(other, bounds, wanted):
            assert cost(planned) <= cost(other)


def _pieces(atom, wanted):
    """Split a contiguous run where no wanted value crosses the cut."""
    cut = atom.start
    for place in range(atom.start + 1, atom.end + 1):
        crossed = any(f == atom.function and s < place < s + c for f, s, c in wanted)
        if not crossed:
            yield Block(atom.function, cut, place - cut)
            cut = place


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


def _allowed(blocks, bounds, wanted):
    used = {(function, start + n) for function, start, count in wanted for n in range(count)}
    return all(
        block.count <= bounds.registers_max
        and (
            bounds.holes == "readable"
            or all((block.function, block.start + n) in used for n in range(block.count))
        )
        for block in blocks
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
