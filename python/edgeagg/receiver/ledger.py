"""What the platform keeps of a gateway's own word: alarms about its numbers, its days' statements.

Values and the protocol of the databases that keep them; the rows themselves are the store's.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edgeagg.statement import Tally


class AlarmKind(enum.StrEnum):
    """What is wrong with the numbers of a gateway."""

    FORK = "fork"  # two writers of one epoch: a copied state directory
    ROLLBACK = "rollback"  # an older state directory was put back


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that a person must look at; told once however often it is seen."""

    gateway: str
    kind: AlarmKind
    epoch: int
    sequence: int  # where it was seen first; 0: in the epoch as a whole
    first_ms: int
    last_ms: int
    times: int
    detail: str


@dataclass(frozen=True, slots=True)
class StatedSpan:
    """A span of one group for which there are statements, and what they add up to."""

    meter: str
    group_id: int
    period_ms: int
    points: int
    totalisers: tuple[int, ...]
    start_ms: int
    end_ms: int
    tally: Tally


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of comparing a span with the tables."""

    group_id: int
    start_ms: int
    end_ms: int
    checked_ms: int
    matches: bool


class Ledger(Protocol):
    """The part of a store behind alarms and statements. Every method may raise StoreError."""

    async def newest(self) -> Sequence[tuple[str, int]]:
        """Return every gateway with its newest epoch."""

    async def raise_alarm(self, alarm: Alarm) -> None:
        """Keep an alarm; one that is known of this epoch only counts once more."""

    async def alarms(self) -> Sequence[Alarm]:
        """Return all alarms, by gateway and time."""

    async def stated(self, gateway: str, from_ms: int, to_ms: int) -> Sequence[StatedSpan]:
        """Return the spans that begin in [from_ms, to_ms), statements of the same span as one."""

    async def found(self, span: StatedSpan) -> Tally:
        """Add up what the tables hold of a span."""

    async def keep_verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Keep what came of comparing, the newest for each span."""
