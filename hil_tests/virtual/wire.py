"""A million faulted transactions on a line in memory: `python -m hil_tests.virtual.wire`.

Owns virtual time, the wire, its meters and the oracle: it drives the agent's own line engine
(`edgeagg_agent.bus.line`) and imports no other part of the agent but the questions it asks. Every
request gets registers that no other request ever gets, so a value is right only if it is the reply
to the very request it was returned for. Damage that leaves a valid checksum over wrong registers is
drawn again and counted: nobody could tell it from a value.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from edgeagg.errors import FrameError, LinkError, RefusedError
from edgeagg_agent.bus import Answer, BusStats, LineSettings, ReadRequest
from edgeagg_agent.bus.line import LineBus, Pace
from edgeagg_agent.protocol.modbus import RtuQuestion
from hil_tests.virtual.wire_faults import FAULTS, RECOVERABLE, Reply, crc_of, shape_reply

BAUD = 19_200
CHAR_S = 10 / BAUD
UNITS = range(1, 9)
SPARE_FROM = 3  # units below may be read in one shape only
HANDOVER_S = 0.016
IDLE_SHARE = 0.02  # of the reads, followed by a pause
_FIFO_BYTES, _FIFO_TAIL_S = 8, 3.2 * CHAR_S  # a Raspberry Pi's UART: half full, or 32 bits quiet
_TICK_S = 0.001  # a USB adapter in low-latency mode
_TURNAROUND_S = (0.004, 0.06)


class WireClock:
    """Time that passes only when the engine waits for it."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def now_s(self) -> float:
        """Return the time."""
        return self.time_s

    async def sleep_until(self, at_s: float) -> None:
        """Jump."""
        self.time_s = max(self.time_s, at_s)

    async def sleep_sharp(self, at_s: float) -> None:
        """Jump."""
        self.time_s = max(self.time_s, at_s)


@dataclass(slots=True)
class Tally:
    """What became of the transactions struck by one fault."""

    transactions: int = 0
    good: int = 0
    wrong: int = 0
    whole: int = 0  # transactions whose bytes met no others on the wire
    whole_good: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


