"""How long things take on a wire: bauds and character formats.

Owns the wire times. It knows no frames and no clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from hil_tests.sim.errors import SimError


@dataclass(frozen=True, slots=True)
class Pace:
    """The wire time of a baud rate and a character format."""

    char_s: float
    silence_s: float

    @classmethod
    def of(cls, *, baud: int, format: str) -> Self:  # noqa: A002 - the word of every serial setting
        """Derive times from e.g. 9600 and "8E1": start bit, data, parity, stop bits.

        Silence is T3.5: 3.5 characters, 1750 us above 19200 Bd (Modbus serial guide V1.02).
        """
        match = re.fullmatch(r"([78])([NEO])([12])", format)
        if match is None:
            raise SimError(f'format "{format}": 8N1, 8E1, 8O1, 8N2 or with 7 data bits expected')
        if baud <= 0:
            raise SimError(f"baud {baud}: a positive number expected")
        bits = 1 + int(match[1]) + (match[2] != "N") + int(match[3])
        char_s = bits / baud
        return cls(char_s, 0.00175 if baud > 19200 else 3.5 * char_s)
