"""A small plant in a SQLite store, read by the minute through the real aggregator and inbox."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeagg import topics
from edgeagg._core import Aggregator
from edgeagg.batch import Batch, BatchKind
from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo, Quality
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.store import open_store

GATEWAY = "qp-0001"
START_MS = 1_782_835_200_000  # 2026-07-01 00:00 in Shanghai
MINUTE_MS, QUARTER_MS, HOUR_MS = 60_000, 900_000, 3_600_000
DAY_MS = 24 * HOUR_MS
IMPORT = PointInfo("active_energy_import", "kWh", -3, Kind.TOTALISER)
EXPORT = PointInfo("active_energy_export", "Wh", 0, Kind.TOTALISER)
UPTIME = PointInfo("uptime_s", "s", 0, Kind.TOTALISER)
METERS = (
    MeterInfo("incomer", "x", 1, "", ""),
    MeterInfo("hall", "x", 2, "incomer", ""),
    MeterInfo("office", "x", 2, "incomer", ""),
    MeterInfo("pv", "x", 2, "incomer", ""),
    MeterInfo("itself", "edgeagg-gateway", 0, "", ""),
)
LENGTHS_MS = (MINUTE_MS, QUARTER_MS)


def catalogue(meters: Sequence[MeterInfo] = METERS) -> Catalogue:
    """Name the meters' groups: import every minute, export of the PV in a group of its own."""
    groups = [Group(m.name, MINUTE_MS, (IMPORT,)) for m in meters if m.tier]
    groups.append(Group("pv", MINUTE_MS, (EXPORT,)))
    groups += [Group(m.name, 5 * MINUTE_MS, (UPTIME,)) for m in meters if not m.tier]
    return Catalogue("plant", tuple(meters), tuple(groups), LENGTHS_MS)


def loads(minutes: int, seed: int = 1) -> dict[str, list[int]]:
    """Return what each meter takes minute by minute, in Wh; pv gives, and 0.2 % are lost."""
    dice = random.Random(seed)
    found: dict[str, list[int]] = {"incomer": [], "hall": [], "office": [], "pv": []}
    for _ in range(minutes):
        hall, office = dice.randint(300, 900), dice.randint(100, 500)
        pv = -dice.randint(0, 200)
        parts = {"hall": hall, "office": office, "pv": pv}
        for name, watt_hours in {**parts, "incomer": (hall + office + pv) * 1_002 // 1_000}.items():
            found[name].append(watt_hours)
    return found


async def fill(
    database: Path,
    taken: Mapping[str, Sequence[int]],
    *,
    gateway: str = GATEWAY,
    unread: Mapping[str, range] | None = None,
    start_ms: int = START_MS,
    meters: Sequence[MeterInfo] = METERS,
) -> None:
    """Deliver these loads; `unread` names meters that do not reply in some minutes."""
    known = catalogue(meters)
    core = Aggregator(
        [(g.period_ms, [p.kind is Kind.TOTALISER for p in g.points]) for g in known.groups],
        LENGTHS_MS,
    )
    shown = {(group.meter, group.points[0].name): 0 for group in known.groups}
    minutes = len(next(iter(taken.values())))
    for minute in range(minutes + 1):
        due_ms = start_ms + minute * MINUTE_MS
        for number, group in enumerate(known.groups):
            point = group.points[0]
            if due_ms % group.period_ms == 0:
                is_unread = minute in (unread or {}).get(group.meter, ())
                value = None if is_unread else shown[group.meter, point.name]
                quality = Quality.NO_REPLY if is_unread else Quality.GOOD
                core.push_row(number, due_ms, due_ms, [value], [quality])
            watt_hours = 0 if minute == minutes else taken.get(group.meter, [0] * minutes)[minute]
            sign = -1 if point is EXPORT else 1
            shown[group.meter, point.name] += max(sign * watt_hours, 0)
    batches = [Batch(gateway, 7, 1, BatchKind.CATALOGUE, known.hash, 1_000, 0, known.to_bytes())]
    while (part := core.cut(due_ms + DAY_MS)) is not None:
        number = len(batches) + 1
        kind = BatchKind.DATA
        batches.append(Batch(gateway, 7, number, kind, known.hash, 1_000, *part.encode()))
    store = await open_store(f"sqlite:///{database}")
    try:
        messages = [Message(topics.batch(gateway), batch.to_bytes()) for batch in batches]
        await Inbox(store, Admission.ANYBODY).take(messages, 5_000)
    finally:
        await store.close()
