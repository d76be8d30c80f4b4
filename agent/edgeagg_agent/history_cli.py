"""`edgeagg-agent history`: what the gateway itself still has, as a table or a file."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from edgeagg.errors import ConfigError
from edgeagg.model import Catalogue
from edgeagg_agent import history_rows
from edgeagg_agent.clock import Clock, SystemClock
from edgeagg_agent.config import load_site
from edgeagg_agent.config_values import parse_duration_ms
from edgeagg_agent.history import Asked, History
from edgeagg_agent.history_rows import Row

_DAY_MS = 86_400_000
_TIME_MAX_MS = 2**45
_TIME = "a local time, 2026-11-01 or 2026-11-01T08:15"
_PROGRESS_S = 1.0
_EXAMPLES = """examples:
  edgeagg-agent history site.toml                                     everything of the last 24 hours
  edgeagg-agent history site.toml --meter incomer --from 2026-11-01 --to 2026-11-02
  edgeagg-agent history site.toml --point active_energy_import --windows 15min --from 2026-11-01
  edgeagg-agent history site.toml --from 2026-06-01 --format csv --out half-a-year.csv
"""  # noqa: E501 - lines of a terminal


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    text = "show or export what the gateway's own disk still holds"
    sub = commands.add_parser(
        "history",
        help=text,
        description=f"{text.capitalize()}. It may be asked while the agent runs.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sub.add_argument("site", type=Path, help="the site file")
    sub.add_argument("--meter", help="only this meter")
    sub.add_argument("--point", help="only this point")
    sub.add_argument("--from", dest="since", help=f"{_TIME} (24 h before --to)")
    sub.add_argument("--to", dest="until", help=f"{_TIME}, not included (now)")
    sub.add_argument("--zone", default="Asia/Shanghai", help="of local times (%(default)s)")
    sub.add_argument("--windows", help="windows of this length, for example 15min, not readings")
    formats = ("table", "csv", "json", "parquet")
    sub.add_argument("--format", choices=formats, default="table", help="(%(default)s)")
    sub.add_argument("--out", type=Path, help="write to this file, and show how far it is")
    sub.set_defaults(command=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; return the exit status: 1 when something could not be read."""
    clock = SystemClock()
    site = load_site(options.site)
    history = History(site.state_directory)
    zone = _zone(options.zone)
    asked = _asked(options, zone, [*history.catalogues(), site.catalogue()], clock.now_ms())
    if options.format == "parquet":
        history_rows.need_parquet()
        if options.out is None:
            raise ConfigError("--out", "file", "missing", "a file for --format parquet")
    names = history_rows.columns(asked)
    found = _rows(history, asked, zone, _progress(options, clock))
    with _opened(options) as out:
        _WRITERS[options.format](names, found, out)
    if history.unreadable:
        print(
            f"edgeagg-agent: {history.unreadable} damaged batches or pieces of days could not"
            " be read",
            file=sys.stderr,
        )
    return 1 if history.unreadable else 0


def _rows(
    history: History, asked: Asked, zone: ZoneInfo, progress: Callable[[float], None]
) -> Iterator[Row]:
    for part in history.read(asked):
        yield from history_rows.rows(part, asked, zone)
        progress(part.share)
    progress(1.0)


_WRITERS: dict[str, Callable[[tuple[str, ...], Iterable[Row], Any], None]] = {
    "table": history_rows.write_table,
    "csv": history_rows.write_csv,
    "json": history_rows.write_json,
    "parquet": history_rows.write_parquet,
}


def _progress(options: argparse.Namespace, clock: Clock) -> Callable[[float], None]:
    """Return what shows how far it is, once a second, where somebody looks and a file is made."""
    last_s = clock.monotonic_s()

    def show(share: float) -> None:
        nonlocal last_s
        if options.out is None or not sys.stderr.isatty():
            return
        if share >= 1 or clock.monotonic_s() - last_s >= _PROGRESS_S:
            last_s = clock.monotonic_s()
            end = "\n" if share >= 1 else ""
            print(f"\r{options.out}: {share:4.0%}", end=end, file=sys.stderr, flush=True)

    return show


@contextlib.contextmanager
def _opened(options: argparse.Namespace) -> Iterator[IO[Any]]:
    """Yield where to write; a file has its name only once it is whole."""
    if options.out is None:
        yield sys.stdout
        return
    new = options.out.with_name(f".{options.out.name}.new")
    try:
        with new.open("wb") as raw:
            if options.format == "parquet":
                yield raw
            else:
                with io.TextIOWrapper(raw, "utf-8", newline="") as text:
                    yield text
        new.replace(options.out)
    finally:
        new.unlink(missing_ok=True)


def _asked(
    options: argparse.Namespace, zone: ZoneInfo, catalogues: list[Catalogue], now_ms: int
) -> Asked:
    until_ms = now_ms if options.until is None else _instant("--to", options.until, zone)
    since_ms = (
        max(0, until_ms - _DAY_MS)
        if options.since is None
        else _instant("--from", options.since, zone)
    )
    if since_ms >= until_ms:
        found = f"{options.until or 'now'} is not after {options.since}"
        raise ConfigError("--to", "time", found, "an end behind its beginning")
    groups = [group for catalogue in catalogues for group in catalogue.groups]
    _one_of("--meter", options.meter, {group.meter for group in groups})
    _one_of("--point", options.point, {p.name for group in groups for p in group.points})
    return Asked(
        since_ms=since_ms,
        until_ms=until_ms,
        meter=options.meter,
        point=options.point,
        length_ms=_length_ms(options.windows, catalogues),
    )


def _length_ms(text: str | None, catalogues: list[Catalogue]) -> int | None:
    if text is None:
        return None
    length_ms = parse_duration_ms(text)
    lengths = {length for catalogue in catalogues for length in catalogue.window_lengths_ms}
    if length_ms not in lengths:
        have = ", ".join(f"{length / 1000:g}s" for length in sorted(lengths))
        raise ConfigError("--windows", "length", repr(text), f"one of {have or 'none'}")
    return length_ms


def _one_of(key: str, name: str | None, names: set[str]) -> None:
    if name is not None and name not in names:
        raise ConfigError(key, "name", repr(name), f"one of {', '.join(sorted(names))}")


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        allowed = "a time zone such as Asia/Shanghai"
        raise ConfigError("--zone", "name", repr(name), allowed) from None


def _instant(key: str, text: str, zone: ZoneInfo) -> int:
    """Return a time in UTC milliseconds; one without offset is local."""
    try:
        at = datetime.fromisoformat(text)
        at_ms = round((at if at.tzinfo else at.replace(tzinfo=zone)).timestamp() * 1000)
    except (ValueError, OverflowError):
        at_ms = -1
    if not 0 <= at_ms < _TIME_MAX_MS:
        raise ConfigError(key, "time", repr(text), _TIME)
    return at_ms
