"""The points of a group as the databases keep them: JSON, the same text for the same points."""

from __future__ import annotations

import json

from edgeagg.errors import FormatError
from edgeagg.model import Group, Kind, PointInfo


def points_text(group: Group) -> str:
    """Return the points of a group as JSON: [[name, unit, exponent, kind], ...]."""
    return json.dumps(
        [[p.name, p.unit, p.exponent, p.kind] for p in group.points], ensure_ascii=False
    )


def points_from(text: str) -> tuple[PointInfo, ...]:
    """Read what `points_text` wrote."""
    try:
        return tuple(PointInfo(n, u, e, Kind(k)) for n, u, e, k in json.loads(text))
    except (TypeError, ValueError) as error:
        raise FormatError(f"the store holds no list of points: {error}") from None
