"""Copies of agent and receiver that are broken in one place, to be run instead of the real."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from hil_tests.sim.site import CHECKOUT

PACKAGES = ("python/edgeagg", "agent/edgeagg_agent")


def copied(directory: Path, folders: Sequence[str]) -> Path:
    """Copy folders of the checkout, without what was built there."""
    for folder in folders:
        shutil.copytree(
            CHECKOUT / folder,
            directory / folder,
            ignore=shutil.ignore_patterns("__pycache__", "target", "tests"),
        )
    return directory


def change(file: Path, before: str, after: str) -> None:
    """Break one place of a copied file."""
    text = file.read_text("utf-8")
    assert text.count(before) == 1, f"{file.name} has changed: find the place to break again"
    file.write_text(text.replace(before, after), "utf-8")


def python_path(broken: Path) -> str:
    """Return the PYTHONPATH under which copied packages go before the installed ones."""
    return ":".join(str(broken / package.split("/")[0]) for package in PACKAGES)
