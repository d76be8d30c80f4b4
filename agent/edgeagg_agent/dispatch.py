"""What a bus does next: its schedule, and the accounts of the meters that fail.

Pure: the times that pass and how reads ended come in, the next thing to do comes out. It reads
nothing itself, and it makes no reasons and no rows; the poller does.

Every slot that comes out of here is accounted for by exactly one thing to do: `Ask` and `Rest` each
end in a row, unless `done` returned True for a read that failed, and then `Ask` or `GiveUp` brings
the slot back. The slots that a slot missed are to be declared when it comes out first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeagg_agent.schedule import Retry, Schedule, Slot, Wait

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeagg_agent.attention import Attention


@dataclass(frozen=True, slots=True)
class Ask:
    """Read the slots' groups, all of one meter, in one go; `again` for the second time."""

    meter: int
    slots: tuple[Slot, ...]
    again: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """Record the slots as not answered, without asking: the meter cannot pay for a failure."""

    meter: int
    slots: tuple[Slot, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Record the slot as it failed the first time: there was no time for another read."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the meter for one short answer; no slot of it is due."""

    meter: int


class Dispatcher:
    """Says what the one task of a bus does next."""

    def __init__(self, schedule: Schedule, attention: Attention, meters: Mapping[int, int]) -> None:
        """Direct `schedule`; `meters` gives each group's meter."""
        self._schedule, self._attention = schedule, attention
        self._meters = dict(meters)
        self._has_probed = False

    def next(self, now_ms: int) -> Ask | Rest | GiveUp | Probe | Wait:
        """Return what to do now; it counts as begun.

        Probes go before slots, since on a full bus there is always a slot, but never two of them
        in a row while a slot is due.
        """
        probe = None if self._has_probed else self._attention.probe(now_ms)
        if probe is not None:
            self._has_probed = True
            return Probe(probe)
        self._has_probed = False
        match self._schedule.pick(now_ms):
            case Retry(slot, in_time):
                owner = self._meters[slot.group]
                if in_time and self._attention.may_ask(owner, now_ms):
                    return Ask(owner, (slot,), again=True)
                return GiveUp(slot)
            case Slot() as slot:
                owner = self._meters[slot.group]
                slots = (slot, *self._schedule.join(slot, now_ms))
                may_ask = self._attention.may_ask(owner, now_ms)
                return Ask(owner, slots) if may_ask else Rest(owner, slots)
            case Wait(until_ms):
                probe = self._attention.probe(now_ms)
                if probe is not None:
                    return Probe(probe)
                probe_ms = self._attention.next_probe_ms()
                return Wait(until_ms if probe_ms is None else min(until_ms, probe_ms))

    def held(self) -> tuple[Slot, ...]:
        """Return the slots that still await their second read."""
        return self._schedule.held()

    def done(self, ask: Ask, now_ms: int, *, wasted_us: int = 0) -> bool:
        """Take in how a read ended: `wasted_us` is the bus time of what failed in it, 0 if nothing.

        Return True when its slot was put back to be read once more; then there is no row yet. Only
        a meter that is not known to be absent is asked again, and only for a single slot.
        """
        if not wasted_us:
            self._attention.answered(ask.meter, now_ms)
            return False
        self._attention.failed(ask.meter, now_ms, cost_us=wasted_us)
        return (
            not ask.again
            and len(ask.slots) == 1
            and not self._attention.is_absent(ask.meter)
            and self._attention.may_ask(ask.meter, now_ms)
            and self._schedule.put_back(ask.slots[0], now_ms)
        )

    def probed(self, meter: int, now_ms: int, *, wasted_us: int = 0) -> None:
        """Take in how a probe ended."""
        if wasted_us:
            self._attention.failed(meter, now_ms, cost_us=wasted_us)
        else:
            self._attention.answered(meter, now_ms)
