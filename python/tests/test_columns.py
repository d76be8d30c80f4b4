"""Decoded columns are what `decode` says, and their readers take them where they lie."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg import _core, columns
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
    Quality,
)

POWER = PointInfo("active_power_total", "W", 0, Kind.GAUGE)
GUARD = Guard(None, 3_600_000, 1)
ENERGY = PointInfo("active_energy_import", "kWh", -2, Kind.TOTALISER, GUARD)
CLOCK = LocalTime("Asia/Shanghai", ((0, 28_800_000),))
GROUP = Group("incomer", 1_000, (POWER, ENERGY))


def catalogue(*groups: Group) -> Catalogue:
    return Catalogue("site", (MeterInfo("incomer", "p", 1, "", ""),), groups, (5_000,), CLOCK)


def minute(core: _core.Aggregator | None = None) -> tuple[int, bytes]:
    """Return a payload with readings, a silent slot, windows, a gap and a bridge."""
    core = core or _core.Aggregator([(1_000, [False, (None, 3_600_000, 1)])], [5_000])
    for second in range(20):
        energy = 100 + second if second < 12 else second
        values: list[int | None] = [-second, energy] if second != 3 else [None, None]
        qualities = [Quality.GOOD if value is not None else Quality.NO_REPLY for value in values]
        core.push_row(0, second * 1_000, second * 1_000 + 20, values, qualities)
    core.push_gap(0, 20_000, 29_000, 10, Quality.OVERRUN)
    found = core.cut(86_400_000)
    assert found is not None
    return found.encode()


def tables() -> dict[int, columns.Table]:
    return {table.kind: table for table in columns.decode(*minute(), catalogue(GROUP))}


def test_columns_hold_what_decode_says() -> None:
    lists = _core.decode(*minute())
    assert {table[0] for table in lists} >= {1, 2, 3, 4}
    for (kind, _, length_ms, rows, cells), table in zip(
        lists, columns.decode(*minute(), catalogue(GROUP)), strict=True
    ):
        assert (table.kind, table.length_ms, table.rows) == (kind, length_ms, rows)
        assert table.group is GROUP or table.group == GROUP
        assert [list(column) for column in table.columns.values()] == cells
        assert all(len(column) == rows for column in table.columns.values())


def test_a_column_has_a_validity_only_where_a_value_is_missing() -> None:
    readings = tables()[1].columns
    power = readings["active_power_total"]
    assert power.validity == bytes([0b1111_0111, 0xFF, 0b1111])
    assert power.values[3] == 0
    assert list(power)[2:5] == [-2, None, -4]
    assert readings["due_ms"].validity is None
    assert list(readings["active_power_total.quality"])[2:5] == [0, Quality.NO_REPLY, 0]


def test_columns_have_the_names_of_the_batch_format() -> None:
    found = tables()
    assert list(found[1].columns)[:4] == [
        *("due_ms", "delay_ms"),
        *("active_power_total", "active_energy_import"),
    ]
    assert list(found[2].columns["active_power_total.minimum"]) == [-4, -9, -14, -19]
    assert list(found[2].columns["start_ms"]) == [0, 5_000, 10_000, 15_000]
    assert [list(column) for column in found[3].columns.values()] == [[20_000], [29_000], [10], [6]]
    assert list(found[4].columns["closing"]) == [111]


def test_what_a_catalogue_asks_for_beside_windows_has_names_too() -> None:
    power = replace(POWER, statistics=True, demand=Demand(900_000, 900_000))
    group = Group("incomer", 1_000, (power, ENERGY))
    core = _core.Aggregator(
        [(1_000, [False, (None, 3_600_000, 1)])],
        [5_000],
        statistics=[(0, 0)],
        demands=[(0, 0, 900_000, 900_000)],
    )
    payload = minute(core)
    found = {table.kind: table for table in columns.decode(*payload, catalogue(group))}
    assert list(found[5].columns) == ["start_ms", "length_ms", "active_energy_import.uncertainty"]
    assert list(found[6].columns) == [
        *("start_ms", "length_ms", "active_power_total.deviation"),
        *("active_power_total.median", "active_power_total.p95"),
    ]
    assert list(found[6].columns["active_power_total.median"]) == [-2, -7, -12, -17]
    assert found[7].columns.keys() >= {"point", "block_end_ms", "sliding_end_ms", "periods"}
    assert list(found[7].columns["length_ms"]) == [86_400_000]
    with pytest.raises(FormatError, match="5 columns, the catalogue makes 2"):
        columns.decode(*payload, catalogue(GROUP))


@given(st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62)), min_size=1, max_size=70))
def test_every_pattern_of_missing_values_comes_through(cells: list[int | None]) -> None:
    core = _core.Aggregator([(1_000, [False])], [])
    for slot, cell in enumerate(cells):
        core.push_row(0, slot * 1_000, slot * 1_000, [cell], [int(cell is None)])
    found = core.cut(0)
    assert found is not None
    group = Group("incomer", 1_000, (POWER,))
    (table,) = columns.decode(*found.encode(), catalogue(group))
    assert list(table.columns["active_power_total"]) == cells


def test_what_does_not_fit_the_catalogue_is_refused() -> None:
    codec, payload = minute()
    with pytest.raises(FormatError, match="group 0 is not in the catalogue"):
        columns.decode(codec, payload, catalogue())
    with pytest.raises(FormatError, match="6 columns, the catalogue makes 4"):
        columns.decode(codec, payload, catalogue(Group("incomer", 1_000, (POWER,))))
    with pytest.raises(FormatError, match="two of its points have one name"):
        columns.decode(codec, payload, catalogue(Group("incomer", 1_000, (POWER, POWER))))
    with pytest.raises(FormatError, match="payload: "):
        columns.decode(codec, payload[:-9], catalogue(GROUP))


def test_values_are_a_view_of_the_bytes_that_the_core_wrote() -> None:
    values = tables()[1].columns["active_energy_import"].values
    assert isinstance(values.obj, bytes)
    assert (values.format, values.itemsize, values.c_contiguous) == ("q", 8, True)
    assert bytes(values) == values.obj


def test_pyarrow_reads_the_columns_in_place() -> None:
    column = tables()[1].columns["active_power_total"]
    address = pa.py_buffer(column.values.obj).address
    buffers = [pa.py_buffer(column.validity), pa.py_buffer(column.values)]
    array = pa.Array.from_buffers(pa.int64(), len(column), buffers)
    assert array.buffers()[1].address == address
    assert array.to_pylist() == list(column)


def full() -> _core.Aggregator:
    core = _core.Aggregator([(1_000, [True] * 40)] * 50, [5_000])
    for group in range(50):
        core.push_row(group, 0, 0, [group] * 40, [0] * 40)
    return core


def cut_all(core: _core.Aggregator) -> None:
    core.push_row(0, (core.last_due_ms(0) or 0) + 1_000, 0, [1] * 40, [0] * 40)
    while core.cut(0) is not None:
        pass


def long_calls(folder: Path) -> dict[str, Callable[[], object]]:
    core = full()
    part = core.cut(0)
    assert part is not None
    codec, payload = part.encode()
    snapshot = core.snapshot()
    journal = _core.Journal(folder, 1 << 20)
    return {
        "cut": lambda: cut_all(core),
        "encode": part.encode,
        "decode": lambda: _core.decode(codec, payload),
        "decode_columns": lambda: _core.decode_columns(codec, payload),
        "snapshot": core.snapshot,
        "restore": lambda: full().restore(snapshot),
        "append": lambda: journal.append(1, payload),
        "read": lambda: journal.read(journal.first),
    }


@pytest.mark.parametrize(
    "name",
    [
        *("cut", "encode", "decode", "decode_columns", "snapshot", "restore"),
        *("append", "read"),
    ],
)
def test_other_threads_run_during_a_long_call(name: str, tmp_path: Path) -> None:
    call = long_calls(tmp_path)[name]
    go = threading.Lock()
    has_run: list[bool] = []

    def run() -> None:
        with go:
            has_run.append(True)

    former_s = sys.getswitchinterval()
    go.acquire()
    thread = threading.Thread(target=run)
    thread.start()
    # from here on the interpreter takes the GIL from nobody: only who lets go of it is left
    sys.setswitchinterval(1_000)
    try:
        go.release()
        end_s = time.monotonic() + 3  # reached by who keeps the GIL only
        while not has_run and time.monotonic() < end_s:
            call()
        assert has_run, f"{name} keeps the GIL"
    finally:
        sys.setswitchinterval(former_s)
        thread.join()
