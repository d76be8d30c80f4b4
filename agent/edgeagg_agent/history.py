"""Local history: what the state directory still holds of readings and windows, found by time.

Day files are read by their indices, and behind them the batches that are in none yet. Reads files
only. It takes no lock and changes nothing, so an agent may run beside it. The index of batches is
the first batch of each segment: it is never lost and never wrong, and takes one entry a segment.
What was not cut into a batch yet is not history.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgeagg._core import CODEC_CM, CodecError, Keyframe, read_first, read_segment
from edgeagg.batch import Batch, BatchKind
from edgeagg.content import Content, anchor_of, decode
from edgeagg.errors import FormatError
from edgeagg.model import Catalogue, Group
from edgeagg_agent import days, epochs, segments
from edgeagg_agent.catalogues import Catalogues
from edgeagg_agent.day_file import Block, BlockKind, DayFile
from edgeagg_agent.days import Day

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_DAY_MS = 86_400_000
_NO_END = 2**63
_AHEAD = 8
_LATE_MS = 120_000
"""How much later than its slot a row may have been recorded, or a window closed, at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which rows are wanted: slots and starts of windows in [since, until), of these meters."""

    since_ms: int
    until_ms: int
    meter: str | None = None
    point: str | None = None
    length_ms: int | None = None
    """Of windows; None: the readings."""

    def wants(self, group: Group) -> bool:
        """Tell whether rows of a group may be wanted."""
        return self.meter in {None, group.meter} and (
            self.point is None or any(point.name == self.point for point in group.points)
        )

    @property
    def last_ms(self) -> int:
        """When the last row asked for is complete."""
        return self.until_ms + (self.length_ms or 0)


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one batch, and how far through the time asked for it is."""

    content: Content
    share: float


@dataclass(frozen=True, slots=True)
class _Segment:
    path: Path
    first: int
    """The sequence that it begins with."""
    cut_at_ms: int
    """Of its first batch."""
    end: int
    """The first sequence of the next one."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A segment that was read."""

    path: Path
    batches: list[Batch]


class History:
    """The day files and batches in a state directory."""

    def __init__(self, directory: Path) -> None:
        """Look into `directory`; a missing one has no history."""
        self.unreadable = 0
        """Batches and pieces of days that were damaged, or whose catalogue is."""
        self._directory = directory
        self._catalogues = Catalogues(directory)
        self._known: dict[bytes, Catalogue | None] = {}

    def catalogues(self) -> list[Catalogue]:
        """Return every catalogue that history was made under."""
        found = {known.hash: known for known in self._catalogues.all()}
        for day in days.listed(self._directory):
            with contextlib.suppress(FileNotFoundError), DayFile(day.path) as file:
                for place, schema in file.schemas().items():
                    if schema not in found and (known := file.catalogue(place)) is not None:
                        found[schema] = known
        return list(found.values())

    def read(self, asked: Asked) -> Iterator[Part]:
        """Yield the parts that may hold what is asked for, epoch by epoch, oldest first.

        Of days one group behind the other, of later batches one batch behind the other.
        """
        # batches before day files: a file that is made in between holds what is skipped of them
        known = epochs.numbers(self._directory)
        own = epochs.history(self._directory, known)
        kept = {epoch: _segments(epochs.batches(self._directory, epoch)) for epoch in known}
        made = days.listed(self._directory)
        with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
            for epoch in sorted({*kept, *(day.epoch for day in made)}):
                for day in made:
                    if day.epoch == epoch:
                        yield from self._of_day(day, asked, threads)
                if epoch in own:
                    first = max(own[epoch].start, days.covered(made, epoch) + 1)
                    wanted = range(first, own[epoch].stop)
                    yield from self._of_batches(kept[epoch], wanted, asked, threads)

    def _of_day(self, day: Day, asked: Asked, threads: ThreadPoolExecutor) -> Iterator[Part]:
        share = _share(day.cut_at_ms, asked)
        span_ms = asked.last_ms - asked.since_ms + 2 * _DAY_MS
        family = BlockKind.READINGS if asked.length_ms is None else BlockKind.WINDOWS
        with contextlib.suppress(FileNotFoundError), DayFile(day.path) as file:
            schemas = file.schemas()
            for place, schema in schemas.items():
                if schema not in self._known or self._known[schema] is None:
                    self._known[schema] = file.catalogue(place) or self._catalogues.find(schema)
            wanted = [
                block
                for block in file.find(family, asked.since_ms, asked.until_ms)
                if self._is_wanted(schemas.get(block.place), block.group, asked)
            ]

            def read(block: Block) -> Content | None:
                catalogue = self._known.get(schemas.get(block.place, b""))
                payload = file.payload(block)
                if payload is None or catalogue is None:
                    return None
                with contextlib.suppress(FormatError):
                    return decode(block.codec, payload, catalogue, None, asked.wants)
                return None

            for content in _ahead(threads, read, wanted):
                if content is None:
                    self.unreadable += 1
                else:
                    yield Part(content, share)
            # where the index is gone nobody knows whose rows are
            if wanted or (file.is_damaged and 0 <= day.cut_at_ms - asked.since_ms <= span_ms):
                self.unreadable += file.lost

    def _is_wanted(self, schema: bytes | None, group: int, asked: Asked) -> bool:
        """Tell whether rows of a group may be wanted; those of an unknown one are, to be told."""
        catalogue = None if schema is None else self._known.get(schema)
        if catalogue is None or group >= len(catalogue.groups):
            return True
        return asked.wants(catalogue.groups[group])

    def _of_batches(
        self, found: list[_Segment], numbers: range, asked: Asked, threads: ThreadPoolExecutor
    ) -> Iterator[Part]:
        """Yield what the batches with these sequences hold."""
        last: _Read | None = None
        for segment in _overlapping(found, asked):
            if segment.end <= numbers.start or segment.first >= numbers.stop:
                continue
            place = found.index(segment)
            before = found[:place][::-1]
            here = _Read(segment.path, self._read(segment.path))
            batches = [
                (batch, keyframe)
                for batch, keyframe in self._wanted(here, before, last, asked)
                if batch.sequence in numbers
            ]
            last = here
            for batch, content in _ahead(threads, lambda b: self._decode(b, asked), batches):
                if content is None:
                    self.unreadable += 1
                else:
                    yield Part(content, _share(batch.cut_at_ms, asked))

    def _wanted(
        self, here: _Read, before: Sequence[_Segment], last: _Read | None, asked: Asked
    ) -> list[tuple[Batch, Keyframe | None]]:
        """Return the data batches of a segment that may hold what is asked for.

        Each with the keyframe that it begins with, which may be in one of the segments `before`, of
        which the nearest is the first; `last` is the one that was read last.
        """
        found = here.batches
        earliest, latest = _bounds([batch.cut_at_ms for batch in found])
        wanted = [
            batch
            for place, batch in enumerate(found)
            # what a batch holds was recorded behind the cut before it
            if batch.kind is BatchKind.DATA
            and (place + 1 == len(found) or latest[place + 1] >= asked.since_ms)
            and (place == 0 or earliest[place - 1] <= asked.last_ms + _LATE_MS)
        ]
        anchors = {batch.sequence: _anchor(batch) for batch in wanted}
        known = {batch.sequence: batch for batch in found}
        missing = {it for it in anchors.values() if it and it not in known}
        for segment in before:
            # batches are as large as segments are, at the most: some lie between the two
            if not missing or segment.end <= min(missing):
                break
            is_last = last is not None and last.path == segment.path
            earlier = last.batches if last and is_last else self._read(segment.path)
            known |= {batch.sequence: batch for batch in earlier}
            missing -= known.keys()
        keyframes = {it: _keyframe(known.get(it)) for it in set(anchors.values()) if it}
        return [(batch, keyframes.get(anchors[batch.sequence])) for batch in wanted]

    def _read(self, path: Path) -> list[Batch]:
        try:
            records = read_segment(path)
        except FileNotFoundError:
            return []  # let go by the agent meanwhile
        found: list[Batch] = []
        for _, _, message in records:
            try:
                found.append(Batch.from_bytes(message))
            except FormatError:
                self.unreadable += 1
        return found

    def _decode(
        self, found: tuple[Batch, Keyframe | None], asked: Asked
    ) -> tuple[Batch, Content | None]:
        batch, keyframe = found
        catalogue = self._catalogue(batch.schema)
        if catalogue is not None:
            with contextlib.suppress(FormatError):
                return batch, decode(batch.codec, batch.payload, catalogue, keyframe, asked.wants)
        return batch, None

    def _catalogue(self, schema: bytes) -> Catalogue | None:
        if schema not in self._known:
            self._known[schema] = self._catalogues.find(schema)
        return self._known[schema]


