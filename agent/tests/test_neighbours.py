"""A batch that is damaged on the disk is lost, and its slots are declared: no more, no less."""

import random
from contextlib import contextmanager
from dataclasses import replace

import pytest

from agent.tests.fakes import GATEWAY, START_MS, catalogue
from agent.tests.histories import BYTES_MAX, Cut, Gap, Row, messages
from edgeagg import content, topics
from edgeagg._core import KEYFRAME_BACK_MAX, Keyframe
from edgeagg.batch import Batch, BatchKind
from edgeagg.model import Quality
from edgeagg.receiver.audit import audit
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg_agent import outbox as outbox_module
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder

PLANT = catalogue(("incomer", 1_000), ("pv", 4_000), ("tenant", 50_000), ("roof", 200_000))
BEGUN_MS = START_MS - 1
SECONDS = 1_000


def history(seed, seconds):
    """Make up what a site reads: what is missed is declared when the next slot is read."""
    rng = random.Random(seed)
    missed = [0] * len(PLANT.groups)
    for second in range(seconds):
        now_ms = START_MS + second * 1_000
        for number, group in enumerate(PLANT.groups):
            if now_ms % group.period_ms:
                continue
            if rng.random() < 0.1 and second + group.period_ms // 1_000 < seconds:
                missed[number] += 1
                continue
            if missed[number]:
                first_ms = now_ms - missed[number] * group.period_ms
                run = first_ms, now_ms - group.period_ms, missed[number]
                yield Gap(number, *run, Quality.OVERRUN)
                missed[number] = 0
            yield Row(number, now_ms, now_ms + 5, (2_300, second), bytes(2))
        if rng.random() < 0.2:
            yield Cut(now_ms + 900)
    yield Cut(now_ms + 900)


async def recorded(folder, steps, *, anchored):
    """Record a history; return its messages."""
    box = Outbox(folder, now_ms=BEGUN_MS, bytes_max=BYTES_MAX)
    recorder = Recorder(folder, box, GATEWAY, PLANT, now_ms=BEGUN_MS, knows_time=True)
    for step in steps:
        match step:
            case Cut(now_ms):
                # one in three stands alone, others begin with it
                receipted = box.head // 3 * 3 if anchored else 0
                await recorder.cut(now_ms, receipted=receipted)
            case _:
                step.push(recorder)
    box.close()
    return messages(folder)


