"""Modbus RTU frames: build a read request, find its reply in whatever the line delivered.

Sans-IO. An RTU reply does not say which registers it carries, so a reply is accepted only by the
unit, function and byte count that the request implies and a good CRC; keeping stale replies of the
same shape away is the line engine's work. Nothing here can build a write.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeagg.errors import RefusedError

if TYPE_CHECKING:
    from edgeagg_agent.bus import ReadRequest

EXCEPTION_BYTES = 5  # unit, function | 0x80, code, CRC
JUNK_BYTES_MAX = 512  # of a babbling line, enough to name what is wrong
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


@dataclass(frozen=True, slots=True)
class RtuReply:
    """A valid reply found at buffer[start:end]."""

    request: ReadRequest
    start: int
    end: int
    frame: bytes

    def words(self) -> tuple[int, ...]:
        """Return one unsigned number per register; raise RefusedError for an exception reply."""
        if self.frame[1] & 0x80:
            code = self.frame[2]
            raise RefusedError(f"{self.request}: refused: {exception_text(code)}", code)
        return struct.unpack(f">{self.request.count}H", self.frame[3:-2])


def find_rtu_reply(buffer: bytes | bytearray, request: ReadRequest) -> RtuReply | None:
    """Find the first valid reply to `request`, behind any noise and behind the echo of the request.

    The whole buffer is searched for a full reply before a refusal is looked for: the bytes of a
    refusal could stand among the registers of a reply, a reply never fits into a refusal.
    """
    after_echo = skip_echo(buffer, request)
    full = bytes((request.unit, request.function, 2 * request.count))
    refusal = bytes((request.unit, request.function | 0x80))
    for head, length in ((full, rtu_reply_length(request)), (refusal, EXCEPTION_BYTES)):
        start = buffer.find(head, after_echo)
        while 0 <= start <= len(buffer) - length:
            frame = bytes(buffer[start : start + length])
            if _crc_is_good(frame):
                return RtuReply(request, start, start + length, frame)
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


def _crc_is_good(frame: bytes) -> bool:
    return crc16(frame[:-2]) == frame[-2] | frame[-1] << 8
