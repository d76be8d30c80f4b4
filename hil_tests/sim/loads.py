"""Believable loads as pure functions of time, and their exact energy.

Owns power over time. A load is a table of whole milliwatts, one per second, that repeats after one
simulated week, so the energy between any two instants is an exact integer found in constant time:
a bench that is killed and started again shows the same counters. It must not read a clock.

Energy is counted in microjoules = milliwatts x milliseconds; 1 kWh = 3.6e12 uJ.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from itertools import accumulate, cycle, islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from random import Random

UJ_PER_KWH = 3_600_000_000_000
_WEEK_S = 7 * 86_400
_WEEK_MIN = 7 * 1_440
# Shanghai keeps UTC+8 all year; 1970-01-01 was a Thursday, and a week begins on Monday.
_EPOCH_IN_WEEK_S = 3 * 86_400 + 8 * 3_600
_BLOCK_S = 64  # every 64th running sum is kept: 2 % of the memory for 32 additions more


@dataclass(frozen=True, slots=True)
class Week:
    """One simulated week, the period of all loads, laid over real seconds."""

    period_s: int
    offset_s: int
    minutes: array[int]  # minute of the simulated week of each real second of the period

    @classmethod
    def at_speed(cls, day_speed: float) -> Week:
        """Let `day_speed` simulated days pass in a real one (1 = real time, 240 = six minutes)."""
        period_s = max(1, round(_WEEK_S / day_speed))
        offset_s = _EPOCH_IN_WEEK_S * period_s // _WEEK_S
        minutes = array("H", (second * _WEEK_MIN // period_s for second in range(period_s)))
        return cls(period_s, offset_s, minutes)


class Series:
    """Power that is constant within each second of UTC and repeats every week of `week`."""

    def __init__(self, week: Week, power_mw: Iterable[int]) -> None:
        self.power_mw_table = array("q", power_mw)
        self._offset_s = week.offset_s
        self._period_s = week.period_s
        if len(self.power_mw_table) != week.period_s:
            raise ValueError(f"{len(self.power_mw_table)} seconds given for {week.period_s}")
        self._imports = _running_sums(max(power, 0) for power in self.power_mw_table)
        self._exports = _running_sums(max(-power, 0) for power in self.power_mw_table)

    def power_mw(self, t_ms: int) -> int:
        """Return the power at `t_ms` in milliwatts; negative = generated."""
        return self.power_mw_table[(t_ms // 1000 + self._offset_s) % self._period_s]

    def power_w(self, t_ms: int) -> float:
        """Return the power at `t_ms` in watts; negative = generated."""
        return self.power_mw(t_ms) / 1000

    def import_uj(self, from_ms: int, to_ms: int) -> int:
        """Integrate the positive power over [from_ms, to_ms), exactly, in microjoules."""
        return self._integral(self._imports, 1, to_ms) - self._integral(self._imports, 1, from_ms)

    def export_uj(self, from_ms: int, to_ms: int) -> int:
        """Integrate the negative power over [from_ms, to_ms), exactly, as positive microjoules."""
        return self._integral(self._exports, -1, to_ms) - self._integral(self._exports, -1, from_ms)

    def _integral(self, sums: list[int], sign: int, t_ms: int) -> int:
        seconds, rest_ms = divmod(t_ms, 1000)
        weeks, second = divmod(seconds + self._offset_s, self._period_s)
        block = second // _BLOCK_S
        begun = self.power_mw_table[block * _BLOCK_S : second + 1]
        current = max(sign * begun.pop(), 0)
        whole = weeks * sums[-1] + sums[block] + sum(max(sign * power, 0) for power in begun)
        return whole * 1000 + current * rest_ms


def _running_sums(values: Iterable[int]) -> list[int]:
    """Return the sum before each block of seconds, and the whole sum last."""
    sums = list(accumulate(values, initial=0))
    return [*sums[:-1:_BLOCK_S], sums[-1]]


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of load: its course over a week as shares of full scale, and its reactive power."""

    course: Callable[[Week, Random], Iterator[float]]
    tan_phi_permille: int  # var per 1000 W; constant, so that reactive energy is exact too


def make_load(shape: Shape, week: Week, *, scale_w: float, rng: Random) -> Series:
    """Build the load of one meter; `rng` alone decides what it does."""
    scale_mw = scale_w * 1000
    return Series(week, (int(scale_mw * share) for share in shape.course(week, rng)))


