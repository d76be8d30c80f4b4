"""The chaos of kills: what its judge notices, how its processes start, and short runs of it."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from edgeagg.batch import Batch
from edgeagg.model import Quality
from edgeagg.receiver.sqlite import SqliteStore
from hil_tests import stored
from hil_tests.broken import PACKAGES, change, copied, python_path
from hil_tests.chaos.judge import batches_of, begun_wrong, compare, history_of
from hil_tests.chaos.moments import Watch
from hil_tests.chaos.plan import AGENT, BROKER, RECEIVER, Moment, first_strikes, strikes
from hil_tests.chaos.run import Result, kill_often, main
from hil_tests.chaos.witness import Witness
from hil_tests.powercut import plant
from hil_tests.powercut.writer import Destination, Gateway
from hil_tests.services.broker import has_mosquitto
from hil_tests.services.nursery import Forked, Nursery

needs_mosquitto = pytest.mark.skipif(
    not has_mosquitto(), reason="the broker is mosquitto: install the package mosquitto"
)


def test_a_seed_gives_the_same_strikes() -> None:
    drawn = [list(itertools.islice(strikes(Random("7 0")), 50)) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert drawn[0] != list(itertools.islice(strikes(Random("8 0")), 50))


def test_every_process_dies_alone_and_with_others_at_every_moment() -> None:
    drawn = list(itertools.islice(strikes(Random(1)), 2_000))
    met = Counter((frozenset(one.victims), one.moment) for one in drawn)
    for size in (1, 2, 3):
        for victims in map(frozenset, itertools.combinations((AGENT, BROKER, RECEIVER), size)):
            assert met[victims, Moment.ANY] > 5
            assert met[victims, Moment.START] > 5
    for moment in Moment:
        assert met[frozenset({AGENT}), moment] > 5
    assert all(len(one.aways_s) == len(one.victims) for one in drawn)
    assert all(0 <= one.delay_s <= one.moment.delay_max_s for one in drawn)


def test_first_starts_are_struck_on_most_sites() -> None:
    drawn = [list(first_strikes(Random(f"1 {place}"))) for place in range(50)]
    assert sum(bool(one) for one in drawn) > 30
    assert all(one.moment is Moment.START for first in drawn for one in first)


def test_a_watch_tells_that_a_file_was_written(tmp_path: Path) -> None:
    file = tmp_path / "agent/cursor-platform-5"
    file.parent.mkdir()
    file.write_bytes(b"1")
    watch = Watch(tmp_path, Moment.RECEIPTED)
    assert not watch.has_struck
    later_ns = time.time_ns() + 10**9
    os.utime(file, ns=(later_ns, later_ns))
    assert watch.has_struck


class Sides:
    """A gateway's state directory and its platform's database, which are the same."""

    def __init__(self, folder: Path) -> None:
        self.state, self.database = folder / "gateway", folder / "platform.db"
        self.witness = Witness(self.state, self.database, plant.CATALOGUE)
        asyncio.run(self._write())

    async def _write(self) -> None:
        gateway = Gateway(self.state, 0, lambda _: None)
        store = await SqliteStore.open(str(self.database))
        to = Destination("platform", gateway.outbox, store, lambda _: None)
        for _ in range(3):
            gateway.read(5)
            await gateway.recorder.commit()
            await gateway.cut(to.cursor.through)
            await to.deliver(None, plant.due_ms(gateway.slot))
        await store.close()
        gateway.close()
        self.witness.look_at_journal()

    def change(self, statement: str) -> None:
        """Make the platform's database another one."""
        with sqlite3.connect(self.database) as connection:
            connection.execute(statement)
        connection.close()

    def found(self) -> list[str]:
        """Return what the judge finds."""
        held = stored.load(f"sqlite:///{self.database}")
        return compare(self.state, held, self.witness)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Sides:
    return Sides(tmp_path_factory.mktemp("sides"))


@pytest.fixture
def sides(written: Sides, tmp_path: Path) -> Iterator[Sides]:
    """Give both sides, to be changed."""
    kept = tmp_path / "kept"
    shutil.copytree(written.database.parent, kept)
    yield written
    shutil.rmtree(written.database.parent)
    shutil.copytree(kept, written.database.parent)


