"""The process whose power is cut: a gateway and two platforms, as busy as they can be.

It writes until it dies. Before each step it says which, so that a cut can be aimed at it; behind
each it says what that step acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from edgeagg import topics
from edgeagg.model import Quality
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg_agent.clock import SystemClock
from edgeagg_agent.cursor import Cursor
from edgeagg_agent.historian import LOOK_S, Historian
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder
from hil_tests.powercut import plant

_WINDOW = 16
_COMMITS_PER_CUT = 3
_SLOTS_MAX = 12
_CROWD_MAX = 400
_STEPS_MAX = 20
_TICK_NS = 30_000_000  # a step of the historian is over after some looks at the clock
_RUN_S = 120.0  # whoever is to cut it may be gone

Tell = Callable[[str], None]


class Destination:
    """One platform, and the gateway's cursor for it."""

    def __init__(self, name: str, outbox: Outbox, store: SqliteStore, tell: Tell) -> None:
        self.name = name
        self._tell = tell
        self.inbox = Inbox(store, Admission.ANYBODY)
        self.cursor: Cursor = outbox.cursor(name)
        self._outbox = outbox

    async def deliver(self, rng: Random | None, now_ms: int) -> None:
        """Send a window of what it lacks, in any order and with losses if `rng` says so."""
        first = self.cursor.through + 1
        window = list(range(first, min(self._outbox.head + 1, first + _WINDOW)))
        if rng is not None:
            window = [sequence for sequence in window if rng.random() > 0.1]
            rng.shuffle(window)
        topic = topics.batch(plant.GATEWAY)
        messages = [Message(topic, self._outbox.read(s, plant.GATEWAY)) for s in window]
        self._tell("phase receive")
        for receipt in await self.inbox.take(messages, now_ms):
            self._tell(f"receipt {self.name} {receipt.epoch} {receipt.through}")
            self._tell("phase cursor")
            self.cursor.advance(receipt.through)


class Gateway:
    """The agent's parts, put together as the app does."""

    def __init__(self, directory: Path, slot: int, tell: Tell) -> None:
        now_ms = plant.due_ms(slot) - 1  # the slot is still to be read
        with plant.small_segments():
            self.outbox = Outbox(directory, now_ms=now_ms, bytes_max=plant.BYTES_MAX)
            self.recorder = Recorder(
                directory,
                self.outbox,
                plant.GATEWAY,
                plant.CATALOGUE,
                now_ms=now_ms,
                knows_time=True,
            )
        self.slot = slot
        self._tell = tell
        self._passed_ns = 0
        clock = SystemClock(lambda: plant.due_ms(self.slot) * 1_000_000, self._tick)
        self.historian = Historian(
            directory,
            self.outbox,
            clock,
            local_time=None,
            resend_ms=plant.RESEND_MS,
            history_ms=plant.EVER_MS,
        )
        # what is kept was told of before, but for what the last process could no longer tell
        self._told = max(0, self.outbox.head - _WINDOW)
        for group in range(len(plant.CATALOGUE.groups)):
            self._declare(group)

    def _tick(self) -> int:
        self._passed_ns += _TICK_NS
        return self._passed_ns

    def keep_history(self, steps: int) -> None:
        """Write some of the days that are over, and let go of the batches that are in them."""
        self._passed_ns += int(LOOK_S * 1e9)
        for _ in range(steps):
            self._tell("phase history")
            self.historian.step()
        self._tell("phase free")
        self.historian.free()

    def close(self) -> None:
        """Let go of the state directory."""
        self.historian.close()
        self.outbox.close()

    def _declare(self, group: int) -> None:
        last_ms = self.recorder.last_due_ms(group)
        if last_ms is None or plant.slot_of(last_ms) + 1 >= self.slot:
            return
        self.recorder.gap(
            group,
            first_due_ms=last_ms + plant.PERIOD_MS,
            last_due_ms=plant.due_ms(self.slot - 1),
            slots=self.slot - 1 - plant.slot_of(last_ms),
            reason=Quality.STOPPED,
        )

    def read(self, count: int) -> None:
        """Record some slots of every group."""
        for slot in range(self.slot, self.slot + count):
            for group in range(len(plant.CATALOGUE.groups)):
                values = plant.values(group, slot)
                due_ms = plant.due_ms(slot)
                self.recorder.row(
                    group,
                    due_ms=due_ms,
                    at_ms=due_ms + 100,
                    values=values,
                    qualities=plant.qualities(values),
                )
        self.slot += count

    async def cut(self, receipted: int) -> None:
        """Make batches of what is pending; every destination has those up to `receipted`."""
        await self.recorder.cut(plant.due_ms(self.slot), receipted=receipted)
        self._tell_batches()

    def _tell_batches(self) -> None:
        for sequence in range(self._told + 1, self.outbox.head + 1):
            digest = hashlib.sha256(self.outbox.read(sequence, plant.GATEWAY)).hexdigest()
            self._tell(f"batch {self.outbox.epoch} {sequence} {digest}")
        self._told = self.outbox.head


def tell(line: str) -> None:
    """Say a line at once; it must not wait in this process's memory."""
    os.write(1, f"{line}\n".encode())


async def run(gateway_folder: Path, platform_folder: Path, slot: int, seed: int) -> None:
    """Open what is there and write on from `slot`, until the power is gone."""
    rng = Random(seed)
    tell(f"begin {slot}")
    tell("phase open")
    gateway = Gateway(gateway_folder, slot, tell)
    destinations = []
    for name in plant.DESTINATIONS:
        tell("phase store")
        store = await SqliteStore.open(str(platform_folder / f"{name}.db"))
        destinations.append(Destination(name, gateway.outbox, store, tell))
    end_s = time.monotonic() + _RUN_S
    while time.monotonic() < end_s:
        await write(gateway, destinations, rng, tell)


async def write(
    gateway: Gateway, destinations: Sequence[Destination], rng: Random, tell: Tell
) -> None:
    """Read and commit now and then, cut, deliver, and free what is more than is to be kept."""
    for _ in range(rng.randint(1, _COMMITS_PER_CUT)):
        first = gateway.slot
        # now and then more than one page of the disk, so that a cut can leave a part of it
        count = rng.randint(1, _SLOTS_MAX if rng.random() < 0.7 else _CROWD_MAX)
        tell(f"begin {first + count}")
        gateway.read(count)
        tell("phase commit")
        await gateway.recorder.commit()
        tell(f"rows {first} {gateway.slot}")
    tell("phase cut")
    await gateway.cut(min(destination.cursor.through for destination in destinations))
    for destination in destinations:
        # each is away now and then, so that their cursors differ
        if rng.random() < 0.75:
            await destination.deliver(rng, plant.due_ms(gateway.slot))
    tell("phase trim")
    gateway.outbox.trim()
    gateway.keep_history(rng.randint(0, _STEPS_MAX))


def main() -> None:
    """Run until the power is gone."""
    parser = argparse.ArgumentParser()
    parser.add_argument("gateway", type=Path)
    parser.add_argument("platform", type=Path)
    parser.add_argument("--slot", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(run(arguments.gateway, arguments.platform, arguments.slot, arguments.seed))


if __name__ == "__main__":
    main()
