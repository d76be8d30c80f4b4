"""The whole chain as child processes: meters, broker, receiver, agent; each can be killed.

Owns one folder with everything the chain writes: ptys' links, state, database, logs.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from edgeagg import keyfile
from edgeagg.seal import key_text
from hil_tests.services.broker import Broker, start_broker
from hil_tests.services.nursery import Forked, Nursery
from hil_tests.services.process import Child, free_port, tied_to_parent

PLANT = Path(__file__).parent / "plant"
SWITCHROOM = Path(__file__).parent / "switchroom"
GATEWAY = "qp-demo"
WINDOW_LENGTHS = ("10s", "1min", "15min")
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a scenario changes between the parts of a chain."""

    broker_port: int | None = None
    agent_broker_port: int | None = None
    """Where the agent finds the broker, if not at `broker_port`."""
    agent_clock: Path | None = None
    """A file for `hil_tests.shifted`: how wrong the agent's host clock is."""
    segment_bytes: int | None = None
    """Of the agent's journals, if not its own: small ones are soon full."""
    environment: Sequence[str] = ()
    """NAME=VALUE for agent and receiver."""
    gateway_command: Sequence[str] = ()
    """What stands before the commands of the agent and the meters, as `nsenter` does."""
    nursery: Nursery | None = None
    """Where agent and receiver are forked, if they are to start quickly; it has its environment."""


class Chain:
    """A site of the bench, from its meters to the platform's database."""

    def __init__(
        self,
        directory: Path,
        *,
        start_ms: int,
        day_minutes: float = 6,
        store: str | None = None,
        changes: Mapping[str, str] | None = None,
        faults: str = "",
        wiring: Wiring | None = None,
        plant: Path = PLANT,
    ) -> None:
        """Write the files into `directory`; nothing is started.

        `start_ms` is when the meters begin to count; `changes` replaces texts of the site file;
        `faults` are [[fault]] tables for the simulator, whose times count from `start_ms`; `plant`
        is the folder with both files.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.start_ms = directory, start_ms
        self.store = store or f"sqlite:///{directory / 'platform.db'}"
        self.database = Path(self.store.removeprefix("sqlite:///"))
        """The file of the platform, where that is SQLite."""
        self.site_file = directory / "site.toml"
        self.status_file = directory / "status.json"
        self._wiring = wiring or Wiring()
        self.broker_port = self._wiring.broker_port or free_port()
        self.key_file = key_file = directory / "platform.key"
        values = {
            "DIRECTORY": str(directory),
            "BROKER_PORT": str(self.broker_port),
            "ROOF_PORT": str(free_port()),
            "SERVER_PORT": str(free_port()),
            "START_MS": str(start_ms),
            "PLATFORM_KEY": key_text(keyfile.load_or_make(key_file).public),
            "DAY_MINUTES": f"{day_minutes:g}",
            "DAY_SPEED": f"{DAY_MS / 60_000 / day_minutes:g}",
        }
        for name in ("site.toml", "sim.toml"):
            if name == "site.toml" and self._wiring.agent_broker_port is not None:
                values["BROKER_PORT"] = str(self._wiring.agent_broker_port)
            text = Template((plant / name).read_text("utf-8")).substitute(values)
            if name == "site.toml":
                text = _changed(text, changes or {})
            else:
                text += faults
            (directory / name).write_text(text, "utf-8")
        buses = tomllib.loads(self.site_file.read_text("utf-8"))["bus"]
        self.meter_names = tuple(meter["name"] for bus in buses for meter in bus["meter"])
        self._links = [Path(bus["port"]) for bus in buses if "port" in bus]
        self.broker: Broker | None = None
        self.meters = self._child("meters", ["hil_tests.sim", "run", str(directory / "sim.toml")])
        self.broker_url = f"mqtt://127.0.0.1:{self.broker_port}"
        receive = ["edgeagg", "receive", "--broker", self.broker_url, "--store", self.store]
        receive += ["--admit", "first-use", "--key-file", str(key_file)]
        self.receiver = self._program("receiver", receive)
        clock_file, segment_bytes = self._wiring.agent_clock, self._wiring.segment_bytes
        changed = [] if clock_file is None else ["hil_tests.shifted", str(clock_file)]
        if segment_bytes is not None:
            changed += ["hil_tests.segmented", str(segment_bytes)]
        self.agent = self._program("agent", [*changed, "edgeagg_agent", "run", str(self.site_file)])

    def start(self) -> None:
        """Start everything, the meters first: an agent does not start without its ports."""
        self.start_meters()
        self.broker = start_broker(self.directory, self.broker_port)
        self.receiver.start()
        self.agent.start()

    def start_meters(self) -> None:
        """Start the meters and wait until their ports are there."""
        for link in self._links:
            link.unlink(missing_ok=True)
        self.meters.start()
        self.meters.wait_ready(lambda: all(link.exists() for link in self._links))

    def revive(self) -> list[str]:
        """Start again what has died, as an init system would; return the names."""
        dead = []
        if self.broker is not None and not self.broker.running:
            dead.append("broker")
            self.broker.start()
        if not self.meters.running:
            dead.append("meters")
            self.start_meters()
        for name, child in (("receiver", self.receiver), ("agent", self.agent)):
            if not child.running:
                dead.append(name)
                child.start()
        return dead

    def pids(self) -> dict[str, int]:
        """Return the process ids of what runs."""
        found = {"broker": self.broker.pid} if self.broker and self.broker.running else {}
        for name in ("meters", "receiver", "agent"):
            child: Child | Forked = getattr(self, name)
            if child.running:
                found[name] = child.pid
        return found

    def status(self) -> dict[str, Any] | None:
        """Return what the agent last said of itself."""
        try:
            values: dict[str, Any] = json.loads(self.status_file.read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return values

    def stop_agent(self) -> None:
        """End the agent in order: its last batches are delivered if the platform is there."""
        # 5 s for the last receipts, and the client's own 10 s for a broker that does not answer
        self.agent.stop(timeout_s=30)

    def stop(self) -> None:
        """End everything, the agent first."""
        for child in (self.agent, self.receiver, self.meters):
            if child.running:
                child.stop()
        if self.broker is not None:
            self.broker.kill()

    def kill(self) -> None:
        """End everything by SIGKILL."""
        for child in (self.agent, self.receiver, self.meters):
            child.kill()
        if self.broker is not None:
            self.broker.kill()

    def _program(self, name: str, module: Sequence[str]) -> Child | Forked:
        nursery, log = self._wiring.nursery, self.directory / f"{name}.log"
        if nursery is None:
            return self._child(name, module)
        return Forked(nursery, module[0], module[1:], name=name, log=log)

    def _child(self, name: str, module: Sequence[str]) -> Child:
        command = [sys.executable, "-m", *module]
        if name in {"agent", "receiver"}:
            command = ["env", *self._wiring.environment, *command]
        if name in {"agent", "meters"}:
            command = [*self._wiring.gateway_command, *command]
        return Child(tied_to_parent(command), name=name, log=self.directory / f"{name}.log")


def _changed(text: str, changes: Mapping[str, str]) -> str:
    for before, after in changes.items():
        if before not in text:
            raise ValueError(f"the plant's site file has no {before!r} to change")
        text = text.replace(before, after)
    return text
