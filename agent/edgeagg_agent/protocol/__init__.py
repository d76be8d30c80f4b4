"""Frame formats, sans-IO: bytes in, values out. Nothing in here waits, opens or sends.

Every protocol gives the bus the same thing, a `Question`: what to put on the line, and how its
answer is told from everything else that a line may deliver.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Collection

Shape = tuple[int, ...]
"""What two answers must have in common to be taken for each other."""


@dataclass(frozen=True, slots=True)
class Found:
    """A valid answer, standing at buffer[start:end]."""

    start: int
    end: int
    frame: bytes


class Question(Protocol):
    """One request to one meter, and how its answer is recognised.

    Only reads exist: some meters clear their totalisers on a write.
    """

    @property
    def meter(self) -> str:
        """Who is asked, for messages and to keep its late answers apart: "unit 3"."""
        ...

    @property
    def request(self) -> bytes:
        """The frame to send, preamble included."""
        ...

    @property
    def reply_bytes(self) -> int:
        """The length of the answer expected when all goes well, for the line's clock."""
        ...

    def find(self, buffer: bytes | bytearray) -> Found | None:
        """Find the first answer to this question, behind noise and behind the request's echo."""
        ...

    def payload(self, frame: bytes) -> bytes:
        """Return the data a found frame carries; raise RefusedError for the meter's refusal."""
        ...

    def more(self, frame: bytes) -> Question | None:
        """Return the question for the rest when the meter says that more data follow."""
        ...

    def describe_junk(self, buffer: bytes | bytearray) -> str:
        """Say what came instead of an answer, as far as the bytes tell."""
        ...


class Anonymous(Question, Protocol):
    """A question whose answer does not say which question it answers, as in Modbus RTU and ASCII.

    A late answer to one such question fits every other one of the same meter and shape.
    """

    @property
    def shape(self) -> Shape:
        """What an answer is recognised by."""
        ...

    def begins(self, buffer: bytes | bytearray) -> bool:
        """Tell whether the head of an answer stands behind the request's echo, whole or not."""
        ...

    def may_hold(self, behind: bytes | bytearray) -> bool:
        """Tell whether what came behind an answer may be another one, however damaged."""
        ...

    def reshaped(self, taken: Collection[Shape]) -> Question | None:
        """Ask for the same in a shape that is not `taken`; None when the meter allows no other."""
        ...


def is_anonymous(question: Question) -> TypeGuard[Anonymous]:
    """Tell whether the question's answer does not say what it answers."""
    return _is_anonymous(type(question))


@functools.lru_cache(maxsize=64)
def _is_anonymous(kind: type) -> bool:
    return all(hasattr(kind, name) for name in ("shape", "begins", "may_hold", "reshaped"))
