"""Which blocks of registers to read, and whether the bus has time for them.

Pure arithmetic. It knows no meter, no port and no clock: registers, limits and times come in,
blocks come out. Reading unused registers in between can be cheaper than another request; how far
depends on baud rate and turnaround, so dynamic programming finds the blocks, not a fixed gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgeagg_agent.bus.timing import Timing
    from edgeagg_agent.profile import Limits

READ_REPLY_BYTES = 5  # unit, function, byte count, CRC; two more for each register


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


def plan_blocks(
    wanted: Iterable[tuple[int, int, int]],
    limits: Limits,
    timing: Timing | None,
    turnaround_us: int,
) -> tuple[Block, ...]:
    """Cover the `wanted` (function, start, count) with the reads that take the least bus time.

    A value is never split over two reads. A read crosses unused registers only where `limits.holes`
    says they are readable. Without `timing` (TCP) the fewest reads win, then the fewest registers.
    Raises ValueError for a value that takes more registers than one read may have.
    """
    values = sorted({Block(*place) for place in wanted}, key=lambda v: (v.function, v.start, v.end))
    blocks: list[Block] = []
    for function in sorted({value.function for value in values}):
        units = _join_overlaps([value for value in values if value.function == function])
        blocks += _cheapest(units, limits, timing, turnaround_us)
    return tuple(blocks)


def scan_us(
    blocks: Iterable[Block], limits: Limits, timing: Timing | None, turnaround_us: int
) -> int:
    """Return the bus time of one scan of these blocks, in microseconds."""
    return sum(_block_us(block.count, limits, timing, turnaround_us) for block in blocks)


def utilisation(entries: Iterable[tuple[int, int]]) -> float:
    """Add up a bus: for every meter its period in milliseconds and bus time per scan in us.

    Return the demanded share of the bus; above 1.0 the periods cannot be kept.
    """
    return sum(scan * 1000 / period_ms for period_ms, scan in entries) / 1e6


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
    values: Sequence[Block], limits: Limits, timing: Timing | None, turnaround_us: int
) -> list[Block]:
    """Return the cheapest reads that cover sorted, disjoint values of one function."""
    # best[n]: cost of the first n values as (microseconds, reads, registers), and where the last
    # read begins; equal times are decided by fewer reads, then fewer registers
    best: list[tuple[tuple[int, int, int], int]] = [((0, 0, 0), 0)]
    for last, value in enumerate(values):
        options = []
        for first in range(last, -1, -1):
            count = value.end - values[first].start
            if count > limits.registers_max:
                break
            (us, reads, registers), _ = best[first]
            us += _block_us(count, limits, timing, turnaround_us)
            options.append(((us, reads + 1, registers + count), first))
            is_hole = first > 0 and values[first - 1].end < values[first].start
            if is_hole and limits.holes != "readable":
                break
        if not options:
            raise ValueError(f"{value} is longer than the {limits.registers_max} of one read")
        best.append(min(options))
    blocks: list[Block] = []
    end = len(values)
    while end:
        first = best[end][1]
        start = values[first].start
        blocks.append(Block(values[first].function, start, values[end - 1].end - start))
        end = first
    return blocks[::-1]


def _block_us(count: int, limits: Limits, timing: Timing | None, turnaround_us: int) -> int:
    if timing is None:
        return turnaround_us
    beyond_t35_us = max(0, limits.request_gap_ms * 1000 - timing.t35_us)
    reply_bytes = READ_REPLY_BYTES + 2 * count
    return timing.transaction_us(reply_bytes, turnaround_us) + beyond_t35_us
