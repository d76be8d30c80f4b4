"""The folder of day files: which batches each was made of, what they take, the oldest first.

Owns the files' names, and that a file is there whole or not at all: the batches that it was made
of are history in it from the moment it has its name. How they are made is the historian's matter.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeagg.disk import sync

FOLDER = "history"
_UNFINISHED = "unfinished"
_NAME = re.compile(r"\d{4}-\d\d-\d\d_(\d{1,19})-(\d{1,19})-(\d{1,19})-(\d{1,19})\.day")


@dataclass(frozen=True, slots=True, order=True)
class Day:
    """A file, made of the batches `first` to `through` of an epoch."""

    epoch: int
    first: int
    through: int
    cut_at_ms: int
    """When the latest of its batches was cut."""
    path: Path
    bytes_count: int


def listed(directory: Path) -> list[Day]:
    """Return the day files of a state directory, those of the oldest batches first."""
    found = []
    for path in (directory / FOLDER).glob("*.day"):
        name = _NAME.fullmatch(path.name)
        if name:
            with contextlib.suppress(FileNotFoundError):
                epoch, first, through, cut_at_ms = map(int, name.groups())
                size = path.stat().st_size
                found.append(Day(epoch, first, through, cut_at_ms, path, size))
    return sorted(found)


def covered(days: Sequence[Day], epoch: int) -> int:
    """Return the last sequence of an epoch that is in day files; all before it were."""
    return max((day.through for day in days if day.epoch == epoch), default=0)


class Days:
    """The day files of a state directory that an agent runs on."""

    def __init__(self, directory: Path) -> None:
        """Look which there are; what a kill left unfinished is removed. OSError."""
        self._directory = directory
        self._days = listed(directory)
        with contextlib.suppress(OSError):
            self.unfinished.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            # batches are let go for a day file whose name the disk perhaps does not have yet
            self._sync_names()

    @property
    def unfinished(self) -> Path:
        """Where the next file is written."""
        return self._directory / FOLDER / _UNFINISHED

    @property
    def bytes_count(self) -> int:
        """Bytes on the disk, an unfinished file left out."""
        return sum(day.bytes_count for day in self._days)

    def covered(self, epoch: int) -> int:
        """Return the last sequence of an epoch that is in day files."""
        return covered(self._days, epoch)

    def covered_until(self, epoch: int, cut_ms: int) -> int:
        """Return the last sequence in day files whose batches were all cut before `cut_ms`."""
        return covered([day for day in self._days if day.cut_at_ms < cut_ms], epoch)

    def prepare(self) -> None:
        """Make the folder where there is none. OSError."""
        self.unfinished.parent.mkdir(exist_ok=True)

    def finish(self, date: str, *, epoch: int, first: int, through: int, cut_at_ms: int) -> None:
        """Give the unfinished file its name; it must be on the disk. Blocks; OSError.

        FileNotFoundError when it was given up for its room.
        """
        path = self.unfinished.with_name(f"{date}_{epoch}-{first}-{through}-{cut_at_ms}.day")
        self.unfinished.rename(path)
        self._sync_names()
        day = Day(epoch, first, through, cut_at_ms, path, path.stat().st_size)
        self._days = sorted([*self._days, day])

    def free_unfinished(self) -> bool:
        """Remove the unfinished file; return whether there was one. OSError.

        Its room is there at once, even while its writer has it open.
        """
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self.unfinished, 0)
            self.unfinished.unlink()
            return True
        return False

    def free_oldest(self, *, epoch: int, kept_from: int) -> bool:
        """Remove the oldest file; return whether there was one. Blocks; OSError.

        One whose batches are kept stays: those of `epoch` are kept from `kept_from` on.
        """
        oldest = self._days[:1]
        if not oldest or (oldest[0].epoch == epoch and oldest[0].through >= kept_from):
            return False
        self._remove(oldest[0])
        return True

    def free_before(self, cut_ms: int, *, epoch: int, kept_from: int) -> None:
        """Remove files whose batches were all cut before `cut_ms`. Blocks; OSError."""
        while self._days and self._days[0].cut_at_ms < cut_ms:
            if not self.free_oldest(epoch=epoch, kept_from=kept_from):
                return

    def _sync_names(self) -> None:
        for folder in (self.unfinished.parent, self._directory):
            sync(folder)

    def _remove(self, day: Day) -> None:
        day.path.unlink(missing_ok=True)
        self._days.remove(day)
