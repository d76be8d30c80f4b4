"""Which meters stand where: those of a gateway's catalogue, and virtual ones, sums of others.

A virtual meter is the platform's, in a file beside its database, and not the gateway's: it can be
added years later for all the years before, and no gateway has to be touched for it. Pure but for
reading that file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeagg.balance import NOTHING, Energy, combine, walk
from edgeagg.errors import ConfigError, FormatError
from edgeagg.model import MeterInfo
from edgeagg.tomltable import Table, hint

_ONCE = frozenset({0, 1})


@dataclass(frozen=True, slots=True)
class VirtualMeter:
    """A meter that is computed: the sum of the meters in `plus` less those in `minus`."""

    gateway: str
    info: MeterInfo
    plus: tuple[str, ...]
    minus: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overlap:
    """Meter `meter` counts `times` times in the sum of `into`: not once, and not left out."""

    into: str
    meter: str
    times: int

    def __str__(self) -> str:
        """Say what to look at in the file."""
        return f"{self.meter} counts {self.times} times in {self.into}: is it a part of two parts?"


@dataclass(frozen=True, slots=True)
class Tree:
    """All meters of a gateway in their places.

    `formulas` gives for each virtual meter how often every real one counts in it, never 0 times.
    """

    meters: tuple[MeterInfo, ...]
    formulas: Mapping[str, Mapping[str, int]]
    overlaps: tuple[Overlap, ...]

    def energies(
        self, measured: Mapping[str, Sequence[Energy]], count: int
    ) -> dict[str, Sequence[Energy]]:
        """Return the energies of every meter over `count` windows, virtual ones too."""
        nothing = [NOTHING] * count
        found: dict[str, Sequence[Energy]] = {}
        for meter in self.meters:
            formula = self.formulas.get(meter.name)
            if formula is None:
                found[meter.name] = measured.get(meter.name, nothing)
                continue
            columns = [measured.get(part, nothing) for part in formula]
            found[meter.name] = [
                combine(zip(formula.values(), parts, strict=True))
                for parts in zip(*columns, strict=True)
            ]
        return found

    def measured(self, parent: str, children: Sequence[str]) -> list[str]:
        """Return whose energies can be at fault for a gap between a meter and those below it.

        A sum stands for its parts, which somebody can go to; what is computed from the parent
        itself measures nothing, and would close any gap.
        """
        found: dict[str, None] = {}
        for name in children:
            formula = self.formulas.get(name, {name: 1})
            if parent not in formula:
                is_sum = set(formula.values()) == {1}
                found.update(dict.fromkeys(formula if is_sum else [name]))
        return list(found)


def read(file: Path) -> tuple[VirtualMeter, ...]:
    """Read a file of virtual meters.

    Raises ConfigError naming the file, the key, what was found and what is allowed.
    """
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(file, "file", str(error), "a readable TOML file in UTF-8") from error
    top = Table(file, "", content, "meter")
    return tuple(
        VirtualMeter(
            table.text("gateway"),
            MeterInfo(
                table.text("name"),
                "virtual",
                table.integer("tier", 1, 3),
                table.text("parent") if table.has("parent") else "",
                table.text("sub_item") if table.has("sub_item") else "",
            ),
            table.texts("plus"),
            table.texts("minus", ()),
        )
        for table in top.array("meter", "gateway name tier parent sub_item plus minus")
    )


def grow(
    catalogue: Sequence[MeterInfo], virtual: Sequence[VirtualMeter] = (), file: object = "virtual"
) -> Tree:
    """Put a gateway's meters and its virtual ones in their places; those of tier 0 are left out.

    A sum whose parts all stand where it stands takes their place, and they stand below it; any
    other virtual meter leaves its parts alone. Raises FormatError for a catalogue whose parents are
    wrong, ConfigError, naming `file`, for virtual meters that are.
    """
    real = tuple(meter for meter in catalogue if meter.tier > 0)
    try:
        walk(real)
    except ValueError as error:
        raise FormatError(f"the catalogue: {error}") from None
    known = {meter.name: meter for meter in real}
    for meter in virtual:
        _check_name(file, meter, known)
        known[meter.info.name] = meter.info
    for meter in virtual:
        _check_parts(file, meter, known)
    formulas = _formulas(file, virtual)
    places = _places(file, virtual, known)
    meters = tuple(replace(meter, parent=places[name]) for name, meter in known.items())
    try:
        walk(meters)
    except ValueError as error:
        raise ConfigError(
            file, "meter", str(error), "parents that end at a meter without"
        ) from None
    return Tree(meters, formulas, tuple(_overlaps(real, meters, formulas)))


def _key(meter: VirtualMeter, name: str) -> str:
    return f"meter[{meter.info.name}].{name}"


def _check_name(file: object, meter: VirtualMeter, known: Mapping[str, MeterInfo]) -> None:
    if meter.info.name in known:
        raise ConfigError(
            file, _key(meter, "name"), f"{meter.info.name!r} is there already", "a name of its own"
        )


def _check_parts(file: object, meter: VirtualMeter, known: Mapping[str, MeterInfo]) -> None:
    if not meter.plus:
        raise ConfigError(file, _key(meter, "plus"), "no meter", "one meter or more")
    if meter.info.parent and meter.info.parent not in known:
        found = f"no meter {meter.info.parent!r}"
        raise ConfigError(file, _key(meter, "parent"), found, hint(meter.info.parent, known))
    seen: set[str] = set()
    for key, parts in (("plus", meter.plus), ("minus", meter.minus)):
        for part in parts:
            if part not in known:
                raise ConfigError(file, _key(meter, key), f"no meter {part!r}", hint(part, known))
            if part in seen:
                raise ConfigError(file, _key(meter, key), f"{part!r} again", "each meter once")
            seen.add(part)


def _formulas(file: object, virtual: Sequence[VirtualMeter]) -> dict[str, dict[str, int]]:
    """Spell every virtual meter out in real ones; refuse one that is a part of itself."""
    by_name = {meter.info.name: meter for meter in virtual}
    found: dict[str, dict[str, int]] = {}

    def spell(name: str, within: tuple[str, ...]) -> Mapping[str, int]:
        meter = by_name.get(name)
        if meter is None:
            return {name: 1}
        if name in within:
            circle = " = ".join((*within[within.index(name) :], name))
            raise ConfigError(
                file, _key(meter, "plus"), circle, "no meter that is a part of itself"
            )
        if name not in found:
            sums: dict[str, int] = {}
            for sign, parts in ((1, meter.plus), (-1, meter.minus)):
                for part in parts:
                    for real, times in spell(part, (*within, name)).items():
                        sums[real] = sums.get(real, 0) + sign * times
            found[name] = {real: times for real, times in sums.items() if times}
        return found[name]

    for name, meter in by_name.items():
        if not spell(name, ()):
            raise ConfigError(
                file, _key(meter, "minus"), "nothing is left over", "less than the sum"
            )
    return found


def _places(
    file: object, virtual: Sequence[VirtualMeter], known: Mapping[str, MeterInfo]
) -> dict[str, str]:
    """Return the parent of every meter, the parts of sums moved below them."""
    places = {name: meter.parent for name, meter in known.items()}
    sums: dict[str, str] = {}
    for meter in virtual:
        name, parent = meter.info.name, meter.info.parent
        if meter.minus or any(known[part].parent != parent for part in meter.plus):
            continue
        for part in meter.plus:
            if part in sums:
                raise ConfigError(
                    file,
                    _key(meter, "plus"),
                    f"{part!r} stands below {sums[part]!r} already",
                    f"{sums[part]!r} instead, or meters that are in no other sum",
                )
            sums[part] = places[part] = name
    return places


def _overlaps(
    real: Sequence[MeterInfo],
    meters: Sequence[MeterInfo],
    formulas: Mapping[str, Mapping[str, int]],
) -> list[Overlap]:
    """Find what counts twice: in a virtual meter first, then in the sum below a meter."""
    sums: dict[str, dict[str, int]] = {}
    for meter in meters:
        if meter.parent:
            below = sums.setdefault(meter.parent, {})
            for name, times in formulas.get(meter.name, {meter.name: 1}).items():
                below[name] = below.get(name, 0) + times
    order = [meter for meter, _ in walk(real)]
    found: list[Overlap] = []
    for into, parts in (*formulas.items(), *sums.items()):
        # what stands below a meter is in it, so it counts as often as all meters above it together
        counts = {"": 0}
        for meter in order:
            above = counts[meter.parent]
            times = counts[meter.name] = above + parts.get(meter.name, 0)
            is_new = all(overlap.meter != meter.name for overlap in found)
            if times != above and times not in _ONCE and is_new:
                found.append(Overlap(into, meter.name, times))
    return found
