"""How far a destination is. What of a receipt moves it is the sender's matter."""

from __future__ import annotations

import contextlib
from pathlib import Path

from edgeagg.batch import Range
from edgeagg_agent.two_slots import TwoSlots

_SLOT_BYTES = 64
_THROUGH_BYTES = 8


class Cursor:
    """The last sequence that a destination has committed, with all before it.

    An old cursor costs a few batches sent again, so it is not synced.
    """

    def __init__(self, path: Path) -> None:
        self._file = TwoSlots(path, _SLOT_BYTES, is_synced=False)
        self.through = int.from_bytes(self._file.value, "little")
        self._ranges: tuple[Range, ...] = ()

    def has(self, sequence: int) -> bool:
        """Tell whether the last receipt of this run holds a sequence."""
        if sequence <= self.through:
            return True
        return any(first <= sequence <= last for first, last in self._ranges)

    def advance(self, through: int, ranges: tuple[Range, ...] = ()) -> None:
        """Move, and remember; what is beyond a gap only until the next start."""
        self._ranges = ranges
        if through == self.through:
            return
        self.through = through
        # a disk that refuses leaves an old cursor; the good slot is not touched until it gives in
        with contextlib.suppress(OSError):
            self._file.write(through.to_bytes(_THROUGH_BYTES, "little"))

    def prepare(self) -> None:
        """Take the room of the file now, while there may be some."""
        with contextlib.suppress(OSError):
            self._file.reserve()
