"""Forged, changed, replayed and stolen messages against a real inbox: none may change anything.

`python -m hil_tests.forgeries --count 100000 --seed 1` prints what was tried and what got in; exit
status 1 when anything did. What is true goes through the same inbox in between, so that a platform
that refuses everything fails too.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeagg import seal, topics
from edgeagg._core import SecretKey
from edgeagg.batch import Batch, BatchKind, Hello, NewKey
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg.seal import Signer
from hil_tests.deliveries import EPOCH, GATEWAY, OTHER_GATEWAY, catalogue_of, data_of

_ROUND = 64
_UNTOUCHED = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'quarantine%'"


def _signer(number: int) -> Signer:
    return Signer(SecretKey(bytes([number]) * 32))


OURS, RETIRED, REVOKED, TENANT, STRANGER = map(_signer, range(1, 6))


@dataclass
class Forger:
    """Makes messages that somebody without the gateway's key can make."""

    draw: random.Random
    true: Sequence[Batch]
    """What the gateway has sent."""
    kinds: Counter[str] = field(default_factory=Counter)

    def message(self) -> Message:
        """Return one of them, of a kind drawn at random."""
        make: Callable[[], Message] = self.draw.choice(
            (
                self.changed,
                self.cut,
                self.spliced,
                self.unsigned,
                self.stolen_name,
                self.other_topic,
                self.stale_key,
                self.other_key_named,
                self.next_key,
                self.hello,
                self.noise,
            )
        )
        self.kinds[make.__name__] += 1
        return make()

    def changed(self) -> Message:
        """Flip one to three bits of a true message."""
        data = bytearray(self._sealed())
        for _ in range(self.draw.randint(1, 3)):
            data[self.draw.randrange(len(data))] ^= 1 << self.draw.randrange(8)
        # the same bits twice would be the true message
        return self._batch(bytes(data) if bytes(data) != self._sealed() else b"")

    def cut(self) -> Message:
        """Cut a true message short, or put something behind it."""
        data = self._sealed()
        at = self.draw.randrange(len(data))
        return self._batch(data[:at] if self.draw.random() < 0.5 else data + data[at:])

    def spliced(self) -> Message:
        """Put the body of one true message under the seal of another."""
        first, second = self.draw.sample(self.true, 2)
        seal_bytes = 2 + 4 + 64
        return self._batch(first.to_bytes(OURS)[:-seal_bytes] + second.to_bytes(OURS)[-seal_bytes:])

    def unsigned(self) -> Message:
        """Make other content with a right checksum, which anybody can."""
        return self._batch(self._other().to_bytes())

    def stolen_name(self) -> Message:
        """Use another tenant's key, right by itself, under our gateway's name."""
        return self._batch(self._other().to_bytes(self.draw.choice((TENANT, STRANGER))))

    def other_topic(self) -> Message:
        """Replay a true message where another gateway delivers."""
        return Message(topics.batch(OTHER_GATEWAY), self._sealed())

    def stale_key(self) -> Message:
        """Use a key that was revoked, or one that another has followed, behind that moment."""
        return self._batch(self._behind().to_bytes(self.draw.choice((RETIRED, REVOKED))))

    def other_key_named(self) -> Message:
        """Let a stranger's signature name our key."""
        data = self._other().to_bytes(STRANGER)
        return self._batch(data[:-68] + seal.key_id(OURS.public) + data[-64:])

    def next_key(self) -> Message:
        """Wish to be our next key."""
        payload = NewKey.make(STRANGER, GATEWAY, OURS.public).to_bytes()
        batch = replace(self._behind(), kind=BatchKind.KEY, payload=payload, schema=bytes(16))
        signer = self.draw.choice((STRANGER, RETIRED, REVOKED, TENANT))
        return self._batch(batch.to_bytes(signer))

    def hello(self) -> Message:
        """Say hello as somebody else, for us or for a name that nobody has entered."""
        name = self.draw.choice((GATEWAY, OTHER_GATEWAY, "qp-nobody"))
        message = Hello(
            name, EPOCH, self.draw.randrange(99), EPOCH, public=STRANGER.public
        ).to_bytes(STRANGER)
        return Message(topics.hello(name), message)

    def noise(self) -> Message:
        """Put random bytes behind a right beginning, sometimes with a right checksum."""
        body = b"\x9b\x01" + bytes([self.draw.randrange(3)])
        body += self.draw.randbytes(self.draw.randrange(300))
        check = b"\xc4\x04" + zlib.crc32(body).to_bytes(4, "little")
        return self._batch(body + check if self.draw.random() < 0.5 else body)

    def _sealed(self) -> bytes:
        return self.true[0].to_bytes(OURS)

    def _other(self) -> Batch:
        """Say what the gateway has not: another sequence or epoch, or other bytes under one."""
        batch = self.draw.choice(self.true)
        return replace(
            batch,
            epoch=batch.epoch + self.draw.randint(0, 1),
            sequence=self.draw.randint(1, 2 * len(self.true)),
            cut_at_ms=batch.cut_at_ms + self.draw.randint(1, 9),
        )

    def _behind(self) -> Batch:
        """Say something behind the batch in which the retired key named the next one."""
        return replace(self._other(), sequence=len(self.true) + 1 + self.draw.randint(1, 99))

    def _batch(self, data: bytes) -> Message:
        return Message(topics.batch(GATEWAY), data)


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to."""

    tried: Counter[str]
    receipts: int
    """Answers to forged messages."""
    changed: bool
    """Whether a table other than the quarantine is not as it was."""
    true_taken: bool
    """Whether what the gateway did send got in, before and behind the forgeries."""

    @property
    def is_right(self) -> bool:
        """Nothing forged got in, everything true did."""
        return self.receipts == 0 and not self.changed and self.true_taken


async def run(folder: Path, count: int, seed: int, told: Callable[[int], None]) -> Result:
    """Try `count` forgeries; `told` hears how many were."""
    path = folder / "platform.db"
    store = await SqliteStore.open(str(path))
    inbox = Inbox(store)
    for signer in (OURS, REVOKED):
        await store.add_key(GATEWAY, signer.public, 1)
    await store.add_key(OTHER_GATEWAY, TENANT.public, 1)
    await store.revoke_key(GATEWAY, REVOKED.public, 2)
    await store.add_key(GATEWAY, RETIRED.public, 1)
    true = [catalogue_of().batch, *(data_of(sequence).batch for sequence in range(2, 12))]
    await _retire(inbox, len(true) + 1)
    forger = Forger(random.Random(seed), true)
    receipts = await inbox.take([_true(batch) for batch in true], EPOCH)
    taken = [receipt.through for receipt in receipts] == [len(true) + 1]
    before = _dump(path)
    answers = 0
    for done in range(0, count, _ROUND):
        messages = [forger.message() for _ in range(min(_ROUND, count - done))]
        answers += len(await inbox.take(messages, EPOCH + done))
        told(done + len(messages))
    changed = _dump(path) != before
    (receipt,) = await inbox.take([_true(batch) for batch in true], EPOCH)
    taken = taken and receipt.through == len(true) + 1 and inbox.counters.again == len(true)
    await store.close()
    return Result(forger.kinds, answers, changed, taken)


async def _retire(inbox: Inbox, sequence: int) -> None:
    """Let the retired key name ours as the next, in the batch behind the true ones."""
    payload = NewKey.make(OURS, GATEWAY, RETIRED.public).to_bytes()
    batch = Batch(GATEWAY, EPOCH, sequence, BatchKind.KEY, bytes(16), EPOCH, 0, payload)
    await inbox.take([Message(topics.batch(GATEWAY), batch.to_bytes(RETIRED))], EPOCH)


def _true(batch: Batch) -> Message:
    return Message(topics.batch(GATEWAY), batch.to_bytes(OURS))


def _dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return every table but the quarantine."""
    with sqlite3.connect(path) as database:
        names = [name for (name,) in database.execute(_UNTOUCHED)]
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in names}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m hil_tests.forgeries", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="forgeries (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the run (%(default)s)")
    options = parser.parse_args(arguments)

    def told(done: int) -> None:
        if done % (100 * _ROUND) == 0 or done == options.count:
            print(f"\r  {done} of {options.count}", end="", flush=True, file=sys.stderr)

    with tempfile.TemporaryDirectory() as folder:
        result = asyncio.run(run(Path(folder), options.count, options.seed, told))
    print(file=sys.stderr)
    for kind, count in sorted(result.tried.items()):
        print(f"  {kind:<16} {count:>8}")
    print(f"forged {sum(result.tried.values())}, answered {result.receipts},", end=" ")
    print(f"tables {'CHANGED' if result.changed else 'unchanged'},", end=" ")
    print(f"true batches {'taken' if result.true_taken else 'REFUSED'} (seed {options.seed})")
    return 0 if result.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
