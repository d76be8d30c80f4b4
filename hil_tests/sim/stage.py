"""A site that runs: every line, server and meter of a site file.

Owns the life of the parts. The wall clock is an argument; counters are pure functions of it and of
the file, so nothing is stored and a killed bench continues where it was.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import TYPE_CHECKING

from hil_tests.sim import framing, sunspec
from hil_tests.sim.addressed import AddressedMeter
from hil_tests.sim.electrical import Node, Supply
from hil_tests.sim.faults import LineFaults
from hil_tests.sim.framing import Ascii, Framing, Rtu
from hil_tests.sim.gate import TcpGate
from hil_tests.sim.line import Line, Options, TcpLine
from hil_tests.sim.loads import LOADS, Series, Week, make_load
from hil_tests.sim.meters import SimMeter
from hil_tests.sim.mixed import MixedLine, Seat, answering, is_read
from hil_tests.sim.patterns import Pattern, make_pattern
from hil_tests.sim.ports import LOOPBACK
from hil_tests.sim.profile import Profile, find_profile
from hil_tests.sim.replay import load_csv
from hil_tests.sim.servers import RtuServer, TcpServer
from hil_tests.sim.voices import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

    from hil_tests.sim.site import LineSpec, MeterSpec, SiteSpec

    Serve = Callable[[], Coroutine[None, None, None]]

_TAN_PHI_PERMILLE = 329  # of loads from a CSV file: power factor 0.95


@dataclass(frozen=True, slots=True)
class Stage:
    """A running site, by name: what a test looks at."""

    lines: dict[str, Line]  # on ptys
    tcp: dict[str, TcpServer | TcpGate]  # Modbus TCP
    meters: Mapping[str, SimMeter]  # Modbus
    rtu_tcp: dict[str, TcpLine]  # behind serial servers
    faults: dict[str, LineFaults]  # of the lines that have some
    addressed: Mapping[str, AddressedMeter]  # DL/T 645 and CJ/T 188


@asynccontextmanager
async def play(spec: SiteSpec, *, now_ms: Callable[[], int]) -> AsyncIterator[Stage]:
    """Run a site while the `async with` block lasts; `now_ms` gives UTC milliseconds."""
    supplies = _supplies(spec)
    stage = Stage({}, {}, _modbus_meters(spec, supplies), {}, {}, _addressed(spec, supplies))
    async with AsyncExitStack() as stack:
        serving = []
        for line in spec.lines:
            if line.tcp is None:
                serving.append((line.name, await _open_wire(spec, line, stage, stack, now_ms)))
            elif (serve := await _open_tcp(spec, line, stage, stack, now_ms)) is not None:
                serving.append((line.name, serve))
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(serve(), name=f"line[{name}]") for name, serve in serving]
            try:
                yield stage
            finally:
                for task in running:
                    task.cancel()


def build_meters(spec: SiteSpec) -> dict[str, SimMeter]:
    """Make the Modbus meters of a site; takes a while in real time."""
    return _modbus_meters(spec, _supplies(spec))


def build_addressed(spec: SiteSpec) -> dict[str, AddressedMeter]:
    """Make the DL/T 645 and CJ/T 188 meters of a site; takes a while in real time."""
    return _addressed(spec, _supplies(spec))


async def _open_tcp(
    spec: SiteSpec,
    line: LineSpec,
    stage: Stage,
    stack: AsyncExitStack,
    now_ms: Callable[[], int],
) -> Serve | None:
    if line.tcp is None:
        raise ValueError(f"line {line.name} has no port")
    meters = [stage.meters[meter.name] for meter in line.meters]
    faults = _faults(spec, line, now_ms)
    if faults is None:
        server = TcpServer(meters, port=line.tcp, now_ms=now_ms)
        stage.tcp[line.name] = await stack.enter_async_context(server)
        return None
    stage.faults[line.name] = faults
    gate = TcpGate(meters, port=line.tcp, now_ms=now_ms, faults=faults)
    stage.tcp[line.name] = await stack.enter_async_context(gate)
    return gate.serve


async def _open_wire(
    spec: SiteSpec,
    line: LineSpec,
    stage: Stage,
    stack: AsyncExitStack,
    now_ms: Callable[[], int],
) -> Serve:
    faults = _faults(spec, line, now_ms)
    if faults is not None:
        stage.faults[line.name] = faults
    speakers = MixedLine(await _seats(line, stage, stack, now_ms))
    wire = _wire(spec, line, speakers, faults)
    stack.enter_context(wire)
    if isinstance(wire, TcpLine):
        stage.rtu_tcp[line.name] = wire
    else:
        stage.lines[line.name] = wire
    return wire.serve


async def _seats(
    line: LineSpec, stage: Stage, stack: AsyncExitStack, now_ms: Callable[[], int]
) -> list[Seat]:
    """Give each meter its place; Modbus meters with one unit id need a server each."""
    layers: list[list[SimMeter]] = []
    for spec in line.meters:
        if spec.plate is None:
            meter = stage.meters[spec.name]
            layer = next((one for one in layers if meter.unit not in {m.unit for m in one}), None)
            if layer is None:
                layers.append(layer := [])
            layer.append(meter)
    answers: dict[str, Answer] = {}
    for layer in layers:
        server = RtuServer(layer, now_ms=now_ms, ascii_mode=line.ascii_mode)
        rtu = await stack.enter_async_context(server)
        answers |= {meter.name: _answer_of(rtu, meter.unit) for meter in layer}
    framings: dict[str, Framing] = {}
    for name, addressed in stage.addressed.items():
        answers[name], framings[name] = answering(addressed, now_ms), addressed.framing
    return [
        Seat(
            answers[meter.name],
            name=meter.name,
            baud=meter.baud or line.baud,
            turnaround_ms=meter.turnaround_ms,
            framing=framings.get(meter.name),
        )
        for meter in line.meters
    ]


def _answer_of(rtu: RtuServer, unit: int) -> Answer:
    async def answer(frame: bytes) -> bytes:
        return await rtu.answer(frame) if rtu.calls(unit, frame) else b""

    return answer


def _supplies(spec: SiteSpec) -> dict[str, Supply]:
    """Make what the meters hang on, the lower ones of the tree first."""
    week = Week.at_speed(spec.day_speed)
    wanted = {meter.name: meter for line in spec.lines for meter in line.meters}
    supplies: dict[str, Supply] = {}

    def supply_of(meter: MeterSpec) -> Supply:
        if meter.name not in supplies:
            below = [supply_of(wanted[child]) for child in meter.children]
            supplies[meter.name] = _supply(spec, week, meter, below)
        return supplies[meter.name]

    for meter in wanted.values():
        supply_of(meter)
    return supplies


def _modbus_meters(spec: SiteSpec, supplies: Mapping[str, Supply]) -> dict[str, SimMeter]:
    meters = {
        meter.name: SimMeter(
            name=meter.name,
            unit=meter.unit,
            profile=_profile(spec, meter.profile),
            ratios=meter.ratios,
            supply=supplies[meter.name],
            dead=meter.dead,
            patterns=_patterns(spec, meter),
        )
        for line in spec.lines
        for meter in line.meters
        if meter.plate is None
    }
    for sim in meters.values():
        sim.warm_up()
    return meters


def _addressed(spec: SiteSpec, supplies: Mapping[str, Supply]) -> dict[str, AddressedMeter]:
    meters = {
        meter.name: AddressedMeter(
            meter.plate,
            name=meter.name,
            supply=supplies[meter.name],
            dead=meter.dead,
            patterns=_patterns(spec, meter),
        )
        for line in spec.lines
        for meter in line.meters
        if meter.plate is not None
    }
    for addressed in meters.values():
        addressed.warm_up()
    return meters


def describe(spec: SiteSpec, stage: Stage) -> list[str]:
    """Return one line per meter: where it can be reached; and what it cannot simulate."""
    rows = []
    for line in spec.lines:
        for meter in line.meters:
            plate = meter.plate
            who = f"unit {meter.unit} {meter.name} {meter.profile}"
            if plate is not None:
                who = f"address {plate.address} {meter.name} {plate.protocol}"
                who += f" {plate.medium}" if plate.medium else ""
            dead = "  dead" if meter.dead else ""
            rows.append(f"{_reach(line, meter, stage)}  {who}{dead}")
            if plate is None and (unknown := stage.meters[meter.name].unknown_points):
                rows.append(f"  note: {meter.name} reads 0 for {', '.join(unknown)}")
    return rows


def summarise(stage: Stage) -> list[str]:
    """Return one line per line: what was on it, how late it was, what masters did wrong."""
    wires = [
        f"{name}  {wire.frames_count} frames, at most {wire.late_us_max} us late, "
        f"{wire.collisions} collisions, {wire.gap_violations} gaps too short, "
        f"{len(wire.writes_seen)} writes"
        for name, wire in (*stage.lines.items(), *stage.rtu_tcp.items())
    ]
    return wires + [
        f"{name}  tcp, {len(server.writes_seen)} writes" for name, server in stage.tcp.items()
    ]


def _reach(line: LineSpec, meter: MeterSpec, stage: Stage) -> str:
    if line.tcp is not None:
        return f"{line.name}  tcp  {LOOPBACK}:{stage.tcp[line.name].port}"
    mode = " ascii" if line.ascii_mode else ""
    serial = f"{line.name}  {meter.baud or line.baud} {meter.format or line.format}{mode}  "
    if line.rtu_tcp is not None:
        return f"{serial}{LOOPBACK}:{stage.rtu_tcp[line.name].port} (serial server)"
    return f"{serial}{line.link}"


def _wire(
    spec: SiteSpec, line: LineSpec, speakers: MixedLine, faults: LineFaults | None
) -> Line | TcpLine:
    rng = Random(f"{spec.seed}/{line.name}/turnaround")
    modbus = all(meter.plate is None for meter in line.meters)
    options = Options(
        ascii_mode=line.ascii_mode,
        faults=faults,
        is_read=framing.is_read if modbus else is_read,
        formats=line.formats,
    )
    if line.rtu_tcp is not None:
        return TcpLine(
            line.name,
            line.rtu_tcp,
            baud=line.baud,
            format=line.format,
            turnaround_ms=line.turnaround_ms,
            rng=rng,
            answer=speakers,
            options=options,
        )
    if line.link is None:
        raise ValueError(f"line {line.name} has neither link nor port")
    return Line(
        line.name,
        line.link,
        baud=line.baud,
        format=line.format,
        turnaround_ms=line.turnaround_ms,
        rng=rng,
        answer=speakers,
        options=options,
    )


def _faults(spec: SiteSpec, line: LineSpec, now_ms: Callable[[], int]) -> LineFaults | None:
    units = {meter.name: meter.unit for meter in line.meters}
    mine = [fault for fault in spec.faults if fault.target == line.name or fault.target in units]
    if not mine:
        return None
    return LineFaults(
        mine,
        line=line.name,
        units=units,
        framing=Ascii() if line.ascii_mode else Rtu(),
        start_ms=spec.start_ms,
        now_ms=now_ms,
        seed=spec.seed,
    )


def _patterns(spec: SiteSpec, meter: MeterSpec) -> list[Pattern]:
    """Return what a meter's totalisers do: brown-outs are faults of the meter and of its count."""
    line = next(line.name for line in spec.lines if meter in line.meters)
    patterns = [
        make_pattern(
            "brown_out",
            start_ms=spec.start_ms,
            at_s=fault.from_s,
            for_s=fault.for_s,
            amount=Fraction(fault.parameters["saved_every_s"]),
        )
        for fault in spec.faults
        if fault.kind == "brown_out" and fault.target in (meter.name, line)
    ]
    if meter.pattern is not None:
        patterns.append(
            make_pattern(
                meter.pattern.name,
                start_ms=spec.start_ms,
                at_s=meter.pattern.at_s,
                for_s=meter.pattern.for_s,
            )
        )
    return patterns


