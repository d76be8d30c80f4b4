"""The agent's questions and the bench's meters were written apart from each other: they agree.

The one place where the agent's decoders of DL/T 645 and CJ/T 188 meet the simulator's encoders.
Expected values are worked out here, from the quantities.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagg.errors import RefusedError
from edgeagg_agent.profile import decode_item, load
from edgeagg_agent.protocol import Question
from edgeagg_agent.protocol import cjt188 as agent188
from edgeagg_agent.protocol import dlt645 as agent645
from edgeagg_agent.protocol.bcd import decode_bcd, decode_digits
from edgeagg_agent.protocol.cjt188_units import unit_first
from edgeagg_agent.protocol.sunspec import Block, Model, discover
from hil_tests.sim import cjt188, dlt645
from hil_tests.sim.dlt645_items import Identity, Readings
from hil_tests.sim.meters import SimMeter
from hil_tests.sim.sunspec import make_profile, sunspec_name
from hil_tests.test_sim_meters import START_MS, constant_supply

OF_1997, OF_2007 = agent645.Generation.OF_1997, agent645.Generation.OF_2007
SIM_GENERATION = {OF_1997: dlt645.Generation.OF_1997, OF_2007: dlt645.Generation.OF_2007}
TARIFFS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """How a meter shows a quantity: counters roll over, gauges stop at the end of their digits."""

    size: int
    decimals: int
    name: str = ""
    is_counter: bool = False
    is_signed: bool = False
    scale: int = 1  # of the shown unit, in the quantity's own

    def shown(self, value: Fraction) -> int:
        """Return the digits as a number."""
        end = (8 if self.is_signed else 10) * int(10 ** (2 * self.size - 1))
        scaled = abs(value) * int(10**self.decimals) / self.scale
        steps = math.floor(scaled) % end if self.is_counter else min(round(scaled), end - 1)
        return -steps if self.is_signed and value < 0 else steps


ITEMS_2007 = {
    "00000000": Item(name="active_energy_sum", size=4, decimals=2, is_counter=True, is_signed=True),
    "00010000": Item(name="active_energy_import", size=4, decimals=2, is_counter=True),
    "00020000": Item(name="active_energy_export", size=4, decimals=2, is_counter=True),
    "00030000": Item(
        name="reactive_energy_combined_1", size=4, decimals=2, is_counter=True, is_signed=True
    ),
    "02010100": Item(name="voltage_l1", size=2, decimals=1),
    "02020200": Item(name="current_l2", size=3, decimals=3, is_signed=True),
    "02030000": Item(name="active_power_total", size=3, decimals=4, is_signed=True, scale=1000),
    "02040300": Item(name="reactive_power_l3", size=3, decimals=4, is_signed=True, scale=1000),
    "02060000": Item(name="power_factor_total", size=2, decimals=3, is_signed=True),
    "02800002": Item(name="frequency", size=2, decimals=2),
}
ITEMS_1997 = {
    "9010": Item(name="active_energy_import", size=4, decimals=2, is_counter=True),
    "9020": Item(name="active_energy_export", size=4, decimals=2, is_counter=True),
    "9150": Item(name="reactive_energy_q2", size=4, decimals=2, is_counter=True),
    "B611": Item(name="voltage_l1", size=2, decimals=0),
    "B622": Item(name="current_l2", size=2, decimals=2),
    "B630": Item(name="active_power_total", size=3, decimals=4, scale=1000),
}
ITEMS = {OF_1997: ITEMS_1997, OF_2007: ITEMS_2007}
generations = st.sampled_from([OF_1997, OF_2007])
addresses = st.integers(0, 10**12 - 10**10).map(lambda number: f"{number:012d}")
waters = st.integers(0, 10**14 - 1).map(lambda number: f"{number:014d}")
clocks = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31)).map(  # noqa: DTZ001 - no zone
    lambda clock: clock.replace(microsecond=0)
)
preambles = st.integers(0, 4)
amounts = st.fractions(-2_000_000, 2_000_000, max_denominator=10**6)


def meter_645(
    address: str,
    generation: agent645.Generation,
    now: dict[str, Fraction],
    *,
    clock: datetime | None = None,
    preamble: int = 0,
    data_bytes_max: int = 200,
    hears_broadcast_reads: bool = False,
) -> dlt645.Dlt645Meter:
    stopped = clock if clock is not None else datetime(2026, 11, 22)  # noqa: DTZ001 - no zone
    readings = Readings(clock=stopped, now=now, peaked={"active_power_demand_import_max": stopped})
    habits = dlt645.Habits(
        generation=SIM_GENERATION[generation],
        preamble=preamble,
        data_bytes_max=data_bytes_max,
        hears_broadcast_reads=hears_broadcast_reads,
    )
    return dlt645.Dlt645Meter(
        Identity(address=address, tariffs=TARIFFS), readings=lambda _now_ms: readings, habits=habits
    )


def ask(meter: dlt645.Dlt645Meter | cjt188.Cjt188Meter, question: Question) -> bytes:
    """Ask for all parts, with the echo of each request in front of its answer."""
    data = b""
    following: Question | None = question
    while following is not None:
        buffer = following.request + meter.answer(following.request, 0)
        found = following.find(buffer)
        assert found is not None, following.describe_junk(buffer)
        assert found.end == len(buffer)
        data += following.payload(found.frame)
        following = following.more(found.frame)
    assert meter.writes_seen == []
    return data


@settings(deadline=None, max_examples=60)  # the machine may be busy
@given(addresses, generations, st.data(), amounts, preambles)
def test_every_item_of_a_dlt645_meter_reads_back(
    address: str,
    generation: agent645.Generation,
    data: st.DataObject,
    value: Fraction,
    preamble: int,
) -> None:
    number = data.draw(st.sampled_from(sorted(ITEMS[generation])))
    item = ITEMS[generation][number]
    meter = meter_645(address, generation, {item.name: value}, preamble=preamble)
    payload = ask(meter, agent645.ReadQuestion(address, number, generation, lengths=(item.size,)))
    assert decode_bcd(payload, signed=item.is_signed) == item.shown(value)


@settings(deadline=None, max_examples=30)  # the machine may be busy
@given(addresses, generations, st.lists(amounts, min_size=5, max_size=5), st.integers(9, 30))
def test_a_block_in_many_frames_reads_back_whole(
    address: str, generation: agent645.Generation, values: list[Fraction], data_bytes_max: int
) -> None:
    names = ["active_energy_import", *(f"active_energy_import_t{n + 1}" for n in range(TARIFFS))]
    now = dict(zip(names, map(abs, values), strict=True))
    meter = meter_645(address, generation, now, data_bytes_max=data_bytes_max)
    item = "901F" if generation is OF_1997 else "0001FF00"
    payload = ask(meter, agent645.ReadQuestion(address, item, generation))
    assert len(payload) == 20
    for place, name in enumerate(names):
        digits = decode_bcd(payload[4 * place : 4 * place + 4], signed=False)
        assert digits == math.floor(now[name] * 100) % 10**8


@settings(deadline=None, max_examples=30)  # the machine may be busy
@given(addresses, clocks)
def test_clocks_and_the_time_of_a_maximum_demand_read_back(address: str, clock: datetime) -> None:
    now = {"active_power_demand_import_max": Fraction(12345)}
    meter = meter_645(address, OF_2007, now, clock=clock)
    demand = ask(meter, agent645.ReadQuestion(address, "01010000", lengths=(8,)))
    assert decode_bcd(demand[:3], signed=False) == 123450
    assert decode_digits(demand[3:]) == f"{clock:%y%m%d%H%M}"
    old = meter_645(address, OF_1997, now, clock=clock)
    for told, date, time in ((meter, "04000101", "04000102"), (old, "C010", "C011")):
        edition = OF_2007 if told is meter else OF_1997
        day = decode_digits(ask(told, agent645.ReadQuestion(address, date, edition)))
        assert day is not None
        assert day[:6] == f"{clock:%y%m%d}"
        seconds = decode_digits(ask(told, agent645.ReadQuestion(address, time, edition)))
        assert seconds == f"{clock:%H%M%S}"


@settings(deadline=None, max_examples=30)  # the machine may be busy
@given(addresses, preambles)
def test_the_only_meter_of_a_line_tells_its_address(address: str, preamble: int) -> None:
    new = meter_645(address, OF_2007, {}, preamble=preamble)
    data = ask(new, agent645.address_question(OF_2007))
    assert agent645.decode_address(data) == address
    old = meter_645(address, OF_1997, {}, preamble=preamble, hears_broadcast_reads=True)
    for broadcast in (False, True):
        data = ask(old, agent645.address_question(OF_1997, broadcast=broadcast))
        assert agent645.decode_address(data) == address


@settings(deadline=None)  # the machine may be busy
@given(addresses, generations, st.integers(0, 5))
def test_a_shortened_address_reaches_its_meter(
    address: str, generation: agent645.Generation, kept: int
) -> None:
    item = "9010" if generation is OF_1997 else "00010000"
    pattern = "AA" * (6 - kept) + address[12 - 2 * kept :]
    meter = meter_645(address, generation, {"active_energy_import": Fraction(7)})
    payload = ask(meter, agent645.ReadQuestion(pattern, item, generation))
    assert decode_bcd(payload, signed=False) == 700


@pytest.mark.parametrize("generation", [OF_1997, OF_2007])
def test_a_meters_refusal_is_told_in_words(generation: agent645.Generation) -> None:
    meter = meter_645("000000000001", generation, {})
    item = "B611" if generation is OF_1997 else "02010100"
    with pytest.raises(RefusedError, match=r"no such data \(02H\)") as caught:
        ask(meter, agent645.ReadQuestion("000000000001", item, generation))
    assert caught.value.code == dlt645.Fault.NO_DATA


@settings(deadline=None)  # the machine may be busy
@given(generations)
def test_a_meter_of_the_other_edition_gives_no_value(generation: agent645.Generation) -> None:
    other = OF_1997 if generation is OF_2007 else OF_2007
    meter = meter_645("000000000001", other, {"active_energy_import": Fraction(7)})
    item = "9010" if generation is OF_1997 else "00010000"
    question = agent645.ReadQuestion("000000000001", item, generation)
    assert question.find(meter.answer(question.request, 0)) is None


TOTAL = Item(size=4, decimals=2, is_counter=True)
UNITS = {
    "volume": sorted(code for code in agent188.UNIT_CODES if agent188.quantity(code) == "volume"),
    "heat": list(range(0x02, 0x14)),
    "power": list(range(0x14, 0x1D)),
    "flow": list(range(0x32, 0x38)),
}
water_habits = st.builds(
    cjt188.Habits,
    preamble=preambles,
    unit_first=st.booleans(),
    century_first=st.booleans(),
    volume_unit=st.sampled_from(UNITS["volume"]),
    heat_unit=st.sampled_from(UNITS["heat"]),
    power_unit=st.sampled_from(UNITS["power"]),
    flow_unit=st.sampled_from(UNITS["flow"]),
    heat_layout=st.sampled_from(cjt188.HeatLayout),
)


def shown(value: Fraction, code: int, item: Item) -> Fraction:
    """Return what the meter shows, back in the quantity's unit: it counts in its own."""
    unit = cjt188.UNIT_CODES[code]
    return item.shown(value / unit) * unit / int(10**item.decimals)


