"""The bench's loads: exact energy, a balanced tree, a believable three-phase meter."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

import pytest

from hil_tests.sim import electrical
from hil_tests.sim.electrical import GAUGES, Node, Supply
from hil_tests.sim.loads import LOADS, UJ_PER_KWH, Series, Week, make_load

START_MS = 1_764_000_000_000
FAST = Week.at_speed(2400)  # a week in 252 s, so that intervals below cross its end
SHANGHAI_MIDNIGHT_MS = 1_764_000_000_000 - 1_764_000_000_000 % 86_400_000 - 8 * 3_600_000


def load(kind: str, *, name: str = "m", week: Week = FAST, scale_w: float = 60_000) -> Series:
    return make_load(LOADS[kind], week, scale_w=scale_w, rng=Random(name))


def leaf(kind: str, name: str) -> Node:
    shape = LOADS[kind]
    return Node(
        FAST,
        own=load(kind, name=name),
        tan_phi_permille=shape.tan_phi_permille,
        children=[],
        loss_ppm=0,
    )


def above(*children: Node, own: Series | None = None, loss_ppm: int = 15_000) -> Node:
    return Node(FAST, own=own, tan_phi_permille=0, children=children, loss_ppm=loss_ppm)


def supply(node: Node, *, initial_kwh: Fraction = Fraction(0)) -> Supply:
    return Supply(
        node=node,
        start_ms=START_MS,
        initial_kwh=initial_kwh,
        full_scale_w=60_000,
        shares_permille=(340, 320, 340),
        grid_seed=1,
        meter_seed=2,
    )


def net_uj(series: Series, from_ms: int, to_ms: int) -> int:
    return series.import_uj(from_ms, to_ms) - series.export_uj(from_ms, to_ms)


@pytest.mark.parametrize("kind", LOADS)
@pytest.mark.parametrize(
    ("from_ms", "to_ms"),
    [
        (START_MS, START_MS),
        (START_MS + 1, START_MS + 999),  # inside one second
        (START_MS + 300, START_MS + 777_701),  # three weeks of the loads
        (START_MS - 64_000, START_MS + 64_000),
    ],
)
def test_energy_is_the_brute_force_sum_to_the_microjoule(
    kind: str, from_ms: int, to_ms: int
) -> None:
    series = load(kind)
    imported = exported = 0
    at_ms = from_ms
    while at_ms < to_ms:
        next_ms = min(to_ms, at_ms - at_ms % 1000 + 1000)
        power_mw = series.power_mw(at_ms)
        imported += max(power_mw, 0) * (next_ms - at_ms)
        exported += max(-power_mw, 0) * (next_ms - at_ms)
        at_ms = next_ms
    assert (series.import_uj(from_ms, to_ms), series.export_uj(from_ms, to_ms)) == (
        imported,
        exported,
    )


def test_power_is_constant_within_a_second_of_utc() -> None:
    series = load("plant")
    assert len({series.power_mw(START_MS + rest_ms) for rest_ms in range(1000)}) == 1


def test_level_one_counts_the_sum_of_level_two_and_the_loss_exactly() -> None:
    workshop, sun, office = leaf("plant", "a"), leaf("pv", "b"), leaf("lighting", "c")
    own = load("base", name="d")
    floor = above(office, own=own, loss_ppm=3_000)
    incomer = above(workshop, sun, floor)
    rng = Random(7)
    for _ in range(200):
        from_ms = START_MS + rng.randrange(10**9)
        to_ms = from_ms + rng.randrange(10**7)
        below = sum(net_uj(node.active, from_ms, to_ms) for node in (workshop, sun, floor))
        lost = net_uj(incomer.loss, from_ms, to_ms)
        assert net_uj(incomer.active, from_ms, to_ms) == below + lost
        assert lost >= 0
        assert net_uj(floor.active, from_ms, to_ms) == (
            net_uj(own, from_ms, to_ms)
            + net_uj(office.active, from_ms, to_ms)
            + net_uj(floor.loss, from_ms, to_ms)
        )
    full_week = (START_MS, START_MS + FAST.period_s * 1000)
    assert net_uj(incomer.loss, *full_week) > 0


def test_a_node_imports_and_exports_by_the_sign_of_each_second() -> None:
    node = above(leaf("base", "a"), leaf("pv", "b"), leaf("pv", "c"), loss_ppm=0)
    week = (START_MS, START_MS + FAST.period_s * 1000)
    powers = [node.active.power_mw(t_ms) for t_ms in range(*week, 1000)]
    assert min(powers) < 0 < max(powers)
    assert node.active.import_uj(*week) == sum(power for power in powers if power > 0) * 1000
    assert node.active.export_uj(*week) == -sum(power for power in powers if power < 0) * 1000


def test_reactive_power_of_a_node_is_that_of_all_below() -> None:
    node = above(leaf("plant", "a"), leaf("hvac", "b"))
    for t_ms in range(START_MS, START_MS + 300_000, 1000):
        assert node.reactive.power_mw(t_ms) == node.reactive_mvar(t_ms)


def test_a_restart_gives_the_same_counters() -> None:
    first, second = (above(leaf("plant", "a"), leaf("pv", "b")) for _ in range(2))
    later_ms = START_MS + 40_000_000_123
    assert first.active.import_uj(START_MS, later_ms) == second.active.import_uj(START_MS, later_ms)
    assert supply(first).at(later_ms).value("current_l2") == supply(second).at(later_ms).value(
        "current_l2"
    )


def test_meters_of_one_kind_do_not_move_in_step() -> None:
    assert load("plant", name="a").power_mw_table != load("plant", name="b").power_mw_table


@pytest.mark.parametrize("kind", LOADS)
def test_a_load_stays_within_its_scale(kind: str) -> None:
    shares = [power / 60e6 for power in load(kind).power_mw_table]
    assert max(map(abs, shares)) <= 1.01
    gives, takes = min(shares) < -0.5, max(shares) > 0.5
    assert (gives, takes) == {"pv": (True, False), "storage": (True, True)}.get(kind, (False, True))
    assert kind == "storage" or min(shares) > 0 or max(shares) <= 0


def test_storage_gives_in_the_peaks_and_takes_at_night_and_at_noon() -> None:
    series = load("storage", week=Week.at_speed(1))
    by_hour = [series.power_w(SHANGHAI_MIDNIGHT_MS + hour * 3_600_000) for hour in range(24)]
    given = {hour for hour, power_w in enumerate(by_hour) if power_w < -30_000}
    taken = {hour for hour, power_w in enumerate(by_hour) if power_w > 30_000}
    assert given == {10, 11, 19, 20, 21}
    assert taken == {2, 3, 4, 13}


def test_the_course_of_a_day_is_local_time_and_scaled_by_day_speed_only() -> None:
    slow = load("pv", week=Week.at_speed(24))  # an hour of real time per day, whole days in phase
    day_ms = 3_600_000
    local_day = (SHANGHAI_MIDNIGHT_MS // 1000 + slow._offset_s) % slow._period_s
    midnight_ms = SHANGHAI_MIDNIGHT_MS - (local_day % 3600) * 1000
    assert slow.export_uj(midnight_ms, midnight_ms + day_ms // 4) == 0  # the sun rises at 6
    noon_ms = midnight_ms + day_ms // 2
    assert slow.export_uj(noon_ms - 60_000, noon_ms) > 0.2 * 60_000 * 60 * 1_000_000


def test_real_time_courses_follow_shanghai() -> None:
    office = load("lighting", week=Week.at_speed(1))
    monday_ms = 1_763_913_600_000  # 2025-11-24 00:00 +08:00
    assert office.power_w(monday_ms + 3 * 3_600_000) < 6_000
    assert office.power_w(monday_ms + 11 * 3_600_000) > 55_000
    assert office.power_w(monday_ms - 13 * 3_600_000) < 15_000  # Sunday, 11:00


def test_counters_rise_and_start_at_the_initial_value() -> None:
    meter = supply(leaf("plant", "a"), initial_kwh=Fraction("12345.6"))
    assert meter.at(START_MS).value("active_energy_import") == Fraction("12345.6")
    assert meter.at(START_MS - 10**9).value("active_energy_import") == Fraction("12345.6")
    assert meter.at(START_MS).value("active_energy_export") == 0
    values = [meter.at(START_MS + step * 250).value("active_energy_import") for step in range(2000)]
    assert values == sorted(values)
    counted = meter.node.active.import_uj(START_MS, START_MS + 499_750)
    assert values[-1] - values[0] == Fraction(counted, UJ_PER_KWH)


@pytest.mark.parametrize("kind", ["plant", "pv"])
def test_the_electrical_state_fits_together(kind: str) -> None:
    meter = supply(leaf(kind, "a"))
    for t_ms in range(START_MS, START_MS + 252_000, 3_700):
        state = meter.at(t_ms)
        value = {name: float(state.value(name)) for name in GAUGES}
        assert value["active_power_total"] == meter.node.active.power_w(t_ms)
        for what in ("active_power", "reactive_power", "apparent_power"):
            phases = sum(value[f"{what}_{phase}"] for phase in ("l1", "l2", "l3"))
            assert phases == pytest.approx(value[f"{what}_total"])
        for phase in ("l1", "l2", "l3"):
            apparent_va = value[f"voltage_{phase}"] * value[f"current_{phase}"]
            assert apparent_va == pytest.approx(value[f"apparent_power_{phase}"])
            assert 219 < value[f"voltage_{phase}"] < 241
        assert math.hypot(
            value["active_power_total"], value["reactive_power_total"]
        ) == pytest.approx(value["apparent_power_total"])
        assert value["power_factor_total"] * value["apparent_power_total"] == pytest.approx(
            value["active_power_total"]
        )
        assert value["voltage_l12"] == pytest.approx(
            value["voltage_ln_avg"] * math.sqrt(3), rel=0.01
        )
        assert abs(value["frequency"] - 50) <= 0.02


def test_demand_is_the_mean_power_of_the_last_quarter() -> None:
    meter = supply(leaf("plant", "a"))
    now_ms = START_MS + 5_000_000
    powers_w = [meter.node.active.power_w(now_ms - step * 1000 - 1) for step in range(900)]
    assert float(meter.at(now_ms).value("active_power_demand")) == pytest.approx(
        sum(powers_w) / 900
    )


def test_energy_of_the_phases_adds_up_exactly() -> None:
    state = supply(above(leaf("plant", "a"), leaf("pv", "b"))).at(START_MS + 9_999_999)
    for kind in ("active", "reactive", "apparent"):
        for way in ("import", "export", "sum", "net"):
            phases = sum(
                state.value(f"{kind}_energy_{way}_{phase}") for phase in ("l1", "l2", "l3")
            )
            assert phases == state.value(f"{kind}_energy_{way}")


def test_every_known_name_has_a_value_and_no_other_does() -> None:
    state = supply(leaf("base", "a")).at(START_MS)
    assert all(isinstance(state.value(name), Fraction) for name in GAUGES)
    assert electrical.knows("active_energy_import_l3")
    assert not electrical.knows("temperature_1")
    with pytest.raises(KeyError):
        state.value("temperature_1")
