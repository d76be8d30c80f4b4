"""Simulated meters: what stands in each register at an instant.

Owns the register map of a meter, made from a profile. All registers of a read are computed from
one instant, so they fit together. It must not read a clock, and it knows no frames or sockets.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from hil_tests.sim import electrical, sunspec
from hil_tests.sim.errors import SimError
from hil_tests.sim.patterns import Shown, show
from hil_tests.sim.registers import clamp, encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hil_tests.sim.electrical import Snapshot, Supply
    from hil_tests.sim.patterns import Pattern
    from hil_tests.sim.profile import Point, Profile, Register

# Units of profiles as multiples of V, A, W, var, VA, Hz, degrees, 1 and kWh, kvarh, kVAh.
UNITS: Mapping[str, Fraction] = {
    **dict.fromkeys(("V", "A", "W", "var", "VA", "Hz", "deg", "1"), Fraction(1)),
    **dict.fromkeys(("kWh", "kvarh", "kVAh"), Fraction(1)),
    **dict.fromkeys(("kV", "kA", "kW", "kvar", "kVA", "MWh", "Mvarh", "MVAh"), Fraction(1, 1000)),
    **dict.fromkeys(("mV", "mA", "Wh", "varh", "VAh"), Fraction(1000)),
    "%": Fraction(100),
}

_SERIALS = ("0001", "0002")  # of a meter, and of the one it is replaced by


@dataclass(frozen=True, slots=True)
class _Cell:
    """Registers that belong together: a computed point or fixed words."""

    address: int
    count: int
    point: Point | None = None
    words: tuple[int, ...] = ()
    words_replaced: tuple[int, ...] = ()  # when another meter hangs there

    @property
    def end(self) -> int:
        return self.address + self.count


class SimMeter:
    """One meter: a profile's registers filled from what its supply says."""

    def __init__(
        self,
        *,
        name: str,
        unit: int,
        profile: Profile,
        ratios: Mapping[str, Fraction],
        supply: Supply,
        dead: bool = False,
        patterns: Sequence[Pattern] = (),
    ) -> None:
        self.name = name
        self.unit = unit
        self.profile = profile
        self.supply = supply
        self.dead = dead
        self.patterns = tuple(patterns)
        if unknown := sorted(ratios.keys() - profile.ratios.keys()):
            allowed = ", ".join(profile.ratios) or "none"
            raise SimError(
                f'meter {name}: ratio "{unknown[0]}" is not in {profile.name} ({allowed} allowed)'
            )
        self._ratios = {ratio: ratios.get(ratio, Fraction(1)) for ratio in profile.ratios}
        self._check_points()
        self._cells = {
            function: tuple(sorted(cells, key=lambda cell: cell.address))
            for function in (3, 4)
            if (cells := [cell for of, cell in self._lay_out() if of == function])
        }
        #: Points that the simulator has no quantity for; their registers read as 0.
        self.unknown_points = tuple(
            point.name for point in profile.points if not electrical.knows(point.name)
        )

    def read(self, *, function: int, address: int, count: int, t_ms: int) -> list[int] | None:
        """Return the registers as they are at `t_ms`; None = illegal data address."""
        cells = self._cells.get(function, ())
        first, end = _span(cells)
        if count > self.profile.registers_max or address < first or address + count > end:
            return None
        hole = 0 if self.profile.holes_readable else None
        words = [hole] * count
        state = self.supply.at(t_ms)
        for cell in cells:
            if cell.address < address + count and address < cell.end:
                words_of_cell = self._words(cell, state, t_ms)
                for place, word in enumerate(words_of_cell, cell.address - address):
                    if 0 <= place < count:
                        words[place] = word
        known = [word for word in words if word is not None]
        return known if len(known) == count else None

    def value(self, point: Point, t_ms: int) -> Fraction:
        """Return the exact value of a point in its unit, before the resolution of its register."""
        return self.supply.at(t_ms).value(point.name) * UNITS[point.unit]

    def silent(self, t_ms: int) -> bool:
        """Tell whether the meter answers nobody at an instant."""
        return self.dead or any(pattern.silent(t_ms) for pattern in self.patterns)

    def warm_up(self) -> None:
        """Compute what takes long before the line's clock runs: a read must not wait for it."""
        if any(electrical.needs_reactive_energy(point.name) for point in self.profile.points):
            self.supply.node.reactive.power_mw(0)

    def span(self) -> tuple[int, int]:
        """Return the first register of all and the one behind the last."""
        return _span([cell for cells in self._cells.values() for cell in cells])

    def _words(self, cell: _Cell, state: Snapshot, t_ms: int) -> tuple[int, ...]:
        point = cell.point
        if point is None:
            replaced = cell.words_replaced and any(one.replaced(t_ms) for one in self.patterns)
            return cell.words_replaced if replaced else cell.words
        if not electrical.knows(point.name):
            return (0,) * cell.count
        factor = point.scale
        for ratio in point.ratios:
            factor *= self._ratios[ratio]
        shown = Shown(state.value(point.name) * UNITS[point.unit])
        if point.is_totaliser and self.patterns:
            shown = show(self.patterns, lambda at_ms: self.value(point, at_ms), t_ms)
        return encode(
            shown.value,
            kind=point.register.kind,
            order=point.register.order,
            factor=factor,
            resolution=point.resolution if point.is_totaliser and shown.counted else None,
        )

    def _check_points(self) -> None:
        for point in self.profile.points:
            where = f"profile {self.profile.name}, point {point.name}"
            if electrical.knows(point.name) and point.unit not in UNITS:
                raise SimError(f'{where}: unit "{point.unit}" is none of {", ".join(UNITS)}')
            for ratio in point.ratios:
                if ratio not in self._ratios:
                    raise SimError(f'{where}: ratio "{ratio}" is not defined')

    def _lay_out(self) -> Iterable[tuple[int, _Cell]]:
        """Yield (function, cell); of two cells at one address the later one is what is read."""
        for identity in self.profile.identities:
            yield identity.register.function, _fixed(identity.register, identity.low)
        if self.profile.name.startswith(("sunspec-meter-", "sunspec:")):
            yield from ((3, cell) for cell in _sunspec_cells(self.profile.name))
        for name, ratio in self.profile.ratios.items():
            raw, kind = self._ratios[name] / ratio.scale, ratio.register.kind
            if kind[0] != "f" and (raw.denominator != 1 or clamp(int(raw), kind=kind) != raw):
                # A rounded ratio would make all power wrong by the same factor, unnoticed.
                raise SimError(
                    f"meter {self.name}: ratio {name} = {float(self._ratios[name])} does not fit "
                    f"its {kind} register in steps of {float(ratio.scale)}"
                )
            yield ratio.register.function, _fixed(ratio.register, raw)
        for point in self.profile.points:
            place = point.register
            yield place.function, _Cell(place.address, place.count, point)


def _span(cells: Sequence[_Cell]) -> tuple[int, int]:
    """Return the first register and the one behind the last; an empty span without cells."""
    return min((cell.address for cell in cells), default=0), max(
        (cell.end for cell in cells), default=0
    )


def _fixed(register: Register, raw: Fraction) -> _Cell:
    words = encode(
        raw, kind=register.kind, order=register.order, factor=Fraction(1), resolution=None
    )
    return _Cell(register.address, register.count, words=words)


def _sunspec_cells(profile: str) -> Iterable[_Cell]:
    """Yield marker, common model, headers, scale factors and end, as SunSpec places them."""
    for address, words in sunspec.fixed_words(profile):
        yield _Cell(address, len(words), words=words)
    old, new = (sunspec.text_words(text, sunspec.SERIAL_COUNT) for text in _SERIALS)
    yield _Cell(sunspec.SERIAL, len(old), words=old, words_replaced=new)
