"""The outbox on a real directory: numbers, epochs, cursors, what is freed and what is lost."""

import pytest

from agent.tests.fakes import GATEWAY, START_MS
from edgeagg.batch import Batch, BatchKind
from edgeagg.errors import StoreError
from edgeagg_agent import outbox as outbox_module
from edgeagg_agent.outbox import Outbox

BYTES_MAX = 32 << 20
SEGMENT_BYTES = 4096


@pytest.fixture(autouse=True)
def small_segments(monkeypatch):
    monkeypatch.setattr(outbox_module, "_SEGMENT_BYTES", SEGMENT_BYTES)


@pytest.fixture
def opened(tmp_path):
    """Open outboxes on the test's directory, and close what is left open."""
    boxes = []

    def open_outbox(now_ms=START_MS, bytes_max=BYTES_MAX):
        boxes.append(Outbox(tmp_path / "state", now_ms=now_ms, bytes_max=bytes_max))
        return boxes[-1]

    yield open_outbox
    for box in boxes:
        box.close()


def message(sequence, *, cut_at_ms=START_MS, size=10):
    payload = bytes(size)
    return Batch(
        GATEWAY, START_MS, sequence, BatchKind.DATA, bytes(16), cut_at_ms, 1, payload
    ).to_bytes()


def fill(box, count, size=1_000):
    for sequence in range(box.head + 1, box.head + count + 1):
        box.append([message(sequence, size=size)])


def kept(box):
    return [
        sequence
        for sequence in range(1, box.head + 1)
        if Batch.from_bytes(box.read(sequence, GATEWAY)).kind is not BatchKind.LOST
    ]


def test_a_new_outbox_is_empty_and_its_epoch_is_the_time(opened):
    box = opened(now_ms=START_MS)
    assert (box.head, box.epoch) == (0, START_MS)


def test_the_sequence_is_the_number_in_the_journal(opened):
    box = opened()
    box.append([message(1), message(2)])
    box.append([message(3)])
    assert box.head == 3
    assert [box.read(sequence, GATEWAY) for sequence in (1, 2, 3)] == [
        message(1),
        message(2),
        message(3),
    ]


def test_nothing_is_a_batch_too_few(opened):
    box = opened()
    box.append([])
    assert box.head == 0


def test_epoch_and_batches_persist_over_reopening(opened):
    box = opened(now_ms=START_MS)
    fill(box, 10)
    box.close()
    again = opened(now_ms=START_MS + 1)
    assert (again.head, again.epoch) == (10, START_MS)
    assert [again.read(sequence, GATEWAY) for sequence in range(1, 11)] == [
        message(sequence, size=1_000) for sequence in range(1, 11)
    ]
    again.append([message(11)])
    assert again.read(11, GATEWAY) == message(11)


def test_losing_the_batches_opens_a_new_epoch_with_cursors_of_its_own(opened, tmp_path):
    box = opened(now_ms=START_MS)
    fill(box, 3)
    box.cursor("platform").advance(3)
    box.close()
    folder = tmp_path / "state" / f"batches-{START_MS}"
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    again = opened(now_ms=START_MS + 60_000)
    assert (again.epoch, again.head) == (START_MS + 60_000, 0)
    assert again.cursor("platform").through == 0


def test_of_several_epochs_the_newest_is_used(opened, tmp_path):
    for epoch in (START_MS, START_MS + 2, START_MS + 1):
        (tmp_path / "state" / f"batches-{epoch}").mkdir(parents=True)
    assert opened(now_ms=START_MS + 9).epoch == START_MS + 2


def test_a_directory_in_use_is_refused_until_it_is_closed(opened, tmp_path):
    box = opened()
    with pytest.raises(StoreError, match="state is in use: another agent runs on it"):
        opened()
    box.close()
    opened()


def test_a_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot use .*file/state: Not a directory"):
        Outbox(tmp_path / "file" / "state", now_ms=START_MS, bytes_max=BYTES_MAX)


def test_a_cursor_persists_forwards_and_backwards(opened):
    box = opened()
    cursor = box.cursor("platform")
    assert cursor.through == 0
    for through in (5, 6, 2, 2, 9):
        cursor.advance(through)
        assert box.cursor("platform").through == cursor.through == through
    assert box.cursor("other").through == 0


@pytest.mark.parametrize("bytes_written", range(0, 64, 3))
def test_a_torn_write_of_the_cursor_leaves_the_one_before(opened, tmp_path, bytes_written):
    box = opened()
    cursor = box.cursor("platform")
    for through in (0x01020304, 0x0506, 0x0708090A):
        cursor.advance(through)
    file = tmp_path / "state" / f"cursor-platform-{START_MS}"
    before = file.read_bytes()
    cursor.advance(0x0B0C0D0E)
    after = file.read_bytes()
    changed = [place for place in range(128) if before[place] != after[place]]
    start = changed[0] // 64 * 64
    torn = before[:start] + after[start : start + bytes_written] + before[start + bytes_written :]
    file.write_bytes(torn)
    whole = bytes_written > changed[-1] - start
    assert box.cursor("platform").through == (0x0B0C0D0E if whole else 0x0708090A)


