"""Modbus RTU frames: build a read request, find its reply in whatever a line delivered.

Sans-IO. An RTU reply does not say which registers it carries, so a reply is accepted only by the
unit, function and byte count that the request implies and a good CRC; keeping stale replies of the
same shape away is the line engine's work. Nothing here can build a write.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from edgeagg.errors import RefusedError
from edgeagg_agent.protocol import Found

if TYPE_CHECKING:
    from collections.abc import Collection

    from edgeagg_agent.bus import ReadRequest
    from edgeagg_agent.protocol import Shape

EXCEPTION_BYTES = 5  # unit, function | 0x80, code, CRC
JUNK_BYTES_MAX = 512  # of a babbling line, enough to name what is wrong
REGISTERS_MAX = 125  # of one reply: MODBUS Application Protocol V1.1b3, 6.3
# MODBUS Application Protocol V1.1b3, section 7
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge, still working",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not respond",
}


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_CRC = _crc_table()


def crc16(data: bytes | bytearray) -> int:
    """Return the CRC of MODBUS over Serial Line V1.02, 6.2.2; the low byte goes out first."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


def rtu_request(request: ReadRequest) -> bytes:
    """Return the frame to send."""
    body = struct.pack(">BBHH", request.unit, request.function, request.start, request.count)
    return body + struct.pack("<H", crc16(body))


def rtu_reply_length(request: ReadRequest) -> int:
    """Return the bytes of the full reply: unit, function, byte count, registers, CRC."""
    return 5 + 2 * request.count


def exception_text(code: int) -> str:
    """Name a Modbus exception code in words, with its number."""
    return f"{EXCEPTIONS.get(code, 'unknown exception')} ({code})"


def _find(
    buffer: bytes | bytearray, request: ReadRequest, after_echo: int
) -> tuple[int, int, bytes] | None:
    """Return begin, end and bytes of the first valid reply behind `after_echo`.

    The whole buffer is searched for a full reply before a refusal is looked for: the bytes of a
    refusal could stand among the registers of a reply, a reply never fits into a refusal.
    """
    full = bytes((request.unit, request.function, 2 * request.count))
    refusal = bytes((request.unit, request.function | 0x80))
    for head, length in ((full, rtu_reply_length(request)), (refusal, EXCEPTION_BYTES)):
        start = buffer.find(head, after_echo)
        while 0 <= start <= len(buffer) - length:
            frame = bytes(buffer[start : start + length])
            if _crc_is_good(frame):
                return start, start + length, frame
            start = buffer.find(head, start + 1)
    return None


def skip_echo(buffer: bytes | bytearray, request: ReadRequest) -> int:
    """Return the offset behind the echo of our own request, 0 when there is none.

    Without this a request for one register could be taken for its own reply: both begin with unit
    and function, and the start address can stand where the byte count would.
    """
    sent = rtu_request(request)
    found = buffer.find(sent)
    return found + len(sent) if found >= 0 else 0


def describe_junk(buffer: bytes | bytearray, request: ReadRequest) -> str:
    """Say what came instead of a reply, as far as the bytes tell."""
    data = bytes(buffer[skip_echo(buffer, request) :][:JUNK_BYTES_MAX])
    head = bytes((request.unit, request.function))
    for start in range(len(data) - EXCEPTION_BYTES + 1):
        length = 5 + data[start + 2]
        frame = data[start : start + length]
        if len(frame) < length or not _crc_is_good(frame):
            continue
        if frame[0] != request.unit:
            return f"unit {frame[0]} answered instead"
        if frame[1] != request.function:
            return f"function {frame[1]} came instead of {request.function}"
        return f"{frame[2]} bytes of registers came, {2 * request.count} were asked for"
    start = data.find(head + bytes((2 * request.count,)))
    if start >= 0:
        missing = rtu_reply_length(request) - (len(data) - start)
        return f"the reply ends {missing} bytes early" if missing > 0 else "the CRC is wrong"
    if data.startswith(head):
        return "a damaged reply"
    return "only noise; check baud rate, format, and that A and B are not swapped"


