"""Fixtures of the installation tests: a quick Python and a machine to install on."""

from __future__ import annotations

import ensurepip
import sys
import zipfile
from pathlib import Path

import pytest

from deploy.raspberrypi.tests.machine import Machine, make_wheelhouse, write_script


@pytest.fixture(scope="session")
def quick_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a Python whose virtual environments borrow one pip, which saves seconds for each."""
    wheels = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    if not wheels:  # Debian keeps it elsewhere; then the tests are slower and no less right.
        return sys.executable
    folder = tmp_path_factory.mktemp("quick-python")
    with zipfile.ZipFile(wheels[-1]) as pip:
        pip.extractall(folder / "pip")
    write_script(
        folder / "python",
        f'[ "$1 $2" = "-m venv" ] || exec {sys.executable} "$@"\n'
        f'{sys.executable} -m venv --without-pip "$3"\n'
        f'echo {folder}/pip >"$(echo "$3"/lib/python3*/site-packages)/pip.pth"',
    )
    return str(folder / "python")


@pytest.fixture
def machine(tmp_path: Path, quick_python: str) -> Machine:
    made = Machine(tmp_path / "machine", quick_python)
    entered = made.run("true")
    if entered.returncode:
        pytest.skip(f"no private mounts for ordinary users here: {entered.stderr.strip()}")
    return made


@pytest.fixture
def running(machine: Machine, tmp_path: Path) -> Machine:
    """Return a machine on which version 0.1.0 runs, with a site file of its own."""
    machine.write_site("old_key = 1")
    machine.install("--wheelhouse", make_wheelhouse(tmp_path / "one")).check_returncode()
    assert machine.is_active
    return machine
