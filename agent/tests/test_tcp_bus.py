"""Modbus TCP against a scripted server on the loopback: what pymodbus lets through is caught."""

import asyncio
import contextlib

import pytest
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse

from agent.tests.fake_line import FIRST, OTHER_ADDRESS, Asking, values
from edgeagg.errors import FrameError, LinkError, RefusedError
from edgeagg_agent.bus import LineSettings, ReadRequest
from edgeagg_agent.bus.tcp import TcpBus
from edgeagg_agent.protocol.modbus import RtuQuestion, words_of
from edgeagg_agent.protocol.modbus_ascii import AsciiQuestion


def adu(transaction, unit, pdu):
    return (
        transaction.to_bytes(2, "big")
        + b"\x00\x00"  # protocol: Modbus
        + (len(pdu) + 1).to_bytes(2, "big")
        + bytes((unit,))
        + pdu
    )


def registers(function, words):
    return bytes((function, 2 * len(words))) + b"".join(word.to_bytes(2, "big") for word in words)


class Server:
    """Answers with the bytes of `script(number, transaction, request)`; None hangs up."""

    def __init__(self, script):
        self.script = script
        self.requests = []
        self.connections = 0

    async def _serve(self, reader, writer):
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                raw = await reader.readexactly(12)
                assert raw[7] in (3, 4), "no request but a read is ever sent"
                start, count = int.from_bytes(raw[8:10]), int.from_bytes(raw[10:12])
                request = ReadRequest(raw[6], raw[7], start, count)
                self.requests.append(request)
                answer = self.script(len(self.requests), int.from_bytes(raw[:2]), request)
                if answer is None:
                    break
                writer.write(answer)
        writer.close()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await asyncio.sleep(0.01)


def clean(_number, transaction, request):
    pdu = registers(request.function, values(request))
    return adu(transaction, request.unit, pdu)


@contextlib.asynccontextmanager
async def serving(script, timeout_ms=100):
    async with Server(script) as server:
        bus = TcpBus(name="roof", host="127.0.0.1", port=server.port, timeout_ms=timeout_ms)
        yield Asking(bus), server
        await bus.close()


@pytest.mark.parametrize("function", [3, 4])
async def test_registers_come_back_and_the_connection_stays_open(function):
    request = ReadRequest(unit=1, function=function, start=40070, count=125)
    async with serving(clean, timeout_ms=500) as (bus, server):
        first, second = await bus.read(request), await bus.read(request)
        assert first.words == second.words == values(request)
        assert first.sent_s <= first.received_s <= second.sent_s
        assert server.requests == [request, request]
        assert server.connections == 1
        assert bus.stats.transactions == 2
        assert bus.stats.busy_s > 0


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (lambda t, r: adu(t, r.unit, registers(r.function, values(r)[:8])), "8 registers came"),
        (lambda t, r: adu(t, r.unit, registers(4, values(r))), "function 4 came instead of 3"),
        (lambda t, r: adu(t, r.unit + 1, registers(3, values(r))), "no reply among what came"),
        (lambda t, r: adu(t + 1, r.unit, registers(3, values(r))), "no reply among what came"),
        (lambda _t, _r: b"HTTP/1.1 400 Bad Request\r\n\r\n", "no reply among what came"),
    ],
)
async def test_a_reply_to_something_else_is_a_bad_frame_and_the_next_read_is_clean(fault, text):
    def script(number, transaction, request):
        return fault(transaction, request) if number == 1 else clean(number, transaction, request)

    async with serving(script) as (bus, server):
        with pytest.raises(FrameError, match=f"roof: unit 1.*{text}"):
            await bus.read(FIRST)
        assert (await bus.read(OTHER_ADDRESS)).words == values(OTHER_ADDRESS)
        assert server.connections == 2
        assert (bus.stats.bad_frame, bus.stats.no_reply, bus.stats.reopened) == (1, 0, 1)


def test_a_reply_of_another_unit_is_a_bad_frame_even_if_pymodbus_lets_it_through():
    bus = Asking(TcpBus(name="roof", host="127.0.0.1", port=502))
    other = ReadHoldingRegistersResponse(registers=list(values(FIRST)), dev_id=2)
    with pytest.raises(FrameError, match="unit 2 answered instead"):
        bus.bus._check(FIRST, other)


