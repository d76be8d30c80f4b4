"""The records of cuts, and the one that stands for all before it: what a restart begins with."""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from edgeagg.model import Catalogue
from edgeagg_agent import catalogue_copies
from edgeagg_agent.rowlog import CHECKPOINT, RowLog

_HEAD = struct.Struct("<QQ16sII")
_CUT = struct.Struct("<QQQB")


class CutFor(IntEnum):
    """What a cut is for; the last rows of a catalogue end its days."""

    ROWS = 0
    LAST_ROWS = 1
    ANNOUNCEMENT = 2


@dataclass(frozen=True, slots=True)
class CutNote:
    """A cut: its time, its first sequence, the keyframe it may refer to (0: none)."""

    now_ms: int
    first: int
    keyframe: int
    what_for: CutFor

    def to_bytes(self) -> bytes:
        """Return the record."""
        return _CUT.pack(self.now_ms, self.first, self.keyframe, self.what_for)

    @staticmethod
    def from_bytes(record: bytes) -> CutNote:
        """Read what `to_bytes` made."""
        now_ms, first, keyframe, what_for = _CUT.unpack(record)
        return CutNote(now_ms, first, keyframe, CutFor(what_for))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state behind one cut.

    `head` is the last sequence of the outbox then, 0 where that does not count any more; `days`,
    `departed` and `snapshot` are what the day book, the departed groups and the aggregator wrote.
    """

    cut: int
    head: int
    schema: bytes
    days: bytes
    departed: bytes
    snapshot: bytes

    def to_bytes(self) -> bytes:
        """Return the record."""
        sizes = len(self.days), len(self.departed)
        start = _HEAD.pack(self.cut, self.head, self.schema, *sizes)
        return start + self.days + self.departed + self.snapshot

    @staticmethod
    def from_bytes(record: bytes) -> Checkpoint:
        """Read what `to_bytes` made."""
        cut, head, schema, *sizes = _HEAD.unpack_from(record)
        ends = list(itertools.accumulate(sizes, initial=_HEAD.size))
        parts = (record[begin:end] for begin, end in itertools.pairwise([*ends, len(record)]))
        return Checkpoint(cut, head, schema, *parts)


def last_checkpoint(
    rows: RowLog, directory: Path, configured: Catalogue
) -> tuple[Checkpoint, Catalogue] | None:
    """Return the last checkpoint whose catalogue is known, and that; None when there is none.

    Whatever is left of a catalogue in the state directory `directory` will do. Blocks.
    """
    for number in reversed(rows.numbers()):
        record = rows.read(number)
        if record is not None and record[0] == CHECKPOINT:
            checkpoint = Checkpoint.from_bytes(record[1])
            known = configured.hash == checkpoint.schema
            catalogue = configured if known else catalogue_copies.find(directory, checkpoint.schema)
            if catalogue is not None:
                return checkpoint, catalogue
    return None
