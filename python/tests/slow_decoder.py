"""Decode batch payloads with nothing but `docs/batch-format.md` in hand.

A second implementation, slow and plain, that proves what the first one writes. It must import
nothing of edgeagg; it expects payloads that an encoder made and checks little else.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgpack

from python.tests import slow_model as sm

Cell = int | None
Column = list[Cell]

READINGS, WINDOWS, GAPS = 1, 2, 3
LEAD = 2
GAP_WIDTH = 4
FIELDS = 10


@dataclass
class Table:
    """A table: kind, group, window length, columns."""

    kind: int
    group: int
    length_ms: int
    columns: list[Column]


def decode(codec: int, payload: bytes, prior: bytes, keyframe: bytes | None = None) -> list[Table]:
    """Decode a payload of any codec; `prior` is what codec 2 begins with."""
    match codec:
        case 0:
            return [Table(*items) for items in msgpack.unpackb(payload, strict_map_key=True)]
        case 1:
            return list(_delta(Reader(payload)))
        case 2:
            if not 1 <= payload[0] <= 16:
                return Mixed(payload, prior).decode()
            assert keyframe is not None, "an anchored payload needs its keyframe"
            taught = Mixed(keyframe, prior)
            taught.decode()
            return Mixed(payload, prior, taught).decode()
        case _:
            raise ValueError(f"codec {codec}")


@dataclass
class Reader:
    """Bytes, and where the next one stands."""

    data: bytes
    at: int = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def u(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def z(self) -> int:
        value = self.u()
        return value >> 1 ^ -(value & 1)


def _delta(reader: Reader) -> Iterator[Table]:
    for _ in range(reader.u()):
        kind, group, length_ms = reader.byte(), reader.u(), reader.u()
        rows, width = reader.u(), reader.u()
        columns = [_delta_column(reader, rows) for _ in range(width)]
        yield Table(kind, group, length_ms, columns)


def _delta_column(reader: Reader, rows: int) -> Column:
    head = reader.byte()
    mode = head & 15
    if mode == 0:
        return [None] * rows
    present = [True] * rows
    if head & 16:
        present, is_present = [], True
        while len(present) < rows:
            present += [is_present] * reader.u()
            is_present = not is_present
    value = reader.z()
    step = reader.z() if mode == 2 else 0
    column: Column = []
    is_first = True
    for is_present in present:
        if is_present and not is_first:
            value = sm.wrap(value + (reader.z() if mode == 3 else step))
        is_first &= not is_present
        column.append(value if is_present else None)
    return column


# Codec 2: tables -------------------------------------------------------------------------------

FIRST, BESIDE_FIRST, AGAIN_FIRST, UNIT, QUALITY, START, TIME = range(7)
(GOOD, WHOLE, EMPTY, SPARSE, CONSTANT, UNITS, AGAIN, BESIDE, CLEAN, PRESENT, SAME) = (
    0, 1, 2, 4, 6, 10, 14, 128, 18, 21, 25,
)  # fmt: skip
WINDOW_EMPTY, WINDOW_SPARSE, WINDOW_PRESENT, ALIGNED, CONTINUED, KEPT = 29, 31, 33, 37, 38, 40
DIVIDED, THOUSANDS, ALL_CONTINUED = 42, 44, 45


def scalar(kind: int, near: int, far: int) -> sm.Context:
    """Return the context of an integer that stands alone."""
    number = kind + 1
    first = number << 16 | (near & 255) << 8
    far &= 255
    hashes = [number << 24, first, first | far, number << 20 | far, first << 8]
    hashes += [number << 21 | 1, first << 7 | far & 127]
    return sm.Context([sm.spread(one) for one in hashes], 16 + kind, 16, [sm.NOTHING] * sm.SHAPES)


@dataclass
class Form:
    """What a column is like."""

    is_empty: bool = False
    is_sparse: bool = False
    is_constant: bool = False
    is_continued: bool = False
    first: int = 0
    unit: int = 0

    @property
    def is_varying(self) -> bool:
        return not self.is_empty and not self.is_constant


class Forms:
    """Decodes the forms of a table's columns."""

    def __init__(self, model: sm.Model) -> None:
        self.model = model
        self.last, self.residual = Form(), 0
        self.is_again = self.is_beside = False

    def decode(self, head: Head, qualities: int, known: Shaped | None) -> list[Form]:
        is_good, is_whole = self.model.flag(GOOD), self.model.flag(WHOLE)
        is_anchored = known is not None and known.back > 0
        all_go_on = is_anchored and self.model.flag(ALL_CONTINUED)
        forms = []
        for at in range(qualities):
            form = Form() if is_whole else self.holes()
            if known and not form.is_empty and (head.rows <= 6 or is_anchored):
                form.is_continued = all_go_on or self.model.flag(CONTINUED + self.last.is_continued)
            if form.is_continued and known:
                self.go_on(form, known.last[at], max(known.units[at], 1))
            elif not form.is_empty:
                self.values(form, known.last[at] if known else None, at)
            forms.append(form)
        self.last = Form()
        good = Form(is_constant=True, unit=1)
        return forms + [
            good if is_good else self.qualities() for _ in range(head.width - qualities)
        ]

    def holes(self) -> Form:
        form = Form()
        form.is_empty = self.model.flag(EMPTY + self.last.is_empty)
        form.is_sparse = not form.is_empty and self.model.flag(SPARSE + self.last.is_sparse)
        return form

    def go_on(self, form: Form, last: int, kept: int) -> None:
        form.first, form.unit = last, kept
        if kept != 1 and not self.model.flag(KEPT):
            form.unit = self.model.integer(scalar(UNIT, abs(self.last.unit).bit_length(), 1))
        self.last = form

    def values(self, form: Form, again: int | None, at: int) -> None:
        form.is_constant = self.model.flag(CONSTANT + self.last.is_constant)
        form.unit = 1
        if not form.is_constant:
            form.unit = self.unit(at)
        form.first = self.first(again, form.unit, FIRST if at else TIME)
        self.last = form

    def unit(self, at: int) -> int:
        if not self.model.flag(UNITS + (self.last.unit != 1) + 2 * (at < LEAD)):
            return 1
        scale = 1000 if at == 0 and self.model.flag(THOUSANDS) else 1
        near = abs(self.last.unit).bit_length()
        return sm.wrap(self.model.integer(scalar(UNIT, near, 0)) * scale)

    def qualities(self) -> Form:
        form = self.holes()
        if form.is_empty:
            return form
        form.unit = 1
        form.is_constant = self.model.flag(CONSTANT + 2 + self.last.is_constant)
        if form.is_constant:
            form.first = self.model.integer(scalar(QUALITY, abs(self.last.first).bit_length(), 1))
        self.last = form
        return form

    def first(self, again: int | None, unit: int, kind: int) -> int:
        if again is not None:
            self.is_again = self.model.flag(AGAIN + self.is_again)
            if self.is_again:
                return self.difference(AGAIN_FIRST, again, unit)
        digits = min(abs(self.last.first).bit_length(), 31)
        self.is_beside = self.model.flag(BESIDE + 2 * digits + self.is_beside)
        if self.is_beside:
            return self.difference(BESIDE_FIRST, self.last.first, unit)
        return self.difference(kind, 0, unit)

    def difference(self, kind: int, start: int, unit: int) -> int:
        if unit != 1 and not self.model.flag(DIVIDED + (kind == TIME)):
            unit = 1
        near, far = abs(self.last.first).bit_length(), abs(self.residual).bit_length()
        self.residual = self.model.integer(scalar(kind, near, far))
        return sm.wrap(start + self.residual * unit)