def _plant(week: Week, rng: Random) -> Iterator[float]:
    """Two shifts 8-16-24 with breaks, standby at night and on Sunday, motors that cycle."""
    schedule = [_plant_activity(minute // 1440, minute % 1440) for minute in range(_WEEK_MIN)]
    motors = [_cycling(week.period_s, rng, on_s=(20, 90), off_s=(15, 120)) for _ in range(5)]
    for minute, running, noise in zip(
        week.minutes, map(sum, zip(*motors, strict=True)), _noise(rng), strict=False
    ):
        activity = schedule[minute]
        yield 0.06 + activity * (0.42 + 0.10 * running + 0.015 * noise)


def _plant_activity(day: int, minute: int) -> float:
    if day == 6 or minute < 480 or (day == 5 and minute >= 960):
        return 0.08
    if 720 <= minute < 750 or 1200 <= minute < 1230:
        return 0.45
    return 0.92 if minute < 960 else 0.75


def _lighting(week: Week, rng: Random) -> Iterator[float]:
    """Office hours: zones that go on around 8 and off between 17 and 21; emergency light always."""
    zones = [(450 + rng.randrange(75), 1020 + rng.randrange(240)) for _ in range(8)]
    schedule = [
        0.08
        + 0.92
        * (0.15 if minute // 1440 > 4 else 1.0)
        * sum(start <= minute % 1440 < end for start, end in zones)
        / len(zones)
        for minute in range(_WEEK_MIN)
    ]
    for minute, noise in zip(week.minutes, _noise(rng), strict=False):
        yield schedule[minute] * (1 + 0.004 * noise)


def _hvac(week: Week, rng: Random) -> Iterator[float]:
    """Compressors that a thermostat switches, more of them in the afternoon; fans throughout."""
    compressors = [_cycling(week.period_s, rng, on_s=(40, 110), off_s=(20, 70)) for _ in range(4)]
    warmth = [0.25 + 0.75 * _bell(minute % 1440, 360, 1380) for minute in range(_WEEK_MIN)]
    for minute, running, noise in zip(
        week.minutes, map(sum, zip(*compressors, strict=True)), _noise(rng), strict=False
    ):
        yield 0.12 + 0.21 * min(running, 4 * warmth[minute]) + 0.01 * noise


def _pv(week: Week, rng: Random) -> Iterator[float]:
    """Sun from 6 to 18 with passing clouds: a negative load."""
    sun = [_bell(minute % 1440, 360, 1080) ** 1.3 for minute in range(_WEEK_MIN)]
    for minute, sky in zip(week.minutes, _clouds(rng), strict=False):
        yield -0.97 * sun[minute] * sky


def _base(week: Week, rng: Random) -> Iterator[float]:
    """Server rooms, pumps, standby: nearly constant."""
    for _, noise in zip(week.minutes, _noise(rng), strict=False):
        yield 0.9 + 0.02 * noise


def _storage(week: Week, rng: Random) -> Iterator[float]:
    """Charge a battery at night and at noon, give back in the two peaks."""
    plan = [_storage_share(minute % 1440) for minute in range(_WEEK_MIN)]
    for minute, noise in zip(week.minutes, _noise(rng), strict=False):
        yield plan[minute] * (1 + 0.01 * noise) + 0.004  # its own converter never rests


def _storage_share(minute: int) -> float:
    for start, end, share in (
        (60, 300, 0.8),
        (540, 690, -0.9),
        (720, 840, 0.7),
        (1080, 1290, -0.9),
    ):
        if start <= minute < end:
            # A converter ramps within a quarter of an hour at both ends.
            return share * min(1.0, (minute - start + 1) / 15, (end - minute) / 15)
    return 0.0


def _charger(week: Week, rng: Random) -> Iterator[float]:
    """Four charge points: cars come by day, charge at full power, then taper off."""
    points = [_sessions(week, rng) for _ in range(4)]
    for shares in zip(*points, strict=True):
        yield 0.01 + 0.99 * sum(shares) / len(points)


def _sessions(week: Week, rng: Random) -> array[float]:
    track = array("d")
    minute_s = week.period_s / _WEEK_MIN
    while len(track) < week.period_s:
        day_minute = week.minutes[len(track)] % 1440
        busy = 480 <= day_minute < 1260
        track.extend([0.0] * max(1, round(rng.uniform(10, 90 if busy else 600) * minute_s)))
        full_s = max(1, round(rng.uniform(20, 120) * minute_s))
        track.extend([1.0] * full_s)
        taper_s = max(1, full_s // 3)
        track.extend(1 - 0.85 * second / taper_s for second in range(taper_s))
    return track[: week.period_s]


LOADS: Mapping[str, Shape] = {
    "plant": Shape(_plant, 593),  # power factor 0.86
    "lighting": Shape(_lighting, 329),  # 0.95
    "hvac": Shape(_hvac, 540),  # 0.88
    "pv": Shape(_pv, 101),  # 0.995
    "base": Shape(_base, 251),  # 0.97
    "storage": Shape(_storage, 101),  # 0.995
    "charger": Shape(_charger, 143),  # 0.99
}


def _bell(minute: int, start: int, end: int) -> float:
    if not start < minute < end:
        return 0.0
    return math.sin(math.pi * (minute - start) / (end - start))


def _cycling(
    period_s: int, rng: Random, *, on_s: tuple[int, int], off_s: tuple[int, int]
) -> array[int]:
    """Return 1 where a machine runs and 0 where it rests, second by second."""
    track = array("b")
    while len(track) < period_s:
        track.extend([1] * rng.randint(*on_s))
        track.extend([0] * rng.randint(*off_s))
    return track[:period_s]


def _noise(rng: Random) -> Iterator[float]:
    """Repeat 4093 values within [-1, 1]; a prime, so that no cycle of a load falls in step."""
    return cycle([rng.uniform(-1, 1) for _ in range(4093)])


def _clouds(rng: Random) -> Iterator[float]:
    """Wander between clear sky (1) and thick cloud (0.2), a new aim every 5 to 40 seconds."""
    sky = 1.0
    while True:
        aim = 1.0 if rng.random() < 0.55 else rng.uniform(0.2, 0.9)
        steps = rng.randint(5, 40)
        for step in islice(range(steps), steps):
            yield sky + (aim - sky) * step / steps
        sky = aim
