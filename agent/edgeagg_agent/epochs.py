"""What former epochs left in the state directory: history, let go oldest first.

Owns the names of their files, and never touches those of the epoch in use.
"""

from __future__ import annotations

import contextlib
from collections import deque
from pathlib import Path

from edgeagg_agent.catalogues import Catalogues

BATCHES, READINGS = "batches-", "readings-"


def epochs(directory: Path) -> list[int]:
    """Return the epochs that have batches in `directory`, oldest first."""
    return _numbers(directory, BATCHES)


class FormerEpochs:
    """The files of all epochs but one."""

    def __init__(self, directory: Path, epoch: int) -> None:
        """Look what is in `directory`; `epoch` is in use."""
        self._directory = directory
        self._files: deque[tuple[Path, int]] = deque()
        # readings that no batch holds are of no use without their epoch: they go first
        for kind in (READINGS, BATCHES):
            for former in _numbers(directory, kind):
                if former != epoch:
                    files = sorted((directory / f"{kind}{former}").iterdir())
                    self._files += [(file, file.stat().st_size) for file in files]
        self.bytes_count = sum(size for _, size in self._files)

    def free_oldest(self) -> bool:
        """Remove the oldest file; return whether there was one."""
        if not self._files:
            return False
        file, size = self._files[0]
        file.unlink(missing_ok=True)
        self._files.popleft()
        self.bytes_count -= size
        if not any(file.parent.iterdir()):
            self._remove(file.parent)
        return True

    def _remove(self, folder: Path) -> None:
        folder.rmdir()
        if folder.name.startswith(BATCHES):
            epoch = int(folder.name.removeprefix(BATCHES))
            Catalogues(self._directory).forget(epoch)
            for cursor in self._directory.glob(f"cursor-*-{epoch}"):
                cursor.unlink()


def _numbers(directory: Path, kind: str) -> list[int]:
    found = []
    for folder in directory.glob(f"{kind}*"):
        with contextlib.suppress(ValueError):
            found.append(int(folder.name.removeprefix(kind)))
    return sorted(found)
