"""What an installer gets: the scripts, the unit, the udev rules and the example site file.

Nothing here touches the machine: installations go below a folder of the test's own, or into a
user namespace in which /etc, /opt and the like are private copies and systemctl is a recorder.
"""

from __future__ import annotations

import ensurepip
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from edgeagg_agent.config import load_site

HERE = Path(__file__).parent.parent
CHECKOUT = HERE.parent.parent
INSTALL = HERE / "install.sh"
WHEELHOUSE = HERE / "wheelhouse.sh"
UNIT = HERE / "edgeagg-agent.service"
RULES = HERE / "60-edgeagg-rs485.rules"
SITE = HERE / "site.toml"
SCRIPTS = [INSTALL, WHEELHOUSE, *sorted((CHECKOUT / "tools").glob("*.sh"))]

# A stand-in for the agent: `check` knows one key less than a real one would refuse.
STUB_AGENT = """
import sys
from pathlib import Path

def main():
    if sys.argv[1] == "--version":
        print("edgeagg-agent {version}")
    elif sys.argv[1] == "check" and "{refused}" in Path(sys.argv[2]).read_text():
        print("site.toml: {refused}: unknown key")
        return 1
    return 0
"""


def make_wheelhouse(
    folder: Path, *, version: str = "0.1.0", refused: str = "no_such_key", broken: bool = False
) -> Path:
    """Write a wheelhouse whose one wheel is a stand-in for the agent."""
    folder.mkdir()
    info = f"edgeagg_agent-{version}.dist-info"
    files = {
        "edgeagg_agent_stub.py": "raise SystemExit(1)"
        if broken
        else STUB_AGENT.format(version=version, refused=refused),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: edgeagg-agent\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nedgeagg-agent = edgeagg_agent_stub:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / f"edgeagg_agent-{version}-py3-none-any.whl", "w") as wheel:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(name, text)
    return folder


def write_script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def run(*command: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(env or {})},
    )


def tree(root: Path) -> set[str]:
    """Return the files and links below `root`."""
    return {
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }


@pytest.fixture(scope="session")
def quick_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a Python whose virtual environments borrow one pip, which saves seconds for each."""
    wheels = sorted((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))
    if not wheels:  # Debian keeps it elsewhere; then the tests are slower and no less right.
        return sys.executable
    folder = tmp_path_factory.mktemp("quick-python")
    with zipfile.ZipFile(wheels[-1]) as pip:
        pip.extractall(folder / "pip")
    write_script(
        folder / "python",
        f'[ "$1 $2" = "-m venv" ] || exec {sys.executable} "$@"\n'
        f'{sys.executable} -m venv --without-pip "$3"\n'
        f'echo {folder}/pip >"$(echo "$3"/lib/python3*/site-packages)/pip.pth"',
    )
    return str(folder / "python")


class Machine:
    """A private view of this machine for a live installation, with a recorder for systemctl."""

    def __init__(self, box: Path, python: str) -> None:
        self.box = box
        self._python = python
        self._calls = box / "calls"
        self._is_active = box / "active"
        self.start_fails = box / "start-fails"
        bin_folder = box / "bin"
        bin_folder.mkdir(parents=True)
        write_script(
            bin_folder / "systemctl",
            f'echo "systemctl $*" >>{self._calls}\n'
            f'case "$1 $2" in\n'
            f'  "is-active "*) test -e {self._is_active} ;;\n'
            f'  "start "*) test -e {self.start_fails} && rm {self.start_fails} && exit 1\n'
            f"     touch {self._is_active} ;;\n"
            f'  "stop "* | "disable --now") rm -f {self._is_active} ;;\n'
            "esac",
        )
        write_script(bin_folder / "runuser", 'shift 3; exec "$@"')
        for name in ("systemd-sysusers", "systemd-tmpfiles", "udevadm", "userdel"):
            write_script(bin_folder / name, f'echo "{name} $*" >>{self._calls}')
        self._enter = box / "enter"
        write_script(
            self._enter,
            "set -e\n"
            "for folder in etc opt usr/local/bin var/lib; do\n"
            f"  mkdir -p {box}/upper/$folder {box}/work/$folder\n"
            f"  mount -t overlay overlay -o lowerdir=/$folder,upperdir={box}/upper/$folder,"
            f"workdir={box}/work/$folder,userxattr /$folder\n"
            "done\n"
            "mount -t tmpfs tmpfs /run\n"
            "mkdir -p /run/systemd/system\n"
            f"export PATH={bin_folder}:$PATH\n"
            'exec "$@"',
        )

    def run(self, *command: object) -> subprocess.CompletedProcess[str]:
        unshare = ["unshare", "--user", "--map-root-user", "--mount"]
        return run(*unshare, self._enter, *command, env={"PYTHON": self._python})

    def install(self, *options: object) -> subprocess.CompletedProcess[str]:
        self._calls.write_text("")
        return self.run("bash", INSTALL, *options)

    def calls(self) -> list[str]:
        """Return what the last installation asked of the system, questions left out."""
        lines = self._calls.read_text().splitlines()
        return [line for line in lines if "is-active" not in line]

    @property
    def is_active(self) -> bool:
        return self._is_active.exists()

    def write_site(self, text: str) -> None:
        write = f"mkdir -p /etc/edgeagg && echo '{text}' >/etc/edgeagg/site.toml"
        self.run("sh", "-c", write).check_returncode()

    def version(self) -> str:
        return self.run("edgeagg-agent", "--version").stdout.strip()


@pytest.fixture
def machine(tmp_path: Path, quick_python: str) -> Machine:
    made = Machine(tmp_path / "machine", quick_python)
    entered = made.run("true")
    if entered.returncode:
        pytest.skip(f"no private mounts for ordinary users here: {entered.stderr.strip()}")
    return made


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    shellcheck = shutil.which("shellcheck", path=Path(sys.executable).parent)
    assert shellcheck, "shellcheck comes with the development packages"
    found = run(shellcheck, script)
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


@pytest.fixture
def running(machine: Machine, tmp_path: Path) -> Machine:
    """Return a machine on which version 0.1.0 runs, with a site file of its own."""
    machine.write_site("old_key = 1")
    machine.install("--wheelhouse", make_wheelhouse(tmp_path / "one")).check_returncode()
    assert machine.is_active
    return machine


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
    (tmp_path / "site.toml").write_text(re.sub(r"(?m)^(password|ca)_file = .*$", "", uncommented))
    assert load_site(tmp_path / "site.toml").buses[2].host == "192.168.1.20"
    assert [bus.get("tcp") for bus in site["bus"]] == [None, None, "192.168.1.20:502"]
    assert {"username", "password_file", "ca_file"} <= set(site["destination"][0])


def test_every_key_of_the_site_file_is_explained_where_it_first_stands() -> None:
    explained = set()
    for line in SITE.read_text().splitlines():
        key = re.match(r"(?:# )?(\w+) = ", line)
        if key and key[1] not in explained:
            assert re.search(r"\S\s+# ", line), f"no explanation: {line}"
            explained.add(key[1])
