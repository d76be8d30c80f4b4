"""Builds that are broken on purpose: the scenario that guards each promise must fail with them.

A copy of both packages with one place changed is put in front of the installed ones.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hil_tests.broken import PACKAGES, change, copied, python_path
from hil_tests.chain import Chain, Wiring
from hil_tests.disks import NO_COMPILER, NO_POWER_CUT, PowerCutDisk, StuckDisk
from hil_tests.scenario import Scenario, make_chain
from hil_tests.scenarios import (
    ALIKE_CHANGES,
    REPLY_FAULTS,
    agent_killed,
    database_killed,
    disk_stuck,
    power_cut,
    receiver_killed,
)
from hil_tests.services.database import Postgres
from hil_tests.sim.site import CHECKOUT

pytestmark = pytest.mark.long

Begin = Callable[..., Scenario]


def wired_to(broken: Path, environment: Sequence[str] = ()) -> Wiring:
    """Have agent and receiver run from a copy."""
    return Wiring(environment=[f"PYTHONPATH={python_path(broken)}", *environment])


@contextmanager
def started(chain: Chain) -> Iterator[Scenario]:
    """Run a chain while the `with` block lasts."""
    scenario = Scenario(chain)
    try:
        scenario.start()
        yield scenario
    finally:
        chain.kill()


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Start a chain whose agent and receiver have `before` replaced by `after` in one file."""
    running = ExitStack()

    def start(
        file: str,
        before: str,
        after: str,
        *,
        flush: str = "2s",
        store: str | None = None,
        changes: Mapping[str, str] | None = None,
        faults: str = "",
        environment: Sequence[str] = (),
        also: tuple[str, str, str] | None = None,
    ) -> Scenario:
        broken = copied(tmp_path / "broken", PACKAGES)
        change(broken / file, before, after)
        if also is not None:
            change(broken / also[0], also[1], also[2])
        chain = make_chain(
            tmp_path / "chain",
            flush=flush,
            store=store,
            wiring=wired_to(broken, environment),
            changes=changes,
            faults=faults,
        )
        return running.enter_context(started(chain))

    with running:
        yield start


def test_a_receipt_for_what_was_not_committed_is_a_loss(
    begin: Begin, postgres: Postgres, database: str
) -> None:
    scenario = begin(
        "python/edgeagg/receiver/mqtt.py",
        "            receipts = await inbox.take(group, time.time_ns() // 1_000_000)\n",
        "            from edgeagg.batch import Batch\n"
        "            now_ms = time.time_ns() // 1_000_000\n"
        '            found = [m.data for m in group if m.topic.endswith("/batch")]\n'
        "            receipts = [Receipt(b.gateway, b.epoch, b.sequence, (), (), now_ms)"
        " for b in map(Batch.from_bytes, found)]\n"
        "            with contextlib.suppress(StoreError):\n"
        "                right = await inbox.take(group, now_ms)\n"
        "                receipts = receipts or right\n",
        store=database,
    )
    database_killed(scenario, postgres, times=1)
    verdict = scenario.finish()
    assert verdict.lost > 0, verdict
    assert any("is not in the database" in note for note in verdict.notes), verdict


def test_a_cursor_that_moves_on_publish_is_a_loss(begin: Begin) -> None:
    scenario = begin(
        "agent/edgeagg_agent/sender.py",
        "            self._sent_ms[sequence] = now_ms\n            due.append(sequence)\n",
        "            self.through = sequence\n            due.append(sequence)\n",
    )
    receiver_killed(scenario, times=1, away_s=6)
    verdict = scenario.finish()
    assert verdict.lost > 0, verdict
    assert any("receipted before they were committed" in note for note in verdict.notes), verdict


def test_readings_that_are_not_journaled_each_second_are_a_loss(begin: Begin) -> None:
    scenario = begin(
        "agent/edgeagg_agent/app.py",
        "            await self._recorder.commit()\n",
        "",
        flush="10s",
    )
    agent_killed(scenario, times=1)
    verdict = scenario.finish()
    assert verdict.lost > 0, verdict
    assert any("given up while the agent ran" in note for note in verdict.notes), verdict


def test_a_gap_that_is_not_declared_is_a_loss(begin: Begin) -> None:
    scenario = begin(
        "agent/edgeagg_agent/books.py",
        "        declare(recorder, group, last_due_ms + period_ms, slots, period_ms, why)\n",
        "",
        flush="10s",
    )
    agent_killed(scenario, times=1)
    verdict = scenario.finish()
    assert verdict.lost > 0, verdict
    assert any("slots from" in note for note in verdict.notes), verdict


def test_a_request_that_is_no_read_is_heard(begin: Begin) -> None:
    scenario = begin(
        "agent/edgeagg_agent/protocol/modbus.py",
        'struct.pack(">BBHH", request.unit, request.function, request.start, request.count)',
        'struct.pack(">BBHH", request.unit, 6 if request.unit == 2 else request.function,'
        " request.start, request.count)",
    )
    scenario.run(4)
    verdict = scenario.finish()
    assert any("requests on line building were no reads" in note for note in verdict.notes), verdict


def test_a_batch_that_changes_when_it_is_sent_is_a_double(begin: Begin) -> None:
    scenario = begin(
        "agent/edgeagg_agent/outbox.py",
        "            return record[1]\n",
        "            import dataclasses, time\n"
        "            batch = Batch.from_bytes(record[1])\n"
        "            now_ms = time.time_ns() // 1_000_000\n"
        "            return dataclasses.replace(batch, cut_at_ms=now_ms).to_bytes(self.signer)\n",
        # or the agent itself would find it out by the first receipt
        also=(
            "agent/edgeagg_agent/believed.py",
            "            if kept not in {None, check}:\n",
            "            if False:\n",
        ),
    )
    scenario.run(4)
    verdict = scenario.finish()
    assert verdict.doubled > 0, verdict


