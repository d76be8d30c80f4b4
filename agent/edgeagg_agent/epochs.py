"""Which epoch a state directory is in, and how the next one begins when others used its numbers.

Owns the folders' names. A gateway whose state was put back from an older copy, or copied, would use
numbers that a platform has already; it takes everything that no platform is known to have from it
into a new epoch instead, under new numbers. What it cannot know (what its state held after the copy
was made) is on the platform already or gone; the slots in between are declared as not read.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edgeagg._core import Journal
from edgeagg.batch import Batch, BatchKind, Origin
from edgeagg.disk import sync
from edgeagg.seal import Signer
from edgeagg_agent.catalogues import Catalogues

_SEGMENT_BYTES = 1 << 20
_RECORD_BATCH = 1
BATCHES, READINGS, ORIGIN = "batches-", "readings-", "origin-"
_UNFINISHED = "unfinished-"


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


def current(directory: Path, now_ms: int) -> int:
    """Return the newest epoch kept, or open one, named after the time it begins."""
    for path in directory.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path)
    epoch = max(numbers(directory), default=now_ms)
    _, former = origin(directory, epoch)
    readings, own = directory / f"{READINGS}{former}", directory / f"{READINGS}{epoch}"
    if former and readings.exists() and not own.exists():
        # a kill in the middle of `begin` left them behind
        readings.rename(own)
    return epoch


def origin(directory: Path, epoch: int) -> tuple[Origin, int]:
    """Return why an epoch began, and the one before it; 0 where there was none."""
    try:
        kind, former = (directory / f"{ORIGIN}{epoch}").read_text("ascii").split()
        return Origin(int(kind)), int(former)
    except (OSError, ValueError):
        return Origin.FRESH, 0


def begin(
    directory: Path,
    former: int,
    batches_kept: Iterator[Batch],
    *,
    catalogue: Batch,
    signer: Signer | None,
    why: Origin,
) -> int:
    """Begin the epoch of `catalogue` with what these batches carry, and return its number.

    `catalogue` is the first batch of the new epoch, that of the catalogue in use. The recorder of
    the former epoch must have cut and ended: its readings' journal goes on in the new epoch, so no
    window is broken. A kill at any time leaves one epoch or the other. Blocks.
    """
    epoch = catalogue.epoch
    unfinished = directory / f"{_UNFINISHED}{epoch}"
    journal = Journal(unfinished, _SEGMENT_BYTES)
    catalogues = Catalogues(directory)
    for batch in _renumbered(batches_kept, catalogue, catalogues):
        message = batch.to_bytes(signer)
        journal.append(_RECORD_BATCH, message)
        if batch.kind is BatchKind.CATALOGUE:
            catalogues.keep(message)
    journal.commit()
    note = directory / f"{ORIGIN}{epoch}"
    note.write_text(f"{int(why)} {former}\n", "ascii")
    sync(note)
    unfinished.rename(batches(directory, epoch))
    sync(directory)
    current(directory, epoch)
    sync(directory)
    return epoch


def _renumbered(
    batches_kept: Iterator[Batch], behind: Batch, catalogues: Catalogues
) -> Iterator[Batch]:
    """Yield `behind`, then the batches under numbers that follow, behind their catalogues.

    What the former epoch had to declare lost is declared here: nobody may have heard of it.
    """
    yield behind
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
                yield replace(first, epoch=epoch, sequence=sequence)
                announced.add(batch.schema)
        sequence += 1
        yield replace(batch, epoch=epoch, sequence=sequence)