class MemoryWire:
    """The port of the engine, with the meters at its far end."""

    def __init__(self, clock: WireClock, rng: Random, *, handover: str) -> None:
        """`handover` is how bytes come out of the port: "byte", "fifo" or "tick"."""
        self.fault = "clean"  # of the next request
        self.writes = 0  # requests that were no reads
        self.redrawn = 0  # injuries that left a valid checksum
        self.heard = 0  # requests, each with registers of its own
        self.collided = False  # bytes have met others on the wire
        self.told: dict[int, bytes] = {}  # the registers of the last request, by unit
        self._previous: dict[tuple[int, int], bytes] = {}  # the last frame by unit and count
        self._clock, self._rng, self._handover = clock, rng, handover
        self._queue: list[tuple[float, int]] = []  # when each byte has passed the wire

    def read(self) -> bytes:
        """Return what has been handed over by now."""
        out = b""
        while self._queue:
            count, at_s = self._piece()
            if at_s > self._clock.time_s:
                break
            out += bytes(byte for _, byte in self._queue[:count])
            del self._queue[:count]
        return out

    def write(self, data: bytes) -> int:
        """Hear a request; whoever is speaking meanwhile destroys it and is destroyed."""
        now_s = self._clock.time_s
        end_s = now_s + len(data) * CHAR_S
        if data[1] not in {3, 4}:
            self.writes += 1
        self.heard += 1
        if not self._jam(now_s, end_s):
            self._answer(data, end_s)
        return len(data)

    async def wait(self, deadline_s: float) -> bool:
        """Jump to the next byte or to the deadline."""
        comes_s = self._piece()[1] if self._queue else deadline_s + 1
        self._clock.time_s = max(self._clock.time_s, min(comes_s, deadline_s))
        return comes_s <= deadline_s

    def retune(self, settings: LineSettings) -> None:
        """Refuse: every meter of this line has the same settings."""
        raise AssertionError(f"nobody asked for {settings}")

    def close(self) -> None:
        """Stay as it is."""

    def _answer(self, request: bytes, end_s: float) -> None:
        unit, count = request[0], int.from_bytes(request[4:6], "big")
        registers = self.heard.to_bytes(8, "big") + self._rng.randbytes(2 * count - 8)
        self.told[unit] = registers
        body = request[:2] + bytes((2 * count,)) + registers
        frame = body + crc_of(body)
        reply = Reply(request, frame, self._previous.get((unit, count), b""))
        turnaround_s = self._rng.uniform(*_TURNAROUND_S)
        pieces, redrawn = shape_reply(self.fault, reply, self._rng)
        self.redrawn += redrawn
        self._previous[unit, count] = frame
        start_s = end_s + turnaround_s
        for delay_s, data in pieces:
            # an echo is heard while the request passes, everything else behind the turnaround
            at_s = end_s - len(request) * CHAR_S if delay_s is None else start_s + delay_s
            self._speak(at_s, data)
            start_s = start_s if delay_s is None else at_s + len(data) * CHAR_S

    def _speak(self, start_s: float, data: bytes) -> None:
        """Put bytes on the wire; where others are, all are garbled."""
        if self._jam(start_s, start_s + len(data) * CHAR_S):
            data = self._garbled(data)
        self._queue += [(start_s + n * CHAR_S, byte) for n, byte in enumerate(data, start=1)]
        self._queue.sort(key=_passed_s)

    def _jam(self, start_s: float, end_s: float) -> bool:
        """Garble what is on the wire meanwhile; tell whether anything was."""
        jammed = False
        for place, (at_s, byte) in enumerate(self._queue):
            if start_s < at_s < end_s + CHAR_S * 0.999:
                jammed = self.collided = True
                self._queue[place] = at_s, self._garbled(bytes((byte,)))[0]
        return jammed

    def _garbled(self, data: bytes) -> bytes:
        mask = self._rng.randbytes(len(data))
        return bytes(byte & bits for byte, bits in zip(data, mask, strict=True))

    def _piece(self) -> tuple[int, float]:
        """Return how many bytes the port hands over next, and when."""
        first_s = last_s = self._queue[0][0]
        if self._handover == "byte":
            return 1, first_s
        if self._handover == "tick":
            # rounding must not put a tick in front of the byte it is for
            tick_s = max(first_s, math.ceil(first_s / _TICK_S) * _TICK_S)
            return sum(1 for at_s, _ in self._queue if at_s <= tick_s), tick_s
        count = 1
        for at_s, _ in self._queue[1:_FIFO_BYTES]:
            if at_s > last_s + _FIFO_TAIL_S:
                break
            last_s = at_s
            count += 1
        return count, last_s if count == _FIFO_BYTES else last_s + _FIFO_TAIL_S


def _passed_s(item: tuple[float, int]) -> float:
    return item[0]


