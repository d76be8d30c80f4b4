"""Read the tables of a DL/T 645 or CJ/T 188 profile: points and identity.

Owns what one such table must hold; what the file as a whole must hold is the loader's business.
"""

from __future__ import annotations

import re
from fractions import Fraction

from edgeagg.tomltable import Table, hint
from edgeagg_agent.profile.read_common import (
    read_bounds,
    read_exponent,
    read_kind,
    read_poll,
    read_scale,
    read_unit,
    read_wraps,
)
from edgeagg_agent.profile.schema import (
    ITEM_TYPES,
    STATUS,
    TEXT_TYPES,
    ItemIdentity,
    ItemPoint,
    Layout,
)
from edgeagg_agent.protocol.cjt188 import UNITS as WIRE_UNITS

_LAYOUT_KEYS = "offset_bytes length scale unit_byte reply_bytes"
ITEM_KEYS = (
    f"item type {_LAYOUT_KEYS} layout unit resolution kind poll min max block block_offset_bytes"
    " digits bits wraps_at status"
)
ITEM_IDENTITY_KEYS = "item type offset_bytes length"
_ITEM_DIGITS = {"dlt645-2007": 8, "dlt645-1997": 4, "cjt188": 4}
_REPLY_BYTES_MAX = 200  # of data in one frame: DL/T 645-2007, 5.2.5
_LENGTH_MAX = 8  # 16 digits, what a mantissa can hold
_TEXT_MAX = 64


def read_item(name: str, table: Table, *, protocol: str, status: str) -> ItemPoint:
    """Read [points.<name>]; `status` is what the profile says of all its points."""
    low, high = read_bounds(table)
    scale, kind = read_scale(table), read_kind(table)
    layouts = (
        _layout(table, protocol),
        *(_layout(other, protocol, scale) for other in table.array("layout", _LAYOUT_KEYS)),
    )
    for place, layout in enumerate(layouts[:-1]):
        if layout.reply_bytes in {None, *(later.reply_bytes for later in layouts[place + 1 :])}:
            raise table.error("layout", "more than one for a reply", "another reply_bytes for each")
    unit = read_unit(table)
    if unit not in WIRE_UNITS and any(layout.unit_byte is not None for layout in layouts):
        raise table.error("unit", f"{unit!r} with unit_byte", hint(unit, WIRE_UNITS))
    has_block = table.has("block")
    if table.has("block_offset_bytes") and not has_block:
        raise table.error("block_offset_bytes", "without block", "the item that holds several")
    return ItemPoint(
        name,
        unit,
        read_exponent(table),
        kind,
        _item(table, "item", protocol),
        table.text("type", ITEM_TYPES, ITEM_TYPES[0]),
        layouts,
        low,
        high,
        poll=read_poll(table, kind),
        block=_item(table, "block", protocol) if has_block else None,
        block_offset_bytes=table.integer("block_offset_bytes", 0, _REPLY_BYTES_MAX - 1, 0),
        wraps=read_wraps(table, kind, scale),
        status=table.text("status", STATUS, status),
    )


def read_item_identity(name: str, table: Table, *, protocol: str) -> ItemIdentity:
    """Read [identity.<name>]."""
    return ItemIdentity(
        name,
        _item(table, "item", protocol),
        table.text("type", TEXT_TYPES),
        table.integer("offset_bytes", 0, _REPLY_BYTES_MAX - 1, 0),
        table.integer("length", 1, _TEXT_MAX),
    )


def _layout(table: Table, protocol: str, usual: Fraction | None = None) -> Layout:
    scale = usual if usual is not None and not table.has("scale") else read_scale(table)
    length = table.integer("length", 1, _LENGTH_MAX)
    unit_byte = None
    if table.has("unit_byte"):
        if protocol != "cjt188":
            raise table.error("unit_byte", f"of protocol {protocol}", "only for protocol cjt188")
        unit_byte = table.integer("unit_byte", 0, _REPLY_BYTES_MAX - 1)
    reply_bytes = None
    if table.has("reply_bytes"):
        reply_bytes = table.integer("reply_bytes", 1, _REPLY_BYTES_MAX)
    offset = table.integer("offset_bytes", 0, _REPLY_BYTES_MAX - 1, 0)
    last = max(offset + length - 1, unit_byte or 0)
    if reply_bytes is not None and last >= reply_bytes:
        raise table.error("reply_bytes", str(reply_bytes), f"at least {last + 1}")
    return Layout(offset, length, scale, unit_byte, reply_bytes)


def _item(table: Table, key: str, protocol: str) -> str:
    digits = _ITEM_DIGITS[protocol]
    item = table.text(key)
    if not re.fullmatch(f"[0-9A-F]{{{digits}}}", item):
        raise table.error(key, repr(item), f"{digits} digits of 0-9 and A-F")
    return item
