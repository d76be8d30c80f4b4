"""The catalogue: one canonical form, and nothing else is believed."""

from __future__ import annotations

import dataclasses
import hashlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg.errors import FormatError
from edgeagg.model import (
    Catalogue,
    Demand,
    Group,
    Guard,
    Kind,
    LocalTime,
    MeterInfo,
    PointInfo,
    PointSum,
    unpack_bounded,
)

CATALOGUE = Catalogue(
    site="区一",
    meters=(
        MeterInfo("incomer", "acrel-adl400", 1, "", "power"),
        MeterInfo("pv", "sunspec-meter-213", 2, "incomer", ""),
    ),
    groups=(
        Group("incomer", 1_000, (PointInfo("voltage_l1", "V", -1, Kind.GAUGE),)),
        Group("pv", 60_000, (PointInfo("active_energy_import", "kWh", 0, Kind.TOTALISER),)),
    ),
    window_lengths_ms=(10_000, 900_000),
)
CATALOGUE_BYTES = (
    b"\x95"  # array of 5
    b"\x01"  # catalogue version
    b"\xa6\xe5\x8c\xba\xe4\xb8\x80"  # site, UTF-8
    b"\x92"  # two meters: name, profile, tier, parent, sub-item
    b"\x95\xa7incomer\xacacrel-adl400\x01\xa0\xa5power"
    b"\x95\xa2pv\xb1sunspec-meter-213\x02\xa7incomer\xa0"
    b"\x92"  # two groups: meter, period_ms, points as name, unit, exponent, kind
    b"\x93\xa7incomer\xcd\x03\xe8\x91\x94\xaavoltage_l1\xa1V\xff\xa5gauge"
    b"\x93\xa2pv\xcd\xea\x60\x91\x94\xb4active_energy_import\xa3kWh\x00\xa9totaliser"
    b"\x92\xcd\x27\x10\xce\x00\x0d\xbb\xa0"  # window lengths: 10 s, 15 min
)

