"""edgeagg configure: push a site file to a gateway, and see what became of it."""

from __future__ import annotations

import argparse
import re
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from edgeagg import cli_broker, keyfile
from edgeagg.batch import check_gateway
from edgeagg.command import Answer, Command, CommandKind, Outcome
from edgeagg.errors import ConfigError, FormatError
from edgeagg.receiver.keys import State
from edgeagg.receiver.store import open_store
from edgeagg.seal import Signer

_EXAMPLES = """examples:
  edgeagg configure qp-0001 site.toml --dry-run --broker mqtts://mq.example:8883 \\
      --store postgresql://edgeagg@db/energy --key-file /etc/edgeagg/platform.key
  edgeagg configure qp-0001 site.toml --key-file platform.key --key-file offline.key …

The gateway must allow it: remote_configuration = true in its site file, and platform_keys of its
destination. It tries the file: unless a receipt comes within its remote_trial (10 min), the former
file comes back by itself. A change of more than buses, meters, windows and names takes two keys.

Exit status: 0 it runs, or with --dry-run it would be right; 1 refused, rolled back, or no answer.
"""

_DURATION = re.compile(r"(\d+)\s*(s|min|h)")
_DURATION_S = {"s": 1, "min": 60, "h": 3600}


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add it to the command line."""
    configure = commands.add_parser(
        "configure",
        help="push a site file to a gateway",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    configure.add_argument("gateway")
    configure.add_argument("site", type=Path, help="the site file that shall run there")
    cli_broker.add_options(configure)
    configure.add_argument(
        "--store", required=True, help="the database with the gateway's keys: they sign its answers"
    )
    configure.add_argument(
        "--key-file",
        type=Path,
        required=True,
        action="append",
        help="a secret key of the platform; twice for two signatures",
    )
    configure.add_argument(
        "--number", type=int, help="above every one before; without it the time in milliseconds"
    )
    configure.add_argument("--expires", default="1h", help="how long it is valid (%(default)s)")
    configure.add_argument("--wait", default="15min", help="for the answer (%(default)s)")
    configure.add_argument("--dry-run", action="store_true", help="ask whether it would be right")
    configure.set_defaults(command=_configure)


async def _configure(options: argparse.Namespace) -> int:
    # the client is needed here only; the other commands run without it
    from edgeagg.receiver.push import Sending, push  # noqa: PLC0415

    broker = cli_broker.broker(options)
    signers = _signers(options.key_file)
    now_ms = time.time_ns() // 1_000_000
    command = _command(options, now_ms)
    wait_s = _seconds("--wait", options.wait)
    try:
        data = command.to_bytes(*signers)
    except FormatError as error:
        raise ConfigError(options.site, "file", str(error), "a shorter file") from None
    store = await open_store(options.store)
    try:
        known = await store.keys(command.gateway)
    finally:
        await store.close()
    keys = [key.public for key in known if key.state is not State.REVOKED]
    if not keys:
        found = f"no key of {command.gateway} is known: its answer could be anybody's"
        raise ConfigError("--store", "gateway", found, "`edgeagg gateways add` first")
    answer = await push(broker, Sending(command, data, keys), wait_s=wait_s, say=_say)
    if answer is None:
        print(f"{command.gateway}: command {command.number}: no answer; it may still be taken")
    return 0 if answer and answer.outcome in {Outcome.CHECKED, Outcome.CONFIRMED} else 1


def _command(options: argparse.Namespace, now_ms: int) -> Command:
    try:
        payload = options.site.read_bytes()
        tomllib.loads(payload.decode("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(options.site, "file", str(error), "a site file") from None
    try:
        return Command(
            check_gateway(options.gateway),
            now_ms if options.number is None else options.number,
            CommandKind.CHECK if options.dry_run else CommandKind.CONFIGURE,
            now_ms,
            now_ms + 1000 * _seconds("--expires", options.expires),
            payload,
        )
    except FormatError as error:
        raise ConfigError("configure", "command", str(error), "for example qp-0001") from None


def _signers(files: Sequence[Path]) -> list[Signer]:
    if len(files) > 2:
        raise ConfigError("--key-file", "files", str(len(files)), "one or two")
    signers = [keyfile.load(file) for file in files]
    if len({signer.public for signer in signers}) < len(signers):
        raise ConfigError("--key-file", "files", "the same key twice", "two different keys")
    return signers


def _seconds(option: str, text: str) -> int:
    found = _DURATION.fullmatch(text)
    if not found or not int(found[1]):
        raise ConfigError(option, "duration", repr(text), "such as 90s, 15min, 1h")
    return int(found[1]) * _DURATION_S[found[2]]


def _say(answer: Answer) -> None:
    outcome = answer.outcome.name.lower().replace("_", " ")
    print(f"{answer.gateway}: command {answer.number}: {outcome}: {answer.text}", flush=True)
