"""From points to questions and from answers to readings, for every protocol."""

import random
from fractions import Fraction

import pytest

from agent.tests.plain_decoding import decode_plainly
from edgeagg.model import Quality
from edgeagg_agent.asking import (
    Address,
    Asker,
    ItemDecoder,
    ItemRead,
    RegisterDecoder,
    item_reads,
    plan_reads,
    ratio_content,
    spans,
)
from edgeagg_agent.bus.timing import Timing
from edgeagg_agent.plan import Block
from edgeagg_agent.profile import load, names
from edgeagg_agent.protocol.modbus import RtuQuestion
from edgeagg_agent.protocol.modbus_ascii import AsciiQuestion

TIMING = Timing.of(9600, "8N1")
FEEDER = "202401150001"
WATER = "00000012345678"
SHIPPED = [load(name, ()) for name in names(())]
MODBUS = [profile for profile in SHIPPED if profile.protocol == "modbus"]
ITEMS = [profile for profile in SHIPPED if profile.protocol != "modbus"]


def picked(profile, *wanted):
    known = {point.name: point for point in profile.every_point}
    return tuple(known[name] for name in wanted)


@pytest.mark.parametrize(
    ("address", "text"),
    [(Address(unit=7), "unit 7"), (Address(digits=FEEDER), f"address {FEEDER}")],
)
def test_an_address_is_named_as_messages_do(address, text):
    assert str(address) == text


def test_editions_are_one_meter_and_types_are_two():
    water = Address(digits=WATER, meter_type=0x10, edition="2004")
    assert water.is_same(Address(digits=WATER, meter_type=0x10, edition="2018"))
    assert not water.is_same(Address(digits=WATER, meter_type=0x20, edition="2004"))
    assert not Address(unit=1).is_same(Address(unit=2))


@pytest.mark.parametrize(("ascii_mode", "kind"), [(False, RtuQuestion), (True, AsciiQuestion)])
def test_a_block_is_asked_for_in_the_mode_of_the_bus(ascii_mode, kind):
    asker = Asker(load("eastron-sdm630", ()), Address(unit=9), ascii_mode=ascii_mode)
    question = asker.question(Block(4, 52, 2))
    assert type(question) is kind
    read = question.read
    assert (read.unit, read.function, read.start, read.count) == (9, 4, 52, 2)


@pytest.mark.parametrize(
    ("edition", "item", "data"),
    [("2007", "00010000", "33333433"), ("1997", "9010", "43C3")],
)
def test_a_dlt645_item_is_asked_for_in_the_meters_edition(edition, item, data):
    profile = load(f"dlt645-{edition}-generic", ())
    asker = Asker(profile, Address(digits=FEEDER), ascii_mode=False)
    question = asker.question(ItemRead(item, (4,), 4))
    code = {"2007": "1104", "1997": "0102"}[edition]
    # the address low byte first, the item as well, and 33H on every byte of it
    assert question.request.hex().upper().startswith(f"FEFEFEFE68010015012420{'68'}{code}{data}")


@pytest.mark.parametrize(("edition", "item"), [("2004", "901F"), ("2018", "1F90")])
def test_a_cjt188_item_is_asked_for_in_the_meters_edition_with_a_new_number(edition, item):
    address = Address(digits=WATER, meter_type=0x10, edition=edition)
    asker = Asker(load("cjt188-generic", ()), address, ascii_mode=False)
    asked = [asker.question(ItemRead("901F", (19,), 19)).request.hex().upper() for _ in range(258)]
    head = "FEFEFEFE68107856341200000001" + "03"
    assert all(request.startswith(head + item) for request in asked)
    numbers = [int(request[len(head) + 4 :][:2], 16) for request in asked]
    assert numbers == [*range(256), 0, 1]


def test_registers_that_scale_with_the_load_are_read_with_their_points_and_no_others():
    profile = load("sunspec-meter-int", ())
    points = picked(profile, "current_l1")
    assert set(spans(points, profile)) == {(3, 40073, 1), (3, 40076, 1)}
    (block,) = plan_reads(points, profile, TIMING, 20_000)
    assert (block.start, block.count) == (40073, 4)


def test_points_of_one_block_are_fetched_with_it_and_a_single_one_by_its_item():
    profile = load("dlt645-2007-generic", ())
    both = picked(profile, "voltage_l1", "voltage_l3", "active_energy_import")
    reads = item_reads(both, profile.protocol)
    assert [(read.item, read.is_block) for read in reads] == [
        ("0201FF00", True),
        ("00010000", False),
    ]
    assert reads[0].needed_bytes == 6  # up to the third voltage
    assert reads[1].lengths == (4,)
    (one,) = item_reads(picked(profile, "voltage_l3"), profile.protocol)
    assert (one.item, one.lengths, one.is_block) == ("02010300", (2,), False)


