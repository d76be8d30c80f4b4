"""Make profile files from register tables: python tools/make_profiles.py TABLES [--into FOLDER].

A table states what is known of one meter model's registers (`[device]`, `[limits]`, `[map]`,
`[[sources]]`; confidence per row). This script turns each into a profile in our own words, once: a
profile that exists is never touched, for people edit profiles. It decides, by rule:

- Rows that sources disagree on, rows of unknown scaling, monthly counters, settings and clocks are
  left out; the first three are named in `notes`.
- Of several rows for one quantity one is taken: for energies a whole-number or double counter
  before a single-precision float, which loses 1 Wh steps above 16.8 MWh; then the row with more
  sources behind it; then the meter's main register before its other ones.
- Energies keep the register's step; V, A, W and the rest are quantised as `_FINEST` says.
- A profile is verified when two independent sources agree on L1 voltage, L1 current, total power
  and an import, sum or net energy. In a verified profile each other point without such sources is
  marked draft.
- Transformer ratios and powers of ten are registers to be read; no default is taken over.
- A totaliser with as many rates (NAME_t1, NAME_t2 and so on) as any of its meter is their sum.
- Where no source names a limit, a read takes at most 32 registers, or the longest span that was
  seen to be read in one request: too small costs milliseconds, too large a silent meter.

CJ/T 188 tables are not turned into profiles: the layout of a reply is not in them.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

_INTO = Path(__file__).parent.parent / "agent/edgeagg_agent/profiles"
_COMMON = "sunspec-common"
_SUNSPEC_COMMON_START, _SUNSPEC_START, _SUNSPEC_MARKER = 40002, 40070, 40000
_REGISTERS_MAX, _REGISTERS_UNKNOWN = 125, 32
_COUNTS = {"u16": 1, "u32": 2, "u64": 4}
_ENERGY_UNITS = frozenset({"kWh", "kvarh", "kVAh", "m3", "GJ"})
_CONFIDENCE = ("agree", "family", "single")
_VARIANTS = (None, "primary", "secondary", "int", "i64", "f32", "ext", "resettable")
_POLLED = frozenset({"instant", "energy", "demand", "quality", "status"})
_OUR_UNITS = {"": ("1", 1), "kW": ("W", 1000)}
# the finest step kept, and the one of floats and of registers scaled by a power of ten
_FINEST = {
    **dict.fromkeys(("h", "min", "s"), "1"),
    **dict.fromkeys(("V", "W", "var", "VA", "deg"), "0.1"),
    **dict.fromkeys(("Hz", "%", "degC"), "0.01"),
    **dict.fromkeys(("A", "1", "m3/h", "m/s", "GJ/h", "Ah", *_ENERGY_UNITS), "0.001"),
}
_FINE_VOLTAGES = re.compile(r"battery_(cell_voltage|voltage_clock)")
_NOT_COUNTING = re.compile(r"_(today|net|settlement|capacity)|session_")
_WORDS = (("PyPI ", "Python package "), ("channels", "inputs"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what is missing; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("tables", type=Path, help="a folder with register tables, *.toml")
    parser.add_argument("--into", type=Path, default=_INTO, help="default: the agent's profiles")
    options = parser.parse_args(arguments)
    tables = {file.stem: _read(file) for file in sorted(options.tables.glob("*.toml"))}
    if not tables:
        parser.error(f"{options.tables}: no tables here")
    for name, table in tables.items():
        target = options.into / f"{name}.toml"
        reason = "is there" if target.exists() else _why_not(name, table)
        if reason:
            sys.stderr.write(f"{name}: {reason}\n")
            continue
        lines = profile_lines(table, tables.get(_COMMON))
        target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _read(file: Path) -> Row:
    return tomllib.loads(file.read_text(encoding="utf-8"), parse_float=Decimal)


def _why_not(name: str, table: Row) -> str:
    if table["device"]["protocol"] == "cjt188":
        return "CJ/T 188: written by hand"
    return "identity only: part of the other SunSpec profiles" if name == _COMMON else ""


def profile_lines(table: Row, common: Row | None) -> list[str]:
    """Return the lines of the profile file; `common` is the table of SunSpec's common model."""
    device = table["device"]
    is_sunspec = device["protocol"] == "sunspec"
    rows, left_out = choose(table["map"].get("registers", table["map"].get("items", ())))
    points = [row for row in rows if _is_point(row)]
    status = "verified" if _is_verified(points) else "draft"
    models = device["models"]
    lines = [f"# {device['vendor']} {', '.join(models[:3])}{' and others' * (len(models) > 3)}"]
    lines += [f"vendor = {_text(device['vendor'])}", *_texts("models", models)]
    lines += [f'status = "{status}"', f'kind = "{device["kind"]}"']
    if not is_sunspec and device["protocol"] != "modbus":
        lines.append(f'protocol = "{device["protocol"]}"')
    lines += _texts("sources", dict.fromkeys(source["ref"] for source in table["sources"]))
    lines += _texts("notes", _notes(table, rows, left_out))
    lines += [*_serial(table.get("serial", {}))]
    if "items" in table["map"]:
        used = _blocks(points)
        lines += _each("identity", map(_item_identity, filter(_is_identity, rows)))
        lines += _each("points", (_item(row, status, used) for row in points))
        return lines + sums(_counting(points))
    start = _SUNSPEC_START if is_sunspec else 0
    lines += _limits(table.get("limits", {}))
    if is_sunspec:
        ids = [int(number) for number in re.findall(r"\d{3}", " ".join(models))]
        lines += ["", "[sunspec]", f"models = {ids}", f"start = {start}"]
        lines += _sunspec_checks(ids)
    else:
        lines += _checks(_ordered(table["identify"].get("checks", ()), rows))
    common_rows = common["map"]["registers"] if common and is_sunspec else ()
    identity = [(row, _SUNSPEC_COMMON_START) for row in common_rows if _is_identity(row)]
    identity += [] if is_sunspec else [(row, 0) for row in rows if _is_identity(row)]
    lines += _each("identity", (_identity(row, by) for row, by in identity))
    scales = {row["name"]: row for row in table["map"].get("scale_registers", ())}
    used_scales = {name for row in points for name in row.get("scale_by", ())}
    lines += _each("ratios", (_ratio(row, start) for n, row in scales.items() if n in used_scales))
    every = table["map"]["registers"]
    lines += _each("points", (_point(row, every, scales, start, status) for row in points))
    return lines + sums(_counting(points))


