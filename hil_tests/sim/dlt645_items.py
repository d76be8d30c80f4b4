"""What stands behind each data identifier of a DL/T 645 meter.

Owns the tables of both generations and the layout of each item: digits, sign, blocks. Readings
come in as quantities with the names and units of the profiles (kWh, kvarh, kVAh, V, A, W, var, VA,
Hz, 1, deg, %). It knows no frames. Formats: DL/T 645-2007 annex A, DL/T 645-1997 annex A.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from hil_tests.sim.bcd import counter, digits, gauge, packed

Quantities = Mapping[str, Fraction]

_EVERY = 0xFF  # in place of a tariff, phase or settlement day: all of them, a data block
_EVERY_1997 = 0xF  # the same in the low half of a 1997 identifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """All that a meter knows at one instant.

    A counter of tariff n is named like its total with "_t<n>" behind it.
    """

    clock: datetime
    now: Quantities
    settled: tuple[Quantities, ...] = ()  # counters of past settlement days, the latest first
    frozen: tuple[Quantities, ...] = ()  # counters at past midnights, the latest first
    peaked: Mapping[str, datetime] = field(default_factory=dict)  # when a maximum demand arose


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a meter says about itself."""

    address: str  # 12 digits
    number: str = "000000000000"
    tariffs: int = 4
    blocks: bool = True  # False: every request for a block is refused, as some meters do
    pulses_per_kwh: int = 1600
    demand_period_min: int = 15
    demand_slip_min: int = 15
    model: str = "edgeagg"
    asset: str = ""
    status_words: tuple[int, ...] = (0,) * 7


@dataclass(frozen=True, slots=True)
class _Picture:
    """The format of a number: "XX.XXXX" and its unit as a multiple of the quantity's own."""

    length: int
    decimals: int
    signed: bool = False
    per_unit: Fraction = Fraction(1)

    def gauge(self, value: Fraction) -> bytes:
        return gauge(
            value * self.per_unit, length=self.length, decimals=self.decimals, signed=self.signed
        )


_KILO = Fraction(1, 1000)
_VOLT, _VOLT_1997 = _Picture(2, 1), _Picture(2, 0)
_AMPERE, _AMPERE_1997 = _Picture(3, 3, signed=True), _Picture(2, 2)
_KW, _KW_1997 = _Picture(3, 4, signed=True, per_unit=_KILO), _Picture(3, 4, per_unit=_KILO)
_KW_DEMAND = _KW_1997
_KVAR_1997 = _Picture(2, 2, per_unit=_KILO)
_FACTOR, _FACTOR_1997 = _Picture(2, 3, signed=True), _Picture(2, 3)
_PERCENT = _Picture(2, 2)

_PHASES = ("l1", "l2", "l3")
_WITH_TOTAL = ("total", *_PHASES)
_BETWEEN = ("l12", "l23", "l31")

# DI2 of DI3 = 00: the counter, and whether it has a sign.
_COUNTERS_2007 = {
    0x00: ("active_energy_sum", True),
    0x01: ("active_energy_import", False),
    0x02: ("active_energy_export", False),
    0x03: ("reactive_energy_combined_1", True),
    0x04: ("reactive_energy_combined_2", True),
    0x05: ("reactive_energy_q1", False),
    0x06: ("reactive_energy_q2", False),
    0x07: ("reactive_energy_q3", False),
    0x08: ("reactive_energy_q4", False),
    0x09: ("apparent_energy_import", False),
    0x0A: ("apparent_energy_export", False),
    0x15: ("active_energy_import_l1", False),
    0x16: ("active_energy_export_l1", False),
    0x29: ("active_energy_import_l2", False),
    0x2A: ("active_energy_export_l2", False),
    0x3D: ("active_energy_import_l3", False),
    0x3E: ("active_energy_export_l3", False),
}
_DEMANDS_2007 = {
    0x01: "active_power_demand_import_max",
    0x02: "active_power_demand_export_max",
}
# DI2 and DI1 of DI3 = 05: what is frozen each midnight.
_FROZEN_2007 = {0x0601: "active_energy_import", 0x0602: "active_energy_export"}
# DI2 of DI3 = 02: the quantity, the number of its first part in DI1, its parts, the format.
_GAUGES_2007 = {
    0x01: ("voltage", 1, _PHASES, _VOLT),
    0x02: ("current", 1, _PHASES, _AMPERE),
    0x03: ("active_power", 0, _WITH_TOTAL, _KW),
    0x04: ("reactive_power", 0, _WITH_TOTAL, _KW),
    0x05: ("apparent_power", 0, _WITH_TOTAL, _KW),
    0x06: ("power_factor", 0, _WITH_TOTAL, _FACTOR),
    0x07: ("phase_angle", 1, _PHASES, _VOLT),
    0x08: ("thd_voltage", 1, _PHASES, _PERCENT),
    0x09: ("thd_current", 1, _PHASES, _PERCENT),
    0x0C: ("voltage", 1, _BETWEEN, _VOLT),
}
_SINGLE_2007 = {
    0x0280_0001: ("current_n", _Picture(3, 3)),
    0x0280_0002: ("frequency", _Picture(2, 2)),
    0x0280_0003: ("active_power_avg_1min", _KW_1997),
    0x0280_0004: ("active_power_demand", _KW_1997),
    0x0280_0005: ("reactive_power_demand", _KW_1997),
    0x0280_0006: ("apparent_power_demand", _KW_1997),
    0x0280_0007: ("temperature_internal", _VOLT),
    0x0280_0008: ("battery_voltage_clock", _PERCENT),
}
# DI1 and the high half of DI0: 1997 numbers the quadrants 1, 4, 2, 3.
_COUNTERS_1997 = {
    0x01: "active_energy_import",
    0x02: "active_energy_export",
    0x11: "reactive_energy_import",
    0x12: "reactive_energy_export",
    0x13: "reactive_energy_q1",
    0x14: "reactive_energy_q4",
    0x15: "reactive_energy_q2",
    0x16: "reactive_energy_q3",
}
# High half of DI0 of DI1 = B6, in the same order as for 2007.
_GAUGES_1997 = {
    0x1: ("voltage", 1, _PHASES, _VOLT_1997),
    0x2: ("current", 1, _PHASES, _AMPERE_1997),
    0x3: ("active_power", 0, _WITH_TOTAL, _KW_1997),
    0x4: ("reactive_power", 0, _WITH_TOTAL, _KVAR_1997),
    0x5: ("power_factor", 0, _WITH_TOTAL, _FACTOR_1997),
    0x6: ("apparent_power", 0, _WITH_TOTAL, _KW_1997),
    0x9: ("voltage", 1, _BETWEEN, _VOLT_1997),
}


