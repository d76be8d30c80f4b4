"""The commands `alarms` and `reconcile`: their tables, their JSON, their exit status."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeagg import statement
from edgeagg.batch import Batch, BatchKind
from edgeagg.cli import main
from edgeagg.localdays import DAY_MS, LocalDays
from edgeagg.localtime import offsets
from edgeagg.model import Catalogue, Group, Kind, LocalTime, MeterInfo, PointInfo
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.ledger import Alarm, AlarmKind
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg.topics import batch as batch_topic

GATEWAY = "qp-0001"
MIDNIGHT_MS = 1_600_704_000_000  # 22 September 2020, 00:00 in Shanghai
CATALOGUE = Catalogue(
    "site",
    (MeterInfo("incomer", "acrel-adl400", 1, "", ""),),
    (Group("incomer", 60_000, (PointInfo("active_energy_import", "kWh", -2, Kind.TOTALISER),)),),
    (900_000,),
)


def made(
    sequence: int, kind: BatchKind, payload: bytes, catalogue: Catalogue = CATALOGUE
) -> Message:
    batch = Batch(GATEWAY, 7, sequence, kind, catalogue.hash, MIDNIGHT_MS, 0, payload)
    return Message(batch_topic(GATEWAY), batch.to_bytes())


def written(path: Path, *days: int, alarms: tuple[Alarm, ...] = ()) -> str:
    """Make a database with statements of these days, each of a gap of 3 slots that is not here."""

    async def write() -> None:
        store = await SqliteStore.open(str(path))
        book = statement.DayBook([(1, (0,))])
        for day in days:
            first_ms = MIDNIGHT_MS + day * DAY_MS
            gap: list[list[int | None]] = [[first_ms], [first_ms + 120_000], [3], [7]]
            book.fold([(3, 0, 0, 1, gap)])
        stated = statement.encode(book.take(None))
        messages = [made(1, BatchKind.CATALOGUE, CATALOGUE.to_bytes())]
        messages += [made(2, BatchKind.STATEMENT, stated)] if days else []
        await Inbox(store, Admission.ANYBODY).take(messages, MIDNIGHT_MS)
        for alarm in alarms:
            await store.ledger.raise_alarm(alarm)
        await store.close()

    asyncio.run(write())
    return f"sqlite:///{path}"


def test_a_day_that_is_not_here_as_it_was_stated_stands_with_what_is_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = written(tmp_path / "db", 0, 1)
    assert main(["reconcile", "--store", store, "--day", "2020-09-23"]) == 1
    head, stated, found = capsys.readouterr().out.splitlines()
    assert head.split() == ["gateway", "day", "meter", "due", "values", "reasons", "missed"]
    assert stated.split() == [GATEWAY, "2020-09-23", "incomer", "3", "0", "0", "3", "DIFFERS"]
    assert found.split() == ["here", "0", "0", "0", "0"]
    assert main(["reconcile", "--store", store, "--json"]) == 1
    days = json.loads(capsys.readouterr().out)
    assert [(day["day"], day["matches"]) for day in days] == [
        ("2020-09-22", False),
        ("2020-09-23", False),
    ]


def test_a_day_is_that_of_the_site_and_as_long_as_its_clock_makes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = tuple(offsets("Europe/Berlin", from_year=2020, to_year=2021))
    berlin = replace(CATALOGUE, local_time=LocalTime("Europe/Berlin", changes))
    book = statement.DayBook([(1, (0,))], LocalDays(changes))
    # from midnight to midnight, the clock set back in between: 25 hours of minutes
    gap = [1_603_576_800_000, 1_603_576_800_000 + (25 * 60 - 1) * 60_000, 25 * 60, 7]
    book.fold([(3, 0, 0, 1, [[number] for number in gap])])
    stated = statement.encode(book.take(None))

    async def write() -> None:
        store = await SqliteStore.open(str(tmp_path / "db"))
        messages = [made(1, BatchKind.CATALOGUE, berlin.to_bytes(), berlin)]
        messages.append(made(2, BatchKind.STATEMENT, stated, berlin))
        await Inbox(store, Admission.ANYBODY).take(messages, MIDNIGHT_MS)
        await store.close()

    asyncio.run(write())
    store = f"sqlite:///{tmp_path / 'db'}"
    assert main(["reconcile", "--store", store, "--day", "2020-10-25"]) == 1
    _, line, _ = capsys.readouterr().out.splitlines()
    assert line.split()[:4] == [GATEWAY, "2020-10-25", "incomer", "1500"]
    for neighbour in ("2020-10-24", "2020-10-26"):
        assert main(["reconcile", "--store", store, "--day", neighbour]) == 0


def test_nothing_stated_is_nothing_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = written(tmp_path / "db")
    assert main(["reconcile", "--store", store]) == 0
    assert main(["alarms", "--store", store]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_alarms_are_listed_by_gateway_and_time_and_can_be_limited(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fork = Alarm(GATEWAY, AlarmKind.FORK, 7, 3, MIDNIGHT_MS, MIDNIGHT_MS, 1, "two writers")
    twice = Alarm(
        *(GATEWAY, AlarmKind.ROLLBACK, 9, 0, MIDNIGHT_MS, MIDNIGHT_MS + 60_000, 2),
        "an older copy",
    )
    store = written(tmp_path / "db", alarms=(fork, twice))
    assert main(["alarms", "--store", store]) == 1
    assert capsys.readouterr().out == (
        "qp-0001: fork, epoch 7 sequence 3, 2020-09-22T00:00:00+08:00: two writers\n"
        "qp-0001: rollback, epoch 9, 2020-09-22T00:00:00+08:00,"
        " 2 times until 2020-09-22T00:01:00+08:00: an older copy\n"
    )
    later = ["alarms", "--store", store, "--json", "--gateway", GATEWAY, "--from"]
    assert main([*later, "2020-09-22T00:00:30"]) == 1
    (only,) = json.loads(capsys.readouterr().out)
    assert (only["kind"], only["times"], only["epoch"]) == ("rollback", 2, 9)
    assert main([*later, "2020-09-23"]) == 0
