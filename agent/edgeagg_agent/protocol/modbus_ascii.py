"""Modbus ASCII frames: a colon, pairs of hexadecimal digits, a checksum (LRC), CR LF.

Sans-IO. As in RTU, a reply does not say which registers it carries. The checksum has eight bits
only: the line's parity (7E1 is the default, MODBUS over Serial Line V1.02, 2.5.2) is the better
half of the protection. Nothing here can build a write.
"""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgeagg.errors import RefusedError
from edgeagg_agent.protocol import Found
from edgeagg_agent.protocol.modbus import exception_text, shape_of, wider

if TYPE_CHECKING:
    from collections.abc import Collection

    from edgeagg_agent.bus import ReadRequest
    from edgeagg_agent.protocol import Shape

_EXCEPTION_BYTES = 4  # unit, function | 0x80, code, LRC


def lrc(body: bytes) -> int:
    """Return the checksum of MODBUS over Serial Line V1.02, 6.2.1."""
    return -sum(body) & 0xFF


def _wrap(body: bytes) -> bytes:
    return b":" + (body + bytes((lrc(body),))).hex().upper().encode() + b"\r\n"


def _unwrap(frame: bytes) -> bytes | None:
    """Return unit, function and data of one whole frame; None when it is damaged."""
    if not frame.endswith(b"\r\n"):
        return None
    try:
        body = binascii.unhexlify(frame[1:-2])
    except binascii.Error:
        return None
    return body[:-1] if lrc(body[:-1]) == body[-1] else None


@dataclass(frozen=True, slots=True)
class AsciiQuestion:
    """A read in Modbus ASCII; `spare` and `wanted` as in `RtuQuestion`.

    Its `LineSettings` want `pause_max_ms` = 1000: a second may pass between two characters.
    """

    read: ReadRequest
    spare: int = 0
    wanted: int = 0
    meter: str = field(init=False)
    request: bytes = field(init=False)
    reply_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        """Build the frame once."""
        read = self.read
        body = struct.pack(">BBHH", read.unit, read.function, read.start, read.count)
        object.__setattr__(self, "wanted", self.wanted or read.count)
        object.__setattr__(self, "meter", f"unit {read.unit}")
        object.__setattr__(self, "request", _wrap(body))
        object.__setattr__(self, "reply_bytes", 3 + 2 * (4 + 2 * read.count))

    def __str__(self) -> str:
        """Name the question the way the messages of the bus do."""
        return str(self.read)

    @property
    def shape(self) -> Shape:
        """Return what a reply is recognised by."""
        return shape_of(self.read)

    def find(self, buffer: bytes | bytearray) -> Found | None:
        """Find the first valid reply, behind noise and behind the request's echo."""
        read = self.read
        full = bytes((read.unit, read.function, 2 * read.count))
        refusal = bytes((read.unit, read.function | 0x80))
        for head, length in ((full, self.reply_bytes), (refusal, 3 + 2 * _EXCEPTION_BYTES)):
            start = buffer.find(b":", self._echo_end(buffer))
            while 0 <= start <= len(buffer) - length:
                body = _unwrap(bytes(buffer[start : start + length]))
                if body and body.startswith(head):
                    return Found(start, start + length, body)
                start = buffer.find(b":", start + 1)
        return None

    def payload(self, frame: bytes) -> bytes:
        """Return the registers' bytes; raise RefusedError for an exception reply."""
        if frame[1] & 0x80:
            raise RefusedError(f"{self.read}: refused: {exception_text(frame[2])}", frame[2])
        return frame[3 : 3 + 2 * self.wanted]

    def more(self, frame: bytes) -> None:
        """Return None: no reply of Modbus has a sequel."""

    def describe_junk(self, buffer: bytes | bytearray) -> str:
        """Say what came instead of a reply."""
        data = bytes(buffer[self._echo_end(buffer) :])
        if self.begins(data):
            return "a damaged reply"
        frames = (_unwrap(b":" + rest) for rest in data.replace(b"\r\n", b"\r\n:").split(b":"))
        body = next(filter(None, frames), None)
        if body is None:
            return "only noise; check baud rate, format, and that A and B are not swapped"
        if body[0] != self.read.unit:
            return f"unit {body[0]} answered instead"
        if body[1] != self.read.function:
            return f"function {body[1]} came instead of {self.read.function}"
        return f"{body[2]} bytes of registers came, {2 * self.read.count} were asked for"

    def begins(self, buffer: bytes | bytearray) -> bool:
        """Tell whether the head of a full reply stands behind the request's echo."""
        read = self.read
        head = b":%02X%02X%02X" % (read.unit, read.function, 2 * read.count)
        return buffer.find(head, self._echo_end(buffer)) >= 0

    def may_hold(self, behind: bytes | bytearray) -> bool:
        """Tell whether `behind` shows the head of a reply, or is long enough to be one."""
        return len(behind) >= self.reply_bytes or self.begins(behind)

    def reshaped(self, taken: Collection[Shape]) -> AsciiQuestion | None:
        """Ask for some registers more, in a shape that is not `taken`."""
        read = wider(self.read, spare=self.spare, taken=taken)
        return AsciiQuestion(read, wanted=self.wanted) if read else None

    def _echo_end(self, buffer: bytes | bytearray) -> int:
        start = buffer.find(self.request)
        return start + len(self.request) if start >= 0 else 0
