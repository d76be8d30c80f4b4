"""The site file: what it becomes, and what whoever writes it wrongly is told."""

import re
import string
from pathlib import Path

import pytest

from agent.tests.fakes import SITE, write_site
from agent.tests.mixed_site import FEEDER, HEAT, MIXED, MIXED_MISTAKES, WATER, write_mixed
from agent.tests.site_mistakes import MISTAKES
from edgeagg import _core, keyfile
from edgeagg.errors import ConfigError
from edgeagg.model import Catalogue, Demand, Group, LocalTime, MeterInfo
from edgeagg.seal import key_text
from edgeagg_agent.asking import Address
from edgeagg_agent.budget import SHARE_MAX, budget
from edgeagg_agent.bus import LineSettings
from edgeagg_agent.config import load_site
from edgeagg_agent.site import Destination

CHECKOUT = Path(__file__).parents[2]


ALL_MISTAKES = {
    **{name: (SITE, *mistake) for name, mistake in MISTAKES.items()},
    **{name: (MIXED, *mistake) for name, mistake in MIXED_MISTAKES.items()},
}


@pytest.mark.parametrize(
    ("text", "changes", "key", "said"), ALL_MISTAKES.values(), ids=ALL_MISTAKES
)
def test_a_mistake_is_named_with_file_key_and_what_is_allowed(tmp_path, text, changes, key, said):
    file = write_site(tmp_path, *changes, text=text)
    with pytest.raises(ConfigError) as caught:
        load_site(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: {key}: ")
    assert caught.value.found
    assert caught.value.allowed
    assert "\n" not in message
    for words in said:
        assert words.replace("DIRECTORY", str(tmp_path)) in message
    assert list(tmp_path.iterdir()) == [file], "nothing is started, nothing is made"


def test_a_site_without_buses_is_told_so(tmp_path):
    file = write_site(tmp_path, text=SITE[: SITE.index("[[bus]]")])
    with pytest.raises(ConfigError, match=r"bus: missing; at least one \[\[bus\]\]"):
        load_site(file)


def test_a_bus_over_tcp_that_is_too_slow_is_not_told_to_change_its_baud_rate(tmp_path):
    file = write_site(
        tmp_path,
        ('tcp = "127.0.0.1:502"', 'tcp = "127.0.0.1:502"\nturnaround_ms = 1000'),
        ('period = "1s"', 'period = "200ms"'),
    )
    with pytest.raises(ConfigError, match="500% of the bus's time") as caught:
        load_site(file)
    assert caught.value.key == "bus[roof].meter.period"
    # TCP fetches the meter in one read, of which fewer points are none the faster
    assert caught.value.allowed == "what would help: periods 2s instead of 200ms"


@pytest.mark.parametrize("period_ms", [200, 250, 400, 500])
@pytest.mark.parametrize("baud", [2400, 9600, 19200])
def test_every_way_out_that_is_advised_is_one(tmp_path, baud, period_ms):
    crowded = [
        ("baud = 9600", f"baud = {baud}"),
        *[('period = "2s"', f'period = "{period_ms}ms"')] * 2,
    ]
    file = write_site(tmp_path, *crowded)
    try:
        load_site(file)
    except ConfigError as error:
        advice = error.allowed
    else:
        return
    longer = re.search(r"periods (\S+) instead of", advice)
    if longer:
        periods = [('period = "2s"', f'period = "{longer[1]}"')] * 2
        assert_feasible(write_site(tmp_path, crowded[0], *periods))
    faster = re.search(r"at least (\d+) Bd", advice)
    if faster:
        changes = [("baud = 9600", f"baud = {faster[1]}"), *crowded[1:]]
        assert_feasible(write_site(tmp_path, *changes))
    else:
        with pytest.raises(ConfigError, match=r"of the bus's time|miss slots"):
            load_site(write_site(tmp_path, ("baud = 9600", "baud = 115200"), *crowded[1:]))
    assert longer or faster


def assert_feasible(file):
    found = budget(load_site(file).buses[0].load())
    assert found.is_feasible
    assert found.share <= SHARE_MAX


@pytest.mark.parametrize("content", [None, b"\xff\xfe[site]"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    file = tmp_path / "site.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"site\.toml: file: .*; a readable TOML file in UTF-8"):
        load_site(file)


def test_the_site_becomes_buses_meters_and_groups(tmp_path):
    site = load_site(write_site(tmp_path))
    assert (site.gateway, site.name) == ("qp-0001", "Example plant")
    assert (site.state_bytes_max, site.flush_ms) == (1 << 30, 60_000)
    assert (site.resend_ms, site.history_ms) == (7 * 86_400_000, 36_500 * 86_400_000)
    assert site.window_lengths_ms == (10_000, 60_000, 900_000)
    assert site.status_file == tmp_path / "status.json"
    assert site.metrics_address is None
    assert [bus.where for bus in site.buses] == ["/dev/none-a 9600 8E1", "tcp 127.0.0.1:502"]
    assert [meter.name for meter in site.meters] == ["incomer", "workshop", "pv"]
    incomer = site.meters[0]
    assert (incomer.address, incomer.tier, incomer.parent) == (Address(unit=1), 1, "")
    assert incomer.settings == LineSettings(9600, "8E1", incomer.profile.limits.request_gap_ms)
    (group,) = incomer.groups
    assert group.period_ms == 2_000
    assert group.points == incomer.points == incomer.profile.points
    assert 0.2 < budget(site.buses[0].load()).share < SHARE_MAX


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9100", ("127.0.0.1", 9100)),
        ("::1:9100", ("::1", 9100)),
        ("h", ("h", 9469)),
    ],
)
def test_metrics_are_served_where_the_site_says(tmp_path, text, address):
    site = load_site(write_site(tmp_path, ("[status]", f'[status]\nmetrics = "{text}"')))
    assert site.metrics_address == address


def test_meters_of_all_protocols_stand_on_one_line_each_with_its_own_settings(tmp_path):
    cellar, yard = load_site(write_mixed(tmp_path)).buses
    feeder, old, water, heating, pump = cellar.meters
    slow = LineSettings(2400, "8E1", 0, turnaround_max_ms=600, pause_max_ms=500)
    assert [m.settings for m in (feeder, old, water, heating)] == [slow] * 4
    assert (pump.settings.baud, pump.settings.format) == (9600, "8N1")
    assert (pump.settings.turnaround_max_ms, pump.settings.pause_max_ms) == (150, 0)
    assert feeder.address == Address(digits=FEEDER)
    assert water.address == Address(digits=WATER, meter_type=0x10, edition="2004")
    assert heating.address == Address(digits=HEAT, meter_type=0x20, edition="2018")
    assert (yard.where, yard.is_raw) == ("serial server 127.0.0.1:4001", True)
    assert feeder.groups[0].period_ms == 60_000  # unless it says otherwise


def test_a_type_may_be_given_and_makes_another_meter_of_the_same_digits(tmp_path):
    site = load_site(write_mixed(tmp_path, (f'"{HEAT}"\n', f'"{WATER}"\ntype = 0x25\n')))
    assert site.meters[3].address == Address(digits=WATER, meter_type=0x25, edition="2018")


def test_on_an_ascii_bus_a_meter_may_pause_for_a_second_between_characters(tmp_path):
    ascii_bus = ('format = "8E1"', 'format = "7E1"\nmode = "ascii"')
    bus = load_site(write_site(tmp_path, ascii_bus)).buses[0]
    assert bus.ascii_mode
    assert {(m.settings.format, m.settings.pause_max_ms) for m in bus.meters} == {("7E1", 1_000)}


def test_beside_ascii_meters_a_dlt645_meter_has_eight_bits_of_its_own(tmp_path):
    ascii_bus = ('format = "8E1"', 'format = "8N1"\nmode = "ascii"')
    own = (f'address = "{FEEDER}"', f'address = "{FEEDER}"\nformat = "8E1"')
    feeder = load_site(write_mixed(tmp_path, ascii_bus, own)).meters[0]
    assert (feeder.settings.format, feeder.settings.pause_max_ms) == ("8E1", 500)


def test_periods_by_class_and_by_name_make_groups_in_the_order_of_their_periods(tmp_path):
    periods = 'periods = { energy = "60s", voltage_l2 = "10s", current_l1 = "10s" }'
    incomer = load_site(write_site(tmp_path, ("tier = 1", f"tier = 1\n{periods}"))).meters[0]
    assert [group.period_ms for group in incomer.groups] == [2_000, 10_000, 60_000]
    fast, named, energy = incomer.groups
    assert [p.name for p in named.points] == ["voltage_l2", "current_l1"]
    assert {p.poll for p in energy.points} == {"energy"}
    assert not any(p.poll == "energy" for p in fast.points)
    assert set(incomer.points) == set(incomer.profile.points)
    assert (fast.is_billed, energy.is_billed) == (False, True)


def test_a_points_own_period_comes_before_that_of_its_class(tmp_path):
    periods = 'periods = { energy = "60s", active_energy_import = "5s" }'
    incomer = load_site(write_site(tmp_path, ("tier = 1", f"tier = 1\n{periods}"))).meters[0]
    found = {p.name: group.period_ms for group in incomer.groups for p in group.points}
    assert found["active_energy_import"] == 5_000
    assert found["active_energy_export"] == 60_000


def test_classes_with_the_meters_own_period_are_one_group_with_the_rest(tmp_path):
    periods = 'periods = { energy = "2000ms" }'
    incomer = load_site(write_site(tmp_path, ("tier = 1", f"tier = 1\n{periods}"))).meters[0]
    assert [group.period_ms for group in incomer.groups] == [2_000]


def test_the_catalogue_has_the_groups_as_the_meters_stand_and_the_gateways_own_last(tmp_path):
    periods = 'periods = { energy = "60s" }'
    site = load_site(write_site(tmp_path, ("tier = 1", f"tier = 1\n{periods}")))
    catalogue = site.catalogue()
    assert catalogue.site == "Example plant"
    assert catalogue.meters[1] == MeterInfo("workshop", "eastron-sdm630", 2, "incomer", "")
    assert catalogue.meters[3] == MeterInfo("gateway", "edgeagg-gateway", 0, "", "")
    assert [(type(g), g.meter, g.period_ms) for g in catalogue.groups] == [
        (Group, "incomer", 2_000),
        (Group, "incomer", 60_000),
        (Group, "workshop", 2_000),
        (Group, "pv", 1_000),
        (Group, "gateway", 60_000),
    ]
    energy = site.meters[0].groups[1]
    assert [p.name for p in catalogue.groups[1].points] == [p.name for p in energy.points]
    own = [p.name for p in catalogue.groups[-1].points]
    assert own[0] == "switchroom_utilisation"
    assert own[-7:] == [
        "pv_completeness",
        "state_dropped_batches",
        "state_not_kept_slots",
        "state_clock_trust",
        "state_clock_steps",
        "state_clock_step",
        "state_clock_retimed",
    ]
    assert catalogue.window_lengths_ms == site.window_lengths_ms


def test_the_longest_names_still_make_a_catalogue_that_both_ends_can_read(tmp_path):
    long = "a-name-of-thirty-two-characters-"
    assert len(long) == 32
    names = [('name = "switchroom"', f'name = "{long}"'), ('name = "pv"', f'name = "{long}"')]
    catalogue = load_site(write_site(tmp_path, *names)).catalogue()
    assert Catalogue.from_bytes(catalogue.to_bytes()) == catalogue


def test_only_the_chosen_points_are_read_in_the_order_of_the_profile(tmp_path):
    chosen = 'points = ["active_energy_import", "voltage_l1"]'
    site = load_site(write_site(tmp_path, ("tier = 1", f"tier = 1\n{chosen}")))
    points = [point.name for point in site.meters[0].points]
    assert points == ["voltage_l1", "active_energy_import"]


def test_a_profile_beside_the_site_file_comes_before_the_shipped_one(tmp_path):
    (tmp_path / "mine").mkdir()
    shipped = CHECKOUT / "agent/edgeagg_agent/profiles/eastron-sdm630.toml"
    text = shipped.read_text("utf-8").replace('vendor = "Eastron"', 'vendor = "Other"')
    (tmp_path / "mine/eastron-sdm630.toml").write_text(text, "utf-8")
    file = write_site(
        tmp_path, ('name = "Example plant"', 'name = "Example plant"\nprofiles = ["mine"]')
    )
    assert load_site(file).meters[0].profile.vendor == "Other"


@pytest.mark.parametrize(
    ("broker", "host", "port", "tls"),
    [
        ("mqtt://broker", "broker", 1883, False),
        ("mqtts://broker", "broker", 8883, True),
        ("mqtts://10.0.0.1:4000", "10.0.0.1", 4000, True),
        ("mqtt://[::1]:1884", "::1", 1884, False),
    ],
)
def test_the_scheme_of_the_broker_gives_port_and_encryption(tmp_path, broker, host, port, tls):
    (tmp_path / "secret").touch()
    site = load_site(
        write_site(
            tmp_path,
            (
                '"mqtt://127.0.0.1:1883"',
                f'"{broker}"\nusername = "u"\npassword_file = "DIRECTORY/secret"',
            ),
        )
    )
    secret = str(tmp_path / "secret")
    assert site.destinations == (Destination("platform", host, port, tls, "u", secret, ""),)


@pytest.mark.parametrize(
    ("text", "period_ms"),
    [("500ms", 500), ("15min", 900_000), ("24h", 86_400_000), ("1 h", 3_600_000)],
)
def test_durations_are_read_with_their_units(tmp_path, text, period_ms):
    site = load_site(write_site(tmp_path, ('period = "1s"', f'period = "{text}"')))
    assert site.meters[2].groups[0].period_ms == period_ms


def test_window_lengths_are_sorted_and_each_taken_once(tmp_path):
    lengths = ("[status]", '[windows]\nlengths = ["1min", "10s", "60s"]\n[status]')
    assert load_site(write_site(tmp_path, lengths)).window_lengths_ms == (10_000, 60_000)


def test_the_site_of_the_demo_loads(tmp_path):
    text = (CHECKOUT / "hil_tests/plant/site.toml").read_text("utf-8")
    places = {"DIRECTORY": str(tmp_path), "BROKER_PORT": "1883", "ROOF_PORT": "5020"}
    places["PLATFORM_KEY"] = key_text(keyfile.make(tmp_path / "platform.key").public)
    file = tmp_path / "site.toml"
    file.write_text(string.Template(text).substitute(places), "utf-8")
    site = load_site(file)
    assert len(site.buses) == 3
    assert {meter.name for meter in site.meters} >= {"incomer", "workshop", "pv"}
    assert all(budget(bus.load()).is_feasible for bus in site.buses)


def test_the_site_file_of_the_raspberry_pi_loads():
    site = load_site(CHECKOUT / "deploy/raspberrypi/site.toml")
    assert site.state_directory == Path("/var/lib/edgeagg")
    assert [bus.port for bus in site.buses] == ["/dev/rs485/bus1", "/dev/rs485/bus2"]


def test_the_site_names_its_local_time_and_what_is_made_of_its_readings(tmp_path):
    demand = 'demand = { points = ["active_energy_import"], period = "30min", slip = "5min" }'
    file = write_site(
        tmp_path,
        ('name = "Example plant"', 'name = "Example plant"\ntime_zone = "Europe/Berlin"'),
        (
            "tier = 1",
            f'tier = 1\npower_max = "2.5 MW"\nstatistics = ["voltage_l1"]\n{demand}',
        ),
    )
    catalogue = load_site(file).catalogue()
    local = catalogue.local_time
    assert local.zone == "Europe/Berlin"
    assert local.offsets[0] == (1_577_836_800_000, 3_600_000)  # 2020-01-01, an hour ahead
    assert local.offsets[1] == (1_585_443_600_000, 7_200_000)  # 2020-03-29T01:00Z, summer
    assert len(local.offsets) == 1 + 2 * 41
    points = {point.name: point for point in catalogue.groups[0].points}
    assert points["active_energy_import"].guard.rate_max_per_h == 2_500 * 1_000
    assert points["active_energy_import"].demand == Demand(1_800_000, 300_000)
    assert points["voltage_l1"].statistics
    assert [name for name, point in points.items() if point.statistics] == ["voltage_l1"]
    assert [name for name, point in points.items() if point.demand] == ["active_energy_import"]
    assert Catalogue.from_bytes(catalogue.to_bytes()) == catalogue


def test_a_site_that_names_nothing_has_chinas_time_and_guards_all_the_same(tmp_path):
    catalogue = load_site(write_site(tmp_path)).catalogue()
    assert catalogue.local_time == LocalTime("Asia/Shanghai", ((1_577_836_800_000, 28_800_000),))
    guarded = [p.name for g in catalogue.groups for p in g.points if p.guard is not None]
    assert "active_energy_import" in guarded
    assert "active_energy_sum" not in guarded


def test_a_catalogue_too_long_for_one_message_is_refused_before_the_start(tmp_path):
    head, meter = SITE[: SITE.index("[[bus.meter]]")], 'profile = "eastron-sdm630"\ntier = 1\n'
    buses = "".join(
        f'[[bus]]\nname = "b{bus}"\ntcp = "127.0.0.{bus}"\n'
        + "".join(
            f'[[bus.meter]]\nname = "m{bus}-{unit}"\nunit = {unit}\nperiod = "60s"\n{meter}'
            for unit in range(1, 141)
        )
        for bus in range(1, 4)
    )
    file = write_site(tmp_path, text=head[: head.index("[[bus]]")] + buses)
    with pytest.raises(ConfigError) as caught:
        load_site(file)
    assert caught.value.key == "bus.meter.points"
    assert "points make a catalogue of" in caught.value.found
    assert caught.value.allowed.startswith("at most 261120 bytes: fewer points per meter")


def test_a_month_is_a_window_length_of_its_own(tmp_path):
    windows = ("[status]", '[windows]\nlengths = ["15min", "24h", "month"]\n[status]')
    site = load_site(write_site(tmp_path, windows))
    assert site.window_lengths_ms == (900_000, 86_400_000, _core.MONTH_MS)
    assert Catalogue.from_bytes(site.catalogue().to_bytes()).window_lengths_ms[-1] == _core.MONTH_MS
