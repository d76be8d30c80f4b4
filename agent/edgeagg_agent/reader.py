"""One meter: asks what its points need, and keeps what is known of it.

The only place that turns a failed read into a reason. It never raises for what a meter or a line
can do, and it does not know when a reading is due: the poller does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from edgeagg.errors import FrameError, LinkError, ProtocolError, RefusedError
from edgeagg.model import Kind, Quality
from edgeagg_agent import plan, serials
from edgeagg_agent.asking import (
    Asker,
    ItemDecoder,
    ItemRead,
    Read,
    RegisterDecoder,
    byte_chars,
    plan_reads,
    ratio_content,
    spans,
)
from edgeagg_agent.budget import LATENCY_US, PROBE_REPLY_BYTES
from edgeagg_agent.bus import Answer, Bus
from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.clock import Clock
from edgeagg_agent.discovery import find_model
from edgeagg_agent.learned import Learned, TurnaroundMeter, Verdict, compare, turnaround_us
from edgeagg_agent.plan import Block, Span
from edgeagg_agent.profile import Point, Ratio, decode_ratio
from edgeagg_agent.protocol import Question
from edgeagg_agent.scan import Scan, cut, decoder_for, fetches, lacks
from edgeagg_agent.site import Meter

TURNAROUND_US = 25_000
_RATIO_AGE_MAX_MS = 3_600_000
# after these the bus holds further questions to the same meter back, which would cost the others
_FATAL = frozenset({Quality.NO_REPLY, Quality.BAD_FRAME})


@dataclass(slots=True)
class MeterState:
    """What is known of a meter beyond its configuration."""

    ratios: Mapping[str, Fraction] = field(default_factory=dict)
    ratios_at_ms: int | None = None
    qualities: dict[int, Quality] = field(default_factory=dict)
    """The worst reading of each group's last scan, by the group's place."""
    is_found: bool = False  # SunSpec's discovery has been through
    refused_blocks: set[str] = field(default_factory=set)  # of items; they are read one by one
    serial_asked_ms: int | None = None
    has_no_serial: bool = False  # it refuses to tell

    @property
    def last_quality(self) -> Quality:
        """The worst of all groups."""
        return max(self.qualities.values(), default=Quality.GOOD)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The reads for some groups that are due together, and a decoder for each of them."""

    reads: tuple[Read, ...]
    decoders: tuple[RegisterDecoder | ItemDecoder, ...]


