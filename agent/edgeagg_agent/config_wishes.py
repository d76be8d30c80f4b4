"""What a [[bus.meter]] of the site file asks for besides windows: rating, statistics, demand.

Each complaint names file, key, what was found and what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

from edgeagg.model import Demand
from edgeagg.tomltable import Table, hint
from edgeagg_agent.config_values import read_duration
from edgeagg_agent.guards import Rating, guard
from edgeagg_agent.profile import ItemPoint, Point
from edgeagg_agent.site import Wishes

_NUMBER = r"(\d+(?:\.\d+)?)"
_POWER = re.compile(rf"{_NUMBER}\s*(W|kW|MW|kVA|MVA)")
_POWER_KW = {
    "W": Fraction(1, 1000),
    "kW": Fraction(1),
    "kVA": Fraction(1),
    "MW": Fraction(1000),
    "MVA": Fraction(1000),
}
_FLOW = re.compile(rf"{_NUMBER}\s*m3/h")
_DEMAND_PERIODS_MS = (900_000, 1_800_000, 3_600_000)


def read_wishes(
    table: Table, points: Sequence[Point | ItemPoint], periods_ms: Mapping[str, int]
) -> Wishes:
    """Read what the meter's table asks for; `points` are those that are read, how often each."""
    own = table.table("demand", "points period slip", {})
    names = _names(own, "points", points)
    return Wishes(
        rating=_rating(table, points),
        statistics=_names(table, "statistics", points),
        demand_points=names,
        demand=_demand(table, own, {name: periods_ms[name] for name in names}),
    )


def _rating(table: Table, points: Sequence[Point | ItemPoint]) -> Rating:
    guarded = {point.unit for point in points if guard(point, Rating()) is not None}
    power = flow = None
    if table.has("power_max"):
        text = table.text("power_max")
        found = _POWER.fullmatch(text)
        if not found or not (power := Fraction(found[1]) * _POWER_KW[found[2]]):
            raise table.error("power_max", repr(text), 'a power such as "400 kW" or "2.5 MW"')
        if not guarded - {"m3"}:
            raise table.error("power_max", "no energy register is read", "nothing")
    if table.has("flow_max"):
        text = table.text("flow_max")
        found = _FLOW.fullmatch(text)
        if not found or not (flow := Fraction(found[1])):
            raise table.error("flow_max", repr(text), 'a flow such as "25 m3/h"')
        if "m3" not in guarded:
            raise table.error("flow_max", "no volume register is read", "nothing")
    return Rating(power, flow)


def _names(table: Table, key: str, points: Sequence[Point | ItemPoint]) -> frozenset[str]:
    known = [point.name for point in points]
    names = table.texts(key, ())
    for name in names:
        if name not in known:
            raise table.error(key, f"no point {name!r} is read", hint(name, known))
    return frozenset(names)


def _demand(table: Table, own: Table, periods_ms: Mapping[str, int]) -> Demand | None:
    if not table.has("demand"):
        return None
    if not periods_ms:
        raise own.error("points", "none", "the points whose demand is taken")
    period_ms = read_duration(own, "period", "15min")
    if period_ms not in _DEMAND_PERIODS_MS:
        raise own.error("period", repr(own.text("period")), "15min, 30min or 1h")
    slip_ms = read_duration(own, "slip", "1min")
    if slip_ms % 60_000 or period_ms % slip_ms:
        raise own.error(
            "slip", repr(own.text("slip")), "whole minutes that the period is a multiple of"
        )
    for name, read_ms in periods_ms.items():
        if read_ms > slip_ms:
            raise own.error(
                "slip", f"{name} is read every {read_ms / 1000:g} s", "a slip of that or more"
            )
    return Demand(period_ms, slip_ms)
