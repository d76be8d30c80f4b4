"""Decimal digits, two to a byte, low byte first: the numbers of DL/T 645 and CJ/T 188.

Pure functions. Bytes that hold no number are None, never a guess: a meter sends FF for what it
does not have, and half a digit damaged is no digit.
"""

from __future__ import annotations

_SIGN = 0x80  # of the highest byte


def decode_digits(data: bytes) -> str | None:
    """Return the digits, highest first, or None where a half byte is no digit or none is there."""
    text = data[::-1].hex()
    return text if text.isdecimal() else None


def decode_bcd(data: bytes, *, signed: bool) -> int | None:
    """Return the number, or None where there is none.

    A signed number has its sign in the highest bit, so its highest digit reaches 7 only: XX.XXXX kW
    ends at 79.9999 when signed and at 99.9999 otherwise, and a meter behind no transformer may
    measure more. What it sends then is the maker's choice: such a point needs its limits.
    """
    negative = signed and bool(data) and bool(data[-1] & _SIGN)
    if negative:
        data = data[:-1] + bytes((data[-1] ^ _SIGN,))
    text = decode_digits(data)
    if text is None:
        return None
    return -int(text) if negative else int(text)
