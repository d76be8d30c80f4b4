"""A small file: whatever tears or damages it, one of the last two values is there."""

import os

import pytest

from edgeagg_agent.two_slots import TwoSlots

BYTES = 64


@pytest.fixture
def path(tmp_path):
    return tmp_path / "small"


def opened(path, *, is_synced=True):
    return TwoSlots(path, BYTES, is_synced=is_synced)


def test_nothing_is_there_before_the_first_write(path):
    assert opened(path).value == b""
    opened(path).reserve()
    assert opened(path).value == b""


def test_the_value_written_last_is_there(path):
    kept = opened(path)
    for number in range(1, 6):
        kept.write(bytes(number))
        assert opened(path).value == kept.value == bytes(number)


def test_the_largest_value_has_the_room_that_was_reserved(path):
    kept = opened(path)
    kept.reserve()
    size = path.stat().st_size
    for mark in (b"a", b"b", b"c"):
        kept.write(mark * kept.bytes_max)
    assert opened(path).value == b"c" * kept.bytes_max
    assert path.stat().st_size == size


def test_room_is_taken_when_there_is_some_again_and_the_value_stays(path, monkeypatch):
    kept = opened(path)
    with monkeypatch.context() as patch:
        write = os.pwrite
        patch.setattr(os, "pwrite", lambda to, data, at: write(to, data[:10], at))
        with pytest.raises(OSError, match="No space left"):
            kept.reserve()
    kept.write(b"first")
    kept.reserve()
    assert path.stat().st_size == 2 * BYTES
    assert opened(path).value == b"first"


def test_half_a_write_on_a_full_disk_is_none(path, monkeypatch):
    kept = opened(path)
    kept.write(b"first")
    with monkeypatch.context() as patch:
        write = os.pwrite
        patch.setattr(os, "pwrite", lambda to, data, at: write(to, data[:10], at))
        with pytest.raises(OSError, match="No space left"):
            kept.write(b"second")
    assert opened(path).value == kept.value == b"first"


@pytest.mark.parametrize("torn", range(1, 20))
def test_a_torn_write_leaves_the_value_before(path, torn):
    kept = opened(path)
    kept.write(b"first")
    kept.write(b"second")
    before = path.read_bytes()
    kept.write(b"third")
    after = path.read_bytes()
    begin = next(n for n in range(len(after)) if after[n] != before[n])
    path.write_bytes(after[: begin + torn] + before[begin + torn :])
    assert opened(path).value in (b"second", b"third")


@pytest.mark.parametrize("place", range(16 + len(b"second")))
def test_damage_to_one_slot_leaves_the_other(path, place):
    kept = opened(path)
    kept.write(b"first")
    kept.write(b"second")
    data = bytearray(path.read_bytes())
    data[place] ^= 1  # the second value is in the first slot
    path.write_bytes(data)
    assert opened(path).value == b"first"
    opened(path).write(b"third")
    assert opened(path).value == b"third"


def test_a_write_that_is_refused_is_made_again_in_the_same_place(path, monkeypatch):
    kept = opened(path)
    kept.write(b"first")
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        with pytest.raises(OSError, match="no"):
            kept.write(b"second")
    assert opened(path).value == kept.value == b"first"
    kept.write(b"third")
    assert opened(path).value == b"third"


def refuse(*_):
    raise OSError("no")


@pytest.mark.parametrize(("is_synced", "syncs"), [(True, 2), (False, 0)])
def test_what_a_killed_run_did_not_wait_for_is_waited_for(path, monkeypatch, is_synced, syncs):
    opened(path).write(b"first")
    waited = []
    monkeypatch.setattr(os, "fsync", waited.append)
    monkeypatch.setattr(os, "fdatasync", waited.append)
    opened(path, is_synced=is_synced).write(b"second")
    assert len(waited) == syncs
