"""A bad line in small: real uplinks, the kernel's TCP, a third of the packets lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hil_tests.badline import SETTINGS, Trial, run
from hil_tests.netspace import NO_NETWORK, Cable, place_of, settings_of
from hil_tests.proxy import Weather

pytestmark = pytest.mark.skipif(bool(NO_NETWORK), reason=NO_NETWORK)

# a tenth of the time for a tenth of the line: 20 s
SMALL = Trial(weather=Weather(latency_s=0.2, loss=0.3), gateways=30, count=4, flush_s=3)


def test_thirty_gateways_on_a_bad_line_lose_nothing_and_none_waits_long(tmp_path: Path) -> None:
    endured = run(tmp_path, SMALL)
    assert endured.missing == 0, endured
    assert endured.cut == 120
    # 6 to 9 s where the kernel has all that it is asked for, else up to half a minute
    assert endured.p99_s <= (60 if endured.unknown else 20), endured


@pytest.mark.long
def test_without_what_the_kernel_is_asked_for_they_wait_longer(tmp_path: Path) -> None:
    trial = dataclasses.replace(SMALL, gateways=45, count=6)
    for name in ("asked", "alone"):
        (tmp_path / name).mkdir()
    asked = run(tmp_path / "asked", trial)
    if asked.unknown:
        pytest.skip(f"this kernel has no {', '.join(asked.unknown)}")
    empty = tmp_path / "empty.conf"
    empty.touch()
    unasked = dataclasses.replace(trial, settings=empty, is_old_gateway=True)
    alone = run(tmp_path / "alone", unasked)
    assert alone.missing == 0
    assert alone.p99_s > 1.5 * asked.p99_s, (asked, alone)


def test_the_settings_of_the_deployment_are_the_platforms_and_no_others(tmp_path: Path) -> None:
    settings = settings_of(SETTINGS)
    own = {name: place_of(name).read_text() for name in settings if place_of(name).exists()}
    with Cable(tmp_path).running() as cable:
        unknown = cable.set_platform(settings)
        assert set(unknown) == settings.keys() - own.keys()
        for name in own:
            assert cable.platform_setting(name) == settings[name]
    assert own == {name: place_of(name).read_text() for name in own}, (
        "the machine's own are left alone"
    )
