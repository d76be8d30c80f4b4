"""The commands that show audits and demands: what they print, what they return, in whose time."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from edgeagg.batch import Batch, BatchKind
from edgeagg.cli import main
from edgeagg.content import Content
from edgeagg.judged import AuditKind, AuditRow, DemandRow, UncertaintyRow
from edgeagg.model import Catalogue, Demand, Group, Guard, LocalTime
from edgeagg.receiver.store import Delivery, open_store
from python.tests.platform_site import (
    DAY_MS,
    GATEWAY,
    IMPORT,
    MINUTE_MS,
    START_MS,
    catalogue,
    fill,
    loads,
)

JUDGED = dataclasses.replace(
    IMPORT, guard=Guard(10**9, 4 * 10**6, 1), demand=Demand(900_000, 60_000)
)
HALL = Group("hall", MINUTE_MS, (JUDGED,))
EPOCH = START_MS + 1  # a life of its own beside what `fill` delivers
SITE = dataclasses.replace(
    catalogue(), groups=(HALL,), local_time=LocalTime("Asia/Shanghai", ((0, 28_800_000),))
)


def audit(kind: AuditKind, minute: int, *numbers: int | None) -> AuditRow:
    """Return a bridge of one minute: closing, opening, energy, doubted, extreme."""
    at_ms = START_MS + minute * MINUTE_MS
    closing, opening, energy, doubted, extreme = numbers
    assert None not in {closing, opening, energy, doubted}
    return AuditRow(
        *(HALL, 0, kind, at_ms, closing or 0, at_ms + MINUTE_MS, opening or 0, energy or 0),
        *(doubted or 0, extreme),
    )


def demand(day: int, block: int | None, sliding: int | None) -> DemandRow:
    """Return the demands of one day, taken at ten past ten and at eleven past ten."""
    start_ms = START_MS + day * DAY_MS
    ten_ms = start_ms + 610 * MINUTE_MS
    return DemandRow(
        *(HALL, 0, start_ms, DAY_MS, block, None if block is None else ten_ms),
        *(sliding, None if sliding is None else ten_ms + MINUTE_MS, 96 if block else 0),
    )


CONTENT = Content(
    (),
    (),
    (),
    audits=(
        audit(AuditKind.ROLLOVER, 10, 999_999_990, 420, 430, 0, None),
        audit(AuditKind.DIP, 20, 5_000, 5_100, 100, 3, -7),
    ),
    uncertainties=(UncertaintyRow(HALL, 60_000, START_MS + 30 * MINUTE_MS, (12,)),),
    demands=(
        demand(0, 40_000, 41_000),
        demand(3, 45_000, 44_000),
        demand(5, None, None),
        demand(31, 9_000, 9_500),
    ),
)


def delivery(sequence: int, kind: BatchKind, content: Content | None, site: Catalogue) -> Delivery:
    body = site.to_bytes() if kind is BatchKind.CATALOGUE else b""
    batch = Batch(GATEWAY, EPOCH, sequence, kind, site.hash, EPOCH, 0, body)
    data = batch.to_bytes()
    return Delivery(batch, data, hashlib.sha256(data).digest(), EPOCH, site, content)


async def judged(folder: Path, site: Catalogue = SITE) -> str:
    """Return a store with the windows of two hours, and what a gateway judged besides."""
    await fill(folder / "db", loads(120))
    url = f"sqlite:///{folder / 'db'}"
    store = await open_store(url)
    deliveries = [
        delivery(1, BatchKind.CATALOGUE, None, site),
        delivery(2, BatchKind.DATA, CONTENT, site),
    ]
    await store.commit(deliveries)
    await store.close()
    return url


@pytest.fixture
async def plant(tmp_path: Path) -> str:
    return await judged(tmp_path)


def test_audits_say_what_was_bridged_and_why(
    plant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audits", "--store", plant]) == 0
    head, rollover, dip = capsys.readouterr().out.splitlines()
    assert head == "qp-0001: 2 times a register was bridged"
    assert rollover == (
        "  2026-07-01T00:11:00+08:00 hall active_energy_import rolled over:"
        " 999999.99 kWh at 2026-07-01T00:10:00+08:00, then 0.42 kWh;"
        " 0.43 kWh counted in between"
    )
    assert dip.endswith(
        "showed less for a while: 5 kWh at 2026-07-01T00:20:00+08:00, then 5.1 kWh;"
        " 0.1 kWh counted in between; 3 readings set aside, as far as -0.007 kWh"
    )


def test_audits_as_json_have_exact_decimals(plant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audits", "--store", plant, "--json", "--from", "2026-07-01T00:15"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found == {
        "gateway": GATEWAY,
        "meter": "hall",
        "point": "active_energy_import",
        "unit": "kWh",
        "kind": "dip",
        "closing_ms": START_MS + 20 * MINUTE_MS,
        "closing": "5",
        "opening_ms": START_MS + 21 * MINUTE_MS,
        "opening": "5.1",
        "energy": "0.1",
        "doubted": 3,
        "extreme": "-0.007",
    }


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["--meter", "hall"], 2),
        (["--meter", "pv"], 0),
        (["--to", "2026-07-01T00:15"], 1),
        (["--from", "2026-07-01T00:15", "--to", "2026-07-01T00:16"], 0),
        (["--from", "2026-06-30T16:15Z", "--gateway", GATEWAY], 1),
        (["--from", "2026-07-01T00:15", "--zone", "UTC"], 0),
    ],
)
def test_audits_are_asked_for_by_meter_and_time(
    plant: str, capsys: pytest.CaptureFixture[str], arguments: list[str], count: int
) -> None:
    assert main(["audits", "--store", plant, *arguments, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == count


def test_a_demand_is_the_greatest_of_its_local_month(
    plant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demand", "--store", plant, "--meter", "hall"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "qp-0001 hall active_energy_import 2026-07, 2 days known",
        "  block    45.000 kW in the period that ended 2026-07-04T10:10+08:00",
        "  sliding  44.000 kW in the period that ended 2026-07-04T10:11+08:00",
        "qp-0001 hall active_energy_import 2026-08, 1 days known",
        "  block    9.000 kW in the period that ended 2026-08-01T10:10+08:00",
        "  sliding  9.500 kW in the period that ended 2026-08-01T10:11+08:00",
    ]


def test_a_demand_as_json_names_value_and_time(
    plant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demand", "--store", plant, "--month", "2026-08", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    ten_ms = START_MS + 31 * DAY_MS + 610 * MINUTE_MS
    assert found == {
        "gateway": GATEWAY,
        "meter": "hall",
        "point": "active_energy_import",
        "month": "2026-08",
        "unit": "kW",
        "days": 1,
        "block": {"value": "9.000000", "end_ms": ten_ms},
        "sliding": {"value": "9.500000", "end_ms": ten_ms + MINUTE_MS},
    }


def test_a_month_without_demand_is_exit_status_1(
    plant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demand", "--store", plant, "--month", "2026-09"]) == 1
    assert "no demand has come" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demand", "--month", "2026-13"], "--month: month: '2026-13'; a month such as 2026-11"),
        (["demand", "--month", "July"], "--month: month: 'July'; a month such as 2026-11"),
        (["demand", "--meter", "hal"], "no meter 'hal'; did you mean 'hall'?"),
        (["audits", "--from", "yesterday"], "--from: time: 'yesterday'; a day or time such as"),
        (
            ["audits", "--from", "2026-07-02", "--to", "2026-07-01"],
            "--to: time: 2026-07-01 is not after 2026-07-02; an end behind its beginning",
        ),
        (["audits", "--zone", "Shanghai"], "'Shanghai'; a time zone such as Asia/Shanghai"),
        (["audits", "--gateway", "qp-0002"], "'qp-0002'; one of qp-0001"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    plant: str, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main([*arguments, "--store", plant]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize("command", ["audits", "demand"])
def test_the_help_shows_examples(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert f"edgeagg {command} --store sqlite:///platform.db" in capsys.readouterr().out


def test_a_day_with_bridges_is_marked(plant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["energy", "--store", plant, "--meter", "hall"]) == 0
    text = capsys.readouterr().out
    assert "(2 bridged: see `edgeagg audits`)" in text
    assert main(["energy", "--store", plant, "--meter", "office"]) == 0
    assert "bridged" not in capsys.readouterr().out
    assert main(["energy", "--store", plant, "--meter", "hall", "--json"]) == 0
    assert [day["audits"] for day in json.loads(capsys.readouterr().out)["days"]] == [2]


def test_a_register_shows_the_uncertainty_that_the_gateway_stored_and_the_bridge_it_lies_in(
    plant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["register", "--store", plant, "--meter", "hall"]
    assert main([*wanted, "--at", "2026-07-01T00:30"]) == 0
    text = capsys.readouterr().out
    assert " ± 0.012 kWh in the 60 s from 2026-07-01T00:30+08:00, as the gateway has it" in text
    assert "bridged" not in text
    assert main([*wanted, "--at", "2026-07-01T00:10:30"]) == 0
    assert "  bridged: 2026-07-01T00:11:00+08:00 hall" in capsys.readouterr().out
    assert main([*wanted, "--at", "2026-07-01T00:30", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [window["uncertainty"] for window in found["windows"]] == ["0.012"]
    assert found["audits"] == []


async def test_times_are_in_the_sites_own_zone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = LocalTime("Europe/Berlin", ((0, 7_200_000),))
    url = await judged(tmp_path, dataclasses.replace(SITE, local_time=local))

    assert await asyncio.to_thread(main, ["audits", "--store", url]) == 0
    assert "2026-06-30T18:11:00+02:00 hall" in capsys.readouterr().out


async def test_a_site_with_days_only_is_told_to_name_shorter_windows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = await judged(tmp_path, dataclasses.replace(SITE, window_lengths_ms=(DAY_MS,)))
    assert await asyncio.to_thread(main, ["energy", "--store", url, "--meter", "hall"]) == 1
    assert "sends no windows of an hour or less" in capsys.readouterr().err