class MeterReader:
    """Reads the groups of one meter over its bus."""

    def __init__(
        self,
        meter: Meter,
        bus: Bus,
        clock: Clock,
        *,
        ascii_mode: bool = False,
        planned_us: int = TURNAROUND_US,
        learned: Learned | None = None,
    ) -> None:
        """Ask `meter` over `bus`, planned with a turnaround of `planned_us` until it is measured.

        `learned` is what a former run found out.
        """
        self.meter = meter
        self.state = MeterState()
        self.trouble = ""
        self.wasted_us = 0
        """Bus time of what failed in the last scan."""
        self.learned = learned or Learned(meter.profile.name)
        self._bus, self._clock = bus, clock
        self._asker = Asker(meter.profile, meter.address, ascii_mode=ascii_mode)
        self._profile = meter.profile
        self._points = [group.points for group in meter.groups]
        settings = meter.settings
        self._timing = (
            Timing.of(
                settings.baud,
                settings.format,
                byte_chars=byte_chars(meter.profile, ascii_mode=ascii_mode),
            )
            if settings.baud
            else None
        )
        self._turnaround_us = planned_us
        self._turnarounds = TurnaroundMeter()
        self._plans: dict[tuple[int, ...], _Plan] = {}

    def cost_us(self, place: int) -> int:
        """Return the bus time of one scan of a group."""
        return self._cost_us(self._plan((place,)).reads)

    def failed_us(self) -> int:
        """Return the bus time of a question without an answer."""
        longest_us = self.meter.settings.turnaround_max_ms * 1000
        return plan.failed_us(self._timing, longest_us, PROBE_REPLY_BYTES, LATENCY_US)

    def resting(self, place: int) -> Scan:
        """Return the scan of a group whose meter is not asked at present."""
        now_s = self._clock.monotonic_s()
        known = self._plan((place,))
        replies = (int(Quality.NO_REPLY),) * len(known.reads)
        group = self.meter.groups[place]
        return Scan(group, known.decoders[0], replies, Quality.NO_REPLY, now_s, now_s, 0.0)

    async def scan(self, places: tuple[int, ...] = (0,)) -> tuple[Scan, ...]:
        """Read some groups of points once, in one go; return a scan for each."""
        self.trouble, self.wasted_us = "", 0
        begun_s = self._clock.monotonic_s()
        found = await self._discover()
        ratios = found if found is not Quality.GOOD else await self._read_ratios()
        known, answers = await self._ask_all(places, found, ratios)
        refused = {
            read.item
            for read, answer in zip(known.reads, answers, strict=True)
            if isinstance(read, ItemRead) and lacks(read, answer)
        }
        if refused:
            self.state.refused_blocks |= refused
            self._plans.clear()
            known, answers = await self._ask_all(places, found, ratios)
        replies = tuple(a.payload if isinstance(a, Answer) else a for a in answers)
        ended_s = self._clock.monotonic_s()
        scans = []
        for place, decoder in zip(places, known.decoders, strict=True):
            group = self.meter.groups[place]
            billed = [
                answer
                for read, answer in zip(known.reads, answers, strict=True)
                if isinstance(answer, Answer) and self._is_billed(place, read)
            ]
            scans.append(
                Scan(
                    group,
                    decoder,
                    replies,
                    self._apply_ratios(place, decoder, known.reads, replies, ratios),
                    min((answer.sent_s for answer in billed), default=begun_s),
                    max((answer.received_s for answer in billed), default=ended_s),
                    ended_s - begun_s,
                )
            )
        return tuple(scans)

    async def _ask_all(
        self, places: tuple[int, ...], found: Quality, ratios: Quality
    ) -> tuple[_Plan, list[Answer | int]]:
        """Ask for every read of the groups; return an answer or a reason for each."""
        known = self._plan(places)
        answers: list[Answer | int] = []
        last = ratios
        for read in known.reads:
            # where a meter's model was not found, something else may stand
            if last in _FATAL or found is not Quality.GOOD:
                answers.append(int(last))
                continue
            try:
                answers.append(await self._read(read, places))
            except (LinkError, ProtocolError) as error:
                last = self._reason(error)
                answers.append(int(last))
        return known, answers

    async def probe(self) -> int:
        """Ask for one short answer; return the bus time it wasted, 0 when there was an answer."""
        self.wasted_us = 0
        reads = self._plan((0,)).reads
        shortest = reads[0]
        if isinstance(shortest, Block):
            values = spans(self._points[0], self._profile)
            shortest = min((Block(*span) for span in values), key=lambda block: block.count)
        try:
            await self._exchange(shortest)
        except (LinkError, ProtocolError) as error:
            self._reason(error)
        return self.wasted_us

    async def find_replaced(self) -> bool:
        """Ask for the serial number when it is time; return whether another meter hangs there."""
        state, now_ms = self.state, int(1000 * self._clock.monotonic_s())
        wanted = serials.serial_read(self._profile)
        was_silent = state.last_quality is Quality.NO_REPLY
        is_due = serials.is_due(state.serial_asked_ms, now_ms, was_silent=was_silent)
        if wanted is None or state.has_no_serial or not is_due:
            return False
        state.serial_asked_ms = now_ms
        before = self.learned.serial
        try:
            found = await self._serial(wanted)
            if before and found != before and found != await self._serial(wanted):
                return False  # a meter that wakes up may say anything, but not the same twice
        except RefusedError:
            state.has_no_serial = True
            return False
        except (LinkError, ProtocolError):
            return False
        if not found or found == before:
            return False
        self.learned = replace(self.learned, serial=found)
        return bool(before)

    async def _serial(self, wanted: Read) -> str:
        return serials.serial_text(self._profile, (await self._exchange(wanted)).payload)

    async def learn(self) -> bool:
        """Try a longer read when it is time for one; return whether there was one.

        The values around it must agree with those of the smaller reads before it is believed.
        """
        now_ms = self._clock.now_ms()
        is_found = self._profile.sunspec is None or self.state.is_found
        if self._profile.protocol != "modbus" or self.trouble or not is_found:
            return False
        values = spans(self._points[0], self._profile)
        limits = self._profile.limits
        self.learned, block = self.learned.trial(
            values, limits, self._timing, self._turnaround_us, now_ms
        )
        if block is None:
            return False
        inside = [value for value in values if block.covers(value)]
        verdict = Verdict.DIFFERS
        try:
            before = await self._values(inside)
            trial = cut(inside, [block], [(await self._exchange(block)).payload])
            verdict = compare(before, trial, await self._values(inside))
        except FrameError:
            verdict = Verdict.OPEN  # noise says nothing of the meter
        except ProtocolError:
            pass  # a refusal is the answer to the question whether it can be read
        except LinkError as error:
            self.trouble = str(error)
        self.learned = self.learned.tried(block, values, verdict)
        self._plans.clear()
        return True

    async def _values(self, wanted: Sequence[Span]) -> dict[Span, bytes]:
        limits, known = self._profile.limits, self.learned.known
        blocks = plan.plan_blocks(wanted, limits, self._timing, self._turnaround_us, known)
        return cut(wanted, blocks, [(await self._exchange(b)).payload for b in blocks])

    async def _discover(self) -> Quality:
        """Find where a SunSpec meter has its model, once; the profile knows the usual place."""
        wanted = self._profile.sunspec
        if wanted is None or self.state.is_found:
            return Quality.GOOD
        try:
            base, start = await find_model(self._exchange, wanted.models)
        except (LinkError, ProtocolError) as error:
            return self._reason(error)
        self.state.is_found = True
        if start != wanted.start:
            self._move(base=base, start=start)
        return Quality.GOOD

    def _move(self, *, base: int, start: int) -> None:
        self._profile = self._profile.moved(base=base, start=start)
        moved = {point.name: point for point in self._profile.every_point}
        self._points = [tuple(moved[p.name] for p in points) for points in self._points]
        self._plans.clear()

    async def _read_ratios(self) -> Quality:
        """Read the meter's own transformer ratios if they are not known, or known for an hour."""
        state, now_ms = self.state, int(1000 * self._clock.monotonic_s())
        known_ms = state.ratios_at_ms
        fresh = known_ms is not None and now_ms - known_ms < _RATIO_AGE_MAX_MS
        wanted = self._still_ratios()
        if fresh or not wanted:
            return Quality.GOOD
        places = [(ratio.function, ratio.register, ratio.count) for ratio in wanted]
        limits, known = self._profile.limits, self.learned.known
        blocks = plan.plan_blocks(places, limits, self._timing, self._turnaround_us, known)
        try:
            replies = [(await self._exchange(block)).payload for block in blocks]
            state.ratios = {
                ratio.name: decode_ratio(ratio, content)
                for ratio in wanted
                for content in [ratio_content(ratio, blocks, replies)]
                if isinstance(content, bytes)
            }
        except (LinkError, ProtocolError) as error:
            return self._reason(error)
        state.ratios_at_ms = now_ms
        return Quality.GOOD

    def _still_ratios(self) -> list[Ratio]:
        used = {
            name
            for points in self._points
            for point in points
            if isinstance(point, Point)
            for name in point.ratios
        }
        return [r for r in self._profile.ratios if r.name in used and not r.is_live]

    def _apply_ratios(
        self,
        place: int,
        decoder: RegisterDecoder | ItemDecoder,
        reads: Sequence[Read],
        replies: Sequence[bytes | int],
        ratios: Quality,
    ) -> Quality:
        """Let the decoder multiply by what is known now; return why it cannot, or GOOD."""
        used = {name for p in self._points[place] if isinstance(p, Point) for name in p.ratios}
        if not used or ratios is not Quality.GOOD:
            return ratios
        known = dict(self.state.ratios)
        for ratio in self._profile.ratios:
            if ratio.name not in used or not ratio.is_live:
                continue
            content = ratio_content(ratio, reads, replies)
            if not isinstance(content, bytes):
                return content
            try:
                known[ratio.name] = decode_ratio(ratio, content)
            except ProtocolError as error:
                return self._reason(error)
        try:
            decoder.set_ratios(known)
        except ValueError as error:
            return self._reason(ProtocolError(f"meter {self.meter.name}: its ratios: {error}"))
        return ratios

    async def _read(self, read: Read, places: tuple[int, ...]) -> Answer:
        """Ask for one read, and learn from how it ends."""
        try:
            answer = await self._exchange(read)
        except RefusedError as error:
            if isinstance(read, Block):
                values = self._spans(places)
                self._learn(self.learned.refused(read, values, error.code))
            raise
        if isinstance(read, Block):
            self._learn(self.learned.answered(read))
        return answer

    def _learn(self, learned: Learned) -> None:
        if learned.known != self.learned.known:
            self._plans.clear()
        self.learned = learned

    async def _exchange(self, read: Read) -> Answer:
        begun_s = self._clock.monotonic_s()
        question = self._asker.question(read)
        try:
            answer = await self._bus.exchange(question, self.meter.settings)
        except (LinkError, FrameError):
            # at least 1: what fails at once has failed all the same
            self.wasted_us += max(1, round((self._clock.monotonic_s() - begun_s) * 1e6))
            raise
        if isinstance(read, Block):
            self._measure(question, answer)
        return answer

    def _measure(self, question: Question, answer: Answer) -> None:
        """Plan with the time the meter takes to answer, once it is known; a start measures anew."""
        if self._timing is None:
            return
        self._turnarounds.add(
            turnaround_us(
                answer.received_s - answer.sent_s,
                self._timing,
                request_bytes=len(question.request) // self._timing.byte_chars,
                reply_bytes=question.reply_bytes // self._timing.byte_chars,
            )
        )
        planned_us = self._turnarounds.planned_us
        if planned_us is not None and planned_us != self._turnaround_us:
            self._turnaround_us = planned_us
            self._plans.clear()

    def _reason(self, error: LinkError | ProtocolError) -> Quality:
        self.trouble = str(error)
        match error:
            case LinkError():
                return Quality.NO_REPLY
            case RefusedError():
                return Quality.REFUSED
            case FrameError():
                return Quality.BAD_FRAME
        return Quality.IMPLAUSIBLE  # a ratio register that holds no ratio

    def _spans(self, places: tuple[int, ...]) -> tuple[Span, ...]:
        points = [point for place in places for point in self._points[place]]
        return spans(points, self._profile)

    def _plan(self, places: tuple[int, ...]) -> _Plan:
        known = self._plans.get(places)
        if known is None:
            points = [point for place in places for point in self._points[place]]
            reads = plan_reads(
                points,
                self._profile,
                self._timing,
                self._turnaround_us,
                self.learned.known,
                self.state.refused_blocks,
            )
            decoders = tuple(decoder_for(self._points[place], reads) for place in places)
            known = self._plans[places] = _Plan(reads, decoders)
        return known

    def _cost_us(self, reads: Sequence[Read]) -> int:
        limits = self._profile.limits
        items = [self._asker.cost(read) for read in reads if isinstance(read, ItemRead)]
        if items and self._timing is not None:
            return plan.items_us(items, self._timing, self._turnaround_us, limits.request_gap_ms)
        blocks = [read for read in reads if isinstance(read, Block)]
        return plan.scan_us(blocks, limits, self._timing, self._turnaround_us)

    def _is_billed(self, place: int, read: Read) -> bool:
        return any(p.kind is Kind.TOTALISER and fetches(read, p) for p in self._points[place])
