"""Read and check profile files.

Owns the finding of `<name>.toml` and what a file as a whole must hold. Every complaint names the
file, the key, what was found and what is allowed. Loading one profile opens one file.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from edgeagg.errors import ConfigError
from edgeagg.tomltable import Table, hint
from edgeagg_agent.bus import REGISTERS_MAX
from edgeagg_agent.bus.timing import CHAR_BITS
from edgeagg_agent.profile.read_items import (
    ITEM_IDENTITY_KEYS,
    ITEM_KEYS,
    read_item,
    read_item_identity,
)
from edgeagg_agent.profile.read_points import (
    CHECK_KEYS,
    IDENTITY_KEYS,
    POINT_KEYS,
    RATIO_KEYS,
    read_check,
    read_identity,
    read_point,
    read_ratio,
)
from edgeagg_agent.profile.read_sums import SUM_KEYS, read_sum
from edgeagg_agent.profile.schema import (
    HOLES,
    KINDS,
    PROTOCOLS,
    STATUS,
    Limits,
    Point,
    Profile,
    Serial,
    SunSpec,
)

SHIPPED = Path(__file__).parent.parent / "profiles"
TOP_KEYS = (
    "vendor models status sources kind protocol notes serial limits sunspec identify identity"
    " ratios points sums"
)
LIMIT_KEYS = "registers_max request_gap_ms holes illegal proven"
_MODEL_MAX = 0xFFFE  # FFFFH ends the chain of models


def names(directories: Sequence[Path]) -> list[str]:
    """List every profile that `load` finds, sorted; opens no file."""
    found = (path for folder in (*directories, SHIPPED) for path in folder.glob("*.toml"))
    return sorted({path.stem for path in found})


def load(name: str, directories: Sequence[Path]) -> Profile:
    """Read the profile `name` from the first of `directories` that has it, or as shipped.

    Raises ConfigError naming the file, the key, what was found and what is allowed.
    """
    for folder in (*directories, SHIPPED):
        file = folder / f"{name}.toml"
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) and file.is_file():
            return _parse(name, file)
    where = ", ".join(str(folder) for folder in (*directories, SHIPPED))
    raise ConfigError(where, "profile", f"no profile {name!r}", hint(name, names(directories)))


def _parse(name: str, file: Path) -> Profile:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(file, "file", str(error), "a readable TOML file in UTF-8") from error
    top = Table(file, "", content, TOP_KEYS)
    protocol = top.text("protocol", PROTOCOLS, "modbus")
    profile = Profile(
        name=name,
        vendor=top.text("vendor"),
        models=top.texts("models"),
        status=top.text("status", STATUS),
        sources=top.texts("sources"),
        kind=top.text("kind", KINDS, "electricity"),
        protocol=protocol,
        notes=top.texts("notes", ()),
        serial=_serial(top.table("serial", "baud format unit")) if top.has("serial") else None,
        limits=_limits(top.table("limits", LIMIT_KEYS, {})),
        identify=(),
        ratios=(),
        points=(),
    )
    read = _with_registers if protocol == "modbus" else _with_items
    profile = read(top, profile)
    points = {point.name: point for point in profile.every_point}
    sums = tuple(read_sum(table, points) for table in top.array("sums", SUM_KEYS))
    return dataclasses.replace(profile, sums=sums)


def _with_registers(top: Table, profile: Profile) -> Profile:
    limits = profile.limits
    ratios = tuple(
        read_ratio(profile.name, key, table) for key, table in top.tables("ratios", RATIO_KEYS)
    )
    known = [ratio.name for ratio in ratios]
    points = tuple(
        read_point(key, table, known, limits, profile.status)
        for key, table in top.tables("points", POINT_KEYS)
    )
    _refuse_none(top, points)
    _refuse_overlaps(top, points)
    _refuse_illegal(top, points, limits)
    return dataclasses.replace(
        profile,
        identify=tuple(map(read_check, top.array("identify", CHECK_KEYS))),
        ratios=ratios,
        points=points,
        identity=tuple(read_identity(*entry) for entry in top.tables("identity", IDENTITY_KEYS)),
        sunspec=_sunspec(top) if top.has("sunspec") else None,
    )


def _with_items(top: Table, profile: Profile) -> Profile:
    for key in ("identify", "ratios", "sunspec"):
        if top.has(key):
            raise top.error(key, f"of protocol {profile.protocol}", "only for protocol modbus")
    items = tuple(
        read_item(key, table, protocol=profile.protocol, status=profile.status)
        for key, table in top.tables("points", ITEM_KEYS)
    )
    _refuse_none(top, items)
    identity = top.tables("identity", ITEM_IDENTITY_KEYS)
    return dataclasses.replace(
        profile,
        items=items,
        item_identity=tuple(
            read_item_identity(key, table, protocol=profile.protocol) for key, table in identity
        ),
    )


def _limits(table: Table) -> Limits:
    return Limits(
        table.integer("registers_max", 1, REGISTERS_MAX, REGISTERS_MAX),
        table.integer("request_gap_ms", 0, 10_000, 0),
        table.text("holes", HOLES, "unknown"),
        table.spans("illegal"),
        table.spans("proven"),
    )


def _serial(table: Table) -> Serial:
    return Serial(
        table.integer("baud", 300, 4_000_000),
        table.text("format", tuple(CHAR_BITS)) if table.has("format") else "",
        table.integer("unit", 1, 247) if table.has("unit") else None,
    )


def _sunspec(top: Table) -> SunSpec:
    table = top.table("sunspec", "models start")
    models = table.integers("models", 1, _MODEL_MAX)
    return SunSpec(models, table.integer("start", 0, 0xFFFF))


def _refuse_none(top: Table, points: Sequence[object]) -> None:
    if not points:
        raise top.error("points", "missing", "at least one [points.<name>]")


def _refuse_overlaps(top: Table, points: Sequence[Point]) -> None:
    """Two points in one register are a slip of the pen: one of them reads the wrong quantity."""
    ordered = sorted(points, key=lambda point: (point.function, point.register))
    for before, after in itertools.pairwise(ordered):
        are_halves = {before.type, after.type} == {"u8hi", "u8lo"}
        if before.function != after.function or are_halves:
            continue
        if after.register < before.register + before.count:
            raise top.error(
                f"points.{after.name}.register",
                f"0x{after.register:04X} overlaps {before.name} at 0x{before.register:04X}",
                "one point for each register",
            )


def _refuse_illegal(top: Table, points: Sequence[Point], limits: Limits) -> None:
    for point in points:
        for function, start, count in limits.illegal:
            behind = start + count
            if (
                point.function == function
                and point.register < behind
                and start < point.register + point.count
            ):
                raise top.error(
                    f"points.{point.name}.register",
                    f"0x{point.register:04X} lies in limits.illegal [{function}, {start}, {count}]",
                    "registers that the meter answers",
                )
