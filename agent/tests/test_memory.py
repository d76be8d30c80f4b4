"""learned.json: written when something is new, read whatever is in it."""

import json

import pytest

from edgeagg_agent.learned import Learned
from edgeagg_agent.memory import FILE, Memory
from edgeagg_agent.plan import Block


class Reader:
    """As much of a reader as is remembered."""

    def __init__(self, name, learned):
        self.meter = type("Meter", (), {"name": name})
        self.learned = learned


VALUES = ((3, 0, 1), (3, 4, 1))
KNOWN = Learned("m1").answered(Block(3, 0, 1)).refused(Block(3, 0, 5), VALUES, 2)


def test_without_a_file_nothing_is_known(tmp_path):
    assert Memory(tmp_path).recall("incomer", "m1") == Learned("m1")
    assert Memory(tmp_path / "missing").recall("incomer", "m1") == Learned("m1")


def test_what_is_kept_is_recalled(tmp_path):
    assert KNOWN.known.refused
    Memory(tmp_path).keep([Reader("incomer", KNOWN), Reader("workshop", Learned("m2"))])
    memory = Memory(tmp_path)
    assert memory.recall("incomer", "m1") == KNOWN
    assert memory.recall("workshop", "m2") == Learned("m2")
    assert memory.recall("other", "m1") == Learned("m1")
    assert list(tmp_path.iterdir()) == [tmp_path / FILE]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b'{"incomer": null}',
        b'{"incomer": []}',
        b'{"incomer": {"profile": "m1"}}',
        b'{"incomer": {"profile": "m1", "proven": 1, "refused": [], "registers_max": 0}}',
        json.dumps({"incomer": KNOWN.to_json() | {"proven": [[3, 0]]}}).encode(),
        json.dumps({"incomer": KNOWN.to_json() | {"registers_max": "many"}}).encode(),
    ],
)
def test_a_bad_file_is_begun_anew(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    memory = Memory(tmp_path)
    assert memory.recall("incomer", "m1") == Learned("m1")
    memory.keep([Reader("incomer", KNOWN)])
    assert Memory(tmp_path).recall("incomer", "m1") == KNOWN


def test_one_bad_entry_spares_the_others(tmp_path):
    Memory(tmp_path).keep([Reader("incomer", KNOWN), Reader("workshop", KNOWN)])
    content = json.loads((tmp_path / FILE).read_text("utf-8"))
    content["workshop"] = 7
    (tmp_path / FILE).write_text(json.dumps(content), "utf-8")
    memory = Memory(tmp_path)
    assert memory.recall("incomer", "m1") == KNOWN
    assert memory.recall("workshop", "m1") == Learned("m1")


def test_the_file_is_written_in_one_step_and_only_when_something_is_new(tmp_path):
    memory = Memory(tmp_path)
    memory.keep([Reader("incomer", Learned("m1"))])
    first = (tmp_path / FILE).stat()
    memory.keep([Reader("incomer", Learned("m1"))])
    assert (tmp_path / FILE).stat().st_mtime_ns == first.st_mtime_ns
    assert (tmp_path / FILE).stat().st_ino == first.st_ino
    with (tmp_path / FILE).open(encoding="utf-8") as reader:
        memory.keep([Reader("incomer", KNOWN)])
        assert json.load(reader)["incomer"]["refused"] == []  # whoever had it open sees it whole
    assert Memory(tmp_path).recall("incomer", "m1") == KNOWN


def test_a_meter_that_left_the_site_is_forgotten(tmp_path):
    memory = Memory(tmp_path)
    memory.keep([Reader("incomer", KNOWN), Reader("workshop", KNOWN)])
    memory.keep([Reader("incomer", KNOWN)])
    assert Memory(tmp_path).recall("workshop", "m1") == Learned("m1")
