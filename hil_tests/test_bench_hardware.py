"""The other world of the bench: EDGEAGG_BENCH names ports, and nobody knows what is behind them.

Here a simulator in a process of its own is behind them, as a rack would be.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from string import Template

import pytest

from hil_tests.bench import ROOF, VARIABLE
from hil_tests.services.process import Child, accepts_connections, free_port, tied_to_parent

CHECKOUT = Path(__file__).parents[1]

SIM = """
seed = 7
start_ms = $START_MS
day_speed = 2400
[[line]]
name = "rack"
link = "$DIRECTORY/rack"
baud = 115200
format = "8N1"
turnaround_ms = [5, 9]
[[line.meter]]
name = "incomer"
unit = 1
profile = "eastron-sdm630"
load = "base"
scale_kw = 40
[[line]]
name = "roof"
tcp = $ROOF_PORT
[[line.meter]]
name = "pv"
unit = 1
profile = "sunspec-meter-213"
load = "base"
"""
RACK = """
[[bus]]
name = "rack"
port = "$DIRECTORY/rack"
baud = 115200
format = "8N1"
[[bus.meter]]
name = "the-one-on-the-left"
unit = 1
profile = "eastron-sdm630"
"""


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Play two meters in another process; give the bench file that names their ports."""
    folder, port = tmp_path_factory.mktemp("rack"), free_port()
    values = {
        "DIRECTORY": str(folder),
        "ROOF_PORT": str(port),
        "START_MS": str(time.time_ns() // 1_000_000 - 3_600_000),
    }
    for name, text in (("sim.toml", SIM), ("bench.toml", RACK + ROOF)):
        (folder / name).write_text(Template(text).substitute(values), encoding="utf-8")
    command = [sys.executable, "-m", "hil_tests.sim", "run", str(folder / "sim.toml")]
    meters = Child(tied_to_parent(command), name="meters", log=folder / "meters.log")
    meters.start()
    meters.wait_ready(lambda: (folder / "rack").exists() and accepts_connections(port))
    yield folder / "bench.toml"
    meters.kill()


def run_bench(file: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of the bench's meters as docs/hardware-bench.md says."""
    # what pytest-xdist tells its workers must not reach a pytest inside of one
    inherited = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-rfs", "-p", "no:cacheprovider"),
            *("hil_tests/test_bench_meters.py", *words),
        ],
        cwd=CHECKOUT,
        env={**inherited, VARIABLE: str(file)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.long
def test_the_same_tests_pass_on_meters_behind_real_ports(rack: Path) -> None:
    done = run_bench(rack)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "simulator only: a meter must fall silent on command" in done.stdout
    assert "simulator only: only its lines measure the silence" in done.stdout
    assert "the bench knows no serial number of the-one-on-the-left" in done.stdout
    passed = re.search(r"(\d+) passed, (\d+) skipped", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 13


def test_a_meter_that_is_another_one_than_the_file_says_fails_by_name(
    rack: Path, tmp_path: Path
) -> None:
    text = rack.read_text("utf-8")
    for old, new in (("eastron-sdm630", "chint-dtsu666"), ('is = "0001"', 'is = "0002"')):
        assert old in text
        text = text.replace(old, new)
    wrong = tmp_path / "bench.toml"
    wrong.write_text(text, encoding="utf-8")
    done = run_bench(wrong, "-k", "model or serial")
    assert done.returncode == 1
    assert "model_that_the_bench_names[the-one-on-the-left]" in done.stdout
    assert "known_serial_number[pv]" in done.stdout
    assert "2 failed, 1 passed, 1 skipped" in done.stdout


@pytest.mark.long
def test_a_mistake_in_the_file_ends_the_run_with_one_complaint(rack: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "bench.toml"
    wrong.write_text(rack.read_text("utf-8").replace("115200", "115201"), encoding="utf-8")
    done = run_bench(wrong)
    assert done.returncode != 0
    complaint = f"{wrong}: bus[rack].baud: 115201; one of 1200,"
    assert complaint in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
