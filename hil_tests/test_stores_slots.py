"""Where rows, gaps and losses meet each slot counts once, by the best word there is for it."""

from __future__ import annotations

import dataclasses
import os
import random

from edgeagg import content
from edgeagg.model import Group, Quality
from edgeagg.receiver.audit import SlotBalance
from edgeagg.receiver.store import Store
from hil_tests.deliveries import EPOCH, GATEWAY, INCOMER, OTHER_GATEWAY, PV, data_of

VAGUE = (Quality.STOPPED, Quality.CLOCK_UNTRUSTED)
SLOTS = 60
Run = tuple[int, int]


def runs(dice: random.Random, count: int) -> list[Run]:
    """Return runs of slots that overlap as they like, no two with the same beginning."""
    firsts = dice.sample(range(SLOTS), count)
    return [(first, min(SLOTS - 1, first + dice.randint(0, 12))) for first in firsts]


def held(group: Group, run: Run, reason: Quality) -> content.GapRow:
    first_ms, last_ms = (EPOCH + slot * group.period_ms for slot in run)
    return content.GapRow(group, first_ms, last_ms, run[1] - run[0] + 1, reason)


async def test_each_slot_counts_once_by_the_best_word_there_is_for_it(store: Store) -> None:
    seed = int(os.environ.get("EDGEAGG_SEED", random.randrange(1 << 32)))
    print(f"repeat with EDGEAGG_SEED={seed}")
    dice = random.Random(seed)
    wanted = []
    for group in (INCOMER, PV):
        # what the gateway read or missed for want of time is never told twice
        known = ["row" if dice.random() < 0.4 else "none" for _ in range(SLOTS)]
        for slot in dice.sample(range(SLOTS), 10):
            if known[slot] == "none":
                known[slot] = "missed"
        width = len(group.points)
        rows = [
            content.ReadingRow(group, at_ms, at_ms, (1,) * width, (0,) * width)
            for slot, word in enumerate(known)
            if word == "row"
            for at_ms in [EPOCH + slot * group.period_ms]
        ]
        missed = [
            held(group, (slot, slot), Quality.OVERRUN)
            for slot, word in enumerate(known)
            if word == "missed"
        ]
        free = [run for run in runs(dice, 9) if known[run[0]] != "missed"]
        vague = [held(group, run, dice.choice(VAGUE)) for run in free]
        lost = [held(group, run, Quality.NOT_KEPT) for run in runs(dice, 5)]
        told = content.Content(tuple(rows), (), (*missed, *vague), lost=tuple(lost))
        for gateway in (GATEWAY, OTHER_GATEWAY):
            delivery = data_of(2 + (group is PV), gateway=gateway)
            await store.commit([dataclasses.replace(delivery, content=told)])
        for word, found in (("vague", vague), ("lost", lost)):
            for gap in found:
                for at_ms in range(gap.first_due_ms, gap.last_due_ms + 1, group.period_ms):
                    slot = (at_ms - EPOCH) // group.period_ms
                    known[slot] = word if known[slot] == "none" else known[slot]
        covered = [slot for slot, word in enumerate(known) if word != "none"]
        span = known[covered[0] : covered[-1] + 1]
        missing = span.count("missed") + span.count("vague")
        wanted.append((span.count("row"), missing, span.count("lost"), span.count("none")))
    counts = await store.slots(GATEWAY)
    by_meter = {count.meter: count for count in counts}
    for group, (row_count, missing, lost_count, unexplained) in zip(
        (INCOMER, PV), wanted, strict=True
    ):
        count = by_meter[group.meter]
        assert (count.rows, count.gap_slots, count.lost_slots) == (row_count, missing, lost_count)
        assert SlotBalance(count).unexplained == unexplained


async def test_a_longer_gap_from_an_older_copy_hides_no_row_behind_a_shorter_one(
    store: Store,
) -> None:
    missed = held(INCOMER, (1, 1), Quality.OVERRUN)
    width = len(INCOMER.points)
    rows = [
        content.ReadingRow(INCOMER, at_ms, at_ms, (1,) * width, (0,) * width)
        for slot in (0, 2, 3, 4)
        for at_ms in [EPOCH + slot * INCOMER.period_ms]
    ]
    told = content.Content(tuple(rows), (), (missed,))
    again = content.Content((), (), (held(INCOMER, (1, 6), Quality.STOPPED),))
    for sequence, one in ((2, told), (3, again)):
        await store.commit([dataclasses.replace(data_of(sequence), content=one)])
    (count,) = await store.slots(GATEWAY)
    assert (count.rows, count.gap_slots) == (4, 3)
    assert SlotBalance(count).unexplained == 0
