"""Which meter hangs there: its serial number, how it is asked for, what of it is believed.

Pure. Owns which of a profile's identities is the serial number; asking is the reader's business.
"""

from __future__ import annotations

from edgeagg_agent.asking import ItemRead, Read
from edgeagg_agent.plan import Block
from edgeagg_agent.profile import Profile, decode_identity, decode_item_identity

EVERY_MS = 3_600_000
_NAME = "serial_number"
_BLANK = frozenset("0?Ff .-")  # of a meter that has none, or is not yet awake


def serial_read(profile: Profile) -> Read | None:
    """Return the read that fetches the serial number; None where the profile knows none."""
    for identity in profile.identity:
        if identity.name == _NAME:
            return Block(identity.function, identity.register, identity.count)
    for item in profile.item_identity:
        if item.name == _NAME:
            return ItemRead(item.item, (), item.offset_bytes + item.length)
    return None


def serial_text(profile: Profile, payload: bytes) -> str:
    """Return the serial number in an answer; "" where it holds none."""
    texts = [decode_identity(one, payload) for one in profile.identity if one.name == _NAME]
    texts += [decode_item_identity(o, payload) for o in profile.item_identity if o.name == _NAME]
    text = texts[0] if texts else ""
    return "" if set(text) <= _BLANK else text


def is_due(asked_ms: int | None, now_ms: int, *, was_silent: bool) -> bool:
    """Tell whether it is time to ask: at first, each hour, and behind a silence.

    A meter cannot be replaced without falling silent; the hour is for those that were silent
    between two scans only.
    """
    if asked_ms is None or was_silent:
        return True
    return not 0 <= now_ms - asked_ms < EVERY_MS
