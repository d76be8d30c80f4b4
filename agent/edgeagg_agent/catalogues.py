"""The announcements of catalogues and keys, kept beside the batches they came in.

A batch that is let go before a platform has it is lost, and said to be. Were it a catalogue's or a
key's, all batches under that would be lost too: so these stay, in a file each. Those of keys stay
when their epoch goes: nobody can sign them again, and a platform that has heard of none of the
later keys believes nothing without them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeagg.batch import Batch, BatchKind
from edgeagg.disk import sync
from edgeagg.errors import FormatError
from edgeagg.model import Catalogue

FOLDER = "catalogues"

_KEYS_MAX = 64


@dataclass(frozen=True, slots=True)
class Announced:
    """The message of an announcement, and its identity."""

    epoch: int
    sequence: int
    message: bytes


class Catalogues:
    """The announcements in a state directory. A damaged file is one that is not there."""

    def __init__(self, directory: Path) -> None:
        """Use the folder in `directory`; nothing is read or made yet."""
        self._folder = directory / FOLDER

    def keep(self, message: bytes) -> None:
        """Write one in a single step that a power cut cannot halve. Blocks; OSError."""
        announcement = Batch.from_bytes(message)
        self._folder.mkdir(exist_ok=True)
        file = self._folder / f"{announcement.epoch}-{announcement.sequence}"
        new = file.with_suffix(".new")
        with new.open("wb") as stream:
            stream.write(message)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(file)
        sync(self._folder)

    def message(self, epoch: int, sequence: int) -> bytes | None:
        """Return the announcement with this identity; None when it was none or is damaged."""
        with contextlib.suppress(OSError, FormatError):
            message = (self._folder / f"{epoch}-{sequence}").read_bytes()
            batch = Batch.from_bytes(message)
            return message if (batch.epoch, batch.sequence) == (epoch, sequence) else None
        return None

    def sequences(self, epoch: int) -> list[int]:
        """Return the sequences of an epoch under which there is one, in order; none is read."""
        found = []
        for file in self._folder.glob(f"{epoch}-*"):
            with contextlib.suppress(ValueError):
                found.append(int(file.name.removeprefix(f"{epoch}-")))
        return sorted(found)

    def keys(self) -> list[Announced]:
        """Return the messages that announce keys, of all epochs, oldest first; the last 64."""
        found = [
            Announced(batch.epoch, batch.sequence, message)
            for batch, message in self._all()
            if batch.kind is BatchKind.KEY
        ]
        return sorted(found, key=lambda one: (one.epoch, one.sequence))[-_KEYS_MAX:]

    def find(self, schema: bytes) -> Catalogue | None:
        """Return the catalogue with this hash; None when there is none."""
        return next((found for found in self.all() if found.hash == schema), None)

    def body(self, schema: bytes) -> bytes | None:
        """Return the bytes of the catalogue with this hash, which are not looked into."""
        return next((batch.payload for batch, _ in self._all() if batch.schema == schema), None)

    def all(self) -> list[Catalogue]:
        """Return those of all epochs, oldest first."""
        found = []
        for batch in sorted(
            (batch for batch, _ in self._all()), key=lambda batch: (batch.epoch, batch.sequence)
        ):
            with contextlib.suppress(FormatError):
                found.append(Catalogue.from_bytes(batch.payload))
        return found

    def forget(self, epoch: int) -> None:
        """Remove those of an epoch that is let go, but for keys."""
        keys = {one.sequence for one in self.keys() if one.epoch == epoch}
        for sequence in self.sequences(epoch):
            if sequence not in keys:
                (self._folder / f"{epoch}-{sequence}").unlink()

    def _all(self) -> Iterator[tuple[Batch, bytes]]:
        for file in self._folder.glob("*-*"):
            with contextlib.suppress(OSError, FormatError):
                message = file.read_bytes()
                yield Batch.from_bytes(message), message
