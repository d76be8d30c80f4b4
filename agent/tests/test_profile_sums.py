"""Sums of a profile: what a file may say, what the shipped ones say, what the platform is told."""

import re

import pytest

from agent.tests.fakes import write_site
from edgeagg.errors import ConfigError
from edgeagg.model import Kind, PointSum
from edgeagg_agent.config import load_site
from edgeagg_agent.profile import SHIPPED, Sum, load, names

HEAD = 'vendor = "Maker"\nmodels = ["M1"]\nstatus = "draft"\nsources = ["display"]\n'
UNITS = {"all": "kWh", "t1": "kWh", "t2": "kWh", "water": "m3"}
SUM = '[[sums]]\ntotal = "all"\nparts = ["t1", "t2"]\n'


def profile(folder, text=SUM):
    """Load a profile of four totalisers and a gauge with these sums."""
    points = [
        f'[points.{name}]\nfunction = 3\nregister = {2 * at}\ntype = "u32"\nunit = "{unit}"\n'
        'resolution = 1\nkind = "totaliser"\n'
        for at, (name, unit) in enumerate(UNITS.items())
    ]
    gauge = points[0].replace("all", "power").replace("= 0", "= 20").replace("totaliser", "gauge")
    (folder / "mine.toml").write_text("\n".join([HEAD, *points, gauge, text]), "utf-8")
    return load("mine", [folder])


def test_a_sum_names_a_total_and_its_parts(tmp_path):
    assert profile(tmp_path).sums == (Sum("all", ("t1", "t2")),)
    assert profile(tmp_path, "").sums == ()


MISTAKES = {
    "unknown total": ('"all"', '"al"', "total", "no point 'al'", "did you mean 'all'?"),
    "unknown part": ('"t2"', '"t3"', "parts", "no point 't3'", "t1, t2, water"),
    "gauge": ('"t2"', '"power"', "parts", "power is a gauge", "totaliser"),
    "unit": ('"t2"', '"water"', "parts", "water is in m3, all in kWh", "one unit"),
    "one part": (', "t2"', "", "parts", "t1", "two or more others"),
    "part twice": ('"t2"', '"t1"', "parts", "t1, t1", "each once"),
    "total as part": ('"t2"', '"all"', "parts", "t1, all", "two or more others"),
    "no total": ('total = "all"\n', "", "total", "missing", "text"),
    "unknown key": ("parts", "part", "part", "unknown", "did you mean 'parts'?"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_key_and_what_is_allowed(tmp_path, mistake):
    before, after, key, found, allowed = MISTAKES[mistake]
    with pytest.raises(ConfigError) as caught:
        profile(tmp_path, SUM.replace(before, after, 1))
    assert caught.value.key == f"sums[0].{key}"
    assert found in caught.value.found
    assert allowed in caught.value.allowed


@pytest.mark.parametrize("name", names(()))
def test_the_totals_of_a_shipped_profile_are_the_sums_of_all_their_rates(name):
    """The rule of tools/make_profiles.py, asked of the files."""
    shipped = load(name, ())
    rates = {}
    for point in shipped.every_point:
        found = re.fullmatch(r"(.+)_t\d+", point.name)
        if found is not None and point.kind is Kind.TOTALISER:
            rates.setdefault(found[1], set()).add(point.name)
    totals = {point.name for point in shipped.every_point}
    most = max(map(len, rates.values()), default=0)
    wanted = {total: parts for total, parts in rates.items() if len(parts) == most}
    wanted = {total: parts for total, parts in wanted.items() if total in totals}
    assert {one.total: set(one.parts) for one in shipped.sums} == wanted


def test_some_shipped_profiles_have_rates():
    assert sum(bool(load(name, ()).sums) for name in names(())) >= 10
    assert "[[sums]]" in (SHIPPED / "README.md").read_text("utf-8")


RATES = [f"active_energy_import_t{number}" for number in range(1, 5)]


@pytest.mark.parametrize(
    ("points", "sums"),
    [
        (["voltage_l1", "active_energy_import", *RATES], (PointSum(1, (2, 3, 4, 5)),)),
        (["voltage_l1", "active_energy_import", *RATES[:3]], ()),
        (["voltage_l1", *RATES], ()),
    ],
)
def test_the_platform_is_told_of_a_sum_that_is_read_whole(tmp_path, points, sums):
    site = load_site(
        write_site(
            tmp_path,
            ('profile = "eastron-sdm630"', 'profile = "schneider-iem3000"'),
            ("tier = 1", f"tier = 1\npoints = {points}"),
        )
    )
    groups = site.catalogue().groups
    (group,) = (one for one in groups if one.meter == "incomer")
    assert {point.name for point in group.points} == set(points)
    assert group.sums == tuple(
        PointSum(
            _number(group, points[one.total]), tuple(_number(group, points[at]) for at in one.parts)
        )
        for one in sums
    )


def _number(group, name):
    return [point.name for point in group.points].index(name)


def test_a_rate_with_a_period_of_its_own_is_in_no_sum(tmp_path):
    profile_line = ('profile = "eastron-sdm630"', 'profile = "schneider-iem3000"')
    changes = f'tier = 1\nperiods = {{ {RATES[0]} = "60s" }}'
    site = load_site(write_site(tmp_path, profile_line, ("tier = 1", changes)))
    assert [group.sums for group in site.catalogue().groups if group.meter == "incomer"] == [(), ()]
