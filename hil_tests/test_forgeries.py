"""Forgeries against the inbox: none gets in, and a broken inbox is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeagg.receiver import inbox, keys
from hil_tests import forgeries


async def test_no_forgery_changes_anything(tmp_path: Path) -> None:
    result = await forgeries.run(tmp_path, 1_500, 1, lambda _done: None)
    assert result.is_right, result
    assert len(result.tried) == 11
    assert min(result.tried.values()) > 50


@pytest.mark.long
async def test_no_forgery_of_a_hundred_thousand_changes_anything(tmp_path: Path) -> None:
    result = await forgeries.run(tmp_path, 100_000, 2, lambda _done: None)
    assert result.is_right, result


@pytest.mark.parametrize("part", ["signature", "state"])
async def test_an_inbox_that_checks_too_little_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    if part == "signature":
        # the key that a message names is believed without a look at its signature
        monkeypatch.setattr(
            inbox, "sealer", lambda _data, _leaf, known, _admission: next(iter(known), None)
        )
    else:
        monkeypatch.setattr(keys.GatewayKey, "vouches_for", lambda _key, _parsed: True)
    result = await forgeries.run(tmp_path, 300, 1, lambda _done: None)
    assert not result.is_right
