"""What one read of a group of points gave, and which replies hold which of its points.

Pure: the reader asks, and the poller records what comes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeagg.model import Quality
from edgeagg_agent.asking import ItemDecoder, ItemRead, Read, RegisterDecoder
from edgeagg_agent.bus import Answer
from edgeagg_agent.plan import Block, Span
from edgeagg_agent.profile import ItemPoint, Point
from edgeagg_agent.site import PointGroup


@dataclass(frozen=True, slots=True)
class Scan:
    """What one read of a group gave, and when, in seconds of the event loop's clock.

    One payload or reason per read; `ratios` is why the transformer ratios are missing, or GOOD. The
    times are those of the reads that fetched the totalisers, since energy is billed by time; those
    of the whole scan where there is none or it failed. `skew_s` is the whole scan's length: how far
    apart in time two of its readings can be.
    """

    group: PointGroup
    decoder: RegisterDecoder | ItemDecoder
    replies: tuple[bytes | int, ...]
    ratios: Quality
    sent_s: float
    received_s: float
    skew_s: float

    def decode(self) -> tuple[list[int | None], bytes]:
        """Return one mantissa or None, and one quality, per point."""
        return self.decoder.decode(self.replies, self.ratios)


def decoder_for(
    points: Sequence[Point | ItemPoint], reads: Sequence[Read]
) -> RegisterDecoder | ItemDecoder:
    registers = [point for point in points if isinstance(point, Point)]
    if registers:
        return RegisterDecoder(registers, [read for read in reads if isinstance(read, Block)])
    items = [point for point in points if isinstance(point, ItemPoint)]
    return ItemDecoder(items, [read for read in reads if isinstance(read, ItemRead)])


def fetches(read: Read, point: Point | ItemPoint) -> bool:
    if isinstance(read, Block):
        return isinstance(point, Point) and read.covers(
            (point.function, point.register, point.count)
        )
    return isinstance(point, ItemPoint) and read.item in {point.item, point.block}


def lacks(read: ItemRead, answer: Answer | int) -> bool:
    """Tell whether a meter does not have a block, or not all that is wanted of it."""
    if not read.is_block:
        return False
    if isinstance(answer, Answer):
        return len(answer.payload) < read.needed_bytes
    return answer == Quality.REFUSED


def cut(
    wanted: Sequence[Span], blocks: Sequence[Block], payloads: Sequence[bytes]
) -> dict[Span, bytes]:
    """Return the bytes of each wanted span out of the blocks that hold it."""
    found = {}
    for span in wanted:
        for block, payload in zip(blocks, payloads, strict=True):
            if block.covers(span):
                at = 2 * (span[1] - block.start)
                found[span] = payload[at : at + 2 * span[2]]
    return found
