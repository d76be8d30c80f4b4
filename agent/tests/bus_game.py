"""A bus in virtual time for the scheduler's tests: reads take their cost, the dead a time-out.

It does what the poller does with a `Dispatcher`, and keeps the books.
"""

from collections import Counter
from dataclasses import dataclass, field

from edgeagg_agent.attention import Attention
from edgeagg_agent.dispatch import Ask, Dispatcher, GiveUp, Probe, Rest
from edgeagg_agent.schedule import Schedule, Trait, Wait, next_due_ms


@dataclass
class Row:
    """What was recorded of a slot, and when its read began and ended."""

    group: int
    due_ms: int
    begun_ms: int
    ended_ms: int
    good: bool


@dataclass
class Game:
    """Groups by number, with a meter each unless `meters` says otherwise.

    `fails(meter, now_ms)` tells whether a question asked now fails; it takes `failed_ms` then.
    """

    periods_ms: dict
    costs_ms: dict
    start_ms: int
    billed: frozenset = frozenset()
    meters: dict = field(default_factory=dict)
    fails: object = None
    failed_ms: int = 190
    spare: float = 0.0

    def __post_init__(self):
        self.now_ms = self.start_ms
        self.rows, self.held, self.missed, self.asked = [], [], Counter(), []
        self.wasted_ms, self.gave_up, self.again = Counter(), 0, 0
        meters = {group: self.meters.get(group, group) for group in self.periods_ms}
        traits = {
            g: Trait(meter=meters[g], cost_ms=self.costs_ms[g], is_billed=g in self.billed)
            for g in self.periods_ms
        }
        failed_ms = self.failed_ms if self.fails else 0
        self.schedule = Schedule(self.periods_ms, self.start_ms, traits, failed_ms=failed_ms)
        self.attention = Attention(self.start_ms, spare=self.spare)
        self.dispatcher = Dispatcher(self.schedule, self.attention, meters)

    def run(self, for_ms):
        """Play for this long."""
        end_ms = self.now_ms + for_ms
        while self.now_ms < end_ms:
            match self.dispatcher.next(self.now_ms):
                case Ask() as ask:
                    self._ask(ask)
                case Rest(_, slots):
                    self._record(slots, self.now_ms, good=False)
                case GiveUp(slot):
                    self.gave_up += 1
                    self.held.remove(slot)
                    self._record([slot], self.now_ms, good=False, is_new=False)
                case Probe(meter):
                    failed_ms = self._question(meter, 20)
                    self.dispatcher.probed(meter, self.now_ms, wasted_us=failed_ms * 1000)
                case Wait(until_ms):
                    assert until_ms > self.now_ms, "waits for what is due"
                    self.now_ms = min(until_ms, end_ms)
        return self

    def good(self, group):
        """Return the rows of a group that have values."""
        return [row for row in self.rows if row.group == group and row.good]

    def asked_between(self, meter, from_ms, until_ms):
        """Tell whether the meter was asked in this time."""
        return any(m == meter and from_ms <= at_ms <= until_ms for at_ms, m in self.asked)

    def check_books(self):
        """Every slot due up to the last row is one row or one of the missed, in order (I2)."""
        for group, period_ms in self.periods_ms.items():
            rows = [row for row in self.rows if row.group == group]
            due_ms = [row.due_ms for row in rows]
            assert due_ms == sorted(set(due_ms))
            assert all(at_ms % period_ms == 0 for at_ms in due_ms)
            assert all(row.begun_ms >= row.due_ms for row in rows)
            held = [slot for slot in self.held if slot.group == group]
            last_ms = max([*due_ms, *(slot.due_ms for slot in held)], default=None)
            if last_ms is not None:
                first_ms = next_due_ms(self.start_ms, period_ms)
                slots = (last_ms - first_ms) // period_ms + 1
                assert len(rows) + len(held) + self.missed[group] == slots

    def _ask(self, ask):
        begun_ms = self.now_ms
        self.again += ask.again
        cost_ms = sum(self.costs_ms[slot.group] for slot in ask.slots)
        failed_ms = self._question(ask.meter, cost_ms)
        if self.dispatcher.done(ask, self.now_ms, wasted_us=failed_ms * 1000):
            assert not ask.again
            self._declare(ask.slots)
            self.held += ask.slots
            return
        if ask.again:
            self.held.remove(*ask.slots)
        self._record(ask.slots, begun_ms, good=not failed_ms, is_new=not ask.again)

    def _question(self, meter, cost_ms):
        """Let a question pass; return what of its time was wasted."""
        self.asked.append((self.now_ms, meter))
        failed = bool(self.fails and self.fails(meter, self.now_ms))
        self.now_ms += self.failed_ms if failed else cost_ms
        self.wasted_ms[meter] += self.failed_ms * failed
        return self.failed_ms * failed

    def _record(self, slots, begun_ms, *, good, is_new=True):
        if is_new:
            self._declare(slots)
        for slot in slots:
            self.rows.append(Row(slot.group, slot.due_ms, begun_ms, self.now_ms, good))

    def _declare(self, slots):
        for slot in slots:
            self.missed[slot.group] += slot.missed
