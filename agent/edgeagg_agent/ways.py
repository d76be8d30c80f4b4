"""What would give a bus enough time, or more of it: each way by itself.

Pure. It changes one thing of a load at a time, and asks `budget` what comes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgeagg_agent.budget import SHARE_MAX, Budget, BusLoad, GroupLoad, MeterLoad, budget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WAYS = 3
# whole numbers of times a day, as an installer writes them
PERIODS_MS = tuple(
    [s * 1000 for s in (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30)]
    + [m * 60_000 for m in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)]
    + [h * 3_600_000 for h in (1, 2, 3, 4, 6, 8, 12, 24)]
)


@dataclass(frozen=True, slots=True)
class Way:
    """One change, in words, and what the bus would look like with it."""

    change: str
    budget: Budget


def ways_out(load: BusLoad, bauds: Sequence[int]) -> tuple[Way, ...]:
    """Return up to three changes, each of which makes the load feasible by itself."""
    found = (higher_baud(load, bauds), longer_periods(load), fewer_points(load), more_buses(load))
    return tuple(way for way in found if way is not None)[:WAYS]


def outlook(load: BusLoad, bauds: Sequence[int]) -> tuple[Way, ...]:
    """Return what the next step of each change would give, feasible or not."""
    steps = []
    if load.baud and (baud := next((b for b in sorted(bauds) if b > load.baud), 0)):
        steps.append(Way(f"{baud} Bd", budget(_at_baud(load, baud))))
    longer = _with_periods(load, 1.001)  # the next plain period
    if longer != load:
        steps.append(Way(_periods_text(load, longer), budget(longer)))
    points = max((_points(group) for group in _groups(load)), default=0)
    if points > 1:
        half = points - points // 2
        steps.append(Way(_points_text(half, points), budget(_with_points(load, half))))
    return tuple(steps)


def higher_baud(load: BusLoad, bauds: Sequence[int]) -> Way | None:
    """Find the lowest baud rate that is enough, for the meters at the bus's own rate."""
    if load.baud:
        for baud in sorted(bauds):
            if baud > load.baud and (found := budget(_at_baud(load, baud))).is_feasible:
                return Way(f"at least {baud} Bd", found)
    return None


def longer_periods(load: BusLoad) -> Way | None:
    """Find the smallest factor for all periods that is enough, each rounded up to a plain one."""
    factor = max(1.0, budget(load).share / SHARE_MAX)
    while True:
        changed = _with_periods(load, factor)
        if changed != load and (found := budget(changed)).is_feasible:
            return Way(_periods_text(load, changed), found)
        if all(group.period_ms >= PERIODS_MS[-1] for group in _groups(changed)):
            return None
        factor *= 1.1


def fewer_points(load: BusLoad) -> Way | None:
    """Find the most points per meter that there is time for; the first ones of each are kept."""
    most = max((_points(group) for group in _groups(load)), default=0)
    enough, too_many = 0, most
    while too_many - enough > 1:
        middle = (enough + too_many) // 2
        if budget(_with_points(load, middle)).is_feasible:
            enough = middle
        else:
            too_many = middle
    if not enough:
        return None
    return Way(_points_text(enough, most), budget(_with_points(load, enough)))


def more_buses(load: BusLoad) -> Way | None:
    """Find how many buses would do, were the meters dealt out among them in turn."""
    for count in range(2, len(load.meters) + 1):
        parts = [replace(load, meters=load.meters[first::count]) for first in range(count)]
        found = [budget(part) for part in parts]
        if all(part.is_feasible for part in found):
            worst = max(found, key=lambda part: part.share)
            more = "another bus" if count == 2 else f"{count - 1} more buses"
            return Way(f"{more} for some of its {len(load.meters)} meters", worst)
    return None


def duration(duration_ms: int) -> str:
    """Write a duration as the site file has it: "500ms", "10s", "15min", "1h"."""
    for unit_ms, unit in ((3_600_000, "h"), (60_000, "min"), (1000, "s")):
        if duration_ms % unit_ms == 0:
            return f"{duration_ms // unit_ms}{unit}"
    return f"{duration_ms}ms"


def _groups(load: BusLoad) -> list[GroupLoad]:
    return [group for meter in load.meters for group in meter.groups]


def _points(group: GroupLoad) -> int:
    return len(group.registers) + len(group.items)


def _changed(load: BusLoad, change: Callable[[GroupLoad], GroupLoad]) -> BusLoad:
    meters = (replace(m, groups=tuple(map(change, m.groups))) for m in load.meters)
    return replace(load, meters=tuple(meters))


def _at_baud(load: BusLoad, baud: int) -> BusLoad:
    def change(meter: MeterLoad) -> MeterLoad:
        return replace(meter, baud=baud) if meter.baud == load.baud else meter

    return replace(load, baud=baud, meters=tuple(map(change, load.meters)))


def _with_points(load: BusLoad, most: int) -> BusLoad:
    return _changed(
        load,
        lambda group: replace(group, registers=group.registers[:most], items=group.items[:most]),
    )


def _with_periods(load: BusLoad, factor: float) -> BusLoad:
    def longer(group: GroupLoad) -> GroupLoad:
        wanted_ms = group.period_ms * factor
        if wanted_ms <= group.period_ms:
            return group
        plain_ms = next((p for p in PERIODS_MS if p >= wanted_ms), PERIODS_MS[-1])
        return replace(group, period_ms=max(group.period_ms, plain_ms))

    return _changed(load, longer)


def _periods_text(load: BusLoad, changed: BusLoad) -> str:
    pairs = {
        (one.period_ms, other.period_ms)
        for one, other in zip(_groups(load), _groups(changed), strict=True)
    }
    return "periods " + ", ".join(
        f"{duration(other)} instead of {duration(one)}" for one, other in sorted(pairs)
    )


def _points_text(kept: int, most: int) -> str:
    return f"{kept} instead of up to {most} points per meter"
