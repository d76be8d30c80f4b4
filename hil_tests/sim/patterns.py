"""What totalisers of real meters do wrong, as recipes by name.

Owns the table `PATTERNS`. A pattern is a pure function of time over the meter's true counter, so a
bench that is killed and started again shows the same registers. Times count from the site's
`start_ms`. Most are series that MyEMS keeps as examples in its cleaning and normalisation services:
`CLEANING` names the eleven bad series among them, with the lengths and amounts seen there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

_DIGITS_MAX = Fraction(99_999_999, 100)
ValueAt = Callable[[int], Fraction]  # the counter in its point's unit at a time in ms


@dataclass(frozen=True, slots=True)
class Shown:
    """What a totaliser shows: a count in full steps, or a number that was never counted."""

    value: Fraction
    counted: bool = True


Change = Callable[["Pattern", ValueAt, int], Shown]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One pattern; `for_s` is how long it lasts unless the site file says otherwise."""

    text: str
    change: Change
    for_s: float = 0.0
    silent: bool = False  # the meter answers nobody meanwhile
    replaces: bool = False  # behind the end another meter hangs there


@dataclass(frozen=True, slots=True)
class Pattern:
    """A recipe at a time."""

    recipe: Recipe
    at_ms: int
    for_ms: int
    amount: Fraction = Fraction(0)  # of a recipe that asks for one

    @property
    def end_ms(self) -> int:
        """When it is over."""
        return self.at_ms + self.for_ms

    def lasts(self, t_ms: int) -> bool:
        """Tell whether an instant lies within."""
        return self.at_ms <= t_ms < self.end_ms

    def silent(self, t_ms: int) -> bool:
        """Tell whether the meter answers nobody."""
        return self.recipe.silent and self.lasts(t_ms)

    def replaced(self, t_ms: int) -> bool:
        """Tell whether another meter hangs there."""
        return self.recipe.replaces and t_ms >= self.end_ms


def make_pattern(
    name: str, *, start_ms: int, at_s: float, for_s: float | None, amount: Fraction = Fraction(0)
) -> Pattern:
    """Place a recipe in time."""
    recipe = PATTERNS[name]
    lasting_s = recipe.for_s if for_s is None else for_s
    return Pattern(recipe, start_ms + round(at_s * 1000), round(lasting_s * 1000), amount)


def show(patterns: Sequence[Pattern], value_at: ValueAt, t_ms: int) -> Shown:
    """Return what a totaliser shows at an instant; the first pattern is nearest to the counter."""
    if not patterns:
        return Shown(value_at(t_ms))
    *below, last = patterns
    return last.recipe.change(last, lambda at_ms: show(below, value_at, at_ms).value, t_ms)


def show_digits(patterns: Sequence[Pattern], value_at: ValueAt, t_ms: int) -> Fraction:
    """Return what a counter of digits XXXXXX.XX shows: a number never counted is held in them."""
    shown = show(patterns, value_at, t_ms)
    return shown.value if shown.counted else min(max(shown.value, Fraction(0)), _DIGITS_MAX)


def _number(value: str) -> Change:
    """Show a number that has nothing to do with the counter."""
    shown = Shown(Fraction(value), counted=False)

    def change(pattern: Pattern, value_at: ValueAt, t_ms: int) -> Shown:
        return shown if pattern.lasts(t_ms) else Shown(value_at(t_ms))

    return change


def _less(amount: str) -> Change:
    """Show less, and stand still meanwhile, as the series do."""

    def change(pattern: Pattern, value_at: ValueAt, t_ms: int) -> Shown:
        if not pattern.lasts(t_ms):
            return Shown(value_at(t_ms))
        return Shown(value_at(pattern.at_ms) - Fraction(amount), counted=False)

    return change


def _percent_less(percent: str) -> Change:
    def change(pattern: Pattern, value_at: ValueAt, t_ms: int) -> Shown:
        if not pattern.lasts(t_ms):
            return Shown(value_at(t_ms))
        return Shown(value_at(pattern.at_ms) * (1 - Fraction(percent) / 100), counted=False)

    return change


def _more_for_good(amount: str) -> Change:
    def change(pattern: Pattern, value_at: ValueAt, t_ms: int) -> Shown:
        return Shown(value_at(t_ms) + (Fraction(amount) if t_ms >= pattern.at_ms else 0))

    return change


def _true(_pattern: Pattern, value_at: ValueAt, t_ms: int) -> Shown:
    return Shown(value_at(t_ms))


def _roll_over(pattern: Pattern, value_at: ValueAt, t_ms: int) -> Shown:
    """Let a counter of six digits reach its end at `at_ms`."""
    return Shown((value_at(t_ms) - value_at(pattern.at_ms)) % 1_000_000)


def _start_anew(pattern: Pattern, value_at: ValueAt, t_ms: int) -> Shown:
    """Count from 0 again behind the pattern's end."""
    lost = value_at(pattern.end_ms) if t_ms >= pattern.end_ms else Fraction(0)
    return Shown(value_at(t_ms) - lost)


def _freeze(pattern: Pattern, value_at: ValueAt, t_ms: int) -> Shown:
    return Shown(value_at(pattern.at_ms if pattern.lasts(t_ms) else t_ms))


def _brown_out(pattern: Pattern, value_at: ValueAt, t_ms: int) -> Shown:
    """Go on from what was saved last before the power failed (saved each `amount` seconds)."""
    if t_ms < pattern.end_ms:
        return Shown(value_at(min(t_ms, pattern.at_ms)))
    every_ms = round(pattern.amount * 1000)
    saved_ms = pattern.at_ms // every_ms * every_ms
    return Shown(value_at(t_ms) - value_at(pattern.end_ms) + value_at(saved_ms))


CLEANING: Mapping[str, Recipe] = {
    "huge": Recipe("1.8e21 for 14 minutes", _number("1.832278249396618e21"), 840),
    "zeros": Recipe("0 for 15 minutes", _number("0"), 900),
    "below_zero": Recipe("-0.007 for 14 minutes", _number("-0.007068193740872921"), 840),
    "near_zero": Recipe("0.003 for 16 minutes", _number("0.00303281145170331"), 960),
    "dip_436": Recipe("436 less for one minute", _less("436"), 60),
    "dip_4688": Recipe("4688 less for 3 minutes", _less("4688"), 180),
    "dip_1000": Recipe("1000 less for two minutes", _less("1000"), 120),
    "dip_100": Recipe("100 less for two minutes", _less("100"), 120),
    "dip_2_percent": Recipe("2.2 % less for 4 minutes", _percent_less("2.2"), 240),
    "dip_11_percent": Recipe("11.1 % less for 19 minutes", _percent_less("11.1"), 1140),
    "dip_27_percent": Recipe("27.2 % less for 9 minutes", _percent_less("27.2"), 540),
}

PATTERNS: Mapping[str, Recipe] = {
    **CLEANING,
    "gap": Recipe("no answer for 6 hours, the energy is counted", _true, 22_500, silent=True),
    "rollover": Recipe("a counter of six digits passes 999999 at `at_s`", _roll_over),
    "jump": Recipe("6704 more at once, for good", _more_for_good("6704")),
    "freeze": Recipe("stands still for 10 minutes, then shows the truth", _freeze, 600),
    "reset": Recipe("counts from 0 again", _start_anew),
    "replaced": Recipe(
        "no answer for 10 minutes, then another meter: counts from 0, new serial number",
        _start_anew,
        600,
        silent=True,
        replaces=True,
    ),
    "brown_out": Recipe("counts on from what was last saved", _brown_out),
}
