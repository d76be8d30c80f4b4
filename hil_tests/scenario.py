"""One run of the whole chain under a fault, watched from outside and judged at its end.

Owns the times at which the agent was down, which the oracle needs, and the wait for the end.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from edgeagg_agent import config
from edgeagg_agent.outbox import Outbox
from hil_tests import stored
from hil_tests.chain import GATEWAY, PLANT, WINDOW_LENGTHS, Chain, Wiring
from hil_tests.oracle import judge
from hil_tests.sim.site import load_site
from hil_tests.truth import Truth
from hil_tests.verdict import Run, Span, Verdict, Wanted

HOUR_MS = 3_600_000
YEAR_MS = 8_766 * HOUR_MS
_WAIT_S = 90.0
_LOOK_S = 0.5
_COMMIT_MS = 3_000
"""The group commit is due each second; the rest is for a busy machine and the scan under way."""


class Scenario:
    """A chain, started; what is done to it, and what came of it."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.begun_ms = _now_ms()
        self.polling_ms = self.begun_ms
        self.ahead = 0
        self._downs: list[Span] = []
        self._down_ms: int | None = None

    def start(self) -> None:
        """Start everything and wait for the first receipt."""
        self.chain.start()
        self.wait_for_first_receipt()

    def wait_for_first_receipt(self) -> None:
        """Wait until the chain works from end to end: from then on the meters are accounted for."""
        self.until(lambda: self.receipted > 0, "the first receipt")
        self.polling_ms = _now_ms()

    @property
    def receipted(self) -> int:
        """The last sequence that the agent has a receipt for."""
        status = self.chain.status()
        return 0 if status is None else int(status["destinations"][0]["receipted"])

    @property
    def head(self) -> int:
        """The last sequence that the agent has cut."""
        status = self.chain.status()
        return 0 if status is None else int(status["batches"]["head"])

    @property
    def waiting(self) -> int:
        """Batches without a receipt."""
        status = self.chain.status()
        return 0 if status is None else int(status["destinations"][0]["waiting"])

    @property
    def dropped(self) -> int:
        """Batches that the agent let go before the platform had them."""
        status = self.chain.status()
        return 0 if status is None else int(status["batches"]["dropped"])

    @property
    def is_refused(self) -> bool:
        """Whether the agent says that its disk refuses."""
        status = self.chain.status()
        return status is not None and bool(status["disk"]["refuses"])

    @property
    def windows(self) -> int:
        """How many windows of meters the agent has closed."""
        status = self.chain.status()
        return 0 if status is None else int(status["windows"])

    @property
    def is_connected(self) -> bool:
        """Whether the agent believes that it has a broker."""
        status = self.chain.status()
        return status is not None and bool(status["destinations"][0]["connected"])

    def run(self, seconds: float, *, revive: bool = False) -> None:
        """Let time pass, and look whether a receipt came before its commit."""
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            if revive and "agent" in self.chain.revive():
                self.agent_is_down()
            self.look()
            time.sleep(min(_LOOK_S, max(0.0, left_s)))

    def until(self, condition: Callable[[], bool], what: str, *, seconds: float = _WAIT_S) -> float:
        """Wait for a condition and return how long that took; raise after `seconds`."""
        begun_s = time.monotonic()
        while not condition():
            if time.monotonic() - begun_s > seconds:
                raise TimeoutError(f"not within {seconds:g} s: {what}")
            self.look()
            time.sleep(0.1)
        return time.monotonic() - begun_s

    def wait_for_windows(self) -> None:
        """Wait until some windows must have energies: each length's first began before us."""
        self.until(
            lambda: self.windows > len(WINDOW_LENGTHS) * len(self.chain.meter_names),
            "windows of each meter",
        )

    def wait_for_cut(self) -> None:
        """Wait until the agent has cut once more."""
        head = self.head
        self.until(lambda: self.head > head, "a cut")

    def look(self) -> None:
        """Notice that the agent is back, and compare what it has receipts for with the commits."""
        status = self.chain.status()
        if status is None:
            return
        if self._down_ms is not None and status["pid"] == self.chain.pids().get("agent"):
            self._downs.append(Span(self._down_ms - _COMMIT_MS, _now_ms() + _COMMIT_MS))
            self._down_ms = None
        if self.chain.store.startswith("sqlite") and self.chain.database.exists():
            # the status is the older of the two, so a commit may only have been added since
            committed = stored.count_batches(self.chain.store)
            receipted = int(status["destinations"][0]["receipted"])
            self.ahead = max(self.ahead, receipted - committed)

    def agent_is_down(self) -> None:
        """Note that the agent does not run now, until its status says that it does."""
        if self._down_ms is None:
            self._down_ms = _now_ms()

    def kill(self, name: str) -> None:
        """End a process of the chain by SIGKILL."""
        if name == "agent":
            self.agent_is_down()
        if name == "broker":
            if self.chain.broker is not None:
                self.chain.broker.kill()
            return
        {"agent": self.chain.agent, "receiver": self.chain.receiver, "meters": self.chain.meters}[
            name
        ].kill()

    def finish(
        self,
        *,
        offsets_ms: tuple[int, ...] = (0,),
        agent_span: Span | None = None,
        blur_ms: int = 2_000,
        leaps: Sequence[Span] = (),
    ) -> Verdict:
        """Let everything arrive, end the agent in order, and judge."""
        run, note = self.end(
            offsets_ms=offsets_ms, agent_span=agent_span, blur_ms=blur_ms, leaps=leaps
        )
        verdict = judge(stored.load(self.chain.store), self._kept(), self.truth(), run)
        if note:
            verdict.lose(1, note)
        for line, count in writes_in((self.chain.directory / "meters.log").read_text("utf-8")):
            verdict.mistrust(f"{count} requests on line {line} were no reads")
        return verdict

    def truth(self) -> Truth:
        """Return what the meters showed."""
        return Truth(load_site(self.chain.directory / "sim.toml"))

    def end(
        self,
        *,
        offsets_ms: tuple[int, ...] = (0,),
        agent_span: Span | None = None,
        blur_ms: int = 2_000,
        leaps: Sequence[Span] = (),
    ) -> tuple[Run, str]:
        """Let everything arrive and end agent and meters in order.

        Returns what is known of the run, and what did not arrive; no text is good news.
        """
        self.chain.revive()
        self.until(lambda: self._down_ms is None, "the agent's status after its start")
        note = ""
        try:
            self.until(lambda: self.is_connected, "a connection of the agent")
            # A receiver that was just started may not listen yet. Once it has answered to a batch
            # of now, those behind that are delivered while the agent ends.
            goal = self.head + 1
            self.until(lambda: self.receipted >= goal, f"a receipt for batch {goal}")
        except TimeoutError as error:
            note = str(error)
        ended_ms = _now_ms()
        self.chain.stop_agent()
        self.look()
        self.chain.meters.stop()
        host = Span(self.begun_ms - HOUR_MS // 60, ended_ms + HOUR_MS // 60)
        run = Run(
            host,
            agent_span or Span(self.polling_ms + _COMMIT_MS, ended_ms - _COMMIT_MS),
            # what falls due between announcement and first plan is `stopped`, too, by the clock
            # that the agent had then
            [Span(self.begun_ms + offsets_ms[0], self.polling_ms + offsets_ms[0]), *self._downs],
            offsets_ms,
            blur_ms,
            self.ahead,
            self._wanted(),
            leaps,
        )
        return run, note

    def _wanted(self) -> list[Wanted]:
        """Return the groups that the agent makes of its site file."""
        groups = config.load_site(self.chain.site_file).catalogue().groups
        return [Wanted(g.meter, g.period_ms, tuple(p.name for p in g.points)) for g in groups]

    def _kept(self) -> dict[tuple[int, int], bytes]:
        """Return the messages that the gateway still has, by identity; the agent must have ended.

        On a small disk the oldest ones are gone.
        """
        outbox = Outbox(self.chain.directory / "agent", now_ms=0, bytes_max=1 << 40)
        try:
            return {
                (outbox.epoch, sequence): outbox.read(sequence, GATEWAY)
                for sequence in range(outbox.first, outbox.head + 1)
            }
        finally:
            outbox.close()


def writes_in(log: str) -> list[tuple[str, int]]:
    """Return the lines on which the simulator heard requests that were no reads, and how many.

    It judges every request of every line by its own eyes and says so when it ends.
    """
    found = re.findall(r"^(\S+)  .*\b(\d+) writes$", log, re.MULTILINE)
    return [(line, int(count)) for line, count in found if int(count)]


@contextlib.contextmanager
def throttled(pid: int, *, share: float, slice_s: float = 0.2) -> Iterator[None]:
    """Let a process run for only a `share` of the time, by SIGSTOP and SIGCONT."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(slice_s * share):
            os.kill(pid, signal.SIGSTOP)
            done.wait(slice_s * (1 - share))
            os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        os.kill(pid, signal.SIGCONT)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def make_chain(
    directory: Path,
    *,
    flush: str = "2s",
    store: str | None = None,
    wiring: Wiring | None = None,
    changes: Mapping[str, str] | None = None,
    faults: str = "",
    plant: Path = PLANT,
) -> Chain:
    """Make a plant's chain with a quick flush; `faults` begin to count an hour before now."""
    return Chain(
        directory,
        start_ms=_now_ms() - HOUR_MS,
        store=store,
        faults=faults,
        changes={'flush = "10s"': f'flush = "{flush}"', **(changes or {})},
        wiring=wiring,
        plant=plant,
    )
