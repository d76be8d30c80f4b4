"""Where commands of the platform arrive, and which site file the agent therefore runs.

Owns the standing of pushed files while an agent runs. It says when the agent shall begin anew with
another file; doing so is the agent's matter.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

from edgeagg.command import Answer, Command, CommandKind, Outcome
from edgeagg.errors import ConfigError, FormatError
from edgeagg.seal import Signer
from edgeagg_agent import remote
from edgeagg_agent.clock import Clock
from edgeagg_agent.config import load_site
from edgeagg_agent.remote import Standing
from edgeagg_agent.remote_shelf import Shelf
from edgeagg_agent.site import Destination, Site

_log = logging.getLogger(__name__)

_NOTE_EVERY_MS = 15_000


def site_that_runs(
    file: Path, read: Callable[[Path, str | None], Site] = load_site
) -> tuple[Site, int]:
    """Return what the agent runs, and the number of the command that pushed it; 0: the file."""
    installed = read(file, None)
    if not installed.takes_commands:
        return installed, 0
    shelf = Shelf(installed.state_directory)
    standing = shelf.standing()
    text = _text(installed, shelf, standing)
    return (installed, 0) if text is None else (read(file, text), standing.runs)


class Desk:
    """Takes commands for one running agent."""

    def __init__(self, file: Path, clock: Clock, check_ports: Callable[[Site], None]) -> None:
        """Find out which file runs. Blocks.

        `check_ports` raises ConfigError for a bus whose port cannot be opened. Raise ConfigError
        where the installer's file is wrong, StoreError where another agent runs.
        """
        self._file, self._clock, self._check_ports = file, clock, check_ports
        self._installed = load_site(file)
        self._shelf = Shelf(self._installed.state_directory)
        self._lock: IO[bytes] | None = None
        self._standing = Standing()
        self._noted_ms = 0
        self._ticked_s: float | None = None
        self._is_busy = False
        self.wants_restart = False
        """Whether another file shall run from now on."""
        self._signer: Signer | None = None
        self.site = self._installed
        """What runs."""
        if self._installed.takes_commands:
            self._lock = self._shelf.lock()
            self._standing = self._shelf.standing()
            self._open()

    @property
    def is_on_trial(self) -> bool:
        """Whether the file that runs has yet to prove itself."""
        return self._standing.is_on_trial

    def close(self) -> None:
        """Let another agent have the folder."""
        if self._lock is not None:
            self._lock.close()

    def serve(self, signer: Signer) -> None:
        """Take commands from now on; the gateway's key signs the answers."""
        self._signer = signer

    def listens_to(self, destination: Destination) -> bool:
        """Tell whether commands of this destination are looked at."""
        return self.site.takes_commands and bool(destination.platform_keys)

    def last_answer(self, destination: str) -> bytes | None:
        """Return what to tell a destination on connecting: the end of its last command."""
        if self._signer is None or not self._standing.number:
            return None
        if self._standing.destination != destination:
            return None
        return self._standing.answer(self.site.gateway).to_bytes(self._signer)

    async def take(self, data: bytes, destination: Destination) -> bytes | None:
        """Obey a command or refuse it; return the answer.

        None where nobody is answered: whom the keys do not know, and while another one is in work.
        """
        if self._is_busy or self.wants_restart or self._signer is None:
            return None
        self._is_busy = True
        try:
            answer = await asyncio.to_thread(self._answer, data, destination)
        except FormatError as error:
            _log.warning("%s: no command: %s", destination.name, error)
            return None
        finally:
            self._is_busy = False
        _log.warning("command %d: %s: %s", answer.number, answer.outcome.name.lower(), answer.text)
        return answer.to_bytes(self._signer)

    def heard(self, destination: str) -> bytes | None:
        """Note a receipt; return what to tell the destination if that ends the trial well."""
        awaited = {to.name for to in self.site.destinations} & {self._standing.destination}
        if not self.is_on_trial or self.wants_restart or (awaited and destination not in awaited):
            return None
        self._move(remote.confirm(self._standing, self._clock.now_ms()))
        return self.last_answer(destination)

    def tick(self) -> None:
        """Let the trial's time pass; afterwards the former file may be wanted."""
        now_s = self._clock.monotonic_s()
        if not self.is_on_trial or self.wants_restart or self._ticked_s is None:
            self._ticked_s = now_s
            return
        spent_ms = round((now_s - self._ticked_s) * 1000)
        self._ticked_s = now_s
        self._standing = remote.spend(self._standing, spent_ms)
        self._noted_ms += spent_ms
        why = remote.failure(self._standing)
        if why:
            self.roll_back(why)
        elif self._noted_ms >= _NOTE_EVERY_MS:
            self._note()

    def roll_back(self, why: str) -> None:
        """Want the former file."""
        self._move(remote.roll_back(self._standing, why, self._clock.now_ms()))
        self.wants_restart = True

    def _answer(self, data: bytes, destination: Destination) -> Answer:
        command, signers = Command.from_bytes(data, destination.platform_keys)
        now_ms = self._clock.now_ms()
        if command.gateway == self.site.gateway and remote.is_repeated(command, self._standing):
            return self._standing.answer(self.site.gateway)
        why = remote.refusal(command, self.site.gateway, self._standing, now_ms)
        if not why:
            why = self._trouble(command, len(signers))
        if not why and command.kind is CommandKind.CONFIGURE:
            return self._begin(command, destination.name, now_ms)
        outcome, text = (Outcome.REFUSED, why) if why else (Outcome.CHECKED, "it is right")
        return Answer(
            self.site.gateway, command.number, command.digest, outcome, now_ms, _plain(text)
        )

    def _trouble(self, command: Command, signers: int) -> str:
        """Return what is wrong with a command's site file, in one line."""
        try:
            wanted = load_site(self._file, command.payload.decode("utf-8"))
            changes = remote.guarded_changes(self.site, wanted)
            if changes and signers < 2:
                return f"two platform keys must sign a change of {', '.join(changes)}"
            # those that the agent has open would be found in use
            own = {bus.port for bus in self.site.buses}
            others = tuple(bus for bus in wanted.buses if bus.port not in own)
            self._check_ports(replace(wanted, buses=others))
        except UnicodeDecodeError:
            return "not a site file: not UTF-8"
        except ConfigError as error:
            return f"{error.key}: {error.found}; {error.allowed}"
        return ""

    def _begin(self, command: Command, destination: str, now_ms: int) -> Answer:
        begun = remote.begin(
            self._standing,
            command,
            destination=destination,
            installed=_digest(self._file),
            trial_ms=self.site.trial_ms,
            now_ms=now_ms,
        )
        try:
            self._shelf.put(command.number, command.payload)
            self._shelf.note(begun)
        except OSError as error:
            text = f"it cannot be kept: {error.strerror}"
            return Answer(
                self.site.gateway, command.number, command.digest, Outcome.REFUSED, now_ms, text
            )
        # in this order: the trial begins with the next start, not with the next tick
        self.wants_restart = True
        self._standing = begun
        return begun.answer(self.site.gateway)

    def _open(self) -> None:
        """Let the pushed file be the site, unless its trial is over or somebody was here."""
        if self.is_on_trial:
            self._standing = remote.start(self._standing)
            why = remote.failure(self._standing)
            now_ms = self._clock.now_ms()
            self._move(remote.roll_back(self._standing, why, now_ms) if why else self._standing)
        if not self._standing.runs:
            return
        text = _text(self._installed, self._shelf, self._standing)
        if text is None:
            self._move(remote.withdraw(self._standing, self._clock.now_ms()))
            return
        try:
            self.site = load_site(self._file, text)
        except ConfigError as error:
            if not self.is_on_trial:
                raise
            why = f"{error.key}: {error.found}"
            self._move(remote.roll_back(self._standing, _plain(why), self._clock.now_ms()))
            self._open()

    def _move(self, standing: Standing) -> None:
        if standing.outcome is not self._standing.outcome:
            outcome = standing.outcome.name.lower().replace("_", " ")
            _log.warning("command %d: %s: %s", standing.number, outcome, standing.text)
        self._standing = standing
        self._note()

    def _note(self) -> None:
        self._noted_ms = 0
        try:
            self._shelf.note(self._standing)
        except OSError as error:
            _log.error("what became of a command was not kept: %s", error.strerror)


def _text(installed: Site, shelf: Shelf, standing: Standing) -> str | None:
    """Return the pushed file that runs; None where the installer's does."""
    if not standing.runs or standing.installed != _digest(installed.file):
        return None
    return shelf.text(standing.runs)


def _digest(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()


def _plain(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
