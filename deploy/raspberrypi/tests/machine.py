"""What the tests of deploy/raspberrypi work on: folders, stand-in wheels, a private machine."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

HERE = Path(__file__).parent.parent
INSTALL = HERE / "install.sh"
WHEELHOUSE = HERE / "wheelhouse.sh"

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
            f"  mkdir -p {box}/upper/$folder {box}/scratch/$folder\n"
            f"  mount -t overlay overlay -o lowerdir=/$folder,upperdir={box}/upper/$folder,"
            f"workdir={box}/scratch/$folder,userxattr /$folder\n"
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
