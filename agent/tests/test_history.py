"""Local history: exactly what was recorded, found by time and meter, while an agent runs or not."""

import csv
import io
import itertools
import json
import shutil
import sys
from collections import Counter
from zoneinfo import ZoneInfo

import pytest

from agent.tests import shelving
from agent.tests.fakes import GATEWAY, START_MS, catalogue, write_site
from agent.tests.histories import (
    BYTES_MAX,
    Commit,
    Cut,
    Delivered,
    Gateway,
    Row,
    history,
    in_groups,
    messages,
)
from agent.tests.killing import Disk
from edgeagg._core import KEYFRAME_BACK_MAX
from edgeagg.batch import Batch, BatchKind
from edgeagg.model import Catalogue, Quality
from edgeagg_agent import history as history_module
from edgeagg_agent import history_rows
from edgeagg_agent import outbox as outbox_module
from edgeagg_agent import recorder as recorder_module
from edgeagg_agent.cli import main
from edgeagg_agent.history import Asked, History
from edgeagg_agent.outbox import Outbox

PLANT = catalogue(("incomer", 1_000), ("pv", 2_000), ("incomer", 4_000))
LATER_MS = START_MS + 3_600_000
SHANGHAI = ZoneInfo("Asia/Shanghai")
ALL = Asked(since_ms=0, until_ms=2**45)


@pytest.fixture(autouse=True)
def small_segments(monkeypatch):
    monkeypatch.setattr(outbox_module, "_SEGMENT_BYTES", 4096)
    monkeypatch.setattr(recorder_module, "_SEGMENT_BYTES", 4096)


def found(folder, asked=ALL):
    """Return what history says as (group, due_ms, at_ms, mantissas, qualities)."""
    numbers = {group: number for number, group in enumerate(PLANT.groups)}
    return [
        Row(numbers[r.group], r.due_ms, r.at_ms, r.mantissas, bytes(r.qualities))
        for part in History(folder).read(asked)
        for r in part.content.readings
        if asked.since_ms <= r.due_ms < asked.until_ms
    ]


def rows_of(steps):
    return [step for step in steps if isinstance(step, Row)]


async def test_history_has_every_row_exactly_as_it_was_recorded(tmp_path):
    steps = history(11, PLANT, 120)
    await Gateway(tmp_path, PLANT).play(steps)
    assert in_groups(found(tmp_path)) == in_groups(rows_of(steps))


async def test_a_keyframe_is_found_however_many_segments_before_its_batch(tmp_path):
    steps = history(11, PLANT, 1_200)
    cuts = [place for place, step in enumerate(steps) if isinstance(step, Cut)]
    few = set(cuts) - set(cuts[::10])
    steps = [step for place, step in enumerate(steps) if place not in few]
    await Gateway(tmp_path, PLANT).play([*steps, Cut(LATER_MS)])
    firsts = sorted(int(p.stem) for p in (tmp_path / f"batches-{START_MS}").glob("*.journal"))
    assert max(b - a for a, b in itertools.pairwise(firsts)) < KEYFRAME_BACK_MAX // 2
    assert Delivered(messages(tmp_path)).anchored_count > KEYFRAME_BACK_MAX
    assert in_groups(found(tmp_path)) == in_groups(rows_of(steps))


async def test_history_is_the_same_however_often_the_gateway_was_killed(tmp_path, monkeypatch):
    disk = Disk()
    disk.mode = "torn"
    monkeypatch.setattr(recorder_module, "Journal", disk.journal)
    monkeypatch.setattr(outbox_module, "Journal", disk.journal)
    steps = history(12, PLANT, 60)

    async def again(_):
        disk.kill_at = disk.operations + 17

    disk.kill_at = 9
    gateway = Gateway(tmp_path, PLANT)
    await gateway.play(steps, again)
    assert gateway.kills > 2
    assert in_groups(found(tmp_path)) == in_groups(rows_of(steps))


async def test_history_goes_on_through_epochs(tmp_path):
    first, second = history(13, PLANT, 40), history(14, PLANT, 40)
    await Gateway(tmp_path, PLANT).play(first)
    shutil.copytree(tmp_path / f"batches-{START_MS}", tmp_path / "kept")
    shutil.rmtree(tmp_path / f"batches-{START_MS}")
    shutil.rmtree(tmp_path / f"readings-{START_MS}")
    later = [shifted(step) for step in second]
    await Gateway(tmp_path, PLANT, now_ms=LATER_MS).play(later)
    (tmp_path / "kept").rename(tmp_path / f"batches-{START_MS}")
    assert in_groups(found(tmp_path)) == in_groups(rows_of([*first, *later]))


def shifted(step):
    match step:
        case Row(group, due_ms, at_ms, values, qualities):
            ahead_ms = LATER_MS - START_MS
            return Row(group, due_ms + ahead_ms, at_ms + ahead_ms, values, qualities)
        case Cut(now_ms):
            return Cut(now_ms + LATER_MS - START_MS)
    return Commit()


