"""The uplink against a fake client: greetings, receipts, a history that is not its own."""

import asyncio
import dataclasses
import random
import socket

import pytest

from agent.tests.fakes import GATEWAY, START_MS, FakeClock, catalogue
from agent.tests.pushing import ONE, Gateway, parsed
from agent.tests.test_sender import Platform
from edgeagg import topics
from edgeagg.batch import Batch, BatchKind, Hello, Origin, Receipt, check_of
from edgeagg.command import CommandKind, Outcome
from edgeagg.errors import LinkError
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg_agent import outbox as outbox_module
from edgeagg_agent import uplink as uplink_module
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.site import Destination
from edgeagg_agent.tcp import Heard, known
from edgeagg_agent.uplink import Backoff, Uplink

EPOCH = START_MS
PLATFORM = Destination(
    "platform", "127.0.0.1", 1883, tls=False, username="", password_file="", ca_file=""
)


def receipt(
    through, ranges=(), *, server_ms=START_MS, epoch=EPOCH, gateway=GATEWAY, check=bytes(8)
):
    return Receipt(gateway, epoch, through, tuple(ranges), (), server_ms, 64, check)


def told_of(through, *checks):
    """Return a receipt that tells how messages hash, the last one's check the last of them."""
    answer = receipt(through, check=checks[-1][1] or b"as told!")
    return dataclasses.replace(answer, checks=tuple(one for one in checks if one[1]))


@pytest.fixture
def outbox(tmp_path):
    box = Outbox(tmp_path, now_ms=EPOCH, bytes_max=32 << 20)
    yield box
    box.close()


def fill(outbox, count):
    for sequence in range(outbox.head + 1, outbox.head + count + 1):
        batch = Batch(GATEWAY, EPOCH, sequence, BatchKind.DATA, bytes(16), START_MS, 1, b"payload")
        outbox.append([batch.to_bytes()])


def make_uplink(outbox, on_foreign=pytest.fail):
    cursor = outbox.cursor("platform")
    return Uplink(PLATFORM, GATEWAY, outbox, cursor, FakeClock(), on_foreign)


async def test_a_receipt_moves_the_cursor_of_this_destination(outbox):
    fill(outbox, 3)
    uplink = make_uplink(outbox)
    assert uplink.waiting_count == 3
    await uplink._take(receipt(2))
    assert uplink.waiting_count == 1
    assert outbox.cursor("platform").through == 2
    assert make_uplink(outbox).sender.waiting(outbox.head) == 1


@pytest.mark.parametrize(
    "other", [receipt(2, gateway="qp-0002"), receipt(2, epoch=EPOCH - 1)], ids=["gateway", "epoch"]
)
async def test_receipts_of_others_are_ignored(outbox, other):
    fill(outbox, 3)
    uplink = make_uplink(outbox)
    await uplink._take(other)
    assert uplink.sender.through == 0
    assert outbox.cursor("platform").through == 0


@pytest.mark.parametrize("last", [receipt(4), receipt(1, [(3, 4)])], ids=["through", "range"])
async def test_a_receipt_beyond_the_outbox_says_that_the_state_is_an_old_copy(outbox, caplog, last):
    fill(outbox, 3)
    told = []
    uplink = make_uplink(outbox, told.append)
    await uplink._take(last)
    assert told == [Origin.BEHIND]
    assert uplink.sender.through == 0
    assert "has sequence 4" in caplog.text
    assert "the outbox ends at 3: the state directory was put back" in caplog.text
    await uplink._take(receipt(2))
    assert uplink.sender.through == 0, "nothing is believed any more"


async def test_other_bytes_on_the_platform_say_that_somebody_else_writes_the_epoch(outbox, caplog):
    fill(outbox, 3)
    told = []
    uplink = make_uplink(outbox, told.append)
    ours = [(sequence, check_of(outbox.read(sequence, GATEWAY))) for sequence in (1, 2, 3)]
    await uplink._take(told_of(2, *ours[:2]))
    assert uplink.sender.through == 2
    await uplink._take(told_of(3, (3, b"others'!")))
    assert told == [Origin.DIVERGED]
    assert uplink.sender.through == 2
    assert "other bytes than the outbox for sequence 3" in caplog.text


async def test_a_batch_that_is_not_kept_any_more_cannot_be_compared(outbox):
    outbox._journal.skip_to(4)
    uplink = make_uplink(outbox)
    await uplink._take(told_of(3, *((sequence, b"anything") for sequence in (1, 2, 3))))
    assert uplink.sender.through == 3


