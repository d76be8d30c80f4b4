"""One damaged place in a state directory: it starts by itself and loses one record at most.

What is lost is declared: a batch under its sequence, a slot by a gap or, at the very end of the
journal, by the next start of polling, which goes on behind the last slot that is known.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from edgeagg import content
from edgeagg.batch import Batch, BatchKind
from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo
from edgeagg_agent import outbox as outbox_module
from edgeagg_agent import recorder as recorder_module
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder

GATEWAY = "qp-corrupt"
START_MS = 1_790_000_000_000
PERIOD_MS = 1_000
POINTS = (
    PointInfo("voltage_l1", "V", -1, Kind.GAUGE),
    PointInfo("active_energy_import", "kWh", -2, Kind.TOTALISER),
)
PLANT = Catalogue(
    "plant",
    tuple(MeterInfo(name, "bench", 1, "", "") for name in ("incomer", "pv")),
    tuple(Group(name, PERIOD_MS, POINTS) for name in ("incomer", "pv")),
    (5_000, 10_000),
)
SECONDS, CUT_EVERY_S = 200, 7
RECOVERY_MAX_S = 10.0

Slot = tuple[str, int]
Values = tuple[int | None, ...]


@dataclass(frozen=True)
class Known:
    """What a state directory holds: the messages by sequence, and the values of every slot."""

    messages: list[bytes]
    slots: dict[Slot, Values]


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Known]]:
    """Return the state directory of a gateway that was killed, and what is in it."""
    for module in (outbox_module, recorder_module):
        monkeypatch.setattr(module, "_SEGMENT_BYTES", 4096)
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        folder = Path(name) / "whole"
        slots = asyncio.run(_record(folder))
        outbox = Outbox(folder, now_ms=START_MS, bytes_max=1 << 30)
        messages = [outbox.read(s, GATEWAY) for s in range(1, outbox.head + 1)]
        outbox.close()
        yield folder, Known(messages, slots)


async def _record(folder: Path) -> dict[Slot, Values]:
    slots: dict[Slot, Values] = {}
    outbox = Outbox(folder, now_ms=START_MS, bytes_max=1 << 30)
    outbox.cursor("platform").advance(3)
    recorder = Recorder(folder, outbox, GATEWAY, PLANT, now_ms=START_MS - 1)
    for second in range(SECONDS):
        due_ms = START_MS + second * PERIOD_MS
        for number, group in enumerate(PLANT.groups):
            values = [2_300 + second * 7 % 13, 100 * second + number]
            recorder.row(number, due_ms=due_ms, at_ms=due_ms + 9, values=values, qualities=bytes(2))
            slots[group.meter, due_ms] = tuple(values)
        await recorder.commit()
        if second % CUT_EVERY_S == CUT_EVERY_S - 1:
            await recorder.cut(due_ms + 500)
    outbox.close()
    return slots


def damage(folder: Path, rng: random.Random) -> str:
    """Flip a bit, or tear the end of what is written, in one file; return what was done."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.stat().st_size)
    file = rng.choice(files)
    data = bytearray(file.read_bytes())
    used = max((place for place, byte in enumerate(data) if byte), default=0) + 1
    if file.suffix == ".journal" and rng.random() < 0.3:
        torn = rng.randrange(1, 30)  # less than any record: the others are safe, by their commits
        data[used - torn : used] = bytes(torn)
        done = f"tore {torn} bytes of"
    else:
        at, bit = rng.randrange(used), rng.randrange(8)
        data[at] ^= 1 << bit
        done = f"flipped bit {bit} of byte {at} of"
    file.write_bytes(data)
    return f"{done} {file.relative_to(folder)}"


