"""A bad line for real: many gateways' uplinks over the kernel's own TCP, whose packets are lost.

`python -m hil_tests.badline --gateways 60 --minutes 24` is as many batches as one gateway cuts in a
day. The uplinks are the agent's, in a network of their own; broker and receiver stand at the other
end of `netspace`'s cable. The modelled line of `virtual.deliver` knows no congestion window and no
lost acknowledgements; this one does. Needs root, and half an hour.
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
import threading
import time
from collections.abc import Sequence
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
from edgeagg_agent.uplink import Uplink
from hil_tests.netspace import NO_NETWORK, PLATFORM_ADDRESS, Cable
from hil_tests.proxy import Proxy, Weather
from hil_tests.services.broker import start_broker
from hil_tests.services.process import LOOPBACK, free_port
from hil_tests.virtual.deliver import share

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

    def __str__(self) -> str:
        """Say it to a person."""
        return (
            f"{self.cut} batches cut, {self.missing} not there in the end; receipt after p50"
            f" {self.p50_s:.1f} s, p90 {self.p90_s:.1f} s, p99 {self.p99_s:.1f} s"
        )


class _Watched(Uplink):
    """Notes how long each batch was under way."""

    cut_s: dict[int, float]
    took_s: list[float]
    has_all: asyncio.Event

    async def _take(self, receipt: Receipt) -> None:
        await super()._take(receipt)
        for sequence in [one for one in self.cut_s if not self.sender.is_missing(one)]:
            self.took_s.append(time.monotonic() - self.cut_s.pop(sequence))
        if not self.cut_s:
            self.has_all.set()


def _payload(rng: random.Random, sequence: int) -> tuple[int, bytes]:
    core = _core.Aggregator([(1_000, [False] * _POINTS)], [])
    for row in range(_ROWS):
        due_ms = (sequence * _ROWS + row) * 1_000
        core.push_row(0, due_ms, due_ms, [rng.getrandbits(40) for _ in range(_POINTS)], [0] * 10)
    cut = core.cut(0)
    if cut is None:
        raise ValueError("nothing to cut")
    return cut.encode()


async def _gateway(number: int, directory: Path, port: int, flush_s: float, count: int) -> _Watched:
    """Cut `count` batches, one each `flush_s`, and wait until they are receipted."""
    name, rng = f"qp-{number}", random.Random(number)
    box = Outbox(directory, now_ms=time.time_ns() // 1_000_000, bytes_max=1 << 26)
    to = Destination(
        "p", PLATFORM_ADDRESS, port, tls=False, username="", password_file="", ca_file=""
    )
    clock = SystemClock()

    def foreign(origin: Origin) -> None:
        raise AssertionError(origin)

    uplink = _Watched(to, name, box, box.cursor("p"), clock, foreign)
    uplink.cut_s, uplink.took_s, uplink.has_all = {}, [], asyncio.Event()
    running = asyncio.create_task(uplink.run())
    await asyncio.sleep(flush_s * rng.random())
    for sequence in range(1, count + 2):
        codec, payload = (0, _CATALOGUE.to_bytes()) if sequence == 1 else _payload(rng, sequence)
        kind = BatchKind.CATALOGUE if sequence == 1 else BatchKind.DATA
        batch = Batch(name, box.epoch, sequence, kind, _CATALOGUE.hash, 1, codec, payload)
        await asyncio.to_thread(box.append, [batch.to_bytes()])
        if sequence > 1:
            uplink.cut_s[sequence] = time.monotonic()
        uplink.wake()
        await asyncio.sleep(flush_s if sequence <= count else 0)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_S):
            while uplink.cut_s:
                uplink.has_all.clear()
                await uplink.has_all.wait()
    running.cancel()
    await asyncio.wait([running])
    box.close()
    return uplink


async def _gateways(directory: Path, port: int, gateways: int, flush_s: float, count: int) -> None:
    """Run in the gateways' network; print what was seen."""
    done = await asyncio.gather(
        *(_gateway(n, directory / str(n), port, flush_s, count) for n in range(gateways))
    )
    took_s = [second for uplink in done for second in uplink.took_s]
    print(json.dumps([sum(len(uplink.cut_s) for uplink in done), took_s]))


def run(directory: Path, weather: Weather, gateways: int, *, flush_s: float, count: int) -> Endured:
    """Let every gateway cut `count` batches, one each `flush_s`, over a line with this weather."""
    port = free_port()
    broker = start_broker(directory, port)

    async def platform() -> None:
        store = await SqliteStore.open(str(directory / "platform.db"))
        await receive(Inbox(store, Admission.ANYBODY), Broker(LOOPBACK, port), None)

    try:
        broker.wait_ready()
        threading.Thread(target=asyncio.run, args=(platform(),), daemon=True).start()
        with contextlib.ExitStack() as stack:
            cable = stack.enter_context(Cable(directory).running())
            proxy = stack.enter_context(Proxy(port, listener=cable.listen()).running())
            cable.weather = weather
            arguments = [str(directory), str(proxy.port), str(gateways), str(flush_s)]
            inside = [sys.executable, "-m", "hil_tests.badline", "--inside", *arguments]
            said = subprocess.run(
                [*cable.gateway_command, *inside, str(count)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout
    finally:
        broker.kill()
    missing, took_s = json.loads(said)
    p50_s, p90_s, p99_s = (share(took_s, part) for part in (0.5, 0.9, 0.99))
    return Endured(missing + len(took_s), missing, p50_s, p90_s, p99_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 1 when a batch is missing, 2 where there can be no cable."""
    parser = argparse.ArgumentParser(prog="python -m hil_tests.badline", description=__doc__)
    parser.add_argument("--gateways", type=int, default=60, help="(%(default)s)")
    parser.add_argument("--minutes", type=int, default=24, help="a batch a minute (%(default)s)")
    parser.add_argument("--latency", type=float, default=2.0, help="s, each way (%(default)s)")
    parser.add_argument("--loss", type=float, default=0.3, help="of packets (%(default)s)")
    parser.add_argument("--inside", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.inside:
        directory, port, gateways, flush_s, count = options.inside
        numbers = int(port), int(gateways), float(flush_s), int(count)
        asyncio.run(_gateways(Path(directory), *numbers))
        return 0
    if NO_NETWORK:
        print(NO_NETWORK, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        weather = Weather(options.latency, options.loss)
        endured = run(Path(folder), weather, options.gateways, flush_s=60, count=options.minutes)
    print(f"{options.gateways} gateways, {options.latency:g} s each way,", end=" ")
    print(f"{100 * options.loss:g} % of packets lost, for {options.minutes} min: {endured}")
    return 0 if not endured.missing else 1


if __name__ == "__main__":
    sys.exit(main())