async def test_what_a_receipt_does_not_tell_the_check_of_is_sent_again(outbox):
    fill(outbox, 4)
    uplink = make_uplink(outbox)
    ours = [(sequence, check_of(outbox.read(sequence, GATEWAY))) for sequence in range(1, 5)]
    await uplink._take(told_of(4, ours[0], ours[3]))
    assert (uplink.sender.through, uplink.sender.ranges) == (1, ((4, 4),))
    assert uplink.sender.due(outbox.head, 0) == [2, 3]
    await uplink._take(told_of(4, ours[1], ours[2], (4, b"")))
    assert uplink.sender.through == 4
    assert make_uplink(outbox).sender.through == 4, "what was believed once is not sent again"


def announcement(sequence, site):
    body = catalogue(("incomer", 1_000), site=site)
    kind = BatchKind.CATALOGUE
    return Batch(GATEWAY, EPOCH, sequence, kind, body.hash, START_MS, 0, body.to_bytes()).to_bytes()


async def test_a_message_of_the_life_before_the_copy_is_found_out_behind_newer_ones(
    tmp_path, outbox
):
    """The platform refuses our 2, and its last batch is ours: only the check of 2 tells."""
    ours = [announcement(sequence, f"site {sequence}") for sequence in (1, 2, 3)]
    outbox.append(ours)
    store = await SqliteStore.open(str(tmp_path / "platform.db"))
    inbox = Inbox(store, Admission.ANYBODY)

    async def take(batch):
        (answer,) = await inbox.take([Message(topics.batch(GATEWAY), batch)], START_MS)
        return answer

    told = []
    uplink = make_uplink(outbox, told.append)
    await uplink._take(await take(ours[0]))
    await take(announcement(2, "another life"))
    await uplink._take(await take(ours[2]))
    assert (uplink.sender.through, uplink.sender.ranges, told) == (1, ((3, 3),), [])
    assert uplink.sender.due(outbox.head, 0) == [2]
    await uplink._take(await take(ours[1]))
    assert told == [Origin.DIVERGED]
    assert uplink.sender.through == 1, "it goes on in the new epoch"
    await store.close()


def test_pauses_spread_over_a_limit_that_doubles_until_a_platform_answers():
    asked = []
    backoff = Backoff(lambda low, high: asked.append((low, high)) or high)
    for _ in range(5):
        backoff.pause_s()
    backoff.reset()
    backoff.pause_s()
    assert asked == [(0, limit_s) for limit_s in (4, 8, 16, 32, 60, 4)]


def test_a_thousand_gateways_that_lost_a_broker_do_not_come_back_in_step():
    seconds = [0] * 100
    for gateway in range(1_000):
        backoff, at_s = Backoff(random.Random(gateway).uniform), 0.0
        while at_s < 5:  # the broker is away for 5 s
            at_s += backoff.pause_s()
        seconds[int(at_s)] += 1
    assert sum(seconds) == 1_000
    assert max(seconds) < 200


async def test_what_each_destination_lost_is_counted_as_its_platform_counts_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(outbox_module, "_SEGMENT_BYTES", 4096)
    outbox = Outbox(tmp_path / "state", now_ms=EPOCH, bytes_max=12_000)
    fill(outbox, 40)
    uplinks = [make_uplink(outbox), make_uplink(outbox)]
    uplinks[0].sender.take(receipt(3, [(6, 9)]), START_MS)
    fill(outbox, 260)
    first = outbox.first
    outbox.trim()
    for uplink in uplinks:
        uplink.note_dropped(first, outbox.first)
    assert outbox.first > 40
    assert [uplink.dropped_count for uplink in uplinks] == [outbox.first - 8, outbox.first - 1]
    for number, uplink in enumerate(uplinks):
        store = await SqliteStore.open(str(tmp_path / f"{number}.db"))
        inbox = Inbox(store, Admission.ANYBODY)
        missing = [s for s in range(1, outbox.head + 1) if number or s not in {1, 2, 3, 6, 7, 8, 9}]
        messages = [outbox.read(sequence, GATEWAY) for sequence in missing]
        await inbox.take([Message(topics.batch(GATEWAY), data) for data in messages], START_MS)
        (stream,) = await store.streams()
        assert stream.lost_batches == uplink.dropped_count
        await store.close()
    outbox.close()


class FakeClient:
    """An MQTT connection to a platform that commits and answers at once."""

    def __init__(self, on_receipt):
        self.platform = Platform()
        self.published = []
        self.subscribed = []
        self._receipts = asyncio.Queue()
        self._on_receipt = on_receipt

    async def subscribe(self, topic, qos, **patience):
        self.subscribed.append((topic, qos))

    def heard(self):
        return Heard(silent_ms=0, answer_ms=1)

    async def publish(self, topic, data, qos, **patience):
        assert qos == 1
        self.published.append((topic, data))
        if topic == topics.batch(GATEWAY):
            batch = Batch.from_bytes(data)
            answer = self.platform.take(batch.sequence, START_MS + len(self.published))
        else:
            self._receipts.put_nowait(b"no receipt at all")
            answer = self.platform.receipt(START_MS + len(self.published))
        self._receipts.put_nowait(answer.to_bytes())

    @property
    def messages(self):
        return self._listen()

    async def _listen(self):
        while True:
            payload = await self._receipts.get()
            yield type("Message", (), {"payload": payload})
            self._on_receipt()