JUDGED = dataclasses.replace(
    CATALOGUE,
    groups=(
        Group(
            "incomer",
            1_000,
            (PointInfo("voltage_l1", "V", -1, Kind.GAUGE, None, statistics=True),),
        ),
        Group(
            "pv",
            60_000,
            (
                PointInfo(
                    "active_energy_import",
                    "kWh",
                    0,
                    Kind.TOTALISER,
                    Guard(1_000_000, 400, 1),
                    demand=Demand(900_000, 60_000),
                ),
                PointInfo("active_energy_sum", "kWh", 0, Kind.TOTALISER),
            ),
        ),
    ),
    local_time=LocalTime("Asia/Shanghai", ((1_577_836_800_000, 28_800_000),)),
)
JUDGED_BYTES = (
    b"\x96"  # array of 6
    b"\x02"  # catalogue version
    b"\xa6\xe5\x8c\xba\xe4\xb8\x80"  # site, UTF-8
    b"\x92\xadAsia/Shanghai"  # local time: its zone, its changes as UTC ms, offset
    b"\x91\x92\xcf\x00\x00\x01\x6f\x5e\x66\xe8\x00\xce\x01\xb7\x74\x00"
    b"\x92"  # two meters: name, profile, tier, parent, sub-item
    b"\x95\xa7incomer\xacacrel-adl400\x01\xa0\xa5power"
    b"\x95\xa2pv\xb1sunspec-meter-213\x02\xa7incomer\xa0"
    b"\x92"  # two groups: meter, period_ms, points
    b"\x93\xa7incomer\xcd\x03\xe8\x91"
    b"\x97\xaavoltage_l1\xa1V\xff\xa5gauge\xc0\x01\xc0"  # no guard, statistics, no demand
    b"\x93\xa2pv\xcd\xea\x60\x92"
    b"\x97\xb4active_energy_import\xa3kWh\x00\xa9totaliser"
    b"\x93\xce\x00\x0f\x42\x40\xcd\x01\x90\x01"  # wraps at 1 000 000, 400 an hour, steps of 1
    b"\x00\x92\xce\x00\x0d\xbb\xa0\xcd\xea\x60"  # no statistics, demand of 15 min by 1 min
    b"\x94\xb1active_energy_sum\xa3kWh\x00\xa9totaliser"  # not judged: four items as before
    b"\x92\xcd\x27\x10\xce\x00\x0d\xbb\xa0"  # window lengths: 10 s, 15 min
)

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20)
MANTISSAS = st.integers(1, 2**63 - 1)
GUARDS = st.builds(Guard, st.none() | MANTISSAS, MANTISSAS, MANTISSAS)
DEMANDS = st.builds(Demand, st.sampled_from([900_000, 3_600_000]), st.sampled_from([60_000]))
PLAIN = st.builds(PointInfo, NAMES, NAMES, st.integers(-18, 18), st.sampled_from(Kind))
GAUGES = st.builds(
    PointInfo,
    NAMES,
    NAMES,
    st.integers(-18, 18),
    st.just(Kind.GAUGE),
    st.none(),
    st.booleans(),
    st.none() | DEMANDS,
)
TOTALISERS = st.builds(
    PointInfo,
    NAMES,
    NAMES,
    st.integers(-18, 18),
    st.just(Kind.TOTALISER),
    st.none() | GUARDS,
    st.booleans(),
    st.none() | DEMANDS,
)
LOCAL_TIMES = st.builds(
    LocalTime,
    NAMES,
    st.lists(
        st.tuples(st.integers(-(2**53), 2**53), st.integers(-86_399_999, 86_399_999)),
        min_size=1,
        max_size=4,
        unique_by=lambda change: change[0],
    ).map(lambda changes: tuple(sorted(changes))),
)
METERS = st.lists(
    st.builds(MeterInfo, NAMES, NAMES, st.integers(1, 3), NAMES, NAMES),
    min_size=1,
    max_size=4,
    unique_by=lambda meter: meter.name,
)


@st.composite
def catalogues(draw: st.DrawFn) -> Catalogue:
    meters = draw(METERS)
    local_time = draw(st.none() | LOCAL_TIMES)
    points = PLAIN if local_time is None else PLAIN | GAUGES | TOTALISERS
    groups = st.builds(
        Group,
        st.sampled_from([meter.name for meter in meters]),
        st.integers(1, 2**32 - 1),
        st.lists(points, min_size=1, max_size=4).map(tuple),
    )
    return Catalogue(
        draw(NAMES),
        tuple(meters),
        tuple(draw(st.lists(groups, max_size=4))),
        tuple(draw(st.lists(st.integers(1, 2**32 - 1), max_size=3))),
        local_time,
    )


def items() -> list[object]:
    return msgpack.unpackb(CATALOGUE_BYTES)


def test_the_bytes_of_a_catalogue_never_change() -> None:
    assert CATALOGUE.to_bytes() == CATALOGUE_BYTES
    assert CATALOGUE.hash == hashlib.sha256(CATALOGUE_BYTES).digest()[:16]


def test_the_bytes_of_a_catalogue_are_read() -> None:
    assert Catalogue.from_bytes(CATALOGUE_BYTES) == CATALOGUE


def test_the_bytes_of_a_catalogue_with_judged_points_never_change() -> None:
    assert JUDGED.to_bytes() == JUDGED_BYTES
    assert Catalogue.from_bytes(JUDGED_BYTES) == JUDGED


def test_judged_points_need_a_local_time() -> None:
    with pytest.raises(ValueError, match="names the site's local time"):
        dataclasses.replace(JUDGED, local_time=None)


