"""What the delivery must reach, measured on the modelled line: drain, a bad line, a herd.

`python -m hil_tests.virtual.delivering` prints the figures; the tests hold them.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from random import Random

from edgeagg._core import Aggregator
from hil_tests.proxy import FAIR, Weather
from hil_tests.virtual.deliver import GATEWAY, Gateway, Life, Line, Platform, share

_MS_PER_H = 3_600_000
_METERS, _POINTS = 128, 30
_ENVELOPE_BYTES = 80
_WEEK_MIN = 7 * 24 * 60
_TIMEOUT_MAX_S = 1.0  # as `edgeagg_agent.tcp` and deploy/broker/60-edgeagg-line.conf ask for
_CUT_MS = 607_000  # so that it comes at any moment of a batch


@dataclass(frozen=True, slots=True)
class Drained:
    """A backlog on a narrow line, and what new batches saw of it."""

    batch_bytes: int
    took_s: float
    live_p95_ms: float
    alone_p95_ms: float

    def __str__(self) -> str:
        """Say it to a person."""
        return (
            f"7 days of backlog, {_WEEK_MIN:,} batches of {self.batch_bytes:,} bytes, at 1 Mbit/s:"
            f" {self.took_s:.0f} s; new batches meanwhile p95 {self.live_p95_ms:.0f} ms,"
            f" alone {self.alone_p95_ms:.0f} ms"
        )


@dataclass(frozen=True, slots=True)
class Endured:
    """A day on a bad line."""

    latency_s: float
    cut: int
    missing: int
    p50_s: float
    p99_s: float
    connections: int

    def __str__(self) -> str:
        """Say it to a person."""
        return (
            f"a day with 30 % loss and {self.latency_s:g} s each way: {self.cut} batches"
            f" cut, {self.missing} not there a quarter of an hour later; p50 {self.p50_s:.1f} s,"
            f" p99 {self.p99_s:.1f} s; {self.connections} connections"
        )


@dataclass(frozen=True, slots=True)
class Herd:
    """Gateways that lost a broker at one moment."""

    count: int
    connections_peak: int
    queue_peak: int
    whole_s: float

    def __str__(self) -> str:
        """Say it to a person."""
        return (
            f"{self.count} gateways behind a broker that was away for 10 s: at most"
            f" {self.connections_peak} connections a second, {self.queue_peak} messages waiting;"
            f" all delivered after {self.whole_s:.0f} s"
        )


def batch_bytes() -> int:
    """Measure a minute of 128 meters with 30 points, as the agent would send it."""
    rng = Random(7)
    core = Aggregator([(60_000, [n % 10 == 0 for n in range(_POINTS)])] * _METERS, [900_000])
    values = [[rng.randrange(10_000) for _ in range(_POINTS)] for _ in range(_METERS)]
    sizes = []
    for minute in range(1, 31):
        for group, row in enumerate(values):
            for point in range(_POINTS):
                step = rng.randrange(20) if point % 10 == 0 else round(rng.gauss(0, 8))
                row[point] += step
            core.push_row(group, minute * 60_000, minute * 60_000 + 300, row, bytes(_POINTS))
        while (cut := core.cut(minute * 60_000)) is not None:
            sizes.append(len(cut.encode()[1]) + _ENVELOPE_BYTES)
    return sum(sizes) // len(sizes)


def drain(size: int, *, seed: int = 1, flush_ms: int = 5_000) -> Drained:
    """Deliver a week at 1 Mbit/s and 50 ms each way while new batches are cut."""
    line = Line(Weather(latency_s=0.05), 1_000_000)

    def run(backlog: int, hours: float) -> Gateway:
        life = Life()
        platform, rng = Platform(life), Random(seed)
        gateway = Gateway(
            *(life, platform, rng),
            lines=(line, line),
            batch_bytes=size,
            flush_ms=flush_ms,
            backlog=backlog,
        )
        life.run(hours * _MS_PER_H)
        return gateway

    alone, busy = run(0, 0.25).seen, run(_WEEK_MIN, 1.5).seen
    ended_ms = busy.drained_ms or float("inf")
    return Drained(
        size,
        ended_ms / 1000,
        share(busy.live_ms(busy.begun_ms, ended_ms), 0.95),
        share(alone.live_ms(alone.begun_ms), 0.95),
    )


def endure(
    *,
    seed: int = 1,
    latency_s: float = 1.0,
    loss: float = 0.3,
    timeout_max_s: float = _TIMEOUT_MAX_S,
) -> Endured:
    """Live a day on a line that loses, a batch a minute; it is cut every ten minutes too."""
    line = Line(Weather(latency_s, loss, timeout_max_s), 1_000_000)
    life = Life()
    platform = Platform(life)
    gateway = Gateway(
        *(life, platform, Random(seed)), lines=(line, line), batch_bytes=1_500, flush_ms=60_000
    )

    def cut_line() -> None:
        gateway.drop()
        life.after(_CUT_MS, cut_line)

    life.after(_CUT_MS, cut_line)
    life.run(24 * _MS_PER_H)
    cut = gateway.head
    life.run(24.25 * _MS_PER_H)
    delays_ms = gateway.seen.live_ms()
    return Endured(
        latency_s,
        cut,
        platform.lacks(GATEWAY, cut),
        share(delays_ms, 0.5) / 1000,
        share(delays_ms, 0.99) / 1000,
        gateway.seen.connections,
    )


def gather(count: int = 1_000, *, away_ms: int = 10_000, seed: int = 1) -> Herd:
    """Drop all gateways at one moment; their broker is back a while later."""
    life = Life()
    platform = Platform(life)
    line = Line(FAIR)
    gateways = [
        Gateway(
            *(life, platform, Random(f"{seed}/{number}")),
            name=f"qp-{number}",
            lines=(line, line),
            batch_bytes=1_500,
            flush_ms=60_000,
        )
        for number in range(count)
    ]
    life.run(300_000)
    before = {gateway: gateway.seen.connections for gateway in gateways}
    platform.busiest = 0
    for gateway in gateways:
        gateway.drop()
        gateway.is_reachable = lambda: life.now_ms >= 300_000 + away_ms
    peak, done_ms = 0, 0.0
    had = sum(before.values())
    while not done_ms and life.now_ms < 600_000:
        life.run(life.now_ms + 1_000)
        now = sum(gateway.seen.connections for gateway in gateways)
        peak, had = max(peak, now - had), now
        if all(g.seen.connections > before[g] and not g.sender.waiting(g.head) for g in gateways):
            done_ms = life.now_ms - 300_000 - away_ms
    return Herd(count, peak, platform.busiest, done_ms / 1000)


def main() -> int:
    """Print the figures."""
    for size in (batch_bytes(), 12_000):
        print(drain(size))
    for latency_s in (1.0, 2.0):
        print(endure(latency_s=latency_s))
    print(gather())
    return 0


if __name__ == "__main__":
    sys.exit(main())