def choose(rows: Iterable[Row]) -> tuple[list[Row], dict[str, list[str]]]:
    """Take one row for each quantity; return the rows, and by reason what is left out."""
    candidates: dict[str, list[Row]] = {}
    left_out: dict[str, list[str]] = {}
    for row in rows:
        reason = _why_left_out(row)
        if reason is None:
            candidates.setdefault(row["quantity"], []).append(row)
        elif reason:
            left_out.setdefault(reason, []).append(row["quantity"])
    chosen = [min(options, key=_rank) for options in candidates.values()]
    taken = {row["quantity"] for row in chosen}
    named = {why: [name for name in names if name not in taken] for why, names in left_out.items()}
    return chosen, {why: names for why, names in named.items() if names}


def _why_left_out(row: Row) -> str | None:
    """Say why a row is no point; "" when that needs no mention."""
    if row["confidence"] == "conflict":
        return "sources disagree"
    if row.get("variant") == "raw":
        return "their scaling is unknown"
    if row.get("variant") == "month":
        return "the meter clears them every month"
    is_silent = row.get("variant") == "fraction" or row["group"] in {"config", "clock"}
    return "" if is_silent else None


def _rank(row: Row) -> tuple[bool, int, int]:
    is_coarse = row["group"] == "energy" and row.get("type") == "f32"
    return is_coarse, _CONFIDENCE.index(row["confidence"]), _VARIANTS.index(row.get("variant"))


def _is_identity(row: Row) -> bool:
    return row["group"] == "identity" and row["quantity"] not in {"model_id", "model_length"}


def _is_point(row: Row) -> bool:
    is_text = row.get("type") == "str" or set(row.get("format", "X")) - set("X.")
    return row["group"] in _POLLED and not is_text


