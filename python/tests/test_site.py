"""What `balance`, `energy` and `tariffs` say of a small plant, and of what is wrong with it."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeagg.cli import main
from edgeagg.model import MeterInfo
from edgeagg.receiver.site import WINDOWS_MAX, Range, fitting_length
from python.tests.platform_site import GATEWAY, METERS, MINUTE_MS, START_MS, fill, loads

MINUTES = 30 * 60
JULY_RATES = (  # by hour, as the shipped table says
    ["valley"] * 6 + ["flat"] * 2 + ["peak"] * 4 + ["sharp"] * 2 + ["peak"] + ["flat"] * 3
    + ["peak"] * 3 + ["flat"] + ["valley"] * 2
)  # fmt: skip
VIRTUAL = f"""
[[meter]]
gateway = "{GATEWAY}"
name = "consumers"
tier = 2
parent = "incomer"
plus = ["hall", "office"]
"""


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Fill a store with 30 hours; the hall does not reply from 10:02 to 10:21."""
    database = tmp_path_factory.mktemp("plant") / "db"
    asyncio.run(fill(database, loads(MINUTES), unread={"hall": range(602, 622)}))
    return f"sqlite:///{database}"


def filled(database: Path, taken: Mapping[str, Sequence[int]], **more: Any) -> str:
    asyncio.run(fill(database, taken, **more))
    return f"sqlite:///{database}"


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    """Run a command with --json and return what it printed."""
    assert main([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def kwh(watt_hours: Sequence[int]) -> Any:
    return pytest.approx(sum(watt_hours) / 1_000, abs=1e-5)


def test_the_tree_is_balanced_over_the_windows_that_all_meters_have(
    plant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (found,) = shown(capsys, "balance", "--store", plant)
    incomer, hall, office, pv, gap = found["nodes"]
    taken = loads(MINUTES)
    whole = range(MINUTES)
    # three quarters touch the silence; at 10:00 and 10:30 the hall is known again
    compared = [minute for minute in whole if not 600 <= minute < 630]
    assert (found["window_s"], found["from_ms"]) == (900, START_MS)
    assert [node.get("meter") for node in found["nodes"]] == [*taken, None]
    assert incomer["net_kwh"] == kwh(taken["incomer"])
    assert (incomer["windows"], hall["windows_known"], hall["worst"]) == (120, 118, "no_reply")
    assert hall["net_kwh"] == kwh([taken["hall"][minute] for minute in compared])
    assert pv["net_kwh"] == kwh(taken["pv"])
    assert pv["net_kwh"] < 0
    lost = [
        taken["incomer"][minute] - sum(taken[name][minute] for name in ("hall", "office", "pv"))
        for minute in compared
    ]
    assert (gap["kind"], gap["below"], gap["windows_compared"]) == ("gap", "incomer", 118)
    assert gap["net_kwh"] == kwh(lost)
    assert (gap["completeness"], gap["worst"]) == (hall["completeness"], "no_reply")
    assert hall["completeness"] == pytest.approx(1 - 20 / MINUTES)
    assert office["completeness"] == 1
    assert found["tiers"] == [
        {"tier": 1, "own_kwh": gap["own_kwh"], "gap_kwh": gap["net_kwh"]},
    ]
    assert (found["suspects"], found["overlaps"]) == ([], [])


def test_people_see_the_same_with_the_gap_as_a_line_of_its_own(
    plant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["balance", "--store", plant, "--gateway", GATEWAY]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("qp-0001 (plant): 2026-07-01T00:00+08:00 to 2026-07-02T06:00+08:00")
    assert "120 windows of 900 s" in lines[0]
    assert lines[3].split()[:3] == ["hall", "2", f"{_known_hall():.3f}"]
    assert lines[3].endswith("no reply (118 of 120 windows have energy)")
    assert lines[6].split()[:3] == ["gap", "below", "incomer"]
    assert "(over the 118 windows that all of them have: " in lines[6]
    assert lines[7].startswith("  gap of tier 1: ")
    assert "itself" not in "".join(lines)


def _known_hall() -> float:
    return sum(loads(MINUTES)["hall"][:600] + loads(MINUTES)["hall"][630:]) / 1_000


def test_a_range_of_an_hour_is_made_of_shorter_windows(
    plant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hour = ("--from", "2026-07-01T08:00", "--to", "2026-07-01T01:00Z")
    (found,) = shown(capsys, "balance", "--store", plant, *hour)
    assert found["window_s"] == 60
    assert found["nodes"][0]["net_kwh"] == kwh(loads(MINUTES)["incomer"][480:540])
    assert found["nodes"][0]["windows"] == 60


@pytest.mark.parametrize(
    ("name", "factor", "fault"),
    [("hall", 0.1, "ratio"), ("pv", -1, "sign"), ("office", 2, "ratio")],
)
def test_a_culprit_is_named_and_makes_the_exit_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, factor: float, fault: str
) -> None:
    taken = loads(180)
    wrong = [round(factor * one) for one in taken[name]]
    store = filled(tmp_path / "db", {**taken, name: wrong})
    (found,) = shown(capsys, "balance", "--store", store, status=1)
    (suspect,) = found["suspects"]
    assert (suspect["below"], suspect["meter"], suspect["fault"]) == ("incomer", name, fault)
    assert suspect["factor"] == pytest.approx(1 / factor, rel=0.1)
    # what is computed from the incomer closes the gap, and must not hide why there was one
    rest = VIRTUAL.replace("consumers", "rest").replace('"hall", "office"', '"incomer"')
    rest += 'minus = ["hall", "office", "pv"]\n'
    (tmp_path / "virtual.toml").write_text(rest)
    assert main(["balance", "--store", store, "--virtual", f"{tmp_path}/virtual.toml"]) == 1
    assert f"  look, below incomer, at {name}: " in capsys.readouterr().out


def test_a_meter_below_another_that_is_counted_beside_it_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = loads(180)
    press = [3 * one // 10 + minute % 7 * 40 for minute, one in enumerate(taken["hall"])]
    meters = (*METERS, MeterInfo("press", "x", 3, "incomer", ""))
    store = filled(tmp_path / "db", {**taken, "press": press}, meters=meters)
    (found,) = shown(capsys, "balance", "--store", store, status=1)
    assert [(s["meter"], s["fault"]) for s in found["suspects"]] == [("press", "counted_twice")]


def test_virtual_meters_stand_in_the_tree_and_what_they_count_twice_is_named(
    plant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "virtual.toml"
    file.write_text(VIRTUAL)
    asked = ("balance", "--store", plant, "--virtual", str(file))
    (found,) = shown(capsys, *asked)
    names = [(node["kind"], node.get("meter"), node["depth"]) for node in found["nodes"]]
    assert names == [
        ("meter", "incomer", 0),
        ("meter", "pv", 1),
        ("virtual", "consumers", 1),
        ("meter", "hall", 2),
        ("meter", "office", 2),
        ("gap", None, 2),
        ("gap", None, 1),
    ]
    assert found["nodes"][5]["net_kwh"] == 0
    assert found["nodes"][2]["windows_known"] == 118
    file.write_text(VIRTUAL + VIRTUAL.replace("consumers", "again").replace(', "office"', ', "pv"'))
    assert main(list(asked)) == 2
    assert "'hall' stands below 'consumers' already" in capsys.readouterr().err
    file.write_text(VIRTUAL + 'minus = ["pv"]\n')
    (found,) = shown(capsys, *asked, status=1)
    assert {"into": "incomer", "meter": "hall", "times": 2} in found["overlaps"]


def test_energy_by_day_and_rate_is_what_the_meter_took(
    plant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = shown(
        capsys, "energy", "--store", plant, "--meter", "incomer", "--tariff", "shanghai-two-part"
    )
    taken = loads(MINUTES)["incomer"]
    first, second = found["days"]
    for day, minutes in ((first, range(1440)), (second, range(1440, MINUTES))):
        for rate in ("sharp", "peak", "flat", "valley"):
            due = [taken[m] for m in minutes if JULY_RATES[m % 1440 // 60] == rate]
            assert day["by_rate"][rate] == kwh(due), rate
        assert day["net_kwh"] == pytest.approx(sum(day["by_rate"].values()))
    assert (first["day"], first["windows"], first["windows_known"]) == ("2026-07-01", 96, 96)
    # the second day is not over: what is not there yet is not complete
    assert (second["windows"], second["windows_known"], second["worst"]) == (96, 24, None)
    assert (found["tariff_status"], found["window_s"]) == ("draft", 900)


def test_a_draft_tariff_is_called_one(plant: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--meter", "incomer", "--tariff", "shanghai-single"]
    assert main(["energy", "--store", plant, *asked]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "a draft: compare it with the utility's notice" in lines[1]
    assert lines[2].split() == ["day", "peak", "valley", "all", "complete", "worst"]
    assert lines[-1].split()[0] == "sum"
    total = sum(loads(MINUTES)["incomer"]) / 1_000
    assert float(lines[-1].split()[3]) == pytest.approx(total, abs=1e-3)


def test_days_are_those_of_the_zone_that_is_asked_for(
    plant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("energy", "--store", plant, "--meter", "consumers", "--zone", "UTC")
    (tmp_path / "virtual.toml").write_text(VIRTUAL)
    found = shown(capsys, *asked, "--virtual", f"{tmp_path}/virtual.toml", "--from", "2026-07-01")
    taken = loads(MINUTES)
    (day,) = found["days"]
    assert day["day"] == "2026-07-01"
    # from 08:00 in Shanghai on, the quarters of the silence left out
    minutes = [m for m in range(480, MINUTES) if not 600 <= m < 630]
    assert day["net_kwh"] == kwh([taken["hall"][m] + taken["office"][m] for m in minutes])
    assert (day["by_rate"], found["tariff"]) == ({}, None)


def test_a_direction_of_its_own_group_that_is_missing_leaves_the_window_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = filled(tmp_path / "db", loads(60))
    import sqlite3

    with sqlite3.connect(tmp_path / "db") as database:
        database.execute(
            "DELETE FROM windows WHERE length_ms = 900000 AND start_ms = ? AND group_id ="
            " (SELECT id FROM groups WHERE points LIKE '%active_energy_export%')",
            (START_MS + 900_000,),
        )
    database.close()
    asked = ("--from", "2026-07-01T00:00", "--to", "2026-07-01T01:00")
    found = shown(capsys, "energy", "--store", store, "--meter", "pv", *asked)
    (day,) = found["days"]
    assert (day["windows"], day["windows_known"], day["worst"]) == (4, 3, None)
    pv = loads(60)["pv"]
    assert day["net_kwh"] == kwh(pv[:15] + pv[30:])


def test_meters_of_two_gateways_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path / "db", loads(60))
    store = filled(tmp_path / "db", loads(60, seed=2), gateway="qp-0002")
    assert main(["energy", "--store", store, "--meter", "hall"]) == 2
    assert "'hall' is a meter of qp-0001, qp-0002; one of them" in capsys.readouterr().err
    found = shown(capsys, "energy", "--store", store, "--meter", "hall", "--gateway", "qp-0002")
    assert found["days"][0]["net_kwh"] == kwh(loads(60, seed=2)["hall"])
    both = shown(capsys, "balance", "--store", store)
    assert [site["gateway"] for site in both] == ["qp-0001", "qp-0002"]


def test_a_gateway_without_windows_hides_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path / "db", loads(1), gateway="qp-0000", start_ms=START_MS + 1)
    import sqlite3

    with sqlite3.connect(tmp_path / "db") as database:
        database.execute("DELETE FROM windows")
    database.close()
    store = filled(tmp_path / "db", loads(60))
    assert main(["balance", "--store", store]) == 1
    told = capsys.readouterr()
    assert "no windows with energies have come from qp-0000 yet" in told.err
    assert "incomer" in told.out


def test_tariffs_are_listed_with_their_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tariffs"]) == 0
    told = capsys.readouterr().out
    assert "shanghai-two-part: " in told
    assert "  source: " in told
    found = shown(capsys, "tariffs")
    assert {one["name"]: one["status"] for one in found} == {
        "shanghai-single": "draft",
        "shanghai-two-part": "draft",
    }
    (tmp_path / "ours.toml").write_text("title = 1")
    assert main(["tariffs", "--tariffs", str(tmp_path)]) == 2
    assert f"{tmp_path}/ours.toml: " in capsys.readouterr().err


def test_a_range_between_the_quarters_is_balanced_over_shorter_windows(
    plant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hours = ["--from", "2026-07-01T00:07", "--to", "2026-07-01T03:07"]
    main(["balance", "--store", plant, "--gateway", GATEWAY, *hours])
    assert "180 windows of 60 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("from_min", "to_min", "count_min", "length_min"),
    [
        (0, 24 * 60, 8, 15),
        (0, 60, 8, 5),  # four quarters find no culprit
        (0, 60, 1, 15),
        (20, 24 * 60, 8, 5),
        (7, 24 * 60, 8, 1),
        (0, WINDOWS_MAX * 15, 8, 15),
        (0, WINDOWS_MAX * 60, 8, 60),  # four years
        (0, WINDOWS_MAX * 60 + 60, 8, 60),  # refused, with the longest
        (7, 10, 8, 1),
    ],
)
def test_the_windows_are_those_that_fit_the_range_best(
    from_min: int, to_min: int, count_min: int, length_min: int
) -> None:
    lengths = [minutes * MINUTE_MS for minutes in (1, 5, 15, 60)]
    asked = Range(from_min * MINUTE_MS, to_min * MINUTE_MS)
    range_ms = (to_min - from_min) * MINUTE_MS
    found = fitting_length(lengths, asked, range_ms, count_min=count_min)
    assert found == length_min * MINUTE_MS


WRONG = [
    (["balance", "--from", "yesterday"], "--from: time: 'yesterday'; a day or time such as"),
    (["balance", "--from", "0001-01-01"], "--from: time: '0001-01-01'; a day or time"),
    (["balance", "--to", "9999-12-31"], "--to: time: '9999-12-31'; a day or time"),
    (["balance", "--from", "2026-07-02", "--to", "2026-07-01"], "2026-07-01 is not after 2026-07-"),
    (["balance", "--from", "2027-01-01"], "nothing is stored from 2026-12-31T16:00:00Z to"),
    (["balance", "--from", "2026-07-01T00:07:30"], "--from: time: lies inside a window of 60 s"),
    (["balance", "--from", "2020-01-01"], "more than 40000 windows of 900 s; a shorter one"),
    (["balance", "--zone", "Asia/Shangai"], "--zone: name: 'Asia/Shangai'; a time zone such as"),
    (["balance", "--gateway", "qp-1"], "--gateway: name: 'qp-1'; one of qp-0001"),
    (["balance", "--virtual", "no.toml"], "no.toml: file: "),
    (["energy", "--meter", "hal"], "--meter: name: no meter 'hal'; did you mean 'hall'?"),
    (["energy", "--meter", "itself"], "--meter: name: 'itself'; one of incomer, hall"),
    (["energy", "--meter", "hall", "--tariff", "shanghai"], "tariff: no tariff 'shanghai'; "),
    (["energy", "--meter", "hall", "--tariffs", "no"], "--tariffs: folder: 'no' is not there"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_wrong_argument_gets_one_line_and_exit_status_2(
    plant: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([*arguments, "--store", plant]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert (told.err.count("\n"), told.out) == (1, "")


def test_a_virtual_meter_of_an_unknown_gateway_is_named(
    plant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "virtual.toml"
    file.write_text(VIRTUAL.replace(GATEWAY, "qp-001"))
    assert main(["balance", "--store", plant, "--virtual", str(file)]) == 2
    message = "meter[consumers].gateway: 'qp-001'; did you mean 'qp-0001'?"
    assert f"{file}: {message}" in capsys.readouterr().err


def test_a_tariff_that_changes_inside_a_window_is_refused_not_divided(
    plant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[1] / "edgeagg/tariffs/shanghai-single.toml").read_text()
    (tmp_path / "odd.toml").write_text(text.replace('"06:00"', '"06:05"'))
    odd = ["--tariff", "odd", "--tariffs", str(tmp_path)]
    assert main(["energy", "--store", plant, "--meter", "hall", *odd]) == 2
    assert "changes to peak at 2026-07-01 06:05, inside a window" in capsys.readouterr().err
    (tmp_path / "odd.toml").write_text(text.replace("2023-01-01", "2027-01-01"))
    assert main(["energy", "--store", plant, "--meter", "hall", *odd]) == 2
    assert "holds from 2027-01-01 on" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["balance", "energy"])
def test_help_shows_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert f"edgeagg {command} --store sqlite:///platform.db" in capsys.readouterr().out


def test_the_day_of_the_plant_begins_at_midnight_in_shanghai() -> None:
    zone = dt.timezone(dt.timedelta(hours=8))
    at = dt.datetime.fromtimestamp(START_MS / 1000, zone)
    assert at == dt.datetime(2026, 7, 1, tzinfo=zone)
