"""Which group of a bus is read next: earliest deadline first.

Pure. Slots fall due at multiples of the period in UTC; a slot's deadline is the next one. Among the
slots that are due, the one whose deadline comes first is read first. Slots whose deadline passed
before the bus got to them are handed back as missed, so that each is accounted for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot of one group: read it now. `missed` slots before it were overrun."""

    group: int
    due_ms: int
    missed: int
    period_ms: int

    @property
    def first_missed_ms(self) -> int:
        """Return when the first missed slot was due."""
        return self.due_ms - self.missed * self.period_ms


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is due before this time."""

    until_ms: int


class Schedule:
    """The groups of one bus and their next slots."""

    def __init__(self, periods_ms: Mapping[int, int], now_ms: int) -> None:
        """Begin with the first slots after `now_ms`; `periods_ms` by group."""
        self._periods_ms = dict(periods_ms)
        self._next_ms = {g: next_due_ms(now_ms, period) for g, period in periods_ms.items()}

    def next_due_ms(self, group: int) -> int:
        """Return when the group's next slot falls due."""
        return self._next_ms[group]

    def postpone(self, group: int, last_due_ms: int) -> None:
        """Let the group's next slot lie after `last_due_ms`, which is taken already."""
        if self._next_ms[group] <= last_due_ms:
            self._next_ms[group] = next_due_ms(last_due_ms, self._periods_ms[group])

    def pick(self, now_ms: int) -> Slot | Wait:
        """Return the slot to read now, and count it as read; or the time to wait for."""
        due = [group for group, next_ms in self._next_ms.items() if next_ms <= now_ms]
        if not due:
            return Wait(min(self._next_ms.values()))
        group = min(due, key=self._deadline_ms)
        period_ms = self._periods_ms[group]
        missed = (now_ms - self._next_ms[group]) // period_ms
        due_ms = self._next_ms[group] + missed * period_ms
        self._next_ms[group] = due_ms + period_ms
        return Slot(group, due_ms, missed, period_ms)

    def groups(self) -> Iterable[int]:
        """Return the groups."""
        return self._periods_ms

    def _deadline_ms(self, group: int) -> tuple[int, int]:
        return self._next_ms[group] + self._periods_ms[group], group


def next_due_ms(after_ms: int, period_ms: int) -> int:
    """Return the first multiple of the period after `after_ms`."""
    return (after_ms // period_ms + 1) * period_ms