async def deliver(uplink, client, done):
    """Run the connection until `done`, then stop it."""
    delivering = asyncio.create_task(uplink._deliver(client))
    async with asyncio.timeout(5):
        await done.wait()
    delivering.cancel()
    await asyncio.wait([delivering], timeout=0.5)
    assert delivering.cancelled(), "goes on after it was stopped"


async def test_on_connecting_it_subscribes_says_hello_and_delivers_everything(outbox, caplog):
    fill(outbox, 50)
    uplink = make_uplink(outbox)
    done = asyncio.Event()
    client = FakeClient(lambda: done.set() if uplink.waiting_count == 0 else None)
    await deliver(uplink, client, done)
    assert client.subscribed == [(topics.receipt(GATEWAY), 1)]
    topic, hello = client.published[0]
    assert topic == topics.hello(GATEWAY)
    assert Hello.from_bytes(hello) == Hello(GATEWAY, EPOCH, 50, START_MS)
    batches = [data for topic, data in client.published[1:]]
    assert sorted(batches) == [outbox.read(sequence, GATEWAY) for sequence in range(1, 51)]
    assert outbox.cursor("platform").through == 50
    assert "platform: not a receipt" in caplog.text


async def test_a_batch_that_the_disk_cannot_read_now_is_sent_later(outbox, caplog):
    fill(outbox, 3)
    uplink = make_uplink(outbox)
    read, failures = outbox.read, [5]

    def failing(sequence, gateway, now_ms):
        if sequence == 2 and failures:
            uplink._clock.pass_ms(60_000)  # the time-out of what is not receipted
            raise OSError(failures.pop(), "Input/output error")
        return read(sequence, gateway, now_ms)

    outbox.read = failing
    done = asyncio.Event()
    await deliver(
        uplink, FakeClient(lambda: done.set() if uplink.waiting_count == 0 else None), done
    )
    assert not failures
    assert "platform: batch 2: Input/output error" in caplog.text


@pytest.mark.parametrize("is_trusted", [True, False])
async def test_the_outbox_is_told_the_time_while_somebody_vouches_for_it(outbox, is_trusted):
    fill(outbox, 1)
    uplink = make_uplink(outbox)
    uplink._clock.is_trusted = is_trusted
    read, told = outbox.read, []

    def noting(sequence, gateway, now_ms):
        told.append(now_ms)
        return read(sequence, gateway, now_ms)

    outbox.read = noting
    done = asyncio.Event()
    await deliver(
        uplink, FakeClient(lambda: done.set() if uplink.waiting_count == 0 else None), done
    )
    assert set(told) == {uplink._clock.now_ms() if is_trusted else None}


async def test_a_stop_that_comes_together_with_news_is_not_lost(outbox):
    uplink = make_uplink(outbox)
    done = asyncio.Event()

    def stop_with_news():
        uplink.wake()
        done.set()

    await deliver(uplink, FakeClient(stop_with_news), done)


class QuietClient(FakeClient):
    """A connection that hears what it is told to hear, and is looked at a few times."""

    def __init__(self, heard):
        super().__init__(lambda: None)
        self.answers = asyncio.Event()
        self.has_been_looked_at = asyncio.Event()
        self._heard, self._looks = heard, 0

    def heard(self):
        self._looks += 1
        if self._looks % 5 == 0:
            self.has_been_looked_at.set()
        return self._heard

    async def subscribe(self, topic, qos, **patience):
        await super().subscribe(topic, qos, **patience)
        await self.answers.wait()


async def watch(uplink, client):
    """Watch a connection until it has been looked at a few times, or is given up."""
    client.has_been_looked_at.clear()
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(uplink._watch(client, tasks))
        await client.has_been_looked_at.wait()
        watching.cancel()
        client.answers.set()


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(uplink_module, "_LOOK_S", 0)


@pytest.mark.parametrize(
    ("answer_ms", "patience_ms"), [(1, 17_000), (1_125, 17_000), (6_000, 56_000), (50_000, 89_000)]
)
async def test_a_silent_connection_is_given_up_the_later_the_longer_its_answers_take(
    outbox, no_pause, answer_ms, patience_ms
):
    uplink = make_uplink(outbox)
    await watch(uplink, QuietClient(Heard(silent_ms=patience_ms - 1, answer_ms=answer_ms)))
    with pytest.RaisesGroup(pytest.RaisesExc(LinkError, match=f"silent for {patience_ms // 1000}")):
        await watch(uplink, QuietClient(Heard(silent_ms=patience_ms, answer_ms=answer_ms)))


