"""The file that tells `hil_tests.broker_rules` where a broker is, and what it says of a broker."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeagg.errors import EdgeaggError
from hil_tests import broker_rules
from hil_tests.broker_rules import Account, Broker
from hil_tests.services.process import free_port

FILE = """\
host = "mq.example"
gateway_port = 8883
platform_port = 8884
ca_file = "ca.pem"

[accounts]
try-0001 = { cert_file = "a.pem", cert_key_file = "a.key" }
try-0002 = { password_file = "b.passwd" }
receiver = { password_file = "b.passwd" }
operator = { password_file = "b.passwd" }
"""


def read(folder: Path, text: str) -> Broker:
    (folder / "b.passwd").write_text("secret\n", "utf-8")
    path = folder / "broker.toml"
    path.write_text(text, "utf-8")
    return broker_rules.read(path)


def test_names_of_files_count_from_the_files_folder(tmp_path: Path) -> None:
    made = read(tmp_path, FILE)
    assert made.gateways == ("try-0001", "try-0002")
    assert made.ca_file == f"{tmp_path}/ca.pem"
    assert made.accounts["try-0001"] == Account(
        cert_file=f"{tmp_path}/a.pem", cert_key_file=f"{tmp_path}/a.key"
    )
    assert made.accounts["try-0002"] == Account(password="secret")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('host = "mq.example"', "", "host is missing; see --help"),
        ("8883", '"all"', "invalid literal for int() with base 10: 'all'"),
        ("operator", "try-0003", "accounts: found try-0001, try-0002, receiver, try-0003; allowed"),
        ("try-0001 = ", "# ", "accounts: found try-0002, receiver, operator; allowed"),
        ("cert_key_file", "key", "accounts: found key; allowed: cert_file, cert_key_file, passw"),
        ("b.passwd", "c.passwd", "no password: No such file or directory"),
        ("[accounts]", "[accounts", "Expected"),
    ],
)
def test_what_is_wrong_with_the_file_is_one_line(
    tmp_path: Path, before: str, after: str, said: str
) -> None:
    assert before in FILE
    with pytest.raises(EdgeaggError, match=r"^[^\n]*$") as caught:
        read(tmp_path, FILE.replace(before, after))
    assert said in str(caught.value)


async def test_a_broker_that_is_not_there_is_told_in_each_trial() -> None:
    account = Account(password="secret")
    names = ("try-0001", "try-0002", "receiver", "operator")
    nowhere = Broker(
        host="127.0.0.1",
        gateway_port=free_port(),
        platform_port=free_port(),
        ca_file="",
        accounts=dict.fromkeys(names, account),
    )
    told = [trial async for trial in broker_rules.trials(nowhere, b"0123456789abcdef")]
    assert [words for words, _ in told] == [
        "every account on every topic",
        "long and retained messages",
        "gateways that pretend",
        "strangers",
    ]
    assert all("connection ends: " in troubles[0] for _, troubles in told)
