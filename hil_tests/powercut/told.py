"""What the writing process has told through its pipe: all it acknowledged, to whomever."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field


class LieError(Exception):
    """Something acknowledged is gone, or was never true."""


@dataclass(slots=True)
class Told:
    """Everything acknowledged in the life of a disk, over all its cuts."""

    slots: set[int] = field(default_factory=set)
    """Slots whose rows, of all groups, are committed."""
    batches: dict[tuple[int, int], str] = field(default_factory=dict)
    """Digests by epoch and sequence."""
    receipts: dict[tuple[str, int], int] = field(default_factory=dict)
    """`through` by destination and epoch."""
    end: int = 0
    """One behind the last slot that may have been begun."""

    def take(self, lines: Iterable[str]) -> None:
        """Note the lines of one process; raise LieError where a number has other bytes now."""
        for line in lines:
            match line.split():
                case ["begin", slot]:
                    self.end = max(self.end, int(slot))
                case ["rows", first, end]:
                    self.slots.update(range(int(first), int(end)))
                case ["batch", epoch, sequence, digest]:
                    self._batch((int(epoch), int(sequence)), digest)
                case ["receipt", destination, epoch, through]:
                    known = self.receipts.get((destination, int(epoch)), 0)
                    self.receipts[destination, int(epoch)] = max(known, int(through))

    def _batch(self, identity: tuple[int, int], digest: str) -> None:
        if self.batches.setdefault(identity, digest) != digest:
            epoch, sequence = identity
            raise LieError(f"epoch {epoch} sequence {sequence} was used again for other bytes")