def agree(profile: str, payload: bytes, said: dict[str, Fraction] | None) -> bool:
    """Tell whether the profile's points make of a payload what was said, or, for None, no value."""
    points = {point.name: point for point in load(profile, ()).items}
    if said is None:
        coded = [p for p in points.values() if p.layouts[0].unit_byte is not None]
        return all(decode_item(point, payload)[0] is None for point in coded)
    return all(
        decode_item(points[name], payload)[0]
        == round(value / Fraction(10) ** points[name].exponent)
        for name, value in said.items()
    )


@settings(deadline=None, max_examples=40)  # the machine may be busy
@given(
    waters,
    st.sampled_from([0x10, 0x11, 0x30]),
    water_habits,
    st.lists(st.fractions(0, 10**6, max_denominator=1000), min_size=2, max_size=2),
    st.one_of(st.none(), clocks),
    st.integers(0, 255),
    st.sampled_from(agent188.Edition),
)
def test_a_water_or_gas_meter_reads_back(
    address: str,
    meter_type: int,
    habits: cjt188.Habits,
    volumes: list[Fraction],
    clock: datetime | None,
    ser: int,
    edition: agent188.Edition,
) -> None:
    readings = cjt188.VolumeReadings(
        volume_m3=volumes[0], settled_m3=volumes[1], clock=clock, status=b"\x04\x00"
    )
    meter = cjt188.Cjt188Meter(
        meter_type=meter_type, address=address, readings=lambda _now_ms: readings, habits=habits
    )
    question = agent188.ReadQuestion(meter_type, address, "901F", ser, edition, lengths=(19,))
    payload = ask(meter, question)
    told = ask(meter, agent188.address_question(ser, edition))
    assert agent188.decode_address(told) == (meter_type, address)
    place = unit_first(payload)
    if place is None:  # both places held a code: no guess was made
        assert habits.volume_unit == 0x29
    else:
        assert place is habits.unit_first
    volume, settled = (shown(value, habits.volume_unit, TOTAL) for value in volumes)
    said = {"volume_total": volume, "volume_settlement": settled, "status_word_1": Fraction(4)}
    assert agree("cjt188-generic", payload, said if place is False else None)


