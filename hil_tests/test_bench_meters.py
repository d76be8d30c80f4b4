"""What every meter of the bench must do, simulated or real: the same tests on both.

With EDGEAGG_BENCH=bench.toml they run on the meters of a rack; see docs/hardware-bench.md.
"""

from __future__ import annotations

import dataclasses
import re
from decimal import Decimal

import pytest

from edgeagg.errors import LinkError
from edgeagg.model import Kind, Quality
from edgeagg_agent.asking import Address
from edgeagg_agent.bus import ReadRequest
from edgeagg_agent.bus.timing import REQUEST_BYTES, Timing
from edgeagg_agent.profile import ItemPoint, Point
from edgeagg_agent.protocol.modbus import RtuQuestion, rtu_reply_length
from edgeagg_agent.scan import Scan
from edgeagg_agent.site import BusConfig
from hil_tests.bench import Bench, BenchMeter, meter_names
from hil_tests.transcript import identify

TURNAROUND_MAX_MS = {"serial": 150, "tcp": 1000}  # what the agent's buses wait for
TRIES = 3  # a load may be switched between two reads of one scan
PHASE = re.compile(r"active_power_l[123]")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test for each meter, so that a report names the meter."""
    if "name" in metafunc.fixturenames:
        metafunc.parametrize("name", meter_names())


def values(meter: BenchMeter, scans: tuple[Scan, ...]) -> dict[str, Decimal]:
    return {
        point.name: Decimal(mantissa).scaleb(point.exponent)
        for point, mantissa in zip(meter.meter.points, scans[0].decode()[0], strict=True)
        if mantissa is not None
    }


def qualities(scans: tuple[Scan, ...]) -> list[Quality]:
    return [Quality(quality) for quality in scans[0].decode()[1]]


def may_be_unavailable(point: Point | ItemPoint) -> bool:
    """Tell whether the profile knows contents of a point's registers that are no reading."""
    bounded = point.min is not None or point.max is not None
    invalid = isinstance(point, Point) and bool(point.invalid)
    return invalid or bounded or point.type.startswith("f")  # a float may be NaN


def wire_ms(config: BusConfig, request: ReadRequest) -> float:
    """Return the time that request and reply take on a serial line themselves."""
    if config.host:
        return 0.0
    length = REQUEST_BYTES + rtu_reply_length(request)
    return Timing.of(config.baud, config.format).frame_us(length) / 1000


async def test_the_meter_is_of_the_model_that_the_bench_names(bench: Bench, name: str) -> None:
    meter = bench.meters[name]
    assert meter.meter.profile.identify, "a profile without this would match any meter"
    assert await identify(meter.meter, bench.bus(meter))


async def test_the_meter_is_the_one_with_the_known_serial_number(bench: Bench, name: str) -> None:
    meter = bench.meters[name]
    number = meter.serial_number
    if number is None:
        pytest.skip(f"the bench knows no serial number of {name}")
    words = await bench.read(meter, number.function, number.register, number.registers)
    assert number.text(words) == number.expected


async def test_every_point_has_a_value_or_a_reason_that_the_profile_knows(
    bench: Bench, name: str
) -> None:
    meter = bench.meters[name]
    reader = bench.reader(meter)
    scan = await reader.scan()
    odd = {
        point.name: quality.name
        for point, quality in zip(meter.meter.points, qualities(scan), strict=True)
        if quality != Quality.GOOD
        and not (quality == Quality.IMPLAUSIBLE and may_be_unavailable(point))
    }
    assert not odd, reader.trouble
    assert values(meter, scan), "a meter of which nothing is known reads nothing"


