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
    FROM_1970_MS,
    HOUR_MS,
    NOON_MS,
    Case,
    LifeIsOverError,
    World,
    ntp,
)
from edgeagg._core import Aggregator, decode
from edgeagg.model import Quality
from edgeagg_agent import held
from edgeagg_agent.clock_trust import TimeFile
from edgeagg_agent.held import Held, HeldRow, Release
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder

SITE = METERS + '\n[windows]\nlengths = ["1min"]\n'
PERIODS_MS = (1_000, 5_000)
ENERGY, STEP_MS = 2, 100
NAMED = {case.name: case for case in CASES}


def restart(at_s):
    return ((at_s, "restart", 0),)


RETIMED = [
    case
    for case in CASES
    if not case.synchronised and not case.lies and "+10 y, plat" not in case.name
]
"""Nobody vouches for the time at first, then somebody does, in the same boot."""


async def live(world, folder):
    """Let one process of an agent live until it is killed, behind a commit, or the test ends."""
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
        if world.passed_ms >= END_S * 1_000:
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
    return [
        after - end for (_, end), (after, _) in itertools.pairwise(sorted(ends)) if after != end
    ]


def in_right_time(delivered):
    """Yield period, events and rows of every group: all good, in time, and no slot left out."""
    for group, period_ms in enumerate(PERIODS_MS):
        events = of_group(delivered, group)
        rows = [event for event in events if isinstance(event, Row)]
        assert {quality for row in rows for quality in row.qualities} == {Quality.GOOD}
        assert max(abs(off_ms(row)) for row in rows) <= 1_100
        assert holes(events, period_ms) == [], "no slot twice, none forgotten"
        yield period_ms, events, rows


def test_most_cases_of_the_matrix_begin_without_the_time():
    assert len(RETIMED) >= 24


