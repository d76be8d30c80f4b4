"""RTU over TCP: the line's rules on a socket, against scripted serial servers on the loopback."""

import asyncio
import contextlib

import pytest

from agent.tests.fake_line import FIRST, OTHER_ADDRESS, OTHER_UNIT, reply, sent, values
from edgeagg.errors import FrameError, LinkError
from edgeagg_agent.bus import LineSettings, ReadRequest
from edgeagg_agent.bus.stream import StreamBus
from edgeagg_agent.protocol.modbus import RtuQuestion, words_of

SETTINGS = LineSettings(115200, "8N1", turnaround_max_ms=50)


@contextlib.asynccontextmanager
async def serving(script):
    """Answer request after request with the pieces (delay in s, bytes) of `script(number, asked)`.

    None hangs up. Yields the bus, the requests heard, and the port.
    """
    heard = []

    async def serve(reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                raw = await reader.readexactly(8)
                assert raw[1] in (3, 4), "no request but a read is ever sent"
                asked = ReadRequest(
                    raw[0], raw[1], int.from_bytes(raw[2:4]), int.from_bytes(raw[4:6])
                )
                heard.append(asked)
                pieces = script(len(heard), asked)
                if pieces is None:
                    break
                for delay_s, data in pieces:
                    await asyncio.sleep(delay_s)
                    writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bus = StreamBus(name="roof", host="127.0.0.1", port=port, baud=115200, format="8N1")
    try:
        yield bus, heard, port
    finally:
        await bus.close()
        server.close()
        await asyncio.sleep(0.01)


async def words(bus, request, *, spare=0):
    answer = await bus.exchange(RtuQuestion(request, spare=spare), SETTINGS)
    return words_of(answer.payload)


async def test_registers_come_back_through_a_serial_server():
    async with serving(lambda _n, asked: [(0, reply(asked))]) as (bus, heard, _):
        assert await words(bus, FIRST) == values(FIRST)
        assert await words(bus, OTHER_ADDRESS) == values(OTHER_ADDRESS)
        assert heard == [FIRST, OTHER_ADDRESS]
        assert (bus.stats.transactions, bus.stats.noise_bytes) == (2, 0)


async def test_a_reply_that_the_network_has_torn_and_delayed_is_put_together():
    def torn(_number, asked):
        return [(0.01, sent(asked) + reply(asked)[:4]), (0.05, reply(asked)[4:])]

    async with serving(torn) as (bus, _heard, _):
        assert await words(bus, FIRST) == values(FIRST)
        assert bus.stats.echoes == 1


async def test_a_late_reply_through_a_serial_server_never_answers_the_next_question():
    def late(number, asked):
        return [(0.25, reply(asked))] if number == 1 else [(0, reply(asked))]

    async with serving(late) as (bus, heard, _):
        with pytest.raises(LinkError, match="no reply"):
            await words(bus, FIRST, spare=1)
        assert await words(bus, OTHER_ADDRESS, spare=1) == values(OTHER_ADDRESS)
        assert [asked.count for asked in heard] == [10, 11]


async def test_a_stale_reply_in_front_of_the_true_one_is_a_bad_frame():
    def stale(_number, asked):
        return [(0, reply(OTHER_ADDRESS) + reply(asked))]

    async with serving(stale) as (bus, _heard, _):
        with pytest.raises(FrameError, match="two replies differ"):
            await words(bus, FIRST)
        assert bus.stats.doubles == 1


async def test_a_connection_that_the_server_closed_is_made_again():
    def once(number, asked):
        return None if number == 1 else [(0, reply(asked))]

    async with serving(once) as (bus, _heard, _):
        with pytest.raises(LinkError, match=r"127\.0\.0\.1:\d+ is gone"):
            await words(bus, FIRST)
        bus._open_again_s = 0.0  # the pause of a second is tested on the clock that jumps
        assert await words(bus, OTHER_UNIT) == values(OTHER_UNIT)
        assert bus.stats.reopened == 1


async def test_a_serial_server_that_is_not_there_is_a_link_error(unused_tcp_port):
    bus = StreamBus(name="roof", host="127.0.0.1", port=unused_tcp_port, baud=9600, format="8N1")
    with pytest.raises(LinkError, match=f"127.0.0.1:{unused_tcp_port} does not accept"):
        await bus.exchange(RtuQuestion(FIRST), LineSettings(9600, "8N1"))
    with pytest.raises(LinkError, match="tried once a second"):
        await bus.exchange(RtuQuestion(FIRST), LineSettings(9600, "8N1"))
    await bus.close()


async def test_a_meter_of_another_speed_cannot_be_asked_through_a_serial_server():
    async with serving(lambda _n, asked: [(0, reply(asked))]) as (bus, heard, _):
        with pytest.raises(LinkError, match="set to 115200 Bd 8N1; a meter with 2400 Bd 8E1"):
            await bus.exchange(RtuQuestion(FIRST), LineSettings(2400, "8E1"))
        bus._open_again_s = 0.0
        assert await words(bus, FIRST) == values(FIRST)
        with pytest.raises(LinkError, match="set to 115200 Bd 8N1"):
            await bus.exchange(RtuQuestion(FIRST), LineSettings(2400, "8E1"))
        assert heard == [FIRST]
