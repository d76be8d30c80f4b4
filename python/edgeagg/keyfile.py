"""A secret key in a file of its own: made where it is used, readable by its owner alone.

Owns the file's form and its permissions. The secret is never printed, logged or returned as bytes.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

from edgeagg._core import SecretKey
from edgeagg.disk import sync
from edgeagg.errors import StoreError
from edgeagg.seal import Signer

_HEAD = "edgeagg secret key 1 "
_SEED_BYTES = 32


def load(path: Path) -> Signer:
    """Read a key; raise StoreError for a file that is none, or that others can read."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(256).decode("ascii", "replace")
    except OSError as error:
        raise StoreError(f"{path}: the key cannot be read: {error.strerror}") from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise StoreError(f"{path}: others can read the key (mode {mode:o}); use chmod 600 {path}")
    try:
        seed = base64.b64decode(text.removeprefix(_HEAD).strip(), validate=True)
    except binascii.Error:
        seed = b""
    if not text.startswith(_HEAD) or len(seed) != _SEED_BYTES:
        raise StoreError(f"{path}: not a key file; put it back from a copy, or remove it and enrol")
    return Signer(SecretKey(seed))


def make(path: Path, random_bytes: Callable[[int], bytes] = os.urandom) -> Signer:
    """Make a key in a new file, on the disk before this returns; raise StoreError if it cannot."""
    seed = random_bytes(_SEED_BYTES)
    text = f"{_HEAD}{base64.b64encode(seed).decode('ascii')}\n"
    new = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - of a descriptor
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if os.geteuid() == 0:
            # made by an installer: it belongs to whom the folder belongs to, as the agent will
            owner = path.parent.stat()
            os.chown(new, owner.st_uid, owner.st_gid)
        # not replace: a key that somebody made meanwhile stays
        os.link(new, path)
        new.unlink()
        sync(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: no key can be made: {error.strerror}") from error
    return Signer(SecretKey(seed))


def load_or_make(path: Path) -> Signer:
    """Read a key, or make it where there is none yet."""
    if not path.exists():
        return make(path)
    # whoever made or renamed it was perhaps killed before the disk knew
    with contextlib.suppress(PermissionError):
        sync(path.parent)
    return load(path)
