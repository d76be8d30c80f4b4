"""From a meter's points to questions, and from its answers to readings, whatever it speaks.

Owns what differs between protocols above the frames: Modbus is read in blocks of registers, DL/T
645 and CJ/T 188 item by item. It asks nobody and knows no time: the reader does, the bus keeps it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from edgeagg._core import ScanPlan
from edgeagg.model import Quality
from edgeagg_agent.bus import ReadRequest
from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.plan import NOTHING, Block, Item, Known, Span, plan_blocks
from edgeagg_agent.profile import (
    ItemPoint,
    Point,
    Profile,
    Ratio,
    compiled,
    decode_item,
    factors,
)
from edgeagg_agent.protocol import Question, cjt188, dlt645
from edgeagg_agent.protocol.modbus import RtuQuestion
from edgeagg_agent.protocol.modbus_ascii import AsciiQuestion
from edgeagg_agent.protocol.telegram import WAKE_BYTES

Ratios = Mapping[str, Fraction]
Replies = Sequence[bytes | int]
"""One payload, or the reason why there is none as a `Quality`, for each read."""

_ITEM_TYPICAL_BYTES = 4  # what a question without lengths takes its answer to carry
_BLOCK_ITEMS_MIN = 2
_SPARE_MAX = 4


@dataclass(frozen=True, slots=True)
class ItemRead:
    """One read of DL/T 645 or CJ/T 188.

    `lengths` are the data bytes its answer may carry, empty for any; `needed_bytes` hold all that
    is wanted of it. A block gives several items at once, where the meter has it.
    """

    item: str
    lengths: tuple[int, ...]
    needed_bytes: int
    is_block: bool = False


Read = Block | ItemRead


@dataclass(frozen=True, slots=True)
class Address:
    """How a bus names a meter: by a unit id (Modbus), or by the digits on its plate.

    `meter_type` is the type byte of CJ/T 188, `edition` that standard's year.
    """

    unit: int = 0
    digits: str = ""
    meter_type: int = 0x10
    edition: str = "2004"

    def __str__(self) -> str:
        """Name it as messages do."""
        return f"address {self.digits}" if self.digits else f"unit {self.unit}"

    def is_same(self, other: Address) -> bool:
        """Tell whether one meter would answer both; editions differ in the question only."""
        return replace(self, edition=other.edition) == other


class Asker:
    """Builds the questions to one meter."""

    def __init__(self, profile: Profile, address: Address, *, ascii_mode: bool) -> None:
        self._protocol, self._address, self._ascii = profile.protocol, address, ascii_mode
        self._limits = profile.limits
        self._registers = _readable(profile)
        self._ser = itertools.cycle(range(256))

    def question(self, read: Read) -> Question:
        """Return the question for one read."""
        if isinstance(read, Block):
            request = ReadRequest(self._address.unit, read.function, read.start, read.count)
            spare = self._spare(read)
            return AsciiQuestion(request, spare) if self._ascii else RtuQuestion(request, spare)
        digits = self._address.digits
        if self._protocol == "cjt188":
            return cjt188.ReadQuestion(
                self._address.meter_type,
                digits,
                read.item,
                next(self._ser),
                cjt188.Edition(f"cjt188-{self._address.edition}"),
                lengths=read.lengths,
            )
        generation = dlt645.Generation(self._protocol)
        return dlt645.ReadQuestion(digits, read.item, generation, lengths=read.lengths)

    def _spare(self, read: Block) -> int:
        """Return how many registers behind a read the meter has for sure, and lets us read.

        A question may then be asked in another shape when a late answer to it may still come.
        """
        most = min(_SPARE_MAX, self._limits.registers_max - read.count)
        function, spare = read.function, 0
        while spare < most and (function, read.end + spare) in self._registers:
            spare += 1
        return spare

    def cost(self, read: ItemRead) -> Item:
        """Return the bytes of a read's frames, with all that a meter may send in front."""
        question = self.question(read)
        more_bytes = 0 if read.lengths else max(0, read.needed_bytes - _ITEM_TYPICAL_BYTES)
        return Item(len(question.request), question.reply_bytes + WAKE_BYTES + more_bytes)


def byte_chars(profile: Profile, *, ascii_mode: bool) -> int:
    """Return how many characters of the line a byte of the meter's frames takes."""
    return 2 if ascii_mode and profile.protocol == "modbus" else 1


def _readable(profile: Profile) -> frozenset[tuple[int, int]]:
    """Return the registers that may be read by themselves: points', and those proven.

    Where a meter refuses holes it may refuse a part of a value as well: none then.
    """
    if profile.limits.holes != "readable":
        return frozenset()
    known = (*((p.function, p.register, p.count) for p in profile.points), *profile.limits.proven)
    legal = {(function, start + n) for function, start, count in known for n in range(count)}
    for function, start, count in profile.limits.illegal:
        legal -= {(function, start + n) for n in range(count)}
    return frozenset(legal)


def spans(points: Sequence[Point | ItemPoint], profile: Profile) -> tuple[Span, ...]:
    """Return the registers that the points take, with those of powers of ten that scale them.

    A meter changes such a power with its load, so it is read together with its points.
    """
    registers = [point for point in points if isinstance(point, Point)]
    used = {name for point in registers for name in point.ratios}
    live = [ratio for ratio in profile.ratios if ratio.is_live and ratio.name in used]
    places = [(point.function, point.register, point.count) for point in registers]
    return (*places, *((ratio.function, ratio.register, ratio.count) for ratio in live))


