"""Disks that are full, cannot be written or lose their power, for the time of a `with` block."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

# EXT4_IOC_SHUTDOWN of the kernel's fs/ext4/ext4.h; 2: not even the log is written any more
_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
_CLONE_NEWNS = 0x00020000
_IMAGE_BYTES = 32 << 20
_BUSY_TRIES = 30


def _no_power_cut() -> str:
    if os.geteuid() != 0:
        return "only root can mount a disk whose power can be cut"
    return "" if shutil.which("mkfs.ext4") else "mkfs.ext4 is not installed"


NO_POWER_CUT = _no_power_cut()
"""Why there can be no PowerCutDisk here; empty where there can."""


class PowerCutDisk:
    """An ext4 of its own: what was not synced when `cut` is called is lost, as with real power."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.image = directory.with_name(f"{directory.name}.image")

    @contextlib.contextmanager
    def mounted(self) -> Iterator[PowerCutDisk]:
        """Make the disk and have it at the directory."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.image.touch()
        os.truncate(self.image, _IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self.image))
        self.plug()
        try:
            yield self
        finally:
            self.unplug()

    def cut(self) -> None:
        """Cut the power; whatever uses the disk gets errors from now on."""
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def replug(self) -> None:
        """Have it back as it was when the power went; nothing may use it meanwhile."""
        self.unplug()
        self.plug()

    def unplug(self) -> None:
        """Take the disk away; what looks at mounts at this moment is waited for."""
        for _ in range(_BUSY_TRIES):
            command = ("umount", str(self.directory))
            if subprocess.run(command, check=False, capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        _run("umount", str(self.directory))

    def plug(self) -> None:
        """Have it at its directory again."""
        # without "commit" the kernel would sync by itself every 5 s, and hide who forgets to
        _run("mount", "-o", "loop,commit=300", str(self.image), str(self.directory))


_STUCK_SYNC = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static int passed;
static int is_stuck(void) {
    int spared = 0;
    FILE *flag = fopen(getenv("STUCK_FLAG"), "r");
    if (!flag) return 0;
    if (fscanf(flag, "%d", &spared) != 1) spared = 0;
    fclose(flag);
    return passed++ >= spared;
}
static void wait_while_stuck(int fd) {
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (readlink(link, path, sizeof path - 1) < 0 || !strstr(path, getenv("STUCK_PATH"))) return;
    if (!is_stuck()) return;
    close(creat(getenv("STUCK_NEWS"), 0600));
    while (access(getenv("STUCK_FLAG"), F_OK) == 0) usleep(10000);
}
int fsync(int fd) { wait_while_stuck(fd); return syscall(SYS_fsync, fd); }
int fdatasync(int fd) { wait_while_stuck(fd); return syscall(SYS_fdatasync, fd); }
"""

NO_COMPILER = "" if shutil.which("cc") else "no C compiler to stand between a process and its disk"


class StuckDisk:
    """Files whose syncs end only when `stuck` does: who answers earlier has not synced at all.

    Works by a library in front of the C library's, so it needs no root but a C compiler.
    """

    def __init__(self, directory: Path, part: str) -> None:
        """Prepare for files with `part` in their path; the library goes to `directory`."""
        source, library = directory / "stuck.c", directory / "stuck.so"
        source.write_text(_STUCK_SYNC, "utf-8")
        _run("cc", "-shared", "-fPIC", "-o", str(library), str(source))
        self._flag, self._news = directory / "stuck", directory / "stuck.news"
        self.environment = [
            f"LD_PRELOAD={library}",
            f"STUCK_PATH={part}",
            f"STUCK_FLAG={self._flag}",
            f"STUCK_NEWS={self._news}",
        ]
        """NAME=VALUE for the processes that are to be stuck."""

    @contextlib.contextmanager
    def stuck(self, *, spared: int = 0) -> Iterator[None]:
        """Let no sync end while the `with` block lasts, but for the first `spared`."""
        self._news.unlink(missing_ok=True)
        written = self._flag.with_suffix(".new")
        written.write_text(str(spared), "ascii")
        written.rename(self._flag)
        try:
            yield
        finally:
            self._flag.unlink()

    def holds(self, timeout_s: float) -> bool:
        """Wait until a sync is stuck; False when none came in time."""
        end_s = time.monotonic() + timeout_s
        while not self._news.exists():
            if time.monotonic() > end_s:
                return False
            time.sleep(0.001)
        return True


@contextlib.contextmanager
def mounted(directory: Path, *, bytes_max: int) -> Iterator[None]:
    """Mount an empty disk of this size at `directory`; only root can."""
    directory.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={bytes_max}", "tmpfs", str(directory))
    try:
        yield
    finally:
        _run("umount", str(directory))


@contextlib.contextmanager
def unwritable(directory: Path) -> Iterator[None]:
    """Let nothing be written below `directory`: a read-only mount for root, else by its mode."""
    if os.geteuid() != 0:
        mode = directory.stat().st_mode
        directory.chmod(0o500)
        try:
            yield
        finally:
            directory.chmod(mode)
        return
    _run("mount", "--bind", str(directory), str(directory))
    try:
        _run("mount", "-o", "remount,ro,bind", str(directory))
        yield
    finally:
        _run("umount", str(directory))


def fill(file: Path) -> None:
    """Write to `file` until its disk is full."""
    with file.open("wb", buffering=0) as stream:
        while True:
            try:
                stream.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return


def hide_mounts() -> None:
    """Let nobody else see what this process mounts from now on.

    A mount namespace that anybody makes meanwhile would have a copy of each mount, and keep a disk
    alive whose power is cut.
    """
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "cannot make a mount namespace")
    _run("mount", "--make-rprivate", "/")


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
