"""Payloads become rows with names, or format errors; nothing else comes out of hostile bytes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg import _core
from edgeagg.content import Content, GapRow, ReadingRow, WindowRow, decode
from edgeagg.errors import FormatError
from edgeagg.model import Catalogue, Group, Kind, MeterInfo, PointInfo, Quality

GROUP = Group(
    "incomer",
    1_000,
    (
        PointInfo("active_power_total", "W", 0, Kind.GAUGE),
        PointInfo("active_energy_import", "kWh", -2, Kind.TOTALISER),
    ),
)
OTHER = Group("pv", 1_000, (PointInfo("voltage_l1", "V", -1, Kind.GAUGE),))
CATALOGUE = Catalogue(
    "site",
    (MeterInfo("incomer", "p", 1, "", ""), MeterInfo("pv", "p", 2, "incomer", "")),
    (GROUP, OTHER),
    (5_000,),
)
READINGS, WINDOWS, GAPS = 1, 2, 3
Table = tuple[int, int, int, Sequence[Sequence[int | None]]]


def aggregator() -> _core.Aggregator:
    return _core.Aggregator([(1_000, [False, True]), (1_000, [False])], [5_000])


def cut(core: _core.Aggregator, now_ms: int) -> tuple[int, bytes]:
    found = core.cut(now_ms)
    assert found is not None
    return found.encode()


def week() -> tuple[int, bytes]:
    """Return a payload with tables of all kinds."""
    core = aggregator()
    for second in range(12):
        core.push_row(0, second * 1_000, second * 1_000 + 20, [second, 100 + second], [0, 0])
    core.push_row(1, 0, 30, [None], [Quality.NO_REPLY])
    core.push_gap(1, 1_000, 9_000, 9, Quality.OVERRUN)
    return cut(core, 60_000)


def payload(*tables: Table) -> bytes:
    """Encode with codec 1, whatever the tables hold: all columns as deltas."""
    out = unsigned(len(tables))
    for kind, group, length_ms, columns in tables:
        out += bytes([kind]) + unsigned(group) + unsigned(length_ms)
        out += unsigned(len(columns[0])) + unsigned(len(columns))
        out += b"".join(column(values) for values in columns)
    return out


def column(values: Sequence[int | None]) -> bytes:
    present = [value for value in values if value is not None]
    if not present:
        return b"\x00"
    out = b"\x03" if len(present) == len(values) else b"\x13" + presence(values)
    previous = 0
    for value in present:
        out += signed(value - previous)
        previous = value
    return out


def presence(values: Sequence[int | None]) -> bytes:
    runs, here = [0], True
    for value in values:
        if (value is not None) != here:
            here = not here
            runs.append(0)
        runs[-1] += 1
    return b"".join(map(unsigned, runs))


def unsigned(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def signed(value: int) -> bytes:
    return unsigned(value << 1 if value >= 0 else (-value << 1) - 1)


def test_readings_windows_and_gaps_get_their_names() -> None:
    content = decode(*week(), CATALOGUE)
    assert content.readings[0] == ReadingRow(GROUP, 0, 20, (0, 100), (0, 0))
    assert content.readings[12] == ReadingRow(OTHER, 0, 30, (None,), (Quality.NO_REPLY,))
    assert len(content.readings) == 13
    assert content.gaps == (GapRow(OTHER, 1_000, 9_000, 9, Quality.OVERRUN),)
    assert [(row.group, row.start_ms) for row in content.windows] == [
        (GROUP, 0),
        (GROUP, 5_000),
        (GROUP, 10_000),
        (OTHER, 0),
    ]
    # held from 20 ms past each second: 4 from 5,000 to 5,020 ms, ..., 9 from 9,020 to 10,000 ms
    mean = round(1_000 * (4 * 20 + (5 + 6 + 7 + 8) * 1_000 + 9 * 980) / 5_000)
    assert content.windows[1] == WindowRow(
        group=GROUP,
        length_ms=5_000,
        start_ms=5_000,
        slots=(5, 5),
        values=(5, 5),
        minima=(5, None),
        maxima=(9, None),
        means=(mean, None),
        firsts=(5, 105),
        lasts=(9, 109),
        energies=(None, 5),
        covered_ms=(5_000, 5_000),
        worst=(0, 0),
    )
    assert content.groups() == [GROUP, OTHER]


def test_a_payload_written_by_hand_is_read() -> None:
    body = bytes.fromhex(
        "02"  # two tables
        "01 01 00 02 04"  # readings of group 1, length 0, 2 rows, 4 columns
        "02 d00f d00f"  # due: steps from 1,000 by 1,000
        "01 14"  # delay: always 10
        "13 01 01 fe23"  # voltage: deltas; one present, one absent; 2,303
        "03 00 02"  # quality: deltas from 0 by 1
        "03 01 00 01 04"  # gaps of group 1, 1 row, 4 columns
        "01 f02e 01 e0a712"  # first due 3,000 and last due 150,000
        "01 a802 01 0e"  # 148 slots, quality 7
    )
    content = decode(1, body, CATALOGUE)
    assert content == Content(
        readings=(
            ReadingRow(OTHER, 1_000, 1_010, (2_303,), (0,)),
            ReadingRow(OTHER, 2_000, 2_010, (None,), (1,)),
        ),
        windows=(),
        gaps=(GapRow(OTHER, 3_000, 150_000, 148, Quality.STOPPED),),
    )


@pytest.mark.parametrize("codec", [0, 2, 255])
def test_an_unknown_codec_is_a_format_error(codec: int) -> None:
    with pytest.raises(FormatError, match="payload"):
        decode(codec, b"\xc1", CATALOGUE)


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ((READINGS, 2, 0, [[0], [0], [1], [0]]), "group 2 is not in the catalogue"),
        ((READINGS, 0, 0, [[0], [0], [1], [0]]), "4 columns, the catalogue makes 6"),
        ((WINDOWS, 1, 5_000, [[0]] * 21), "21 columns, the catalogue makes 11"),
        ((READINGS, 1, 0, [[0], [0], [None], [0]]), "a value is missing without a reason"),
        ((READINGS, 1, 0, [[0], [0], [1], [9]]), "9 is not a quality"),
        ((READINGS, 1, 0, [[0], [0], [1], [None]]), "None is not a quality"),
        ((READINGS, 1, 0, [[None], [0], [1], [0]]), "None is not a time"),
        ((READINGS, 1, 0, [[0], [None], [1], [0]]), "a number is missing"),
        ((READINGS, 1, 0, [[-1], [0], [1], [0]]), "-1 is not a time"),
        ((READINGS, 1, 0, [[5], [-6], [1], [0]]), "-1 is not a time"),
        ((READINGS, 1, 0, [[2**45], [0], [1], [0]]), "is not a time"),
        ((READINGS, 1, 0, [[1], [2**62], [1], [0]]), "is not a time"),
        ((WINDOWS, 1, 5_000, [[2**62], *[[0]] * 10]), "is not a time"),
        ((GAPS, 1, 0, [[0], [9_000], [9], [1]]), "a gap of 9 slots, 10 were due"),
        ((GAPS, 1, 0, [[0], [9_000], [10], [0]]), "a gap of 10 slots, 10 were due"),
        ((GAPS, 1, 0, [[9_000], [0], [-8], [1]]), "a gap of -8 slots"),
        ((GAPS, 1, 0, [[9_000], [8_000], [0], [1]]), "a gap of 0 slots"),
        ((GAPS, 1, 0, [[0], [0], [1], [9]]), "9 is not a quality"),
        ((GAPS, 1, 0, [[0], [None], [1], [1]]), "None is not a time"),
        ((READINGS, 1, 7, [[0], [0], [1], [0]]), "payload"),
        ((WINDOWS, 1, 0, [[0]] * 11), "payload"),
        ((7, 1, 0, [[0]]), "payload"),
    ],
)
def test_a_table_that_cannot_be_right_is_a_format_error(table: Table, reason: str) -> None:
    with pytest.raises(FormatError, match=reason):
        decode(1, payload(table), CATALOGUE)


@given(st.data())
def test_a_damaged_payload_is_rows_or_a_format_error(data: st.DataObject) -> None:
    codec, whole = week()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        cut_off = bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
        content = decode(codec, cut_off, CATALOGUE)
    except FormatError:
        return
    for row in content.readings:
        assert 0 <= row.at_ms < 2**45
    for gap in content.gaps:
        assert gap.slot_count >= 1


@given(st.binary(max_size=60))
def test_random_bytes_are_rows_or_a_format_error(data: bytes) -> None:
    try:
        decode(1, data, CATALOGUE)
    except FormatError:
        return
