"""The Rust core. Times are UTC milliseconds, values mantissas (see `edgeagg.model.PointInfo`)."""

from collections.abc import Sequence
from os import PathLike
from typing import Final, TypeAlias, final

__all__ = [
    "CODEC_CM",
    "CODEC_DELTA",
    "CODEC_PLAIN",
    "CUT_CELLS_MAX",
    "KEYFRAME_BACK_MAX",
    "MONTH_MS",
    "VERSION",
    "WINDOW_COLUMNS",
    "Aggregator",
    "CodecError",
    "Cut",
    "Journal",
    "Keyframe",
    "ScanPlan",
    "SecretKey",
    "Sorter",
    "anchor_of",
    "decode",
    "decode_columns",
    "read_first",
    "read_segment",
    "recode",
    "verify",
]

VERSION: Final[str]
CODEC_CM: Final[int]
CODEC_DELTA: Final[int]
CODEC_PLAIN: Final[int]
CUT_CELLS_MAX: Final[int]
KEYFRAME_BACK_MAX: Final[int]
MONTH_MS: Final[int]
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
    """Rows in, payloads out. Raises ValueError for arguments that do not fit.

    One thread at a time: a call while another thread is in `cut`, `snapshot` or `restore`, which
    release the GIL, raises RuntimeError. The other methods take in one row; they keep it.
    """

    def __new__(
        cls,
        groups: Sequence[tuple[int, Sequence[bool | _Guard]]],
        window_lengths_ms: Sequence[int],
        *,
        offsets: Sequence[tuple[int, int]] | None = None,
        statistics: Sequence[tuple[int, int]] | None = None,
        demands: Sequence[tuple[int, int, int, int]] | None = None,
    ) -> Aggregator:
        """Make one for groups given as (period_ms, one kind per point).

        A kind is whether the point is a totaliser, or the guard of a totaliser whose steps are to
        be judged: (wraps_at, rate_max_per_h, resolution), positive mantissas; wraps_at may be None.
        A guarded totaliser never runs backwards; what its meter cannot have counted is bridged, and
        every bridge is a row of kind 4 in the payload.

        `offsets` are the changes of the site's local time, as (UTC ms, offset from UTC in ms), see
        `edgeagg.localtime.offsets`; None is China Standard Time. Windows of an hour or more begin
        by that clock, and the length MONTH_MS stands for its months, however long they are. Lengths
        that nest are made of the same rows: one too late for the shortest is in none of them.

        `statistics` are the points, as (group, point), whose standard deviation (x 1000), 50th and
        95th percentile are rows of kind 6 in the payload.

        `demands` are the points, as (group, point, period_ms, slip_ms), whose highest block and
        sliding demand of each local day are rows of kind 7 in the payload. The period divides an
        hour, the slip (at most 60 times) the period; it is not below the group's own period. A
        totaliser's demand is the energy of its periods, a gauge's their mean.
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
    def restart_group(self, group: int, last_due_ms: int) -> bytes:
        """Let the group's slots go on behind this one, since the clock was set; return the record.

        Its windows end as they are; nothing is held or counted from before to behind.
        """
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
        """Take what is pending, up to CUT_CELLS_MAX; call until None. Releases the GIL."""
    def snapshot(self) -> bytes:
        """Return the whole state: open windows, totalisers, last slots. Releases the GIL.

        An aggregator of the same shape that restores it gives the same bytes for the same calls.
        ValueError while cells are pending: they belong to the next cut, not to the state.
        """
    def restore(self, snapshot: bytes) -> None:
        """Take over a snapshot; what was taken in before is forgotten. Releases the GIL.

        CodecError when it is no snapshot of an aggregator of this shape; use a new one then, for
        this one holds a part of it.
        """

@final
class Cut:
    """The content of one payload, not encoded yet."""

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Return how many values, reasons, missed slots and windows it holds."""
    def encode(
        self, codec: int | None = None, *, anchor: tuple[Keyframe, int] | None = None
    ) -> tuple[int, bytes]:
        """Return a codec and its payload: the given one, else the one that makes the fewest bytes.

        Without a codec, `anchor` is a keyframe and how many sequences before this payload's own it
        is, at most KEYFRAME_BACK_MAX; the payload begins with what it taught where that is smaller.
        Releases the GIL.
        """

@final
class Keyframe:
    """What a self-contained payload of codec 2 taught; some hundred kilobytes."""

    def __new__(cls, payload: bytes) -> Keyframe:
        """Decode it; CodecError if it is none. Releases the GIL."""

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

def anchor_of(codec: int, payload: bytes) -> int | None:
    """Return how many sequences before its own a payload's keyframe is; None if it needs none.

    CodecError when there is no payload.
    """

def decode(
    codec: int, payload: bytes, keyframe: Keyframe | None = None
) -> list[tuple[int, int, int, int, list[list[int | None]]]]:
    """Decode a payload into (kind, group, length_ms, rows, columns); CodecError if it is none.

    An anchored payload needs its own keyframe, a self-contained one leaves it aside. Releases the
    GIL.
    """

def recode(codec: int, payload: bytes, keyframe: Keyframe) -> tuple[int, bytes]:
    """Return codec and payload of the same tables, referring to nothing. Releases the GIL."""

def decode_columns(
    codec: int, payload: bytes, keyframe: Keyframe | None = None
) -> list[tuple[int, int, int, int, list[tuple[bytes, bytes | None]]]]:
    """Decode a payload as `decode` does, each column as (values, validity) in Arrow's layout.

    `values` holds signed 64-bit integers in the machine's byte order, 0 where there is none;
    `validity` one bit per row, lowest first, 1 where there is a value, or None when there are all.
    Releases the GIL. For names, see `edgeagg.columns`.
    """

@final
class SecretKey:
    """The secret half of an Ed25519 key (RFC 8032); never shown, wiped when it goes."""

    def __new__(cls, seed: bytes) -> SecretKey:
        """Make the key of 32 secret random bytes."""
    @property
    def public(self) -> bytes:
        """The public half, 32 bytes."""
    def sign(self, message: bytes) -> bytes:
        """Return the signature, 64 bytes; the same message always has the same."""

@final
class Sorter:
    """Rows of many payloads, put together by group and in the order of time; it keeps some MB.

    Every row comes out once, rows of one time in the order in which they came. One thread at a
    time, as for `Aggregator`.
    """

    def __new__(cls) -> Sorter:
        """Make one that nothing waits in."""
    def take(self, codec: int, payload: bytes, keyframe: Keyframe | None = None) -> None:
        """Take in the tables of a payload; then call `pop` until None. Releases the GIL.

        CodecError as for `decode`; nothing has been taken in then.
        """
    def pop(self, *, everything: bool = False) -> tuple[int, int, int, int, int, bytes] | None:
        """Return (group, family, first_ms, last_ms, codec, payload) of a complete piece, or None.

        With `everything` also of one that is not complete. A family is 1 (readings and gaps) or 2
        (all else), the times are those of its earliest and latest row: slot, start of a window or
        day, closing of an audit. Releases the GIL.
        """

def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Tell whether a signature is that of a message; ValueError for what is no public key."""
