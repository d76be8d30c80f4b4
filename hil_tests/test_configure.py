"""A site file pushed to a running gateway, with real processes: taken, refused, rolled back.

A trial lasts 20 s here. After every run the database alone must explain every slot.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeagg import keyfile
from edgeagg.seal import key_text
from hil_tests.audited import audited
from hil_tests.chain import GATEWAY, Chain
from hil_tests.services.process import free_port

_WAIT_S = 60.0


@pytest.fixture
def second_key(tmp_path: Path) -> Path:
    path = tmp_path / "second.key"
    keyfile.make(path)
    return path


@pytest.fixture
def chain(tmp_path: Path, second_key: Path) -> Iterator[Chain]:
    """Give a running chain whose gateway takes commands of either of two keys."""
    second = key_text(keyfile.load(second_key).public)
    made = Chain(
        tmp_path / "chain",
        start_ms=time.time_ns() // 1_000_000 - 3_600_000,
        changes={
            'flush = "10s"': 'flush = "2s"',
            "[state]": 'remote_configuration = true\nremote_trial = "20s"\n\n[state]',
            "platform_keys = [": f'platform_keys = ["{second}", ',
        },
    )
    made.start()
    receipted(made, 2)
    yield made
    made.kill()


def receipted(chain: Chain, more: int) -> None:
    """Wait for more receipts of the agent that runs now."""

    def known() -> tuple[int, int]:
        status = chain.status()
        if status is None:
            return 0, 0
        return status["destinations"][0]["receipted"], status["destinations"][0]["waiting"]

    goal = known()[0] + more
    until(lambda: known()[0] >= goal)


def until(condition: Callable[[], bool]) -> None:
    """Wait for the real processes to get somewhere."""
    deadline_s = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def configure(
    chain: Chain, tmp_path: Path, old: str, new: str, *options: str
) -> subprocess.CompletedProcess[str]:
    """Push the site file with one change, as the platform engineer does."""
    text = chain.site_file.read_text("utf-8")
    assert old in text
    pushed = tmp_path / "pushed.toml"
    pushed.write_text(text.replace(old, new), "utf-8")
    command = [sys.executable, "-m", "edgeagg", "configure", GATEWAY, str(pushed)]
    command += ["--broker", chain.broker_url, "--store", chain.store, "--wait", "90s"]
    command += ["--key-file", str(chain.key_file), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def assert_nothing_is_missing(chain: Chain) -> None:
    receipted(chain, 1)
    chain.stop_agent()
    found = audited(chain.store)
    assert found.unexplained == 0
    assert found.batches_missing == 0
    assert len(found.streams) == 1


def test_a_right_file_is_tried_and_confirmed_and_the_agent_goes_on(
    chain: Chain, tmp_path: Path
) -> None:
    pid = chain.agent.pid
    asked = configure(chain, tmp_path, 'name = "hvac"', 'name = "chiller"', "--dry-run")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert ": checked: it is right" in asked.stdout
    done = configure(chain, tmp_path, 'name = "hvac"', 'name = "chiller"')
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": on trial: it goes back unless a receipt comes within 20 s" in done.stdout
    assert ": confirmed: a receipt came" in done.stdout
    assert chain.agent.pid == pid
    receipted(chain, 2)
    status = chain.status()
    assert status is not None
    names = [meter["name"] for bus in status["buses"] for meter in bus["meters"]]
    assert "chiller" in names
    refused = configure(chain, tmp_path, "unit = 3", "unit = 1")
    assert refused.returncode == 1
    assert ": refused: bus[switchroom].meter[compressor].unit: 1 is the unit" in refused.stdout
    assert_nothing_is_missing(chain)


@pytest.mark.long
def test_a_file_that_cuts_the_gateway_off_is_rolled_back_though_the_agent_is_killed(
    chain: Chain, tmp_path: Path, second_key: Path
) -> None:
    nobody = f'broker = "mqtt://127.0.0.1:{free_port()}"'
    alone = configure(chain, tmp_path, f'broker = "{chain.broker_url}"', nobody)
    assert alone.returncode == 1
    assert ": refused: two platform keys must sign a change of [[destination]]" in alone.stdout
    text = f'broker = "{chain.broker_url}"'
    with ThreadPoolExecutor(1) as asking:
        pushing = asking.submit(
            configure, chain, tmp_path, text, nobody, "--key-file", str(second_key)
        )
        standing = chain.directory / "agent" / "remote" / "standing.json"
        until(lambda: standing.exists() and json.loads(standing.read_text())["starts"] == 1)
        chain.agent.kill()
        assert chain.revive() == ["agent"]
        done = pushing.result()
    assert done.returncode == 1, done.stdout + done.stderr
    assert ": on trial: " in done.stdout
    assert ": rolled back: no receipt of platform came in time" in done.stdout
    assert_nothing_is_missing(chain)
