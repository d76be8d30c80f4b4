"""CJ/T 188 meters for water, gas and heat: a request's bytes in, a reply's bytes out.

Owns the frames (start, type, address, control code, length, identifier, SER, sum, end), the layouts
of identifier 901F and the field deviations that real meters show. Facts: CJ/T 188-2004 and -2018;
data carries no +33H. It is the bench's own side of the protocol, never the agent's codec. It must
not read a clock and knows no line; nothing can be written.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from hil_tests.sim.bcd import checksum, counter, digits, gauge, packed

START, END, WAKE = 0x68, 0x16, 0xFE
_ANY_TYPE = 0xAA
_ANY_ADDRESS = bytes([_ANY_TYPE] * 7)
_REPLY, _ABNORMAL = 0x80, 0xC0
_READ, _READ_ADDRESS = 0x01, 0x03
_READ_KEY_VERSION = 0x09
_METERED, _ADDRESS = 0x901F, 0x810A  # identifiers

_KILO = 1000
_GIGAJOULE = Fraction(1, 3600) * _KILO * _KILO  # in kWh
# Unit codes as multiples of kWh, kW, m3 and m3/h; the two codes behind each are x10 and x100.
UNIT_CODES: Mapping[int, Fraction] = {
    code + power: size * 10**power
    for code, size in (
        (0x02, Fraction(1, _KILO)),  # Wh
        (0x05, Fraction(1)),  # kWh
        (0x08, Fraction(_KILO)),  # MWh
        (0x0B, _GIGAJOULE / _KILO**2),  # kJ
        (0x0E, _GIGAJOULE / _KILO),  # MJ
        (0x11, _GIGAJOULE),  # GJ
        (0x14, Fraction(1, _KILO)),  # W
        (0x17, Fraction(1)),  # kW
        (0x1A, Fraction(_KILO)),  # MW
        (0x29, Fraction(1, _KILO)),  # L
        (0x2C, Fraction(1)),  # m3
        (0x32, Fraction(1, _KILO)),  # L/h
        (0x35, Fraction(1)),  # m3/h
    )
    for power in range(3)
}


class Edition(enum.Enum):
    """The edition of the standard: it decides in which order an identifier's bytes travel."""

    OF_2004 = "big"  # 90 1F
    OF_2018 = "little"  # 1F 90


class HeatLayout(enum.Enum):
    """The two layouts of a heat meter's 901F: widths in bytes; the length tells them apart."""

    OF_46_BYTES = "46"  # power and flow 4, temperatures 3, hours 3: as two field meters send it
    OF_43_BYTES = "43"  # power and flow 3, temperatures 2, hours 4


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeReadings:
    """What a water or gas meter knows at one instant."""

    volume_m3: Fraction
    settled_m3: Fraction = Fraction(0)
    clock: datetime | None = None  # None: never set, sent as zeros
    status: bytes = b"\0\0"  # two bytes as they travel


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatReadings:
    """What a heat or cooling meter knows at one instant."""

    heat_kwh: Fraction
    settled_kwh: Fraction = Fraction(0)
    power_kw: Fraction = Fraction(0)
    flow_m3h: Fraction = Fraction(0)
    volume_m3: Fraction = Fraction(0)
    supply_c: Fraction = Fraction(0)
    return_c: Fraction = Fraction(0)
    hours: int = 0
    clock: datetime | None = None  # None: never set, sent as zeros
    status: bytes = b"\0\0"  # two bytes as they travel


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """In what meters differ."""

    preamble: int = 4  # FE bytes before a reply, 0 to 4
    editions: tuple[Edition, ...] = (Edition.OF_2004, Edition.OF_2018)  # orders it understands
    heat_layout: HeatLayout = HeatLayout.OF_46_BYTES
    unit_first: bool = False  # unit code before the digits, as the JY heat meter sends it
    century_first: bool = False  # clock as CC..ss instead of ss..CC
    volume_unit: int = 0x2C
    heat_unit: int = 0x05
    power_unit: int = 0x17
    flow_unit: int = 0x35


