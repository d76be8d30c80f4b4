"""The site file: what it becomes, and what whoever writes it wrongly is told."""

import re
import string
from pathlib import Path

import pytest

from agent.tests.fakes import SITE, write_site
from agent.tests.site_mistakes import MISTAKES
from edgeagg.errors import ConfigError
from edgeagg.model import Group, MeterInfo
from edgeagg_agent.config import Destination, load_site

CHECKOUT = Path(__file__).parents[2]


@pytest.mark.parametrize(("changes", "key", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_file_key_and_what_is_allowed(tmp_path, changes, key, said):
    file = write_site(tmp_path, *changes)
    with pytest.raises(ConfigError) as caught:
        load_site(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: {key}: ")
    assert caught.value.found
    assert caught.value.allowed
    assert "\n" not in message
    for text in said:
        assert text.replace("DIRECTORY", str(tmp_path)) in message
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
    assert "5.3 times as long; or fewer points" in caught.value.allowed
    assert "Bd" not in caught.value.allowed
    assert "more bus" not in caught.value.allowed  # there is one meter


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
    factor = float(re.search(r"periods ([0-9.]+) times", advice)[1])
    day_ms = 86_400_000
    longer_ms = next(
        ms for ms in range(200, 20_000) if ms >= period_ms * factor and not day_ms % ms
    )
    longer = [('period = "2s"', f'period = "{longer_ms}ms"')] * 2
    bus = load_site(write_site(tmp_path, crowded[0], *longer)).buses[0]
    assert bus.share <= 0.95
    faster = re.search(r"at least (\d+) Bd", advice)
    if faster:
        bus = load_site(write_site(tmp_path, ("baud = 9600", f"baud = {faster[1]}"), *crowded[1:]))
        assert bus.buses[0].share <= 0.95
    else:
        with pytest.raises(ConfigError, match="of the bus's time"):
            load_site(write_site(tmp_path, ("baud = 9600", "baud = 115200"), *crowded[1:]))


@pytest.mark.parametrize("content", [None, b"\xff\xfe[site]"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    file = tmp_path / "site.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"site\.toml: file: .*; a readable TOML file in UTF-8"):
        load_site(file)


def test_the_site_becomes_buses_meters_and_blocks(tmp_path):
    site = load_site(write_site(tmp_path))
    assert (site.gateway, site.name) == ("qp-0001", "Example plant")
    assert (site.state_bytes_max, site.flush_ms) == (1 << 30, 60_000)
    assert site.window_lengths_ms == (10_000, 60_000, 900_000)
    assert site.status_file == tmp_path / "status.json"
    assert [bus.where for bus in site.buses] == ["/dev/none-a 9600 8E1", "tcp 127.0.0.1:502"]
    assert [meter.name for meter in site.meters] == ["incomer", "workshop", "pv"]
    incomer = site.meters[0]
    assert (incomer.unit, incomer.period_ms, incomer.tier, incomer.parent) == (1, 2_000, 1, "")
    assert 1 <= len(incomer.blocks) < len(incomer.points)
    assert 0 < incomer.scan_us < 2_000_000
    assert 0.2 < site.buses[0].share < 0.95


def test_the_catalogue_numbers_groups_as_the_meters_stand(tmp_path):
    site = load_site(write_site(tmp_path))
    catalogue = site.catalogue()
    assert catalogue.site == "Example plant"
    assert catalogue.meters[1] == MeterInfo("workshop", "eastron-sdm630", 2, "incomer", "")
    assert [(type(g), g.meter, g.period_ms) for g in catalogue.groups] == [
        (Group, "incomer", 2_000),
        (Group, "workshop", 2_000),
        (Group, "pv", 1_000),
    ]
    assert [p.name for p in catalogue.groups[0].points] == [p.name for p in site.meters[0].points]
    assert catalogue.window_lengths_ms == site.window_lengths_ms


def test_only_the_chosen_points_are_read_in_the_order_of_the_profile(tmp_path):
    chosen = 'points = ["active_energy_import", "voltage_l1"]'
    site = load_site(write_site(tmp_path, ("tier = 1", f"tier = 1\n{chosen}")))
    points = [point.name for point in site.meters[0].points]
    assert points == ["voltage_l1", "active_energy_import"]
    assert sum(block.count for block in site.meters[0].blocks) == 4


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
    assert site.meters[2].period_ms == period_ms


def test_window_lengths_are_sorted_and_each_taken_once(tmp_path):
    lengths = ("[status]", '[windows]\nlengths = ["1min", "10s", "60s"]\n[status]')
    assert load_site(write_site(tmp_path, lengths)).window_lengths_ms == (10_000, 60_000)


def test_the_site_of_the_demo_loads(tmp_path):
    text = (CHECKOUT / "hil_tests/plant/site.toml").read_text("utf-8")
    places = {"DIRECTORY": str(tmp_path), "BROKER_PORT": "1883", "ROOF_PORT": "5020"}
    file = tmp_path / "site.toml"
    file.write_text(string.Template(text).substitute(places), "utf-8")
    site = load_site(file)
    assert len(site.buses) == 3
    assert {meter.name for meter in site.meters} >= {"incomer", "workshop", "pv"}
    assert all(bus.share <= 0.95 for bus in site.buses)


def test_the_site_file_of_the_raspberry_pi_loads():
    site = load_site(CHECKOUT / "deploy/raspberrypi/site.toml")
    assert site.state_directory == Path("/var/lib/edgeagg")
    assert [bus.port for bus in site.buses] == ["/dev/rs485/bus1", "/dev/rs485/bus2"]
