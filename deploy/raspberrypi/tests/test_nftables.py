"""The firewall template: what it forbids, and that nft can read it."""

from __future__ import annotations

import os
import re
import shutil

import pytest

from deploy.raspberrypi.tests.machine import HERE, run

RULES = HERE / "nftables.conf"
NFT = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")


def chains() -> dict[str, list[str]]:
    """Return the rules of each chain, comments left out."""
    text = re.sub(r"#.*", "", RULES.read_text(encoding="utf-8"))
    return {
        name: [line.strip() for line in body.splitlines() if line.strip()]
        for name, body in re.findall(r"chain (\w+) \{\n(.*?)\n    \}", text, re.DOTALL)
    }


def test_the_firewall_forwards_nothing_and_begins_by_refusing() -> None:
    found = chains()
    assert set(found) == {"input", "forward", "output"}
    for name, lines in found.items():
        assert lines[0] == f"type filter hook {name} priority filter; policy drop;"
    assert len(found["forward"]) == 1


def test_the_plants_network_may_open_no_connection_to_the_gateway() -> None:
    for line in chains()["input"]:
        assert "$plant" not in line
        assert "accept" not in line or line.startswith(
            ("iif lo", "ct state established", "meta l4proto", "udp sport 67", "iifname $uplink")
        ), line


def test_what_may_go_out_has_an_address_or_is_names_and_time() -> None:
    for line in chains()["output"]:
        if "$plant" in line:
            assert "$meters" in line
        elif "$uplink" in line and "$brokers" not in line:
            assert set(re.findall(r"\d+", line.split("dport")[1])) <= {"53", "123", "4460"}


@pytest.mark.skipif(NFT is None or os.geteuid() != 0, reason="needs Debian's nftables, and root")
def test_nft_can_read_it() -> None:
    checked = run("unshare", "--net", NFT, "--check", "--file", RULES)
    assert checked.returncode == 0, checked.stderr