async def test_a_refusal_is_named_and_keeps_the_connection():
    def script(number, transaction, request):
        if number == 1:
            return adu(transaction, request.unit, bytes((request.function | 0x80, 2)))
        return clean(number, transaction, request)

    async with serving(script, timeout_ms=500) as (bus, server):
        with pytest.raises(RefusedError, match=r"roof: .*illegal data address \(2\)") as caught:
            await bus.read(FIRST)
        assert caught.value.code == 2
        assert (await bus.read(FIRST)).words == values(FIRST)
        assert server.connections == 1
        assert bus.stats.refused == 1


async def test_silence_is_a_link_error_after_the_time_out():
    async with serving(lambda *_: b"", timeout_ms=30) as (bus, _server):
        with pytest.raises(LinkError, match=r"roof: unit 1.*no reply"):
            await bus.read(FIRST)
        assert bus.stats.no_reply == 1


async def test_a_late_reply_without_transaction_id_never_answers_a_later_request():
    # some gateways leave the transaction id 0, and pymodbus then takes the reply for any request
    unanswered = []

    def script(number, _transaction, request):
        unanswered.append(adu(0, request.unit, registers(request.function, values(request))))
        return b"" if number == 1 else b"".join(unanswered)

    class LateServer(Server):
        async def _serve(self, reader, writer):
            unanswered.clear()  # what was asked over another connection is answered there
            await super()._serve(reader, writer)

    async with LateServer(script) as server:
        bus = Asking(TcpBus(name="roof", host="127.0.0.1", port=server.port, timeout_ms=50))
        with pytest.raises(LinkError):
            await bus.read(FIRST)
        assert (await bus.read(OTHER_ADDRESS)).words == values(OTHER_ADDRESS)
        await bus.close()


async def test_a_connection_that_the_far_end_closed_is_made_again():
    def script(number, transaction, request):
        return None if number == 2 else clean(number, transaction, request)

    async with serving(script) as (bus, server):
        await bus.read(FIRST)
        with pytest.raises(LinkError):
            await bus.read(FIRST)
        assert (await bus.read(FIRST)).words == values(FIRST)
        assert server.connections == 2
        assert bus.stats.reopened == 1


async def test_an_absent_gateway_is_tried_once_a_second(unused_tcp_port):
    bus = Asking(TcpBus(name="roof", host="127.0.0.1", port=unused_tcp_port, timeout_ms=100))
    with pytest.raises(LinkError, match=f"roof: 127.0.0.1:{unused_tcp_port} does not accept"):
        await bus.read(FIRST)
    with pytest.raises(LinkError, match="tried once a second"):
        await bus.read(FIRST)
    assert bus.stats.transactions == 0
    await bus.close()


async def test_a_cancelled_read_leaves_no_reply_for_the_next_one():
    def script(number, transaction, request):
        return b"" if number == 1 else clean(number, transaction, request)

    async with serving(script, timeout_ms=500) as (bus, server):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.03):
                await bus.read(FIRST)
        assert (await bus.read(OTHER_ADDRESS)).words == values(OTHER_ADDRESS)
        assert server.connections == 2


async def test_reads_of_several_tasks_go_one_at_a_time():
    async with serving(clean, timeout_ms=500) as (bus, server):
        both = await asyncio.gather(bus.read(FIRST), bus.read(OTHER_ADDRESS))
        assert [reply.words for reply in both] == [values(FIRST), values(OTHER_ADDRESS)]
        assert both[1].sent_s >= both[0].received_s
        assert server.connections == 1


async def test_a_question_is_asked_over_tcp_and_carries_the_registers_wanted():
    async with serving(clean, timeout_ms=500) as (bus, server):
        answer = await bus.exchange(RtuQuestion(FIRST, wanted=3), LineSettings(9600, "8N1"))
        assert words_of(answer.payload) == values(FIRST)[:3]
        assert server.requests == [FIRST]


async def test_a_question_of_another_protocol_is_no_question_for_modbus_tcp():
    bus = Asking(TcpBus(name="roof", host="127.0.0.1", port=502))
    with pytest.raises(TypeError, match="Modbus TCP asks with RtuQuestion only"):
        await bus.exchange(AsciiQuestion(FIRST), LineSettings(9600, "8N1"))
