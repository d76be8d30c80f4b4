"""`python -m hil_tests.shifted FILE MODULE ARGUMENT...`: a module on a host with a wrong clock.

FILE holds the error in milliseconds and may change at any time: that is a clock step. Only UTC is
shifted, as on a real host; libfaketime would move the monotonic clock too. The kernel does not
vouch for it, whatever it does here.
"""

from __future__ import annotations

import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path


def shifted(file: Path, utc_ns: Callable[[], int]) -> Callable[[], int]:
    """Return `utc_ns` with the error that `file` holds at each call."""

    def now_ns() -> int:
        return max(0, utc_ns() + int(file.read_text("utf-8")) * 1_000_000)

    return now_ns


if __name__ == "__main__":
    _, _file, _module, *_rest = sys.argv
    # before anything of the agent is imported, which takes the function as a default argument
    time.time_ns = shifted(Path(_file), time.time_ns)
    from edgeagg_agent import clock_trust

    clock_trust.kernel_synchronised = lambda: False
    sys.argv = [_module, *_rest]
    runpy.run_module(_module, run_name="__main__", alter_sys=True)
