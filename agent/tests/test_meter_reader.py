"""One scan of a Modbus meter: values, reasons, ratios, what it wasted, and probes."""

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
    qualities,
    values,
)
from edgeagg.errors import FrameError
from edgeagg.model import Quality
from edgeagg_agent.bus import LineSettings, ReadRequest


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


async def test_a_scan_reads_the_ratio_then_every_block_and_gives_exact_values(bench):
    (scan,) = await bench.readers[0].scan()
    assert [request for _, request in bench.bus.asked] == [
        ReadRequest(unit=1, function=3, start=100, count=1),
        ReadRequest(unit=1, function=3, start=0, count=1),
        ReadRequest(unit=1, function=3, start=10, count=1),
        ReadRequest(unit=1, function=4, start=0, count=2),
    ]
    assert values(scan) == VALUES
    assert qualities(scan) == GOOD
    assert (scan.sent_s, scan.received_s) == (0.06, 0.08)  # of the totaliser


async def test_a_refused_block_gives_its_points_the_reason_and_no_others(bench):
    bench.faults = {(1, *VOLTAGE): REFUSAL}
    (scan,) = await bench.readers[0].scan()
    assert values(scan) == (None, *VALUES[1:])
    assert qualities(scan) == (Quality.REFUSED, *GOOD[1:])
    assert bench.readers[0].trouble == "illegal data address"
    assert bench.asked() == [RATIO, VOLTAGE, CURRENT, ENERGY]


@pytest.mark.parametrize(
    ("error", "reason"),
    [(SILENCE, Quality.NO_REPLY), (FrameError("bad CRC"), Quality.BAD_FRAME)],
)
async def test_behind_silence_or_rubbish_the_meter_is_not_asked_further(bench, error, reason):
    bench.faults = {(1, *CURRENT): error}
    (scan,) = await bench.readers[0].scan()
    assert bench.asked() == [RATIO, VOLTAGE, CURRENT]
    assert values(scan) == (2305, None, None)
    assert qualities(scan) == (Quality.GOOD, reason, reason)
    assert bench.readers[0].trouble == str(error)


async def test_an_implausible_value_is_a_reason(bench):
    bench.words[3, 0] = 3001
    (scan,) = await bench.readers[0].scan()
    assert values(scan) == (None, *VALUES[1:])
    assert qualities(scan) == (Quality.IMPLAUSIBLE, *GOOD[1:])


async def test_the_ratio_is_kept_for_an_hour_and_then_read_again(bench):
    reader = bench.readers[0]
    for second in (0, 1, 3_598, 3_600):
        bench.clock.pass_ms(START_MS + second * 1_000 - bench.clock.now_ms())
        if second == 3_600:
            bench.words[3, 100] = 80
        (scan,) = await reader.scan()
        assert values(scan)[1] == (984 if second == 3_600 else 492)
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
    (scan,) = await bench.readers[0].scan()
    assert values(scan) == (2305, None, 65541)
    assert qualities(scan) == (Quality.GOOD, reason, Quality.GOOD)
    assert bench.readers[0].trouble
    bench.faults = {}
    (scan,) = await bench.readers[0].scan()  # it is asked for again at once
    assert values(scan) == VALUES


@pytest.mark.parametrize(
    ("error", "reason"),
    [(SILENCE, Quality.NO_REPLY), (FrameError("bad CRC"), Quality.BAD_FRAME)],
)
async def test_a_meter_that_fails_to_give_its_ratio_is_asked_nothing_else(bench, error, reason):
    bench.faults = {1: error}
    (scan,) = await bench.readers[0].scan()
    assert bench.asked() == [RATIO]
    assert values(scan) == (None,) * 3
    assert qualities(scan) == (reason,) * 3


