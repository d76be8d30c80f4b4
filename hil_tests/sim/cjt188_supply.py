"""What CJ/T 188 meters show of the bench's loads.

Owns the step from a load to water, gas and heat: volumes and heat follow the energy that the load
has taken, so they are exact and the same after a restart. It must not read a clock and knows no
frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from hil_tests.sim.bcd import local_time, utc_ms
from hil_tests.sim.cjt188 import HeatReadings, VolumeReadings
from hil_tests.sim.electrical import Supply
from hil_tests.sim.patterns import Pattern, show_digits

_WATER_KWH_PER_M3_K = Fraction(1163, 1000)  # 4.187 kJ/(kg K) and 1000 kg/m3
_KILO = 1000
_HOUR_MS = 3_600_000


def volume_of(
    supply: Supply, *, m3_per_kwh: Fraction, patterns: Sequence[Pattern] = ()
) -> Callable[[int], VolumeReadings]:
    """Make readings of a water or gas meter; the settlement day is the first of the month."""

    def volume_m3(t_ms: int) -> Fraction:
        return show_digits(patterns, lambda at_ms: _taken_kwh(supply, at_ms) * m3_per_kwh, t_ms)

    def at(now_ms: int) -> VolumeReadings:
        return VolumeReadings(
            volume_m3=volume_m3(now_ms),
            settled_m3=volume_m3(_month_start_ms(now_ms)),
            clock=local_time(now_ms),
        )

    return at


def heat_of(
    supply: Supply, *, supply_c: int, return_c: int, patterns: Sequence[Pattern] = ()
) -> Callable[[int], HeatReadings]:
    """Make readings of a heat meter between two constant temperatures; its load is the power."""
    m3_per_kwh = 1 / (_WATER_KWH_PER_M3_K * (supply_c - return_c))

    def counted(per_kwh: Fraction, t_ms: int) -> Fraction:
        return show_digits(patterns, lambda at_ms: _taken_kwh(supply, at_ms) * per_kwh, t_ms)

    def at(now_ms: int) -> HeatReadings:
        power_kw = Fraction(max(supply.node.active.power_mw(now_ms), 0), _KILO * _KILO)
        return HeatReadings(
            heat_kwh=counted(Fraction(1), now_ms),
            settled_kwh=counted(Fraction(1), _month_start_ms(now_ms)),
            power_kw=power_kw,
            flow_m3h=power_kw * m3_per_kwh,
            volume_m3=counted(m3_per_kwh, now_ms),
            supply_c=Fraction(supply_c),
            return_c=Fraction(return_c),
            hours=max(now_ms - supply.start_ms, 0) // _HOUR_MS,
            clock=local_time(now_ms),
        )

    return at


def _taken_kwh(supply: Supply, t_ms: int) -> Fraction:
    return supply.at(t_ms).value("active_energy_import")


def _month_start_ms(now_ms: int) -> int:
    return utc_ms(local_time(now_ms).replace(day=1, hour=0, minute=0, second=0, microsecond=0))
