"""A meter that was replaced is noticed by its serial number, and by nothing less."""

import logging
from dataclasses import replace

import pytest

from agent.tests.fakes import START_MS
from agent.tests.metering import ENERGY, METERS, PROFILE, REFUSAL, SILENCE, WORDS, Bench
from edgeagg.errors import FrameError
from edgeagg_agent.asking import ItemRead
from edgeagg_agent.learned import Learned
from edgeagg_agent.plan import Block
from edgeagg_agent.profile import load
from edgeagg_agent.serials import EVERY_MS, is_due, serial_read, serial_text

IDENTITY = """
[identity.serial_number]
function = 3
register = 200
type = "u32"
count = 2
"""
SERIAL = (3, 200)


@pytest.fixture
def bench(tmp_path):
    """Return a bench whose first meter has the serial number 65537 at first."""
    return made(tmp_path)


def made(folder, **options):
    bench = Bench(folder, profile=PROFILE + IDENTITY, site=METERS, **options)
    bench.words |= {(3, 200): 1, (3, 201): 1}
    return bench


def test_the_serial_number_is_read_where_the_profile_has_it():
    assert serial_read(load("dlt645-2007-generic", ())) == ItemRead("04000402", (), 6)
    assert serial_read(load("accuenergy-acuvim-ii", ())) == Block(3, 0xC384, 16)
    assert serial_read(load("xy-md02", ())) is None


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (bytes.fromhex("010000000000"), "000000000001"),
        (bytes(6), ""),
        (b"\xff" * 6, ""),
        (b"\x01", ""),
    ],
)
def test_a_blank_serial_number_is_none(payload, text):
    assert serial_text(load("dlt645-2007-generic", ()), payload) == text


@pytest.mark.parametrize(
    ("asked_ms", "was_silent", "expected"),
    [
        (None, False, True),
        (0, False, False),
        (1 - EVERY_MS, False, False),
        (-EVERY_MS, False, True),
        (1, False, True),  # the clock was set back
        (0, True, True),
    ],
)
def test_it_is_time_to_ask_at_first_each_hour_and_behind_a_silence(asked_ms, was_silent, expected):
    assert is_due(asked_ms, 0, was_silent=was_silent) is expected


async def test_another_serial_number_is_another_meter_and_the_first_is_none(bench):
    reader = bench.readers[0]
    assert not await reader.find_replaced(), "nothing was known before"
    assert reader.learned.serial == "65537"
    bench.words[3, 201] = 2
    assert not await reader.find_replaced(), "it is not time yet"
    bench.clock.pass_ms(EVERY_MS)
    assert await reader.find_replaced()
    assert reader.learned.serial == "65538"
    bench.clock.pass_ms(EVERY_MS)
    assert not await reader.find_replaced()


async def test_a_serial_number_that_is_not_said_twice_is_not_believed(bench):
    reader = bench.readers[0]
    await reader.find_replaced()
    bench.clock.pass_ms(EVERY_MS)
    answers = iter([2, 3])
    pass_ms = bench.clock.pass_ms

    def change(duration_ms):
        pass_ms(duration_ms)
        bench.words[3, 201] = next(answers, 1)

    bench.words[3, 201] = 7
    bench.clock.pass_ms = change
    assert not await reader.find_replaced()
    assert reader.learned.serial == "65537"


@pytest.mark.parametrize("error", [SILENCE, FrameError("bad CRC"), REFUSAL])
async def test_a_serial_number_that_cannot_be_read_changes_nothing(bench, error):
    reader = bench.readers[0]
    await reader.find_replaced()
    bench.faults = {(1, *SERIAL): error}
    bench.clock.pass_ms(EVERY_MS)
    assert not await reader.find_replaced()
    assert reader.learned.serial == "65537"
    count = len(bench.asked(1))
    bench.clock.pass_ms(EVERY_MS)
    await reader.find_replaced()
    assert len(bench.asked(1)) == count + (error is not REFUSAL), "what it refuses is not asked"


def test_the_serial_number_is_kept_over_restarts():
    learned = replace(Learned("m1"), serial="65537")
    assert Learned.from_json(learned.to_json(), "m1").serial == "65537"
    former = {key: value for key, value in learned.to_json().items() if key != "serial"}
    assert Learned.from_json(former, "m1").serial == ""


async def test_the_poller_records_the_replacement_before_the_new_meters_first_reading(
    tmp_path, caplog
):
    bench = made(tmp_path, lasts_ms=30_000)
    told = []
    bench.recorder.replaced = lambda group: told.append((group, len(bench.rows(0))))
    pass_ms = bench.clock.pass_ms

    def replaced(duration_ms):
        pass_ms(duration_ms)
        second = (bench.clock.now_ms() - START_MS) // 1_000
        bench.faults = {1: SILENCE} if 10 <= second < 20 else {}
        if second >= 20:
            bench.words |= {(3, 201): 2, ENERGY: 0}

    bench.clock.pass_ms = replaced
    with caplog.at_level(logging.WARNING):
        await bench.run()
    ((group, rows_before),) = told
    assert group == 0
    values = [row[3][2] for row in bench.rows(0)]
    first = next(place for place, value in enumerate(values) if value == WORDS[4, 1])
    assert rows_before == first, "the row that follows is the new meter's first"
    assert "meter incomer: another meter hangs there, serial number 65538" in caplog.text
