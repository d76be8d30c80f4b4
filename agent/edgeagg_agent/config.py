"""The site file: TOML in, frozen values out, or one error that says what to change.

Nothing is opened and nothing is started here; what can be known wrong from the file and the
profiles alone is found here.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

from edgeagg import tls
from edgeagg.batch import check_gateway
from edgeagg.errors import ConfigError, FormatError, LinkError
from edgeagg.localtime import offsets
from edgeagg.model import LocalTime
from edgeagg.seal import MESSAGE_BYTES_MAX, parse_key
from edgeagg.tomltable import Table, hint
from edgeagg_agent import metrics
from edgeagg_agent.budget_report import check_load
from edgeagg_agent.config_meter import METER_KEYS, read_meter
from edgeagg_agent.config_values import (
    BAUDS,
    read_baud,
    read_duration,
    read_format,
    read_length,
    read_name,
    read_plain,
)
from edgeagg_agent.site import BusConfig, Destination, Meter, Site

_SIZE = re.compile(r"(\d+)\s*(MB|GB)")
_SIZE_BYTES = {"MB": 1 << 20, "GB": 1 << 30}
_TURNAROUND_MS = 25
_ENVELOPE_BYTES = 1024  # of a message around its payload: more than any seal and name need
# fixed, so that the same file gives the same catalogue in every year
_FROM_YEAR, _TO_YEAR = 2020, 2060
_BUS_KEYS = "name port tcp rtu_tcp mode baud format turnaround_ms meter"
_LINKS = ("port", "tcp", "rtu_tcp")
_PORTS = {"tcp": 502, "rtu_tcp": 4001}  # Modbus TCP's; of serial servers the commonest


def load_site(file: Path, text: str | None = None) -> Site:
    """Read and check a site file, or a `text` that is to stand in its place.

    Raises ConfigError naming the file, the key, what was found and what is allowed.
    """
    site = read_site(file, text)
    check_loads(site)
    return site


def check_loads(site: Site) -> None:
    """Raise ConfigError when the meters of a bus ask for more than it has time for."""
    for bus in site.buses:
        check_load(site.file, bus.load(), BAUDS)


def read_site(file: Path, text: str | None = None) -> Site:
    """Read a site file, or a `text` in its place; check all but the time on its buses.

    Raises ConfigError as `load_site` does. For whoever shows the time before judging it.
    """
    try:
        if text is None:
            text = file.read_text(encoding="utf-8")
        content = tomllib.loads(text, parse_float=Decimal)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(file, "file", str(error), "a readable TOML file in UTF-8") from error
    top = Table(file, "", content, "site state windows batch status destination bus")
    site = top.table("site", _SITE_KEYS)
    state = top.table("state", "directory bytes_max resend_days history_days")
    folders = tuple(file.parent / folder for folder in site.texts("profiles", ()))
    for folder in folders:
        if not folder.is_dir():
            raise site.error("profiles", f"no folder {folder}", "folders with profiles")
    buses = tuple(_bus(file, table, folders) for table in top.array("bus", _BUS_KEYS))
    if not buses:
        raise top.error("bus", "missing", "at least one [[bus]]")
    destinations = tuple(map(_destination, top.array("destination", _DESTINATION_KEYS)))
    if not destinations:
        raise top.error("destination", "missing", "at least one [[destination]]")
    _refuse_twice(file, "bus", "name", [bus.name for bus in buses])
    _refuse_twice(file, "destination", "name", [d.name for d in destinations])
    meters = [meter for bus in buses for meter in bus.meters]
    _refuse_twice(file, "bus.meter", "name", [meter.name for meter in meters])
    _refuse_gateway(file, meters)
    _check_ports(file, buses)
    _check_tree(file, meters)
    status = top.table("status", "file metrics", {})
    found = Site(
        file=file,
        gateway=_gateway(site),
        name=read_plain(site, "name"),
        state_directory=Path(state.text("directory")),
        state_bytes_max=_size(state, "bytes_max", "1GB"),
        resend_ms=state.integer("resend_days", 1, 366, 7) * _DAY_MS,
        history_ms=state.integer("history_days", 1, 36_500, 36_500) * _DAY_MS,
        key_file=Path(site.text("key_file", (), str(Path(state.text("directory")) / "device.key"))),
        takes_commands=_takes_commands(site, destinations),
        trial_ms=read_duration(site, "remote_trial", "10min"),
        status_file=Path(status.text("file")) if status.has("file") else None,
        metrics_address=_address(status, "metrics", 9469) if status.has("metrics") else None,
        window_lengths_ms=_lengths(top.table("windows", "lengths", {})),
        flush_ms=read_duration(top.table("batch", "flush", {}), "flush", "60s"),
        destinations=destinations,
        buses=buses,
        local_time=_local_time(site),
        believes_host_clock=site.text("clock", ("kernel", "host"), "kernel") == "host",
    )
    _check_catalogue(file, found)
    return found


_DAY_MS = 86_400_000
_SITE_KEYS = "gateway name profiles key_file time_zone clock remote_configuration remote_trial"
_DESTINATION_KEYS = (
    "name broker username password_file ca_file cert_file cert_key_file platform_keys"
)


def _gateway(table: Table) -> str:
    try:
        return check_gateway(table.text("gateway"))
    except FormatError as error:
        raise table.error("gateway", str(error), "for example qp-0001") from None


def _takes_commands(table: Table, destinations: Sequence[Destination]) -> bool:
    wanted = table.boolean("remote_configuration", default=False)
    if wanted and not any(to.platform_keys for to in destinations):
        rule = "platform_keys of the destination that may push, so that it can be told from others"
        raise table.error("remote_configuration", "nobody's key is known", rule)
    return wanted


def _local_time(table: Table) -> LocalTime:
    zone = table.text("time_zone", (), "Asia/Shanghai")
    try:
        changes = offsets(zone, from_year=_FROM_YEAR, to_year=_TO_YEAR)
    except ValueError as error:
        allowed = "a time zone such as Asia/Shanghai, and the package tzdata"
        raise table.error("time_zone", str(error), allowed) from None
    return LocalTime(zone, tuple(changes))


def _check_catalogue(file: Path, site: Site) -> None:
    size = len(site.catalogue().to_bytes())
    if size > MESSAGE_BYTES_MAX - _ENVELOPE_BYTES:
        points = sum(len(group.points) for group in site.catalogue().groups)
        raise ConfigError(
            file,
            "bus.meter.points",
            f"{points} points make a catalogue of {size} bytes",
            f"at most {MESSAGE_BYTES_MAX - _ENVELOPE_BYTES} bytes: fewer points per meter,"
            " or a second gateway",
        )


def _bus(file: Path, table: Table, folders: Sequence[Path]) -> BusConfig:
    name = read_name(table)
    links = [key for key in _LINKS if table.has(key)]
    if len(links) != 1:
        found = f"both {' and '.join(links)}" if links else f"neither {', '.join(_LINKS)}"
        raise table.error("port", found, "one of them")
    link = links[0]
    host, tcp_port = ("", 0) if link == "port" else _address(table, link, _PORTS[link])
    is_serial = link != "tcp"
    if not is_serial:
        for key in ("mode", "baud", "format"):
            if table.has(key):
                raise table.error(key, "not a key of a tcp bus", "nothing")
    ascii_mode = is_serial and table.text("mode", ("rtu", "ascii"), "rtu") == "ascii"
    bus = BusConfig(
        name=name,
        port=table.text("port") if link == "port" else "",
        host=host,
        tcp_port=tcp_port,
        is_raw=link == "rtu_tcp",
        ascii_mode=ascii_mode,
        baud=read_baud(table) if is_serial else 0,
        format=read_format(table, "8E1", ascii_mode=ascii_mode) if is_serial else "",
        turnaround_ms=table.integer("turnaround_ms", 0, 1000, _TURNAROUND_MS),
        meters=(),
    )
    meters = tuple(read_meter(meter, folders, bus) for meter in table.array("meter", METER_KEYS))
    if not meters:
        raise table.error("meter", "missing", "at least one [[bus.meter]]")
    for index, meter in enumerate(meters):
        for other in meters[:index]:
            if other.address.is_same(meter.address):
                key, own = "unit", "a unit id"
                if meter.address.digits:
                    key, own = "address", "an address"
                raise ConfigError(
                    file,
                    f"bus[{name}].meter[{meter.name}].{key}",
                    f"{meter.address.digits or meter.address.unit} is the {key} of meter "
                    f"{other.name} already",
                    f"{own} of its own for every meter of a bus",
                )
    return replace(bus, meters=meters)


def _destination(table: Table) -> Destination:
    text = table.text("broker")
    rule = "mqtt://HOST:PORT or mqtts://HOST:PORT; username and password_file are keys of their own"
    try:
        broker = urlsplit(text)
        port = broker.port
    except ValueError:
        raise table.error("broker", repr(text), rule) from None
    if broker.scheme not in {"mqtt", "mqtts"} or not broker.hostname or "@" in broker.netloc:
        raise table.error("broker", repr(text), rule)
    is_tls = broker.scheme == "mqtts"
    for key in ("password_file", "ca_file", "cert_file", "cert_key_file"):
        if table.has(key) and not os.access(table.text(key), os.R_OK):
            raise table.error(key, f"cannot read {table.text(key)}", "a file the agent may read")
    destination = Destination(
        name=read_name(table),
        host=broker.hostname,
        port=port or (8883 if is_tls else 1883),
        tls=is_tls,
        username=table.text("username") if table.has("username") else "",
        password_file=table.text("password_file") if table.has("password_file") else "",
        ca_file=table.text("ca_file") if table.has("ca_file") else "",
        platform_keys=_platform_keys(table),
        cert_file=table.text("cert_file") if table.has("cert_file") else "",
        cert_key_file=table.text("cert_key_file") if table.has("cert_key_file") else "",
    )
    _check_tls(table, destination)
    return destination


def _check_tls(table: Table, to: Destination) -> None:
    """Refuse files of TLS that can never work, or that give a secret away."""
    for key in ("ca_file", "cert_file", "cert_key_file"):
        if table.has(key) and not to.tls:
            raise table.error(key, "a key of mqtts://", 'broker = "mqtts://HOST:PORT"')
    if table.has("cert_file") != table.has("cert_key_file"):
        raise table.error("cert_file", "one of two", "cert_file and cert_key_file, or neither")
    trouble = tls.key_trouble(to.cert_key_file) if to.cert_key_file else ""
    if trouble:
        raise table.error("cert_key_file", trouble, "a file of root and the agent: chmod 640")
    if to.tls:
        try:
            tls.context(to.tls_files)
        except LinkError as error:
            key = "cert_file" if to.cert_file and to.cert_file in str(error) else "ca_file"
            raise table.error(key, str(error), "PEM files") from None


def _platform_keys(table: Table) -> tuple[bytes, ...]:
    try:
        return tuple(map(parse_key, table.texts("platform_keys", ())))
    except ValueError as error:
        raise table.error(
            "platform_keys", str(error), "keys as `edgeagg receive` prints its own"
        ) from None


def _address(table: Table, key: str, port_default: int) -> tuple[str, int]:
    text = table.text(key)
    host, _, port = text.rpartition(":") if ":" in text else (text, "", str(port_default))
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise table.error(key, repr(text), "HOST or HOST:PORT")
    return host, int(port)


def _lengths(table: Table) -> tuple[int, ...]:
    texts = table.texts("lengths", ("10s", "1min", "15min"))
    return tuple(sorted({read_length(table, text) for text in texts}))


def _size(table: Table, key: str, default: str) -> int:
    text = table.text(key, (), default)
    found = _SIZE.fullmatch(text)
    if not found or int(found[1]) * _SIZE_BYTES[found[2]] < 32 << 20:
        raise table.error(key, repr(text), "a size from 32MB up, such as 500MB or 1GB")
    return int(found[1]) * _SIZE_BYTES[found[2]]


def _refuse_twice(file: Path, table: str, key: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ConfigError(file, f"{table}.{key}", f"{value!r} stands twice", "each name once")
        seen.add(value)


def _refuse_gateway(file: Path, meters: Sequence[Meter]) -> None:
    for meter in meters:
        if meter.name == metrics.METER:
            key = f"bus.meter[{meter.name}].name"
            rule = "another name: this one is of the gateway's own measurements"
            raise ConfigError(file, key, repr(meter.name), rule)


def _check_ports(file: Path, buses: Sequence[BusConfig]) -> None:
    ports: dict[str, str] = {}
    for bus in buses:
        if not bus.port and not bus.is_raw:
            continue  # Modbus TCP: a server keeps its connections apart
        key, port = ("port", bus.port) if bus.port else ("rtu_tcp", f"{bus.host}:{bus.tcp_port}")
        if port in ports:
            raise ConfigError(
                file,
                f"bus[{bus.name}].{key}",
                f"{port} is the port of bus {ports[port]} already",
                "one bus for each port",
            )
        ports[port] = bus.name


def _check_tree(file: Path, meters: Sequence[Meter]) -> None:
    known = {meter.name: meter for meter in meters}
    for meter in meters:
        if not meter.parent:
            continue
        key = f"bus.meter[{meter.name}].parent"
        parent = known.get(meter.parent)
        if parent is None:
            raise ConfigError(file, key, f"no meter {meter.parent!r}", hint(meter.parent, known))
        # tiers falling towards the root leave no room for a cycle
        if parent.tier >= meter.tier:
            raise ConfigError(
                file,
                key,
                f"{parent.name} is of tier {parent.tier}, {meter.name} of tier {meter.tier}",
                "a parent of a lower tier",
            )
