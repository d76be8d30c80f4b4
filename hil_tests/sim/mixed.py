"""Modbus RTU, DL/T 645 and CJ/T 188 meters on one line.

Owns who answers: each meter sees each frame, as on the wire. It must not know what is in a frame
beyond what tells a read from everything else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from itertools import zip_longest
from typing import Protocol

from hil_tests.sim import cjt188, dlt645
from hil_tests.sim.registers import crc16

_IDLE = 0xFF  # what a line without a driver reads as


class Meter(Protocol):
    """A meter that is bytes in, bytes out: `Dlt645Meter`, `Cjt188Meter`."""

    def answer(self, request: bytes, now_ms: int) -> bytes:
        """Return the reply at a UTC instant; empty = silent."""
        ...


class MixedLine:
    """The meters of one line; `answer` is what a `Line` asks.

    At most one reply leaves. If several meters answer (a shared address, a request to everybody),
    a dominant 0 of any of them wins each bit, which spoils the frame; this is in `contentions`.
    """

    def __init__(
        self,
        meters: Iterable[Meter],
        *,
        now_ms: Callable[[], int],
        rtu: Callable[[bytes], Awaitable[bytes]] | None = None,
    ) -> None:
        """Take the meters; `rtu` stands for all Modbus meters, as `RtuServer.answer` does."""
        self.contentions = 0
        self._meters = tuple(meters)
        self._now_ms = now_ms
        self._rtu = rtu

    async def answer(self, frame: bytes) -> bytes:
        """Return what is on the wire after a request, empty if nobody answers."""
        now_ms = self._now_ms()
        replies = [meter.answer(frame, now_ms) for meter in self._meters]
        if self._rtu is not None:
            replies.append(await self._rtu(frame))
        speaking = [reply for reply in replies if reply]
        if len(speaking) < 2:
            return b"".join(speaking)
        self.contentions += 1
        return _overlaid(speaking)


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


def _overlaid(replies: list[bytes]) -> bytes:
    together = bytearray()
    for column in zip_longest(*replies, fillvalue=_IDLE):
        byte = _IDLE
        for one in column:
            byte &= one
        together.append(byte)
    return bytes(together)
