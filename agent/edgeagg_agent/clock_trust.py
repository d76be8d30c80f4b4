"""Who vouches for the host's clock, and what is known of time over a restart.

Owns the question to the kernel and the file with the last time that was trusted. What follows from
it is decided in `clock`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
from collections.abc import Callable
from pathlib import Path

from edgeagg_agent.clock import ClockState, JudgedClock, SystemClock, Trust

FILE = "clock.json"
EARLIEST_MS = 1_767_225_600_000
"""1 January 2026: no gateway ran this program before; a clock that shows less was never set."""

_TIMEX_BYTES = 512  # more than the structure has on any machine
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def kernel_synchronised() -> bool:
    """Ask the kernel whether something keeps its clock right, as chrony and timesyncd do."""
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes 0: only ask
    return _libc.adjtimex(timex) not in (-1, _TIME_ERROR)


_libc = ctypes.CDLL(None)


class TimeFile:
    """The last time that was trusted, in one file of the state directory."""

    def __init__(self, directory: Path, boot_file: Path = _BOOT_ID) -> None:
        """Read what a former run kept; what cannot be read is not known."""
        self._file = directory / FILE
        self.boot = ""
        with contextlib.suppress(OSError):
            self.boot = boot_file.read_text("ascii").strip()
        self._at_ms, self._is_known, self._offset_ns, self._boot = EARLIEST_MS, False, 0, ""
        try:
            found = json.loads(self._file.read_text("utf-8"))
            self._at_ms = max(int(found["at_ms"]), EARLIEST_MS)
            self._is_known = found["is_known"] is True
            self._offset_ns, self._boot = int(found["offset_ns"]), str(found["boot"])
        except (OSError, ValueError, KeyError, TypeError):
            return

    def clock(
        self,
        utc_ns: Callable[[], int],
        monotonic_ns: Callable[[], int],
        is_synchronised: Callable[[], bool],
    ) -> SystemClock:
        """Return the agent's clock. A trusted time of this boot is still known by its offset."""
        is_same_boot = self._is_known and self.boot != "" and self._boot == self.boot
        return SystemClock(
            utc_ns,
            monotonic_ns,
            is_synchronised=is_synchronised,
            floor_ms=self._at_ms,
            knows_past=self._is_known,
            held_offset_ns=self._offset_ns if is_same_boot else None,
        )

    def keep(self, clock: JudgedClock) -> None:
        """Write down the time, unless it may be wrong and ahead. Raises OSError."""
        if clock.state.trust is Trust.RTC:
            return
        kept = {
            "at_ms": clock.now_ms(),
            "is_known": clock.is_trusted,
            "offset_ns": clock.offset_ns,
            "boot": self.boot,
        }
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(kept), "utf-8")
        new.replace(self._file)


def words(state: ClockState, waiting: int | None = None) -> str:
    """Say to an installer how right the times are.

    `waiting` is how many readings wait for the time; None where none of them does any more.
    """
    minutes, seconds = divmod(state.unconfirmed_s, 60)
    for_s = f"{minutes} min" if minutes else f"{seconds} s"
    then = "times are flagged"
    if waiting is not None:
        then = f"waiting for the time: {waiting} rows are kept back until it is known"
    return {
        Trust.NEVER: f"not synchronised for {for_s} and never set, {then}",
        Trust.RTC: f"not synchronised for {for_s}, {then}",
        Trust.PLATFORM: f"set by the platform, confirmed {for_s} ago",
        Trust.HOLDOVER: f"not synchronised for {for_s}, right before: it goes on from there",
        Trust.NTP: "synchronised",
    }[state.trust]
