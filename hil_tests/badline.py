"""A bad line for real: many gateways' uplinks over the kernel's own TCP, whose packets are lost.

`python -m hil_tests.badline --gateways 60 --minutes 24` is as many batches as one gateway cuts in a
day, over a line of 1 s each way and, at the same time, over one of 2 s. The uplinks are the
agent's, in a network of their own; broker and receiver stand at the other end of `netspace`'s
cable, in a network that is set as `deploy/broker` says. `--old-gateway` and `--settings` show what
older kernels come to. The modelled line of `virtual.deliver` knows no congestion window and no lost
acknowledgements; this one does. Needs root, and half an hour.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from edgeagg import _core
from edgeagg.batch import Batch, BatchKind, Origin, Receipt
from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo
from edgeagg.receiver.inbox import Inbox
from edgeagg.receiver.keys import Admission
from edgeagg.receiver.mqtt import Broker, receive
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg_agent.clock import SystemClock
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.site import Destination
from edgeagg_agent.tcp import TCP_RTO_MAX_MS, Option
from edgeagg_agent.uplink import Client, Uplink
from hil_tests.netspace import NO_NETWORK, PLATFORM_ADDRESS, Cable, settings_of
from hil_tests.proxy import Proxy, Weather
from hil_tests.services.broker import start_broker
from hil_tests.services.process import LOOPBACK, free_port
from hil_tests.virtual.deliver import share

SETTINGS = Path(__file__).parents[1] / "deploy" / "broker" / "60-edgeagg-line.conf"
"""What the host of a broker is told."""

_ROWS, _POINTS = 25, 10  # of random values: some 1,500 bytes
_GRACE_S = 300.0
_GROUP = Group(
    "incomer", 1_000, tuple(PointInfo(f"p{n}", "V", 0, Kind.GAUGE) for n in range(_POINTS))
)
_CATALOGUE = Catalogue("plant", (MeterInfo("incomer", "any", 1, "", ""),), (_GROUP,), ())


@dataclass(frozen=True, slots=True)
class Endured:
    """What came of all gateways."""

    cut: int
    missing: int
    p50_s: float
    p90_s: float
    p99_s: float
    connections: int
    unknown: tuple[str, ...]
    """Settings that this machine's kernel does not have."""

    def __str__(self) -> str:
        """Say it to a person."""
        without = f"; this kernel has no {', '.join(self.unknown)}" if self.unknown else ""
        return (
            f"{self.cut} batches cut, {self.missing} not there in the end; receipt after p50"
            f" {self.p50_s:.1f} s, p90 {self.p90_s:.1f} s, p99 {self.p99_s:.1f} s;"
            f" {self.connections} connections{without}"
        )


class _Watched(Uplink):
    """Notes how long each batch was under way, and how often it connected."""

    cut_s: dict[int, float]
    took_s: list[float]
    connections: int
    has_all: asyncio.Event

    async def _deliver(self, client: Client) -> None:
        self.connections += 1
        await super()._deliver(client)

    async def _take(self, receipt: Receipt) -> None:
        await super()._take(receipt)
        for sequence in [one for one in self.cut_s if not self.sender.is_missing(one)]:
            self.took_s.append(time.monotonic() - self.cut_s.pop(sequence))
        if not self.cut_s:
            self.has_all.set()


class _OnOldKernel(_Watched):
    """Stands on a Linux before 6.15."""

    def _tcp_options(self) -> tuple[Option, ...]:
        return tuple(option for option in super()._tcp_options() if option[1] != TCP_RTO_MAX_MS)


def _payload(rng: random.Random, sequence: int) -> tuple[int, bytes]:
    core = _core.Aggregator([(1_000, [False] * _POINTS)], [])
    for row in range(_ROWS):
        due_ms = (sequence * _ROWS + row) * 1_000
        core.push_row(0, due_ms, due_ms, [rng.getrandbits(40) for _ in range(_POINTS)], [0] * 10)
    cut = core.cut(0)
    if cut is None:
        raise ValueError("nothing to cut")
    return cut.encode()


async def _gateway(
    number: int, directory: Path, port: int, flush_s: float, count: int, made: type[_Watched]
) -> _Watched:
    """Cut `count` batches, one each `flush_s`, and wait until they are receipted."""
    name, rng = f"qp-{number}", random.Random(number)
    box = Outbox(directory, now_ms=time.time_ns() // 1_000_000, bytes_max=1 << 26)
    to = Destination(
        "p", PLATFORM_ADDRESS, port, tls=False, username="", password_file="", ca_file=""
    )
    clock = SystemClock()

    def foreign(origin: Origin) -> None:
        raise AssertionError(origin)

    uplink = made(to, name, box, box.cursor("p"), clock, foreign)
    uplink.cut_s, uplink.took_s, uplink.has_all = {}, [], asyncio.Event()
    uplink.connections = 0
    running = asyncio.create_task(uplink.run())
    await asyncio.sleep(flush_s * rng.random())
    for sequence in range(1, count + 2):
        if sequence == 2:  # what follows is to tell of the line, not of the first connection
            await uplink.has_all.wait()
            uplink.took_s.clear()
        codec, payload = (0, _CATALOGUE.to_bytes()) if sequence == 1 else _payload(rng, sequence)
        kind = BatchKind.CATALOGUE if sequence == 1 else BatchKind.DATA
        batch = Batch(name, box.epoch, sequence, kind, _CATALOGUE.hash, 1, codec, payload)
        await asyncio.to_thread(box.append, [batch.to_bytes()])
        uplink.cut_s[sequence] = time.monotonic()
        uplink.has_all.clear()
        uplink.wake()
        await asyncio.sleep(flush_s if 1 < sequence <= count else 0)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_S):
            while uplink.cut_s:
                uplink.has_all.clear()
                await uplink.has_all.wait()
    running.cancel()
    await asyncio.wait([running])
    box.close()
    return uplink


