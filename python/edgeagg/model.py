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


class Kind(enum.StrEnum):
    """How a point behaves in time."""

    GAUGE = "gauge"
    TOTALISER = "totaliser"


@dataclass(frozen=True, slots=True)
class PointInfo:
    """One quantity of one meter. value = mantissa x 10**exponent, in `unit`."""

    name: str
    unit: str
    exponent: int
    kind: Kind


@dataclass(frozen=True, slots=True)
class Group:
    """The points of one meter that are read together, every `period_ms`."""

    meter: str
    period_ms: int
    points: tuple[PointInfo, ...]

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
class Catalogue:
    """Everything a platform must know to read a gateway's batches.

    A group's number is its index in `groups`; a column's number is the point's index in the group.
    """

    site: str
    meters: tuple[MeterInfo, ...]
    groups: tuple[Group, ...]
    window_lengths_ms: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """Encode canonically: the same catalogue always gives the same bytes."""
        body: bytes = msgpack.packb(
            [
                1,
                self.site,
                [[m.name, m.profile, m.tier, m.parent, m.sub_item] for m in self.meters],
                [
                    [g.meter, g.period_ms, [[p.name, p.unit, p.exponent, p.kind] for p in g.points]]
                    for g in self.groups
                ],
                list(self.window_lengths_ms),
            ]
        )
        return body

    @staticmethod
    def from_bytes(data: bytes) -> Catalogue:
        """Decode and check; raise FormatError on anything but what `to_bytes` writes."""
        try:
            version, site, meters, groups, lengths = unpack_bounded(data)
            if version != 1:
                raise FormatError(f"catalogue version {version!r}; this edgeagg reads version 1")
            catalogue = Catalogue(
                _text(site),
                tuple(
                    MeterInfo(_text(n), _text(p), _small(t), _text(up), _text(sub))
                    for n, p, t, up, sub in meters
                ),
                tuple(
                    Group(
                        _text(meter),
                        _positive(period_ms),
                        tuple(
                            PointInfo(_text(n), _text(u), _small(e), Kind(k))
                            for n, u, e, k in points
                        ),
                    )
                    for meter, period_ms, points in groups
                ),
                tuple(_positive(length_ms) for length_ms in lengths),
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
