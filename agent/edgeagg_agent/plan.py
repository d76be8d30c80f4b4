"""Which registers to read in which requests, and how long that takes.

Pure arithmetic. It knows no meter, no port and no clock: registers, limits and times come in,
blocks come out. Reading unused registers in between can be cheaper than another request; how far
depends on baud rate and turnaround, so dynamic programming finds the blocks, not a fixed gap.
What a meter taught beyond its profile comes in as `Known`; `learned` finds it out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeagg_agent.bus.timing import REQUEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from edgeagg_agent.bus.timing import Timing
    from edgeagg_agent.profile import Limits

READ_REPLY_BYTES = 5  # unit, function, byte count, CRC; two more for each register
SWITCH_US = 2_000  # waiting for the port to drain and setting it anew; measured on Linux ttys

Span = tuple[int, int, int]
"""Registers as (function, start, count)."""


@dataclass(frozen=True, slots=True)
class Block:
    """One read: `count` registers from `start` with `function`."""

    function: int
    start: int
    count: int

    @property
    def end(self) -> int:
        """The first register behind the block."""
        return self.start + self.count

    def covers(self, span: Span) -> bool:
        """Tell whether all of the span is read by this block."""
        function, start, count = span
        return self.function == function and self.start <= start and start + count <= self.end


@dataclass(frozen=True, slots=True)
class Item:
    """One read of a protocol without blocks, such as DL/T 645: bytes of its two frames.

    Both lengths count everything on the wire, the preamble included.
    """

    request_bytes: int
    reply_bytes: int


@dataclass(frozen=True, slots=True)
class Known:
    """What a meter taught beyond its profile.

    `proven` spans can be read in one request, holes included. A read that covers all of a `refused`
    span is refused. `registers_max` is the most it answers at once, 0 when nothing was learned.
    """

    proven: tuple[Span, ...] = ()
    refused: tuple[Span, ...] = ()
    registers_max: int = 0


NOTHING = Known()


def plan_blocks(
    wanted: Iterable[Span],
    limits: Limits,
    timing: Timing | None,
    turnaround_us: int,
    known: Known = NOTHING,
) -> tuple[Block, ...]:
    """Cover the `wanted` (function, start, count) with the reads that take the least bus time.

    A value is never split over two reads. A read crosses unused registers only where `limits.holes`
    says they are readable, or where the whole read lies inside a proven span, and never one of
    `limits.illegal`. Without `timing` (TCP) the fewest reads win, then the fewest registers.
    Raises ValueError for a value that takes more registers than one read may have.
    """
    values = sorted({Block(*place) for place in wanted}, key=lambda v: (v.function, v.start, v.end))
    blocks: list[Block] = []
    for function in sorted({value.function for value in values}):
        units = _join_overlaps([value for value in values if value.function == function])
        blocks += _cheapest(units, _Terrain(limits, known), timing, turnaround_us)
    return tuple(blocks)


def scan_us(
    blocks: Iterable[Block], limits: Limits, timing: Timing | None, turnaround_us: int
) -> int:
    """Return the bus time of one scan of these blocks, in microseconds."""
    return sum(_block_us(block.count, limits, timing, turnaround_us) for block in blocks)


def items_us(items: Iterable[Item], timing: Timing, turnaround_us: int, gap_ms: int) -> int:
    """Return the bus time of reading these items one after the other, in microseconds.

    `gap_ms` is the silence the meter needs before a request, when that is more than T3.5.
    """
    return sum(
        timing.frame_us(item.request_bytes)
        + max(turnaround_us, timing.t35_us)
        + timing.frame_us(item.reply_bytes)
        + max(gap_ms * 1000, timing.t35_us)
        for item in items
    )


def failed_us(
    timing: Timing | None, turnaround_max_us: int, reply_bytes: int, latency_us: int = 0
) -> int:
    """Return the bus time that a question without an answer costs, in microseconds.

    The bus waits for the longest turnaround and the whole reply, and `latency_us` more for an
    adapter that hands bytes over late.
    """
    if timing is None:
        return turnaround_max_us
    wire_us = timing.frame_us(REQUEST_BYTES) + timing.frame_us(reply_bytes)
    return wire_us + turnaround_max_us + latency_us + timing.t35_us


def switch_us(one: Timing, other: Timing) -> int:
    """Return the time it takes to go on at another speed or format, in microseconds.

    Nobody on the line may take the first byte for the rest of a frame, at either speed.
    """
    return SWITCH_US + abs(one.t35_us - other.t35_us) if one != other else 0


def utilisation(entries: Iterable[tuple[int, int]]) -> float:
    """Add up a bus: for every meter its period in milliseconds and bus time per scan in us.

    Return the demanded share of the bus; above 1.0 the periods cannot be kept.
    """
    return sum(scan * 1000 / period_ms for period_ms, scan in entries) / 1e6


def may_read(block: Block, values: Iterable[Span], limits: Limits, known: Known = NOTHING) -> bool:
    """Tell whether one request may ask for the block, of which only `values` are of use."""
    terrain = _Terrain(limits, known)
    holes = unused(block, values)
    return (
        block.count <= terrain.registers_max
        and all(terrain.is_legal(hole) for hole in holes)
        and terrain.allows(block, has_holes=bool(holes))
    )


def unused(block: Block, values: Iterable[Span]) -> list[Span]:
    """Return the spans of the block that no value uses, in the order of the registers."""
    holes = []
    end = block.start
    for _, start, count in sorted(value for value in values if block.covers(value)):
        if start > end:
            holes.append((block.function, end, start - end))
        end = max(end, start + count)
    if end < block.end:
        holes.append((block.function, end, block.end - end))
    return holes


class _Terrain:
    """Where a meter's registers may be crossed.

    What is not allowed for a read is not allowed for a longer one around it.
    """

    def __init__(self, limits: Limits, known: Known) -> None:
        self.limits = limits
        self.registers_max = min(limits.registers_max, known.registers_max or limits.registers_max)
        self._proven = [Block(*span) for span in (*limits.proven, *known.proven)]
        self._refused = known.refused

    def is_legal(self, hole: Span) -> bool:
        """Tell whether a read may cross the hole as far as the profile's prohibitions go."""
        function, start, count = hole
        return not any(
            other == function and start < first + length and first < start + count
            for other, first, length in self.limits.illegal
        )

    def allows(self, block: Block, *, has_holes: bool) -> bool:
        """Tell whether a read of `block` may cross its holes, prohibitions apart."""
        if any(block.covers(span) for span in self._refused):
            return False
        place = block.function, block.start, block.count
        return (
            not has_holes
            or self.limits.holes == "readable"
            or any(span.covers(place) for span in self._proven)
        )


