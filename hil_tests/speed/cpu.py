"""What a transaction costs the processor: our engine, pymodbus's client, libmodbus, on one line.

Owns the clients' loops and the ratios. All ask the same 24 registers of the same line, one behind
the other in one run, so the machine's load is about the same for all; the line is played by another
process. libmodbus runs in a process too: what its start costs is measured and taken off.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient

from edgeagg_agent.bus import LineSettings, ReadRequest
from edgeagg_agent.bus.port import line_loop
from edgeagg_agent.bus.serial import SerialBus
from edgeagg_agent.protocol.modbus import RtuQuestion
from hil_tests.speed.line import Wiring, content, playing

UNIT, FUNCTION, START, COUNT = 1, 4, 52, 24
FOREIGN = Path(__file__).parents[1] / "foreign"
WARM_UP = 20
TURNAROUND_MS = 5


class NotHereError(Exception):
    """A client that this machine has not got."""


def measure_all(transactions: int, baud: int) -> dict[str, Any]:
    """Return microseconds of CPU per transaction by client, and ratios to ours."""
    wiring = Wiring(baud, TURNAROUND_MS)
    clients: dict[str, Callable[[Path, int, int], float]] = {
        "edgeagg": _ours,
        "pymodbus": _pymodbus,
        "libmodbus": _libmodbus,
    }
    costs_us: dict[str, float | None] = {}
    for name, client in clients.items():
        with tempfile.TemporaryDirectory() as folder, playing(Path(folder), wiring) as line:
            try:
                costs_us[name] = client(line.link, baud, transactions)
            except NotHereError:
                costs_us[name] = None
    ours_us = costs_us["edgeagg"] or float("nan")
    return {
        "baud": baud,
        "transactions": transactions,
        "cpu_us": costs_us,
        "ratio_to_ours": {n: us and us / ours_us for n, us in costs_us.items()},
    }


def table(results: dict[str, Any]) -> list[str]:
    """Return the results in lines."""
    what = f"{results['transactions']} reads of {COUNT} registers, {results['baud']} Bd"
    lines = [f"CPU per transaction, {what}"]
    for name, us in results["cpu_us"].items():
        if us is None:
            lines.append(f"{name:10s}  not here")
        else:
            lines.append(f"{name:10s}  {us:7.0f} us  {results['ratio_to_ours'][name]:5.2f} x ours")
    return lines


def _ours(link: Path, baud: int, transactions: int) -> float:
    async def run() -> float:
        bus = SerialBus(name="line", port=str(link))
        question = RtuQuestion(ReadRequest(UNIT, FUNCTION, START, COUNT))
        settings = LineSettings(baud, "8N1")

        async def ask() -> bytes:
            return (await bus.exchange(question, settings)).payload

        try:
            return await _cost_us(ask, transactions)
        finally:
            await bus.close()

    with asyncio.Runner(loop_factory=line_loop) as runner:
        return runner.run(run())


def _pymodbus(link: Path, baud: int, transactions: int) -> float:
    async def run() -> float:
        client = AsyncModbusSerialClient(
            str(link), framer=FramerType.RTU, baudrate=baud, timeout=1, retries=0
        )
        if not await client.connect():
            raise RuntimeError("pymodbus does not connect")

        async def ask() -> bytes:
            reply = await client.read_input_registers(START, count=COUNT, device_id=UNIT)
            return b"".join(word.to_bytes(2, "big") for word in reply.registers)

        try:
            return await _cost_us(ask, transactions)
        finally:
            client.close()

    return asyncio.run(run())


async def _cost_us(ask: Callable[[], Awaitable[bytes]], transactions: int) -> float:
    """Return the CPU time of one `ask`, all of this process's threads counted."""
    expected = content(UNIT, START, COUNT)
    for _ in range(WARM_UP):
        await ask()
    begun_s = time.process_time()
    for _ in range(transactions):
        if await ask() != expected:
            raise RuntimeError("a wrong value")
    return (time.process_time() - begun_s) / transactions * 1e6


def _libmodbus(link: Path, baud: int, transactions: int) -> float:
    compiler = shutil.which("cc")
    if compiler is None or not Path("/usr/include/modbus/modbus.h").exists():
        raise NotHereError
    with tempfile.TemporaryDirectory() as folder:
        reader = Path(folder) / "reader"
        source = FOREIGN / "reader.c"
        words = [compiler, "-O2", "-I/usr/include/modbus", "-o", str(reader), str(source)]
        words.append("-lmodbus")
        subprocess.run(words, check=True)
        few_s = _child_s(reader, link, baud, WARM_UP)
        many_s = _child_s(reader, link, baud, WARM_UP + transactions)
    return max(0.0, many_s - few_s) / transactions * 1e6


def _child_s(reader: Path, link: Path, baud: int, reads: int) -> float:
    words = [str(reader), "rtu", str(link), str(baud), str(UNIT)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [*words, *[f"{FUNCTION}:{START}:{COUNT}"] * reads], check=True, capture_output=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    data = content(UNIT, START, COUNT)
    expected = " ".join(str(data[n] << 8 | data[n + 1]) for n in range(0, len(data), 2))
    if done.stdout.decode().splitlines() != [expected] * reads:
        raise RuntimeError("libmodbus read a wrong value")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
