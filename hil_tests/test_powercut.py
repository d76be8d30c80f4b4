"""The power cuts: what the judge notices, and a short run of real ones."""

import asyncio
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from edgeagg.receiver.sqlite import SqliteStore
from hil_tests.broken import PACKAGES, change, copied, python_path
from hil_tests.disks import hide_mounts
from hil_tests.powercut import aims, judge, plant, run
from hil_tests.powercut.told import LieError, Told
from hil_tests.powercut.writer import Destination, Gateway, write

MISSING = run.why_not()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder in memory: these tests sync much and lose nothing."""
    with run.scratch() as made:
        yield made


def written(folder: Path) -> Told:
    """Let the writer work without a cut; return what it told."""
    lines: list[str] = []

    async def work() -> None:
        gateway = Gateway(folder / "gateway", 0, lines.append)
        destinations = []
        for name in plant.DESTINATIONS:
            store = await SqliteStore.open(str(folder / f"platform/{name}.db"))
            destinations.append((Destination(name, gateway.outbox, store, lines.append), store))
        rng = random.Random(4)
        for _ in range(6):
            await write(gateway, [d for d, _ in destinations], rng, lines.append)
        for _, store in destinations:
            await store.close()
        gateway.close()

    asyncio.run(work())
    told = Told()
    told.take(lines)
    return told


def after_cut(folder: Path, told: Told) -> judge.Repairs:
    return judge.after_cut(folder / "gateway", folder / "platform", told)


def at_end(folder: Path, told: Told) -> judge.Ended:
    return judge.at_end(folder / "gateway", folder / "platform", told)


def test_a_state_that_nobody_cut_is_judged_whole(folder: Path) -> None:
    told = written(folder)
    assert after_cut(folder, told).torn_tails == 0
    ended = at_end(folder, told)
    assert ended.rows == 2 * len(told.slots) > 0
    assert ended.day_files > 0
    assert told.batches
    assert told.receipts


def test_readings_that_are_gone_are_noticed(folder: Path) -> None:
    told = written(folder)
    # acknowledged, but no longer in the journal
    told.slots.update(range(told.end, told.end + 3))
    told.end += 3
    with pytest.raises(LieError, match="acknowledged slots lost"):
        at_end(folder, told)


def test_a_batch_that_is_nowhere_is_noticed(folder: Path) -> None:
    told = written(folder)
    newest = max((folder / "gateway").glob("batches-*/*.journal"))
    newest.unlink()
    for name in plant.DESTINATIONS:
        with sqlite3.connect(folder / f"platform/{name}.db") as database:
            database.execute("DELETE FROM batches")
        database.close()
    with pytest.raises(LieError, match="neither in the outbox nor at"):
        after_cut(folder, told)


def test_a_receipt_for_what_is_not_there_is_noticed(folder: Path) -> None:
    told = written(folder)
    (name, _), through = max(told.receipts.items(), key=lambda item: item[1])
    with sqlite3.connect(folder / f"platform/{name}.db") as database:
        database.execute("DELETE FROM batches WHERE sequence = ?", (through,))
    database.close()
    with pytest.raises(LieError, match=f"{name} receipted {through} and does not have {through}"):
        after_cut(folder, told)


def test_a_value_that_changed_is_noticed(folder: Path) -> None:
    told = written(folder)
    with sqlite3.connect(folder / f"platform/{plant.DESTINATIONS[0]}.db") as database:
        database.execute(
            "UPDATE readings SET mantissas = '[1,1]' WHERE group_id = 1 AND due_ms = ?",
            (plant.due_ms(1),),
        )
    database.close()
    with pytest.raises(LieError, match="other values than were read"):
        at_end(folder, told)


def test_a_lost_epoch_is_noticed(folder: Path) -> None:
    told = written(folder)
    shutil.rmtree(folder / "gateway")
    with pytest.raises(LieError, match="is gone"):
        after_cut(folder, told)


def test_a_number_with_other_bytes_is_noticed() -> None:
    told = Told()
    told.take(["batch 7 1 aa", "batch 7 1 aa", "batch 7 2 bb"])
    with pytest.raises(LieError, match="epoch 7 sequence 2 was used again for other bytes"):
        told.take(["batch 7 2 cc"])


@pytest.mark.long
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_power_cuts_lose_nothing_acknowledged_and_bite() -> None:
    command = (sys.executable, "-m", "hil_tests.powercut", "--cuts", "30", "--seed", "7")
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lives with something lost     0" in done.stdout
    assert re.search(r"canary: .* lives lose, after [6-9] cuts\n", done.stdout)


@pytest.mark.long
@pytest.mark.skipif(bool(MISSING), reason=MISSING)
def test_a_day_file_that_has_its_name_before_it_is_synced_is_caught(tmp_path: Path) -> None:
    packages = copied(tmp_path / "broken", PACKAGES)
    file = packages / "agent/edgeagg_agent/day_file.py"
    change(file, "        os.fsync(self._file.fileno())\n", "")
    hide_mounts()
    courses = [partial(aims.independent, steps={"history": aims.STEPS["history"]})]
    environment = {"PYTHONPATH": python_path(packages)}
    result = run.cut_often(5, 12, environment, say=False, courses=courses)
    assert any("pieces of history cannot be read" in lie for lie in result.lies), f"{result}"
    whole = run.cut_often(5, 12, {}, say=False, courses=courses)
    assert not whole.lies
    assert whole.day_files > 0
