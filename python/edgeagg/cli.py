"""edgeagg: the platform engineer's commands.

Exit status: 0 all is well; 1 something did not work, or an audit found something missing;
2 something on the command line must be changed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from edgeagg import __version__
from edgeagg.errors import ConfigError, EdgeaggError
from edgeagg.receiver.audit import Audit, audit
from edgeagg.receiver.inbox import Inbox
from edgeagg.receiver.store import open_store

_EXAMPLES = """examples:
  edgeagg receive --broker mqtt://127.0.0.1:1883 --store sqlite:////var/lib/edgeagg/platform.db
  edgeagg receive --broker mqtts://mq.example:8883 --store postgresql://edgeagg@db/energy
  edgeagg audit --store sqlite:///platform.db            is anything missing, does the tree balance?
  edgeagg audit --store sqlite:///platform.db --gateway qp-0001 --json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        return int(asyncio.run(options.command(options)))
    except ConfigError as error:
        print(f"edgeagg: {error}", file=sys.stderr)
        return 2
    except (EdgeaggError, OSError) as error:
        print(f"edgeagg: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgeagg",
        description="Receives every reading of the gateways once, and proves that none is missing.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgeagg {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    receive = commands.add_parser("receive", help="take batches in and answer with receipts")
    receive.add_argument("--broker", required=True, help="mqtt://HOST:PORT or mqtts://HOST:PORT")
    receive.add_argument("--username", default="", help="for the broker")
    receive.add_argument("--password-file", default="", help="file with the broker's password")
    receive.add_argument("--ca-file", default="", help="certificate authority of the broker (PEM)")
    receive.set_defaults(command=_receive)
    look = commands.add_parser("audit", help="show what is there and what is missing")
    look.add_argument("--gateway", help="only this gateway")
    look.add_argument("--json", action="store_true", help="print JSON")
    look.set_defaults(command=_audit)
    for command in (receive, look):
        command.add_argument(
            "--store", required=True, help="sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        )
    return parser


async def _receive(options: argparse.Namespace) -> int:
    # the client is needed here only; an audit runs without it
    from edgeagg.receiver.mqtt import Broker, receive  # noqa: PLC0415

    url = urlsplit(options.broker)
    if url.scheme not in {"mqtt", "mqtts"} or not url.hostname:
        raise ConfigError("--broker", "url", repr(options.broker), "mqtt://HOST:PORT or mqtts://…")
    tls = url.scheme == "mqtts"
    broker = Broker(
        url.hostname,
        url.port or (8883 if tls else 1883),
        tls=tls,
        username=options.username,
        password_file=options.password_file,
        ca_file=options.ca_file,
    )
    store = await open_store(options.store)
    task = asyncio.create_task(receive(Inbox(store), broker), name="receive")
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return 0
    finally:
        await store.close()
    return 0


async def _audit(options: argparse.Namespace) -> int:
    _refuse_missing(options.store)
    store = await open_store(options.store)
    try:
        known = sorted({stream.gateway for stream in await store.streams()})
        if options.gateway is not None and options.gateway not in known:
            raise ConfigError(
                "--gateway", "name", repr(options.gateway), f"one of {', '.join(known) or 'none'}"
            )
        wanted = known if options.gateway is None else [options.gateway]
        audits = [await audit(store, gateway) for gateway in wanted]
    finally:
        await store.close()
    if options.json:
        print(json.dumps([found.to_json() for found in audits], indent=1))
    else:
        for found in audits:
            print(report(found))
    return 0 if all(found.is_whole for found in audits) else 1


def _refuse_missing(store: str) -> None:
    """Refuse a file that is not there: opening would make it, and an empty database is whole."""
    file = store.removeprefix("sqlite:///")
    if file != store and not Path(file).exists():
        raise ConfigError("--store", "file", f"{file!r} is not there", "a database of `receive`")


def report(found: Audit) -> str:
    """Return an audit as lines for people."""
    streams = found.streams
    slots = (
        f"  slots due {found.point_slots_due} = {found.values} values + {found.reasons} reasons"
        f" + {found.missed} declared missed + {found.unexplained} unexplained"
    )
    batches = (
        f"  batches {sum(s.batches for s in streams)} in {len(streams)} epoch(s),"
        f" {found.batches_missing} missing, {sum(s.lost_batches for s in streams)} lost;"
        f" {found.windows} windows"
    )
    lines = [f"{found.gateway}: {'whole' if found.is_whole else 'NOT WHOLE'}", slots, batches]
    for node in found.nodes:
        if not node.children:
            continue
        if node.net_kwh is None or node.children_kwh is None or node.gap_kwh is None:
            lines.append(f"  {node.meter} (tier {node.tier}): not enough readings to balance")
            continue
        share = "" if node.gap_share is None else f" ({node.gap_share:.2%})"
        lines.append(
            f"  {node.meter} (tier {node.tier}) {float(node.net_kwh):.3f} kWh ="
            f" {' + '.join(node.children)} {float(node.children_kwh):.3f}"
            f" + gap {float(node.gap_kwh):.3f}{share}"
        )
    return "\n".join(lines)
