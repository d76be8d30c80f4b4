"""The engine of one half-duplex line: keeps the silences, and trusts no reply that may be stale.

Owns every moment on the line, and the port while it is open. It knows no protocol: a `Question`
says what to send and which bytes are its answer. What bytes mean is the profile's business, what to
do about a dead meter the scheduler's.

What it accepts. The first valid answer, behind noise and behind our own echo, once the line has
been quiet behind it for nearly T3.5, so that a stale reply is seen that stands in front of the true
one with up to a character between them, on a port that hands bytes over within a millisecond; where
the meter still owes a reply of that shape, for the port's worst hand-over time more. Two answers
that differ, or one with bytes behind it that may have been another, are a bad frame. Replies that
come behind their deadline are kept from later questions by `Doubts`, which states how late they may
be; other meters go on meanwhile, since a late reply carries its own meter's name.
"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeagg.errors import FrameError, LinkError, RefusedError
from edgeagg_agent.bus import Answer, BusStats, LineSettings
from edgeagg_agent.bus.doubt import Doubts
from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.protocol import is_anonymous

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from edgeagg_agent.bus.port import LineClock, LinePort
    from edgeagg_agent.protocol import Found, Question

REOPEN_S = 1.0  # a vanished port is looked for this often, so that nothing spins
BABBLE_S = 0.5  # a line that is not silent for so long will not be soon
SPIKE_BYTES_MAX = 2
FIFO_BYTES = 8  # a Raspberry Pi's UART hands bytes over when its FIFO is half full
TAIL_CHARS = 4  # and its tail after 32 bits of silence
PAUSES_MAX = 3  # a reply with more long pauses than this is none
PREPARE_S = 0.00015  # of T3.5, left to the caller for its next question
TAIL_LOOKS = 16  # replies watched closely on a port just opened, and on one that keeps tails
USB_LATENCY_S = 0.001  # an adapter in low-latency mode hands bytes over this late


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of one meter's settings, in seconds."""

    char_s: float
    t35_s: float
    gap_s: float  # the silence before a request
    hold_s: float  # the silence behind an answer that is proof enough in good times
    turnaround_max_s: float
    pause_max_s: float

    @staticmethod
    def of(settings: LineSettings) -> Pace:
        """Derive the times; raise ValueError for settings that no line has."""
        timing = Timing.of(settings.baud, settings.format)
        t35_s = timing.t35_us / 1e6
        return Pace(
            char_s=timing.char_bits / timing.baud,
            t35_s=t35_s,
            gap_s=max(t35_s, settings.request_gap_ms / 1000),
            hold_s=max(t35_s - PREPARE_S, 2 * timing.char_bits / timing.baud + USB_LATENCY_S),
            turnaround_max_s=settings.turnaround_max_ms / 1000,
            pause_max_s=settings.pause_max_ms / 1000,
        )


