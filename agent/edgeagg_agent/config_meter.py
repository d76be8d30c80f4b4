"""One [[bus.meter]] of the site file: who it is, how it is asked, what is read how often."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from edgeagg.errors import ConfigError
from edgeagg.tomltable import Table, hint
from edgeagg_agent.asking import Address
from edgeagg_agent.bus import LineSettings
from edgeagg_agent.config_values import (
    read_baud,
    read_format,
    read_name,
    read_period,
    read_plain,
)
from edgeagg_agent.config_wishes import read_wishes
from edgeagg_agent.profile import ItemPoint, Point, Poll, Profile, load
from edgeagg_agent.site import BusConfig, Meter, PointGroup

METER_KEYS = (
    "name unit address type edition baud format profile period periods tier parent sub_item points"
    " power_max flow_max statistics demand"
)
_DIGITS = {"dlt645-2007": 12, "dlt645-1997": 12, "cjt188": 14}
_TYPE_DEFAULT = {"water": 0x10, "heat": 0x20, "gas": 0x30}  # CJ/T 188-2004, table 2
# DL/T 645-2007, 5.2.3 and 5.2.4: a meter answers within 500 ms and pauses up to 500 ms between two
# bytes; CJ/T 188 leaves both open. Up to four FE bytes in front take 18 ms more at 2400 Bd.
_SLOW_TURNAROUND_MS = 600
_SLOW_PAUSE_MS = 500
_ASCII_PAUSE_MS = 1_000  # between two characters: MODBUS over Serial Line V1.02, 2.5.2.1
_PERIOD = "60s"


def read_meter(table: Table, folders: Sequence[Path], bus: BusConfig) -> Meter:
    """Read one meter of `bus`, whose own meters are not known yet.

    Raises ConfigError naming the file, the key, what was found and what is allowed.
    """
    name = read_name(table)
    profile = _profile(table, folders)
    settings = _settings(table, bus, profile)
    points = _points(table, profile)
    periods_ms = _periods(table, points)
    groups = tuple(
        PointGroup(
            period_ms, tuple(point for point in points if periods_ms[point.name] == period_ms)
        )
        for period_ms in sorted(set(periods_ms.values()))
    )
    return Meter(
        name=name,
        address=_address(table, bus, profile),
        profile=profile,
        settings=settings,
        tier=table.integer("tier", 1, 3),
        parent=table.text("parent") if table.has("parent") else "",
        sub_item=read_plain(table, "sub_item") if table.has("sub_item") else "",
        groups=groups,
        wishes=read_wishes(table, points, periods_ms),
    )


def _profile(table: Table, folders: Sequence[Path]) -> Profile:
    try:
        return load(table.text("profile"), folders)
    except ConfigError as error:
        if error.key != "profile":
            raise
        raise table.error("profile", error.found, error.allowed) from None


def _address(table: Table, bus: BusConfig, profile: Profile) -> Address:
    digits = _DIGITS.get(profile.protocol)
    if digits is None:
        for key in ("address", "type", "edition"):
            if table.has(key):
                raise table.error(key, "not a key of a Modbus meter", "unit, 1 to 247")
        return Address(unit=table.integer("unit", 1, 247))
    if bus.host and not bus.is_raw:
        raise table.error(
            "profile", f"{profile.name} speaks {profile.protocol}", "Modbus on a tcp bus"
        )
    if table.has("unit"):
        raise table.error("unit", f"not a key of a meter that speaks {profile.protocol}", "address")
    address = table.text("address")
    if not re.fullmatch(rf"\d{{{digits}}}", address):
        raise table.error("address", repr(address), f"the {digits} digits on the meter's plate")
    if profile.protocol != "cjt188":
        for key in ("type", "edition"):
            if table.has(key):
                text = f"not a key of a meter that speaks {profile.protocol}"
                raise table.error(key, text, "address")
        return Address(digits=address)
    return Address(
        digits=address,
        meter_type=table.integer("type", 0, 0xFF, _TYPE_DEFAULT.get(profile.kind, 0x10)),
        edition=table.text("edition", ("2004", "2018"), "2004"),
    )


def _settings(table: Table, bus: BusConfig, profile: Profile) -> LineSettings:
    """Take the meter's own line settings, or else the bus's."""
    if not bus.baud:
        for key in ("baud", "format"):
            if table.has(key):
                raise table.error(key, "not a key of a meter on a tcp bus", "nothing")
        return LineSettings(0, "", profile.limits.request_gap_ms)
    for key in ("baud", "format"):
        if bus.is_raw and table.has(key):
            raise table.error(key, "not a key behind a serial server", "that of the whole bus")
    baud = read_baud(table, bus.baud)
    is_modbus = profile.protocol == "modbus"
    form = read_format(table, bus.format, ascii_mode=bus.ascii_mode and is_modbus)
    if is_modbus:
        pause_ms = _ASCII_PAUSE_MS if bus.ascii_mode else 0
        return LineSettings(baud, form, profile.limits.request_gap_ms, pause_max_ms=pause_ms)
    return LineSettings(
        baud,
        form,
        profile.limits.request_gap_ms,
        turnaround_max_ms=_SLOW_TURNAROUND_MS,
        pause_max_ms=_SLOW_PAUSE_MS,
    )


def _points(table: Table, profile: Profile) -> tuple[Point | ItemPoint, ...]:
    known = {point.name: point for point in profile.every_point}
    for name in table.texts("points", ()):
        if name not in known:
            raise table.error("points", f"{profile.name} has no point {name!r}", hint(name, known))
    wanted = table.texts("points", tuple(known))
    if not wanted:
        raise table.error("points", "none", f"at least one of {', '.join(known)}")
    return tuple(point for name, point in known.items() if name in wanted)


def _periods(table: Table, points: Sequence[Point | ItemPoint]) -> dict[str, int]:
    """Return each point's period: its own, that of its class, or the meter's."""
    every_ms = read_period(table, "period", _PERIOD)
    classes = " ".join(Poll)
    names = " ".join(point.name for point in points)
    own = table.table("periods", f"{classes} {names}", {})
    periods_ms = {}
    for point in points:
        keys = (key for key in (point.name, point.poll) if own.has(key))
        key = next(keys, None)
        periods_ms[point.name] = every_ms if key is None else read_period(own, key, _PERIOD)
    return periods_ms
