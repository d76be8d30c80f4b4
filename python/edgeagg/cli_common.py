"""What several of the platform's commands share: options in, values out, or one clear error.

Owns how a gateway, a meter and a time are named on the command line. It runs no command.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import zoneinfo
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from edgeagg import tree
from edgeagg.errors import ConfigError
from edgeagg.receiver.site import Range
from edgeagg.receiver.store import Store
from edgeagg.tomltable import hint

TIME = "a day or time such as 2026-11-01, 2026-11-01T08:15 or 2026-11-01T00:15Z"
TIME_MAX_MS = 2**45


def checked(store: str) -> str:
    """Refuse a file that is not there: opening would make it, and an empty database is whole."""
    file = store.removeprefix("sqlite:///")
    if file != store and not Path(file).exists():
        raise ConfigError("--store", "file", f"{file!r} is not there", "a database of `receive`")
    return store


async def known_gateways(
    store: Store,
    wanted: str | None,
    virtual: Iterable[tree.VirtualMeter] = (),
    file: Path | None = None,
) -> list[str]:
    """Return the gateways that are wanted; refuse names that the store does not know."""
    known = sorted({stream.gateway for stream in await store.streams()})
    for meter in virtual:
        if meter.gateway not in known:
            key = f"meter[{meter.info.name}].gateway"
            raise ConfigError(file, key, repr(meter.gateway), hint(meter.gateway, known))
    if wanted is not None and wanted not in known:
        allowed = f"one of {', '.join(known) or 'none'}"
        raise ConfigError("--gateway", "name", repr(wanted), allowed)
    return known if wanted is None else [wanted]


async def gateway_of(
    store: Store, gateways: Sequence[str], meter: str, virtual: Iterable[tree.VirtualMeter]
) -> str:
    """Return the gateway that has this meter; names are unique on one gateway only."""
    computed = {(one.gateway, one.info.name) for one in virtual}
    names: set[str] = set()
    having = []
    for gateway in gateways:
        own = {one.name for found in (await store.catalogues(gateway))[-1:] for one in found.meters}
        own |= {name for of, name in computed if of == gateway}
        names |= own
        if meter in own:
            having.append(gateway)
    if not having:
        raise ConfigError("--meter", "name", f"no meter {meter!r}", hint(meter, names))
    if len(having) > 1:
        found = f"{meter!r} is a meter of {', '.join(having)}"
        raise ConfigError("--gateway", "name", found, "one of them")
    return having[0]


def virtual_meters(file: Path | None) -> tuple[tree.VirtualMeter, ...]:
    """Read the virtual meters of a file, if there is one."""
    return () if file is None else tree.read(file)


def tariff_folders(options: argparse.Namespace) -> list[Path]:
    """Return the folder of tariffs that was named."""
    folder: Path | None = options.tariffs
    if folder is None:
        return []
    if not folder.is_dir():
        raise ConfigError("--tariffs", "folder", f"{str(folder)!r} is not there", "a folder")
    return [folder]


def zone_of(name: str) -> zoneinfo.ZoneInfo:
    """Return a time zone by its name."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        allowed = "a time zone such as Asia/Shanghai"
        raise ConfigError("--zone", "name", repr(name), allowed) from None


def asked_range(options: argparse.Namespace, zone: zoneinfo.ZoneInfo) -> Range:
    """Return the range between --from and --to."""
    asked = Range(instant("--from", options.since, zone), instant("--to", options.until, zone))
    if asked.from_ms is not None and asked.to_ms is not None and asked.from_ms >= asked.to_ms:
        found = f"{options.until} is not after {options.since}"
        raise ConfigError("--to", "time", found, "an end behind its beginning")
    return asked


def instant(key: str, text: str | None, zone: zoneinfo.ZoneInfo) -> int | None:
    """Return a time in UTC milliseconds; one without offset is local."""
    if text is None:
        return None
    try:
        at = dt.datetime.fromisoformat(text)
        at_ms = round((at if at.tzinfo else at.replace(tzinfo=zone)).timestamp() * 1000)
    except (ValueError, OverflowError):
        at_ms = -1
    if not 0 <= at_ms < TIME_MAX_MS:
        raise ConfigError(key, "time", repr(text), TIME)
    return at_ms


def print_lines(lines: Iterable[str]) -> None:
    """Print lines for people."""
    for line in lines:
        print(line)


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Print JSON."""
    print(json.dumps(value, indent=1))
