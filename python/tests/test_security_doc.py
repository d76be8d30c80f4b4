"""docs/security.md names only files and tests that are there: a control without them is a claim."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
TEXT = (CHECKOUT / "docs/security.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(test_\w+)`", TEXT)))
PATHS = sorted(set(re.findall(r"`((?:agent|python|aggregator-rs|deploy|hil_tests)/[^`]*)`", TEXT)))


@pytest.fixture(scope="module")
def tests() -> str:
    """Return all test files, one behind the other."""
    folders = ("agent/tests", "python/tests", "hil_tests", "deploy")
    files = [file for folder in folders for file in (CHECKOUT / folder).rglob("test_*.py")]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@pytest.mark.parametrize("name", NAMES)
def test_a_test_that_is_named_exists(name: str, tests: str) -> None:
    assert f"def {name}(" in tests


@pytest.mark.parametrize("path", PATHS)
def test_a_file_that_is_named_exists(path: str) -> None:
    assert (CHECKOUT / path).exists()


def test_every_threat_has_a_row_with_a_control_and_what_shows_it() -> None:
    rows = re.findall(r"^\| (T\d+) \| (.+?) \| (.+) \| (.+?) \|$", TEXT, re.MULTILINE)
    assert [row[0] for row in rows] == [f"T{number}" for number in range(1, 16)]
    for number, _, control, shown in rows:
        assert len(control) > 40, number
        assert "`" in shown, number
