"""The meters of one line, whatever they speak: Modbus, DL/T 645 and CJ/T 188.

Owns who answers: each meter sees each frame that was sent at its own baud rate, as on the wire. It
must not know what is in a frame beyond what tells a read from everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hil_tests.sim import cjt188, dlt645
from hil_tests.sim.framing import Framing
from hil_tests.sim.registers import crc16
from hil_tests.sim.voices import Answer, Heard, Voice


class Meter(Protocol):
    """A meter that is bytes in, bytes out: `Dlt645Meter`, `Cjt188Meter`."""

    def answer(self, request: bytes, now_ms: int) -> bytes:
        """Return the reply at a UTC instant; empty = silent."""
        ...


@dataclass(frozen=True, slots=True)
class Seat:
    """A meter's place on a line: how it answers, and in what it differs from the line."""

    answer: Answer
    name: str = ""
    baud: int | None = None  # the only one it hears; None = any
    turnaround_ms: tuple[float, float] | None = None
    framing: Framing | None = None


class MixedLine:
    """The meters of one line: `hear` is what a `Line` asks.

    If several answer (a shared address, a request to everybody) all replies leave, and the line
    lets them meet; how often that was is in `contentions`.
    """

    def __init__(self, seats: Iterable[Seat]) -> None:
        self.contentions = 0
        self._seats = tuple(seats)

    async def hear(self, heard: Heard) -> Sequence[Voice]:
        """Return the reply of every meter that answers a request."""
        voices = [
            Voice(reply, seat.name, seat.turnaround_ms, seat.framing)
            for seat in self._seats
            if seat.baud in (None, heard.baud) and (reply := await seat.answer(heard.data))
        ]
        self.contentions += len(voices) > 1
        return voices


def answering(meter: Meter, now_ms: Callable[[], int]) -> Answer:
    """Let a meter of bytes answer at the time that `now_ms` tells."""

    async def answer(request: bytes) -> bytes:
        return meter.answer(request, now_ms())

    return answer


def is_read(request: bytes) -> bool:
    """Tell whether a request is a read in any of the three protocols; for `line.Options`.

    What is no whole frame of any counts as one: no meter would obey it.
    """
    electricity, water = dlt645.parse(request), cjt188.parse(request)
    if electricity is not None:
        return not dlt645.changes_meters(electricity)
    if water is not None:
        return not cjt188.changes_meters(water)
    whole = len(request) >= 4 and crc16(request[:-2]) == request[-2:]
    return not whole or request[1] in (3, 4)
