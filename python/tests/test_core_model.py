"""The core's windows against a model that walks through time in small steps.

The rules are those of the docstring of aggregator-rs/src/window.rs. All times are multiples of
TICK_MS, so that what holds at the start of a tick holds for all of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeagg import _core
from edgeagg.model import Quality

TICK_MS = 100
PERIOD_MS = 1_000
HOLD_MS = 2 * PERIOD_MS
BRIDGE_MS = 3 * PERIOD_MS
LENGTHS_MS = (1_000, 5_000, 7_500)
KINDS = (False, True)  # point 0 is a gauge, point 1 a totaliser
GAUGE, TOTALISER = 0, 1
LONG_AFTER_MS = 10**9
READINGS, WINDOWS, GAPS = 1, 2, 3

WindowRow = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot that was read. A value is None where its quality says why."""

    due_ms: int
    at_ms: int
    values: tuple[int | None, int | None]
    qualities: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Gap:
    """A run of slots that nobody read."""

    first_due_ms: int
    slots: int

    @property
    def last_due_ms(self) -> int:
        return self.first_due_ms + (self.slots - 1) * PERIOD_MS


@dataclass(frozen=True, slots=True)
class History:
    """What a bus delivered, and after which of its events a batch was cut."""

    events: tuple[Slot | Gap, ...]
    cuts: frozenset[int]

    @property
    def slots(self) -> list[Slot]:
        return [event for event in self.events if isinstance(event, Slot)]


REASONS = st.sampled_from([Quality.NO_REPLY, Quality.BAD_FRAME, Quality.STOPPED])
# a meter that is mostly well, and rises mostly, but not always
RISES = st.one_of(st.integers(0, 9), st.integers(0, 10**9), st.integers(-50, -1))


