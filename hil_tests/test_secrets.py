"""Secrets never leave their files: agent and receiver run, and all that they write is searched."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from edgeagg import keyfile
from edgeagg.seal import key_text
from hil_tests.services.process import Child, free_port, tied_to_parent

PASSWORD = "kingfisher-4711-password"

SITE = """
[site]
gateway = "qp-0001"
name = "Example plant"
clock = "host"
remote_configuration = true

[state]
directory = "{folder}/state"

[status]
file = "{folder}/status.json"
metrics = "127.0.0.1:{metrics}"

[[destination]]
name = "platform"
broker = "mqtt://127.0.0.1:{broker}"
username = "qp-0001"
password_file = "{folder}/password"
platform_keys = ["{platform_key}"]

[[bus]]
name = "roof"
tcp = "127.0.0.1:{bus}"

[[bus.meter]]
name = "pv"
unit = 1
profile = "eastron-sdm630"
period = "1s"
tier = 1
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Write a site whose broker and meter nobody answers for, and the password of the broker."""
    (tmp_path / "password").write_text(PASSWORD)
    platform = keyfile.make(tmp_path / "platform.key")
    file = tmp_path / "site.toml"
    text = SITE.format(
        folder=tmp_path,
        metrics=free_port(),
        broker=free_port(),
        bus=free_port(),
        platform_key=key_text(platform.public),
    )
    file.write_text(text)
    return file


def forms(seed: bytes) -> list[bytes]:
    """Return how a key's seed could turn up in a text or a file."""
    text = base64.b64encode(seed)
    return [seed, text, text.rstrip(b"="), seed.hex().encode(), repr(seed)[2:-1].encode()]


def seed_of(file: Path) -> bytes:
    return base64.b64decode(file.read_text().split()[-1])


def output(*command: str) -> bytes:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, check=False)
    return done.stdout + done.stderr


def metrics(site: Path) -> bytes:
    address = next(line for line in site.read_text().splitlines() if "metrics" in line)
    with urllib.request.urlopen(f"http://{address.split(chr(34))[1]}/metrics", timeout=5) as page:
        found: bytes = page.read()
    return found


def what_the_agent_says(site: Path, tmp_path: Path) -> dict[str, bytes]:
    """Run it until it has tried its broker twice; renew its key meanwhile, ask it everything."""
    log = tmp_path / "agent.log"
    command = [sys.executable, "-m", "edgeagg_agent", "run", str(site)]
    agent = Child(tied_to_parent(command), name="agent", log=log)
    agent.start()
    status = tmp_path / "status.json"
    try:
        agent.wait_ready(lambda: status.exists() and log.read_bytes().count(b"no connection") > 1)
        said = {"metrics": metrics(site), "status file": status.read_bytes()}
        for name in ("check", "plan", "status", "key"):
            said[name] = output("edgeagg_agent", name, str(site))
            said[f"{name} --json"] = output("edgeagg_agent", name, str(site), "--json")
        said["key --renew"] = output("edgeagg_agent", "key", str(site), "--renew")
    finally:
        agent.stop()
    said["log"] = log.read_bytes()
    return said


def what_the_platform_says(site: Path, tmp_path: Path) -> dict[str, bytes]:
    broker = next(line for line in site.read_text().splitlines() if "mqtt://" in line)
    store = f"sqlite:///{tmp_path / 'platform.db'}"
    options = ["--broker", broker.split('"')[1], "--store", store]
    options += ["--username", "receiver", "--password-file", str(tmp_path / "password")]
    key = ["--key-file", str(tmp_path / "platform.key")]
    log = tmp_path / "receiver.log"
    command = [sys.executable, "-m", "edgeagg", "receive", *options, *key]
    receiver = Child(tied_to_parent(command), name="receiver", log=log)
    receiver.start()
    try:
        receiver.wait_ready(lambda: b"no connection" in log.read_bytes())
    finally:
        receiver.stop()
    public = json.loads(output("edgeagg_agent", "key", str(site), "--json"))["key"]
    output("edgeagg", "gateways", "--store", store, "add", "qp-0001", public)
    pushed = ["configure", "qp-0001", str(site), *options, *key, "--wait", "2s"]
    return {
        "receiver's log": log.read_bytes(),
        "gateways": output("edgeagg", "gateways", "--store", store, "--json"),
        "configure": output("edgeagg", *pushed),
        "database": (tmp_path / "platform.db").read_bytes(),
    }


def test_no_secret_is_in_anything_that_is_written(site: Path, tmp_path: Path) -> None:
    began_s = time.monotonic()
    said = what_the_agent_says(site, tmp_path) | what_the_platform_says(site, tmp_path)
    secrets = [PASSWORD.encode(), base64.b64encode(PASSWORD.encode())]
    keys = [*(tmp_path / "state").glob("device.key*"), tmp_path / "platform.key"]
    assert len(keys) == 3, "the device's, the one that follows, the platform's"
    for file in keys:
        assert file.stat().st_mode & 0o777 == 0o600
        secrets += forms(seed_of(file))
    for name, text in said.items():
        assert text, f"{name} says nothing"
        for secret in secrets:
            assert secret not in text, name
    # neither do the other files of the state directory hold any
    for file in (tmp_path / "state").rglob("*"):
        if file.is_file() and not file.name.startswith("device.key"):
            assert not any(secret in file.read_bytes() for secret in secrets), file
    assert b"no answer; it may still be taken" in said["configure"]
    assert time.monotonic() - began_s < 60
