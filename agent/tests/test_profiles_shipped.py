"""All profiles that are shipped: they load, they plan, they say what they are."""

import functools
import importlib.util
import re
import tomllib
from fractions import Fraction
from pathlib import Path

import pytest

from edgeagg.model import Kind
from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.plan import plan_blocks
from edgeagg_agent.profile import KINDS, REGISTER_COUNTS, SHIPPED, Poll, load, loader, names

CHECKOUT = Path(__file__).parents[2]
shipped = functools.cache(lambda name: load(name, ()))
NAMES = names(())
MODBUS = [name for name in NAMES if shipped(name).points]
VERIFIED = """
abb-a-b-series algodue-float-family bernecker-mpm3pm bgetech-ds100 carlo-gavazzi-em24-ethernet
carlo-gavazzi-em300-et300 carlo-gavazzi-em500 chint-ddsu666 chint-dtsu666 ddm18sd
dlt645-1997-generic dlt645-2007-generic eastron-sdm120 eastron-sdm220 eastron-sdm230 eastron-sdm630
eastron-sdm72d-m-v2 eltako-dsz15-16 huawei-smartlogger huawei-sun2000 inepro-pro380
orno-we516-517 siemens-7kt-pac1600 siemens-pac2200 siemens-pac3200 siemens-pac3220 siemens-pac4200
siemens-pac4220 wago-879-30xx
"""


def tool(name):
    spec = importlib.util.spec_from_file_location(name, CHECKOUT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_verified_profiles_are_those_whose_main_points_two_sources_agree_on():
    assert len(NAMES) >= 114
    assert [name for name in NAMES if shipped(name).status == "verified"] == VERIFIED.split()
    assert all(len(shipped(name).sources) >= 2 for name in VERIFIED.split())


def test_every_kind_of_meter_of_a_site_has_a_profile():
    kinds = {shipped(name).kind for name in NAMES}
    assert kinds >= set(KINDS) - {"gas"}  # gas meters are in the profile of CJ/T 188 volumes
    assert {shipped(name).protocol for name in NAMES} == {
        "modbus",
        "dlt645-2007",
        "dlt645-1997",
        "cjt188",
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_profile_names_its_sources_and_no_address_of_ours(name):
    text = (SHIPPED / f"{name}.toml").read_text("utf-8")
    profile = shipped(name)
    assert profile.sources
    assert profile.models
    assert re.match(r"# \S", text)
    assert not re.search(r"https?:|www\.|pypi|crates\.io|/work|\.\./shared", text, re.IGNORECASE)
    assert not re.search(r"\b(slave|tag|device_id|channel)s?\b", text, re.IGNORECASE)


@pytest.mark.parametrize("name", NAMES)
def test_what_counts_is_a_totaliser_and_what_is_measured_is_not(name):
    for point in shipped(name).every_point:
        is_counter = re.search(r"energy|volume", point.name) is not None
        may_fall = re.search(r"_net|_today|session|settlement", point.name) is not None
        assert (point.kind is Kind.TOTALISER) == (is_counter and not may_fall), point.name
        assert (point.poll is Poll.ENERGY) >= (point.kind is Kind.TOTALISER), point.name
        assert ("demand" in point.name) == (point.poll is Poll.DEMAND), point.name


@pytest.mark.parametrize("name", MODBUS)
def test_a_whole_counter_is_kept_to_its_register(name):
    for point in shipped(name).points:
        is_whole = point.type[0] in "uibs" and point.plus is None
        if point.kind is Kind.TOTALISER and is_whole:
            steps = point.scale / Fraction(10) ** point.exponent
            assert steps.denominator == 1, point.name


@pytest.mark.parametrize("turnaround_us", [5_000, 100_000])
@pytest.mark.parametrize("name", MODBUS)
def test_a_profile_plans_within_its_limits(name, turnaround_us):
    profile = shipped(name)
    limits = profile.limits
    wanted = [(p.function, p.register, p.count) for p in (*profile.points, *profile.ratios)]
    used = {(function, start + n) for function, start, count in wanted for n in range(count)}
    proven = [{(f, start + n) for n in range(count)} for f, start, count in limits.proven]
    illegal = {(f, start + n) for f, start, count in limits.illegal for n in range(count)}
    blocks = plan_blocks(wanted, limits, Timing.of(9600, "8N1"), turnaround_us)
    read = [{(b.function, b.start + n) for n in range(b.count)} for b in blocks]
    assert used <= set().union(*read)
    for registers in read:
        assert len(registers) <= limits.registers_max
        assert not registers & illegal
        may_cross = limits.holes == "readable" or any(registers <= span for span in proven)
        assert may_cross or registers <= used


def test_one_profile_is_loaded_from_one_file(monkeypatch):
    opened = []
    monkeypatch.setattr(
        loader.tomllib, "loads", lambda text, **more: opened.append(text) or LOADS(text, **more)
    )
    names(())
    assert opened == []
    load("eastron-sdm630", ())
    assert len(opened) == 1


LOADS = tomllib.loads


def test_the_document_of_the_meters_is_up_to_date(capsys):
    assert tool("make_meters_doc").main(["--check"]) == 0, capsys.readouterr().err


def test_the_document_names_every_profile_with_its_notes():
    text = (CHECKOUT / "docs/meters.md").read_text("utf-8")
    for name in NAMES:
        assert f"| `{name}` |" in text
        assert all(f"- {note}\n" in text for note in shipped(name).notes)


def test_the_guide_for_writing_profiles_names_every_key_and_every_type():
    words = set(re.findall(r"[a-z0-9_]+", (SHIPPED / "README.md").read_text("utf-8")))
    keys = (
        *(loader.POINT_KEYS, loader.RATIO_KEYS, loader.CHECK_KEYS, loader.IDENTITY_KEYS),
        *(loader.ITEM_KEYS, loader.ITEM_IDENTITY_KEYS, loader.LIMIT_KEYS, loader.TOP_KEYS),
    )
    assert set(" ".join(keys).split()) <= words
    assert set(REGISTER_COUNTS) <= words


@pytest.mark.parametrize("name", names(()))
def test_a_check_is_coded_like_the_point_in_its_register(name):
    profile = load(name, ())
    points = {(point.function, point.register): point for point in profile.points}
    for check in profile.identify:
        point = points.get((check.function, check.register))
        if point is not None and point.type == check.type:
            assert point.order == check.order