@pytest.mark.parametrize("case", RETIMED, ids=lambda case: case.name)
async def test_readings_from_before_the_first_synchronisation_get_their_right_time(tmp_path, case):
    delivered, recorder = await lived(case, tmp_path)
    for period_ms, events, rows in in_right_time(delivered):
        assert STEP_MS * rows[0].values[ENERGY] <= period_ms + 1_500, "read from the first slot on"
        assert len(rows) >= (END_S * 1_000 // period_ms) * 0.97
        missed = [event for event in events if isinstance(event, Gap)]
        assert sum(gap.slots for gap in missed) <= 4, "what the clock was put over, no more"
    assert not recorder.held


KILLED = [
    Case("while rows wait", -HOUR_MS, False, ((40, "restart", 0), (70, "restart", 0), *ntp(120))),
    Case("behind the release", -HOUR_MS, False, (*ntp(120), (122.5, "restart", 0))),
    Case("while rows wait, and the time is known by then", 3_000, False, (*ntp(60), *restart(60))),
    Case("from 1970", FROM_1970_MS, False, ((40, "restart", 0), *ntp(120), (140, "restart", 0))),
]


@pytest.mark.parametrize("case", KILLED, ids=lambda case: case.name)
async def test_a_kill_loses_nothing_that_waits_and_doubles_nothing_that_waited(tmp_path, case):
    delivered, recorder = await lived(case, tmp_path)
    for period_ms, _, rows in in_right_time(delivered):
        assert len(rows) >= END_S * 1_000 // period_ms - 6
    assert recorder.counters.damaged == 0


async def test_what_waited_in_another_boot_stays_where_the_clock_put_it_and_is_flagged(tmp_path):
    case = Case("switched off", -HOUR_MS, False, ((100, "reboot", 0), *ntp(160)))
    delivered, _ = await lived(case, tmp_path)
    for group, period_ms in enumerate(PERIODS_MS):
        events = of_group(delivered, group)
        rows = [event for event in events if isinstance(event, Row)]
        flagged = [row for row in rows if Quality.CLOCK_UNTRUSTED in row.qualities]
        assert {round(off_ms(row), -4) for row in flagged} == {-HOUR_MS}
        assert all(STEP_MS * row.values[ENERGY] < 100_000 for row in flagged)
        assert 100_000 // period_ms - 3 <= len(flagged) <= 100_000 // period_ms
        good = [row for row in rows if row not in flagged]
        assert max(abs(off_ms(row)) for row in good) <= 1_100
        assert len(good) >= 310_000 // period_ms
        assert holes(events, period_ms) == []


async def test_a_clock_that_is_set_by_hand_while_it_is_waited_for_moves_no_reading(tmp_path):
    steps = ((30, "set", HOUR_MS), (60, "set", -7_000), (90, "set", -2_300), (100, "set", -1_900))
    case = Case("by hand", -HOUR_MS, False, (*steps, (110, "drift", 500), *ntp(300)))
    delivered, recorder = await lived(case, tmp_path)
    for group, period_ms in enumerate(PERIODS_MS):
        events = of_group(delivered, group)
        rows = [event for event in events if isinstance(event, Row)]
        assert {quality for row in rows for quality in row.qualities} == {Quality.GOOD}
        assert max(abs(off_ms(row)) for row in rows) <= 1_100
        assert holes(events, period_ms) == []
        gaps = sum(event.slots for event in events if isinstance(event, Gap))
        assert gaps <= 5, "as many as there were steps"
    assert recorder.held.surplus_count <= 5


@pytest.mark.parametrize("limit", ["HOLD_MAX_MS", "HELD_BYTES_MAX"])
async def test_rows_wait_for_so_long_and_so_many_then_they_are_flagged(
    tmp_path, monkeypatch, limit
):
    monkeypatch.setattr(held, limit, {"HOLD_MAX_MS": 60_000, "HELD_BYTES_MAX": 5_000}[limit])
    case = Case("far too late", 3_000, False, ntp(200))
    delivered, recorder = await lived(case, tmp_path)
    rows = [event for event in of_group(delivered, 0) if isinstance(event, Row)]
    flagged = [row for row in rows if Quality.CLOCK_UNTRUSTED in row.qualities]
    assert 190 <= len(flagged) <= 200
    assert {round(off_ms(row), -3) for row in flagged} == {3_000}
    assert recorder.held.retimed_count == 0
    assert holes(of_group(delivered, 0), 1_000) == []


async def test_nothing_is_cut_while_anything_waits(tmp_path):
    plant = catalogue(("incomer", 1_000), ("pv", 2_000))
    outbox = Outbox(tmp_path, now_ms=START_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(tmp_path, outbox, GATEWAY, plant, now_ms=START_MS, boot="b")
    recorder.held.begin([1])
    recorder.row(0, due_ms=START_MS, at_ms=START_MS, values=(1, 2), qualities=bytes(2))
    recorder.hold(waiting(1, START_MS))
    assert await recorder.cut(START_MS + 1_000) == 0
    assert outbox.head == 1
    assert recorder.release([1], 0) == {1}
    assert await recorder.cut(START_MS + 1_000) == 1
    outbox.close()
    times = {(e.group, e.due_ms) for e in Delivered(messages(tmp_path)).events}
    assert times == {(0, START_MS), (1, START_MS + HOUR_MS)}


def waiting(group, due_ms, *, values=(1, 2), offset_ms=-HOUR_MS):
    return HeldRow(
        group=group,
        due_ms=due_ms,
        at_ms=due_ms + 5,
        offset_ms=offset_ms,
        values=values,
        qualities=bytes(len(values or ())),
    )


def test_a_release_that_is_found_twice_in_the_journal_counts_once():
    found = []
    for copies in (1, 2):
        aggregator, rows = Aggregator([(1_000, [False, True])], [60_000]), Held("b")
        for record in [waiting(0, START_MS + n * 1_000).to_bytes("b") for n in range(5)]:
            rows.found(record)
        for _ in range(copies):
            rows.settle(Release.from_bytes(Release((0,), 0).to_bytes()), aggregator, [1_000])
        while aggregator.cut(0) is not None:
            pass
        found.append((aggregator.last_due_ms(0), rows.surplus_count, aggregator.snapshot()))
    assert found[0] == found[1]


@pytest.mark.parametrize("offsets_ms", [(0, 1, 0, 400, 399), (400, 0, -1, 3, 0), (999, 1, 0, -9)])
def test_a_clock_that_was_slewed_puts_no_two_rows_into_one_slot_and_leaves_none_out(offsets_ms):
    aggregator, rows = Aggregator([(1_000, [False, True])], [60_000]), Held("b")
    for number, offset_ms in enumerate(offsets_ms):
        rows.found(waiting(0, START_MS + number * 1_000, offset_ms=offset_ms).to_bytes("b"))
    rows.settle(Release((0,), 0), aggregator, [1_000])
    assert rows.surplus_count == 0
    (table,) = decode(*aggregator.cut(0).encode())
    due_ms = table[4][0]
    assert [after - before for before, after in itertools.pairwise(due_ms)] == [1_000] * (
        len(offsets_ms) - 1
    )


def test_another_meter_counts_from_where_it_was_noticed_while_rows_wait():
    heard = []

    class Noted:
        def last_due_ms(self, _):
            return None

        def replace_meter(self, group):
            heard.append(("replaced", group))

        def push_row(self, group, due_ms, *_):
            heard.append((group, due_ms))

    rows = Held("b")
    rows.begin([0])
    rows.add(waiting(0, START_MS))
    rows.add(waiting(0, START_MS + 1_500, values=None))
    rows.add(waiting(0, START_MS + 1_000))
    rows.settle(Release((0,), -HOUR_MS), Noted(), [1_000])
    assert heard == [(0, START_MS), ("replaced", 0), (0, START_MS + 1_000)]


@pytest.mark.parametrize("record", [b"", b"\x90", b"\x93\x01", b"\xc1", b"\x93\x05\x06\x07"])
@pytest.mark.parametrize("kind", [HeldRow, Release])
def test_a_record_that_is_none_is_told_so(kind, record):
    with pytest.raises(ValueError, match="not a record of held readings"):
        kind.from_bytes(record)


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
