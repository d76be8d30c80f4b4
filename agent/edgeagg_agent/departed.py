"""From one catalogue to the next: where the groups stand that go on, and those that may come back.

A meter that is taken out of the site file and put back goes on behind its last slot, so that what
fell due in between is declared.
"""

from __future__ import annotations

import hashlib
import itertools
import struct

import msgpack

from edgeagg._core import Aggregator
from edgeagg.model import Catalogue, Group, Quality
from edgeagg_agent.judging import make_aggregator

_KEY_BYTES = 16
_ENTRY = struct.Struct(f"<{_KEY_BYTES}sq")  # which group, its last slot
_KEPT_MAX = 1024


class Departed:
    """The last slots of groups that the catalogue in use does not have."""

    def __init__(self) -> None:
        self._last_due_ms: dict[bytes, int] = {}

    def change(
        self, former: Catalogue, read: Aggregator, catalogue: Catalogue, now_ms: int
    ) -> Aggregator:
        """Return an aggregator for another catalogue, whose groups go on behind their last slots.

        `read` is that of the former one, with nothing left to cut.
        """
        for number, group in enumerate(former.groups):
            last_due_ms = read.last_due_ms(number)
            if last_due_ms is not None:
                self._last_due_ms[_key(group)] = last_due_ms
        aggregator = make_aggregator(catalogue)
        for number, group in enumerate(catalogue.groups):
            last_due_ms = self._last_due_ms.pop(_key(group), None)
            if last_due_ms is not None:
                aggregator.push_gap(number, last_due_ms, last_due_ms, 1, Quality.STOPPED)
        while aggregator.cut(now_ms) is not None:
            pass  # those slots were delivered under a former catalogue
        return aggregator

    def to_bytes(self) -> bytes:
        """Return what a checkpoint keeps: no more than 1024 groups, those that went last."""
        first = max(0, len(self._last_due_ms) - _KEPT_MAX)
        kept = itertools.islice(self._last_due_ms.items(), first, None)
        return b"".join(_ENTRY.pack(*entry) for entry in kept)

    def restore(self, data: bytes) -> None:
        """Take over what `to_bytes` made."""
        self._last_due_ms = dict(_ENTRY.iter_unpack(data))


def _key(group: Group) -> bytes:
    return hashlib.sha256(msgpack.packb(group.identity)).digest()[:_KEY_BYTES]