@settings(deadline=None, max_examples=30)  # the machine may be busy
@given(
    waters,
    water_habits,
    st.lists(st.fractions(0, 10**5, max_denominator=1000), min_size=7, max_size=7),
    st.integers(0, 10**6 - 1),
)
def test_a_heat_meter_reads_back_in_both_layouts(
    address: str, habits: cjt188.Habits, values: list[Fraction], hours: int
) -> None:
    heat, settled, power, flow, volume, supply, back = values
    readings = cjt188.HeatReadings(
        heat_kwh=heat,
        settled_kwh=settled,
        power_kw=power,
        flow_m3h=flow,
        volume_m3=volume,
        supply_c=supply % 99,
        return_c=back % 99,
        hours=hours,
    )
    meter = cjt188.Cjt188Meter(
        meter_type=0x20, address=address, readings=lambda _now_ms: readings, habits=habits
    )
    question = agent188.ReadQuestion(0x20, address, "901F", 1, lengths=(40, 43))
    payload = ask(meter, question)
    assert unit_first(payload) is habits.unit_first
    narrow = habits.heat_layout is cjt188.HeatLayout.OF_43_BYTES
    size, places = (3, 3) if narrow else (4, 4)
    shown_kw = shown(power, habits.power_unit, Item(size=size, decimals=2))
    said = {
        "heat_energy_total": shown(heat, habits.heat_unit, TOTAL),
        "heat_energy_settlement": shown(settled, habits.heat_unit, TOTAL),
        "heat_power": shown_kw * 1000,
        "flow_rate": shown(flow, habits.flow_unit, Item(size=size, decimals=places)),
        "volume_total": shown(volume, habits.volume_unit, TOTAL),
        "supply_temperature": Fraction(round(supply % 99 * 100), 100),
        "return_temperature": Fraction(round(back % 99 * 100), 100),
        "operating_hours": Fraction(hours),
    }
    profile = "cjt188-heat-unit-first" if habits.unit_first else "cjt188-heat"
    # nobody has seen the shorter answer with its codes in front: no profile reads it
    assert agree(profile, payload, None if narrow and habits.unit_first else said)


