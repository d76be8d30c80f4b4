"""What the platform asks of a gateway, and what the gateway answers: docs/batch-format.md.

Pure, as `edgeagg.batch`: bytes in, values out. What is obeyed is the gateway's matter.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from edgeagg.batch import check_gateway, check_number
from edgeagg.errors import FormatError
from edgeagg.seal import Domain, Signer, seal_of, sealed, signed_by, unsealed, with_seal

TEXT_BYTES_MAX = 256

_DIGEST_BYTES = 32
_SEAL_BYTES = 68


class CommandKind(enum.IntEnum):
    """What is asked."""

    CONFIGURE = 1  # the payload is the site file that shall run
    CHECK = 2  # the same, but nothing is changed: would it be right?


class Outcome(enum.IntEnum):
    """What became of a command."""

    REFUSED = 0
    CHECKED = 1  # it would be right
    ON_TRIAL = 2  # it runs, and goes back by itself unless a receipt comes
    CONFIRMED = 3
    ROLLED_BACK = 4


@dataclass(frozen=True, slots=True)
class Command:
    """One thing asked of one gateway, valid until `expires_ms`.

    `second` is the seal that another platform key gives to the same command without a `second`;
    empty where one key is enough.
    """

    gateway: str
    number: int
    kind: CommandKind
    issued_ms: int
    expires_ms: int
    payload: bytes
    second: bytes = b""

    def __post_init__(self) -> None:
        check_gateway(self.gateway)
        for name in ("number", "issued_ms", "expires_ms"):
            check_number(name, getattr(self, name))
        if not isinstance(self.payload, bytes) or not isinstance(self.second, bytes):
            raise FormatError("payload and second seal must be binary")
        if len(self.second) not in {0, _SEAL_BYTES}:
            raise FormatError(f"a second seal of {len(self.second)} bytes, not {_SEAL_BYTES}")

    def to_bytes(self, signer: Signer, second: Signer | None = None) -> bytes:
        """Encode; `second` signs, too."""
        alone = replace(self, second=b"")
        if second is None:
            return sealed(alone._fields(), Domain.COMMAND, signer)
        other = seal_of(sealed(alone._fields(), Domain.COMMAND, second))
        return sealed(replace(self, second=other)._fields(), Domain.COMMAND, signer)

    @staticmethod
    def from_bytes(data: bytes, keys: Iterable[bytes]) -> tuple[Command, frozenset[bytes]]:
        """Return the command and those of the keys that have signed it, one or two.

        Raise FormatError for anything else; nothing is decoded that none of the keys has signed.
        """
        known = list(keys)
        first = signed_by(data, Domain.COMMAND, known)
        if first is None:
            raise FormatError("signed by none of the platform_keys")
        gateway, number, kind, issued_ms, expires_ms, payload, second = unsealed(data, 7)
        if type(kind) is not int or kind not in tuple(CommandKind):
            raise FormatError(f"command kind {kind!r} is unknown to this version")
        command = Command(
            gateway, number, CommandKind(kind), issued_ms, expires_ms, payload, second
        )
        if not second:
            return command, frozenset({first})
        alone = with_seal(replace(command, second=b"")._fields(), second)
        other = signed_by(alone, Domain.COMMAND, known)
        if other is None:
            raise FormatError("the second seal is of none of the platform_keys")
        return command, frozenset({first, other})

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the payload, which an answer names it by."""
        return hashlib.sha256(self.payload).digest()

    def _fields(self) -> list[Any]:
        return [
            self.gateway,
            self.number,
            int(self.kind),
            self.issued_ms,
            self.expires_ms,
            self.payload,
            self.second,
        ]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command; `digest` is the SHA-256 of its payload."""

    gateway: str
    number: int
    digest: bytes
    outcome: Outcome
    at_ms: int
    text: str

    def __post_init__(self) -> None:
        check_gateway(self.gateway)
        for name in ("number", "at_ms"):
            check_number(name, getattr(self, name))
        if not isinstance(self.digest, bytes) or len(self.digest) != _DIGEST_BYTES:
            raise FormatError(f"a digest has {_DIGEST_BYTES} bytes")
        if not isinstance(self.text, str) or not self.text.isprintable():
            raise FormatError("the text of an answer is one line")

    def to_bytes(self, signer: Signer | None = None) -> bytes:
        """Encode; a longer text is cut."""
        text = self.text.encode("utf-8")[:TEXT_BYTES_MAX].decode("utf-8", "ignore")
        return sealed(
            [self.gateway, self.number, self.digest, int(self.outcome), self.at_ms, text],
            Domain.ANSWER,
            signer,
        )

    @staticmethod
    def from_bytes(data: bytes) -> Answer:
        """Decode and check all but a signature; raise FormatError on anything else."""
        gateway, number, digest, outcome, at_ms, text = unsealed(data, 6)
        if type(outcome) is not int or outcome not in tuple(Outcome):
            raise FormatError(f"outcome {outcome!r} is unknown to this version")
        return Answer(gateway, number, digest, Outcome(outcome), at_ms, text)
