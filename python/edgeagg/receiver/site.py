"""A gateway's energies from its stored windows: the balanced tree with culprits, days and rates.

Owns which windows are asked for; what they add up to is decided in `balance`, `tree`, `diagnosis`
and `tariff`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from edgeagg.balance import (
    NOTHING,
    Energy,
    Node,
    TierGap,
    balance,
    compared,
    tier_gaps,
    total,
)
from edgeagg.diagnosis import INTERVALS_MIN, Suspect, find_suspect
from edgeagg.errors import ConfigError, StoreError
from edgeagg.receiver.energies import DIRECTIONS
from edgeagg.receiver.judgements import StoredAudit
from edgeagg.receiver.store import Store
from edgeagg.receiver.sums import BrokenSum, broken_sums
from edgeagg.tariff import Tariff, energy_by_rate
from edgeagg.tree import Overlap, Tree, VirtualMeter, grow

QUARTER_MS = 900_000
_HOUR_MS = 3_600_000
WINDOWS_MAX = 40_000
"""More than the quarters of a year."""

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Range:
    """What was asked for: [from_ms, to_ms); None is where the windows begin or end."""

    from_ms: int | None = None
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SiteBalance:
    """A gateway's tree over [from_ms, to_ms), in windows of `length_ms`.

    `suspects` names by meter what explains the gap below it, `sums` the totals that are not that
    of their rates.
    """

    gateway: str
    site: str
    from_ms: int
    to_ms: int
    length_ms: int
    nodes: tuple[Node, ...]
    virtual: frozenset[str]
    tiers: tuple[TierGap, ...]
    suspects: Mapping[str, Suspect]
    overlaps: tuple[Overlap, ...]
    sums: tuple[BrokenSum, ...]

    @property
    def has_mistakes(self) -> bool:
        """Whether a meter is named that somebody should look at."""
        return bool(self.suspects or self.overlaps or self.sums)


@dataclass(frozen=True, slots=True)
class DayEnergy:
    """One local day of one meter: net energy by rate, of the windows that have one.

    `energy` is that of the whole day; without tariff `by_rate` is empty. `audit_count` is how often
    the course of a register was bridged on that day, so that its energy rests on a judgement.
    """

    day: dt.date
    energy: Energy
    by_rate: Mapping[str, Fraction]
    known_count: int
    window_count: int
    audit_count: int = 0


@dataclass(frozen=True, slots=True)
class MeterDays:
    """The days of one meter that have windows in [from_ms, to_ms)."""

    gateway: str
    meter: str
    length_ms: int
    days: tuple[DayEnergy, ...]


async def balance_site(
    store: Store,
    gateway: str,
    asked: Range,
    virtual: Sequence[VirtualMeter] = (),
    file: object = "",
) -> SiteBalance:
    """Balance a gateway's tree over windows of 15 min, or others if these do not fit the range.

    Raises StoreError when the store has no windows with energies, ConfigError for a range or
    virtual meters that cannot be.
    """
    site, lengths, tree = await _tree(store, gateway, virtual, file)
    from_ms, to_ms = await _bounds(store, gateway, lengths, asked)
    length_ms = fitting_length(lengths, asked, to_ms - from_ms, count_min=INTERVALS_MIN)
    windows = await _windows(store, gateway, length_ms, asked, (from_ms, to_ms))
    energies = tree.energies(windows.columns, windows.count)
    nodes = balance(tree.meters, energies)
    suspects = {
        node.meter: suspect
        for node in nodes
        for suspect in [_suspect(node, tree, energies)]
        if suspect is not None
    }
    return SiteBalance(
        gateway,
        site,
        windows.from_ms,
        windows.to_ms,
        length_ms,
        nodes,
        frozenset(tree.formulas),
        tier_gaps(nodes, tree.formulas),
        suspects,
        tree.overlaps,
        await broken_sums(store, gateway, windows.from_ms, windows.to_ms),
    )


async def meter_days(
    store: Store,
    gateway: str,
    meter: str,
    asked: Range,
    calendar: Tariff | zoneinfo.ZoneInfo,
    virtual: Sequence[VirtualMeter] = (),
    file: object = "",
) -> MeterDays:
    """Add up a meter's energy by local day, and by rate if the calendar is a tariff.

    Without a range the days are whole ones. Raises as `balance_site` does, and ConfigError for a
    meter or a day that cannot be.
    """
    _, lengths, tree = await _tree(store, gateway, virtual, file)
    if meter not in {known.name for known in tree.meters}:
        names = ", ".join(known.name for known in tree.meters) or "none"
        raise ConfigError("--meter", "name", repr(meter), f"one of {names}")
    zone = calendar.zone if isinstance(calendar, Tariff) else calendar
    from_ms, to_ms = await _bounds(store, gateway, lengths, asked)
    whole = Range(
        midnight_ms(local_day(from_ms, zone), zone) if asked.from_ms is None else from_ms,
        midnight_ms(local_day(to_ms - 1, zone) + _DAY, zone) if asked.to_ms is None else to_ms,
    )
    whole_ms = (whole.to_ms or to_ms) - (whole.from_ms or from_ms)
    length_ms = fitting_length(lengths, whole, whole_ms, count_min=1)
    windows = await _windows(store, gateway, length_ms, whole, (from_ms, to_ms))
    own = tree.energies(windows.columns, windows.count)[meter]
    bridged = await store.audits(gateway, windows.from_ms, windows.to_ms, meter)
    try:
        days = tuple(_counted(_days(windows, own, calendar, zone), bridged, zone))
    except ValueError as error:
        raise ConfigError("--tariff", "windows", str(error), "another range or tariff") from None
    return MeterDays(gateway, meter, length_ms, days)


def local_day(at_ms: int, zone: zoneinfo.ZoneInfo) -> dt.date:
    """Return the day on the calendars of `zone`."""
    return dt.datetime.fromtimestamp(at_ms / 1000, zone).date()


def midnight_ms(day: dt.date, zone: zoneinfo.ZoneInfo) -> int:
    """Return when a local day begins, in UTC milliseconds."""
    local = dt.datetime(day.year, day.month, day.day, tzinfo=zone)
    return round(local.timestamp() * 1000)


def _utc(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class _Windows:
    """Energies of a gateway's meters, a column each, over the windows from `from_ms` on."""

    from_ms: int
    length_ms: int
    count: int
    columns: dict[str, Sequence[Energy]]

    @property
    def to_ms(self) -> int:
        return self.from_ms + self.count * self.length_ms


