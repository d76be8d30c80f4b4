"""The one error of the simulator: something in its files that the user can put right."""

from __future__ import annotations


class SimError(Exception):
    """Say in one line which file, line or meter is wrong and what is allowed."""
