"""A bus's budget in words and as JSON, for `edgeagg-agent plan` and for the refusal of a site file.

It adds nothing up itself: `budget` does, and `ways` for what could be changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeagg.errors import ConfigError
from edgeagg_agent.boundary import bracketing_period_ms
from edgeagg_agent.budget import SHARE_MAX, Budget, BusLoad, budget
from edgeagg_agent.ways import Way, duration, outlook, ways_out

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def check_load(file: Path, load: BusLoad, bauds: Sequence[int]) -> None:
    """Raise ConfigError when the meters ask for more than there is; `bauds` are allowed."""
    found = budget(load)
    if found.is_feasible:
        return
    ways = "; or ".join(way.change for way in ways_out(load, bauds))
    raise ConfigError(
        file, f"bus[{load.name}].meter.period", _trouble(found), f"what would help: {ways}"
    )


def budget_lines(loads: Sequence[BusLoad], bauds: Sequence[int]) -> list[str]:
    """Return the budget of every bus, a few lines each, in the order given."""
    return [line for load in loads for line in _lines(load, bauds)]


def budget_json(loads: Sequence[BusLoad], bauds: Sequence[int]) -> dict[str, Any]:
    """Return the same as plain values, by the bus's name; times in ms, shares of 1."""
    return {load.name: _plain(load, bauds) for load in loads}


def _trouble(found: Budget) -> str:
    if found.share > SHARE_MAX:
        return (
            f"the meters ask for {found.share:.0%} of the bus's time, {SHARE_MAX:.0%} is the most"
        )
    return f"one read of {found.blocked} takes so long that meters with short periods miss slots"


def _lines(load: BusLoad, bauds: Sequence[int]) -> list[str]:
    found = budget(load)
    speed = f"{load.baud} Bd" if load.baud else "TCP"
    verdict = "feasible" if found.is_feasible else f"NOT feasible: {_trouble(found)}"
    cycle = f"one read of everything {found.cycle_ms / 1000:.2f} s, {found.share:.1%} of its time"
    lines = [f"bus {found.name}: {speed}, {len(found.meters)} meters, {cycle}: {verdict}"]
    lines += [
        f"  {meter.name}: {meter.reads} {'read' if meter.reads == 1 else 'reads'}, "
        f"{meter.scan_us / 1000:.0f} ms, {meter.share:.1%}; dead it costs "
        f"{meter.failed_us / 1000:.0f} ms each time it is asked"
        for meter in found.meters
    ]
    counts = sorted({1, min(3, len(found.meters))})
    dead = ", ".join(f"{count} dead {found.dead_share(count):.1%}" for count in counts)
    lines.append(f"  dead meters may take, at most: {dead} of the bus's time")
    if found.boundary_ms:
        lines.append(
            f"  totalisers are read within {found.boundary_ms / 1000:.1f} s "
            "of every quarter hour, before and behind it"
        )
    lines += [
        f"  {meter.name}: totalisers read every {duration(meter.astray_ms)} miss one side of "
        "quarter hours; every "
        f"{duration(bracketing_period_ms(meter.astray_ms))} they would have both"
        for meter in found.meters
        if meter.astray_ms
    ]
    if found.is_feasible:
        return lines + [f"  with {_outcome(way)}" for way in outlook(load, bauds)]
    return lines + [f"  it would do with {_outcome(way)}" for way in ways_out(load, bauds)]


def _outcome(way: Way) -> str:
    found = way.budget
    return f"{way.change}: {found.cycle_ms / 1000:.2f} s, {found.share:.1%}"


def _plain(load: BusLoad, bauds: Sequence[int]) -> dict[str, Any]:
    found = budget(load)
    ways = outlook(load, bauds) if found.is_feasible else ways_out(load, bauds)
    return {
        "baud": load.baud,
        "is_feasible": found.is_feasible,
        "cycle_ms": found.cycle_ms,
        "share": round(found.share, 4),
        "share_max": SHARE_MAX,
        "boundary_ms": found.boundary_ms,
        "blocked_by": found.blocked,
        "dead_share": {str(n): round(found.dead_share(n), 4) for n in (1, 3)},
        "meters": {
            meter.name: {
                "reads": meter.reads,
                "registers": meter.registers,
                "scan_ms": round(meter.scan_us / 1000, 1),
                "failed_ms": round(meter.failed_us / 1000, 1),
                "astray_ms": meter.astray_ms,
                "share": round(meter.share, 4),
            }
            for meter in found.meters
        },
        "ways": [
            {
                "change": way.change,
                "cycle_ms": way.budget.cycle_ms,
                "share": round(way.budget.share, 4),
                "is_feasible": way.budget.is_feasible,
            }
            for way in ways
        ],
    }
