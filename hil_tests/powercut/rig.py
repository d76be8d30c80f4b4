"""A gateway and a platform on a disk each, and the process that writes to both until it is cut.

Owns the mounts, the process and its pipe. Both disks lie in memory where there is one, since the
host's own disk has nothing to say here.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from hil_tests.disks import StuckDisk
from hil_tests.powercut.torn import TornDisk

_START_MAX_S = 60.0
_HELD_S = 0.5
_CHECKOUT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Aim:
    """When to cut: some time behind the n-th announcement of a step."""

    phase: str
    occurrence: int
    delay_us: int
    gateway: bool
    platform: bool
    held: int | None
    """Hold a sync back behind so many others, and let the cut leave a part of what it was to sync;
    None: cut wherever the process is."""
    is_judged: bool
    """Whether the state behind it is looked at before the next start."""


@dataclass(slots=True)
class Lines:
    """What comes out of a process' pipe."""

    descriptor: int
    text: bytes = b""
    is_open: bool = True
    _seen: int = 0
    _counts: dict[str, int] = field(default_factory=dict)

    def wait_for(self, aim: Aim, until_s: float) -> bool:
        """Return when the step was announced often enough; False when time or the pipe ran out."""
        while self._counts.get(aim.phase, 0) < aim.occurrence:
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not self.is_open:
                return False
            if select.select([self.descriptor], [], [], left_s)[0]:
                self.read()
        return True

    def read(self) -> None:
        """Take what has come."""
        data = os.read(self.descriptor, 1 << 16)
        self.is_open = bool(data)
        self.text += data
        end = self.text.rfind(b"\n") + 1
        for line in self.text[self._seen : end].split(b"\n"):
            word, _, phase = line.partition(b" ")
            if word == b"phase":
                name = phase.decode()
                self._counts[name] = self._counts.get(name, 0) + 1
        self._seen = max(self._seen, end)

    def drain(self) -> list[str]:
        """Return all whole lines, when nobody writes any more."""
        while self.is_open:
            self.read()
        return self.text[: self.text.rfind(b"\n") + 1].decode().splitlines()


class Rig:
    """Two disks whose power can be cut."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.gateway, self.platform = directory / "gateway", directory / "platform"
        self._stuck = StuckDisk(directory, str(directory))
        held = dict(item.split("=", 1) for item in self._stuck.environment)
        self._environment = {**held, **environment}
        self._disks = {True: TornDisk(self.gateway), False: TornDisk(self.platform)}

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Rig]:
        """Have both disks, empty."""
        with self._disks[True].mounted(), self._disks[False].mounted():
            yield self

    @property
    def torn_sectors(self) -> tuple[int, int]:
        """Sectors that a cut kept, and that it lost, of what was written and not synced."""
        disks = self._disks.values()
        return sum(disk.kept_sectors for disk in disks), sum(disk.lost_sectors for disk in disks)

    def run(self, aim: Aim, *, slot: int, seed: int) -> list[str]:
        """Let the writer run until the cut; return what it told. The disks are back then."""
        command = (sys.executable, "-m", "hil_tests.powercut.writer")
        options = ("--slot", str(slot), "--seed", str(seed))
        with subprocess.Popen(
            [*command, str(self.gateway), str(self.platform), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **self._environment},
            cwd=_CHECKOUT,
        ) as process:
            if process.stdout is None or process.stderr is None:
                raise RuntimeError("BUG: a process without its pipes")
            lines = Lines(process.stdout.fileno())
            hit = lines.wait_for(aim, time.monotonic() + _START_MAX_S)
            cut = [self._disks[True]] * aim.gateway + [self._disks[False]] * aim.platform
            with self._held(aim) as held:
                # a sync in flight while ext4 is shut down may end well without having been done,
                # so nobody may hear of its end any more
                process.send_signal(signal.SIGSTOP)
                for disk in cut:
                    if held:
                        disk.tear(Random(seed))
                    disk.cut()
                process.kill()
                process.wait()
            told = lines.drain()
            errors = process.stderr.read().decode()
        for disk in cut:
            disk.replug()
        if not hit and errors:
            raise RuntimeError(f"the writer never came to its {aim.phase}: {errors[-2000:]}")
        return told

    @contextlib.contextmanager
    def _held(self, aim: Aim) -> Iterator[bool]:
        """Have the process where it is to be cut; yield whether it waits for a sync."""
        if aim.held is None:
            _wait_us(aim.delay_us)
            yield False
            return
        with self._stuck.stuck(spared=aim.held):
            yield self._stuck.holds(_HELD_S)


def canary_environment() -> dict[str, str]:
    """Return what makes every sync of a process do nothing."""
    return {"LD_PRELOAD": "libeatmydata.so"}


def _wait_us(delay_us: int) -> None:
    """Wait more exactly than sleeping does."""
    end_ns = time.perf_counter_ns() + delay_us * 1_000
    while time.perf_counter_ns() < end_ns:
        pass
