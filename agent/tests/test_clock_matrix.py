"""Clocks that are wrong in every way, in virtual time: the real recorder, clock and poller.

Judged by true time, which only the test knows: nothing is unread for longer than a minute while
the agent runs, what is not flagged is right within a second, every slot is counted once, and what
is declared as missed is no more than the time that passed.
"""

import itertools
from dataclasses import dataclass

import pytest

from agent.tests.fakes import GATEWAY, FakeBus
from agent.tests.metering import Bench
from edgeagg.model import Quality
from edgeagg_agent.clock_trust import TimeFile
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder

MS = 1_000_000
NOON_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
YEAR_MS = 365 * DAY_MS
FROM_1970_MS = 5_000 - NOON_MS
END_S = 420
BOTH_PERIODS_S = 1 + 1 / 5  # slots of both groups in a second


class LifeIsOverError(Exception):
    """The agent is stopped: killed, switched off, or at the end of the test."""


@dataclass(frozen=True, slots=True)
class Case:
    """The host's error at the start, whether NTP is there, and what happens at which second."""

    name: str
    error_ms: int = 0
    synchronised: bool = True
    events: tuple[tuple[float, str, int], ...] = ()
    lies: bool = False  # the kernel vouches for a time that is wrong
    missed_s: float = 0  # declared beyond the seconds without an agent


def ntp(at_s):
    return (at_s, "set", 0), (at_s, "synchronised", 1)


WRONG = {
    "+1 h": HOUR_MS,
    "-1 h": -HOUR_MS,
    "+10 y": 10 * YEAR_MS,
    "-10 y": -10 * YEAR_MS,
    "+3 s": 3_000,
    "-3 s": -3_000,
    "+40 s": 40_000,
    "1970": FROM_1970_MS,
}
STEPPED_S = {"-1 h": 3_600, "-3 s": 3, "+40 s": 0}  # followed forward, slots in between declared

CASES = [
    Case("always right"),
    *(
        Case(f"{name}, NTP after 2 min", error, False, ntp(120), missed_s=STEPPED_S.get(name, 0))
        for name, error in WRONG.items()
    ),
    *(
        Case(f"{name}, NTP at once", error, False, ntp(0.5), missed_s=STEPPED_S.get(name, 0))
        for name, error in WRONG.items()
    ),
    *(
        Case(
            f"{name}, platform after 1 min",
            error,
            False,
            ((60, "receipt", 0), (90, "receipt", 700), (200, "receipt", 30)),
            missed_s=STEPPED_S.get(name, 0),
        )
        for name, error in WRONG.items()
    ),
    *(
        Case(
            f"NTP itself {name}, then right",
            events=((100, "set", error), (160, "set", 0)),
            lies=True,
            missed_s=3_700 if abs(error) <= HOUR_MS else 0,
        )
        for name, error in WRONG.items()
    ),
    *(
        Case(
            f"right, then started again {name} without NTP, NTP after 2 min",
            events=((100, "reboot", error), (100, "synchronised", 0), *ntp(230)),
            missed_s=60 + (3_600 if abs(error) <= HOUR_MS else 0),
        )
        for name, error in WRONG.items()
    ),
    *(
        Case(
            f"set by hand {name} while NTP is gone",
            events=((90, "synchronised", 0), (100, "set", error), (200, "restart", 0), *ntp(300)),
        )
        for name, error in WRONG.items()
    ),
    Case("RTC a little wrong", 700, False, ntp(60)),
    Case("leap second", events=((100, "set", 1_000),), lies=True),
    Case("leap second smeared back", events=((100, "set", 1_000), (200, "set", 0)), lies=True),
    Case("200 ppm, NTP puts it each 2 min", events=((0, "drift", 200), *ntp(120), *ntp(240))),
    Case("-200 ppm without NTP", 0, False, ((0, "drift", -200), *ntp(300))),
    Case("killed every minute", events=tuple((60 * n, "restart", 0) for n in range(1, 6))),
    Case(
        "restart within a step",
        events=((100, "set", -HOUR_MS), (100, "restart", 0), *ntp(130)),
        lies=True,
        missed_s=3_600,
    ),
    Case("step in the middle of a scan", HOUR_MS, False, ntp(100.03)),
]


