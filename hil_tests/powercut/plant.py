"""What the cut gateway reads: a value for every slot that anybody can calculate again."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo, Quality
from edgeagg_agent import outbox, recorder

GATEWAY = "qp-cut"
START_MS = 1_790_000_400_000
PERIOD_MS = 600_000  # some batches are a day, so that days are written and cut, too
DESTINATIONS = ("district", "group")
BYTES_MAX = 16 << 20  # more than a life takes: nothing is let go that is in no day file
RESEND_MS = 86_400_000
EVER_MS = 1 << 45
SEGMENT_BYTES = 16 << 10
_TOTALISER = PointInfo("active_energy_import", "kWh", -2, Kind.TOTALISER)
_GAUGES = tuple(PointInfo(f"voltage_l{phase}", "V", -1, Kind.GAUGE) for phase in (1, 2, 3))

CATALOGUE = Catalogue(
    "plant",
    tuple(MeterInfo(name, "eastron-sdm630", 2, "", "") for name in ("press", "oven")),
    (
        Group("press", PERIOD_MS, (_GAUGES[0], _TOTALISER)),
        Group("oven", PERIOD_MS, (*_GAUGES, _TOTALISER)),
    ),
    (3_600_000,),
)


@contextmanager
def small_segments() -> Iterator[None]:
    """Let journals take a new segment every few commits, so that many cuts meet one."""
    with (
        patch.object(outbox, "_SEGMENT_BYTES", SEGMENT_BYTES),
        patch.object(recorder, "_SEGMENT_BYTES", SEGMENT_BYTES),
    ):
        yield


def due_ms(slot: int) -> int:
    """Return when a slot falls due."""
    return START_MS + slot * PERIOD_MS


def slot_of(due: int) -> int:
    """Return the slot that falls due at `due` ms."""
    return (due - START_MS) // PERIOD_MS


def values(group: int, slot: int) -> tuple[int | None, ...]:
    """Return the mantissas of a slot; one slot in eleven lacks its first."""
    noise = zlib.crc32(f"{group}/{slot}".encode())
    first = None if noise % 11 == 0 else 2_300 + noise % 19
    gauges = (first, 2_290 + noise % 23, 2_310 + noise % 29)
    return (*gauges[: len(CATALOGUE.groups[group].points) - 1], 1_000 + 7 * slot + group)


def qualities(found: tuple[int | None, ...]) -> bytes:
    """Say why values are missing."""
    return bytes(Quality.NO_REPLY if value is None else Quality.GOOD for value in found)
