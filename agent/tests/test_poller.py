"""The poller in fake time: every slot is accounted for, meters that fail cost little."""

import itertools

import pytest

from agent.tests.fakes import (
    START_MS,
    FakeRecorder,
    TimeIsUpError,
)
from agent.tests.metering import (
    ENERGY,
    GOOD,
    METERS,
    RATIO,
    REFUSAL,
    SILENCE,
    VALUES,
    Bench,
)
from edgeagg.errors import FrameError
from edgeagg.model import Quality
from edgeagg_agent.attention import SHARE_MIN_PPM


async def test_every_slot_becomes_a_row_taken_when_its_totalisers_were_read(tmp_path):
    bench = Bench(tmp_path, lasts_ms=11_000)
    await bench.run()
    due_ms = [row[1] for row in bench.rows(0)]
    assert due_ms == [START_MS + second * 1_000 for second in range(1, 11)]
    assert [row[1] for row in bench.rows(1)] == [START_MS + 5_000, START_MS + 10_000]
    assert bench.rows(0)[0] == (0, START_MS + 1_000, START_MS + 1_070, VALUES, GOOD)
    assert bench.rows(0)[1] == (0, START_MS + 2_000, START_MS + 2_050, VALUES, GOOD)
    assert bench.recorder.gaps == []


