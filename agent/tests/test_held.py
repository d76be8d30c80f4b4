"""Readings that wait for the time, in virtual time: each gets its own, whatever the clock showed.

Every reading carries the true time at which it was read as its energy, in tenths of a second, so
what was delivered is judged by itself.
"""

import itertools

import pytest

from agent.tests.fakes import GATEWAY, START_MS, FakeBus, catalogue
from agent.tests.histories import BYTES_MAX, Delivered, Gap, Row, messages
from agent.tests.metering import METERS, Bench
from agent.tests.test_clock_matrix import (
    CASES,
    END_S,
    HOUR_MS,
    NOON_MS,
    Case,
    LifeIsOverError,
    World,
    ntp,
)
from edgeagg._core import Aggregator
from edgeagg.model import Quality
from edgeagg_agent import held, recorder as recorder_module
from edgeagg_agent.clock_trust import TimeFile
from edgeagg_agent.held import HELD_BYTES_MAX, HOLD_MAX_MS, Held, HeldRow, Release
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder

SITE = METERS + '\n[windows]\nlengths = ["1min"]\n'
PERIODS_MS = (1_000, 5_000)
ENERGY, STEP_MS = 2, 100
NAMED = {case.name: case for case in CASES}
RETIMED = [
    case
    for case in CASES
    if not case.synchronised and not case.lies and "+10 y, plat" not in case.name
]
"""Nobody vouches for the time at first, then somebody does, in the same boot."""


async def live(world, folder, *, commit_every_ms=0):
    """Let one process of an agent live until it is stopped or switched off."""
    state, boot = folder / "state", folder / "boot_id"
    boot.write_text(str(world.boot), "ascii")
    known = TimeFile(state, boot)
    clock = known.clock(world.utc_ns, world.monotonic_ns, lambda: world.synchronised)
    clock.sleep_ms, clock.pass_ms = world.sleep_ms, world.pass_ms
    world.clock, world.keep = clock, lambda: known.keep(clock)
    bench = Bench(folder, site=SITE)

    def answer(request):
        bench.words[4, 0], bench.words[4, 1] = divmod(world.passed_ms // STEP_MS, 1 << 16)
        return bench.answer(request)

    bench.clock, bench.bus = clock, FakeBus(clock, answer)
    bench.readers = bench.make_readers()
    outbox = Outbox(state, now_ms=clock.now_ms(), bytes_max=1 << 30)
    try:
        bench.recorder = Recorder(
            state,
            outbox,
            GATEWAY,
            bench.site.catalogue(),
            now_ms=clock.now_ms(),
            boot=known.boot,
        )
        if not clock.is_trusted:
            bench.recorder.held.begin(range(len(PERIODS_MS)))
        with pytest.raises(LifeIsOverError):
            await bench.poller().run()
        await bench.recorder.commit()
        await bench.recorder.cut(clock.now_ms())
        return bench.recorder
    finally:
        outbox.close()


async def lived(case, folder):
    """Let a case happen; return what a platform gets, and the last recorder."""
    world = World(case)
    while world.passed_ms < END_S * 1_000:
        recorder = await live(world, folder)
    return Delivered(messages(folder / "state")), recorder


def of_group(delivered, group):
    return [event for event in delivered.events if event.group == group]


def off_ms(row):
    """Return how far the time of a row is from the one at which it was read."""
    return row.at_ms - NOON_MS - STEP_MS * row.values[ENERGY]


def holes(events, period_ms):
    """Return the slots missing between events, negative where they overlap."""
    ends = [(e.first_due_ms, e.first_due_ms + e.slots * period_ms) for e in events]
    return [after - end for (_, end), (after, _) in itertools.pairwise(sorted(ends)) if after != end]


def test_most_cases_of_the_matrix_begin_without_the_time():
    assert len(RETIMED) >= 24


@pytest.mark.parametrize("case", RETIMED, ids=lambda case: case.name)
async def test_readings_from_before_the_first_synchronisation_get_their_right_time(tmp_path, case):
    delivered, recorder = await lived(case, tmp_path)
    for group, period_ms in enumerate(PERIODS_MS):
        events = of_group(delivered, group)
        rows = [event for event in events if isinstance(event, Row)]
        assert {quality for row in rows for quality in row.qualities} == {Quality.GOOD}
        assert max(abs(off_ms(row)) for row in rows) <= 1_100
        assert STEP_MS * rows[0].values[ENERGY] <= period_ms + 1_500, "read from the first slot on"
        assert len(rows) >= (END_S * 1_000 // period_ms) * 0.97
        assert holes(events, period_ms) == [], "no slot twice, none forgotten"
        missed = [event for event in events if isinstance(event, Gap)]
        assert sum(gap.slots for gap in missed) <= 4, "what the clock was put over, no more"
    assert not recorder.held


async def test_windows_are_made_of_the_right_times(tmp_path):
    (tmp_path / "wrong").mkdir()
    (tmp_path / "right").mkdir()
    wrong, _ = await lived(NAMED["-1 h, NTP after 2 min"], tmp_path / "wrong")
    right, _ = await lived(NAMED["always right"], tmp_path / "right")
    found, wanted = energies(wrong), energies(right)
    assert found.keys() == wanted.keys()
    assert sum(energy is not None for energy in found.values()) >= 8
    for key, energy in wanted.items():
        assert (found[key] is None) == (energy is None), key
        assert energy is None or abs(found[key] - energy) <= 2


def energies(delivered):
    return {(w.group, w.length_ms, w.start_ms): w.energies[ENERGY] for w in delivered.windows}
