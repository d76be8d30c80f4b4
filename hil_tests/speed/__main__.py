"""`python -m hil_tests.speed bus|cpu`: measure, print ratios, `--json` for machines."""

from __future__ import annotations

import argparse
import json

from hil_tests.speed import bus, cpu
from hil_tests.speed.master import AgentMaster


def main() -> None:
    """Measure what the words ask for."""
    parser = argparse.ArgumentParser(prog="python -m hil_tests.speed", description=__doc__)
    parser.add_argument("what", choices=("bus", "cpu"))
    parser.add_argument("--seconds", type=float, default=20, help="of each scenario (bus)")
    parser.add_argument("--transactions", type=int, default=200, help="of each client (cpu)")
    parser.add_argument("--baud", type=int, default=9600)
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args()
    if words.what == "bus":
        results = bus.measure_all(AgentMaster(), seconds=words.seconds, baud=words.baud)
        lines = bus.table(results)
    else:
        results = cpu.measure_all(words.transactions, words.baud)
        lines = cpu.table(results)
    print(json.dumps(results, indent=2) if words.json else "\n".join(lines))


if __name__ == "__main__":
    main()
