"""The readings' journal in front of a disk that may refuse.

Records wait in memory, in their order, until the disk has taken them; how many may wait is the
recorder's decision.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from edgeagg._core import Journal

ROW, CUT, CHECKPOINT, HELD, RELEASE = 1, 2, 3, 4, 5
"""Kinds of records."""

MakeRoom = Callable[[OSError, Path], bool]
"""Given what the disk said and a journal's folder: whether trying again is worth it."""

_TRIES = 2
_SPARE_SEGMENTS = 2


class RowLog:
    """Rows, cuts and checkpoints on their way to the disk."""

    def __init__(self, journal: Journal, directory: Path, make_room: MakeRoom) -> None:
        """Take over `journal`, whose folder is `directory`."""
        self.last_cut = 0
        """The number of the last cut that was written or found."""
        self.since_checkpoint_bytes = 0
        """Of the records on the disk behind the last checkpoint."""
        self._journal, self._directory, self._make_room = journal, directory, make_room
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._counting = Lock()  # rows are staged by the event loop, checkpoints by a thread
        self._staged_bytes = 0
        self._written_bytes = 0
        self._appended_bytes = 0
        # one cut longer than needed: a checkpoint that is damaged later has one before it
        self._freeable = 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes of the records that the disk does not have."""
        return self._staged_bytes - self._written_bytes

    def reserve(self) -> None:
        """Keep room for what must be written on a full disk; OSError when there is none yet."""
        self._journal.reserve(_SPARE_SEGMENTS)

    def stage(self, kind: int, payload: bytes) -> None:
        """Add a record; it is safe only after `write`."""
        with self._counting:
            self._waiting.append((kind, payload))
            self._staged_bytes += len(payload)

    def write(self) -> None:
        """Return when the disk has what is staged. Blocks; OSError when it refuses."""
        checkpoints = 0
        while self._waiting:
            kind, payload = self._waiting[0]
            number = self._append(kind, payload)
            if kind == CUT:
                self.last_cut = number
            checkpoints += kind == CHECKPOINT
            self.since_checkpoint_bytes = (
                0 if kind == CHECKPOINT else self.since_checkpoint_bytes + len(payload)
            )
            self._appended_bytes += len(payload)
            self._waiting.popleft()
        self._commit()
        self._written_bytes = self._appended_bytes
        if checkpoints:
            self._journal.free_before(self._freeable + 1)
            self._freeable = self.last_cut

    def take_up(self, cut: int) -> None:
        """Go on behind the checkpoint of this cut."""
        self.last_cut = self._freeable = cut

    def numbers(self) -> range:
        """Return the numbers of the records on the disk."""
        return range(self._journal.first, self._journal.committed)

    def read(self, number: int) -> tuple[int, bytes] | None:
        """Return kind and payload of a record; None when it is lost."""
        return self._journal.read(number)

    def found(self, payload: bytes) -> None:
        """Count a record that a former run wrote behind its last checkpoint."""
        self.since_checkpoint_bytes += len(payload)

    def _append(self, kind: int, payload: bytes) -> int:
        for _ in range(_TRIES):
            try:
                return self._journal.append(kind, payload)
            except OSError as error:
                if not self._make_room(error, self._directory):
                    raise
        return self._journal.append(kind, payload)

    def _commit(self) -> None:
        try:
            self._journal.commit()
        except OSError as error:
            if not self._make_room(error, self._directory):
                raise
            self._journal.commit()
