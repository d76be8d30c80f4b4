"""Where the broker is, on the command line of every command that needs one."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from edgeagg import tls
from edgeagg.errors import ConfigError, LinkError

if TYPE_CHECKING:
    from edgeagg.receiver.mqtt import Broker


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --broker and what goes with it."""
    parser.add_argument("--broker", required=True, help="mqtt://HOST:PORT or mqtts://HOST:PORT")
    parser.add_argument("--username", default="", help="for the broker")
    parser.add_argument("--password-file", default="", help="file with the broker's password")
    parser.add_argument("--ca-file", default="", help="certificate authority of the broker (PEM)")
    parser.add_argument("--cert-file", default="", help="certificate to show to the broker (PEM)")
    parser.add_argument("--cert-key-file", default="", help="its key (PEM, mode 640 or less)")


def broker(options: argparse.Namespace) -> Broker:
    """Return where to connect; raise ConfigError for what cannot be right."""
    # the client is needed by few commands; the others run without it
    from edgeagg.receiver.mqtt import Broker  # noqa: PLC0415

    try:
        url = urlsplit(options.broker)
        port = url.port
    except ValueError:
        url, port = urlsplit(""), None
    if url.scheme not in {"mqtt", "mqtts"} or not url.hostname:
        raise ConfigError("--broker", "url", repr(options.broker), "mqtt://HOST:PORT or mqtts://…")
    is_tls = url.scheme == "mqtts"
    files = tls.TlsFiles(
        ca_file=options.ca_file, cert_file=options.cert_file, cert_key_file=options.cert_key_file
    )
    if is_tls:
        _check(files)
    elif files != tls.TlsFiles():
        raise ConfigError("--broker", "url", repr(options.broker), "mqtts:// with files of TLS")
    return Broker(
        url.hostname,
        port or (8883 if is_tls else 1883),
        tls=is_tls,
        username=options.username,
        password_file=options.password_file,
        tls_files=files,
    )


def _check(files: tls.TlsFiles) -> None:
    if bool(files.cert_file) != bool(files.cert_key_file):
        raise ConfigError("--cert-file", "file", "one of two", "both it and --cert-key-file")
    trouble = tls.key_trouble(files.cert_key_file) if files.cert_key_file else ""
    if trouble:
        raise ConfigError("--cert-key-file", "file", trouble, "a file of its owner: chmod 600")
    try:
        tls.context(files)
    except LinkError as error:
        raise ConfigError("--broker", "TLS", str(error), "PEM files") from None
