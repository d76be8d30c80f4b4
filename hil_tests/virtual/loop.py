"""An event loop whose time jumps to the next timer instead of waiting for it.

Owns virtual time, in whole milliseconds. It touches no clock and no file descriptor, and it starts
no thread: what is given to an executor runs in the loop, so a run depends on its seed alone.
"""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")

_MS_PER_S = 1000
_ROUNDING_MS = 1e-3  # far above a float's error in seconds, far below a millisecond


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs everything that is ready, then puts its clock to the next timer."""

    def __init__(self, work_ms: Callable[[], int]) -> None:
        """Begin at 0; `work_ms` draws how long blocking work takes.

        Work of an odd duration takes effect at its end, of an even one at its begin.
        """
        self.now_ms = 0
        self.at_work: Callable[[], None] = lambda: None  # told of work for the default executor
        self._work_ms = work_ms
        super().__init__(_Leaper(self._leap))

    def time(self) -> float:
        """Return the virtual seconds since the loop began."""
        return self.now_ms / _MS_PER_S

    def run_in_executor(
        self, executor: Executor | None, func: Callable[..., T], *args: object
    ) -> asyncio.Future[T]:
        """Let `func` take effect in one instant, now or some time from now.

        A caller that is killed in between leaves the work undone, or done without knowing it.
        """
        if executor is None:
            self.at_work()
        return self.create_task(self._work(func, args))

    async def _work(self, func: Callable[..., T], args: tuple[object, ...]) -> T:
        work_ms = self._work_ms()
        if work_ms % 2:
            await asyncio.sleep(work_ms / _MS_PER_S)
            return func(*args)
        result = func(*args)
        await asyncio.sleep(work_ms / _MS_PER_S)
        return result

    def _leap(self, timeout_s: float | None) -> None:
        if timeout_s is None:
            raise RuntimeError("everything waits, and no timer is set: this run would never end")
        if timeout_s > 0:
            self.now_ms += max(1, math.ceil(timeout_s * _MS_PER_S - _ROUNDING_MS))


class _Leaper(selectors.BaseSelector):
    """Stands where the loop would wait for file descriptors."""

    def __init__(self, leap: Callable[[float | None], None]) -> None:
        self._leap = leap

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:  # noqa: ANN401
        """Take the loop's own wake-up socket, which nobody writes to."""
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:  # noqa: ANN401
        """Give it back."""
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Leap instead of waiting."""
        self._leap(timeout)
        return []

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Say that nothing is registered."""
        return {}
