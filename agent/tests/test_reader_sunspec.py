"""SunSpec meters: the model is found before the first scan, wherever the meter has it."""

import struct

import pytest

from agent.tests.fakes import SITE, FakeBus, FakeClock, FakeRecorder, TimeIsUpError, write_site
from edgeagg.errors import FrameError, LinkError, RefusedError
from edgeagg.model import Quality
from edgeagg_agent.app import make_reader
from edgeagg_agent.config import load_site
from edgeagg_agent.poller import Poller

SUNS = struct.unpack(">2H", b"SunS")
POINTS = ("tier = 2", 'tier = 2\npoints = ["voltage_l1", "active_energy_import"]')
# of model 213, counted from the register of its id
VOLTAGE, ENERGY = 12, 68
F32 = struct.Struct(">f")
GOOD = Quality.GOOD


def words(number):
    return struct.unpack(">2H", F32.pack(number))


def device(marker, *models):
    """Return the registers of a device: the marker, the models as (id, length), the list's end."""
    held = {marker: SUNS[0], marker + 1: SUNS[1]}
    at = marker + 2
    places = {}
    for number, length in models:
        places[number] = at
        held |= {at + offset: 0 for offset in range(length + 2)}
        held |= {at: number, at + 1: length}
        at += 2 + length
    held |= {at: 0xFFFF, at + 1: 0}
    return held, places


class Roof:
    """The meter of the site's second bus; a register that it has not is refused."""

    def __init__(self, folder, held, *, lasts_ms=None):
        site = load_site(write_site(folder, POINTS, text=_last_bus_only()))
        self.held = held
        self.fault = None
        self.clock = FakeClock(lasts_ms=lasts_ms)
        self.bus = FakeBus(self.clock, self.answer)
        self.recorder = FakeRecorder()
        (config,) = site.buses
        self.reader = make_reader(config, config.meters[0], self.bus, self.clock)

    def answer(self, request):
        if self.fault is not None:
            return self.fault
        places = range(request.start, request.start + request.count)
        if any(place not in self.held for place in places):
            return RefusedError(f"{request}: refused: illegal data address (2)", 2)
        return [self.held[place] for place in places]

    def put(self, start, volts, kwh):
        """Let the model at `start` show these values; its energies are in Wh."""
        for offset, value in ((VOLTAGE, volts), (ENERGY, 1000 * kwh)):
            at = start + offset
            self.held[at], self.held[at + 1] = words(value)

    async def scan(self):
        (scan,) = await self.reader.scan()
        return list(zip(*scan.decode(), strict=True))

    def asked(self):
        return [(r.start, r.count) for _, r in self.bus.asked]


def _last_bus_only():
    first, _, rest = SITE.partition('[[bus]]\nname = "switchroom"')
    return first + rest[rest.index('[[bus]]\nname = "roof"') :].replace('parent = "incomer"\n', "")


@pytest.fixture
def usual(tmp_path):
    held, places = device(40_000, (1, 66), (213, 124))
    roof = Roof(tmp_path, held)
    roof.put(places[213], 230.5, 1234.5)
    return roof


VALUES = [(2_305, GOOD), (1_234_500, GOOD)]


async def test_a_meter_with_its_model_in_the_usual_place_is_found_once_and_read(usual):
    assert await usual.scan() == VALUES
    # marker with the first header, the second header, the end, then the points
    assert usual.asked()[:3] == [(40_000, 4), (40_070, 2), (40_196, 2)]
    before = len(usual.bus.asked)
    assert await usual.scan() == VALUES
    assert usual.asked()[before:] == usual.asked()[3:before]


@pytest.mark.parametrize("marker", [0, 40_000, 50_000])
@pytest.mark.parametrize("between", [(), ((101, 50),), ((64_001, 7), (103, 50))])
async def test_a_model_is_found_and_read_wherever_marker_and_other_models_put_it(
    tmp_path, marker, between
):
    held, places = device(marker, (1, 66), *between, (213, 124), (802, 62))
    roof = Roof(tmp_path, held)
    roof.put(places[213], 230.5, 1234.5)
    assert await roof.scan() == VALUES
    assert await roof.scan() == VALUES


async def test_a_common_model_without_its_pad_moves_everything_by_one(tmp_path):
    held, places = device(40_000, (1, 65), (213, 124))
    roof = Roof(tmp_path, held)
    assert places[213] == 40_069
    roof.put(places[213], 230.5, 1234.5)
    assert await roof.scan() == VALUES


async def test_a_meter_with_other_models_is_refused_and_says_which_it_has(tmp_path):
    held, _ = device(40_000, (1, 66), (203, 105))
    roof = Roof(tmp_path, held)
    for _ in range(2):
        assert await roof.scan() == [(None, Quality.REFUSED)] * 2
    assert "no SunSpec model 213" in roof.reader.trouble
    assert "203" in roof.reader.trouble
    # something else stands where the model would be: it is never read as if it were it
    assert max(count for _, count in roof.asked()) <= 4


async def test_a_meter_that_is_not_of_sunspec_is_not_read_as_if_it_were(tmp_path):
    roof = Roof(tmp_path, dict.fromkeys(range(40000, 40300), 17254))
    assert await roof.scan() == [(None, Quality.IMPLAUSIBLE)] * 2
    assert "no SunSpec marker" in roof.reader.trouble
    assert max(count for _, count in roof.asked()) <= 4


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (LinkError("no reply"), Quality.NO_REPLY),
        (FrameError("bad CRC"), Quality.BAD_FRAME),
    ],
)
async def test_a_meter_that_does_not_answer_is_looked_for_again_when_it_is_back(
    usual, fault, reason
):
    usual.fault = fault
    assert await usual.scan() == [(None, reason)] * 2
    assert len(usual.asked()) == 1
    assert usual.reader.wasted_us == 20_000
    usual.fault = None
    assert await usual.scan() == VALUES


async def test_what_is_learned_is_not_tried_before_the_model_is_found(usual):
    usual.clock.pass_ms(3_600_000)
    assert not await usual.reader.learn()
    assert usual.reader.learned.next_trial_ms is None  # the time until the first one does not run
    assert usual.asked() == []


async def test_a_moved_meter_is_probed_where_its_model_stands(tmp_path):
    held, places = device(50_000, (1, 66), (213, 124))
    roof = Roof(tmp_path, held)
    roof.put(places[213], 230.5, 1234.5)
    await roof.scan()
    roof.bus.asked.clear()
    assert await roof.reader.probe() == 0
    ((start, count),) = roof.asked()
    assert (places[213] <= start < places[213] + 126, count) == (True, 2)


async def test_a_moved_meter_is_polled_with_its_discovery_in_the_first_slot(tmp_path):
    held, places = device(0, (1, 66), (213, 124))
    roof = Roof(tmp_path, held, lasts_ms=4_500)
    roof.put(places[213], 230.5, 1234.5)
    poller = Poller(roof.bus, {0: (roof.reader, 0)}, roof.recorder, roof.clock)
    with pytest.raises(TimeIsUpError):
        await poller.run()
    assert [row[3] for row in roof.recorder.rows] == [(2_305, 1_234_500)] * 4
    assert roof.asked().count((0, 4)) == 1