def judge(folder: Path, known: Known) -> tuple[int, int]:
    """Open, cut and compare; return how many batches and slots were lost."""
    start_s = time.monotonic()
    outbox = Outbox(folder, now_ms=START_MS, bytes_max=1 << 30)
    recorder = Recorder(folder, outbox, GATEWAY, PLANT, now_ms=START_MS + 900_000)
    assert time.monotonic() - start_s < RECOVERY_MAX_S
    asyncio.run(recorder.cut(START_MS + 900_000))
    messages = [outbox.read(s, GATEWAY) for s in range(1, outbox.head + 1)]
    outbox.close()
    lost = [
        old
        for old, new in zip(known.messages, messages, strict=False)
        if old != new and Batch.from_bytes(new).kind is BatchKind.LOST
    ]
    changed = sum(a != b for a, b in zip(known.messages, messages, strict=False))
    assert len(messages) >= len(known.messages), "sequences were used again"
    assert changed == len(lost) <= 1, f"{changed} batches changed, {len(lost)} are declared lost"
    for old in map(Batch.from_bytes, lost):
        behind = map(Batch.from_bytes, messages[old.sequence :])
        if any(batch.kind is BatchKind.DATA for batch in behind):
            assert set(_slots([old.to_bytes()])[0]) <= _told(messages[old.sequence - 1])
    kept, declared = _slots(messages)
    assert all(known.slots[slot] == values for slot, values in kept.items()), "a wrong value"
    in_lost, _ = _slots(lost)
    missing = known.slots.keys() - kept.keys() - in_lost.keys() - declared
    last_ms = {meter: max(due for m, due in kept if m == meter) for meter, _ in known.slots}
    assert all(due_ms > last_ms[meter] for meter, due_ms in missing), "a slot undeclared"
    gone = declared - in_lost.keys()
    assert len(missing) + len(gone) <= 1, f"{missing | gone} lost by one place"
    return len(lost), len(missing | gone)


def _told(word: bytes) -> set[Slot]:
    """Return the slots that the word of a lost batch tells of."""
    batch = Batch.from_bytes(word)
    return {
        (gap.group.meter, due_ms)
        for gap in content.decode_lost(batch.codec, batch.payload, PLANT).lost
        for due_ms in range(gap.first_due_ms, gap.last_due_ms + 1, PERIOD_MS)
    }


def _slots(messages: list[bytes]) -> tuple[dict[Slot, Values], set[Slot]]:
    """Return the values by slot, and the slots that lie in gaps."""
    values: dict[Slot, Values] = {}
    declared: set[Slot] = set()
    for message in messages:
        batch = Batch.from_bytes(message)
        if batch.kind is not BatchKind.DATA:
            continue
        found = content.decode(batch.codec, batch.payload, PLANT)
        values |= {(row.group.meter, row.due_ms): row.mantissas for row in found.readings}
        for gap in found.gaps:
            dues = range(gap.first_due_ms, gap.last_due_ms + 1, PERIOD_MS)
            declared |= {(gap.group.meter, due_ms) for due_ms in dues}
    return values, declared


def corrupt(whole: tuple[Path, Known], times: int) -> None:
    """Damage a copy `times` times, each at another place."""
    folder, known = whole
    seed = int(os.environ.get("EDGEAGG_SEED", random.randrange(1 << 32)))
    print(f"repeat with EDGEAGG_SEED={seed}")
    rng, batches, slots = random.Random(seed), 0, 0
    copy = folder.with_name("copy")
    for _ in range(times):
        shutil.copytree(folder, copy)
        print(damage(copy, rng))  # pytest shows it when the next line fails
        lost = judge(copy, known)
        batches, slots = batches + lost[0], slots + lost[1]
        shutil.rmtree(copy)
    print(f"{times} places damaged: {batches} batches and {slots} slots lost, all declared")
    assert batches > times // 50
    assert slots > 0


def test_one_damaged_place_costs_one_record_at_most(whole: tuple[Path, Known]) -> None:
    corrupt(whole, 300)


@pytest.mark.long
def test_ten_thousand_damaged_places_cost_one_record_each_at_most(
    whole: tuple[Path, Known],
) -> None:
    corrupt(whole, 10_000)
