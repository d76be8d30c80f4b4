"""Several groups of one meter: each its own slots and rows, one scan for those due together."""

import pytest

from agent.tests.fakes import START_MS
from agent.tests.metering import (
    CURRENT,
    ENERGY,
    METERS,
    PROFILE,
    RATIO,
    REFUSAL,
    SILENCE,
    VOLTAGE,
    Bench,
    qualities,
    values,
)
from edgeagg.errors import FrameError
from edgeagg.model import Quality

PERIODS = METERS.replace("tier = 1", 'tier = 1\nperiods = { energy = "5s" }')
FAST, BILLED, OTHER = 0, 1, 2  # groups: the incomer's two, and the workshop's
READABLE = PROFILE.replace('holes = "illegal"', 'holes = "readable"')
GOOD = Quality.GOOD


async def test_one_scan_of_several_groups_reads_the_ratio_once_and_gives_a_scan_for_each(tmp_path):
    bench = Bench(tmp_path, site=PERIODS)
    fast, billed = await bench.readers[0].scan((0, 1))
    assert bench.asked() == [RATIO, VOLTAGE, CURRENT, ENERGY]
    assert (values(fast), values(billed)) == ((2305, 492), (65541,))
    assert (qualities(fast), qualities(billed)) == ((GOOD, GOOD), (GOOD,))
    assert [p.name for p in fast.group.points] == ["voltage_l1", "current_l1"]
    assert [p.name for p in billed.group.points] == ["active_energy_import"]


async def test_groups_that_are_read_together_share_their_reads(tmp_path):
    periods = 'tier = 1\nperiods = { current_l1 = "5s" }'
    bench = Bench(tmp_path, profile=READABLE, site=METERS.replace("tier = 1", periods))
    bench.words |= {(3, register): 0 for register in range(1, 10)}
    await bench.readers[0].scan((0,))
    bench.bus.asked.clear()
    first, second = await bench.readers[0].scan((0, 1))
    assert [(r.start, r.count) for _, r in bench.bus.asked] == [(0, 11), (0, 2)]
    assert (values(first), values(second)) == ((2305, 65541), (492,))
    alone = await bench.readers[0].scan((1,))
    assert values(alone[0]) == (492,)


async def test_each_groups_time_is_that_of_its_own_totalisers_and_the_skew_that_of_all(tmp_path):
    bench = Bench(tmp_path, site=PERIODS)
    fast, billed = await bench.readers[0].scan((0, 1))
    assert (fast.sent_s, fast.received_s) == (0.0, 0.08)  # no totaliser: the whole scan
    assert (billed.sent_s, billed.received_s) == (0.06, 0.08)
    assert (fast.skew_s, billed.skew_s) == (0.08, 0.08)


async def test_a_refusal_in_one_group_is_none_of_the_other(tmp_path):
    bench = Bench(tmp_path, site=PERIODS)
    bench.faults = {(1, *ENERGY): REFUSAL}
    fast, billed = await bench.readers[0].scan((0, 1))
    assert qualities(fast) == (GOOD, GOOD)
    assert qualities(billed) == (Quality.REFUSED,)


async def test_silence_ends_the_scan_of_all_groups_and_spares_what_came_before(tmp_path):
    bench = Bench(tmp_path, site=PERIODS)
    bench.faults = {(1, *CURRENT): SILENCE}
    fast, billed = await bench.readers[0].scan((0, 1))
    assert values(fast) == (2305, None)
    assert qualities(billed) == (Quality.NO_REPLY,)
    assert ENERGY not in bench.asked()


async def test_every_group_has_a_row_at_each_of_its_slots_and_one_scan_serves_both(tmp_path):
    bench = Bench(tmp_path, site=PERIODS, lasts_ms=11_000)
    await bench.run()
    assert [row[1] - START_MS for row in bench.rows(FAST)] == [n * 1_000 for n in range(1, 11)]
    assert [row[1] - START_MS for row in bench.rows(BILLED)] == [5_000, 10_000]
    assert [row[1] - START_MS for row in bench.rows(OTHER)] == [5_000, 10_000]
    assert {row[3] for row in bench.rows(FAST)} == {(2305, 492)}
    assert {row[3] for row in bench.rows(BILLED)} == {(65541,)}
    # one scan each second; every fifth fetches the energy as well
    assert bench.asked().count(VOLTAGE) == 10
    assert bench.asked().count(ENERGY) == 2
    together = [row for row in bench.recorder.rows if row[1] == START_MS + 5_000]
    assert [row[0] for row in together] == [FAST, BILLED, OTHER]
    assert together[0][2] == START_MS + 5_030  # the middle of the scan
    assert together[1][2] == START_MS + 5_050  # the middle of the read of the energy
    assert bench.recorder.gaps == []


@pytest.mark.parametrize("error", [SILENCE, FrameError("bad CRC")])
async def test_a_scan_of_two_groups_that_fails_is_two_rows_and_is_not_repeated(tmp_path, error):
    bench = Bench(tmp_path, site=PERIODS, lasts_ms=5_500)
    answer = bench.answer

    def fail(request):
        due = bench.clock.now_ms() - START_MS >= 5_000
        return error if due and request.unit == 1 else answer(request)

    bench.bus.script = fail
    poller = await bench.run()
    assert poller.tally.retries == 0
    for group in (FAST, BILLED):
        failed = [row for row in bench.rows(group) if row[1] == START_MS + 5_000]
        assert len(failed) == 1
        assert set(failed[0][4]) <= {Quality.NO_REPLY, Quality.BAD_FRAME}


async def test_a_resting_meter_gives_the_rows_of_all_its_groups(tmp_path):
    bench = Bench(tmp_path, site=PERIODS, lasts_ms=60_500, took_ms=150)
    bench.faults = {1: SILENCE}
    await bench.run()
    assert [row[1] - START_MS for row in bench.rows(FAST)] == [n * 1_000 for n in range(1, 61)]
    assert [row[1] - START_MS for row in bench.rows(BILLED)] == [n * 5_000 for n in range(1, 13)]
    assert {row[4] for row in bench.rows(BILLED)} == {(Quality.NO_REPLY,)}
    assert len(bench.asked()) < 20


async def test_one_group_that_is_always_refused_is_logged_once(tmp_path, caplog):
    caplog.set_level("INFO")
    bench = Bench(tmp_path, site=PERIODS, lasts_ms=21_000)
    bench.faults = {(1, *ENERGY): REFUSAL}
    poller = await bench.run()
    assert [record.getMessage() for record in caplog.records] == [
        "meter incomer: refused illegal data address"
    ]
    assert poller.readers[0].state.last_quality is Quality.REFUSED


async def test_completeness_lateness_and_skew_are_counted_over_all_groups(tmp_path):
    bench = Bench(tmp_path, site=PERIODS, lasts_ms=5_900)
    bench.faults = {(1, *ENERGY): REFUSAL}
    poller = await bench.run()
    incomer = poller.tally.meters["incomer"]
    assert (incomer.slots, incomer.values) == (5 * 2 + 1, 5 * 2)
    assert poller.tally.skew_ms == 80  # with the ratio, in the first scan
    assert poller.tally.lateness_ms == 140  # the workshop's, behind the incomer's
