"""Whom the inbox lets in: enrolment, first use, keys that follow and keys that are revoked."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edgeagg import topics
from edgeagg._core import SecretKey
from edgeagg.batch import Batch, BatchKind, Hello, NewKey, Origin, check_of
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.keys import Admission, State
from edgeagg.receiver.ledger import AlarmKind
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg.seal import Signer

GATEWAY, OTHER = "qp-0001", "qp-0002"
EPOCH = 7
OURS, NEXT, THEIRS = (Signer(SecretKey(bytes([n]) * 32)) for n in (1, 2, 3))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "platform.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(str(path))
    yield opened
    await opened.close()


def lost(sequence: int, gateway: str = GATEWAY, epoch: int = EPOCH) -> Batch:
    return Batch(gateway, epoch, sequence, BatchKind.LOST, bytes(16), 0, 0, b"")


def key_batch(sequence: int, following: Signer = NEXT, former: Signer = OURS) -> Batch:
    payload = NewKey.make(following, GATEWAY, former.public).to_bytes()
    return Batch(GATEWAY, EPOCH, sequence, BatchKind.KEY, bytes(16), 0, 0, payload)


def message(batch: Batch, signer: Signer | None = OURS) -> Message:
    return Message(topics.batch(batch.gateway), batch.to_bytes(signer))


def hello(signer: Signer = OURS, *, shown: Signer | None = None, gateway: str = GATEWAY) -> Message:
    public = (shown or signer).public
    return Message(
        topics.hello(gateway), Hello(gateway, EPOCH, 1, EPOCH, public=public).to_bytes(signer)
    )


def reasons(path: Path) -> list[str]:
    with sqlite3.connect(path) as database:
        return [row[0] for row in database.execute("SELECT reason FROM quarantine ORDER BY rowid")]


async def states(store: SqliteStore, gateway: str = GATEWAY) -> dict[bytes, State]:
    return {key.public: key.state for key in await store.keys(gateway)}


async def test_an_enrolled_gateway_gets_its_receipt(store: SqliteStore) -> None:
    await store.add_key(GATEWAY, OURS.public, 1)
    (receipt,) = await Inbox(store).take([message(lost(1))], 5)
    assert receipt.through == 1


async def test_nobody_else_gets_in(store: SqliteStore, path: Path) -> None:
    await store.add_key(GATEWAY, OURS.public, 1)
    await store.add_key(OTHER, THEIRS.public, 1)
    inbox = Inbox(store)
    forged = [
        message(lost(1), THEIRS),  # another tenant's key under our name
        message(lost(1), None),  # a checksum only
        Message(topics.batch(OTHER), lost(1).to_bytes(OURS)),  # ours on another's topic
        Message(topics.hello(GATEWAY), lost(1).to_bytes(OURS)),  # a batch where a hello belongs
        hello(THEIRS),
        message(lost(1, "qp-0003")),  # somebody whom nobody has entered
    ]
    assert await inbox.take(forged, 5) == []
    assert inbox.counters.refused == len(forged)
    assert await store.streams() == []
    assert len(reasons(path)) == len(forged)


async def test_a_receipt_tells_of_the_bytes_as_they_were_signed(store: SqliteStore) -> None:
    await store.add_key(GATEWAY, OURS.public, 1)
    signed = message(lost(1))
    (receipt,) = await Inbox(store).take([signed], 5)
    assert receipt.check == check_of(signed.data) != check_of(lost(1).to_bytes())


async def test_what_nobody_has_signed_raises_no_alarm_and_takes_no_credit(
    store: SqliteStore,
) -> None:
    await store.add_key(GATEWAY, OURS.public, 1)
    inbox = Inbox(store)
    await inbox.take([message(lost(1))], 5)
    copied = Hello(GATEWAY, EPOCH + 1, 0, 9, Origin.DIVERGED, EPOCH, THEIRS.public)
    strange = [
        message(dataclasses.replace(lost(1), kind=BatchKind.STATEMENT, payload=b"other"), THEIRS),
        Message(topics.hello(GATEWAY), copied.to_bytes(THEIRS)),
        *(hello(THEIRS, gateway=f"qp-1{number}") for number in range(9)),
    ]
    credit = inbox.credit.grant(5)
    assert await inbox.take(strange, 6) == []
    assert await store.ledger.alarms() == []
    assert inbox.credit.grant(6) == credit
    ours = dataclasses.replace(copied, public=OURS.public).to_bytes(OURS)
    await inbox.take([Message(topics.hello(GATEWAY), ours)], 7)
    assert [alarm.kind for alarm in await store.ledger.alarms()] == [AlarmKind.FORK]


async def test_a_new_gateway_is_let_in_with_the_key_that_it_comes_with(store: SqliteStore) -> None:
    inbox = Inbox(store, Admission.FIRST_USE)
    assert await inbox.take([message(lost(1))], 5) == []
    (receipt,) = await inbox.take([hello(), message(lost(1))], 6)
    assert receipt.through == 1
    # from then on with no other
    assert await inbox.take([hello(THEIRS), message(lost(2), THEIRS)], 7) == []
    assert await states(store) == {OURS.public: State.ACTIVE}


async def test_a_new_gateway_must_sign_with_the_key_that_it_shows(store: SqliteStore) -> None:
    inbox = Inbox(store, Admission.FIRST_USE)
    bare = Message(topics.hello(GATEWAY), Hello(GATEWAY, EPOCH, 1, EPOCH).to_bytes(OURS))
    stolen = Message(topics.hello(OTHER), hello().data)
    assert await inbox.take([hello(THEIRS, shown=OURS), bare, stolen], 5) == []
    assert await store.keys() == []


@pytest.mark.parametrize("admission", [Admission.ENROLLED, Admission.FIRST_USE])
async def test_whose_key_is_known_cannot_come_unsigned(
    store: SqliteStore, admission: Admission
) -> None:
    await store.add_key(GATEWAY, OURS.public, 1)
    assert await Inbox(store, admission).take([message(lost(1), None)], 5) == []
    assert await Inbox(store, Admission.ANYBODY).take([message(lost(1), None)], 5) == []


async def test_a_key_follows_another_inside_one_group_of_messages(store: SqliteStore) -> None:
    await store.add_key(GATEWAY, OURS.public, 1)
    inbox = Inbox(store)
    group = [message(lost(3), NEXT), message(key_batch(2)), message(lost(1))]
    receipts = await inbox.take(group, 5)
    assert [receipt.through for receipt in receipts] == [3]
    assert inbox.counters.refused == 0
    assert await states(store) == {OURS.public: State.RETIRED, NEXT.public: State.ACTIVE}


async def test_a_retired_key_vouches_only_for_what_came_before(store: SqliteStore) -> None:
    await store.add_key(GATEWAY, OURS.public, 1)
    inbox = Inbox(store)
    await inbox.take([message(key_batch(2))], 5)
    (receipt,) = await inbox.take([message(lost(1))], 6)
    assert receipt.through == 2
    assert await inbox.take([message(lost(3)), message(lost(1, epoch=EPOCH + 1)), hello()], 7) == []
    assert inbox.counters.refused == 3


async def test_a_revoked_key_vouches_for_nothing(store: SqliteStore) -> None:
    await store.add_key(GATEWAY, OURS.public, 1)
    inbox = Inbox(store)
    await inbox.take([message(lost(1))], 5)
    await store.revoke_key(GATEWAY, OURS.public, 6)
    # not for a next key either
    assert await inbox.take([message(key_batch(2)), message(lost(1)), hello()], 7) == []
    assert await states(store) == {OURS.public: State.REVOKED}


async def test_a_next_key_without_proof_changes_nothing(store: SqliteStore) -> None:
    await store.add_key(GATEWAY, OURS.public, 1)
    inbox = Inbox(store)
    for batch in (key_batch(1, former=THEIRS), key_batch(1, following=OURS)):
        await inbox.take([message(batch)], 5)
    assert await states(store) == {OURS.public: State.ACTIVE}
    assert (await store.progress(GATEWAY, EPOCH)).through == 0
