"""Bytes per reading beside the usual ways: `python -m hil_tests.speed.codec [FILE ROWS]...`.

The cases come from the crate's generator, or from files: `.parquet` (first column `t_s` or
`t_ms`, then scaled integers; floats are quantised to `--step`) or `.csv` (due, delay, scaled
integers). Every way gets the same batches and the same integers. Ours carries the tables' heads,
the qualities, a checksum and the whole envelope; the others carry times and values, nothing else.
Ways whose package is not installed are named and left out.
"""

from __future__ import annotations

import argparse
import gzip
import importlib
import io
import json
import lzma
import math
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import msgpack

CRATE = Path(__file__).parents[2] / "aggregator-rs"
ENVELOPE_BYTES = 60
"""Version, suite, gateway, epoch, sequence, kind, schema, time, codec, heads and seal."""
FRAME_BYTES = 12
"""The least that a message of another protocol carries: what published figures count."""
READINGS_MIN = 500
"""Smaller batches are measured but not judged."""

Batch = list[list[int]]
"""Columns: time in milliseconds, then values."""
Encode = Callable[[Batch], bytes]


@dataclass(frozen=True, slots=True)
class Case:
    """One case: what ours took, and every peer."""

    name: str
    rows: int
    readings: int
    ours: dict[str, float]
    peers: dict[str, float]
    encode_mega: float
    decode_mega: float
    brotli_mega: float | None

    @property
    def mixed(self) -> float:
        """Bytes per reading of codec 2, all overhead in."""
        return self.ours["mixed"]

    @property
    def ratio(self) -> float:
        """Our bytes for one of the best peer's, the envelope on neither."""
        envelope = ENVELOPE_BYTES / self.readings
        return (self.mixed - envelope) / min(self.peers.values())

    @property
    def ratio_all_in(self) -> float:
        """Our bytes for one of the best peer's, the envelope on ours alone."""
        return self.mixed / min(self.peers.values())


@dataclass(frozen=True, slots=True)
class Anchored:
    """Batches that begin with what a keyframe 1 to 16 batches before them taught."""

    name: str
    batches: int
    readings: int
    payload_bytes: int
    alone_bytes: int

    def line(self) -> str:
        """Lay out the mean payload, and bytes per reading with a bare frame and all overhead in."""
        payload, alone = self.payload_bytes / self.batches, self.alone_bytes / self.batches
        rates = [
            (self.payload_bytes + extra * self.batches) / self.readings
            for extra in (FRAME_BYTES, ENVELOPE_BYTES)
        ]
        return f"{self.name:46}{payload:>10.1f}{alone:>10.1f}{rates[0]:>12.3f}{rates[1]:>12.3f}"


