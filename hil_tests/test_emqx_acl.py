"""The shipped rules for EMQX: terms that Erlang reads; every account on every topic.

EMQX itself does not run here, as no package of it can be had. The rules are decided by a script of
our own in its language; EMQX 5.4.1 and 5.8.9 gave the same answers when they were asked by hand,
over MQTT (deploy/broker/README.md).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgeagg import topics

HERE = Path(__file__).parent
RULES = HERE.parent / "deploy" / "broker" / "edgeagg-acl.conf"
ESCRIPT = shutil.which("escript")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(ESCRIPT is None, reason="needs Debian's package erlang-base"),
]

GATEWAYS = ("qp-0001", "qp-0002")
UP = (topics.hello, topics.batch, topics.answer)
DOWN = (topics.receipt, topics.command)
STRANGE = (
    "#",
    "edgeagg/#",
    "edgeagg/v1/+/+",
    "edgeagg/v1/qp-0001/#",
    "edgeagg/v1/qp-0001",
    "edgeagg/v1/qp-0001/batch/x",
    "edgeagg/v2/qp-0001/batch",
    "anything",
    "$SYS/broker/log",
)
NAMES = (*GATEWAYS, "+", "operator")
TOPICS = (*(make(name) for make in (*UP, *DOWN) for name in NAMES), *STRANGE)
USERS = (*GATEWAYS, "receiver", "operator", "+", "#", "qp-0001/batch")


def wanted() -> set[tuple[str, str, str]]:
    """Return what deploy/broker/README.md allows, as (user, action, topic)."""
    allowed = {(name, "publish", make(name)) for name in GATEWAYS for make in UP}
    allowed |= {(name, "subscribe", make(name)) for name in GATEWAYS for make in DOWN}
    for name in NAMES:
        allowed.add(("receiver", "publish", topics.receipt(name)))
        allowed |= {("receiver", "subscribe", make(name)) for make in (topics.hello, topics.batch)}
        allowed.add(("operator", "publish", topics.command(name)))
        allowed.add(("operator", "subscribe", topics.answer(name)))
    return allowed


def allowed_by(rules: Path) -> set[tuple[str, str, str]]:
    """Return what a rule file allows of all questions."""
    asked = [(u, a, t) for u in USERS for a in ("publish", "subscribe") for t in TOPICS]
    command = [str(ESCRIPT), str(HERE / "emqx_acl.escript"), str(rules)]
    text = "".join(f"{' '.join(question)}\n" for question in asked)
    said = subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout
    verdicts = [line.split(" ") for line in said.splitlines()]
    assert [tuple(rest) for _, *rest in verdicts] == asked
    return {(user, action, topic) for verdict, user, action, topic in verdicts if verdict != "deny"}


def test_every_account_may_do_what_the_table_says_and_nothing_else() -> None:
    assert allowed_by(RULES) == wanted()


@pytest.mark.parametrize(
    ("shipped", "broken"),
    [
        ("${username}/receipt", "+/receipt"),
        ('{deny, {username, "operator"}, all, ["#"]}.', ""),
        ("{deny, all}.", "{allow, all}."),
        ('{deny, {username, {re, "[^a-z0-9-]"}}, all, ["#"]}.', ""),
    ],
)
def test_a_rule_that_is_wider_shows(tmp_path: Path, shipped: str, broken: str) -> None:
    text = RULES.read_text("utf-8")
    assert shipped in text
    changed = tmp_path / "acl.conf"
    changed.write_text(text.replace(shipped, broken), "utf-8")
    assert allowed_by(changed) - wanted()
