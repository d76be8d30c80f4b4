"""A site that runs: every line, server and meter of a site file.

Owns the life of the parts. The wall clock is an argument; counters are pure functions of it and of
the file, so nothing is stored and a killed bench continues where it was.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from hil_tests.sim.electrical import Node, Supply
from hil_tests.sim.line import Line
from hil_tests.sim.loads import LOADS, Week, make_load
from hil_tests.sim.meters import SimMeter
from hil_tests.sim.profile import load_profile
from hil_tests.sim.servers import LOOPBACK, RtuServer, TcpServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from hil_tests.sim.site import LineSpec, MeterSpec, SiteSpec


@dataclass(frozen=True, slots=True)
class Stage:
    """A running site, by name: what a test looks at."""

    lines: Mapping[str, Line]
    tcp: Mapping[str, TcpServer]
    meters: Mapping[str, SimMeter]


@asynccontextmanager
async def play(spec: SiteSpec, *, now_ms: Callable[[], int]) -> AsyncIterator[Stage]:
    """Run a site while the `async with` block lasts; `now_ms` gives UTC milliseconds."""
    meters = build_meters(spec)
    lines: dict[str, Line] = {}
    servers: dict[str, TcpServer] = {}
    async with AsyncExitStack() as stack:
        for line in spec.lines:
            on_line = [meters[meter.name] for meter in line.meters]
            if line.tcp is not None:
                server = TcpServer(on_line, port=line.tcp, now_ms=now_ms)
                servers[line.name] = await stack.enter_async_context(server)
            else:
                rtu = await stack.enter_async_context(RtuServer(on_line, now_ms=now_ms))
                lines[line.name] = stack.enter_context(_serial_line(spec, line, rtu))
        async with asyncio.TaskGroup() as tasks:
            serving = [
                tasks.create_task(line.serve(), name=f"line[{line.name}]")
                for line in lines.values()
            ]
            try:
                yield Stage(lines, servers, meters)
            finally:
                for task in serving:
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
            profile=load_profile(meter.profile, spec.profiles),
            ratios=meter.ratios,
            supply=supply_of(meter),
            dead=meter.dead,
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
            reach = f"{line.name}  {line.baud} {line.format}  {line.link}"
        for meter in line.meters:
            dead = "  dead" if meter.dead else ""
            rows.append(f"{reach}  unit {meter.unit} {meter.name} {meter.profile}{dead}")
            if unknown := stage.meters[meter.name].unknown_points:
                rows.append(f"  note: {meter.name} reads 0 for {', '.join(unknown)}")
    return rows


def _serial_line(spec: SiteSpec, line: LineSpec, rtu: RtuServer) -> Line:
    if line.link is None:
        raise ValueError(f"line {line.name} has no link")
    return Line(
        line.name,
        line.link,
        baud=line.baud,
        format=line.format,
        turnaround_ms=line.turnaround_ms,
        rng=Random(f"{spec.seed}/{line.name}/turnaround"),
        answer=rtu.answer,
    )


def _supply(spec: SiteSpec, week: Week, meter: MeterSpec, below: Sequence[Supply]) -> Supply:
    rng = Random(f"{spec.seed}/{meter.name}")
    shares = (333 + rng.randint(-20, 20), 333 + rng.randint(-20, 20))
    shape = LOADS[meter.load] if meter.load is not None else None
    scale_w = meter.scale_kw * 1000 if shape is not None else 0.0
    node = Node(
        week,
        own=make_load(shape, week, scale_w=scale_w, rng=rng) if shape is not None else None,
        tan_phi_permille=shape.tan_phi_permille if shape is not None else 0,
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
