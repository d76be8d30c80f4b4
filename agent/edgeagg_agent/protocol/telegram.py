"""The frame that DL/T 645 and CJ/T 188 share: 68H, a head, data, a sum, 16H.

Owns where a frame begins and ends, and whether it is whole. It must not know what any address,
control code or data mean. A frame's end is where its length byte puts it: the sum and the data
may hold 16H as well as 68H.

The sum catches every change of one byte, but it is 8 bits wide: one damaged frame in 256 passes
it. So the protocols above compare everything that a request fixes before they believe a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgeagg.errors import FrameError
from edgeagg_agent.protocol import Found

START, END, WAKE = 0x68, 0x16, 0xFE
WAKE_BYTES = 4  # sent ahead of a request; meters send 0 to 4 and more ahead of a reply
# bits of the control code, the same in all editions
FROM_METER, ABNORMAL, MORE = 0x80, 0x40, 0x20
JUNK_BYTES_MAX = 512  # of a babbling line, enough to name what is wrong
_TAIL_BYTES = 2  # sum and 16H


@dataclass(frozen=True, slots=True)
class Shape:
    """What differs between the two protocols' frames.

    `address_bytes` stand behind the first 68H; DL/T 645 has another 68H behind them.
    """

    address_bytes: int
    has_second_start: bool
    data_bytes_max: int

    @property
    def head_bytes(self) -> int:
        """Bytes in front of the data: 68H, address, perhaps 68H, control code, length."""
        return 3 + self.address_bytes + self.has_second_start

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame that carries no data, preamble not counted."""
        return self.head_bytes + _TAIL_BYTES


@dataclass(frozen=True, slots=True)
class Telegram:
    """A whole frame at buffer[start:end]; address and data are as they travel."""

    start: int
    end: int
    address: bytes
    control: int
    data: bytes


def wrap(shape: Shape, address: bytes, control: int, data: bytes) -> bytes:
    """Return a frame to send, behind the bytes that wake a meter's receiver."""
    second = bytes((START,)) if shape.has_second_start else b""
    body = bytes((START,)) + address + second + bytes((control, len(data))) + data
    return bytes((WAKE,)) * WAKE_BYTES + body + bytes((sum(body) & 0xFF, END))


def telegrams(buffer: bytes | bytearray, shape: Shape) -> Iterator[Telegram]:
    """Yield the whole frames in what a line delivered, first to last.

    Bytes inside a whole frame are its own: nothing that looks like a frame is looked for there.
    """
    start = buffer.find(START)
    while start >= 0:
        telegram = _telegram(buffer, start, shape)
        if telegram is not None:
            yield telegram
        start = buffer.find(START, start + 1 if telegram is None else telegram.end)


def find(
    buffer: bytes | bytearray, shape: Shape, is_answer: Callable[[Telegram], bool]
) -> Found | None:
    """Find the first frame that answers; the FE bytes in front belong to its place, not to it."""
    for telegram in telegrams(buffer, shape):
        if is_answer(telegram):
            start = telegram.start
            while start > 0 and buffer[start - 1] == WAKE:
                start -= 1
            return Found(start, telegram.end, bytes(buffer[telegram.start : telegram.end]))
    return None


def answer(frame: bytes, shape: Shape, is_answer: Callable[[Telegram], bool]) -> Telegram:
    """Unwrap a frame that `find` gave; raise FrameError for any other bytes."""
    for telegram in telegrams(frame, shape):
        if is_answer(telegram):
            return telegram
    raise FrameError("not an answer to this question", frame)


def describe_junk(
    buffer: bytes | bytearray, shape: Shape, mismatch: Callable[[Telegram], str]
) -> str:
    """Say what came instead of an answer; `mismatch` names what is wrong with a whole frame."""
    data = bytes(buffer[:JUNK_BYTES_MAX])
    is_echo = False
    for telegram in telegrams(data, shape):
        if telegram.control & FROM_METER:
            return mismatch(telegram)
        is_echo = True
    damaged = _describe_damaged(data, shape)
    if damaged:
        return damaged
    if is_echo:
        return "only our own request came back"
    return "only noise; check baud rate, parity (these meters use 8E1), and A and B swapped"


def _describe_damaged(data: bytes, shape: Shape) -> str:
    """Say what is wrong with the first bytes that begin like a meter's frame, if any do."""
    for start in range(len(data) - shape.head_bytes + 1):
        if not _is_head(data, start, shape) or not data[start + shape.head_bytes - 2] & FROM_METER:
            continue
        missing = _end(data, start, shape) - len(data)
        return f"the reply ends {missing} bytes early" if missing > 0 else "the checksum is wrong"
    return ""


def _telegram(buffer: bytes | bytearray, start: int, shape: Shape) -> Telegram | None:
    """Read the frame that begins at `start`, if one does and all of it is there and right."""
    if not _is_head(buffer, start, shape):
        return None
    head, end = start + shape.head_bytes, _end(buffer, start, shape)
    if end > len(buffer) or buffer[end - 1] != END:
        return None
    if sum(buffer[start : end - _TAIL_BYTES]) & 0xFF != buffer[end - _TAIL_BYTES]:
        return None
    return Telegram(
        start,
        end,
        bytes(buffer[start + 1 : start + 1 + shape.address_bytes]),
        buffer[head - 2],
        bytes(buffer[head : end - _TAIL_BYTES]),
    )


def _is_head(buffer: bytes | bytearray, start: int, shape: Shape) -> bool:
    head = start + shape.head_bytes
    if head > len(buffer) or buffer[start] != START or buffer[head - 1] > shape.data_bytes_max:
        return False
    return not shape.has_second_start or buffer[head - 3] == START


def _end(buffer: bytes | bytearray, start: int, shape: Shape) -> int:
    return start + shape.frame_bytes + buffer[start + shape.head_bytes - 1]
