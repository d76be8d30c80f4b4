"""What travels from the meter to the platform: points, groups, the catalogue that names them.

Pure values; no I/O, no clock.
"""

from __future__ import annotations

import enum
import hashlib
import unicodedata
from dataclasses import dataclass
from typing import Any

import msgpack

from edgeagg.errors import FormatError

_SPAN_MAX_MS = 2**32 - 1  # 49 days: what the core takes as a window length
_MANTISSA_MAX = 2**63 - 1
_TIME_MAX_MS = 2**53
_DAY_MS = 86_400_000


class Quality(enum.IntEnum):
    """Why a reading is good, or why it has no value. The numbers are part of the batch format."""

    GOOD = 0
    NO_REPLY = 1
    BAD_FRAME = 2
    REFUSED = 3
    IMPLAUSIBLE = 4
    CLOCK_UNTRUSTED = 5
    OVERRUN = 6  # the bus had no time for this slot before the next one fell due
    STOPPED = 7  # the agent was not running
    NOT_KEPT = 8  # the gateway's disk refused, and its memory was full


class Kind(enum.StrEnum):
    """How a point behaves in time."""

    GAUGE = "gauge"
    TOTALISER = "totaliser"


@dataclass(frozen=True, slots=True)
class Guard:
    """What a totaliser can do, in mantissas; what it does beyond that is audited.

    It starts again from 0 at `wraps_at` (None: never, or nobody knows), counts `rate_max_per_h` in
    an hour at most, and moves in steps of `resolution`.
    """

    wraps_at: int | None
    rate_max_per_h: int
    resolution: int


@dataclass(frozen=True, slots=True)
class Demand:
    """How a demand is taken: the mean over `period_ms`, moved on by `slip_ms`."""

    period_ms: int
    slip_ms: int


@dataclass(frozen=True, slots=True)
class PointInfo:
    """One quantity of one meter. value = mantissa x 10**exponent, in `unit`.

    `guard`, `statistics` and `demand` tell what the gateway makes of its readings besides windows.
    """

    name: str
    unit: str
    exponent: int
    kind: Kind
    guard: Guard | None = None
    statistics: bool = False
    demand: Demand | None = None

    @property
    def is_judged(self) -> bool:
        """Tell whether anything but windows is made of its readings."""
        return self.guard is not None or self.statistics or self.demand is not None


@dataclass(frozen=True, slots=True)
class PointSum:
    """A totaliser of a group that is the sum of others of it, by their numbers: its rates."""

    total: int
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The points of one meter that are read together, every `period_ms`."""

    meter: str
    period_ms: int
    points: tuple[PointInfo, ...]
    sums: tuple[PointSum, ...] = ()

    @property
    def identity(self) -> tuple[object, ...]:
        """What makes its slots the same slots, whatever else is made of the readings."""
        points = tuple((p.name, p.unit, p.exponent, p.kind) for p in self.points)
        return self.meter, self.period_ms, points

    @property
    def totalisers(self) -> tuple[int, ...]:
        """The places of the totalisers among the points."""
        points = enumerate(self.points)
        return tuple(place for place, point in points if point.kind is Kind.TOTALISER)


@dataclass(frozen=True, slots=True)
class MeterInfo:
    """A meter's place in the site: tier 1..3, the meter above it, its sub-item."""

    name: str
    profile: str
    tier: int
    parent: str
    sub_item: str


