"""Commands at the gateway: every refusal, the trial, and the way back over restarts and cuts."""

import asyncio
import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from agent.tests.pushing import GATEWAY_KEY, ONE, STRANGER, TRIAL_MS, TWO, Gateway, parsed
from edgeagg.command import CommandKind, Outcome
from edgeagg.errors import ConfigError, StoreError
from edgeagg.seal import Domain, key_text, sealed
from edgeagg_agent import cli, remote
from edgeagg_agent.clock import SystemClock
from edgeagg_agent.desk import site_that_runs

RENAMED = ('name = "Example plant"', 'name = "Renamed plant"')
MOVED = ("127.0.0.1:1883", "127.0.0.1:1")


@pytest.fixture
def gateway(tmp_path):
    made = Gateway(tmp_path)
    yield made
    made.desk.close()


def files(tmp_path):
    """Return all that is kept of commands."""
    folder = tmp_path / "state/remote"
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "lock"}


async def test_a_pushed_file_runs_and_a_receipt_confirms_it(gateway):
    answer = await gateway.push(RENAMED)
    assert (answer.outcome, answer.number) == (Outcome.ON_TRIAL, 1)
    assert gateway.desk.site.name == "Renamed plant"
    gateway.run_s(5)
    confirmed = parsed(gateway.desk.heard("platform"))
    assert confirmed.outcome is Outcome.CONFIRMED
    assert confirmed.digest == answer.digest
    gateway.run_s(2 * TRIAL_MS // 1000)
    gateway.start()
    assert gateway.desk.site.name == "Renamed plant"
    assert parsed(gateway.desk.last_answer("platform")).outcome is Outcome.CONFIRMED
    assert 'name = "Example plant"' in gateway.file.read_text(), "the installer's file is theirs"


async def test_without_a_receipt_the_former_file_comes_back(gateway):
    await gateway.push(MOVED, signers=(ONE, TWO))
    assert gateway.desk.site.destinations[0].port == 1
    gateway.run_s(TRIAL_MS // 1000 - 1)
    assert not gateway.desk.wants_restart
    gateway.run_s(2)
    assert gateway.desk.wants_restart
    gateway.start()
    assert gateway.desk.site.destinations[0].port == 1883
    answer = parsed(gateway.desk.last_answer("platform"))
    assert answer.outcome is Outcome.ROLLED_BACK
    assert answer.text == "no receipt of platform came in time"


async def test_the_former_file_is_the_last_that_was_confirmed(gateway):
    await gateway.push(RENAMED)
    gateway.desk.heard("platform")
    await gateway.push(RENAMED, MOVED, number=2, signers=(ONE, TWO))
    gateway.run_s(TRIAL_MS // 1000 + 1)
    gateway.start()
    assert gateway.desk.site.name == "Renamed plant"
    assert gateway.desk.site.destinations[0].port == 1883


async def test_a_receipt_of_another_destination_confirms_nothing(gateway):
    await gateway.push(RENAMED)
    assert gateway.desk.heard("second") is None
    assert gateway.desk.is_on_trial


async def test_a_receipt_before_the_restart_confirms_nothing(gateway):
    await gateway.take(gateway.command(gateway.pushed(RENAMED)))
    assert gateway.desk.heard("platform") is None
    gateway.start()
    assert gateway.desk.is_on_trial


async def test_the_trials_time_goes_on_over_kills(gateway):
    await gateway.push(RENAMED)
    began_s = gateway.clock.monotonic_s()
    for _ in range(3):
        gateway.run_s(250)
        gateway.start()
    # a kill may cost what was not noted yet, 15 s each time
    lasted_s = gateway.clock.monotonic_s() - began_s
    assert TRIAL_MS / 1000 <= lasted_s <= TRIAL_MS / 1000 + 2 * 15
    assert gateway.desk.site.name == "Example plant"


async def test_a_file_that_the_agent_dies_of_goes_back_after_five_starts(gateway):
    await gateway.push(RENAMED)
    starts = 1
    while gateway.desk.is_on_trial and starts < 20:
        gateway.start()
        starts += 1
    assert starts == remote.STARTS_MAX + 1
    assert gateway.desk.site.name == "Example plant"
    assert "started 5 times" in parsed(gateway.desk.last_answer("platform")).text


async def test_a_power_cut_at_any_step_of_applying_leaves_one_file_or_the_other(
    gateway, tmp_path, monkeypatch
):
    command = gateway.command(gateway.pushed(RENAMED))
    shelf = type(gateway.desk._shelf)
    whole = shelf._write
    for step in range(3):
        count = 0

        def cut(self, name, content, step=step):
            nonlocal count
            count += 1
            if count > step:
                (self._folder / f"{name}.new").write_bytes(content[: len(content) // 2])
                raise OSError(errno.EIO, "cut")
            whole(self, name, content)

        monkeypatch.setattr(shelf, "_write", cut)
        answer = await gateway.take(command)
        monkeypatch.setattr(shelf, "_write", whole)
        gateway.start()
        expected = "Renamed plant" if step == 2 else "Example plant"
        assert gateway.desk.site.name == expected, step
        assert (answer.outcome is Outcome.ON_TRIAL) == (step == 2)


def refused(answer, said):
    assert answer is not None
    assert answer.outcome is Outcome.REFUSED
    assert said in answer.text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gateway": "qp-0002"}, "a command for qp-0002; this is qp-0001"),
        ({"expires_ms": 1_790_000_000_000}, "expired 0 s ago"),
        ({"issued_ms": 1_790_000_301_000}, "made 301 s from now: this clock or the platform's"),
        ({"expires_ms": 1_790_000_000_000 + 8 * 86_400_000}, "valid for more than 7 days"),
        ({"number": 0}, "number 0 is not above 0"),
        ({"payload": b"\xff"}, "not a site file: not UTF-8"),
        ({"payload": b"[site"}, "file: "),
        ({"payload": b""}, "site: missing; a table"),
    ],
    ids=["target", "expired", "ahead", "long", "number", "bytes", "toml", "empty"],
)
async def test_what_is_refused_is_answered_in_one_line_and_changes_nothing(
    gateway, tmp_path, changes, said
):
    before = files(tmp_path)
    answer = await gateway.take(replace(gateway.command(gateway.pushed(RENAMED)), **changes))
    refused(answer, said)
    assert not gateway.desk.wants_restart
    assert files(tmp_path) == before == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'unit = 1\nprofile = "sun',
            'unit = 300\nprofile = "sun',
            "bus[roof].meter[pv].unit: 300; a whole number from 1 to 247",
        ),
        ('"sunspec-meter-213"', '"sunspec"', "profile: no profile 'sunspec'"),
        ("tier = 2", 'tier = 2\nwrite = "yes"', "write: unknown key"),
    ],
)
async def test_a_file_that_check_refuses_is_refused_with_the_same_words(gateway, old, new, said):
    refused(await gateway.take(gateway.command(gateway.pushed((old, new)))), said)
    assert gateway.desk.site.name == "Example plant"