@contextmanager
def damaged(folder, *found):
    """Flip a bit of each of these messages where it stands in the journal, for a while."""
    before = {file: file.read_bytes() for file in folder.glob("batches-*/*.journal")}
    after = {file: bytearray(data) for file, data in before.items()}
    for message in found:
        (data,) = (data for data in after.values() if message in data)
        data[data.find(message) + len(message) // 2] ^= 16
    for file, data in after.items():
        file.write_bytes(data)
    yield
    for file, data in before.items():
        file.write_bytes(data)


def slots(found):
    """Return the slots of rows and gaps as (group, due_ms), sorted."""
    numbers = {group: number for number, group in enumerate(PLANT.groups)}
    rows = [(numbers[row.group], row.due_ms) for row in found.readings]
    runs = [
        (numbers[gap.group], at_ms)
        for gap in (*found.gaps, *found.lost)
        for at_ms in range(gap.first_due_ms, gap.last_due_ms + 1, gap.group.period_ms)
    ]
    return sorted(rows + runs)


def opened(whole, number):
    """Return what the batch of a sequence holds."""
    batch = Batch.from_bytes(whole[number - 1])
    back = content.anchor_of(batch.codec, batch.payload)
    taught = Keyframe(Batch.from_bytes(whole[number - back - 1]).payload) if back else None
    return content.decode(batch.codec, batch.payload, PLANT, taught)


def held_in(whole, number):
    return slots(opened(whole, number))


def missed_in(whole, number):
    return slots(replace(opened(whole, number), readings=()))


def unreadable_without(whole, number):
    """Yield a sequence and those that begin with what it taught."""
    yield number
    for other in range(number + 1, min(len(whole), number + KEYFRAME_BACK_MAX) + 1):
        batch = Batch.from_bytes(whole[other - 1])
        if batch.kind is BatchKind.DATA:
            back = content.anchor_of(batch.codec, batch.payload)
            if back == other - number:
                yield other


def lost_in(message):
    """Return the slots that the word of a lost batch tells of."""
    batch = Batch.from_bytes(message)
    assert batch.kind is BatchKind.LOST
    if not batch.payload:
        return []
    assert batch.schema == PLANT.hash
    return slots(content.decode_lost(batch.codec, batch.payload, PLANT))


def reread(folder, number, now_ms=None, *, head=0):
    box = Outbox(folder, now_ms=BEGUN_MS, bytes_max=BYTES_MAX)
    box.skip_to(head + 1)  # as a checkpoint says that names a batch at the end that is gone
    found = box.read(number, GATEWAY, now_ms)
    box.close()
    return found


def of_data(whole):
    return [n for n, m in enumerate(whole, 1) if Batch.from_bytes(m).kind is BatchKind.DATA]


@pytest.mark.parametrize("anchored", [False, True])
async def test_the_word_that_a_damaged_batch_is_lost_tells_of_just_its_slots(tmp_path, anchored):
    whole = await recorded(tmp_path, history(1, SECONDS), anchored=anchored)
    numbers = of_data(whole)
    assert len(numbers) > 100
    long = [n for n in numbers if {group for group, _ in held_in(whole, n)} & {2, 3}]
    assert len(long) > 10
    missed = {slot for n in numbers for slot in missed_in(whole, n)}
    for number in {*numbers[:3], *numbers[3:-1:9], *long} - {numbers[-1]}:
        with damaged(tmp_path, whole[number - 1]):
            lost = lost_in(reread(tmp_path, number))
        gone = {slot for n in unreadable_without(whole, number) for slot in held_in(whole, n)}
        assert gone <= set(lost)
        assert set(lost) - gone <= missed, "what was not read is declared by a later batch"


async def test_behind_the_last_batch_the_time_bounds_what_it_held(tmp_path):
    whole = await recorded(tmp_path, history(2, 100), anchored=False)
    last = of_data(whole)[-1]
    with damaged(tmp_path, *whole[last - 1 :]):
        assert lost_in(reread(tmp_path, last, head=len(whole))) == []
        cut_ms = Batch.from_bytes(whole[last - 1]).cut_at_ms
        told = lost_in(reread(tmp_path, last, cut_ms, head=len(whole)))
    assert set(held_in(whole, last)) <= set(told)
    assert max(at_ms for _, at_ms in told) <= cut_ms


@pytest.mark.parametrize("seed", range(4))
async def test_with_batches_damaged_the_platforms_audit_finds_every_slot(tmp_path, seed):
    folder = tmp_path / "state"
    whole = await recorded(folder, history(seed, SECONDS), anchored=False)
    rng = random.Random(seed)
    numbers = of_data(whole)
    start = rng.randrange(len(numbers) - 40)
    bad = {*numbers[start : start + 4], *rng.sample(numbers[:-1], 8)}
    store = await SqliteStore.open(str(tmp_path / "platform.db"))
    with damaged(folder, *(whole[number - 1] for number in bad)):
        box = Outbox(folder, now_ms=BEGUN_MS, bytes_max=BYTES_MAX)
        sequences = list(range(1, box.head + 1))
        inbox = Inbox(store, Admission.ANYBODY)
        rng.shuffle(sequences)
        for number in [1, *sequences]:
            message = Message(topics.batch(GATEWAY), box.read(number, GATEWAY))
            await inbox.take([message], START_MS)
        box.close()
    found = await audit(store, GATEWAY)
    await store.close()
    lost = [slot for number in bad for slot in held_in(whole, number)]
    assert found.lost == 2 * len(lost)
    assert found.unexplained == 0
    assert found.is_whole
    assert sum(stream.lost_batches for stream in found.streams) == len(bad)


async def test_where_nothing_is_left_around_it_nothing_is_said(tmp_path):
    whole = await recorded(tmp_path, history(3, 60), anchored=False)
    with damaged(tmp_path, *whole[1:]):
        assert lost_in(reread(tmp_path, 3)) == []


async def test_a_damaged_batch_that_is_let_go_is_declared_with_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(outbox_module, "_SEGMENT_BYTES", 4096)
    folder = tmp_path / "state"
    whole = await recorded(folder, history(4, SECONDS), anchored=False)
    numbers = of_data(whole)
    store = await SqliteStore.open(str(tmp_path / "platform.db"))
    bad = numbers[20]
    with damaged(folder, whole[bad - 1]):
        box = Outbox(folder, now_ms=BEGUN_MS, bytes_max=12_000)
        box.cursor("platform")
        box.trim()
        assert bad < box.first < numbers[-2]
        inbox = Inbox(store, Admission.ANYBODY)
        for number in range(1, box.head + 1):
            message = Message(topics.batch(GATEWAY), box.read(number, GATEWAY))
            await inbox.take([message], START_MS)
        freed = box.first
        box.close()
    found = await audit(store, GATEWAY)
    await store.close()
    gone = [slot for number in numbers if number < freed for slot in held_in(whole, number)]
    assert found.lost == 2 * len(gone)
    assert found.is_whole