class World:
    """True time, the host's clocks, and what was recorded when."""

    def __init__(self, case):
        self.passed_ms = 0
        self.error_ms, self.synchronised = case.error_ms, case.synchronised
        self.drift_ppm = 0
        self.events = sorted(case.events, key=lambda event: event[0])
        self.boot, self.boot_ms = 1, -3_600_000
        self.keep = None
        self.clock = None
        self.rows, self.gaps, self.restarts, self.right_since_ms = [], [], 0, []

    @property
    def true_ms(self):
        return NOON_MS + self.passed_ms

    def utc_ns(self):
        drifted_ms = self.drift_ppm * self.passed_ms // 1_000_000
        return max(0, self.true_ms + self.error_ms + drifted_ms) * MS

    def monotonic_ns(self):
        drifted_ms = self.drift_ppm * self.passed_ms // 1_000_000
        return (self.passed_ms - self.boot_ms + drifted_ms) * MS

    def pass_ms(self, duration_ms):
        end_ms = self.passed_ms + duration_ms
        while self.events and self.events[0][0] * 1_000 <= end_ms:
            at_s, what, value = self.events.pop(0)
            self.passed_ms = max(self.passed_ms, round(at_s * 1_000))
            self.happen(what, value)
        if end_ms // 60_000 > self.passed_ms // 60_000:
            self.keep()
        self.passed_ms = max(end_ms, self.passed_ms)
        if self.passed_ms >= END_S * 1_000:
            raise LifeIsOverError

    def happen(self, what, value):
        if what == "set":
            drifted_ms = self.drift_ppm * self.passed_ms // 1_000_000
            self.error_ms = value - drifted_ms
        elif what == "synchronised":
            self.synchronised = bool(value)
        elif what == "drift":
            self.drift_ppm = value
        elif what == "receipt":
            self.clock.take_platform(self.true_ms - value)
        else:
            if what == "reboot":
                self.boot += 1
                self.boot_ms = self.passed_ms
                self.error_ms = value
                # the board comes up in the wrong time: what else happens now is before its start
                while self.events and self.events[0][1] == "synchronised":
                    self.happen(*self.events.pop(0)[1:])
            raise LifeIsOverError

    async def sleep_ms(self, duration_ms):
        self.pass_ms(duration_ms)


class NotedRecorder(Recorder):
    """Notes the true time of what it is told."""

    world = None

    def scan(self, group, *, due_ms, at_ms, plan, replies, ratios):
        qualities = super().scan(
            group, due_ms=due_ms, at_ms=at_ms, plan=plan, replies=replies, ratios=ratios
        )
        self.world.rows.append((self.world.true_ms, group, due_ms, at_ms, max(qualities)))
        return qualities

    def row(self, group, *, due_ms, at_ms, values, qualities):
        super().row(group, due_ms=due_ms, at_ms=at_ms, values=values, qualities=qualities)
        self.world.rows.append((self.world.true_ms, group, due_ms, at_ms, max(qualities)))

    def gap(self, group, *, first_due_ms, last_due_ms, slots, reason):
        super().gap(
            group, first_due_ms=first_due_ms, last_due_ms=last_due_ms, slots=slots, reason=reason
        )
        self.world.gaps.append((self.world.true_ms, group, slots))

    def restart(self, group, last_due_ms):
        super().restart(group, last_due_ms)
        self.world.restarts += 1


async def live(world, folder):
    """Let one process live; return the slots that its batches count."""
    state, boot = folder / "state", folder / "boot_id"
    boot.write_text(str(world.boot), "ascii")
    known = TimeFile(state, boot)
    clock = known.clock(world.utc_ns, world.monotonic_ns, lambda: world.synchronised)
    clock.sleep_ms, clock.pass_ms = world.sleep_ms, world.pass_ms
    world.clock = clock
    world.keep = lambda: known.keep(clock)
    bench = Bench(folder)
    bench.clock, bench.bus = clock, FakeBus(clock, bench.answer)
    bench.readers = bench.make_readers()
    outbox = Outbox(state, now_ms=clock.now_ms(), bytes_max=1 << 30)
    try:
        bench.recorder = NotedRecorder(
            state, outbox, GATEWAY, bench.site.catalogue(), now_ms=clock.now_ms()
        )
        bench.recorder.world = world
        with pytest.raises(LifeIsOverError):
            await bench.poller().run()
        await bench.recorder.cut(clock.now_ms())
        counters = bench.recorder.counters
        points = {g: len(group.points) for g, group in enumerate(bench.site.catalogue().groups)}
        return counters.values + counters.reasons + counters.missed, points
    finally:
        outbox.close()


def test_there_are_forty_cases():
    assert len(CASES) >= 40
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_clock_that_is_wrong(tmp_path, case):
    world = World(case)
    counted = 0
    while world.passed_ms < END_S * 1_000:
        slots, points = await live(world, tmp_path)
        counted += slots
    rows = [row for row in world.rows if row[1] == 0]

    # the books: every slot due is a value, a reason or declared, and no absurd number of them
    due = sum(points[group] for _, group, *_ in world.rows)
    missed = sum(slots * points[group] for _, group, slots in world.gaps)
    assert counted == due + missed
    assert sum(slots for *_, slots in world.gaps) <= (case.missed_s + 70) * BOTH_PERIODS_S

    # unread for no longer than a minute, whatever the clock did
    true_times = [NOON_MS, *(row[0] for row in rows), world.true_ms]
    assert max(b - a for a, b in itertools.pairwise(true_times)) <= 61_000

    # what nobody flagged is right
    for true_ms, _, due_ms, at_ms, worst in rows:
        assert due_ms <= at_ms
        assert worst in {Quality.GOOD, Quality.CLOCK_UNTRUSTED}
        if worst == Quality.GOOD and not case.lies:
            assert abs(at_ms - true_ms) <= 1_100
    assert rows[-1][4] == Quality.GOOD or not world.clock.is_trusted
    if world.synchronised:
        assert abs(world.clock.now_ms() - world.true_ms - world.error_ms) <= 1_001

    # order: a slot follows the one before, but behind a restart of the group
    inversions = sum(b[2] <= a[2] for a, b in itertools.pairwise(rows))
    assert inversions <= world.restarts
