"""Virtual meters: what they are the sum of, where they stand, and what is wrong with a file."""

from fractions import Fraction
from pathlib import Path

import pytest

from edgeagg import tree
from edgeagg.balance import NOTHING, Energy, balance
from edgeagg.errors import ConfigError, FormatError
from edgeagg.model import MeterInfo, Quality

REAL = (
    MeterInfo("incomer-1", "x", 1, "", ""),
    MeterInfo("incomer-2", "x", 1, "", ""),
    MeterInfo("hall-a", "x", 2, "incomer-1", ""),
    MeterInfo("hall-b", "x", 2, "incomer-1", ""),
    MeterInfo("press", "x", 3, "hall-a", "power"),
    MeterInfo("gateway", "edgeagg-gateway", 0, "", ""),
)
SITE = """
[[meter]]
gateway = "qp-0001"
name = "site"
tier = 1
plus = ["incomer-1", "incomer-2"]
"""
WORKSHOPS = """
[[meter]]
gateway = "qp-0001"
name = "workshops"
tier = 2
parent = "incomer-1"
plus = ["hall-a", "hall-b"]
"""
REST = """
[[meter]]
gateway = "qp-0001"
name = "rest"
tier = 2
parent = "incomer-1"
plus = ["incomer-1"]
minus = ["hall-a", "hall-b"]
"""


def grown(folder: Path, *texts: str) -> tree.Tree:
    file = folder / "virtual.toml"
    file.write_text("".join(texts), encoding="utf-8")
    return tree.grow(REAL, tree.read(file), file)


def places(found: tree.Tree) -> dict[str, str]:
    return {meter.name: meter.parent for meter in found.meters}


def known(*kwh: int) -> list[Energy]:
    return [Energy(Fraction(one), Fraction(1), Quality.GOOD) for one in kwh]


ENERGIES = {
    "incomer-1": known(100, 200),
    "incomer-2": known(50, 60),
    "hall-a": known(40, 90),
    "hall-b": known(50, 80),
    "press": known(30, 70),
}


def test_a_tree_without_virtual_meters_leaves_out_tier_0_only() -> None:
    found = tree.grow(REAL)
    assert found.meters == REAL[:-1]
    assert (found.formulas, found.overlaps) == ({}, ())


def test_a_sum_of_supplies_stands_above_them(tmp_path: Path) -> None:
    found = grown(tmp_path, SITE)
    assert places(found) == {
        "incomer-1": "site",
        "incomer-2": "site",
        "hall-a": "incomer-1",
        "hall-b": "incomer-1",
        "press": "hall-a",
        "site": "",
    }
    energies = found.energies(ENERGIES, 2)
    assert energies["site"] == known(150, 260)
    nodes = balance(found.meters, energies)
    assert nodes[0].meter == "site"
    assert (nodes[0].net_kwh, nodes[0].gap_kwh) == (410, 0)
    assert found.overlaps == ()


def test_a_sum_takes_the_place_of_its_parts_below_their_parent(tmp_path: Path) -> None:
    found = grown(tmp_path, WORKSHOPS)
    assert places(found)["hall-a"] == places(found)["hall-b"] == "workshops"
    assert places(found)["workshops"] == "incomer-1"
    nodes = {node.meter: node for node in balance(found.meters, found.energies(ENERGIES, 2))}
    assert nodes["incomer-1"].children == ("workshops",)
    assert nodes["incomer-1"].gap_kwh == 300 - 260
    assert found.overlaps == ()


def test_what_nobody_meters_is_a_difference_that_closes_the_gap(tmp_path: Path) -> None:
    found = grown(tmp_path, REST)
    assert places(found)["hall-a"] == "incomer-1"
    energies = found.energies(ENERGIES, 2)
    assert energies["rest"] == known(10, 30)
    nodes = {node.meter: node for node in balance(found.meters, energies)}
    assert nodes["incomer-1"].gap_kwh == 0
    assert found.overlaps == ()


def test_a_sum_of_meters_from_everywhere_leaves_them_where_they_are(tmp_path: Path) -> None:
    found = grown(tmp_path, WORKSHOPS.replace('"hall-b"', '"press"').replace("incomer-1", "hall-b"))
    assert places(found)["hall-a"] == "incomer-1"
    assert places(found)["press"] == "hall-a"


def test_a_difference_leaves_its_parts_where_they_are(tmp_path: Path) -> None:
    net = WORKSHOPS.replace('"workshops"', '"net"') + 'minus = ["press"]\n'
    found = grown(tmp_path, net)
    assert places(found)["hall-a"] == places(found)["hall-b"] == "incomer-1"
    # it stands beside them, and so counts them again
    assert [(o.into, o.meter) for o in found.overlaps] == [
        ("incomer-1", "hall-a"),
        ("incomer-1", "hall-b"),
    ]