@pytest.mark.parametrize(
    ("place", "item", "said"),
    [
        ((4, 1, 2, 0, 4), [0, 1, 1], "mantissa above 0"),
        ((4, 1, 2, 0, 4), [None, 2**63, 1], "mantissa above 0"),
        ((4, 1, 2, 0, 4), [None, 1], "missing"),
        ((4, 1, 2, 0, 3), "gauge", "has a guard and is no totaliser"),
        ((4, 0, 2, 0, 5), 2, "judged in no known way"),
        ((4, 0, 2, 0, 5), 0, "judged in no known way"),
        ((4, 1, 2, 0, 6), [900_000, 7_000], "a period whole slips"),
        ((4, 1, 2, 0, 6), [7_000_000, 1_000_000], "a day holds whole periods"),
        ((2, 1), [], "do not ascend"),
        ((2, 1), [[5, 0], [5, 1]], "do not ascend"),
        ((2, 1), [[2**53 + 1, 0]], "do not ascend"),
        ((2, 1), [[0, 86_400_000]], "a day or more from UTC"),
        ((2, 1), [[0, 1.5]], "not a whole number"),
        ((2, 0), b"zone", "is not text"),
    ],
)
def test_what_no_gateway_can_judge_by_is_refused(
    place: tuple[int, ...], item: object, said: str
) -> None:
    fields = msgpack.unpackb(JUDGED_BYTES)
    inner = fields
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = item
    with pytest.raises(FormatError, match=said):
        Catalogue.from_bytes(msgpack.packb(fields))


@pytest.mark.parametrize(("version", "bytes_"), [(1, JUDGED_BYTES), (2, CATALOGUE_BYTES)])
def test_a_catalogue_has_the_items_of_its_version(version: int, bytes_: bytes) -> None:
    fields = msgpack.unpackb(bytes_)
    fields[0] = version
    with pytest.raises(FormatError, match=f"items in version {version}"):
        Catalogue.from_bytes(msgpack.packb(fields))


@given(catalogues())
def test_every_catalogue_makes_the_round_trip(catalogue: Catalogue) -> None:
    again = Catalogue.from_bytes(catalogue.to_bytes())
    assert again == catalogue
    assert again.hash == catalogue.hash


@given(catalogues(), st.data())
def test_a_damaged_catalogue_is_read_or_a_format_error(
    catalogue: Catalogue, data: st.DataObject
) -> None:
    damaged = bytearray(catalogue.to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = Catalogue.from_bytes(bytes(damaged))
    except FormatError:
        return
    assert Catalogue.from_bytes(read.to_bytes()) == read


@given(st.binary(max_size=100))
def test_random_bytes_are_no_catalogue(data: bytes) -> None:
    with pytest.raises(FormatError):
        Catalogue.from_bytes(data)


def test_another_version_of_the_catalogue_is_named() -> None:
    fields = items()
    fields[0] = 3
    with pytest.raises(FormatError, match="catalogue version 3; this edgeagg reads versions 1 and"):
        Catalogue.from_bytes(msgpack.packb(fields))


@pytest.mark.parametrize("period_ms", [0, -1, 2**32, 2**64 - 1, True, 1.0, None])
def test_a_period_that_no_meter_can_have_is_refused(period_ms: object) -> None:
    fields = items()
    fields[3][0][1] = period_ms
    with pytest.raises(FormatError, match="number of milliseconds from 1 to 4294967295"):
        Catalogue.from_bytes(msgpack.packb(fields))


@pytest.mark.parametrize("exponent", [-19, 19, True, 1.0, "1"])
def test_an_exponent_beyond_18_digits_is_refused(exponent: object) -> None:
    fields = items()
    fields[3][0][2][0][2] = exponent
    with pytest.raises(FormatError, match="from -18 to 18"):
        Catalogue.from_bytes(msgpack.packb(fields))


@pytest.mark.parametrize("name", ["a\0b", "a\nb", "\x1b[2J", "\x7f", "\x85"])
def test_a_name_with_control_characters_is_refused(name: str) -> None:
    # PostgreSQL's text cannot hold NUL: such a catalogue could never be committed
    fields = items()
    fields[3][0][2][0][0] = name
    with pytest.raises(FormatError, match="control characters"):
        Catalogue.from_bytes(msgpack.packb(fields))


def test_a_name_that_is_no_text_is_refused() -> None:
    fields = items()
    fields[1] = b"site"
    with pytest.raises(FormatError, match="is not text"):
        Catalogue.from_bytes(msgpack.packb(fields))


def test_a_group_of_a_meter_that_is_not_there_is_refused() -> None:
    lonely = dataclasses.replace(CATALOGUE, meters=CATALOGUE.meters[:1])
    with pytest.raises(FormatError, match="group of unknown meter 'pv'"):
        Catalogue.from_bytes(lonely.to_bytes())


def test_a_group_without_points_is_refused() -> None:
    empty = dataclasses.replace(CATALOGUE, groups=(Group("pv", 1_000, ()),))
    with pytest.raises(FormatError, match="meter 'pv' has an empty group"):
        Catalogue.from_bytes(empty.to_bytes())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x81\xa1a\x01",  # a map
        b"\xd4\x05\x00",  # an extension
        b"\xd6\xff\x00\x00\x00\x00",  # a timestamp
        b"\xdd\x7f\xff\xff\xff",  # an array of 2^31-1 items, none of which came
        b"\xdc\x10\x01" + bytes(4097),  # an array of 4097 items
        b"\xdb\x00\x00\x01\x01" + b"a" * 257,  # a text of 257 bytes
        b"\x91" * 5_000 + b"\x00",  # nested 5000 deep
        b"\xa1\xff",  # text that is not UTF-8
        b"\x01\x01",  # a byte too many
        b"\xc1",  # the byte that msgpack never uses
    ],
)
def test_msgpack_beyond_the_bounds_is_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError, match="not msgpack of the expected shape"):
        unpack_bounded(data)


