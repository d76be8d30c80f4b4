"""One bus and its meters: the only place that turns a failed read into a reason.

Every slot that falls due becomes exactly one row: for each point a value, or why there is none. A
meter that does not answer is asked less and less often, at most a minute apart, so that it costs
the others little and is seen again soon; the slots in between are `no_reply` without a question.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from edgeagg.errors import FrameError, LinkError, ProtocolError, RefusedError
from edgeagg.model import Kind, Quality
from edgeagg_agent.bus import Bus, ReadRequest, Reply
from edgeagg_agent.clock import Clock
from edgeagg_agent.config import Meter
from edgeagg_agent.plan import Block
from edgeagg_agent.profile import Point, Ratio, decode, decode_ratio
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.schedule import Schedule, Slot, Wait

_log = logging.getLogger(__name__)

_RATIO_AGE_MAX_MS = 3_600_000
_BACKOFF_MAX_MS = 60_000
_BACKOFF_FROM = 2  # failures in a row before a meter is asked less often
_NAP_MAX_MS = 1_000
_RUN_SLOTS_MAX = 2**31 - 1  # what the core and every database can hold

Registers = dict[tuple[int, int], int]
"""Words by (function, register)."""


@dataclass(slots=True)
class MeterState:
    """What is known of a meter beyond its configuration."""

    ratios: Mapping[str, Fraction] = field(default_factory=dict)
    ratios_at_ms: int | None = None
    failures: int = 0
    ask_again_ms: int = 0
    last_quality: Quality = Quality.GOOD


@dataclass(frozen=True, slots=True)
class Scan:
    """What one read of a meter gave, and when, in seconds of the event loop's clock.

    The times are those of the reads that fetched the totalisers, since energy is billed by time;
    those of the whole scan where there is none or it failed.
    """

    values: tuple[int | None, ...]
    qualities: bytes
    sent_s: float
    received_s: float


class MeterReader:
    """Reads the points of one meter over its bus."""

    def __init__(self, meter: Meter, bus: Bus, clock: Clock) -> None:
        self.meter = meter
        self.state = MeterState()
        self.trouble = ""
        self._bus, self._clock = bus, clock

    async def scan(self) -> Scan:
        """Read all points once; never raises for what a meter or a line can do."""
        registers: Registers = {}
        reasons: dict[Block, Quality] = {}
        begun_ms, begun_s = self._clock.now_ms(), self._clock.monotonic_s()
        billed: list[Reply] = []
        is_resting = begun_ms < self.state.ask_again_ms
        if not is_resting:
            self.trouble = ""
        ratios_reason = Quality.NO_REPLY if is_resting else await self._read_ratios()
        last_reason = ratios_reason
        for block in self.meter.blocks:
            if last_reason in _FATAL:
                reasons[block] = last_reason
                continue
            try:
                reply = await self._read(block, registers)
            except (LinkError, FrameError, RefusedError) as error:
                last_reason = reasons[block] = _reason(error)
                self.trouble = str(error)
                continue
            if any(_holds(block, p) for p in self.meter.points if p.kind is Kind.TOTALISER):
                billed.append(reply)
        if not is_resting:
            self._remember(reasons, begun_ms)
        decoded = [
            self._decode(point, registers, reasons, ratios_reason) for point in self.meter.points
        ]
        return Scan(
            tuple(value for value, _ in decoded),
            bytes(quality for _, quality in decoded),
            min((reply.sent_s for reply in billed), default=begun_s),
            max((reply.received_s for reply in billed), default=self._clock.monotonic_s()),
        )

    def _remember(self, reasons: Mapping[Block, Quality], begun_ms: int) -> None:
        state, period_ms = self.state, self.meter.period_ms
        if Quality.NO_REPLY not in reasons.values():
            state.failures, state.ask_again_ms = 0, 0
            return
        state.failures += 1
        if state.failures >= _BACKOFF_FROM:
            # counted from slot to slot: a rest into the next slot would last a period longer
            longest_ms = _BACKOFF_MAX_MS - _BACKOFF_MAX_MS % period_ms
            backoff_ms = min(1000 * 2 ** min(state.failures - _BACKOFF_FROM, 10), longest_ms)
            state.ask_again_ms = begun_ms - begun_ms % period_ms + backoff_ms

    async def _read_ratios(self) -> Quality:
        """Read the meter's own transformer ratios if they are not known, or known for an hour."""
        state, now_ms = self.state, self._clock.now_ms()
        known_ms = state.ratios_at_ms
        fresh = known_ms is not None and now_ms - known_ms < _RATIO_AGE_MAX_MS
        if fresh or not self.meter.ratio_blocks:
            return Quality.GOOD
        registers: Registers = {}
        try:
            for block in self.meter.ratio_blocks:
                await self._read(block, registers)
            state.ratios = {
                ratio.name: decode_ratio(ratio, _words(registers, ratio))
                for ratio in self.meter.profile.ratios
                if all(place in registers for place in _places(ratio))
            }
        except (LinkError, ProtocolError) as error:
            self.trouble = str(error)
            return _reason(error)
        state.ratios_at_ms = now_ms
        return Quality.GOOD

    async def _read(self, block: Block, registers: Registers) -> Reply:
        request = ReadRequest(self.meter.unit, block.function, block.start, block.count)
        reply = await self._bus.read(request)
        for offset, word in enumerate(reply.words):
            registers[block.function, block.start + offset] = word
        return reply

    def _decode(
        self,
        point: Point,
        registers: Registers,
        reasons: Mapping[Block, Quality],
        ratios_reason: Quality,
    ) -> tuple[int | None, Quality]:
        for block, reason in reasons.items():
            if _holds(block, point):
                return None, reason
        if point.ratios and ratios_reason is not Quality.GOOD:
            return None, ratios_reason
        return decode(point, _words(registers, point), self.state.ratios)