def test_a_block_that_the_meter_refused_is_read_item_by_item():
    profile = load("dlt645-2007-generic", ())
    points = picked(profile, "voltage_l1", "voltage_l2", "voltage_l3")
    reads = plan_reads(points, profile, TIMING, 20_000, refused={"0201FF00"})
    assert [read.item for read in reads] == ["02010100", "02010200", "02010300"]


def test_all_points_of_a_water_meter_are_one_read_in_all_their_lengths():
    profile = load("cjt188-generic", ())
    (read,) = item_reads(profile.items, profile.protocol)
    assert (read.item, read.lengths) == ("901F", (6, 19))


@pytest.mark.parametrize("profile", ITEMS, ids=lambda profile: profile.name)
def test_every_point_of_a_shipped_profile_of_items_is_fetched(profile):
    points = tuple(profile.items)
    reads = item_reads(points, profile.protocol)
    assert len({read.item for read in reads}) == len(reads)
    answers = [bytes(max(read.lengths or (read.needed_bytes,))) for read in reads]
    values, qualities = ItemDecoder(points, reads).decode(answers, Quality.GOOD)
    assert len(values) == len(qualities) == len(points)
    for point, value, quality in zip(points, values, qualities, strict=True):
        if point.layouts[0].unit_byte is None and (point.min or 0) <= 0 <= (point.max or 0):
            assert (value, quality) == (0, Quality.GOOD), point.name


def test_an_item_costs_its_frames_with_all_that_may_stand_in_front():
    asker = Asker(load("dlt645-2007-generic", ()), Address(digits=FEEDER), ascii_mode=False)
    item = asker.cost(ItemRead("00010000", (4,), 4))
    # 4 FE, 68, address, 68, code, length, item, sum, 16; the answer has four bytes more
    assert (item.request_bytes, item.reply_bytes) == (4 + 16, 4 + 20)
    block = asker.cost(ItemRead("0001FF00", (), 20, is_block=True))
    assert block.reply_bytes == 4 + 36


@pytest.mark.parametrize("reason", [Quality.NO_REPLY, Quality.REFUSED])
def test_a_failed_item_is_the_reason_of_its_points_alone(reason):
    profile = load("dlt645-2007-generic", ())
    points = picked(profile, "voltage_l1", "active_energy_import")
    reads = item_reads(points, profile.protocol)
    decoder = ItemDecoder(points, reads)
    decoder.set_ratios({"ct": Fraction(40)})  # such meters have none to read
    values, qualities = decoder.decode([int(reason), bytes.fromhex("78563412")], Quality.GOOD)
    assert values == [None, 12345678]
    assert qualities == bytes((reason, Quality.GOOD))


def test_a_ratio_is_cut_out_of_the_read_that_holds_it():
    profile = load("sunspec-meter-int", ())
    ratio = next(ratio for ratio in profile.ratios if ratio.name == "a_sf")
    reads = [Block(3, 40000, 4), Block(3, 40072, 6)]
    replies = [bytes(8), bytes(range(12))]
    assert ratio_content(ratio, reads, replies) == b"\x08\x09"
    assert ratio_content(ratio, reads, [b"", int(Quality.REFUSED)]) is Quality.REFUSED
    with pytest.raises(ValueError, match="ratio a_sf stands in no read"):
        ratio_content(ratio, reads[:1], replies[:1])


@pytest.mark.parametrize("profile", MODBUS, ids=lambda profile: profile.name)
def test_the_core_decodes_every_shipped_profile_as_the_plain_rules_do(profile):
    rng = random.Random(profile.name)
    reads = plan_reads(profile.points, profile, TIMING, 20_000)
    decoder = RegisterDecoder(profile.points, reads)
    for _ in range(3):
        ratios = {
            ratio.name: Fraction(rng.choice((1, 30, 4000)), rng.choice((1, 10, 1000)))
            for ratio in profile.ratios
        }
        decoder.set_ratios(ratios)
        replies = [_registers(rng, read.count) for read in reads]
        values, qualities = decoder.decode(replies, Quality.GOOD)
        for point, value, quality in zip(profile.points, values, qualities, strict=True):
            place = (point.function, point.register, point.count)
            read, reply = next(
                pair for pair in zip(reads, replies, strict=True) if pair[0].covers(place)
            )
            at = 2 * (point.register - read.start)
            content = reply[at : at + 2 * point.count]
            assert (value, Quality(quality)) == decode_plainly(point, content, ratios), point.name


def _registers(rng, count):
    """Make up registers: small numbers, large ones, sevenfold floats and marks of "nothing"."""
    words = []
    while len(words) < count:
        words += rng.choice(
            (
                [0, rng.randrange(10_000)],
                [rng.randrange(0x10000)],
                [0x4366, rng.randrange(0x10000)],
                [0x8000],
                [0xFFFF, 0xFFFF],
                [0x1234, 0x5678],
            )
        )
    return b"".join(word.to_bytes(2, "big") for word in words[:count])
