"""Guarded totalisers in the core: histories of faults against what the meter truly counted.

A minute is a period, a window is 15 of them, readings are on the minute, so that every energy is a
difference of two readings. The numbers of single faults are in aggregator-rs/tests/totaliser.rs.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeagg import _core
from edgeagg.model import Quality

PERIOD_MS = 60_000
LENGTHS_MS = (5 * PERIOD_MS, 15 * PERIOD_MS)
START_MS = 1_767_225_600_000  # a quarter of an hour begins
WRAPS_AT = 10**9
RATE_MAX_PER_H = 60_000
RISE_MAX = 1_000  # in a minute, as the meter can count
LIMIT = 2 * RISE_MAX + 2  # that a reading may rise in a minute: a refresh late by a period
DOUBT_MIN = 20
GUARD = (WRAPS_AT, RATE_MAX_PER_H, 1)
ENERGY = 7
LONG_AFTER_MS = START_MS + 10**9
WINDOWS, AUDITS, UNCERTAINTIES = 2, 4, 5
DIP, GLITCH, KINDS = 6, 7, 8


@dataclass(frozen=True, slots=True)
class Audit:
    """A row of kind 4, in the order of its columns."""

    point: int
    kind: int
    closing_ms: int
    closing: int
    opening_ms: int
    opening: int
    energy: int
    doubted: int
    extreme: int | None


@dataclass(slots=True)
class Told:
    """What the payloads of one run said."""

    energies: dict[tuple[int, int], int | None] = field(default_factory=dict)
    uncertainties: dict[tuple[int, int], int | None] = field(default_factory=dict)
    audits: list[Audit] = field(default_factory=list)

    def collect(self, aggregator: _core.Aggregator, now_ms: int) -> None:
        while (cut := aggregator.cut(now_ms)) is not None:
            for kind, _, length_ms, _, columns in _core.decode(*cut.encode()):
                for row in zip(*columns, strict=True):
                    if kind == WINDOWS:
                        self.note(self.energies, length_ms, row[0], row[1 + ENERGY])
                    elif kind == UNCERTAINTIES:
                        self.note(self.uncertainties, row[1], row[0], row[2])
                    elif kind == AUDITS:
                        self.audits.append(Audit(*row))

    @staticmethod
    def note(
        where: dict[tuple[int, int], int | None],
        length_ms: int | None,
        start_ms: int | None,
        cell: int | None,
    ) -> None:
        assert length_ms is not None
        assert start_ms is not None
        assert (length_ms, start_ms) not in where
        where[length_ms, start_ms] = cell


def new_aggregator() -> _core.Aggregator:
    return _core.Aggregator([(PERIOD_MS, [GUARD])], LENGTHS_MS)


def push(aggregator: _core.Aggregator, minute: int, value: int | None, late_ms: int = 0) -> bytes:
    due_ms = START_MS + minute * PERIOD_MS
    quality = Quality.NO_REPLY if value is None else Quality.GOOD
    return aggregator.push_row(0, due_ms, due_ms + late_ms, [value], [quality])


def told(values: Sequence[int | None], cuts: frozenset[int] = frozenset()) -> Told:
    """Read the values minute by minute and return what the payloads say."""
    aggregator, story = new_aggregator(), Told()
    for minute, value in enumerate(values):
        push(aggregator, minute, value)
        if minute in cuts:
            story.collect(aggregator, START_MS + minute * PERIOD_MS)
    story.collect(aggregator, LONG_AFTER_MS)
    return story


@st.composite
def counters(draw: st.DrawFn) -> list[int]:
    """Make what a meter truly counted, a value a minute."""
    value = draw(st.integers(10**6, WRAPS_AT - 10**6))
    rises = draw(st.lists(st.integers(0, RISE_MAX), min_size=60, max_size=100))
    values = [value]
    for rise in rises:
        values.append(values[-1] + rise)
    return values


@st.composite
def mistaken(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Make what a meter counted, and what it showed: far off the line for a while, at times."""
    true = draw(counters())
    shown, minute = list(true), draw(st.integers(3, 20))
    while minute + DOUBT_MIN < len(true):
        line = true[minute - 1]
        low = st.integers(-(2**63), line - 3 * LIMIT)
        high = st.integers(true[-1] + (DOUBT_MIN + 1) * LIMIT, 2**63 - 1)
        wrong = draw(st.one_of(st.just(0), low, high))
        for _ in range(draw(st.integers(1, DOUBT_MIN - 1))):
            wrong = draw(st.one_of(st.just(wrong), st.just(wrong), low, high))
            shown[minute] = wrong
            minute += 1
        minute += draw(st.integers(2, 40))
    return true, shown


