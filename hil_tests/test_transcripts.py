"""Transcripts: recorded, written down, read again, and replayed under the agent's own reader."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import tty
from pathlib import Path
from typing import Any

import pytest

from edgeagg.errors import ConfigError, LinkError
from edgeagg_agent import profile
from edgeagg_agent.asking import Address
from edgeagg_agent.bus import LineSettings, ReadRequest
from edgeagg_agent.protocol.modbus import RtuQuestion, crc16, rtu_request
from edgeagg_agent.site import BusConfig
from hil_tests.bench import Bench
from hil_tests.tap import tapped_bus
from hil_tests.transcript import Transcript, TranscriptError, main, record, replay

SHIPPED = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))

ONE_POINT = """\
# meter: boiler
# unit: 1
# profile: one-point
# baud: 9600
# format: 8N1

# read
>> 01 04 00 00 00 02 71 cb
<< 01 04 04 43 66 1a 00 05 7f

= identify: matches
= voltage_l1: 230.1 V
"""
PROFILE = """
vendor = "Test"
models = ["one point"]
status = "draft"
sources = ["this test"]
[points.voltage_l1]
function = 4
register = 0
type = "f32"
unit = "V"
resolution = 0.1
max = 500
"""


@pytest.fixture
def profiles(tmp_path: Path) -> list[Path]:
    (tmp_path / "one-point.toml").write_text(PROFILE, encoding="utf-8")
    return [tmp_path]


def one_point(*changes: tuple[str, str]) -> Transcript:
    text = ONE_POINT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return Transcript.from_text(text, "one-point.txt")


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_transcript_gives_exactly_the_readings_noted_in_it(file: Path) -> None:
    transcript = Transcript.from_text(file.read_text(encoding="utf-8"), str(file))
    assert asyncio.run(replay(transcript)) == transcript.findings


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_a_shipped_transcript_stands_as_it_would_be_written(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert Transcript.from_text(text, str(file)).to_text() == text


def test_the_profiles_of_the_bench_have_a_transcript_of_all_their_points() -> None:
    texts = [Transcript.from_text(file.read_text("utf-8"), str(file)) for file in SHIPPED]
    recorded = {transcript.profile: transcript for transcript in texts}
    for name in ("acrel-adl400", "chint-dtsu666", "eastron-sdm630"):
        assert name in recorded, "see docs/hardware-bench.md: transcript record"
        points = profile.load(name, ()).points
        assert {point.name for point in points} <= recorded[name].findings.keys()


@pytest.mark.parametrize("name", ["incomer", "workshop"])
async def test_what_is_recorded_from_the_bench_replays_to_what_was_read(
    bench: Bench, name: str
) -> None:
    bench.need_simulator("its meters have these names")
    meter = bench.meters[name]
    recorded = await record(meter.bus, meter.meter, note="by a test")
    assert recorded.findings["identify"] == "matches"
    assert recorded.findings["active_power_total"].endswith(" W")
    again = Transcript.from_text(recorded.to_text(), "again")
    assert again == dataclasses.replace(recorded, sections=again.sections)
    assert await replay(again) == recorded.findings


async def test_a_meter_on_tcp_or_one_that_does_not_answer_cannot_be_recorded(bench: Bench) -> None:
    bench.need_simulator("its meters have these names")
    pv, incomer = bench.meters["pv"], bench.meters["incomer"]
    with pytest.raises(TranscriptError, match="pv is on TCP"):
        await record(pv.bus, pv.meter, note="")
    absent = dataclasses.replace(incomer.meter, address=Address(unit=99))
    with pytest.raises(LinkError, match="no reply"):
        await record(incomer.bus, absent, note="")
    silent = dataclasses.replace(absent, profile=dataclasses.replace(absent.profile, identify=()))
    with pytest.raises(LinkError, match="does not answer"):
        await record(incomer.bus, silent, note="")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ascii_mode": True}, "incomer speaks Modbus ASCII"),
        ({"profile": "dlt645-2007-generic"}, "incomer speaks dlt645-2007"),
    ],
)
async def test_only_modbus_rtu_can_be_recorded(
    bench: Bench, change: dict[str, Any], message: str
) -> None:
    bench.need_simulator("its meters have these names")
    config, meter = bench.meters["incomer"].bus, bench.meters["incomer"].meter
    if "profile" in change:
        meter = dataclasses.replace(meter, profile=profile.load(change["profile"], ()))
    else:
        config = dataclasses.replace(config, **change)
    with pytest.raises(TranscriptError, match=message):
        await record(config, meter, note="")


async def test_registers_asked_for_in_other_blocks_today_come_from_the_replies_of_then(
    profiles: list[Path],
) -> None:
    body = bytes.fromhex("01 04 0c 11 11 22 22 43 66 1a 00 33 33 44 44")
    wide = ReadRequest(1, 4, 65_534 - 4, 6)
    request = rtu_request(wide)
    reply = body + crc16(body).to_bytes(2, "little")
    spoken = f">> {request.hex(' ')}\n<< {reply.hex(' ')}\n"
    transcript = one_point((">> 01 04 00 00 00 02 71 cb\n<< 01 04 04 43 66 1a 00 05 7f\n", spoken))
    text = PROFILE.replace("register = 0", f"register = {wide.start + 2}")
    await asyncio.to_thread((profiles[0] / "one-point.toml").write_text, text, "utf-8")
    assert (await replay(transcript, profiles))["voltage_l1"] == "230.1 V"
    damaged = one_point(
        (
            ">> 01 04 00 00 00 02 71 cb\n<< 01 04 04 43 66 1a 00 05 7f\n",
            spoken.replace("43 66", "43 67"),
        )
    )
    assert (await replay(damaged, profiles))["voltage_l1"] == "bad_frame"


async def test_damaged_bytes_replay_to_the_reason_the_agent_would_have_given(
    profiles: list[Path],
) -> None:
    assert (await replay(one_point(), profiles))["voltage_l1"] == "230.1 V"
    for old, new, reason in (
        ("05 7f", "05 7e", "bad_frame"),
        ("<< 01 04 04 43 66 1a 00 05 7f\n", "", "no_reply"),
        ("01 04 04 43 66 1a 00 05 7f", "01 84 02 c2 c1", "refused"),
        ("01 04 04 43 66 1a 00 05 7f", "ff 01 04 04 43 66 1a 00 05 7f", "230.1 V"),
        ("01 04 04 43 66 1a 00 05 7f", "01 04 04 7f c0 00 00 e2 6c", "implausible"),
    ):
        found = await replay(one_point((old, new)), profiles)
        assert found["voltage_l1"] == reason, new


@pytest.mark.parametrize(
    ("reply", "high", "found"),
    [
        ("01 04 04 43 66 1a 00 05 7f", 231, "matches"),
        ("01 04 04 43 66 1a 00 05 7f", 230, "differs"),
        ("01 84 02 c2 c1", 231, "differs"),
    ],
)
async def test_a_recorded_meter_of_another_model_differs(
    profiles: list[Path], reply: str, high: int, found: str
) -> None:
    check = f'[[identify]]\nfunction = 4\nregister = 0\ntype = "f32"\nmin = 90\nmax = {high}\n'
    text = PROFILE.replace("[points", f"{check}[points", 1)
    await asyncio.to_thread((profiles[0] / "one-point.toml").write_text, text, "utf-8")
    spoken = f">> 01 04 00 00 00 02 71 cb\n<< {reply}\n\n"
    again = one_point(("# read\n", f"# identify\n{spoken}# read\n"))
    assert (await replay(again, profiles))["identify"] == found


async def test_a_port_that_is_unplugged_under_the_tap_is_a_gone_link() -> None:
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    config = BusConfig(
        name="rack",
        port=os.ttyname(theirs),
        host="",
        tcp_port=0,
        is_raw=False,
        ascii_mode=False,
        baud=9600,
        format="8N1",
        turnaround_ms=25,
        meters=(),
    )
    bus, tap = tapped_bus(config)
    question = RtuQuestion(ReadRequest(1, 4, 0, 2))
    asyncio.get_running_loop().call_later(0.03, os.close, ours)
    with pytest.raises(LinkError, match="is gone"):
        await bus.exchange(question, LineSettings(9600, "8N1"))
    await bus.close()
    os.close(theirs)
    assert [len(exchange.request) for exchange in tap.exchanges] == [8]


async def test_a_transcript_that_does_not_fit_its_profile_says_so(profiles: list[Path]) -> None:
    for change, message in (
        ((">> 01 04 00 00 00 02 71 cb", ">> 01 04 00 02 00 02 d0 0b"), "was not recorded"),
        ((">> 01 04 00 00 00 02 71 cb", ">> 01 04 00 00 00 02 71 cc"), "the CRC is wrong"),
        ((">> 01 04 00 00 00 02 71 cb", ">> 01 06 00 00 00 02 08 0b"), "only the reads"),
        (
            ("# read", "# identify\n>> 01 04 00 00 00 02 71 cb\n\n# read"),
            "1 exchanges were not asked for",
        ),
        (("# unit: 1", "# unit: 2"), "does not hold this"),
    ):
        with pytest.raises(TranscriptError, match=message):
            await replay(one_point(change), profiles)
    with pytest.raises(ConfigError, match="no profile 'two-point'"):
        await replay(one_point(("profile: one-point", "profile: two-point")), profiles)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# baud: 9600\n", "", 'the line "# baud: ..." is missing'),
        ("# baud: 9600", "# baud: fast", "baud: 'fast', a whole number expected"),
        ("# read", "# write", "line 7: # write; allowed behind # are meter:"),
        ("# read\n", "", "line 7: a request before any of # identify"),
        (">> 01 04 00 00 00 02 71 cb\n", "", "line 8: a reply before its request"),
        ("71 cb", "71 c", "line 8: '01 04 00 00 00 02 71 c' is not bytes"),
        ("= identify: matches", "= identify", "line 11: 'identify'; each reading once"),
        ("= identify: matches", "= voltage_l1: 1 V", "line 12: 'voltage_l1: 230.1 V'"),
        (">> 01", "-> 01", "line 8: '-> 01 04 00 00 00 02 71 cb'; a line begins with"),
    ],
)
def test_a_mistake_in_the_text_is_named_with_its_line(old: str, new: str, message: str) -> None:
    with pytest.raises(TranscriptError) as caught:
        one_point((old, new))
    assert str(caught.value).startswith("one-point.txt")
    assert message in str(caught.value)


def test_the_command_replays_and_tells_what_differs(
    tmp_path: Path, profiles: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "boiler.txt"
    command = ["replay", str(file), "--profiles", str(profiles[0])]
    file.write_text(ONE_POINT, encoding="utf-8")
    assert main(command) == 0
    assert "2 of 2 as noted" in capsys.readouterr().out
    file.write_text(ONE_POINT.replace("230.1 V", "230.2 V"), encoding="utf-8")
    assert main(command) == 1
    assert "voltage_l1: 230.1 V, noted is 230.2 V" in capsys.readouterr().out
    file.write_text("hello", encoding="utf-8")
    assert main(command) == 2
    assert "line 1: 'hello'" in capsys.readouterr().err


SITE = """
[site]
gateway = "qp-0001"
name = "Example plant"
[state]
directory = "state"
[[destination]]
name = "platform"
broker = "mqtt://127.0.0.1:1883"
[[bus]]
name = "cellar"
port = "none-such"
baud = 9600
format = "8N1"
[[bus.meter]]
name = "boiler"
unit = 1
profile = "eastron-sdm630"
period = "10s"
tier = 1
"""


@pytest.mark.parametrize(
    ("meter", "status", "message"),
    [
        ("boiler", 1, "transcript: cellar: none-such does not exist; ports found: "),
        ("oven", 2, "has no meter 'oven'; it has boiler"),
    ],
)
def test_the_command_says_why_nothing_is_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], meter: str, status: int, message: str
) -> None:
    file = tmp_path / "site.toml"
    file.write_text(SITE, encoding="utf-8")
    assert main(["record", str(file), "--meter", meter]) == status
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""
