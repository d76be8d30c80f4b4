"""Slots that were due while there was no room to record them, one run per group.

Slots of a group fall due one behind the other, so a run grows at its end until it is declared.
"""

from __future__ import annotations

from collections.abc import Iterator

Run = tuple[int, int, int]
"""First and last time due, and the number of slots."""


class Owed:
    """The runs that are still to be declared. It takes the same room however long they get."""

    def __init__(self) -> None:
        self._runs: dict[int, Run] = {}

    def add(self, group: int, first_due_ms: int, last_due_ms: int, slots: int) -> None:
        """Owe these slots too, whatever else there was to say of them."""
        if group in self._runs:
            first_due_ms, _, former = self._runs[group]
            slots += former
        self._runs[group] = first_due_ms, last_due_ms, slots

    def last_due_ms(self, group: int) -> int | None:
        """Return the last slot that a group owes, None where it owes none."""
        return self._runs[group][1] if group in self._runs else None

    def take(self, group: int) -> Run | None:
        """Return the run of a group to be declared now, None where there is none."""
        return self._runs.pop(group, None)

    def take_all(self) -> Iterator[tuple[int, Run]]:
        """Yield every group with its run, to be declared now."""
        while self._runs:
            yield self._runs.popitem()
