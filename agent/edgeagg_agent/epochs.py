"""Which epoch a state directory is in, and how the next one begins when others used its numbers.

Owns the folders' names. A gateway whose state was put back from an older copy, or copied, would use
numbers that a platform has already; it takes everything that no platform is known to have from it
into a new epoch instead, under new numbers. What it cannot know (what its state held after the copy
was made) is on the platform already or gone; the slots in between are declared as not read.

What it takes along then stands in two folders. A note beside the new one says which of the two
history is made of, so that no row counts twice.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeagg._core import Journal
from edgeagg.batch import Batch, BatchKind, Origin
from edgeagg.disk import sync
from edgeagg.seal import Signer
from edgeagg_agent.catalogues import Catalogues

_SEGMENT_BYTES = 1 << 20
_RECORD_BATCH = 1
_HOUR_MS = 3_600_000
BATCHES, READINGS, ORIGIN = "batches-", "readings-", "origin-"
_UNFINISHED = "unfinished-"
SEQUENCE_MAX = 2**63 - 2
"""Beyond any that a journal gives."""


def numbers(directory: Path, kind: str = BATCHES) -> list[int]:
    """Return the epochs that have a folder of this kind in `directory`, oldest first."""
    found = []
    for folder in directory.glob(f"{kind}*"):
        with contextlib.suppress(ValueError):
            found.append(int(folder.name.removeprefix(kind)))
    return sorted(found)


def batches(directory: Path, epoch: int) -> Path:
    """Return the folder of an epoch's batches."""
    return directory / f"{BATCHES}{epoch}"


def name_ms(now_ms: int, *, is_right: bool, below: Callable[[int], int]) -> int:
    """Return what an epoch without a former one is named after: the time it begins.

    Where nobody vouches for that (`is_right`), a part of an hour is drawn from `below` and added: a
    clock that was never set says the same each time a store is lost. Of no more, for a later epoch
    should have the greater number where the time was right after all.
    """
    return now_ms if is_right else now_ms + below(_HOUR_MS)


def current(directory: Path, now_ms: int) -> int:
    """Return the newest epoch kept, or open one, named after the time it begins."""
    for path in directory.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path)
    epoch = max(numbers(directory), default=now_ms)
    former = beginning(directory, epoch).former
    readings, own = directory / f"{READINGS}{former}", directory / f"{READINGS}{epoch}"
    if former and readings.exists() and not own.exists():
        # a kill in the middle of `begin` left them behind
        readings.rename(own)
    return epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """Why an epoch began, and what it took along."""

    why: Origin = Origin.FRESH
    former: int = 0
    """The epoch before it; 0: none."""
    counted: int = 0
    """The last batch of the former epoch that is history there; those behind it are so here."""
    repeated: int = 0
    """The last batch of this epoch that repeats one of those; 0: none does."""


def beginning(directory: Path, epoch: int) -> Beginning:
    """Return what an epoch's note says; where there is none it had no former one."""
    try:
        kind, *places = map(int, (directory / f"{ORIGIN}{epoch}").read_text("ascii").split())
        former, counted, repeated = places
        return Beginning(why=Origin(kind), former=former, counted=counted, repeated=repeated)
    except (OSError, ValueError):
        return Beginning()


def history(directory: Path, known: Sequence[int]) -> dict[int, range]:
    """Return for each of the epochs `known` the sequences of the batches that are history there.

    `known` are all that have a folder of batches, found before this call: an epoch that begins
    meanwhile counts for nothing, nor does the note of one that a kill kept from beginning.
    """
    found = {epoch: beginning(directory, epoch) for epoch in numbers(directory, ORIGIN)}
    # in the order of time: the note of an epoch that never began has a later one for the same
    ends = {
        found[epoch].former: found[epoch].counted
        for epoch in found
        if epoch <= max(known, default=0)
    }
    return {
        epoch: range(found.get(epoch, Beginning()).repeated + 1, ends.get(epoch, SEQUENCE_MAX) + 1)
        for epoch in known
    }


def tidy(directory: Path) -> None:
    """Remove the notes of epochs of which, as of their former ones, no batch is left. OSError."""
    left = set(numbers(directory))
    for epoch in numbers(directory, ORIGIN):
        if left.isdisjoint({epoch, beginning(directory, epoch).former}):
            (directory / f"{ORIGIN}{epoch}").unlink(missing_ok=True)


def begin(
    directory: Path,
    former: int,
    batches_kept: Iterator[Batch],
    *,
    catalogue: Batch,
    counted: int,
    signer: Signer | None,
    why: Origin,
) -> int:
    """Begin the epoch of `catalogue` with what these batches carry, and return its number.

    `catalogue` is the first batch of the new epoch, that of the catalogue in use; `counted` is the
    last sequence of the former one that is or becomes history there. The recorder of
    the former epoch must have cut and ended: its readings' journal goes on in the new epoch, so no
    window is broken. A kill at any time leaves one epoch or the other. Blocks.
    """
    epoch = catalogue.epoch
    unfinished = directory / f"{_UNFINISHED}{epoch}"
    journal = Journal(unfinished, _SEGMENT_BYTES)
    catalogues = Catalogues(directory)
    # what the former epoch repeats itself is history in one before it
    counted = max(counted, beginning(directory, former).repeated)
    repeated = 0
    for batch, of in _renumbered(batches_kept, catalogue, catalogues):
        message = batch.to_bytes(signer)
        journal.append(_RECORD_BATCH, message)
        if batch.kind is BatchKind.CATALOGUE:
            catalogues.keep(message)
        if 0 < of <= counted:
            repeated = batch.sequence
    journal.commit()
    note = directory / f"{ORIGIN}{epoch}"
    note.write_text(f"{int(why)} {former} {counted} {repeated}\n", "ascii")
    sync(note)
    unfinished.rename(batches(directory, epoch))
    sync(directory)
    current(directory, epoch)
    sync(directory)
    return epoch


def _renumbered(
    batches_kept: Iterator[Batch], behind: Batch, catalogues: Catalogues
) -> Iterator[tuple[Batch, int]]:
    """Yield `behind`, then the batches under numbers that follow, behind their catalogues.

    With each comes the sequence that it had, or that of the batch it stands in front of; 0 with the
    first. What the former epoch had to declare lost is declared here: nobody may have heard of it.
    """
    yield behind, 0
    epoch, sequence = behind.epoch, behind.sequence
    announced = {behind.schema}
    for batch in batches_kept:
        if batch.kind in {BatchKind.CATALOGUE, BatchKind.KEY}:
            continue  # a catalogue stands in front of what needs it; keys introduce the gateway
        if any(batch.schema) and batch.schema not in announced:
            known = catalogues.find(batch.schema)
            if known is not None:
                sequence += 1
                body = known.to_bytes()
                first = replace(batch, kind=BatchKind.CATALOGUE, codec=0, payload=body)
                yield replace(first, epoch=epoch, sequence=sequence), batch.sequence
                announced.add(batch.schema)
        sequence += 1
        yield replace(batch, epoch=epoch, sequence=sequence), batch.sequence