@st.composite
def histories(draw: st.DrawFn) -> History:
    due_ms = draw(st.integers(0, 20)) * PERIOD_MS
    total = draw(st.integers(-5, 10**12))
    events: list[Slot | Gap] = []
    for _ in range(draw(st.integers(1, 45))):
        step = draw(st.integers(0, 11))
        if step == 0:
            gap = Gap(due_ms, draw(st.integers(1, 9)))
            events.append(gap)
            due_ms += gap.slots * PERIOD_MS
            continue
        jitter_ms = TICK_MS * draw(st.one_of(st.just(0), st.integers(0, PERIOD_MS // TICK_MS - 1)))
        total += draw(RISES) if step < 10 else 0
        gauge = draw(st.integers(-(10**6), 10**6))
        reasons = [draw(st.one_of(st.just(0), st.just(0), REASONS)) for _ in KINDS]
        values = [None if why else v for v, why in zip((gauge, total), reasons, strict=True)]
        events.append(
            Slot(
                due_ms,
                due_ms + jitter_ms,
                (values[GAUGE], values[TOTALISER]),
                (int(reasons[GAUGE]), int(reasons[TOTALISER])),
            )
        )
        due_ms += PERIOD_MS
    return History(tuple(events), draw(st.frozensets(st.integers(0, len(events)))))


def run(history: History) -> tuple[dict[int, dict[int, list[WindowRow]]], list[Slot | Gap]]:
    """Return the core's windows (length, start, one row per point) and the events it delivered."""
    aggregator = _core.Aggregator([(PERIOD_MS, KINDS)], LENGTHS_MS)
    windows: dict[int, dict[int, list[WindowRow]]] = {length_ms: {} for length_ms in LENGTHS_MS}
    delivered: list[Slot | Gap] = []
    for number, event in enumerate(history.events):
        now_ms = push(aggregator, event)
        if number in history.cuts:
            collect(aggregator, now_ms, windows, delivered)
    collect(aggregator, LONG_AFTER_MS, windows, delivered)
    assert aggregator.late == 0
    return windows, delivered


def push(aggregator: _core.Aggregator, event: Slot | Gap) -> int:
    """Take the event in and return its time."""
    if isinstance(event, Gap):
        aggregator.push_gap(0, event.first_due_ms, event.last_due_ms, event.slots, Quality.NO_REPLY)
        return event.last_due_ms
    aggregator.push_row(0, event.due_ms, event.at_ms, event.values, event.qualities)
    return event.at_ms


def collect(
    aggregator: _core.Aggregator,
    now_ms: int,
    windows: dict[int, dict[int, list[WindowRow]]],
    delivered: list[Slot | Gap],
) -> None:
    while (cut := aggregator.cut(now_ms)) is not None:
        counts = cut.counts
        rows = 0
        for kind, group, length_ms, _, columns in _core.decode(*cut.encode()):
            assert group == 0
            for row in zip(*columns, strict=True):
                if kind == WINDOWS:
                    start_ms, *cells = row
                    width = _core.WINDOW_COLUMNS
                    points = [tuple(cells[at : at + width]) for at in (0, width)]
                    assert windows[length_ms].setdefault(start_ms, points) is points
                    rows += 1
                elif kind == READINGS:
                    due_ms, delay_ms, *cells = row
                    values, qualities = tuple(cells[:2]), tuple(cells[2:])
                    delivered.append(Slot(due_ms, due_ms + delay_ms, values, qualities))
                else:
                    assert kind == GAPS
                    assert row[3] == Quality.NO_REPLY
                    gap = Gap(row[0], row[2])
                    delivered.append(gap)
                    assert gap.last_due_ms == row[1]
        assert counts[3] == rows


def model(slots: Sequence[Slot], length_ms: int) -> dict[int, list[WindowRow]]:
    """Return every window that a slot was read in."""
    starts = sorted({slot.at_ms // length_ms * length_ms for slot in slots})
    return {
        start_ms: [model_point(slots, point, start_ms, start_ms + length_ms) for point in (0, 1)]
        for start_ms in starts
    }


def model_point(slots: Sequence[Slot], point: int, start_ms: int, end_ms: int) -> WindowRow:
    inside = [slot for slot in slots if start_ms <= slot.at_ms < end_ms]
    values = [value for slot in inside if (value := slot.values[point]) is not None]
    held = [
        value
        for tick_ms in range(start_ms, end_ms, TICK_MS)
        if (value := held_at(slots, point, tick_ms)) is not None
    ]
    gauge = point == GAUGE
    return (
        len(inside),
        len(values),
        min(values) if values and gauge else None,
        max(values) if values and gauge else None,
        round(Fraction(1_000 * sum(held), len(held))) if held and gauge else None,
        values[0] if values else None,
        values[-1] if values else None,
        None if gauge else energy(slots, start_ms, end_ms),
        len(held) * TICK_MS,
        max(slot.qualities[point] for slot in inside),
    )


def held_at(slots: Sequence[Slot], point: int, ms: int) -> int | None:
    """Return the value that stands for the point at `ms`: that of the last slot, if not too old."""
    before = [slot for slot in slots if slot.at_ms <= ms]
    if not before or ms >= before[-1].at_ms + HOLD_MS:
        return None
    return before[-1].values[point]


def energy(slots: Sequence[Slot], start_ms: int, end_ms: int) -> int | None:
    good = [(s.at_ms, value) for s in slots if (value := s.values[TOTALISER]) is not None]
    for (from_ms, before), (to_ms, after) in itertools.pairwise(good):
        if after < before and from_ms < end_ms and to_ms >= start_ms:
            return None
    opening, closing = total_at(good, start_ms), total_at(good, end_ms)
    return None if opening is None or closing is None else closing - opening


def total_at(good: Sequence[tuple[int, int]], ms: int) -> int | None:
    for (from_ms, before), (to_ms, after) in itertools.pairwise(good):
        near = to_ms - from_ms <= BRIDGE_MS and after >= before
        if near and from_ms <= ms <= to_ms:
            return before + round(Fraction((after - before) * (ms - from_ms), to_ms - from_ms))
    return None


@settings(max_examples=150, deadline=None)
@given(histories())
def test_the_windows_are_those_of_the_model_whenever_batches_are_cut(history: History) -> None:
    windows, _ = run(history)
    for length_ms in LENGTHS_MS:
        assert windows[length_ms] == model(history.slots, length_ms), f"{length_ms} ms"


@settings(max_examples=100, deadline=None)
@given(histories())
def test_every_event_is_delivered_once_and_unchanged(history: History) -> None:
    _, delivered = run(history)
    assert sorted(delivered, key=str) == sorted(history.events, key=str)


@settings(max_examples=60, deadline=None)
@given(histories())
def test_journal_records_replayed_give_the_same_payloads(history: History) -> None:
    first = _core.Aggregator([(PERIOD_MS, KINDS)], LENGTHS_MS)
    again = _core.Aggregator([(PERIOD_MS, KINDS)], LENGTHS_MS)
    for event in history.events:
        if isinstance(event, Gap):
            last_due_ms = event.last_due_ms
            record = first.push_gap(0, event.first_due_ms, last_due_ms, event.slots, 1)
        else:
            record = first.push_row(0, event.due_ms, event.at_ms, event.values, event.qualities)
        again.replay(record)
    while (cut := first.cut(LONG_AFTER_MS)) is not None:
        assert again.cut(LONG_AFTER_MS) == cut
    assert again.cut(LONG_AFTER_MS) is None


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(-9, 9)), max_size=25))
def test_a_clock_that_jumps_about_breaks_no_bound(readings: list[tuple[int, int]]) -> None:
    aggregator = _core.Aggregator([(PERIOD_MS, KINDS)], LENGTHS_MS)
    for number, (second, value) in enumerate(readings):
        aggregator.push_row(0, number * PERIOD_MS, second * 1_000, [value, value], [0, 0])
    windows: dict[int, dict[int, list[WindowRow]]] = {length_ms: {} for length_ms in LENGTHS_MS}
    delivered: list[Slot | Gap] = []
    collect(aggregator, LONG_AFTER_MS, windows, delivered)
    assert len(delivered) == len(readings)
    for length_ms, rows in windows.items():
        slots = sum(points[GAUGE][0] or 0 for points in rows.values())
        assert len(readings) - aggregator.late <= slots <= len(readings)
        for points in rows.values():
            assert all(0 <= (point[8] or 0) <= length_ms for point in points)