def test_a_water_meters_refusal_is_told_in_words() -> None:
    readings = cjt188.VolumeReadings(volume_m3=Fraction(1), status=b"\x04\x00")
    meter = cjt188.Cjt188Meter(meter_type=0x10, address="0" * 14, readings=lambda _now_ms: readings)
    with pytest.raises(RefusedError, match="battery low"):
        ask(meter, agent188.ReadQuestion(0x10, "0" * 14, "D120", 3))


@pytest.mark.parametrize("models", [[103], [203], [103, 203], [203, 103]])
def test_the_models_of_a_sunspec_device_are_discovered(models: list[int]) -> None:
    profile = make_profile(sunspec_name(models, "sim.toml"))
    device = SimMeter(
        name="pv", unit=1, profile=profile, ratios={}, supply=constant_supply(-12_345_600)
    )
    found, blocks = discovered(device)
    assert [model.id for model in found] == [1, *models]
    assert [model.length for model in found[1:]] == [{103: 50, 203: 105}[id_] for id_ in models]
    assert found[1].start == 40070
    assert blocks[0] == Block(3, 40000, 4)
    for model in found:  # every read that a model needs is answered
        assert all(read(device, block) is not None for block in model.blocks())


def discovered(device: SimMeter) -> tuple[tuple[Model, ...], list[Block]]:
    steps = discover()
    blocks: list[Block] = []
    answer: bytes | None = None
    while True:
        try:
            block = steps.send(answer)
        except StopIteration as stop:
            return stop.value, blocks
        blocks.append(block)
        answer = read(device, block)


def read(device: SimMeter, block: Block) -> bytes | None:
    words = device.read(
        function=block.function, address=block.start, count=block.count, t_ms=START_MS
    )
    return None if words is None else b"".join(word.to_bytes(2, "big") for word in words)
