"""What install.sh does to a machine and to an image, and what it leaves alone.

Nothing here touches the machine: installations go below a folder of the test's own, or into a
user namespace in which /etc, /opt and the like are private copies and systemctl is a recorder.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from deploy.raspberrypi.tests.machine import (
    HERE,
    INSTALL,
    Machine,
    make_wheelhouse,
    run,
    tree,
    write_script,
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--nonsense"], "unknown option --nonsense"),
        (["--purge"], "--purge goes with --uninstall"),
        (["--wheelhouse"], "--wheelhouse needs a folder"),
        (["--root", "/no/such/folder"], "--root: no such folder"),
    ],
)
def test_wrong_usage_is_named(options: list[str], message: str) -> None:
    refused = run("bash", INSTALL, *options)
    assert refused.returncode == 2
    assert message in refused.stderr


def test_without_root_it_says_so(tmp_path: Path) -> None:
    write_script(tmp_path / "id", "echo 1000")
    refused = run("bash", INSTALL, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert refused.returncode == 2
    assert "needs root: sudo" in refused.stderr


def test_a_dry_run_prints_the_plan_and_changes_nothing(machine: Machine, tmp_path: Path) -> None:
    write_script(machine.box / "bin" / "id", "echo 1000")
    planned = machine.install("--dry-run", "--wheelhouse", make_wheelhouse(tmp_path / "wheels"))
    assert planned.returncode == 0, planned.stderr
    for action in (
        "-m venv /opt/edgeagg.a",
        "--no-index --find-links",
        "/etc/systemd/system/edgeagg-agent.service",
        "install -m 0640",
        "mv -T /opt/edgeagg.new /opt/edgeagg",
        "systemctl daemon-reload",
    ):
        assert action in planned.stdout
    assert "would stop here" not in planned.stdout
    assert machine.calls() == []
    assert tree(machine.box / "upper") == set()


def test_a_dry_run_names_what_is_missing(tmp_path: Path) -> None:
    planned = run("bash", INSTALL, "--dry-run", "--root", tmp_path, "--wheelhouse", "/no/wheels")
    assert planned.returncode == 0
    assert "would stop here: no agent in /no/wheels" in planned.stdout


def test_a_damaged_wheelhouse_is_refused(tmp_path: Path) -> None:
    wheels = make_wheelhouse(tmp_path / "wheels")
    (wheels / "SHA256SUMS").write_text(f"{'0' * 64}  edgeagg_agent-0.1.0-py3-none-any.whl\n")
    root = tmp_path / "root"
    root.mkdir()
    refused = run("bash", INSTALL, "--root", root, "--wheelhouse", wheels)
    assert refused.returncode == 1
    assert "does not match SHA256SUMS" in refused.stderr
    assert tree(root) == set()


def test_a_python_too_old_is_refused(tmp_path: Path) -> None:
    pretend = "import sys; sys.version_info = (3, 10, 12); "
    write_script(tmp_path / "python", f'exec {sys.executable} -c "{pretend}$2"')
    wheels = make_wheelhouse(tmp_path / "wheels")
    python = {"PYTHON": str(tmp_path / "python")}
    refused = run("bash", INSTALL, "--root", tmp_path, "--wheelhouse", wheels, env=python)
    assert refused.returncode == 1
    assert "too old: 3.11 or newer" in refused.stderr


def test_an_image_is_installed_upgraded_and_cleaned(tmp_path: Path, quick_python: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    install = ["bash", INSTALL, "--root", root, "--wheelhouse", make_wheelhouse(tmp_path / "one")]
    # The only test with the real virtual environment, pip included.
    first = run(*install, env={"PYTHON": sys.executable})
    assert first.returncode == 0, first.stderr
    files = tree(root)
    assert {
        "opt/edgeagg",
        "opt/edgeagg.a/bin/edgeagg-agent",
        "usr/local/bin/edgeagg-agent",
        "etc/edgeagg/site.toml",
        "etc/systemd/system/edgeagg-agent.service",
        "etc/systemd/system/multi-user.target.wants/edgeagg-agent.service",
        "etc/udev/rules.d/60-edgeagg-rs485.rules",
        "etc/sysusers.d/edgeagg.conf",
        "etc/tmpfiles.d/edgeagg.conf",
    } <= files
    site = root / "etc/edgeagg/site.toml"
    assert site.stat().st_mode & 0o777 == 0o640
    assert (root / "usr/local/bin/edgeagg-agent").readlink() == Path(
        "/opt/edgeagg/bin/edgeagg-agent"
    )
    first_line = (root / "opt/edgeagg/bin/edgeagg-agent").read_text().splitlines()[0]
    assert first_line.startswith("#!/opt/edgeagg.a/bin/python")

    site.write_text("# mine\n")
    second = run(*install, env={"PYTHON": quick_python})
    assert second.returncode == 0, second.stderr
    assert site.read_text() == "# mine\n"
    assert (root / "opt/edgeagg").readlink() == Path("edgeagg.b")
    assert {path.name for path in (root / "opt").iterdir()} == {"edgeagg", "edgeagg.b"}

    kept = run("bash", INSTALL, "--root", root, "--uninstall")
    assert kept.returncode == 0, kept.stderr
    assert tree(root) == {
        "etc/edgeagg/site.toml",
        "etc/sysusers.d/edgeagg.conf",
        "etc/tmpfiles.d/edgeagg.conf",
    }
    assert run("bash", INSTALL, "--root", root, "--uninstall", "--purge").returncode == 0
    assert tree(root) == set()


def test_a_new_program_that_does_not_start_changes_nothing(
    tmp_path: Path, quick_python: str
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    install = ["bash", INSTALL, "--root", root, "--wheelhouse"]
    python = {"PYTHON": quick_python}
    run(*install, make_wheelhouse(tmp_path / "one"), env=python).check_returncode()
    before = tree(root)
    broken = make_wheelhouse(tmp_path / "two", version="0.2.0", broken=True)
    failed = run(*install, broken, env=python)
    assert failed.returncode == 1
    assert "the new program does not start; nothing was changed" in failed.stderr
    assert tree(root) == before
    assert (root / "opt/edgeagg").readlink() == Path("edgeagg.a")


def test_wheels_for_another_machine_are_refused(tmp_path: Path, quick_python: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    wheels = make_wheelhouse(tmp_path / "wheels")
    wheel = wheels / "edgeagg_agent-0.1.0-py3-none-any.whl"
    wheel.rename(wheels / "edgeagg_agent-0.1.0-cp311-cp311-manylinux2014_riscv64.whl")
    install = ["bash", INSTALL, "--root", root, "--wheelhouse", wheels]
    refused = run(*install, env={"PYTHON": quick_python})
    assert refused.returncode == 1
    assert "the wheelhouse does not fit this machine" in refused.stderr
    assert tree(root) == set()


def test_a_first_installation_with_the_example_is_not_started(
    machine: Machine, tmp_path: Path
) -> None:
    done = machine.install("--wheelhouse", make_wheelhouse(tmp_path / "wheels"))
    assert done.returncode == 0, done.stderr
    assert "Not started: /etc/edgeagg/site.toml is the example as yet" in done.stdout
    installed = "/etc/edgeagg/site.toml"
    assert done.stdout.rstrip().splitlines()[-4:] == [
        "Installed, not running. Next:",
        f"  1. sudo nano {installed}     buses, meters, platform",
        f"  2. sudo edgeagg-agent check {installed}; the same with read shows the meters",
        f"  3. sudo systemctl start edgeagg-agent; sudo edgeagg-agent status {installed}",
    ]
    assert machine.calls() == [
        "systemd-sysusers /etc/sysusers.d/edgeagg.conf",
        "systemd-tmpfiles --create /etc/tmpfiles.d/edgeagg.conf",
        "systemctl daemon-reload",
        "udevadm control --reload",
        "udevadm trigger --subsystem-match=tty --subsystem-match=usb-serial",
    ]
    assert machine.version() == "edgeagg-agent 0.1.0"


def test_it_starts_only_with_a_site_file_that_passes_the_check(
    machine: Machine, tmp_path: Path
) -> None:
    install = ["--wheelhouse", make_wheelhouse(tmp_path / "wheels")]
    machine.write_site("no_such_key = 1")
    refused = machine.install(*install)
    assert refused.returncode == 0, refused.stderr
    assert "site.toml: no_such_key: unknown key" in refused.stdout
    assert "Not started: /etc/edgeagg/site.toml needs a change" in refused.stdout
    assert not machine.is_active
    machine.write_site("# mine")
    accepted = machine.install(*install)
    assert accepted.returncode == 0, accepted.stderr
    assert "The agent runs. Next:" in accepted.stdout
    assert machine.is_active


def test_an_upgrade_stops_checks_and_starts_the_service(running: Machine, tmp_path: Path) -> None:
    wheels = make_wheelhouse(tmp_path / "two", version="0.2.0")
    done = running.install("--wheelhouse", wheels)
    assert done.returncode == 0, done.stderr
    assert running.version() == "edgeagg-agent 0.2.0"
    assert running.is_active
    services = [call for call in running.calls() if call.startswith("systemctl")]
    assert services == [
        "systemctl stop edgeagg-agent",
        "systemctl daemon-reload",
        "systemctl start edgeagg-agent",
    ]
    assert {path.name for path in (running.box / "upper/opt").iterdir()} == {"edgeagg", "edgeagg.b"}


def test_an_upgrade_that_refuses_the_site_file_leaves_the_old_program_running(
    running: Machine, tmp_path: Path
) -> None:
    wheels = make_wheelhouse(tmp_path / "two", version="0.2.0", refused="old_key")
    refused = running.install("--wheelhouse", wheels)
    assert refused.returncode == 1
    assert "site.toml: old_key: unknown key" in refused.stdout
    assert "the old one runs on; nothing was changed" in refused.stderr
    assert running.version() == "edgeagg-agent 0.1.0"
    assert running.is_active


def test_an_upgrade_that_does_not_keep_running_is_taken_back(
    running: Machine, tmp_path: Path
) -> None:
    running.start_fails.touch()
    wheels = make_wheelhouse(tmp_path / "two", version="0.2.0")
    failed = running.install("--wheelhouse", wheels)
    assert failed.returncode == 1
    assert "the old program is back" in failed.stderr
    assert running.version() == "edgeagg-agent 0.1.0"
    assert running.is_active


def test_uninstalling_keeps_readings_and_site_file_unless_purged(running: Machine) -> None:
    keep = "mkdir -p /var/lib/edgeagg && touch /var/lib/edgeagg/readings"
    running.run("sh", "-c", keep).check_returncode()
    show = "ls -d /opt/edgeagg* /etc/edgeagg/* /var/lib/edgeagg/* /usr/local/bin/edgeagg* 2>&-"
    removed = running.install("--uninstall")
    assert removed.returncode == 0, removed.stderr
    assert not running.is_active
    left = running.run("sh", "-c", show).stdout.split()
    assert left == ["/etc/edgeagg/site.toml", "/var/lib/edgeagg/readings"]
    assert running.install("--uninstall", "--purge").returncode == 0
    assert running.run("sh", "-c", show).stdout.split() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another user")
def test_the_first_boot_of_an_image_gives_the_configuration_to_the_service(tmp_path: Path) -> None:
    for tool in ("systemd-sysusers", "systemd-tmpfiles"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    site = tmp_path / "etc/edgeagg/site.toml"
    site.parent.mkdir(parents=True)
    site.touch()
    for name, text in (("passwd", "root:x:0:0::/root:/bin/sh"), ("group", "dialout:x:20:")):
        (tmp_path / "etc" / name).write_text(f"{text}\n")
    for kind in ("sysusers", "tmpfiles"):
        (tmp_path / f"etc/{kind}.d").mkdir()
        shutil.copy(HERE / f"{kind}.conf", tmp_path / f"etc/{kind}.d/edgeagg.conf")
    for command in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        done = run(*command, f"--root={tmp_path}", "edgeagg.conf")
        assert done.returncode == 0, done.stderr
    groups = (tmp_path / "etc/group").read_text()
    assert "dialout:x:20:edgeagg\n" in groups
    group = int(groups.partition("\nedgeagg:x:")[2].partition(":")[0])
    for path, mode in ((site, 0o640), (site.parent, 0o2750)):
        found = path.stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (mode, 0, group)
