"""The segments of a journal of batches, read beside whoever has it open.

Takes no lock and changes nothing. A segment that is let go meanwhile is one that is not there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from edgeagg._core import read_segment

SUFFIX = ".journal"


def numbered(folder: Path) -> list[tuple[int, Path]]:
    """Return the segments of a folder by the numbers that they begin with, oldest first."""
    found = []
    for path in folder.glob(f"*{SUFFIX}"):
        with contextlib.suppress(ValueError):
            found.append((int(path.stem), path))
    return sorted(found)


def messages(folder: Path, first: int, last: int) -> Iterator[tuple[int, bytes]]:
    """Yield number and message of the valid records from `first` to `last`. OSError."""
    segments = numbered(folder)
    ends = [number for number, _ in segments[1:]]
    for (start, path), end in zip(segments, [*ends, last + 1], strict=True):
        if start > last:
            return
        if end <= first:
            continue
        with contextlib.suppress(FileNotFoundError):
            for number, _, message in read_segment(path):
                if first <= number <= last:
                    yield number, message
