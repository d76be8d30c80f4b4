"""DL/T 645 meters of both generations: a request's bytes in, a reply's bytes out.

Owns the frames (start, address, control code, length, +33H, sum, end) and which request a meter
answers. What stands behind an identifier is in `dlt645_items`. It is the bench's own side of the
protocol, written from the standard's frame rules, never the agent's codec. It must not read a
clock and knows no line; nothing can be written.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from hil_tests.sim.bcd import checksum, digits
from hil_tests.sim.dlt645_items import Identity, Readings, content_1997, content_2007

START, END, WAKE = 0x68, 0x16, 0xFE
DATA_BYTES_MAX = 200  # of a read, with identifier and sequence number
_OFFSET = 0x33
_ANY = 0xAA  # in the high bytes of an address: whatever stands there
_BROADCAST = bytes([0x99] * 6)
_REPLY, _ABNORMAL, _MORE = 0x80, 0xC0, 0xA0  # D7; with D6: refused; with D5: more frames follow
_READ_ADDRESS = 0x13
_SET_CLOCK = 0x08  # obeyed by all and answered by none


class Generation(enum.Enum):
    """The standard a meter speaks."""

    OF_1997 = 1997
    OF_2007 = 2007


class Fault(enum.IntFlag):
    """The error byte of an abnormal reply: a bit field, +33H on the wire."""

    OTHER = 0x01
    NO_DATA = 0x02
    NOT_AUTHORISED = 0x04


# Control codes of reads and of what changes a meter; all others are unknown to it.
_READS = {Generation.OF_1997: (0x01, 0x02), Generation.OF_2007: (0x11, 0x12)}
_WRITES = {
    Generation.OF_1997: (0x04, 0x08, 0x0A, 0x0C, 0x0F, 0x10),
    Generation.OF_2007: (0x03, 0x08, *range(0x14, 0x1E)),
}
_READ_ONLY = (0x01, 0x02, 0x11, 0x12, _READ_ADDRESS)
_DI_BYTES = {Generation.OF_1997: 2, Generation.OF_2007: 4}


@dataclass(frozen=True, slots=True)
class Message:
    """A frame without its wrapping: address as it travels, control code, data without +33H."""

    address: bytes
    control: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """In what meters differ."""

    generation: Generation = Generation.OF_2007
    preamble: int = 4  # FE bytes before a reply, 0 to 4
    data_bytes_max: int = DATA_BYTES_MAX  # smaller: blocks come in several frames
    hears_broadcast_reads: bool = False  # answers reads at 99..99, as meters of 1997 do
    no_data: int = Fault.NO_DATA  # error byte for an unknown identifier
    refusal: int = Fault.NOT_AUTHORISED  # error byte for everything that would change the meter


class Dlt645Meter:
    """One meter. `answer` depends on the request, the instant and the block under way alone."""

    def __init__(
        self,
        identity: Identity,
        *,
        readings: Callable[[int], Readings],
        habits: Habits | None = None,
    ) -> None:
        self.identity = identity
        self.habits = habits if habits is not None else Habits()
        self.writes_seen: list[bytes] = []  # requests that would have changed the meter
        if not 0 <= self.habits.preamble <= 4:
            raise ValueError(f"preamble {self.habits.preamble}: 0 to 4 bytes expected")
        self._address = digits(identity.address, length=6)
        self._readings = readings
        # A block is frozen while it is read frame by frame, so its parts fit together.
        self._block_di = b""
        self._block: list[bytes] = []
        self._block_at = 0

    def answer(self, request: bytes, now_ms: int) -> bytes:
        """Return the reply at a UTC instant; empty if this meter would stay silent."""
        message = parse(request)
        if message is None or not self._is_called(message.address):
            return b""
        control = message.control
        if control in _WRITES[self.habits.generation]:
            self.writes_seen.append(request)
            silent = message.address == _BROADCAST or control == _SET_CLOCK
            return b"" if silent else self._refuse(control, self.habits.refusal)
        return b"" if self._is_deaf_to(message) else self._answer_read(message, now_ms)

    def _answer_read(self, message: Message, now_ms: int) -> bytes:
        first, following = _READS[self.habits.generation]
        if message.control == first:
            return self._read(message.data, now_ms)
        if message.control == following:
            return self._read_on(message.data)
        if message.control == _READ_ADDRESS and not message.data:
            return self._reply(message.control | _REPLY, self._address)
        return b""

    def _is_called(self, address: bytes) -> bool:
        """Compare addresses: AA in the high bytes stands for any digits, all 99 for everybody."""
        wanted = address.rstrip(bytes((_ANY,)))
        return address == _BROADCAST or self._address.startswith(wanted)

    def _is_deaf_to(self, message: Message) -> bool:
        """Tell whether a read called this meter in a way that it does not hear."""
        if message.control == _READ_ADDRESS:
            return self.habits.generation is Generation.OF_1997 or message.address == _BROADCAST
        return message.address == _BROADCAST and not self.habits.hears_broadcast_reads

    def _read(self, data: bytes, now_ms: int) -> bytes:
        generation = self.habits.generation
        if len(data) != _DI_BYTES[generation]:
            return self._refuse(_READS[generation][0], Fault.OTHER)
        content_of = content_2007 if generation is Generation.OF_2007 else content_1997
        content = content_of(
            int.from_bytes(data, "little"),
            identity=self.identity,
            readings=self._readings(now_ms),
        )
        if content is None:
            return self._refuse(_READS[generation][0], self.habits.no_data)
        self._block_di, self._block, self._block_at = data, self._split(content), 0
        return self._part(_READS[generation][0], sequence=b"")

    def _read_on(self, data: bytes) -> bytes:
        """Answer "read the following data": 2007 numbers the frames from 1, 1997 counts itself.

        The 2007 master may ask for a number again; the 1997 form has no number to ask for.
        """
        generation = self.habits.generation
        size, following = _DI_BYTES[generation], _READS[generation][1]
        di, sequence = data[:size], data[size:]
        numbered = generation is Generation.OF_2007
        if len(data) != size + numbered:
            return self._refuse(following, Fault.OTHER)
        at = sequence[0] if numbered else self._block_at + 1
        if di != self._block_di or not 1 <= at < len(self._block):
            return self._refuse(following, self.habits.no_data)
        self._block_at = at
        return self._part(following, sequence=sequence)

    def _part(self, control: int, *, sequence: bytes) -> bytes:
        more = self._block_at + 1 < len(self._block)
        data = self._block_di + self._block[self._block_at] + sequence
        return self._reply(control | (_MORE if more else _REPLY), data)

    def _split(self, content: bytes) -> list[bytes]:
        """Cut a block into frames; all leave room for the sequence number."""
        room = self.habits.data_bytes_max - _DI_BYTES[self.habits.generation] - 1
        return [content[at : at + room] for at in range(0, len(content), room)]

    def _refuse(self, control: int, error: int) -> bytes:
        return self._reply(control | _ABNORMAL, bytes((error,)))

    def _reply(self, control: int, data: bytes) -> bytes:
        wake = bytes((WAKE,)) * self.habits.preamble
        return wake + frame(Message(self._address, control, data))


def frame(message: Message) -> bytes:
    """Wrap a message: 68, address, 68, control code, length, data + 33H, sum, 16."""
    body = bytes((START, *message.address, START, message.control, len(message.data)))
    body += bytes((byte + _OFFSET) % 256 for byte in message.data)
    return body + checksum(body) + bytes((END,))


def parse(data: bytes) -> Message | None:
    """Unwrap a frame behind any number of FE bytes; None unless every byte of it is right.

    The end is where the length says: the sum and the data may be 16H too.
    """
    body = data.lstrip(bytes((WAKE,)))
    if len(body) < 12 or body[0] != START or body[7] != START or len(body) != 12 + body[9]:
        return None
    if body[-1] != END or checksum(body[:-2]) != body[-2:-1]:
        return None
    return Message(body[1:7], body[8], bytes((byte - _OFFSET) % 256 for byte in body[10:-2]))


def changes_meters(message: Message) -> bool:
    """Tell whether a request is anything but a read of either generation."""
    return message.control not in _READ_ONLY
