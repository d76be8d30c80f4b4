"""Meter profiles: what a profile is, and from a meter's answer to a reading.

A profile is a data file that names a meter model's points: where they stand, how they are coded,
at which resolution they are kept. This package reads the files and decodes answers by them. It
talks to no meter and knows no unit id.
"""

from edgeagg_agent.profile.compiling import MANTISSA_MAX, compiled, factors
from edgeagg_agent.profile.decoding import (
    decode,
    decode_identity,
    decode_ratio,
    matches,
    wraps_at,
)
from edgeagg_agent.profile.items import decode_item, decode_item_identity, item_wraps_at
from edgeagg_agent.profile.loader import SHIPPED, load, names
from edgeagg_agent.profile.registers import ORDERS, REGISTER_COUNTS
from edgeagg_agent.profile.schema import (
    KINDS,
    Check,
    Identity,
    ItemIdentity,
    ItemPoint,
    Layout,
    Limits,
    Part,
    Point,
    Poll,
    Profile,
    Ratio,
    Serial,
    Span,
    Sum,
    SunSpec,
)

__all__ = [
    "KINDS",
    "MANTISSA_MAX",
    "ORDERS",
    "REGISTER_COUNTS",
    "SHIPPED",
    "Check",
    "Identity",
    "ItemIdentity",
    "ItemPoint",
    "Layout",
    "Limits",
    "Part",
    "Point",
    "Poll",
    "Profile",
    "Ratio",
    "Serial",
    "Span",
    "Sum",
    "SunSpec",
    "compiled",
    "decode",
    "decode_identity",
    "decode_item",
    "decode_item_identity",
    "decode_ratio",
    "factors",
    "item_wraps_at",
    "load",
    "matches",
    "names",
    "wraps_at",
]