async def test_the_phases_add_up_to_the_total(bench: Bench, name: str) -> None:
    meter = bench.meters[name]
    reader = bench.reader(meter)
    found = {}
    for _ in range(TRIES):
        found = values(meter, await reader.scan())
        phases = [value for point, value in found.items() if PHASE.fullmatch(point)]
        if len(phases) < 3 or "active_power_total" not in found:
            pytest.skip(f"{name} has no three phases and total of active power")
        off = abs(sum(phases, Decimal()) - found["active_power_total"])
        # 1 % of what flows, and the last digit of each of the four registers
        steps = [
            Decimal(1).scaleb(point.exponent)
            for point in meter.meter.points
            if PHASE.fullmatch(point.name) or point.name == "active_power_total"
        ]
        if off <= sum(map(abs, phases), Decimal()) / 100 + sum(steps):
            return
    pytest.fail(f"in {TRIES} scans: {found}")


async def test_energies_never_fall_between_two_reads(bench: Bench, name: str) -> None:
    meter = bench.meters[name]
    totalisers = [p.name for p in meter.meter.points if p.kind is Kind.TOTALISER]
    reader = bench.reader(meter)
    before = values(meter, await reader.scan())
    await bench.later()
    after = values(meter, await reader.scan())
    counted = [p for p in totalisers if p in before and p in after]
    assert counted, "a meter without energy bills nothing"
    assert not {p: (before[p], after[p]) for p in counted if after[p] < before[p]}
    if bench.stage is not None:
        assert any(after[p] > before[p] for p in counted), "ten minutes of load count"


async def test_a_reply_begins_within_the_time_that_the_bus_waits(bench: Bench, name: str) -> None:
    meter = bench.meters[name]
    config = meter.bus
    turnarounds_ms = []
    for block in meter.blocks:
        unit = meter.meter.address.unit
        request = ReadRequest(unit, block.function, block.start, block.count)
        reply = await bench.bus(meter).exchange(RtuQuestion(request), meter.meter.settings)
        took_ms = (reply.received_s - reply.sent_s) * 1000
        turnarounds_ms.append(took_ms - wire_ms(config, request))
    print(f"{name}: the slowest turnaround is {max(turnarounds_ms):.1f} ms")
    assert 0 < max(turnarounds_ms) < TURNAROUND_MAX_MS["serial" if config.port else "tcp"]


async def test_nothing_but_reads_goes_over_the_line(bench: Bench, name: str) -> None:
    meter = bench.meters[name]
    await bench.reader(meter).scan()
    if bench.stage is not None:
        assert not any(line.writes_seen for line in bench.stage.lines.values())
        assert not any(server.writes_seen for server in bench.stage.tcp.values())
        if meter.bus.host:
            return
    requests = [exchange.request for exchange in bench.heard(meter)]
    assert len(requests) >= len(meter.blocks)
    assert {request[1] for request in requests} <= {3, 4}


async def test_a_unit_that_is_not_there_is_no_reply_and_costs_its_neighbours_nothing(
    bench: Bench, name: str
) -> None:
    meter = bench.meters[name]
    config = meter.bus
    if config.host:
        pytest.skip("gateways on TCP differ: silence, refusal, or the answer of any unit")
    taken = {other.address.unit for other in config.meters}
    free = next(unit for unit in range(247, 0, -1) if unit not in taken)
    absent = dataclasses.replace(meter.meter, address=Address(unit=free))
    with pytest.raises(LinkError, match="no reply"):
        await identify(absent, bench.bus(meter))
    assert await identify(meter.meter, bench.bus(meter))


async def test_the_line_is_silent_between_frames_as_long_as_modbus_asks(bench: Bench) -> None:
    stage = bench.need_simulator("only its lines measure the silence before a request")
    for meter in bench.meters.values():
        await bench.reader(meter).scan()
    for line in stage.lines.values():
        assert len(line.log) > 10
        assert line.gap_violations == line.collisions == 0


async def test_a_meter_that_falls_silent_has_reasons_and_is_read_again_when_it_is_back(
    bench: Bench,
) -> None:
    stage = bench.need_simulator("a meter must fall silent on command")
    meter = bench.meters["pv"]
    reader = bench.reader(meter)
    stage.meters["pv"].dead = True
    scan = await reader.scan()
    assert set(qualities(scan)) == {Quality.NO_REPLY}
    stage.meters["pv"].dead = False
    scan = await reader.scan()
    assert set(qualities(scan)) == {Quality.GOOD}
