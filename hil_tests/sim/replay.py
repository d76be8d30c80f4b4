"""Loads from a file: power that somebody measured, over and over.

Owns the CSV form: a line `t_s,power_w`, then seconds since `start_ms` in rising order and watts; a
value is held until the next one, the last until the loads' week is over.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path

from hil_tests.sim.errors import SimError
from hil_tests.sim.loads import Series, Week

_COLUMNS = ["t_s", "power_w"]


def load_csv(path: Path, week: Week, *, start_ms: int) -> Series:
    """Read a file into the table of a week."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise SimError(f"{path}: cannot be read: {error}") from error
    steps = list(_steps(path, rows))
    if steps[-1][0] >= week.period_s:
        raise SimError(
            f"{path}: t_s = {steps[-1][0]:g}, but loads repeat after {week.period_s} s; "
            'a smaller "day_speed" makes that longer'
        )
    return Series(week, _laid_out(steps, week, start_ms))


def _steps(path: Path, rows: list[list[str]]) -> Iterable[tuple[float, int]]:
    """Yield (seconds, milliwatts)."""
    if not rows or [cell.strip() for cell in rows[0]] != _COLUMNS:
        raise SimError(f'{path}: line 1: "t_s,power_w" expected')
    if len(rows) == 1:
        raise SimError(f"{path}: no values")
    before_s = -1.0
    for number, row in enumerate(rows[1:], start=2):
        try:
            time_s, power_w = map(float, row)
        except ValueError as error:
            raise SimError(f"{path}: line {number}: two numbers expected") from error
        if not math.isfinite(power_w) or not max(0.0, before_s) <= time_s < math.inf:
            raise SimError(f"{path}: line {number}: rising t_s from 0 and finite power_w expected")
        before_s = time_s
        yield time_s, round(power_w * 1000)


def _laid_out(steps: list[tuple[float, int]], week: Week, start_ms: int) -> list[int]:
    """Return the power of each second of the week's table, which begins on a Monday."""
    held: list[int] = []
    for number, (_, power_mw) in enumerate(steps):
        last = number + 1 == len(steps)
        end_s = week.period_s if last else math.ceil(steps[number + 1][0])
        held.extend([power_mw] * (end_s - len(held)))
    first = (start_ms // 1000 + week.offset_s) % week.period_s
    return held[-first:] + held[:-first] if first else held
