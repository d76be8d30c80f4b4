"""What a gateway makes of readings besides windows gets its names, or is a format error."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgeagg import _core, judged
from edgeagg.content import Content, decode
from edgeagg.errors import FormatError
from edgeagg.judged import AuditKind, AuditRow, DemandRow, StatisticsRow, UncertaintyRow
from edgeagg.model import Catalogue, Demand, Group, Guard, Kind, LocalTime, MeterInfo, PointInfo

GUARD = Guard(10**8, 12_000, 1)
GROUP = Group(
    "incomer",
    60_000,
    (
        PointInfo("voltage_l1", "V", -1, Kind.GAUGE, statistics=True),
        PointInfo("active_energy_import", "kWh", -2, Kind.TOTALISER, GUARD, False, None),
        PointInfo("active_energy_sum", "kWh", -2, Kind.TOTALISER),
        PointInfo("active_energy_export", "kWh", -2, Kind.TOTALISER, GUARD, False, None),
        PointInfo("active_power_total", "W", 0, Kind.GAUGE, demand=Demand(900_000, 60_000)),
    ),
)
CATALOGUE = Catalogue(
    "site",
    (MeterInfo("incomer", "p", 1, "", ""),),
    (GROUP,),
    (300_000,),
    LocalTime("Asia/Shanghai", ((0, 28_800_000),)),
)
MINUTE_MS = 60_000


def content(codec: int | None = None) -> Content:
    """Return what a meter told that passed its last number after three minutes."""
    kinds = [False, (10**8, 12_000, 1), True, (10**8, 12_000, 1), False]
    core = _core.Aggregator(
        [(MINUTE_MS, kinds)], CATALOGUE.window_lengths_ms, offsets=[(0, 0)], statistics=[(0, 0)]
    )
    for minute in range(40):
        shown = (10**8 - 300 + 100 * minute) % 10**8
        values = [2300 + minute % 2, shown, 5, 7, 0]
        core.push_row(0, minute * MINUTE_MS, minute * MINUTE_MS + 30_000, values, bytes(5))
    found = core.cut(10**8)
    assert found is not None
    return decode(*found.encode(codec), CATALOGUE)


@pytest.mark.parametrize("codec", [None, 0, 1, 2])
def test_a_rollover_is_an_audit_with_the_readings_on_both_sides(codec: int | None) -> None:
    (audit,) = content(codec).audits
    assert audit == AuditRow(
        GROUP,
        point=1,
        kind=AuditKind.ROLLOVER,
        closing_ms=2 * MINUTE_MS + 30_000,
        closing=10**8 - 100,
        opening_ms=3 * MINUTE_MS + 30_000,
        opening=0,
        energy=100,
        doubted=0,
        extreme=None,
    )


def test_every_window_has_an_uncertainty_for_each_guarded_totaliser_and_for_no_other() -> None:
    found = content()
    assert [row.start_ms for row in found.uncertainties] == [row.start_ms for row in found.windows]
    # half a step of 100 is the most that the interpolation can be off at each end
    assert found.uncertainties[1] == UncertaintyRow(
        GROUP, 300_000, 300_000, (None, 100, None, 0, None)
    )


def test_statistics_stand_beside_the_points_that_asked_for_them() -> None:
    found = content().statistics
    assert [row.length_ms for row in found] == [300_000] * len(found)
    nothing = (None,) * 4
    assert found[1] == StatisticsRow(
        GROUP, 300_000, 300_000, (500, *nothing), (2301, *nothing), (2301, *nothing)
    )


def test_a_demand_names_its_day_and_when_its_periods_ended() -> None:
    columns = [[4], [57_600_000], [86_400_000], [1_000], [60_000], [None], [None], [96]]
    assert list(judged.demands(GROUP, columns)) == [
        DemandRow(GROUP, 4, 57_600_000, 86_400_000, 1_000, 60_000, None, None, 96)
    ]


AUDIT = [1, 1, 0, 5, 60_000, 6, 1, 0, None]


@pytest.mark.parametrize(
    ("place", "cell", "said"),
    [
        (0, 5, "no point 5"),
        (0, -1, "no point -1"),
        (0, None, "no point None"),
        (0, 2, "an audit of active_energy_sum, which has no guard"),
        (1, 0, "0 is no kind of audit"),
        (1, 9, "9 is no kind of audit"),
        (2, -1, "-1 is not a time"),
        (3, None, "a number is missing"),
        (4, None, "None is not a time"),
        (5, None, "a number is missing"),
        (6, -1, "-1 is less than nothing"),
        (7, -1, "-1 is less than nothing"),
    ],
)
def test_an_audit_that_cannot_be_right_is_a_format_error(
    place: int, cell: int | None, said: str
) -> None:
    columns = [[other] for other in AUDIT]
    assert len(list(judged.audits(GROUP, columns))) == 1
    columns[place] = [cell]
    with pytest.raises(FormatError, match=said):
        list(judged.audits(GROUP, columns))


def test_a_demand_of_a_point_without_one_is_a_format_error() -> None:
    columns = [[0], [0], [86_400_000], [1], [1], [1], [1], [1]]
    with pytest.raises(FormatError, match="a demand of voltage_l1, which has none"):
        list(judged.demands(GROUP, columns))


def test_tables_of_another_width_than_the_catalogue_makes_are_format_errors() -> None:
    plain = replace(GROUP, points=GROUP.points[2:3])
    for read, expected in (
        (judged.audits, 9),
        (judged.uncertainties, 2),
        (judged.statistics, 2),
        (judged.demands, 8),
    ):
        said = f"7 columns, the catalogue makes {expected}"
        with pytest.raises(FormatError, match=said):
            list(read(plain, [[0]] * 7))


@pytest.mark.parametrize("length_ms", [None, 0, -1, 2**32])
def test_a_window_of_no_length_is_a_format_error(length_ms: int | None) -> None:
    with pytest.raises(FormatError, match="is not a length of time"):
        list(judged.uncertainties(GROUP, [[0], [length_ms], [1], [1]]))