def test_a_torn_cursor_is_written_over_not_its_good_half(opened, tmp_path):
    box = opened()
    cursor = box.cursor("platform")
    cursor.advance(1)
    cursor.advance(2)
    file = tmp_path / "state" / f"cursor-platform-{START_MS}"
    data = bytearray(file.read_bytes())
    data[0] ^= 0xFF  # the second slot written, through 2
    file.write_bytes(data)
    again = box.cursor("platform")
    assert again.through == 1
    again.advance(7)
    good_half = file.read_bytes()[64:]
    assert good_half == bytes(data[64:])
    assert box.cursor("platform").through == 7


def test_a_cursor_file_of_rubbish_begins_again(opened, tmp_path):
    box = opened()
    (tmp_path / "state" / f"cursor-platform-{START_MS}").write_bytes(b"\x5a" * 200)
    cursor = box.cursor("platform")
    assert cursor.through == 0
    cursor.advance(4)
    assert box.cursor("platform").through == 4


def test_a_damaged_batch_becomes_a_lost_one_under_its_own_sequence(opened, tmp_path):
    box = opened()
    fill(box, 3, size=50)
    (file,) = (tmp_path / "state" / f"batches-{START_MS}").iterdir()
    data = bytearray(file.read_bytes())
    place = data.index(message(2, size=50)) + 40
    data[place] ^= 1
    file.write_bytes(data)
    lost = Batch.from_bytes(box.read(2, GATEWAY))
    assert lost == Batch(GATEWAY, START_MS, 2, BatchKind.LOST, bytes(16), 0, 0, b"")
    assert box.read(1, GATEWAY) == message(1, size=50)
    assert box.read(3, GATEWAY) == message(3, size=50)


def test_a_batch_found_damaged_at_opening_keeps_its_sequence_too(opened, tmp_path):
    box = opened()
    fill(box, 3, size=50)
    box.close()
    (file,) = (tmp_path / "state" / f"batches-{START_MS}").iterdir()
    data = bytearray(file.read_bytes())
    data[data.index(message(2, size=50))] ^= 1
    file.write_bytes(data)
    again = opened()
    assert again.repairs == (0, 1)
    assert again.head == 3
    assert Batch.from_bytes(again.read(2, GATEWAY)).kind is BatchKind.LOST
    assert again.read(3, GATEWAY) == message(3, size=50)


def test_below_the_limit_nothing_is_freed(opened):
    box = opened(bytes_max=3 * SEGMENT_BYTES)
    fill(box, 6)  # three of 1 KB fit into a segment
    box.cursor("platform").advance(6)
    box.trim()
    assert kept(box) == [1, 2, 3, 4, 5, 6]


def test_delivered_batches_are_freed_first_and_not_counted_as_dropped(opened):
    box = opened(bytes_max=2 * SEGMENT_BYTES)
    fill(box, 12)
    box.cursor("platform").advance(6)
    box.trim()
    assert kept(box) == [7, 8, 9, 10, 11, 12]
    assert box.bytes_count == 2 * SEGMENT_BYTES
    assert box.dropped_count == 0


@pytest.mark.parametrize("delivered", range(13))
def test_dropped_batches_are_counted_exactly(opened, delivered):
    box = opened(bytes_max=2 * SEGMENT_BYTES)
    fill(box, 12)
    box.cursor("platform").advance(delivered)
    box.trim()
    gone = set(range(1, 13)) - set(kept(box))
    assert gone == {1, 2, 3, 4, 5, 6}
    assert box.dropped_count == sum(sequence > delivered for sequence in gone)
    fill(box, 3)
    box.trim()
    gone = set(range(1, 16)) - set(kept(box))
    assert gone == {1, 2, 3, 4, 5, 6, 7, 8, 9}
    assert box.dropped_count == sum(sequence > delivered for sequence in gone)


def test_what_every_destination_has_beyond_a_gap_is_not_dropped(opened):
    box = opened(bytes_max=2 * SEGMENT_BYTES)
    fill(box, 12)
    one, other = box.cursor("platform"), box.cursor("second")
    one.advance(1, ((3, 4), (6, 12)))
    other.advance(2, ((4, 5),))
    box.trim()
    assert kept(box) == [7, 8, 9, 10, 11, 12]
    # 1 and 4 are at both
    assert box.dropped_count == 4


def test_the_last_segment_is_kept_whatever_the_limit(opened):
    box = opened(bytes_max=1)
    fill(box, 8)
    box.trim()
    assert kept(box) == [7, 8]
    assert box.dropped_count == 6
    assert box.head == 8


def test_a_trimmed_batch_is_answered_for_as_lost(opened):
    box = opened(bytes_max=1)
    fill(box, 8)
    box.trim()
    lost = Batch.from_bytes(box.read(3, GATEWAY))
    assert lost == Batch(GATEWAY, START_MS, 3, BatchKind.LOST, bytes(16), 0, 0, b"")


def test_sequences_that_a_platform_has_are_never_used_again(opened):
    box = opened()
    fill(box, 2)
    box.cursor("platform").advance(40)
    box.close()
    box = opened()
    box.append([message(41)])
    assert box.head == 41
    assert box.read(41, GATEWAY) == message(41)
    assert Batch.from_bytes(box.read(17, GATEWAY)).kind is BatchKind.LOST
