"""Tells that a process has just written one of its files, by the time that the kernel notes.

It opens nothing, so nothing that is watched goes otherwise than unwatched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from hil_tests.chaos.plan import Moment

_FILES = {
    Moment.JOURNALED: "agent/readings-*/*.journal",
    Moment.KEPT: "agent/batches-*/*.journal",
    Moment.COMMITTED: "platform.db-wal",
    Moment.RECEIPTED: "agent/cursor-*",
}


class Watch:
    """Files of a chain's folder that were there when it began."""

    def __init__(self, directory: Path, moment: Moment) -> None:
        self._files = sorted(directory.glob(_FILES[moment]))
        self._before = _written_ns(self._files)

    @property
    def has_struck(self) -> bool:
        """Whether one of them was written since."""
        return _written_ns(self._files) != self._before


def _written_ns(files: Sequence[Path]) -> int:
    newest = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            newest = max(newest, file.stat().st_mtime_ns)
    return newest
