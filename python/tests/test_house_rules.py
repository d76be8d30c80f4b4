"""The rules of the house that no linter knows: small, light, one version, no addresses."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import edgeagg
import edgeagg_agent
from edgeagg import _core

CHECKOUT = Path(__file__).parents[2]
LINES_MAX = 450
TEST_LINES_MAX = 600
SOURCES = [
    path
    for folder in ("python", "agent", "hil_tests", "deploy", "aggregator-rs")
    for pattern in ("*.py", "*.rs")
    for path in (CHECKOUT / folder).rglob(pattern)
    if "target" not in path.parts
]
TRACKED = [
    CHECKOUT / name
    for name in subprocess.run(
        ["git", "ls-files"], cwd=CHECKOUT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_a_source_file_has_one_reason_and_so_is_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    is_test = "test" in path.stem or "tests" in path.parts
    longest = TEST_LINES_MAX if is_test else LINES_MAX
    assert lines <= longest, f"{lines} lines: which two files is it?"


def test_importing_edgeagg_brings_no_network_no_event_loop_and_no_modbus() -> None:
    code = "import edgeagg, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    heavy = {"asyncio", "socket", "ssl", "sqlite3", "pymodbus", "serial", "aiomqtt", "rich"}
    assert heavy.isdisjoint(loaded)


def test_the_agents_command_line_starts_without_pymodbus_and_databases() -> None:
    code = "import edgeagg_agent.cli, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    assert {"pymodbus", "sqlite3", "asyncpg", "rich", "hypothesis"}.isdisjoint(loaded)


def test_the_repository_has_one_version_number() -> None:
    cargo = tomllib.loads((CHECKOUT / "aggregator-rs/Cargo.toml").read_text())
    version = cargo["package"]["version"]
    assert edgeagg.__version__ == version == _core.VERSION
    assert f"## [{version}]" in (CHECKOUT / "CHANGELOG.md").read_text()
    assert edgeagg_agent.__doc__


def test_the_lock_has_a_hash_for_every_package_and_no_address() -> None:
    lock = (CHECKOUT / "requirements.lock").read_text()
    pins = re.findall(r"^[A-Za-z0-9_.-]+==", lock, re.MULTILINE)
    assert len(pins) > 20
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock):
        if "==" in block:
            assert "--hash=sha256:" in block, block
    assert "://" not in lock


def test_no_tracked_file_names_a_machine_or_a_lock_with_addresses() -> None:
    forbidden = re.compile("/" + "work/|/" + "farm/|" + r"\.\./" + "shared|" + r"\." + "library")
    for path in TRACKED:
        if not path.exists() or path.suffix in {".bin", ".png"}:
            continue
        assert path.name not in {"uv.lock", "poetry.lock", "pdm.lock"}
        text = path.read_text(encoding="utf-8", errors="replace")
        found = forbidden.search(text)
        assert found is None, f"{path}: {found}"


def test_every_python_package_is_typed() -> None:
    for package in ("python/edgeagg", "agent/edgeagg_agent"):
        assert (CHECKOUT / package / "py.typed").exists()
    assert Path(edgeagg.__file__).with_name("_core.pyi").exists()
