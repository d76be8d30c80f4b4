"""Meters that a site file names by address: DL/T 645 for electricity, CJ/T 188 for the rest.

Owns what becomes of a meter's table: its encoder, its readings from the load, whether it is there.
It must not read a clock, and it knows no line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from hil_tests.sim import cjt188, dlt645
from hil_tests.sim.cjt188_supply import heat_of, volume_of
from hil_tests.sim.dlt645_items import Identity
from hil_tests.sim.dlt645_supply import SupplyReadings
from hil_tests.sim.electrical import Supply
from hil_tests.sim.errors import SimError
from hil_tests.sim.framing import CJT188, DLT645_1997, DLT645_2007, Addressed
from hil_tests.sim.mixed import Meter
from hil_tests.sim.patterns import Pattern

# Digits of an address, and how the bytes around it are laid out, by protocol.
ADDRESS_DIGITS: Mapping[str, int] = {"dlt645-2007": 12, "dlt645-1997": 12, "cjt188": 14}
_FRAMINGS = {"dlt645-2007": DLT645_2007, "dlt645-1997": DLT645_1997, "cjt188": CJT188}
# Type T of a CJ/T 188 meter by what flows through it.
MEDIA: Mapping[str, int] = {
    "water": 0x10,
    "hot-water": 0x11,
    "drinking-water": 0x12,
    "recycled-water": 0x13,
    "heat": 0x20,
    "cooling": 0x21,
    "gas": 0x30,
}
_M3_PER_KWH = Fraction(1, 50)
_TEMPERATURES_C = {"heat": (60, 40), "cooling": (12, 7)}  # of the warmer and the colder pipe
_Shown = Callable[[str, int], Fraction]
_VOLUME: Mapping[str, Callable[[cjt188.VolumeReadings], Fraction]] = {
    "volume_total": lambda known: known.volume_m3,
    "volume_settlement": lambda known: known.settled_m3,
    "status_word_1": lambda _: Fraction(0),
}
_HEAT: Mapping[str, Callable[[cjt188.HeatReadings], Fraction]] = {
    "heat_energy_total": lambda known: known.heat_kwh,
    "heat_energy_settlement": lambda known: known.settled_kwh,
    "heat_power": lambda known: known.power_kw * 1000,
    "flow_rate": lambda known: known.flow_m3h,
    "volume_total": lambda known: known.volume_m3,
    "supply_temperature": lambda known: known.supply_c,
    "return_temperature": lambda known: known.return_c,
    "operating_hours": lambda known: Fraction(known.hours),
    "status_word_1": lambda _: Fraction(0),
}
_NUMBERS = ("000000000001", "000000000002")  # of a meter, and of the one it is replaced by


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameplate:
    """What a [[line.meter]] says beyond its load."""

    protocol: str
    address: str
    medium: str = "water"  # CJ/T 188 only
    preamble: int = 4  # FE bytes before a reply
    heat_bytes: int = 46  # layout of a heat meter's reply


def checked_address(where: str, protocol: str, address: str) -> str:
    """Return an address; SimError unless it has the digits of its protocol."""
    digits = ADDRESS_DIGITS[protocol]
    if len(address) != digits or not (address.isascii() and address.isdigit()):
        raise SimError(f'{where}: "address" = "{address}", {digits} digits expected')
    return address


class AddressedMeter:
    """One meter: bytes in, bytes out, as it hangs on its load."""

    def __init__(
        self,
        plate: Nameplate,
        *,
        name: str,
        supply: Supply,
        dead: bool = False,
        patterns: Sequence[Pattern] = (),
    ) -> None:
        self.name = name
        self.plate = plate
        self.supply = supply
        self.dead = dead
        self.patterns = tuple(patterns)
        self._meter, self._replacement = _meters(plate, supply, self.patterns)
        self._shown = _shown(plate, supply, self.patterns)
        self._counted = _shown(plate, supply, ())

    @property
    def framing(self) -> Addressed:
        """How its frames are built; for faults."""
        return replace(_FRAMINGS[self.plate.protocol], preamble=self.plate.preamble)

    def answer(self, request: bytes, now_ms: int) -> bytes:
        """Return the reply at a UTC instant; empty if this meter would stay silent."""
        if self.dead or any(pattern.silent(now_ms) for pattern in self.patterns):
            return b""
        replaced = any(pattern.replaced(now_ms) for pattern in self.patterns)
        return (self._replacement if replaced else self._meter).answer(request, now_ms)

    def shown(self, name: str, t_ms: int) -> Fraction:
        """Return what the meter has of a quantity, before the digits of its replies.

        Names and units are those of the profiles, with W for power; KeyError if it has none such.
        """
        return self._shown(name, t_ms)

    def counted(self, name: str, t_ms: int) -> Fraction:
        """Return what a quantity would be if the meter did nothing wrong."""
        return self._counted(name, t_ms)

    def warm_up(self) -> None:
        """Compute what takes long before the line's clock runs: a read must not wait for it."""
        self.supply.node.reactive.power_mw(0)


def _meters(plate: Nameplate, supply: Supply, patterns: Sequence[Pattern]) -> tuple[Meter, Meter]:
    """Make the meter and the one that may take its place, with the same address."""
    if plate.protocol == "cjt188":
        meter = _cjt188(plate, supply, patterns)
        return meter, meter  # it shows no number of its own
    old, new = (_dlt645(plate, number, supply, patterns) for number in _NUMBERS)
    return old, new


def _dlt645(
    plate: Nameplate, number: str, supply: Supply, patterns: Sequence[Pattern]
) -> dlt645.Dlt645Meter:
    old = plate.protocol == "dlt645-1997"
    generation = dlt645.Generation.OF_1997 if old else dlt645.Generation.OF_2007
    return dlt645.Dlt645Meter(
        Identity(address=plate.address, number=number),
        readings=SupplyReadings(supply, patterns=patterns),
        habits=dlt645.Habits(
            generation=generation,
            preamble=plate.preamble,
            hears_broadcast_reads=old,
        ),
    )


def _shown(plate: Nameplate, supply: Supply, patterns: Sequence[Pattern]) -> _Shown:
    if plate.protocol != "cjt188":
        return SupplyReadings(supply, patterns=patterns).quantity
    if plate.medium in _TEMPERATURES_C:
        warm_c, cold_c = _TEMPERATURES_C[plate.medium]
        heat = heat_of(supply, supply_c=warm_c, return_c=cold_c, patterns=patterns)
        return lambda name, t_ms: _HEAT[name](heat(t_ms))
    volume = volume_of(supply, m3_per_kwh=_M3_PER_KWH, patterns=patterns)
    return lambda name, t_ms: _VOLUME[name](volume(t_ms))


def _cjt188(plate: Nameplate, supply: Supply, patterns: Sequence[Pattern]) -> cjt188.Cjt188Meter:
    habits = cjt188.Habits(
        preamble=plate.preamble, heat_layout=cjt188.HeatLayout(str(plate.heat_bytes))
    )
    kind, address = MEDIA[plate.medium], plate.address
    if plate.medium in _TEMPERATURES_C:
        warm_c, cold_c = _TEMPERATURES_C[plate.medium]
        heat = heat_of(supply, supply_c=warm_c, return_c=cold_c, patterns=patterns)
        return cjt188.Cjt188Meter(meter_type=kind, address=address, readings=heat, habits=habits)
    volume = volume_of(supply, m3_per_kwh=_M3_PER_KWH, patterns=patterns)
    return cjt188.Cjt188Meter(meter_type=kind, address=address, readings=volume, habits=habits)
