"""From the data of a DL/T 645 or CJ/T 188 reply to a scaled integer, exactly.

Owns the choice of the layout by the reply's length, and the units that CJ/T 188 sends along. The
frames and the BCD digits are the protocols' business.
"""

from __future__ import annotations

from fractions import Fraction

from edgeagg.model import Quality
from edgeagg_agent.profile.decoding import printable, to_mantissa
from edgeagg_agent.profile.schema import ItemIdentity, ItemPoint, Layout
from edgeagg_agent.protocol.bcd import decode_bcd
from edgeagg_agent.protocol.cjt188 import unit_factor
from edgeagg_agent.protocol.cjt188_units import LENGTHS, METERED, unit_first

_NOTHING = (None, Quality.IMPLAUSIBLE)


def decode_item(
    point: ItemPoint, payload: bytes, *, is_block: bool = False
) -> tuple[int | None, Quality]:
    """Return (mantissa, GOOD), or (None, IMPLAUSIBLE) for what the meter or the profile rules out.

    `payload` is the data of the item, or with `is_block` that of the item `point.block`. A reply
    that fits no layout of the point, digits that are none and a unit code that cannot be turned
    into the point's unit are implausible: nothing else in a frame tells a wrong layout.
    """
    for layout in point.layouts:
        if layout.reply_bytes in {None, len(payload)} or is_block:
            start = point.block_offset_bytes if is_block else layout.offset_bytes
            return _decode(point, layout, payload, start)
    return _NOTHING


def _decode(
    point: ItemPoint, layout: Layout, payload: bytes, start: int
) -> tuple[int | None, Quality]:
    data = payload[start : start + layout.length]
    if len(data) < layout.length:
        return _NOTHING
    scale: Fraction | None = layout.scale
    if layout.unit_byte is not None:
        if layout.unit_byte >= len(payload):
            return _NOTHING
        # A byte of a number can well be a unit code: all codes of the reply tell where they stand.
        is_first = layout.unit_byte < start
        if (
            point.item == METERED
            and len(payload) in LENGTHS
            and unit_first(payload) is not is_first
        ):
            return _NOTHING
        factor = unit_factor(payload[layout.unit_byte], point.unit)
        scale = None if factor is None else layout.scale * factor
    if point.type == "bin":
        raw: int | None = int.from_bytes(data, "little")
    else:
        raw = decode_bcd(data, signed=point.type == "bcd-signed")
    if raw is None or scale is None:
        return _NOTHING
    top, bottom = raw * scale.numerator, scale.denominator
    return to_mantissa(top, bottom, point.exponent, point.min, point.max)


def decode_item_identity(identity: ItemIdentity, payload: bytes) -> str:
    """Return what the meter tells of itself; "" where the reply is too short to tell.

    Bytes travel low first, those of a text as well.
    """
    data = payload[identity.offset_bytes : identity.offset_bytes + identity.length][::-1]
    if len(data) < identity.length:
        return ""
    return printable(data) if identity.type == "str" else data.hex()


def item_wraps_at(point: ItemPoint) -> Fraction | None:
    """Return the value at which a totaliser begins anew, in its unit; None where nobody can say.

    It is what the profile states, else the digits of the item. With a sign or a unit code on the
    wire the digits alone do not tell.
    """
    first = point.layouts[0]
    if point.wraps is not None or point.type != "bcd" or first.unit_byte is not None:
        return point.wraps
    return Fraction(100) ** first.length * first.scale
