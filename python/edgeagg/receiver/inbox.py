"""Decides what becomes of a message: checks it, decodes it, has it committed, answers.

No network here: messages and the time come in, receipts go out; only the store is waited for.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from edgeagg import content, topics
from edgeagg.batch import Batch, BatchKind, Hello, Origin, Receipt
from edgeagg.errors import FormatError
from edgeagg.model import Catalogue
from edgeagg.receiver.credit import Credit
from edgeagg.receiver.ledger import Alarm, AlarmKind
from edgeagg.receiver.store import Delivery, Outcome, Store

_CATALOGUES_MAX = 4096
_CUT_MAX_MS = 10_000
"""How long after its cut a batch may come to stand in the outbox, generously."""
_ALARMS = {
    Origin.BEHIND: (AlarmKind.ROLLBACK, "an older state directory was put back"),
    Origin.DIVERGED: (AlarmKind.FORK, "two gateways use copies of one state directory"),
}


@dataclass(frozen=True, slots=True)
class Message:
    """What came over MQTT."""

    topic: str
    data: bytes


@dataclass(slots=True)
class Counters:
    """What happened since the start."""

    new: int = 0
    again: int = 0
    conflicts: int = 0
    refused: int = 0
    waiting: int = 0


@dataclass(slots=True)
class Inbox:
    """The receiver without its wires."""

    store: Store
    counters: Counters = field(default_factory=Counters)
    credit: Credit = field(default_factory=Credit)
    _catalogues: dict[bytes, Catalogue] = field(default_factory=dict)

    async def take(self, messages: Sequence[Message], now_ms: int) -> list[Receipt]:
        """Commit what can be committed and return one receipt for every epoch that was heard of.

        A message that cannot be right is quarantined and gets no receipt; a batch whose catalogue
        has not come yet is left to be sent again.
        """
        heard: dict[tuple[str, int], None] = {}
        deliveries: list[Delivery] = []
        batches: list[tuple[Batch, Message]] = []
        for message in messages:
            try:
                parsed = _parse(message)
            except FormatError as error:
                await self._refuse(message, str(error), now_ms)
                continue
            heard[parsed.gateway, parsed.epoch] = None
            self.credit.hear(parsed.gateway, now_ms)
            if isinstance(parsed, Batch):
                batches.append((parsed, message))
            else:
                await self._greet(parsed, now_ms)
        # catalogues stand in front of the batches that need them, whatever the network did
        batches.sort(key=lambda item: (item[0].gateway, item[0].epoch, item[0].sequence))
        for batch, message in batches:
            try:
                delivery = await self._open(batch, message.data, now_ms)
            except FormatError as error:
                await self._refuse(message, str(error), now_ms)
                continue
            if delivery is None:
                self.counters.waiting += 1
            else:
                deliveries.append(delivery)
        await self._commit(deliveries, now_ms)
        return [await self._receipt(gateway, epoch, now_ms) for gateway, epoch in heard]

    async def announce(self, now_ms: int) -> AsyncIterator[Receipt]:
        """Yield a receipt for the newest epoch of every gateway: the receiver is here again."""
        newest = await self.store.ledger.newest()
        for gateway, _ in newest:
            self.credit.hear(gateway, now_ms)
        for gateway, epoch in newest:
            yield await self._receipt(gateway, epoch, now_ms)

    async def _greet(self, hello: Hello, now_ms: int) -> None:
        """Raise an alarm when a gateway's numbers are not what is committed here."""
        if hello.origin in _ALARMS:
            kind, detail = _ALARMS[hello.origin]
            text = f"{detail}: epoch {hello.epoch} follows {hello.former}"
            await self._alarm(hello.gateway, kind, hello.epoch, 0, text, now_ms)
        progress = await self.store.progress(hello.gateway, hello.epoch)
        # a hello may be overtaken by a batch that was cut after it was said
        if hello.head < progress.last and hello.at_ms > progress.cut_at_ms + _CUT_MAX_MS:
            text = f"the gateway has cut {hello.head}, {progress.last} is committed here"
            kind, sequence = AlarmKind.ROLLBACK, hello.head + 1
            await self._alarm(hello.gateway, kind, hello.epoch, sequence, text, now_ms)

    async def _alarm(
        self, gateway: str, kind: AlarmKind, epoch: int, sequence: int, text: str, now_ms: int
    ) -> None:
        alarm = Alarm(gateway, kind, epoch, sequence, now_ms, now_ms, 1, text)
        await self.store.ledger.raise_alarm(alarm)

    async def _commit(self, deliveries: Sequence[Delivery], now_ms: int) -> None:
        if not deliveries:
            return
        outcomes = await self.store.commit(deliveries)
        for delivery, outcome in zip(deliveries, outcomes, strict=True):
            if outcome is Outcome.NEW:
                self.counters.new += 1
            elif outcome is Outcome.AGAIN:
                self.counters.again += 1
            else:
                self.counters.conflicts += 1
                batch = delivery.batch
                text = f"epoch {batch.epoch} sequence {batch.sequence} came with other bytes before"
                topic = topics.batch(batch.gateway)
                await self.store.quarantine(now_ms, topic, text, batch.to_bytes())
                place = (batch.epoch, batch.sequence)
                await self._alarm(batch.gateway, AlarmKind.FORK, *place, text, now_ms)

    async def _open(self, batch: Batch, data: bytes, now_ms: int) -> Delivery | None:
        digest = hashlib.sha256(data).digest()
        catalogue, rows = None, None
        if batch.kind is BatchKind.CATALOGUE:
            catalogue = Catalogue.from_bytes(batch.payload)
            if catalogue.hash != batch.schema:
                raise FormatError("the catalogue does not match its hash")
            self._remember(catalogue)
        elif batch.kind is BatchKind.DATA:
            catalogue = await self._catalogue(batch.schema)
            if catalogue is None:
                return None
            rows = content.decode(batch.codec, batch.payload, catalogue)
        elif batch.kind is BatchKind.STATEMENT:
            catalogue = await self._catalogue(batch.schema)
            if catalogue is None:
                return None
            rows = content.decode_statement(batch.payload, catalogue)
        return Delivery(batch, digest, len(data), now_ms, catalogue, rows)

    async def _catalogue(self, schema: bytes) -> Catalogue | None:
        known = self._catalogues.get(schema)
        if known is None:
            known = await self.store.catalogue(schema)
            if known is not None:
                self._remember(known)
        return known

    def _remember(self, catalogue: Catalogue) -> None:
        if len(self._catalogues) >= _CATALOGUES_MAX:
            self._catalogues.clear()
        self._catalogues[catalogue.hash] = catalogue

    async def _receipt(self, gateway: str, epoch: int, now_ms: int) -> Receipt:
        progress = await self.store.progress(gateway, epoch)
        return Receipt(
            gateway,
            epoch,
            progress.through,
            progress.ranges,
            progress.want,
            now_ms,
            self.credit.grant(now_ms),
            progress.check,
        )

    async def _refuse(self, message: Message, reason: str, now_ms: int) -> None:
        self.counters.refused += 1
        await self.store.quarantine(now_ms, message.topic, reason, message.data)


def _parse(message: Message) -> Batch | Hello:
    gateway, leaf = topics.parse(message.topic)
    parsed: Batch | Hello
    if leaf == "batch":
        parsed = Batch.from_bytes(message.data)
    elif leaf == "hello":
        parsed = Hello.from_bytes(message.data)
    else:
        raise FormatError(f"nothing is expected on {message.topic}")
    if parsed.gateway != gateway:
        raise FormatError(f"a message of {parsed.gateway} on a topic of {gateway}")
    return parsed
