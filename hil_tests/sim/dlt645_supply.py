"""What a DL/T 645 meter shows of the bench's loads.

Owns the step from a place in the metering tree to readings: tariffs by time of day, counters at
past midnights and settlement days. All of it is a pure function of time, so a bench that starts
again shows the same. It must not read a clock and knows no frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from hil_tests.sim.bcd import local_time, utc_ms
from hil_tests.sim.dlt645_items import Readings
from hil_tests.sim.electrical import Supply
from hil_tests.sim.loads import UJ_PER_KWH
from hil_tests.sim.patterns import Pattern, show_digits

_HOUR_MS = 3_600_000
_HOURS = 24
# The meter's names of what the tree counts. Both quadrants of one sign of reactive power are one
# number in the tree: it goes to the quadrant where active power has the same sign.
_SAME = {
    "reactive_energy_combined_1": "reactive_energy_import",
    "reactive_energy_combined_2": "reactive_energy_export",
    "reactive_energy_q1": "reactive_energy_import",
    "reactive_energy_q3": "reactive_energy_export",
}
_SETTLEMENTS = 12


@dataclass(frozen=True, slots=True)
class Tariffs:
    """The tariff number of each hour of the day, Beijing time."""

    by_hour: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.by_hour) != _HOURS or min(self.by_hour) < 1:
            raise ValueError("tariffs: 24 numbers from 1 on expected")


# 1 sharp, 2 peak, 3 flat, 4 valley: an example of a day, tariffs are set by the utility.
EXAMPLE_DAY = Tariffs((4,) * 6 + (3,) * 2 + (2,) * 3 + (3,) * 7 + (2,) + (1,) * 2 + (2, 3, 4))


class SupplyReadings:
    """Readings of one meter at any instant: `Dlt645Meter(identity, readings=SupplyReadings(...))`.

    A total that has tariffs is the sum of their registers, so both agree to the last digit.
    """

    def __init__(
        self, supply: Supply, *, tariffs: Tariffs = EXAMPLE_DAY, patterns: Sequence[Pattern] = ()
    ) -> None:
        self._supply = supply
        self._patterns = tuple(patterns)
        self._tariffs = tariffs
        # Energies by (direction, tariff) before each local midnight since the start; only grows.
        self._first_day = local_time(supply.start_ms).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        self._before: list[dict[tuple[str, int], int]] = [{}]

    def __call__(self, now_ms: int) -> Readings:
        """Freeze the meter at a UTC instant."""
        clock = local_time(now_ms)
        midnight = clock.replace(hour=0, minute=0, second=0, microsecond=0)
        return Readings(
            clock=clock,
            now=_AtInstant(self, now_ms),
            settled=self._past(_months(midnight)),
            frozen=self._past(midnight - timedelta(days=day) for day in range(_SETTLEMENTS)),
        )

    def quantity(self, name: str, t_ms: int) -> Fraction:
        """Return what the meter shows of a quantity; KeyError if it has none such.

        Patterns reach each counter, those of the tariffs and those of the past as well.
        """
        true = self._true(name, t_ms)
        if "_energy_" not in name or not self._patterns:
            return true
        return show_digits(self._patterns, lambda at_ms: self._true(name, at_ms), t_ms)

    def tariff_kwh(self, direction: str, tariff: int, t_ms: int) -> Fraction:
        """Return one tariff's register in kWh, in full steps of 0.01."""
        if direction not in ("import", "export") or tariff not in self._tariffs.by_hour:
            raise KeyError(tariff)
        counted = Fraction(self._tariff_uj(direction, tariff, t_ms), UJ_PER_KWH)
        if direction == "import" and tariff == self._tariffs.by_hour[0]:
            counted += self._supply.initial_kwh
        return Fraction(math.floor(counted * 100), 100)

    def total_kwh(self, direction: str, t_ms: int) -> Fraction:
        """Return the sum of the tariffs' registers."""
        return sum(
            (self.tariff_kwh(direction, tariff, t_ms) for tariff in set(self._tariffs.by_hour)),
            Fraction(0),
        )

    def _true(self, name: str, t_ms: int) -> Fraction:
        what, _, rest = name.partition("active_energy_")
        direction, _, tariff = rest.partition("_t")
        if not what and tariff.isdigit():
            return self.tariff_kwh(direction, int(tariff), t_ms)
        if not what and rest in ("import", "export"):
            return self.total_kwh(rest, t_ms)
        if not what and rest == "sum":
            return self.total_kwh("import", t_ms) + self.total_kwh("export", t_ms)
        return self._supply.at(t_ms).value(_SAME.get(name, name))

    def _past(self, instants: Iterator[datetime]) -> tuple[Mapping[str, Fraction], ...]:
        since = (utc_ms(at) for at in instants)
        return tuple(_AtInstant(self, t_ms) for t_ms in since if t_ms >= self._supply.start_ms)

    def _tariff_uj(self, direction: str, tariff: int, t_ms: int) -> int:
        day = max(0, (local_time(t_ms) - self._first_day).days)
        while len(self._before) <= day:
            today = self._first_day + timedelta(days=len(self._before) - 1)
            self._before.append(self._day_end(today, self._before[-1]))
        midnight_ms = utc_ms(self._first_day + timedelta(days=day))
        return self._before[day].get((direction, tariff), 0) + self._span_uj(
            direction, tariff, midnight_ms, t_ms
        )

    def _day_end(
        self, day: datetime, before: Mapping[tuple[str, int], int]
    ) -> dict[tuple[str, int], int]:
        start_ms = utc_ms(day)
        return {
            (direction, tariff): before.get((direction, tariff), 0)
            + self._span_uj(direction, tariff, start_ms, start_ms + _HOURS * _HOUR_MS)
            for direction in ("import", "export")
            for tariff in set(self._tariffs.by_hour)
        }

    def _span_uj(self, direction: str, tariff: int, midnight_ms: int, end_ms: int) -> int:
        """Integrate the hours of one tariff from a midnight to an instant of the same day."""
        series = self._supply.node.active
        energy_uj = series.import_uj if direction == "import" else series.export_uj
        spans = (
            (max(midnight_ms + hour * _HOUR_MS, self._supply.start_ms), hour)
            for hour, number in enumerate(self._tariffs.by_hour)
            if number == tariff
        )
        return sum(
            energy_uj(from_ms, to_ms)
            for from_ms, hour in spans
            if from_ms < (to_ms := min(midnight_ms + (hour + 1) * _HOUR_MS, end_ms))
        )


class _AtInstant(Mapping[str, Fraction]):
    """Quantities by name, each computed when it is read: a request asks for one or a few."""

    def __init__(self, source: SupplyReadings, t_ms: int) -> None:
        self._source = source
        self._t_ms = t_ms

    def __getitem__(self, name: str) -> Fraction:
        return self._source.quantity(name, self._t_ms)

    def __iter__(self) -> Iterator[str]:
        """Refuse: the names are whatever the metering tree knows, tariffs without end."""
        raise TypeError("quantities are read by name")

    def __len__(self) -> int:
        """Refuse, as `__iter__` does."""
        raise TypeError("quantities are read by name")


def _months(midnight: datetime) -> Iterator[datetime]:
    """Yield the first days of the last twelve months, the latest first: the settlement days."""
    first = midnight.replace(day=1)
    for _ in range(_SETTLEMENTS):
        yield first
        first = (first - timedelta(days=1)).replace(day=1)
