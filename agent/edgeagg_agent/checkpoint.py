"""The record that stands for all records before it: what a restart begins with."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_HEAD = struct.Struct("<QQ16sI")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state behind one cut.

    `head` is the last sequence of the outbox then, 0 where that does not count any more; `days` and
    `snapshot` are what the day book and the aggregator wrote.
    """

    cut: int
    head: int
    schema: bytes
    days: bytes
    snapshot: bytes

    def to_bytes(self) -> bytes:
        """Return the record."""
        start = _HEAD.pack(self.cut, self.head, self.schema, len(self.days))
        return start + self.days + self.snapshot

    @staticmethod
    def from_bytes(record: bytes) -> Checkpoint:
        """Read what `to_bytes` made."""
        cut, head, schema, days = _HEAD.unpack_from(record)
        end = _HEAD.size + days
        return Checkpoint(cut, head, schema, record[_HEAD.size : end], record[end:])
