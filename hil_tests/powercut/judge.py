"""Opens what a power cut left, by the real code, and holds it against what was told.

`after_cut` looks at one state; `at_end` lets the gateway deliver everything it still has and then
asks the platforms' tables and the gateway's own history for every slot that was acknowledged.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeagg._core import Journal
from edgeagg.batch import BatchKind
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg_agent import days
from edgeagg_agent.history import Asked, History
from hil_tests.powercut import plant
from hil_tests.powercut.told import LieError, Told
from hil_tests.powercut.writer import Destination, Gateway
from hil_tests.stored import Group, Stored, ask_sqlite, load

_RECOVERY_MAX_S = 10.0


@dataclass(slots=True)
class Repairs:
    """What opening found, and how long it took."""

    torn_bytes: int = 0
    torn_tails: int = 0
    rotations: int = 0
    recovery_s: float = 0.0


def after_cut(gateway_folder: Path, platform_folder: Path, told: Told) -> Repairs:
    """Judge the state behind a cut; raise LieError when something acknowledged is not there."""
    repairs = _repair(gateway_folder)
    with _opened(gateway_folder, platform_folder, told, repairs):
        pass
    return repairs


@dataclass(frozen=True, slots=True)
class Ended:
    """What was compared at the end of a life: acknowledged rows; the day files that held some."""

    rows: int
    day_files: int


def at_end(gateway_folder: Path, platform_folder: Path, told: Told) -> Ended:
    """Deliver everything and judge it all."""
    with _opened(gateway_folder, platform_folder, told, Repairs()) as (gateway, stores):
        asyncio.run(_deliver_all(gateway, stores))
        head, epoch = gateway.outbox.head, gateway.outbox.epoch
        for name in plant.DESTINATIONS:
            file = platform_folder / f"{name}.db"
            _judge_store(load(f"sqlite:///{file}"), told, epoch, head, _first_slot(file))
        meters = [group.meter for group in plant.CATALOGUE.groups]
        every = {(meter, slot) for slot in told.slots for meter in meters}
        _judge_history(gateway_folder, every)
    rows = len(told.slots) * len(plant.CATALOGUE.groups)
    return Ended(rows, len(days.listed(gateway_folder)))


def _repair(gateway_folder: Path) -> Repairs:
    """Open the journals one by one, which repairs them, and count what that takes."""
    repairs = Repairs()
    for folder in sorted((*gateway_folder.glob("batches-*"), *gateway_folder.glob("readings-*"))):
        repairs.rotations += (folder / "new").exists()
        begun_s = time.perf_counter()
        torn_bytes, _ = Journal(folder, plant.SEGMENT_BYTES).repairs
        repairs.recovery_s += time.perf_counter() - begun_s
        repairs.torn_bytes += torn_bytes
        repairs.torn_tails += torn_bytes > 0
    return repairs


@contextmanager
def _opened(
    gateway_folder: Path, platform_folder: Path, told: Told, repairs: Repairs
) -> Iterator[tuple[Gateway, dict[str, SqliteStore]]]:
    """Have both ends open, checked against what was told."""
    begun_s = time.perf_counter()
    gateway = Gateway(gateway_folder, told.end, _silent)
    stores = {name: _store(platform_folder, name) for name in plant.DESTINATIONS}
    repairs.recovery_s += time.perf_counter() - begun_s
    try:
        if repairs.recovery_s > _RECOVERY_MAX_S:
            raise LieError(f"the recovery took {repairs.recovery_s:.1f} s")
        stored = [load(f"sqlite:///{platform_folder}/{name}.db") for name in plant.DESTINATIONS]
        digests = {
            name: held.digests for name, held in zip(plant.DESTINATIONS, stored, strict=True)
        }
        _judge_batches(gateway, digests, told)
        _judge_receipts(digests, told)
        _judge_delivered(gateway_folder, stored)
        yield gateway, stores
    finally:
        for store in stores.values():
            asyncio.run(store.close())
        gateway.close()
        del gateway
        gc.collect()  # the journals' files must be closed before their disk can be taken away


def _silent(line: str) -> None:
    """Tell nobody: what the judge acknowledges is judged at once."""


def _store(platform_folder: Path, name: str) -> SqliteStore:
    return asyncio.run(SqliteStore.open(str(platform_folder / f"{name}.db")))


def _judge_batches(
    gateway: Gateway, digests: dict[str, dict[tuple[int, int], bytes]], told: Told
) -> None:
    """Every batch told of is in the outbox, or was freed because both platforms have it."""
    for (epoch, sequence), digest in told.batches.items():
        if epoch != gateway.outbox.epoch:
            raise LieError(f"epoch {epoch} is gone, {gateway.outbox.epoch} has begun")
        if sequence <= gateway.outbox.head:
            found = gateway.outbox.read(sequence, plant.GATEWAY)
            if hashlib.sha256(found).hexdigest() == digest:
                continue
        for name, known in digests.items():
            at_platform = known.get((epoch, sequence), b"").hex()
            if at_platform != digest:
                raise LieError(f"batch {sequence} is neither in the outbox nor at {name}")
    for name, known in digests.items():
        for (epoch, sequence), digest_there in known.items():
            if told.batches.get((epoch, sequence), digest_there.hex()) != digest_there.hex():
                raise LieError(f"{name} has other bytes of batch {sequence}")


def _judge_receipts(digests: dict[str, dict[tuple[int, int], bytes]], told: Told) -> None:
    """Everything up to a receipt's `through` is in the platform's tables."""
    for (name, epoch), through in told.receipts.items():
        for sequence in range(1, through + 1):
            if (epoch, sequence) not in digests[name]:
                raise LieError(f"{name} receipted {through} and does not have {sequence}")


async def _deliver_all(gateway: Gateway, stores: dict[str, SqliteStore]) -> None:
    """Cut what is pending and send until both platforms have it all, without losses."""
    await gateway.cut(0)
    for name, store in stores.items():
        destination = Destination(name, gateway.outbox, store, _silent)
        while destination.cursor.through < gateway.outbox.head:
            before = destination.cursor.through
            await destination.deliver(None, plant.due_ms(gateway.slot))
            if destination.cursor.through == before:
                raise LieError(f"{name} does not take the batches behind {before}")
        if destination.inbox.counters.conflicts:
            raise LieError(f"{name} got other bytes under a known number")


def _first_slot(database: Path) -> int:
    """Return the first slot behind the first announcement: every one from there on counts."""
    statement = "SELECT kind, cut_at_ms FROM batches ORDER BY epoch, sequence LIMIT 1"
    ((kind, announced_ms),) = ask_sqlite(database, statement)
    if kind != BatchKind.CATALOGUE:
        raise LieError("the first batch announces no catalogue")
    return plant.slot_of(announced_ms) + 1


def _judge_store(stored: Stored, told: Told, epoch: int, head: int, first: int) -> None:
    if {sequence for at, sequence in stored.digests if at == epoch} != set(range(1, head + 1)):
        raise LieError("the platform's sequences have gaps")
    if stored.conflicts:
        raise LieError(f"{stored.conflicts} batches came with other bytes before")
    by_meter = {group.meter: group for group in stored.groups}
    for number, group in enumerate(plant.CATALOGUE.groups):
        if group.meter not in by_meter and not told.slots:
            continue
        _judge_group(stored, by_meter[group.meter], number, told, first)


def _judge_group(stored: Stored, group: Group, number: int, told: Told, first: int) -> None:
    """Every slot acknowledged has its values; every other one has them or is in a declared gap."""
    rows = stored.readings.get(group, ())
    read = {plant.slot_of(row.due_ms): row.mantissas for row in rows}
    declared: set[int] = set()
    for gap in stored.gaps.get(group, ()):
        slots = range(plant.slot_of(gap.first_due_ms), plant.slot_of(gap.last_due_ms) + 1)
        if gap.slot_count != len(slots) or not declared.isdisjoint(slots):
            raise LieError(f"{group.meter}: a gap declares {gap.slot_count} slots wrongly")
        declared.update(slots)
    lost = told.slots - read.keys()
    if lost:
        raise LieError(f"{group.meter}: {len(lost)} acknowledged slots lost, from {min(lost)} on")
    if not declared.isdisjoint(read):
        raise LieError(f"{group.meter}: slots are read and declared missing")
    silent = set(range(first, told.end)) - read.keys() - declared
    if silent:
        raise LieError(f"{group.meter}: {len(silent)} slots lost and not declared")
    for slot, mantissas in read.items():
        if mantissas != plant.values(number, slot):
            raise LieError(f"{group.meter}: slot {slot} has other values than were read")


def _judge_delivered(gateway_folder: Path, stored: Sequence[Stored]) -> None:
    """Look for what platforms have: it was in a batch, so it is in the gateway's history."""
    every = {
        (group.meter, plant.slot_of(row.due_ms))
        for held in stored
        for group, rows in held.readings.items()
        for row in rows
    }
    _judge_history(gateway_folder, every)


def _judge_history(gateway_folder: Path, slots: AbstractSet[tuple[str, int]]) -> None:
    """Every one of these slots of a meter is found once, with its values."""
    history = History(gateway_folder)
    found: dict[tuple[str, int], tuple[int | None, ...]] = {}
    for part in history.read(Asked(since_ms=0, until_ms=plant.EVER_MS)):
        for row in part.content.readings:
            place = row.group.meter, plant.slot_of(row.due_ms)
            if place in found:
                raise LieError(f"history has slot {place[1]} of {place[0]} twice")
            found[place] = row.mantissas
    if history.unreadable:
        raise LieError(f"{history.unreadable} pieces of history cannot be read")
    numbers = {group.meter: number for number, group in enumerate(plant.CATALOGUE.groups)}
    for meter, slot in sorted(slots):
        known = found.get((meter, slot))
        if known != plant.values(numbers[meter], slot):
            raise LieError(f"history: slot {slot} of {meter} is {known}")
