"""The kinds of values that the tables of a site file share: names, durations, line settings.

Each complaint names file, key, what was found and what is allowed.
"""

from __future__ import annotations

import re

from edgeagg._core import MONTH_MS
from edgeagg.tomltable import Table
from edgeagg_agent.bus.timing import ASCII_CHAR_BITS, CHAR_BITS

BAUDS = (1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
_DURATION = re.compile(r"(\d+)\s*(ms|s|min|h)")
_DURATION_MS = {"ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000}
_DAY_MS = 86_400_000


def read_name(table: Table) -> str:
    """Read `name`, as it stands in topics and file names."""
    name = table.text("name")
    if not _NAME.fullmatch(name):
        raise table.error("name", repr(name), "1 to 32 of a-z, 0-9, _ and -")
    return name


def read_plain(table: Table, key: str) -> str:
    """Read a line of free text."""
    text = table.text(key)
    if not text.isprintable() or len(text.encode()) > 200:
        raise table.error(key, repr(text), "up to 200 bytes of text on one line")
    return text


def read_baud(table: Table, default: int | None = None) -> int:
    """Read `baud`."""
    baud = table.integer("baud", 1, 1_000_000, default)
    if baud not in BAUDS:
        raise table.error("baud", str(baud), f"one of {', '.join(map(str, BAUDS))}")
    return baud


def read_format(table: Table, default: str, *, ascii_mode: bool) -> str:
    """Read `format`; seven data bits are for Modbus ASCII."""
    allowed = (*CHAR_BITS, *ASCII_CHAR_BITS) if ascii_mode else tuple(CHAR_BITS)
    return table.text("format", allowed, default)


def read_period(table: Table, key: str, default: str) -> int:
    """Read how often a point is read, in milliseconds; a day holds a whole number of them."""
    period_ms = read_duration(table, key, default)
    if not 200 <= period_ms <= _DAY_MS or _DAY_MS % period_ms:
        raise table.error(key, repr(table.text(key)), "200ms to 24h, a whole number of times a day")
    return period_ms


def read_length(table: Table, text: str) -> int:
    """Return the length of a window, in milliseconds; that of months stands for all of them."""
    if text == "month":
        return MONTH_MS
    length_ms = parse_duration_ms(text)
    if length_ms is None or not 1000 <= length_ms <= _DAY_MS or _DAY_MS % length_ms:
        allowed = "1s to 24h, a whole number of times a day, or month"
        raise table.error("lengths", repr(text), allowed)
    return length_ms


def read_duration(table: Table, key: str, default: str) -> int:
    """Read a duration in milliseconds, more than 0."""
    duration_ms = parse_duration_ms(table.text(key, (), default))
    if not duration_ms:
        raise table.error(key, repr(table.text(key)), "a duration such as 500ms, 10s, 15min, 1h")
    return duration_ms


def parse_duration_ms(text: str) -> int | None:
    """Return a duration such as 15min in milliseconds; None when it is none."""
    found = _DURATION.fullmatch(text)
    return int(found[1]) * _DURATION_MS[found[2]] if found else None
