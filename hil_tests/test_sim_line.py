"""The bench's line keeps wire time, and sees what a master does wrong.

Times are checked in the line's own log; the wall clock only bounds them from below, and from above
with some milliseconds for the scheduler, best of three.
"""

from __future__ import annotations

import asyncio
import os
import tty
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING

import pytest
from pymodbus.framer.rtu import FramerRTU
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadInputRegistersRequest

from hil_tests.sim.errors import SimError
from hil_tests.sim.line import Direction, Line
from hil_tests.sim.pace import Pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

READ = FramerRTU(DecodePDU(is_server=False)).buildFrame(
    ReadInputRegistersRequest(address=0, count=10, dev_id=1)
)
REPLY = bytes(range(25))  # 10 registers: 3 + 20 + 2 bytes; the line does not look inside
WRITE = (
    b"\x01"  # unit
    b"\x06"  # write single register
    b"\x00\x05"  # register
    b"\x00\x2a"  # value
    b"\x18\x14"  # CRC
)


async def reply_of_ten_registers(_request: bytes) -> bytes:
    return REPLY


async def no_reply(_request: bytes) -> bytes:
    return b""


def make_line(
    tmp_path: Path,
    answer: Callable[[bytes], Awaitable[bytes]] = reply_of_ten_registers,
    *,
    baud: int = 19200,
    turnaround_ms: tuple[float, float] = (5, 5),
    seed: int = 1,
) -> Line:
    return Line(
        "bus1",
        tmp_path / "bus1",
        baud=baud,
        format="8E1",
        turnaround_ms=turnaround_ms,
        rng=Random(seed),
        answer=answer,
    )


