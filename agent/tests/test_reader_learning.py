"""What a meter teaches while it is read: splits after refusals, longer reads at idle times."""

import pytest

from agent.tests.metering import METERS, REFUSAL, SILENCE, Bench, qualities, values
from edgeagg.errors import FrameError, RefusedError
from edgeagg.model import Quality
from edgeagg_agent.learned import SAMPLES_MIN, TRIAL_FIRST_MS, Learned
from edgeagg_agent.memory import Memory

UNKNOWN = """
vendor = "Maker"
models = ["M1"]
status = "draft"
sources = ["display"]

[points.voltage_l1]
function = 3
register = 0
type = "u16"
unit = "V"
resolution = 1

[points.voltage_l2]
function = 3
register = 4
type = "u16"
unit = "V"
resolution = 1
"""
READABLE = UNKNOWN.replace(
    "[points.voltage_l1]", '[limits]\nholes = "readable"\n[points.voltage_l1]'
)
HELD = {(3, 0): 230, (3, 1): 7, (3, 2): 7, (3, 3): 7, (3, 4): 231}
APART, WHOLE = [(0, 1), (4, 1)], [(0, 5)]
GOOD = Quality.GOOD


def teacher(folder, profile=UNKNOWN, **options):
    bench = Bench(folder, profile=profile, site=METERS.replace('"1s"', '"10s"'), **options)
    bench.words = dict(HELD)
    return bench


def taken(bench, unit=1):
    asked = [(r.start, r.count) for _, r in bench.bus.asked if r.unit == unit]
    bench.bus.asked.clear()
    return asked


async def learn(bench):
    """Let the reader learn until it has made one trial."""
    reader = bench.readers[0]
    assert not await reader.learn()  # the first call begins the wait
    bench.clock.pass_ms(TRIAL_FIRST_MS)
    bench.bus.asked.clear()
    assert await reader.learn()
    return reader


async def test_a_trial_reads_across_a_hole_between_two_plain_reads_and_is_used_when_it_agrees(
    tmp_path,
):
    bench = teacher(tmp_path)
    reader = bench.readers[0]
    await reader.scan()
    assert taken(bench) == APART
    await learn(bench)
    assert taken(bench) == APART + WHOLE + APART
    (scan,) = await reader.scan()
    assert taken(bench) == WHOLE
    assert values(scan) == (230, 231)


async def test_a_trial_whose_values_differ_is_never_used(tmp_path):
    bench = teacher(tmp_path)
    bench.bus.script = lambda r: [0] * 5 if r.count == 5 else bench.answer(r)  # a lying meter
    reader = await learn(bench)
    bench.bus.asked.clear()
    (scan,) = await reader.scan()
    assert taken(bench) == APART
    assert values(scan) == (230, 231)
    assert reader.learned.known.refused == ((3, 1, 3),)


async def test_a_refused_trial_costs_one_question_and_is_remembered(tmp_path):
    bench = teacher(tmp_path)
    bench.bus.script = lambda r: REFUSAL if r.count == 5 else bench.answer(r)
    reader = await learn(bench)
    assert taken(bench) == [*APART, *WHOLE]
    assert reader.trouble == ""  # the meter is as well as before
    bench.clock.pass_ms(3_600_000)
    assert not await reader.learn()
    assert taken(bench) == []


async def test_a_meter_that_falls_silent_in_a_trial_is_in_trouble(tmp_path):
    bench = teacher(tmp_path)
    bench.bus.script = lambda r: SILENCE if r.count == 5 else bench.answer(r)
    reader = await learn(bench)
    assert reader.trouble == "no reply"
    bench.clock.pass_ms(3_600_000)
    assert not await reader.learn()  # not before it was read well again


@pytest.mark.parametrize("code", [2, 3])
async def test_a_refused_read_across_a_hole_is_split_from_the_next_scan_on(tmp_path, code):
    bench = teacher(tmp_path, READABLE)
    refusal = RefusedError("refused", code)
    bench.bus.script = lambda r: refusal if r.count == 5 else bench.answer(r)
    reader = bench.readers[0]
    (scan,) = await reader.scan()
    assert qualities(scan) == (Quality.REFUSED,) * 2
    assert taken(bench) == WHOLE
    (scan,) = await reader.scan()
    assert taken(bench) == APART
    assert values(scan) == (230, 231)


@pytest.mark.parametrize("fault", [RefusedError("busy", 6), FrameError("bad CRC"), SILENCE])
async def test_what_says_nothing_of_registers_splits_nothing(tmp_path, fault):
    bench = teacher(tmp_path, READABLE)
    bench.faults = {1: fault}
    await bench.readers[0].scan()
    bench.faults = {}
    await bench.readers[0].scan()
    assert taken(bench) == WHOLE * 2


async def test_an_idle_line_learns_between_its_slots_and_all_slots_are_kept(tmp_path):
    bench = teacher(tmp_path, lasts_ms=125_000)
    await bench.run()
    assert [len(bench.rows(group)) for group in (0, 1)] == [12, 24]
    assert {row[3] for row in bench.recorder.rows} == {(230, 231)}
    assert bench.recorder.gaps == []
    # each meter made its trial, and what is read behind it is one block
    for unit in (1, 2):
        asked = [(r.start, r.count) for _, r in bench.bus.asked if r.unit == unit]
        assert asked[0] == APART[0]
        assert asked[-1] == WHOLE[0]


@pytest.mark.parametrize(("baud", "longest"), [(1200, 1), (9600, 5)])
async def test_a_slow_line_is_not_kept_by_a_trial_from_its_next_slot(tmp_path, baud, longest):
    # a scan takes 0.4 s at 1200 Bd, and a trial with the reads around it four times that
    site = METERS.replace('"5s"', '"1s"').replace("9600", str(baud))
    bench = Bench(tmp_path, profile=UNKNOWN, site=site, lasts_ms=125_000)
    bench.words = dict(HELD)
    await bench.run()
    assert max(r.count for _, r in bench.bus.asked) == longest


async def test_a_full_line_tries_nothing(tmp_path):
    bench = teacher(tmp_path, lasts_ms=125_000, took_ms=2_000)
    await bench.run()
    assert {r.count for _, r in bench.bus.asked} == {1}


async def test_what_was_learned_outlives_a_restart(tmp_path):
    bench = teacher(tmp_path)
    reader = await learn(bench)
    Memory(tmp_path).keep(bench.readers)
    known = Memory(tmp_path).recall("incomer", "m1")
    assert known.known == reader.learned.known
    again, *_ = bench.make_readers({"incomer": known})
    bench.bus.asked.clear()
    await again.scan()
    assert taken(bench) == WHOLE


async def test_under_another_profile_everything_is_learned_anew(tmp_path):
    bench = teacher(tmp_path)
    await learn(bench)
    Memory(tmp_path).keep(bench.readers)
    assert Memory(tmp_path).recall("incomer", "m2") == Learned("m2")


async def test_reads_are_planned_with_the_time_the_meter_takes_to_answer(tmp_path):
    quick, slow = (
        Bench(_made(tmp_path / name), profile=READABLE, took_ms=took_ms)
        for name, took_ms in (("quick", 25), ("slow", 120))
    )
    for bench in (quick, slow):
        bench.words = dict(HELD)
        reader = bench.readers[0]
        before_us = reader.cost_us(0)
        for _ in range(SAMPLES_MIN):
            await reader.scan()
        assert (reader.cost_us(0) > before_us) is (bench is slow)


def _made(folder):
    folder.mkdir()
    return folder