def test_two_sides_that_are_the_same_differ_in_nothing(sides: Sides) -> None:
    assert sides.found() == []
    assert len(sides.witness.rows) == 15 * len(plant.CATALOGUE.groups)
    assert sides.witness.ahead() == ""


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("DELETE FROM readings WHERE due_ms = (SELECT max(due_ms) FROM readings)", "rows only the"),
        ("UPDATE readings SET mantissas = '[1,2]' WHERE group_id = 1", "rows only the platform"),
        ("UPDATE batches SET digest = zeroblob(32) WHERE sequence = 2", "batches only the gateway"),
        ("DELETE FROM batches WHERE sequence = 5", "the cursor stands at 5, the platform's last"),
        ("INSERT INTO gaps SELECT id, 5000, 6000, 2, 5 FROM groups", "gaps only the platform has"),
    ],
)
def test_a_difference_of_the_two_sides_is_noticed(sides: Sides, statement: str, text: str) -> None:
    sides.change(statement)
    assert any(text in lie for lie in sides.found()), sides.found()


def test_a_row_that_was_journaled_at_a_kill_and_is_gone_is_noticed(sides: Sides) -> None:
    sides.change("DELETE FROM readings WHERE due_ms = (SELECT min(due_ms) FROM readings)")
    assert any("of 30 rows that were journaled at a kill" in lie for lie in sides.found())


def test_a_receipt_for_what_is_not_committed_is_noticed(sides: Sides) -> None:
    sides.change("DELETE FROM batches WHERE sequence = 2")
    assert sides.witness.ahead() == "the agent has a receipt for 5, the platform has no 2"


def test_a_group_whose_account_begins_late_on_both_sides_is_noticed(sides: Sides) -> None:
    rows, gaps = history_of(sides.state)
    first = min(rows)
    del rows[first]
    (batch, *_) = batches = list(map(Batch.from_bytes, batches_of(sides.state).values()))
    (lie,) = begun_wrong(batches, rows, gaps)
    assert f"the account begins at {first[2] + first[1]}, not at {first[2]}" in lie
    assert batch.cut_at_ms < first[2]
    declared = {(*first[:2], first[2], first[2], int(Quality.STOPPED))}
    assert begun_wrong(batches, rows, gaps | declared) == []


def test_a_group_of_which_nothing_came_at_all_is_noticed(sides: Sides) -> None:
    rows, gaps = history_of(sides.state)
    rows = {slot: row for slot, row in rows.items() if slot[0] != "oven"}
    batches = list(map(Batch.from_bytes, batches_of(sides.state).values()))
    assert "oven each 600000 ms: the account begins at None" in begun_wrong(batches, rows, gaps)[0]


def test_a_database_whose_writer_was_killed_in_a_transaction_is_asked_as_it_is(
    tmp_path: Path,
) -> None:
    file = tmp_path / "platform.db"
    write = (
        f"import os, signal, sqlite3; writer = sqlite3.connect({str(file)!r});"
        "writer.execute('PRAGMA cache_size = 1'); writer.execute('CREATE TABLE t (x)');"
        "writer.execute('INSERT INTO t VALUES (1)'); writer.commit();"
        "writer.executemany('INSERT INTO t VALUES (?)', ((b'x' * 5000,) for _ in range(50)));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", write], check=False)
    journal = tmp_path / "platform.db-journal"
    before = journal.read_bytes()
    assert list(stored.ask_sqlite(file, "SELECT x FROM t")) == [(1,)]
    assert journal.read_bytes() == before, "nothing was written"


def test_a_summary_counts_what_nobody_explains() -> None:
    result = Result(seed=3, sites=2)
    result.counts.update(due=10, values=6, reasons=1, missed=1)
    assert "10 = 6 values + 1 reasons + 1 declared missed + 2 unexplained" in str(result)
    assert result.holds
    result.toll.lies.append("site0: something")
    assert not result.holds


def test_a_folder_that_is_there_is_not_written_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--keep", str(tmp_path)]) == 2
    assert "chaos: " in capsys.readouterr().err


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    running = Nursery(tmp_path_factory.mktemp("nursery") / "nursery.log")
    yield running
    running.close()


def is_running(forked: Forked) -> bool:
    return forked.running


