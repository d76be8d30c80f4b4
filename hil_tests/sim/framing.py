"""Modbus bodies (unit id + PDU) in their three wrappings: RTU, ASCII and TCP.

Owns the simulator's own framing, used to judge requests and to damage replies in ways that keep
their checksum right. It must never share a line with the agent's code.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Protocol

from hil_tests.sim.registers import crc16

_ASCII_BYTES_MIN = 9  # ":", unit, function, LRC, CR LF
_RTU_BYTES_MIN = 4


class Framing(Protocol):
    """A way to wrap a body."""

    def wrap(self, body: bytes) -> bytes:
        """Return the frame that carries `body`."""
        ...

    def unwrap(self, frame: bytes) -> bytes | None:
        """Return the body of a whole frame with a right checksum, otherwise None."""
        ...


class Rtu:
    """Body and CRC-16 (Modbus serial guide V1.02, 2.5.1)."""

    def wrap(self, body: bytes) -> bytes:
        """Append the CRC."""
        return body + crc16(body)

    def unwrap(self, frame: bytes) -> bytes | None:
        """Check and cut the CRC."""
        if len(frame) < _RTU_BYTES_MIN or crc16(frame[:-2]) != frame[-2:]:
            return None
        return frame[:-2]


class Ascii:
    """Colon, two hexadecimal characters for each byte, LRC, CR LF (serial guide V1.02, 2.5.2)."""

    def wrap(self, body: bytes) -> bytes:
        """Write out the body and its LRC."""
        return b":" + (body + bytes((_lrc(body),))).hex().upper().encode() + b"\r\n"

    def unwrap(self, frame: bytes) -> bytes | None:
        """Read the characters back and check the LRC; what stands before the colon is noise."""
        frame = frame[frame.rfind(b":") :]
        if len(frame) < _ASCII_BYTES_MIN or frame[:1] != b":" or frame[-2:] != b"\r\n":
            return None
        if frame != frame.upper():  # the guide has capitals only; a turned bit makes others
            return None
        try:
            data = binascii.unhexlify(frame[1:-2])
        except binascii.Error:
            return None
        return data[:-1] if _lrc(data[:-1]) == data[-1] else None


@dataclass(frozen=True, slots=True)
class Mbap:
    """Modbus TCP: transaction id, protocol 0, length, body (Modbus messaging guide V1.0b)."""

    transaction: int

    def wrap(self, body: bytes) -> bytes:
        """Prepend the header."""
        return self.transaction.to_bytes(2, "big") + b"\0\0" + len(body).to_bytes(2, "big") + body

    def unwrap(self, frame: bytes) -> bytes | None:
        """Cut the header if its length is right."""
        if len(frame) < 8 or int.from_bytes(frame[4:6], "big") != len(frame) - 6:
            return None
        return frame[6:]


def is_read(frame: bytes) -> bool:
    """Tell whether a frame on a Modbus line asks for nothing but registers (function 3 or 4)."""
    if frame[:1] == b":":
        return frame[3:5] in (b"03", b"04")
    return len(frame) < 2 or frame[1] in (3, 4)


def _lrc(data: bytes) -> int:
    return -sum(data) & 0xFF