class Master:
    """The other end: writes a frame at once and notes when bytes came."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        self._loop = asyncio.get_running_loop()
        self.pieces: list[tuple[float, bytes]] = []

    def write(self, data: bytes) -> float:
        written_s = self._loop.time()
        os.write(self._fd, data)
        return written_s

    async def read(self, count: int, *, within_s: float = 0.8) -> bytes:
        self.pieces = []
        done = self._loop.create_future()

        def take() -> None:
            self.pieces.append((self._loop.time(), os.read(self._fd, 4096)))
            if sum(len(piece) for _, piece in self.pieces) >= count and not done.done():
                done.set_result(None)

        self._loop.add_reader(self._fd, take)
        try:
            async with asyncio.timeout(within_s):
                await done
        finally:
            self._loop.remove_reader(self._fd)
        return b"".join(piece for _, piece in self.pieces)

    def close(self) -> None:
        os.close(self._fd)


@asynccontextmanager
async def serving(line: Line) -> AsyncIterator[Master]:
    with line:
        task = asyncio.create_task(line.serve())
        master = Master(line.link)
        try:
            yield master
        finally:
            master.close()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def heard(line: Line, count: int) -> None:
    """Wait until the line has logged `count` frames."""
    async with asyncio.timeout(0.8):
        while len(line.log) < count:  # noqa: ASYNC110 - the log is a plain record, it wakes nobody
            await asyncio.sleep(0.001)


async def test_a_read_takes_the_wire_time_of_its_frames_and_of_the_turnaround(
    tmp_path: Path,
) -> None:
    char_ms = 11 / 19200 * 1000
    expected_ms = 8 * char_ms + 3.5 * char_ms + 20 + 25 * char_ms
    line = make_line(tmp_path, turnaround_ms=(20, 20))
    measured_ms = []
    async with serving(line) as master:
        for _ in range(3):
            written_s = master.write(READ)
            assert await master.read(25) == REPLY
            measured_ms.append((master.pieces[-1][0] - written_s) * 1000)
            request, reply = list(line.log)[-2:]
            assert (request.direction, request.data) == (Direction.REQUEST, READ)
            assert (reply.direction, reply.data) == (Direction.REPLY, REPLY)
            wire_ms = (reply.end_us - request.start_us) / 1000
            assert wire_ms == pytest.approx(expected_ms, rel=0.01)
            await asyncio.sleep(line.pace.silence_s)
    assert min(measured_ms) >= expected_ms * 0.99
    assert min(measured_ms) <= expected_ms * 1.01 + 4


async def test_no_byte_arrives_before_its_wire_time_and_few_arrive_together(tmp_path: Path) -> None:
    line = make_line(tmp_path, baud=2400)
    async with serving(line) as master:
        master.write(READ)
        await master.read(25)
        pieces, reply = master.pieces, line.log[-1]
    came = 0
    for at_s, piece in pieces:
        came += len(piece)
        due_us = reply.start_us + came * 11 / 2400 * 1e6
        assert at_s * 1e6 >= due_us - line._port.taken_late_s * 1e6 - 1
    assert len(pieces) >= 3


async def test_busy_time_is_request_silence_turnaround_and_reply(tmp_path: Path) -> None:
    line = make_line(tmp_path)
    async with serving(line) as master:
        master.write(READ)
        await master.read(25)
    request, reply = line.log
    assert reply.start_us - request.end_us >= line.pace.silence_s * 1e6 + 5000 - 2
    assert line.busy_us == pytest.approx(reply.end_us - request.start_us, abs=2)


async def test_an_unanswered_request_occupies_its_own_time_only(tmp_path: Path) -> None:
    line = make_line(tmp_path, no_reply)
    async with serving(line) as master:
        master.write(READ)
        await heard(line, 1)
    assert line.busy_us == pytest.approx(8 * 11 / 19200 * 1e6, abs=2)


async def test_a_request_within_t35_of_the_frame_before_is_counted(tmp_path: Path) -> None:
    line = make_line(tmp_path, baud=1200, turnaround_ms=(0, 0))
    async with serving(line) as master:
        master.write(READ)
        await master.read(25)
        master.write(READ)
        await heard(line, 3)
    assert line.gap_violations == 1


async def test_a_request_behind_t35_is_no_violation(tmp_path: Path) -> None:
    line = make_line(tmp_path)
    async with serving(line) as master:
        for _ in range(3):
            master.write(READ)
            await master.read(25)
            await asyncio.sleep(line.pace.silence_s)
    assert line.gap_violations == 0


async def test_two_writes_without_silence_between_them_are_one_frame(tmp_path: Path) -> None:
    line = make_line(tmp_path, no_reply, baud=1200)
    async with serving(line) as master:
        master.write(READ[:3])
        await asyncio.sleep(0.005)  # the three bytes take 27 ms of wire time, T3.5 is 32 ms
        master.write(READ[3:])
        await heard(line, 1)
    assert [frame.data for frame in line.log] == [READ]
    assert line.log[0].end_us - line.log[0].start_us == pytest.approx(8 * 11 / 1200 * 1e6, rel=0.02)


async def test_a_function_that_is_no_read_is_remembered(tmp_path: Path) -> None:
    line = make_line(tmp_path, no_reply)
    async with serving(line) as master:
        master.write(READ)
        await heard(line, 1)
        await asyncio.sleep(line.pace.silence_s)
        master.write(WRITE)
        await heard(line, 2)
    assert line.writes_seen == [WRITE]


async def test_a_master_that_speaks_into_a_reply_destroys_it_and_is_not_heard(
    tmp_path: Path,
) -> None:
    asked = []

    async def answer(request: bytes) -> bytes:
        asked.append(request)
        return REPLY

    line = make_line(tmp_path, answer, baud=2400)
    async with serving(line) as master:
        master.write(READ)
        await master.read(8)
        master.write(WRITE)
        await heard(line, 2)
        assert (line.collisions, len(asked)) == (1, 1)
        assert sum(len(piece) for _, piece in master.pieces) < 25
        await asyncio.sleep(line.pace.silence_s)
        master.write(READ)
        assert (await master.read(25))[-25:] == REPLY
    assert len(asked) == 2


async def test_the_line_outlives_a_master_that_closes_its_port(tmp_path: Path) -> None:
    line = make_line(tmp_path)
    async with serving(line) as master:
        master.write(READ)
        await master.read(25)
        await asyncio.sleep(line.pace.silence_s)
        master.close()
        master._fd = os.open(line.link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        master.write(READ)
        assert await master.read(25) == REPLY


async def test_the_tty_passes_every_byte_and_echoes_none(tmp_path: Path) -> None:
    every = bytes(range(256))

    async def answer(request: bytes) -> bytes:
        return request[::-1]

    line = make_line(tmp_path, answer, baud=115200, turnaround_ms=(0, 0))
    async with serving(line) as master:
        master.write(every)
        assert await master.read(256) == every[::-1]


async def test_the_turnaround_is_drawn_from_the_seed(tmp_path: Path) -> None:
    def drawn_us(line: Line) -> int:
        request, reply = line.log
        return reply.start_us - request.end_us - round(line.pace.silence_s * 1e6)

    drawn = []
    for seed in (1, 1, 2):
        line = make_line(tmp_path, turnaround_ms=(20, 60), seed=seed)
        async with serving(line) as master:
            master.write(READ)
            await master.read(25)
        drawn.append(drawn_us(line))
    assert all(20_000 <= each_us <= 60_001 for each_us in drawn)
    assert drawn[0] == pytest.approx(drawn[1], abs=2)
    assert abs(drawn[0] - drawn[2]) > 1000


def test_the_link_of_a_killed_run_is_replaced_and_ours_is_removed(tmp_path: Path) -> None:
    (tmp_path / "bus1").symlink_to("/dev/pts/gone")
    with make_line(tmp_path) as line:
        fd = os.open(line.link, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(fd)  # fails on anything that is no terminal
        os.close(fd)
    assert not (tmp_path / "bus1").is_symlink()


def test_a_file_where_the_link_should_be_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "bus1").write_text("precious")
    with pytest.raises(SimError, match="bus1: cannot make link"), make_line(tmp_path):
        pass
    assert (tmp_path / "bus1").read_text() == "precious"


@pytest.mark.parametrize(
    ("baud", "format_", "char_us", "silence_us"),
    [
        (9600, "8N1", 1041.7, 3645.8),
        (9600, "8E1", 1145.8, 4010.4),
        (19200, "8N2", 572.9, 2005.2),
        (115200, "8E1", 95.5, 1750.0),  # fixed above 19200 Bd
    ],
)
def test_wire_times_are_those_of_the_serial_guide(
    baud: int, format_: str, char_us: float, silence_us: float
) -> None:
    pace = Pace.of(baud=baud, format=format_)
    assert pace.char_s * 1e6 == pytest.approx(char_us, abs=0.1)
    assert pace.silence_s * 1e6 == pytest.approx(silence_us, abs=0.1)


@pytest.mark.parametrize(("baud", "format_"), [(9600, "9E1"), (9600, "8E3"), (0, "8N1")])
def test_an_impossible_serial_setting_is_refused(baud: int, format_: str) -> None:
    with pytest.raises(SimError, match="expected"):
        Pace.of(baud=baud, format=format_)
