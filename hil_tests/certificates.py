"""Certificates for the bench, made as they are needed: no program, no package, no file in the tree.

Owns just enough DER (X.690) and X.509 (RFC 5280) for Ed25519 certificates (RFC 8410). Only the
bench may trust what comes from here.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgeagg import _core

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
LONG_HENCE = datetime(2090, 1, 1, tzinfo=UTC)

_SEQUENCE, _SET, _INTEGER, _BITS, _OCTETS, _UTF8, _OID = 0x30, 0x31, 0x02, 0x03, 0x04, 0x0C, 0x06
_TRUE = bytes.fromhex("0101ff")
_ED25519 = bytes.fromhex("06032b6570")
_COMMON_NAME = bytes.fromhex("0603550403")
_BASIC, _KEY_USAGE, _ALT_NAME = (bytes.fromhex(f"0603551d{n}") for n in ("13", "0f", "11"))
_SUBJECT_KEY, _AUTHORITY_KEY = (bytes.fromhex(f"0603551d{n}") for n in ("0e", "23"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Where a certificate and its key are."""

    cert_file: Path
    key_file: Path


class Authority:
    """Vouches for servers and clients of one test."""

    def __init__(self, directory: Path, name: str = "bench authority") -> None:
        """Make its key; `ca_file` lies in `directory`."""
        self._directory, self._name, self._seed = directory, name, secrets.token_bytes(32)
        self.ca_file = directory / f"{name.replace(' ', '-')}.pem"
        der = self._certificate(name, self._public, "", LONG_AGO, LONG_HENCE)
        self.ca_file.write_text(_pem("CERTIFICATE", der))

    def issue(
        self,
        name: str,
        *,
        host: str = "localhost",
        since: datetime = LONG_AGO,
        until: datetime = LONG_HENCE,
    ) -> Pair:
        """Write a certificate for a common name and a host name; its key has mode 600."""
        seed = secrets.token_bytes(32)
        der = self._certificate(name, _core.SecretKey(seed).public, host, since, until)
        pair = Pair(
            cert_file=self._directory / f"{name}.pem", key_file=self._directory / f"{name}.key"
        )
        pair.cert_file.write_text(_pem("CERTIFICATE", der))
        pair.key_file.touch(0o600)
        key = _der(
            _SEQUENCE, b"\x02\x01\0", _der(_SEQUENCE, _ED25519), _der(_OCTETS, _octets(seed))
        )
        pair.key_file.write_text(_pem("PRIVATE KEY", key))
        return pair

    @property
    def _public(self) -> bytes:
        return _core.SecretKey(self._seed).public

    def _certificate(
        self, name: str, public: bytes, host: str, since: datetime, until: datetime
    ) -> bytes:
        algorithm = _der(_SEQUENCE, _ED25519)
        body = _der(
            _SEQUENCE,
            _der(0xA0, b"\x02\x01\x02"),
            _der(_INTEGER, b"\x01" + secrets.token_bytes(8)),
            algorithm,
            _named(self._name),
            _der(_SEQUENCE, _time(since), _time(until)),
            _named(name),
            _der(_SEQUENCE, algorithm, _bits(public)),
            _der(0xA3, _der(_SEQUENCE, *_extensions(public, self._public, host))),
        )
        signature = _core.SecretKey(self._seed).sign(body)
        return _der(_SEQUENCE, body, algorithm, _bits(signature))


def _extensions(public: bytes, authority: bytes, host: str) -> list[bytes]:
    is_authority = not host
    usage = "03020106" if is_authority else "03020780"  # signs certificates; or signs
    made = [
        _extension(_BASIC, _der(_SEQUENCE, _TRUE if is_authority else b""), is_critical=True),
        _extension(_KEY_USAGE, bytes.fromhex(usage), is_critical=True),
        _extension(_SUBJECT_KEY, _octets(_digest(public))),
        _extension(_AUTHORITY_KEY, _der(_SEQUENCE, _der(0x80, _digest(authority)))),
    ]
    if host:
        made.append(_extension(_ALT_NAME, _der(_SEQUENCE, _der(0x82, host.encode()))))
    return made


def _extension(kind: bytes, value: bytes, *, is_critical: bool = False) -> bytes:
    return _der(_SEQUENCE, kind, _TRUE if is_critical else b"", _octets(value))


def _digest(public: bytes) -> bytes:
    return hashlib.sha256(public).digest()[:20]


def _named(name: str) -> bytes:
    return _der(
        _SEQUENCE, _der(_SET, _der(_SEQUENCE, _COMMON_NAME, _der(_UTF8, name.encode("utf-8"))))
    )


def _time(at: datetime) -> bytes:
    # until 2049 with two digits of the year (RFC 5280, 4.1.2.5)
    if at.year < 2050:
        return _der(0x17, at.strftime("%y%m%d%H%M%SZ").encode())
    return _der(0x18, at.strftime("%Y%m%d%H%M%SZ").encode())


def _bits(value: bytes) -> bytes:
    return _der(_BITS, b"\0", value)


def _octets(value: bytes) -> bytes:
    return _der(_OCTETS, value)


def _der(kind: int, *parts: bytes) -> bytes:
    value = b"".join(parts)
    size = len(value)
    if size < 0x80:
        return bytes((kind, size)) + value
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((kind, 0x80 | len(length))) + length + value


def _pem(label: str, der: bytes) -> str:
    text = base64.b64encode(der).decode("ascii")
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"
