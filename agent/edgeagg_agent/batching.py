"""From cuts to sealed batches: numbers, keyframes, signatures.

Makes bytes and counts them; what is kept, and when, is the recorder's matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeagg._core import CODEC_DELTA, KEYFRAME_BACK_MAX, Cut, Keyframe, decode
from edgeagg.batch import SCHEMA_BYTES, Batch, BatchKind, NewKey
from edgeagg.model import Catalogue
from edgeagg.seal import Signer
from edgeagg.statement import DayBook, Span, Tally, encode
from edgeagg_agent.outbox import Outbox

_STATED_MAX = 256  # days of groups in one batch


@dataclass(slots=True)
class Counters:
    """What was recorded since the start, in point slots, and the batches cut."""

    values: int = 0
    reasons: int = 0
    missed: int = 0
    windows: int = 0
    batches: int = 0
    batch_bytes: int = 0
    damaged: int = 0
    refusals: int = 0
    not_kept: int = 0


@dataclass(slots=True)
class Unkept:
    """A cut on its way into the outbox, whose first batch has the sequence `first`."""

    parts: Sequence[Cut]
    now_ms: int
    snapshot: bytes
    first: int
    keyframe: int
    batches: list[bytes] | None = None


class Batcher:
    """Makes the batches of one gateway, which the outbox's key signs."""

    def __init__(self, gateway: str, outbox: Outbox, counters: Counters) -> None:
        self._gateway, self._outbox, self._counters = gateway, outbox, counters
        self._keyframe: tuple[int, Keyframe] | None = None

    def data(
        self,
        first: int,
        parts: Sequence[Cut],
        schema: bytes,
        now_ms: int,
        *,
        keyframe: int,
        codec: int | None,
    ) -> list[bytes]:
        """Encode the parts of a cut, numbered on from `first`; count those the outbox has not yet.

        `keyframe` is the sequence that they may refer to, 0 for none; `codec` that of all payloads,
        None for whichever makes the fewest bytes.
        """
        messages = []
        for sequence, part in enumerate(parts, start=first):
            encoded = part.encode(codec, anchor=self._anchor(keyframe, sequence))
            messages.append(self._message(sequence, BatchKind.DATA, schema, now_ms, *encoded))
            if sequence <= self._outbox.head:
                continue  # a former run made it, kept it and counted it
            values, reasons, missed, windows = part.counts
            self._counters.values += values
            self._counters.reasons += reasons
            self._counters.missed += missed
            self._counters.windows += windows
            self._counters.batches += 1
            self._counters.batch_bytes += len(messages[-1])
        return messages

    def statements(
        self, first: int, days: Sequence[tuple[Span, Tally]], schema: bytes, now_ms: int
    ) -> list[bytes]:
        """State days, numbered on from `first`."""
        stated = [days[at : at + _STATED_MAX] for at in range(0, len(days), _STATED_MAX)]
        return [
            self._message(sequence, BatchKind.STATEMENT, schema, now_ms, 0, encode(entries))
            for sequence, entries in enumerate(stated, start=first)
        ]

    def catalogue(self, catalogue: Catalogue, now_ms: int) -> bytes:
        """Announce a catalogue in the next batch."""
        body = catalogue.to_bytes()
        return self._next(BatchKind.CATALOGUE, catalogue.hash, now_ms, body)

    def key(self, following: Signer, former: Signer, now_ms: int) -> bytes:
        """Announce the key that follows in the next batch, which the former one signs."""
        body = NewKey.make(following, self._gateway, former.public).to_bytes()
        return self._next(BatchKind.KEY, bytes(SCHEMA_BYTES), now_ms, body)

    def _next(self, kind: BatchKind, schema: bytes, now_ms: int, body: bytes) -> bytes:
        return self._message(self._outbox.head + 1, kind, schema, now_ms, 0, body)

    def _message(
        self, sequence: int, kind: BatchKind, schema: bytes, now_ms: int, codec: int, body: bytes
    ) -> bytes:
        epoch = self._outbox.epoch
        batch = Batch(self._gateway, epoch, sequence, kind, schema, now_ms, codec, body)
        return batch.to_bytes(self._outbox.signer)

    def _anchor(self, keyframe: int, sequence: int) -> tuple[Keyframe, int] | None:
        """Return the keyframe and how far back it is, None if there is none near enough.

        One that a replayed cut no longer finds was trimmed: the batch is self-contained then, and
        nobody knows another, for a batch that was sent is kept and not made again.
        """
        if not keyframe or sequence - keyframe > KEYFRAME_BACK_MAX:
            return None
        if self._keyframe is None or self._keyframe[0] != keyframe:
            payload = self._outbox.keyframe_payload(keyframe)
            if payload is None:
                return None
            self._keyframe = keyframe, Keyframe(payload)
        return self._keyframe[1], sequence - keyframe


def days_over(
    days: DayBook, parts: Sequence[Cut], now_ms: int | None
) -> Sequence[tuple[Span, Tally]]:
    """Add what was cut to the book of days, and take out those over at `now_ms`; None: all."""
    for part in parts:
        # what the smaller codec makes takes longer to read than to make again the fast way
        days.fold(decode(*part.encode(CODEC_DELTA)))
    return days.take(now_ms)