class LineBus:
    """One line, one transaction at a time.

    Opens the port by `opener` at the first question and again, at most once a second, after it
    vanished; `where` names it in messages. `handover_s` is how long a byte may stay between the
    wire and us.
    """

    def __init__(
        self,
        *,
        name: str,
        where: str,
        opener: Callable[[LineSettings], Awaitable[LinePort]],
        clock: LineClock,
        handover_s: float,
    ) -> None:
        """Prepare; nothing is opened."""
        self.stats = BusStats()
        self._name, self._where = name, where
        self._opener, self._clock, self._handover_s = opener, clock, handover_s
        self._paces: dict[LineSettings, Pace] = {}
        self._port: LinePort | None = None
        self._tuned: LineSettings | None = None  # what the open port is set to
        self._was_open = False
        self._open_again_s = 0.0
        self._line_end_s = 0.0  # when the last byte passed, as far as we know
        self._tail_looks = TAIL_LOOKS
        self._doubts = Doubts()
        self._lock = asyncio.Lock()

    def held_until_s(self, question: Question) -> float:
        """Return the loop's time before which `exchange` refuses this question; 0 for none."""
        return self._doubts.held_until_s(question)

    async def exchange(self, question: Question, settings: LineSettings) -> Answer:
        """Ask one meter, and go on asking while it says that more follows.

        Raises LinkError when nothing came back, the port is gone, or the meter is held back because
        a late reply could be taken for the answer (`held_until_s`); FrameError when bytes came but
        no valid answer; RefusedError for the meter's refusal; ValueError for settings no line has.
        """
        async with self._lock:
            held_s = self.held_until_s(question) - self._clock.now_s()
            if held_s > 0:
                self.stats.held_back += 1
                raise LinkError(
                    f"{self._name}: {question}: a late reply may still come; "
                    f"it can be asked again in {held_s:.1f} s"
                )
            return await self._ask(question, settings)

    async def close(self) -> None:
        """Give the port back."""
        async with self._lock:
            self._drop_port()

    async def _ask(self, question: Question, settings: LineSettings) -> Answer:
        pace = self._paces.get(settings) or self._paces.setdefault(settings, Pace.of(settings))
        asked = self._doubts.ask_as(question, self._clock.now_s())
        self.stats.reshaped += asked is not question
        try:
            port = self._port or await self._open(settings)
            await self._settle(port, asked, settings)
            answer, rest = await self._transact(port, asked, pace)
            while rest is not None:
                await self._settle(port, rest, settings)
                part, rest = await self._transact(port, rest, pace)
                payload = answer.payload + part.payload
                answer = Answer(payload, answer.sent_s, part.received_s)
        except OSError as error:
            self._drop_port()
            reason = error.strerror or str(error) or "it stopped answering"
            raise LinkError(
                f"{self._name}: {self._where} is gone ({reason}); is the adapter plugged in?"
            ) from error
        return answer

    async def _open(self, settings: LineSettings) -> LinePort:
        if self._clock.now_s() < self._open_again_s:
            raise LinkError(f"{self._name}: {self._where} is not open; tried once a second")
        self._open_again_s = self._clock.now_s() + REOPEN_S
        try:
            self._port = await self._opener(settings)
        except LinkError as error:
            raise LinkError(f"{self._name}: {error}") from error
        self.stats.reopened += self._was_open
        self._was_open = True
        self._tuned, self._tail_looks = settings, TAIL_LOOKS
        self._line_end_s = self._clock.now_s()  # nobody knows what was on the line a moment ago
        return self._port

    def _drop_port(self) -> None:
        if self._port:
            self._port.close()
            self._port = None

    async def _settle(self, port: LinePort, question: Question, settings: LineSettings) -> None:
        """Keep the silence before a request and throw away what came since the last reply.

        A change of speed is preceded by the silence of the slower of both, for the meters that
        still listen at the old one.
        """
        pace, before = self._paces[settings], self._paces[self._tuned or settings]
        gap_s = max(pace.gap_s, before.t35_s)
        give_up_s = self._clock.now_s() + gap_s + BABBLE_S + question.reply_bytes * pace.char_s
        await self._clock.sleep_sharp(self._line_end_s + gap_s)
        stray = b""
        while fresh := self._take(port):
            stray += fresh
            if self._clock.now_s() >= give_up_s:
                self._count_noise(stray)
                self.stats.bad_frame += 1
                raise FrameError(f"{self._name}: {question}: the line is never silent", stray)
            silence_s = max(gap_s, self._silence_s(stray, question, before))
            await self._clock.sleep_sharp(self._line_end_s + silence_s)
        if stray:
            self._count_noise(stray)
        if self._tuned != settings:
            self._retune(port, settings)

    def _retune(self, port: LinePort, settings: LineSettings) -> None:
        try:
            port.retune(settings)
        except LinkError as error:
            raise LinkError(f"{self._name}: {self._where}: {error}") from error
        self._tuned = settings
        self.stats.retuned += 1

    async def _transact(
        self, port: LinePort, question: Question, pace: Pace
    ) -> tuple[Answer, Question | None]:
        """Ask; return the answer and the question for what follows it, if anything does."""
        request, clock = question.request, self._clock
        sent_s = clock.now_s()
        if port.write(request) != len(request):
            raise OSError(errno.EIO, "the port takes no bytes")
        request_end_s = sent_s + len(request) * pace.char_s
        reply_s = question.reply_bytes * pace.char_s
        deadline_s = request_end_s + pace.turnaround_max_s + reply_s + self._handover_s
        # pessimistic until a valid answer has come, so that a cancelled read is covered as well
        self._doubts.expect(question, deadline_s)
        self.stats.transactions += 1
        self._line_end_s = request_end_s
        try:
            await clock.sleep_until(request_end_s + pace.t35_s + reply_s)
            buffer, found = await self._collect(port, question, pace, deadline_s)
        except asyncio.CancelledError:
            self._line_end_s = deadline_s  # the meter will answer into the next request otherwise
            raise
        self.stats.busy_s += (self._line_end_s if found else clock.now_s()) - sent_s + pace.t35_s
        received_s = self._line_end_s
        payload, rest = self._judge(buffer, found, question)
        return Answer(payload, sent_s, received_s), rest

    async def _collect(
        self, port: LinePort, question: Question, pace: Pace, deadline_s: float
    ) -> tuple[bytearray, Found | None]:
        """Gather bytes until they hold an answer followed by silence, or the deadline passes."""
        buffer, found, woken = bytearray(), None, False
        arrivals: list[tuple[int, float]] = []  # bytes so far, when we were woken for the last
        watched = 2 * FIFO_BYTES if self._tail_looks > 0 else FIFO_BYTES
        last_s = deadline_s + PAUSES_MAX * pace.pause_max_s
        while True:
            fresh = self._take(port)
            if woken and not fresh:  # this is how Linux shows a serial port that was unplugged
                raise OSError(errno.EIO, "the port hung up")
            if fresh:
                buffer += fresh
                found = question.find(buffer)
                if found and found.end == len(buffer):
                    self._note_end(end_of_frame(arrivals, found.end, self._line_end_s, pace))
                elif woken:
                    arrivals.append((len(buffer), self._line_end_s))
            elif found:
                return buffer, found
            # a reply that has begun may pause, once the deadline has passed as well
            pause_end_s = self._line_end_s + pace.pause_max_s if buffer else 0.0
            until_s = min(last_s, max(deadline_s, pause_end_s))
            now_s = self._clock.now_s()
            if now_s >= until_s:
                return buffer, found
            # Being woken for every few bytes is most of the cost of a slow line.
            missing = question.reply_bytes - len(buffer)
            unwatched = missing if woken and len(fresh) < FIFO_BYTES else missing - watched
            woken = False
            if found:
                silence_s = self._silence_s(buffer[found.end :], question, pace)
                await self._clock.sleep_until(self._line_end_s + silence_s)
            elif fresh and unwatched > 0:
                await self._clock.sleep_until(min(until_s, now_s + unwatched * pace.char_s))
            else:
                woken = await port.wait(until_s)

    def _note_end(self, end_s: float) -> None:
        """Take the end of a reply; watch on closely while this shows a UART that keeps tails."""
        is_kept = end_s < self._line_end_s
        self._tail_looks = TAIL_LOOKS if is_kept else self._tail_looks - 1
        self._line_end_s = end_s

    def _judge(
        self, buffer: bytearray, found: Found | None, question: Question
    ) -> tuple[bytes, Question | None]:
        """Count what came, settle what the meter owes; return the answer's data and its sequel."""
        echo_end = _end_of_echo(buffer, question)
        echo_bytes = len(question.request) if echo_end else 0
        self.stats.echoes += echo_bytes > 0
        if not found:
            raise self._no_answer(buffer, question, echo_bytes)
        behind = buffer[found.end :]
        self._doubts.answered(question)
        self._refuse_doubles(buffer, found, question)
        self.stats.noise_bytes += found.start - echo_bytes + len(behind)
        self.stats.late_replies += self._doubts.take_noise(
            buffer[: found.start], self._clock.now_s()
        ) + self._doubts.take_noise(behind, self._clock.now_s())
        try:
            return question.payload(found.frame), question.more(found.frame)
        except RefusedError as error:
            self.stats.refused += 1
            raise RefusedError(f"{self._name}: {error}", error.code) from None

    def _refuse_doubles(self, buffer: bytearray, found: Found, question: Question) -> None:
        """Raise FrameError when another answer, whole or damaged, stands behind the one found."""
        behind = buffer[found.end :]
        if not behind:
            return
        second = question.find(behind)
        if second and second.frame == found.frame:
            return
        if second or (is_anonymous(question) and question.may_hold(behind)):
            self.stats.bad_frame += 1
            self.stats.doubles += 1
            self._count_noise(buffer)
            raise FrameError(f"{self._name}: {question}: two replies differ", bytes(buffer))

    def _no_answer(
        self, buffer: bytearray, question: Question, echo_bytes: int
    ) -> FrameError | LinkError:
        """Count a read without an answer and say what came."""
        if len(buffer) <= echo_bytes:
            self.stats.no_reply += 1
            return LinkError(f"{self._name}: {question}: no reply")
        # A damaged answer is an answer: the meter owes nothing, if it owed nothing before.
        begun = is_anonymous(question) and question.begins(buffer)
        if begun and self._doubts.owes_nothing_else(question):
            self._doubts.answered(question)
        self._count_noise(buffer, echo_bytes=echo_bytes)
        self.stats.bad_frame += 1
        self._line_end_s += self._handover_s  # the rest may follow in another piece
        junk = question.describe_junk(buffer)
        return FrameError(f"{self._name}: {question}: {junk}", bytes(buffer))

    def _take(self, port: LinePort) -> bytes:
        """Return what has arrived, without waiting."""
        taken = port.read()
        if taken:
            self._line_end_s = self._clock.now_s()
        return taken

    def _silence_s(self, stray: bytes | bytearray, question: Question, pace: Pace) -> float:
        """Return how long the line must be quiet before what came is taken to be all.

        One or two bytes are the spike of a transceiver switching over, which many lines have after
        every frame. More, or anything while another reply is owed, may be the first piece of a
        reply that the adapter hands over in pieces.
        """
        now_s = self._clock.now_s()
        pieces = (
            len(stray) > SPIKE_BYTES_MAX
            or self._doubts.is_owed_alike(question, now_s)
            or (len(stray) > 0 and self._doubts.is_owed_by_others(question.meter, now_s))
        )
        return (pace.t35_s + self._handover_s) if pieces else pace.hold_s

    def _count_noise(self, noise: bytes | bytearray, *, echo_bytes: int = 0) -> None:
        self.stats.noise_bytes += len(noise) - echo_bytes
        self.stats.late_replies += self._doubts.take_noise(noise, self._clock.now_s())


def end_of_frame(
    arrivals: Sequence[tuple[int, float]], length: int, last_s: float, pace: Pace
) -> float:
    """Return when the last of `length` bytes passed the wire; it was handed over at `last_s`.

    `arrivals` are (bytes, time) of the pieces before. A UART gives half a FIFO at once but keeps
    the tail of a frame until the line was quiet for 32 bits, which would be waited for twice. Two
    such pieces that agree on the end show that the meter sends without pauses.
    """
    if len(arrivals) < 2 or not 0 < length - arrivals[-1][0] < FIFO_BYTES:
        return last_s
    (count_1, at_1_s), (count_2, at_2_s) = arrivals[-2:]
    pauses_s = at_2_s - at_1_s - FIFO_BYTES * pace.char_s
    if count_2 - count_1 != FIFO_BYTES or pauses_s > pace.char_s / 2:
        return last_s
    end_s = at_2_s + (length - count_2) * pace.char_s
    return min(last_s, max(end_s, last_s - TAIL_CHARS * pace.char_s))


def _end_of_echo(buffer: bytearray, question: Question) -> int:
    start = buffer.find(question.request)
    return start + len(question.request) if start >= 0 else 0
