"""Meters of different speeds, formats and times on one line."""

import asyncio
import os
import socket
import termios
import tty

import pytest

from agent.tests.fake_line import (
    BAUD,
    CHAR_S,
    FIRST,
    OTHER_ADDRESS,
    OTHER_UNIT,
    SILENT,
    T35_S,
    clean,
    play,
    reply,
    values,
)
from edgeagg.errors import FrameError, LinkError
from edgeagg_agent.bus import LineSettings, ReadRequest
from edgeagg_agent.bus.line import LineBus, Pace, end_of_frame
from edgeagg_agent.bus.port import FdPort, LoopClock, line_loop
from edgeagg_agent.bus.serial import SerialBus
from edgeagg_agent.protocol.modbus import RtuQuestion, words_of

FAST = LineSettings(BAUD, "8E1")
CLOCK_S = 1e-9  # adding up floating-point seconds
PACE = Pace.of(FAST)


async def ask(bus, request, settings=FAST, *, spare=0):
    answer = await bus.exchange(RtuQuestion(request, spare=spare), settings)
    return words_of(answer.payload)


def test_a_time_out_holds_back_its_own_shape_at_once_and_other_questions_go_on():
    async def work(bus, line):
        with pytest.raises(LinkError, match="no reply"):
            await ask(bus, FIRST)
        begun_s = bus.bus._clock.now_s()
        with pytest.raises(LinkError, match=r"a late reply may still come; .* asked again in 4\.0"):
            await ask(bus, OTHER_ADDRESS)
        assert bus.bus._clock.now_s() == begun_s
        assert bus.bus.held_until_s(RtuQuestion(OTHER_ADDRESS)) == pytest.approx(begun_s + 4.0)
        longer = ReadRequest(unit=1, function=3, start=500, count=20)
        assert await ask(bus, longer) == values(longer)
        assert await ask(bus, OTHER_UNIT) == values(OTHER_UNIT)
        await asyncio.sleep(4)
        assert await ask(bus, OTHER_ADDRESS) == values(OTHER_ADDRESS)
        return bus.stats

    stats = play(lambda n, r: SILENT if n == 1 else clean(n, r), work)
    assert (stats.transactions, stats.no_reply, stats.held_back) == (4, 1, 1)


def test_a_meter_with_spare_registers_is_asked_at_once_in_another_shape():
    async def work(bus, line):
        with pytest.raises(LinkError, match="no reply"):
            await ask(bus, FIRST, spare=1)
        found = await ask(bus, OTHER_ADDRESS, spare=1)
        return found, [request.count for _, request in line.requests], bus.stats

    def script(number, request):
        return [(0.6, reply(request))] if number == 1 else [(0.02, reply(request))]

    found, counts, stats = play(script, work)
    assert found == values(OTHER_ADDRESS)
    assert counts == [10, 11]
    assert stats.reshaped == 1


def test_a_damaged_answer_is_an_answer_and_the_meter_can_be_asked_again_at_once():
    async def work(bus, line):
        with pytest.raises(FrameError, match="CRC is wrong"):
            await ask(bus, FIRST)
        return await ask(bus, OTHER_ADDRESS), line.requests[1][0] - line.last_byte_s

    def script(number, request):
        whole = reply(request)
        return [(0.02, whole[:-1] + b"\x00")] if number == 1 else clean(number, request)

    found, _ = play(script, work)
    assert found == values(OTHER_ADDRESS)


def test_bytes_behind_an_answer_that_may_have_been_another_spoil_it():
    async def work(bus, line):
        with pytest.raises(FrameError, match="two replies differ"):
            await ask(bus, FIRST)
        return bus.stats.doubles

    assert play(lambda _n, r: [(0.02, reply(OTHER_ADDRESS) + reply(r)[:9])], work) == 1
    assert play(lambda _n, r: [(0.02, reply(OTHER_ADDRESS) + b"\x55" * 25)], work) == 1


def test_each_meter_has_its_own_gap_and_turnaround_limit():
    slow = LineSettings(BAUD, "8E1", request_gap_ms=100, turnaround_max_ms=400)

    async def work(bus, line):
        await ask(bus, FIRST)
        quiet_s = line.last_byte_s
        await ask(bus, OTHER_UNIT, slow)
        waited_s = line.requests[1][0] - quiet_s
        with pytest.raises(LinkError):
            await ask(bus, FIRST)
        return waited_s

    waited_s = play(lambda n, r: [(0.02 if n == 1 else 0.35, reply(r))], work)
    assert 0.1 - CLOCK_S <= waited_s < 0.1 + CHAR_S


class Tuned:
    """A port that notes what it is set to and when; its meters answer after 100 ms."""

    def __init__(self, clock):
        self.clock, self.tuned, self.sent = clock, [], []
        self._at_s, self._data = 0.0, b""

    def read(self):
        if self.clock.now_s() < self._at_s:
            return b""
        data, self._data = self._data, b""
        return data

    def write(self, data):
        assert data[1] in (3, 4), "no request but a read is ever sent"
        self.sent.append(self.clock.now_s())
        asked = ReadRequest(data[0], data[1], int.from_bytes(data[2:4]), int.from_bytes(data[4:6]))
        self._data, self._at_s = reply(asked), self.clock.now_s() + 0.1
        return len(data)

    async def wait(self, deadline_s):
        await self.clock.sleep_until(min(deadline_s, self._at_s))
        return self._at_s <= deadline_s

    def retune(self, settings):
        self.tuned.append((settings.baud, settings.format))

    def close(self):
        pass


