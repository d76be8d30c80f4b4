"""Rows that a new epoch took along count once in history, wherever they stand."""

import itertools
from pathlib import Path

import pytest

from agent.tests.fakes import GATEWAY, START_MS, FakeClock
from agent.tests.histories import Cut, Gateway, Row, history, messages
from agent.tests.shelving import (
    HOUR_MS,
    PLANT,
    SECONDS,
    both,
    day_files,
    historian,
    lived,
    make_all,
    opened,
    shelve,
    short_days,
)
from edgeagg.batch import Batch, BatchKind, Origin
from edgeagg_agent import days, epochs
from edgeagg_agent.day_file import BlockKind, DayFile
from edgeagg_agent.former_epochs import FormerEpochs
from edgeagg_agent.recorder import Recorder

LATER_MS = START_MS + SECONDS * 1_000 + 60_000
DAY_MS = 86_400_000


@pytest.fixture
def tmp_path(ram):
    return ram


@pytest.fixture(autouse=True)
def shortened(monkeypatch):
    short_days(monkeypatch)


def begin(folder, after, now_ms=LATER_MS):
    box = opened(folder, delivered=after)
    try:
        Recorder(folder, box, GATEWAY, PLANT, now_ms=now_ms).end_epoch()
        box.begin_epoch(GATEWAY, PLANT, after=after, why=Origin.BEHIND, now_ms=now_ms)
    finally:
        box.close()


def statements(folder):
    """Return how many statements the day files of each epoch hold."""
    found = {}
    for day in days.listed(folder):
        with DayFile(day.path) as file:
            count = sum(block.kind is BlockKind.MESSAGE for block in file.blocks)
        found[day.epoch] = found.get(day.epoch, 0) + count
    return found


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
async def test_rows_that_were_taken_along_count_once_before_and_behind_day_files(tmp_path, share):
    await lived(tmp_path)
    before = both(tmp_path)
    begin(tmp_path, int(share * len(messages(tmp_path))))
    assert both(tmp_path) == before
    outbox, clock = opened(tmp_path), FakeClock(LATER_MS)
    worker = historian(tmp_path, outbox, clock)
    make_all(worker, clock)
    assert both(tmp_path) == before
    clock.pass_ms(2 * HOUR_MS)
    make_all(worker, clock)
    assert not epochs.batches(tmp_path, START_MS).exists()
    outbox.close()
    assert both(tmp_path) == before


async def test_a_statement_that_was_taken_along_is_in_one_day_file(tmp_path):
    lived_steps = history(1, PLANT, SECONDS)
    row = Row(0, LATER_MS + 2 * DAY_MS, LATER_MS + 2 * DAY_MS, (1, 2), bytes(2))
    steps = [*lived_steps, Cut(LATER_MS + DAY_MS), row, Cut(LATER_MS + 3 * DAY_MS)]
    await Gateway(tmp_path, PLANT).play(steps)
    batches = [Batch.from_bytes(message) for message in messages(tmp_path)]
    over = [batch for batch in batches if batch.cut_at_ms < batches[-1].cut_at_ms]
    stated = [batch.kind for batch in over].count(BatchKind.STATEMENT)
    assert stated > 0
    begin(tmp_path, 5, now_ms=LATER_MS + 4 * DAY_MS)
    shelve(tmp_path)
    held = statements(tmp_path)
    assert sum(held.values()) == stated == held[LATER_MS + 4 * DAY_MS]


async def test_what_day_files_hold_already_is_not_counted_again_in_the_new_epoch(tmp_path):
    await lived(tmp_path)
    before = both(tmp_path)
    shelve(tmp_path, resend_ms=HOUR_MS)
    files = len(day_files(tmp_path))
    # a destination that is new, or was restored from a backup, has nothing of all that
    for again, after in enumerate((3, 2)):
        begin(tmp_path, after, now_ms=LATER_MS + again)
        assert both(tmp_path) == before
    shelve(tmp_path, resend_ms=1)
    assert both(tmp_path) == before
    assert len(day_files(tmp_path)) <= files + 2


async def test_an_epoch_whose_former_one_had_a_former_one_counts_each_row_once(tmp_path):
    await lived(tmp_path)
    before = both(tmp_path)
    for again, after in enumerate((9, 6, 4)):
        begin(tmp_path, after, now_ms=LATER_MS + again)
        assert both(tmp_path) == before
    outbox, clock = opened(tmp_path), FakeClock(LATER_MS)
    make_all(historian(tmp_path, outbox, clock), clock)
    outbox.close()
    assert len({day.epoch for day in days.listed(tmp_path)}) == 3, "the last day is not over"
    assert both(tmp_path) == before


@pytest.mark.parametrize("name", ["write_text", "rename"])
@pytest.mark.parametrize("is_after", [False, True])
async def test_a_kill_on_the_way_to_an_epoch_costs_no_row_and_doubles_none(
    tmp_path, monkeypatch, name, is_after
):
    await lived(tmp_path)
    before = both(tmp_path)
    real = getattr(Path, name)
    for killed_at in itertools.count(1):
        left = [killed_at]

        def killed(path, *rest, left=left):
            left[0] -= 1
            if left[0]:
                return real(path, *rest)
            if is_after:
                real(path, *rest)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Path, name, killed)
            try:
                begin(tmp_path, 4 * killed_at, now_ms=LATER_MS + killed_at)
            except KeyboardInterrupt:
                assert both(tmp_path) == before, f"killed at {name} {killed_at}"
            else:
                break
    assert killed_at > 1
    assert both(tmp_path) == before
    shelve(tmp_path, resend_ms=1)
    assert both(tmp_path) == before


async def test_a_former_epoch_keeps_its_end_when_the_one_behind_it_goes_first(tmp_path):
    await lived(tmp_path)
    before = both(tmp_path)
    begin(tmp_path, 20)
    begin(tmp_path, 1, now_ms=LATER_MS + 1)
    former = FormerEpochs(tmp_path, LATER_MS + 1)
    former.free(LATER_MS)
    assert both(tmp_path)[0] <= before[0], "a row that went is gone, and none counts twice"
    former.free(START_MS)
    left = {path.name for path in tmp_path.glob("origin-*")}
    assert left == {f"origin-{LATER_MS + 1}"}


async def test_an_epoch_that_begins_while_history_is_read_counts_for_nothing_there(tmp_path):
    await lived(tmp_path)
    known = epochs.numbers(tmp_path)
    begin(tmp_path, 5)
    assert len(epochs.history(tmp_path, known)[START_MS]) > 10**9
    both_known = epochs.numbers(tmp_path)
    assert epochs.history(tmp_path, both_known)[START_MS] == range(1, 6)
