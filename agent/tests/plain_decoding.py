"""The rules of decoding as plain fractions: what the core is compared with."""

import math
from fractions import Fraction

from edgeagg.model import Quality
from edgeagg_agent.profile import MANTISSA_MAX, REGISTER_COUNTS
from edgeagg_agent.profile.registers import read_raw

IMPLAUSIBLE = (None, Quality.IMPLAUSIBLE)


def decode_plainly(point, data, ratios):
    """Return what `profile.decode` must return for the point's registers as bytes."""
    bits, raw = read_raw(data[: 2 * REGISTER_COUNTS[point.type]], point.type, point.order)
    if raw is None or bits in point.invalid or not math.isfinite(raw):
        return IMPLAUSIBLE
    value = (Fraction(raw) + point.offset) * point.scale
    if point.plus is not None:
        part = point.plus
        _, more = read_raw(data[2 * (part.register - point.register) :], part.type, part.order)
        if more is None or not math.isfinite(more):
            return IMPLAUSIBLE
        value += Fraction(more) * part.scale
    for name in point.ratios:
        value *= ratios[name]
    step = Fraction(10) ** point.exponent
    mantissa = round(value / step)  # half to even
    if abs(mantissa) > MANTISSA_MAX:
        return IMPLAUSIBLE
    if point.min is not None and mantissa * step < point.min:
        return IMPLAUSIBLE
    if point.max is not None and mantissa * step > point.max:
        return IMPLAUSIBLE
    return mantissa, Quality.GOOD
