"""Faults by script: whom they strike and when.

Owns the `[[fault]]` tables and their state on one line. Times count from the site's `start_ms`, so
a bench that is started again is where it would have been. What a fault does to bytes is
`hil_tests.sim.kinds`' business.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from hil_tests.sim.errors import SimError
from hil_tests.sim.framing import Framing
from hil_tests.sim.kinds import KINDS, Burst, Exchange, Kind
from hil_tests.sim.tables import Table

# What parameters may be; others from 0.
_LIMITS = {
    "bits": (1, 64),
    "bytes": (1, 200),
    "ms": (0, 60_000),
    "ratio": (0.25, 16),
    "saved_every_s": (1, 86_400),
    "unit": (0, 255),
}


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One [[fault]]: `target` is a meter's or a line's name."""

    kind: str
    target: str
    from_s: float
    for_s: float | None  # None = for ever
    repeat_s: float | None  # again and again with this period
    every: int  # each n-th reply of the target
    probability: float
    parameters: Mapping[str, float]

    def active(self, since_start_s: float) -> bool:
        """Tell whether the fault holds at a time."""
        since_s = since_start_s - self.from_s
        if since_s < 0:
            return False
        if self.repeat_s is not None:
            since_s %= self.repeat_s
        return self.for_s is None or since_s < self.for_s


def parse_faults(entries: Sequence[object], *, where: str) -> tuple[FaultSpec, ...]:
    """Check the [[fault]] tables of a file; that targets exist is checked with the site."""
    return tuple(
        _fault(Table(f"{where}: fault {number}", entry))
        for number, entry in enumerate(entries, start=1)
    )


def _fault(table: Table) -> FaultSpec:
    name = table.take("kind", str)
    kind = KINDS.get(name)
    if kind is None:
        raise SimError(f'{table.where}: kind "{name}" is none of {", ".join(KINDS)}')
    table.where = f"{table.where} ({name})"
    meter, line = table.take("meter", str, None), table.take("line", str, None)
    if (meter is None) == (line is None):
        raise SimError(f'{table.where}: either "meter" or "line" expected')
    number: Any = (int, float)
    spec = FaultSpec(
        kind=name,
        target=meter if line is None else line,
        from_s=float(table.take("from_s", number, 0)),
        for_s=table.take("for_s", number, None),
        repeat_s=table.take("repeat_s", number, None),
        every=table.take("every", int, 1),
        probability=float(table.take("probability", number, kind.probability)),
        parameters={
            key: table.take(key, number, default) for key, default in kind.parameters.items()
        },
    )
    table.finish()
    _check(table.where, kind, spec)
    return spec


def _check(where: str, kind: Kind, spec: FaultSpec) -> None:
    amounts = {"from_s": spec.from_s, "for_s": spec.for_s, **spec.parameters}
    for key, amount in amounts.items():
        low, high = _LIMITS.get(key, (0, math.inf))
        if amount is not None and not low <= amount <= high:
            raise SimError(f'{where}: "{key}" = {amount}, {low} to {high} expected')
    if spec.every < 1:
        raise SimError(f'{where}: "every" = {spec.every}, 1 or more expected')
    if not 0 < spec.probability <= 1:
        raise SimError(f'{where}: "probability" = {spec.probability}, more than 0 to 1 expected')
    if (spec.repeat_s is not None or kind.needs_end) and spec.for_s is None:
        raise SimError(f'{where}: "for_s" is missing')
    if spec.repeat_s is not None and spec.for_s is not None and spec.repeat_s <= spec.for_s:
        raise SimError(f'{where}: "repeat_s" = {spec.repeat_s}, more than "for_s" expected')
    if kind.needs_end and spec.repeat_s is not None:
        raise SimError(f'{where}: "repeat_s" is not possible, write the fault once for each time')


class LineFaults:
    """The faults of one line while it runs."""

    def __init__(
        self,
        specs: Iterable[FaultSpec],
        *,
        line: str,
        units: Mapping[str, int],  # of the line's meters by name
        framing: Framing,
        start_ms: int,
        now_ms: Callable[[], int],
        seed: int,
    ) -> None:
        self.struck: Counter[str] = Counter()  # how often each kind changed something
        self._framing = framing
        self._start_ms = start_ms
        self._now_ms = now_ms
        self._previous: dict[str, bytes] = {}
        self._names = {unit: name for name, unit in units.items()}
        mine = [spec for spec in specs if spec.target == line or spec.target in units]
        self._whole = [spec for spec in mine if KINDS[spec.kind].whole_line]
        self._faults = [
            _Fault(
                spec,
                None if spec.target == line else spec.target,
                Random(f"{seed}/{line}/fault/{number}"),
            )
            for number, spec in enumerate(mine)
            if not KINDS[spec.kind].whole_line
        ]

    def shape(
        self, reply: bytes, framing: Framing | None = None, *, meter: str = ""
    ) -> Sequence[Burst]:
        """Return what is to be heard instead of a good reply.

        Where no meter is named, the unit id of the reply tells whose it is.
        """
        framing = framing or self._framing
        body = framing.unwrap(reply)
        if not meter and body:
            meter = self._names.get(body[0], f"unit {body[0]}")
        bursts: Sequence[Burst] = (Burst(reply),)
        since_s = self._since_start_s()
        for fault in self._faults:
            if bursts and fault.strikes(meter, since_s):
                before = self._previous.get(meter)
                previous = b"" if before is None else framing.wrap(before)
                of = Exchange(reply, previous, framing, fault.rng, fault.spec.parameters)
                bursts = fault.change(bursts, of)
                self.struck[fault.spec.kind] += 1
        if body:
            self._previous[meter] = body
        return bursts

    def holds(self, kind: str) -> bool:
        """Tell whether a fault of the whole line ("echo", "unplug") holds now."""
        since_s = self._since_start_s()
        return any(spec.kind == kind and spec.active(since_s) for spec in self._whole)

    @property
    def pulls_the_plug(self) -> bool:
        """Whether the line is unplugged at any time."""
        return any(spec.kind == "unplug" for spec in self._whole)

    def _since_start_s(self) -> float:
        return (self._now_ms() - self._start_ms) / 1000


class _Fault:
    """One fault with its own randomness and its count of replies."""

    def __init__(self, spec: FaultSpec, meter: str | None, rng: Random) -> None:
        self.spec = spec
        self.rng = rng
        self._meter = meter  # None = every meter of the line
        self._replies = 0

    def strikes(self, meter: str, since_start_s: float) -> bool:
        """Count a reply; tell whether it is to be changed."""
        if self._meter not in (None, meter) or not self.spec.active(since_start_s):
            return False
        self._replies += 1
        return self._replies % self.spec.every == 0 and self.rng.random() < self.spec.probability

    def change(self, bursts: Sequence[Burst], of: Exchange) -> Sequence[Burst]:
        """Change the first burst of a reply."""
        change = KINDS[self.spec.kind].change
        if change is None:
            raise ValueError(f"{self.spec.kind} is no fault of a reply")
        return (*change(bursts[0], of), *bursts[1:])
