"""What former epochs left in the state directory: history, let go oldest first.

Owns the names of their files, and never touches those of the epoch in use.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from edgeagg_agent.catalogues import Catalogues
from edgeagg_agent.epochs import BATCHES, READINGS, numbers, tidy


class FormerEpochs:
    """The files of all epochs but one."""

    def __init__(self, directory: Path, epoch: int) -> None:
        """Look what is in `directory`; `epoch` is in use."""
        self._directory = directory
        self._files: deque[tuple[Path, int]] = deque()
        # readings that no batch holds are of no use without their epoch: they go first
        for kind in (READINGS, BATCHES):
            for former in numbers(directory, kind):
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

    def free(self, epoch: int) -> None:
        """Remove the batches of an epoch. OSError."""
        folder = self._directory / f"{BATCHES}{epoch}"
        for file, size in [known for known in self._files if known[0].parent == folder]:
            file.unlink(missing_ok=True)
            self._files.remove((file, size))
            self.bytes_count -= size
        if folder.exists():
            self._remove(folder)

    def _remove(self, folder: Path) -> None:
        folder.rmdir()
        if folder.name.startswith(BATCHES):
            epoch = int(folder.name.removeprefix(BATCHES))
            Catalogues(self._directory).forget(epoch)
            for cursor in self._directory.glob(f"cursor-*-{epoch}"):
                cursor.unlink()
            (self._directory / f"lost-{epoch}").unlink(missing_ok=True)
            tidy(self._directory)
