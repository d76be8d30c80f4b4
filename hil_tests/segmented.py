"""`python -m hil_tests.segmented BYTES MODULE ...`: the agent with journals of small segments.

What takes hours with its own ones, to fill them and to let them go, takes seconds so.
"""

from __future__ import annotations

import runpy
import sys

from edgeagg_agent import outbox, recorder


def main() -> None:
    """Run a module as `python -m` does."""
    segment_bytes, module = int(sys.argv[1]), sys.argv[2]
    for journal in (outbox, recorder):
        vars(journal)["_SEGMENT_BYTES"] = segment_bytes
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
