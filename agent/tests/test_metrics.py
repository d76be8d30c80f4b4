"""The gateway's own points and Prometheus's text, from plain counters."""

from decimal import Decimal

from edgeagg.model import Kind
from edgeagg_agent.bus import BusStats
from edgeagg_agent.metrics import (
    BusTally,
    BusWatch,
    StateWatch,
    gateway_group,
    gateway_meter,
    prometheus,
)

METERS = ("incomer", "workshop")
COUNTED = (
    "dropped_batches",
    "not_kept_slots",
    "clock_trust",
    "clock_steps",
    "clock_step",
    "clock_retimed",
)
STATE = StateWatch(lambda: (8, 9, 4, 2, -1_500, 7))
STATE.sample()


def watch(stats=None, tally=None):
    return BusWatch("switchroom", METERS, stats or BusStats(), tally or BusTally(), now_s=100.0)


def named(watched, values):
    group = gateway_group([(watched.name, watched.meters)])
    names = [point.name for point in group.points[: -len(COUNTED)]]
    return dict(zip(names, values, strict=True))


def test_the_group_has_a_point_for_every_value_of_a_sample():
    watched = watch()
    group = gateway_group([("switchroom", METERS), ("roof", ("pv",))])
    assert len({point.name for point in group.points}) == len(group.points)
    assert set(named(watched, watched.sample(160.0))) < {point.name for point in group.points}
    assert "pv_completeness" in {point.name for point in group.points}
    assert group.meter == gateway_meter().name


def test_the_gateway_stands_outside_the_metering_tree():
    assert (gateway_meter().tier, gateway_meter().parent) == (0, "")


def test_utilisation_is_that_of_the_time_since_the_last_sample():
    stats = BusStats(busy_s=1_000.0)
    watched = watch(stats)
    stats.busy_s += 15.0
    assert named(watched, watched.sample(160.0))["switchroom_utilisation"] == 250
    stats.busy_s += 45.0
    assert named(watched, watched.sample(220.0))["switchroom_utilisation"] == 750
    stats.busy_s += 99.0  # a transaction that ended behind the sample
    assert named(watched, watched.sample(280.0))["switchroom_utilisation"] == 1000


def test_worst_times_begin_anew_with_every_sample_and_counters_do_not():
    stats, tally = BusStats(no_reply=3), BusTally(lateness_ms=700, skew_ms=90, retries=2)
    watched = watch(stats, tally)
    first = named(watched, watched.sample(160.0))
    assert first["switchroom_lateness"] == 700
    assert first["switchroom_skew"] == 90
    second = named(watched, watched.sample(220.0))
    assert (second["switchroom_lateness"], second["switchroom_skew"]) == (0, 0)
    assert second["switchroom_no_reply"] == 3
    assert second["switchroom_retries"] == 2


def test_completeness_counts_point_slots_and_never_rounds_up_to_all():
    tally = BusTally()
    watched = watch(tally=tally)
    tally.note("incomer", slots=20, values=20)
    tally.note("incomer", slots=9_980, values=9_979)
    values = named(watched, watched.sample(160.0))
    assert values["incomer_completeness"] == 999
    assert values["workshop_completeness"] == 1000
    assert named(watched, watched.sample(220.0))["incomer_completeness"] == 1000


def test_prometheus_reads_the_last_sample_with_units_in_the_names():
    stats, tally = BusStats(transactions=12, busy_s=0.0), BusTally(lateness_ms=1_500)
    watched = watch(stats, tally)
    stats.busy_s = 30.0
    tally.note("incomer", slots=4, values=3)
    watched.sample(160.0)
    text = prometheus("qp-0001", [watched], STATE)
    labels = '{gateway="qp-0001",bus="switchroom"}'
    assert f"edgeagg_bus_utilisation_percent{labels} 50.0\n" in text
    assert f"edgeagg_bus_lateness_seconds{labels} 1.500\n" in text
    assert f"edgeagg_bus_transactions_total{labels} 12\n" in text
    incomer = labels.replace("}", ',meter="incomer"}')
    assert f"edgeagg_meter_completeness_percent{incomer} 75.0\n" in text
    assert "# TYPE edgeagg_bus_transactions_total counter" in text
    assert "# TYPE edgeagg_bus_utilisation_percent gauge" in text
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads))


def test_counters_are_totalisers_so_that_windows_hold_their_differences():
    group = gateway_group([("switchroom", METERS)])
    kinds = {point.name: point.kind for point in group.points}
    assert kinds["switchroom_no_reply"] is Kind.TOTALISER
    assert kinds["switchroom_utilisation"] is Kind.GAUGE


def test_the_metrics_in_text_have_the_values_of_the_points_that_travel():
    stats, tally = BusStats(no_reply=3, reopened=1), BusTally(lateness_ms=1_234, overrun_slots=5)
    watched = watch(stats, tally)
    tally.note("workshop", slots=3, values=2)
    values = watched.sample(160.0)
    points = gateway_group([(watched.name, watched.meters)]).points
    labels = 'gateway="qp-0001",bus="switchroom"'
    shown = {}
    for line in prometheus("qp-0001", [watched], STATE).splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            shown[name] = value
    values = (*values, 8, 9, 4, 2, -1_500, 7)
    state = [value for name, value in shown.items() if name.startswith("edgeagg_state_")]
    assert state == ["8", "9", "4", "2", "-1.500", "7"]
    shown = {n: value for n, value in shown.items() if not n.startswith("edgeagg_state_")}
    points, values = points[: -len(COUNTED)], values[: -len(COUNTED)]
    exact = [Decimal(v).scaleb(p.exponent) for p, v in zip(points, values, strict=True)]
    assert [Decimal(value) for value in shown.values()] == exact
    assert all(labels in name for name in shown)


def test_several_buses_share_one_head_for_each_metric():
    roof = BusWatch("roof", ("pv",), BusStats(), BusTally(), now_s=0.0)
    text = prometheus("qp-0001", [watch(), roof], STATE)
    assert text.count("# TYPE edgeagg_bus_retries_total counter\n") == 1
    lines = text.splitlines()
    head = lines.index("# TYPE edgeagg_bus_retries_total counter")
    assert ['bus="switchroom"' in lines[head + 1], 'bus="roof"' in lines[head + 2]] == [True, True]
    assert text.endswith("\n")


def test_a_minute_without_time_divides_by_nothing():
    stats = BusStats()
    watched = watch(stats)
    stats.busy_s = 1.0
    assert named(watched, watched.sample(100.0))["switchroom_utilisation"] == 1000