def finished(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Run a coroutine that never waits for anything but virtual time."""
    try:
        work.send(None)
    except StopIteration as done:
        answer: Answer = done.value
        return answer
    raise AssertionError("the engine waited for something that is not on the wire")


class Run:
    """One run: a line, its engine and the tallies of every fault."""

    def __init__(self, seed: int, *, handover: str, faults: Sequence[str] = tuple(FAULTS)) -> None:
        """Make a line; nothing depends on anything but these."""
        self.seed, self.handover, self.faults = seed, handover, faults
        self.rng = Random(f"{seed}/{handover}")
        self.clock = WireClock()
        self.wire = MemoryWire(self.clock, self.rng, handover=handover)
        self.tallies = {fault: Tally() for fault in faults}
        self.settings = LineSettings(BAUD, "8N1", turnaround_max_ms=80)
        self.pace = Pace.of(self.settings)
        self.bus = LineBus(
            name="wire",
            where="memory",
            opener=self._open,
            clock=self.clock,
            handover_s=HANDOVER_S,
        )

    async def _open(self, _settings: LineSettings) -> MemoryWire:
        return self.wire

    def play(self, transactions: int) -> None:
        """Ask until so many requests have been heard on the wire."""
        rng = self.rng
        while self.wire.heard < transactions:
            unit = rng.choice(UNITS)
            read = ReadRequest(unit, 3, rng.randrange(1000), rng.choice((4, 10, 10, 22)))
            question = RtuQuestion(read, spare=2 if unit >= SPARE_FROM else 0)
            if self.bus.held_until_s(question) > self.clock.time_s:
                self.clock.time_s += 0.05  # a scheduler goes on with the others
                continue
            self.wire.fault = rng.choice(self.faults)
            self._ask(question, self.tallies[self.wire.fault])
            if rng.random() < IDLE_SHARE:
                self.clock.time_s += rng.random()

    def _ask(self, question: RtuQuestion, tally: Tally) -> None:
        tally.transactions += 1
        good, self.wire.collided = tally.good, False
        heard = self.wire.heard
        self.wire.told.pop(question.read.unit, None)
        try:
            answer = finished(self.bus.exchange(question, self.settings))
        except FrameError:
            tally.reasons["bad_frame"] += 1
        except RefusedError:
            tally.reasons["refused"] += 1
        except LinkError:
            tally.reasons["no_reply"] += 1
        else:
            truth = self.wire.told.get(question.read.unit, b"")[: 2 * question.wanted]
            is_good = self.wire.heard == heard + 1 and answer.payload == truth
            tally.good += is_good
            tally.wrong += not is_good
        tally.whole += not self.wire.collided
        tally.whole_good += not self.wire.collided and tally.good > good

    @property
    def wrong(self) -> int:
        """How many values were not the reply to their request."""
        return sum(tally.wrong for tally in self.tallies.values())

    def recovered(self) -> tuple[int, int]:
        """Return good values, and whole good frames that stood among other bytes on the wire."""
        kept = [tally for fault, tally in self.tallies.items() if fault in RECOVERABLE]
        return sum(tally.whole_good for tally in kept), sum(tally.whole for tally in kept)


def table(runs: Sequence[Run]) -> str:
    """Return the tallies of all runs, a line per fault."""
    head = f"{'fault':<22}{'transactions':>13}{'good':>10}{'no_reply':>10}{'bad_frame':>11}"
    lines = [f"{head}{'refused':>9}{'wrong':>7}"]
    for fault in runs[0].faults:
        tallies = [run.tallies[fault] for run in runs]
        reasons = sum((tally.reasons for tally in tallies), Counter[str]())
        lines.append(
            f"{fault:<22}{sum(t.transactions for t in tallies):>13}"
            f"{sum(t.good for t in tallies):>10}"
            f"{reasons['no_reply']:>10}{reasons['bad_frame']:>11}{reasons['refused']:>9}"
            f"{sum(t.wrong for t in tallies):>7}"
        )
    return "\n".join(lines)


def _summary(runs: Sequence[Run]) -> str:
    good, asked = map(sum, zip(*(run.recovered() for run in runs), strict=True))
    stats: Sequence[BusStats] = [run.bus.stats for run in runs]
    return "\n".join(
        (
            f"good frames behind noise recovered: {good} of {asked} ({good / asked:.3%})",
            f"late replies recognised: {sum(s.late_replies for s in stats)}",
            f"double replies refused: {sum(s.doubles for s in stats)}",
            f"asked in another shape: {sum(s.reshaped for s in stats)}",
            f"injuries with a valid checksum, drawn again: {sum(r.wire.redrawn for r in runs)}",
            f"requests that were no reads: {sum(r.wire.writes for r in runs)}",
            f"virtual time: {sum(run.clock.time_s for run in runs) / 3600:.1f} h",
            f"wrong values: {sum(run.wrong for run in runs)}",
        )
    )


def main() -> int:
    """Run and print; return 1 if a wrong value was accepted."""
    parser = argparse.ArgumentParser(description="Faulted transactions on a line in memory.")
    parser.add_argument("--transactions", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    begun_s = time.perf_counter()
    runs = [Run(chosen.seed, handover=handover) for handover in ("fifo", "byte", "tick")]
    for run in runs:
        run.play(chosen.transactions // len(runs))
    took_s = time.perf_counter() - begun_s
    print(table(runs))
    print(_summary(runs))
    print(f"seed {chosen.seed}, {took_s:.0f} s, {took_s / chosen.transactions * 1e6:.0f} us each")
    return 1 if any(run.wrong for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