async def _tree(
    store: Store, gateway: str, virtual: Sequence[VirtualMeter], file: object
) -> tuple[str, Sequence[int], Tree]:
    catalogues = await store.catalogues(gateway)
    if not catalogues or not catalogues[-1].window_lengths_ms:
        raise StoreError(f"no catalogue with windows has come from {gateway} yet")
    newest = catalogues[-1]
    # longer ones follow the calendar: they begin at no multiple of their length
    lengths = [length_ms for length_ms in newest.window_lengths_ms if length_ms <= _HOUR_MS]
    if not lengths:
        raise StoreError(f"{gateway} sends no windows of an hour or less; its site file names them")
    own = [meter for meter in virtual if meter.gateway == gateway]
    return newest.site, lengths, grow(newest.meters, own, file)


async def _bounds(
    store: Store, gateway: str, lengths: Sequence[int], asked: Range
) -> tuple[int, int]:
    """Return the range that was asked for, its open ends where the windows end."""
    spans = [span for span in [await store.span(gateway, ms) for ms in lengths] if span is not None]
    if not spans:
        raise StoreError(f"no windows with energies have come from {gateway} yet")
    from_ms = min(first for first, _ in spans) if asked.from_ms is None else asked.from_ms
    to_ms = max(last for _, last in spans) if asked.to_ms is None else asked.to_ms
    if from_ms >= to_ms:
        found = f"nothing is stored from {_utc(from_ms)} to {_utc(to_ms)}"
        raise ConfigError("--from, --to", "range", found, "an end behind its beginning")
    return from_ms, to_ms