async def _gateways(
    directory: Path, port: int, gateways: int, flush_s: float, count: int, made: type[_Watched]
) -> None:
    """Run in the gateways' network; print what was seen."""
    # connecting takes a thread for as long as it lasts, and each of these has a gateway of its own
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * gateways))
    done = await asyncio.gather(
        *(_gateway(n, directory / str(n), port, flush_s, count, made) for n in range(gateways))
    )
    took_s = [second for uplink in done for second in uplink.took_s]
    missing = sum(len(uplink.cut_s) for uplink in done)
    print(json.dumps([missing, took_s, sum(uplink.connections for uplink in done)]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What is tried: how many gateways cut how many batches, one each `flush_s`, and where."""

    weather: Weather
    gateways: int
    count: int
    flush_s: float = 60
    settings: Path = SETTINGS
    is_old_gateway: bool = False


async def _with_platform(database: Path, port: int, command: Sequence[str]) -> str:
    """Receive from the broker at `port` while a command runs; return what that prints."""
    store = await SqliteStore.open(str(database))
    inbox = Inbox(store, Admission.ANYBODY)
    receiving = asyncio.create_task(receive(inbox, Broker(LOOPBACK, port), None))
    try:
        done = await asyncio.to_thread(
            subprocess.run, command, check=True, stdout=subprocess.PIPE, text=True
        )
    finally:
        receiving.cancel()
        await asyncio.wait([receiving])
        await store.close()
    return str(done.stdout)


def run(directory: Path, trial: Trial) -> Endured:
    """Have it happen, in its own time."""
    port = free_port()
    broker = start_broker(directory, port)

    try:
        broker.wait_ready()
        with contextlib.ExitStack() as stack:
            cable = stack.enter_context(Cable(directory).running())
            unknown = cable.set_platform(settings_of(trial.settings))
            proxy = stack.enter_context(Proxy(port, listener=cable.listen()).running())
            cable.weather = trial.weather
            inside = [sys.executable, "-m", "hil_tests.badline", "--inside"]
            numbers = (proxy.port, trial.gateways, trial.flush_s, trial.count)
            inside += [str(directory), *map(str, numbers)]
            inside += ["--old-gateway"] if trial.is_old_gateway else []
            command = [*cable.gateway_command, *inside]
            said = asyncio.run(_with_platform(directory / "platform.db", port, command))
    finally:
        broker.kill()
    missing, took_s, connections = json.loads(said)
    p50_s, p90_s, p99_s = (share(took_s, part) for part in (0.5, 0.9, 0.99))
    cut = missing + len(took_s)
    return Endured(cut, missing, p50_s, p90_s, p99_s, connections, tuple(unknown))


def _report(trial: Trial) -> Endured:
    with tempfile.TemporaryDirectory() as folder:
        endured = run(Path(folder), trial)
    weather = trial.weather
    of = "older gateways" if trial.is_old_gateway else "gateways"
    where = f"{weather.latency_s:g} s each way, {100 * weather.loss:g} % of packets lost"
    print(f"{trial.gateways} {of}, {where}, for {trial.count} min: {endured}", flush=True)
    return endured


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 1 when a batch is missing, 2 where there can be no cable."""
    parser = argparse.ArgumentParser(prog="python -m hil_tests.badline", description=__doc__)
    add = parser.add_argument
    add("--gateways", type=int, default=60, help="(%(default)s)")
    add("--minutes", type=int, default=24, help="a batch a minute (%(default)s)")
    add("--latency", type=float, nargs="+", default=[1.0, 2.0], help="s, each way (%(default)s)")
    add("--loss", type=float, default=0.3, help="of packets (%(default)s)")
    add("--settings", type=Path, default=SETTINGS, help="of the platform's network (deploy's)")
    add("--old-gateway", action="store_true", help="a gateway's kernel before Linux 6.15")
    add("--inside", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        directory, port, gateways, flush_s, count = options.inside
        numbers = int(port), int(gateways), float(flush_s), int(count)
        made = _OnOldKernel if options.old_gateway else _Watched
        asyncio.run(_gateways(Path(directory), *numbers, made))
        return 0
    if NO_NETWORK:
        print(NO_NETWORK, file=sys.stderr)
        return 2
    trials = [
        Trial(
            weather=Weather(latency_s, options.loss),
            gateways=options.gateways,
            count=options.minutes,
            settings=options.settings,
            is_old_gateway=options.old_gateway,
        )
        for latency_s in options.latency
    ]
    with ThreadPoolExecutor(len(trials)) as threads:
        endured = list(threads.map(_report, trials))
    return 1 if any(one.missing for one in endured) else 0


if __name__ == "__main__":
    sys.exit(main())