async def test_a_silent_connection_is_asked_for_a_word_one_question_at_a_time(outbox, no_pause):
    uplink = make_uplink(outbox)
    client = QuietClient(Heard(silent_ms=8_000, answer_ms=1))
    await watch(uplink, client)
    assert client.subscribed == [(topics.receipt(GATEWAY), 1)]
    await watch(uplink, client)
    assert len(client.subscribed) > 2, "those that are answered are followed by others"


@pytest.mark.parametrize(
    "heard", [Heard(silent_ms=7_999, answer_ms=1), None], ids=["lively", "closed"]
)
async def test_a_lively_connection_and_a_closed_one_are_left_alone(outbox, no_pause, heard):
    client = QuietClient(heard)
    await watch(make_uplink(outbox), client)
    assert client.subscribed == []


async def test_the_options_are_set_before_the_first_packet_of_mqtt(outbox):
    """A handshake over a bad line needs them as much as what follows."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        to = dataclasses.replace(PLATFORM, port=server.getsockname()[1])
        uplink = Uplink(to, GATEWAY, outbox, outbox.cursor("p"), FakeClock(), pytest.fail)
        client = uplink._client()
        assert client.heard() is None
        paho = client._client
        paho._host, paho._port = to.host, to.port
        with await asyncio.to_thread(paho._create_socket) as connection:
            for level, name, value in known():
                assert connection.getsockopt(level, name) == value


@pytest.mark.parametrize(("timeout_ms", "patience_s"), [(5_000, 20), (8_000, 32), (60_000, 40)])
async def test_the_longer_receipts_take_the_more_patient_is_the_next_connection(
    outbox, timeout_ms, patience_s
):
    uplink = make_uplink(outbox)
    uplink.sender._pace.timeout_ms = timeout_ms
    client = uplink._client()
    assert client.timeout == client._client.connect_timeout == patience_s
    assert client._keepalive >= patience_s, "the client would not wait longer for the first word"


class CommandedClient(FakeClient):
    """A connection over which a command comes once the gateway has said hello."""

    def __init__(self, command, on_answer):
        super().__init__(lambda: None)
        self._command, self._on_answer = command, on_answer

    async def publish(self, topic, data, qos, **patience):
        if topic == topics.answer(GATEWAY):
            self.published.append((topic, data))
            self._on_answer()
            return
        await super().publish(topic, data, qos, **patience)

    async def _listen(self):
        command = type("Topic", (), {"value": topics.command(GATEWAY)})
        yield type("Message", (), {"payload": self._command, "topic": command})
        receipts = type("Topic", (), {"value": topics.receipt(GATEWAY)})
        async for message in super()._listen():
            message.topic = receipts
            yield message


async def test_a_command_is_answered_over_the_connection_it_came_by(outbox, tmp_path):
    gateway = Gateway(tmp_path)
    (to, _), desk = gateway.desk.site.destinations, gateway.desk
    uplink = Uplink(to, GATEWAY, outbox, outbox.cursor("platform"), FakeClock(), pytest.fail, desk)
    command = gateway.command(gateway.pushed(), kind=CommandKind.CHECK)
    done = asyncio.Event()
    client = CommandedClient(command.to_bytes(ONE), done.set)
    await deliver(uplink, client, done)
    assert client.subscribed == [(topics.receipt(GATEWAY), 1), (topics.command(GATEWAY), 1)]
    (answer,) = [data for topic, data in client.published if topic == topics.answer(GATEWAY)]
    assert parsed(answer).outcome is Outcome.CHECKED
    desk.close()


async def test_commands_are_not_even_subscribed_to_without_pinned_keys(outbox, tmp_path):
    gateway = Gateway(tmp_path)
    (_, to), desk = gateway.desk.site.destinations, gateway.desk
    uplink = Uplink(to, GATEWAY, outbox, outbox.cursor("second"), FakeClock(), pytest.fail, desk)
    done = asyncio.Event()
    client = FakeClient(done.set)
    await deliver(uplink, client, done)
    assert client.subscribed == [(topics.receipt(GATEWAY), 1)]
    desk.close()


async def test_a_receipt_of_this_gateway_tells_the_clock_the_platforms_time(outbox):
    uplink = make_uplink(outbox)
    await uplink._take(receipt(0, server_ms=START_MS + 7))
    await uplink._take(receipt(0, server_ms=START_MS + 8, gateway="qp-0009"))
    assert uplink._clock.platform_ms == [START_MS + 7]
