"""DL/T 645 and CJ/T 188 meters from question to reading, over frames written byte by byte."""

import pytest

from agent.tests.fakes import START_MS
from agent.tests.item_meters import VOLTAGES, MixedBench, Refusal, bcd, frame, heat, water
from agent.tests.mixed_site import FEEDER, HEAT, OLD, WATER
from edgeagg.errors import LinkError
from edgeagg.model import Quality

GOOD = Quality.GOOD


@pytest.fixture
def bench(tmp_path):
    return MixedBench(tmp_path)


async def test_a_meter_of_2007_gives_its_energy_and_its_voltages_in_two_reads(bench):
    assert await bench.scan("feeder") == {
        "active_energy_import": (12_345_678, GOOD),
        "voltage_l1": (2_305, GOOD),
        "voltage_l2": (2_311, GOOD),
    }
    assert bench.asked(FEEDER) == ["00010000", "0201FF00"]
    assert {(s.baud, s.format, s.pause_max_ms) for _, s in bench.bus.questions} == {
        (2400, "8E1", 500)
    }


async def test_a_meter_of_1997_is_asked_with_its_short_identifiers(bench):
    assert await bench.scan("old") == {"active_energy_import": (9_876, GOOD)}
    (question,) = [question for question, _ in bench.bus.questions]
    assert question.request[-5:-2] == bytes((2, 0x10 + 0x33, 0x90 + 0x33))


@pytest.mark.parametrize(
    ("code", "volume"),
    [(0x2C, 1234), (0x29, 1), (0x2B, 123), (0x2D, 12_340)],
    ids=["m3", "litres", "hundreds of litres", "tens of m3"],
)
async def test_a_water_meters_unit_travels_with_its_volume(bench, code, volume):
    bench.held[WATER, "901F"] = water(12_34, code, settled=10_00)
    found = await bench.scan("water")
    assert found["volume_total"] == (volume, GOOD)
    assert found["status_word_1"] == (0, GOOD)
    assert bench.asked(WATER) == ["901F"]


@pytest.mark.parametrize("code", [0x05, 0x35, 0x00])
async def test_a_unit_that_is_no_volume_makes_the_volume_implausible_and_nothing_else(bench, code):
    bench.held[WATER, "901F"] = water(12_34, code)
    found = await bench.scan("water")
    assert found["volume_total"] == (None, Quality.IMPLAUSIBLE)
    assert found["status_word_1"] == (0, GOOD)


async def test_digits_that_are_none_are_implausible(bench):
    bench.held[OLD, "9010"] = b"\x7a\x00\x00\x00"
    assert await bench.scan("old") == {"active_energy_import": (None, Quality.IMPLAUSIBLE)}


@pytest.mark.parametrize(("code", "energy"), [(0x05, 567_890), (0x08, 567_890_000)])
async def test_a_heat_meter_gives_all_its_points_in_one_answer_in_the_units_it_sends(
    bench, code, energy
):
    bench.held[HEAT, "901F"] = heat(5678_90, code)
    found = await bench.scan("heating")
    assert found["heat_energy_total"] == (energy, GOOD)
    assert found["heat_power"] == (250, GOOD)
    assert found["flow_rate"] == (1_234, GOOD)  # 1.2345 m3/h, half to even
    assert found["volume_total"] == (7_750, GOOD)
    assert found["supply_temperature"] == (6_543, GOOD)
    assert found["operating_hours"] == (1_234, GOOD)
    assert bench.asked(HEAT) == ["901F"]
    (question,) = [question for question, _ in bench.bus.questions]
    assert question.meter_type == 0x20
    assert question.request[15:17] == b"\x1f\x90"  # the edition of 2018


async def test_the_number_of_a_question_goes_on_so_that_a_late_answer_is_none(bench):
    def late(question):
        answered = type(question)(question.meter_type, WATER, "901F", (question.ser - 1) % 256)
        return frame(answered, water(12_34))

    bench.held[WATER, "901F"] = late
    found = await bench.scan("water")
    assert found["volume_total"] == (None, Quality.BAD_FRAME)
    assert "SER" in bench.readers["water"].trouble


async def test_the_answer_of_another_meter_is_a_bad_frame(bench):
    def other(question):
        answered = type(question)(FEEDER, question.item, question.generation)
        return frame(answered, bcd(1, 4))

    bench.held[OLD, "9010"] = other
    assert await bench.scan("old") == {"active_energy_import": (None, Quality.BAD_FRAME)}
    assert f"meter {FEEDER} answered instead" in bench.readers["old"].trouble


