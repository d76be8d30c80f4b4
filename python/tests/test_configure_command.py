"""edgeagg configure and the options of a broker, as typed: what is wrong is one line and 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeagg import keyfile
from edgeagg.cli import main
from edgeagg.seal import key_text


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Return a command line that is right, but that nobody answers."""
    (tmp_path / "site.toml").write_text("[site]\n")
    for name in ("platform", "safe"):
        keyfile.make(tmp_path / f"{name}.key")
    store = f"sqlite:///{tmp_path / 'platform.db'}"
    public = key_text(keyfile.make(tmp_path / "gateway.key").public)
    assert main(["gateways", "--store", store, "add", "qp-0001", public]) == 0
    return [
        *("configure", "qp-0001", str(tmp_path / "site.toml"), "--broker", "mqtt://127.0.0.1:1"),
        *("--store", store, "--key-file", str(tmp_path / "platform.key"), "--wait", "1s"),
    ]


def changed(words: list[str], old: str, new: str) -> list[str]:
    assert old in words
    return [new if word == old else word for word in words]


def refused(words: list[str], capsys: pytest.CaptureFixture[str], said: str) -> None:
    capsys.readouterr()
    assert main(words) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("edgeagg: ")
    assert said in line


def test_nobody_who_answers_is_1_and_is_told_as_such(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--number", "7"]) == 1
    assert "qp-0001: command 7: no answer; it may still be taken" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("qp-0001", "qp-0002", "no key of qp-0002 is known: its answer could be anybody's"),
        ("qp-0001", "QP", "'QP' cannot name a gateway"),
        ("mqtt://127.0.0.1:1", "http://x", "--broker: url: 'http://x'; mqtt://HOST:PORT or"),
        ("mqtt://127.0.0.1:1", "mqtt://x:y", "--broker: url: 'mqtt://x:y'"),
        ("1s", "soon", "--wait: duration: 'soon'; such as 90s, 15min, 1h"),
        ("1s", "0s", "--wait: duration: '0s'"),
    ],
)
def test_a_mistake_on_the_command_line_sends_nothing(
    words: list[str], capsys: pytest.CaptureFixture[str], old: str, new: str, said: str
) -> None:
    refused(changed(words, old, new), capsys, said)


def test_two_signatures_are_of_two_keys(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    same = ["--key-file", str(tmp_path / "platform.key")]
    refused([*words, *same], capsys, "--key-file: files: the same key twice; two different keys")
    safe = ["--key-file", str(tmp_path / "safe.key")]
    refused([*words, *safe, *same], capsys, "--key-file: files: 3; one or two")
    assert main([*words, *safe]) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[site", "site.toml: file: "),
        (b"\xff", "site.toml: file: "),
        (b"# " + bytes(300_000).replace(b"\0", b"x"), "at most 262144; a shorter file"),
    ],
    ids=["no-toml", "no-text", "too-long"],
)
def test_a_file_that_can_be_no_site_file_is_not_sent(
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    content: bytes,
    said: str,
) -> None:
    (tmp_path / "site.toml").write_bytes(content)
    refused(words, capsys, said)


def test_files_of_tls_are_looked_at_before_anything_starts(
    words: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "none.pem"
    file.write_text("no certificate")
    file.chmod(0o644)
    one, other = ["--cert-file", str(file)], ["--cert-key-file", str(file)]
    refused([*words, *one], capsys, "--broker: url: 'mqtt://127.0.0.1:1'; mqtts:// with files")
    secure = changed(words, "mqtt://127.0.0.1:1", "mqtts://127.0.0.1:1")
    refused([*secure, *one], capsys, "--cert-file: file: one of two; both it and --cert-key-file")
    refused([*secure, *one, *other], capsys, "--cert-key-file: file: everybody can read")
    file.chmod(0o600)
    refused([*secure, *one, *other], capsys, "none.pem: no certificate and its key: not PEM")
    refused([*secure, "--ca-file", str(file)], capsys, "none.pem: no certificates: not PEM")
