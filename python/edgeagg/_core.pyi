"""The Rust core. Times are UTC milliseconds, values mantissas (see `edgeagg.model.PointInfo`)."""

from collections.abc import Sequence
from os import PathLike
from typing import Final, TypeAlias, final

__all__ = [
    "CODEC_CM",
    "CODEC_DELTA",
    "CODEC_PLAIN",
    "CUT_CELLS_MAX",
    "VERSION",
    "WINDOW_COLUMNS",
    "Aggregator",
    "CodecError",
    "Cut",
    "Journal",
    "ScanPlan",
    "decode",
    "read_first",
    "read_segment",
]

VERSION: Final[str]
CODEC_CM: Final[int]
CODEC_DELTA: Final[int]
CODEC_PLAIN: Final[int]
CUT_CELLS_MAX: Final[int]
WINDOW_COLUMNS: Final[int]

_Guard: TypeAlias = tuple[int | None, int, int]
_Factor: TypeAlias = tuple[int, int]
_Part: TypeAlias = tuple[int, str, str, _Factor]
_Point: TypeAlias = tuple[
    int, _Part, int, _Part | None, Sequence[int], int | None, int | None, bool
]

class CodecError(ValueError):
    """Bytes that no codec of this version wrote."""

@final
class Aggregator:
    """Rows in, payloads out. Raises ValueError for arguments that do not fit."""

    def __new__(
        cls,
        groups: Sequence[tuple[int, Sequence[bool | _Guard]]],
        window_lengths_ms: Sequence[int],
        *,
        offsets: Sequence[tuple[int, int]] | None = None,
        statistics: Sequence[tuple[int, int]] | None = None,
    ) -> Aggregator:
        """Make one for groups given as (period_ms, one kind per point).

        A kind is whether the point is a totaliser, or the guard of a totaliser whose steps are to
        be judged: (wraps_at, rate_max_per_h, resolution), positive mantissas; wraps_at may be None.
        A guarded totaliser never runs backwards; what its meter cannot have counted is bridged, and
        every bridge is a row of kind 4 in the payload.

        `offsets` are the changes of the site's local time, as (UTC ms, offset from UTC in ms), see
        `edgeagg.localtime.offsets`; None is China Standard Time. Windows of an hour or more begin
        by that clock. `statistics` are the points, as (group, point), whose standard deviation (x
        1000), 50th and 95th percentile are rows of kind 6 in the payload.
        """
    def push_row(
        self,
        group: int,
        due_ms: int,
        at_ms: int,
        values: Sequence[int | None],
        qualities: bytes | Sequence[int],
    ) -> bytes:
        """Take in a slot that was read; return its journal record."""
    def push_scan(
        self,
        group: int,
        due_ms: int,
        at_ms: int,
        plan: ScanPlan,
        replies: Sequence[bytes | int],
        *,
        ratios: int = 0,
    ) -> tuple[bytes, bytes]:
        """Decode a scan and take it in; return its journal record and one quality per point.

        The record is that of `push_row` for the same values; `plan`, `replies` and `ratios` are as
        for `ScanPlan.decode`. After an error nothing has been taken in.
        """
    def push_gap(
        self, group: int, first_due_ms: int, last_due_ms: int, slots: int, reason: int
    ) -> bytes:
        """Take in a run of slots that nobody read; return its journal record."""
    def replace_meter(self, group: int) -> bytes:
        """Take in that another meter hangs in the group's place; return the journal record."""
    def replay(self, record: bytes) -> None:
        """Take in a journal record again."""
    def last_due_ms(self, group: int) -> int | None:
        """Return the last slot known of a group."""
    @property
    def late(self) -> int:
        """Rows that came too late for their window."""
    @property
    def pending_cells(self) -> int:
        """Cells waiting to be cut; a payload is full at CUT_CELLS_MAX."""
    def cut(self, now_ms: int) -> Cut | None:
        """Take what is pending, up to CUT_CELLS_MAX; call until None."""
    def snapshot(self) -> bytes:
        """Return the whole state; ValueError while cells are pending."""
    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot of an aggregator of the same shape."""

@final
class Cut:
    """The content of one payload, not encoded yet."""

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Return how many values, reasons, missed slots and windows it holds."""
    def encode(self, codec: int | None = None) -> tuple[int, bytes]:
        """Return a codec and its payload: the given one, else the one that makes the fewest bytes.

        Releases the GIL.
        """

