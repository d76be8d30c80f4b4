"""Two meters with a transformer ratio on a fake bus, for the reader and the poller."""

import pytest

from agent.tests.fakes import (
    FakeBus,
    FakeClock,
    FakeRecorder,
    TimeIsUpError,
    write_site,
)
from edgeagg.errors import LinkError, RefusedError
from edgeagg.model import Quality
from edgeagg_agent.app import make_reader
from edgeagg_agent.config import load_site
from edgeagg_agent.poller import Poller

PROFILE = """
vendor = "Maker"
models = ["M1"]
status = "draft"
sources = ["display"]

[limits]
holes = "illegal"

[ratios.ct]
function = 3
register = 100
type = "u16"

[points.voltage_l1]
function = 3
register = 0
type = "u16"
scale = 0.1
unit = "V"
resolution = 0.1
max = 300

[points.current_l1]
function = 3
register = 10
type = "u16"
scale = 0.01
ratios = ["ct"]
unit = "A"
resolution = 0.1

[points.active_energy_import]
function = 4
register = 0
type = "u32"
unit = "kWh"
resolution = 1
kind = "totaliser"
"""
METERS = """
[site]
gateway = "qp-0001"
name = "Example plant"

[state]
directory = "DIRECTORY/state"

[[destination]]
name = "platform"
broker = "mqtt://127.0.0.1:1883"

[[bus]]
name = "switchroom"
port = "/dev/none-a"
baud = 9600

[[bus.meter]]
name = "incomer"
unit = 1
profile = "m1"
period = "1s"
tier = 1

[[bus.meter]]
name = "workshop"
unit = 2
profile = "m1"
period = "5s"
tier = 2
"""
WORDS = {
    (3, 0): 2305,
    (3, 10): 123,
    (3, 100): 40,
    (4, 0): 1,
    (4, 1): 5,
}
VALUES = (2305, 492, 65541)
GOOD = (Quality.GOOD,) * 3
RATIO, VOLTAGE, CURRENT, ENERGY = (3, 100), (3, 0), (3, 10), (4, 0)
SILENCE = LinkError("no reply")
REFUSAL = RefusedError("illegal data address", 2)


def values(scan):
    """Return what a scan gave, point by point."""
    return tuple(scan.decode()[0])


def qualities(scan):
    """Return what a scan is worth, point by point."""
    return tuple(scan.decode()[1])


class Bench:
    """The meters of a site on one fake bus, with faults by unit id and first register."""

    def __init__(self, folder, *, lasts_ms=None, took_ms=20, profile=PROFILE, site=METERS):
        (folder / "m1.toml").write_text(profile, encoding="utf-8")
        profiles = ('name = "Example plant"', 'name = "Example plant"\nprofiles = ["."]')
        self.site = load_site(write_site(folder, profiles, text=site))
        self.clock = FakeClock(lasts_ms=lasts_ms)
        self.bus = FakeBus(self.clock, self.answer, took_ms=took_ms)
        self.faults = {}
        self.words = dict(WORDS)
        self.recorder = FakeRecorder()
        self.readers = self.make_readers()

    def make_readers(self, learned=None):
        return [
            make_reader(bus, meter, self.bus, self.clock, (learned or {}).get(meter.name))
            for bus in self.site.buses
            for meter in bus.meters
        ]

    def answer(self, request):
        place = request.function, request.start
        fault = self.faults.get((request.unit, *place)) or self.faults.get(request.unit)
        return fault or [
            self.words[request.function, request.start + n] for n in range(request.count)
        ]

    def poller(self):
        places = [
            (reader, place) for reader in self.readers for place in range(len(reader.meter.groups))
        ]
        return Poller(self.bus, dict(enumerate(places)), self.recorder, self.clock)

    async def run(self):
        """Poll until the time is up; return the poller."""
        poller = self.poller()
        with pytest.raises(TimeIsUpError):
            await poller.run()
        return poller

    def asked(self, unit=1):
        return [(r.function, r.start) for _, r in self.bus.asked if r.unit == unit]

    def rows(self, group):
        return [row for row in self.recorder.rows if row[0] == group]