def _foreign_bytes(buffer: bytes | bytearray, unit: int) -> int:
    """Return the length of another unit's valid reply that the buffer begins with, 0 for none."""
    length = 5 + buffer[2] if len(buffer) >= EXCEPTION_BYTES else 0
    whole = 0 < length <= len(buffer) and buffer[0] != unit
    return length if whole and _crc_is_good(bytes(buffer[:length])) else 0


def _crc_is_good(frame: bytes) -> bool:
    return crc16(frame[:-2]) == frame[-2] | frame[-1] << 8


def words_of(payload: bytes) -> tuple[int, ...]:
    """Return one unsigned number per register."""
    return struct.unpack(f">{len(payload) // 2}H", payload)


def shape_of(read: ReadRequest) -> Shape:
    """Return what a reply to this request is recognised by: unit, function, count."""
    return read.unit, read.function, read.count


def wider(read: ReadRequest, *, spare: int, taken: Collection[Shape]) -> ReadRequest | None:
    """Return a request for up to `spare` registers more, of a shape that is not `taken`."""
    last = min(read.count + spare, REGISTERS_MAX, 0x10000 - read.start)
    for count in range(read.count, last + 1):
        if (read.unit, read.function, count) not in taken:
            return replace(read, count=count)
    return None


@dataclass(frozen=True, slots=True)
class RtuQuestion:
    """A read in Modbus RTU, on a serial line or through a serial server.

    `spare` registers behind it may be read as well (the profile says so): the question can then be
    asked in another shape while a late reply of its own shape may come. Its answer carries the
    first `wanted` registers, which is all of `read` unless given.
    """

    read: ReadRequest
    spare: int = 0
    wanted: int = 0
    meter: str = field(init=False)
    request: bytes = field(init=False)
    reply_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        """Build the frame once."""
        object.__setattr__(self, "wanted", self.wanted or self.read.count)
        object.__setattr__(self, "meter", f"unit {self.read.unit}")
        object.__setattr__(self, "request", rtu_request(self.read))
        object.__setattr__(self, "reply_bytes", rtu_reply_length(self.read))

    def __str__(self) -> str:
        """Name the question the way the messages of the bus do."""
        return str(self.read)

    @property
    def shape(self) -> Shape:
        """Return what a reply is recognised by."""
        return shape_of(self.read)

    def find(self, buffer: bytes | bytearray) -> Found | None:
        """Find the first valid reply, behind noise and behind the request's echo."""
        found = _find(buffer, self.read, self._echo_end(buffer))
        return Found(*found) if found else None

    def payload(self, frame: bytes) -> bytes:
        """Return the registers' bytes; raise RefusedError for an exception reply."""
        if frame[1] & 0x80:
            raise RefusedError(f"{self.read}: refused: {exception_text(frame[2])}", frame[2])
        return frame[3 : 3 + 2 * self.wanted]

    def more(self, frame: bytes) -> None:
        """Return None: no reply of Modbus has a sequel."""

    def describe_junk(self, buffer: bytes | bytearray) -> str:
        """Say what came instead of a reply."""
        return describe_junk(buffer, self.read)

    def begins(self, buffer: bytes | bytearray) -> bool:
        """Tell whether the head of a full reply stands behind the request's echo."""
        head = bytes((self.read.unit, self.read.function, 2 * self.read.count))
        return buffer.find(head, self._echo_end(buffer)) >= 0

    def may_hold(self, behind: bytes | bytearray) -> bool:
        """Tell whether `behind` shows the head of a reply, or is long enough to be one.

        Whole replies of other units are passed over.
        """
        while foreign := _foreign_bytes(behind, self.read.unit):
            behind = behind[foreign:]
        return len(behind) >= self.reply_bytes or self.begins(behind)

    def reshaped(self, taken: Collection[Shape]) -> RtuQuestion | None:
        """Ask for some registers more, in a shape that is not `taken`."""
        read = wider(self.read, spare=self.spare, taken=taken)
        return RtuQuestion(read, wanted=self.wanted) if read else None

    def _echo_end(self, buffer: bytes | bytearray) -> int:
        start = buffer.find(self.request)
        return start + len(self.request) if start >= 0 else 0
