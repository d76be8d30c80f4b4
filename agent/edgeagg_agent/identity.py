"""The gateway's own key: made at the first start, followed by another when somebody asks for it.

Owns the key's files. Which batch announces the next key is the recorder's matter.
"""

from __future__ import annotations

from pathlib import Path

from edgeagg import keyfile
from edgeagg.disk import sync
from edgeagg.errors import StoreError
from edgeagg.seal import Signer

_NEXT = ".next"


def following(key_file: Path) -> Signer | None:
    """Return the key that is to follow, if `renew` was asked for."""
    path = _next(key_file)
    return keyfile.load(path) if path.exists() else None


def renew(key_file: Path) -> Signer:
    """Make the key that follows from the next start on."""
    if _next(key_file).exists():
        raise StoreError(f"{_next(key_file)} waits already: restart the agent to let it follow")
    return keyfile.make(_next(key_file))


def adopt(key_file: Path) -> None:
    """Let the next key take the former one's place, now that a batch has announced it."""
    _next(key_file).replace(key_file)
    sync(key_file.parent)


def _next(key_file: Path) -> Path:
    return key_file.with_name(key_file.name + _NEXT)