async def test_a_meter_whose_points_need_no_ratio_is_not_asked_for_one(tmp_path):
    points = ("tier = 1", 'tier = 1\npoints = ["voltage_l1"]')
    bench = Bench(tmp_path, site=METERS.replace(*points))
    (scan,) = await bench.readers[0].scan()
    assert values(scan) == (2305,)
    assert bench.asked() == [VOLTAGE]


async def test_the_bus_is_told_how_each_of_its_meters_wants_to_be_asked(tmp_path):
    slow = PROFILE.replace("[limits]", "[limits]\nrequest_gap_ms = 100")
    own = 'unit = 2\nbaud = 4800\nformat = "8N1"'
    site = METERS.replace("unit = 2", own).replace('"1s"', '"5s"')
    bench = Bench(tmp_path, profile=slow, site=site)
    for reader in bench.readers:
        await reader.scan()
    told = {(question.meter, settings) for question, settings in bench.bus.questions}
    assert told == {
        ("unit 1", LineSettings(9600, "8E1", request_gap_ms=100)),
        ("unit 2", LineSettings(4800, "8N1", request_gap_ms=100)),
    }


async def test_on_an_ascii_bus_questions_are_in_ascii_and_values_the_same(tmp_path):
    site = METERS.replace("baud = 9600", 'baud = 9600\nmode = "ascii"\nformat = "7E1"')
    bench = Bench(tmp_path, site=site)
    (scan,) = await bench.readers[0].scan()
    assert values(scan) == VALUES
    (settings,) = {settings for _, settings in bench.bus.questions}
    assert (settings.format, settings.pause_max_ms) == ("7E1", 1_000)
    assert all(question.request.startswith(b":01") for question, _ in bench.bus.questions)


@pytest.mark.parametrize(
    ("fault", "asked", "is_wasted"),
    [(SILENCE, 1, True), (FrameError("bad CRC"), 1, True), (REFUSAL, 4, False)],
)
async def test_bus_time_is_wasted_by_what_is_no_answer_and_a_refusal_is_one(
    bench, fault, asked, is_wasted
):
    bench.faults = {1: fault}
    for _ in range(3):
        bench.bus.asked.clear()
        await bench.readers[0].scan()
        assert len(bench.asked()) == asked  # whether to ask is not the reader's to decide
        assert bench.readers[0].wasted_us == (20_000 if is_wasted else 0)
    bench.faults = {}
    await bench.readers[0].scan()
    assert bench.readers[0].wasted_us == 0


async def test_what_fails_in_no_time_has_failed_all_the_same(tmp_path):
    bench = Bench(tmp_path, took_ms=0)
    bench.faults = {1: SILENCE}
    await bench.readers[0].scan()
    assert bench.readers[0].wasted_us == 1


async def test_a_resting_meter_is_not_asked_and_keeps_its_trouble_for_the_status(bench):
    reader = bench.readers[0]
    bench.faults = {1: SILENCE}
    await reader.scan()
    asked = len(bench.bus.asked)
    scan = reader.resting(0)
    assert values(scan) == (None,) * 3
    assert qualities(scan) == (Quality.NO_REPLY,) * 3
    assert len(bench.bus.asked) == asked
    assert reader.trouble == "no reply"


async def test_a_probe_asks_for_the_shortest_value_and_tells_what_it_wasted(bench):
    reader = bench.readers[0]
    bench.faults = {1: SILENCE}
    assert await reader.probe() == 20_000
    bench.faults = {}
    assert await reader.probe() == 0
    assert {request.count for _, request in bench.bus.asked} == {1}
    bench.faults = {1: REFUSAL}
    assert await reader.probe() == 0  # whoever refuses is there


async def test_a_probe_is_short_even_where_a_scan_is_one_long_read(tmp_path):
    readable = PROFILE.replace('holes = "illegal"', 'holes = "readable"')
    bench = Bench(tmp_path, profile=readable)
    assert await bench.readers[0].probe() == 0
    (question, _), *rest = bench.bus.questions
    assert rest == []
    assert question.read.count == 1
