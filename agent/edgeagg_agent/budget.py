"""What the meters of a bus ask of its time, before anything is opened.

Pure arithmetic on what is to be read; it opens no port and measures nothing. `ways` works out what
could be changed, `report` puts both into words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeagg_agent import boundary, plan
from edgeagg_agent.attention import BACK_MS, PROBE_EVERY_MS, SHARE_MIN_PPM
from edgeagg_agent.bus.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgeagg_agent.plan import Item, Known, Span
    from edgeagg_agent.profile import Limits

SHARE_MAX = 0.95
"""Most of a bus that a plan may ask for: the rest is for retries and probes of dead meters."""
LATENCY_US = 16_000  # of FTDI adapters, unless they are told otherwise
PROBE_REPLY_BYTES = 9  # one value of two registers


@dataclass(frozen=True, slots=True)
class GroupLoad:
    """The values of one meter that are read together, the most important ones first.

    Registers and items exclude each other: a meter speaks one protocol.
    """

    period_ms: int
    registers: tuple[Span, ...] = ()
    items: tuple[Item, ...] = ()
    is_billed: bool = False  # it has totalisers


@dataclass(frozen=True, slots=True)
class MeterLoad:
    """What is read of one meter, and how it wants to be asked; `baud` 0 is a TCP connection."""

    name: str
    baud: int
    format: str
    limits: Limits
    turnaround_us: int
    groups: tuple[GroupLoad, ...]
    known: Known = plan.NOTHING
    turnaround_max_us: int = 150_000
    byte_chars: int = 1  # characters of a byte on the wire: 2 in Modbus ASCII


@dataclass(frozen=True, slots=True)
class BusLoad:
    """The meters of one bus. Where nothing else is said they are asked at its `baud`."""

    name: str
    baud: int
    meters: tuple[MeterLoad, ...]


@dataclass(frozen=True, slots=True)
class MeterBudget:
    """What one meter takes: reads and bus time of one read of everything, share of the bus.

    A question without an answer takes `failed_us`, and is not asked more often than every
    `asked_every_ms`. `astray_ms` is the longest period of totalisers, up to a quarter hour, whose
    slots cannot be read on both sides of every quarter hour, 0 when there is none.
    """

    name: str
    reads: int
    registers: int
    scan_us: int
    failed_us: int
    asked_every_ms: int
    astray_ms: int
    share: float


@dataclass(frozen=True, slots=True)
class Budget:
    """What a bus's meters take of its time.

    `cycle_ms` is one read of everything, changes of speed included. `lead_ms` is how near to a
    quarter hour all totalisers are read on both sides, `boundary_ms` the worst of them by their
    periods as well, 0 when there are none. `blocked` names a meter whose read takes so long that
    slots of the shortest period are missed meanwhile.
    """

    name: str
    cycle_ms: int
    share: float
    lead_ms: int
    boundary_ms: int
    blocked: str
    meters: tuple[MeterBudget, ...]

    @property
    def is_feasible(self) -> bool:
        """Tell whether every slot can be kept."""
        return self.share <= SHARE_MAX and not self.blocked

    def dead_share(self, count: int) -> float:
        """Return the share of the bus that this many dead meters cost, the dearest ones.

        See `attention` for the rule. On a bus with time to spare they may take half of that.
        """
        spare = max(0.0, 1.0 - self.share)
        share = max(SHARE_MIN_PPM / 1e6, spare / 2)
        costs = [
            min(
                max(share / count, meter.failed_us / 1000 / BACK_MS),
                meter.failed_us / 1000 / meter.asked_every_ms,
            )
            for meter in self.meters
            if count
        ]
        return sum(sorted(costs, reverse=True)[:count])


def budget(load: BusLoad) -> Budget:
    """Add up one bus. Raises ValueError for a value that no read can hold."""
    meters, costs = [], []
    for number, meter in enumerate(load.meters):
        scans = [_scan(meter, group) for group in meter.groups]
        extra_us = _switch_us(load.meters, number)
        costs += [
            (group, scan[2] + extra_us, meter.name)
            for group, scan in zip(meter.groups, scans, strict=True)
        ]
        timing = _timing(meter)
        meters.append(
            MeterBudget(
                name=meter.name,
                reads=sum(reads for reads, _, _ in scans),
                registers=sum(registers for _, registers, _ in scans),
                scan_us=sum(us for _, _, us in scans),
                failed_us=plan.failed_us(
                    timing, meter.turnaround_max_us, PROBE_REPLY_BYTES, LATENCY_US
                ),
                asked_every_ms=min([PROBE_EVERY_MS, *(group.period_ms for group in meter.groups)]),
                astray_ms=_astray_ms(meter),
                share=plan.utilisation(
                    (group.period_ms, us + extra_us)
                    for group, (_, _, us) in zip(meter.groups, scans, strict=True)
                ),
            )
        )
    loads = [
        boundary.Load(group.period_ms, -(-us // 1000), group.is_billed) for group, us, _ in costs
    ]
    failed_ms = -(-max((meter.failed_us for meter in meters), default=0) // 1000)
    blocking_ms = max([failed_ms, *(one.cost_ms for one in loads)])
    lead_ms = boundary.lead_ms(loads, blocking_ms=blocking_ms)
    return Budget(
        name=load.name,
        cycle_ms=-(-sum(us for _, us, _ in costs) // 1000),
        share=sum(meter.share for meter in meters),
        lead_ms=lead_ms,
        boundary_ms=max(
            (boundary.distance_ms(one.period_ms, lead_ms) for one in loads if one.is_billed),
            default=0,
        ),
        blocked=_blocked([(group.period_ms, us, name) for group, us, name in costs]),
        meters=tuple(meters),
    )


def _astray_ms(meter: MeterLoad) -> int:
    return max(
        (
            group.period_ms
            for group in meter.groups
            if group.is_billed and boundary.bracketing_period_ms(group.period_ms) != group.period_ms
        ),
        default=0,
    )


def _timing(meter: MeterLoad) -> Timing | None:
    if not meter.baud:
        return None
    return Timing.of(meter.baud, meter.format, byte_chars=meter.byte_chars)


def _scan(meter: MeterLoad, group: GroupLoad) -> tuple[int, int, int]:
    """Return reads, registers and bus time in us of reading one group once."""
    timing = _timing(meter)
    if group.items and timing is not None:
        gap_ms = meter.limits.request_gap_ms
        us = plan.items_us(group.items, timing, meter.turnaround_us, gap_ms)
        return len(group.items), 0, us
    blocks = plan.plan_blocks(
        group.registers, meter.limits, timing, meter.turnaround_us, meter.known
    )
    us = plan.scan_us(blocks, meter.limits, timing, meter.turnaround_us)
    return len(blocks), sum(block.count for block in blocks), us


def _switch_us(meters: Sequence[MeterLoad], number: int) -> int:
    """Return what reaching this meter costs where the meters of a line differ in speed or format.

    The schedule reads those alike behind each other where it can; the plan does not count on it.
    """
    timing = _timing(meters[number])
    others = [_timing(meter) for meter in meters]
    return max((plan.switch_us(timing, other) for other in others if timing and other), default=0)


def _blocked(costs: Sequence[tuple[int, int, str]]) -> str:
    """Return the meter whose read makes others miss slots although the bus has time, or "".

    A read is not interrupted. Reading the earliest deadline first misses nothing if for every group
    and every span longer than the shortest period and shorter than the group's, the span holds the
    group's read and all that falls due in it more often (Jeffay, Stanat, Martel 1991).
    """
    tasks = sorted((period_ms * 1000, us, name) for period_ms, us, name in costs)
    share = sum(us / period_us for period_us, us, _ in tasks)
    if not tasks or share >= 1:
        return ""
    # in longer spans there is time enough, whatever the periods
    horizon_us = sum(us for _, us, _ in tasks) + max(us for _, us, _ in tasks)
    horizon_us = int(horizon_us / (1 - share)) + 1
    shortest_us = tasks[0][0]
    for place, (period_us, cost_us, name) in enumerate(tasks):
        shorter = tasks[:place]
        spans = {shortest_us + 1} | {
            n * other_us + 1
            for other_us in {us for us, _, _ in shorter}
            for n in range(1, min(period_us, horizon_us) // other_us + 1)
        }
        for span_us in spans:
            if shortest_us < span_us < period_us and span_us < cost_us + sum(
                (span_us - 1) // other_us * us for other_us, us, _ in shorter
            ):
                return name
    return ""
