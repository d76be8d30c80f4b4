"""What the gateway measures of itself: points of a meter of its own, and Prometheus's text.

One table of metrics serves both. The points travel like those of any meter, so a platform sees a
crowded line or a failing meter without another channel; the text is for whoever scrapes gateways.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from edgeagg.model import Group, Kind, MeterInfo, PointInfo
from edgeagg_agent.bus import BusStats

METER = "gateway"
PROFILE = "edgeagg-gateway"
PERIOD_MS = 60_000
_SUFFIX = {"%": "percent", "s": "seconds", "1": "total"}


@dataclass(frozen=True, slots=True)
class Metric:
    """One quantity: mantissa x 10**exponent in `unit`."""

    name: str
    unit: str
    exponent: int
    kind: Kind
    text: str

    def point(self, of: str) -> PointInfo:
        """Return it as a point of the gateway's meter."""
        return PointInfo(f"{of}_{self.name}", self.unit, self.exponent, self.kind)


def _count(name: str, text: str) -> Metric:
    return Metric(name, "1", 0, Kind.TOTALISER, text)


BUS_METRICS = (
    Metric("utilisation", "%", -1, Kind.GAUGE, "share of the last minute the line was in use"),
    Metric("lateness", "s", -3, Kind.GAUGE, "worst end of a scan behind its slot, last minute"),
    Metric("skew", "s", -3, Kind.GAUGE, "longest scan, so readings' largest distance in time"),
    _count("transactions", "questions asked"),
    _count("no_reply", "questions without any answer"),
    _count("bad_frame", "questions with a damaged answer"),
    _count("refused", "questions that a meter refused"),
    _count("late_replies", "answers behind their time-out"),
    _count("held_back", "questions held back because a late answer could still come"),
    _count("retries", "scans repeated after a failure"),
    _count("overrun_slots", "slots the line had no time for"),
    _count("reopened", "openings of the port after the first"),
)
STATE = "state"
STATE_METRICS = (
    _count("dropped_batches", "batches let go before every destination had them"),
    _count("not_kept_slots", "readings that neither the disk nor the memory had room for"),
    Metric("clock_trust", "1", 0, Kind.GAUGE, "0 never set, 1 RTC, 2 platform, 3 holdover, 4 NTP"),
    _count("clock_steps", "times that the clock was put by more than a second"),
    Metric("clock_step", "s", -3, Kind.GAUGE, "how far it was put the last time, back is negative"),
    _count("clock_retimed", "rows read before the time was known, and given the right one"),
)
METER_METRICS = (Metric("completeness", "%", -1, Kind.GAUGE, "readings with a value, last minute"),)


@dataclass(slots=True)
class MeterTally:
    """Point slots of one meter: all of them, and those with a value."""

    slots: int = 0
    values: int = 0


@dataclass(slots=True)
class BusTally:
    """What a poller saw of its bus. The two times and the meters are since the last sample."""

    lateness_ms: int = 0
    skew_ms: int = 0
    retries: int = 0
    overrun_slots: int = 0
    meters: dict[str, MeterTally] = field(default_factory=dict)

    def note(self, meter: str, *, slots: int, values: int) -> None:
        """Count the point slots of one scan, or of slots that were overrun."""
        tally = self.meters.setdefault(meter, MeterTally())
        tally.slots += slots
        tally.values += values


