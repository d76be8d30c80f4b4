"""Makes day files out of delivered batches, a little at a time, and lets go of what they hold.

A file is made once every destination has the batches of a day, of the site's calendar and by the
times at which they were cut. Batches stay as they were signed for some days more, for a platform
that was restored from a backup. What is needed of them besides stays as long: an anchored batch is
read with its keyframe.

Whoever calls sees to it that the disk does not refuse, and that nothing else changes the outbox
meanwhile.
"""

from __future__ import annotations

import bisect
import contextlib
import datetime as dt
import logging
from collections.abc import Iterator
from pathlib import Path

from edgeagg._core import KEYFRAME_BACK_MAX
from edgeagg.batch import Batch
from edgeagg.errors import FormatError
from edgeagg.localdays import CHINA, DAY_MS
from edgeagg.model import LocalTime
from edgeagg_agent import epochs, segments
from edgeagg_agent.catalogues import Catalogues
from edgeagg_agent.clock import Clock
from edgeagg_agent.day_draft import Draft
from edgeagg_agent.day_file import Made, Writer
from edgeagg_agent.outbox import Outbox

_log = logging.getLogger(__name__)

STEP_S = 0.1
"""How long a step takes, but for the piece of work that ends it."""
LOOK_S = 60.0
"""How often it is looked whether a day is over and delivered."""
PAUSE_S = 600.0
"""How long nothing is tried after the disk has refused."""
_EPOCH = dt.date(1970, 1, 1)


class Historian:
    """The writer of the day files of one state directory."""

    def __init__(
        self,
        directory: Path,
        outbox: Outbox,
        clock: Clock,
        *,
        local_time: LocalTime | None,
        resend_ms: int,
        history_ms: int,
    ) -> None:
        """Go on where a former run has ended.

        Batches stay for `resend_ms` after they were cut, days for `history_ms`.
        """
        self._directory, self._outbox, self._clock = directory, outbox, clock
        self._local_time = local_time
        self._resend_ms, self._history_ms = resend_ms, history_ms
        self._work: Iterator[None] | None = None
        self._writer: Writer | None = None
        self._next_look_s = 0.0
        self._done: set[int] = set()

    def close(self) -> None:
        """End; what is not finished is begun anew by the next run."""
        self._work = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def step(self) -> None:
        """Do a little of what there is to do. Blocks, for about STEP_S."""
        now_s = self._clock.monotonic_s()
        if self._writer is not None and not self._outbox.days.unfinished.exists():
            self.close()  # its room was needed
            self._next_look_s = now_s + PAUSE_S
        if self._work is None and now_s < self._next_look_s:
            return
        try:
            if self._work is None:
                self._work = self._begin()
            self._go_on(now_s + STEP_S)
        except OSError as error:
            _log.warning("history: %s; tried again in ten minutes", error.strerror)
            self.close()
            self._next_look_s = now_s + PAUSE_S
            with contextlib.suppress(OSError):
                self._outbox.days.free_unfinished()

    def free(self) -> None:
        """Let go of what is old enough. Blocks. Nothing is while nobody vouches for the time."""
        if not self._clock.is_trusted:
            return
        now_ms = self._clock.now_ms()
        self._outbox.free_delivered(now_ms - self._resend_ms)
        self._outbox.free_days(now_ms - self._history_ms)
        for epoch in tuple(self._done):
            days = self._outbox.days
            if days.covered_until(epoch, now_ms - self._resend_ms) == days.covered(epoch):
                self._outbox.free_former(epoch)
                self._done.discard(epoch)

    def _go_on(self, end_s: float) -> None:
        if self._work is None:
            self._next_look_s = self._clock.monotonic_s() + LOOK_S
            return
        for _ in self._work:
            if self._clock.monotonic_s() >= end_s:
                break
        else:
            self.close()
        if self._writer is not None:
            self._writer.sync()  # each step, so that none has much to wait for

    def _begin(self) -> Iterator[None] | None:
        """Return the work on the oldest day that is over, None when there is none."""
        numbers = epochs.numbers(self._directory)
        for epoch, own in epochs.history(self._directory, numbers).items():
            is_former = epoch != self._outbox.epoch
            if epoch in self._done:
                continue
            folder = epochs.batches(self._directory, epoch)
            known = segments.numbered(folder)
            if not known:
                continue
            first = max(self._outbox.days.covered(epoch) + 1, known[0][0], own.start)
            last = _last_of(folder, known[-1][0]) if is_former else self._outbox.delivered
            last = min(last, own.stop - 1)
            if first > last:
                if is_former:
                    self._done.add(epoch)
            elif is_former or self._is_over(folder, first, last):
                return self._make(epoch, first, last)
        return None

    def _is_over(self, folder: Path, first: int, last: int) -> bool:
        """Tell whether batches of another day than the first one's are delivered."""
        dates = [self._date(folder, number, last) for number in (first, last)]
        return None not in dates and dates[0] != dates[1]

    def _date(self, folder: Path, first: int, last: int) -> dt.date | None:
        for _, message in segments.messages(folder, first, last):
            batch = _batch(message)
            if batch is not None:
                return date_of(batch.cut_at_ms, self._local_time)
        return None

    def _make(self, epoch: int, first: int, last: int) -> Iterator[None]:
        """Make a file of the batches from `first` on that were cut on one day, up to `last`."""
        days = self._outbox.days
        days.prepare()
        self._writer = writer = Writer(days.unfinished)
        draft = Draft(writer, Catalogues(self._directory))
        date: dt.date | None = None
        through, cut_at_ms = first - 1, 0
        folder = epochs.batches(self._directory, epoch)
        for sequence, message in segments.messages(folder, first - KEYFRAME_BACK_MAX, last):
            batch = _batch(message)
            if sequence < first:
                draft.remember(batch)
                continue
            if batch is not None:
                own = date_of(batch.cut_at_ms, self._local_time)
                if date not in {None, own}:
                    break
                date, cut_at_ms = own, max(cut_at_ms, batch.cut_at_ms)
            draft.lost += sequence - through - 1
            through = sequence
            yield from draft.take(batch, message)
        else:
            if epoch == self._outbox.epoch:
                return  # the batch that ends the day can no longer be read: another one will
            draft.lost += last - through
            through = last
        yield from draft.finish()
        cut_at_ms = cut_at_ms or self._clock.now_ms()
        writer.finish(Made(epoch=epoch, first=first, through=through, lost=draft.lost))
        days.finish(
            f"{date_of(cut_at_ms, self._local_time)}",
            epoch=epoch,
            first=first,
            through=through,
            cut_at_ms=cut_at_ms,
        )


def date_of(at_ms: int, local_time: LocalTime | None) -> dt.date:
    """Return the day that a site's calendar shows; None: China Standard Time."""
    offsets = CHINA if local_time is None else local_time.offsets
    place = bisect.bisect([change_ms for change_ms, _ in offsets], at_ms) - 1
    days = max(0, at_ms + offsets[max(0, place)][1]) // DAY_MS
    days = min(days, (dt.date.max - _EPOCH).days)
    return _EPOCH + dt.timedelta(days=days)


def _batch(message: bytes) -> Batch | None:
    with contextlib.suppress(FormatError):
        return Batch.from_bytes(message)
    return None


def _last_of(folder: Path, start: int) -> int:
    """Return the last sequence of a folder whose last segment begins with `start`."""
    found = [number for number, _ in segments.messages(folder, start, 2**63)]
    return max(found, default=start - 1)
