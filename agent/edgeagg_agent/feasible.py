"""Whether a bus has time for its meters, and what an installer can do if it has not.

Pure arithmetic on a bus's configuration. It opens no port and measures nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edgeagg.errors import ConfigError
from edgeagg_agent import plan
from edgeagg_agent.bus.timing import Timing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeagg_agent.config import BusConfig


SHARE_MAX = 0.95
"""Most of a bus that a plan may ask for: the rest is for retries and probes of dead meters."""


def check_feasible(file: Path, bus: BusConfig, bauds: Sequence[int]) -> None:
    """Raise ConfigError when the meters ask for more time than there is; `bauds` are allowed."""
    if bus.share > SHARE_MAX:
        raise ConfigError(
            file,
            f"bus[{bus.name}].meter.period",
            f"the meters ask for {bus.share:.0%} of the bus's time, {SHARE_MAX:.0%} is the most",
            f"what would help: {_ways_out(bus, bauds)}",
        )


def _ways_out(bus: BusConfig, bauds: Sequence[int]) -> str:
    """Say what would give the bus enough time, each way by itself."""
    slower = bus.share / SHARE_MAX
    ways = [f"periods {math.ceil(slower * 10) / 10:g} times as long"]
    if bus.port:
        enough = (b for b in bauds if b > bus.baud and _share_at(bus, b) <= SHARE_MAX)
        ways += [f"at least {baud} Bd" for baud in [next(enough, None)] if baud is not None]
    if len(bus.meters) > 1:
        more = math.ceil(slower) - 1
        ways.append(
            f"{more} more bus{'es' if more > 1 else ''} for some of its {len(bus.meters)} meters"
        )
    if any(len(meter.points) > 1 for meter in bus.meters):
        ways.append("fewer points per meter (key points)")
    return "; or ".join(ways)


def _share_at(bus: BusConfig, baud: int) -> float:
    timing, turnaround_us = Timing.of(baud, bus.format), bus.turnaround_ms * 1000
    return plan.utilisation(
        (meter.period_ms, plan.scan_us(meter.blocks, meter.profile.limits, timing, turnaround_us))
        for meter in bus.meters
    )