class BusWatch:
    """Samples one bus, once a period."""

    def __init__(
        self, name: str, meters: Sequence[str], stats: BusStats, tally: BusTally, *, now_s: float
    ) -> None:
        self.name, self.meters = name, tuple(meters)
        self.last: tuple[int, ...] = (0,) * (len(BUS_METRICS) + len(self.meters))
        self._stats, self._tally = stats, tally
        self._since_s, self._busy_s = now_s, stats.busy_s

    def sample(self, now_s: float) -> tuple[int, ...]:
        """Return one mantissa per point, and begin a new minute."""
        stats, tally = self._stats, self._tally
        span_s = max(now_s - self._since_s, 0.001)
        busy = (stats.busy_s - self._busy_s) / span_s
        self.last = (
            min(round(1000 * busy), 1000),
            tally.lateness_ms,
            tally.skew_ms,
            stats.transactions,
            stats.no_reply,
            stats.bad_frame,
            stats.refused,
            stats.late_replies,
            stats.held_back,
            tally.retries,
            tally.overrun_slots,
            stats.reopened,
            *(_completeness(tally.meters.get(meter)) for meter in self.meters),
        )
        self._since_s, self._busy_s = now_s, stats.busy_s
        tally.lateness_ms = tally.skew_ms = 0
        tally.meters.clear()
        return self.last


class StateWatch:
    """Samples what the state directory cost, once a period."""

    def __init__(self, counts: Callable[[], tuple[int, ...]]) -> None:
        """Ask `counts` for one value per metric."""
        self.last: tuple[int, ...] = (0,) * len(STATE_METRICS)
        self._counts = counts

    def sample(self) -> tuple[int, ...]:
        """Return one mantissa per point."""
        self.last = self._counts()
        return self.last


def _completeness(tally: MeterTally | None) -> int:
    if tally is None or not tally.slots:
        return 1000  # nothing was due, so nothing is missing
    return 1000 * tally.values // tally.slots


def points_of(bus: str, meters: Sequence[str]) -> Iterator[PointInfo]:
    """Yield the points of one bus and of its meters."""
    for metric in BUS_METRICS:
        yield metric.point(bus)
    for meter in meters:
        for metric in METER_METRICS:
            yield metric.point(meter)


def gateway_meter() -> MeterInfo:
    """Return the gateway as a meter outside the metering tree."""
    return MeterInfo(METER, PROFILE, 0, "", "")


def gateway_group(buses: Sequence[tuple[str, Sequence[str]]]) -> Group:
    """Return the group of the gateway's own points; `buses` are names with their meters' names."""
    points = [point for bus, meters in buses for point in points_of(bus, meters)]
    points += [metric.point(STATE) for metric in STATE_METRICS]
    return Group(METER, PERIOD_MS, tuple(points))


def prometheus(gateway: str, watches: Sequence[BusWatch], state: StateWatch) -> str:
    """Return the last samples in Prometheus's text format 0.0.4."""
    lines: list[str] = []
    for metric, value in zip(STATE_METRICS, state.last, strict=True):
        name = f"edgeagg_{STATE}_{metric.name}_{_SUFFIX[metric.unit]}"
        lines += _head(name, metric)
        lines.append(f'{name}{{gateway="{gateway}"}} {_decimal(value, metric.exponent)}')
    for place, metric in enumerate(BUS_METRICS):
        name = f"edgeagg_bus_{metric.name}_{_SUFFIX[metric.unit]}"
        lines += _head(name, metric)
        lines += [
            f'{name}{{gateway="{gateway}",bus="{watch.name}"}} '
            f"{_decimal(watch.last[place], metric.exponent)}"
            for watch in watches
        ]
    for metric in METER_METRICS:
        name = f"edgeagg_meter_{metric.name}_{_SUFFIX[metric.unit]}"
        lines += _head(name, metric)
        for watch in watches:
            values = watch.last[len(BUS_METRICS) :]
            lines += [
                f'{name}{{gateway="{gateway}",bus="{watch.name}",meter="{meter}"}} '
                f"{_decimal(value, metric.exponent)}"
                for meter, value in zip(watch.meters, values, strict=True)
            ]
    return "\n".join(lines) + "\n"


def _head(name: str, metric: Metric) -> tuple[str, str]:
    kind = "counter" if metric.kind is Kind.TOTALISER else "gauge"
    return f"# HELP {name} {metric.text} ({metric.unit})", f"# TYPE {name} {kind}"


def _decimal(mantissa: int, exponent: int) -> str:
    return f"{mantissa * 10.0**exponent:.{max(-exponent, 0)}f}"
