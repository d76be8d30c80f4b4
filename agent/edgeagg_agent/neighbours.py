"""What slots a batch covered that can no longer be read: those that its neighbours leave out.

The slots of a group follow one another, so what lies between its last one in the batches before and
its first one in those behind was in the batch itself. Where a group was in none of them, the times
of their cuts bound it: what fell due between two cuts is in the batches of the second one at the
latest. Reads batches, and keeps nothing.

What is found may be more than was lost: slots that a later batch declares as missed, those of
batches that can only be read with this one, and what the next batch will hold where there is none
yet. A platform takes slots as lost only as far as nothing else explains them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgeagg._core import KEYFRAME_BACK_MAX, CodecError, Keyframe
from edgeagg.batch import Batch, BatchKind
from edgeagg.model import Catalogue, Group
from edgeagg_agent.losses import Run, covered, keyframe_of
from edgeagg_agent.slots import GAP_MAX_MS

REACH = 2 * KEYFRAME_BACK_MAX
"""How many batches to either side are looked at, at most: beyond those that began with this one."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a batch says of the slots around it: its cut, and the ends of each group in it."""

    cut_at_ms: int
    spans: dict[tuple[object, ...], Run]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """How the batches of an epoch are read; None for what is not there."""

    batch: Callable[[int], Batch | None]
    keyframe: Callable[[int], bytes | None]
    """The payload under a sequence that others may begin with."""
    catalogue: Callable[[bytes], Catalogue | None]

    def slots_of(
        self, sequence: int, first: int, head: int, now_ms: int | None
    ) -> tuple[Catalogue, dict[int, list[Run]]] | None:
        """Return what a sequence between `first` and `head` covered, by groups of a catalogue.

        `now_ms` bounds what the last batch can have held; None: nothing is said of that one. None
        where nobody knows. Blocks.
        """
        before = range(sequence - 1, max(first, sequence - REACH) - 1, -1)
        after = range(sequence + 1, min(head, sequence + REACH) + 1)
        catalogue = self._catalogue_of(before) or self._catalogue_of(after)
        if catalogue is None:
            return None
        begun_ms = self._announced_ms(before, catalogue)
        seen_before = self._look(before, catalogue.groups)
        seen_after = self._look(after, catalogue.groups)
        found: dict[int, list[Run]] = {}
        for number, group in enumerate(catalogue.groups):
            behind_ms = _behind_ms(seen_before, group, begun_ms)
            through_ms = _through_ms(seen_after, group, now_ms)
            if behind_ms is None or through_ms is None:
                continue
            first_ms = (behind_ms // group.period_ms + 1) * group.period_ms
            last_ms = through_ms // group.period_ms * group.period_ms
            if 0 <= last_ms - first_ms <= GAP_MAX_MS:
                found[number] = [(first_ms, last_ms)]
        return catalogue, found

    def _catalogue_of(self, numbers: Iterable[int]) -> Catalogue | None:
        """Return that of the nearest batch that has one."""
        for number in numbers:
            batch = self.batch(number)
            if batch is not None and any(batch.schema):
                return self.catalogue(batch.schema)
        return None

    def _announced_ms(self, numbers: Iterable[int], catalogue: Catalogue) -> int:
        """Return when a catalogue was announced, if that is among these: its groups began there."""
        for number in numbers:
            batch = self.batch(number)
            is_it = batch is not None and batch.kind is BatchKind.CATALOGUE
            if batch is not None and is_it and batch.schema == catalogue.hash:
                return batch.cut_at_ms
        return 0

    def _look(self, numbers: Iterable[int], groups: Sequence[Group]) -> list[Seen]:
        """Look from the nearest on, until every group was seen."""
        wanted = {group.identity for group in groups}
        found: list[Seen] = []
        for number in numbers:
            batch = self.batch(number)
            if batch is None or batch.kind is BatchKind.LOST:
                continue
            seen = Seen(batch.cut_at_ms, self._spans(batch))
            found.append(seen)
            wanted -= seen.spans.keys()
            if not wanted:
                break
        return found

    def _spans(self, batch: Batch) -> dict[tuple[object, ...], Run]:
        """Return the ends of each group in a batch; nothing of one that cannot be decoded."""
        spans: dict[tuple[object, ...], Run] = {}
        catalogue, begins = self.catalogue(batch.schema), keyframe_of(batch)
        if batch.kind is not BatchKind.DATA or catalogue is None or begins is None:
            return spans
        payload = None if begins == batch.sequence else self.keyframe(begins)
        try:
            keyframe = None if payload is None else Keyframe(payload)
            for number, runs in covered(batch, catalogue, keyframe):
                identity = catalogue.groups[number].identity
                ends = [*runs, *([spans[identity]] if identity in spans else [])]
                if ends:
                    spans[identity] = min(a for a, _ in ends), max(b for _, b in ends)
        except CodecError:
            return {}
        return spans


def _behind_ms(before: Sequence[Seen], group: Group, begun_ms: int) -> int | None:
    """Return behind which moment the slots of a group are missing."""
    for seen in before:
        if group.identity in seen.spans:
            return seen.spans[group.identity][1]
    return max(before[-1].cut_at_ms, begun_ms) if before else None


def _through_ms(after: Sequence[Seen], group: Group, now_ms: int | None) -> int | None:
    """Return up to which moment they are."""
    for seen in after:
        if group.identity in seen.spans:
            return seen.spans[group.identity][0] - group.period_ms
    return after[-1].cut_at_ms if after else now_ms
