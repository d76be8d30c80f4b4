"""SunSpec devices: the model list behind the marker at register 40000.

Owns the layout of the models that the simulator plays. Integer models carry their scale factors in
registers, as the SunSpec information models demand; a device may have several models in a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hil_tests.sim.errors import SimError
from hil_tests.sim.profile import Point, Profile, Register
from hil_tests.sim.registers import REGISTER_COUNTS

MARKER = 40000
SERIAL = MARKER + 2 + 50  # in the common model
SERIAL_COUNT = 16
_FIRST_MODEL = MARKER + 2 + 68
_PREFIX = "sunspec:"
_END_MODEL = 0xFFFF

# Scale factors (powers of ten) of this bench, so that 16 bits hold up to 327 kW and 3.2 kA.
_AMPS, _VOLTS, _HERTZ, _WATTS, _PERCENT, _ENERGY = -1, -1, -2, 1, -1, 0


@dataclass(frozen=True, slots=True)
class _Row:
    """Quantities that stand one behind the other from an offset in the model block."""

    offset: int
    kind: str
    unit: str
    power: int
    names: tuple[str, ...]
    sign: int = 1


@dataclass(frozen=True, slots=True)
class _Model:
    registers: int  # with the two of the header
    rows: tuple[_Row, ...]
    fixed: Mapping[int, tuple[int, ...]]  # scale factors, states, "not implemented"


def _phases(stem: str) -> tuple[str, ...]:
    return tuple(f"{stem}_{phase}" for phase in ("l1", "l2", "l3"))


def _total(stem: str) -> tuple[str, ...]:
    return (f"{stem}_total", *_phases(stem))


_BETWEEN = ("voltage_l12", "voltage_l23", "voltage_l31")

# sunspec/models 103: three-phase inverter. What it generates is positive there, negative here.
_INVERTER = _Model(
    52,
    (
        _Row(2, "u16", "A", _AMPS, ("current_sum", *_phases("current"))),
        _Row(7, "u16", "V", _VOLTS, (*_BETWEEN, *_phases("voltage"))),
        _Row(14, "i16", "W", _WATTS, ("active_power_total",), -1),
        _Row(16, "u16", "Hz", _HERTZ, ("frequency",)),
        _Row(18, "i16", "VA", _WATTS, ("apparent_power_total",)),
        _Row(20, "i16", "var", _WATTS, ("reactive_power_total",), -1),
        _Row(22, "i16", "%", _PERCENT, ("power_factor_total",), -1),
        _Row(24, "u32", "Wh", _ENERGY, ("active_energy_export",)),
    ),
    {
        6: (_AMPS,),
        13: (_VOLTS,),
        15: (_WATTS,),
        17: (_HERTZ,),
        19: (_WATTS,),
        21: (_WATTS,),
        23: (_PERCENT,),
        26: (_ENERGY,),
        27: (0xFFFF, 0, 0xFFFF, 0, 0x8000, 0),  # DC side: not implemented
        33: (0x8000, 0x8000, 0x8000, 0x8000, 0),  # temperatures: not implemented
        38: (4, 0xFFFF),  # state: maximum power point tracking
    },
)

# sunspec/models 203: three-phase wye meter with integers.
_METER = _Model(
    107,
    (
        _Row(2, "i16", "A", _AMPS, ("current_sum", *_phases("current"))),
        _Row(7, "i16", "V", _VOLTS, ("voltage_ln_avg", *_phases("voltage"))),
        _Row(11, "i16", "V", _VOLTS, ("voltage_ll_avg", *_BETWEEN)),
        _Row(16, "i16", "Hz", _HERTZ, ("frequency",)),
        _Row(18, "i16", "W", _WATTS, _total("active_power")),
        _Row(23, "i16", "VA", _WATTS, _total("apparent_power")),
        _Row(28, "i16", "var", _WATTS, _total("reactive_power")),
        _Row(33, "i16", "%", _PERCENT, _total("power_factor")),
        _Row(38, "u32", "Wh", _ENERGY, ("active_energy_export", *_phases("active_energy_export"))),
        _Row(46, "u32", "Wh", _ENERGY, ("active_energy_import", *_phases("active_energy_import"))),
    ),
    {
        6: (_AMPS,),
        15: (_VOLTS,),
        17: (_HERTZ,),
        22: (_WATTS,),
        27: (_WATTS,),
        32: (_WATTS,),
        37: (_PERCENT,),
        54: (_ENERGY,),
        71: (_ENERGY,),
        104: (_ENERGY,),
    },
)

_MODELS = {103: _INVERTER, 203: _METER}
_FLOAT_METER_REGISTERS = 126
# Of models that profile files have and no table here, by tens: 101-103, 111-113, 802 and so on.
_LENGTHS = {100: 52, 110: 62, 200: 107, 210: _FLOAT_METER_REGISTERS, 800: 64}


def sunspec_name(models: Sequence[object], where: str) -> str:
    """Return the profile name of a device with these models behind the common one."""
    for model in models:
        if model not in _MODELS:
            allowed = ", ".join(map(str, _MODELS))
            raise SimError(f'{where}: "sunspec": model {model} is none of {allowed}')
    if not models or len(set(models)) < len(models):
        raise SimError(f'{where}: "sunspec": each model once, at least one, expected')
    return _PREFIX + "+".join(map(str, models))


def is_sunspec(name: str) -> bool:
    """Tell whether a profile is made here and not read from a file."""
    return name.startswith(_PREFIX)


def make_profile(name: str) -> Profile:
    """Make the profile of a device."""
    return Profile(
        name=name,
        registers_max=125,
        holes_readable=True,
        points=tuple(
            point for address, model in _chain(name) for point in _points(address, _MODELS[model])
        ),
        ratios={},
        identities=(),
    )


def has_models(profile: Profile) -> bool:
    """Tell whether a profile is one of a SunSpec device."""
    return bool(_blocks(profile))


def fixed_words(profile: Profile) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield (address, registers) of all that is no measurement, but for the serial number."""
    blocks = _blocks(profile)
    if not blocks:
        return
    yield MARKER, (0x5375, 0x6E53)  # "SunS"
    yield MARKER + 2, (1, 66)  # common model and its length
    for offset, text, size in ((2, "edgeagg", 16), (18, "bench meter", 16), (42, "1", 8)):
        yield MARKER + 2 + offset, text_words(text, size)
    yield SERIAL + SERIAL_COUNT, (1, 0x8000)  # unit id 1, then the pad register
    end = _FIRST_MODEL
    for address, model in blocks:
        size = _registers(model)
        end = address + size
        yield address, (model, size - 2)
        # Those of a profile file have scale factors of their own: its ratios.
        fixed = _MODELS[model].fixed if is_sunspec(profile.name) else {}
        for offset, words in fixed.items():
            yield address + offset, tuple(word & 0xFFFF for word in words)
    yield end, (_END_MODEL, 0)