@pytest.mark.parametrize("place", [ENERGY, None])
async def test_without_totalisers_a_row_is_taken_in_the_middle_of_the_scan(tmp_path, place):
    points = ("tier = 1", 'tier = 1\npoints = ["voltage_l1", "current_l1"]')
    bench = Bench(tmp_path, lasts_ms=1_500, site=METERS if place else METERS.replace(*points))
    bench.faults = {(1, *ENERGY): REFUSAL}
    await bench.run()
    took_ms = 80 if place else 60
    assert bench.rows(0)[0][1:3] == (START_MS + 1_000, START_MS + 1_000 + took_ms // 2)


async def test_a_reading_is_never_taken_before_it_was_due(tmp_path):
    bench = Bench(tmp_path, lasts_ms=1_500)
    pass_ms = bench.clock.pass_ms

    def step_back(duration_ms):
        pass_ms(duration_ms)
        if duration_ms == 20:
            bench.clock.step_ms(-20)  # a clock that stands still, as one does that is held

    bench.clock.pass_ms = step_back
    await bench.run()
    assert bench.rows(0)[0][1:3] == (START_MS + 1_000, START_MS + 1_000)


async def test_a_dead_meter_wastes_no_more_of_the_bus_than_its_account_pays_for(tmp_path):
    bench = Bench(tmp_path, lasts_ms=400_000, took_ms=100)
    bench.faults = {1: SILENCE}
    await bench.run()
    wasted_ms = 100 * len(bench.asked(1))
    paid_ms = 400_000 * SHARE_MIN_PPM / 1e6
    assert paid_ms <= wasted_ms <= 3 * 100 + paid_ms  # and it is not given up either
    assert len(bench.rows(0)) == 399
    assert {row[4] for row in bench.rows(0)} == {(Quality.NO_REPLY,) * 3}
    # the other one is read as if nothing had happened
    assert [row[3] for row in bench.rows(1)] == [VALUES] * 79
    assert bench.recorder.gaps == []


@pytest.mark.parametrize("period_s", [2, 5, 15, 20, 30, 48, 60, 90, 600])
async def test_whatever_its_period_a_dead_meter_is_asked_once_a_minute(tmp_path, period_s):
    site = METERS.replace('period = "1s"', f'period = "{period_s}s"')
    bench = Bench(tmp_path, lasts_ms=1_300_000, site=site)
    bench.faults = {1: SILENCE}
    await bench.run()
    asked_ms = [at_ms for at_ms, r in bench.bus.asked if r.unit == 1]
    apart_ms = [after - before for before, after in itertools.pairwise(asked_ms)]
    # the slot in front of a quarter hour is read as late as can be
    assert asked_ms[0] <= START_MS + 2 * period_s * 1_000
    assert max(apart_ms) <= 60_000


async def test_a_meter_that_answers_again_is_read_at_every_slot_within_a_minute(tmp_path):
    bench = Bench(tmp_path, lasts_ms=200_000, took_ms=150)
    bench.faults = {1: SILENCE}
    answer = bench.answer

    def come_back(request):
        if bench.clock.now_ms() - START_MS > 100_000:
            bench.faults = {}
        return answer(request)

    bench.bus.script = come_back
    await bench.run()
    good = [row[1] for row in bench.rows(0) if row[4] == GOOD]
    assert good[0] - START_MS <= 160_000
    assert good == list(range(good[0], START_MS + 200_000, 1_000))


@pytest.mark.parametrize("error", [SILENCE, FrameError("bad CRC")])
async def test_a_slot_that_failed_is_read_once_more_before_its_deadline(tmp_path, error):
    bench = Bench(tmp_path, lasts_ms=2_500)
    answer = bench.answer
    failing = iter([error])
    bench.bus.script = lambda request: next(failing, None) or answer(request)
    poller = await bench.run()
    first = bench.rows(0)[0]
    assert (first[1], first[3:]) == (START_MS + 1_000, (VALUES, GOOD))
    assert first[2] == START_MS + 1_090  # of the read that fetched the values, not the first one
    assert [row[1] for row in bench.rows(0)] == [START_MS + 1_000, START_MS + 2_000]
    assert poller.tally.retries == 1


async def test_a_slot_that_fails_twice_is_one_row_with_the_reason(tmp_path):
    bench = Bench(tmp_path, lasts_ms=2_500)
    answer = bench.answer
    failing = iter([SILENCE, SILENCE])
    bench.bus.script = lambda request: next(failing, None) or answer(request)
    poller = await bench.run()
    assert [row[1] for row in bench.rows(0)] == [START_MS + 1_000, START_MS + 2_000]
    assert bench.rows(0)[0][4] == (Quality.NO_REPLY,) * 3
    assert poller.tally.retries == 1


async def test_a_refusal_is_an_answer_and_is_not_asked_for_again(tmp_path):
    bench = Bench(tmp_path, lasts_ms=1_500)
    bench.faults = {(1, *ENERGY): REFUSAL}
    poller = await bench.run()
    assert poller.tally.retries == 0
    assert bench.asked().count(ENERGY) == 1


async def test_a_failed_slot_without_time_for_another_read_is_recorded_as_it_failed(tmp_path):
    bench = Bench(tmp_path, lasts_ms=8_500)
    answer = bench.answer

    def slow_line(request):
        since_ms = bench.clock.now_ms() - START_MS
        if request.unit == 1 and 5_000 <= since_ms < 5_050:
            return SILENCE
        if request.unit == 2 and (request.function, request.start) == RATIO:
            bench.clock.pass_ms(1_200)  # the line is taken until the slot's deadline is over
        return answer(request)

    bench.bus.script = slow_line
    poller = await bench.run()
    failed = next(row for row in bench.rows(0) if row[1] == START_MS + 5_000)
    assert failed[4] == (Quality.NO_REPLY,) * 3
    assert failed[2] == START_MS + 5_010  # when it was asked, not when it was given up
    assert poller.tally.retries == 1
    assert [row[1] for row in bench.rows(0)].count(START_MS + 5_000) == 1
    slots = [row[1] for row in bench.rows(0)]
    slots += [at for gap in bench.recorder.gaps for at in range(gap[1], gap[2] + 1, 1_000)]
    assert sorted(slots) == [START_MS + n * 1_000 for n in range(1, 9)]


async def test_slots_since_the_last_run_are_declared_as_stopped(tmp_path):
    bench = Bench(tmp_path, lasts_ms=2_500)
    last_ms = START_MS - 60_000
    bench.recorder = FakeRecorder({0: last_ms})
    await bench.run()
    assert bench.recorder.gaps == [(0, last_ms + 1_000, START_MS, 60, Quality.STOPPED)]
    assert [row[1] for row in bench.rows(0)] == [START_MS + 1_000, START_MS + 2_000]


async def test_a_restart_within_a_period_declares_nothing_and_reads_no_slot_twice(tmp_path):
    bench = Bench(tmp_path, lasts_ms=3_500)
    bench.recorder = FakeRecorder({0: START_MS + 1_000, 1: START_MS})
    await bench.run()
    assert bench.recorder.gaps == []
    assert [row[1] for row in bench.rows(0)] == [START_MS + 2_000, START_MS + 3_000]


async def test_a_meter_read_in_the_future_is_read_again_at_once_and_the_log_says_so(
    tmp_path, caplog
):
    bench = Bench(tmp_path, lasts_ms=3_500)
    bench.recorder = FakeRecorder({0: START_MS + 3_600_000, 1: START_MS})
    await bench.run()
    assert bench.recorder.restarts == [(0, START_MS)]
    assert [row[1] - START_MS for row in bench.rows(0)] == [1_000, 2_000, 3_000]
    complaints = [r.getMessage() for r in caplog.records if "wrong clock" in r.getMessage()]
    assert len(complaints) == 1
    assert "3600 s in the future" in complaints[0]


async def test_slots_the_bus_had_no_time_for_are_declared_as_overrun(tmp_path):
    bench = Bench(tmp_path, lasts_ms=30_000, took_ms=800)  # 3.2 s for a scan, 4 s with the ratio
    poller = await bench.run()
    first, second = bench.rows(0)[:2]
    assert second[1] - first[1] > 1_000
    assert bench.recorder.gaps[0] == (
        0,
        first[1] + 1_000,
        second[1] - 1_000,
        (second[1] - first[1]) // 1_000 - 1,
        Quality.OVERRUN,
    )
    for group, period_ms in ((0, 1_000), (1, 5_000)):
        slots = [row[1] for row in bench.rows(group)]
        for gap in bench.recorder.gaps:
            if gap[0] == group:
                slots += range(gap[1], gap[2] + 1, period_ms)
                assert len(range(gap[1], gap[2] + 1, period_ms)) == gap[3]
        assert sorted(slots) == list(range(START_MS + period_ms, max(slots) + 1, period_ms))
    assert poller.tally.overrun_slots == sum(gap[3] for gap in bench.recorder.gaps) > 0


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_a_clock_that_was_in_1970_leaves_no_gap_of_decades(tmp_path, is_restarted):
    # a board without battery: NTP steps over 56 years, that is 2^33 slots of 200 ms
    site = METERS.replace('period = "1s"', 'period = "200ms"').replace("9600", "115200")
    bench = Bench(tmp_path, lasts_ms=10_000, site=site)
    if is_restarted:
        bench.recorder = FakeRecorder({0: 3_600_000})
    else:
        bench.clock.step_ms(3_600_000 - START_MS)
        bench.faults = {}
        answer = bench.answer

        def step(request):
            if bench.clock.now_ms() < START_MS:
                bench.clock.step_ms(START_MS - 3_600_000)
            return answer(request)

        bench.bus.script = step
    await bench.run()
    slots = sorted(
        [(row[1], row[1]) for row in bench.rows(0)]
        + [gap[1:3] for gap in bench.recorder.gaps if gap[0] == 0]
    )
    jumps = [(a, b) for (_, a), (b, _) in itertools.pairwise(slots) if b != a + 200]
    assert len(jumps) == (0 if is_restarted else 1)
    begun, *restarts = [restart for restart in bench.recorder.restarts if restart[0] == 0]
    ((group, behind_ms),) = [begun] if is_restarted else restarts
    assert is_restarted or begun == (0, 3_600_000), "where it began by the clock it had"
    assert slots[-1][1] > START_MS
    assert (group, behind_ms + 200) in [(0, first_ms) for first_ms, _ in slots]
    assert sum(gap[3] for gap in bench.recorder.gaps) < 60


async def test_it_naps_for_a_second_at_most_so_that_its_beat_goes_on(tmp_path):
    site = METERS.replace('period = "1s"', 'period = "60s"').replace('"5s"', '"60s"')
    bench = Bench(tmp_path, lasts_ms=50_000, site=site)
    poller = bench.poller()
    with pytest.raises(TimeIsUpError):
        await poller.run()
    assert set(bench.clock.slept_ms) == {1_000}
    assert bench.clock.now_ms() - poller.beat_ms <= 1_000


async def test_a_change_is_logged_once_with_the_trouble(tmp_path, caplog):
    caplog.set_level("INFO")
    bench = Bench(tmp_path, lasts_ms=12_000)
    bench.faults = {1: SILENCE}
    answer = bench.answer

    def come_back(request):
        if bench.clock.now_ms() - START_MS > 8_000:
            bench.faults = {}
        return answer(request)

    bench.bus.script = come_back
    await bench.run()
    assert [record.getMessage() for record in caplog.records] == [
        "meter incomer: no_reply no reply",
        "meter incomer: reads again",
    ]