async def test_a_port_that_is_not_there_is_refused_and_an_open_one_is_not_asked(gateway):
    gateway.missing_ports = ["/dev/new", "/dev/hall"]
    answer = await gateway.take(gateway.command(gateway.pushed(("/dev/hall", "/dev/new"))))
    refused(answer, "bus[hall].port: does not exist; a port")
    assert (await gateway.push(RENAMED)).outcome is Outcome.ON_TRIAL


async def test_a_number_counts_once_and_an_older_one_never_again(gateway):
    await gateway.push(RENAMED, number=5)
    gateway.desk.heard("platform")
    for number in (4, 5):
        other = gateway.command(gateway.pushed(('"1s"', '"2s"')), number)
        refused(await gateway.take(other), f"number {number} is not above 5")
    await gateway.push(('"1s"', '"2s"'), number=6)
    gateway.run_s(TRIAL_MS // 1000 + 1)
    gateway.start()
    # what was rolled back has used its number up, too
    again = gateway.command(gateway.pushed(('"1s"', '"5s"')), 6)
    refused(await gateway.take(again), "number 6 is not above 6")


async def test_the_same_command_again_is_answered_again_and_not_applied_again(gateway):
    command = gateway.command(gateway.pushed(RENAMED))
    assert (await gateway.take(command)).outcome is Outcome.ON_TRIAL
    gateway.start()
    assert (await gateway.take(command)).outcome is Outcome.ON_TRIAL
    gateway.desk.heard("platform")
    assert (await gateway.take(command)).outcome is Outcome.CONFIRMED
    assert not gateway.desk.wants_restart


async def test_another_command_waits_for_the_end_of_a_trial(gateway):
    await gateway.push(RENAMED)
    later = gateway.command(gateway.pushed(), 2)
    refused(await gateway.take(later), "number 1 is on trial: wait for its end")


@pytest.mark.parametrize(
    "data",
    [
        lambda command: command.to_bytes(STRANGER),
        lambda command: command.to_bytes(ONE, STRANGER),
        lambda command: sealed(command._fields(), Domain.COMMAND, None),
        lambda command: sealed(command._fields(), Domain.RECEIPT, ONE),
        lambda command: command.to_bytes(ONE)[:-1],
        lambda _command: b"",
    ],
    ids=["stranger", "strangers-second", "unsigned", "other-purpose", "cut-short", "empty"],
)
async def test_whom_the_keys_do_not_know_is_not_even_answered(gateway, tmp_path, caplog, data):
    answer = await gateway.take_bytes(data(gateway.command(gateway.pushed(RENAMED))))
    assert answer is None
    assert "platform: no command: " in caplog.text
    assert files(tmp_path) == {}


async def test_nobody_commands_over_a_destination_without_keys(gateway):
    first, second = gateway.desk.site.destinations
    assert gateway.desk.listens_to(first)
    assert not gateway.desk.listens_to(second)
    command = gateway.command(gateway.pushed(RENAMED))
    assert await gateway.take(command, destination=1) is None


GUARDED = [
    ('gateway = "qp-0001"', 'gateway = "qp-0002"', "site.gateway, site.key_file"),
    ("/state", "/elsewhere", "state.directory, site.key_file"),
    ("[state]", "[state]", "site.key_file"),
    (*MOVED, "[[destination]]"),
    (key_text(TWO.public), key_text(STRANGER.public), "[[destination]]"),
    ("[[bus]]", '[status]\nfile = "DIRECTORY/x"\n[[bus]]', "status.file"),
    ("[[bus]]", '[status]\nmetrics = "0.0.0.0:9469"\n[[bus]]', "status.metrics"),
    ("remote_configuration = true", "", "site.remote_configuration"),
    ("[state]", 'remote_trial = "24h"\n[state]', "site.remote_trial"),
]


@pytest.mark.parametrize(("old", "new", "named"), GUARDED)
async def test_more_than_what_is_measured_takes_two_keys(gateway, tmp_path, old, new, named):
    if old == new:
        new = f'key_file = "{tmp_path}/other.key"\n[state]'
    payload = gateway.pushed((old, new.replace("DIRECTORY", str(tmp_path))))
    for signers in ((ONE,), (ONE, ONE)):
        answer = await gateway.take(gateway.command(payload), *signers)
        refused(answer, "two platform keys must sign a change of ")
        for key in answer.text.removeprefix("two platform keys must sign a change of ").split(", "):
            assert key in named
    assert (await gateway.take(gateway.command(payload), ONE, TWO)).outcome is Outcome.ON_TRIAL


async def test_a_dry_run_says_what_would_be_and_uses_no_number_up(gateway, tmp_path):
    asked = gateway.command(gateway.pushed(RENAMED), kind=CommandKind.CHECK)
    answer = await gateway.take(asked)
    assert (answer.outcome, answer.text) == (Outcome.CHECKED, "it is right")
    wrong = gateway.command(
        gateway.pushed(('unit = 1\nprofile = "sun', 'unit = 0\nprofile = "sun')),
        kind=CommandKind.CHECK,
    )
    refused(await gateway.take(wrong), "unit: 0")
    assert files(tmp_path) == {}
    assert (await gateway.push(RENAMED)).outcome is Outcome.ON_TRIAL


async def test_a_full_disk_refuses_and_what_runs_goes_on(gateway, monkeypatch):
    def full(self, _name, _content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(gateway.desk._shelf), "_write", full)
    refused(
        await gateway.take(gateway.command(gateway.pushed(RENAMED))),
        "it cannot be kept: No space left on device",
    )
    assert not gateway.desk.wants_restart


async def test_the_installers_later_change_goes_before_the_pushed_file(gateway):
    await gateway.push(RENAMED)
    gateway.desk.heard("platform")
    gateway.file.write_bytes(gateway.pushed(("Example", "Repaired")))
    gateway.start()
    assert gateway.desk.site.name == "Repaired plant"
    answer = parsed(gateway.desk.last_answer("platform"))
    assert answer.outcome is Outcome.ROLLED_BACK
    assert "changed on the gateway" in answer.text


async def test_a_note_that_rotted_means_the_installers_file(gateway, tmp_path, caplog):
    await gateway.push(RENAMED)
    note = tmp_path / "state/remote/standing.json"
    note.write_text(note.read_text()[:-20])
    gateway.start()
    assert gateway.desk.site.name == "Example plant"
    assert "standing.json is damaged" in caplog.text


async def test_a_gateway_that_was_not_opened_for_it_takes_no_commands(tmp_path):
    gateway = Gateway(tmp_path, ("remote_configuration = true", ""))
    assert not any(map(gateway.desk.listens_to, gateway.desk.site.destinations))
    assert not (tmp_path / "state").exists()
    gateway.desk.close()


def test_opening_for_it_needs_somebodys_key(tmp_path):
    with pytest.raises(ConfigError, match="remote_configuration: nobody's key is known; platform_"):
        Gateway(tmp_path, ("platform_keys = [", "username = 'x' #"))


def test_a_second_agent_does_not_touch_the_firsts_trial(gateway):
    with pytest.raises(StoreError, match="in use: another agent runs"):
        type(gateway)(gateway.file.parent)


async def test_the_installers_commands_see_what_runs(gateway):
    assert site_that_runs(gateway.file)[1] == 0
    await gateway.push(RENAMED, number=3)
    site, number = site_that_runs(gateway.file)
    assert (site.name, number) == ("Renamed plant", 3)


async def test_only_the_files_that_may_still_run_are_kept(gateway, tmp_path):
    for number in range(1, 5):
        await gateway.push(('"1s"', f'"{number}s"'), number=number)
        gateway.desk.heard("platform")
    assert sorted(files(tmp_path)) == ["3.toml", "4.toml", "standing.json"]
    assert json.loads(files(tmp_path)["standing.json"])["runs"] == 4


class PushedAgent:
    """Stands in for an agent: what runs is noted, then something happens to it."""

    ran: ClassVar[list] = []
    happens: ClassVar[list] = []

    def __init__(self, site, _clock, desk):
        self.site, self.desk = site, desk
        self.is_told_to_stop = False
        if self.happens[0] == "cannot start":
            self.happens.pop(0)
            raise StoreError("the state directory is gone")

    next_origin = None

    async def run(self):
        self.ran.append(self.site.name)
        self.happens.pop(0)(self)


@pytest.fixture
def agents(monkeypatch):
    monkeypatch.setattr(PushedAgent, "ran", [])
    monkeypatch.setattr(cli.app, "Agent", PushedAgent)
    monkeypatch.setattr(cli, "check_port", lambda _port: None)
    return PushedAgent


def pushing(data):
    """Return what happens to an agent that is sent a command."""

    def happens(agent):
        agent.desk.serve(GATEWAY_KEY)
        agent.desk._answer(data, agent.desk.site.destinations[0])

    return happens


def stopping(agent):
    agent.is_told_to_stop = True


async def of_now(gateway):
    """Return a command that is valid by the host's clock, and let the gateway's agent end."""
    command = gateway.command(gateway.pushed(RENAMED))
    now_ms = SystemClock().now_ms()
    gateway.desk.close()
    return replace(command, issued_ms=now_ms, expires_ms=now_ms + 60_000).to_bytes(ONE)


async def test_the_agent_begins_anew_with_a_pushed_file_and_ends_when_told(gateway, agents):
    agents.happens = [pushing(await of_now(gateway)), stopping]
    assert await asyncio.to_thread(cli.main, ["run", str(gateway.file)]) == 0
    assert agents.ran == ["Example plant", "Renamed plant"]


async def test_an_agent_that_cannot_start_on_trial_begins_anew_with_the_former_file(
    gateway, agents
):
    agents.happens = [pushing(await of_now(gateway)), "cannot start", stopping]
    assert await asyncio.to_thread(cli.main, ["run", str(gateway.file)]) == 0
    assert agents.ran == ["Example plant", "Example plant"]
    gateway.start()
    assert "state directory is gone" in parsed(gateway.desk.last_answer("platform")).text


async def test_a_stop_that_comes_with_a_push_is_a_stop(gateway, agents):
    push = pushing(await of_now(gateway))

    def both(agent):
        push(agent)
        stopping(agent)

    agents.happens = [both]
    assert await asyncio.to_thread(cli.main, ["run", str(gateway.file)]) == 0
    assert agents.ran == ["Example plant"]


async def test_file_and_note_are_on_the_disk_before_they_have_their_names(gateway, monkeypatch):
    steps = []
    sync, replace_file = os.fsync, Path.replace

    def synced(descriptor):
        steps.append(("sync", Path(f"/proc/self/fd/{descriptor}").readlink().name))
        sync(descriptor)

    def renamed(self, target):
        steps.append(("name", target.name))
        return replace_file(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    await gateway.push(RENAMED)
    assert steps[:6] == [
        ("sync", "1.toml.new"),
        ("name", "1.toml"),
        ("sync", "remote"),
        ("sync", "standing.json.new"),
        ("name", "standing.json"),
        ("sync", "remote"),
    ]
