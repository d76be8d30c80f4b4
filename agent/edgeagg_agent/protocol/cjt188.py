"""CJ/T 188-2004 and -2018: questions to water, heat and gas meters, and their answers.

Owns the control codes, the identifier in both byte orders, the serial number SER that every answer
repeats, and the unit codes. Sans-IO. Where those stand in item 901F is in `cjt188_units`.
Nothing here can build a write: `Read` holds every control code there is; a write may close a valve.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from edgeagg.errors import RefusedError
from edgeagg_agent.protocol import Found, telegram
from edgeagg_agent.protocol.bcd import decode_digits
from edgeagg_agent.protocol.telegram import ABNORMAL, FROM_METER, Shape, Telegram

SHAPE = Shape(address_bytes=8, has_second_start=False, data_bytes_max=0x64)  # type and address
ANY_TYPE = 0xAA
ANY = "AA" * 7  # whoever is there answers: for a line with one meter
_ADDRESS = "810A"
_DIGITS = 14
_HEAD_BYTES = 3  # identifier and SER
_STATUS_BYTES = 2
_METERED_BYTES = 19  # of a water or gas meter, behind SER; heat meters send more
# bits of the two status bytes, from bit 0; CJ/T 188-2004: the rest is the maker's
STATUS = ("valve closed", "valve faulty", "battery low")


class Edition(enum.StrEnum):
    """The edition decides the order in which a question's identifier travels; answers have both."""

    OF_2004 = "cjt188-2004"  # 90 1F
    OF_2018 = "cjt188-2018"  # 1F 90


class Read(enum.IntEnum):
    """The control codes that can be sent. Both leave the meter as it is."""

    DATA = 0x01
    ADDRESS = 0x03


_HOUR_S = 3600
# quantity, and size in J, W, m3 or m3/h
UNITS = {
    "J": ("energy", Fraction(1)),
    "kJ": ("energy", Fraction(1_000)),
    "MJ": ("energy", Fraction(1_000_000)),
    "GJ": ("energy", Fraction(1_000_000_000)),
    "Wh": ("energy", Fraction(_HOUR_S)),
    "kWh": ("energy", Fraction(1_000 * _HOUR_S)),
    "MWh": ("energy", Fraction(1_000_000 * _HOUR_S)),
    "W": ("power", Fraction(1)),
    "kW": ("power", Fraction(1_000)),
    "MW": ("power", Fraction(1_000_000)),
    "J/h": ("power", Fraction(1, _HOUR_S)),
    "kJ/h": ("power", Fraction(1_000, _HOUR_S)),
    "MJ/h": ("power", Fraction(1_000_000, _HOUR_S)),
    "GJ/h": ("power", Fraction(1_000_000_000, _HOUR_S)),
    "L": ("volume", Fraction(1, 1_000)),
    "m3": ("volume", Fraction(1)),
    "L/h": ("flow", Fraction(1, 1_000)),
    "m3/h": ("flow", Fraction(1)),
}
# CJ/T 188-2004 table 13, -2018 table 20: a unit's code, then those of ten and a hundred times it
_CODES = {
    0x02: "Wh",
    0x05: "kWh",
    0x08: "MWh",
    0x0B: "kJ",
    0x0E: "MJ",
    0x11: "GJ",
    0x14: "W",
    0x17: "kW",
    0x1A: "MW",
    0x29: "L",
    0x2C: "m3",
    0x32: "L/h",
    0x35: "m3/h",
    0x43: "kJ/h",
    0x46: "MJ/h",
    0x49: "GJ/h",
}
UNIT_CODES: Mapping[int, tuple[str, int]] = {
    0x01: ("J", 1),
    0x40: ("J/h", 1),
    **{code + power: (unit, 10**power) for code, unit in _CODES.items() for power in range(3)},
}


def quantity(code: int) -> str | None:
    """Return what a unit code measures, "energy", "power", "volume" or "flow"; None if unknown."""
    return UNITS[UNIT_CODES[code][0]][0] if code in UNIT_CODES else None


def unit_factor(code: int, unit: str) -> Fraction | None:
    """Return what a number with unit code `code` is multiplied by to be in `unit`, exactly.

    None when the code is unknown or measures something else; ValueError for a unit that no code
    can be turned into.
    """
    if unit not in UNITS:
        raise ValueError(f"unit {unit!r}: allowed are {', '.join(UNITS)}")
    if code not in UNIT_CODES:
        return None
    name, multiple = UNIT_CODES[code]
    (measured, size), (wanted, size_wanted) = UNITS[name], UNITS[unit]
    return multiple * size / size_wanted if measured == wanted else None


def status_text(status: bytes) -> str:
    """Name the bits of the two status bytes in words, with the bytes as they travel."""
    bits = int.from_bytes(status, "little")
    words = [name for bit, name in enumerate(STATUS) if bits >> bit & 1]
    if bits >> len(STATUS):
        words.append("bits of the maker's")
    return f"{', '.join(words) or 'nothing to report'} (status {status.hex(' ').upper()})"


def request_frame(meter_type: int, address: str, control: int, data: bytes) -> bytes:
    """Return the frame for a read; raise ValueError for any other control code or address."""
    if not 0 <= meter_type <= 0xFF:
        raise ValueError(f"meter type {meter_type}: one byte expected")
    if address != ANY and re.fullmatch(rf"[0-9]{{{_DIGITS}}}", address) is None:
        raise ValueError(f"address {address!r}: {_DIGITS} digits or {ANY} expected")
    wire = bytes((meter_type,)) + bytes.fromhex(address)[::-1]
    return telegram.wrap(SHAPE, wire, Read(control), data)


