"""DL/T 645-1997 and -2007: questions to electricity meters and how their answers are recognised.

Owns the control codes, identifiers, sequence numbers, the +33H on every data byte and the error
byte. Sans-IO. It must not know what stands behind an identifier: profiles do. Nothing here can
build a write: `Read` holds every control code there is.

An answer names its meter and repeats its identifier, so a late one to another item cannot pass.
What cannot be told apart is a late answer to the same item, and in the 1997 edition the parts of a
long one, which have no numbers there: after a part that failed the item is asked from its start.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from dataclasses import dataclass

from edgeagg.errors import FrameError, RefusedError
from edgeagg_agent.protocol import Found, telegram
from edgeagg_agent.protocol.bcd import decode_digits
from edgeagg_agent.protocol.telegram import ABNORMAL, FROM_METER, MORE, Shape, Telegram

SHAPE = Shape(address_bytes=6, has_second_start=True, data_bytes_max=200)
ANY = "AA" * 6  # whoever is there answers: for a line with one meter
ALL = "99" * 6  # the broadcast, which 1997 meters answer as if they were called
PARTS_MAX = 16  # of one item: 3 KB, more than any register holds
# bits of the error byte, from bit 0; DL/T 645-2007 7.4, the 1997 edition uses the first three alike
ERRORS = (
    "other error",
    "no such data",
    "password wrong or not authorised",
    "baud rate cannot be changed",
    "too many year zones",
    "too many day periods",
    "too many rates",
    "reserved bit 7",
)
_OFFSET = 0x33
_ADDRESS_BYTES = 6
_PROBED_1997 = "9010"  # import energy
_ITEM_TYPICAL_BYTES = 4


class Generation(enum.StrEnum):
    """The edition a meter speaks, as profiles name it."""

    OF_1997 = "dlt645-1997"
    OF_2007 = "dlt645-2007"


class Read(enum.IntEnum):
    """The control codes that can be sent. All of them leave the meter as it is."""

    DATA_1997 = 0x01
    MORE_1997 = 0x02
    DATA_2007 = 0x11
    MORE_2007 = 0x12
    ADDRESS = 0x13


_FIRST = {Generation.OF_1997: Read.DATA_1997, Generation.OF_2007: Read.DATA_2007}
_FOLLOWING = {Generation.OF_1997: Read.MORE_1997, Generation.OF_2007: Read.MORE_2007}
_ITEM_DIGITS = {Generation.OF_1997: 4, Generation.OF_2007: 8}


def request_frame(address: str, control: int, data: bytes) -> bytes:
    """Return the frame for a read; raise ValueError for any other control code or address."""
    if re.fullmatch(r"(AA)*([0-9][0-9])*", address) is None or len(address) != 2 * _ADDRESS_BYTES:
        raise ValueError(f"address {address!r}: 12 digits expected, AA for high ones left open")
    wire = bytes.fromhex(address)[::-1]
    return telegram.wrap(SHAPE, wire, Read(control), bytes((x + _OFFSET) & 0xFF for x in data))


def error_text(code: int) -> str:
    """Name the bits of an error byte, 33H removed, in words, with the byte."""
    words = [name for bit, name in enumerate(ERRORS) if code >> bit & 1]
    return f"{', '.join(words) or 'no reason given'} ({code:02X}H)"


def decode_address(payload: bytes) -> str | None:
    """Return the 12 digits an `AddressQuestion` was answered with, None if they are none."""
    return decode_digits(payload) if len(payload) == _ADDRESS_BYTES else None


@dataclass(frozen=True, slots=True)
class ReadQuestion:
    """Ask a meter for one item: a register or a block of them.

    `address` has 12 digits; high ones may be left open with AA each, then any meter that fits is
    believed. `item` is written as the standard prints it: "02010100", or "B611" in the 1997
    edition. `lengths` are the bytes an answer may carry behind the identifier when the profile
    knows them; any other length is no answer then. `part` numbers the frames of a long answer.

    Raises ValueError for an address or an item that cannot be.
    """

    address: str
    item: str
    generation: Generation = Generation.OF_2007
    lengths: tuple[int, ...] = dataclasses.field(default=(), kw_only=True)
    part: int = dataclasses.field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        """Check what a frame is made of."""
        digits = _ITEM_DIGITS[self.generation]
        if re.fullmatch(rf"[0-9A-F]{{{digits}}}", self.item) is None:
            raise ValueError(f"item {self.item!r}: {digits} digits 0 to F expected")
        if not 0 <= self.part < PARTS_MAX:
            raise ValueError(f"part {self.part}: allowed are 0 to {PARTS_MAX - 1}")
        if self.address == ALL and self.generation is Generation.OF_2007:
            raise ValueError(f"address {ALL}: nobody answers the broadcast")
        request_frame(self.address, self._control, b"")

    def __str__(self) -> str:
        """Name the question the way messages do."""
        part = f", part {self.part}" if self.part else ""
        return f"{self.meter}, item {self.item}{part}"

    @property
    def meter(self) -> str:
        """Who is asked."""
        return f"meter {self.address}"

    @property
    def request(self) -> bytes:
        """The frame to send, four FE bytes in front."""
        return request_frame(self.address, self._control, self._identifier + self._number)

    @property
    def reply_bytes(self) -> int:
        """The shortest good answer: some meters send no FE bytes in front."""
        content = min(self.lengths, default=_ITEM_TYPICAL_BYTES)
        return SHAPE.frame_bytes + len(self._identifier) + content + len(self._number)

    def find(self, buffer: bytes | bytearray) -> Found | None:
        """Find the first answer; our own echo, other meters and other items are none."""
        return telegram.find(buffer, SHAPE, self._is_answer)

    def payload(self, frame: bytes) -> bytes:
        """Return the bytes behind the identifier, 33H removed.

        Raises RefusedError, with the error byte in words, for an abnormal answer and FrameError
        for a frame that `find` did not give.
        """
        found = telegram.answer(frame, SHAPE, self._is_answer)
        if found.control & ABNORMAL:
            code = _plain(found.data)[0]
            raise RefusedError(f"{self}: refused: {error_text(code)}", code)
        return self._content(_plain(found.data))

    def more(self, frame: bytes) -> ReadQuestion | None:
        """Return the question for the next part when the meter says that one follows.

        Raises FrameError when there is no end to them.
        """
        found = telegram.answer(frame, SHAPE, self._is_answer)
        if not found.control & MORE:
            return None
        if self.part + 1 == PARTS_MAX:
            raise FrameError(f"{self}: more than {PARTS_MAX} parts", frame)
        return dataclasses.replace(self, part=self.part + 1)

    def describe_junk(self, buffer: bytes | bytearray) -> str:
        """Say what came instead of an answer."""
        return telegram.describe_junk(buffer, SHAPE, self._mismatch)

    @property
    def _control(self) -> Read:
        return (_FOLLOWING if self.part else _FIRST)[self.generation]

    @property
    def _identifier(self) -> bytes:
        return bytes.fromhex(self.item)[::-1]

    @property
    def _number(self) -> bytes:
        """What stands behind the data of a following part; the 1997 edition has nothing there."""
        is_numbered = self.part > 0 and self.generation is Generation.OF_2007
        return bytes((self.part,)) if is_numbered else b""

    def _content(self, data: bytes) -> bytes:
        return data[len(self._identifier) : len(data) - len(self._number)]

    def _is_answer(self, found: Telegram) -> bool:
        return not self._mismatch(found)

    def _mismatch(self, found: Telegram) -> str:
        """Say what keeps a whole frame from being the answer; empty if nothing does."""
        if not _fits(self.address, found.address):
            return f"meter {found.address[::-1].hex()} answered instead"
        if found.control == self._control | FROM_METER | ABNORMAL:
            return "" if len(found.data) == 1 else "a refusal without its error byte"
        if found.control & ~MORE != self._control | FROM_METER:
            expected = self._control | FROM_METER
            return f"control code {found.control:02X}H came instead of {expected:02X}H"
        return self._mismatch_of_data(_plain(found.data), is_last=not found.control & MORE)

    def _mismatch_of_data(self, data: bytes, *, is_last: bool) -> str:
        identifier, number = self._identifier, self._number
        if data[: len(identifier)] != identifier:
            came = data[: len(identifier)][::-1].hex().upper()
            return f"item {came} came instead of {self.item}"
        if len(data) <= len(identifier) + len(number):
            return "an answer without data"
        if not data.endswith(number):
            return f"part {data[-1]} came instead of part {self.part}"
        size = len(self._content(data))
        is_whole = is_last and self.part == 0  # how a meter cuts a long answer is its choice
        if self.lengths and is_whole and size not in self.lengths:
            allowed = " or ".join(map(str, self.lengths))
            return f"{size} bytes came behind the identifier, {allowed} were asked for"
        return ""


@dataclass(frozen=True, slots=True)
class AddressQuestion:
    """Ask the only meter of a line for its address; see `address_question`.

    2007 meters have a control code for this. 1997 meters do not: they are asked for a register, and
    any answer, a refusal too, tells the address in its head.
    """

    address: str
    generation: Generation

    def __post_init__(self) -> None:
        """Check the address."""
        if self.address not in {ANY, ALL}:
            raise ValueError(f"address {self.address!r}: {ANY} or {ALL} expected")
        if self.address == ALL and self.generation is Generation.OF_2007:
            raise ValueError(f"address {ALL}: nobody answers the broadcast")

    def __str__(self) -> str:
        """Name the question the way messages do."""
        return f"{self.meter}, its address"

    @property
    def meter(self) -> str:
        """Who is asked."""
        return f"meter {self.address}"

    @property
    def request(self) -> bytes:
        """The frame to send, four FE bytes in front."""
        return request_frame(self.address, self._control, self._asked)

    @property
    def reply_bytes(self) -> int:
        """The shortest answer that tells the address: of a 1997 meter a refusal."""
        is_2007 = self.generation is Generation.OF_2007
        return SHAPE.frame_bytes + (_ADDRESS_BYTES if is_2007 else 1)

    def find(self, buffer: bytes | bytearray) -> Found | None:
        """Find the first answer that tells an address of digits."""
        return telegram.find(buffer, SHAPE, self._is_answer)

    def payload(self, frame: bytes) -> bytes:
        """Return the address as it travels, for `decode_address`."""
        return self._told(telegram.answer(frame, SHAPE, self._is_answer))

    def more(self, frame: bytes) -> None:
        """Return None: the address is told by the first frame."""
        del frame

    def describe_junk(self, buffer: bytes | bytearray) -> str:
        """Say what came instead of an answer."""
        return telegram.describe_junk(buffer, SHAPE, self._mismatch)

    @property
    def _control(self) -> Read:
        return Read.ADDRESS if self.generation is Generation.OF_2007 else Read.DATA_1997

    @property
    def _asked(self) -> bytes:
        is_1997 = self.generation is Generation.OF_1997
        return bytes.fromhex(_PROBED_1997)[::-1] if is_1997 else b""

    def _told(self, found: Telegram) -> bytes:
        is_data = found.control == Read.ADDRESS | FROM_METER
        return _plain(found.data) if is_data else found.address

    def _is_answer(self, found: Telegram) -> bool:
        return not self._mismatch(found)

    def _mismatch(self, found: Telegram) -> str:
        expected = self._control | FROM_METER
        is_refusal = found.control == expected | ABNORMAL and len(found.data) == 1
        is_normal = found.control & ~MORE == expected and _plain(found.data).startswith(self._asked)
        if not is_refusal and not is_normal:
            return f"control code {found.control:02X}H came instead of {expected:02X}H"
        told = self._told(found)
        if decode_address(told) is None or told == bytes.fromhex(ALL):
            return f"{told[::-1].hex()} came, which is not an address of digits"
        if found.address not in {told, bytes.fromhex(self.address)}:
            return f"meter {found.address[::-1].hex()} tells the address {told[::-1].hex()}"
        return ""


def address_question(generation: Generation, *, broadcast: bool = False) -> AddressQuestion:
    """Return the question for the address of the only meter of a line.

    The order to try, by what meters were seen to answer: 2007; 1997; 1997 with `broadcast`.
    """
    return AddressQuestion(ALL if broadcast else ANY, generation)


def _plain(data: bytes) -> bytes:
    return bytes((byte - _OFFSET) & 0xFF for byte in data)


def _fits(pattern: str, sender: bytes) -> bool:
    """Compare the sender with the address asked; it must be digits where that was left open."""
    digits = decode_digits(sender)
    if digits is None or digits == ALL:
        return False
    return pattern == ALL or digits.endswith(pattern.lstrip("A"))
