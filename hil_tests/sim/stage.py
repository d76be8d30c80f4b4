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

from hil_tests.sim import sunspec
from hil_tests.sim.electrical import Node, Supply
from hil_tests.sim.faults import LineFaults
from hil_tests.sim.framing import Ascii, Rtu
from hil_tests.sim.gate import TcpGate
from hil_tests.sim.line import Line, Options, TcpLine
from hil_tests.sim.loads import LOADS, Series, Week, make_load
from hil_tests.sim.meters import SimMeter
from hil_tests.sim.patterns import Pattern, make_pattern
from hil_tests.sim.ports import LOOPBACK
from hil_tests.sim.profile import Profile, load_profile
from hil_tests.sim.replay import load_csv
from hil_tests.sim.servers import RtuServer, TcpServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

    from hil_tests.sim.site import LineSpec, MeterSpec, SiteSpec

_TAN_PHI_PERMILLE = 329  # of loads from a CSV file: power factor 0.95


@dataclass(frozen=True, slots=True)
class Stage:
    """A running site, by name: what a test looks at."""

    lines: Mapping[str, Line]  # on ptys
    tcp: Mapping[str, TcpServer | TcpGate]  # Modbus TCP
    meters: Mapping[str, SimMeter]
    rtu_tcp: Mapping[str, TcpLine]  # behind serial servers
    faults: Mapping[str, LineFaults]  # of the lines that have some


@asynccontextmanager
async def play(spec: SiteSpec, *, now_ms: Callable[[], int]) -> AsyncIterator[Stage]:
    """Run a site while the `async with` block lasts; `now_ms` gives UTC milliseconds."""
    meters = build_meters(spec)
    lines: dict[str, Line] = {}
    servers: dict[str, TcpServer | TcpGate] = {}
    raw: dict[str, TcpLine] = {}
    faults: dict[str, LineFaults] = {}
    serving: list[tuple[str, Callable[[], Coroutine[None, None, None]]]] = []
    async with AsyncExitStack() as stack:
        for line in spec.lines:
            on_line = [meters[meter.name] for meter in line.meters]
            faulty = _faults(spec, line, now_ms)
            if faulty is not None:
                faults[line.name] = faulty
            if line.tcp is None:
                rtu = RtuServer(on_line, now_ms=now_ms, ascii_mode=line.ascii_mode)
                wire = _wire(spec, line, await stack.enter_async_context(rtu), faulty)
                stack.enter_context(wire)
                serving.append((line.name, wire.serve))
                if isinstance(wire, TcpLine):
                    raw[line.name] = wire
                else:
                    lines[line.name] = wire
            elif faulty is None:
                server = TcpServer(on_line, port=line.tcp, now_ms=now_ms)
                servers[line.name] = await stack.enter_async_context(server)
            else:
                gate = TcpGate(on_line, port=line.tcp, now_ms=now_ms, faults=faulty)
                servers[line.name] = await stack.enter_async_context(gate)
                serving.append((line.name, gate.serve))
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(serve(), name=f"line[{name}]") for name, serve in serving]
            try:
                yield Stage(lines, servers, meters, raw, faults)
            finally:
                for task in running:
                    task.cancel()


def build_meters(spec: SiteSpec) -> dict[str, SimMeter]:
    """Make the meters of a site, the lower ones of the tree first; takes a while in real time."""
    week = Week.at_speed(spec.day_speed)
    wanted = {meter.name: meter for line in spec.lines for meter in line.meters}
    supplies: dict[str, Supply] = {}

    def supply_of(meter: MeterSpec) -> Supply:
        if meter.name not in supplies:
            below = [supply_of(wanted[child]) for child in meter.children]
            supplies[meter.name] = _supply(spec, week, meter, below)
        return supplies[meter.name]

    meters = {
        meter.name: SimMeter(
            name=meter.name,
            unit=meter.unit,
            profile=_profile(spec, meter.profile),
            ratios=meter.ratios,
            supply=supply_of(meter),
            dead=meter.dead,
            patterns=_patterns(spec, meter),
        )
        for meter in wanted.values()
    }
    for sim in meters.values():
        sim.warm_up()
    return meters


def describe(spec: SiteSpec, stage: Stage) -> list[str]:
    """Return one line per meter: where it can be reached; and what it cannot simulate."""
    rows = []
    for line in spec.lines:
        if line.tcp is not None:
            reach = f"{line.name}  tcp  {LOOPBACK}:{stage.tcp[line.name].port}"
        else:
            mode = " ascii" if line.ascii_mode else ""
            reach = f"{line.name}  {line.baud} {line.format}{mode}  "
            if line.rtu_tcp is not None:
                reach += f"{LOOPBACK}:{stage.rtu_tcp[line.name].port} (serial server)"
            else:
                reach += str(line.link)
        for meter in line.meters:
            dead = "  dead" if meter.dead else ""
            rows.append(f"{reach}  unit {meter.unit} {meter.name} {meter.profile}{dead}")
            if unknown := stage.meters[meter.name].unknown_points:
                rows.append(f"  note: {meter.name} reads 0 for {', '.join(unknown)}")
    return rows


def _wire(
    spec: SiteSpec, line: LineSpec, rtu: RtuServer, faults: LineFaults | None
) -> Line | TcpLine:
    rng = Random(f"{spec.seed}/{line.name}/turnaround")
    options = Options(ascii_mode=line.ascii_mode, faults=faults)
    if line.rtu_tcp is not None:
        return TcpLine(
            line.name,
            line.rtu_tcp,
            baud=line.baud,
            format=line.format,
            turnaround_ms=line.turnaround_ms,
            rng=rng,
            answer=rtu.answer,
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
        answer=rtu.answer,
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
    for folder in spec.more_profiles:
        if (folder / f"{name}.toml").is_file():
            return load_profile(name, folder)
    return load_profile(name, spec.profiles)


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
