"""The sender against a lossy network and a model platform, the uplink against a fake client."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tests.fakes import GATEWAY, START_MS, FakeClock
from edgeagg import topics
from edgeagg.batch import Batch, BatchKind, Hello, Receipt
from edgeagg.receiver.store import collapse
from edgeagg_agent.config import Destination
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.uplink import Sender, Uplink

EPOCH = START_MS
WINDOW = 16
PLATFORM = Destination(
    "platform", "127.0.0.1", 1883, tls=False, username="", password_file="", ca_file=""
)


def low(least, _most):
    """Draw the shortest time-out there may be."""
    return least


def receipt(through, ranges=(), *, server_ms=START_MS, epoch=EPOCH, gateway=GATEWAY):
    return Receipt(gateway, epoch, through, tuple(ranges), (), server_ms)


def test_a_window_goes_out_and_no_more_until_a_receipt_comes():
    sender = Sender(0, low)
    assert sender.due(40, START_MS) == list(range(1, 17))
    assert sender.due(40, START_MS + 4_999) == []
    sender.take(receipt(3))
    assert sender.due(40, START_MS + 4_999) == [17, 18, 19]


def test_it_begins_behind_the_cursor_and_ends_at_the_head():
    sender = Sender(7, low)
    assert sender.due(9, START_MS) == [8, 9]
    assert sender.due(10, START_MS) == [10]
    sender.take(receipt(10))
    assert sender.due(10, START_MS) == []


def test_what_a_receipt_holds_beyond_its_through_is_not_sent_again():
    sender = Sender(0, low)
    sender.due(40, START_MS)
    sender.take(receipt(1, [(3, 4), (6, 6)]))
    assert sender.due(40, START_MS + 1) == [17, 18, 19, 20]
    assert sender.due(40, START_MS + 5_000) == [2, 5, *range(7, 21)]


def test_ranges_out_of_order_do_no_harm():
    sender = Sender(0, low)
    sender.take(receipt(0, [(10, 12), (3, 4)]))
    assert sender.due(40, START_MS) == [*range(1, 10), *range(13, 20)]


def test_a_time_out_sends_all_unreceipted_batches_again_and_counts_them():
    sender = Sender(0, low)
    sender.due(3, START_MS)
    sender.take(receipt(1))
    assert sender.due(3, START_MS + 4_999) == []
    assert sender.resent_count == 0
    assert sender.due(3, START_MS + 5_000) == [2, 3]
    assert sender.resent_count == 2


def test_time_outs_are_drawn_from_5_s_to_twice_the_last_at_most_60_s():
    asked = []

    def longest(least, most):
        asked.append((least, most))
        return most

    sender = Sender(0, longest)
    now_ms = START_MS
    for timeout_ms in (5_000, 10_000, 20_000, 40_000, 60_000, 60_000):
        assert sender.due(1, now_ms) == [1]
        assert sender.due(1, now_ms + timeout_ms - 1) == []
        now_ms += timeout_ms
    assert asked == [(5_000, most) for most in (10_000, 20_000, 40_000, 60_000, 60_000)]


def test_progress_sets_the_time_out_back():
    sender = Sender(0, lambda _, most: most)
    sender.due(2, START_MS)
    sender.due(2, START_MS + 5_000)
    sender.due(2, START_MS + 15_000)  # the next time-out is 20 s
    sender.take(receipt(1))
    assert sender.due(2, START_MS + 19_999) == []
    assert sender.due(2, START_MS + 20_000) == [2]


def test_a_receipt_without_news_does_not_set_the_time_out_back():
    sender = Sender(0, lambda _, most: most)
    sender.due(2, START_MS)
    sender.due(2, START_MS + 5_000)
    sender.take(receipt(0))
    assert sender.due(2, START_MS + 14_999) == []


def test_a_stale_receipt_is_ignored():
    sender = Sender(0, low)
    sender.due(40, START_MS)
    sender.take(receipt(10, server_ms=START_MS + 20))
    sender.take(receipt(4, server_ms=START_MS + 19))
    assert sender.through == 10
    assert sender.due(40, START_MS + 1) == list(range(17, 27))


def test_a_receipt_that_goes_back_rewinds():
    sender = Sender(0, low)
    sender.due(20, START_MS)
    sender.take(receipt(16, server_ms=START_MS + 10))
    sender.due(20, START_MS)
    sender.take(receipt(4, server_ms=START_MS + 20))
    assert sender.through == 4
    assert sender.due(20, START_MS + 30) == list(range(5, 21))


def test_a_platform_that_lost_what_it_had_beyond_through_gets_it_again_in_a_window():
    sender = Sender(0, low)
    sender.due(60, START_MS)
    sender.take(receipt(0, [(2, 40)], server_ms=START_MS + 10))
    sender.due(60, START_MS)
    sender.take(receipt(0, server_ms=START_MS + 20))
    assert sender.due(60, START_MS + 30) == list(range(2, 17))
    assert len(sender._sent_ms) == WINDOW


def test_a_new_connection_forgets_what_the_old_one_carried():
    sender = Sender(0, low)
    sender.due(3, START_MS)
    sender.reconnected()
    assert sender.due(3, START_MS + 1) == [1, 2, 3]
    assert sender.resent_count == 3


def test_poison_does_not_stop_the_others():
    sender = Sender(0, low)
    platform = Platform(poison={1, 20})
    for step in range(60):
        now_ms = START_MS + step * 5_000
        for sequence in sender.due(100, now_ms):
            sender.take(platform.take(sequence, now_ms))
    assert platform.have == set(range(1, 101)) - {1, 20}
    assert sender.due(100, START_MS + 10**6) == [1, 20]


class Platform:
    """What a receiver does: commits, answers with everything it has; some batches never get in."""

    def __init__(self, poison=()):
        self.have = set()
        self.poison = poison
        self.backup = set()

    def take(self, sequence, now_ms):
        if sequence not in self.poison:
            self.have.add(sequence)
        return self.receipt(now_ms)

    def receipt(self, now_ms):
        progress = collapse(0, sorted(self.have))
        return receipt(progress.through, progress.ranges, server_ms=now_ms)


class World:
    """A gateway, a network that loses, doubles and reorders, and a platform that can fall ill."""

    def __init__(self, seed, head, poison):
        self.random = random.Random(seed)
        self.now_ms = START_MS
        self.head = head
        self.platform = Platform(poison)
        self.drawn = []
        self.sender = Sender(0, self.draw)
        self.under_way = []  # batches as numbers, and receipts
        self.newest = receipt(0)  # the last one the sender should believe

    def draw(self, least, most):
        assert 5_000 == least <= most <= 60_000
        return self.random.uniform(least, most)

    def step(self, loss):
        self.now_ms += self.random.choice((1, 50, 400, 3_000))
        self.publish(loss)
        for _ in range(self.random.randrange(40)):
            if self.under_way:
                self.arrive(self.under_way.pop(self.random.randrange(len(self.under_way))), loss)

    def send(self, thing, loss):
        if self.random.random() >= loss:
            self.under_way += [thing] * self.random.choice((1, 1, 1, 2))

    def publish(self, loss):
        window = self.window()
        for sequence in self.sender.due(self.head, self.now_ms):
            assert sequence in window
            self.send(sequence, loss)
        assert len(self.sender._sent_ms) <= WINDOW
        assert self.sender._sent_ms.keys() <= window

    def window(self):
        """Return the lowest sequences that the newest receipt does not hold."""
        known = self.newest
        unreceipted = (
            sequence
            for sequence in range(known.through + 1, self.head + 1)
            if not any(first <= sequence <= last for first, last in known.ranges)
        )
        return {sequence for sequence, _ in zip(unreceipted, range(WINDOW), strict=False)}

    def arrive(self, thing, loss):
        if isinstance(thing, int):
            self.send(self.platform.take(thing, self.now_ms), loss)
        else:
            self.sender.take(thing)
            if thing.server_ms >= self.newest.server_ms:
                self.newest = thing
            assert self.sender.through == self.newest.through

    def reconnect(self, loss):
        self.under_way.clear()
        self.sender.reconnected()
        self.send(self.platform.receipt(self.now_ms), loss)  # the answer to a hello

    def is_done(self):
        return self.platform.have == set(range(1, self.head + 1)) - set(self.platform.poison)


@settings(deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from((0.0, 0.2, 0.6, 0.95)),
    st.lists(st.integers(1, 60), max_size=3, unique=True),
    st.lists(st.sampled_from(["grow", "grow", "connect", "backup", "restore"]), max_size=20),
)
def test_everything_is_delivered_whatever_the_network_and_the_platform_do(
    seed, loss, poison, events
):
    world = World(seed, 5, set(poison))
    for event in events:
        for _ in range(world.random.randrange(6)):
            world.step(loss)
        if event == "grow":
            world.head += world.random.randrange(15)
        elif event == "connect":
            world.reconnect(loss)
        elif event == "backup":
            world.platform.backup = set(world.platform.have)
        else:
            world.platform.have = set(world.platform.backup)
    # the network is well again; a new batch tells a gateway with nothing to send of a restored
    # platform
    world.head += 1
    for _ in range(400):
        if world.is_done():
            break
        world.step(0)
    assert world.is_done()


@pytest.fixture
def outbox(tmp_path):
    box = Outbox(tmp_path, now_ms=EPOCH, bytes_max=32 << 20)
    yield box
    box.close()


def fill(outbox, count):
    for sequence in range(outbox.head + 1, outbox.head + count + 1):
        batch = Batch(GATEWAY, EPOCH, sequence, BatchKind.DATA, bytes(16), START_MS, 1, b"payload")
        outbox.append([batch.to_bytes()])


def make_uplink(outbox):
    return Uplink(PLATFORM, GATEWAY, outbox, outbox.cursor("platform"), FakeClock())


def test_a_receipt_moves_the_cursor_of_this_destination(outbox):
    fill(outbox, 3)
    uplink = make_uplink(outbox)
    assert uplink.waiting_count == 3
    uplink._take(receipt(2))
    assert uplink.waiting_count == 1
    assert outbox.cursor("platform").through == 2
    assert make_uplink(outbox).sender.due(outbox.head, START_MS) == [3]


@pytest.mark.parametrize(
    "other", [receipt(2, gateway="qp-0002"), receipt(2, epoch=EPOCH - 1)], ids=["gateway", "epoch"]
)
def test_receipts_of_others_are_ignored(outbox, other):
    fill(outbox, 3)
    uplink = make_uplink(outbox)
    uplink._take(other)
    assert uplink.sender.through == 0
    assert outbox.cursor("platform").through == 0


def test_a_receipt_beyond_the_outbox_says_that_the_state_is_an_old_copy(outbox, caplog):
    fill(outbox, 3)
    uplink = make_uplink(outbox)
    uplink._take(receipt(4))
    assert uplink.sender.through == 0
    assert "platform has sequence 4" in caplog.text
    assert "the outbox ends at 3: the state directory was put back" in caplog.text


class FakeClient:
    """An MQTT connection to a platform that commits and answers at once."""

    def __init__(self, on_receipt):
        self.platform = Platform()
        self.published = []
        self.subscribed = []
        self._receipts = asyncio.Queue()
        self._on_receipt = on_receipt

    async def subscribe(self, topic, qos):
        self.subscribed.append((topic, qos))

    async def publish(self, topic, data, qos):
        assert qos == 1
        self.published.append((topic, data))
        if topic == topics.batch(GATEWAY):
            batch = Batch.from_bytes(data)
            answer = self.platform.take(batch.sequence, START_MS + len(self.published))
        else:
            self._receipts.put_nowait(b"no receipt at all")
            answer = self.platform.receipt(START_MS)
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
    assert Hello.from_bytes(hello) == Hello(GATEWAY, EPOCH, 50)
    batches = [data for topic, data in client.published[1:]]
    assert batches == [outbox.read(sequence, GATEWAY) for sequence in range(1, 51)]
    assert outbox.cursor("platform").through == 50
    assert "platform: not a receipt" in caplog.text


async def test_a_stop_that_comes_together_with_news_is_not_lost(outbox):
    uplink = make_uplink(outbox)
    done = asyncio.Event()

    def stop_with_news():
        uplink.wake()
        done.set()

    await deliver(uplink, FakeClient(stop_with_news), done)


async def test_a_receipt_of_this_gateway_tells_the_clock_the_platforms_time(tmp_path):
    outbox, clock = Outbox(tmp_path, now_ms=EPOCH, bytes_max=1 << 20), FakeClock()
    try:
        uplink = Uplink(PLATFORM, GATEWAY, outbox, outbox.cursor("platform"), clock)
        uplink._take(receipt(0, server_ms=START_MS + 7))
        uplink._take(receipt(0, server_ms=START_MS + 8, gateway="qp-0009"))
    finally:
        outbox.close()
    assert clock.platform_ms == [START_MS + 7]
