"""What the agent's upper half is tested with.

Time that does not wait, a bus that follows a script, a recorder that only listens, and a site file
that is right until a test changes it.
"""

import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from edgeagg.errors import EdgeaggError, FrameError
from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo
from edgeagg_agent.bus import Answer, BusStats
from edgeagg_agent.clock import FORWARD_MAX_MS, SLEW_MAX_MS, ClockState, Trust
from edgeagg_agent.held import Held, Release

GATEWAY = "qp-0001"
START_MS = 1_790_000_000_000  # 21 September 2026, a whole number of every period used here
VOLTAGE = PointInfo("voltage_l1", "V", -1, Kind.GAUGE)
ENERGY = PointInfo("active_energy_import", "kWh", -2, Kind.TOTALISER)

SITE = """
[site]
gateway = "qp-0001"
clock = "host"
name = "Example plant"

[state]
directory = "DIRECTORY/state"

[status]
file = "DIRECTORY/status.json"

[[destination]]
name = "platform"
broker = "mqtt://127.0.0.1:1883"

[[bus]]
name = "switchroom"
port = "/dev/none-a"
baud = 9600
format = "8E1"

[[bus.meter]]
name = "incomer"
unit = 1
profile = "eastron-sdm630"
period = "2s"
tier = 1

[[bus.meter]]
name = "workshop"
unit = 2
profile = "eastron-sdm630"
period = "2s"
tier = 2
parent = "incomer"

[[bus]]
name = "roof"
tcp = "127.0.0.1:502"

[[bus.meter]]
name = "pv"
unit = 1
profile = "sunspec-meter-213"
period = "1s"
tier = 2
parent = "incomer"
"""


def write_site(folder: Path, *changes: tuple[str, str], text: str = SITE) -> Path:
    """Write the site file, every (old, new) of `changes` made where `old` stands first."""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    file = folder / "site.toml"
    file.write_text(text.replace("DIRECTORY", str(folder)), encoding="utf-8")
    return file


def catalogue(*groups: tuple[str, int], site: str = "plant", windows=(5_000, 10_000)) -> Catalogue:
    """Return one for groups given as (meter, period_ms), each with a gauge and a totaliser."""
    seen = []
    made = []
    for meter, period_ms in groups:
        seen.append(meter)
        number = seen.count(meter)
        suffix = "" if number == 1 else f"_{number}"
        points = tuple(replace(p, name=p.name + suffix) for p in (VOLTAGE, ENERGY))
        made.append(Group(meter, period_ms, points))
    meters = tuple(MeterInfo(meter, "eastron-sdm630", 1, "", "") for meter in dict.fromkeys(seen))
    return Catalogue(site, meters, tuple(made), windows)


class TimeIsUpError(Exception):
    """The end of a test in fake time."""


class FakeClock:
    """Stands still until somebody sleeps, or a test lets time pass."""

    def __init__(self, now_ms=START_MS, *, lasts_ms=None):
        self.slept_ms = []
        self.stepped_ms = 0
        self.is_trusted = self.knows_past = True
        self.state = ClockState(trust=Trust.NTP, unconfirmed_s=0, steps=0, last_step_ms=0)
        self.platform_ms = []
        self._now_ms = now_ms
        self._elapsed_ms = 0
        self._lasts_ms = lasts_ms

    def now_ms(self):
        return self._now_ms

    @property
    def offset_ns(self):
        return (self._now_ms - self._elapsed_ms) * 1_000_000

    def take_platform(self, server_ms):
        self.platform_ms.append(server_ms)

    def monotonic_s(self):
        return self._elapsed_ms / 1000

    async def sleep_ms(self, duration_ms):
        self.slept_ms.append(duration_ms)
        self.pass_ms(duration_ms)

    def pass_ms(self, duration_ms):
        self._now_ms += duration_ms
        self._elapsed_ms += duration_ms
        if self._lasts_ms is not None and self._elapsed_ms >= self._lasts_ms:
            raise TimeIsUpError

    def step_ms(self, step_ms):
        """Set the wall clock; the monotonic one goes on as before."""
        self._now_ms += step_ms
        if step_ms < -SLEW_MAX_MS or step_ms > FORWARD_MAX_MS:
            self.stepped_ms += step_ms


class FakeBus:
    """Answers with `script(request)`: words, a frame, or an error to raise; each takes `took_ms`.

    The script of a Modbus meter gets the `ReadRequest` and returns words. That of any other gets
    the question and returns the frame that the meter sends; the question finds its answer in it.
    """

    def __init__(self, clock, script, *, took_ms=20):
        self.stats = BusStats()
        self.asked = []  # (when, request)
        self.questions = []  # (question, settings)
        self.is_closed = False
        self.script = script
        self._clock, self._took_ms = clock, took_ms

    async def exchange(self, question, settings):
        sent_s = self._clock.monotonic_s()
        request = getattr(question, "read", question)
        self.asked.append((self._clock.now_ms(), request))
        self.questions.append((question, settings))
        self._clock.pass_ms(self._took_ms)
        self.stats.transactions += 1
        self.stats.busy_s += self._took_ms / 1000
        answer = self.script(request)
        if isinstance(answer, EdgeaggError):
            raise answer
        if isinstance(answer, bytes):
            payload = _answer(question, answer)
        else:
            assert len(answer) == request.count
            payload = struct.pack(f">{len(answer)}H", *answer)
        return Answer(payload, sent_s, self._clock.monotonic_s())

    async def close(self):
        self.is_closed = True


def _answer(question, heard):
    found = question.find(heard)
    if found is None:
        raise FrameError(f"{question}: {question.describe_junk(heard)}", heard)
    return question.payload(found.frame)


class FakeRecorder:
    """Keeps what it is told."""

    catalogue = SimpleNamespace(groups=[SimpleNamespace(meter=f"number {n}") for n in range(16)])

    def __init__(self, last_due_ms=None):
        self.rows = []  # (group, due_ms, at_ms, values, qualities)
        self.gaps = []  # (group, first_due_ms, last_due_ms, slots, reason)
        self.restarts = []  # (group, last_due_ms)
        self.held = Held()
        self._last_due_ms = dict(last_due_ms or {})

    def last_due_ms(self, group):
        return self._last_due_ms.get(group)

    def scan(self, group, *, due_ms, at_ms, plan, replies, ratios):
        values, qualities = plan.decode(replies, ratios=int(ratios))
        self.row(group, due_ms=due_ms, at_ms=at_ms, values=values, qualities=qualities)
        return qualities

    def row(self, group, *, due_ms, at_ms, values, qualities):
        self._last_due_ms[group] = due_ms
        self.rows.append((group, due_ms, at_ms, tuple(values), tuple(qualities)))

    def begin(self, group, behind_ms):
        if not self.held.holds(group):
            self.restart(group, behind_ms)

    def restart(self, group, last_due_ms):
        self._last_due_ms[group] = last_due_ms
        self.restarts.append((group, last_due_ms))

    def hold(self, row):
        self.held.add(row)

    def release(self, groups, offset_ms=None):
        """Record what is held of groups with a period of a minute."""
        taking = SimpleNamespace(
            last_due_ms=self.last_due_ms,
            push_row=lambda group, due_ms, at_ms, values, qualities: self.row(
                group, due_ms=due_ms, at_ms=at_ms, values=values, qualities=qualities
            ),
        )
        return self.held.settle(Release(tuple(groups), offset_ms), taking, [60_000] * 16)

    def gap(self, group, *, first_due_ms, last_due_ms, slots, reason):
        self._last_due_ms[group] = last_due_ms
        self.gaps.append((group, first_due_ms, last_due_ms, slots, reason))
