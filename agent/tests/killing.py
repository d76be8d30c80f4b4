"""Journals that a test can kill at any operation, with what a power cut leaves of a write."""

from pathlib import Path

from edgeagg._core import Journal

MODES = ("before", "after", "torn")


class KilledError(Exception):
    """The process is gone; what it had in memory is gone with it."""


class Disk:
    """Counts the operations of all its journals, and dies at one of them.

    `mode` says what the operation leaves: nothing, everything, or for a commit a part of what it
    wrote: the first bytes ("torn") or all but the first ("hole": pages go to a card in any order).
    """

    def __init__(self):
        self.operations = 0
        self.kill_at = None
        self.mode = "before"
        self.share = 0.5

    def journal(self, directory, segment_bytes):
        return KillableJournal(Path(directory), segment_bytes, self)

    def step(self, folder, is_commit, work):
        self.operations += 1
        if self.operations != self.kill_at:
            return work()
        if self.mode == "before":
            raise KilledError
        before = read_files(folder)
        work()
        if self.mode in {"torn", "hole"} and is_commit:
            self._spoil(folder, before)
        raise KilledError

    def _spoil(self, folder, before):
        for path, data in read_files(folder).items():
            old = before.get(path)
            if old in {None, data}:
                continue
            changed = [place for place in range(len(data)) if data[place] != old[place]]
            start, end = changed[0], changed[-1] + 1
            cut = start + int(self.share * (end - start))
            torn = data[:cut] + old[cut:] if self.mode == "torn" else old[:cut] + data[cut:]
            path.write_bytes(torn)


class KillableJournal:
    """A journal whose every write is an operation of its disk."""

    def __init__(self, directory, segment_bytes, disk):
        self._directory, self._disk = directory, disk
        self._journal = Journal(directory, segment_bytes)

    def append(self, kind, payload):
        return self._step(lambda: self._journal.append(kind, payload))

    def commit(self):
        self._step(self._journal.commit, is_commit=True)

    def free_before(self, number):
        self._step(lambda: self._journal.free_before(number))

    def _step(self, work, *, is_commit=False):
        return self._disk.step(self._directory, is_commit, work)

    def __getattr__(self, name):
        return getattr(self._journal, name)


def read_files(folder):
    return {path: path.read_bytes() for path in folder.iterdir()}