def _anchor(batch: Batch) -> int:
    """Return the sequence of the keyframe that a batch begins with; 0 when it needs none."""
    with contextlib.suppress(FormatError):
        back = anchor_of(batch.codec, batch.payload)
        return 0 if back is None else batch.sequence - back
    return 0


def _keyframe(batch: Batch | None) -> Keyframe | None:
    """Return what the batch taught; None when it is not kept or no keyframe."""
    if batch is None or batch.codec != CODEC_CM:
        return None
    with contextlib.suppress(CodecError):
        return Keyframe(batch.payload)
    return None


def _segments(folder: Path) -> list[_Segment]:
    """Return the segments of an epoch by their first batches, oldest first."""
    found = []
    known = segments.numbered(folder)
    ends = [*(number for number, _ in known[1:]), _NO_END]
    for (number, path), end in zip(known, ends, strict=True):
        with contextlib.suppress(FileNotFoundError, FormatError):
            first = read_first(path)
            if first is not None:
                found.append(_Segment(path, number, Batch.from_bytes(first[2]).cut_at_ms, end))
    return found


def _overlapping(segments: Sequence[_Segment], asked: Asked) -> list[_Segment]:
    """Return those whose time overlaps what is asked for, also where the clock was set."""
    earliest, latest = _bounds([segment.cut_at_ms for segment in segments])
    return [
        segment
        for place, segment in enumerate(segments)
        # one more than needed: a clock may have been wrong for the first batch alone
        if (place == 0 or earliest[place - 1] <= asked.last_ms + _LATE_MS)
        and (place + 1 == len(segments) or latest[place + 1] >= asked.since_ms)
    ]


def _bounds(cuts_ms: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return for each cut the earliest from it on, and the latest up to it.

    A clock that is set makes cuts go to and fro, but never the slots: none is read twice.
    """
    earliest = list(itertools.accumulate(reversed(cuts_ms), min))[::-1]
    return earliest, list(itertools.accumulate(cuts_ms, max))


def _share(cut_at_ms: int, asked: Asked) -> float:
    span_ms = max(1, asked.last_ms - asked.since_ms)
    return min(1.0, max(0.0, (cut_at_ms - asked.since_ms) / span_ms))


def _ahead(
    threads: ThreadPoolExecutor, work: Callable[[_In], _Out], items: Sequence[_In]
) -> Iterator[_Out]:
    """Yield what the work makes of each item, some at a time: all at once take too much memory."""
    for at in range(0, len(items), _AHEAD):
        yield from threads.map(work, items[at : at + _AHEAD])
