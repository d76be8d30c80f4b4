"""What is done to a chain, apart from its judgement: broken builds get the same as right ones."""

from __future__ import annotations

from hil_tests.disks import PowerCutDisk, StuckDisk
from hil_tests.scenario import Scenario
from hil_tests.services.database import Postgres

ALIKE_CHANGES = {
    # incomer and compressor are read alike, one right behind the other
    'period = "2s"\ntier = 1\n': (
        'period = "2s"\ntier = 1\npoints = ["active_power_total", "power_factor_total",'
        ' "active_energy_import", "active_energy_export"]\n'
    ),
    'profile = "chint-dtsu666"\nperiod = "2s"': 'profile = "chint-dtsu666"\nperiod = "10s"',
}
"""Changes of the site file under which one meter's late reply fits another meter's question."""

REPLY_FAULTS = """
[[fault]]
kind = "late"
meter = "incomer"
every = 2
ms = 350
[[fault]]
kind = "intermittent"
meter = "compressor"
probability = 0.6
[[fault]]
kind = "wrong_unit"
meter = "workshop"
every = 3
[[fault]]
kind = "bit_error_bad_crc"
meter = "hvac"
every = 3
[[fault]]
kind = "noise_before"
meter = "hvac"
every = 2
[[fault]]
kind = "wrong_unit"
meter = "feeder"
every = 3
[[fault]]
kind = "truncated"
meter = "water"
every = 3
[[fault]]
kind = "truncated"
meter = "lighting"
every = 3
[[fault]]
kind = "wrong_function"
meter = "pv"
every = 4
"""
"""What replies do on all three lines, from the start on."""

LINE_FAULTS_END_S = 30
LINE_FAULTS = """
[[fault]]
kind = "collision"
meter = "compressor"
from_s = 3610
for_s = 8
[[fault]]
kind = "brown_out"
meter = "workshop"
from_s = 3614
for_s = 5
saved_every_s = 7
[[fault]]
kind = "unplug"
line = "building"
from_s = 3620
for_s = 5
[[fault]]
kind = "unplug"
line = "roof"
from_s = 3622
for_s = 5
"""
"""Two meters on one address, a brown-out, adapters unplugged and replugged: over in 30 s."""


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


def power_cut(scenario: Scenario, disk: PowerCutDisk, *, of: str, times: int) -> None:
    """Cut the power of `agent` or `receiver` 7 s after each start: what was not synced is gone."""
    for _ in range(times):
        scenario.run(7)
        disk.cut()
        scenario.kill(of)
        disk.replug()
        scenario.run(0.5)
        scenario.chain.revive()


def disk_stuck(scenario: Scenario, stuck: StuckDisk, *, seconds: float) -> int:
    """Let no sync of `stuck` end for a while; return how many batches were receipted meanwhile.

    One was perhaps committed already, and its receipt under way.
    """
    with stuck.stuck():
        scenario.run(3)
        receipted = scenario.receipted
        scenario.run(seconds)
        return scenario.receipted - receipted