def _is_verified(points: Iterable[Row]) -> bool:
    agreed = {row["quantity"] for row in points if row["confidence"] == "agree"}
    # an inverter counts import and export in the meter at the grid
    energies = {
        f"{where}active_energy_{way}" for where in ("", "grid_") for way in ("import", "sum", "net")
    }
    needed = {"voltage_l1", "current_l1", "active_power_total"}
    return needed <= agreed and bool(energies & agreed)


def _notes(table: Row, rows: Iterable[Row], left_out: Mapping[str, Sequence[str]]) -> list[str]:
    notes = []
    port = table.get("serial", {}).get("notes", "")
    if port and "not found" not in port and "not in the source" not in port:
        notes.append(f"port: {port}")
    notes += table.get("quirks", {}).get("list", ())
    notes += [f"{entry['field']}: {entry['text']}" for entry in table.get("conflicts", ())]
    if resettable := [row["quantity"] for row in rows if row.get("variant") == "resettable"]:
        notes.append(f"can be reset on the meter: {', '.join(resettable)}")
    for why, names in left_out.items():
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        notes.append(f"left out because {why}: {shown}")
    return notes


def _serial(serial: Row) -> Iterator[str]:
    if "baud" not in serial:
        return
    yield from ("", "[serial]", f"baud = {serial['baud']}")
    if "parity" in serial and "stopbits" in serial:
        yield f'format = "8{serial["parity"]}{serial["stopbits"]}"'
    if serial.get("unit"):
        yield f"unit = {serial['unit']}"


def _limits(limits: Row) -> Iterator[str]:
    yield from ("", "[limits]")
    if limits.get("notes"):
        yield f"# {_words(limits['notes'])}"
    proven = [span for span in limits.get("proven_spans", ()) if span[2] <= _REGISTERS_MAX]
    is_known = limits.get("max_registers_status") in {"documented", "implemented"}
    unknown = max([_REGISTERS_UNKNOWN, *(span[2] for span in proven)])
    most = limits["max_registers"] if is_known and "max_registers" in limits else unknown
    yield f"registers_max = {min(most, _REGISTERS_MAX)}"
    if limits.get("inter_request_ms"):
        yield f"request_gap_ms = {limits['inter_request_ms']}"
    yield f'holes = "{limits.get("gaps", "unknown")}"'
    for key, spans in (("illegal", limits.get("illegal_ranges", ())), ("proven", proven)):
        if spans:
            yield f"{key} = [{', '.join(f'[{f}, 0x{s:04X}, {n}]' for f, s, n in spans)}]"


def _ordered(checks: Iterable[Row], rows: Sequence[Row]) -> Iterator[Row]:
    """Yield the checks with the byte order of the value that stands in the same registers."""
    orders = {(row["fc"], row["address"]): row.get("order", "ABCD") for row in rows}
    for check in checks:
        yield {"order": orders.get((check["fc"], check["address"]), "ABCD"), **check}


def _checks(checks: Iterable[Row]) -> Iterator[str]:
    for check in checks:
        code, width = check["type"], check["count"]
        expect = check.get("expect")
        if isinstance(expect, str):
            # one character per register is one whole number
            code = next((t for t, n in _COUNTS.items() if n == len(expect) == width), "")
            expect = [int.from_bytes(expect.encode("utf-16-be"))] if code else None
        if expect is None and "min" not in check:
            continue
        step = _COUNTS.get(str(code), int(width))
        for register in range(check["address"], check["address"] + width, step):
            yield from ("", f"[[identify]]{_comment(check)}", f"function = {check['fc']}")
            yield from (f"register = 0x{register:04X}", f'type = "{code}"', *_order(check))
            if expect is not None:
                yield f"equals = {list(expect)}"
            else:
                yield from (f"min = {_plain(check['min'])}", f"max = {_plain(check['max'])}")