async def test_a_time_is_found_without_reading_the_rest(tmp_path, monkeypatch):
    steps = history(15, PLANT, 700)
    await Gateway(tmp_path, PLANT).play(steps)
    segments = len(list((tmp_path / f"batches-{START_MS}").glob("*.journal")))
    assert segments > 6
    read = []
    read_segment = history_module.read_segment
    monkeypatch.setattr(
        history_module, "read_segment", lambda path: read.append(path) or read_segment(path)
    )
    monkeypatch.setattr(history_module, "_LATE_MS", 5_000)
    for from_s, seconds in ((0, 1), (3, 10), (100, 150), (250, 1), (699, 10), (800, 10)):
        since_ms = START_MS + from_s * 1_000
        asked = Asked(since_ms=since_ms, until_ms=since_ms + seconds * 1_000, meter="pv")
        expected = [r for r in rows_of(steps) if since_ms <= r.due_ms < asked.until_ms]
        read.clear()
        assert found(tmp_path, asked) == [row for row in expected if row.group == 1]
        # and one for a keyframe
        assert len(read) <= segments * seconds / 700 + 4


async def test_a_clock_that_was_set_hides_nothing(tmp_path):
    # each third cut has a time by which the clock was wrong for a moment
    steps, wrong_ms, cuts = [], [-3_000_000, 86_400_000, -40_000, 5_000_000], 0
    for step in history(16, PLANT, 200):
        if isinstance(step, Cut):
            cuts += 1
            step = Cut(step.now_ms + (0 if cuts % 3 else wrong_ms[cuts % 4]))
        steps.append(step)
    await Gateway(tmp_path, PLANT).play(steps)
    rows = rows_of(steps)
    for row in rows[:: len(rows) // 25]:
        asked = Asked(since_ms=row.due_ms, until_ms=row.due_ms + 1)
        assert row in found(tmp_path, asked)


async def test_a_damaged_batch_costs_itself_and_is_told(tmp_path):
    steps = history(17, PLANT, 100)
    await Gateway(tmp_path, PLANT).play(steps)
    for file in (tmp_path / "catalogues").iterdir():
        file.write_bytes(b"rubbish")
    told = History(tmp_path)
    assert list(told.read(ALL)) == []
    assert told.unreadable == sum(
        Batch.from_bytes(message).kind is BatchKind.DATA for message in messages(tmp_path)
    )


async def test_a_running_agent_and_its_history_do_not_disturb_each_other(tmp_path):
    steps = history(18, PLANT, 30)
    await Gateway(tmp_path, PLANT).play(steps)
    outbox = Outbox(tmp_path, now_ms=START_MS, bytes_max=BYTES_MAX)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert in_groups(found(tmp_path)) == in_groups(rows_of(steps))
    outbox.close()
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


# the command


@pytest.fixture
def site(tmp_path):
    return write_site(tmp_path)


async def recorded(tmp_path, seconds=60):
    steps = history(19, PLANT, seconds)
    await Gateway(tmp_path / "state", PLANT).play(steps)
    return rows_of(steps)


def span(seconds=3_600):
    """Return options for the time of the history, given as UTC."""
    return [
        "--from",
        history_rows.utc(START_MS),
        "--to",
        history_rows.utc(START_MS + seconds * 1000),
    ]


def exact(rows):
    """Return what an export must hold, as a multiset of (due, meter, point, value, quality)."""
    lines = []
    for row in rows:
        group = PLANT.groups[row.group]
        for point, value, quality in zip(group.points, row.values, row.qualities, strict=True):
            text = None if value is None else f"{value / 10**-point.exponent:.{-point.exponent}f}"
            name = Quality(quality).name.lower()
            lines.append((history_rows.utc(row.due_ms), group.meter, point.name, text, name))
    return Counter(lines)


async def test_csv_holds_exactly_what_was_recorded(tmp_path, site, capsys):
    rows = await recorded(tmp_path)
    assert main(["history", str(site), *span(), "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert exact(rows) == Counter(
        (r["utc"], r["meter"], r["point"], r["value"] or None, r["quality"]) for r in lines
    )
    assert {r["unit"] for r in lines} == {"V", "kWh"}
    first = lines[0]
    assert first["utc"] == "2026-09-21T14:13:23.000Z"
    assert first["local"] == "2026-09-21T22:13:23.000+08:00"


async def test_csv_is_the_same_of_day_files_but_for_the_order(tmp_path, site, capsys, monkeypatch):
    shelving.short_days(monkeypatch)
    await recorded(tmp_path)
    asked = ["history", str(site), *span(), "--format", "csv"]
    assert main(asked) == 0
    before = capsys.readouterr().out.splitlines()
    shelving.shelve(tmp_path / "state", resend_ms=1)
    assert len(shelving.day_files(tmp_path / "state")) == 2
    assert main(asked) == 0
    after = capsys.readouterr().out.splitlines()
    assert (after[0], sorted(after)) == (before[0], sorted(before))
    assert main([*asked, "--meter", "pv"]) == 0
    pv = capsys.readouterr().out.splitlines()[1:]
    assert pv == sorted(pv, key=lambda line: line.split(",")[0])
    assert Counter(pv) == Counter(line for line in after if ",pv," in line)


async def test_json_holds_numbers_with_every_digit(tmp_path, site, capsys):
    rows = await recorded(tmp_path)
    asked = ["--meter", "pv", "--point", "active_energy_import", "--format", "json"]
    assert main(["history", str(site), *span(), *asked]) == 0
    objects = json.loads(capsys.readouterr().out, parse_float=str, parse_int=str)
    wanted = {
        key: count
        for key, count in exact(rows).items()
        if key[1:3] == ("pv", "active_energy_import")
    }
    assert wanted == Counter(
        (o["utc"], o["meter"], o["point"], o["value"], o["quality"]) for o in objects
    )


async def test_windows_are_exported_with_their_energies(tmp_path, site, capsys):
    await recorded(tmp_path)
    assert main(["history", str(site), *span(), "--windows", "10s", "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    state = tmp_path / "state"
    windows = [w for w in Delivered(messages(state)).windows if w.length_ms == 10_000]
    assert len(lines) == 2 * len(windows) > 0
    energies = [w.energies[1] for w in windows if w.energies[1] is not None]
    shown = [r["energy"] for r in lines if r["energy"]]
    assert sorted(shown) == sorted(f"{e / 100:.2f}" for e in energies)
    means = [w.means[0] for w in windows if w.means[0] is not None]
    shown = [r["mean"] for r in lines if r["mean"]]
    assert sorted(shown) == sorted(f"{mean / 10_000:.4f}" for mean in means)


async def test_a_table_is_for_people_and_empty_history_is_no_mistake(tmp_path, site, capsys):
    assert main(["history", str(site)]) == 0
    assert capsys.readouterr().out == ""
    await recorded(tmp_path)
    assert main(["history", str(site), *span(), "--meter", "pv", "--zone", "UTC"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == list(history_rows.READING_COLUMNS)
    assert all("  pv  " in line for line in lines[1:])
    assert "2026-09-21T14:13:20.000+00:00" in lines[1]


async def test_a_file_has_its_name_only_when_it_is_whole(tmp_path, site, monkeypatch):
    await recorded(tmp_path)
    out = tmp_path / "export.csv"
    asked = ["history", str(site), *span(), "--format", "csv", "--out", str(out)]
    assert main(asked) == 0
    whole = out.read_bytes()
    assert whole.count(b"\r\n") > 100

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(history_rows, "_reading", fail)
    assert main(asked) == 1
    assert out.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--meter", "hvac"], "--meter: name: 'hvac'; one of gateway, incomer, pv, workshop"),
        (["--point", "colour"], "--point: name: 'colour'; one of "),
        (["--from", "yesterday"], "--from: time: 'yesterday'; a local time"),
        (["--from", "2026-02-01", "--to", "2026-01-01"], "--to: time: 2026-01-01 is not after"),
        (["--windows", "7s"], "--windows: length: '7s'; one of "),
        (["--windows", "often"], "--windows: length: 'often'; one of "),
        (["--zone", "Asia/Qingpu"], "--zone: name: 'Asia/Qingpu'; a time zone such as"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line_and_2(site, capsys, options, said):
    assert main(["history", str(site), *options]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert said in line


def test_parquet_without_pyarrow_names_the_extra(tmp_path, site, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    out = tmp_path / "export.parquet"
    assert main(["history", str(site), "--format", "parquet", "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'edgeagg-agent[parquet]'" in line
    assert not out.exists()


async def test_parquet_holds_the_same_values(tmp_path, site):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an optional extra")
    rows = await recorded(tmp_path)
    out = tmp_path / "export.parquet"
    assert main(["history", str(site), *span(), "--format", "parquet", "--out", str(out)]) == 0
    lines = parquet.read_table(out).to_pylist()
    wanted = Counter(
        (due, meter, point, None if value is None else float(value), quality)
        for (due, meter, point, value, quality) in exact(rows).elements()
    )
    assert wanted == Counter(
        (
            f"{line['utc']:%Y-%m-%dT%H:%M:%S}.{line['utc'].microsecond // 1000:03d}Z",
            *(line["meter"], line["point"], line["value"], line["quality"]),
        )
        for line in lines
    )


def test_a_catalogue_that_is_still_announced_is_found_by_its_hash(tmp_path):
    outbox = Outbox(tmp_path, now_ms=START_MS, bytes_max=BYTES_MAX)
    recorder_module.Recorder(tmp_path, outbox, GATEWAY, PLANT, now_ms=START_MS)
    outbox.close()
    (known,) = History(tmp_path).catalogues()
    assert known == PLANT == Catalogue.from_bytes(Batch.from_bytes(messages(tmp_path)[0]).payload)