def test_a_forked_program_is_started_and_killed_like_a_child(
    nursery: Nursery, tmp_path: Path
) -> None:
    log = tmp_path / "receiver.log"
    receive = ["receive", "--broker", "mqtt://127.0.0.1:1", "--store", f"sqlite:///{tmp_path}/p.db"]
    forked = Forked(nursery, "edgeagg", receive, name="receiver", log=log)
    assert not is_running(forked)
    for _ in range(2):
        forked.start()
        pid = forked.pid
        assert is_running(forked)
        forked.kill()
        assert not is_running(forked)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_forked_program_that_ends_by_itself_is_noticed(nursery: Nursery, tmp_path: Path) -> None:
    log, missing = tmp_path / "agent.log", tmp_path / "site.toml"
    forked = Forked(nursery, "edgeagg_agent", ["run", str(missing)], name="agent", log=log)
    forked.start()
    end_s = time.monotonic() + 20
    while is_running(forked) and time.monotonic() < end_s:
        os.sched_yield()
    assert not is_running(forked)
    assert str(missing) in log.read_text("utf-8")
    forked.start()  # it is collected before it is started anew
    forked.stop()


def test_the_exit_status_of_a_forked_program_is_its_own(nursery: Nursery, tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert nursery.collect(nursery.start("edgeagg_agent", ["--version"], log)) == 0
    assert nursery.collect(nursery.start("edgeagg", ["tariffs", "--nonsense"], log)) == 2
    running = nursery.start("edgeagg_agent", ["--version"], log)
    os.kill(running, signal.SIGKILL)
    assert nursery.collect(running) in {0, -signal.SIGKILL}
    text = log.read_text("utf-8")
    assert "edgeagg-agent " in text
    assert "--nonsense" in text


@pytest.mark.long
@needs_mosquitto
def test_kills_at_random_lose_and_double_nothing(tmp_path: Path) -> None:
    result = kill_often(tmp_path, seed=11, kills=60, sites=4)
    assert result.holds, f"{result}\n{result.toll.lies}"
    assert result.toll.total >= 60
    assert result.counts["values"] > result.counts["due"] / 2
    assert result.journaled > 0


@dataclass(frozen=True, slots=True)
class Canary:
    """A place of agent or receiver and what breaks it."""

    file: str
    before: str
    after: str


_DELAYED_COMMIT = Canary(
    "python/edgeagg/receiver/mqtt.py",
    "            receipts = await inbox.take(group, time.time_ns() // 1_000_000)\n",
    "            from edgeagg.batch import Batch\n"
    "            for message in group:\n"
    '                if message.topic.endswith("/batch"):\n'
    "                    batch = Batch.from_bytes(message.data)\n"
    "                    place = batch.gateway, batch.epoch, batch.sequence\n"
    "                    now_ms = time.time_ns() // 1_000_000\n"
    "                    await _answer(client, signer, [Receipt(*place, (), (), now_ms)])\n"
    "            await asyncio.sleep(0.1)\n"
    "            receipts = await inbox.take(group, time.time_ns() // 1_000_000)\n",
)
_EAGER_CURSOR = Canary(
    "agent/edgeagg_agent/uplink.py",
    "                    continue\n"
    "                tasks.create_task(self._say(client, topics.batch(self._gateway), message))\n",
    "                    continue\n"
    "                tasks.create_task(self._say(client, topics.batch(self._gateway), message))\n"
    "                self._cursor.advance(sequence)\n",
)
_BUFFERED_JOURNAL = Canary(
    "agent/edgeagg_agent/rowlog.py",
    "        checkpoints = 0\n        while self._waiting:\n",
    "        checkpoints = 0\n        if len(self._waiting) < 40:\n            return\n"
    "        while self._waiting:\n",
)


@pytest.mark.long
@needs_mosquitto
@pytest.mark.parametrize(
    ("broken", "lie"),
    [
        pytest.param(_DELAYED_COMMIT, "has a receipt for", id="receipt before commit"),
        pytest.param(_EAGER_CURSOR, "has a receipt for", id="cursor moved on publish"),
        pytest.param(_BUFFERED_JOURNAL, " slots from ", id="journal buffered in the process"),
    ],
)
def test_a_build_that_a_kill_can_show_to_be_broken_is_caught(
    tmp_path: Path, broken: Canary, lie: str
) -> None:
    packages = copied(tmp_path / "broken", PACKAGES)
    change(packages / broken.file, broken.before, broken.after)
    environment = [f"PYTHONPATH={python_path(packages)}"]
    result = kill_often(tmp_path, seed=11, kills=120, sites=6, environment=environment)
    assert not result.holds
    assert any(lie in found for found in result.toll.lies), result.toll.lies
