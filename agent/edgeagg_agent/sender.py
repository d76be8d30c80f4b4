"""What to send one destination next: hellos, new batches first, then the backlog, until receipted.

Pure: sequences, receipts and the time come in, sequences come out. A publish that the broker
acknowledged has reached nobody yet: only the platform's receipt moves the cursor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from edgeagg.batch import Range, Receipt
from edgeagg_agent.pace import Pace, Uniform

_LIVE_MS = 60_000
_LIVE_MAX = 8
_TRIES_MAX = 3
_REFUSED_MAX = 8


class Sender:
    """Sends a window of batches past the cursor, again after a time-out, until a receipt comes.

    Nothing but hellos goes out on a new connection until a receipt has come: it says what is there
    already, how much may come, and whether the platform knows the gateway as it is.
    """

    def __init__(self, through: int, uniform: Uniform, *, first: int = 0) -> None:
        """Begin behind `through`; `uniform` draws from an interval.

        `first` is a sequence that the others need, such as that of the catalogue; 0: none.
        """
        self.through = through
        self.resent_count = 0
        self.is_greeted = False
        self.is_unheard = False
        """Whether a hello on this connection has had no answer in time."""
        self.last = through
        self._first = first
        self._ranges: tuple[Range, ...] = ()
        self._want: tuple[Range, ...] = ()
        self._pace = Pace(uniform)
        self._sent_ms: dict[int, int] = {}
        self._tries: dict[int, int] = {}
        self._new: deque[tuple[int, int]] = deque(maxlen=_LIVE_MAX)
        self._head = 0
        self._answered_ms = 0
        self._moved_ms = 0
        self._hello_ms: int | None = None

    @property
    def under_way(self) -> int:
        """Batches that were sent and are not receipted."""
        return len(self._sent_ms)

    @property
    def ranges(self) -> tuple[Range, ...]:
        """What the last receipt holds beyond its through."""
        return self._ranges

    def waiting(self, head: int) -> int:
        """Count the sequences up to `head` that are not receipted."""
        return sum(last - first + 1 for first, last in self._gaps(head))

    @property
    def timeout_ms(self) -> int:
        """How long a receipt is waited for now."""
        return self._pace.timeout_ms

    def hello_due(self, now_ms: int) -> bool:
        """Tell whether to say hello now, and count it as said."""
        if self.is_greeted:
            return False
        if self._hello_ms is not None and now_ms - self._hello_ms < self._pace.timeout_ms:
            return False
        if self._hello_ms is not None:
            self.is_unheard = True
            self._stall()
        self._hello_ms = now_ms
        return True

    def due(self, head: int, now_ms: int) -> list[int]:
        """Return the sequences to publish now, and count them as published."""
        self._note_head(head, now_ms)
        self._drop_late(now_ms)
        if not self.is_greeted:
            return []
        urgent = {self._first, *(sequence for sequence, _ in self._new)}
        due: list[int] = []
        for sequence in self._order(head):
            if sequence in self._sent_ms or self._is_refused(sequence):
                continue
            limit = self._pace.limit if sequence in urgent else self._pace.backlog_limit
            if len(self._sent_ms) >= limit:
                return due
            self._sent_ms[sequence] = now_ms
            due.append(sequence)
        return due + self._probe(now_ms)

    def take(self, receipt: Receipt, now_ms: int) -> None:
        """Let a receipt move the cursor: forward, or back when the platform lost what it had."""
        if receipt.server_ms < self._answered_ms:
            return  # overtaken by a later one
        self._answered_ms = receipt.server_ms
        self.is_greeted, self._hello_ms = True, None
        has_moved = receipt.through != self.through or receipt.ranges != self._ranges
        is_full = len(self._sent_ms) >= self._pace.backlog_limit
        if receipt.last < self.last or receipt.through < self.through:
            self._sent_ms.clear()
        self.through, self._ranges, self.last = receipt.through, receipt.ranges, receipt.last
        self._want = receipt.want
        self._pace.grant(receipt.credit)
        delays_ms = []
        for sequence in [sequence for sequence in self._sent_ms if not self.is_missing(sequence)]:
            sent_ms = self._sent_ms.pop(sequence)
            if sequence not in self._tries:
                # of one that was sent twice nobody knows which copy the receipt is for
                delays_ms.append(now_ms - sent_ms)
        self._tries = {s: tries for s, tries in self._tries.items() if self.is_missing(s)}
        if sum(map(self._is_refused, self._tries)) > _REFUSED_MAX:
            # so many mean that the platform was away, and refused none of them
            self._tries.clear()
        if has_moved:
            self._moved_ms = now_ms
            self._pace.answered(delays_ms, now_ms, is_full=is_full)
        elif self._pace.is_stalled:
            # it was away, and what was sent meanwhile reached nobody
            self._pace.back()
            for sequence, sent_ms in list(self._sent_ms.items()):
                if now_ms - sent_ms >= self._pace.timeout_ms:
                    self._resend(sequence)

    def reconnected(self) -> None:
        """Forget what was published on a connection that is gone."""
        for sequence in self._sent_ms:
            # nobody refused it, but a receipt may be for its former copy
            self._tries.setdefault(sequence, 1)
        self.resent_count += len(self._sent_ms)
        self._sent_ms.clear()
        self.is_greeted, self._hello_ms = False, None
        self.is_unheard = False

    def _note_head(self, head: int, now_ms: int) -> None:
        """Remember which batches are new: those cut while we looked, and not long ago."""
        if self._head:
            self._new.extend((sequence, now_ms) for sequence in range(self._head + 1, head + 1))
        self._head = head
        while self._new and now_ms - self._new[0][1] >= _LIVE_MS:
            self._new.popleft()

    def _drop_late(self, now_ms: int) -> None:
        """Let what is without a receipt for too long be sent again."""
        late = {
            sequence: sent_ms
            for sequence, sent_ms in self._sent_ms.items()
            if now_ms - sent_ms >= self._pace.timeout_ms
        }
        for sequence in late:
            self._resend(sequence)
        if late and max(late.values()) >= self._moved_ms:
            self._stall()

    def _stall(self) -> None:
        self._pace.stalled()
        # the platform may speak, with a clock that was set back
        self._answered_ms = 0

    def _resend(self, sequence: int) -> None:
        del self._sent_ms[sequence]
        self._tries[sequence] = self._tries.get(sequence, 0) + 1
        self.resent_count += 1

    def _is_refused(self, sequence: int) -> bool:
        """Tell whether it was sent so often in vain that the others must not wait for it."""
        return self._tries.get(sequence, 0) >= _TRIES_MAX

    def _probe(self, now_ms: int) -> list[int]:
        """Send one that was refused, the one that was tried least, when nothing else is to do."""
        refused = [sequence for sequence in self._tries if self._is_refused(sequence)]
        if not refused or any(sequence in self._sent_ms for sequence in refused):
            return []
        if len(self._sent_ms) >= self._pace.limit:
            return []
        sequence = min(refused, key=lambda one: (self._tries[one], one))
        self._sent_ms[sequence] = now_ms
        return [sequence]

    def _order(self, head: int) -> Iterator[int]:
        """Yield what is missing: what others need, new ones, what is asked for, then the oldest."""
        if 0 < self._first <= head and self.is_missing(self._first):
            yield self._first
        yield from [s for s, _ in self._new if s <= head and self.is_missing(s)]
        for begin, end in self._want:
            yield from range(begin, min(end, head) + 1)
        for begin, end in self._gaps(head):
            yield from range(begin, end + 1)

    def is_missing(self, sequence: int) -> bool:
        """Tell whether the last receipt does not hold this sequence, or asks for it."""
        if any(first <= sequence <= last for first, last in self._want):
            return True
        has = any(first <= sequence <= last for first, last in self._ranges)
        return sequence > self.through and not has

    def _gaps(self, head: int) -> Iterator[Range]:
        """Yield the runs up to `head` that the last receipt does not hold."""
        first = self.through + 1
        for begin, end in (*sorted(self._ranges), (head + 1, head + 1)):
            last = min(begin - 1, head)
            if first <= last:
                yield first, last
            first = max(first, end + 1)
