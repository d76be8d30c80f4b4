"""Real agents on several platforms, on a state that was put back, and on a copied one."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edgeagg.receiver.reconcile import MeterDay, meter_days, reconcile
from edgeagg.receiver.store import open_store
from hil_tests import stored
from hil_tests.chain import GATEWAY
from hil_tests.platforms import clone, edgeagg, platform
from hil_tests.scenario import Scenario, make_chain

pytestmark = pytest.mark.long

Begin = Callable[..., Scenario]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a chain in the test's own folder; kill it afterwards."""
    scenarios: list[Scenario] = []

    def start(*, changes: Mapping[str, str] | None = None) -> Scenario:
        scenario = Scenario(make_chain(tmp_path / "chain", changes=changes))
        scenarios.append(scenario)
        scenario.start()
        return scenario

    yield start
    for scenario in scenarios:
        scenario.chain.kill()


def destination(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    (found,) = [one for one in status["destinations"] if one["name"] == name]
    return found  # type: ignore[no-any-return]


def rows(scenario: Scenario, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(scenario.chain.database)) as connection:
        return connection.execute(statement).fetchall()


def test_a_second_platform_that_is_away_does_not_slow_the_first_and_gets_everything_later(
    begin: Begin, tmp_path: Path
) -> None:
    with platform(tmp_path / "second") as second:
        scenario = begin(
            changes={'[[bus]]\nname = "switchroom"': second.site_text("second") + _SWITCHROOM}
        )
        scenario.run(4)
        second.broker.kill()
        scenario.run(10)
        status = scenario.chain.status()
        assert status is not None
        away, here = destination(status, "second"), destination(status, "platform")
        assert away["waiting"] > 3
        assert not away["connected"]
        assert here["waiting"] <= 1, "the other one goes on"
        second.broker.start()
        # the pause before the next connection is drawn up to 60 s
        scenario.until(lambda: _waiting(scenario, "second") <= 1, "the second one's backlog")
        verdict = scenario.finish()
        assert verdict.holds, verdict
        first, other = stored.load(scenario.chain.store), stored.load(second.store)
        assert len(other.digests) >= len(first.digests) - 1
        for identity, digest in other.digests.items():
            assert first.digests.get(identity, digest) == digest


_SWITCHROOM = '[[bus]]\nname = "switchroom"'


def _waiting(scenario: Scenario, name: str) -> int:
    status = scenario.chain.status()
    return 99 if status is None else int(destination(status, name)["waiting"])


def test_an_older_state_that_was_put_back_is_reported_and_goes_on_in_a_new_epoch(
    begin: Begin, tmp_path: Path
) -> None:
    scenario = begin()
    scenario.run(5)
    state, backup = scenario.chain.directory / "agent", tmp_path / "backup"
    scenario.chain.stop_agent()
    shutil.copytree(state, backup)
    (epoch,) = _epochs(scenario)
    scenario.chain.agent.start()
    scenario.run(8)
    scenario.chain.stop_agent()
    before = _batches(scenario, epoch)
    values = dict(_values(scenario))
    shutil.rmtree(state)
    shutil.copytree(backup, state)
    scenario.chain.agent.start()
    scenario.until(lambda: len(_epochs(scenario)) == 2, "a new epoch on the platform")
    scenario.run(6)
    scenario.until(lambda: scenario.is_connected and scenario.waiting <= 1, "all delivered")
    scenario.chain.stop_agent()
    new = max(_epochs(scenario))
    status, alarms = edgeagg("alarms", scenario.chain.store)
    assert status == 1
    assert {(alarm["kind"], alarm["epoch"]) for alarm in alarms} >= {("rollback", new)}
    # reported before anything of the new epoch came, and nothing of the old one came twice
    (first_ms,) = {alarm["first_ms"] for alarm in alarms if alarm["epoch"] == new}
    begun_ms = rows(scenario, f"SELECT min(received_ms) FROM batches WHERE epoch = {new}")[0][0]
    assert first_ms <= begun_ms
    assert _batches(scenario, epoch) == before
    assert rows(scenario, "SELECT count(*) FROM quarantine") == [(0,)]
    # no value that was there has changed, and no slot is forgotten
    assert values.items() <= dict(_values(scenario)).items()
    status, (audit,) = edgeagg("audit", scenario.chain.store)
    assert (status, audit["whole"], audit["slots"]["unexplained"]) == (0, True, 0)


def test_a_copied_state_is_reported_and_changes_nothing_of_the_first_gateway(
    begin: Begin, tmp_path: Path
) -> None:
    scenario = begin()
    scenario.run(5)
    scenario.chain.stop_agent()
    copy = tmp_path / "copy"
    shutil.copytree(scenario.chain.directory / "agent", copy)
    scenario.chain.agent.start()
    head = scenario.head
    scenario.until(lambda: scenario.receipted > head + 2, "a receipt after the copy was made")
    (epoch,) = _epochs(scenario)
    before, values = _batches(scenario, epoch), dict(_values(scenario))
    with clone(scenario.chain, copy, tmp_path / "clone") as status_file:
        scenario.until(lambda: bool(_alarms(scenario)), "an alarm")
        scenario.until(lambda: len(_epochs(scenario)) > 1, "a new epoch")
        scenario.until(
            lambda: json.loads(status_file.read_text("utf-8"))["epoch"] != epoch,
            "that it is the copy's",
        )
        scenario.run(3)
    own = scenario.chain.status()
    assert own is not None
    assert own["epoch"] == epoch, "the first writer goes on"
    after = _batches(scenario, epoch)
    assert before.items() <= after.items(), "what was committed stays"
    assert values.items() <= dict(_values(scenario)).items()
    # what the copy has sent before it was found out is at most one batch
    assert rows(scenario, "SELECT count(*) FROM quarantine")[0][0] <= 1


def test_what_was_stated_after_kills_is_what_the_platform_holds(begin: Begin) -> None:
    scenario = begin()
    for _ in range(3):
        scenario.run(3)
        scenario.kill("agent")
        scenario.run(0.5)
        scenario.chain.revive()
    scenario.run(4)
    scenario.chain.stop_agent()
    # another catalogue ends the days that have begun: midnight is too far away for a test
    site = scenario.chain.site_file
    text = site.read_text("utf-8")
    text = text.replace('name = "Example plant"', 'name = "Another name"')
    site.write_text(text.replace('flush = "2s"', 'flush = "60s"'), "utf-8")
    scenario.chain.agent.start()
    scenario.until(lambda: bool(rows(scenario, "SELECT * FROM statements")), "a statement")
    scenario.kill("agent")
    days = reconciled(scenario)
    assert all(day.matches for day in days), days
    # the gateway's own points have a slot a minute, and may have had none
    assert {day.meter for day in days} - {"gateway"} == set(scenario.chain.meter_names)
    assert sum(day.stated.missed for day in days) > 0, "the kills left gaps"
    assert edgeagg("reconcile", scenario.chain.store) == (0, []), "today is not over"
    harm = (
        "DELETE FROM readings WHERE (group_id, due_ms) IN"
        " (SELECT group_id, min(due_ms) FROM readings GROUP BY group_id LIMIT 1)"
    )
    with closing(sqlite3.connect(scenario.chain.database)) as connection, connection:
        connection.execute(harm)
    assert sum(not day.matches for day in reconciled(scenario)) == 1


def reconciled(scenario: Scenario) -> list[MeterDay]:
    """Compare what was stated, as if every day were over."""

    async def compare() -> list[MeterDay]:
        store = await open_store(scenario.chain.store)
        try:
            ever_ms = 2**45
            return meter_days(
                await reconcile(store, GATEWAY, from_ms=0, to_ms=ever_ms, now_ms=ever_ms)
            )
        finally:
            await store.close()

    return asyncio.run(compare())


def _alarms(scenario: Scenario) -> list[tuple[Any, ...]]:
    return rows(scenario, "SELECT kind, epoch, times FROM alarms")


def _epochs(scenario: Scenario) -> list[int]:
    return [epoch for (epoch,) in rows(scenario, "SELECT DISTINCT epoch FROM batches")]


def _batches(scenario: Scenario, epoch: int) -> dict[int, bytes]:
    return dict(rows(scenario, f"SELECT sequence, digest FROM batches WHERE epoch = {epoch}"))


def _values(scenario: Scenario) -> list[tuple[Any, Any]]:
    found = rows(scenario, "SELECT group_id, due_ms, at_ms, mantissas FROM readings")
    return [((group, due_ms), (at_ms, mantissas)) for group, due_ms, at_ms, mantissas in found]
