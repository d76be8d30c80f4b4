"""Journals on a disk that can refuse: every write, or only new segments as a full one does."""

import errno
from pathlib import Path

from edgeagg._core import Journal


class RefusingDisk:
    """While `error` is set no commit works; while `is_full` there is no room for new segments."""

    def __init__(self):
        self.error = None
        self.refused = 0
        self._folders = []
        self._is_full = False

    @property
    def is_full(self):
        return self._is_full

    @is_full.setter
    def is_full(self, is_full):
        self._is_full = is_full
        for folder in self._folders:
            self._block(folder)

    def journal(self, directory, segment_bytes):
        journal = RefusingJournal(Path(directory), segment_bytes, self)
        self._folders.append(Path(directory))
        self._block(Path(directory))
        return journal

    def _block(self, folder):
        """Put a folder where new segments are filled: they cannot be made, spare ones still can."""
        if self._is_full:
            (folder / "new").mkdir(exist_ok=True)
        elif (folder / "new").exists():
            (folder / "new").rmdir()


class RefusingJournal:
    """Says "no space" where the disk is full, and what the disk says where it fails."""

    def __init__(self, directory, segment_bytes, disk):
        self._disk = disk
        self._journal = Journal(directory, segment_bytes)

    def append(self, kind, payload):
        if self._disk.error is not None and self._journal.next % 3 == 0:
            # as where a segment is full: what is staged must be written before the next is begun
            self._disk.refused += 1
            raise OSError(self._disk.error, "refused")
        try:
            return self._journal.append(kind, payload)
        except IsADirectoryError:
            self._disk.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device") from None

    def commit(self):
        if self._disk.error is not None:
            self._disk.refused += 1
            raise OSError(self._disk.error, "refused")
        self._journal.commit()

    def __getattr__(self, name):
        return getattr(self._journal, name)
