"""The slots of batches that were let go before every destination had them.

A batch that is lost is declared under its sequence; what it held would stay unexplained. So what
slots it covered is kept here, as runs, and travels with the word that it is lost. It is written on
a full disk, so the room for it is taken while there is some. What cannot be read any more covers
nothing known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgpack

from edgeagg._core import (
    KEYFRAME_BACK_MAX,
    Aggregator,
    CodecError,
    Keyframe,
    anchor_of,
    decode,
)
from edgeagg.batch import Batch, BatchKind
from edgeagg.model import Catalogue, Quality
from edgeagg_agent.two_slots import TwoSlots

_READINGS, _GAPS = 1, 3
_RUNS_MAX = 1024
_SLOT_BYTES = 64 << 10  # 1024 runs, and some keyframes
_SAID_EVERY = 64
"""A platform may have the last lost batch, and then needs the word of another one."""

Run = tuple[int, int]
"""The first and the last slot of a run, by due times."""


@dataclass(slots=True)
class _Lost:
    """What was lost under one catalogue: the last sequence, and each group's runs."""

    last: int = 0
    runs: dict[int, list[Run]] = field(default_factory=dict)


class Losses:
    """The lost slots of one epoch, by catalogue."""

    def __init__(self, directory: Path, epoch: int) -> None:
        """Take up what a former run kept."""
        self._file = TwoSlots(directory / f"lost-{epoch}", _SLOT_BYTES, is_synced=True)
        self._lost: dict[bytes, _Lost] = {}
        self._keyframes: dict[int, bytes] = {}
        self._is_kept = True
        with contextlib.suppress(ValueError, TypeError):
            self._load(self._file.value)

    def reserve(self) -> None:
        """Take the room of the file, if it has none yet. Blocks; OSError when there is none."""
        self._file.reserve()

    def note_keyframe(self, sequence: int, payload: bytes) -> None:
        """Remember a keyframe that is let go: the next batches may begin with it."""
        self._keyframes[sequence] = payload
        for old in [one for one in self._keyframes if one <= sequence - KEYFRAME_BACK_MAX]:
            del self._keyframes[old]
        self._is_kept = False

    def note(self, batch: Batch, catalogue: Catalogue, keyframe: bytes | None) -> None:
        """Remember what slots a batch covers that is let go; `keyframe` is what it begins with."""
        lost = self._lost.setdefault(batch.schema, _Lost())
        lost.last = max(lost.last, batch.sequence)
        self._is_kept = False
        with contextlib.suppress(CodecError):
            known = Keyframe(keyframe) if keyframe is not None else None
            for group, runs in covered(batch, catalogue, known):
                period_ms = catalogue.groups[group].period_ms
                lost.runs[group] = _merged([*lost.runs.get(group, ()), *runs], period_ms)

    def keyframe(self, sequence: int) -> bytes | None:
        """Return a keyframe that was let go not long ago."""
        return self._keyframes.get(sequence)

    def forget(self, delivered: int) -> None:
        """Forget what every destination has heard of: all up to this sequence."""
        over = [schema for schema, lost in self._lost.items() if lost.last <= delivered]
        for schema in over:
            del self._lost[schema]
            self._is_kept = False

    def of(self, sequence: int) -> bytes | None:
        """Return under which catalogue there is something to say with this lost sequence."""
        for schema, lost in self._lost.items():
            is_turn = sequence == lost.last or (
                sequence < lost.last and sequence % _SAID_EVERY == 0
            )
            if is_turn and lost.runs:
                return schema
        return None

    def runs(self, schema: bytes) -> dict[int, list[Run]]:
        """Return all runs lost under a catalogue, by group."""
        return self._lost[schema].runs

    def keep(self) -> None:
        """Write the file if anything has changed. Blocks; a disk that refuses is asked again."""
        if self._is_kept:
            return
        with contextlib.suppress(OSError):
            self._file.write(self._to_bytes())
            self._is_kept = True

    def _to_bytes(self) -> bytes:
        """Return what has room in a slot: the last runs, then as many keyframes, the last first."""
        lost = [
            [schema, one.last, [[group, *map(list, runs)] for group, runs in _last(one.runs)]]
            for schema, one in self._lost.items()
        ]
        keyframes: list[list[object]] = []
        body: bytes = msgpack.packb([lost, keyframes])
        for sequence, payload in sorted(self._keyframes.items(), reverse=True):
            keyframes.append([sequence, payload])
            more: bytes = msgpack.packb([lost, keyframes])
            if len(more) > self._file.bytes_max:
                break
            body = more
        return body

    def _load(self, body: bytes) -> None:
        if not body:
            return
        lost, keyframes = msgpack.unpackb(body)
        for schema, last, groups in lost:
            runs = {group: [(first, end) for first, end in found] for group, *found in groups}
            self._lost[schema] = _Lost(last, runs)
        self._keyframes = dict(keyframes)


def _last(runs: Mapping[int, Sequence[Run]]) -> list[tuple[int, Sequence[Run]]]:
    """Return no more runs than there is room for, by group, the last ones of each."""
    left = _RUNS_MAX
    found = []
    for group, of_group in sorted(runs.items()):
        if left:
            found.append((group, of_group[-left:]))
        left = max(0, left - len(of_group))
    return found


def is_keyframe(batch: Batch) -> bool:
    """Tell whether other batches may begin with what this one taught, as far as can be seen."""
    return batch.kind is BatchKind.DATA and keyframe_of(batch) == batch.sequence


def keyframe_of(batch: Batch) -> int | None:
    """Return the sequence of the keyframe that a batch begins with; its own where it needs none."""
    try:
        back = anchor_of(batch.codec, batch.payload)
    except CodecError:
        return None
    return batch.sequence - (back or 0)


def as_gaps(catalogue: Catalogue, *lost: Mapping[int, Sequence[Run]]) -> tuple[int, bytes] | None:
    """Return codec and payload of lost runs by group, as gaps; None where there are none."""
    core = Aggregator([(g.period_ms, [False] * len(g.points)) for g in catalogue.groups], [])
    merged = {
        number: _merged((run for each in lost for run in each.get(number, ())), group.period_ms)
        for number, group in enumerate(catalogue.groups)
    }
    for number, runs in _last(merged):
        period_ms = catalogue.groups[number].period_ms
        for first_ms, last_ms in runs:
            slots = (last_ms - first_ms) // period_ms + 1
            core.push_gap(number, first_ms, last_ms, slots, Quality.NOT_KEPT)
    part = core.cut(0)
    return None if part is None else part.encode()


def covered(
    batch: Batch, catalogue: Catalogue, keyframe: Keyframe | None
) -> Iterator[tuple[int, list[Run]]]:
    """Yield the runs of each table of readings and gaps."""
    for kind, group, _, _, columns in decode(batch.codec, batch.payload, keyframe):
        if group >= len(catalogue.groups):
            continue
        if kind == _READINGS:
            yield group, [(due, due) for due in columns[0] if due is not None]
        elif kind == _GAPS:
            ends = zip(columns[0], columns[1], strict=True)
            yield group, [(a, b) for a, b in ends if a is not None and b is not None]


def _merged(runs: Iterable[Run], period_ms: int) -> list[Run]:
    """Return runs in order, those that follow one another as one; the last ones, if too many."""
    merged: list[Run] = []
    for first_ms, last_ms in sorted(runs):
        if merged and first_ms <= merged[-1][1] + period_ms:
            merged[-1] = merged[-1][0], max(merged[-1][1], last_ms)
        else:
            merged.append((first_ms, last_ms))
    return merged[-_RUNS_MAX:]