class Cjt188Meter:
    """One meter; `answer` is a pure function of the request and the instant."""

    def __init__(
        self,
        *,
        meter_type: int,
        address: str,
        readings: Callable[[int], VolumeReadings | HeatReadings],
        habits: Habits | None = None,
    ) -> None:
        """Make a meter of type T (10H cold water .. 30H gas) with an address of 14 digits."""
        self.meter_type = meter_type
        self.habits = habits if habits is not None else Habits()
        self.writes_seen: list[bytes] = []  # requests that would have changed the meter
        if not 0 <= self.habits.preamble <= 4:
            raise ValueError(f"preamble {self.habits.preamble}: 0 to 4 bytes expected")
        self._address = digits(address, length=7)
        self._readings = readings

    def answer(self, request: bytes, now_ms: int) -> bytes:
        """Return the reply at a UTC instant; empty if this meter would stay silent."""
        message = parse(request)
        if message is None or not self._is_called(message) or message.control & _REPLY:
            return b""
        if changes_meters(message):
            self.writes_seen.append(request)
            return self._refuse(message, now_ms)
        asked = message.data[:2]
        if len(message.data) != 3:
            return self._refuse(message, now_ms)
        if message.control == _READ_ADDRESS and asked in self._spellings(_ADDRESS):
            return self._reply(message.control | _REPLY, message.data)
        if message.control == _READ and asked in self._spellings(_METERED):
            content = self._content(self._readings(now_ms))
            return self._reply(message.control | _REPLY, message.data + content)
        return self._refuse(message, now_ms)

    def _is_called(self, message: Message) -> bool:
        return message.meter_type in (self.meter_type, _ANY_TYPE) and message.address in (
            self._address,
            _ANY_ADDRESS,
        )

    def _spellings(self, di: int) -> list[bytes]:
        """Return an identifier in the byte orders that this meter understands."""
        orders = {Edition.OF_2004: di.to_bytes(2, "big"), Edition.OF_2018: di.to_bytes(2, "little")}
        return [orders[edition] for edition in self.habits.editions]

    def _content(self, readings: VolumeReadings | HeatReadings) -> bytes:
        body = (
            self._volumes(readings)
            if isinstance(readings, VolumeReadings)
            else self._heat(readings)
        )
        return body + self._clock(readings.clock) + readings.status

    def _volumes(self, readings: VolumeReadings) -> bytes:
        """Lay out 901F of water and gas: present and settled volume."""
        unit = self.habits.volume_unit
        return self._counted(readings.volume_m3, unit) + self._counted(readings.settled_m3, unit)

    def _heat(self, readings: HeatReadings) -> bytes:
        """Lay out 901F of heat: settled and present heat, power, flow, volume, temperatures."""
        habits = self.habits
        wide = habits.heat_layout is HeatLayout.OF_46_BYTES
        size, places = (4, 4) if wide else (3, 3)
        return b"".join(
            (
                self._counted(readings.settled_kwh, habits.heat_unit),
                self._counted(readings.heat_kwh, habits.heat_unit),
                self._measured(readings.power_kw, habits.power_unit, size, 2),
                self._measured(readings.flow_m3h, habits.flow_unit, size, places),
                self._counted(readings.volume_m3, habits.volume_unit),
                gauge(readings.supply_c, length=size - 1, decimals=2),
                gauge(readings.return_c, length=size - 1, decimals=2),
                packed(readings.hours, length=3 if wide else 4),
            )
        )

    def _counted(self, value: Fraction, unit: int) -> bytes:
        return self._with_unit(counter(value / UNIT_CODES[unit], length=4, decimals=2), unit)

    def _measured(self, value: Fraction, unit: int, length: int, decimals: int) -> bytes:
        number = gauge(value / UNIT_CODES[unit], length=length, decimals=decimals)
        return self._with_unit(number, unit)

    def _with_unit(self, number: bytes, unit: int) -> bytes:
        code = bytes((unit,))
        return code + number if self.habits.unit_first else number + code

    def _clock(self, clock: datetime | None) -> bytes:
        if clock is None:
            return bytes(7)
        low_first = digits(f"{clock:%Y%m%d%H%M%S}", length=7)
        return low_first[::-1] if self.habits.century_first else low_first

    def _refuse(self, message: Message, now_ms: int) -> bytes:
        """Reply abnormally: SER and the two bytes of status."""
        data = message.data[2:3].ljust(1, b"\0") + self._readings(now_ms).status
        return self._reply(message.control | _ABNORMAL, data)

    def _reply(self, control: int, data: bytes) -> bytes:
        wake = bytes((WAKE,)) * self.habits.preamble
        return wake + frame(Message(self.meter_type, self._address, control, data))


@dataclass(frozen=True, slots=True)
class Message:
    """A frame without its wrapping; the address as it travels."""

    meter_type: int
    address: bytes
    control: int
    data: bytes


def frame(message: Message) -> bytes:
    """Wrap a message: 68, type, address, control code, length, data, sum, 16."""
    head = bytes((START, message.meter_type, *message.address, message.control))
    body = head + bytes((len(message.data),)) + message.data
    return body + checksum(body) + bytes((END,))


def parse(data: bytes) -> Message | None:
    """Unwrap a frame behind any number of FE bytes; None unless every byte of it is right."""
    body = data.lstrip(bytes((WAKE,)))
    if len(body) < 13 or body[0] != START or len(body) != 13 + body[10]:
        return None
    if body[-1] != END or checksum(body[:-2]) != body[-2:-1]:
        return None
    return Message(body[1], body[2:9], body[9], body[11:-2])


def changes_meters(message: Message) -> bool:
    """Tell whether a request is anything but a read."""
    return message.control not in (_READ, _READ_ADDRESS, _READ_KEY_VERSION)