def _sunspec_checks(ids: Sequence[int]) -> Iterator[str]:
    marker = int.from_bytes(b"SunS")
    for comment, register, code, values in (
        ('"SunS"', _SUNSPEC_MARKER, "u32", [marker]),
        ("the common model", _SUNSPEC_COMMON_START, "u16", [1]),
        ("this model, directly behind it", _SUNSPEC_START, "u16", list(ids)),
    ):
        yield from ("", f"[[identify]] # {comment}", "function = 3", f"register = {register}")
        yield from (f'type = "{code}"', f"equals = {values}")


def _identity(row: Row, by: int) -> tuple[str, list[str]]:
    lines = [*_where(row, by)]
    if row["type"] == "str":
        lines.append(f"count = {row['count']}")
    return row["quantity"], lines


def _item_identity(row: Row) -> tuple[str, list[str]]:
    code = "str" if row["format"] == "ASCII" else "digits"
    lines = [f'item = "{_identifier(row)}"', f'type = "{code}"', f"length = {row['length']}"]
    return row["quantity"], lines


def _ratio(row: Row, start: int) -> tuple[str, list[str]]:
    lines = [*_where(row, start)]
    if row["op"] == "pow10":
        lines.append('op = "pow10"')
    if row.get("factor", 1) != 1:
        lines.append(f"scale = {_plain(row['factor'])}")
    return row["name"].lower(), lines


def _point(
    row: Row, every: Iterable[Row], scales: Mapping[str, Row], start: int, status: str
) -> tuple[str, list[str]]:
    unit, factor = _OUR_UNITS.get(row["unit"], (row["unit"], 1))
    scale = Decimal(row["scale"]) * factor
    lines = [*_where(row, start), *_scale(scale)]
    if row.get("offset"):
        lines.append(f"offset = {_plain(row['offset'])}")
    names = row.get("scale_by", ())
    if names:
        lines.append(f"ratios = [{', '.join(_text(name.lower()) for name in names)}]")
    is_rough = row["type"][0] in "ft" or any(scales[name]["op"] == "pow10" for name in names)
    if "plus" in row:
        part = next(r for r in every if f"{r['quantity']}/{r.get('variant')}" == row["plus"])
        _, *values = [*_where(part, start), *_scale(Decimal(part["scale"]) * factor)]
        lines.append(f"plus = {{ {', '.join(values)} }}")
        is_rough = is_rough or part["type"][0] == "f"
    lines += [
        f"unit = {_text(unit)}",
        f"resolution = {_resolution(row, unit, scale, is_rough=is_rough)}",
    ]
    lines += _behaviour(row, unit)
    if row.get("invalid"):
        lines.append(f"invalid = [{', '.join(f'0x{value:X}' for value in row['invalid'])}]")
    return row["quantity"], lines + _status(row, status)


def _item(row: Row, status: str, used: Mapping[str, int]) -> tuple[str, list[str]]:
    unit, factor = _OUR_UNITS.get(row["unit"], (row["unit"], 1))
    scale = Decimal(row["scale"]) * factor
    is_bits = row["group"] == "status" and not row["unit"]
    code = "bin" if is_bits else "bcd-signed" if row.get("signed") else "bcd"
    lines = [f'item = "{_identifier(row)}"', f"length = {row['length']}", f'type = "{code}"']
    block, place = _block(row)
    if block and used[block] > 1:
        lines.append(f'block = "{block}"')
        if place:
            lines.append(f"block_offset_bytes = {place}")
    lines += [*_scale(scale), f"unit = {_text(unit)}"]
    lines.append(f"resolution = {_resolution(row, unit, scale, is_rough=False)}")
    return row["quantity"], lines + _behaviour(row, unit) + _status(row, status)


def _identifier(row: Row) -> str:
    return f"{row['di']:08X}" if row["di"] > 0xFFFF or _is_of_2007(row) else f"{row['di']:04X}"


def _is_of_2007(row: Row) -> bool:
    # the combined energies of 2007 begin with zeros; 1997 has no identifier below 9000H
    return bool(row["di"] < 0x9000)


def _blocks(points: Iterable[Row]) -> dict[str, int]:
    used: dict[str, int] = {}
    for row in points:
        block, _ = _block(row)
        used[block] = used.get(block, 0) + 1
    return used