def _profile(spec: SiteSpec, name: str) -> Profile:
    if sunspec.is_sunspec(name):
        return sunspec.make_profile(name)
    return find_profile(name, (*spec.more_profiles, spec.profiles))


def _own_load(spec: SiteSpec, week: Week, meter: MeterSpec, rng: Random) -> Series | None:
    if meter.csv is not None:
        return load_csv(meter.csv, week, start_ms=spec.start_ms)
    if meter.load is None:
        return None
    return make_load(LOADS[meter.load], week, scale_w=meter.scale_kw * 1000, rng=rng)


def _supply(spec: SiteSpec, week: Week, meter: MeterSpec, below: Sequence[Supply]) -> Supply:
    rng = Random(f"{spec.seed}/{meter.name}")
    shares = (333 + rng.randint(-20, 20), 333 + rng.randint(-20, 20))
    shape = LOADS[meter.load] if meter.load is not None else None
    own = _own_load(spec, week, meter, rng)
    scale_w = meter.scale_kw * 1000 if own is not None else 0.0
    node = Node(
        week,
        own=own,
        tan_phi_permille=_TAN_PHI_PERMILLE if shape is None else shape.tan_phi_permille,
        children=[supply.node for supply in below],
        loss_ppm=round(meter.loss_percent * 10_000),
    )
    return Supply(
        node=node,
        start_ms=spec.start_ms,
        initial_kwh=meter.initial_kwh,
        full_scale_w=scale_w + sum(supply.full_scale_w for supply in below),
        shares_permille=(*shares, 1000 - sum(shares)),
        grid_seed=spec.seed,
        meter_seed=rng.getrandbits(32),
    )