def content_2007(di: int, *, identity: Identity, readings: Readings) -> bytes | None:
    """Return the data behind a 2007 identifier DI3..DI0, before +33H; None = there is none."""
    if _EVERY in (di >> 8 & 0xFF, di & 0xFF) and not identity.blocks:
        return None
    content_of = _CONTENTS_2007.get(di >> 24)
    return content_of(di, identity, readings) if content_of is not None else None


def _counters_2007(di: int, identity: Identity, readings: Readings) -> bytes | None:
    """Lay out energies: DI2 which, DI1 the tariff, DI0 the settlement day; FF = all of them."""
    name, signed = _COUNTERS_2007.get(di >> 16 & 0xFF, ("", False))
    names = _tariffs(name, di >> 8 & 0xFF, every=_EVERY, identity=identity)
    return _counters(_days(di & 0xFF, readings), names, signed=signed)


def _demands_2007(di: int, identity: Identity, readings: Readings) -> bytes | None:
    name = _DEMANDS_2007.get(di >> 16 & 0xFF, "")
    names = _tariffs(name, di >> 8 & 0xFF, every=_EVERY, identity=identity)
    return _demands(readings, names) if di & 0xFF == 0 else None


def _gauges_2007(di: int, _identity: Identity, readings: Readings) -> bytes | None:
    if di in _SINGLE_2007:
        name, picture = _SINGLE_2007[di]
        return _gauges(readings.now, [name], picture)
    kind, part = di >> 16 & 0xFF, di >> 8 & 0xFF
    if kind not in _GAUGES_2007 or di & 0xFF:
        return None
    name, first, places, picture = _GAUGES_2007[kind]
    return _gauges(readings.now, _parts(name, part, first, places, every=_EVERY), picture)


def _frozen_2007(di: int, identity: Identity, readings: Readings) -> bytes | None:
    """Lay out a block that was frozen at midnight: DI1 the counter, DI0 how many days ago."""
    day, name = di & 0xFF, _FROZEN_2007.get(di >> 8 & 0xFFFF)
    if name is None or day == 0:
        return None
    names = _tariffs(name, _EVERY, every=_EVERY, identity=identity)
    return _counters(readings.frozen[day - 1 : day], names, signed=False)


def _parameter_2007(di: int, identity: Identity, readings: Readings) -> bytes | None:
    words = [word.to_bytes(2, "little") for word in identity.status_words]
    parameters = {
        0x000101: _date(readings.clock),
        0x000102: _time(readings.clock),
        0x000103: packed(identity.demand_period_min, length=1),
        0x000104: packed(identity.demand_slip_min, length=1),
        0x000401: digits(identity.address, length=6),
        0x000402: digits(identity.number, length=6),
        0x000403: _text(identity.asset, length=32),
        0x000409: packed(identity.pulses_per_kwh, length=3),
        0x00040B: _text(identity.model, length=10),
        **{0x000501 + place: word for place, word in enumerate(words)},
        0x0005FF: b"".join(words),
    }
    return parameters.get(di & 0xFFFFFF)


