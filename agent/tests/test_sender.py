"""The sender against a script, and against a lossy network with a model platform."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.tests.fakes import GATEWAY, START_MS
from edgeagg.batch import RANGES_MAX, Receipt
from edgeagg.receiver.store import collapse
from edgeagg_agent.sender import Sender

EPOCH = START_MS


def low(least, _most):
    """Draw the shortest time-out there may be."""
    return least


def receipt(through, ranges=(), want=(), *, server_ms=START_MS, credit=256):
    return Receipt(GATEWAY, EPOCH, through, tuple(ranges), tuple(want), server_ms, credit)


def greeted(through=0, draw=low, *, first=0):
    """Return a sender whose hello was answered."""
    sender = Sender(through, draw, first=first)
    assert sender.hello_due(START_MS)
    sender.take(receipt(through), START_MS)
    return sender


def test_nothing_but_hellos_goes_out_until_a_receipt_has_come():
    sender = Sender(0, lambda _, most: most)
    assert sender.due(40, START_MS) == []
    said = [ms for ms in range(0, 60_000, 500) if sender.hello_due(START_MS + ms)]
    assert said == [0, 5_000, 15_000, 35_000]
    sender.take(receipt(7), START_MS + 60_000)
    assert not sender.hello_due(START_MS + 200_000)
    assert sender.due(9, START_MS + 200_000) == [8, 9]


def test_a_window_goes_out_and_grows_with_quick_receipts():
    sender = greeted()
    assert sender.due(90, START_MS) == list(range(1, 17))
    assert sender.due(90, START_MS + 99) == []
    sender.take(receipt(16), START_MS + 100)
    assert len(sender.due(90, START_MS + 100)) == 32


def test_receipts_that_come_late_shrink_the_window():
    sender = greeted()
    sender.due(999, START_MS)
    sender.take(receipt(16), START_MS + 100)
    sender.due(999, START_MS + 100)
    sender.take(receipt(48), START_MS + 500)  # four times the delay: they stood in a queue
    assert sender.under_way == 0
    assert len(sender.due(999, START_MS + 500)) == 16


def test_the_platforms_credit_bounds_what_is_under_way_and_leaves_room_for_a_new_batch():
    sender = greeted()
    sender.take(receipt(0, credit=4), START_MS)
    assert sender.due(50, START_MS) == [1, 2, 3]
    assert sender.due(51, START_MS) == [51]
    assert sender.due(52, START_MS) == []
    sender.reconnected()
    sender.take(receipt(0, credit=0), START_MS)
    assert sender.due(52, START_MS) == [51, 52], "two may always be under way"


def test_a_new_batch_goes_before_the_backlog_even_when_the_window_is_full():
    sender = greeted()
    assert sender.due(90, START_MS) == list(range(1, 17))
    assert sender.due(91, START_MS + 10) == [91]
    sender.take(receipt(3, [(91, 91)], [(4, 90)]), START_MS + 2_000)
    assert sender.due(93, START_MS + 2_000)[:3] == [92, 93, 17]


def test_what_was_new_a_minute_ago_is_backlog():
    sender = greeted()
    sender.due(1, START_MS)
    sender.take(receipt(1), START_MS)
    sender.due(3, START_MS + 1)
    sender.reconnected()
    sender.take(receipt(1, credit=2), START_MS + 60_001)
    assert sender.due(3, START_MS + 60_001) == [2]


def test_what_others_need_goes_first_though_it_is_old():
    sender = greeted(first=30)
    sender.due(30, START_MS)
    sender.reconnected()
    sender.take(receipt(0), START_MS + 1)
    assert sender.due(31, START_MS + 1)[:4] == [30, 31, 1, 2]
    assert sender.due(31, START_MS + 1) == []


def test_it_begins_behind_the_cursor_and_ends_at_the_head():
    sender = greeted(7)
    assert sender.due(9, START_MS) == [8, 9]
    assert sender.due(10, START_MS) == [10]
    sender.take(receipt(10), START_MS)
    assert sender.due(10, START_MS) == []
    assert sender.waiting(10) == 0


def test_what_a_receipt_holds_beyond_its_through_is_not_sent_again():
    sender = greeted()
    sender.due(18, START_MS)
    sender.take(receipt(1, [(3, 4), (6, 6)]), START_MS + 2)
    assert sender.waiting(18) == 14
    assert sender.due(18, START_MS + 2) == [17, 18]
    assert sender.due(18, START_MS + 5_000) == [2, 5, *range(7, 17)]


def test_ranges_out_of_order_do_no_harm():
    sender = greeted()
    sender.take(receipt(0, [(10, 12), (3, 4)]), START_MS)
    assert sender.waiting(40) == 35
    assert sender.due(40, START_MS) == [1, 2, *range(5, 10), *range(13, 22)]


def test_what_the_platform_asks_for_again_is_sent_though_it_was_receipted():
    sender = greeted()
    sender.take(receipt(30, [(35, 40)], [(7, 8), (31, 34), (38, 38)]), START_MS)
    assert sender.due(40, START_MS) == [7, 8, 31, 32, 33, 34, 38]
    sender.take(receipt(34, [(35, 40)], [(38, 38)], server_ms=START_MS + 9), START_MS + 9)
    assert sender.under_way == 1
    sender.take(receipt(40, server_ms=START_MS + 10), START_MS + 10)
    assert sender.under_way == 0
    assert sender.due(40, START_MS + 10_000) == []


def test_a_time_out_sends_what_is_unreceipted_again_and_counts_it():
    sender = greeted()
    sender.due(3, START_MS)
    sender.take(receipt(1), START_MS)
    assert sender.due(3, START_MS + 4_999) == []
    assert sender.resent_count == 0
    assert sender.due(3, START_MS + 5_000) == [2, 3]
    assert sender.resent_count == 2


def test_time_outs_are_drawn_from_5_s_to_twice_the_last_at_most_60_s():
    asked = []

    def longest(least, most):
        asked.append((least, most))
        return most

    sender = greeted(draw=longest)
    now_ms = START_MS + 1
    for timeout_ms in (5_000, 10_000, 20_000, 40_000, 60_000, 60_000):
        assert sender.due(1, now_ms) == [1]
        assert sender.due(1, now_ms + timeout_ms - 1) == []
        now_ms += timeout_ms
    assert asked == [(5_000, most) for most in (10_000, 20_000, 40_000, 60_000, 60_000)]


def test_a_platform_that_answers_slowly_is_not_sent_everything_twice():
    sender = greeted()
    now_ms = START_MS
    for sequence in range(1, 30):
        assert sender.due(sequence, now_ms) in ([sequence], [])
        sender.due(sequence, now_ms + 4_900)
        sender.take(receipt(sequence), now_ms + 4_900)
        now_ms += 60_000
    sender.due(30, now_ms)
    assert sender.due(30, now_ms + 5_001) == [], "5 s are within what was seen"
    assert sender.resent_count == 0


def test_a_delay_beyond_the_time_out_is_learned():
    sender = greeted(draw=lambda _, most: most)
    now_ms, published = START_MS, []
    for sequence in range(1, 40):
        for second in range(12):  # every receipt takes 12 s
            published += sender.due(sequence, now_ms + 1_000 * second)
        now_ms += 12_000
        sender.take(receipt(sequence, server_ms=now_ms), now_ms)
    late = [sequence for sequence in published if published.count(sequence) > 1]
    assert len(late) <= 8
    assert max(late) < 8, "those behind were sent once"


def test_after_a_stall_few_are_sent_until_the_platform_answers():
    sender = greeted()
    assert len(sender.due(90, START_MS + 1)) == 16
    assert sender.due(90, START_MS + 5_001) == [1, 2]
    sender.take(receipt(0, server_ms=START_MS + 9), START_MS + 90_000)  # it says it is back
    assert sender.due(90, START_MS + 90_000) == [1, 2]
    sender.take(receipt(2, server_ms=START_MS + 10), START_MS + 90_100)
    assert sender.due(90, START_MS + 90_100) == [3, 4]


def test_a_stale_receipt_is_ignored():
    sender = greeted()
    sender.due(40, START_MS)
    sender.take(receipt(10, server_ms=START_MS + 20), START_MS)
    sender.take(receipt(4, server_ms=START_MS + 19), START_MS)
    assert sender.through == 10


def test_a_platform_whose_clock_was_set_back_is_heard_after_a_time_out():
    sender = greeted()
    sender.due(1, START_MS + 1)
    sender.take(receipt(1, server_ms=START_MS - 3_600_000), START_MS + 2)
    assert sender.through == 0
    assert sender.due(1, START_MS + 5_001) == [1]
    sender.take(receipt(1, server_ms=START_MS - 3_600_000), START_MS + 5_002)
    assert sender.through == 1


def test_a_receipt_that_goes_back_rewinds():
    sender = greeted()
    sender.due(20, START_MS)
    sender.take(receipt(16, server_ms=START_MS + 10), START_MS)
    sender.due(20, START_MS)
    sender.take(receipt(4, server_ms=START_MS + 20), START_MS)
    assert sender.through == 4
    assert sender.due(20, START_MS + 30) == list(range(5, 21))


def test_a_new_connection_forgets_what_the_old_one_carried():
    sender = greeted()
    sender.due(3, START_MS)
    sender.reconnected()
    assert sender.due(3, START_MS + 1) == []
    assert sender.hello_due(START_MS + 1)
    sender.take(receipt(0), START_MS + 2)
    assert sender.due(3, START_MS + 2) == [1, 2, 3]
    assert sender.resent_count == 3


def test_poison_does_not_stop_the_others():
    sender = greeted()
    platform = Platform(poison={1, 20})
    for step in range(90):
        now_ms = START_MS + step * 5_000
        for sequence in sender.due(100, now_ms):
            sender.take(platform.take(sequence, now_ms), now_ms)
    assert platform.have == set(range(1, 101)) - {1, 20}
    tried = [sender.due(100, START_MS + 10**6 + ms) for ms in (0, 10**5, 2 * 10**5, 3 * 10**5)]
    assert sorted(one for due in tried for one in due) == [1, 1, 20, 20], "in turns, one at a time"


def test_more_gaps_than_a_receipt_can_name_are_all_closed():
    sender, platform = Sender(0, low), Platform()
    platform.have = set(range(2, 1_001, 2))
    assert len(platform.receipt(START_MS).ranges) == RANGES_MAX == 64
    sender.take(platform.receipt(START_MS), START_MS)
    sent = 0
    for step in range(200):
        now_ms = START_MS + 100 * step
        due = sender.due(1_000, now_ms)
        sent += len(due)
        for sequence in due:
            sender.take(platform.take(sequence, now_ms + 50), now_ms + 50)
    assert platform.have == set(range(1, 1_001))
    assert sent < 700, "500 are missing; what no receipt could name is sent again at most a window"


class Platform:
    """What a receiver does: commits, answers with everything it has; some batches never get in."""

    def __init__(self, poison=()):
        self.have = set()
        self.poison = poison
        self.backup = set()
        self.credit = 64

    def take(self, sequence, now_ms):
        if sequence not in self.poison:
            self.have.add(sequence)
        return self.receipt(now_ms)

    def receipt(self, now_ms):
        progress = collapse(0, sorted(self.have))
        return receipt(
            progress.through,
            progress.ranges,
            progress.want,
            server_ms=now_ms,
            credit=self.credit,
        )


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
        assert 5_000 <= least <= most <= 60_000
        return self.random.uniform(least, most)

    def step(self, loss):
        self.now_ms += self.random.choice((1, 50, 400, 3_000))
        self.platform.credit = self.random.choice((1, 2, 16, 256))
        if self.sender.hello_due(self.now_ms):
            self.send("hello", loss)
        self.publish(loss)
        for _ in range(self.random.randrange(40)):
            if self.under_way:
                self.arrive(self.under_way.pop(self.random.randrange(len(self.under_way))), loss)

    def send(self, thing, loss):
        if self.random.random() >= loss:
            self.under_way += [thing] * self.random.choice((1, 1, 1, 2))

    def publish(self, loss):
        before = self.sender.under_way
        for sequence in self.sender.due(self.head, self.now_ms):
            assert self.is_missing(sequence)
            self.send(sequence, loss)
        # credit that shrank is kept to as soon as receipts come
        assert self.sender.under_way <= max(before, self.newest.credit, 2)
        assert all(self.is_missing(sequence) for sequence in self.sender._sent_ms)

    def is_missing(self, sequence):
        """Tell whether the newest receipt does not hold it."""
        known = self.newest
        held = any(first <= sequence <= last for first, last in known.ranges)
        return known.through < sequence <= self.head and not held

    def arrive(self, thing, loss):
        if thing == "hello":
            self.send(self.platform.receipt(self.now_ms), loss)
        elif isinstance(thing, int):
            self.send(self.platform.take(thing, self.now_ms), loss)
        else:
            before = self.sender._answered_ms
            self.sender.take(thing, self.now_ms)
            if thing.server_ms >= before:
                self.newest = thing
            assert self.sender.through == self.newest.through

    def reconnect(self):
        self.under_way.clear()
        self.sender.reconnected()

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
            world.reconnect()
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
