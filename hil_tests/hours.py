"""Hours of one line of DL/T 645 meters in a second: their registers do what real ones do wrong.

Owns the site and the time, which leaps. The agent's own parts read the simulator's meters and cut
batches; the platform's own parts commit them to a real database.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeagg import topics
from edgeagg.errors import FrameError, LinkError
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.store import open_store
from edgeagg_agent.app import make_reader
from edgeagg_agent.bus import Answer, BusStats, LineSettings
from edgeagg_agent.config import load_site
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.poller import Poller
from edgeagg_agent.protocol import Question
from edgeagg_agent.recorder import Recorder
from hil_tests.sim.addressed import AddressedMeter
from hil_tests.sim.site import SiteSpec, parse_site
from hil_tests.truth import Truth
from hil_tests.verdict import Run, Span

GATEWAY = "qp-hours"
START_MS = 1_790_001_000_000  # 21 September 2026, a quarter of an hour begins in China
_PERIOD_MS = 120_000
_ANSWER_MS, _SILENCE_MS = 200, 600
_CUT_EVERY_MS = 300_000
POWER_MAX_KW = 400
_BLUR_MS = 2_000
_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class Fate:
    """What one meter's register does: a pattern of the simulator, and when."""

    pattern: str
    at_s: float = 3_660
    for_s: float | None = None


class TimeIsUpError(Exception):
    """The end of the hours."""


class _LeapingClock:
    """Passes when somebody waits; it is right."""

    stepped_ms = offset_ns = 0
    is_trusted = knows_past = True

    def __init__(self, end_ms: int) -> None:
        self._now_ms, self._end_ms = START_MS, end_ms
        self.recorder: Recorder | None = None
        self._next_cut_ms = START_MS + _CUT_EVERY_MS

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic_s(self) -> float:
        return (self._now_ms - START_MS) / 1000

    def leap(self, duration_ms: int) -> None:
        self._now_ms += duration_ms

    async def sleep_ms(self, duration_ms: int) -> None:
        self._now_ms += duration_ms
        if self._now_ms >= self._next_cut_ms and self.recorder is not None:
            await self.recorder.cut(self._now_ms)
            self._next_cut_ms += _CUT_EVERY_MS
        if self._now_ms >= self._end_ms:
            raise TimeIsUpError


class _MeterBus:
    """The line: whoever of the meters knows a question answers it."""

    def __init__(self, meters: Sequence[AddressedMeter], clock: _LeapingClock) -> None:
        self.stats = BusStats()
        self._meters, self._clock = meters, clock

    async def exchange(self, question: Question, settings: LineSettings) -> Answer:
        """Ask; raise LinkError when nobody answers."""
        sent_s = self._clock.monotonic_s()
        heard = b"".join(m.answer(question.request, self._clock.now_ms()) for m in self._meters)
        self._clock.leap(_ANSWER_MS if heard else _SILENCE_MS)
        if not heard:
            raise LinkError(f"{question}: no reply at {settings.baud} Bd")
        found = question.find(heard)
        if found is None:
            raise FrameError(f"{question}: {question.describe_junk(heard)}", heard)
        return Answer(question.payload(found.frame), sent_s, self._clock.monotonic_s())

    async def close(self) -> None:
        """Give nothing back: there is nothing."""


@dataclass(frozen=True, slots=True)
class Lived:
    """What the hours left besides the database: the gateway's batches, the meters' truth."""

    batches: Mapping[tuple[int, int], bytes]
    truth: Truth
    run: Run


async def live(
    fates: Mapping[str, Fate | None], directory: Path, store: str, *, hours: float
) -> Lived:
    """Let the meters named by `fates` be read for some hours, and everything be delivered."""
    names = list(fates)
    spec = _spec(fates)
    truth = Truth(spec)
    site = load_site(_site_file(directory, names))
    end_ms = START_MS + round(hours * 3_600_000)
    clock = _LeapingClock(end_ms)
    outbox = Outbox(site.state_directory, now_ms=START_MS, bytes_max=_BYTES_MAX)
    try:
        recorder = Recorder(
            site.state_directory, outbox, GATEWAY, site.catalogue(), now_ms=START_MS
        )
        clock.recorder = recorder
        bus = _MeterBus(list(truth.addressed.values()), clock)
        (config,) = site.buses
        readers = [make_reader(config, meter, bus, clock) for meter in config.meters]
        poller = Poller(bus, {n: (reader, 0) for n, reader in enumerate(readers)}, recorder, clock)
        try:
            await poller.run()
        except TimeIsUpError:
            await recorder.cut(clock.now_ms())
        sequences = range(1, outbox.head + 1)
        batches = {(outbox.epoch, n): outbox.read(n, GATEWAY) for n in sequences}
    finally:
        outbox.close()
    await _deliver(list(batches.values()), store)
    run = Run(
        Span(START_MS - _PERIOD_MS, end_ms + _PERIOD_MS), Span(START_MS, end_ms), (), (0,), _BLUR_MS
    )
    return Lived(batches, truth, run)


async def _deliver(batches: Sequence[bytes], url: str) -> None:
    store = await open_store(url)
    try:
        messages = [Message(topics.batch(GATEWAY), data) for data in batches]
        await Inbox(store, Admission.ANYBODY).take(messages, START_MS)
    finally:
        await store.close()


def _spec(fates: Mapping[str, Fate | None]) -> SiteSpec:
    meters = [
        {
            "name": name,
            "protocol": "dlt645-2007",
            "address": _address(place),
            "initial_kwh": 5_000,
            "load": "plant",
            "scale_kw": 150,
            **_pattern(fate),
        }
        for place, (name, fate) in enumerate(fates.items())
    ]
    line = {"name": "line", "link": "/dev/none", "baud": 2400, "format": "8E1", "meter": meters}
    document = {"seed": 5, "start_ms": START_MS, "day_speed": 8, "line": [line]}
    return parse_site(document, where="the hours")


def _pattern(fate: Fate | None) -> dict[str, str | float]:
    if fate is None:
        return {}
    lasting = {} if fate.for_s is None else {"for_s": fate.for_s}
    return {"pattern": fate.pattern, "at_s": fate.at_s, **lasting}


def _site_file(directory: Path, names: Sequence[str]) -> Path:
    parts = [
        f'[site]\ngateway = "{GATEWAY}"\nname = "Hours"',
        f'[state]\ndirectory = "{directory}/state"',
        '[windows]\nlengths = ["5min", "15min"]',
        '[[destination]]\nname = "platform"\nbroker = "mqtt://192.0.2.1"',
        '[[bus]]\nname = "line"\nport = "/dev/none"\nbaud = 2400\nformat = "8E1"',
    ]
    parts += [
        f'[[bus.meter]]\nname = "{name}"\naddress = "{_address(place)}"\ntier = 1'
        f'\nprofile = "dlt645-2007-generic"\nperiod = "{_PERIOD_MS}ms"'
        f'\npoints = ["active_energy_import"]\npower_max = "{POWER_MAX_KW} kW"'
        f'\nstatistics = ["active_energy_import"]'
        f'\ndemand = {{ points = ["active_energy_import"], slip = "5min" }}'
        for place, name in enumerate(names)
    ]
    file = directory / "site.toml"
    file.write_text("\n\n".join(parts), "utf-8")
    return file


def _address(place: int) -> str:
    return f"{place + 1:012d}"