def _block(row: Row) -> tuple[str, int]:
    """Return the item that holds this one and its neighbours, and where: total first, then parts.

    DL/T 645-2007, annex A: FF in place of the rate or phase. Voltages and currents have no total.
    """
    item = _identifier(row)
    if len(item) == 4:  # 1997: only the energies' blocks are documented
        is_energy = item[0] == "9" and item[3] in "01234"
        return (f"{item[:3]}F", int(item[3], 16) * row["length"]) if is_energy else ("", 0)
    part = int(item[4:6], 16)
    if item[:2] == "00":
        return f"{item[:4]}FF{item[6:]}", part * row["length"]
    if item[:4] in {"0201", "0202"}:
        return f"{item[:4]}FF00", (part - 1) * row["length"]
    if item[:4] in {"0203", "0204", "0205", "0206"}:
        return f"{item[:4]}FF00", part * row["length"]
    return "", 0


def _where(row: Row, by: int) -> Iterator[str]:
    register = row["address"] + by
    yield f"function = {row['fc']}"
    yield f"register = {register}" if by else f"register = 0x{register:04X}"
    yield f'type = "{row["type"]}"'
    yield from _order(row)


def _order(row: Row) -> list[str]:
    return [] if row.get("order", "ABCD") == "ABCD" else [f'order = "{row["order"]}"']


def _scale(scale: Decimal) -> list[str]:
    return [] if scale == 1 else [f"scale = {_plain(scale)}"]


def _resolution(row: Row, unit: str, scale: Decimal, *, is_rough: bool) -> str:
    finest = Decimal("0.001" if _FINE_VOLTAGES.match(row["quantity"]) else _FINEST[unit])
    if is_rough:
        is_coarse = unit in {"W", "var", "VA"} and scale >= 1000
        return "1" if is_coarse else _plain(finest)
    step = Decimal(10) ** int(scale.normalize().as_tuple().exponent)
    return _plain(step if unit in _ENERGY_UNITS else max(step, finest))


def _behaviour(row: Row, unit: str) -> list[str]:
    name, group = row["quantity"], row["group"]
    if group == "energy" and unit in _ENERGY_UNITS and not _NOT_COUNTING.search(name):
        return ['kind = "totaliser"']
    return [] if group == "instant" else [f'poll = "{group}"']


def _status(row: Row, status: str) -> list[str]:
    is_draft = status == "verified" and row["confidence"] != "agree"
    return ['status = "draft"'] if is_draft else []


def _counting(points: Iterable[Row]) -> list[str]:
    return [
        row["quantity"] for row in points if 'kind = "totaliser"' in _behaviour(row, row["unit"])
    ]


def sums(names: Sequence[str]) -> list[str]:
    """Return the lines of every total among these totalisers whose rates are all there too.

    A total with fewer rates than another of the meter's is left out: some were not found.
    """
    rated = {}
    for total in names:
        rates = (f"{total}_t{number}" for number in itertools.count(1))
        rated[total] = list(itertools.takewhile(names.__contains__, rates))
    most = max(map(len, rated.values()), default=0)
    lines = []
    for total, rates in rated.items():
        if len(rates) == most > 1:
            lines += ["", "[[sums]]", f"total = {_text(total)}"]
            lines.append(f"parts = [{', '.join(map(_text, rates))}]")
    return lines


def _each(key: str, entries: Iterable[tuple[str, Sequence[str]]]) -> list[str]:
    return [line for name, lines in entries for line in ("", f"[{key}.{name}]", *lines)]


def _texts(key: str, values: Iterable[str]) -> list[str]:
    lines = [f"    {_text(value)}," for value in values]
    return [f"{key} = [", *lines, "]"] if lines else []


def _text(value: str) -> str:
    return json.dumps(_words(value), ensure_ascii=False)


def _words(text: str) -> str:
    for before, after in _WORDS:
        text = text.replace(before, after)
    return text


def _comment(row: Row) -> str:
    return f" # {_words(row['note'])}" if "note" in row else ""


def _plain(number: Decimal | int) -> str:
    """Write a number without an exponent and without idle zeros."""
    text = format(Decimal(number), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


if __name__ == "__main__":
    sys.exit(main())
