"""What an installer gets: scripts, service unit, udev rules and the example site file."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deploy.raspberrypi.tests.machine import HERE, INSTALL, WHEELHOUSE, run, write_script
from edgeagg_agent.config import load_site

CHECKOUT = HERE.parent.parent
UNIT = HERE / "edgeagg-agent.service"
RULES = HERE / "60-edgeagg-rs485.rules"
SITE = HERE / "site.toml"
SCRIPTS = [INSTALL, WHEELHOUSE, *sorted((CHECKOUT / "tools").glob("*.sh"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    shellcheck = shutil.which("shellcheck", path=Path(sys.executable).parent)
    assert shellcheck, "shellcheck comes with the development packages"
    found = run(shellcheck, "--external-sources", f"--source-path={CHECKOUT}", script)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it(script: Path) -> None:
    assert run("bash", "-n", script).returncode == 0


@pytest.mark.parametrize("script", [INSTALL, WHEELHOUSE], ids=lambda path: path.name)
def test_help_has_examples(script: Path) -> None:
    shown = run("bash", script, "--help")
    assert shown.returncode == 0
    assert "Examples:" in shown.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "armv7l"], "--target is aarch64, x86_64 or this, not armv7l"),
        (["--edgeagg-wheel", "edgeagg-0.1.0-cp311-abi3-linux_x86_64.whl"], "not a wheel for aarch"),
        (["--edgeagg-wheel", "none_aarch64.whl"], "no file none_aarch64.whl"),
    ],
)
def test_a_wheelhouse_that_cannot_be_made_is_refused_at_once(
    options: list[str], message: str, tmp_path: Path
) -> None:
    refused = run("bash", WHEELHOUSE, *options, "--out", tmp_path / "out")
    assert refused.returncode == 2
    assert message in refused.stderr
    assert not (tmp_path / "out").exists()


def test_a_wheelhouse_for_another_cpu_asks_for_the_compiled_wheel(tmp_path: Path) -> None:
    write_script(tmp_path / "uname", "echo x86_64")
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    refused = run("bash", WHEELHOUSE, "--out", tmp_path / "out", env=path)
    assert refused.returncode == 2
    assert "this machine is x86_64, not aarch64: give --edgeagg-wheel FILE" in refused.stderr


def systemd_analyze(*options: object) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    return run("systemd-analyze", *options)


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    # The program is not installed here, and `verify` minds that; everything else stays.
    text, count = re.subn(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text())
    assert count == 1
    (tmp_path / UNIT.name).write_text(text)
    verified = systemd_analyze("verify", "--man=no", tmp_path / UNIT.name)
    assert verified.returncode == 0
    assert str(tmp_path) not in verified.stderr, verified.stderr


def test_the_unit_is_as_closed_as_systemd_can_tell() -> None:
    rated = systemd_analyze("security", "--offline=true", "--threshold=15", "--no-pager", UNIT)
    assert rated.returncode == 0, rated.stdout


def test_the_unit_never_gives_up_and_is_watched() -> None:
    lines = UNIT.read_text().splitlines()
    for line in (
        "Type=notify",
        "WatchdogSec=30",
        "Restart=always",
        "RestartSec=2",
        "StartLimitIntervalSec=0",
        "ExecStart=/opt/edgeagg/bin/edgeagg-agent run /etc/edgeagg/site.toml",
        "User=edgeagg",
        "SupplementaryGroups=dialout",
    ):
        assert line in lines


def rule_lines() -> list[list[tuple[str, str, str]]]:
    """Return the rules as lists of (key, operator, value); fail on what udev would not read."""
    part = r'(?P<key>[A-Z_]+(?:\{[\w/]+\})?)(?P<operator>==|!=|\+=|=)"(?P<value>[^"]*)"'
    rules = []
    for line in RULES.read_text().splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(rf"{part.replace('?P<', '?P<a_')}(, ?.*)?", line), line
            found = [(m["key"], m["operator"], m["value"]) for m in re.finditer(part, line)]
            assert ", ".join(f'{key}{how}"{value}"' for key, how, value in found) == line
            rules.append(found)
    return rules


def names_of(id_path: str) -> list[str]:
    """Return the names an adapter at `id_path` gets, matching as udev does."""
    names = []
    for rule in rule_lines():
        match rule:
            case [("ENV{ID_PATH}", "==", patterns), ("SYMLINK", "+=", name)]:
                if any(fnmatch.fnmatchcase(id_path, pattern) for pattern in patterns.split("|")):
                    names.append(name)
    return names


@pytest.mark.parametrize(
    "sockets",
    [
        [f"platform-xhci-hcd.{c}-usb-0:{p}:1.0" for c in (0, 1) for p in (1, 2)],
        [f"platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.{p}:1.0" for p in (1, 2, 3, 4)],
        [f"platform-3f980000.usb-usb-0:1.{p}:1.0" for p in (2, 3, 4, 5)],
        [f"platform-3f980000.usb-usb-0:1.{p}:1.0" for p in ("2", "3", "1.2", "1.3")],
    ],
    ids=["pi-5", "pi-4", "pi-3b", "pi-3b-plus"],
)
def test_the_four_sockets_of_a_pi_have_one_name_each(sockets: list[str]) -> None:
    names = [names_of(socket) for socket in sockets]
    assert names == [["rs485/bus1"], ["rs485/bus2"], ["rs485/bus3"], ["rs485/bus4"]]


def test_the_second_port_of_an_adapter_does_not_take_the_name_of_the_first() -> None:
    assert names_of("platform-xhci-hcd.0-usb-0:1:1.1") == []


def test_jumps_of_the_rules_arrive_and_the_position_is_known_before_it_is_matched() -> None:
    parts = [part for rule in rule_lines() for part in rule]
    labels = {value for key, _, value in parts if key == "LABEL"}
    assert {value for key, _, value in parts if key == "GOTO"} == labels
    keys = [key for key, _, _ in parts]
    assert keys.index("IMPORT{builtin}") < keys.index("ENV{ID_PATH}")


def test_udev_understands_the_rules() -> None:
    udevadm = shutil.which("udevadm")
    if udevadm is None:
        pytest.skip("udevadm is not installed")
    if "verify" not in run(udevadm, "--help").stdout:
        pytest.skip("this udevadm has no verify: systemd 254 or newer has it")
    verified = run(udevadm, "verify", RULES)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_the_agent_accepts_the_example_site_file() -> None:
    site = load_site(SITE)
    assert [bus.name for bus in site.buses] == ["bus1", "bus2"]


def test_the_example_site_file_is_whole() -> None:
    site = tomllib.loads(SITE.read_text())
    assert set(site) == {"site", "state", "status", "windows", "batch", "destination", "bus"}
    assert site["state"]["directory"] == "/var/lib/edgeagg"
    assert site["status"]["file"] == "/run/edgeagg/status.json"
    assert len(site["bus"]) == 2
    meters = [meter for bus in site["bus"] for meter in bus["meter"]]
    names = [meter["name"] for meter in meters]
    assert len(set(names)) == len(names)
    assert {meter["parent"] for meter in meters if "parent" in meter} <= set(names)


def test_the_commented_examples_of_the_site_file_can_be_used_as_they_are(tmp_path: Path) -> None:
    uncommented = re.sub(r"(?m)^# ?((\[\[bus|\w+ = ).*)$", r"\1", SITE.read_text())
    site = tomllib.loads(uncommented)
    without_files = re.sub(r"(?m)^(password|ca|cert|cert_key)_file = .*$", "", uncommented)
    (tmp_path / "site.toml").write_text(without_files)
    assert load_site(tmp_path / "site.toml").buses[2].host == "192.168.1.20"
    assert [bus.get("tcp") for bus in site["bus"]] == [None, None, "192.168.1.20:502"]
    keys = {"username", "password_file", "ca_file", "cert_file", "cert_key_file", "platform_keys"}
    assert keys <= set(site["destination"][0])
    assert {"key_file", "remote_configuration", "remote_trial"} <= set(site["site"])


def test_every_key_of_the_site_file_is_explained_where_it_first_stands() -> None:
    explained = set()
    for line in SITE.read_text().splitlines():
        key = re.match(r"(?:# )?(\w+) = ", line)
        if key and key[1] not in explained:
            assert re.search(r"\S\s+# ", line), f"no explanation: {line}"
            explained.add(key[1])