@dataclass
class Track:
    """A column on its way."""

    form: Form
    is_quality: bool
    series: sm.Series | None
    last: int
    is_present: bool
    is_started: bool = False

    @property
    def is_open(self) -> bool:
        return self.form.is_sparse or (self.is_quality and self.form.is_varying)


@dataclass
class Field:
    """What is known of a field of windows."""

    costs: list[float]
    misses: list[float]
    residual: int = 0
    seen: int = 0


@dataclass
class Shaped:
    """What a table teaches about the next one of its shape."""

    last: list[int]
    units: list[int]
    series: list[sm.Series | None]
    back: int = 0
    """How many sequences before this payload; 0 for this payload itself."""

    def slots(self, rows: int) -> int:
        """Return how many slots are expected from its last row to the first of the table."""
        return max(self.back - 1, 0) * rows + 1


@dataclass
class Head:
    """What stands before all cells."""

    kind: int
    group: int
    length_ms: int
    rows: int
    width: int


class Mixed:
    """Decodes one payload of codec 2, on top of what `taught` learned if there is one."""

    def __init__(self, payload: bytes, prior: bytes, taught: Mixed | None = None) -> None:
        reader = Reader(payload)
        form = reader.byte()
        assert (1 <= form <= 16) == (taught is not None)
        self.checksum = payload[1:3] if taught else payload[1:5]
        reader.at += len(self.checksum)
        self.former = taught.heads if taught else None
        self.next = 0
        self.heads = self._heads(reader, form)
        bits = sm.Bits(payload[reader.at :])
        self.salt = taught.checksum if taught else b""
        if taught:
            for shaped in taught.shaped.values():
                shaped.back = form
            self.model, self.shaped, self.latest = taught.model, taught.shaped, taught.latest
            self.model.bits = bits
            self.fields, self.clock_ms = taught.fields, taught.clock_ms
            self.rls_left = taught.rls_left
            return
        self.model = sm.Model(bits, prior)
        self.shaped: dict[tuple[int, int, int], Shaped] = {}
        self.latest: dict[tuple[int, int], int] = {}
        self.fields = [Field([0.0] * 6, [4.0] * 6) for _ in range(2 * FIELDS)]
        self.clock_ms, self.rls_left = 0, 4096

    def _heads(self, reader: Reader, form: int) -> list[Head]:
        if self.former is not None and (rows := reader.u()):
            return [replace(head, rows=rows) for head in self.former if head.kind == READINGS]
        tables = form - 17 if form > 16 else reader.u()
        return [self._head(reader) for _ in range(tables)]

    def _head(self, reader: Reader) -> Head:
        place = reader.u() if self.former is not None else 0
        if place and self.former:
            at = (self.next + place - 1) % len(self.former)
            self.next = at + 1
            return replace(self.former[at], rows=reader.u())
        group, kind = divmod(reader.u(), 8)
        length_ms = reader.u() if kind == WINDOWS else 0
        rows = reader.u()
        return Head(kind, group, length_ms, rows, GAP_WIDTH if kind == GAPS else reader.u())

    def decode(self) -> list[Table]:
        tables = []
        for head in self.heads:
            columns = self._windows(head) if head.kind == WINDOWS else self._rows(head)
            tables.append(Table(head.kind, head.group, head.length_ms, columns))
        cells = (cell for table in tables for column in table.columns for cell in column)
        coded = b"".join(b"\0" if cell is None else struct.pack("<Bq", 1, cell) for cell in cells)
        assert zlib.crc32(self.salt + coded).to_bytes(4, "little").startswith(self.checksum)
        return tables

    def _take(self, head: Head) -> Shaped | None:
        own = self.shaped.pop((head.kind, head.width, head.group), None)
        if own is None and (head.kind, head.width) in self.latest:
            group = self.latest[head.kind, head.width]
            own = self.shaped.pop((head.kind, head.width, group), None)
        return own

    def _keep(self, head: Head, shaped: Shaped) -> None:
        self.latest[head.kind, head.width] = head.group
        self.shaped[head.kind, head.width, head.group] = shaped

    def _rows(self, head: Head) -> list[Column]:
        known = self._take(head)
        is_readings = head.kind == READINGS
        qualities = LEAD + (head.width - LEAD) // 2 if is_readings else head.width
        forms = Forms(self.model).decode(head, qualities, known)
        tracks = []
        for at, form in enumerate(forms):
            series = known.series[at] if known else None
            if series and form.is_continued:
                series.go_on()
            elif series:
                series.again()
            elif form.is_varying and at < qualities:
                has_rls = is_readings and at >= LEAD and self.rls_left > 0
                self.rls_left -= has_rls
                series = sm.Series(has_rls=has_rls)
                if form.is_continued:
                    series.go_on()
                    if known and known.series[0]:
                        series.keep_still()
            last = (known.last[at] if known else 0) if form.is_empty else form.first
            is_present = not form.is_empty
            tracks.append(Track(form, at >= qualities, series, last, is_present, form.is_continued))
        columns: list[Column] = [[] for _ in tracks]
        clean = 2
        gap = float(known.slots(head.rows)) if known else 1.0
        for _ in range(head.rows):
            clean, gap = self._row(tracks, columns, clean, gap)
        if head.kind in (READINGS, GAPS):
            self.clock_ms = tracks[0].last
        units = [form.unit for form in forms]
        self._keep(head, Shaped([t.last for t in tracks], units, [t.series for t in tracks]))
        return columns

    def _row(
        self, tracks: list[Track], columns: list[Column], clean: int, gap: float
    ) -> tuple[int, float]:
        is_clean = True
        if any(track.is_open for track in tracks):
            is_clean = self.model.flag(CLEAN + clean)
            clean = is_clean * (1 + min(clean, 1))
            before = True
            for track in tracks:
                if is_clean:
                    track.is_present = not track.form.is_empty
                elif track.form.is_sparse:
                    context = before + 2 * track.is_present
                    before = track.is_present = self.model.flag(PRESENT + context)
        row, quality = sm.Row(gap), 0
        for number, (track, column) in enumerate(zip(tracks, columns, strict=True)):
            if not track.is_quality:
                column.append(self._value(track, number, row))
            elif not track.is_present:
                column.append(None)
            elif track.form.is_constant:
                column.append(track.form.first)
            elif is_clean:
                track.last = 0
                column.append(0)
            else:
                quality = self._quality(track, quality)
                column.append(quality)
        return clean, row.gap

    def _value(self, track: Track, number: int, row: sm.Row) -> Cell:
        form = track.form
        if form.is_empty or (form.is_constant and not track.is_present):
            return None
        if form.is_constant:
            return form.first
        if not track.is_present or not track.is_started:
            row.steps.append(0.0)
            track.is_started |= track.is_present
            return form.first if track.is_present else None
        assert track.series
        steps = track.series.decode(self.model, number, row)
        track.last = sm.wrap(form.first + steps * form.unit)
        return track.last

    def _quality(self, track: Track, before: int) -> int:
        context = (track.last != 0) + 2 * (before != 0)
        if not self.model.flag(SAME + context):
            near, far = abs(track.last).bit_length(), abs(before).bit_length()
            before = self.model.integer(scalar(QUALITY, near, far))
        track.last = before
        return before

    def _windows(self, head: Head) -> list[Column]:
        known = self._take(head)
        forms: list[Form] = []
        for at in range(head.width):
            before = forms[at - FIELDS] if at >= FIELDS else Form()
            is_empty = self.model.flag(WINDOW_EMPTY + before.is_empty)
            is_sparse = not is_empty and self.model.flag(WINDOW_SPARSE + before.is_sparse)
            forms.append(Form(is_empty, is_sparse))
        last = known.last if known else [0] * head.width
        was_present = [True] * head.width
        columns: list[Column] = [[] for _ in forms]
        for _ in range(head.rows):
            cells: list[Cell] = []
            before_present, residual = True, 0
            for at, form in enumerate(forms):
                is_present = not form.is_empty
                if form.is_sparse:
                    context = before_present + 2 * was_present[at]
                    is_present = self.model.flag(WINDOW_PRESENT + context)
                    before_present = was_present[at] = is_present
                cell: Cell = None
                if is_present and at == 0:
                    last[0] = cell = self._start(head, last[0])
                elif is_present:
                    residual, cell = self._cell(cells, at - 1, last[at], residual)
                    last[at] = cell
                cells.append(cell)
                columns[at].append(cell)
        self._keep(head, Shaped(last, [], [None] * head.width))
        return columns

    def _start(self, head: Head, last: int) -> int:
        length_ms = head.length_ms
        expected = sm.wrap(last + length_ms)
        if last == 0:
            expected = sm.wrap((self.clock_ms // length_ms - 1) * length_ms)
        is_aligned = self.model.flag(ALIGNED)
        lengths = self.model.integer(scalar(START, is_aligned, last == 0))
        return sm.wrap(expected + lengths * (length_ms if is_aligned else 1))

    def _cell(self, cells: list[Cell], number: int, above: int, before: int) -> tuple[int, int]:
        place = number % FIELDS
        own = [cell for cell in cells[len(cells) - place :][::-1] if cell is not None]
        near, far, *_ = [*own, 0, 0]
        point_before = cells[number + 1 - FIELDS] if number >= FIELDS else None
        thousandth = abs(near) // 1000
        guesses = [
            point_before or 0,
            above,
            near,
            sm.wrap(near - far),
            sm.wrap((near + far) * 500),
            -thousandth if near < 0 else thousandth,
        ]
        key = 2 * place + (cells[-1] is not None)
        known = self.fields[key]
        way = min(range(6), key=lambda at: known.costs[at])
        scale = sm.scale_of(known.misses[way])
        hashes = [
            1 << 28 | key << 16 | way << 8 | scale,
            2 << 28 | key << 16 | way << 8 | sm.digits(known.residual),
            3 << 28 | key << 16 | sm.digits(before) << 8 | scale,
            4 << 28 | number << 8 | way,
            5 << 28 | key << 16 | sm.digits(known.residual) << 8 | sm.digits(before),
            6 << 28 | number << 8 | sm.digits(known.residual),
            7 << 28 | key << 16 | number << 4 | way,
        ]
        shapes = [sm.shape(0.0, known.misses[way])] + [sm.NOTHING] * (sm.SHAPES - 1)
        context = sm.Context([sm.spread(one) for one in hashes], 24 + key, 17, shapes)
        residual = self.model.integer(context)
        value = sm.wrap(guesses[way] + residual)
        rate = max(1.0 / (float(known.seen) + 1.5), 0.12)
        for at, guess in enumerate(guesses):
            miss = float(abs(sm.wrap(value - guess)))
            known.costs[at] += (sm.cost(miss) - known.costs[at]) * rate
            known.misses[at] += (miss - known.misses[at]) * rate
        known.residual = residual
        known.seen += 1
        return residual, value
