"""Where the unit codes stand in item 901F of a CJ/T 188 meter: before or behind their numbers.

Owns nothing but that: what the numbers mean is a profile's business. Pure functions; a place that
cannot be told is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgeagg_agent.protocol.bcd import decode_digits
from edgeagg_agent.protocol.cjt188 import quantity

METERED = "901F"  # the present totals

# by the bytes behind SER, because meters of one type differ: the numbers that have a unit code, as
# bytes and what the code must measure. Temperatures, hours, clock and status follow without one.
_CODED: Mapping[int, tuple[tuple[int, str], ...]] = {
    19: ((4, "volume"), (4, "volume")),
    40: ((4, "energy"), (4, "energy"), (3, "power"), (3, "flow"), (4, "volume")),
    43: ((4, "energy"), (4, "energy"), (4, "power"), (4, "flow"), (4, "volume")),
}
LENGTHS = frozenset(_CODED)
"""The lengths of payloads whose unit codes can be told."""


def unit_first(payload: bytes) -> bool | None:
    """Tell whether the unit codes of item 901F stand in front of their numbers.

    All codes decide together: read at the wrong place, one byte of a number can well be a code.
    None for an unknown length, and where no place holds the right codes or both do.
    """
    if len(payload) not in LENGTHS:
        return None
    found = [order for order in (False, True) if _has_codes(payload, unit_first=order)]
    if len(found) > 1:
        found = [order for order in found if _has_digits(payload, unit_first=order)]
    return found[0] if len(found) == 1 else None


def _has_codes(payload: bytes, *, unit_first: bool) -> bool:
    return all(
        quantity(code) == wanted for code, _, wanted in _numbers(payload, unit_first=unit_first)
    )


def _has_digits(payload: bytes, *, unit_first: bool) -> bool:
    return all(
        decode_digits(number) is not None
        for _, number, _ in _numbers(payload, unit_first=unit_first)
    )


def _numbers(payload: bytes, *, unit_first: bool) -> Iterator[tuple[int, bytes, str]]:
    """Give every unit code with its number and what it must measure."""
    start = 0
    for size, wanted in _CODED[len(payload)]:
        data = payload[start : start + size + 1]
        start += size + 1
        yield (data[0], data[1:], wanted) if unit_first else (data[-1], data[:-1], wanted)
