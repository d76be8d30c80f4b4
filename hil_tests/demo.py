"""make demo: a whole site on this machine, live, and at the end the proof that nothing is missing.

Whatever process of the chain dies while it runs is started again, as an init system would. The exit
status is 0 only when the identities of the summary hold.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edgeagg.receiver.audit import Audit, audit
from edgeagg.receiver.store import open_store
from hil_tests.chain import GATEWAY, Chain
from hil_tests.services.process import ServiceError

DIRECTORY = Path(".demo")
LOSS = Fraction(15, 1000)
"""The loss that hil_tests/plant/sim.toml plays below its incomer."""
OFF_MAX_KWH = 0.03
"""The coarsest register of the plant counts 0.01 kWh, and is read every 5 s at up to 30 kW."""
_REFRESH_S = 0.5
_AUDIT_EVERY_S = 2.0
_PROMPT_S = 8.0

_EXAMPLE_QUERY = (
    "SELECT meter, point, start, energy, unit FROM energy"
    " WHERE window_s = 10 AND energy IS NOT NULL ORDER BY start DESC LIMIT 10"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="make demo",
        description="Plays a plant with eight meters and follows every reading into a database.",
        epilog="make demo SECONDS=60 ends by itself; Ctrl-C ends it at any time.",
    )
    parser.add_argument("--seconds", type=int, default=0, help="end after this long; 0: Ctrl-C")
    options = parser.parse_args(arguments)
    console = Console()
    shutil.rmtree(DIRECTORY, ignore_errors=True)
    chain = Chain(DIRECTORY.absolute(), start_ms=time.time_ns() // 1_000_000)
    stopping = _Stop()
    try:
        console.print("starting the meters, the broker, the receiver and the agent …")
        chain.start()
        events = _watch(chain, console, stopping, options.seconds)
        console.print("stopping: the agent delivers what is left …")
        found = _finish(chain)
    except ServiceError as error:
        console.print(f"make demo: {error}", style="red", markup=False)
        return 1
    finally:
        chain.kill()
    return _summarise(console, chain, found, events)


class _Stop:
    """Turns SIGINT and SIGTERM into a flag, so that the demo always ends with its summary."""

    def __init__(self) -> None:
        self.is_set = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._set)

    def _set(self, _number: int, _frame: FrameType | None) -> None:
        self.is_set = True


def _watch(chain: Chain, console: Console, stopping: _Stop, seconds: int) -> list[str]:
    begun_s = time.monotonic()
    looked_s = 0.0
    events: list[str] = []
    found: Audit | None = None
    with Live(console=console, refresh_per_second=4, transient=console.is_terminal) as live:
        while not stopping.is_set:
            elapsed_s = time.monotonic() - begun_s
            if seconds and elapsed_s >= seconds:
                break
            events += [
                f"{elapsed_s:5.0f} s  {name} had died and was started again"
                for name in chain.revive()
            ]
            if time.monotonic() - looked_s > _AUDIT_EVERY_S and chain.database.exists():
                found = asyncio.run(_audit(chain))
                looked_s = time.monotonic()
            if console.is_terminal:
                live.update(
                    _screen(chain.status(), chain.pids(), found, elapsed_s, seconds, events)
                )
            time.sleep(_REFRESH_S)
    return events


def _finish(chain: Chain) -> Audit:
    """Stop the agent in order and wait until the platform has what it had."""
    chain.revive()
    deadline_s = time.monotonic() + _PROMPT_S
    while time.monotonic() < deadline_s and not _is_connected(chain.status()):
        time.sleep(0.1)
    chain.stop_agent()
    return asyncio.run(_audit(chain))


def _is_connected(status: dict[str, Any] | None) -> bool:
    return status is not None and all(to["connected"] for to in status["destinations"])


async def _audit(chain: Chain) -> Audit:
    store = await open_store(chain.store)
    try:
        return await audit(store, GATEWAY)
    finally:
        await store.close()


def _screen(
    status: dict[str, Any] | None,
    pids: dict[str, int],
    found: Audit | None,
    elapsed_s: float,
    seconds: int,
    events: list[str],
) -> Group:
    until = f" of {seconds} s" if seconds else " s (Ctrl-C ends)"
    head = Text(f"edgeagg demo  {elapsed_s:.0f}{until}   ", style="bold")
    head.append("  ".join(f"{name} {pid}" for name, pid in pids.items()), style="dim")
    parts: list[Text | Table] = [head]
    if status is not None:
        parts += [_buses(status), _numbers(status)]
    if found is not None and found.nodes:
        parts.append(_tree(found))
    parts += [Text(event, style="yellow") for event in events[-5:]]
    return Group(*parts)


def _buses(status: dict[str, Any]) -> Table:
    table = Table(
        "bus", "where", "busy", "planned", "reads", "no reply", "bad", "overrun", "meters"
    )
    for bus in status["buses"]:
        meters = Text()
        for meter in bus["meters"]:
            good = meter["quality"] == "good"
            meters.append(f"{meter['name']} ", style="green" if good else "red")
        table.add_row(
            bus["name"],
            Path(bus["where"]).name,
            f"{bus['busy_share']:.0%}",
            f"{bus['planned_share']:.0%}",
            str(bus["transactions"]),
            str(bus["no_reply"]),
            str(bus["bad_frame"]),
            str(bus["overrun_slots"]),
            meters,
        )
    return table


def _numbers(status: dict[str, Any]) -> Table:
    slots, batches, to = status["slots"], status["batches"], status["destinations"][0]
    each = batches["bytes"] / slots["values"] if slots["values"] else 0.0
    table = Table(
        *("values", "reasons", "missed", "windows", "cut", "receipted", "waiting", "resent"),
        "B/value",
    )
    table.add_row(
        str(slots["values"]),
        str(slots["reasons"]),
        str(slots["missed"]),
        str(status["windows"]),
        str(batches["head"]),
        str(to["receipted"]),
        str(to["waiting"]),
        str(to["resent"]),
        f"{each:.2f}",
    )
    return table


def _tree(found: Audit) -> Table:
    table = Table("meter", "tier", "net kWh", "meters below kWh", "gap kWh", "gap")
    for node in found.nodes:
        share = "" if node.gap_share is None else f"{node.gap_share:.1%}"
        known = bool(node.children)
        table.add_row(
            "  " * node.depth + node.meter,
            str(node.tier),
            _kwh(node.net_kwh),
            _kwh(node.children_kwh) if known else "",
            _kwh(node.gap_kwh) if known else "",
            share,
        )
    return table


def _kwh(energy: Any) -> str:  # noqa: ANN401 - a Fraction or nothing
    return "?" if energy is None else f"{float(energy):.3f}"


def _balance(found: Audit) -> tuple[str, bool]:
    """Level 1 must equal level 2 plus the loss that is played, to what its registers can show."""
    for node in found.nodes:
        if node.net_kwh is None or node.children_kwh is None or node.gap_kwh is None:
            continue
        if node.tier == 1:
            played_kwh = node.children_kwh * LOSS
            off_kwh = abs(float(node.gap_kwh - played_kwh))
            text = (
                f"{node.meter} {float(node.net_kwh):.3f} kWh = meters below"
                f" {float(node.children_kwh):.3f} + loss {float(played_kwh):.3f},"
                f" off by {off_kwh:.3f} (at most {OFF_MAX_KWH})"
            )
            return text, off_kwh <= OFF_MAX_KWH
    return "level 1 = level 2 + loss: too few readings to tell (run 20 s or more)", False


def _summarise(console: Console, chain: Chain, found: Audit, events: list[str]) -> int:
    status = chain.status() or {}
    head = status.get("batches", {}).get("head", -1)
    receipted = status.get("destinations", [{}])[0].get("receipted", -1)
    stored = sum(stream.batches for stream in found.streams)
    slots = (
        f"slots due {found.point_slots_due} = {found.values} values + {found.reasons} reasons"
        f" + {found.missed} declared missed + {found.unexplained} unexplained"
    )
    identities = [
        (slots, found.is_whole and found.values > 0),
        (
            f"batches cut {head} = receipted {receipted} = in the database {stored}",
            head == receipted == stored,
        ),
        _balance(found),
    ]
    console.rule("summary")
    for event in events:
        console.print(event, style="yellow", highlight=False)
    for text, holds in identities:
        mark = "[green]holds[/]" if holds else "[red]BROKEN[/]"
        console.print(f"{mark}  {text}", highlight=False, soft_wrap=True)
    if found.nodes:
        console.print(_tree(found))
    console.print(f"database  {chain.database}", highlight=False, soft_wrap=True)
    console.print(f"query     {_EXAMPLE_QUERY}", highlight=False, soft_wrap=True)
    console.print(
        f"audit     .venv/bin/edgeagg audit --store {chain.store}", highlight=False, soft_wrap=True
    )
    return 0 if all(holds for _, holds in identities) else 1


if __name__ == "__main__":
    sys.exit(main())