def total_at(true: Sequence[int], shown: Sequence[int], minute: int) -> int:
    """Return the counter at a minute, between the readings around it that were no mistake."""
    before = max(at for at in range(minute + 1) if shown[at] == true[at])
    behind = min(at for at in range(minute, len(true)) if shown[at] == true[at])
    if before == behind:
        return true[minute]
    rise = true[behind] - true[before]
    return true[before] + round(Fraction(rise * (minute - before), behind - before))


@settings(max_examples=40, deadline=None)
@given(mistaken(), st.frozensets(st.integers(0, 100)))
def test_what_a_meter_shows_by_mistake_for_a_while_changes_no_energy(
    case: tuple[list[int], list[int]], cuts: frozenset[int]
) -> None:
    true, shown = case
    story = told(shown, cuts)
    for length_ms in LENGTHS_MS:
        minutes = length_ms // PERIOD_MS
        for start in range(0, len(true) - minutes, minutes):
            ends = (total_at(true, shown, minute) for minute in (start, start + minutes))
            energy = story.energies[length_ms, START_MS + start * PERIOD_MS]
            assert energy == -operator.sub(*ends)
    assert {audit.kind for audit in story.audits} <= {DIP, GLITCH}
    wrong = sum(a != b for a, b in zip(true, shown, strict=True))
    assert sum(audit.doubted for audit in story.audits) == wrong


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, RISE_MAX // 6), min_size=200, max_size=250),
    st.lists(st.integers(0, 5), min_size=35, max_size=35),
)
def test_the_truth_is_within_the_uncertainty_of_every_energy(
    rises: list[int], delays: list[int]
) -> None:
    """The counter moves every 10 s; it is read up to 50 s late, so that no window ends on time."""
    true = list(itertools.accumulate(rises, initial=10**6))
    aggregator, story = new_aggregator(), Told()
    for minute, delay in enumerate(delays):
        if (tick := 6 * minute + delay) < len(true):
            push(aggregator, minute, true[tick], delay * PERIOD_MS // 6)
    story.collect(aggregator, LONG_AFTER_MS)
    assert story.audits == []
    assert story.energies.keys() == story.uncertainties.keys()
    for (length_ms, start_ms), energy in story.energies.items():
        uncertainty = story.uncertainties[length_ms, start_ms]
        if energy is None or uncertainty is None:
            assert energy is uncertainty is None
            continue
        start = (start_ms - START_MS) // (PERIOD_MS // 6)
        truth = true[start + length_ms * 6 // PERIOD_MS] - true[start]
        assert abs(energy - truth) <= uncertainty
        assert uncertainty <= 2 * 2 * RISE_MAX


VALUES = st.one_of(
    st.none(),
    st.integers(0, 3_000),
    st.integers(10**6, 10**6 + 3_000),
    st.integers(WRAPS_AT - 3_000, WRAPS_AT + 3_000),
    st.integers(-(2**63), 2**63 - 1),
)
HISTORIES = st.lists(st.tuples(VALUES, st.integers(1, 30)), max_size=12).map(
    lambda runs: [
        None if value is None else min(value + n * 40, 2**63 - 1)
        for value, length in runs
        for n in range(length)
    ]
)


@settings(max_examples=80, deadline=None)
@given(HISTORIES, st.frozensets(st.integers(0, 300)))
def test_no_history_gives_energy_that_no_reading_shows_and_no_cut_changes_it(
    values: list[int | None], cuts: frozenset[int]
) -> None:
    story = told(values, cuts)
    assert told(values) == story
    assert all(energy is None or energy >= 0 for energy in story.energies.values())
    for audit in story.audits:
        assert 1 <= audit.kind <= KINDS
        assert audit.closing_ms < audit.opening_ms
        assert values[(audit.closing_ms - START_MS) // PERIOD_MS] == audit.closing
        assert values[(audit.opening_ms - START_MS) // PERIOD_MS] == audit.opening
        rise = audit.opening - audit.closing
        assert audit.energy in {0, rise, WRAPS_AT + rise}
        assert audit.energy >= 0
        assert (audit.doubted == 0) == (audit.extreme is None)
    total = sum(
        filter(
            None, (e for (length_ms, _), e in story.energies.items() if length_ms == LENGTHS_MS[0])
        )
    )
    assert total <= len(values) * LIMIT + sum(audit.energy for audit in story.audits)


@settings(max_examples=80, deadline=None)
@given(HISTORIES, st.frozensets(st.integers(0, 300)), st.integers(0, 300))
def test_a_restart_from_a_snapshot_and_the_journal_changes_nothing(
    values: list[int | None], replacements: frozenset[int], checkpoint: int
) -> None:
    """The first life cuts once, at `checkpoint`; the second begins there and replays the rest."""
    first, again = new_aggregator(), new_aggregator()
    for minute, stale in enumerate([10**6, 10**6, 5]):
        push(again, minute, stale)  # a state that must not shine through
    Told().collect(again, START_MS)
    again.restore(new_aggregator().snapshot())
    records = []
    for minute, value in enumerate(values):
        if minute in replacements:
            records.append(first.replace_meter(0))
        records.append(push(first, minute, value, late_ms=20_000))
        if minute == checkpoint:
            Told().collect(first, START_MS + minute * PERIOD_MS + 20_000)
            again.restore(first.snapshot())
            assert again.snapshot() == first.snapshot()
            records = []
    for record in records:
        again.replay(record)
    while (cut := first.cut(LONG_AFTER_MS)) is not None:
        assert again.cut(LONG_AFTER_MS) == cut
    assert again.cut(LONG_AFTER_MS) is None
    assert again.snapshot() == first.snapshot()


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(-(10**8), 10**8), VALUES), max_size=40))
@example([(-1, 0), (0, 0), (-420_000, 1), (-300_000, 0), (-300_000, 0)])
def test_a_clock_that_jumps_about_leaves_no_window_waiting_and_none_negative(
    readings: list[tuple[int, int | None]],
) -> None:
    aggregator, story = new_aggregator(), Told()
    for minute, (late_ms, value) in enumerate(readings):
        push(aggregator, minute, value, late_ms)
    story.collect(aggregator, LONG_AFTER_MS)
    assert all(energy is None or energy >= 0 for energy in story.energies.values())
    assert len(story.energies) >= (2 if readings else 0)


def test_a_clock_set_back_does_not_make_a_doubt_last() -> None:
    aggregator, story = new_aggregator(), Told()
    ahead_ms = 10**9
    for minute, value in enumerate([10**6, 10**6, 5]):
        push(aggregator, minute, value, ahead_ms)
    for minute in range(3, 60):
        push(aggregator, minute, 5 + 40 * minute)
    story.collect(aggregator, START_MS + 60 * PERIOD_MS)
    (audit,) = story.audits
    assert (audit.closing, audit.energy) == (10**6, 0)


def test_an_audit_is_pending_like_a_row_until_it_is_cut() -> None:
    aggregator, story = new_aggregator(), Told()
    for minute, value in enumerate([10**6, 10**6, 5]):
        push(aggregator, minute, value)
    story.collect(aggregator, START_MS)
    assert aggregator.pending_cells == 0
    aggregator.replace_meter(0)
    assert aggregator.pending_cells > 0
    with pytest.raises(ValueError, match="cut everything"):
        aggregator.snapshot()
    story.collect(aggregator, START_MS)
    assert [audit.opening for audit in story.audits] == [5]


def test_a_replaced_meter_is_known_to_groups_that_there_are_only() -> None:
    with pytest.raises(ValueError, match="no such group"):
        new_aggregator().replace_meter(1)


@pytest.mark.parametrize("guard", [(0, 1, 1), (None, 0, 1), (None, 1, -1)])
def test_a_guard_has_positive_numbers(guard: tuple[int | None, int, int]) -> None:
    with pytest.raises(ValueError, match="are positive"):
        _core.Aggregator([(PERIOD_MS, [guard])], LENGTHS_MS)


def test_gauges_totalisers_and_guards_stand_side_by_side() -> None:
    aggregator, story = _core.Aggregator([(PERIOD_MS, [False, True, GUARD])], LENGTHS_MS), Told()
    for minute, value in enumerate([100, 200, 100, 200, 300, 400, 500]):
        due_ms = START_MS + minute * PERIOD_MS
        aggregator.push_row(0, due_ms, due_ms, [value] * 3, [0] * 3)
    story.collect(aggregator, LONG_AFTER_MS)
    (audit,) = story.audits
    assert (audit.point, audit.kind, audit.extreme) == (2, DIP, 100)
    # one column: only the guarded one has uncertainties
    assert set(story.uncertainties.values()) == {0, None}
