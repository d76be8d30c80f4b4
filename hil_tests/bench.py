"""One bench, two worlds: simulated meters by default, a real rack with EDGEAGG_BENCH=bench.toml.

Owns the bench file, and what a test gets of either world: meters, the agent's own buses to them,
and what went over the lines. It must not know what a test wants to see.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
import tomllib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from string import Template

import pytest

from edgeagg.errors import ConfigError
from edgeagg.tomltable import Table
from edgeagg_agent.app import make_bus
from edgeagg_agent.asking import Address, plan_reads
from edgeagg_agent.bus import Bus, LineSettings, ReadRequest
from edgeagg_agent.bus.timing import CHAR_BITS, Timing
from edgeagg_agent.clock import SystemClock
from edgeagg_agent.config_values import BAUDS
from edgeagg_agent.plan import Block, plan_blocks
from edgeagg_agent.profile import load
from edgeagg_agent.protocol.modbus import RtuQuestion, words_of
from edgeagg_agent.reader import TURNAROUND_US, MeterReader
from edgeagg_agent.site import BusConfig, Meter, PointGroup
from hil_tests.sim.site import parse_site
from hil_tests.sim.stage import Stage, play
from hil_tests.tap import Exchange, Tap, tapped_bus

VARIABLE = "EDGEAGG_BENCH"
CODINGS = ("number", "digits", "text")

_SIMULATED = """
seed = 3
start_ms = $START_MS
day_speed = 2400
[[line]]
name = "rack"
link = "$DIRECTORY/rack"
baud = 115200
format = "8E1"
turnaround_ms = [2, 5]
[[line.meter]]
name = "incomer"
unit = 1
profile = "eastron-sdm630"
initial_kwh = 12.0
children = ["workshop", "lighting", "pv"]
loss_percent = 1.5
[[line.meter]]
name = "workshop"
unit = 2
profile = "chint-dtsu666"
ratios = { ct = 10, pt = 1 }
load = "base"
scale_kw = 40
[[line.meter]]
name = "lighting"
unit = 33
profile = "acrel-adl400"
ratios = { ct = 1, pt = 1 }
load = "base"
scale_kw = 20
[[line]]
name = "roof"
tcp = 0
[[line.meter]]
name = "pv"
unit = 1
profile = "sunspec-meter-213"
load = "base"
scale_kw = 30
"""
# of every bench file whose meters are played: pv, on TCP, with a serial number
ROOF = """
[[bus]]
name = "roof"
tcp = "127.0.0.1:$ROOF_PORT"
[[bus.meter]]
name = "pv"
unit = 1
profile = "sunspec-meter-213"
[bus.meter.serial_number]
function = 3
register = 40052
registers = 16
coding = "text"
is = "0001"
"""
_SIMULATED_BENCH = """
[[bus]]
name = "rack"
port = "$DIRECTORY/rack"
baud = 115200
format = "8E1"
[[bus.meter]]
name = "incomer"
unit = 1
profile = "eastron-sdm630"
[[bus.meter]]
name = "workshop"
unit = 2
profile = "chint-dtsu666"
[[bus.meter]]
name = "lighting"
unit = 33
profile = "acrel-adl400"
"""


@dataclass(frozen=True, slots=True)
class SerialNumber:
    """Where a meter shows its serial number, how it is coded, and what it is on this bench."""

    function: int
    register: int
    registers: int
    coding: str
    expected: str

    def text(self, words: Sequence[int]) -> str:
        """Return what the registers say: a number, a digit in each half byte, or ASCII."""
        data = b"".join(word.to_bytes(2, "big") for word in words)
        match self.coding:
            case "number":
                return str(int.from_bytes(data, "big"))
            case "digits":
                return data.hex()
            case _:
                return data.rstrip(b"\0 ").decode("ascii", errors="backslashreplace")


@dataclass(frozen=True, slots=True)
class BenchMeter:
    """A meter that is there."""

    bus: BusConfig
    meter: Meter
    serial_number: SerialNumber | None

    @property
    def ratio_blocks(self) -> tuple[Block, ...]:
        """Return the reads of the transformer ratios, as the agent plans them."""
        profile = self.meter.profile
        wanted = [(ratio.function, ratio.register, ratio.count) for ratio in profile.ratios]
        return plan_blocks(wanted, profile.limits, self._timing, TURNAROUND_US)

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Return the reads of all points, as the agent plans them."""
        meter = self.meter
        reads = plan_reads(meter.points, meter.profile, self._timing, TURNAROUND_US)
        return tuple(read for read in reads if isinstance(read, Block))

    @property
    def _timing(self) -> Timing | None:
        return Timing.of(self.bus.baud, self.bus.format) if self.bus.baud else None


