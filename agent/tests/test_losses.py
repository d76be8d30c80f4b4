"""What the audit of a platform says of batches that its gateway had to let go."""

import errno
import os

import pytest

from agent.tests.fakes import GATEWAY, START_MS, catalogue
from agent.tests.histories import Commit, Cut, history
from edgeagg import topics
from edgeagg._core import Aggregator
from edgeagg.batch import Batch, BatchKind, Origin
from edgeagg.receiver.audit import audit
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg_agent import outbox as outbox_module
from edgeagg_agent import two_slots
from edgeagg_agent.losses import Losses, keyframe_of
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder

PLANT = catalogue(("incomer", 1_000), ("pv", 2_000), ("incomer", 4_000))
BYTES_MAX = 14_000
SECONDS = 600


class Platform:
    """A receiver that takes batches up to some sequence, and then is away for long."""

    def __init__(self, store, cursor, until):
        self.inbox = Inbox(store, Admission.ANYBODY)
        self.cursor, self._until = cursor, until

    async def take(self, box, until=None):
        head = min(box.head, self._until if until is None else until)
        sequences = range(self.cursor.through + 1, head + 1)
        data = [box.read(sequence, GATEWAY) for sequence in sequences]
        batches = [Message(topics.batch(GATEWAY), message) for message in data]
        for receipt in await self.inbox.take(batches, START_MS) if batches else ():
            assert receipt.epoch == box.epoch
            self.cursor.advance(receipt.through, receipt.ranges)
        return [Batch.from_bytes(message) for message in data]


@pytest.fixture
async def stores(tmp_path):
    opened = [await SqliteStore.open(str(tmp_path / f"{n}.db")) for n in range(2)]
    yield opened
    for store in opened:
        await store.close()


@pytest.fixture(autouse=True)
def small_segments(monkeypatch):
    monkeypatch.setattr(outbox_module, "_SEGMENT_BYTES", 4096)


class Life:
    """A gateway with two destinations, of which each takes batches up to some sequence."""

    def __init__(self, folder, stores, untils):
        self.folder, self._stores, self._untils = folder, stores, untils
        self.start()

    def start(self):
        self.box = Outbox(self.folder, now_ms=START_MS, bytes_max=BYTES_MAX)
        self.recorder = Recorder(self.folder, self.box, GATEWAY, PLANT, now_ms=START_MS)
        self.platforms = [
            Platform(store, self.box.cursor(str(n)), until)
            for n, (store, until) in enumerate(zip(self._stores, self._untils, strict=True))
        ]

    async def play(self, steps, *, restarts):
        for place, step in enumerate(steps):
            match step:
                case Commit():
                    await self.recorder.commit()
                case Cut(now_ms):
                    delivered = min(one.cursor.through for one in self.platforms)
                    await self.recorder.cut(now_ms, receipted=delivered)
                    self.box.trim()
                    for platform in self.platforms:
                        await platform.take(self.box)
                    if restarts and place % 3 == 0:
                        self.box.close()
                        self.start()
                case _:
                    step.push(self.recorder)


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("untils", [(0, 0), (20, 20), (10, 45)])
async def test_slots_due_are_values_reasons_missed_and_lost(tmp_path, stores, untils, restarts):
    steps = history(5, PLANT, SECONDS)
    life = Life(tmp_path / "state", stores, untils)
    await life.play(steps, restarts=restarts)
    for platform, store in zip(life.platforms, stores, strict=True):
        sent = await platform.take(life.box, life.box.head)
        assert any(batch.kind is BatchKind.LOST for batch in sent)
        found = await audit(store, GATEWAY)
        assert found.lost > 0
        assert found.unexplained == 0
        assert found.is_whole, found
        due = found.values + found.reasons + found.missed + found.lost
        assert due == found.point_slots_due == 2 * sum(slot.due for slot in found.slots)
        assert platform.inbox.counters.refused == 0
    life.box.close()


async def test_what_is_lost_is_told_in_the_next_epoch_too(tmp_path, stores):
    life = Life(tmp_path / "state", stores, (20, 0))
    await life.play(history(5, PLANT, SECONDS), restarts=False)
    life.recorder.end_epoch()
    begun_ms = START_MS + 1
    life.box.begin_epoch(GATEWAY, PLANT, after=0, why=Origin.BEHIND, now_ms=begun_ms)
    life.box.close()
    life.start()
    assert life.box.epoch == begun_ms
    for platform, store in zip(life.platforms, stores, strict=True):
        await platform.take(life.box, life.box.head)
        found = await audit(store, GATEWAY)
        assert found.lost > 0
        assert found.unexplained == 0
    life.box.close()


class Watched:
    """A journal of batches, of which somebody looks at the losses when its oldest segment goes."""

    def __init__(self, journal, look):
        self._journal, self._look = journal, look

    def __getattr__(self, name):
        return getattr(self._journal, name)

    def free_oldest(self, **options):
        self._look()
        return self._journal.free_oldest(**options)


