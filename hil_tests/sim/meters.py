"""Simulated meters: what stands in each register at an instant.

Owns the register map of a meter, made from a profile. All registers of a read are computed from
one instant, so they fit together. It must not read a clock, and it knows no frames or sockets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from hil_tests.sim import electrical, sunspec
from hil_tests.sim.errors import SimError
from hil_tests.sim.patterns import Shown, show
from hil_tests.sim.registers import HALVES, clamp, encode, ordered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hil_tests.sim.electrical import Snapshot, Supply
    from hil_tests.sim.patterns import Pattern
    from hil_tests.sim.profile import Point, Profile, Ratio, Register, Span

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
    is_part: bool = False  # the second part of the point's value
    is_half: bool = False  # one byte of a register, the other belongs to another point
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
        self._ratios = {
            name_: ratios.get(name_, _plain(ratio)) for name_, ratio in profile.ratios.items()
        }
        self._check_points()
        # Asked for alone these tell the model, even inside of a value that has their number.
        self._alone = {
            (function, cell.address, cell.count): cell for function, cell in self._labels()
        }
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
        cells, asked = self._cells.get(function, ()), (function, address, count)
        first, end = _span(cells)
        proven = any(_within(asked, span) for span in self.profile.proven)
        outside = address < first or address + count > end
        if count > self.profile.registers_max or (outside and not proven):
            return None
        if any(_meet(asked, span) for span in self.profile.illegal):
            return None
        if (label := self._alone.get(asked)) is not None:
            return list(self._constant(label, t_ms))
        hole = 0 if self.profile.holes_readable or proven else None
        words = [hole] * count
        state = self.supply.at(t_ms)
        for cell in cells:
            if cell.address < address + count and address < cell.end:
                words_of_cell = self._words(cell, state, t_ms)
                for place, word in enumerate(words_of_cell, cell.address - address):
                    if 0 <= place < count:
                        beside = words[place] if cell.is_half else 0
                        words[place] = word | (beside or 0)
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
        first, end = _span([cell for cells in self._cells.values() for cell in cells])
        for _, start, count in self.profile.proven:
            first, end = min(first, start), max(end, start + count)
        return first, end

    def _words(self, cell: _Cell, state: Snapshot, t_ms: int) -> tuple[int, ...]:
        point = cell.point
        if point is None:
            return self._constant(cell, t_ms)
        if not electrical.knows(point.name):
            return _not_there(cell, point)
        shown = Shown(state.value(point.name) * UNITS[point.unit])
        if point.is_totaliser and self.patterns:
            shown = show(self.patterns, lambda at_ms: self.value(point, at_ms), t_ms)
        return self._encoded(cell, point, shown)

    def _constant(self, cell: _Cell, t_ms: int) -> tuple[int, ...]:
        replaced = cell.words_replaced and any(one.replaced(t_ms) for one in self.patterns)
        return cell.words_replaced if replaced else cell.words

    def _encoded(self, cell: _Cell, point: Point, shown: Shown) -> tuple[int, ...]:
        ratio = Fraction(1)
        for name in point.ratios:
            ratio *= self._ratios[name]
        steps = point.resolution if point.is_totaliser and shown.counted else None
        register, value, factor = point.register, shown.value, point.scale * ratio
        if point.part is not None:
            register, value, factor = _split(cell, point, value, ratio, steps)
        return encode(
            value - (0 if cell.is_part else point.offset * factor),
            kind=register.kind,
            order=register.order,
            factor=factor,
            resolution=steps,
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
        checks = [check.register for check in self.profile.identities]
        points = [
            (place.function, _Cell(place.address, place.count, point, bool(is_part), half))
            for point in self.profile.points
            # What the bench has no quantity for must not hide how the model is recognised.
            if electrical.knows(point.name) or point.register not in checks
            for is_part, place in enumerate(_registers(point))
            for half in (place.kind in HALVES,)
        ]
        taken = [(function, cell.address, cell.count) for function, cell in points]
        told = [
            (one.register.function, _fixed(one.register, one.low))
            for one in self.profile.identities
        ]
        for function, cell in (*self._labels(), *told):
            if not any(_meet((function, cell.address, cell.count), span) for span in taken):
                yield function, cell
        yield from ((3, cell) for cell in _sunspec_cells(self.profile))
        for name, ratio in self.profile.ratios.items():
            raw = self._raw_ratio(name, ratio)
            yield ratio.register.function, _fixed(ratio.register, raw)
        yield from points

    def _labels(self) -> Iterable[tuple[int, _Cell]]:
        """Yield what says who the meter is, the checks of a model behind the rest."""
        for label in self.profile.labels:
            yield label.register.function, _label(label.name, label.register)
        for check in self.profile.identities:
            # A SunSpec chain says itself which model it leads to.
            if check.exact and self.profile.sunspec is None:
                yield check.register.function, _fixed(check.register, check.low)

    def _raw_ratio(self, name: str, ratio: Ratio) -> Fraction:
        raw, kind = self._ratios[name] / ratio.scale, ratio.register.kind
        if ratio.is_power:
            raw = next((Fraction(n) for n in range(-20, 21) if Fraction(10) ** n == raw), raw)
        if kind[0] != "f" and (raw.denominator != 1 or clamp(int(raw), kind=kind) != raw):
            # A rounded ratio would make all power wrong by the same factor, unnoticed.
            raise SimError(
                f"meter {self.name}: ratio {name} = {float(self._ratios[name])} does not fit "
                f"its {kind} register in steps of {float(ratio.scale)}"
            )
        return raw


def _plain(ratio: Ratio) -> Fraction:
    """Return what a ratio is unless the site file says otherwise: 1, or the nearest to it."""
    fits = ratio.register.kind[0] == "f" or (1 / ratio.scale).denominator == 1
    return Fraction(1) if fits and not ratio.is_power else ratio.scale


def _registers(point: Point) -> tuple[Register, ...]:
    return (point.register,) if point.part is None else (point.register, point.part.register)


def _not_there(cell: _Cell, point: Point) -> tuple[int, ...]:
    """Return what a meter shows that has no such quantity: "not available", or 0."""
    if not point.invalid or cell.is_part:
        return (0,) * cell.count
    data = point.invalid[0].to_bytes(2 * cell.count, "big")
    return ordered(data, point.register.order)


def _split(
    cell: _Cell, point: Point, value: Fraction, ratio: Fraction, steps: Fraction | None
) -> tuple[Register, Fraction, Fraction]:
    """Return the register, value and factor of one part of a value that two registers make up.

    The part with the coarser steps, or with integers where the other has floats, takes whole steps.
    """
    part = point.part
    if part is None:
        raise ValueError(f"{point.name} has one part")
    if steps is not None:
        value = math.floor(value / steps) * steps
    main = (point.register, point.scale * ratio)
    second = (part.register, part.scale * ratio)
    coarse = second if part.scale > point.scale else main
    whole = math.floor(value / coarse[1]) * coarse[1]
    mine = second if cell.is_part else main
    return mine[0], whole if mine == coarse else value - whole, mine[1]


def _within(asked: Span, span: Span) -> bool:
    return asked[0] == span[0] and span[1] <= asked[1] and sum(asked[1:]) <= sum(span[1:])


def _meet(asked: Span, span: Span) -> bool:
    return asked[0] == span[0] and span[1] < sum(asked[1:]) and asked[1] < sum(span[1:])


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


def _label(name: str, register: Register) -> _Cell:
    """Let a meter say who it is: a name, or a number that another meter in its place has not."""
    texts = _SERIALS if "serial" in name else ("edgeagg", "edgeagg")
    if register.kind == "str":
        old, new = (sunspec.text_words(text, register.count) for text in texts)
    else:
        numbers = (1, 2) if "serial" in name else (1, 1)
        old, new = (_fixed(register, Fraction(one)).words for one in numbers)
    return _Cell(register.address, register.count, words=old, words_replaced=new)


def _sunspec_cells(profile: Profile) -> Iterable[_Cell]:
    """Yield marker, common model, headers, scale factors and end, as SunSpec places them."""
    for address, words in sunspec.fixed_words(profile):
        yield _Cell(address, len(words), words=words)
    if sunspec.has_models(profile):
        old, new = (sunspec.text_words(text, sunspec.SERIAL_COUNT) for text in _SERIALS)
        yield _Cell(sunspec.SERIAL, len(old), words=old, words_replaced=new)