@dataclass(slots=True)
class Bench:
    """What a test sees: the meters by name, and the agent's buses to them."""

    meters: Mapping[str, BenchMeter]
    stage: Stage | None
    buses: dict[str, Bus] = field(default_factory=dict)
    _taps: dict[str, Tap] = field(default_factory=dict)
    _clock: _MeterTime | None = None

    def need_simulator(self, reason: str) -> Stage:
        """Return the simulated site; on hardware skip the test, for `reason`."""
        if self.stage is None:
            pytest.skip(f"simulator only: {reason}")
        return self.stage

    def bus(self, meter: BenchMeter) -> Bus:
        """Return the agent's bus to a meter; what goes over a serial one is overheard."""
        config = meter.bus
        if config.name not in self.buses:
            if config.host:
                self.buses[config.name] = make_bus(config)
            else:
                self.buses[config.name], self._taps[config.name] = tapped_bus(config)
        return self.buses[config.name]

    def reader(self, meter: BenchMeter) -> MeterReader:
        """Return the agent's reader of a meter."""
        return MeterReader(meter.meter, self.bus(meter), SystemClock())

    def heard(self, meter: BenchMeter) -> list[Exchange]:
        """Return what went over a meter's line; skip where that cannot be overheard."""
        if meter.bus.host:
            pytest.skip("the bytes of a TCP connection are not overheard")
        return self._taps[meter.bus.name].exchanges

    async def read(self, meter: BenchMeter, function: int, start: int, count: int) -> list[int]:
        """Read registers of a meter over the agent's bus."""
        request = ReadRequest(meter.meter.address.unit, function, start, count)
        answer = await self.bus(meter).exchange(RtuQuestion(request), meter.meter.settings)
        return list(words_of(answer.payload))

    def hold_time(self) -> None:
        """Stop the simulated meters' time, so that two readers find the same; skip on hardware."""
        self.need_simulator("the meters must stand still while two programs read them")
        if self._clock is not None:
            self._clock.held_ms = time.time_ns() // 1_000_000

    async def later(self) -> None:
        """Let meters count: ten simulated minutes at once, or two real seconds."""
        if self._clock is None:
            await asyncio.sleep(2)
        else:
            self._clock.ahead_ms += 600_000


@dataclass(slots=True)
class _MeterTime:
    """UTC for the simulated meters, which a test may move forward or hold."""

    ahead_ms: int = 0
    held_ms: int | None = None

    def __call__(self) -> int:
        return self.ahead_ms + (
            time.time_ns() // 1_000_000 if self.held_ms is None else self.held_ms
        )


@asynccontextmanager
async def open_bench(directory: Path) -> AsyncIterator[Bench]:
    """Give a bench while the `async with` block lasts; the simulator's pty lies in `directory`."""
    file = _file()
    if file is None:
        async with _simulated(directory) as bench:
            yield bench
        return
    bench = Bench(load_bench(file), None)
    try:
        yield bench
    finally:
        await _close(bench)


def meter_names() -> list[str]:
    """Name the meters of the bench; raise pytest.UsageError for a wrong bench file."""
    file = _file()
    if file is None:
        return list(_simulated_meters(Path(), port=1))
    try:
        return list(load_bench(file))
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from None