@final
class ScanPlan:
    """How the replies of a group's reads become mantissas; compiled once.

    mantissa = (raw + addend) x factor, plus a second raw x factor, rounded once, half to even.
    Raises ValueError for arguments that do not fit.
    """

    def __new__(cls, reads: int, points: Sequence[_Point]) -> ScanPlan:
        """Compile (read, part, addend, plus, invalid, min, max, by_ratio) per point.

        `part` is (byte offset, type, order, factor) in the reply of read number `read`; `plus` is a
        second part of the same reply, or None. Types: u, i, bcd, sbcd with 8 to 64 bits (sbcd: the
        top bit is the sign), f32, f64, u8hi, u8lo, t5, t6, sm32. Orders: ABCD, CDAB, BADC, DCBA. A
        factor is (numerator, denominator), both below 2**127: scale, ratios and resolution in one.
        `invalid` holds contents of `part` as unsigned numbers, `min` and `max` are mantissas;
        `by_ratio` says that the factors hold a ratio which the meter itself is asked for.
        """
    def set_factors(self, factors: Sequence[tuple[_Factor, _Factor | None]]) -> None:
        """Put other factors in, those of `part` and `plus` per point. ValueError: as it was."""
    def decode(
        self, replies: Sequence[bytes | int], *, ratios: int = 0
    ) -> tuple[list[int | None], bytes]:
        """Return one mantissa or None and one quality per point.

        `replies` has one payload or reason (`edgeagg.model.Quality`) per read; ValueError names a
        read whose payload is shorter than its points. A point whose read failed has the reason of
        the read; one that needs a ratio has the reason `ratios`, unless that is GOOD. What the
        meter or the limits rule out, and what exceeds 63 bits, is IMPLAUSIBLE.
        """

@final
class Journal:
    """Append-only records in segment files; OSError when the disk refuses."""

    def __new__(cls, directory: str | PathLike[str], segment_bytes: int) -> Journal: ...
    def append(self, kind: int, payload: bytes) -> int:
        """Stage a record; return its number. Safe only after `commit`. On OSError not staged."""
    def commit(self) -> None:
        """Write what is staged and wait until the disk has it. Releases the GIL.

        On OSError it stays staged, and the next commit tries again.
        """
    def read(self, number: int) -> tuple[int, bytes] | None:
        """Return kind and payload of a committed record; None when not kept or lost."""
    def free_before(self, number: int) -> None:
        """Let go of the segments that hold only numbers before `number`."""
    def free_oldest(self, *, give_to: str | PathLike[str] | None = None) -> bool:
        """Let go of the oldest segment unless it is the only one; return whether there was one.

        It becomes a spare segment of the journal in the directory `give_to`, or of this one when
        that has too few, or else is removed.
        """
    def reserve(self, count: int) -> None:
        """Keep segments of zeros ready for when the disk has no room for a new one.

        OSError when there is no room for them now; a segment that is let go becomes one then.
        """
    def skip_to(self, number: int) -> None:
        """Give up numbers so that the next record gets at least `number`."""
    @property
    def first(self) -> int:
        """The oldest number still kept."""
    @property
    def committed(self) -> int:
        """One behind the last number that is safe."""
    @property
    def next(self) -> int:
        """The number the next record gets."""
    @property
    def bytes(self) -> int:
        """Bytes on the disk, spare segments left out."""
    @property
    def repairs(self) -> tuple[int, int]:
        """What opening put right in the last segment: torn bytes wiped, numbers lost."""

def read_first(path: str | PathLike[str]) -> tuple[int, int, bytes] | None:
    """Return the first valid record of one segment file, of which no more is read."""

def read_segment(path: str | PathLike[str]) -> list[tuple[int, int, bytes]]:
    """Return number, kind and payload of the valid records of one segment file.

    Whoever has the journal open; what another process has not committed may be among them.
    """

def decode(codec: int, payload: bytes) -> list[tuple[int, int, int, int, list[list[int | None]]]]:
    """Decode a payload into (kind, group, length_ms, rows, columns); CodecError if it is none."""