async def test_a_refused_item_is_the_reason_of_its_point_and_wastes_nothing(bench):
    bench.held[FEEDER, "00010000"] = Refusal(0x02)
    found = await bench.scan("feeder")
    assert found["active_energy_import"] == (None, Quality.REFUSED)
    assert found["voltage_l1"] == (2_305, GOOD)
    assert "no such data" in bench.readers["feeder"].trouble
    assert bench.readers["feeder"].wasted_us == 0


async def test_a_refusing_water_meter_says_why(bench):
    bench.held[WATER, "901F"] = Refusal(0x04, 0x00)
    found = await bench.scan("water")
    assert {quality for _, quality in found.values()} == {Quality.REFUSED}
    assert "battery low" in bench.readers["water"].trouble


async def test_behind_a_silent_item_the_meter_is_not_asked_further(bench):
    del bench.held[FEEDER, "00010000"]
    found = await bench.scan("feeder")
    assert {quality for _, quality in found.values()} == {Quality.NO_REPLY}
    assert bench.asked(FEEDER) == ["00010000"]
    assert bench.readers["feeder"].wasted_us == 100_000


async def test_a_read_that_the_bus_held_back_is_a_reason_and_not_a_value(bench):
    held_back = LinkError("cellar: meter 1: held back, a late reply could answer it")
    bench.held[OLD, "9010"] = lambda _question: held_back
    assert await bench.scan("old") == {"active_energy_import": (None, Quality.NO_REPLY)}
    assert bench.readers["old"].trouble == str(held_back)


@pytest.mark.parametrize("answer", [Refusal(0x02), VOLTAGES[:2]], ids=["refused", "too short"])
async def test_a_block_that_a_meter_lacks_is_read_item_by_item_from_then_on(bench, answer):
    bench.held[FEEDER, "0201FF00"] = answer
    for _ in range(2):
        found = await bench.scan("feeder")
        assert (found["voltage_l1"], found["voltage_l2"]) == ((2_305, GOOD), (2_311, GOOD))
        assert found["active_energy_import"] == (12_345_678, GOOD)
    assert bench.asked(FEEDER).count("0201FF00") == 1
    assert bench.asked(FEEDER)[-3:] == ["00010000", "02010100", "02010200"]


async def test_a_silent_block_is_no_sign_that_the_meter_lacks_it(bench):
    del bench.held[FEEDER, "0201FF00"]
    await bench.scan("feeder")
    bench.held[FEEDER, "0201FF00"] = VOLTAGES
    assert (await bench.scan("feeder"))["voltage_l1"] == (2_305, GOOD)
    assert "02010100" not in bench.asked(FEEDER)


async def test_a_probe_of_an_item_meter_is_one_question(bench):
    assert await bench.readers["feeder"].probe() == 0
    assert bench.asked(FEEDER) == ["00010000"]
    del bench.held[FEEDER, "00010000"]
    assert await bench.readers["feeder"].probe() == 100_000


async def test_item_meters_learn_nothing(bench):
    bench.clock.pass_ms(3_600_000)
    assert not await bench.readers["feeder"].learn()
    assert bench.bus.questions == []


async def test_meters_of_all_protocols_are_polled_on_one_line(tmp_path):
    profile = 'profile = "dlt645-2007-generic"'
    faster = (profile, f'{profile}\nperiod = "10s"')
    bench = MixedBench(tmp_path, faster, lasts_ms=901_000)
    poller = await bench.run()
    rows = {group: [r for r in bench.recorder.rows if r[0] == group] for group in range(5)}
    assert [len(rows[group]) for group in range(5)] == [90, 15, 1, 1, 15]
    assert all(set(row[4]) == {GOOD} for row in bench.recorder.rows)
    assert bench.recorder.gaps == []
    assert rows[0][0][3] == (12_345_678, 2_305, 2_311)
    assert rows[1][0][3] == (9_876,)
    assert rows[2][0][3] == (1_234, 0, 0)
    assert [row[1] for row in rows[0]] == [START_MS + n * 10_000 for n in range(1, 91)]
    assert poller.tally.retries == 0
    formats = {(s.baud, s.format) for _, s in bench.bus.questions}
    assert formats == {(2400, "8E1"), (9600, "8N1")}


async def test_a_dead_item_meter_costs_the_others_nothing(tmp_path):
    bench = MixedBench(tmp_path, lasts_ms=901_000)
    del bench.held[OLD, "9010"]
    await bench.run()
    others = [row for row in bench.recorder.rows if row[0] != 1]
    assert all(set(row[4]) == {GOOD} for row in others)
    dead = [row for row in bench.recorder.rows if row[0] == 1]
    assert len(dead) == 15
    assert {row[4] for row in dead} == {(Quality.NO_REPLY,)}
