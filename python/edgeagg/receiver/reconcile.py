"""Compares what gateways stated of their days with what the tables hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeagg.receiver.ledger import StatedSpan, Verdict
from edgeagg.receiver.store import Store
from edgeagg.statement import Tally


@dataclass(frozen=True, slots=True)
class Compared:
    """A span of one meter's group: stated by the gateway, found here."""

    gateway: str
    stated: StatedSpan
    found: Tally

    @property
    def matches(self) -> bool:
        """Whether every row is here as it was when it was cut, and none besides."""
        return self.stated.tally == self.found


@dataclass(frozen=True, slots=True)
class MeterDay:
    """All groups of one meter in one span, in point slots."""

    gateway: str
    meter: str
    start_ms: int
    end_ms: int
    stated: Tally
    found: Tally
    matches: bool


async def reconcile(
    store: Store, gateway: str, *, from_ms: int, to_ms: int, now_ms: int
) -> list[Compared]:
    """Compare every span that was stated and begins in [from_ms, to_ms), and keep the verdicts.

    A day that is not over at `now_ms` is left out: a part of it may be stated already.
    """
    compared = [
        Compared(gateway, span, await store.ledger.found(span))
        for span in await store.ledger.stated(gateway, from_ms, to_ms)
        if span.end_ms <= now_ms
    ]
    await store.ledger.keep_verdicts(
        [
            Verdict(
                one.stated.group_id, one.stated.start_ms, one.stated.end_ms, now_ms, one.matches
            )
            for one in compared
        ]
    )
    return compared


def meter_days(compared: Sequence[Compared]) -> list[MeterDay]:
    """Put the groups of each meter together, in the order of time."""
    groups: dict[tuple[str, int, int, str], list[Compared]] = {}
    for one in compared:
        span = one.stated
        key = (one.gateway, span.start_ms, span.end_ms, span.meter)
        groups.setdefault(key, []).append(one)
    days = []
    for (gateway, start_ms, end_ms, meter), ones in sorted(groups.items()):
        stated, found = Tally(), Tally()
        for one in ones:
            stated.add(_counts(one.stated.tally))
            found.add(_counts(one.found))
        matches = all(one.matches for one in ones)
        days.append(MeterDay(gateway, meter, start_ms, end_ms, stated, found, matches))
    return days


def _counts(tally: Tally) -> Tally:
    """Return the part that adds up over groups: points are numbered within a group."""
    return Tally(tally.slots, tally.values, tally.reasons, tally.missed, tally.digest)
