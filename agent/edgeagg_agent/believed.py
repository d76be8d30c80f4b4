"""What of a receipt is believed: the sequences that a platform has with our own content.

Pure. A number that the gateway and the platform both know may stand for two batches where a state
directory was put back. So a receipt tells how the messages hash that it is about, and only what was
compared counts as delivered; anything else is sent again, which changes nothing where it is the
same, and brings a receipt that tells. Bounded: runs, as many as a receipt has and its window opens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from edgeagg.batch import CHECK_BYTES, Range, Receipt

NOTHING = bytes(CHECK_BYTES)
"""The check of a platform that does not tell, and of a sequence that is declared lost there."""
_RUNS_MAX = 512


class Believed:
    """The sequences of one epoch that were compared with what one platform has."""

    def __init__(self, through: int) -> None:
        """Begin with what a former run believed."""
        self._runs: list[Range] = [(1, through)] if through else []
        self._server_ms = 0

    def compare(self, receipt: Receipt, own: Callable[[int], bytes | None]) -> int | None:
        """Take in what a receipt tells; return a sequence of which it has other bytes, if any.

        `own` returns how our message of a sequence hashes; None where it is no longer kept, which
        cannot be compared: what would be sent instead is the word that it is lost, and that changes
        nothing where anything is.
        """
        # one that is declared lost there has a check as the last one, and zeros among the others
        last = [(receipt.last, receipt.check)] if receipt.check != NOTHING else []
        for sequence, check in (*receipt.checks, *last):
            if not sequence or self._has(sequence):
                continue
            kept = None if check == NOTHING else own(sequence)
            if kept not in {None, check}:
                return sequence
            self._add(sequence)
        return None

    def of(self, receipt: Receipt) -> Receipt:
        """Return what of a receipt is believed, and forget what it no longer holds."""
        if receipt.check == NOTHING and not receipt.checks:
            return receipt  # a platform that tells nothing of its messages
        held = [(1, receipt.through)] if receipt.through else []
        known = _both([*held, *sorted(receipt.ranges)], self._runs)
        if receipt.server_ms >= self._server_ms:
            # an older one, overtaken, says nothing of what came since
            self._server_ms, self._runs = receipt.server_ms, known[:_RUNS_MAX]
        through = known[0][1] if known and known[0][0] == 1 else 0
        return replace(receipt, through=through, ranges=tuple(known[1 if through else 0 :]))

    def _has(self, sequence: int) -> bool:
        return any(first <= sequence <= last for first, last in self._runs)

    def _add(self, sequence: int) -> None:
        self._runs = _joined([*self._runs, (sequence, sequence)])


def _joined(runs: Iterable[Range]) -> list[Range]:
    joined: list[Range] = []
    for first, last in sorted(runs):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = joined[-1][0], max(joined[-1][1], last)
        else:
            joined.append((first, last))
    return joined


def _both(some: Iterable[Range], others: Iterable[Range]) -> list[Range]:
    """Return what lies in both."""
    found = [
        (max(first, begin), min(last, end))
        for first, last in some
        for begin, end in others
        if max(first, begin) <= min(last, end)
    ]
    return _joined(found)
