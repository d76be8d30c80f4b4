"""Scaled integers as exact decimal texts."""

from __future__ import annotations

from typing import overload


@overload
def decimal_text(mantissa: int, exponent: int) -> str: ...
@overload
def decimal_text(mantissa: int | None, exponent: int) -> str | None: ...
def decimal_text(mantissa: int | None, exponent: int) -> str | None:
    """Return mantissa x 10**exponent with all its digits; None where there is no value."""
    if mantissa is None:
        return None
    if exponent >= 0:
        return str(mantissa * 10**exponent)
    digits = str(abs(mantissa)).rjust(1 - exponent, "0")
    return f"{'-' if mantissa < 0 else ''}{digits[:exponent]}.{digits[exponent:]}"
