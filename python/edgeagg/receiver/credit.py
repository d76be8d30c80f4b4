"""How many batches each gateway may have under way, so that all of them fit the receiver's queue.

Pure. The queue is shared evenly between the gateways that were heard of lately: few gateways drain
a backlog fast, a thousand that come back together send one batch each until they have a receipt.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeagg.batch import CREDIT_MAX

QUEUE_MAX = 1024
"""Messages that a receiver lets wait."""
_LATELY_MS = 60_000
_LOOK_MS = 1_000


@dataclass(slots=True)
class Credit:
    """Who was heard of, and the share that follows."""

    _heard_ms: dict[str, int] = field(default_factory=dict)
    _looked_ms: int = 0

    def hear(self, gateway: str, now_ms: int) -> None:
        """Note that a gateway is there."""
        self._heard_ms[gateway] = now_ms

    def grant(self, now_ms: int) -> int:
        """Return the share of one gateway, 1 at least."""
        if abs(now_ms - self._looked_ms) >= _LOOK_MS:
            self._looked_ms = now_ms
            self._heard_ms = {
                gateway: heard_ms
                for gateway, heard_ms in self._heard_ms.items()
                if now_ms - heard_ms < _LATELY_MS
            }
        return min(max(QUEUE_MAX // max(len(self._heard_ms), 1), 1), CREDIT_MAX)