@dataclass(frozen=True, slots=True)
class LocalTime:
    """A site's clock: its zone's name, and (UTC ms, offset from UTC in ms) per change.

    The first offset holds before its time as well, the last one for ever.
    """

    zone: str
    offsets: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything a platform must know to read a gateway's batches.

    A group's number is its index in `groups`; a column's number is the point's index in the group.
    One without `local_time` is of version 1: China Standard Time, and no point is judged.
    """

    site: str
    meters: tuple[MeterInfo, ...]
    groups: tuple[Group, ...]
    window_lengths_ms: tuple[int, ...]
    local_time: LocalTime | None = None

    def __post_init__(self) -> None:
        """Refuse what no version can carry."""
        if self.local_time is None and any(p.is_judged for g in self.groups for p in g.points):
            raise ValueError("a catalogue with judged points names the site's local time")

    def to_bytes(self) -> bytes:
        """Encode canonically: the same catalogue always gives the same bytes."""
        local = self.local_time
        clock = [] if local is None else [[local.zone, [list(one) for one in local.offsets]]]
        body: bytes = msgpack.packb(
            [
                2 if clock else 1,
                self.site,
                *clock,
                [[m.name, m.profile, m.tier, m.parent, m.sub_item] for m in self.meters],
                [_group_items(group) for group in self.groups],
                list(self.window_lengths_ms),
            ]
        )
        return body

    @staticmethod
    def from_bytes(data: bytes) -> Catalogue:
        """Decode and check; raise FormatError on anything but what `to_bytes` writes."""
        try:
            version, site, *clock, meters, groups, lengths = unpack_bounded(data)
            local_time = _clock(version, clock)
            catalogue = Catalogue(
                _text(site),
                tuple(
                    MeterInfo(_text(n), _text(p), _small(t), _text(up), _text(sub))
                    for n, p, t, up, sub in meters
                ),
                tuple(_group(*items) for items in groups),
                tuple(_positive(length_ms) for length_ms in lengths),
                local_time,
            )
        except (TypeError, ValueError) as error:
            raise FormatError(f"not a catalogue: {error}") from None
        known = {m.name for m in catalogue.meters}
        for group in catalogue.groups:
            if group.meter not in known:
                raise FormatError(f"not a catalogue: group of unknown meter {group.meter!r}")
            if not group.points:
                raise FormatError(f"not a catalogue: meter {group.meter!r} has an empty group")
        return catalogue

    @property
    def hash(self) -> bytes:
        """First 16 bytes of the SHA-256 of the canonical form."""
        return hashlib.sha256(self.to_bytes()).digest()[:16]


def unpack_bounded(data: bytes) -> Any:  # noqa: ANN401 - unknown until the caller has checked it
    """Decode msgpack without maps, extensions or more items than the bytes can hold."""
    try:
        return msgpack.unpackb(
            data,
            strict_map_key=True,
            max_map_len=0,
            max_ext_len=0,
            max_array_len=4096,
            max_str_len=256,
            max_bin_len=len(data),
        )
    except (ValueError, msgpack.UnpackException, RecursionError) as error:
        raise FormatError(f"not msgpack of the expected shape: {error}") from None


def _group_items(group: Group) -> list[Any]:
    items: list[Any] = [group.meter, group.period_ms]
    items.append([_point_items(point) for point in group.points])
    if group.sums:
        items.append([[one.total, list(one.parts)] for one in group.sums])
    return items


def _group(meter: object, period_ms: object, points: Any, *sums: Any) -> Group:  # noqa: ANN401
    known = tuple(_point(*point) for point in points)
    if len(sums) > 1 or sums == ([],):
        raise ValueError("a group has four items at most, the last of them not empty")
    found = tuple(_sum(known, *one) for one in (sums[0] if sums else ()))
    return Group(_text(meter), _positive(period_ms), known, found)


def _sum(points: tuple[PointInfo, ...], total: Any, parts: Any) -> PointSum:  # noqa: ANN401
    numbers = [total, *parts]
    if len(set(numbers)) < len(numbers) or len(numbers) < 3:
        raise ValueError(f"{numbers!r} is not a total and two or more parts")
    for number in numbers:
        if type(number) is not int or not 0 <= number < len(points):
            raise ValueError(f"{number!r} is not the number of a point")
        if points[number].kind is not Kind.TOTALISER or points[number].unit != points[total].unit:
            raise ValueError(f"{points[number].name!r} cannot be summed")
    return PointSum(total, tuple(parts))


def _point_items(point: PointInfo) -> list[object]:
    items: list[object] = [point.name, point.unit, point.exponent, point.kind]
    if not point.is_judged:
        return items
    guard, demand = point.guard, point.demand
    return [
        *items,
        None if guard is None else [guard.wraps_at, guard.rate_max_per_h, guard.resolution],
        int(point.statistics),
        None if demand is None else [demand.period_ms, demand.slip_ms],
    ]


def _point(name: object, unit: object, exponent: object, kind: str, *judged: Any) -> PointInfo:  # noqa: ANN401 - unknown until it is checked
    plain = _text(name), _text(unit), _small(exponent), Kind(kind)
    if not judged:
        return PointInfo(*plain)
    guard, statistics, demand = judged
    point = PointInfo(
        *plain,
        None if guard is None else _guard(*guard),
        _small(statistics) == 1,
        None if demand is None else _demand(*demand),
    )
    if statistics not in (0, 1) or not point.is_judged:
        raise ValueError(f"point {point.name!r} is judged in no known way")
    if point.guard is not None and point.kind is not Kind.TOTALISER:
        raise ValueError(f"point {point.name!r} has a guard and is no totaliser")
    return point


def _guard(wraps_at: object, rate_max_per_h: object, resolution: object) -> Guard:
    end = None if wraps_at is None else _mantissa(wraps_at)
    return Guard(end, _mantissa(rate_max_per_h), _mantissa(resolution))


def _demand(period_ms: object, slip_ms: object) -> Demand:
    demand = Demand(_positive(period_ms), _positive(slip_ms))
    if demand.period_ms % demand.slip_ms or _DAY_MS % demand.period_ms:
        raise ValueError(f"{demand!r}: a day holds whole periods, a period whole slips")
    return demand


def _clock(version: object, clock: list[Any]) -> LocalTime | None:
    """Return what the version says of local time: the first says nothing."""
    if type(version) is not int or version not in (1, 2):
        raise FormatError(f"catalogue version {version!r}; this edgeagg reads versions 1 and 2")
    if len(clock) != version - 1:
        raise ValueError(f"{len(clock) + 5} items in version {version}")
    return _local_time(*clock[0]) if clock else None


def _local_time(zone: object, offsets: Any) -> LocalTime:  # noqa: ANN401 - unknown until it is checked
    changes = tuple((_whole(at_ms), _whole(offset_ms)) for at_ms, offset_ms in offsets)
    times = [at_ms for at_ms, _ in changes]
    if not changes or times != sorted(set(times)) or max(map(abs, times)) > _TIME_MAX_MS:
        raise ValueError("the changes of local time do not ascend")
    if any(abs(offset_ms) >= _DAY_MS for _, offset_ms in changes):
        raise ValueError("local time is a day or more from UTC")
    return LocalTime(_text(zone), changes)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _mantissa(value: object) -> int:
    if not 0 < _whole(value) <= _MANTISSA_MAX:
        raise ValueError(f"{value!r} is not a mantissa above 0")
    return _whole(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    if any(unicodedata.category(character) == "Cc" for character in value):
        # a database may refuse some of them, and no name needs any
        raise ValueError(f"{value!r} holds control characters")
    return value


def _small(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -18 <= value <= 18:
        raise ValueError(f"{value!r} is not a number from -18 to 18")
    return value


def _positive(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _SPAN_MAX_MS:
        raise ValueError(f"{value!r} is not a number of milliseconds from 1 to {_SPAN_MAX_MS}")
    return value
