"""The line engine on a real pseudo-terminal, opened by pyserial."""

import asyncio
import io
import os
import tty

import pytest

from agent.tests.fake_line import FIRST, OTHER_ADDRESS, Asking, reply, values
from edgeagg.errors import LinkError
from edgeagg_agent.bus import LineSettings, ReadRequest
from edgeagg_agent.bus import serial as serial_module
from edgeagg_agent.bus.serial import SerialBus, check_port, existing_ports, open_port
from edgeagg_agent.protocol.modbus import RtuQuestion, words_of


class Pty:
    """A pseudo-terminal whose far end answers with `answer(number)`, a list of pieces."""

    def __init__(self, answer):
        self.answer = answer
        self.heard = []
        self.wrote = False  # a request that was no read
        self.far, self.near = os.openpty()
        tty.setraw(self.near)
        self.path = os.ttyname(self.near)
        os.set_blocking(self.far, False)
        asyncio.get_running_loop().add_reader(self.far, self._hear)

    def _hear(self):
        self.heard.append(os.read(self.far, 4096))
        self.wrote = self.wrote or self.heard[-1][1] not in (3, 4)
        for delay_s, piece in self.answer(len(self.heard)):
            asyncio.get_running_loop().call_later(delay_s, self.send, piece)

    def send(self, piece):
        os.write(self.far, piece)

    def unplug(self):
        assert not self.wrote
        asyncio.get_running_loop().remove_reader(self.far)
        os.close(self.far)
        os.close(self.near)


def bus_on(path, **settings):
    bus = SerialBus(name="bus1", port=str(path), **settings)
    return Asking(bus, LineSettings(115200, "8E1"))


def always_first(_number):
    return [(0, reply(FIRST))]


async def test_a_read_over_a_pty_that_refuses_parity():
    pty = Pty(always_first)
    bus = bus_on(pty.path)
    assert (await bus.read(FIRST)).words == values(FIRST)
    await bus.close()
    pty.unplug()


@pytest.mark.parametrize(("port", "opened_as"), [("pts", ("N", 1)), ("file", ("E", 1))])
async def test_parity_is_left_out_on_a_pty_only(port, opened_as, tmp_path, monkeypatch):
    far, near = os.openpty()
    (tmp_path / "pts").symlink_to(os.ttyname(near))
    (tmp_path / "file").touch()
    asked = []

    class Opened(io.FileIO):
        def set_low_latency_mode(self, wanted):
            asked.append(wanted)
            raise ValueError("a pty has no latency timer")

    def opened(_port, *, parity, stopbits, **_others):
        asked.append((parity, stopbits))
        return Opened(near, closefd=False)

    monkeypatch.setattr(serial_module.serial, "Serial", opened)
    open_port(str(tmp_path / port), baud=9600, form="8E1").close()
    assert asked == [opened_as, True]
    os.close(far)
    os.close(near)


async def test_a_reply_in_single_bytes_over_a_pty():
    frame = reply(FIRST)
    pty = Pty(lambda _number: [(place * 0.002, bytes([byte])) for place, byte in enumerate(frame)])
    bus = bus_on(pty.path)
    assert (await bus.read(FIRST)).words == values(FIRST)
    await bus.close()
    pty.unplug()


async def test_a_late_reply_over_a_pty_never_answers_the_next_request():
    wider = ReadRequest(unit=1, function=3, start=500, count=11)
    pty = Pty(lambda number: [(0.2, reply(FIRST))] if number == 1 else [(0.3, reply(wider))])
    bus = bus_on(pty.path)
    quick = LineSettings(115200, "8E1", turnaround_max_ms=20)
    with pytest.raises(LinkError, match="no reply"):
        await bus.exchange(RtuQuestion(FIRST), quick)
    slow = LineSettings(115200, "8E1", turnaround_max_ms=500)
    answer = await bus.exchange(RtuQuestion(OTHER_ADDRESS, spare=1), slow)
    assert words_of(answer.payload) == values(OTHER_ADDRESS)
    assert bus.stats.late_replies == 1
    await bus.close()
    pty.unplug()


async def test_an_adapter_is_unplugged_and_comes_back_under_another_name(tmp_path):
    link = tmp_path / "bus1"
    first = Pty(always_first)
    link.symlink_to(first.path)
    bus = bus_on(link)
    await bus.read(FIRST)
    first.unplug()
    link.unlink()
    with pytest.raises(LinkError, match="is gone"):
        await bus.read(FIRST)
    bus.bus._open_again_s = 0.0  # the pause of a second is tested on the clock that jumps
    with pytest.raises(LinkError, match="does not exist"):
        await bus.read(FIRST)
    second = Pty(always_first)
    link.symlink_to(second.path)
    bus.bus._open_again_s = 0.0
    assert (await bus.read(FIRST)).words == values(FIRST)
    assert bus.stats.reopened == 1
    await bus.close()
    second.unplug()


async def test_a_port_that_another_program_holds_is_named_as_in_use():
    pty = Pty(always_first)
    held = open_port(pty.path, baud=9600, form="8N1")
    with pytest.raises(LinkError, match="in use by another program"):
        check_port(pty.path)
    held.close()
    check_port(pty.path)
    pty.unplug()


def test_a_missing_port_is_named_with_the_ports_that_exist(tmp_path, monkeypatch):
    monkeypatch.setattr(serial_module, "existing_ports", lambda _dev: ["/dev/ttyUSB0"])
    missing = tmp_path / "ttyUSB7"
    with pytest.raises(LinkError, match=r"ttyUSB7 does not exist; ports found: /dev/ttyUSB0$"):
        check_port(str(missing))


def test_a_file_that_is_no_port_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(LinkError, match=str(file)):
        check_port(str(file))


def test_existing_ports_lists_stable_names_first(tmp_path):
    for name in ("ttyUSB1", "ttyUSB0", "ttyS0", "tty1", "rs485/bus1", "serial/by-path/pci-0"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [path.removeprefix(f"{tmp_path}/") for path in existing_ports(tmp_path)]
    assert found == ["rs485/bus1", "serial/by-path/pci-0", "ttyUSB0", "ttyUSB1", "ttyS0"]
