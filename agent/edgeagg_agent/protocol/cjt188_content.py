"""What item 901F of a CJ/T 188 meter holds: totals, power, flow, temperatures, clock, status.

Owns the layouts, chosen by the answer's length because meters of one type differ in it, and the
place of the unit codes, which some makers send in front of the number. Pure functions; a layout or
an order of bytes that cannot be told is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from edgeagg_agent.protocol.bcd import decode_bcd, decode_clock
from edgeagg_agent.protocol.cjt188 import quantity, unit_factor

METERED = "901F"  # the present totals
_CLOCK_BYTES = 7
_STATUS_BYTES = 2


@dataclass(frozen=True, slots=True)
class Field:
    """A number of `size` bytes and `decimals`; a unit code belongs to it if it has a quantity."""

    name: str
    size: int
    decimals: int = 0
    quantity: str = ""

    @property
    def length(self) -> int:
        """Bytes it takes, unit code included."""
        return self.size + bool(self.quantity)


_VOLUMES = (Field("volume", 4, 2, "volume"), Field("settled_volume", 4, 2, "volume"))
_HEATS = (Field("settled_heat", 4, 2, "energy"), Field("heat", 4, 2, "energy"))
_TOTAL = Field("volume", 4, 2, "volume")
# by the bytes behind SER; clock and status follow in all of them
LAYOUTS: Mapping[int, tuple[Field, ...]] = {
    19: _VOLUMES,
    43: (
        *_HEATS,
        Field("power", 4, 2, "power"),
        Field("flow", 4, 4, "flow"),
        _TOTAL,
        Field("supply_temperature", 3, 2),
        Field("return_temperature", 3, 2),
        Field("hours", 3),
    ),
    40: (
        *_HEATS,
        Field("power", 3, 2, "power"),
        Field("flow", 3, 3, "flow"),
        _TOTAL,
        Field("supply_temperature", 2, 2),
        Field("return_temperature", 2, 2),
        Field("hours", 4),
    ),
}


@dataclass(frozen=True, slots=True)
class Amount:
    """A number as the meter sent it: mantissa / 10**decimals; `code` is its unit code, if any.

    `mantissa` is None when the bytes hold no digits: the meter does not have this value.
    """

    mantissa: int | None
    decimals: int
    code: int | None

    def value(self, unit: str = "") -> Fraction | None:
        """Return it in `unit`, exactly, or as it is when no unit is named.

        None when there is no number, or the meter's unit measures something else.
        """
        factor = Fraction(1)
        if unit:
            known = None if self.code is None else unit_factor(self.code, unit)
            if known is None:
                return None
            factor = known
        return None if self.mantissa is None else self.mantissa * factor / 10**self.decimals


@dataclass(frozen=True, slots=True)
class Content:
    """One answer: amounts by field name, the meter's clock if it is set, two bytes of status."""

    amounts: Mapping[str, Amount]
    clock: datetime | None
    status: bytes


def unit_first(payload: bytes) -> bool | None:
    """Tell whether the unit codes of item 901F stand in front of their numbers.

    All codes decide together: read at the wrong place, one byte of a number can well be a code.
    None for an unknown length, and where no place holds the right codes or both do.
    """
    fields = LAYOUTS.get(len(payload), ())
    read = {order: _read(payload, fields, unit_first=order) for order in (False, True)}
    found = {order: amounts for order, amounts in read.items() if amounts}
    if len(found) > 1:
        found = {order: amounts for order, amounts in found.items() if _all_digits(amounts)}
    return next(iter(found)) if len(found) == 1 else None


def decode_content(payload: bytes) -> Content | None:
    """Read the payload of item 901F; None for an unknown length or doubtful unit codes."""
    order = unit_first(payload)
    if order is None:
        return None
    amounts = _read(payload, LAYOUTS[len(payload)], unit_first=order)
    clock = payload[-_CLOCK_BYTES - _STATUS_BYTES : -_STATUS_BYTES]
    return Content(amounts, decode_clock(clock), payload[-_STATUS_BYTES:])


def _read(payload: bytes, fields: Sequence[Field], *, unit_first: bool) -> dict[str, Amount]:
    """Read the numbers with the unit codes in one place; none if one is no code of its quantity."""
    amounts: dict[str, Amount] = {}
    start = 0
    for field in fields:
        data = payload[start : start + field.length]
        start += field.length
        code = None
        if field.quantity:
            code, data = (data[0], data[1:]) if unit_first else (data[-1], data[:-1])
            if quantity(code) != field.quantity:
                return {}
        amounts[field.name] = Amount(decode_bcd(data, signed=False), field.decimals, code)
    return amounts


def _all_digits(amounts: Mapping[str, Amount]) -> bool:
    return all(amount.mantissa is not None for amount in amounts.values())
