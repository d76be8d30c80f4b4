"""What the bench knows of a run of the chain, and what it found out about it.

Owns the counts and their words; what they mean is decided by those who judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

NOTES_MAX = 12


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of UTC milliseconds, ends included."""

    first_ms: int
    last_ms: int

    def holds(self, at_ms: int) -> bool:
        """Tell whether `at_ms` lies in it."""
        return self.first_ms <= at_ms <= self.last_ms


@dataclass(frozen=True, slots=True)
class Wanted:
    """A group of points of one meter that the gateway is to read."""

    meter: str
    period_ms: int
    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """What the bench knows of a run. Times are the host's; `offsets_ms` lead to the agent's."""

    span: Span
    agent_span: Span  # in the agent's own time: every meter must be accounted for in it
    downs: Sequence[Span] = ()  # when the agent was down: only there a slot may be `stopped`
    offsets_ms: Sequence[int] = (0,)  # by which the agent's clock may have been wrong
    blur_ms: int = 2_000  # how far the time of a row may be from the reading of its points
    ahead: int = 0  # batches seen receipted that were not committed
    wanted: Sequence[Wanted] = ()  # nothing else is missed when nothing at all came of a group
    leaps: Sequence[Span] = ()  # of the agent's time, which its clock was put over: nothing was due


@dataclass(slots=True)
class Verdict:
    """One row of the table, in point slots; what is wrong, lost or doubled is named in `notes`."""

    due: int = 0
    values: int = 0
    reasons: int = 0
    missed: int = 0
    wrong: int = 0
    lost: int = 0
    doubled: int = 0
    energies: int = 0  # of closed windows, that were compared with the meters'
    notes: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Tell whether nothing is wrong, lost or doubled, and something was read at all."""
        return self.values > 0 and not (self.wrong or self.lost or self.doubled)

    @property
    def went_on(self) -> bool:
        """Tell whether polling went on all the time; one slot in ten a busy machine may cost."""
        return self.reasons + self.missed <= self.due / 10

    def lose(self, count: int, note: str) -> None:
        """Count readings as lost, and say which."""
        self.lost += count
        self._note(f"lost {count}: {note}")

    def double(self, count: int, note: str) -> None:
        """Count readings as doubled, and say which."""
        self.doubled += count
        self._note(f"doubled {count}: {note}")

    def mistrust(self, note: str) -> None:
        """Count a value as wrong, and say which."""
        self.wrong += 1
        self._note(f"wrong: {note}")

    def _note(self, note: str) -> None:
        if len(self.notes) < NOTES_MAX:
            self.notes.append(note)
