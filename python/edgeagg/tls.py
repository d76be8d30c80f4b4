"""TLS to a broker, for both ends: which files it takes, how strict it is, what a refusal means.

Opens no connection. The password for a broker is read here too, as it may change like a file of
TLS.
"""

from __future__ import annotations

import datetime as dt
import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from edgeagg.errors import LinkError

# X509_V_ERR_* of OpenSSL's x509_vfy.h
_NOT_YET_VALID, _EXPIRED, _HOST, _ADDRESS = 9, 10, 62, 64
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files; empty where there is none."""

    ca_file: str = ""
    """Who vouches for the broker; without it the authorities that the host trusts."""
    cert_file: str = ""
    """The certificate that this end shows, with those between it and its authority."""
    cert_key_file: str = ""


def context(files: TlsFiles) -> ssl.SSLContext:
    """Return how to connect: TLS 1.2 or newer, the broker's certificate and host name checked.

    Raise LinkError for a file that cannot be used; it may be in the course of being replaced.
    """
    try:
        made = ssl.create_default_context(cafile=files.ca_file or None)
    except OSError as error:
        raise LinkError(f"{files.ca_file}: no certificates: {_reason(error)}") from None
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if files.cert_file:
        try:
            made.load_cert_chain(
                files.cert_file, files.cert_key_file or None, password=_no_passphrase
            )
        except OSError as error:
            named = f"{files.cert_file} with {files.cert_key_file or 'its key'}"
            raise LinkError(f"{named}: no certificate and its key: {_reason(error)}") from None
    return made


def key_trouble(path: str) -> str:
    """Return what is wrong with who may read a key file; empty where nothing is."""
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116 - of a text from a file
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    if not os.access(path, os.R_OK):
        return f"cannot read {path}"
    if mode & stat.S_IRWXO:
        return f"everybody can read {path} (mode {mode:o})"
    return ""


def password(file: str) -> str | None:
    """Read the password for a broker; None where there is no file, LinkError where unreadable."""
    if not file:
        return None
    try:
        return Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise LinkError(f"{file}: no password: {reason}") from None


def explain(error: BaseException, host: str, now_ms: int, *, is_tls: bool) -> str:
    """Say in one line why there is no connection, and what to look at where that is known."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        # the MQTT client passes on the words alone
        cause = cause.__cause__ or cause.__context__
    if not isinstance(cause, ssl.SSLCertVerificationError):
        # a broker that minds our certificate closes behind the handshake (TLS 1.3), and the MQTT
        # client goes on waiting
        said_nothing = is_tls and str(error) == "Operation timed out"
        asked = " behind TLS: does the broker know the certificate of cert_file?"
        return f"{error}{asked if said_nothing else ''}"
    code = cause.verify_code
    today = dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
    if code == _NOT_YET_VALID:
        return f"the broker's certificate is not yet valid: is the clock right? It says {today}"
    if code == _EXPIRED:
        return f"the broker's certificate has expired; the clock here says {today}"
    if code in {_HOST, _ADDRESS}:
        return f"the broker's certificate is not for {host}: wrong address, or wrong broker"
    if code in _UNKNOWN_AUTHORITY:
        return "the broker's certificate is of an unknown authority: see ca_file"
    return f"the broker's certificate is refused: {cause.verify_message}"


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return {"KEY_VALUES_MISMATCH": "they do not belong together"}.get(
            error.reason, "not PEM of the expected kind"
        )
    return error.strerror or str(error)


def _no_passphrase() -> str:
    """Refuse a key with a passphrase: OpenSSL would ask for it on a terminal nobody sees."""
    raise LinkError("the key of the certificate has a passphrase: nobody is there to type it")
