"""A further platform beside the chain's own, and further gateways on copies of its state.

Owns their processes and files, in a folder of their own each.
"""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hil_tests.chain import Chain
from hil_tests.services.broker import start_broker
from hil_tests.services.process import Child, free_port, tied_to_parent


class Platform:
    """A broker and a receiver with a database of their own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self.port = free_port()
        self.store = f"sqlite:///{directory / 'platform.db'}"
        self.broker = start_broker(directory, self.port)
        url = f"mqtt://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "edgeagg", "receive", "--broker", url]
        self.receiver = Child(
            tied_to_parent([*command, "--store", self.store, "--admit", "first-use"]),
            name="receiver",
            log=directory / "receiver.log",
        )
        self.receiver.start()

    def site_text(self, name: str) -> str:
        """Return this platform as a destination of a site file."""
        return f'[[destination]]\nname = "{name}"\nbroker = "mqtt://127.0.0.1:{self.port}"\n'

    def kill(self) -> None:
        """End both."""
        self.receiver.kill()
        self.broker.kill()


@contextmanager
def platform(directory: Path) -> Iterator[Platform]:
    """Run a platform while the `with` block lasts."""
    found = Platform(directory)
    try:
        yield found
    finally:
        found.kill()


@contextmanager
def clone(chain: Chain, state: Path, directory: Path) -> Iterator[Path]:
    """Run a gateway on a copy of `state`, on lines without meters; yield its status file."""
    directory.mkdir(parents=True)
    shutil.copytree(state, directory / "agent")
    text = chain.site_file.read_text("utf-8").replace(str(chain.directory), str(directory))
    ends = []
    for port in re.findall(r'^port = "(.*)"$', text, re.MULTILINE):
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        ends += [ours, theirs]
        Path(port).symlink_to(os.ttyname(theirs))
    site = directory / "site.toml"
    site.write_text(text, "utf-8")
    child = Child(
        tied_to_parent([sys.executable, "-m", "edgeagg_agent", "run", str(site)]),
        name="clone",
        log=directory / "agent.log",
    )
    child.start()
    try:
        yield directory / "status.json"
    finally:
        child.kill()
        for end in ends:
            os.close(end)


def edgeagg(command: str, store: str, *more: str) -> tuple[int, Any]:
    """Run a command of the platform engineer; return its exit status and what its JSON says."""
    done = subprocess.run(
        [sys.executable, "-m", "edgeagg", command, "--store", store, "--json", *more],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in {0, 1} or not done.stdout:
        raise RuntimeError(f"edgeagg {command}: {done.stderr}")
    return done.returncode, json.loads(done.stdout)
