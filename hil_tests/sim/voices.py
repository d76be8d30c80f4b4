"""What a line and its meters say to each other.

Owns the seam between wire time (`line`) and meters (`mixed`): a request as it was heard, and each
reply with what the line must know of its speaker. It knows neither bytes on a wire nor registers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from hil_tests.sim.framing import Framing

Answer = Callable[[bytes], Awaitable[bytes]]  # a request's bytes in, a reply's out; empty = silent


@dataclass(frozen=True, slots=True)
class Heard:
    """A request and the baud rate at which it was sent."""

    data: bytes
    baud: int


@dataclass(frozen=True, slots=True)
class Voice:
    """One meter's reply."""

    data: bytes
    meter: str = ""  # its name; without one a fault finds it by the unit id of the reply
    turnaround_ms: tuple[float, float] | None = None  # None = the line's
    framing: Framing | None = None  # None = the line's


@runtime_checkable
class Speakers(Protocol):
    """All meters of a line: each may answer, several at once if they share an address."""

    async def hear(self, heard: Heard) -> Sequence[Voice]:
        """Return the reply of every meter that answers a request."""
        ...


@dataclass(frozen=True, slots=True)
class OneSpeaker:
    """A function that stands for all meters: they speak at the line's own baud rate."""

    answer: Answer
    baud: int

    async def hear(self, heard: Heard) -> Sequence[Voice]:
        """Ask the function, unless nobody has this baud rate."""
        reply = await self.answer(heard.data) if heard.baud == self.baud else b""
        return (Voice(reply),) if reply else ()
