"""One site, from its meters to its platform, under strikes until it has had its share of kills.

Owns the site's processes and its thread's time: who is dead until when, and when to look. A process
that ends without having been killed, and a cursor that is ahead of the platform, are told as lies;
what the site's two sides hold in the end is judged elsewhere.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from edgeagg_agent import config
from hil_tests.chain import Chain, Wiring
from hil_tests.chaos.moments import Watch
from hil_tests.chaos.plan import AGENT, BROKER, RECEIVER, Moment, Strike, first_strikes, strikes
from hil_tests.chaos.witness import Witness
from hil_tests.scenario import HOUR_MS, Scenario
from hil_tests.services.nursery import Nursery
from hil_tests.services.process import ServiceError, tail

PLANT = Path(__file__).parent / "plant"
_AIM_MAX_S = 3.0
_AIM_LOOK_S = 0.002
_LOOK_S = 0.25
_BEGUN = b" meters on "  # what the agent says when it has taken up what a former life left
_CONNECTED = b"connected to "


@dataclass(slots=True)
class Toll:
    """What struck one site, or all of them."""

    kills: Counter[str] = field(default_factory=Counter)
    strikes: Counter[int] = field(default_factory=Counter)
    """By how many were killed in one moment."""
    moments: Counter[str] = field(default_factory=Counter)
    phases: Counter[str] = field(default_factory=Counter)
    """Where in their lives agents and receivers were."""
    unreceipted: int = 0
    """Strikes behind a commit whose receipt the agent did not have yet."""
    uncut: int = 0
    """Kills of an agent with rows in its journal that were in no batch yet."""
    lies: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """All kills."""
        return sum(self.kills.values())

    def add(self, other: Toll) -> None:
        """Add another site's."""
        for mine, theirs in (
            (self.kills, other.kills),
            (self.moments, other.moments),
            (self.phases, other.phases),
        ):
            mine.update(theirs)
        self.strikes.update(other.strikes)
        self.unreceipted += other.unreceipted
        self.uncut += other.uncut
        self.lies += other.lies


class Life:
    """A site that is struck."""

    def __init__(self, directory: Path, nursery: Nursery, rng: Random, *, kills: int) -> None:
        """Write the site's files; it ends after so many `kills`, or a few more."""
        self.chain = Chain(
            directory,
            start_ms=time.time_ns() // 1_000_000 - HOUR_MS,
            wiring=Wiring(nursery=nursery),
            plant=PLANT,
        )
        self.scenario = Scenario(self.chain)
        self.toll = Toll()
        catalogue = config.load_site(self.chain.site_file).catalogue()
        self.witness = Witness(directory / "agent", self.chain.database, catalogue)
        self.struck_s = 0.0
        """How long the strikes took."""
        self._rng, self._kills = rng, kills
        self._back_s: dict[str, float] = {}
        self._log_from: dict[str, int] = {}

    def run(self, is_over: Callable[[], bool]) -> None:
        """Start the site, strike it until it has had enough or `is_over`, and let all come back."""
        self.chain.start()
        self._log_from = dict.fromkeys((AGENT, RECEIVER), 0)
        for strike in first_strikes(self._rng):
            self._strike(strike)
            self._pass(0.0)
        self.scenario.wait_for_first_receipt()
        begun_s = time.monotonic()
        for strike in strikes(self._rng):
            if is_over() or self.toll.total >= self._kills:
                break
            self._pass(strike.pause_s)
            self._strike(strike)
        self.struck_s = time.monotonic() - begun_s
        self._back_s = dict.fromkeys(self._back_s, 0.0)
        self._pass(_LOOK_S)

    def _pass(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Let time pass, look, and start whoever is due, for `seconds` or `until` something."""
        end_s = time.monotonic() + seconds
        looked_s = 0.0
        while True:
            now_s = time.monotonic()
            for name, back_s in list(self._back_s.items()):
                if back_s <= now_s:
                    self._start(name)
            if now_s - looked_s >= _LOOK_S:
                self._look()
                looked_s = now_s
            if now_s >= end_s or (until is not None and until()):
                return
            next_s = min([end_s, looked_s + _LOOK_S, *self._back_s.values()])
            time.sleep(max(0.0, _AIM_LOOK_S if until else next_s - now_s))

    def _look(self) -> None:
        self.scenario.look()
        pids = self.chain.pids()
        if "meters" not in pids:
            log = tail(self.chain.directory / "meters.log")
            raise ServiceError(f"the meters ended, which nobody struck; {log}")
        for name in {AGENT, BROKER, RECEIVER} - self._back_s.keys() - pids.keys():
            self._tell(f"the {name} ended by itself")
            self._back_s[name] = 0.0

    def _strike(self, strike: Strike) -> None:
        victims = self._alive(strike)
        if not victims:
            return
        match strike.moment:
            case Moment.ANY:
                pass
            case Moment.START:
                self._kill(victims)
                for name in victims:
                    self._start(name)
                self._pass(strike.delay_s)
            case _:
                watch = Watch(self.chain.directory, strike.moment)
                self._pass(_AIM_MAX_S, lambda: watch.has_struck)
                time.sleep(strike.delay_s)
        victims = self._alive(strike)
        if not victims:
            return
        self._kill(victims)
        self.toll.moments[strike.moment.text] += 1
        for name, away_s in zip(strike.victims, strike.aways_s, strict=True):
            if name in victims:
                self._back_s[name] = time.monotonic() + away_s

    def _alive(self, strike: Strike) -> dict[str, int]:
        """Return the victims that run, with their process ids.

        One that has ended by itself is told of by the next look.
        """
        pids = self.chain.pids()
        return {name: pids[name] for name in strike.victims if name in pids}

    def _kill(self, victims: Mapping[str, int]) -> None:
        """Kill them in one moment, and see what that left."""
        for pid in victims.values():
            os.kill(pid, signal.SIGKILL)  # who has ended is not collected yet
        for name, pid in victims.items():
            self.scenario.kill(name)
            self.toll.kills[name] += 1
            if name != BROKER:
                self.toll.phases[f"{name} {self._phase(name, pid)}"] += 1
        self.toll.strikes[len(victims)] += 1
        if len(self.witness.committed()) > self.witness.receipted():
            self.toll.unreceipted += 1
        if AGENT in victims:
            known = len(self.witness.rows)
            self.witness.look_at_journal()
            self.toll.uncut += len(self.witness.rows) > known

    def _phase(self, name: str, pid: int) -> str:
        """Say how far a process had come that was just killed."""
        with (self.chain.directory / f"{name}.log").open("rb") as log:
            log.seek(self._log_from[name])
            said = log.read()
        if name == AGENT and _BEGUN not in said:
            return "taking up"
        if _CONNECTED not in said:
            return "starting"
        if name == AGENT and (self.chain.status() or {}).get("pid") != pid:
            return "starting"
        return "running"

    def _start(self, name: str) -> None:
        self._back_s.pop(name, None)
        match name:
            case "broker":
                if self.chain.broker is not None:
                    self.chain.broker.start()
                return
            case "receiver":
                if lie := self.witness.ahead():
                    self._tell(lie)
                process = self.chain.receiver
            case _:
                process = self.chain.agent
        self._log_from[name] = (self.chain.directory / f"{name}.log").stat().st_size
        process.start()

    def _tell(self, lie: str) -> None:
        self.toll.lies.append(f"{self.chain.directory.name}: {lie}")