_CONTENTS_2007 = {
    0x00: _counters_2007,
    0x01: _demands_2007,
    0x02: _gauges_2007,
    0x04: _parameter_2007,
    0x05: _frozen_2007,
}


def content_1997(di: int, *, identity: Identity, readings: Readings) -> bytes | None:
    """Return the data behind a 1997 identifier DI1 DI0, before +33H; None = there is none."""
    if di & 0xF == _EVERY_1997 and not identity.blocks:
        return None
    match di >> 8:
        case 0x90 | 0x91 | 0x92 | 0x94 | 0x95 | 0x98 | 0x99:
            return _counters_1997(di, identity, readings)
        case 0xB6:
            return _gauges_1997(di, readings)
        case 0xC0:
            return _parameters_1997(identity, readings.clock).get(di)
        case _:
            return None


def _counters_1997(di: int, identity: Identity, readings: Readings) -> bytes | None:
    """Lay out energies: 90 and 91 now, 94 last settlement, 98 the one before, 92 last midnight."""
    di1, kind, tariff = di >> 8, di >> 4 & 0xF, di & 0xF
    name = _COUNTERS_1997.get((di1 & 1) << 4 | kind, "")
    days = readings.frozen[:1] if di1 == 0x92 else _days(di1 >> 2 & 3, readings)
    names = _tariffs(name, tariff, every=_EVERY_1997, identity=identity)
    return _counters(days, names, signed=False)


def _gauges_1997(di: int, readings: Readings) -> bytes | None:
    kind, part = di >> 4 & 0xF, di & 0xF
    if kind not in _GAUGES_1997:
        return None
    name, first, places, picture = _GAUGES_1997[kind]
    return _gauges(readings.now, _parts(name, part, first, places, every=_EVERY_1997), picture)


def _parameters_1997(identity: Identity, clock: datetime) -> dict[int, bytes]:
    return {
        0xC010: _date(clock),
        0xC011: _time(clock),
        0xC030: packed(identity.pulses_per_kwh, length=3),
        0xC032: digits(identity.number, length=6),
    }


def _days(day: int, readings: Readings) -> tuple[Quantities, ...]:
    """Return the counters now (0), of the n-th settlement day before, or all of both (FF)."""
    known = (readings.now, *readings.settled)
    return known if day == _EVERY else known[day : day + 1]


def _tariffs(name: str, tariff: int, *, every: int, identity: Identity) -> list[str]:
    if tariff == every:
        return [name, *(f"{name}_t{number}" for number in range(1, identity.tariffs + 1))]
    return [name if tariff == 0 else f"{name}_t{tariff}"]


def _parts(name: str, part: int, first: int, parts: tuple[str, ...], *, every: int) -> list[str]:
    chosen = parts if part == every else parts[part - first : part - first + 1]
    return [f"{name}_{each}" for each in chosen]


def _counters(days: Iterable[Quantities], names: list[str], *, signed: bool) -> bytes | None:
    """Lay out XXXXXX.XX counters, day by day; in a block what is not there reads as 0."""
    known = [(day, name) for day in days for name in names]
    if not any(name in day for day, name in known):
        return None
    return b"".join(
        counter(day.get(name, Fraction(0)), length=4, decimals=2, signed=signed)
        for day, name in known
    )


def _gauges(now: Quantities, names: list[str], picture: _Picture) -> bytes | None:
    """Lay out gauges; in a block a missing phase reads as 0, as single-phase meters do."""
    if not any(name in now for name in names):
        return None
    return b"".join(picture.gauge(now.get(name, Fraction(0))) for name in names)


def _demands(readings: Readings, names: list[str]) -> bytes | None:
    """Lay out maximum demands: XX.XXXX kW, then YYMMDDhhmm of when it was, zeros if never."""
    if not any(name in readings.now for name in names):
        return None
    data = b""
    for name in names:
        data += _KW_DEMAND.gauge(readings.now.get(name, Fraction(0)))
        at = readings.peaked.get(name)
        data += digits(f"{at:%y%m%d%H%M}", length=5) if at is not None else bytes(5)
    return data


def _date(clock: datetime) -> bytes:
    """Lay out YYMMDDWW; Sunday is day 0 of the week."""
    return digits(f"{clock:%y%m%d}{clock.isoweekday() % 7:02d}", length=4)


def _time(clock: datetime) -> bytes:
    return digits(f"{clock:%H%M%S}", length=3)


def _text(text: str, *, length: int) -> bytes:
    """Lay out ASCII, low byte first like all data: the last character travels first."""
    return text.encode("ascii")[:length].ljust(length, b"\0")[::-1]