def test_virtual_meters_are_parts_of_others(tmp_path: Path) -> None:
    total = SITE.replace('"incomer-1"', '"rest", "workshops"').replace('"site"', '"all"')
    found = grown(tmp_path, total, REST, WORKSHOPS)
    assert found.formulas["all"] == {"incomer-1": 1, "incomer-2": 1}
    assert found.energies(ENERGIES, 2)["all"] == known(150, 260)


def test_one_unknown_part_leaves_a_virtual_meter_unknown_and_passes_its_quality_on(
    tmp_path: Path,
) -> None:
    late = Energy(None, Fraction(2, 3), Quality.BAD_FRAME)
    measured = {**ENERGIES, "hall-b": [late, *known(80)]}
    found = grown(tmp_path, WORKSHOPS)
    assert found.energies(measured, 2)["workshops"] == [late, *known(170)]
    del measured["hall-a"]
    assert found.energies(measured, 2)["workshops"] == [NOTHING, NOTHING]


def test_what_counts_twice_is_named(tmp_path: Path) -> None:
    beside = WORKSHOPS.replace('"hall-b"', '"press"')
    found = grown(tmp_path, beside)
    assert [(o.into, o.meter, o.times) for o in found.overlaps] == [
        ("workshops", "press", 2),
        ("incomer-1", "hall-a", 2),
    ]
    assert "press counts 2 times in workshops" in str(found.overlaps[0])
    found = grown(tmp_path, REST.replace('["hall-a", ', '["press", '))
    assert [(o.into, o.meter, o.times) for o in found.overlaps] == [("incomer-1", "hall-a", 2)]


def test_a_part_that_is_taken_away_without_having_been_there_is_named(tmp_path: Path) -> None:
    found = grown(tmp_path, REST.replace('minus = ["hall-a"', 'minus = ["incomer-2"'))
    assert ("rest", "incomer-2", -1) in [(o.into, o.meter, o.times) for o in found.overlaps]


def test_a_gap_is_explained_by_meters_that_somebody_can_go_to(tmp_path: Path) -> None:
    found = grown(tmp_path, WORKSHOPS, REST)
    assert found.measured("incomer-1", ("workshops", "rest")) == ["hall-a", "hall-b"]
    assert found.measured("hall-a", ("press",)) == ["press"]
    assert found.measured("incomer-2", ("press", "rest")) == ["press", "rest"]


CIRCLE = WORKSHOPS.replace('"hall-a"', '"rest"') + REST.replace('["incomer-1"]', '["workshops"]')
MISTAKES = [
    (SITE + SITE, "meter[site].name: 'site' is there already; a name of its own"),
    (SITE.replace('"site"', '"press"'), "meter[press].name: 'press' is there already"),
    (SITE.replace('"incomer-1"', '"incomr-1"'), "no meter 'incomr-1'; did you mean 'incomer-1'"),
    (SITE.replace('"incomer-1"', '"gateway"'), "meter[site].plus: no meter 'gateway'"),
    (SITE.replace('"incomer-1"', '"incomer-2"'), "meter[site].plus: 'incomer-2' again; each"),
    (SITE.replace('"incomer-1", "incomer-2"', ""), "meter[site].plus: no meter; one meter or more"),
    (REST.replace('["incomer-1"]', '["hall-a"]'), "meter[rest].minus: 'hall-a' again"),
    (WORKSHOPS.replace('"incomer-1"', '"incomer"'), "meter[workshops].parent: no meter 'incomer'"),
    (CIRCLE, "workshops = rest = workshops; no meter that is a part of itself"),
    (
        WORKSHOPS.replace("plus", "part"),
        "meter[workshops].part: unknown key; did you mean 'parent'",
    ),
    (SITE.replace("tier = 1", "tier = 0"), "meter[site].tier: 0; a whole number from 1 to 3"),
    (
        SITE + SITE.replace('"site"', '"again"'),
        "meter[again].plus: 'incomer-1' stands below 'site' already",
    ),
    (
        REST.replace('"incomer-1"\n', '"other"\n')
        + REST.replace('"rest"', '"other"').replace('parent = "incomer-1"', 'parent = "rest"'),
        "meter: meters other, rest stand below each other in a circle",
    ),
    (
        SITE
        + REST.replace('["incomer-1"]', '["site"]').replace(
            '["hall-a", "hall-b"]', '["incomer-1", "incomer-2"]'
        ),
        "meter[rest].minus: nothing is left over",
    ),
    ("[[meter]", "file: "),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_names_file_key_what_was_found_and_what_is_allowed(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        grown(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path}/virtual.toml: ")
    assert message in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: file: .*No such file"):
        tree.read(tmp_path / "none.toml")


def test_a_catalogue_with_wrong_parents_is_no_mistake_of_the_file() -> None:
    circle = (MeterInfo("a", "x", 1, "b", ""), MeterInfo("b", "x", 2, "a", ""))
    with pytest.raises(FormatError, match="the catalogue: meters a, b stand below each other"):
        tree.grow(circle)
    with pytest.raises(FormatError, match="no meter 'gateway' above it"):
        tree.grow((*REAL, MeterInfo("fan", "x", 2, "gateway", "")))