def decode_address(payload: bytes) -> tuple[int, str] | None:
    """Return meter type and 14 digits that `address_question` was answered with, None if not."""
    digits = decode_digits(payload[1:])
    return (payload[0], digits) if digits is not None and len(digits) == _DIGITS else None


@dataclass(frozen=True, slots=True)
class ReadQuestion:
    """Ask a meter for one item.

    `meter_type` is the standard's T: 10H cold water to 30H gas; AAH for any. `address` has 14
    digits, or is `ANY`. `item` is written high byte first: "901F". `ser` goes up by one with every
    question to a meter, mod 256, so that a late answer is known by it. `lengths` are the bytes an
    answer may carry behind SER when the profile knows them; any other length is no answer then.

    Raises ValueError for an address, an item or a number that cannot be.
    """

    meter_type: int
    address: str
    item: str
    ser: int
    edition: Edition = Edition.OF_2004
    lengths: tuple[int, ...] = field(default=(), kw_only=True)
    control: Read = field(default=Read.DATA, kw_only=True)

    def __post_init__(self) -> None:
        """Check what a frame is made of."""
        if re.fullmatch(r"[0-9A-F]{4}", self.item) is None:
            raise ValueError(f"item {self.item!r}: 4 digits 0 to F expected")
        if not 0 <= self.ser <= 0xFF:
            raise ValueError(f"ser {self.ser}: allowed are 0 to 255")
        request_frame(self.meter_type, self.address, self.control, b"")

    def __str__(self) -> str:
        """Name the question the way messages do."""
        return f"{self.meter}, item {self.item}"

    @property
    def meter(self) -> str:
        """Who is asked."""
        return f"meter {self.address} of type {self.meter_type:02X}H"

    @property
    def request(self) -> bytes:
        """The frame to send, four FE bytes in front."""
        high_first = bytes.fromhex(self.item)
        item = high_first if self.edition is Edition.OF_2004 else high_first[::-1]
        data = item + bytes((self.ser,))
        return request_frame(self.meter_type, self.address, self.control, data)

    @property
    def reply_bytes(self) -> int:
        """The shortest good answer: some meters send no FE bytes in front."""
        content = min(self.lengths, default=_METERED_BYTES)
        is_address = self.control is Read.ADDRESS
        return SHAPE.frame_bytes + _HEAD_BYTES + (0 if is_address else content)

    def find(self, buffer: bytes | bytearray) -> Found | None:
        """Find the first answer; our own echo, other meters, items and serial numbers are none."""
        return telegram.find(buffer, SHAPE, self._is_answer)

    def payload(self, frame: bytes) -> bytes:
        """Return the bytes behind SER; of `address_question` type and address as they travel.

        Raises RefusedError, with the meter's status in words, for an abnormal answer and
        FrameError for a frame that `find` did not give.
        """
        found = telegram.answer(frame, SHAPE, self._is_answer)
        if found.control & ABNORMAL:
            status = found.data[1:]
            code = int.from_bytes(status, "little")
            raise RefusedError(f"{self}: refused: {status_text(status)}", code)
        return found.address if self.control is Read.ADDRESS else found.data[_HEAD_BYTES:]

    def more(self, frame: bytes) -> None:
        """Return None: an answer is always one frame."""
        del frame

    def describe_junk(self, buffer: bytes | bytearray) -> str:
        """Say what came instead of an answer."""
        return telegram.describe_junk(buffer, SHAPE, self._mismatch)

    def _is_answer(self, found: Telegram) -> bool:
        return not self._mismatch(found)

    def _mismatch(self, found: Telegram) -> str:
        """Say what keeps a whole frame from being the answer; empty if nothing does."""
        if not self._fits(found.address):
            address = found.address[:0:-1].hex()
            return f"meter {address} of type {found.address[0]:02X}H answered instead"
        expected, data = self.control | FROM_METER, found.data
        if found.control == expected | ABNORMAL:
            if len(data) != 1 + _STATUS_BYTES:
                return "a refusal without the meter's status"
            return self._mismatch_of_ser(data[0])
        if found.control != expected:
            return f"control code {found.control:02X}H came instead of {expected:02X}H"
        item = bytes.fromhex(self.item)
        if len(data) < _HEAD_BYTES or data[:2] not in {item, item[::-1]}:
            return f"item {data[:2].hex().upper()} came instead of {self.item}"
        return self._mismatch_of_ser(data[2]) or self._mismatch_of_size(len(data) - _HEAD_BYTES)

    def _mismatch_of_ser(self, ser: int) -> str:
        return "" if ser == self.ser else f"an answer with SER {ser} came instead of {self.ser}"

    def _mismatch_of_size(self, size: int) -> str:
        if self.control is Read.ADDRESS:
            return "" if size == 0 else f"{size} bytes came behind SER, none were expected"
        if size == 0:
            return "an answer without data"
        if self.lengths and size not in self.lengths:
            allowed = " or ".join(map(str, self.lengths))
            return f"{size} bytes came behind SER, {allowed} were asked for"
        return ""

    def _fits(self, sender: bytes) -> bool:
        """Compare the sender with the meter asked; it must tell digits where any was asked."""
        told = decode_address(sender)
        if told is None or self.meter_type not in {ANY_TYPE, told[0]} or told[0] == ANY_TYPE:
            return False
        return self.address in {ANY, told[1]}


def address_question(ser: int, edition: Edition = Edition.OF_2004) -> ReadQuestion:
    """Return the question for type and address of the only meter of a line."""
    return ReadQuestion(ANY_TYPE, ANY, _ADDRESS, ser, edition, control=Read.ADDRESS)
