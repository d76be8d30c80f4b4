"""Deliveries in virtual time: the agent's own sender and back-off over a modelled line.

Owns the model. A line is a byte stream each way: a rate, a latency, and segments that are lost and
sent again with a doubling time-out (RFC 6298), behind which everything waits. What is not modelled:
TCP's congestion window and fast retransmission, acknowledgements that are lost, the broker's queue.
So a thin stream on a bad line fares better here than over a kernel's TCP: `hil_tests.badline` has
that, in real time.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from edgeagg.batch import Receipt, check_of
from edgeagg.receiver.credit import Credit
from edgeagg.receiver.store import collapse
from edgeagg_agent.sender import Sender
from edgeagg_agent.uplink import Backoff
from hil_tests.proxy import Weather

GATEWAY = "qp-line"
_EPOCH = 1_790_000_000_000
_SEGMENT_BYTES = 1460
_OVERHEAD_BYTES = 120  # of a publish: TCP, IP, TLS, the topic
_RECEIPT_BYTES = 200
_SMALL_BYTES = 60
_PATIENCE_MS = 20_000  # of the client, for a new connection, at least
_PATIENCE_MAX_MS = 40_000
_ASK_MS = 8_000  # without a byte; then so long, or as many answers as a first round trip tells of
_UNANSWERED_MS = 9_000
_UNANSWERED_MAX_MS = 81_000
_ANSWERS = 8
_ANSWER_ROUND_TRIPS = 3  # RFC 6298, 2.2
_WORD_MS = 90_000  # for the broker's word for one message
_TICK_MS = 1_000
_COMMIT_MS = 20


class Life:
    """Time and what is to happen in it."""

    def __init__(self) -> None:
        self.now_ms = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def after(self, delay_ms: float, do: Callable[[], None]) -> None:
        """Let something happen."""
        heapq.heappush(self._heap, (self.now_ms + delay_ms, next(self._count), do))

    def run(self, until_ms: float) -> None:
        """Let everything happen up to a time."""
        while self._heap and self._heap[0][0] <= until_ms:
            self.now_ms, _, do = heapq.heappop(self._heap)
            do()
        self.now_ms = until_ms


@dataclass(frozen=True, slots=True)
class Line:
    """One way of a line; `bits_per_s` 0: as fast as can be."""

    weather: Weather
    bits_per_s: int = 0


class Stream:
    """One direction of a connection."""

    def __init__(self, life: Life, line: Line, rng: Random) -> None:
        self._life, self._line, self._rng = life, line, rng
        self._free_ms, self._last_ms = 0.0, 0.0
        self.bytes_count = 0

    def send(self, size: int, arrive: Callable[[], None]) -> None:
        """Let bytes arrive behind all sent before."""
        self.bytes_count += size
        for _ in range(-(-size // _SEGMENT_BYTES)):
            begin_ms = max(self._free_ms, self._life.now_ms)
            took_ms = 0.0
            if self._line.bits_per_s:
                took_ms = min(size, _SEGMENT_BYTES) * 8_000 / self._line.bits_per_s
            self._free_ms = begin_ms + took_ms
            delay_ms = 1000 * self._line.weather.delay_s(self._rng)
            self._last_ms = max(self._last_ms, self._free_ms + delay_ms)
        self._life.after(self._last_ms - self._life.now_ms, arrive)


class Platform:
    """Commits what arrives, a group at a time, and answers; the numbers only."""

    def __init__(self, life: Life) -> None:
        self.credit = Credit()
        self.new = 0
        self.again = 0
        self.busiest = 0
        self._life = life
        self._have: dict[str, set[int]] = {}
        self._through: dict[str, int] = {}
        self._waiting: list[tuple[str, int, Callable[[Receipt], None]]] = []

    def take(self, gateway: str, sequence: int, answer: Callable[[Receipt], None]) -> None:
        """Take a batch, or with sequence 0 a hello."""
        if not self._waiting:
            self._life.after(_COMMIT_MS, self._commit)
        self._waiting.append((gateway, sequence, answer))
        self.busiest = max(self.busiest, len(self._waiting))

    def lacks(self, gateway: str, head: int) -> int:
        """Return how many of the batches up to `head` are not committed."""
        beyond = self._have.get(gateway, set())
        first = self._through.get(gateway, 0) + 1
        return sum(sequence not in beyond for sequence in range(first, head + 1))

    def _commit(self) -> None:
        group, self._waiting = self._waiting, []
        answers: dict[str, Callable[[Receipt], None]] = {}
        for gateway, sequence, answer in group:
            answers[gateway] = answer
            self.credit.hear(gateway, round(self._life.now_ms))
            if not sequence:
                continue
            beyond = self._have.setdefault(gateway, set())
            if sequence in beyond or sequence <= self._through.get(gateway, 0):
                self.again += 1
                continue
            self.new += 1
            beyond.add(sequence)
        for gateway, answer in answers.items():
            answer(self._receipt(gateway))

    def _receipt(self, gateway: str) -> Receipt:
        beyond = self._have.setdefault(gateway, set())
        progress = collapse(self._through.get(gateway, 0), sorted(beyond))
        self._through[gateway] = progress.through
        beyond -= set(range(progress.through - len(beyond), progress.through + 1))
        now_ms = round(self._life.now_ms)
        share = self.credit.grant(now_ms)
        place = (progress.through, progress.ranges, progress.want)
        return Receipt(gateway, _EPOCH, *place, _EPOCH + now_ms, share, check_of(b""))


@dataclass(slots=True)
class Seen:
    """What a gateway saw: of each batch when it was cut, and how much later its receipt came."""

    live: list[tuple[float, float]] = field(default_factory=list)
    connections: int = 0
    begun_ms: float = 0.0
    drained_ms: float | None = None

    def live_ms(self, from_ms: float = 0, to_ms: float = float("inf")) -> list[float]:
        """Return the delays of batches that were cut within a time."""
        return [delay_ms for cut_ms, delay_ms in self.live if from_ms <= cut_ms < to_ms]


class Gateway:
    """Cuts batches, and delivers them as `edgeagg_agent.uplink` does."""

    def __init__(
        self,
        life: Life,
        platform: Platform,
        rng: Random,
        *,
        name: str = GATEWAY,
        lines: tuple[Line, Line],
        batch_bytes: int,
        flush_ms: int,
        backlog: int = 0,
    ) -> None:
        self.head = backlog
        self.seen = Seen()
        self.is_reachable: Callable[[], bool] = lambda: True
        self.sender = Sender(0, rng.uniform)
        self._backlog = backlog
        self._life, self._platform, self._rng, self._name = life, platform, rng, name
        self._lines, self._batch_bytes, self._flush_ms = lines, batch_bytes, flush_ms
        self._backoff = Backoff(rng.uniform)
        self._connection = 0  # the number of the one that is open; 0: none
        self._up, self._down = self._streams()
        self._heard_ms = 0.0
        self._patience_ms = float(_PATIENCE_MS)
        self._has_pinged = False
        self._given_up = 0
        self._cut_ms: dict[int, float] = {}
        life.after(rng.uniform(0, flush_ms), self._cut)
        self._pause()

    def drop(self) -> None:
        """Lose the connection."""
        if self._connection:
            self._connection = 0
            self._pause()

    def _streams(self) -> tuple[Stream, Stream]:
        up, down = (Stream(self._life, line, self._rng) for line in self._lines)
        return up, down

    def _cut(self) -> None:
        self.head += 1
        self._cut_ms[self.head] = self._life.now_ms
        self._life.after(self._flush_ms, self._cut)
        self._pump()

    def _pause(self) -> None:
        self._life.after(1000 * self._backoff.pause_s(), self._connect)

    def _connect(self) -> None:
        if not self.is_reachable():
            self._pause()
            return
        self.seen.connections += 1
        number = self.seen.connections
        self._up, self._down = self._streams()
        learned_ms = 4.0 * self.sender.timeout_ms
        self._patience_ms = min(max(_PATIENCE_MS, learned_ms), _PATIENCE_MAX_MS)
        self._heard_ms = self._life.now_ms
        # of TCP and of MQTT; the subscription travels together with the hello
        self._shake_hands(number, 2)

    def _shake_hands(self, number: int, count: int) -> None:
        if number != self.seen.connections or self._given_up == number:
            return
        if not count:
            self._open(number)
            return
        up, down, done = self._up, self._down, list[bool]()

        def answered() -> None:
            done.append(True)
            self._shake_hands(number, count - 1)

        def check() -> None:
            if not done and self._given_up != number:
                self._given_up = number
                self._pause()

        up.send(_SMALL_BYTES, lambda: down.send(_SMALL_BYTES, answered))
        self._life.after(self._patience_ms, check)

    def _open(self, number: int) -> None:
        self.seen.begun_ms = self.seen.begun_ms or self._life.now_ms
        self._connection = number
        self._heard_ms = self._life.now_ms
        self.sender.reconnected()
        self._tick(number)

    def _tick(self, number: int) -> None:
        if number != self._connection:
            return
        silent_ms = self._life.now_ms - self._heard_ms
        round_trip_ms = 1000 * sum(line.weather.latency_s for line in self._lines)
        answer_ms = max(_UNANSWERED_MS, _ANSWERS * _ANSWER_ROUND_TRIPS * round_trip_ms)
        if silent_ms >= _ASK_MS + min(answer_ms, _UNANSWERED_MAX_MS):
            self.drop()
            return
        if silent_ms < _ASK_MS:
            self._has_pinged = False
        elif not self._has_pinged:
            self._has_pinged = True
            down = self._down
            self._up.send(_SMALL_BYTES, lambda: down.send(_SMALL_BYTES, lambda: self._hear(number)))
        self._pump()
        self._life.after(_TICK_MS, lambda: self._tick(number))

    def _pump(self) -> None:
        if not self._connection:
            return
        now_ms = round(self._life.now_ms)
        if self.sender.hello_due(now_ms):
            self._publish(0, _SMALL_BYTES)
        for sequence in self.sender.due(self.head, now_ms):
            self._publish(sequence, self._batch_bytes)

    def _publish(self, sequence: int, size: int) -> None:
        number = self._connection

        def arrive() -> None:
            self._platform.take(self._name, sequence, lambda receipt: self._answer(number, receipt))

        self._exchange(size + _OVERHEAD_BYTES, arrive)

    def _exchange(self, size: int, arrive: Callable[[], None]) -> None:
        """Send, and have the broker say so; give the connection up if that takes long."""
        number, down = self._connection, self._down
        answered: list[bool] = []

        def acknowledged() -> None:
            answered.append(True)
            self._hear(number)

        def broker() -> None:
            if number != self._connection:
                return  # nobody sends again what was lost on the way
            down.send(_SMALL_BYTES, acknowledged)
            arrive()

        def check() -> None:
            if not answered and number == self._connection:
                self.drop()

        self._up.send(size, broker)
        self._life.after(_WORD_MS, check)

    def _hear(self, number: int) -> None:
        if number == self._connection:
            self._heard_ms = self._life.now_ms

    def _answer(self, number: int, receipt: Receipt) -> None:
        if number == self._connection:
            self._down.send(_RECEIPT_BYTES, lambda: self._take(number, receipt))

    def _take(self, number: int, receipt: Receipt) -> None:
        if number != self._connection:
            return
        self._hear(number)
        self._backoff.reset()
        self.sender.take(receipt, round(self._life.now_ms))
        for sequence in list(self._cut_ms):
            held = any(first <= sequence <= last for first, last in receipt.ranges)
            if sequence <= receipt.through or held:
                cut_ms = self._cut_ms.pop(sequence)
                self.seen.live.append((cut_ms, self._life.now_ms - cut_ms))
        if receipt.through >= self._backlog and self.seen.drained_ms is None:
            self.seen.drained_ms = self._life.now_ms
        self._pump()


def share(delays_ms: list[float], part: float) -> float:
    """Return the nearest-rank percentile."""
    ordered = sorted(delays_ms)
    return ordered[max(0, -(-int(part * 1000) * len(ordered) // 1000) - 1)]
