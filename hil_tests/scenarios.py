"""What is done to a chain, apart from its judgement: broken builds get the same as right ones."""

from __future__ import annotations

from hil_tests.disks import PowerCutDisk
from hil_tests.scenario import Scenario
from hil_tests.services.database import Postgres


def receiver_killed(scenario: Scenario, *, times: int, away_s: float) -> None:
    """Kill the receiver every 3 s; it is away for `away_s`."""
    for _ in range(times):
        scenario.run(2.5)
        scenario.kill("receiver")
        scenario.run(away_s)
        scenario.chain.revive()


def agent_killed(scenario: Scenario, *, times: int) -> None:
    """Kill the agent 6 s after a cut: with a flush of 10 s, six seconds are only journaled."""
    for _ in range(times):
        scenario.wait_for_cut()
        scenario.run(6)
        scenario.kill("agent")
        scenario.run(0.5)
        scenario.chain.revive()


def database_killed(scenario: Scenario, postgres: Postgres, *, times: int) -> None:
    """Kill the server of the database; it is away for 5 s."""
    try:
        for _ in range(times):
            scenario.run(5)
            postgres.kill()
            scenario.run(5)
            postgres.start()
    finally:
        if not postgres.running:  # it is other tests' server too
            postgres.start()


def power_cut(scenario: Scenario, disk: PowerCutDisk, *, times: int) -> None:
    """Cut the power of the gateway 7 s after each start: what was not synced is gone."""
    for _ in range(times):
        scenario.run(7)
        disk.cut()
        scenario.kill("agent")
        disk.replug()
        scenario.run(0.5)
        scenario.chain.revive()
