"""One scan of a meter: values, reasons, ratios, and what is remembered of a meter that fails."""

from fractions import Fraction

import pytest

from agent.tests.fakes import (
    START_MS,
)
from agent.tests.metering import (
    CURRENT,
    ENERGY,
    GOOD,
    METERS,
    PROFILE,
    RATIO,
    REFUSAL,
    SILENCE,
    VALUES,
    VOLTAGE,
    Bench,
)
from edgeagg.errors import FrameError
from edgeagg.model import Quality
from edgeagg_agent.app import make_bus
from edgeagg_agent.bus import ReadRequest


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


async def test_a_scan_reads_the_ratio_then_every_block_and_gives_exact_values(bench):
    scan = await bench.readers[0].scan()
    assert [request for _, request in bench.bus.asked] == [
        ReadRequest(unit=1, function=3, start=100, count=1),
        ReadRequest(unit=1, function=3, start=0, count=1),
        ReadRequest(unit=1, function=3, start=10, count=1),
        ReadRequest(unit=1, function=4, start=0, count=2),
    ]
    assert scan.values == VALUES
    assert tuple(scan.qualities) == GOOD
    assert (scan.sent_s, scan.received_s) == (0.06, 0.08)  # of the totaliser


async def test_a_refused_block_gives_its_points_the_reason_and_no_others(bench):
    bench.faults = {(1, *VOLTAGE): REFUSAL}
    scan = await bench.readers[0].scan()
    assert scan.values == (None, *VALUES[1:])
    assert tuple(scan.qualities) == (Quality.REFUSED, *GOOD[1:])
    assert bench.readers[0].trouble == "illegal data address"
    assert bench.asked() == [RATIO, VOLTAGE, CURRENT, ENERGY]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(SILENCE, Quality.NO_REPLY), (FrameError("bad CRC"), Quality.BAD_FRAME)],
)
async def test_behind_silence_or_rubbish_the_meter_is_not_asked_further(bench, error, reason):
    bench.faults = {(1, *CURRENT): error}
    scan = await bench.readers[0].scan()
    assert bench.asked() == [RATIO, VOLTAGE, CURRENT]
    assert scan.values == (2305, None, None)
    assert tuple(scan.qualities) == (Quality.GOOD, reason, reason)
    assert bench.readers[0].trouble == str(error)


async def test_an_implausible_value_is_a_reason(bench):
    bench.words[3, 0] = 3001
    scan = await bench.readers[0].scan()
    assert scan.values == (None, *VALUES[1:])
    assert tuple(scan.qualities) == (Quality.IMPLAUSIBLE, *GOOD[1:])


async def test_the_ratio_is_kept_for_an_hour_and_then_read_again(bench):
    reader = bench.readers[0]
    for second in (0, 1, 3_598, 3_600):
        bench.clock.pass_ms(START_MS + second * 1_000 - bench.clock.now_ms())
        if second == 3_600:
            bench.words[3, 100] = 80
        scan = await reader.scan()
        assert scan.values[1] == (984 if second == 3_600 else 492)
    assert bench.asked().count(RATIO) == 2
    assert reader.state.ratios == {"ct": Fraction(80)}


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (REFUSAL, Quality.REFUSED),
        ([0], Quality.IMPLAUSIBLE),  # not set on the meter
    ],
)
async def test_without_its_ratio_a_point_has_the_reason_and_the_others_are_read(
    bench, error, reason
):
    bench.faults = {(1, *RATIO): error}
    scan = await bench.readers[0].scan()
    assert scan.values == (2305, None, 65541)
    assert tuple(scan.qualities) == (Quality.GOOD, reason, Quality.GOOD)
    assert bench.readers[0].trouble
    bench.faults = {}
    scan = await bench.readers[0].scan()  # it is asked for again at once
    assert scan.values == VALUES


@pytest.mark.parametrize(
    ("error", "reason"),
    [(SILENCE, Quality.NO_REPLY), (FrameError("bad CRC"), Quality.BAD_FRAME)],
)
async def test_a_meter_that_fails_to_give_its_ratio_is_asked_nothing_else(bench, error, reason):
    bench.faults = {1: error}
    scan = await bench.readers[0].scan()
    assert bench.asked() == [RATIO]
    assert scan.values == (None,) * 3
    assert tuple(scan.qualities) == (reason,) * 3


async def test_a_meter_whose_points_need_no_ratio_is_not_asked_for_one(tmp_path):
    points = ("tier = 1", 'tier = 1\npoints = ["voltage_l1"]')
    bench = Bench(tmp_path, site=METERS.replace(*points))
    assert (await bench.readers[0].scan()).values == (2305,)
    assert bench.asked() == [VOLTAGE]


async def test_the_bus_is_told_of_the_silence_that_each_of_its_meters_needs(tmp_path):
    slow = PROFILE.replace("[limits]", "[limits]\nrequest_gap_ms = 100")
    bus = make_bus(Bench(tmp_path, profile=slow).site.buses[0])
    assert bus._gaps_s == {1: 0.1, 2: 0.1}


async def test_a_single_silence_does_not_make_the_meter_rest(bench):
    reader = bench.readers[0]
    bench.faults = {1: SILENCE}
    await reader.scan()
    bench.faults = {}
    assert (await reader.scan()).values == VALUES
    bench.faults = {1: SILENCE}
    await reader.scan()
    bench.faults = {}
    assert (await reader.scan()).values == VALUES


@pytest.mark.parametrize(("fault", "asked"), [(FrameError("bad CRC"), 1), (REFUSAL, 4)])
async def test_a_meter_that_answers_wrongly_is_not_left_to_rest(bench, fault, asked):
    bench.faults = {1: fault}
    for _ in range(4):
        bench.bus.asked.clear()
        await bench.readers[0].scan()
        assert len(bench.asked()) == asked


async def test_a_resting_meter_keeps_its_trouble_for_the_status(bench):
    reader = bench.readers[0]
    bench.faults = {1: SILENCE}
    for _ in range(2):
        await reader.scan()
    asked = len(bench.bus.asked)
    await reader.scan()
    assert len(bench.bus.asked) == asked
    assert reader.trouble == "no reply"


async def test_a_rest_that_ends_during_a_scan_does_not_count_as_a_failure(bench):
    reader = bench.readers[0]
    bench.faults = {1: SILENCE}
    for _ in range(2):
        await reader.scan()
    bench.clock.pass_ms(reader.state.ask_again_ms - bench.clock.now_ms() - 1)
    now_ms = bench.clock.now_ms

    def ticking():
        bench.clock.step_ms(1)  # every look at the clock takes a millisecond
        return now_ms() - 1

    bench.clock.now_ms = ticking
    bench.bus.asked.clear()
    failures = reader.state.failures
    await reader.scan()
    assert reader.state.failures - failures == len(bench.bus.asked)
