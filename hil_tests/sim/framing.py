"""Bodies and their wrappings: Modbus RTU, ASCII and TCP, DL/T 645 and CJ/T 188.

Owns the simulator's own framing, used to judge requests and to damage replies in ways that keep
their checksum right. It must never share a line with the agent's code.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from random import Random
from typing import Protocol

from hil_tests.sim import damage
from hil_tests.sim.bcd import checksum, packed
from hil_tests.sim.registers import crc16

_ASCII_BYTES_MIN = 9  # ":", unit, function, LRC, CR LF
_RTU_BYTES_MIN = 4
_BUSY = 6  # exception "server device busy" (Modbus application protocol V1.1b3, 7)
_WAKE = 0xFE
_REFUSED = 0x40  # in a control code of DL/T 645 and CJ/T 188


class Framing(Protocol):
    """A way to wrap a body."""

    def wrap(self, body: bytes) -> bytes:
        """Return the frame that carries `body`."""
        ...

    def unwrap(self, frame: bytes) -> bytes | None:
        """Return the body of a whole frame with a right checksum, otherwise None."""
        ...

    def flip_values(self, body: bytes, bits: int, rng: Random) -> bytes:
        """Turn over bits of the values only: shape and length stay those of a good reply."""
        ...

    def shorten(self, body: bytes, registers: int) -> bytes:
        """Keep fewer values than were asked for (2 bytes per register), with a length that fits."""
        ...

    def from_other_meter(self, body: bytes, number: int) -> bytes:
        """Give another address; 0 = one of a neighbour."""
        ...

    def other_function(self, body: bytes) -> bytes:
        """Answer as if another kind of read had been asked for."""
        ...

    def refusal(self, body: bytes) -> bytes:
        """Return what a meter says that cannot answer now."""
        ...


class _Modbus:
    """What can be done to unit id and PDU, whatever they are wrapped in."""

    __slots__ = ()

    def flip_values(self, body: bytes, bits: int, rng: Random) -> bytes:
        """Turn over bits of the registers."""
        return damage.flip_registers(body, bits, rng)

    def shorten(self, body: bytes, registers: int) -> bytes:
        """Keep fewer registers."""
        return damage.shorten(body, registers)

    def from_other_meter(self, body: bytes, number: int) -> bytes:
        """Give another unit id; 0 = the next one."""
        return bytes((number or body[0] % 247 + 1,)) + body[1:]

    def other_function(self, body: bytes) -> bytes:
        """Answer function 3 with 4 and the other way round."""
        return body[:1] + bytes((body[1] ^ 7,)) + body[2:]

    def refusal(self, body: bytes) -> bytes:
        """Return exception 6."""
        return bytes((body[0], body[1] | 0x80, _BUSY))


class Rtu(_Modbus):
    """Body and CRC-16 (Modbus serial guide V1.02, 2.5.1)."""

    def wrap(self, body: bytes) -> bytes:
        """Append the CRC."""
        return body + crc16(body)

    def unwrap(self, frame: bytes) -> bytes | None:
        """Check and cut the CRC."""
        if len(frame) < _RTU_BYTES_MIN or crc16(frame[:-2]) != frame[-2:]:
            return None
        return frame[:-2]


class Ascii(_Modbus):
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
class Mbap(_Modbus):
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed:
    """DL/T 645 and CJ/T 188: 68H .. data, then sum and 16H; the body is what the sum is over.

    Before the data stand control code and length. `preamble` FE bytes come in front.
    """

    head_bytes: int  # before the data
    address_at: int
    identifier_bytes: int  # in front of the values; CJ/T 188: with SER
    offset: int  # added to each data byte on the wire
    control_flip: int  # between the replies of two kinds of reads
    refusal_data: bytes  # before the offset
    preamble: int = 4

    def wrap(self, body: bytes) -> bytes:
        """Put FE bytes in front, sum and end behind."""
        return bytes((_WAKE,)) * self.preamble + body + checksum(body) + b"\x16"

    def unwrap(self, frame: bytes) -> bytes | None:
        """Check and cut what is around the body."""
        body = frame.lstrip(bytes((_WAKE,)))
        size = self.head_bytes + 2
        if len(body) < size or body[0] != 0x68 or len(body) != size + body[self.head_bytes - 1]:
            return None
        whole = body[-1] == 0x16 and checksum(body[:-2]) == body[-2:-1]
        return body[:-2] if whole else None

    def flip_values(self, body: bytes, bits: int, rng: Random) -> bytes:
        """Turn over bits behind the identifier, on the wire."""
        first = self.head_bytes + self.identifier_bytes
        if self._is_refused(body) or len(body) <= first:
            return body
        return body[:first] + damage.flip(body[first:], bits, rng)

    def shorten(self, body: bytes, registers: int) -> bytes:
        """Keep fewer bytes behind the identifier."""
        first = self.head_bytes + self.identifier_bytes
        if self._is_refused(body) or len(body) <= first:
            return body
        kept = body[self.head_bytes : min(first + 2 * registers, len(body) - 1)]
        return body[: self.head_bytes - 1] + bytes((len(kept),)) + kept

    def from_other_meter(self, body: bytes, number: int) -> bytes:
        """Change the last two digits of the address."""
        last = packed(number % 100, length=1)[0] if number else body[self.address_at] ^ 1
        return body[: self.address_at] + bytes((last,)) + body[self.address_at + 1 :]

    def other_function(self, body: bytes) -> bytes:
        """Answer as if following data had been asked for, or the address (CJ/T 188)."""
        at = self.head_bytes - 2
        return body[:at] + bytes((body[at] ^ self.control_flip,)) + body[at + 1 :]

    def refusal(self, body: bytes) -> bytes:
        """Return an abnormal reply without a reason that would tell anything."""
        at = self.head_bytes - 2
        data = bytes((byte + self.offset) % 256 for byte in self.refusal_data)
        return body[:at] + bytes((body[at] | _REFUSED, len(data))) + data

    def _is_refused(self, body: bytes) -> bool:
        return bool(body[self.head_bytes - 2] & _REFUSED)


DLT645_2007 = Addressed(
    head_bytes=10,
    address_at=1,
    identifier_bytes=4,
    offset=0x33,
    control_flip=3,
    refusal_data=b"\x01",  # "other error"
)
DLT645_1997 = Addressed(
    head_bytes=10,
    address_at=1,
    identifier_bytes=2,
    offset=0x33,
    control_flip=3,
    refusal_data=b"\x01",
)
CJT188 = Addressed(
    head_bytes=11,
    address_at=2,
    identifier_bytes=3,
    offset=0,
    control_flip=2,
    refusal_data=b"\0\0\0",  # SER, two bytes of status
)


def is_read(frame: bytes) -> bool:
    """Tell whether a frame on a Modbus line asks for nothing but registers (function 3 or 4)."""
    if frame[:1] == b":":
        return frame[3:5] in (b"03", b"04")
    return len(frame) < 2 or frame[1] in (3, 4)


def _lrc(data: bytes) -> int:
    return -sum(data) & 0xFF
