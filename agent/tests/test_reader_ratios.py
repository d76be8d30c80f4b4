"""Powers of ten that a meter changes with its load, beside ratios that stand still."""

from fractions import Fraction

import pytest

from agent.tests.metering import METERS, REFUSAL, SILENCE, Bench, qualities, values
from edgeagg.model import Quality

POW10 = """
vendor = "Maker"
models = ["M1"]
status = "draft"
sources = ["display"]

[limits]
holes = "illegal"

[ratios.ct]
function = 3
register = 100
type = "u16"

[ratios.w_sf]
function = 3
register = 1
type = "i16"
op = "pow10"
invalid = [0x8000]

[ratios.wh_sf]
function = 3
register = 30
type = "i16"
op = "pow10"

[points.active_power_sum]
function = 3
register = 0
type = "i16"
ratios = ["w_sf"]
unit = "W"
resolution = 1

[points.active_power_l1]
function = 3
register = 10
type = "i16"
ratios = ["w_sf", "ct"]
unit = "W"
resolution = 1

[points.active_energy_import]
function = 3
register = 20
type = "u32"
ratios = ["wh_sf"]
unit = "kWh"
resolution = 0.001
scale = 0.001
kind = "totaliser"
"""
WORDS = {
    (3, 0): 123,
    (3, 1): 1,
    (3, 10): 45,
    (3, 20): 0,
    (3, 21): 6789,
    (3, 30): 0,
    (3, 100): 40,
}
POWERS = METERS.replace("tier = 1", 'tier = 1\npoints = ["active_power_sum"]')
ENERGY_APART = METERS.replace("tier = 1", 'tier = 1\nperiods = { energy = "5s" }')
GOOD = Quality.GOOD


def pow10_bench(folder, site=METERS):
    bench = Bench(folder, profile=POW10, site=site)
    bench.words = dict(WORDS)
    return bench


async def test_a_power_of_ten_is_read_in_every_scan_with_its_points(tmp_path):
    bench = pow10_bench(tmp_path)
    reader = bench.readers[0]
    (scan,) = await reader.scan()
    assert values(scan) == (1_230, 45 * 10 * 40, 6_789)
    bench.words |= {(3, 0): 1_234, (3, 1): 0}  # the load fell, the meter shows one digit more
    (scan,) = await reader.scan()
    assert values(scan) == (1_234, 45 * 40, 6_789)
    assert bench.asked().count((3, 30)) == 2
    assert bench.asked().count((3, 100)) == 1  # a transformer does not change
    assert reader.state.ratios == {"ct": Fraction(40)}


async def test_a_power_beside_its_point_comes_in_the_same_answer(tmp_path):
    bench = pow10_bench(tmp_path, POWERS)
    (scan,) = await bench.readers[0].scan()
    ((_, request),) = bench.bus.asked
    assert (request.start, request.count) == (0, 2)
    assert values(scan) == (1_230,)


async def test_a_power_that_is_refused_is_the_reason_of_its_points(tmp_path):
    bench = pow10_bench(tmp_path, ENERGY_APART)
    bench.faults = {(1, 3, 30): REFUSAL}
    powers, energy = await bench.readers[0].scan((0, 1))
    assert values(powers) == (1_230, 18_000)
    assert (values(energy), qualities(energy)) == ((None,), (Quality.REFUSED,))


async def test_behind_a_power_without_answer_its_points_have_the_reason(tmp_path):
    bench = pow10_bench(tmp_path, ENERGY_APART)
    bench.faults = {(1, 3, 30): SILENCE}
    powers, energy = await bench.readers[0].scan((0, 1))
    assert qualities(powers) == (GOOD, GOOD)
    assert qualities(energy) == (Quality.NO_REPLY,)


@pytest.mark.parametrize("word", [0x8000, 19, 0x10000 - 19])
async def test_a_power_that_is_none_is_never_taken_for_1(tmp_path, word):
    bench = pow10_bench(tmp_path, ENERGY_APART)
    bench.words[3, 1] = word
    powers, energy = await bench.readers[0].scan((0, 1))
    assert qualities(powers) == (Quality.IMPLAUSIBLE,) * 2
    assert (values(energy), qualities(energy)) == ((6_789,), (GOOD,))
    assert "ratio 'w_sf' at 0x0001" in bench.readers[0].trouble
    bench.words[3, 1] = 2
    (powers,) = await bench.readers[0].scan()
    assert values(powers) == (12_300, 180_000)


async def test_a_former_power_is_not_used_when_the_present_one_fails(tmp_path):
    bench = pow10_bench(tmp_path)
    reader = bench.readers[0]
    await reader.scan()
    bench.faults = {(1, 3, 30): REFUSAL}
    bench.words[3, 21] = 9_999
    (scan,) = await reader.scan()
    assert values(scan)[2] is None


async def test_a_refused_transformer_ratio_is_the_reason_of_all_that_the_meter_scales(tmp_path):
    bench = pow10_bench(tmp_path, ENERGY_APART)
    bench.faults = {(1, 3, 100): REFUSAL}
    powers, energy = await bench.readers[0].scan((0, 1))
    assert qualities(powers) == (Quality.REFUSED,) * 2
    assert qualities(energy) == (Quality.REFUSED,)
    bench.faults = {}
    powers, energy = await bench.readers[0].scan((0, 1))
    assert (values(powers), values(energy)) == ((1_230, 18_000), (6_789,))