async def test_what_goes_is_written_down_before_it_goes(tmp_path, stores):
    folder = tmp_path / "state"
    life = Life(folder, stores, (0, 0))
    known = []

    def look():
        known.append(Losses(folder, life.box.epoch).runs(PLANT.hash))

    life.box._journal = Watched(life.box._journal, look)
    await life.play(history(5, PLANT, SECONDS), restarts=False)
    life.box.close()
    assert known[0] != known[-1] == Losses(folder, life.box.epoch).runs(PLANT.hash)


async def test_a_keyframe_that_was_let_go_still_makes_its_batches_readable_in_the_next_epoch(
    tmp_path, stores
):
    life = Life(tmp_path / "state", stores, (SECONDS, SECONDS))
    await life.play(history(5, PLANT, SECONDS), restarts=False)
    begins = [
        (batch.sequence, keyframe_of(batch))
        for sequence in range(life.box.first, life.box.head + 1)
        if (batch := life.box._batch(sequence)) is not None and batch.kind is BatchKind.DATA
    ]
    orphans = [number for number, begin in begins if begin is not None and begin < life.box.first]
    assert orphans
    life.recorder.end_epoch()
    after = orphans[0] - 1
    life.box.begin_epoch(GATEWAY, PLANT, after=after, why=Origin.BEHIND, now_ms=START_MS + 1)
    life.box.close()
    life.start()
    found = [life.box._batch(sequence) for sequence in range(1, life.box.head + 1)]
    assert BatchKind.LOST not in [batch.kind for batch in found]
    life.box.close()


@pytest.fixture
def full_disk(monkeypatch):
    """Give what there was room for when it was taken, and nothing more."""

    def pwrite(descriptor, data, at):
        if at + len(data) > os.fstat(descriptor).st_size:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data, at)

    write = os.pwrite
    return lambda: monkeypatch.setattr(two_slots.os, "pwrite", pwrite)


@pytest.mark.parametrize("reserves", [True, False])
async def test_what_a_full_disk_lets_go_is_known_behind_a_restart_if_its_room_was_taken(
    tmp_path, stores, full_disk, reserves
):
    life = Life(tmp_path / "state", stores, (20, 20))
    if reserves:
        life.box.reserve()
    full_disk()
    await life.play(history(5, PLANT, SECONDS), restarts=True)
    for platform, store in zip(life.platforms, stores, strict=True):
        await platform.take(life.box, life.box.head)
        found = await audit(store, GATEWAY)
        assert (found.unexplained == 0 < found.lost) == reserves
    life.box.close()


def test_many_runs_and_keyframes_have_room_in_the_file(tmp_path):
    kept = Losses(tmp_path, 7)
    kept.reserve()
    size = (tmp_path / "lost-7").stat().st_size
    for sequence in range(16):
        kept.note_keyframe(sequence, bytes(20_000))
    batches = catalogue(*((f"meter-{n}", 1_000) for n in range(300)))
    core = Aggregator([(1_000, [False] * 2)] * 300, [])
    for group in range(300):
        for run in range(8):
            core.push_gap(group, START_MS + run * 5_000, START_MS + run * 5_000, 1, 8)
    codec, payload = core.cut(0).encode()
    kept.note(Batch(GATEWAY, 7, 40, BatchKind.DATA, batches.hash, 0, codec, payload), batches, None)
    kept.keep()
    assert (tmp_path / "lost-7").stat().st_size == size
    again = Losses(tmp_path, 7)
    assert sum(map(len, again.runs(batches.hash).values())) == 1_024
    assert again.keyframe(15) == bytes(20_000)
    assert again.keyframe(0) is None


def test_a_write_that_is_torn_leaves_what_was_kept_before(tmp_path):
    kept = Losses(tmp_path, 7)
    kept.reserve()
    file = tmp_path / "lost-7"
    for sequence in (3, 4, 5):
        kept.note_keyframe(sequence, b"taught")
        before = file.read_bytes()
        kept.keep()
        after = file.read_bytes()
        (first, *_, last) = [n for n in range(len(after)) if after[n] != before[n]]
        torn = (first + last) // 2
        file.write_bytes(after[:torn] + before[torn:])
        known = Losses(tmp_path, 7)
        assert [n for n in (3, 4, 5) if known.keyframe(n)] == list(range(3, sequence))
        file.write_bytes(after)
        assert Losses(tmp_path, 7).keyframe(sequence) == b"taught"


def test_a_damaged_file_is_one_that_is_not_there(tmp_path):
    kept = Losses(tmp_path, 7)
    kept.note_keyframe(3, b"taught")
    kept.keep()
    assert Losses(tmp_path, 7).keyframe(3) == b"taught"
    file = tmp_path / "lost-7"
    data = file.read_bytes()
    for place in range(len(data) - len(data.lstrip(b"\0")), len(data)):
        file.write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        assert Losses(tmp_path, 7).keyframe(3) is None