class Poller:
    """The one task that owns a bus."""

    def __init__(
        self,
        bus: Bus,
        readers: Mapping[int, MeterReader],
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        """Poll `readers`, keyed by their groups in the catalogue."""
        self.bus = bus
        self.readers = readers
        self.beat_ms = clock.now_ms()
        self._recorder, self._clock = recorder, clock

    async def run(self) -> None:
        """Read what falls due; ends only by cancellation."""
        schedule = self._take_over()
        while True:
            self.beat_ms = self._clock.now_ms()
            match schedule.pick(self.beat_ms):
                case Wait(until_ms):
                    await self._clock.sleep_ms(min(until_ms - self.beat_ms, _NAP_MAX_MS))
                case Slot() as slot:
                    await self._read(slot)

    def _take_over(self) -> Schedule:
        """Plan from now on, and declare the slots since the last run as not read."""
        periods_ms = {group: reader.meter.period_ms for group, reader in self.readers.items()}
        schedule = Schedule(periods_ms, self._clock.now_ms())
        for group, period_ms in periods_ms.items():
            last_due_ms = self._recorder.last_due_ms(group)
            if last_due_ms is None:
                continue
            ahead_ms = last_due_ms - self._clock.now_ms()
            if ahead_ms > 0:
                _log.error(
                    "meter %s: was read up to %d s in the future, by a wrong clock; it is not read "
                    "again before then. Is the clock right now? Then move the state directory away",
                    self.readers[group].meter.name,
                    ahead_ms // 1000,
                )
            schedule.postpone(group, last_due_ms)
            slots = (schedule.next_due_ms(group) - last_due_ms) // period_ms - 1
            self._declare(group, last_due_ms + period_ms, slots, Quality.STOPPED)
        return schedule

    def _declare(self, group: int, first_due_ms: int, slots: int, reason: Quality) -> None:
        """Declare slots that nobody read, in as many runs as it takes to count them.

        A clock that begins in 1970 and is set by NTP steps over more slots than one run can hold.
        """
        period_ms = self.readers[group].meter.period_ms
        for done in range(0, slots, _RUN_SLOTS_MAX):
            run = min(slots - done, _RUN_SLOTS_MAX)
            self._recorder.gap(
                group,
                first_due_ms=first_due_ms + done * period_ms,
                last_due_ms=first_due_ms + (done + run - 1) * period_ms,
                slots=run,
                reason=reason,
            )

    async def _read(self, slot: Slot) -> None:
        self._declare(slot.group, slot.first_missed_ms, slot.missed, Quality.OVERRUN)
        reader = self.readers[slot.group]
        scan = await reader.scan()
        # a value is as old as the middle of the read that fetched it
        age_s = self._clock.monotonic_s() - (scan.sent_s + scan.received_s) / 2
        self._recorder.row(
            slot.group,
            due_ms=slot.due_ms,
            at_ms=max(slot.due_ms, self._clock.now_ms() - round(age_s * 1000)),
            values=scan.values,
            qualities=scan.qualities,
        )
        self._report(reader, Quality(max(scan.qualities)))

    def _report(self, reader: MeterReader, quality: Quality) -> None:
        """Log a change for the better or the worse once, not at every slot."""
        before, reader.state.last_quality = reader.state.last_quality, quality
        if quality is before:
            return
        if quality is Quality.GOOD:
            _log.info("meter %s: reads again", reader.meter.name)
        else:
            _log.warning("meter %s: %s %s", reader.meter.name, quality.name.lower(), reader.trouble)


# after these the bus holds further questions to the same meter back, which would cost the others
_FATAL = frozenset({Quality.NO_REPLY, Quality.BAD_FRAME})


def _reason(error: LinkError | ProtocolError) -> Quality:
    match error:
        case LinkError():
            return Quality.NO_REPLY
        case RefusedError():
            return Quality.REFUSED
        case FrameError():
            return Quality.BAD_FRAME
    return Quality.IMPLAUSIBLE  # a ratio register that holds no ratio


def _holds(block: Block, point: Point) -> bool:
    return block.function == point.function and block.start <= point.register < block.end


def _places(where: Point | Ratio) -> list[tuple[int, int]]:
    return [(where.function, where.register + n) for n in range(where.count)]


def _words(registers: Registers, where: Point | Ratio) -> list[int]:
    return [registers[place] for place in _places(where)]
