"""Which epoch a state directory is in, and how the next one begins when others used its numbers.

Owns the folders' names. A gateway whose state was put back from an older copy, or copied, would use
numbers that a platform has already; it takes everything that no platform is known to have from it
into a new epoch instead, under new numbers. What it cannot know (what its state held after the copy
was made) is on the platform already or gone; the slots in between are declared as not read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edgeagg._core import Journal
from edgeagg.batch import Batch, BatchKind, Origin
from edgeagg.errors import FormatError

_SEGMENT_BYTES = 1 << 20
_BATCHES, _READINGS, _ORIGIN, _UNFINISHED = "batches-", "readings-", "origin-", "unfinished-"


def batches(directory: Path, epoch: int) -> Path:
    """Return the folder of an epoch's batches."""
    return directory / f"{_BATCHES}{epoch}"


def current(directory: Path, now_ms: int) -> int:
    """Return the newest epoch kept, or open one, named after the time it begins."""
    for path in directory.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(path)
    found = [int(path.name.removeprefix(_BATCHES)) for path in directory.glob(f"{_BATCHES}*")]
    epoch = max(found, default=now_ms)
    _, former = origin(directory, epoch)
    readings, own = directory / f"{_READINGS}{former}", directory / f"{_READINGS}{epoch}"
    if former and readings.exists() and not own.exists():
        # a kill in the middle of `begin` left them behind
        readings.rename(own)
    return epoch


def origin(directory: Path, epoch: int) -> tuple[Origin, int]:
    """Return why an epoch began, and the one before it; 0 where there was none."""
    try:
        kind, former = (directory / f"{_ORIGIN}{epoch}").read_text("ascii").split()
        return Origin(int(kind)), int(former)
    except (OSError, ValueError):
        return Origin.FRESH, 0


def begin(
    directory: Path,
    former: int,
    messages: Iterator[bytes],
    *,
    gateway: str,
    schema: bytes,
    why: Origin,
    now_ms: int,
) -> int:
    """Begin the epoch behind `former` with what these messages carry, and return its number.

    `schema` is the hash of the catalogue that the gateway uses now: it stands in front. The
    recorder of the former epoch must have cut and ended: its readings' journal goes on in the new
    epoch, so no window is broken. A kill at any time leaves one epoch or the other. Blocks.
    """
    epoch = max(now_ms, former + 1)
    unfinished = directory / f"{_UNFINISHED}{epoch}"
    journal = Journal(unfinished, _SEGMENT_BYTES)
    catalogues = directory / "catalogues"
    body = (catalogues / schema.hex()).read_bytes()
    catalogue = Batch(gateway, epoch, 1, BatchKind.CATALOGUE, schema, now_ms, 0, body)
    journal.append(*_record(catalogue))
    for kind, record in _renumbered(messages, catalogue, catalogues):
        journal.append(kind, record)
    journal.commit()
    note = directory / f"{_ORIGIN}{epoch}"
    note.write_text(f"{int(why)} {former}\n", "ascii")
    _sync(note)
    unfinished.rename(batches(directory, epoch))
    _sync(directory)
    current(directory, now_ms)
    _sync(directory)
    return epoch


def former_folders(directory: Path, epoch: int) -> list[Path]:
    """Return the folders of the batches of former epochs, the oldest first."""
    found = [
        path
        for path in directory.glob(f"{_BATCHES}*")
        if int(path.name.removeprefix(_BATCHES)) < epoch
    ]
    return sorted(found)


def _renumbered(
    messages: Iterator[bytes], behind: Batch, catalogues: Path
) -> Iterator[tuple[int, bytes]]:
    """Yield records of an outbox: the messages under new numbers, behind their catalogues."""
    epoch, sequence = behind.epoch, behind.sequence
    announced = {behind.schema}
    for message in messages:
        try:
            batch = Batch.from_bytes(message)
        except FormatError:
            continue  # damaged on the disk: nobody can read it
        if batch.kind in {BatchKind.LOST, BatchKind.CATALOGUE}:
            continue
        if batch.schema not in announced:
            sequence += 1
            body = (catalogues / batch.schema.hex()).read_bytes()
            catalogue = replace(batch, kind=BatchKind.CATALOGUE, codec=0, payload=body)
            yield _record(replace(catalogue, epoch=epoch, sequence=sequence))
        announced.add(batch.schema)
        sequence += 1
        yield _record(replace(batch, epoch=epoch, sequence=sequence))


def _record(batch: Batch) -> tuple[int, bytes]:
    """Return what an outbox keeps of a batch that belongs to no cut of its journal of readings."""
    return 1, bytes(8) + batch.to_bytes()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
