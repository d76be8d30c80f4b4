"""What a run of virtual days ends with when a promise was broken."""

from __future__ import annotations


class ViolationError(Exception):
    """A slot, a value or a batch is not what it must be."""
