"""What the agent says of itself: to people in a file, to systemd over a socket."""

import json
import socket

import pytest

from agent.tests.fakes import GATEWAY, START_MS, FakeBus, FakeClock, FakeRecorder, write_site
from edgeagg.batch import Batch, BatchKind
from edgeagg.errors import LinkError
from edgeagg.model import Quality
from edgeagg_agent import health
from edgeagg_agent.app import make_reader
from edgeagg_agent.config import load_site
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.poller import Poller
from edgeagg_agent.recorder import Recorder
from edgeagg_agent.uplink import Uplink


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path, monkeypatch):
    """Listen where systemd would; both kinds of address that it gives are tried."""
    address = str(tmp_path / "notify") if request.param == "path" else f"\0edgeagg{tmp_path}"
    monkeypatch.setenv("NOTIFY_SOCKET", address.replace("\0", "@", 1))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.setblocking(False)
        yield listener


def test_systemd_hears_every_notice_as_one_datagram(systemd):
    health.notify_systemd("READY=1")
    health.notify_systemd("WATCHDOG=1")
    assert [systemd.recv(100), systemd.recv(100)] == [b"READY=1", b"WATCHDOG=1"]


@pytest.mark.parametrize("address", [None, ""])
def test_without_systemd_nothing_is_said(monkeypatch, address):
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    health.notify_systemd("READY=1")


def test_the_status_file_is_replaced_in_one_step(tmp_path):
    file = tmp_path / "status.json"
    health.write_status(file, {"at_ms": 1})
    with file.open(encoding="utf-8") as reader:
        before = file.stat().st_ino
        health.write_status(file, {"at_ms": 2})
        assert json.load(reader) == {"at_ms": 1}  # whoever had it open sees the old one whole
    assert file.stat().st_ino != before
    assert json.loads(file.read_text("utf-8")) == {"at_ms": 2}
    assert list(tmp_path.iterdir()) == [file]


def test_a_status_that_cannot_be_written_leaves_the_old_one(tmp_path):
    file = tmp_path / "status.json"
    health.write_status(file, {"at_ms": 1})
    with pytest.raises(TypeError):
        health.write_status(file, {"at_ms": object()})
    assert json.loads(file.read_text("utf-8")) == {"at_ms": 1}


class Gateway:
    """All that the status speaks of, before anything was read."""

    def __init__(self, folder):
        self.site = load_site(write_site(folder))
        self.clock = FakeClock()
        self.outbox = Outbox(folder / "state", now_ms=START_MS, bytes_max=32 << 20)
        self.recorder = Recorder(
            folder / "state", self.outbox, GATEWAY, self.site.catalogue(), now_ms=START_MS
        )
        self.pollers = [self._poller(config) for config in self.site.buses]
        self.uplinks = [
            Uplink(to, GATEWAY, self.outbox, self.outbox.cursor(to.name), self.clock, pytest.fail)
            for to in self.site.destinations
        ]

    def _poller(self, config):
        bus = FakeBus(self.clock, lambda _: LinkError("roof: no reply"))
        readers = [make_reader(config, meter, bus, self.clock) for meter in config.meters]
        groups = {number: (reader, 0) for number, reader in enumerate(readers)}
        return Poller(bus, groups, FakeRecorder(), self.clock)

    def status(self):
        return health.status(
            self.site,
            self.pollers,
            self.recorder,
            self.outbox,
            self.uplinks,
            planned_shares={"switchroom": 0.5, "roof": 0.02468},
            uptime_ms=self.clock.now_ms() - START_MS,
            clock=self.clock,
        )


@pytest.fixture
def gateway(tmp_path):
    gateway = Gateway(tmp_path)
    yield gateway
    gateway.outbox.close()


def test_the_status_of_a_fresh_start_is_whole_and_plain_json(gateway):
    values = gateway.status()
    assert json.loads(json.dumps(values)) == values
    assert (values["gateway"], values["epoch"], values["uptime_s"]) == (GATEWAY, START_MS, 0)
    assert [bus["name"] for bus in values["buses"]] == ["switchroom", "roof"]
    assert values["buses"][1]["busy_share"] == 0.0
    assert values["slots"] == {"cut": 0, "values": 0, "reasons": 0, "missed": 0}
    assert values["batches"]["head"] == 1  # the catalogue
    assert values["destinations"] == [
        {
            "name": "platform",
            "connected": False,
            "receipted": 0,
            "waiting": 1,
            "resent": 0,
            "dropped": 0,
        }
    ]


async def test_the_status_tells_what_happened(gateway):
    gateway.clock.pass_ms(10_500)
    roof = gateway.pollers[1]
    reader = roof.readers[0]
    await reader.scan()
    reader.state.qualities[0] = Quality.NO_REPLY
    stats = roof.bus.stats
    stats.busy_s, stats.no_reply, stats.held_back, stats.reopened = 5.26, 1, 2, 3
    roof.tally.retries, roof.tally.overrun_slots = 4, 5
    points = len(gateway.site.meters[0].points)
    gateway.recorder.row(
        0, due_ms=START_MS, at_ms=START_MS, values=[None] * points, qualities=b"\x01" * points
    )
    gateway.recorder.gap(
        0,
        first_due_ms=START_MS + 2_000,
        last_due_ms=START_MS + 4_000,
        slots=2,
        reason=Quality.OVERRUN,
    )
    await gateway.recorder.cut(gateway.clock.now_ms())
    values = gateway.status()
    assert values["uptime_s"] == 10
    assert values["at_ms"] == gateway.clock.now_ms()
    bus = values["buses"][1]
    assert (bus["busy_share"], bus["no_reply"]) == (0.5, 1)
    assert (bus["held_back"], bus["reopened"]) == (2, 3)
    assert (bus["retries"], bus["overrun_slots"]) == (4, 5)
    assert bus["planned_share"] == 0.025
    assert bus["meters"] == [
        {"name": "pv", "address": "unit 1", "quality": "no_reply", "trouble": "roof: no reply"}
    ]
    assert values["slots"] == {
        "cut": 3 * points,
        "values": 0,
        "reasons": points,
        "missed": 2 * points,
    }
    assert values["batches"]["cut"] == 1
    assert values["batches"]["bytes"] == len(gateway.outbox.read(2, GATEWAY))
    assert Batch.from_bytes(gateway.outbox.read(2, GATEWAY)).kind is BatchKind.DATA
    assert values["destinations"][0]["waiting"] == 2


def test_it_is_alive_as_long_as_every_bus_comes_round(gateway):
    gateway.clock.pass_ms(60_000)
    now_ms = gateway.clock.now_ms()
    for poller in gateway.pollers:
        poller.beat_ms = now_ms - health.STUCK_MS + 1
    assert health.is_alive(gateway.pollers, now_ms)
    gateway.pollers[1].beat_ms -= 1
    assert not health.is_alive(gateway.pollers, now_ms)


async def test_a_meter_is_as_well_as_the_worst_of_its_groups(gateway):
    reader = gateway.pollers[0].readers[0]
    for qualities in ({0: Quality.GOOD, 1: Quality.REFUSED}, {0: Quality.REFUSED, 1: Quality.GOOD}):
        reader.state.qualities = qualities
        assert gateway.status()["buses"][0]["meters"][0]["quality"] == "refused"
    reader.state.qualities[0] = Quality.GOOD
    assert gateway.status()["buses"][0]["meters"][0]["quality"] == "good"
