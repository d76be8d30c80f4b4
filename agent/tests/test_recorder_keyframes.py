"""Batches of a recorder that begin with what an earlier one taught."""

import pytest

from agent.tests.fakes import GATEWAY, START_MS, catalogue
from agent.tests.histories import BYTES_MAX, Delivered, messages
from edgeagg._core import KEYFRAME_BACK_MAX, anchor_of
from edgeagg.batch import Batch
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder

PLANT = catalogue(("incomer", 1_000))


@pytest.fixture
def outbox(tmp_path):
    outbox = Outbox(tmp_path, now_ms=START_MS, bytes_max=BYTES_MAX)
    yield outbox
    outbox.close()


def push(recorder, slot):
    due_ms = START_MS + 1_000 * slot
    points = len(PLANT.groups[0].points)
    recorder.row(
        0, due_ms=due_ms, at_ms=due_ms + 40, values=[2_300 + slot] * points, qualities=bytes(points)
    )


async def cut(recorder, slot, receipted):
    for row in range(20 * slot, 20 * slot + 20):
        push(recorder, row)
    await recorder.cut(START_MS + 20_000 * (slot + 1), receipted=receipted)


def backs(folder):
    """Return how far back each data batch refers."""
    found = [Batch.from_bytes(message) for message in messages(folder)][1:]
    return [anchor_of(batch.codec, batch.payload) for batch in found]


async def test_only_a_receipted_keyframe_is_referred_to(tmp_path, outbox):
    recorder = Recorder(tmp_path, outbox, GATEWAY, PLANT, now_ms=START_MS)
    for slot, receipted in enumerate([1, 1, 2, 2, 3]):
        await cut(recorder, slot, receipted)
    outbox.close()
    # sequence 1 is the catalogue; 2 and 3 know no receipted keyframe
    assert backs(tmp_path) == [None, None, 2, 3, 3]
    assert Delivered(messages(tmp_path)).anchored_count == 3


async def test_a_keyframe_serves_16_batches_and_then_a_new_one_comes(tmp_path, outbox):
    recorder = Recorder(tmp_path, outbox, GATEWAY, PLANT, now_ms=START_MS)
    for slot in range(KEYFRAME_BACK_MAX + 3):
        await cut(recorder, slot, outbox.head)
    outbox.close()
    found = backs(tmp_path)
    assert found == [None, *range(1, KEYFRAME_BACK_MAX + 1), None, 1]


async def test_a_forced_codec_refers_to_nothing(tmp_path, outbox):
    recorder = Recorder(tmp_path, outbox, GATEWAY, PLANT, now_ms=START_MS)
    recorder.codec = 0
    for slot in range(3):
        await cut(recorder, slot, outbox.head)
    outbox.close()
    assert backs(tmp_path) == [None] * 3


async def test_a_keyframe_that_is_no_longer_kept_is_not_referred_to(tmp_path, outbox):
    recorder = Recorder(tmp_path, outbox, GATEWAY, PLANT, now_ms=START_MS)
    await cut(recorder, 0, outbox.head)
    assert outbox.keyframe(outbox.head) == 2
    assert outbox.keyframe(1) == 0
    assert outbox.keyframe_payload(1) is None  # the catalogue
    assert outbox.keyframe_payload(99) is None
