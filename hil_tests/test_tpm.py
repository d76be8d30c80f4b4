"""The gateway's key sealed to a TPM 2.0, by the commands of docs/security.md, on a software TPM."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeagg import keyfile
from edgeagg.errors import StoreError
from edgeagg.seal import Signer, key_text
from hil_tests.services.process import Child, tied_to_parent

TOOLS = ("swtpm", "systemd-creds", "tpm2_pcrextend")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
DOCUMENT = Path(__file__).parents[1] / "docs" / "security.md"
NAME = "device.key"
SEAL = "systemd-creds encrypt --name=device.key --with-key=tpm2 --tpm2-pcrs=7"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"{' and '.join(MISSING)} missing; install Debian's swtpm, tpm2-tools and systemd",
    ),
]


class Board:
    """A board with a TPM of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.key_file = folder / NAME
        self._socket = folder / "tpm"
        self.device = f"swtpm:path={self._socket}"
        command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}"]
        command += ["--server", f"type=unixio,path={self._socket}"]
        command += ["--ctrl", f"type=unixio,path={self._socket}.ctrl"]
        command += ["--flags", "not-need-init,startup-clear"]
        self._chip = Child(tied_to_parent(command), name="swtpm", log=folder / "swtpm.log")

    def power_on(self) -> None:
        self._socket.unlink(missing_ok=True)
        self._chip.start()
        self._chip.wait_ready(self._socket.exists)
        # as firmware does: no register of the boot is empty
        self.measure("firmware")

    def power_off(self) -> None:
        self._chip.kill()

    def measure(self, what: str) -> None:
        digest = base64.b16encode(what.encode().ljust(32, b"\0")).decode().lower()
        command = ["tpm2_pcrextend", "-T", self.device, f"7:sha256={digest}"]
        subprocess.run(command, check=True, capture_output=True)

    def seal(self, sealed: Path) -> None:
        command = [*SEAL.split(), f"--tpm2-device={self.device}", str(self.key_file), str(sealed)]
        subprocess.run(command, check=True, capture_output=True)

    def unseal(self, sealed: Path) -> subprocess.CompletedProcess[bytes]:
        """Do what the service manager does with LoadCredentialEncrypted=."""
        command = ["systemd-creds", "decrypt", f"--name={NAME}", f"--tpm2-device={self.device}"]
        return subprocess.run([*command, str(sealed), "-"], check=False, capture_output=True)


@pytest.fixture
def boards() -> Iterator[tuple[Board, Board]]:
    """Give two boards that are on. Their folder has a short name: a socket's has 108 bytes."""
    with tempfile.TemporaryDirectory() as folder:
        made = Board(Path(folder) / "a"), Board(Path(folder) / "b")
        try:
            for board in made:
                board.power_on()
            yield made
        finally:
            for board in made:
                board.power_off()


@pytest.fixture
def sealed(boards: tuple[Board, Board], tmp_path: Path) -> tuple[Path, Signer]:
    """Make a key on the first board and seal it there; return that and the key."""
    signer = keyfile.make(boards[0].key_file)
    file = tmp_path / "device.key.cred"
    boards[0].seal(file)
    return file, signer


def test_the_document_tells_these_commands() -> None:
    text = DOCUMENT.read_text("utf-8")
    assert f"sudo {SEAL} /run/enrol/device.key /etc/edgeagg/device.key.cred" in text
    assert "LoadCredentialEncrypted=device.key:/etc/edgeagg/device.key.cred" in text


def test_the_board_that_sealed_a_key_gives_it_to_the_agent_also_after_a_power_cut(
    boards: tuple[Board, Board], sealed: tuple[Path, Signer], tmp_path: Path
) -> None:
    file, signer = sealed
    boards[0].power_off()
    boards[0].power_on()
    unsealed = boards[0].unseal(file)
    assert unsealed.returncode == 0, unsealed.stderr
    loaded = tmp_path / NAME
    loaded.touch(0o600)
    loaded.write_bytes(unsealed.stdout)
    assert keyfile.load(loaded).public == signer.public
    site = tmp_path / "site.toml"
    shipped = Path(__file__).parents[1] / "deploy" / "raspberrypi" / "site.toml"
    text = shipped.read_text("utf-8").replace("[site]", f'[site]\nkey_file = "{loaded}"', 1)
    site.write_text(text, "utf-8")
    command = [sys.executable, "-m", "edgeagg_agent", "key", str(site)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert key_text(signer.public) in said


def test_the_card_alone_is_no_gateway(
    boards: tuple[Board, Board], sealed: tuple[Path, Signer]
) -> None:
    file, _ = sealed
    seed = boards[0].key_file.read_bytes()
    assert seed not in base64.b64decode(file.read_bytes())
    refused = boards[1].unseal(file)
    assert refused.returncode != 0
    assert refused.stdout == b""


def test_a_boot_that_measured_something_else_gets_no_key(
    boards: tuple[Board, Board], sealed: tuple[Path, Signer]
) -> None:
    boards[0].measure("another boot loader")
    refused = boards[0].unseal(sealed[0])
    assert refused.returncode != 0
    assert refused.stdout == b""


def test_a_key_that_was_changed_on_the_card_is_refused(
    boards: tuple[Board, Board], sealed: tuple[Path, Signer], tmp_path: Path
) -> None:
    data = bytearray(base64.b64decode(sealed[0].read_bytes()))
    data[-20] ^= 1
    changed = tmp_path / "changed.cred"
    changed.write_bytes(base64.b64encode(data))
    refused = boards[0].unseal(changed)
    assert refused.returncode != 0
    empty = tmp_path / NAME
    empty.touch(0o600)
    with pytest.raises(StoreError, match="not a key file"):
        keyfile.load(empty)
