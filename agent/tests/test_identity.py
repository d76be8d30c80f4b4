"""The gateway's key: every batch bears it, and one key follows another across a power cut."""

import json

import pytest

from agent.tests.fakes import GATEWAY, START_MS, FakeClock, write_site
from edgeagg import keyfile, topics
from edgeagg.batch import Batch, BatchKind, Hello, Receipt
from edgeagg.errors import FormatError, StoreError
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.keys import State
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg.seal import Domain, key_text, signed_by
from edgeagg_agent import app, cli, identity
from edgeagg_agent.config import load_site
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.site import Destination
from edgeagg_agent.uplink import Uplink


@pytest.fixture
def site(tmp_path):
    return load_site(write_site(tmp_path))


def start(site):
    """Start an agent and end it at once; return what its outbox holds then."""
    agent = app.Agent(site, FakeClock())
    outbox = agent._outbox
    batches = [outbox.read(sequence, GATEWAY) for sequence in range(1, outbox.head + 1)]
    outbox.close()
    return batches


async def delivered(tmp_path, batches, first_key):
    """Give the batches to a platform that knows the first key; return its keys' states."""
    store = await SqliteStore.open(str(tmp_path / "platform.db"))
    await store.add_key(GATEWAY, first_key, 1)
    inbox = Inbox(store)
    (receipt,) = await inbox.take([Message(topics.batch(GATEWAY), it) for it in batches], START_MS)
    assert (receipt.through, inbox.counters.refused) == (len(batches), 0)
    keys = {key.public: key.state for key in await store.keys(GATEWAY)}
    await store.close()
    return keys


def test_the_first_start_makes_a_key_that_signs_what_goes_out(site):
    (announced,) = start(site)
    public = keyfile.load(site.key_file).public
    assert site.key_file == site.state_directory / "device.key"
    assert signed_by(announced, Domain.BATCH, [public]) == public


def test_a_key_that_others_can_read_starts_nothing(site):
    start(site)
    site.key_file.chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        start(site)


def test_what_is_lost_is_signed_too(tmp_path):
    signer = keyfile.make(tmp_path / "key")
    outbox = Outbox(tmp_path / "state", now_ms=1, bytes_max=1 << 20, signer=signer)
    lost = outbox.read(1, GATEWAY)
    outbox.close()
    assert Batch.from_bytes(lost).kind is BatchKind.LOST
    assert signed_by(lost, Domain.BATCH, [signer.public]) == signer.public


class Stop(Exception):  # noqa: N818 - a power cut, not an error
    """The power goes."""


@pytest.mark.parametrize("cut_before", ["", "announced", "adopted"])
async def test_one_key_follows_another_wherever_the_power_is_cut(
    site, tmp_path, monkeypatch, cut_before
):
    start(site)
    first = keyfile.load(site.key_file)
    following = identity.renew(site.key_file)

    opened = []

    class Remembered(Outbox):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            opened.append(self)

    def stop(*_args, **_kwargs):
        opened[-1].close()
        raise Stop

    if cut_before:
        with monkeypatch.context() as patch:
            patch.setattr(app, "Outbox", Remembered)
            if cut_before == "announced":
                patch.setattr(app.Recorder, "follow_key", stop)
            else:
                patch.setattr(identity, "adopt", stop)
            with pytest.raises(Stop):
                app.Agent(site, FakeClock())
    start(site)
    batches = start(site)
    assert keyfile.load(site.key_file).public == following.public
    assert identity.following(site.key_file) is None
    kinds = [Batch.from_bytes(batch).kind for batch in batches]
    assert kinds.count(BatchKind.KEY) == 1
    assert await delivered(tmp_path, batches, first.public) == {
        first.public: State.RETIRED,
        following.public: State.ACTIVE,
    }


def test_a_second_next_key_must_wait_for_the_first(site):
    start(site)
    identity.renew(site.key_file)
    with pytest.raises(StoreError, match="restart the agent"):
        identity.renew(site.key_file)


def test_the_command_shows_the_key_and_how_to_enter_it(site, capsys):
    assert cli.main(["key", str(site.file)]) == 0
    text = key_text(keyfile.load(site.key_file).public)
    assert f"edgeagg gateways --store … add {GATEWAY} {text}" in capsys.readouterr().out
    assert cli.main(["key", str(site.file), "--renew", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    following = identity.following(site.key_file)
    assert shown == {"gateway": GATEWAY, "key": text, "next": key_text(following.public)}
    assert cli.main(["key", str(site.file), "--renew"]) == 1
    assert "restart the agent" in capsys.readouterr().err


def receipts(keys, *messages):
    """Return what an uplink takes from the messages when it pins these platform keys."""
    to = Destination("p", "127.0.0.1", 1, False, "", "", "", tuple(key.public for key in keys))
    uplink = Uplink(to, GATEWAY, FakeOutbox(), FakeCursor(), FakeClock(), lambda _origin: None)
    taken = []
    for data in messages:
        try:
            taken.append(uplink._receipt(data).through)
        except FormatError:
            taken.append(None)
    return taken


class FakeCursor:
    through = 0


class FakeOutbox:
    def announcements_behind(self, through):
        return []

    def is_key(self, sequence):
        return False


def test_only_a_pinned_platform_key_is_believed(tmp_path):
    ours, second, theirs = (keyfile.make(tmp_path / name) for name in "abc")
    receipt = Receipt(GATEWAY, 1, 7, (), (), 1)
    messages = [receipt.to_bytes(signer) for signer in (ours, second, theirs, None)]
    hello = Hello(GATEWAY, 1, 7, 1, public=ours.public).to_bytes(ours)
    assert receipts([ours, second], *messages, hello) == [7, 7, None, None, None]
    # where nothing is pinned the transport alone is trusted
    assert receipts([], *messages) == [7, 7, 7, 7]


def test_nothing_of_the_secret_is_stored_or_shown(site, tmp_path, capsys, caplog):
    start(site)
    cli.main(["key", str(site.file)])
    secret = site.key_file.read_text().split()[-1]
    shown = capsys.readouterr()
    assert secret not in shown.out + shown.err + caplog.text
    kept = [path for path in tmp_path.rglob("*") if path.is_file() and path != site.key_file]
    assert kept
    assert all(secret.encode() not in path.read_bytes() for path in kept)