def test_a_register_read_with_a_bit_flipped_is_a_wrong_value(begin: Begin) -> None:
    scenario = begin(
        "agent/edgeagg_agent/reader.py",
        "(a.payload if isinstance(a, Answer) else a for a in answers)",
        "(bytes(b ^ 1 for b in a.payload) if isinstance(a, Answer) else a for a in answers)",
    )
    scenario.run(4)
    verdict = scenario.finish()
    assert verdict.wrong > 0, verdict


def test_a_checksum_that_is_not_checked_is_a_wrong_value(begin: Begin) -> None:
    scenario = begin(
        "agent/edgeagg_agent/protocol/modbus.py",
        "    return crc16(frame[:-2]) == frame[-2] | frame[-1] << 8\n",
        "    return True\n",
        changes=ALIKE_CHANGES,
        faults=REPLY_FAULTS,
    )
    scenario.run(8)
    verdict = scenario.finish()
    assert verdict.wrong > 0, verdict


def test_a_reply_of_another_meter_that_is_taken_is_a_wrong_value(begin: Begin) -> None:
    scenario = begin(
        "agent/edgeagg_agent/protocol/modbus.py",
        "    full = bytes((request.unit, request.function, 2 * request.count))\n",
        "    full = bytes((request.unit, request.function, 2 * request.count))\n"
        "    length = rtu_reply_length(request)\n"
        "    for start in range(after_echo, len(buffer) - length + 1):\n"
        "        frame = bytes(buffer[start : start + length])\n"
        "        if _crc_is_good(frame):\n"
        "            return start, start + length, frame\n",
        changes=ALIKE_CHANGES,
        faults=REPLY_FAULTS,
    )
    scenario.run(25)
    verdict = scenario.finish()
    assert verdict.wrong > 0, verdict
    assert any("wrong: compressor" in note for note in verdict.notes), verdict


@pytest.fixture(scope="module")
def shifted_core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a core whose windows begin 0.7 s late in a totaliser's course."""
    directory = copied(tmp_path_factory.mktemp("core"), ["aggregator-rs"])
    change(
        directory / "aggregator-rs/src/window/cell.rs",
        "self.opening = self.opening.or_else(|| step.bound_at(start_ms));",
        "let late_ms = (start_ms + 700).min(step.to_ms);"
        "let late = step.bound_at(start_ms).and(step.bound_at(late_ms));"
        "self.opening = self.opening.or(late);",
    )
    # the set-up of the checkout has fetched every crate that this needs
    build = ". tools/rust-env.sh && exec cargo build --quiet --offline --locked --features python"
    subprocess.run(
        [*("bash", "-c"), f"{build} --manifest-path {directory}/aggregator-rs/Cargo.toml"],
        cwd=CHECKOUT,
        env={**os.environ, "CARGO_TARGET_DIR": str(directory / "target")},
        check=True,
    )
    (library,) = (directory / "target/debug").glob("libedgeagg_core.so")
    return library


def test_a_window_whose_interpolation_is_shifted_is_a_wrong_value(
    tmp_path: Path, shifted_core: Path
) -> None:
    broken = copied(tmp_path / "broken", PACKAGES)
    (installed,) = (broken / "python/edgeagg").glob("_core*.so")
    shutil.copyfile(shifted_core, installed)
    with started(make_chain(tmp_path / "chain", wiring=wired_to(broken))) as scenario:
        scenario.wait_for_windows()
        verdict = scenario.finish()
    assert verdict.wrong > 0, verdict
    wrong = [note for note in verdict.notes if note.startswith("wrong")]
    assert all(" ms from " in note for note in wrong), verdict


_NO_SYNC = """
int fsync(int fd) { return 0; }
int fdatasync(int fd) { return 0; }
"""


@pytest.fixture
def no_sync(tmp_path: Path) -> Wiring:
    """Have agent and receiver run with a C library that syncs nothing."""
    source, library = tmp_path / "no_sync.c", tmp_path / "no_sync.so"
    source.write_text(_NO_SYNC, "utf-8")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return Wiring(environment=[f"LD_PRELOAD={library}"])


@pytest.mark.skipif(bool(NO_POWER_CUT or NO_COMPILER), reason=NO_POWER_CUT or NO_COMPILER)
@pytest.mark.parametrize("of", ["agent", "receiver"])
def test_a_disk_that_is_never_synced_is_a_loss(tmp_path: Path, no_sync: Wiring, of: str) -> None:
    state = {"agent": tmp_path / "chain" / "agent", "receiver": tmp_path / "platform"}[of]
    store = f"sqlite:///{tmp_path}/platform/platform.db"
    (tmp_path / "platform").mkdir()
    with (
        PowerCutDisk(state).mounted() as disk,
        started(make_chain(tmp_path / "chain", store=store, wiring=no_sync)) as scenario,
    ):
        power_cut(scenario, disk, of=of, times=1)
        verdict = scenario.finish()
        assert verdict.lost > 0, verdict


@pytest.mark.skipif(bool(NO_COMPILER), reason=NO_COMPILER)
def test_a_platform_that_does_not_wait_for_its_disk_sends_receipts_while_it_is_stuck(
    tmp_path: Path, begin: Begin
) -> None:
    stuck = StuckDisk(tmp_path, "platform.db")
    scenario = begin(
        "python/edgeagg/receiver/sqlite.py",
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = OFF",
        environment=stuck.environment,
    )
    assert disk_stuck(scenario, stuck, seconds=7) > 0
