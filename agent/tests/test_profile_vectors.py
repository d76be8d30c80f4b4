"""Raw registers with the value they mean, as published with libraries and logs of real meters."""

import re
import struct
from fractions import Fraction

import pytest

from edgeagg.model import Quality
from edgeagg_agent.profile import decode, decode_item, load

VECTORS = [
    # Acrel ADL400-D meter profile tests of a SmartEVSE fork, at direct connection
    ("acrel-adl400", "current_l2", (1600,), "16.0"),
    ("acrel-adl400", "active_power_l2", (0, 3680), "3680"),
    # wlcrs/huawei-solar-lib, test data of the library
    ("huawei-sun2000", "active_energy_generated", (0, 20_734), "207.34"),
    # EVerest, RsIskraMeter: T5 has its decimal exponent in the top byte
    ("iskra-wm3m4", "frequency", (0, 1234), "1234"),
    ("iskra-wm3m4", "frequency", (770, 0), "131072000"),
    # esphome, components/pzemac: one frame of the meter
    ("peacefair-pzem-016", "voltage_l1", (2257,), "225.7"),
    ("peacefair-pzem-016", "current_l1", (108, 0), "0.108"),
    ("peacefair-pzem-016", "active_power_total", (244, 0), "24.4"),
    ("peacefair-pzem-016", "frequency", (500,), "50.0"),
    ("peacefair-pzem-016", "power_factor_total", (100,), "1.0"),
    # jahlqvis/TUF-2000M, unit tests; a total is a whole number and a float behind it
    ("tuf-2000m", "flow_rate", (63_647, 15_846), "0.1127789"),
    ("tuf-2000m", "supply_temperature", (15_568, 16_611), "7.1011734"),
    ("tuf-2000m", "volume_import", (23, 0, 0, 0), "23"),
    ("tuf-2000m", "heat_energy_export", (65_480, 65_535, 0, 0), "-56"),
]


@pytest.mark.parametrize(("meter", "name", "words", "value"), VECTORS)
def test_published_registers_decode_to_their_published_value(meter, name, words, value):
    point = next(p for p in load(meter, ()).points if p.name == name)
    ratios = dict.fromkeys(point.ratios, Fraction(1))
    step = Fraction(10) ** point.exponent
    registers = struct.pack(f">{len(words)}H", *words)
    assert decode(point, registers, ratios) == (round(Fraction(value) / step), Quality.GOOD)


def test_a_register_whose_step_sources_disagree_on_is_no_point_and_named():
    # (38, 0) is 0.038 kWh for esphome and 0.0038 kWh for wirenboard/wb-mqtt-serial
    pzem = load("peacefair-pzem-016", ())
    assert "active_energy_import" not in {point.name for point in pzem.points}
    assert "left out because sources disagree: active_energy_import" in pzem.notes


# data behind the identifier as it stood in published frames with right checksums, 33H still added
ITEM_VECTORS = [
    ("dlt645-2007-generic", "active_energy_import", "59 33 33 33", "0.26"),
    ("dlt645-2007-generic", "active_energy_export", "59 34 33 33", "1.26"),
    ("dlt645-2007-generic", "active_energy_sum", "a9 4a 36 33", "317.76"),
    ("dlt645-2007-generic", "active_energy_import", "ab 89 67 45", "123456.78"),
    ("dlt645-2007-generic", "voltage_l1", "34 43", "100.1"),
    ("dlt645-2007-generic", "voltage_l3", "95 55", "226.2"),
    ("dlt645-2007-generic", "current_l1", "78 56 b4", "-12.345"),
    ("dlt645-2007-generic", "active_power_total", "89 67 c5", "-12345.6"),
    ("dlt645-2007-generic", "power_factor_total", "ba bc", "-0.987"),
    ("dlt645-2007-generic", "frequency", "35 83", "50.02"),
    ("dlt645-1997-generic", "active_energy_import", "49 33 33 33", "0.16"),
    ("dlt645-1997-generic", "voltage_l1", "33 33", "0"),
]
BLOCK_VECTORS = [
    ("dlt645-2007-generic", "voltage_l", "47 56 33 33 33 33", ["231.4", "0", "0"]),
    (
        "dlt645-2007-generic",
        "active_energy_import",
        "bc 36 33 33 33 33 33 33 33 33 33 33 bc 36 33 33 33 33 33 33",
        ["3.89", "0", "0", "3.89", "0"],
    ),
    (
        "dlt645-1997-generic",
        "active_energy_import",
        "6c 33 33 33 33 33 33 33 36 33 33 33 57 33 33 33 45 33 33 33",
        ["0.39", "0", "0.03", "0.24", "0.12"],
    ),
]


def from_wire(text):
    return bytes((byte - 0x33) % 256 for byte in bytes.fromhex(text))


@pytest.mark.parametrize(("meter", "name", "data", "value"), ITEM_VECTORS)
def test_published_items_decode_to_their_published_value(meter, name, data, value):
    item = next(p for p in load(meter, ()).items if p.name == name)
    mantissa = Fraction(value) / Fraction(10) ** item.exponent
    assert decode_item(item, from_wire(data)) == (mantissa, Quality.GOOD)


@pytest.mark.parametrize(("meter", "stem", "data", "values"), BLOCK_VECTORS)
def test_published_blocks_hold_the_items_where_the_profile_says(meter, stem, data, values):
    items = [p for p in load(meter, ()).items if re.fullmatch(rf"{stem}(_t\d|[123])?", p.name)]
    assert len(items) == len(values)
    assert len({item.block for item in items}) == 1
    for item, value in zip(items, values, strict=True):
        mantissa = Fraction(value) / Fraction(10) ** item.exponent
        found = decode_item(item, from_wire(data), is_block=True)
        assert found == (mantissa, Quality.GOOD), item.name
