"""Key files: made once, on the disk, for their owner alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from edgeagg import keyfile
from edgeagg.errors import StoreError


def test_a_key_is_made_once_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "state" / "device.key"
    made = keyfile.load_or_make(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keyfile.load_or_make(path).public == made.public
    assert [file.name for file in path.parent.iterdir()] == ["device.key"]


def test_two_keys_differ_and_follow_from_their_random_bytes(tmp_path: Path) -> None:
    first = keyfile.make(tmp_path / "1", lambda count: bytes([7]) * count)
    again = keyfile.make(tmp_path / "2", lambda count: bytes([7]) * count)
    other = keyfile.make(tmp_path / "3")
    assert first.public == again.public != other.public


def test_a_key_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    made = keyfile.make(path)
    with pytest.raises(StoreError, match="no key can be made"):
        keyfile.make(path)
    assert keyfile.load(path).public == made.public


def test_what_a_power_cut_left_of_making_one_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "device.key.new").write_text("half")
    keyfile.load_or_make(tmp_path / "device.key")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused_with_what_to_do(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "device.key"
    keyfile.make(path)
    path.chmod(mode)
    with pytest.raises(StoreError, match=f"chmod 600 {path}"):
        keyfile.load(path)


@pytest.mark.parametrize("text", ["", "edgeagg secret key 1 AAAA\n", "ssh-ed25519 AAAA", "\0" * 99])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "device.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(StoreError, match="not a key file"):
        keyfile.load(path)


def test_no_message_shows_the_secret(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    made = keyfile.make(path)
    secret = path.read_text().split()[-1]
    path.write_text(f"edgeagg secret key 2 {secret}\n")
    with pytest.raises(StoreError) as raised:
        keyfile.load(path)
    assert secret not in str(raised.value) + repr(made)
