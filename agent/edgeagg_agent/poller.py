"""One bus and its meters: asks what the dispatcher says, and records how it went.

Every slot that falls due becomes exactly one row: for each point a value, or why there is none.
When to ask whom, and how much of the bus a failing meter may cost, is decided in `dispatch`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

from edgeagg.model import Quality
from edgeagg_agent import books
from edgeagg_agent.asking import RegisterDecoder
from edgeagg_agent.attention import Attention
from edgeagg_agent.bus import Bus
from edgeagg_agent.clock import Clock
from edgeagg_agent.dispatch import Ask, Dispatcher, GiveUp, Probe, Rest
from edgeagg_agent.metrics import BusTally
from edgeagg_agent.reader import MeterReader
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.scan import Scan
from edgeagg_agent.schedule import Schedule, Slot, Trait, Wait
from edgeagg_agent.slots import flagged
from edgeagg_agent.waiting import Waiting

_log = logging.getLogger(__name__)

_NAP_MAX_MS = 1_000
_IDLE_MIN_MS = 500  # a line that is free for longer may be used to learn


class Poller:
    """The one task that owns a bus."""

    def __init__(
        self,
        bus: Bus,
        groups: Mapping[int, tuple[MeterReader, int]],
        recorder: Recorder,
        clock: Clock,
        *,
        spare: float = 0.0,
    ) -> None:
        """Poll `groups`: by number in the catalogue, the reader and its place among its groups.

        `spare` is the share of the bus that its plan leaves over.
        """
        self.bus = bus
        self.readers = list(dict.fromkeys(reader for reader, _ in groups.values()))
        self.tally = BusTally()
        self.beat_ms = clock.now_ms()
        self._groups = dict(groups)
        self._recorder, self._clock, self._spare = recorder, clock, spare
        self._stepped_ms = clock.stepped_ms
        self._waiting = Waiting(recorder, clock, self._groups)
        self._failed: dict[int, Scan] = {}  # scans that are to be repeated, by group

    async def run(self) -> None:
        """Read what falls due; ends only by cancellation."""
        dispatcher = self._take_over(Quality.STOPPED)
        while True:
            self.beat_ms = self._clock.now_ms()
            if (planned := self._plan_anew(dispatcher)) is not None:
                dispatcher = planned
                continue
            match dispatcher.next(self.beat_ms):
                case Wait(until_ms):
                    await self._idle(until_ms - self.beat_ms)
                case Ask() as ask:
                    await self._ask(dispatcher, ask)
                case Rest(slots=slots):
                    for slot in slots:
                        self._declare_missed(slot)
                        reader, place = self._groups[slot.group]
                        self._record(slot, reader.resting(place))
                case GiveUp(slot):
                    self._record(slot, self._failed.pop(slot.group))
                case Probe(meter):
                    reader = self.readers[meter]
                    wasted_us = await reader.probe()
                    dispatcher.probed(meter, self._clock.now_ms(), wasted_us=wasted_us)

    def _plan_anew(self, dispatcher: Dispatcher) -> Dispatcher | None:
        """Return a new plan where the time turned out to be another; None where it goes on."""
        is_over = self._waiting.is_over()
        if not is_over and self._clock.stepped_ms == self._stepped_ms:
            return None
        for slot in dispatcher.held():
            self._record(slot, self._failed.pop(slot.group))
        if is_over:
            return self._take_over(Quality.STOPPED, self._waiting.release())
        return self._take_over(Quality.CLOCK_UNTRUSTED)

    def _take_over(self, reason: Quality, known: Collection[int] = ()) -> Dispatcher:
        """Plan from now on, and declare the slots since the last one read as not read.

        `known` are groups that waited for the time, and whose last slot is right by now.
        """
        now_ms, self._stepped_ms = self._clock.now_ms(), self._clock.stepped_ms
        periods_ms = {
            group: reader.meter.groups[place].period_ms
            for group, (reader, place) in self._groups.items()
        }
        places = {reader: number for number, reader in enumerate(self.readers)}
        lines = list(dict.fromkeys(reader.meter.settings for reader in self.readers))
        traits = {
            group: Trait(
                meter=places[reader],
                line=lines.index(reader.meter.settings),
                cost_ms=-(-reader.cost_us(place) // 1000),
                is_billed=reader.meter.groups[place].is_billed,
            )
            for group, (reader, place) in self._groups.items()
        }
        failed_us = max((reader.failed_us() for reader in self.readers), default=0)
        schedule = Schedule(periods_ms, now_ms, traits, failed_ms=-(-failed_us // 1000))
        books.take_over(
            schedule,
            periods_ms,
            self._recorder,
            now_ms,
            reason=reason,
            knows_past=self._clock.knows_past,
            known=known,
        )
        meters = {group: places[reader] for group, (reader, _) in self._groups.items()}
        return Dispatcher(schedule, Attention(now_ms, spare=self._spare), meters)

    async def _idle(self, free_ms: int) -> None:
        """Wait; a line that has time learns which longer reads its meters take."""
        if free_ms > _IDLE_MIN_MS:
            for reader in self.readers:
                if 4 * reader.cost_us(0) < 1000 * free_ms and await reader.learn():
                    return
        await self._clock.sleep_ms(min(free_ms, _NAP_MAX_MS))

    async def _ask(self, dispatcher: Dispatcher, ask: Ask) -> None:
        if not ask.again:
            for slot in ask.slots:
                self._declare_missed(slot)
        reader = self.readers[ask.meter]
        scans = await reader.scan(tuple(self._groups[slot.group][1] for slot in ask.slots))
        if dispatcher.done(ask, self._clock.now_ms(), wasted_us=reader.wasted_us):
            self.tally.retries += 1
            self._failed[ask.slots[0].group] = scans[0]
            return
        if any(isinstance(reply, bytes) for scan in scans for reply in scan.replies):
            await self._notice_replaced(reader)
        for slot, scan in zip(ask.slots, scans, strict=True):
            self._failed.pop(slot.group, None)
            self._record(slot, scan)

    async def _notice_replaced(self, reader: MeterReader) -> None:
        """Have the registers of another meter counted from where they stand."""
        if await reader.find_replaced():
            for group in (g for g, (other, _) in self._groups.items() if other is reader):
                if self._waiting.holds(group):
                    due_ms = self.beat_ms
                    self._waiting.hold(group, due_ms=due_ms, age_ms=0, values=None)
                else:
                    self._recorder.replaced(group)
            name, serial = reader.meter.name, reader.learned.serial
            _log.warning("meter %s: another meter hangs there, serial number %s", name, serial)

    def _declare_missed(self, slot: Slot) -> None:
        reader, place = self._groups[slot.group]
        books.declare(
            self._recorder,
            slot.group,
            slot.first_missed_ms,
            slot.missed,
            slot.period_ms,
            Quality.OVERRUN,
        )
        if slot.missed:
            points = slot.missed * len(reader.meter.groups[place].points)
            self.tally.overrun_slots += slot.missed
            self.tally.note(reader.meter.name, slots=points, values=0)

    def _record(self, slot: Slot, scan: Scan) -> None:
        reader, place = self._groups[slot.group]
        # a value is as old as the middle of the read that fetched it
        age_s = self._clock.monotonic_s() - (scan.sent_s + scan.received_s) / 2
        now_ms = self._clock.now_ms()
        # a slot that a step of the clock came upon stays in the time in which it was due
        step_ms = self._clock.stepped_ms - self._stepped_ms
        now_ms -= step_ms
        is_trusted = self._clock.is_trusted and not step_ms
        at_ms = max(slot.due_ms, now_ms - round(age_s * 1000))
        if self._waiting.holds(slot.group):
            values, qualities = scan.decode()
            self._waiting.hold(
                slot.group,
                due_ms=slot.due_ms,
                age_ms=round(age_s * 1000),
                values=values,
                qualities=qualities,
            )
        elif isinstance(scan.decoder, RegisterDecoder) and is_trusted:
            qualities = self._recorder.scan(
                slot.group,
                due_ms=slot.due_ms,
                at_ms=at_ms,
                plan=scan.decoder.plan,
                replies=scan.replies,
                ratios=scan.ratios,
            )
        else:
            values, qualities = scan.decode()
            self._recorder.row(
                slot.group,
                due_ms=slot.due_ms,
                at_ms=at_ms,
                values=values,
                qualities=flagged(qualities, is_trusted=is_trusted),
            )
        self.tally.note(reader.meter.name, slots=len(qualities), values=qualities.count(0))
        self.tally.lateness_ms = max(self.tally.lateness_ms, now_ms - slot.due_ms)
        self.tally.skew_ms = max(self.tally.skew_ms, round(scan.skew_s * 1000))
        self._report(reader, place, Quality(max(qualities)))

    def _report(self, reader: MeterReader, place: int, worst: Quality) -> None:
        """Log a change for the better or the worse of a meter once, not at every slot."""
        before = reader.state.last_quality
        reader.state.qualities[place] = worst
        quality = reader.state.last_quality
        if quality is before:
            return
        if quality is Quality.GOOD:
            _log.info("meter %s: reads again", reader.meter.name)
        else:
            _log.warning("meter %s: %s %s", reader.meter.name, quality.name.lower(), reader.trouble)
