"""What an audit says of a database, whole or not; and what the command line makes of it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from edgeagg import topics
from edgeagg._core import Aggregator
from edgeagg.batch import Batch, BatchKind
from edgeagg.cli import main
from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo, Quality
from edgeagg.receiver.audit import Audit, audit
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.store import Bound, Refused, open_store

GATEWAY = "qp-0001"
PERIOD_MS = 1_000
METERS = ("incomer", "hall")
CATALOGUE = Catalogue(
    "plant",
    (
        MeterInfo("incomer", "eastron-sdm630", 1, "", ""),
        MeterInfo("hall", "eastron-sdm630", 2, "incomer", ""),
    ),
    tuple(
        Group(name, PERIOD_MS, (PointInfo("active_energy_import", "kWh", -3, Kind.TOTALISER),))
        for name in METERS
    ),
    (10_000,),
)


def batches(slots: Sequence[int], gap_at: int | None = None) -> list[Batch]:
    """Read both meters in these seconds; each slot counts 110 Wh and 100 Wh."""
    aggregator = Aggregator([(PERIOD_MS, [True])] * 2, [10_000])
    for second in slots:
        for group, watt_hours in enumerate((110, 100)):
            due_ms = second * PERIOD_MS
            if second == gap_at:
                aggregator.push_gap(group, due_ms, due_ms, 1, Quality.STOPPED)
            else:
                aggregator.push_row(group, due_ms, due_ms, [second * watt_hours], b"\0")
    made = [_batch(1, BatchKind.CATALOGUE, 0, CATALOGUE.to_bytes())]
    while (part := aggregator.cut(slots[-1] * PERIOD_MS + 60_000)) is not None:
        made.append(_batch(len(made) + 1, BatchKind.DATA, *part.encode()))
    return made


def _batch(sequence: int, kind: BatchKind, codec: int, payload: bytes) -> Batch:
    return Batch(GATEWAY, 7, sequence, kind, CATALOGUE.hash, 1_000, codec, payload)


def audited(database: Path, delivered: Sequence[Batch]) -> Audit:
    async def run() -> Audit:
        store = await open_store(f"sqlite:///{database}")
        try:
            messages = [Message(topics.batch(GATEWAY), batch.to_bytes()) for batch in delivered]
            await Inbox(store, Admission.ANYBODY).take(messages, 5_000)
            return await audit(store, GATEWAY)
        finally:
            await store.close()

    return asyncio.run(run())


def test_a_whole_run_is_whole_and_balances(tmp_path: Path) -> None:
    found = audited(tmp_path / "db", batches(range(100, 141)))
    assert found.is_whole
    assert (found.point_slots_due, found.values, found.missed) == (82, 82, 0)
    incomer, hall = found.nodes
    # from 101 s to 140 s: 39 slots of 110 and 100 Wh
    assert (incomer.net_kwh, hall.net_kwh) == (pytest.approx(4.29), pytest.approx(3.9))
    assert incomer.gap_kwh == pytest.approx(0.39)


def test_energy_of_another_group_or_tier_0_does_not_narrow_or_spoil_the_balance(
    tmp_path: Path,
) -> None:
    # read every 10 min: no energy in it, so nobody has to wait for its second slot
    gauges = Group("hall", 600_000, (PointInfo("voltage_l1", "V", -1, Kind.GAUGE),))
    itself = Group("itself", PERIOD_MS, CATALOGUE.groups[0].points)
    export = Group("hall", PERIOD_MS, (PointInfo("active_energy_export", "Wh", 0, Kind.TOTALISER),))
    known = dataclasses.replace(
        CATALOGUE,
        meters=(*CATALOGUE.meters, MeterInfo("itself", "edgeagg-gateway", 0, "", "")),
        groups=(*CATALOGUE.groups, gauges, itself, export),
    )
    totalisers = [(g.period_ms, [g.points[0].kind is Kind.TOTALISER]) for g in known.groups]
    core = Aggregator(totalisers, [10_000])
    core.push_row(2, 100_000, 100_000, [2300], b"\0")
    for second in range(100, 141):
        due_ms = second * PERIOD_MS
        for group, watt_hours in ((0, 110), (1, 120), (4, 20)):
            core.push_row(group, due_ms, due_ms + group, [second * watt_hours], b"\0")
        if second < 120:
            core.push_row(3, due_ms, due_ms, [second], b"\0")
    part = core.cut(200_000)
    assert part is not None
    kinds = ((BatchKind.CATALOGUE, 0, known.to_bytes()), (BatchKind.DATA, *part.encode()))
    found = audited(
        tmp_path / "db",
        [
            Batch(GATEWAY, 7, sequence, kind, known.hash, 1_000, codec, payload)
            for sequence, (kind, codec, payload) in enumerate(kinds, 1)
        ],
    )
    assert found.is_whole
    assert (found.from_ms, found.to_ms) == (101_000, 140_000)
    incomer, hall = found.nodes
    # 39 slots, and the hall gives 20 of its 120 Wh back
    assert incomer.net_kwh == Fraction(39 * 110, 1_000)
    assert hall.net_kwh == Fraction(39 * (120 - 20), 1_000)


def test_a_declared_gap_explains_its_slots(tmp_path: Path) -> None:
    found = audited(tmp_path / "db", batches(range(100, 120), gap_at=110))
    assert found.is_whole
    assert (found.values, found.missed, found.unexplained) == (38, 2, 0)


def test_a_slot_that_nobody_explains_is_found(tmp_path: Path) -> None:
    slots = [second for second in range(100, 120) if second != 110]
    found = audited(tmp_path / "db", batches(slots))
    assert not found.is_whole
    assert found.unexplained == 2


def test_a_missing_batch_is_found(tmp_path: Path) -> None:
    delivered = batches(range(100, 120))
    late = _batch(len(delivered) + 3, BatchKind.LOST, 0, b"")
    found = audited(tmp_path / "db", [*delivered, late])
    assert found.batches_missing == 2
    assert not found.is_whole


def test_the_command_tells_whole_from_not_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audited(tmp_path / "whole", batches(range(100, 141)))
    assert main(["audit", "--store", f"sqlite:///{tmp_path}/whole"]) == 0
    shown = capsys.readouterr().out
    assert "qp-0001: whole" in shown
    assert "incomer (tier 1) 4.290 kWh = hall 3.900 + gap 0.390 (9.09%)" in shown
    audited(tmp_path / "holed", batches([100, 102]))
    assert main(["audit", "--json", "--store", f"sqlite:///{tmp_path}/holed"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["whole"], found["slots"]["unexplained"]) == (False, 2)


def test_what_was_refused_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def refuse() -> None:
        store = await open_store(f"sqlite:///{tmp_path}/db", Bound(rows_max=2))
        for number in range(3):
            await store.quarantine(5_000, [Refused("nowhere", "of no use", bytes(10 + number))])
        await store.close()

    audited(tmp_path / "db", batches(range(100, 141)))
    assert main(["audit", "--store", f"sqlite:///{tmp_path}/db"]) == 0
    assert "quarantine" not in capsys.readouterr().out
    asyncio.run(refuse())
    assert main(["audit", "--store", f"sqlite:///{tmp_path}/db"]) == 0
    shown = capsys.readouterr().out
    assert "quarantine: 2 messages, 55 bytes; 1 older ones dropped" in shown
    assert main(["audit", "--json", "--store", f"sqlite:///{tmp_path}/db"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["quarantine"]["dropped_bytes"] == 26


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["audit", "--store", "mysql://x"], "--store: url: 'mysql://x'; use sqlite:///FILE"),
        (["receive", "--broker", "http://x", "--store", "sqlite:///x"], "mqtt://HOST:PORT"),
        (["audit", "--store", "sqlite:///EMPTY"], "--store: file: 'EMPTY' is not there"),
    ],
)
def test_a_wrong_argument_gets_one_line_and_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    empty = str(tmp_path / "empty")
    assert main([text.replace("EMPTY", empty) for text in arguments]) == 2
    shown = capsys.readouterr()
    assert message.replace("EMPTY", empty) in shown.err
    assert not (tmp_path / "empty").exists()
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    assert "edgeagg audit --store sqlite:///platform.db" in capsys.readouterr().out
