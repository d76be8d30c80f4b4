"""From batches to the blocks of a day file, in pieces of work short enough to be done in between.

Decides what of a batch is history: rows of all kinds, and statements as they were signed. When a
file is made, and of which batches, is the historian's matter.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator

from edgeagg._core import (
    CODEC_CM,
    KEYFRAME_BACK_MAX,
    CodecError,
    Keyframe,
    Sorter,
    anchor_of,
)
from edgeagg.batch import Batch, BatchKind
from edgeagg_agent.catalogues import Catalogues
from edgeagg_agent.day_file import BlockKind, Writer, packed


class Draft:
    """What is to become one day file."""

    def __init__(self, writer: Writer, catalogues: Catalogues) -> None:
        """Write to `writer`, which the caller finishes."""
        self.lost = 0
        """Batches that cannot be read."""
        self._writer, self._catalogues = writer, catalogues
        self._sorter = Sorter()
        self._place = 0
        self._known: dict[bytes, bytes] = {}
        self._recent: deque[Batch] = deque(maxlen=KEYFRAME_BACK_MAX)
        self._keyframe: tuple[int, Keyframe] | None = None

    def remember(self, batch: Batch | None) -> None:
        """Keep in mind a batch that those to come may begin with."""
        if batch is not None and batch.kind is BatchKind.DATA:
            self._recent.append(batch)

    def take(self, batch: Batch | None, message: bytes) -> Iterator[None]:
        """Take in the next batch, which is None where `message` is none. Blocks; OSError."""
        if batch is None:
            self.lost += 1
        elif batch.kind is BatchKind.STATEMENT:
            yield from self._turn_to(batch.schema)
            span_ms = batch.cut_at_ms, batch.cut_at_ms
            self._writer.add(BlockKind.MESSAGE, message, place=self._place, span_ms=span_ms)
        elif batch.kind is BatchKind.DATA:
            yield from self._turn_to(batch.schema)
            try:
                self._sorter.take(batch.codec, batch.payload, self._keyframe_of(batch))
            except CodecError:
                self.lost += 1
            yield
            yield from self._drain(everything=False)
        self.remember(batch)

    def finish(self) -> Iterator[None]:
        """Write what waits. Blocks; OSError."""
        yield from self._drain(everything=True)
        # each twice: without its catalogue a block can be read and not be understood
        for place, payload in enumerate(self._known.values()):
            self._writer.add(BlockKind.CATALOGUE, payload, place=place)

    def _turn_to(self, schema: bytes) -> Iterator[None]:
        """Let what follows stand under this catalogue."""
        if schema not in self._known:
            self._known[schema] = packed(schema, self._catalogues.body(schema))
            place = len(self._known) - 1
            self._writer.add(BlockKind.CATALOGUE, self._known[schema], place=place)
        place = list(self._known).index(schema)
        if place != self._place:
            yield from self._drain(everything=True)
            self._place = place

    def _drain(self, *, everything: bool) -> Iterator[None]:
        while (piece := self._sorter.pop(everything=everything)) is not None:
            group, family, first_ms, last_ms, codec, payload = piece
            self._writer.add(
                BlockKind(family),
                payload,
                place=self._place,
                codec=codec,
                group=group,
                span_ms=(first_ms, last_ms),
            )
            yield

    def _keyframe_of(self, batch: Batch) -> Keyframe | None:
        """Return what a batch begins with; None when it needs nothing, or nothing is there."""
        back = anchor_of(batch.codec, batch.payload)
        if back is None:
            return None
        sequence = batch.sequence - back
        if self._keyframe is None or self._keyframe[0] != sequence:
            self._keyframe = None
            found = next((known for known in self._recent if known.sequence == sequence), None)
            if found is not None and found.codec == CODEC_CM:
                with contextlib.suppress(CodecError):
                    self._keyframe = sequence, Keyframe(found.payload)
        return None if self._keyframe is None else self._keyframe[1]
