"""What becomes of a command of the platform: the rules, without files, network or clock.

A pushed site file runs on trial: unless the platform's receipt comes in time, the former one comes
back. Where the files are is `remote_shelf`'s matter, who asks whom `desk`'s.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace

from edgeagg.command import Answer, Command, CommandKind, Outcome
from edgeagg_agent.site import Site

AHEAD_MAX_MS = 5 * 60_000
"""How far a command's time may be ahead of the gateway's."""
LIFETIME_MAX_MS = 7 * 86_400_000
"""How long a command may be valid: what nobody applied cannot come up years later."""
STARTS_MAX = 5
"""How often an agent may start with a file on trial: one that it dies of goes back at the next."""

_INSTALLED = 0
_FREE = frozenset(
    {"file", "name", "window_lengths_ms", "flush_ms", "state_bytes_max", "buses", "local_time"}
)
"""What one key may change: what is measured. Everything else, of today or later, takes two."""

_KEYS = {
    "gateway": "site.gateway",
    "key_file": "site.key_file",
    "takes_commands": "site.remote_configuration",
    "trial_ms": "site.remote_trial",
    "state_directory": "state.directory",
    "resend_ms": "state.resend_days",
    "history_ms": "state.history_days",
    "status_file": "status.file",
    "metrics_address": "status.metrics",
    "destinations": "[[destination]]",
}
"""What fields are called in the site file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Which site file runs, by the number of the command that brought it; 0 is the installer's."""

    number: int = 0
    """Of the last command that was applied: no lower one ever is."""
    digest: bytes = b""
    """SHA-256 of its site file."""
    outcome: Outcome = Outcome.REFUSED
    text: str = ""
    at_ms: int = 0
    destination: str = ""
    """Which one the command came from: its receipt ends the trial, and it is told of the end."""
    runs: int = _INSTALLED
    former: int = _INSTALLED
    installed: bytes = b""
    """SHA-256 of the installer's file at that time: a later change of theirs goes before ours."""
    left_ms: int = 0
    """What is left of the trial, in time that the agent runs."""
    starts: int = 0

    @property
    def is_on_trial(self) -> bool:
        """Whether the file that runs has yet to prove itself."""
        return self.outcome is Outcome.ON_TRIAL

    def answer(self, gateway: str) -> Answer:
        """Say what became of the last command that was applied."""
        return Answer(gateway, self.number, self.digest, self.outcome, self.at_ms, self.text)


def refusal(command: Command, gateway: str, standing: Standing, now_ms: int) -> str:
    """Return why a signed command is not obeyed; empty where its file may be looked at."""
    late_s = (now_ms - command.expires_ms) // 1000
    ahead_ms = command.issued_ms - now_ms
    for is_wrong, why in (
        (command.gateway != gateway, f"a command for {command.gateway}; this is {gateway}"),
        (
            command.expires_ms - command.issued_ms > LIFETIME_MAX_MS,
            f"valid for more than {LIFETIME_MAX_MS // 86_400_000} days",
        ),
        (now_ms >= command.expires_ms, f"expired {late_s} s ago"),
        (
            ahead_ms > AHEAD_MAX_MS,
            f"made {ahead_ms // 1000} s from now: this clock or the platform's is wrong",
        ),
        (
            command.number <= standing.number,
            f"number {command.number} is not above {standing.number}, the last one applied",
        ),
        (standing.is_on_trial, f"number {standing.number} is on trial: wait for its end"),
    ):
        if is_wrong:
            return why
    return ""


def is_repeated(command: Command, standing: Standing) -> bool:
    """Tell whether this command was applied already: it is answered for once more."""
    return (
        command.kind is CommandKind.CONFIGURE
        and command.number == standing.number
        and command.digest == standing.digest
    )


def guarded_changes(running: Site, wanted: Site) -> list[str]:
    """Return what two platform keys must have signed for, of what would change."""
    return [
        _KEYS.get(field.name, field.name)
        for field in dataclasses.fields(Site)
        if field.name not in _FREE and getattr(running, field.name) != getattr(wanted, field.name)
    ]


def begin(
    standing: Standing,
    command: Command,
    *,
    destination: str,
    installed: bytes,
    trial_ms: int,
    now_ms: int,
) -> Standing:
    """Let the command's file run from the next start on."""
    return Standing(
        number=command.number,
        digest=command.digest,
        outcome=Outcome.ON_TRIAL,
        text=f"it goes back unless a receipt comes within {trial_ms // 1000} s",
        at_ms=now_ms,
        destination=destination,
        runs=command.number,
        former=standing.runs,
        installed=installed,
        left_ms=trial_ms,
    )


def confirm(standing: Standing, now_ms: int) -> Standing:
    """End a trial well."""
    return replace(
        standing, outcome=Outcome.CONFIRMED, text="a receipt came", at_ms=now_ms, left_ms=0
    )


def roll_back(standing: Standing, why: str, now_ms: int) -> Standing:
    """End a trial with the former file."""
    return replace(
        standing,
        outcome=Outcome.ROLLED_BACK,
        text=why,
        at_ms=now_ms,
        runs=standing.former,
        left_ms=0,
    )


def withdraw(standing: Standing, now_ms: int) -> Standing:
    """Let the installer's file run, which somebody has changed on the gateway since."""
    return replace(
        standing,
        outcome=Outcome.ROLLED_BACK,
        text="the site file was changed on the gateway, or the pushed one is gone",
        at_ms=now_ms,
        runs=_INSTALLED,
        former=_INSTALLED,
        left_ms=0,
    )


def start(standing: Standing) -> Standing:
    """Count a start on trial."""
    return replace(standing, starts=standing.starts + 1)


def spend(standing: Standing, duration_ms: int) -> Standing:
    """Let time of the trial pass."""
    return replace(standing, left_ms=max(0, standing.left_ms - duration_ms))


def failure(standing: Standing) -> str:
    """Return why a trial is over and lost; empty while it is not."""
    if not standing.is_on_trial:
        return ""
    if standing.starts > STARTS_MAX:
        return f"the agent started {STARTS_MAX} times with it and no receipt came"
    if standing.left_ms == 0:
        return f"no receipt of {standing.destination} came in time"
    return ""
