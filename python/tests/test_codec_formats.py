"""The payload codecs against a second implementation, which knows only the documentation."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from edgeagg import _core
from python.tests.slow_decoder import Table, decode

CRATE = Path(__file__).parents[2] / "aggregator-rs"
PRIOR = (CRATE / "src" / "codec" / "prior.bin").read_bytes()
CORPUS = CRATE / "fuzz" / "corpus"
GOLDEN = CRATE / "tests" / "assets"
PLAIN, DELTA, MIXED = 0, 1, 2
GOLDEN_NAMES = ("payload_site", "payload_judged")


def known(codec: int, payload: bytes) -> list[Table]:
    """Decode with the core."""
    return [
        Table(kind, group, length_ms, [list(column) for column in columns])
        for kind, group, length_ms, _, columns in _core.decode(codec, payload)
    ]


def payload_file(codec: int, name: str) -> bytes:
    folder = GOLDEN if name in GOLDEN_NAMES else CORPUS
    file = f"{name}_codec{codec}.bin" if folder is GOLDEN else f"codec{codec}_{name}.bin"
    return (folder / file).read_bytes()


NAMES = sorted(path.stem.removeprefix("codec1_") for path in CORPUS.glob("codec1_*.bin"))


@pytest.mark.parametrize("codec", [PLAIN, MIXED])
@pytest.mark.parametrize("name", [*NAMES, *GOLDEN_NAMES])
def test_a_payload_says_the_same_in_every_codec(codec: int, name: str) -> None:
    delta = known(DELTA, payload_file(DELTA, name))
    assert decode(codec, payload_file(codec, name), PRIOR) == delta


@pytest.mark.parametrize("name", [*NAMES, *GOLDEN_NAMES])
def test_delta_is_read_as_the_core_reads_it(name: str) -> None:
    payload = payload_file(DELTA, name)
    assert decode(DELTA, payload, PRIOR) == known(DELTA, payload)


def test_every_kind_of_table_is_among_the_golden_payloads() -> None:
    tables = known(MIXED, payload_file(MIXED, "payload_judged"))
    assert {table.kind for table in tables} == set(range(1, 8))


def test_the_first_golden_payload_is_read_as_the_core_reads_it() -> None:
    payload = (GOLDEN / "payload_codec1.bin").read_bytes()
    assert decode(DELTA, payload, PRIOR) == known(DELTA, payload)


def random_payloads(codec: int, kind: str = "random") -> list[bytes]:
    data = (GOLDEN / f"payloads_{kind}_codec{codec}.bin").read_bytes()
    found = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


@pytest.mark.parametrize("codec", [PLAIN, MIXED])
@pytest.mark.parametrize("first", range(0, 40, 5))
def test_random_payloads_say_the_same_in_every_codec(codec: int, first: int) -> None:
    pairs = list(zip(random_payloads(codec), random_payloads(DELTA), strict=True))
    for number, (payload, delta) in enumerate(pairs[first : first + 5], first):
        assert decode(codec, payload, PRIOR) == known(DELTA, delta), f"payload {number}"


@pytest.mark.parametrize("first", range(0, 32, 4))
def test_anchored_payloads_say_the_same_as_their_twins(first: int) -> None:
    mixed = random_payloads(MIXED, "anchored")
    twins = random_payloads(DELTA, "anchored")
    for number in range(first, first + 4):
        keyframe, payload = mixed[2 * number : 2 * number + 2]
        twin = known(DELTA, twins[2 * number + 1])
        assert decode(MIXED, payload, PRIOR, keyframe) == twin, f"pair {number}"
        tables = _core.decode(MIXED, payload, _core.Keyframe(keyframe))
        assert [list(columns) for *_, columns in tables] == [table.columns for table in twin]


def test_an_anchored_payload_alone_is_a_codec_error_that_says_what_it_needs() -> None:
    keyframe, payload = random_payloads(MIXED, "anchored")[:2]
    assert _core.anchor_of(MIXED, keyframe) is None
    assert _core.anchor_of(MIXED, payload) == 2
    with pytest.raises(_core.CodecError, match="needs the one 2 sequences before it"):
        _core.decode(MIXED, payload)
    with pytest.raises(_core.CodecError, match="needs the one"):
        _core.Keyframe(payload)


def test_a_damaged_cell_is_noticed_by_its_checksum() -> None:
    payload = bytearray(payload_file(MIXED, "house"))
    payload[1:5] = struct.pack("<I", 12345)
    with pytest.raises(AssertionError):
        decode(MIXED, bytes(payload), PRIOR)
