"""The inbox over a real SQLite file: what gets in, what is answered, what is left outside."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from edgeagg import _core, statement, topics
from edgeagg.batch import Batch, BatchKind, Hello, Origin, Range, Receipt, check_of
from edgeagg.errors import FormatError, StoreError
from edgeagg.localdays import DAY_MS
from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo
from edgeagg.receiver.inbox import Counters, Inbox, Message
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.sqlite import SqliteStore

GATEWAY = "qp-0001"
EPOCH = 1_790_000_000_000
NOW_MS = EPOCH + 60_000

POINTS = (
    PointInfo("voltage_l1", "V", -1, Kind.GAUGE),
    PointInfo("active_energy_import", "kWh", -2, Kind.TOTALISER),
)
CATALOGUE = Catalogue(
    "site",
    (MeterInfo("incomer", "acrel-adl400", 1, "", ""),),
    (Group("incomer", 1_000, POINTS),),
    (5_000,),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edgeagg.db"


@pytest.fixture
async def inbox(path: Path) -> AsyncIterator[Inbox]:
    store = await SqliteStore.open(str(path))
    yield Inbox(store, Admission.ANYBODY)
    await store.close()


def catalogue_batch(sequence: int = 1, catalogue: Catalogue = CATALOGUE) -> Batch:
    body = catalogue.to_bytes()
    return Batch(
        GATEWAY, EPOCH, sequence, BatchKind.CATALOGUE, catalogue.hash, EPOCH + sequence, 0, body
    )


def data_batch(sequence: int, *, voltage: int = 2_301) -> Batch:
    """Return ten slots of its own for every sequence."""
    core = _core.Aggregator([(1_000, [False, True])], CATALOGUE.window_lengths_ms)
    for slot in range(10 * sequence, 10 * sequence + 10):
        core.push_row(0, slot * 1_000, slot * 1_000 + 7, [voltage, slot], [0, 0])
    cut = core.cut(10**9)
    assert cut is not None
    codec, payload = cut.encode()
    return Batch(
        GATEWAY, EPOCH, sequence, BatchKind.DATA, CATALOGUE.hash, EPOCH + sequence, codec, payload
    )


def lost_batch(sequence: int) -> Batch:
    return Batch(GATEWAY, EPOCH, sequence, BatchKind.LOST, CATALOGUE.hash, EPOCH + sequence, 0, b"")


def message(batch: Batch) -> Message:
    return Message(topics.batch(batch.gateway), batch.to_bytes())


def hello(head: int) -> Message:
    return Message(topics.hello(GATEWAY), Hello(GATEWAY, EPOCH, head, EPOCH).to_bytes())


def receipt(through: int, ranges: Sequence[Range] = (), want: Sequence[Range] = ()) -> Receipt:
    return Receipt(GATEWAY, EPOCH, through, tuple(ranges), tuple(want), NOW_MS)


def stored(path: Path, statement: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


async def take_all(
    inbox: Inbox, messages: Sequence[Message], now_ms: int = NOW_MS
) -> list[Receipt]:
    """Return the receipts without their checks, which have a test of their own."""
    answers = await inbox.take(messages, now_ms)
    return [dataclasses.replace(answer, check=bytes(8)) for answer in answers]


async def take(inbox: Inbox, *batches: Batch) -> list[Receipt]:
    return await take_all(inbox, [message(batch) for batch in batches])


async def test_a_catalogue_and_its_data_are_committed_and_answered_once(
    inbox: Inbox, path: Path
) -> None:
    answers = await take(inbox, catalogue_batch(), data_batch(2), data_batch(3))
    assert answers == [receipt(3)]
    assert inbox.counters == Counters(new=3)
    assert stored(path, "SELECT count(*) FROM readings") == [(20,)]
    assert await inbox.store.catalogue(CATALOGUE.hash) == CATALOGUE


async def test_a_catalogue_counts_even_when_it_comes_behind_its_data_in_one_take(
    inbox: Inbox,
) -> None:
    assert await take(inbox, data_batch(2), catalogue_batch()) == [receipt(2)]
    assert inbox.counters == Counters(new=2)


async def test_data_before_its_catalogue_has_no_effect_and_is_not_covered_by_the_receipt(
    inbox: Inbox, path: Path
) -> None:
    assert await take(inbox, data_batch(2)) == [receipt(0)]
    assert inbox.counters == Counters(waiting=1)
    for table in ("batches", "streams", "readings", "quarantine"):
        assert stored(path, f"SELECT count(*) FROM {table}") == [(0,)]

    assert await take(inbox, catalogue_batch()) == [receipt(1)]
    assert await take(inbox, data_batch(2)) == [receipt(2)]


async def test_a_restarted_receiver_finds_the_catalogue_in_the_store(inbox: Inbox) -> None:
    await take(inbox, catalogue_batch())
    assert await take(Inbox(inbox.store, Admission.ANYBODY), data_batch(2)) == [receipt(2)]


async def test_a_batch_that_comes_again_changes_nothing(inbox: Inbox, path: Path) -> None:
    await take(inbox, catalogue_batch(), data_batch(2))
    before = stored(path, "SELECT * FROM readings") + stored(path, "SELECT * FROM batches")
    assert await take(inbox, data_batch(2), data_batch(2)) == [receipt(2)]
    assert inbox.counters == Counters(new=2, again=2)
    after = stored(path, "SELECT * FROM readings") + stored(path, "SELECT * FROM batches")
    assert after == before


async def test_a_flood_of_forgeries_costs_one_commit_for_all_that_came_together(
    inbox: Inbox,
) -> None:
    assert isinstance(inbox.store, SqliteStore)
    await take(inbox, catalogue_batch(), data_batch(2))
    commits: list[str] = []
    inbox.store._connection.set_trace_callback(
        lambda text: commits.append(text) if text == "COMMIT" else None
    )
    forged = [Message(topics.batch(GATEWAY), bytes([n])) for n in range(30)]
    other = message(dataclasses.replace(data_batch(2), cut_at_ms=7))
    assert await take_all(inbox, [*forged, *forged, other]) == [receipt(2)]
    # the first of them is the deliveries'
    assert len(commits) == 2
    assert (inbox.counters.refused, inbox.counters.conflicts) == (60, 1)
    assert (await inbox.store.quarantined()).row_count == 31


async def test_a_batch_twice_in_one_take_counts_once(inbox: Inbox) -> None:
    assert await take(inbox, catalogue_batch(), data_batch(2), data_batch(2)) == [receipt(2)]
    assert inbox.counters == Counters(new=2, again=1)


async def test_other_bytes_under_the_same_identity_are_quarantined_and_the_first_stay(
    inbox: Inbox, path: Path
) -> None:
    await take(inbox, catalogue_batch(), data_batch(2))
    forked = data_batch(2, voltage=9_999)
    assert await take(inbox, forked) == [receipt(2)]
    assert inbox.counters == Counters(new=2, conflicts=1)
    assert stored(path, "SELECT DISTINCT value FROM reading WHERE point = 'voltage_l1'") == [
        (230.1,)
    ]
    assert stored(path, "SELECT topic, reason, data FROM quarantine") == [
        (
            "edgeagg/v1/qp-0001/batch",
            f"epoch {EPOCH} sequence 2 came with other bytes before",
            forked.to_bytes(),
        )
    ]


async def test_batches_out_of_order_are_kept_and_the_gap_is_asked_for(inbox: Inbox) -> None:
    await take(inbox, catalogue_batch())
    assert await take(inbox, data_batch(4), data_batch(5), data_batch(8)) == [
        receipt(1, ranges=[(4, 5), (8, 8)], want=[(2, 3), (6, 7)])
    ]
    assert await take(inbox, data_batch(3), data_batch(2)) == [
        receipt(5, ranges=[(8, 8)], want=[(6, 7)])
    ]
    assert await take(inbox, data_batch(7), data_batch(6)) == [receipt(8)]


async def test_a_lost_batch_closes_its_gap(inbox: Inbox) -> None:
    await take(inbox, catalogue_batch(), data_batch(3))
    assert await take(inbox, lost_batch(2)) == [receipt(3)]
    (status,) = await inbox.store.streams()
    assert (status.batches, status.lost_batches, status.highest) == (3, 1, 3)


async def test_a_loss_declared_for_a_batch_that_is_there_changes_nothing(inbox: Inbox) -> None:
    await take(inbox, catalogue_batch(), data_batch(2))
    assert await take(inbox, lost_batch(2)) == [receipt(2)]
    assert inbox.counters == Counters(new=2, again=1)
    (status,) = await inbox.store.streams()
    assert status.lost_batches == 0


async def test_a_batch_that_comes_behind_its_declared_loss_is_no_conflict(inbox: Inbox) -> None:
    await take(inbox, catalogue_batch(), lost_batch(2))
    assert await take(inbox, data_batch(2)) == [receipt(2)]
    assert inbox.counters == Counters(new=2, again=1)
    (status,) = await inbox.store.streams()
    assert status.lost_batches == 1


def poison() -> list[Batch]:
    good = data_batch(2)
    twisted = dataclasses.replace(catalogue_batch(2), schema=bytes(16))
    return [
        dataclasses.replace(good, payload=good.payload[:-1]),
        dataclasses.replace(good, payload=b"\xff" * 40),
        dataclasses.replace(good, codec=255),
        dataclasses.replace(good, kind=BatchKind.CATALOGUE),
        twisted,
    ]


@pytest.mark.parametrize("batch", poison())
async def test_a_poison_batch_is_quarantined_once_and_stops_nobody(
    inbox: Inbox, path: Path, batch: Batch
) -> None:
    await take(inbox, catalogue_batch())
    for _ in range(3):
        assert await take(inbox, batch, data_batch(3)) == [
            receipt(1, ranges=[(3, 3)], want=[(2, 2)])
        ]
    assert inbox.counters == Counters(new=2, again=2, refused=3)
    assert stored(path, "SELECT data FROM quarantine") == [(batch.to_bytes(),)]


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("edgeagg/v1/qp-0002/batch", "a message of qp-0001 on a topic of qp-0002"),
        ("edgeagg/v1/qp-0001/receipt", "nothing is expected on edgeagg/v1/qp-0001/receipt"),
        ("edgeagg/v1/qp-0001/hello", "11 fields, 10 expected"),
        ("elsewhere", "'elsewhere' is not one of our topics"),
    ],
)
async def test_a_batch_on_a_wrong_topic_is_refused_without_a_receipt(
    inbox: Inbox, path: Path, topic: str, reason: str
) -> None:
    assert await take_all(inbox, [Message(topic, catalogue_batch().to_bytes())], NOW_MS) == []
    assert inbox.counters == Counters(refused=1)
    assert stored(path, "SELECT received_ms, topic, reason FROM quarantine") == [
        (NOW_MS, topic, reason)
    ]
    assert stored(path, "SELECT count(*) FROM batches") == [(0,)]


async def test_a_hello_is_answered_with_what_is_committed(inbox: Inbox) -> None:
    assert await take_all(inbox, [hello(7)], NOW_MS) == [receipt(0)]
    await take(inbox, catalogue_batch(), data_batch(3))
    assert await take_all(inbox, [hello(7)], NOW_MS) == [receipt(1, ranges=[(3, 3)], want=[(2, 2)])]
    assert len(await inbox.store.streams()) == 1


async def test_epochs_and_gateways_have_receipts_of_their_own(inbox: Inbox) -> None:
    other_epoch = dataclasses.replace(catalogue_batch(), epoch=EPOCH + 1)
    other_gateway = dataclasses.replace(catalogue_batch(), gateway="qp-0002")
    answers = await take(inbox, catalogue_batch(), data_batch(2), other_epoch, other_gateway)
    assert answers == [
        receipt(2),
        dataclasses.replace(receipt(1), epoch=EPOCH + 1),
        dataclasses.replace(receipt(1), gateway="qp-0002"),
    ]


async def test_the_largest_numbers_of_the_format_are_kept(inbox: Inbox) -> None:
    largest = 2**63 - 1
    batch = dataclasses.replace(
        catalogue_batch(), epoch=largest, sequence=largest, cut_at_ms=largest
    )
    (answer,) = await take(inbox, batch)
    assert answer == Receipt(
        GATEWAY, largest, 0, ((largest, largest),), ((1, largest - 1),), NOW_MS
    )


async def test_a_store_that_fails_gives_no_receipt_and_the_same_messages_pass_later(
    inbox: Inbox, path: Path
) -> None:
    await take(inbox, catalogue_batch())
    stored(path, "CREATE TRIGGER full BEFORE INSERT ON windows BEGIN SELECT RAISE(ABORT, 'x'); END")
    with pytest.raises(StoreError, match="SQLite: x"):
        await take(inbox, data_batch(2))
    assert stored(path, "SELECT count(*) FROM readings") == [(0,)]
    stored(path, "DROP TRIGGER full")
    assert await take(inbox, data_batch(2)) == [receipt(2)]
    assert stored(path, "SELECT count(*) FROM readings") == [(10,)]


async def test_no_receipt_covers_a_commit_that_is_not_finished_though_its_caller_gave_up(
    inbox: Inbox, path: Path
) -> None:
    await take(inbox, catalogue_batch())
    given_up = asyncio.create_task(take(inbox, *(data_batch(n) for n in range(2, 40))))
    # decoding needs no rest, so after one the commit is under way in the store's thread
    await asyncio.sleep(0)
    given_up.cancel()
    (answer,) = await take_all(inbox, [hello(39)], NOW_MS)
    assert stored(path, "SELECT max(sequence) FROM batches") == [(answer.through,)]
    with pytest.raises(asyncio.CancelledError):
        await given_up


def test_what_is_no_message_at_all_cannot_be_built() -> None:
    with pytest.raises(FormatError):
        Batch("QP 1", EPOCH, 1, BatchKind.DATA, bytes(16), 0, 1, b"")


async def alarms(inbox: Inbox) -> list[tuple[str, int, int, int]]:
    found = await inbox.store.ledger.alarms()
    return [(alarm.kind.value, alarm.epoch, alarm.sequence, alarm.times) for alarm in found]


async def greet(inbox: Inbox, greeting: Hello) -> None:
    await inbox.take([Message(topics.hello(GATEWAY), greeting.to_bytes())], NOW_MS)


async def test_a_receipt_tells_how_the_last_message_hashes(inbox: Inbox) -> None:
    (empty,) = await inbox.take([hello(0)], NOW_MS)
    assert empty.check == bytes(8)
    last = data_batch(4)
    (answer,) = await inbox.take(
        [message(catalogue_batch()), message(data_batch(2)), message(last)], NOW_MS
    )
    assert (answer.last, answer.check) == (4, check_of(last.to_bytes()))


async def test_other_bytes_under_one_identity_raise_a_fork_alarm(inbox: Inbox) -> None:
    await take(inbox, catalogue_batch(), data_batch(2))
    assert await alarms(inbox) == []
    await take(inbox, data_batch(2, voltage=1))
    await take(inbox, data_batch(2, voltage=2))
    assert await alarms(inbox) == [("fork", EPOCH, 2, 2)]


async def test_a_hello_behind_what_is_committed_raises_a_rollback_alarm(inbox: Inbox) -> None:
    await take(inbox, catalogue_batch(), data_batch(2), data_batch(3))
    later_ms = EPOCH + 3_600_000
    await greet(inbox, Hello(GATEWAY, EPOCH, 3, later_ms))
    await greet(inbox, Hello(GATEWAY, EPOCH, 9, later_ms))
    assert await alarms(inbox) == []
    await greet(inbox, Hello(GATEWAY, EPOCH, 2, later_ms))
    assert await alarms(inbox) == [("rollback", EPOCH, 3, 1)]


async def test_a_hello_that_was_overtaken_by_its_gateways_next_batch_is_no_alarm(
    inbox: Inbox,
) -> None:
    await take(inbox, catalogue_batch(), data_batch(2), data_batch(3))
    await greet(inbox, Hello(GATEWAY, EPOCH, 2, EPOCH + 2))
    assert await alarms(inbox) == []


@pytest.mark.parametrize(
    ("origin", "kind"), [(Origin.BEHIND, "rollback"), (Origin.DIVERGED, "fork")]
)
async def test_a_gateway_that_left_its_epoch_says_why(
    inbox: Inbox, origin: Origin, kind: str
) -> None:
    for _ in range(3):
        await greet(inbox, Hello(GATEWAY, EPOCH + 9, 0, EPOCH, origin, EPOCH))
    await greet(inbox, Hello("qp-0001", EPOCH, 0, EPOCH))
    assert await alarms(inbox) == [(kind, EPOCH + 9, 0, 3)]


async def test_a_receiver_that_starts_announces_what_it_has_of_every_gateway(
    inbox: Inbox,
) -> None:
    await take(inbox, catalogue_batch(), data_batch(2))
    newer = dataclasses.replace(catalogue_batch(), epoch=EPOCH + 7)
    await inbox.take([message(newer)], NOW_MS)
    again = Inbox(inbox.store)
    said = [answer async for answer in again.announce(NOW_MS)]
    assert [(answer.epoch, answer.through) for answer in said] == [(EPOCH + 7, 1)]


async def test_credit_is_the_queue_shared_by_those_who_were_heard_of_lately(inbox: Inbox) -> None:
    (alone,) = await inbox.take([hello(0)], NOW_MS)
    assert alone.credit == 256
    crowd = [
        Message(topics.hello(name), Hello(name, EPOCH, 0, EPOCH).to_bytes())
        for name in (f"qp-{number}" for number in range(511))
    ]
    answers = await inbox.take(crowd, NOW_MS + 30_000)
    assert {answer.credit for answer in answers} == {2}
    (later,) = await inbox.take([hello(0)], NOW_MS + 91_000)
    assert later.credit == 256


async def test_a_statement_waits_for_its_catalogue_and_is_checked_against_it(
    inbox: Inbox, path: Path
) -> None:
    tally = statement.Tally(2, 2, 0, 0, 5, {1: (10, 3, 10, 3)})
    payload = statement.encode([(statement.Span(0, 0, DAY_MS), tally)])
    stated = dataclasses.replace(data_batch(2), kind=BatchKind.STATEMENT, codec=0, payload=payload)
    assert await take(inbox, stated) == [receipt(0)]
    assert await take(inbox, catalogue_batch(), stated) == [receipt(2)]
    assert stored(path, "SELECT slots, value_count, registers FROM statements") == [
        (2, 2, "[[1, 10, 3, 10, 3]]")
    ]
    gauge = statement.Tally(2, 2, 0, 0, 5, {0: (10, 3, 10, 3)})
    for span, wrong in ((statement.Span(0, 0, 5), gauge), (statement.Span(1, 0, 5), tally)):
        refused = dataclasses.replace(stated, sequence=3, payload=statement.encode([(span, wrong)]))
        assert await take(inbox, refused) == [receipt(2)]
    assert inbox.counters.refused == 2
