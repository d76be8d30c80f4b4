"""How long things take on a serial line: characters, silences, frames, transactions.

Pure arithmetic in whole microseconds, rounded up so that no silence is ever kept too short. It
knows no port and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# start bit, eight data bits, parity bit, stop bits; Modbus RTU has no seven-bit characters
CHAR_BITS: Mapping[str, int] = MappingProxyType(
    {"8N1": 10, "8N2": 11, "8E1": 11, "8O1": 11, "8E2": 12, "8O2": 12}
)
# of Modbus ASCII (MODBUS over Serial Line V1.02, 2.5.2); it is also spoken with eight data bits
ASCII_CHAR_BITS: Mapping[str, int] = MappingProxyType(
    {"7E1": 10, "7O1": 10, "7N2": 10, "7E2": 11, "7O2": 11}
)
REQUEST_BYTES = 8  # unit, function, start, count, CRC of a read request
T35_FIXED_US = 1750  # above 19,200 Bd: MODBUS over Serial Line, guide V1.02, 2.5.1.1
T35_FIXED_ABOVE_BAUD = 19200


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of a line with `baud` bits per second and `char_bits` bits per character.

    In Modbus ASCII every byte of a frame travels as two characters.
    """

    baud: int
    char_bits: int
    byte_chars: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no line has."""
        if self.baud <= 0:
            raise ValueError(f"baud {self.baud}: must be positive")
        if not 10 <= self.char_bits <= 12:
            raise ValueError(f"{self.char_bits} bits per character: allowed are 10 to 12")

    @staticmethod
    def of(baud: int, form: str, *, byte_chars: int = 1) -> Timing:
        """Build from the baud rate and a character format such as "8E1"; raise ValueError."""
        bits = CHAR_BITS.get(form) or ASCII_CHAR_BITS.get(form)
        if bits is None:
            allowed = ", ".join((*CHAR_BITS, *ASCII_CHAR_BITS))
            raise ValueError(f"format {form!r}: allowed are {allowed}")
        return Timing(baud, bits, byte_chars)

    @property
    def t35_us(self) -> int:
        """The silence of 3.5 characters that separates two frames, in microseconds."""
        if self.baud > T35_FIXED_ABOVE_BAUD:
            return T35_FIXED_US
        return -(-7 * self.char_bits * 500_000 // self.baud)

    def frame_us(self, count: int) -> int:
        """`count` bytes back to back, in microseconds."""
        return -(-count * self.byte_chars * self.char_bits * 1_000_000 // self.baud)

    def transaction_us(self, reply_bytes: int, turnaround_us: int) -> int:
        """Request, the meter's turnaround, reply and the silence before the next request.

        A meter must see the silence before it answers, so no turnaround is shorter than T3.5.
        """
        return (
            self.frame_us(REQUEST_BYTES)
            + max(turnaround_us, self.t35_us)
            + self.frame_us(reply_bytes)
            + self.t35_us
        )