def text_words(text: str, count: int) -> tuple[int, ...]:
    """Lay out a text in `count` registers, filled up with NUL."""
    data = text.encode().ljust(2 * count, b"\0")
    return tuple(int.from_bytes(data[at : at + 2], "big") for at in range(0, 2 * count, 2))


def _blocks(profile: Profile) -> list[tuple[int, int]]:
    """Return (address, model id), none for a device that is no SunSpec one."""
    if profile.sunspec is not None:
        models, start = profile.sunspec
        # Of the variants of a model the last is a delta one, which shows no phase voltages.
        return [(start, max(model for model in models if model % 10 < 4))]
    if match := re.fullmatch(r"sunspec-meter-(\d+)", profile.name):
        return [(_FIRST_MODEL, int(match[1]))]
    return list(_chain(profile.name)) if is_sunspec(profile.name) else []


def _chain(name: str) -> Iterator[tuple[int, int]]:
    address = _FIRST_MODEL
    for model in map(int, name.removeprefix(_PREFIX).split("+")):
        yield address, model
        address += _registers(model)


def _registers(model: int) -> int:
    """Return the length of a model with the two registers of its header."""
    known = _MODELS.get(model)
    return known.registers if known else _LENGTHS.get(model // 10 * 10, _FLOAT_METER_REGISTERS)


def _points(address: int, model: _Model) -> Iterator[Point]:
    for row in model.rows:
        scale = row.sign * Fraction(10) ** row.power
        for number, name in enumerate(row.names):
            place = address + row.offset + number * REGISTER_COUNTS[row.kind]
            yield Point(
                name=name,
                register=Register(3, place, row.kind, "ABCD"),
                scale=scale,
                ratios=(),
                unit=row.unit,
                resolution=abs(scale),
                is_totaliser="energy" in name,
            )
