"""Waiting for the disk, so that a power cut cannot take what somebody relies on."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """Return when the disk has what a file holds, or the names in a folder. Blocks; OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
