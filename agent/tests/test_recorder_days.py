# ruff: noqa: F811 - fixtures of another file
"""The statements of days come out the same wherever the process is killed."""

import functools
import shutil

import pytest

from agent.tests.fakes import GATEWAY
from agent.tests.histories import Cut, Delivered, Gap, Gateway, Row, history, messages
from agent.tests.test_recorder import PLANT, disk, killer, uninterrupted  # noqa: F401
from edgeagg import statement
from edgeagg.batch import BatchKind
from edgeagg.localdays import LocalDays
from edgeagg.statement import Span, Tally
from edgeagg_agent import judging


@pytest.fixture(autouse=True)
def short_days(monkeypatch):
    """Let days be 10 s long, so that a history of a minute has some."""
    short = functools.partial(LocalDays, day_ms=10_000)
    monkeypatch.setattr(judging, "LocalDays", short)
    monkeypatch.setattr(statement, "LATENESS_MS", 2_000)


def added_up(events):
    """Add up rows and gaps as a clerk would: slot by slot, day by day."""
    days = {}
    for event in events:
        points = len(PLANT.groups[event.group].points)
        period_ms = PLANT.groups[event.group].period_ms
        for slot in range(event.slots):
            due_ms = event.first_due_ms + slot * period_ms
            day = days.setdefault((event.group, due_ms // 10_000), [0, 0, 0])
            if isinstance(event, Gap):
                day[2] += points
            else:
                day[0] += sum(value is not None for value in event.values)
                day[1] += sum(value is None for value in event.values)
    return days


def by_day(stated):
    """Return what was stated, span by span; a gap of several days counts for its first one."""
    return {
        (span.group, span.start_ms // 10_000): [tally.values, tally.reasons, tally.missed]
        for (_, span), tally in stated.items()
        if span.end_ms - span.start_ms == 10_000
    }


async def test_days_that_are_over_are_stated_with_what_their_batches_hold(ram, disk):
    steps = history(3, PLANT, 60)
    found, _ = await uninterrupted(ram / "state", steps, disk)
    delivered = Delivered(found)
    expected, stated = added_up(delivered.events), by_day(delivered.stated)
    assert len(stated) >= 3 * len(PLANT.groups)
    assert stated == {day: expected[day] for day in stated}
    last_cut_ms = max(batch.cut_at_ms for batch in delivered.batches)
    over = {day for day in expected if (day[1] + 1) * 10_000 + 2_000 <= last_cut_ms}
    assert over <= stated.keys()


@pytest.mark.parametrize("mode", ["before", "torn"])
async def test_a_kill_at_any_operation_changes_no_statement(ram, disk, mode):
    steps = history(5, PLANT, 26)
    expected, operations = await uninterrupted(ram / "whole", steps, disk)
    kinds = [batch.kind for batch in Delivered(expected).batches]
    assert kinds.count(BatchKind.STATEMENT) >= 1
    disk.mode = mode
    for place in range(1, operations + 1):
        disk.kill_at = disk.operations + place
        gateway = Gateway(ram / f"{place}", PLANT)
        await gateway.play(steps, killer(steps, disk, []))
        assert gateway.kills == 1
        delivered, whole = Delivered(messages(gateway.folder)), Delivered(expected)
        assert delivered.stated == whole.stated
        if len(delivered.batches) == len(whole.batches):
            assert delivered.batches == whole.batches
        shutil.rmtree(gateway.folder)


async def test_a_changed_catalogue_states_the_begun_days_under_the_former_one(ram, disk):
    steps = [*history(4, PLANT, 15), Cut(1_790_000_100_000)]
    await uninterrupted(ram / "state", steps, disk)
    before = Delivered(messages(ram / "state"))
    other = type(PLANT)("another", PLANT.meters, PLANT.groups, PLANT.window_lengths_ms)
    await Gateway(ram / "state", other, now_ms=1_790_000_101_000).play([])
    after = Delivered(messages(ram / "state"))
    counted = [0, 0, 0]
    for tally in after.stated.values():
        counted = [
            a + b for a, b in zip(counted, (tally.values, tally.reasons, tally.missed), strict=True)
        ]
    expected = [sum(day[n] for day in added_up(before.events).values()) for n in range(3)]
    assert counted == expected
    assert {schema for schema, _ in after.stated} == {PLANT.hash}
    assert isinstance(next(iter(after.stated))[1], Span)
    assert all(isinstance(tally, Tally) for tally in after.stated.values())
    assert any(isinstance(event, Row) for event in after.events)
    assert after.batches[0].gateway == GATEWAY
