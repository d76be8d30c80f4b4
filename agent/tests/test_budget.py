"""The budget of a bus: what is asked of it, whether that can be kept, and what would help."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tests.bus_game import Game
from agent.tests.fakes import SITE, START_MS, write_site
from edgeagg.errors import ConfigError
from edgeagg_agent.budget import SHARE_MAX, BusLoad, GroupLoad, MeterLoad, budget
from edgeagg_agent.budget_report import budget_json, budget_lines, check_load
from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.config import load_site
from edgeagg_agent.plan import Item
from edgeagg_agent.profile import Limits
from edgeagg_agent.ways import PERIODS_MS, duration, longer_periods, outlook, ways_out

BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
SDM630 = tuple((4, start, 2) for start in (342, 72, 74, *range(0, 18, 2), 52, 56, 60, 62, 70))
READABLE = Limits(registers_max=80, holes="readable")


def meter(name="m", period_ms=10_000, registers=SDM630, **more):
    group = GroupLoad(period_ms, registers, is_billed=True)
    fields = {"baud": 9600, "format": "8N1", "limits": READABLE, "turnaround_us": 20_000}
    return MeterLoad(name=name, groups=(group,), **(fields | more))


def bus(*meters, baud=9600):
    return BusLoad("line", baud, meters)


SIXTEEN = bus(*(meter(f"m{number}") for number in range(16)))


def test_sixteen_meters_take_what_their_frames_turnarounds_and_silences_take():
    found = budget(SIXTEEN)
    assert found.cycle_ms == 3252  # 16 x 203.23 ms
    assert found.share == pytest.approx(0.3252, abs=1e-4)
    assert found.is_feasible
    assert {m.reads for m in found.meters} == {3}
    assert {m.registers for m in found.meters} == {44}
    # a round of whole milliseconds, the read under way, the margin
    assert found.lead_ms == 16 * 204 + 204 + 200
    assert found.boundary_ms == found.lead_ms


def test_a_period_that_brackets_no_quarter_hour_is_as_far_from_it_as_it_is_long():
    found = budget(bus(meter(period_ms=600_000)))
    assert found.boundary_ms == 600_000


def test_a_mixed_line_pays_for_every_change_of_speed():
    slow = MeterLoad(
        name="water",
        baud=2400,
        format="8E1",
        limits=Limits(),
        turnaround_us=50_000,
        groups=(GroupLoad(60_000, items=(Item(18, 32),)),),
    )
    alone = budget(bus(meter())).cycle_ms + budget(bus(slow)).cycle_ms
    mixed = budget(bus(meter(), slow))
    assert mixed.cycle_ms == pytest.approx(alone + 2 * (2 + 16.042 - 3.646), abs=2)
    assert mixed.meters[1].reads == 1
    # 50 characters of 11 bits at 2400 Bd, the turnaround, the silence
    assert mixed.meters[1].scan_us == pytest.approx(229_167 + 50_000 + 16_042, abs=5)


def test_a_tcp_bus_counts_turnarounds():
    found = budget(bus(meter(baud=0, turnaround_us=5_000), baud=0))
    assert found.cycle_ms == 10


def test_what_dead_meters_cost_follows_the_stated_formula():
    full = budget(bus(*(meter(f"m{n}", period_ms=3_500) for n in range(16))))
    failed_s = full.meters[0].failed_us / 1e6
    assert full.share > 0.92
    spare = 1 - full.share
    assert full.dead_share(1) == pytest.approx(max(0.01, spare / 2))
    assert full.dead_share(3) == pytest.approx(max(0.01, spare / 2), abs=1e-6)
    assert full.dead_share(16) == pytest.approx(16 * max(spare / 2 / 16, failed_s / 50))
    assert full.dead_share(0) == 0
    idle = budget(SIXTEEN)
    assert idle.dead_share(2) == pytest.approx(2 * failed_s / 5), "a probe every 5 s at most"


def test_one_long_read_beside_a_short_period_is_named():
    quick = meter("quick", period_ms=200, registers=((4, 0, 2),))
    found = budget(bus(quick, meter("long", period_ms=60_000, limits=Limits(holes="illegal"))))
    assert found.share < SHARE_MAX
    assert found.blocked == "long"
    assert not found.is_feasible
    with pytest.raises(ConfigError, match="one read of long takes so long"):
        check_load(
            Path("site.toml"), bus(quick, meter("long", limits=Limits(holes="illegal"))), BAUDS
        )


def crowded(period_ms=1_000, count=16):
    return bus(*(meter(f"m{number}", period_ms=period_ms) for number in range(count)))


def test_a_plan_without_enough_time_is_refused_with_three_changes_that_help():
    check_load(Path("site.toml"), SIXTEEN, BAUDS)
    with pytest.raises(ConfigError) as caught:
        check_load(Path("site.toml"), crowded(), BAUDS)
    assert caught.value.found == "the meters ask for 325% of the bus's time, 95% is the most"
    assert caught.value.allowed == (
        "what would help: at least 115200 Bd; or periods 4s instead of 1s; "
        "or 1 instead of up to 17 points per meter"
    )


def test_a_higher_baud_rate_is_proposed_where_it_is_enough():
    changes = [way.change for way in ways_out(crowded(period_ms=3_000), BAUDS)]
    assert changes[0] == "at least 19200 Bd"
    assert len(changes) == 3


def test_a_bus_at_tcp_is_not_told_to_raise_its_baud_rate():
    load = bus(*(meter(f"m{n}", 1_000, baud=0, turnaround_us=50_000) for n in range(16)), baud=0)
    assert [way.change for way in ways_out(load, BAUDS)] == [
        "periods 2s instead of 1s",
        "1 instead of up to 17 points per meter",
        "another bus for some of its 16 meters",
    ]


def test_a_higher_baud_rate_is_not_for_meters_with_a_rate_of_their_own():
    slow = replace(meter("slow", period_ms=60_000), baud=2400)
    load = bus(meter("quick"), slow)
    faster = outlook(load, BAUDS)[0]
    assert faster.change == "19200 Bd"
    assert faster.budget.meters[1].scan_us == budget(load).meters[1].scan_us
    assert faster.budget.meters[0].scan_us < budget(load).meters[0].scan_us


def test_longer_periods_are_looked_for_until_no_slot_is_missed():
    quick = meter("quick", period_ms=1_000, registers=((4, 0, 2),))
    long = meter("long", 60_000, limits=Limits(registers_max=2), turnaround_us=200_000)
    assert budget(bus(quick, long)).blocked == "long"
    way = longer_periods(bus(quick, long))
    assert way.budget.is_feasible
    assert way.change == "periods 4s instead of 1s, 4min instead of 1min"


@settings(deadline=None, max_examples=30)
@given(
    st.integers(2, 8),
    st.sampled_from((1_000, 2_000, 5_000)),
    st.integers(1, 17),
    st.sampled_from((5_000, 50_000, 200_000)),
)
def test_every_proposed_change_makes_the_plan_feasible_by_itself(count, period_ms, points, slow_us):
    load = bus(
        *(meter(f"m{n}", period_ms, SDM630[:points], turnaround_us=slow_us) for n in range(count))
    )
    if budget(load).is_feasible:
        return
    ways = ways_out(load, BAUDS)
    assert ways
    assert all(way.budget.is_feasible for way in ways)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from((1_000, 2_000, 5_000, 30_000)), st.integers(1, 17)),
        min_size=1,
        max_size=5,
    )
)
def test_a_plan_that_is_called_feasible_misses_nothing_on_the_line(meters):
    load = bus(*(meter(f"m{n}", period, SDM630[:k]) for n, (period, k) in enumerate(meters)))
    found = budget(load)
    if not found.is_feasible:
        return
    costs = {n: -(-one.scan_us // 1000) for n, one in enumerate(found.meters)}
    periods = {n: period for n, (period, _) in enumerate(meters)}
    game = Game(periods, costs, START_MS, frozenset(periods)).run(70_000)
    game.check_books()
    assert not game.missed.total()


def test_the_next_step_of_each_change_is_shown_for_a_feasible_plan():
    assert [way.change for way in outlook(SIXTEEN, BAUDS)] == [
        "19200 Bd",
        "periods 12s instead of 10s",
        "9 instead of up to 17 points per meter",
    ]
    assert all(way.budget.share < budget(SIXTEEN).share for way in outlook(SIXTEEN, BAUDS))


def test_the_report_says_all_of_it_in_a_few_lines():
    lines = budget_lines([bus(meter("incomer"), meter("workshop"))], BAUDS)
    assert lines == [
        "bus line: 9600 Bd, 2 meters, one read of everything 0.41 s, 4.1% of its time: feasible",
        "  incomer: 3 reads, 203 ms, 2.0%; dead it costs 187 ms each time it is asked",
        "  workshop: 3 reads, 203 ms, 2.0%; dead it costs 187 ms each time it is asked",
        "  dead meters may take, at most: 1 dead 3.7%, 2 dead 7.5% of the bus's time",
        "  totalisers are read within 0.8 s of every quarter hour, before and behind it",
        "  with 19200 Bd: 0.26 s, 2.6%",
        "  with periods 12s instead of 10s: 0.41 s, 3.4%",
        "  with 9 instead of up to 17 points per meter: 0.30 s, 3.0%",
    ]
    lines = budget_lines([crowded()], BAUDS)
    assert "NOT feasible: the meters ask for 325% of the bus's time" in lines[0]
    assert lines[-3].startswith("  it would do with at least 115200 Bd: ")


def test_a_period_that_misses_quarter_hours_is_named_with_one_that_does_not():
    load = bus(
        meter("hall", period_ms=600_000), meter("yard", period_ms=60_000), meter("gas", 3_600_000)
    )
    (line,) = (line for line in budget_lines([load], BAUDS) if "quarter hours;" in line)
    assert line == (
        "  hall: totalisers read every 10min miss one side of quarter hours; "
        "every 450s they would have both"
    )
    meters = budget_json([load], BAUDS)["line"]["meters"]
    assert {name: one["astray_ms"] for name, one in meters.items()} == {
        "hall": 600_000,
        "yard": 0,
        "gas": 0,
    }


def test_the_report_is_plain_json_too():
    plain = json.loads(json.dumps(budget_json([SIXTEEN, replace(crowded(), name="full")], BAUDS)))
    assert plain["line"]["cycle_ms"] == 3252
    assert plain["line"]["meters"]["m3"]["reads"] == 3
    assert [plain[name]["is_feasible"] for name in ("line", "full")] == [True, False]
    assert len(plain["full"]["ways"]) == 3


def test_plain_periods_are_whole_parts_of_a_day():
    assert all(86_400_000 % period_ms == 0 for period_ms in PERIODS_MS)
    assert [duration(ms) for ms in (200, 1_000, 90_000, 900_000, 86_400_000)] == [
        "200ms", "1s", "90s", "15min", "24h"
    ]  # fmt: skip


def test_a_line_in_ascii_takes_twice_the_characters_and_is_planned_so(tmp_path):
    text = SITE.replace('format = "8E1"', 'format = "8E1"\nMODE', 1)
    loads = [
        load_site(write_site(tmp_path, ("MODE", mode), text=text)).buses[0].load()
        for mode in ('mode = "rtu"', 'mode = "ascii"')
    ]
    rtu, ascii_ = (budget(load) for load in loads)
    assert rtu.share < ascii_.share < 2 * rtu.share  # the turnaround stays as it is
    one = loads[1].meters[0]
    assert Timing.of(9600, "8E1", byte_chars=one.byte_chars).frame_us(9) == pytest.approx(
        2 * Timing.of(9600, "8E1").frame_us(9), abs=1
    )
