"""The same reads with programs that no part of us wrote, at either end of the wire.

libmodbus serves the agent's buses, and reads the simulator's meters; so do others where installed.
The C programs are in hil_tests/foreign. Where a program is missing, the test skips and says which.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import struct
import subprocess
import tty
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from edgeagg.errors import LinkError, RefusedError
from edgeagg_agent.bus import Answer, Bus, LineSettings, ReadRequest
from edgeagg_agent.bus.serial import SerialBus
from edgeagg_agent.bus.tcp import TcpBus
from edgeagg_agent.clock import SystemClock
from edgeagg_agent.profile import Point, load
from edgeagg_agent.protocol.modbus import RtuQuestion
from edgeagg_agent.reader import MeterReader
from hil_tests.bench import Bench, BenchMeter
from hil_tests.services.process import LOOPBACK, tied_to_parent
from hil_tests.tap import Exchange
from hil_tests.transcript import Transcript, findings_of, identify, meter_of

FOREIGN = Path(__file__).parent / "foreign"
TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
BAUD = 115200
UNIT = 7
REGISTERS = 400

Image = Mapping[tuple[int, int], int]
"""Registers by (function, address)."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The compiled programs of hil_tests/foreign."""

    server: Path
    reader: Path


@pytest.fixture(scope="session")
def libmodbus(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    """Compile the C programs against the libmodbus of this machine."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here (Debian: apt install gcc libc6-dev)")
    if not Path("/usr/include/modbus/modbus.h").exists():
        pytest.skip("no libmodbus here (Debian: apt install libmodbus-dev)")
    folder = tmp_path_factory.mktemp("foreign")
    for name in ("server", "reader"):
        subprocess.run(
            [
                *(compiler, "-std=c11", "-O1", "-Wall", "-I/usr/include/modbus"),
                *("-o", folder / name, FOREIGN / f"{name}.c", "-lmodbus"),
            ],
            check=True,
        )
    return Programs(folder / "server", folder / "reader")


@contextlib.asynccontextmanager
async def serving(program: Path, *words: str, image: Image) -> AsyncIterator[None]:
    """Run the libmodbus server while the block lasts."""
    lines = "".join(f"{place[0]} {place[1]} {value}\n" for place, value in image.items())
    process = await asyncio.create_subprocess_exec(
        *tied_to_parent([str(program), *words]),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(lines.encode())
        process.stdin.close()
        async with asyncio.timeout(10):
            assert await process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        await process.communicate()


@contextlib.contextmanager
def pty_pair() -> Iterator[tuple[str, str]]:
    """Join two ptys back to back, as a cable between two ports; yield their names.

    What the first sends is overheard: no request but a read may ever be among it.
    """
    functions: set[int] = set()

    def forward() -> None:
        request = os.read(left, 4096)
        functions.add(request[1])
        os.write(right, request)

    (left, left_end), (right, right_end) = os.openpty(), os.openpty()
    loop = asyncio.get_running_loop()
    for end in (left_end, right_end):
        tty.setraw(end)
    loop.add_reader(left, forward)
    loop.add_reader(right, lambda: os.write(left, os.read(right, 4096)))
    try:
        yield os.ttyname(left_end), os.ttyname(right_end)
    finally:
        for master in (left, right):
            loop.remove_reader(master)
        for end in (left, left_end, right, right_end):
            os.close(end)
    assert functions <= {3, 4}


@contextlib.asynccontextmanager
async def bus_to_libmodbus(
    kind: str, programs: Programs, port: int, *, unit: int, image: Image
) -> AsyncIterator[Bus]:
    """Give the agent's bus to a libmodbus server, over TCP or over two ptys."""
    bus: Bus
    if kind == "tcp":
        bus = TcpBus(name="foreign", host=LOOPBACK, port=port)
        async with serving(programs.server, "tcp", str(port), image=image):
            yield bus
            await bus.close()
        return
    with pty_pair() as (ours, theirs):
        bus = SerialBus(name="foreign", port=ours)
        async with serving(programs.server, "rtu", theirs, str(BAUD), str(unit), image=image):
            yield bus
            await bus.close()


def noise_image() -> dict[tuple[int, int], int]:
    rng = Random(20261122)
    places = [(function, place) for function in (3, 4) for place in range(REGISTERS)]
    return {place: rng.getrandbits(16) for place in places}


async def _ask(bus: Bus, request: ReadRequest) -> Answer:
    return await bus.exchange(RtuQuestion(request), LineSettings(BAUD, "8N1"))


def bytes_of(image: Image, request: ReadRequest) -> bytes:
    words = [image[request.function, request.start + n] for n in range(request.count)]
    return struct.pack(f">{len(words)}H", *words)


def recorded_image(transcript: Transcript) -> dict[tuple[int, int], int]:
    """Return the registers as they stood when a transcript was recorded."""
    image = {}
    for exchanges in transcript.sections.values():
        for exchange in exchanges:
            image.update(registers_of(exchange))
    return image


def registers_of(exchange: Exchange) -> dict[tuple[int, int], int]:
    function = exchange.request[1]
    start = int.from_bytes(exchange.request[2:4], "big")
    data = exchange.reply[3:-2]
    return {
        (function, start + place // 2): int.from_bytes(data[place : place + 2], "big")
        for place in range(0, len(data), 2)
    }


@pytest.mark.parametrize("kind", ["tcp", "rtu"])
async def test_the_agents_bus_reads_from_libmodbus_what_stands_there(
    libmodbus: Programs, free_port: int, kind: str
) -> None:
    image = noise_image()
    async with bus_to_libmodbus(kind, libmodbus, free_port, unit=UNIT, image=image) as bus:
        for function in (3, 4):
            for start, count in ((0, 1), (0, 125), (17, 60), (REGISTERS - 2, 2), (1, 124)):
                request = ReadRequest(UNIT, function, start, count)
                assert (await _ask(bus, request)).payload == bytes_of(image, request)
    assert bus.stats.transactions == 10
    assert bus.stats.bad_frame == bus.stats.no_reply == bus.stats.noise_bytes == 0


@pytest.mark.parametrize("kind", ["tcp", "rtu"])
async def test_a_refusal_by_libmodbus_is_a_refusal_and_the_next_read_works(
    libmodbus: Programs, free_port: int, kind: str
) -> None:
    image = noise_image()
    async with bus_to_libmodbus(kind, libmodbus, free_port, unit=UNIT, image=image) as bus:
        with pytest.raises(RefusedError, match="illegal data address") as caught:
            await _ask(bus, ReadRequest(UNIT, 3, REGISTERS - 1, 2))
        assert caught.value.code == 2
        request = ReadRequest(UNIT, 3, 0, 10)
        assert (await _ask(bus, request)).payload == bytes_of(image, request)


async def test_libmodbus_is_read_again_after_a_request_to_a_unit_that_is_not_there(
    libmodbus: Programs, free_port: int
) -> None:
    image = noise_image()
    request = ReadRequest(UNIT, 4, 0, 10)
    async with bus_to_libmodbus("rtu", libmodbus, free_port, unit=UNIT, image=image) as bus:
        with pytest.raises(LinkError, match="no reply"):
            await _ask(bus, ReadRequest(UNIT + 1, 3, 0, 10))
        # libmodbus takes the next request on the line for the other unit's reply and drops it
        with contextlib.suppress(LinkError):
            await _ask(bus, request)
        assert (await _ask(bus, request)).payload == bytes_of(image, request)


@pytest.mark.parametrize("kind", ["tcp", "rtu"])
@pytest.mark.parametrize("file", TRANSCRIPTS, ids=lambda file: file.stem)
async def test_a_recorded_meter_served_by_libmodbus_has_the_readings_of_its_transcript(
    libmodbus: Programs, free_port: int, file: Path, kind: str
) -> None:
    text = await asyncio.to_thread(file.read_text, "utf-8")
    transcript = Transcript.from_text(text, str(file))
    meter = meter_of(transcript, load(transcript.profile, ()))
    image = recorded_image(transcript)
    async with bus_to_libmodbus(
        kind, libmodbus, free_port, unit=meter.address.unit, image=image
    ) as bus:
        is_model = await identify(meter, bus)
        (scan,) = await MeterReader(meter, bus, SystemClock()).scan()
    assert findings_of(meter, scan, is_model=is_model) == transcript.findings


async def output_of(*command: str) -> str:
    """Run a program beside the bench, whose meters answer meanwhile; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(20):
        output, _ = await process.communicate()
    text = output.decode()
    assert process.returncode == 0, text
    return text


@pytest.mark.parametrize("name", ["incomer", "workshop", "lighting", "pv"])
async def test_libmodbus_reads_from_a_simulated_meter_what_the_agent_reads(
    libmodbus: Programs, bench: Bench, name: str
) -> None:
    bench.hold_time()
    meter = bench.meters[name]
    config, unit = meter.bus, meter.meter.address.unit
    blocks = (*meter.ratio_blocks, *meter.blocks)
    ours = [await bench.read(meter, b.function, b.start, b.count) for b in blocks]
    await bench.bus(meter).close()
    where = ["tcp", str(config.tcp_port)] if config.host else ["rtu", config.port, str(config.baud)]
    reads = [f"{b.function}:{b.start}:{b.count}" for b in blocks]
    text = await output_of(str(libmodbus.reader), *where, str(unit), *reads)
    theirs = [[int(word) for word in line.split()] for line in text.splitlines()]
    assert theirs == ours
    assert any(map(any, ours)), "registers of zeros would agree with anything"


async def test_libmodbus_is_refused_by_a_simulated_meter_beyond_its_registers(
    libmodbus: Programs, bench: Bench
) -> None:
    bench.need_simulator("a meter's last register must be known")
    config = bench.meters["incomer"].bus
    text = await output_of(
        str(libmodbus.reader), "rtu", config.port, str(config.baud), "1", "4:60000:2", "4:0:2"
    )
    refusal, reading = text.splitlines()
    assert refusal == "Illegal data address"
    assert len(reading.split()) == 2


def mbpoll_command(meter: BenchMeter, function: int, register: int) -> list[str]:
    """Return the command that reads one float once, with PDU addresses and high words first."""
    program = shutil.which("mbpoll")
    if program is None:
        pytest.skip("no mbpoll here (Debian: apt install mbpoll)")
    config = meter.bus
    if config.host:
        line, where = ["-m", "tcp", "-p", str(config.tcp_port)], config.host
    else:
        line, where = ["-m", "rtu", "-b", str(config.baud), "-P", "none"], config.port
    kind = f"{'4' if function == 3 else '3'}:float"
    asked = ["-a", str(meter.meter.address.unit), "-0", "-r", str(register), "-c", "1", "-t", kind]
    return [program, *line, *asked, "-B", "-1", "-o", "2", where]


@pytest.mark.parametrize("name", ["incomer", "pv"])
async def test_mbpoll_reads_from_a_simulated_meter_what_the_agent_reads(
    bench: Bench, name: str
) -> None:
    bench.hold_time()
    meter = bench.meters[name]
    point = next(p for p in meter.meter.points if isinstance(p, Point) and p.name == "voltage_l1")
    command = mbpoll_command(meter, point.function, point.register)
    (scan,) = await bench.reader(meter).scan()
    mantissa = scan.decode()[0][meter.meter.points.index(point)]
    assert mantissa is not None
    await bench.bus(meter).close()
    found = re.search(rf"\[{point.register}\]:\s+([0-9.]+)", await output_of(*command))
    assert found is not None
    assert round(float(found[1]), 1) == pytest.approx(mantissa / 10, abs=0.01)
    assert float(found[1]) > 200


async def test_the_agents_bus_reads_from_pymodbustcp_what_stands_there(free_port: int) -> None:
    server = pytest.importorskip(
        "pyModbusTCP.server", reason="pyModbusTCP is not installed (PyPI, MIT)"
    )
    image = noise_image()
    bank = server.DataBank(
        h_regs_size=REGISTERS, i_regs_size=REGISTERS, coils_size=1, d_inputs_size=1
    )
    bank.set_holding_registers(0, [image[3, n] for n in range(REGISTERS)])
    bank.set_input_registers(0, [image[4, n] for n in range(REGISTERS)])
    foreign = server.ModbusServer(LOOPBACK, free_port, no_block=True, data_bank=bank)
    foreign.start()
    bus = TcpBus(name="foreign", host=LOOPBACK, port=free_port)
    try:
        for function in (3, 4):
            for start, count in ((0, 1), (0, 125), (17, 60), (REGISTERS - 2, 2)):
                request = ReadRequest(UNIT, function, start, count)
                assert (await _ask(bus, request)).payload == bytes_of(image, request)
        with pytest.raises(RefusedError, match="illegal data address"):
            await _ask(bus, ReadRequest(UNIT, 3, REGISTERS - 1, 2))
    finally:
        await bus.close()
        await asyncio.to_thread(foreign.stop)
