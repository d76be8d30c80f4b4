"""Builds that are broken on purpose: the scenario that guards each promise must fail with them.

A copy of both packages with one place changed is put in front of the installed ones.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hil_tests.chain import Wiring
from hil_tests.disks import NO_POWER_CUT, PowerCutDisk
from hil_tests.scenario import Scenario, make_chain
from hil_tests.scenarios import agent_killed, database_killed, power_cut, receiver_killed
from hil_tests.services.database import Postgres
from hil_tests.sim.site import CHECKOUT

pytestmark = pytest.mark.long

Begin = Callable[..., Scenario]

_PACKAGES = {"python": "edgeagg", "agent": "edgeagg_agent"}


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a chain whose agent and receiver have `before` replaced by `after` in one file."""
    scenarios: list[Scenario] = []

    def start(
        file: str, before: str, after: str, *, flush: str = "2s", store: str | None = None
    ) -> Scenario:
        for folder, package in _PACKAGES.items():
            shutil.copytree(
                CHECKOUT / folder / package,
                tmp_path / "broken" / folder / package,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
        changed = tmp_path / "broken" / file
        text = changed.read_text("utf-8")
        assert text.count(before) == 1, f"{file} has changed: find the place to break again"
        changed.write_text(text.replace(before, after), "utf-8")
        path = ":".join(str(tmp_path / "broken" / folder) for folder in _PACKAGES)
        wiring = Wiring(environment=[f"PYTHONPATH={path}"])
        scenario = Scenario(make_chain(tmp_path / "chain", flush=flush, store=store, wiring=wiring))
        scenarios.append(scenario)
        scenario.start()
        return scenario

    yield start
    for scenario in scenarios:
        scenario.chain.kill()


def test_a_receipt_for_what_was_not_committed_is_a_loss(
    begin: Begin, postgres: Postgres, database: str
) -> None:
    scenario = begin(
        "python/edgeagg/receiver/inbox.py",
        "        await self._commit(deliveries, now_ms)\n"
        "        return [await self._receipt(gateway, epoch, now_ms) for gateway, epoch in heard]",
        "        import contextlib\n"
        "        with contextlib.suppress(Exception):\n"
        "            await self._commit(deliveries, now_ms)\n"
        "        return [Receipt(b.gateway, b.epoch, b.sequence, (), (), now_ms)"
        " for b, _ in batches]",
        store=database,
    )
    database_killed(scenario, postgres, times=1)
    verdict = scenario.finish()
    assert verdict.lost > 0, verdict
    assert any("is not in the database" in note for note in verdict.notes), verdict


def test_a_cursor_that_moves_on_publish_is_a_loss(begin: Begin) -> None:
    scenario = begin(
        "agent/edgeagg_agent/uplink.py",
        "        self._sent_ms.update(dict.fromkeys(due, now_ms))",
        "        self.through = max([self.through, *due])",
    )
    receiver_killed(scenario, times=1, away_s=6)
    verdict = scenario.finish()
    assert verdict.lost > 0, verdict
    assert any("receipted before they were committed" in note for note in verdict.notes), verdict


def test_readings_that_are_not_journaled_each_second_are_a_loss(begin: Begin) -> None:
    scenario = begin(
        "agent/edgeagg_agent/app.py",
        "            await self._recorder.commit()\n",
        "",
        flush="10s",
    )
    agent_killed(scenario, times=1)
    verdict = scenario.finish()
    assert verdict.lost > 0, verdict
    assert any("given up while the agent ran" in note for note in verdict.notes), verdict


def test_a_gap_that_is_not_declared_is_a_loss(begin: Begin) -> None:
    scenario = begin(
        "agent/edgeagg_agent/poller.py",
        "            self._declare(group, last_due_ms + period_ms, slots, Quality.STOPPED)\n",
        "",
        flush="10s",
    )
    agent_killed(scenario, times=1)
    verdict = scenario.finish()
    assert verdict.lost > 0, verdict
    assert any("slots from" in note for note in verdict.notes), verdict


def test_a_batch_that_changes_when_it_is_sent_is_a_double(begin: Begin) -> None:
    scenario = begin(
        "agent/edgeagg_agent/outbox.py",
        "            return record[1][_PREFIX.size :]\n",
        "            import dataclasses, time\n"
        "            batch = Batch.from_bytes(record[1][_PREFIX.size :])\n"
        "            now_ms = time.time_ns() // 1_000_000\n"
        "            return dataclasses.replace(batch, cut_at_ms=now_ms).to_bytes()\n",
    )
    scenario.run(4)
    verdict = scenario.finish()
    assert verdict.doubled > 0, verdict


def test_a_register_read_with_a_bit_flipped_is_a_wrong_value(begin: Begin) -> None:
    scenario = begin(
        "agent/edgeagg_agent/poller.py",
        "            registers[block.function, block.start + offset] = word\n",
        "            registers[block.function, block.start + offset] = word ^ 1\n",
    )
    scenario.run(4)
    verdict = scenario.finish()
    assert verdict.wrong > 0, verdict


_NO_SYNC = """
int fsync(int fd) { return 0; }
int fdatasync(int fd) { return 0; }
"""


@pytest.mark.skipif(bool(NO_POWER_CUT), reason=NO_POWER_CUT)
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler to make fsync do nothing")
def test_a_disk_that_is_never_synced_is_a_loss(tmp_path: Path) -> None:
    source, library = tmp_path / "no_sync.c", tmp_path / "no_sync.so"
    source.write_text(_NO_SYNC, "utf-8")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    wiring = Wiring(environment=[f"LD_PRELOAD={library}"])
    scenario = Scenario(make_chain(tmp_path / "chain", wiring=wiring))
    with PowerCutDisk(scenario.chain.directory / "agent").mounted() as disk:
        try:
            scenario.start()
            power_cut(scenario, disk, times=1)
            verdict = scenario.finish()
            assert verdict.lost > 0, verdict
        finally:
            scenario.chain.kill()
