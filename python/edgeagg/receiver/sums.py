"""Totals and their rates as stored: which meters' registers do not add up, in words.

Owns which readings are asked for; what they mean is decided in `rate_sums`. Sums of energy and of
reactive energy are judged: the store gives registers in kWh and kvarh.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeagg.rate_sums import Broken, Cause, Registers, judge
from edgeagg.receiver.energies import measure
from edgeagg.receiver.store import Store

MOMENTS = 8
"""How many moments of the range are looked at when the last one does not add up."""


@dataclass(frozen=True, slots=True)
class BrokenSum:
    """A total of a meter that is not the sum of its rates; registers in `unit`, kWh or kvarh."""

    meter: str
    unit: str
    total: str
    parts: tuple[str, ...]
    broken: Broken

    def __str__(self) -> str:
        """Say what to look at, for the person who can go there."""
        last, unit = self.broken.last, self.unit
        shown = zip(self.parts, last.parts, strict=True)
        rates = " + ".join(f"{name} {float(value):.3f}" for name, value in shown)
        return (
            f"{self.meter}: {self.total} {float(last.total):.3f} {unit} is not the sum of {rates}:"
            f" {float(last.difference):+.3f} {unit}, where rounding explains"
            f" {float(self.broken.tolerance):.3f}; {self._advice()}"
        )

    def _advice(self) -> str:
        broken = self.broken
        match broken.cause:
            case Cause.RATIO if broken.part is not None and broken.factor is not None:
                part = self.parts[broken.part]
                return f"{part} shows {float(broken.factor):.3g} times too much: check its ratio"
            case Cause.NOT_READ:
                return "it grows: does the meter count in a rate that is not read?"
            case Cause.MOMENTS:
                return "it comes and goes: the registers are not read at one moment"
            case Cause.STANDING:
                return "it stands: rates cleared or begun later than the total, or one not read"
            case _:
                return "compare every register with the meter's display"


async def broken_sums(
    store: Store, gateway: str, from_ms: int, to_ms: int
) -> tuple[BrokenSum, ...]:
    """Return the sums of the gateway's newest catalogue that do not hold at the end of a range."""
    found = []
    for group in [
        group for known in (await store.catalogues(gateway))[-1:] for group in known.groups
    ]:
        for one in group.sums:
            points = [group.points[number] for number in (one.total, *one.parts)]
            measures = [known for point in points if (known := measure(point)) is not None]
            units = {unit for unit, _ in measures}
            if len(measures) < len(points) or len(units) > 1:
                continue
            digits = [digit for _, digit in measures]
            names = [point.name for point in points]
            asked = _Asked(store, gateway, group.meter, names, from_ms)
            if judge(await asked.at([to_ms]), digits) is None:
                continue
            step_ms = max(1, (to_ms - from_ms) // MOMENTS)
            course = await asked.at(range(to_ms - MOMENTS * step_ms, to_ms + 1, step_ms))
            if (broken := judge(course, digits)) is not None:
                total, *parts = names
                found.append(BrokenSum(group.meter, units.pop(), total, tuple(parts), broken))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A total and its rates; their readings before `from_ms` do not count."""

    store: Store
    gateway: str
    meter: str
    names: Sequence[str]
    from_ms: int

    async def at(self, times_ms: Sequence[int]) -> list[Registers]:
        """Return the registers last read at each of these times, each reading once."""
        found: dict[int, Registers] = {}
        for at_ms in times_ms:
            brackets = [
                await self.store.bracket(self.gateway, self.meter, name, at_ms)
                for name in self.names
            ]
            read = [before for before, _ in brackets if before is not None]
            moments = {one.at_ms for one in read}
            # registers of other rows are of other moments, and prove nothing
            if len(read) == len(self.names) and len(moments) == 1 and min(moments) >= self.from_ms:
                total, *parts = (one.shown for one in read)
                found[read[0].at_ms] = Registers(read[0].at_ms, total, tuple(parts))
        return list(found.values())
