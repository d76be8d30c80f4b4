"""The folder of pushed site files, and the note which of them runs; all of it survives power cuts.

Owns `remote/` in the state directory of the installer's site file. /etc stays the installer's: the
agent cannot write there. Decides nothing; the rules are `remote`'s.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import IO

from edgeagg.command import Outcome
from edgeagg.disk import sync
from edgeagg.errors import StoreError
from edgeagg_agent.remote import Standing

_log = logging.getLogger(__name__)

_NOTE = "standing.json"
_BYTES = ("digest", "installed")


class Shelf:
    """The pushed files of one gateway."""

    def __init__(self, state_directory: Path) -> None:
        """Take the folder; it need not be there yet."""
        self._folder = state_directory / "remote"

    def lock(self) -> IO[bytes]:
        """Keep other agents out while the file is open; raise StoreError where one is in."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = (self._folder / "lock").open("wb")
        except OSError as error:
            raise StoreError(f"cannot use {self._folder}: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise StoreError(f"{self._folder} is in use: another agent runs on it") from None
        return file

    def standing(self) -> Standing:
        """Read the note; where there is none, or none that can be read, the installer's runs."""
        path = self._folder / _NOTE
        try:
            values = json.loads(path.read_text("utf-8"))
            for name in _BYTES:
                values[name] = bytes.fromhex(values[name])
            return Standing(**{**values, "outcome": Outcome(values["outcome"])})
        except FileNotFoundError:
            return Standing()
        except (ValueError, KeyError, TypeError) as error:
            _log.error("%s is damaged (%s): the installed site file runs", path, error)
            return Standing()

    def note(self, standing: Standing) -> None:
        """Keep which file runs; the disk has it before this returns. Raise OSError if it cannot."""
        values = asdict(standing)
        for name in _BYTES:
            values[name] = values[name].hex()
        self._write(_NOTE, json.dumps(values, indent=1).encode())
        kept = {f"{standing.runs}.toml", f"{standing.former}.toml"}
        for path in self._folder.glob("*.toml"):
            if path.name not in kept:
                path.unlink()

    def put(self, number: int, content: bytes) -> None:
        """Keep a site file; the disk has it before this returns. Raise OSError if it cannot."""
        self._write(f"{number}.toml", content)

    def text(self, number: int) -> str | None:
        """Return a pushed site file; None where it is gone."""
        try:
            return (self._folder / f"{number}.toml").read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            return None

    def _write(self, name: str, content: bytes) -> None:
        path = self._folder / name
        new = path.with_name(f"{name}.new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - of a descriptor
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        sync(self._folder)
