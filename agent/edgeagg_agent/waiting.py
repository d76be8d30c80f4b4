"""The groups of one task while they wait for the time: when that ends, and how.

Owns which offset the clock had when a slot fell due. What waits is kept by the recorder.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edgeagg_agent.clock import NS_PER_MS, Clock
from edgeagg_agent.held import HeldRow
from edgeagg_agent.recorder import Recorder


class Waiting:
    """What a task that reads slots must know of the time being unknown."""

    def __init__(self, recorder: Recorder, clock: Clock, groups: Collection[int]) -> None:
        self._recorder, self._clock, self._groups = recorder, clock, tuple(groups)
        self._offset_ms = clock.offset_ns // NS_PER_MS

    def holds(self, group: int) -> bool:
        """Tell whether what is read of this group waits."""
        return self._recorder.held.holds(group)

    def is_over(self) -> bool:
        """Tell whether the time is known by now, or has been waited for long enough.

        Until then this must be asked before each slot is picked: slots fall due by the offset that
        it finds.
        """
        held = self._recorder.held
        if not any(map(held.holds, self._groups)):
            return False
        if self._clock.is_trusted or held.is_over(self._groups, self._monotonic_ms()):
            return True
        self._offset_ms = self._clock.offset_ns // NS_PER_MS
        return False

    def hold(
        self,
        group: int,
        *,
        due_ms: int,
        age_ms: int,
        values: Sequence[int | None] | None,
        qualities: bytes = b"",
    ) -> None:
        """Keep a slot that was read `age_ms` ago; None for values: its meter was replaced."""
        at_ms = self._monotonic_ms() - age_ms + self._offset_ms
        self._recorder.hold(
            HeldRow(
                group=group,
                due_ms=due_ms,
                at_ms=max(due_ms, at_ms),
                offset_ms=self._offset_ms,
                values=None if values is None else tuple(values),
                qualities=qualities,
                knows_past=self._clock.knows_past,
            )
        )

    def release(self) -> frozenset[int]:
        """Give what waits its right time, if that is known; return the groups that were read."""
        trusted_ms = self._clock.offset_ns // NS_PER_MS if self._clock.is_trusted else None
        return self._recorder.release(self._groups, trusted_ms)

    def _monotonic_ms(self) -> int:
        return int(self._clock.monotonic_s() * 1000)
