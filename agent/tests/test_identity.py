"""The gateway's key: every batch bears it, and one key follows another across a power cut."""

import asyncio
import json

import pytest

from agent.tests.fakes import GATEWAY, START_MS, FakeClock, write_site
from edgeagg import keyfile, topics
from edgeagg.batch import Batch, BatchKind, Hello, Origin, Receipt
from edgeagg.errors import FormatError, StoreError
from edgeagg.receiver.inbox import Inbox, Message
from edgeagg.receiver.keys import State
from edgeagg.receiver.sqlite import SqliteStore
from edgeagg.seal import Domain, key_text, signed_by
from edgeagg_agent import app, cli, identity
from edgeagg_agent.catalogues import Catalogues
from edgeagg_agent.config import load_site
from edgeagg_agent.former_epochs import FormerEpochs
from edgeagg_agent.outbox import Outbox
from edgeagg_agent.recorder import Recorder
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


def cut_power(site, patch, owner, name):
    """Start an agent, and let the power go before it does one thing."""
    opened = []

    class Remembered(Outbox):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            opened.append(self)

    def stop(*_args, **_kwargs):
        opened[-1].close()
        raise Stop

    patch.setattr(app, "Outbox", Remembered)
    patch.setattr(owner, name, stop)
    with pytest.raises(Stop):
        app.Agent(site, FakeClock())


@pytest.mark.parametrize("cut_before", ["", "announced", "kept", "adopted"])
async def test_one_key_follows_another_wherever_the_power_is_cut(
    site, tmp_path, monkeypatch, cut_before
):
    start(site)
    first = keyfile.load(site.key_file)
    following = identity.renew(site.key_file)

    places = {
        "announced": (app.Recorder, "follow_key"),
        "kept": (Catalogues, "keep"),
        "adopted": (identity, "adopt"),
    }
    if cut_before:
        with monkeypatch.context() as patch:
            cut_power(site, patch, *places[cut_before])
    start(site)
    batches = start(site)
    assert keyfile.load(site.key_file).public == following.public
    assert identity.following(site.key_file) is None
    kinds = [Batch.from_bytes(batch).kind for batch in batches]
    assert kinds.count(BatchKind.KEY) == 1
    (known,) = Catalogues(site.state_directory).keys()
    assert Batch.from_bytes(known.message).payload.startswith(following.public)
    assert await delivered(tmp_path, batches, first.public) == {
        first.public: State.RETIRED,
        following.public: State.ACTIVE,
    }


async def test_a_renaming_of_the_key_that_a_power_cut_undid_is_made_again(site, tmp_path):
    start(site)
    first = keyfile.load(site.key_file)
    former = site.key_file.read_bytes()
    following = identity.renew(site.key_file)
    start(site)
    start(site)
    signer = keyfile.load(site.key_file)
    outbox = Outbox(site.state_directory, now_ms=START_MS, bytes_max=1 << 20, signer=signer)
    recorder = Recorder(site.state_directory, outbox, GATEWAY, site.catalogue(), now_ms=START_MS)
    points = len(site.catalogue().groups[0].points)
    row = {"values": [1] * points, "qualities": bytes(points)}
    due_ms = START_MS + 60_000
    recorder.row(0, due_ms=due_ms, at_ms=due_ms, **row)
    assert await recorder.cut(due_ms + 1) == 1
    outbox.close()
    site.key_file.rename(site.key_file.with_name(site.key_file.name + ".next"))
    site.key_file.write_bytes(former)
    site.key_file.chmod(0o600)
    batches = start(site)
    assert keyfile.load(site.key_file).public == following.public
    assert [Batch.from_bytes(batch).kind for batch in batches].count(BatchKind.KEY) == 1
    assert await delivered(tmp_path, batches, first.public) == {
        first.public: State.RETIRED,
        following.public: State.ACTIVE,
    }


