"""Meters of DL/T 645 and CJ/T 188 on a fake bus: what they hold by item, as frames."""

from fractions import Fraction

from agent.tests.fakes import FakeBus, FakeClock, FakeRecorder, TimeIsUpError
from agent.tests.meter_frames import cjt188, dlt645
from agent.tests.mixed_site import FEEDER, HEAT, OLD, WATER, write_mixed
from edgeagg.errors import LinkError
from edgeagg_agent.app import make_reader
from edgeagg_agent.config import load_site
from edgeagg_agent.poller import Poller
from edgeagg_agent.profile import decode_item, load


def shown_by(profile, payload):
    """Return what the points of a profile make of an item's payload, by name; None for no value."""
    found = {}
    for point in load(profile, ()).items:
        mantissa, _ = decode_item(point, payload)
        exact = None if mantissa is None else mantissa * Fraction(10) ** point.exponent
        found[point.name] = exact
    return found


class Refusal:
    """A meter's abnormal answer."""

    def __init__(self, *codes):
        self.codes = bytes(codes)


def bcd(number, length):
    """Return digits as they travel, the low byte first."""
    return bytes.fromhex(f"{number:0{2 * length}d}")[::-1]


def water(volume, unit_code=0x2C, settled=0):
    """Return a water meter's answer of 19 bytes, both volumes in hundredths of the unit."""
    code = bytes((unit_code,))
    return bcd(volume, 4) + code + bcd(settled, 4) + code + bcd(0, 7) + b"\x00\x00"


def heat(energy, unit_code=0x05):
    """Return a heat meter's answer of 43 bytes; everything but the energy is small."""
    unit = bytes((unit_code,))
    return (
        bcd(1_00, 4) + unit + bcd(energy, 4) + unit + bcd(250_00, 4) + b"\x14"
        + bcd(1_2345, 4) + b"\x35" + bcd(77_50, 4) + b"\x2c"
        + bcd(65_43, 3) + bcd(40_21, 3) + bcd(1234, 3) + bcd(0, 7) + b"\x00\x00"
    )  # fmt: skip


VOLTAGES = bcd(2305, 2) + bcd(2311, 2) + bcd(2298, 2)
HELD = {
    (FEEDER, "00010000"): bcd(123456_78, 4),
    (FEEDER, "02010100"): VOLTAGES[:2],
    (FEEDER, "02010200"): VOLTAGES[2:4],
    (FEEDER, "0201FF00"): VOLTAGES,
    (OLD, "9010"): bcd(98_76, 4),
    (WATER, "901F"): water(12_34),
    (HEAT, "901F"): heat(5678_90),
}


class MixedBench:
    """The line of the mixed site; `held` is what its meters hold, by address and item."""

    def __init__(self, folder, *changes, lasts_ms=None, took_ms=100):
        self.site = load_site(write_mixed(folder, *changes))
        self.clock = FakeClock(lasts_ms=lasts_ms)
        self.bus = FakeBus(self.clock, self.answer, took_ms=took_ms)
        self.held = dict(HELD)
        self.recorder = FakeRecorder()
        config = self.site.buses[0]
        self.readers = {
            meter.name: make_reader(config, meter, self.bus, self.clock) for meter in config.meters
        }

    def answer(self, question):
        if hasattr(question, "unit"):  # the Modbus meter on the line
            return (0x4366, 0) * (question.count // 2)
        content = self.held.get((question.address, question.item))
        if content is None:
            return LinkError(f"{question}: no reply")
        return content(question) if callable(content) else frame(question, content)

    async def scan(self, meter):
        """Read a meter's only group; return what it gave and what that is worth, by point."""
        (scan,) = await self.readers[meter].scan()
        values, qualities = scan.decode()
        found = zip(scan.group.points, values, qualities, strict=True)
        return {point.name: (value, quality) for point, value, quality in found}

    def asked(self, address):
        return [q.item for q, _ in self.bus.questions if getattr(q, "address", "") == address]

    async def run(self):
        """Poll until the time is up; return the poller."""
        readers = [(reader, 0) for reader in self.readers.values()]
        poller = Poller(self.bus, dict(enumerate(readers)), self.recorder, self.clock)
        try:
            await poller.run()
        except TimeIsUpError:
            return poller
        raise AssertionError("a poller does not end")


def frame(question, content):
    """Return the whole frame with which the meter that was asked answers."""
    is_refusal = isinstance(content, Refusal)
    if hasattr(question, "ser"):
        head = bytes.fromhex(question.item)
        data = bytes((question.ser,)) + content.codes if is_refusal else None
        data = data or head + bytes((question.ser,)) + content
        control = 0xC1 if is_refusal else 0x81
        return b"\xfe\xfe" + cjt188(question.meter_type, question.address, control, data)
    control = 0x91 if len(question.item) == 8 else 0x81
    if is_refusal:
        return dlt645(question.address, control | 0x40, content.codes)
    item = bytes.fromhex(question.item)[::-1]
    return b"\xfe" + dlt645(question.address, control, item + content)
