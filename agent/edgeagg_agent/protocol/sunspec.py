"""SunSpec discovery: which information models a Modbus device has, and at which registers.

Owns the marker, the list of models behind it and the lengths of the models we have profiles for.
Sans-IO: `discover` says what to read and is told what came. Scale factors are ordinary registers
and a profile's business. Sources: SunSpec information models, models 1 to 802.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from dataclasses import dataclass

from edgeagg.errors import ProtocolError

MARKERS = (40000, 0, 50000)  # where "SunS" may stand, the usual place first
MODELS_MAX = 64  # more are a device that counts in a circle
REGISTERS_MAX = 125
_SUNS = b"SunS"
_HEAD = 2  # registers: id, length
_END = 0xFFFF
_REGISTERS_END = 0x10000
# name and least length behind the header; a pad may follow, and model 1 ends in one that may lack
KNOWN = {
    1: ("common", 65),
    101: ("single-phase inverter", 50),
    102: ("split-phase inverter", 50),
    103: ("three-phase inverter", 50),
    111: ("single-phase inverter, float", 60),
    112: ("split-phase inverter, float", 60),
    113: ("three-phase inverter, float", 60),
    201: ("single-phase meter", 105),
    202: ("split-phase meter", 105),
    203: ("three-phase wye meter", 105),
    204: ("three-phase delta meter", 105),
    211: ("single-phase meter, float", 124),
    212: ("split-phase meter, float", 124),
    213: ("three-phase wye meter, float", 124),
    214: ("three-phase delta meter, float", 124),
    802: ("battery", 62),
}


@dataclass(frozen=True, slots=True)
class Block:
    """Registers to read in one request."""

    function: int
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class Model:
    """A model whose id stands at register `start`; `length` registers follow its header."""

    id: int
    start: int
    length: int

    @property
    def name(self) -> str | None:
        """What the model is, None for one that we have no profile for."""
        return KNOWN[self.id][0] if self.id in KNOWN else None

    @property
    def end(self) -> int:
        """The register behind the model."""
        return self.start + _HEAD + self.length

    def blocks(self, registers_max: int = REGISTERS_MAX, function: int = 3) -> list[Block]:
        """Return the reads for all its registers: one with the header where that fits.

        A longer model is read from its first value on in even numbers of registers, so that no
        32-bit value of a float model (211: 2 + 124 registers) is torn between two reads.
        """
        if registers_max < 2:
            raise ValueError(f"{registers_max} registers: at least 2 expected")
        if self.end - self.start <= registers_max:
            return [Block(function, self.start, self.end - self.start)]
        step = registers_max - registers_max % 2
        starts = range(self.start + _HEAD, self.end, step)
        return [Block(function, start, min(step, self.end - start)) for start in starts]


def discover(function: int = 3) -> Generator[Block, bytes | None, tuple[Model, ...]]:
    """Yield what to read, take the bytes that came or None for a refusal, return the models.

    Raises ProtocolError when there is no marker, and for a list that leaves the registers, does not
    end, or gives a model less than its values take. A refusal behind the first model ends the list:
    some devices have nothing where its end should stand.
    """
    for marker in MARKERS:
        # the first header comes with the marker: every list begins with model 1
        answer = yield from _read(Block(function, marker, 2 + _HEAD))
        if answer is not None and answer.startswith(_SUNS):
            return (yield from _walk(function, marker + 2, answer[len(_SUNS) :]))
    raise ProtocolError(f"no SunSpec marker at register {', '.join(map(str, MARKERS))}")


def _walk(
    function: int, start: int, header: bytes | None
) -> Generator[Block, bytes | None, tuple[Model, ...]]:
    models: list[Model] = []
    while header is not None:
        number, length = struct.unpack(">HH", header)
        if number == _END:
            break
        model = Model(number, start, length)
        _check(model)
        if len(models) == MODELS_MAX:
            raise ProtocolError(f"more than {MODELS_MAX} SunSpec models")
        models.append(model)
        start = model.end
        header = yield from _read(Block(function, start, _HEAD))
    return tuple(models)


def _check(model: Model) -> None:
    what = f"SunSpec model {model.id} at register {model.start}"
    if model.id == 0:
        raise ProtocolError(f"{what}: there is no such model")
    if model.end + _HEAD > _REGISTERS_END:
        raise ProtocolError(f"{what}: {model.length} registers leave no room for the list's end")
    if model.id in KNOWN and model.length < KNOWN[model.id][1]:
        least = KNOWN[model.id][1]
        raise ProtocolError(f"{what}: {model.length} registers long, its values take {least}")


def _read(block: Block) -> Generator[Block, bytes | None, bytes | None]:
    answer = yield block
    if answer is not None and len(answer) != 2 * block.count:
        raise ValueError(f"{len(answer)} bytes for {block.count} registers")
    return answer
