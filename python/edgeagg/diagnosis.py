"""Why a tier does not balance: the likely culprit among a parent and its children.

Pure. A gap that is a fixed multiple of one meter's energy, interval by interval, is no loss but a
mistake in how that meter is connected, scaled or placed. The multiple tells which: a meter with its
sign reversed takes away what it should add (2), one that is counted below another meter as well
comes twice (-1), one that should show k times as much leaves (k - 1): a wrong transformer ratio, or
at 1.5 a missing phase. Losses follow no single meter.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

INTERVALS_MIN = 8  # fewer say too little about what moves together
EXPLAINED_MIN = 0.9
"""How much of the gap's square a culprit must explain before it is named."""
_VARIATION_MIN = 0.5
"""How much of the gap's variation a wrong ratio must explain as well: steady loads are multiples of
each other, and a steady load that nobody meters is no mistake."""
_STEADY_MAX = 1e-6  # of the square: what varies by a thousandth is rounded, not moving
_TOLERANCE = 0.05  # meters of class 1 or 2 and losses blur the multiple
RATIO_MIN = 1.2
"""A factor nearer to 1 is the accuracy of meters and transformers, not a wrong ratio."""


class Fault(enum.StrEnum):
    """What is wrong with a meter."""

    SIGN = "sign"
    COUNTED_TWICE = "counted_twice"
    RATIO = "ratio"


@dataclass(frozen=True, slots=True)
class Suspect:
    """A meter that explains a gap.

    `factor` is what its energies must be multiplied by to close it (0 for one counted twice);
    `explained` is the part of the gap's square that this takes away.
    """

    meter: str
    fault: Fault
    factor: float
    explained: float

    def __str__(self) -> str:
        """Say what to look at, for the person who can go there."""
        match self.fault:
            case Fault.SIGN:
                what = "its sign is reversed: are its current transformers the wrong way round?"
            case Fault.COUNTED_TWICE:
                what = "it is counted twice: does it stand below another of these meters?"
            case Fault.RATIO:
                what = (
                    f"it should show {self.factor:.3g} times as much: check its ratios and phases"
                )
        return f"{self.meter}: {what} (explains {self.explained:.0%} of the gap)"


def find_suspect(
    parent: str, own: Sequence[float], children: Mapping[str, Sequence[float]]
) -> Suspect | None:
    """Return the meter that best explains why `own` is not the sum of `children`.

    All sequences hold the net energies of the same intervals, in one unit. None when the gap is
    zero, when there are fewer than INTERVALS_MIN intervals, or when no single meter explains it.
    Raises ValueError when the sequences differ in length.
    """
    if any(len(energies) != len(own) for energies in children.values()):
        raise ValueError("energies of the same intervals are needed for every meter")
    if len(own) < INTERVALS_MIN or not children:
        return None
    gaps = [whole - sum(parts) for whole, *parts in zip(own, *children.values(), strict=True)]
    if _square(gaps) == 0:
        return None
    suspects = [
        suspect
        for name, energies in children.items()
        for suspect in [_child(name, energies, gaps, own)]
        if suspect is not None
    ]
    above = _parent(parent, own, gaps)
    if above is not None:
        suspects.append(above)
    best = max(suspects, key=lambda suspect: suspect.explained, default=None)
    return best if best is not None and best.explained >= EXPLAINED_MIN else None


def _child(
    name: str, energies: Sequence[float], gaps: Sequence[float], own: Sequence[float]
) -> Suspect | None:
    multiple, explained, varied = _fit(gaps, energies)
    if _is_near(multiple, -2.0):
        # its energies are negative, and the parent has them positive
        return Suspect(name, Fault.SIGN, -1.0, explained)
    # what shows far more than its parent has is not counted twice, it counts in another unit
    if _is_near(multiple, -1.0) and _square(energies) <= 4 * _square(own):
        return Suspect(name, Fault.COUNTED_TWICE, 0.0, explained)
    return _ratio(name, 1 + multiple, explained, varied)


def _parent(name: str, own: Sequence[float], gaps: Sequence[float]) -> Suspect | None:
    multiple, explained, varied = _fit(gaps, own)
    if _is_near(multiple, 2.0):
        return Suspect(name, Fault.SIGN, -1.0, explained)
    return _ratio(name, 1 - multiple, explained, varied)


def _ratio(name: str, factor: float, explained: float, varied: float) -> Suspect | None:
    if 1 / RATIO_MIN < factor < RATIO_MIN or factor <= 0 or varied < _VARIATION_MIN:
        return None
    return Suspect(name, Fault.RATIO, factor, explained)


def _fit(gaps: Sequence[float], energies: Sequence[float]) -> tuple[float, float, float]:
    """Return the multiple of `energies` that leaves least of `gaps`, and the parts it explains.

    First the part of the square, then that of the variation around the mean.
    """
    square = _square(energies)
    if square == 0:
        return 0.0, 0.0, 0.0
    multiple = sum(g * e for g, e in zip(gaps, energies, strict=True)) / square
    left = [g - multiple * e for g, e in zip(gaps, energies, strict=True)]
    variation = _square(_centred(gaps))
    is_steady = variation <= _STEADY_MAX * _square(gaps)
    varied = 0.0 if is_steady else 1 - _square(_centred(left)) / variation
    return multiple, 1 - _square(left) / _square(gaps), varied


def _centred(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    return [value - mean for value in values]


def _square(values: Sequence[float]) -> float:
    return sum(value * value for value in values)


def _is_near(value: float, target: float) -> bool:
    return abs(value - target) <= _TOLERANCE * abs(target)
