"""Decides what becomes of a message: checks it, decodes it, has it committed, answers.

No network here: messages and the time come in, receipts go out; only the store is waited for.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from edgeagg import content, topics
from edgeagg._core import Keyframe
from edgeagg.batch import CHECKS_MAX, Batch, BatchKind, Hello, Origin, Receipt
from edgeagg.errors import FormatError
from edgeagg.model import Catalogue
from edgeagg.receiver.ahead import marked
from edgeagg.receiver.credit import Credit
from edgeagg.receiver.keys import (
    DOMAINS,
    Admission,
    GatewayKey,
    UnknownKeyError,
    change,
    newcomer,
    sealer,
)
from edgeagg.receiver.ledger import Alarm, AlarmKind
from edgeagg.receiver.store import Delivery, Outcome, Refused, Store
from edgeagg.seal import key_id, key_text

_log = logging.getLogger(__name__)

_CATALOGUES_MAX = 4096
_KEYFRAMES_MAX = 32  # some hundred kilobytes each
_CUT_MAX_MS = 10_000
"""How long after its cut a batch may come to stand in the outbox, generously."""
_ALARMS = {
    Origin.BEHIND: (AlarmKind.ROLLBACK, "an older state directory was put back"),
    Origin.DIVERGED: (AlarmKind.FORK, "two gateways use copies of one state directory"),
}

_Identity = tuple[str, int, int]
_Heard = dict[tuple[str, int], list[int]]
"""Gateway and epoch of what came, with the sequences of the batches."""


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
    undecodable: int = 0


@dataclass(slots=True)
class Inbox:
    """The receiver without its wires."""

    store: Store
    admission: Admission = Admission.ENROLLED
    minds_the_clock: bool = False
    """Whether readings from the future are marked: only where `now_ms` is the host's time."""
    counters: Counters = field(default_factory=Counters)
    credit: Credit = field(default_factory=Credit)
    _catalogues: dict[bytes, Catalogue] = field(default_factory=dict)
    _keyframes: dict[_Identity, Keyframe] = field(default_factory=dict)
    _refused: list[Refused] = field(default_factory=list)

    async def take(self, messages: Sequence[Message], now_ms: int) -> list[Receipt]:
        """Commit what can be committed and return one receipt for every epoch that was heard of.

        A message that cannot be right is quarantined and gets no receipt; a batch whose catalogue
        or keyframe has not been committed yet is left to be sent again. What a group refuses is
        quarantined together, behind what it commits: a flood of forgeries must not cost a sync of
        the disk each.
        """
        self._refused.clear()  # of a group that could not be committed
        heard: _Heard = {}
        strangers = await self._take(messages, heard, now_ms, knows_all=False)
        # the batch that names their key may have come in the same group
        await self._take(strangers, heard, now_ms, knows_all=True)
        if self._refused:
            await self.store.quarantine(now_ms, self._refused)
            self._refused.clear()
        return [await self._receipt(*stream, now_ms, told) for stream, told in heard.items()]

    async def _take(
        self,
        messages: Sequence[Message],
        heard: _Heard,
        now_ms: int,
        *,
        knows_all: bool,
    ) -> list[Message]:
        """Commit what can be; return the messages whose key is unknown, unless it `knows_all`."""
        strangers: list[Message] = []
        known: dict[str, Sequence[GatewayKey]] = {}
        batches: list[tuple[Batch, GatewayKey | None, Message]] = []
        for message in messages:
            try:
                parsed, key = await self._check(message, known, now_ms)
            except UnknownKeyError as error:
                if knows_all:
                    self._refuse(message, str(error))
                strangers.append(message)
                continue
            except FormatError as error:
                self._refuse(message, str(error))
                continue
            told = heard.setdefault((parsed.gateway, parsed.epoch), [])
            self.credit.hear(parsed.gateway, now_ms)
            if isinstance(parsed, Batch):
                told.append(parsed.sequence)
                batches.append((parsed, key, message))
            else:
                await self._greet(parsed, now_ms)
        # catalogues stand in front of the batches that need them, whatever the network did
        batches.sort(key=lambda item: (item[0].gateway, item[0].epoch, item[0].sequence))
        deliveries: list[Delivery] = []
        for batch, key, message in batches:
            try:
                delivery = await self._open(batch, key, message.data, now_ms)
            except FormatError as error:
                self._refuse(message, str(error))
                continue
            if delivery is None:
                self.counters.waiting += 1
            else:
                deliveries.append(delivery)
        await self._commit(deliveries, now_ms)
        return strangers

    async def announce(self, now_ms: int) -> AsyncIterator[Receipt]:
        """Yield a receipt for the newest epoch of every gateway: the receiver is here again."""
        newest = await self.store.ledger.newest()
        for gateway, _ in newest:
            self.credit.hear(gateway, now_ms)
        for gateway, epoch in newest:
            yield await self._receipt(gateway, epoch, now_ms, ())

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
                self._refused.append(Refused(topics.batch(batch.gateway), text, delivery.data))
                place = (batch.epoch, batch.sequence)
                await self._alarm(batch.gateway, AlarmKind.FORK, *place, text, now_ms)

    async def _check(
        self, message: Message, known: dict[str, Sequence[GatewayKey]], now_ms: int
    ) -> tuple[Batch | Hello, GatewayKey | None]:
        """Return what a message says and the key that vouches for it: the signature comes first."""
        gateway, leaf = topics.parse(message.topic)
        if leaf not in DOMAINS:
            raise FormatError(f"nothing is expected on {message.topic}")
        keys = known.get(gateway)
        if keys is None:
            keys = known[gateway] = await self.store.keys(gateway)
        if not keys and leaf == "hello" and self.admission is Admission.FIRST_USE:
            await self._enrol(gateway, message.data, now_ms)
            keys = known[gateway] = await self.store.keys(gateway)
        key = sealer(message.data, leaf, keys, self.admission)
        parsed: Batch | Hello = (
            Batch.from_bytes(message.data) if leaf == "batch" else Hello.from_bytes(message.data)
        )
        if parsed.gateway != gateway:
            raise FormatError(f"a message of {parsed.gateway} on a topic of {gateway}")
        if key is not None and not key.vouches_for(parsed):
            raise FormatError(f"signed by a key that was {key.state}: {key_id(key.public).hex()}")
        return parsed, key

    async def _enrol(self, gateway: str, data: bytes, now_ms: int) -> None:
        public = newcomer(gateway, data)
        if await self.store.add_key(gateway, public, now_ms):
            _log.warning("%s is new and let in with its key %s", gateway, key_text(public))

    async def _open(
        self, batch: Batch, key: GatewayKey | None, data: bytes, now_ms: int
    ) -> Delivery | None:
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
            back = content.anchor_of(batch.codec, batch.payload)
            if back is not None:
                return await self._open_anchored(batch, data, back, catalogue, now_ms)
            rows = content.decode(batch.codec, batch.payload, catalogue)
            rows = self._dated(rows, now_ms)
        elif batch.kind is BatchKind.LOST and batch.payload:
            catalogue = await self._catalogue(batch.schema)
            if catalogue is None:
                return None
            rows = content.decode_lost(batch.codec, batch.payload, catalogue)
        elif batch.kind is BatchKind.STATEMENT:
            catalogue = await self._catalogue(batch.schema)
            if catalogue is None:
                return None
            rows = content.decode_statement(batch.payload, catalogue)
        following = change(batch, key)
        return Delivery(batch, data, digest, now_ms, catalogue, rows, following)

    def _dated(self, rows: content.Content, now_ms: int) -> content.Content:
        return marked(rows, now_ms) if self.minds_the_clock else rows

    async def _open_anchored(
        self, batch: Batch, data: bytes, back: int, catalogue: Catalogue, now_ms: int
    ) -> Delivery | None:
        """Open a batch that begins with what the one `back` sequences before it taught."""
        digest = hashlib.sha256(data).digest()
        wanted = batch.sequence - back
        identity = batch.gateway, batch.epoch, wanted
        keyframe = self._keyframes.get(identity)
        if keyframe is None:
            # asked first: what another receiver commits in between must not look like no keyframe
            progress = await self.store.progress(batch.gateway, batch.epoch)
            keyframe = await self._keyframe(identity)
        if keyframe is not None:
            rows = content.decode(batch.codec, batch.payload, catalogue, keyframe)
            rows = self._dated(rows, now_ms)
            return Delivery(batch, data, digest, now_ms, catalogue, rows)
        if progress.has(batch.sequence):
            # its rows are here, and its digest is all that is still asked for
            return Delivery(batch, data, digest, now_ms, None, None)
        if wanted > 0 and not progress.has(wanted):
            return None
        # the keyframe will never come: without an end its sequence would hold up all behind it
        self.counters.undecodable += 1
        reason = (
            f"epoch {batch.epoch} sequence {batch.sequence} needs {wanted}, which is no keyframe"
        )
        self._refused.append(Refused(topics.batch(batch.gateway), reason, data))
        # it was cut when it says so: a hello from before must not look like a rollback
        lost = replace(batch, kind=BatchKind.LOST, schema=bytes(16), codec=0, payload=b"")
        return Delivery(lost, data, digest, now_ms, None, None)

    async def _keyframe(self, identity: _Identity) -> Keyframe | None:
        payload = await self.store.keyframe(*identity)
        if payload is None:
            return None
        if len(self._keyframes) >= _KEYFRAMES_MAX:
            self._keyframes.clear()
        known = self._keyframes[identity] = Keyframe(payload)
        return known

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

    async def _receipt(self, gateway: str, epoch: int, now_ms: int, told: Sequence[int]) -> Receipt:
        """Make a receipt that tells how the messages hash which it answers, or else the last."""
        progress = await self.store.progress(gateway, epoch)
        last = progress.last
        sequences = told[:CHECKS_MAX] or range(max(1, last + 1 - CHECKS_MAX), last + 1)
        return Receipt(
            gateway,
            epoch,
            progress.through,
            progress.ranges,
            progress.want,
            now_ms,
            self.credit.grant(now_ms),
            progress.check,
            tuple(await self.store.checks(gateway, epoch, sequences)),
        )

    def _refuse(self, message: Message, reason: str) -> None:
        self.counters.refused += 1
        self._refused.append(Refused(message.topic, reason, message.data))
