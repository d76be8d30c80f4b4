"""Whose messages are let in: the gateways' keys, and what each may still sign.

Decides from values alone; the store keeps the keys, `edgeagg.seal` checks the signatures.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from edgeagg.batch import Batch, BatchKind, Hello, NewKey
from edgeagg.errors import FormatError
from edgeagg.seal import Domain, Suite, key_id, key_named, signed_by, suite_of

DOMAINS = {"batch": Domain.BATCH, "hello": Domain.HELLO}
"""What the messages on each topic are signed for."""


class Admission(enum.StrEnum):
    """Whom a platform lets in."""

    ENROLLED = "enrolled"  # gateways whose key the platform engineer has entered
    FIRST_USE = "first-use"  # and new ones, with the key that they come with
    ANYBODY = "anybody"  # unsigned messages too: for a bench


class State(enum.StrEnum):
    """What a key is good for."""

    ACTIVE = "active"
    RETIRED = "retired"  # followed by another: it vouches for what came before
    REVOKED = "revoked"  # for nothing any more


@dataclass(frozen=True, slots=True)
class GatewayKey:
    """A key of one gateway; `until` is the batch (epoch, sequence) in which it named the next."""

    gateway: str
    public: bytes
    state: State
    until: tuple[int, int]
    added_ms: int
    ended_ms: int

    def vouches_for(self, parsed: Batch | Hello) -> bool:
        """Tell whether what it signed is to be believed."""
        if self.state is State.RETIRED and isinstance(parsed, Batch):
            return (parsed.epoch, parsed.sequence) <= self.until
        return self.state is State.ACTIVE


class UnknownKeyError(FormatError):
    """Signed by a key that is not (yet) the gateway's."""


@dataclass(frozen=True, slots=True)
class Change:
    """A gateway's key followed by another, with the batch that says so."""

    former: bytes
    public: bytes


def sealer(
    data: bytes, leaf: str, keys: Sequence[GatewayKey], admission: Admission
) -> GatewayKey | None:
    """Return the key that signed a message, before anything of it is decoded.

    None where the message need not be signed. Raise UnknownKeyError where none of the keys has
    signed it, FormatError where it is not signed.
    """
    if suite_of(data) is Suite.CRC32:
        if admission is Admission.ANYBODY and not keys:
            return None
        raise FormatError("not signed; this platform takes signed messages only")
    public = signed_by(data, DOMAINS[leaf], [key.public for key in keys])
    for key in keys:
        if key.public == public:
            return key
    if admission is Admission.ANYBODY and not keys:
        return None
    named = key_named(data).hex()
    known = ", ".join(key_id(key.public).hex() for key in keys) or "none"
    raise UnknownKeyError(f"not signed by a key of this gateway: it names {named}, known: {known}")


def newcomer(gateway: str, data: bytes) -> bytes:
    """Return the key that a new gateway's hello comes with and is signed by; else FormatError."""
    hello = Hello.from_bytes(data)
    if hello.gateway != gateway:
        raise FormatError(f"a message of {hello.gateway} on a topic of {gateway}")
    public = hello.public
    if signed_by(data, Domain.HELLO, [public] if public else []) is None:
        raise FormatError("a new gateway's hello must be signed by the key that it comes with")
    return public


def change(batch: Batch, key: GatewayKey | None) -> Change | None:
    """Return what a batch of kind KEY says; None for any other; raise FormatError.

    Where nobody's signature is asked for, nobody's key is kept either.
    """
    if batch.kind is not BatchKind.KEY or key is None:
        return None
    following = NewKey.from_bytes(batch.payload, batch.gateway, key.public)
    if following.public == key.public:
        raise FormatError("a key that follows itself")
    return Change(key.public, following.public)
