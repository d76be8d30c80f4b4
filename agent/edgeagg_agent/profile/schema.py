"""What a profile is: the points of one meter model, where they stand and how they are coded.

Owns the words of the profile files and the values that come of them. It reads no file, decodes no
register and knows no meter's address.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from fractions import Fraction

from edgeagg.model import Kind
from edgeagg_agent.bus import REGISTERS_MAX
from edgeagg_agent.profile.registers import REGISTER_COUNTS

PROTOCOLS = ("modbus", "dlt645-2007", "dlt645-1997", "cjt188")
KINDS = (
    "electricity",
    "dc-electricity",
    "water",
    "heat",
    "flow",
    "gas",
    "pv-inverter",
    "storage",
    "ev-charger",
    "environment",
    "gateway",
)
HOLES = ("readable", "illegal", "unknown")
STATUS = ("verified", "draft")
RATIO_OPS = ("multiply", "pow10")
ITEM_TYPES = ("bcd", "bcd-signed", "bin")
TEXT_TYPES = ("str", "digits")
# other units are taken as they are; these are checked for their spelling
UNITS = (
    *("V", "A", "W", "var", "VA", "Hz", "kWh", "kvarh", "kVAh", "1", "deg", "%", "degC"),
    *("m3", "m3/h", "m/s", "GJ", "GJ/h", "Ah"),
)
SUNSPEC_BASE = 40000  # the register of the "SunS" marker that the shipped profiles assume
_ZERO = Fraction(0)

Span = tuple[int, int, int]
"""Function, first register, number of registers."""


class Poll(enum.StrEnum):
    """How often a point is worth a read: the classes that a site gives its periods to."""

    INSTANT = "instant"
    ENERGY = "energy"
    DEMAND = "demand"
    QUALITY = "quality"
    STATUS = "status"


@dataclass(frozen=True, slots=True)
class Part:
    """The second part of a value, added to the first: raw x scale, in the point's unit.

    Some meters keep whole kilowatt-hours in one register and the rest in the next.
    """

    register: int
    type: str
    order: str
    scale: Fraction


@dataclass(frozen=True, slots=True)
class Point:
    """One quantity in registers: value = ((raw + offset) x scale + plus) x ratios, in `unit`.

    Kept as mantissa x 10**exponent. `invalid` holds contents of the register, as unsigned numbers,
    that mean "not available"; `min`, `max` and `wraps` (where a totaliser begins anew, when that is
    not its register's width; without ratios) are in `unit`. `status` tells whether two independent
    sources agree on this very point.
    """

    name: str
    unit: str
    exponent: int
    kind: Kind
    function: int
    register: int
    type: str
    order: str
    scale: Fraction
    ratios: tuple[str, ...]
    invalid: frozenset[int]
    min: Fraction | None
    max: Fraction | None
    offset: Fraction = _ZERO
    plus: Part | None = None
    poll: Poll = Poll.INSTANT
    wraps: Fraction | None = None
    status: str = "verified"

    @property
    def count(self) -> int:
        """Registers from the first to the last of the value, its second part included.

        They are read in one request: two reads could see the carry between the parts.
        """
        if self.plus is None:
            return REGISTER_COUNTS[self.type]
        return self.plus.register + REGISTER_COUNTS[self.plus.type] - self.register


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a value stands in a reply's data: `length` bytes from `offset_bytes`.

    `unit_byte` is the place of the unit code of CJ/T 188. A layout with `reply_bytes` is meant for
    replies of that length alone.
    """

    offset_bytes: int
    length: int
    scale: Fraction
    unit_byte: int | None = None
    reply_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ItemPoint:
    """One quantity of DL/T 645 or CJ/T 188: raw x scale, in `unit`, mantissa x 10**exponent.

    `item` is the identifier as the standard prints it. Some meters give several items in one frame:
    there the value stands in item `block`, from `block_offset_bytes`.
    """

    name: str
    unit: str
    exponent: int
    kind: Kind
    item: str
    type: str
    layouts: tuple[Layout, ...]
    min: Fraction | None = None
    max: Fraction | None = None
    poll: Poll = Poll.INSTANT
    block: str | None = None
    block_offset_bytes: int = 0
    wraps: Fraction | None = None
    status: str = "verified"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A factor that the meter of `profile` holds, such as that of its transformers.

    `op` says how: "multiply" is raw x scale, "pow10" is 10**raw x scale. Meters change a power of
    ten with the load, so such a ratio is only good for the values read together with it.
    """

    name: str
    profile: str
    function: int
    register: int
    type: str
    order: str
    scale: Fraction
    invalid: frozenset[int]
    op: str = "multiply"

    @property
    def count(self) -> int:
        """Registers the ratio takes."""
        return REGISTER_COUNTS[self.type]

    @property
    def is_live(self) -> bool:
        """Tell whether it must be read in every scan, with its points."""
        return self.op == "pow10"


@dataclass(frozen=True, slots=True)
class Check:
    """A register that tells the model: its raw value lies in [min, max] or is one of `equals`."""

    function: int
    register: int
    type: str
    order: str
    min: Fraction
    max: Fraction
    equals: frozenset[Fraction] = frozenset()

    @property
    def count(self) -> int:
        """Registers the value takes."""
        return REGISTER_COUNTS[self.type]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a meter tells of itself in registers: "str" of `count` registers, or a whole number."""

    name: str
    function: int
    register: int
    type: str
    order: str
    count: int


@dataclass(frozen=True, slots=True)
class ItemIdentity:
    """What a meter tells of itself in an item: "str", or the "digits" of a BCD number."""

    name: str
    item: str
    type: str
    offset_bytes: int
    length: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What one read may ask of the meter.

    `request_gap_ms` is the silence it needs before a request when that is more than T3.5; `holes`
    says whether a read may cross registers that no point uses: readable, illegal or unknown. No
    read may touch a span in `illegal`; those in `proven` were seen to be read in one request.
    """

    registers_max: int = REGISTERS_MAX
    request_gap_ms: int = 0
    holes: str = "unknown"
    illegal: tuple[Span, ...] = ()
    proven: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class Serial:
    """The factory setting of the meter's port, for messages only; "" or None: not known."""

    baud: int
    format: str
    unit: int | None = None


@dataclass(frozen=True, slots=True)
class SunSpec:
    """The SunSpec models that have these registers, and the register of the model id.

    `start` is where the model stands directly behind the common model. Discovery finds where it is
    in a meter; `Profile.moved` takes the profile there.
    """

    models: tuple[int, ...]
    start: int


@dataclass(frozen=True, slots=True)
class Sum:
    """A totaliser that is the sum of others, by the names of the points: the rates of a tariff."""

    total: str
    parts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """One meter model, or several with the same registers.

    `points` and `identity` are those of Modbus, `items` and `item_identity` those of the other
    protocols; `every_point` is whichever there is.
    """

    name: str
    vendor: str
    models: tuple[str, ...]
    status: str
    sources: tuple[str, ...]
    serial: Serial | None
    limits: Limits
    identify: tuple[Check, ...]
    ratios: tuple[Ratio, ...]
    points: tuple[Point, ...]
    kind: str = "electricity"
    protocol: str = "modbus"
    notes: tuple[str, ...] = ()
    identity: tuple[Identity, ...] = ()
    items: tuple[ItemPoint, ...] = ()
    item_identity: tuple[ItemIdentity, ...] = ()
    sunspec: SunSpec | None = None
    sums: tuple[Sum, ...] = ()

    @property
    def every_point(self) -> tuple[Point | ItemPoint, ...]:
        """The points of any protocol."""
        return self.points + self.items

    def moved(self, *, base: int, start: int) -> Profile:
        """Return the profile for a meter with its marker at `base` and its model at `start`.

        The model was found by discovery, so nothing is left to identify. Raises ValueError for a
        profile that is not of SunSpec.
        """
        if self.sunspec is None:
            raise ValueError(f"profile {self.name} has no SunSpec model")
        by = start - self.sunspec.start
        return replace(
            self,
            identify=(),
            ratios=tuple(replace(r, register=r.register + by) for r in self.ratios),
            points=tuple(_moved(point, by) for point in self.points),
            identity=tuple(
                replace(i, register=i.register + base - SUNSPEC_BASE) for i in self.identity
            ),
            sunspec=replace(self.sunspec, start=start),
        )


def _moved(point: Point, by: int) -> Point:
    plus = point.plus
    return replace(
        point,
        register=point.register + by,
        plus=None if plus is None else replace(plus, register=plus.register + by),
    )
