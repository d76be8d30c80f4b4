"""edgeagg receive and edgeagg gateways: who may deliver, and taking in what they deliver."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import logging
import signal
import time
from pathlib import Path

from edgeagg import cli_broker, keyfile
from edgeagg.batch import check_gateway
from edgeagg.errors import ConfigError, FormatError, StoreError
from edgeagg.receiver.inbox import Inbox
from edgeagg.receiver.keys import Admission, GatewayKey, State
from edgeagg.receiver.store import open_store
from edgeagg.seal import Signer, key_id, key_text, parse_key

_log = logging.getLogger(__name__)

_RECEIVE_EXAMPLES = """examples:
  edgeagg receive --broker mqtts://mq.example:8883 --store postgresql://edgeagg@db/energy \\
      --key-file /etc/edgeagg/platform.key
  edgeagg receive --broker mqtt://127.0.0.1:1883 --store sqlite:///platform.db --admit first-use

Which gateways are let in: those entered with `edgeagg gateways add` (enrolled); or new ones too,
with the key that they first come with (first-use); or anybody, even unsigned, on a bench.
"""

_GATEWAYS_EXAMPLES = """examples:
  edgeagg gateways --store sqlite:///platform.db
  edgeagg gateways --store sqlite:///platform.db add qp-0001 ed25519:BASE64
  edgeagg gateways --store sqlite:///platform.db revoke qp-0001 1a2b3c4d

The installer reads a gateway's key with `edgeagg-agent key site.toml`.
"""

_STORE_HELP = "sqlite:///FILE or postgresql://USER@HOST/DATABASE"


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both commands to the command line."""
    raw = argparse.RawDescriptionHelpFormatter
    receive = commands.add_parser(
        "receive",
        help="take batches in and answer with receipts",
        epilog=_RECEIVE_EXAMPLES,
        formatter_class=raw,
    )
    cli_broker.add_options(receive)
    receive.add_argument("--store", required=True, help=_STORE_HELP)
    receive.add_argument(
        "--admit",
        type=Admission,
        choices=list(Admission),
        default=Admission.ENROLLED,
        metavar="{enrolled,first-use,anybody}",
        help="which gateways are let in (%(default)s)",
    )
    receive.add_argument(
        "--key-file",
        type=Path,
        help="the platform's secret key, which signs receipts; made where it is missing"
        " (beside an SQLite database: FILE.key)",
    )
    receive.set_defaults(command=_receive)
    gateways = commands.add_parser(
        "gateways",
        help="list, add and revoke the keys of gateways",
        epilog=_GATEWAYS_EXAMPLES,
        formatter_class=raw,
    )
    gateways.add_argument("--store", required=True, help=_STORE_HELP)
    gateways.add_argument("--json", action="store_true", help="print JSON")
    gateways.set_defaults(command=_list)
    actions = gateways.add_subparsers(metavar="ACTION")
    add = actions.add_parser("add", help="let a key sign for a gateway")
    add.add_argument("gateway")
    add.add_argument("key", help="ed25519:… as `edgeagg-agent key` prints it")
    add.set_defaults(command=_add)
    revoke = actions.add_parser("revoke", help="let a key sign for nothing any more")
    revoke.add_argument("gateway")
    revoke.add_argument("key", help="its first 8 digits in the list, or ed25519:…")
    revoke.set_defaults(command=_revoke)


async def _receive(options: argparse.Namespace) -> int:
    # the client is needed here only; the other commands run without it
    from edgeagg.receiver.mqtt import receive  # noqa: PLC0415

    broker = cli_broker.broker(options)
    store = await open_store(options.store)
    try:
        signer = _signer(options)
        if options.admit is not Admission.ENROLLED:
            _log.warning("--admit %s: gateways nobody has entered are let in", options.admit)
        inbox = Inbox(store, options.admit, minds_the_clock=True)
        task = asyncio.create_task(receive(inbox, broker, signer), name="receive")
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        await task
    except asyncio.CancelledError:
        return 0
    finally:
        await store.close()
    return 0


def _signer(options: argparse.Namespace) -> Signer | None:
    path: Path | None = options.key_file
    if path is None and options.store.startswith("sqlite:///"):
        path = Path(options.store.removeprefix("sqlite:///") + ".key")
    if path is None:
        _log.warning("receipts are not signed: give --key-file")
        return None
    signer = keyfile.load_or_make(path)
    _log.info("receipts are signed; for site files: platform_keys = [%r]", key_text(signer.public))
    return signer


async def _list(options: argparse.Namespace) -> int:
    store = await open_store(options.store)
    try:
        keys = await store.keys()
    finally:
        await store.close()
    if options.json:
        print(json.dumps([_key_json(key) for key in keys], indent=1))
        return 0
    for key in keys:
        ended = f"  {key.state} {_time(key.ended_ms)}" if key.ended_ms else ""
        named = f"{key.gateway:<32} {key_id(key.public).hex()}  {key_text(key.public)}"
        print(f"{named}  since {_time(key.added_ms)}{ended}")
    if not keys:
        print("no gateway is entered: edgeagg gateways --store … add GATEWAY KEY")
    return 0


async def _add(options: argparse.Namespace) -> int:
    gateway = _gateway(options.gateway)
    try:
        public = parse_key(options.key)
    except ValueError as error:
        raise ConfigError(
            "gateways add", "key", str(error), "what edgeagg-agent key prints"
        ) from None
    store = await open_store(options.store)
    try:
        is_new = await store.add_key(gateway, public, _now_ms())
        known = {key.public: key for key in await store.keys(gateway)}
    finally:
        await store.close()
    if known[public].state is State.REVOKED:
        raise StoreError(f"{gateway}: {options.key} was revoked; make another key on the gateway")
    print(f"{gateway}: {key_text(public)} {'entered' if is_new else 'was entered before'}")
    return 0


async def _revoke(options: argparse.Namespace) -> int:
    gateway = _gateway(options.gateway)
    store = await open_store(options.store)
    try:
        keys = await store.keys(gateway)
        wanted = [
            key for key in keys if options.key in {key_text(key.public), key_id(key.public).hex()}
        ]
        if not wanted:
            known = ", ".join(key_id(key.public).hex() for key in keys) or "none"
            raise ConfigError("gateways revoke", "key", options.key, f"one of {known}")
        for key in wanted:
            done = await store.revoke_key(gateway, key.public, _now_ms())
            told = "signs for nothing any more" if done else "was revoked before"
            print(f"{gateway}: {key_id(key.public).hex()} {told}")
    finally:
        await store.close()
    return 0


def _gateway(name: str) -> str:
    try:
        return check_gateway(name)
    except FormatError as error:
        raise ConfigError("gateways", "gateway", str(error), "for example qp-0001") from None


def _key_json(key: GatewayKey) -> dict[str, object]:
    return {
        "gateway": key.gateway,
        "id": key_id(key.public).hex(),
        "key": key_text(key.public),
        "state": key.state.value,
        "added_ms": key.added_ms,
        "ended_ms": key.ended_ms,
    }


def _time(at_ms: int) -> str:
    return dt.datetime.fromtimestamp(at_ms / 1000, dt.UTC).strftime("%Y-%m-%dT%H:%MZ")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