class Jump:
    """A clock that jumps."""

    def __init__(self):
        self.time_s = 0.0

    def now_s(self):
        return self.time_s

    async def sleep_until(self, at_s):
        self.time_s = max(self.time_s, at_s)

    sleep_sharp = sleep_until


async def test_a_change_of_speed_waits_for_the_silence_of_the_slower_meter():
    clock = Jump()
    port = Tuned(clock)

    async def opened(_settings):
        return port

    bus = LineBus(name="bus1", where="memory", opener=opened, clock=clock, handover_s=0.0)
    slow = LineSettings(1200, "8E1", turnaround_max_ms=500)
    ends_s = []
    for settings, request in ((FAST, FIRST), (slow, OTHER_UNIT), (FAST, FIRST), (FAST, FIRST)):
        answer = await bus.exchange(RtuQuestion(request), settings)
        ends_s.append(answer.received_s)
    gaps_s = [sent - end for sent, end in zip(port.sent[1:], ends_s, strict=False)]
    slow_t35_s = 3.5 * 11 / 1200
    assert port.tuned == [(1200, "8E1"), (BAUD, "8E1")]
    assert bus.stats.retuned == 2
    assert gaps_s[0] == pytest.approx(slow_t35_s, abs=1e-5)
    assert gaps_s[1] == pytest.approx(slow_t35_s, abs=1e-5)
    assert gaps_s[2] == pytest.approx(T35_S, abs=1e-5)


async def test_the_speed_of_a_pty_follows_the_meter_that_is_asked():
    far, near = os.openpty()
    tty.setraw(near)
    heard = []

    def hear():
        raw = os.read(far, 64)
        heard.append((raw[0], termios.tcgetattr(near)[5]))
        asked = ReadRequest(raw[0], raw[1], int.from_bytes(raw[2:4]), int.from_bytes(raw[4:6]))
        os.write(far, reply(asked))

    asyncio.get_running_loop().add_reader(far, hear)
    bus = SerialBus(name="bus1", port=os.ttyname(near))
    for request, settings in (
        (FIRST, LineSettings(115200, "8N1")),
        (OTHER_UNIT, LineSettings(38400, "8E1")),
        (FIRST, LineSettings(115200, "8N1")),
    ):
        assert await ask(bus, request, settings) == values(request)
    with pytest.raises(LinkError, match=r"bus1: /dev/pts/\d+: 12345 Bd: allowed are 300, 600"):
        await ask(bus, FIRST, LineSettings(12345, "8N1"))
    await bus.close()
    asyncio.get_running_loop().remove_reader(far)
    os.close(far)
    os.close(near)
    assert heard == [(1, termios.B115200), (2, termios.B38400), (1, termios.B115200)]


@pytest.mark.parametrize("settings", [LineSettings(9600, "9N1"), LineSettings(0, "8N1")])
async def test_settings_that_no_line_has_are_refused(settings):
    bus = SerialBus(name="bus1", port="/dev/none")
    with pytest.raises(ValueError, match=r"format '9N1'|baud 0"):
        await ask(bus, FIRST, settings)


def test_the_end_of_a_frame_is_computed_behind_a_uart_that_keeps_its_tail():
    end_s, char_s = 5.0, PACE.char_s
    pieces = [(24, end_s - 17 * char_s), (32, end_s - 9 * char_s), (40, end_s - char_s)]
    kept_s = end_s + 3.2 * char_s
    assert end_of_frame(pieces, 41, kept_s, PACE) == pytest.approx(end_s)
    assert end_of_frame(pieces[1:], 41, kept_s, PACE) == pytest.approx(end_s)


@pytest.mark.parametrize(
    "pieces",
    [
        [],
        [(40, 4.999)],
        [(10, 4.96), (40, 4.999)],  # no half FIFO
        [(32, 4.980), (40, 4.999)],  # a meter that pauses
        [(24, 4.97), (32, 4.979)],  # 9 bytes behind are more than a tail
    ],
)
def test_the_end_of_a_frame_is_when_it_was_handed_over_unless_its_pieces_prove_more(pieces):
    assert end_of_frame(pieces, 41, 5.003, PACE) == 5.003


def test_a_sharp_sleep_is_never_early_and_ends_on_a_clock_that_stands():
    async def main():
        clock, late_s = LoopClock(), []
        for _ in range(20):
            at_s = clock.now_s() + 0.002
            await clock.sleep_sharp(at_s)
            late_s.append(clock.now_s() - at_s)
        return late_s

    with asyncio.Runner(loop_factory=line_loop) as runner:
        late_s = runner.run(main())
    assert min(late_s) >= 0
    assert min(late_s) < 0.001  # epoll would be up to a millisecond late, each time


async def test_a_socket_has_no_speed_to_change_and_says_when_it_has_ended():
    near, far = socket.socketpair()
    near.setblocking(False)
    port = FdPort(near)
    port.retune(FAST)
    assert port.read() == b""
    far.close()
    with pytest.raises(ConnectionResetError, match="hung up"):
        port.read()
    port.close()