METERED = tuple(PointInfo(name, "kWh", -2, Kind.TOTALISER) for name in ("all", "t1", "t2"))
SUMMED = dataclasses.replace(
    CATALOGUE, groups=(Group("pv", 1_000, METERED, (PointSum(0, (1, 2)),)),)
)


def test_the_sums_of_a_group_are_its_last_item() -> None:
    group = unpack_bounded(SUMMED.to_bytes())[3][0]
    assert group[3:] == [[[0, [1, 2]]]]
    assert Catalogue.from_bytes(SUMMED.to_bytes()) == SUMMED


@pytest.mark.parametrize(
    "sums",
    [
        [],
        [[0, [1]]],
        [[0, [0, 1]]],
        [[0, [1, 1]]],
        [[0, [1, 3]]],
        [[0, [1, -1]]],
        [[-1, [1, 2]]],
        [[False, [1, 2]]],
        [[0, [1, True]]],
        [[0, [1, "2"]]],
        [[0, [1, [2]]]],
        [[0]],
        [[0, [1, 2], 3]],
        [0],
        0,
    ],
)
def test_a_sum_of_what_is_not_there_is_refused(sums: object) -> None:
    items = unpack_bounded(SUMMED.to_bytes())
    items[3][0][3] = sums
    with pytest.raises(FormatError, match="not a catalogue"):
        Catalogue.from_bytes(msgpack.packb(items))


@pytest.mark.parametrize(("unit", "kind"), [("Wh", "totaliser"), ("kWh", "gauge")])
def test_what_cannot_be_added_up_is_no_sum(unit: str, kind: str) -> None:
    items = unpack_bounded(SUMMED.to_bytes())
    items[3][0][2][2][1::2] = [unit, kind]
    with pytest.raises(FormatError, match="cannot be summed"):
        Catalogue.from_bytes(msgpack.packb(items))


def test_a_group_with_a_fifth_item_is_refused() -> None:
    items = unpack_bounded(SUMMED.to_bytes())
    items[3][0].append([])
    with pytest.raises(FormatError, match="not a catalogue"):
        Catalogue.from_bytes(msgpack.packb(items))
