"""Where a site's local days begin and end: 23 or 25 hours long where its clock is changed.

The rule is the core's (`calendar.rs`), so that statements and demands divide time alike: a day
begins at the first moment when the local clock has reached midnight. Pure, and knows no zones.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

DAY_MS = 86_400_000
CHINA = ((0, 8 * 3_600_000),)
"""China Standard Time: what a catalogue without a clock means."""


class LocalDays:
    """The days of a clock, given as (UTC ms, offset from UTC in ms) per change, in order.

    The first offset holds before its time as well, the last one for ever.
    """

    def __init__(self, offsets: Sequence[tuple[int, int]] = CHINA, *, day_ms: int = DAY_MS) -> None:
        """`day_ms` is how much the local clock shows from one midnight to the next."""
        self._day_ms = day_ms
        self._changes_ms = [at_ms for at_ms, _ in offsets[1:]]
        self._offsets_ms = [offset_ms for _, offset_ms in offsets]
        self._shown_ms: list[int] = []
        """The latest local time that was shown before each change."""
        for at_ms, offset_ms in zip(self._changes_ms, self._offsets_ms, strict=False):
            before_ms = self._shown_ms[-1] if self._shown_ms else at_ms + offset_ms - 1
            self._shown_ms.append(max(before_ms, at_ms + offset_ms - 1))

    def bounds(self, at_ms: int) -> tuple[int, int]:
        """Return where the day of a time begins and where the next one does, in UTC."""
        place = bisect_right(self._changes_ms, at_ms)
        local_ms = at_ms + self._offsets_ms[place]
        if place:
            local_ms = max(local_ms, self._shown_ms[place - 1])
        midnight_ms = local_ms - local_ms % self._day_ms
        return self._reached_ms(midnight_ms), self._reached_ms(midnight_ms + self._day_ms)

    def _reached_ms(self, local_ms: int) -> int:
        """Return the first moment when the clock shows `local_ms` or later."""
        # what was shown before a change never goes back, so the change behind it can be searched
        place = bisect_right(self._shown_ms, local_ms - 1)
        reached_ms = local_ms - self._offsets_ms[place]
        return max(reached_ms, self._changes_ms[place - 1]) if place else reached_ms