def item_reads(
    points: Sequence[Point | ItemPoint], protocol: str, refused: Collection[str] = ()
) -> tuple[ItemRead, ...]:
    """Return the reads that fetch the points, each item once.

    Points that stand in one block are fetched with it, unless the meter `refused` the block before.
    """
    items = [point for point in points if isinstance(point, ItemPoint)]
    blocks = Counter(point.block for point in items)
    reads: dict[str, ItemRead] = {}
    for point in items:
        block = point.block
        if block is not None and block not in refused and blocks[block] >= _BLOCK_ITEMS_MIN:
            end = point.block_offset_bytes + max(layout.length for layout in point.layouts)
            before = reads.get(block)
            needed = max(end, before.needed_bytes if before else 0)
            reads[block] = ItemRead(block, (), needed, is_block=True)
            continue
        lengths = _reply_lengths(point, protocol)
        before = reads.get(point.item)
        if before is not None:
            lengths = lengths | set(before.lengths) if lengths and before.lengths else set()
        ends = [layout.offset_bytes + layout.length for layout in point.layouts]
        needed = max(min(ends), before.needed_bytes if before else 0)
        reads[point.item] = ItemRead(point.item, tuple(sorted(lengths)), needed)
    return tuple(reads.values())


def plan_reads(
    points: Sequence[Point | ItemPoint],
    profile: Profile,
    timing: Timing | None,
    turnaround_us: int,
    known: Known = NOTHING,
    refused: Collection[str] = (),
) -> tuple[Read, ...]:
    """Return the reads that fetch the points in the least bus time.

    `known` is what the meter taught of its registers, `refused` the blocks of items it has not.
    """
    if profile.protocol != "modbus":
        return item_reads(points, profile.protocol, refused)
    return plan_blocks(spans(points, profile), profile.limits, timing, turnaround_us, known)


def _reply_lengths(point: ItemPoint, protocol: str) -> set[int]:
    """Return the data bytes an answer may carry; empty for any.

    An item of DL/T 645 is its value alone where the profile says nothing else. One of CJ/T 188
    holds all that the meter knows.
    """
    stated = {layout.reply_bytes or 0 for layout in point.layouts}
    if 0 not in stated:
        return stated
    if protocol == "cjt188":
        return set()
    return {layout.offset_bytes + layout.length for layout in point.layouts}


class RegisterDecoder:
    """Readings from registers: one crossing into the core for a whole scan."""

    def __init__(self, points: Sequence[Point], reads: Sequence[Block]) -> None:
        """Compile; the ratios count 1 until `set_ratios`."""
        self._points = points
        self._live = any(ratio for point in points for ratio in point.ratios)
        ones = {name: Fraction(1) for point in points for name in point.ratios}
        self.plan = ScanPlan(
            len(reads), [compiled(point, *_place(point, reads), ones) for point in points]
        )

    def set_ratios(self, ratios: Ratios) -> None:
        """Use these ratios from now on."""
        if self._live:
            self.plan.set_factors([factors(point, ratios) for point in self._points])

    def decode(self, replies: Replies, ratios: Quality) -> tuple[list[int | None], bytes]:
        """Return one mantissa or None, and one quality, per point."""
        return self.plan.decode(replies, ratios=int(ratios))


class ItemDecoder:
    """Readings from items; these lines carry some ten of them in a second."""

    def __init__(self, points: Sequence[ItemPoint], reads: Sequence[ItemRead]) -> None:
        places = {read.item: place for place, read in enumerate(reads)}
        blocks = {read.item for read in reads if read.is_block}
        self._points = [
            (point, places[point.block or ""], True)
            if point.block in blocks
            else (point, places[point.item], False)
            for point in points
        ]

    def set_ratios(self, ratios: Ratios) -> None:
        """Do nothing: such meters apply their ratios themselves, or not at all."""

    def decode(self, replies: Replies, ratios: Quality) -> tuple[list[int | None], bytes]:
        """Return one mantissa or None, and one quality, per point."""
        del ratios
        values: list[int | None] = []
        qualities = bytearray()
        for point, place, is_block in self._points:
            reply = replies[place]
            value, quality = (
                decode_item(point, reply, is_block=is_block)
                if isinstance(reply, bytes)
                else (None, Quality(reply))
            )
            values.append(value)
            qualities.append(quality)
        return values, bytes(qualities)


def ratio_content(ratio: Ratio, reads: Sequence[Read], replies: Replies) -> bytes | Quality:
    """Return the registers of a ratio from the replies that hold them, or why they are missing."""
    for read, reply in zip(reads, replies, strict=True):
        if isinstance(read, Block) and read.covers((ratio.function, ratio.register, ratio.count)):
            if not isinstance(reply, bytes):
                return Quality(reply)
            at = 2 * (ratio.register - read.start)
            return reply[at : at + 2 * ratio.count]
    raise ValueError(f"ratio {ratio.name} stands in no read")


def _place(point: Point, reads: Sequence[Block]) -> tuple[int, int]:
    """Return the number of the read that holds a point, and its first byte there."""
    span = point.function, point.register, point.count
    number = next(n for n, read in enumerate(reads) if read.covers(span))
    return number, 2 * (point.register - reads[number].start)