def _optional(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _deltas(batch: Batch) -> Batch:
    return [
        [column[0], *(after - before for before, after in pairwise(column))] for column in batch
    ]


def _packed(batch: Batch) -> bytes:
    data: bytes = msgpack.packb(batch)
    return data


def _varints(batch: Batch) -> bytes:
    out = bytearray()
    for column in _deltas(batch):
        for value in column:
            rest = value << 1 if value >= 0 else -2 * value - 1
            while rest >= 0x80:
                out.append(rest & 0x7F | 0x80)
                rest >>= 7
            out.append(rest)
    return bytes(out)


def _json_rows(batch: Batch) -> bytes:
    return json.dumps([list(row) for row in zip(*batch, strict=True)]).encode()


def _parquet(pyarrow: ModuleType, parquet: ModuleType) -> Encode:
    def encode(batch: Batch) -> bytes:
        names = [f"c{at}" for at in range(len(batch))]
        table = pyarrow.table(dict(zip(names, batch, strict=True)))
        encoding = dict.fromkeys(names, "DELTA_BINARY_PACKED")
        file = io.BytesIO()
        parquet.write_table(
            table, file, compression="zstd", use_dictionary=False, column_encoding=encoding
        )
        return file.getvalue()

    return encode


def _pco(numpy: ModuleType, pcodec: ModuleType) -> Encode:
    config = pcodec.ChunkConfig(compression_level=8)

    def encode(batch: Batch) -> bytes:
        columns = (numpy.array(column, dtype=numpy.int64) for column in batch)
        return b"".join(pcodec.standalone.simple_compress(column, config) for column in columns)

    return encode


def peers() -> tuple[dict[str, Encode], list[str]]:
    """Return the ways that can be measured here, and the packages that are missing."""
    ways: dict[str, Encode] = {
        "JSON rows + gzip-9": lambda batch: gzip.compress(_json_rows(batch), 9),
        "msgpack deltas + xz": lambda batch: lzma.compress(_packed(_deltas(batch)), preset=9),
    }
    found = {
        name: _optional(name)
        for name in ("zstandard", "brotli", "pyarrow", "pyarrow.parquet", "numpy", "pcodec")
    }
    if (zstandard := found["zstandard"]) is not None:
        zstd = zstandard.ZstdCompressor(level=19).compress
        ways["msgpack columns + zstd-19"] = lambda batch: zstd(_packed(batch))
        ways["msgpack deltas + zstd-19"] = lambda batch: zstd(_packed(_deltas(batch)))
        ways["delta varints + zstd-19"] = lambda batch: zstd(_varints(batch))
    if (brotli := found["brotli"]) is not None:
        ways["msgpack columns + brotli-11"] = lambda batch: brotli.compress(_packed(batch))
        ways["delta varints + brotli-11"] = lambda batch: brotli.compress(_varints(batch))
    if found["pyarrow"] is not None and found["pyarrow.parquet"] is not None:
        ways["Parquet delta + zstd"] = _parquet(found["pyarrow"], found["pyarrow.parquet"])
    if found["numpy"] is not None and found["pcodec"] is not None:
        ways["pco, level 8"] = _pco(found["numpy"], found["pcodec"])
    return ways, sorted(name for name, module in found.items() if module is None)


def _from_parquet(path: Path, step: float) -> str:
    """Give a recording the form of the crate's files: a slot is the grid's before the time."""
    parquet = importlib.import_module("pyarrow.parquet")
    columns: dict[str, list[Any]] = parquet.read_table(path).to_pydict()
    (name, times), *values = columns.items()
    times_ms = [round(at * (1000 if name == "t_s" else 1)) for at in times]
    period_ms = round(statistics.median(b - a for a, b in pairwise(times_ms)))
    integers = [
        [round(value / step) if isinstance(value, float) else value for value in column]
        for _, column in values
    ]
    lines, due_ms = [], -(2**62)
    for at_ms, *row in zip(times_ms, *integers, strict=True):
        due_ms = max(at_ms // period_ms * period_ms, due_ms + period_ms)
        lines.append(",".join(map(str, (due_ms, at_ms - due_ms, *row))))
    return "\n".join(lines) + "\n"


def _bench(folder: Path, files: Sequence[tuple[Path, int]], seed: int) -> Iterator[dict[str, Any]]:
    words = [word for path, rows in files for word in (str(path), str(rows))]
    command = ["cargo", "bench", "--quiet", "--locked", "--bench", "codec"]
    command += ["--manifest-path", str(CRATE / "Cargo.toml"), "--"]
    command += ["--seed", str(seed), "--export", str(folder), *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def _batches(file: Path, rows: int) -> list[Batch]:
    lines = [[int(cell) for cell in line.split(",")] for line in file.read_text().splitlines()]
    batches = []
    for first in range(0, len(lines), rows):
        due, delay, *values = map(list, zip(*lines[first : first + rows], strict=True))
        times = [a + b for a, b in zip(due, delay, strict=True)]
        batches.append([times, *values])
    return batches


def _measure(found: dict[str, Any], file: Path, ways: dict[str, Encode]) -> Case:
    batches = _batches(file, found["rows"])
    readings = found["rows"] * found["points"] * found["batches"]
    sizes, seconds = {}, {}
    for name, encode in ways.items():
        start = time.process_time()
        sizes[name] = sum(len(encode(batch)) for batch in batches) / readings
        seconds[name] = time.process_time() - start
    envelopes = ENVELOPE_BYTES * found["batches"]
    ours = {
        name: (found["codecs"][number]["bytes"] + envelopes) / readings
        for name, number in (("plain", "0"), ("delta", "1"), ("mixed", "2"))
    }
    mixed, brotli_s = found["codecs"]["2"], seconds.get("msgpack columns + brotli-11")
    return Case(
        found["case"],
        found["rows"],
        readings // found["batches"],
        ours,
        sizes,
        readings / mixed["encode_s"] / 1e6,
        readings / mixed["decode_s"] / 1e6,
        readings / brotli_s / 1e6 if brotli_s else None,
    )


def _anchored(found: dict[str, Any]) -> Anchored:
    readings = found["rows"] * found["points"] * found["batches"]
    sizes = found["bytes"], found["alone_bytes"]
    return Anchored(found["anchored"], found["batches"], readings, *sizes)


def measure_all(
    files: Sequence[tuple[Path, int]], *, seed: int, step: float
) -> tuple[list[Case], list[Anchored]]:
    """Measure the generated cases, then the files; then what keyframes are worth to them."""
    ways, _ = peers()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = []
        for path, rows in files:
            file = path.resolve()
            if path.suffix == ".parquet":
                file = folder / f"{path.stem}.csv"
                file.write_text(_from_parquet(path, step))
            given.append((file, rows))
        lines = list(_bench(folder, given, seed))
        cases = [
            _measure(found, folder / f"{found['case']}.csv", ways)
            for found in lines
            if "case" in found
        ]
        return cases, [_anchored(found) for found in lines if "anchored" in found]


def anchored_table(anchored: Sequence[Anchored]) -> list[str]:
    """Lay out what keyframes are worth."""
    extra = f"+{FRAME_BYTES} B", f"+{ENVELOPE_BYTES} B"
    head = f"{'behind a keyframe 1 to 16 batches back':46}{'payload':>10}{'alone':>10}"
    return [
        "bytes a batch; then per reading, with the frame or the envelope",
        head + f"{extra[0]:>12}{extra[1]:>12}",
        *(each.line() for each in anchored),
    ]


def table(cases: Sequence[Case]) -> list[str]:
    """Lay out the cases: bytes per reading, all overhead of ours in."""
    ways = list(cases[0].peers)
    lines = [
        "bytes per reading",
        f"{'':30}" + "".join(f"{case.name[:18]:>20}" for case in cases),
        f"{'readings a batch':30}" + "".join(f"{case.readings:>20}" for case in cases),
    ]
    shown = [(way, [case.peers[way] for case in cases]) for way in ways]
    shown += [(f"ours: {way}", [case.ours[way] for case in cases]) for way in cases[0].ours]
    shown += [
        ("mixed / best other", [case.ratio for case in cases]),
        ("the same, envelope on ours", [case.ratio_all_in for case in cases]),
        ("encode, M/s", [case.encode_mega for case in cases]),
        ("decode, M/s", [case.decode_mega for case in cases]),
    ]
    if all(case.brotli_mega for case in cases):
        rates = [case.encode_mega / (case.brotli_mega or 1.0) for case in cases]
        shown.append(("encode / brotli-11", rates))
    lines += [f"{name:30}" + "".join(f"{cell:>20.3f}" for cell in row) for name, row in shown]
    judged = [case for case in cases if case.readings >= READINGS_MIN]
    for name, ratios in (
        ("envelope on neither", [case.ratio for case in judged]),
        ("envelope on ours alone", [case.ratio_all_in for case in judged]),
    ):
        mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
        lines.append(
            f"mixed / best other, {len(judged)} cases of {READINGS_MIN} readings or more, {name}:"
            f" {mean:.3f} geometric mean, {max(ratios):.3f} at worst"
        )
    return lines


def main() -> None:
    """Measure what the words name."""
    parser = argparse.ArgumentParser(prog="python -m hil_tests.speed.codec", description=__doc__)
    parser.add_argument("files", nargs="*", help="a file and the rows of its batches, in turn")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--step", type=float, default=0.1, help="resolution given to floats")
    words = parser.parse_args()
    names = [Path(name) for name in words.files[::2]]
    files = list(zip(names, map(int, words.files[1::2]), strict=True))
    missing = peers()[1]
    if missing:
        print("not installed, so not measured:", ", ".join(missing))
    cases, anchored = measure_all(files, seed=words.seed, step=words.step)
    print("\n".join([*table(cases), "", *anchored_table(anchored)]))


if __name__ == "__main__":
    main()