def fitting_length(lengths: Sequence[int], asked: Range, range_ms: int, *, count_min: int) -> int:
    """Choose 15 min, else the length nearest below that fits the range, else nearest above.

    One fits if windows of it begin where the range was asked to begin and end, and lie in it
    `count_min` times or more, but no more than WINDOWS_MAX times. Where none fits, what is wrong is
    told of the shortest; of the longest where the range is too long.
    """
    ends = [at_ms for at_ms in (asked.from_ms, asked.to_ms) if at_ms is not None]
    aligned = [ms for ms in lengths if not any(at_ms % ms for at_ms in ends)]
    fitting = [ms for ms in aligned if count_min <= range_ms // ms <= WINDOWS_MAX]
    if not fitting and range_ms // QUARTER_MS > WINDOWS_MAX:
        return max(aligned or lengths)
    below = [ms for ms in fitting if ms <= QUARTER_MS]
    return max(below) if below else min(fitting or aligned or lengths)


async def _windows(
    store: Store, gateway: str, length_ms: int, asked: Range, bounds: tuple[int, int]
) -> _Windows:
    """Fetch the windows; an end that nobody asked for lies at the first or last known energy."""
    for key, at_ms in (("--from", asked.from_ms), ("--to", asked.to_ms)):
        if at_ms is not None and at_ms % length_ms:
            raise ConfigError(
                key, "time", f"lies inside a window of {length_ms // 1000} s", "where one begins"
            )
    from_ms = bounds[0] if asked.from_ms is None else asked.from_ms
    to_ms = bounds[1] if asked.to_ms is None else asked.to_ms
    from_ms += -from_ms % length_ms
    if to_ms - from_ms > WINDOWS_MAX * length_ms:
        raise ConfigError(
            "--from, --to",
            "range",
            f"more than {WINDOWS_MAX} windows of {length_ms // 1000} s",
            "a shorter one",
        )
    found = await store.energies(gateway, length_ms, from_ms, to_ms)
    known = [
        start_ms
        for windows in found.values()
        for start_ms, energy in windows.items()
        if energy.net_kwh is not None
    ]
    if known and asked.from_ms is None:
        from_ms = min(known)
    if known and asked.to_ms is None:
        to_ms = max(known) + length_ms
    starts = range(from_ms, to_ms - length_ms + 1, length_ms)
    columns: dict[str, Sequence[Energy]] = {
        name: [windows.get(start_ms, NOTHING) for start_ms in starts]
        for name, windows in found.items()
    }
    return _Windows(from_ms, length_ms, len(starts), columns)


def _suspect(node: Node, tree: Tree, energies: Mapping[str, Sequence[Energy]]) -> Suspect | None:
    """Find who explains the gap below a meter."""
    if not node.children or node.meter in tree.formulas:
        return None
    names = tree.measured(node.meter, node.children)
    places = compared([energies[name] for name in (node.meter, *names)])

    def known(name: str) -> list[float]:
        return [float(energies[name][place].net_kwh or 0) for place in places]

    return find_suspect(node.meter, known(node.meter), {name: known(name) for name in names})


def _days(
    windows: _Windows,
    own: Sequence[Energy],
    calendar: Tariff | zoneinfo.ZoneInfo,
    zone: zoneinfo.ZoneInfo,
) -> Iterator[DayEnergy]:
    length_ms = windows.length_ms
    place = 0
    while place < windows.count:
        start_ms = windows.from_ms + place * length_ms
        day = local_day(start_ms, zone)
        end_ms = midnight_ms(day + _DAY, zone)
        count = min(-(-(end_ms - start_ms) // length_ms), windows.count - place)
        if start_ms + count * length_ms > end_ms:
            raise ValueError(f"{day} ends inside a window of {length_ms // 1000} s")
        part = own[place : place + count]
        known = [
            (start_ms + at * length_ms, length_ms, energy.net_kwh)
            for at, energy in enumerate(part)
            if energy.net_kwh is not None
        ]
        by_rate = energy_by_rate(calendar, known) if isinstance(calendar, Tariff) else {}
        yield DayEnergy(day, total(part), by_rate, len(known), len(part))
        place += count


def _counted(
    days: Iterator[DayEnergy], bridged: Sequence[StoredAudit], zone: zoneinfo.ZoneInfo
) -> Iterator[DayEnergy]:
    """Count the bridges of net energy that touch each day."""
    for day in days:
        from_ms, to_ms = midnight_ms(day.day, zone), midnight_ms(day.day + _DAY, zone)
        count = sum(
            one.point in DIRECTIONS and one.opening_ms >= from_ms and one.closing_ms < to_ms
            for one in bridged
        )
        yield dataclasses.replace(day, audit_count=count)
