"""How a message is sealed: what its last field is, and who vouches for it.

Owns the suites of docs/batch-format.md. Knows no message, no clock and no file; whose key is
trusted for what is decided by those who hold the keys.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack

from edgeagg import _core
from edgeagg.errors import FormatError
from edgeagg.model import unpack_bounded

MESSAGE_BYTES_MAX = 256 * 1024
KEY_ID_BYTES = 4
PUBLIC_BYTES = 32

_VERSION = 1
_FIXARRAY, _FIXARRAY_ITEMS = 0x90, 15  # msgpack's short array head: its high and its low half
_BIN8 = 0xC4
_SEAL_HEAD_BYTES = 2  # msgpack's bin 8 head
_KEY_TEXT = "ed25519:"


class Suite(enum.IntEnum):
    """How the seal is made. 2 is reserved for SM2 with SM3."""

    CRC32 = 0
    ED25519 = 1


_SEAL_BYTES = {Suite.CRC32: 4, Suite.ED25519: KEY_ID_BYTES + 64}


class Domain(enum.Enum):
    """What a signature is for: it stands before the signed bytes, so that none fits elsewhere."""

    BATCH = b"edgeagg batch\n"
    HELLO = b"edgeagg hello\n"
    RECEIPT = b"edgeagg receipt\n"
    COMMAND = b"edgeagg command\n"
    ANSWER = b"edgeagg answer\n"
    NEW_KEY = b"edgeagg new key\n"


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that vouches for messages."""

    secret: _core.SecretKey

    @property
    def public(self) -> bytes:
        """The key's public half, 32 bytes."""
        return self.secret.public

    def sign(self, domain: Domain, body: bytes) -> bytes:
        """Return the signature over a body, 64 bytes."""
        return self.secret.sign(domain.value + body)


def key_id(public: bytes) -> bytes:
    """Return what a seal names its key by: the first 4 bytes of its SHA-256."""
    return hashlib.sha256(public).digest()[:KEY_ID_BYTES]


def key_text(public: bytes) -> str:
    """Return a public key as people pass it on."""
    return _KEY_TEXT + base64.b64encode(public).decode("ascii")


def parse_key(text: str) -> bytes:
    """Return the public key that `key_text` wrote; raise ValueError for anything else."""
    if not text.startswith(_KEY_TEXT):
        raise ValueError(f"{text!r} does not begin with {_KEY_TEXT}")
    try:
        public = base64.b64decode(text.removeprefix(_KEY_TEXT), validate=True)
    except binascii.Error:
        raise ValueError(f"{text!r} is not base64 behind {_KEY_TEXT}") from None
    _core.verify(public, b"", bytes(64))  # what is no key is refused here
    return public


def sealed(fields: Sequence[Any], domain: Domain, signer: Signer | None) -> bytes:
    """Pack version, suite and fields, and seal them: signed, or with a CRC-32."""
    suite = Suite.CRC32 if signer is None else Suite.ED25519
    body = _body(fields, suite)
    return _joined(
        body,
        zlib.crc32(body).to_bytes(_SEAL_BYTES[suite], "little")
        if signer is None
        else key_id(signer.public) + signer.sign(domain, body),
    )


def with_seal(fields: Sequence[Any], seal: bytes) -> bytes:
    """Pack a signed message whose seal was made elsewhere; whether it fits is not looked at."""
    return _joined(_body(fields, Suite.ED25519), seal)


def seal_of(data: bytes) -> bytes:
    """Return the seal of a message; raise FormatError where there is none."""
    return _parts(data)[2]


def _body(fields: Sequence[Any], suite: Suite) -> bytes:
    packer = msgpack.Packer()
    head: bytes = packer.pack_array_header(len(fields) + 3)
    return head + b"".join(packer.pack(item) for item in (_VERSION, int(suite), *fields))


def _joined(body: bytes, seal: bytes) -> bytes:
    message: bytes = body + msgpack.packb(seal)
    if len(message) > MESSAGE_BYTES_MAX:
        raise FormatError(f"a message of {len(message)} bytes; at most {MESSAGE_BYTES_MAX}")
    return message


def unsealed(data: bytes, count: int) -> list[Any]:
    """Return the fields of a message that has `count` of them.

    A CRC-32 is checked. A signature is not: `signed_by` tells whose it is, before this is called.
    """
    suite, body, seal = _parts(data)
    if suite is Suite.CRC32 and zlib.crc32(body).to_bytes(len(seal), "little") != seal:
        raise FormatError("the seal does not match: damaged or cut short")
    items = unpack_bounded(data)
    if not isinstance(items, list) or len(items) != count + 3:
        found = len(items) if isinstance(items, list) else "no"
        raise FormatError(f"{found} fields, {count + 3} expected")
    version, named, *fields, last = items
    if version != _VERSION or named != suite or last != seal:
        raise FormatError("the seal is not the last field")
    return fields


def suite_of(data: bytes) -> Suite:
    """Return how a message is sealed; raise FormatError where that cannot be told."""
    return _parts(data)[0]


def key_named(data: bytes) -> bytes:
    """Return the id of the key that a signed message names."""
    return _parts(data)[2][:KEY_ID_BYTES]


def signed_by(data: bytes, domain: Domain, keys: Iterable[bytes]) -> bytes | None:
    """Return which of the public keys has signed a message; None when none has.

    Nothing of the message is decoded. Raise FormatError for what cannot be a message.
    """
    suite, body, seal = _parts(data)
    if suite is not Suite.ED25519:
        return None
    named, signature = seal[:KEY_ID_BYTES], seal[KEY_ID_BYTES:]
    for public in keys:
        if key_id(public) == named and is_signed(public, domain, body, signature):
            return public
    return None


def is_signed(public: bytes, domain: Domain, body: bytes, signature: bytes) -> bool:
    """Tell whether `public` has signed the body; what is no key has signed nothing."""
    try:
        return _core.verify(public, domain.value + body, signature)
    except ValueError:
        return False


def _parts(data: bytes) -> tuple[Suite, bytes, bytes]:
    """Return suite, sealed bytes and seal, from the first three and the last bytes alone."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise FormatError(f"a message of {len(data)} bytes; at most {MESSAGE_BYTES_MAX}")
    if len(data) < 3 or not _FIXARRAY < data[0] <= _FIXARRAY | _FIXARRAY_ITEMS:
        raise FormatError("not a message: a short array is expected")
    if data[1] != _VERSION:
        raise FormatError(f"format version {data[1]}; this edgeagg reads version {_VERSION}")
    try:
        suite = Suite(data[2])
    except ValueError:
        raise FormatError(f"seal suite {data[2]} is unknown to this version") from None
    size = _SEAL_BYTES[suite]
    at = len(data) - size - _SEAL_HEAD_BYTES
    if at < 3 or data[at] != _BIN8 or data[at + 1] != size:
        raise FormatError("the seal does not match: damaged or cut short")
    return suite, data[:at], data[at + _SEAL_HEAD_BYTES :]
