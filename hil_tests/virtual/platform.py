"""A platform that can be killed: the receiver's inbox and SQLite store behind a queue.

Owns what `edgeagg.receiver.mqtt` does around them. What waits in the queue of a killed platform is
gone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.reconcile import MeterDay, meter_days, reconcile
from edgeagg.receiver.sqlite import SqliteStore
from hil_tests.virtual.site import GATEWAY

_GROUP_MAX = 64


class Platform:
    """One life of the receiver."""

    def __init__(self, store: SqliteStore, now_ms: Callable[[], int]) -> None:
        self.inbox = Inbox(store, Admission.ANYBODY)
        self._store, self._now_ms = store, now_ms
        self._waiting: asyncio.Queue[Message] = asyncio.Queue()

    def arrive(self, message: Message) -> None:
        """Let a message wait for the next commit."""
        self._waiting.put_nowait(message)

    async def close(self) -> None:
        """Let go of the database."""
        await self._store.close()

    async def reconcile(self) -> list[MeterDay]:
        """Compare what was stated with what is in the database."""
        compared = await reconcile(
            self._store, GATEWAY, from_ms=0, to_ms=2**45, now_ms=self._now_ms()
        )
        return meter_days(compared)

    async def run(self, answer: Callable[[bytes], None]) -> None:
        """Commit everything that waits in one transaction, then answer; until cancelled."""
        async for receipt in self.inbox.announce(self._now_ms()):
            answer(receipt.to_bytes())
        while True:
            group = [await self._waiting.get()]
            with contextlib.suppress(asyncio.QueueEmpty):
                while len(group) < _GROUP_MAX:
                    group.append(self._waiting.get_nowait())
            for receipt in await self.inbox.take(group, self._now_ms()):
                answer(receipt.to_bytes())