def load_bench(file: Path) -> dict[str, BenchMeter]:
    """Read a bench file.

    Raises ConfigError naming the file, the key, what was found and what is allowed.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(file, "file", str(error), "a readable TOML file in UTF-8") from error
    return parse_bench(text, file)


def parse_bench(text: str, file: Path) -> dict[str, BenchMeter]:
    """Check the text of a bench file; `file` is for messages and for relative paths."""
    try:
        content = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(file, "file", str(error), "a readable TOML file in UTF-8") from error
    top = Table(file, "", content, "profiles bus")
    folders = tuple(file.parent / folder for folder in top.texts("profiles", ()))
    meters: dict[str, BenchMeter] = {}
    names: list[str] = []
    ports: list[str] = []
    for table in top.array("bus", "name port baud format tcp meter"):
        found = _bus(table, folders)
        config = found[0].bus
        names = _once(table, "name", config.name, names)
        where = config.port or f"{config.host}:{config.tcp_port}"
        ports = _once(table, "port" if config.port else "tcp", where, ports)
        for one in found:
            if one.meter.name in meters:
                raise table.error("meter.name", f"{one.meter.name!r} stands twice", "each once")
            meters[one.meter.name] = one
    if not meters:
        raise top.error("bus", "missing", "at least one [[bus]]")
    return meters


def _file() -> Path | None:
    name = os.environ.get(VARIABLE, "")
    return Path(name) if name else None


def _once(table: Table, key: str, value: str, known: list[str]) -> list[str]:
    if value in known:
        raise table.error(key, f"{value!r} stands twice", "each once")
    return [*known, value]


def _bus(table: Table, folders: Sequence[Path]) -> list[BenchMeter]:
    if table.has("port") == table.has("tcp"):
        given = "both" if table.has("port") else "neither"
        raise table.error("port", f"{given} of port and tcp", "one of the two")
    config = BusConfig(
        name=table.text("name"),
        port="",
        host="",
        tcp_port=0,
        is_raw=False,
        ascii_mode=False,
        baud=0,
        format="",
        turnaround_ms=TURNAROUND_US // 1000,
        meters=(),
    )
    if table.has("port"):
        baud = table.integer("baud", 1, 1_000_000)
        if baud not in BAUDS:
            raise table.error("baud", str(baud), f"one of {', '.join(map(str, BAUDS))}")
        form = table.text("format", tuple(CHAR_BITS))
        config = dataclasses.replace(config, port=table.text("port"), baud=baud, format=form)
    else:
        host, port = _address(table)
        config = dataclasses.replace(config, host=host, tcp_port=port)
    found = [
        _meter(one, folders, config)
        for one in table.array("meter", "name unit profile serial_number")
    ]
    if not found:
        raise table.error("meter", "missing", "at least one [[bus.meter]]")
    units: list[str] = []
    for meter, _ in found:
        units = _once(table, "meter.unit", str(meter.address.unit), units)
    config = dataclasses.replace(config, meters=tuple(meter for meter, _ in found))
    return [BenchMeter(config, meter, number) for meter, number in found]


def _address(table: Table) -> tuple[str, int]:
    text = table.text("tcp")
    host, _, port = text.rpartition(":") if ":" in text else (text, "", "502")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise table.error("tcp", repr(text), "HOST or HOST:PORT")
    return host, int(port)


def _meter(
    table: Table, folders: Sequence[Path], bus: BusConfig
) -> tuple[Meter, SerialNumber | None]:
    try:
        profile = load(table.text("profile"), folders)
    except ConfigError as error:
        if error.key != "profile":
            raise
        raise table.error("profile", error.found, error.allowed) from None
    if profile.protocol != "modbus":
        raise table.error("profile", f"{profile.name} speaks {profile.protocol}", "Modbus")
    meter = Meter(
        name=table.text("name"),
        address=Address(unit=table.integer("unit", 1, 247)),
        profile=profile,
        settings=LineSettings(bus.baud, bus.format, profile.limits.request_gap_ms),
        tier=1,
        parent="",
        sub_item="",
        groups=(PointGroup(60_000, profile.points),),
    )
    number = None
    if table.has("serial_number"):
        keys = "function register registers coding is"
        number = _serial_number(table.table("serial_number", keys))
    return meter, number


def _serial_number(table: Table) -> SerialNumber:
    registers = table.integer("registers", 1, 32)
    return SerialNumber(
        function=table.integer("function", 3, 4),
        register=table.integer("register", 0, 0x10000 - registers),
        registers=registers,
        coding=table.text("coding", CODINGS),
        expected=table.text("is"),
    )


@asynccontextmanager
async def _simulated(directory: Path) -> AsyncIterator[Bench]:
    clock = _MeterTime()
    values = {"DIRECTORY": str(directory), "START_MS": str(clock() - 3_600_000)}
    spec = parse_site(
        tomllib.loads(Template(_SIMULATED).substitute(values)), where="the simulated bench"
    )
    async with play(spec, now_ms=clock) as stage:
        meters = _simulated_meters(directory, port=stage.tcp["roof"].port)
        bench = Bench(meters, stage, _clock=clock)
        try:
            yield bench
        finally:
            await _close(bench)


def _simulated_meters(directory: Path, *, port: int) -> dict[str, BenchMeter]:
    values = {"DIRECTORY": str(directory), "ROOF_PORT": str(port)}
    return parse_bench(
        Template(_SIMULATED_BENCH + ROOF).substitute(values), Path("the simulated bench")
    )


async def _close(bench: Bench) -> None:
    for bus in bench.buses.values():
        await bus.close()
