"""The simulator as a distribution of its own: it needs neither the checkout nor the agent."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it, as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=HERE,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("edgeagg_sim-*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder / "installed")
    return folder / "installed"


def sim(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it beside the packages of the environment, but without this checkout."""
    paths = [str(installed), sysconfig.get_path("purelib")]
    code = f"import sys; sys.path[:] = [p for p in sys.path if p] ; sys.path[:0] = {paths!r}"
    code += "; from hil_tests.sim.__main__ import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=installed,
        env={"PATH": os.environ["PATH"]},
        timeout=60,
    )


def test_the_wheel_holds_the_simulator_and_the_profiles_and_nothing_else(installed: Path) -> None:
    files = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert "hil_tests/sim/profiles/eastron-sdm630.toml" in files
    assert "hil_tests/sim/__main__.py" in files
    strange = [
        file
        for file in files
        if not file.startswith(("hil_tests/sim/", "edgeagg_sim-"))
        and file != "hil_tests/__init__.py"
    ]
    assert not strange
    assert not [file for file in files if "test_" in file or file.endswith(".pyc")]


def test_the_installed_simulator_lists_its_meters_and_faults(installed: Path) -> None:
    profiles = sim(installed, "profiles")
    assert profiles.returncode == 0, profiles.stderr
    assert "eastron-sdm630" in profiles.stdout
    assert len(profiles.stdout.splitlines()) > 100
    assert "stale" in sim(installed, "faults").stdout


def test_the_installed_simulator_names_what_is_wrong_with_a_site(installed: Path) -> None:
    (installed / "sim.toml").write_text("start_ms = 0\nlines = 1\n", encoding="utf-8")
    found = sim(installed, "run", "sim.toml")
    assert found.returncode == 2
    assert "sim.toml" in found.stderr
