"""Which group of a bus is read next: earliest deadline first.

Pure. Slots fall due at multiples of the period in UTC; a slot's deadline is the next one. Among the
slots that are due, the one whose deadline comes first is read first, and of equal deadlines one at
the line's present speed. Slots whose deadline passed before the bus got to them are handed back as
missed, so that each is accounted for. Around the quarter hours `boundary` moves release and
deadline of slots with totalisers, never the slots.

What may be promised: when the plan is feasible (see `budget`) no slot is missed. When it is not,
whole slots are dropped, never points of a slot: a slot whose time is over is given up for the
group's newest one, so that a bus that is a little too slow loses a few slots, most of them of
groups with short periods. However slow the bus, nobody starves: a group that was not read for a
round (one read of every group) after the deadline of its oldest slot is overdue and goes before all
that are not, so that it is read at the latest one round later.

A slot that failed can be put back once. It is read again when nothing else is due; when that does
not happen before its deadline it comes back unread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edgeagg_agent import boundary


@dataclass(frozen=True, slots=True)
class Trait:
    """What the schedule knows of a group beyond its period.

    `meter` and `line` tell groups of one meter and of one speed and format; `cost_ms` is the bus
    time of one read.
    """

    meter: int = -1
    line: int = 0
    cost_ms: int = 0
    is_billed: bool = False  # it has totalisers


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
class Retry:
    """A slot that was put back: read it again if it is in time, else leave it as it was."""

    slot: Slot
    in_time: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is due before this time."""

    until_ms: int


_PLAIN = Trait()
_NO_TRAITS: Mapping[int, Trait] = MappingProxyType({})


class Schedule:
    """The groups of one bus and their next slots."""

    def __init__(
        self,
        periods_ms: Mapping[int, int],
        now_ms: int,
        traits: Mapping[int, Trait] = _NO_TRAITS,
        *,
        failed_ms: int = 0,
    ) -> None:
        """Begin with the first slots after `now_ms`; `periods_ms` and `traits` by group.

        `failed_ms` is the longest that a question without an answer takes.
        """
        self._periods_ms = dict(periods_ms)
        self._traits = {group: traits.get(group, _PLAIN) for group in periods_ms}
        self._next_ms = {g: next_due_ms(now_ms, period) for g, period in periods_ms.items()}
        self._held: dict[int, Slot] = {}
        self._line = 0
        self._round_ms = sum(trait.cost_ms for trait in self._traits.values())
        blocking_ms = max([failed_ms, *(trait.cost_ms for trait in self._traits.values())])
        self.lead_ms = boundary.lead_ms(
            (
                boundary.Load(period_ms, self._traits[g].cost_ms, self._traits[g].is_billed)
                for g, period_ms in periods_ms.items()
            ),
            blocking_ms=blocking_ms,
        )

    def next_due_ms(self, group: int) -> int:
        """Return when the group's next slot falls due."""
        return self._next_ms[group]

    def postpone(self, group: int, last_due_ms: int) -> None:
        """Let the group's next slot lie after `last_due_ms`, which is taken already."""
        if self._next_ms[group] <= last_due_ms:
            self._next_ms[group] = next_due_ms(last_due_ms, self._periods_ms[group])

    def pick(self, now_ms: int) -> Slot | Retry | Wait:
        """Return the slot to read now, and count it as read; or the time to wait for."""
        for group, slot in self._held.items():
            if now_ms >= slot.due_ms + slot.period_ms:
                return Retry(self._held.pop(group), in_time=False)
        ready = [group for group in self._next_ms if self._is_ready(group, now_ms)]
        if ready:
            return self._take(min(ready, key=lambda group: self._rank(group, now_ms)), now_ms)
        if self._held:
            group = min(self._held, key=lambda g: (self._held[g].due_ms, g))
            return Retry(self._held.pop(group), in_time=True)
        return Wait(min(map(self._release_ms, self._next_ms)))

    def join(self, slot: Slot, now_ms: int) -> tuple[Slot, ...]:
        """Take what else is due of the slot's meter, to be read in one go with it.

        Around a quarter hour only totalisers go with totalisers, so that no other read stands
        between the boundary and them.
        """
        trait = self._traits[slot.group]
        urgent = self._is_urgent(slot.group, slot.due_ms)
        return tuple(
            self._take(group, now_ms)
            for group, other in self._traits.items()
            if other.meter == trait.meter >= 0
            and self._is_ready(group, now_ms)
            and self._is_urgent(group, self._next_ms[group]) == urgent
        )

    def put_back(self, slot: Slot, now_ms: int) -> bool:
        """Keep a slot that failed for one more read; False when there is no time for it.

        Nothing is to be recorded of a slot that is kept: it comes back from `pick`, once.
        """
        cost_ms = self._traits[slot.group].cost_ms
        if now_ms + cost_ms >= slot.due_ms + slot.period_ms:
            return False
        self._held[slot.group] = slot
        return True

    def held(self) -> tuple[Slot, ...]:
        """Return the slots that were put back and did not come back yet."""
        return tuple(self._held.values())

    def groups(self) -> Iterable[int]:
        """Return the groups."""
        return self._periods_ms

    def _is_ready(self, group: int, now_ms: int) -> bool:
        return group not in self._held and self._release_ms(group) <= now_ms

    def _take(self, group: int, now_ms: int) -> Slot:
        period_ms = self._periods_ms[group]
        missed = (now_ms - self._next_ms[group]) // period_ms
        due_ms = self._next_ms[group] + missed * period_ms
        self._next_ms[group] = due_ms + period_ms
        self._line = self._traits[group].line
        return Slot(group, due_ms, missed, period_ms)

    def _rank(self, group: int, now_ms: int) -> tuple[int, int, bool, int]:
        """Return what orders the groups that are due, the first to be read with the least."""
        oldest_ms, period_ms = self._next_ms[group], self._periods_ms[group]
        trait = self._traits[group]
        # the deadline that an overdue group is ranked by lies behind us, those of others before us
        is_overdue = now_ms >= oldest_ms + period_ms + self._round_ms
        due_ms = oldest_ms if is_overdue else now_ms - (now_ms - oldest_ms) % period_ms
        deadline_ms = due_ms + period_ms
        if trait.is_billed and not is_overdue:
            deadline_ms = boundary.deadline_ms(due_ms, period_ms, self.lead_ms)
        return deadline_ms, oldest_ms, trait.line != self._line, group

    def _release_ms(self, group: int) -> int:
        due_ms = self._next_ms[group]
        if not self._traits[group].is_billed:
            return due_ms
        return boundary.release_ms(due_ms, self._periods_ms[group], self.lead_ms)

    def _is_urgent(self, group: int, due_ms: int) -> bool:
        """Tell whether a slot stands next to a quarter hour and has totalisers."""
        quarter_ms = boundary.QUARTER_MS
        end_ms = due_ms + self._periods_ms[group]
        return self._traits[group].is_billed and 0 in (due_ms % quarter_ms, end_ms % quarter_ms)


def next_due_ms(after_ms: int, period_ms: int) -> int:
    """Return the first multiple of the period after `after_ms`."""
    return (after_ms // period_ms + 1) * period_ms
