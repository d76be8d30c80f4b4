"""What a killed process wrote and did not sync: its successor waits for the disk as it opens."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from hil_tests.disks import NO_COMPILER, StuckDisk

HELD_S = 20.0

JOURNAL = """
from edgeagg._core import Journal
journal = Journal(folder / "batches-7", 4096)
print(journal.committed, flush=True)
journal.append(1, b"batch")
journal.commit()
"""
LOSSES = """
from edgeagg_agent.losses import Losses
losses = Losses(folder, 7)
print(losses.keyframe(3), flush=True)
losses.note_keyframe(3, b"taught")
losses.keep()
"""
STORE = """
import asyncio
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg.receiver.store import Refused
store = asyncio.run(SqliteStore.open(str(folder / "platform.db")))
print(asyncio.run(store.quarantined()).row_count, flush=True)
asyncio.run(store.quarantine(7, [Refused("topic", "reason", b"data")]))
"""
FILES = {
    "batches-7/0": (JOURNAL, "1", "2"),
    "lost-7": (LOSSES, "None", "b'taught'"),
    "platform.db-wal": (STORE, "0", "1"),
}
"""What opens each, and what the first process and its successor find in it."""


def command(source: str, folder: Path) -> list[str]:
    """Return what runs `source` and ends as a killed process does."""
    head = f"import os, pathlib\nfolder = pathlib.Path({str(folder)!r})\n"
    return [sys.executable, "-c", f"{head}{source}\nos._exit(0)"]


@pytest.mark.skipif(bool(NO_COMPILER), reason=NO_COMPILER)
@pytest.mark.parametrize("file", FILES)
def test_whoever_opens_waits_for_the_disk_before_anybody_relies_on_it(
    tmp_path: Path, file: str
) -> None:
    source, before, behind = FILES[file]
    folder = tmp_path / "state"
    folder.mkdir()
    first = subprocess.run(command(source, folder), check=True, capture_output=True, text=True)
    assert first.stdout.split()[0] == before
    disk = StuckDisk(tmp_path, f"{folder}/{file}")
    environment = {**os.environ, **dict(item.split("=", 1) for item in disk.environment)}
    with subprocess.Popen(
        command(source, folder), env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        with disk.stuck():
            assert disk.holds(HELD_S), "nobody waits for the disk"
            told, _, _ = select.select([process.stdout], [], [], 0)
            assert not told, "what is not on the disk was relied on"
        assert process.stdout.readline().strip() == behind
