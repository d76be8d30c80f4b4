"""An answer in several frames, as DL/T 645 meters give: the bus asks until it has all of it."""

import asyncio
import os
import tty

import pytest

from edgeagg.errors import FrameError, LinkError, RefusedError
from edgeagg_agent.bus import LineSettings
from edgeagg_agent.bus.serial import SerialBus
from edgeagg_agent.protocol.dlt645 import ReadQuestion

ADDRESS = "001210174069"
ITEM = "0000FF00"
SETTINGS = LineSettings(115200, "8E1", turnaround_max_ms=100)
HEAD = bytes.fromhex(ITEM)[::-1]


def frame(control, data):
    wire = bytes.fromhex(ADDRESS)[::-1]
    body = b"\x68" + wire + b"\x68" + bytes((control, len(data)))
    body += bytes((byte + 0x33) & 0xFF for byte in data)
    return body + bytes((sum(body) & 0xFF, 0x16))


class Meter:
    """The far end of a pty: answers request number n with `frames[n]`."""

    def __init__(self, *frames):
        self.frames, self.heard = list(frames), []
        self.far, self.near = os.openpty()
        tty.setraw(self.near)
        os.set_blocking(self.far, False)
        asyncio.get_running_loop().add_reader(self.far, self._hear)

    def _hear(self):
        self.heard.append(os.read(self.far, 256))
        if self.frames:
            os.write(self.far, self.frames.pop(0))

    async def ask(self):
        bus = SerialBus(name="bus1", port=os.ttyname(self.near))
        try:
            return await bus.exchange(ReadQuestion(ADDRESS, ITEM), SETTINGS), bus.stats
        finally:
            await bus.close()
            asyncio.get_running_loop().remove_reader(self.far)
            os.close(self.far)
            os.close(self.near)


async def test_the_parts_of_an_answer_are_asked_for_and_joined():
    meter = Meter(
        frame(0xB1, HEAD + b"\x11\x22"),
        frame(0xB2, HEAD + b"\x33\x44" + b"\x01"),
        frame(0x92, HEAD + b"\x55" + b"\x02"),
    )
    answer, stats = await meter.ask()
    assert answer.payload == bytes.fromhex("1122334455")
    assert [request[12] for request in meter.heard] == [0x11, 0x12, 0x12]
    assert stats.transactions == 3
    assert answer.sent_s < answer.received_s


async def test_a_part_that_does_not_come_leaves_no_answer():
    with pytest.raises(LinkError, match="part 1: no reply"):
        await Meter(frame(0xB1, HEAD + b"\x11\x22")).ask()


async def test_a_part_with_another_number_is_no_answer():
    with pytest.raises(FrameError, match="part 2 came instead of part 1"):
        await Meter(
            frame(0xB1, HEAD + b"\x11\x22"), frame(0x92, HEAD + b"\x33\x44" + b"\x02")
        ).ask()


async def test_a_part_that_is_refused_is_a_refusal():
    with pytest.raises(RefusedError, match="no such data"):
        await Meter(frame(0xB1, HEAD + b"\x11\x22"), frame(0xD2, b"\x02")).ask()