class Enrolled:
    """An MQTT connection to a real inbox that knows the keys in its store."""

    def __init__(self, store, uplink, head):
        self.inbox = Inbox(store)
        self.has_all = asyncio.Event()
        self._uplink, self._head = uplink, head
        self._receipts = asyncio.Queue()
        self._one_at_a_time = asyncio.Lock()

    async def subscribe(self, topic, qos, **patience):
        pass

    def heard(self):
        return None

    async def publish(self, topic, data, qos, **patience):
        async with self._one_at_a_time:
            receipts = await self.inbox.take([Message(topic, data)], START_MS)
        for receipt in receipts:
            self._receipts.put_nowait(receipt.to_bytes())
        if topic == topics.hello(GATEWAY) and not receipts:
            self._uplink._clock.pass_ms(60_000)
            self._uplink.wake()

    @property
    def messages(self):
        return self._listen()

    async def _listen(self):
        while True:
            yield type("Message", (), {"payload": await self._receipts.get()})
            if self._uplink.sender.through == self._head:
                self.has_all.set()


async def deliver_all(site, store):
    """Deliver what the outbox holds to a platform with this store."""
    signer = keyfile.load(site.key_file)
    box = Outbox(site.state_directory, now_ms=START_MS, bytes_max=1 << 26, signer=signer)
    to, cursor = site.destinations[0], box.cursor("platform")
    uplink = Uplink(to, GATEWAY, box, cursor, FakeClock(), pytest.fail)
    client = Enrolled(store, uplink, box.head)
    delivering = asyncio.create_task(uplink._deliver(client))
    async with asyncio.timeout(5):
        await client.has_all.wait()
    delivering.cancel()
    await asyncio.wait([delivering])
    box.close()
    return client.inbox.counters


def leave_epoch(site):
    """Begin a new epoch, as if another gateway used a copy of the state."""
    signer = keyfile.load(site.key_file)
    box = Outbox(site.state_directory, now_ms=START_MS, bytes_max=1 << 26, signer=signer)
    present = site.catalogue()
    Recorder(site.state_directory, box, GATEWAY, present, now_ms=START_MS).end_epoch()
    box.begin_epoch(GATEWAY, present, after=0, why=Origin.DIVERGED, now_ms=START_MS + 9)
    box.close()


async def renewed(site, tmp_path):
    """Let two more keys follow, one at a time; return a store that knows the first one only."""
    start(site)
    store = await SqliteStore.open(str(tmp_path / "platform.db"))
    await store.add_key(GATEWAY, keyfile.load(site.key_file).public, 1)
    for _ in range(2):
        identity.renew(site.key_file)
        start(site)
    return store


async def states(store):
    return [key.state for key in await store.keys(GATEWAY)]


async def test_keys_that_the_platform_never_heard_of_are_announced_in_the_next_epoch_too(
    site, tmp_path
):
    store = await renewed(site, tmp_path)
    leave_epoch(site)
    # the former epoch's batches may go, its keys stay
    former = FormerEpochs(site.state_directory, START_MS + 9)
    while former.free_oldest():
        pass
    counters = await deliver_all(site, store)
    assert counters.refused == 0
    assert sorted(await states(store)) == [State.ACTIVE, State.RETIRED, State.RETIRED]
    await store.close()


async def test_a_platform_that_was_restored_to_before_the_keys_hears_of_them_again(site, tmp_path):
    store = await renewed(site, tmp_path)
    first = (await store.keys(GATEWAY))[0].public
    await deliver_all(site, store)
    await store.close()
    restored = await SqliteStore.open(str(tmp_path / "restored.db"))
    await restored.add_key(GATEWAY, first, 1)
    counters = await deliver_all(site, restored)
    assert counters.refused == 1, "the hello before"
    assert sorted(await states(restored)) == [State.ACTIVE, State.RETIRED, State.RETIRED]
    await restored.close()


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

    def keys(self):
        return []


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
