"""Read the sums of a profile: which totaliser is the sum of which others.

Owns the rules of these keys. Whether a meter keeps to a sum is judged on the platform.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgeagg.model import Kind
from edgeagg.tomltable import Table, hint
from edgeagg_agent.profile.schema import ItemPoint, Point, Sum

SUM_KEYS = "total parts"


def read_sum(table: Table, points: Mapping[str, Point | ItemPoint]) -> Sum:
    """Read one [[sums]]: a total and its parts, all totalisers of one unit."""
    total, parts = table.text("total"), table.texts("parts")
    for key, names in (("total", (total,)), ("parts", parts)):
        for name in names:
            if name not in points:
                raise table.error(key, f"no point {name!r}", hint(name, points))
            if points[name].kind is not Kind.TOTALISER:
                raise table.error(key, f"{name} is a gauge", 'points of kind = "totaliser"')
            if points[name].unit != points[total].unit:
                found = f"{name} is in {points[name].unit}, {total} in {points[total].unit}"
                raise table.error(key, found, "points of one unit")
    if len({total, *parts}) < len(parts) + 1 or len(parts) < 2:
        raise table.error("parts", ", ".join(parts), "two or more others, each once")
    return Sum(total, parts)