def _join_overlaps(values: Sequence[Block]) -> list[Block]:
    """Join values that share registers, so that neither can be split."""
    joined: list[Block] = []
    for value in values:
        if joined and value.start < joined[-1].end:
            last = joined.pop()
            count = max(last.end, value.end) - last.start
            joined.append(Block(last.function, last.start, count))
        else:
            joined.append(value)
    return joined


def _cheapest(
    values: Sequence[Block], terrain: _Terrain, timing: Timing | None, turnaround_us: int
) -> list[Block]:
    """Return the cheapest reads that cover sorted, disjoint values of one function."""
    # best[n]: cost of the first n values as (microseconds, reads, registers), and where the last
    # read begins; equal times are decided by fewer reads, then fewer registers
    best: list[tuple[tuple[int, int, int], int]] = [((0, 0, 0), 0)]
    for last, value in enumerate(values):
        if value.count > terrain.limits.registers_max:
            raise ValueError(
                f"{value} is longer than the {terrain.limits.registers_max} of one read"
            )
        options = []
        for first in _beginnings(values, last, terrain):
            count = value.end - values[first].start
            (us, reads, registers), _ = best[first]
            us += _block_us(count, terrain.limits, timing, turnaround_us)
            options.append(((us, reads + 1, registers + count), first))
        best.append(min(options))
    blocks: list[Block] = []
    end = len(values)
    while end:
        first = best[end][1]
        start = values[first].start
        blocks.append(Block(values[first].function, start, values[end - 1].end - start))
        end = first
    return blocks[::-1]


def _beginnings(values: Sequence[Block], last: int, terrain: _Terrain) -> Iterator[int]:
    """Yield the values at which a read that ends with `last` may begin, the last one first.

    A value by itself may always be asked for: nothing smaller would fetch it.
    """
    yield last
    has_holes = False
    for first in range(last - 1, -1, -1):
        function, start, end = values[first].function, values[first].start, values[first].end
        hole = function, end, values[first + 1].start - end
        has_holes = has_holes or hole[2] > 0
        block = Block(function, start, values[last].end - start)
        if (
            block.count > terrain.registers_max
            or (hole[2] and not terrain.is_legal(hole))
            or not terrain.allows(block, has_holes=has_holes)
        ):
            return
        yield first


def _block_us(count: int, limits: Limits, timing: Timing | None, turnaround_us: int) -> int:
    if timing is None:
        return turnaround_us
    beyond_t35_us = max(0, limits.request_gap_ms * 1000 - timing.t35_us)
    reply_bytes = READ_REPLY_BYTES + 2 * count
    return timing.transaction_us(reply_bytes, turnaround_us) + beyond_t35_us
