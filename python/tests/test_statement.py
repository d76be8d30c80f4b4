"""What a day's statement adds up, whatever the order and the parts its rows come in."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg import statement
from edgeagg.errors import FormatError
from edgeagg.localdays import DAY_MS, LocalDays
from edgeagg.statement import LATENESS_MS, DayBook, Span, Tally

MIDNIGHT_MS = 1_790_006_400_000  # 22 September 2026, 00:00 in Shanghai
PERIOD_MS = 60_000

Row = tuple[int, int, list[int | None], list[int]]


def table(rows: Sequence[Row]) -> tuple[int, int, int, int, list[list[int | None]]]:
    """Return rows of group 0 as a table of readings, as the core decodes it."""
    lines = [
        [due_ms, at_ms - due_ms, *values, *qualities] for due_ms, at_ms, values, qualities in rows
    ]
    return 1, 0, 0, len(rows), [list(column) for column in zip(*lines, strict=True)]


def gaps(*found: tuple[int, int, int, int]) -> tuple[int, int, int, int, list[list[int | None]]]:
    return 3, 0, 0, len(found), [list(column) for column in zip(*found, strict=True)]


def book() -> DayBook:
    return DayBook([(2, [1])])


def row(due_ms: int, value: int | None = 5) -> Row:
    return due_ms, due_ms + 7, [230, value], [0, 0 if value is not None else 1]


def test_midnight_in_shanghai_divides_the_days() -> None:
    days = book()
    days.fold([table([row(MIDNIGHT_MS - PERIOD_MS, 10), row(MIDNIGHT_MS, 11)])])
    stated = days.take(None)
    before, after = (
        Span(0, MIDNIGHT_MS - DAY_MS, MIDNIGHT_MS),
        Span(0, MIDNIGHT_MS, MIDNIGHT_MS + DAY_MS),
    )
    assert [span for span, _ in stated] == [before, after]
    assert [tally.registers[1][1] for _, tally in stated] == [10, 11]


def test_values_reasons_missed_and_both_ends_of_a_register_are_stated() -> None:
    days = book()
    days.fold(
        [
            table([row(MIDNIGHT_MS, None), row(MIDNIGHT_MS + PERIOD_MS, 3)]),
            gaps((MIDNIGHT_MS + 2 * PERIOD_MS, MIDNIGHT_MS + 4 * PERIOD_MS, 3, 7)),
            table([row(MIDNIGHT_MS + 5 * PERIOD_MS, 9), row(MIDNIGHT_MS + 6 * PERIOD_MS, None)]),
        ]
    )
    ((_, tally),) = days.take(None)
    assert (tally.slots, tally.values, tally.reasons, tally.missed) == (14, 6, 2, 6)
    first_ms, last_ms = MIDNIGHT_MS + PERIOD_MS, MIDNIGHT_MS + 5 * PERIOD_MS
    assert tally.registers == {1: (first_ms, 3, last_ms, 9)}


def test_a_day_is_stated_once_it_is_over_and_late_rows_are_waited_for() -> None:
    days = book()
    days.fold([table([row(MIDNIGHT_MS - PERIOD_MS), row(MIDNIGHT_MS)])])
    assert days.take(MIDNIGHT_MS + LATENESS_MS - 1) == []
    assert [span.end_ms for span, _ in days.take(MIDNIGHT_MS + LATENESS_MS)] == [MIDNIGHT_MS]
    assert [span.start_ms for span, _ in days.take(None)] == [MIDNIGHT_MS]


ROWS = st.lists(
    st.tuples(st.integers(0, 4_000), st.none() | st.integers(-(2**63), 2**63 - 1)),
    max_size=30,
    unique_by=lambda pair: pair[0],
)


@given(ROWS, st.integers(0, 2**32))
def test_order_parts_and_restarts_change_nothing(
    rows: list[tuple[int, int | None]], seed: int
) -> None:
    """Deal the same rows to one book in order, and to others in any order with restarts."""
    all_rows = [row(MIDNIGHT_MS + slot * PERIOD_MS, value) for slot, value in sorted(rows)]
    whole = book()
    whole.fold([table(all_rows)] if all_rows else [])
    expected = whole.take(None)
    rng = random.Random(seed)
    rng.shuffle(all_rows)
    days, stated = book(), dict[Span, Tally]()
    while all_rows:
        count = rng.randint(1, len(all_rows))
        part, all_rows = sorted(all_rows[:count]), all_rows[count:]
        days.fold([table(part)])
        again = book()
        again.restore(days.to_bytes())
        days = again
        if rng.random() < 0.3:
            for span, tally in statement.decode(statement.encode(days.take(None))):
                stated.setdefault(span, Tally()).add(tally)
    for span, tally in days.take(None):
        stated.setdefault(span, Tally()).add(tally)
    assert stated == dict(expected)


@given(st.integers(0, 5_000), st.integers(1, 9_000), st.sampled_from([1_000, 60_000, 3_600_000, 7]))
def test_every_slot_of_a_gap_lies_in_one_span(first: int, slots: int, period_ms: int) -> None:
    first_ms = MIDNIGHT_MS // period_ms * period_ms + first * period_ms
    last_ms = first_ms + (slots - 1) * period_ms
    spans = list(statement.spans_of(0, first_ms, last_ms, LocalDays()))
    assert len(spans) <= 3
    parts = [statement.clip(span, first_ms, last_ms, period_ms) for span in spans]
    assert sum(count for _, _, count in parts) == slots
    for span, (begin_ms, end_ms, count) in zip(spans, parts, strict=True):
        if count:
            assert span.start_ms <= begin_ms <= end_ms < span.end_ms


def test_a_clock_that_was_set_right_by_decades_makes_three_entries() -> None:
    days = book()
    last_ms = MIDNIGHT_MS // PERIOD_MS * PERIOD_MS
    days.fold([gaps((PERIOD_MS, last_ms, last_ms // PERIOD_MS, 7))])
    stated = days.take(None)
    assert len(stated) == 3
    assert stated[0][0] == Span(0, 0, DAY_MS - 8 * 3_600_000)
    assert statement.decode(statement.encode(stated)) == stated
    assert sum(tally.missed for _, tally in stated) == 2 * (last_ms // PERIOD_MS)


def test_one_changed_value_or_quality_or_time_changes_the_digest() -> None:
    digests = set()
    for changed in (
        row(MIDNIGHT_MS),
        row(MIDNIGHT_MS, 6),
        (MIDNIGHT_MS, MIDNIGHT_MS + 8, [230, 5], [0, 0]),
        (MIDNIGHT_MS, MIDNIGHT_MS + 7, [5, 230], [0, 0]),
        (MIDNIGHT_MS, MIDNIGHT_MS + 7, [230, 5], [0, 4]),
    ):
        days = book()
        days.fold([table([changed])])
        digests.add(days.take(None)[0][1].digest)
    assert len(digests) == 5


def test_the_digest_is_the_sum_of_the_rows_hashes() -> None:
    """As docs/batch-format.md says it, without any of the code above."""
    import hashlib

    days = book()
    days.fold([table([row(MIDNIGHT_MS), row(MIDNIGHT_MS + PERIOD_MS, None)])])
    packed = [
        msgpack.packb([MIDNIGHT_MS, MIDNIGHT_MS + 7, [230, 5], [0, 0]]),
        msgpack.packb([MIDNIGHT_MS + PERIOD_MS, MIDNIGHT_MS + PERIOD_MS + 7, [230, None], [0, 1]]),
    ]
    total = sum(int.from_bytes(hashlib.sha256(one).digest(), "big") for one in packed)
    assert days.take(None)[0][1].digest == total % 2**256


GOOD = [0, 0, DAY_MS, 3, 1, 1, 1, bytes(32), [[1, 0, -5, 10, 7]]]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, -1),
        (0, True),
        (1, DAY_MS),
        (2, 2**63),
        (3, 4),
        (7, bytes(31)),
        (7, "x" * 32),
        (8, [[1, 0, 2**63, 10, 7]]),
        (8, [[1, 0, 5, 10]]),
        (8, 7),
    ],
)
def test_what_is_no_statement_is_refused(place: int, value: object) -> None:
    assert statement.decode(msgpack.packb([GOOD]))
    entry = [*GOOD]
    entry[place] = value
    with pytest.raises(FormatError, match="not a statement"):
        statement.decode(msgpack.packb([entry]))


@given(st.binary(max_size=120))
def test_random_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        found = statement.decode(data)
    except FormatError:
        return
    assert statement.decode(statement.encode(found)) == found
