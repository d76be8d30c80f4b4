"""The three messages byte for byte, and what becomes of bytes that are none of them."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg.batch import (
    RANGES_MAX,
    SCHEMA_BYTES,
    Batch,
    BatchKind,
    Hello,
    Origin,
    Receipt,
    check_gateway,
    check_of,
)
from edgeagg.errors import FormatError
from edgeagg.seal import MESSAGE_BYTES_MAX

Message = Batch | Receipt | Hello

BATCH = Batch(
    gateway="qp-0001",
    epoch=1_790_000_000_000,
    sequence=3,
    kind=BatchKind.DATA,
    schema=bytes(range(16)),
    cut_at_ms=1_790_000_060_000,
    codec=1,
    payload=b"\x01\x02",
)
BATCH_BYTES = bytes.fromhex(
    "9b"  # array of 11
    "01"  # format version
    "00"  # seal suite: CRC-32
    "a7 71 70 2d 30 30 30 31"  # gateway, text of 7: qp-0001
    "cf 00 00 01 a0 c4 50 6c 00"  # epoch
    "03"  # sequence
    "01"  # kind: data
    "c4 10 00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f"  # schema, 16 bytes
    "cf 00 00 01 a0 c4 51 56 60"  # cut_at_ms
    "01"  # codec
    "c4 02 01 02"  # payload, 2 bytes
    "c4 04 54 cd 0e ff"  # CRC-32 of all before this line, least significant byte first
)

RECEIPT = Receipt(
    gateway="qp-0001",
    epoch=1_790_000_000_000,
    through=2,
    ranges=((4, 5), (9, 9)),
    want=((3, 3), (6, 8)),
    server_ms=1_790_000_060_123,
    credit=64,
    check=bytes(range(8)),
    checks=((5, bytes(8)), (9, bytes(range(8)))),
)
RECEIPT_BYTES = bytes.fromhex(
    "9c"  # array of 12
    "01"  # format version
    "00"  # seal suite: CRC-32
    "a7 71 70 2d 30 30 30 31"  # gateway, text of 7: qp-0001
    "cf 00 00 01 a0 c4 50 6c 00"  # epoch
    "02"  # through
    "92 92 04 05 92 09 09"  # ranges: [[4, 5], [9, 9]]
    "92 92 03 03 92 06 08"  # want: [[3, 3], [6, 8]]
    "cf 00 00 01 a0 c4 51 56 db"  # server_ms
    "40"  # credit
    "c4 08 00 01 02 03 04 05 06 07"  # check, 8 bytes
    "92 92 05 c4 08 00 00 00 00 00 00 00 00"  # checks: of 5, declared lost
    "92 09 c4 08 00 01 02 03 04 05 06 07"  # and of 9
    "c4 04 a6 7e e8 09"  # CRC-32
)

HELLO = Hello(
    gateway="qp-0001",
    epoch=1_790_000_000_000,
    head=7,
    at_ms=1_790_000_060_123,
    origin=Origin.BEHIND,
    former=5,
)
HELLO_BYTES = bytes.fromhex(
    "9a"  # array of 10
    "01"  # format version
    "00"  # seal suite: CRC-32
    "a7 71 70 2d 30 30 30 31"  # gateway, text of 7: qp-0001
    "cf 00 00 01 a0 c4 50 6c 00"  # epoch
    "07"  # head
    "cf 00 00 01 a0 c4 51 56 db"  # at_ms
    "01"  # origin: behind
    "05"  # former epoch
    "c4 00"  # no key
    "c4 04 bf ce aa d3"  # CRC-32
)

GOLDEN = pytest.mark.parametrize(
    ("message", "data"),
    [(BATCH, BATCH_BYTES), (RECEIPT, RECEIPT_BYTES), (HELLO, HELLO_BYTES)],
    ids=["batch", "receipt", "hello"],
)

NUMBER_MAX = 2**63 - 1
NUMBERS = st.integers(0, NUMBER_MAX)
GATEWAYS = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", fullmatch=True)
RANGES = st.lists(
    st.tuples(NUMBERS, NUMBERS).map(lambda pair: (min(pair), max(pair))), max_size=RANGES_MAX
).map(tuple)
BATCHES = st.builds(
    Batch,
    gateway=GATEWAYS,
    epoch=NUMBERS,
    sequence=st.integers(1, NUMBER_MAX),
    kind=st.sampled_from(BatchKind),
    schema=st.binary(min_size=SCHEMA_BYTES, max_size=SCHEMA_BYTES),
    cut_at_ms=NUMBERS,
    codec=st.integers(0, 255),
    payload=st.binary(max_size=400),
)
RECEIPTS = st.builds(
    Receipt,
    gateway=GATEWAYS,
    epoch=NUMBERS,
    through=NUMBERS,
    ranges=RANGES,
    want=RANGES,
    server_ms=NUMBERS,
    credit=NUMBERS,
    check=st.binary(min_size=8, max_size=8),
    checks=st.lists(st.tuples(NUMBERS, st.binary(min_size=8, max_size=8)), max_size=9).map(tuple),
)
HELLOS = st.builds(
    Hello,
    gateway=GATEWAYS,
    epoch=NUMBERS,
    head=NUMBERS,
    at_ms=NUMBERS,
    origin=st.sampled_from(Origin),
    former=NUMBERS,
    public=st.one_of(st.just(b""), st.binary(min_size=32, max_size=32)),
)
PARSERS: tuple[Callable[[bytes], Message], ...] = (
    Batch.from_bytes,
    Receipt.from_bytes,
    Hello.from_bytes,
)
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.floats(allow_nan=False)
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=8)
    | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=12,
)


def sealed(*fields: object, version: object = 1, suite: object = 0) -> bytes:
    """Return a message with a valid seal, whatever its fields are."""
    packer = msgpack.Packer()
    items = (version, suite, *fields)
    body = packer.pack_array_header(len(items) + 1) + b"".join(map(packer.pack, items))
    return bytes(body + packer.pack(zlib.crc32(body).to_bytes(4, "little")))


def fields_of(message: Message) -> list[object]:
    return msgpack.unpackb(message.to_bytes())[2:-1]


@GOLDEN
def test_the_bytes_of_a_message_never_change(message: Message, data: bytes) -> None:
    assert message.to_bytes() == data


@GOLDEN
def test_the_bytes_of_a_message_are_read(message: Message, data: bytes) -> None:
    assert type(message).from_bytes(data) == message


@given(st.one_of(BATCHES, RECEIPTS, HELLOS))
def test_every_message_makes_the_round_trip(message: Message) -> None:
    assert type(message).from_bytes(message.to_bytes()) == message


@GOLDEN
def test_no_flipped_bit_goes_unseen(message: Message, data: bytes) -> None:
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        # what says how the seal is made, at the start and before the end, is read before the seal
        in_head = bit // 8 < 3 or len(data) - 6 <= bit // 8 < len(data) - 4
        with pytest.raises(FormatError, match="." if in_head else "seal does not match"):
            type(message).from_bytes(bytes(damaged))


@GOLDEN
def test_a_message_cut_short_anywhere_is_refused(message: Message, data: bytes) -> None:
    for length in range(len(data)):
        with pytest.raises(FormatError):
            type(message).from_bytes(data[:length])


@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_with_or_without_a_valid_seal_give_format_errors(
    body: bytes, with_seal: bool
) -> None:
    seal = b"\xc4\x04" + zlib.crc32(body).to_bytes(4, "little")
    for parse in PARSERS:
        with pytest.raises(FormatError):
            parse(body + seal if with_seal else body)


@given(st.data(), st.one_of(BATCHES, RECEIPTS, HELLOS))
def test_a_sealed_message_with_one_wrong_field_is_read_or_a_format_error(
    data: st.DataObject, message: Message
) -> None:
    fields = fields_of(message)
    fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(ANYTHING)
    try:
        read = type(message).from_bytes(sealed(*fields))
    except FormatError:
        return
    # what is believed can be said again, and stands in a database's 64-bit column
    assert type(message).from_bytes(read.to_bytes()) == read
    for number in dataclasses.astuple(read):
        assert not isinstance(number, int) or number <= NUMBER_MAX


@pytest.mark.parametrize("name", ["epoch", "sequence", "cut_at_ms", "codec"])
@pytest.mark.parametrize("value", [-1, 2**63, True, 1.0, None, "1"])
def test_a_number_that_is_none_or_too_large_names_its_field(name: str, value: object) -> None:
    with pytest.raises(FormatError, match=rf"{name} is .*from 0 to 2\^63-1"):
        dataclasses.replace(BATCH, **{name: value})


@pytest.mark.parametrize("epoch", [2**63, 2**64 - 1])
def test_an_epoch_that_no_database_can_hold_is_refused(epoch: int) -> None:
    fields = fields_of(BATCH)
    fields[1] = epoch
    with pytest.raises(FormatError, match="epoch"):
        Batch.from_bytes(sealed(*fields))
    with pytest.raises(FormatError, match="epoch"):
        Hello.from_bytes(sealed("qp-0001", epoch, 7, 0, 0, 0, b""))


def test_a_codec_number_is_one_byte() -> None:
    with pytest.raises(FormatError, match="codec 256: codecs are numbered up to 255"):
        dataclasses.replace(BATCH, codec=256)


def test_sequences_start_at_one() -> None:
    with pytest.raises(FormatError, match="start at 1"):
        dataclasses.replace(BATCH, sequence=0)


@pytest.mark.parametrize("length", [0, 15, 17])
def test_a_schema_hash_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(FormatError, match=f"schema hash of {length} bytes"):
        dataclasses.replace(BATCH, schema=bytes(length))


@pytest.mark.parametrize("kind", [9, -1, None, "data", [1], True, 1.0])
def test_an_unknown_kind_of_batch_is_refused(kind: object) -> None:
    fields = fields_of(BATCH)
    fields[3] = kind
    with pytest.raises(FormatError, match="unknown to this version"):
        Batch.from_bytes(sealed(*fields))


@pytest.mark.parametrize("at", [4, 7])
def test_schema_and_payload_must_be_binary(at: int) -> None:
    fields = fields_of(BATCH)
    fields[at] = "0123456789abcdef"
    with pytest.raises(FormatError, match="must be binary"):
        Batch.from_bytes(sealed(*fields))


def test_another_version_or_suite_is_named() -> None:
    with pytest.raises(FormatError, match="version 2; this edgeagg reads version 1"):
        Hello.from_bytes(sealed("qp-0001", 1, 7, b"", version=2))
    with pytest.raises(FormatError, match="suite 2 is unknown"):
        Hello.from_bytes(sealed("qp-0001", 1, 7, b"", suite=2))


@pytest.mark.parametrize("like_a_number", [True, 1.0])
def test_version_and_suite_are_whole_numbers(like_a_number: object) -> None:
    with pytest.raises(FormatError, match="format version"):
        Hello.from_bytes(sealed("qp-0001", 1, 7, b"", version=like_a_number))
    with pytest.raises(FormatError, match="suite 194"):
        Hello.from_bytes(sealed("qp-0001", 1, 7, b"", suite=False))


def test_the_seal_is_a_field_of_its_own() -> None:
    packer = msgpack.Packer()
    fields = (1, 0, "qp-0001", 1, 7, 0, 0, 0, b"")
    body = packer.pack_array_header(10) + b"".join(map(packer.pack, fields))
    # the right four bytes, but at the end of a longer field
    body += b"\xc4\x0a????"
    crc = zlib.crc32(body).to_bytes(4, "little")
    with pytest.raises(FormatError, match="the seal is not the last field"):
        Hello.from_bytes(body + b"\xc4\x04" + crc)


def test_a_message_of_another_type_is_refused_by_its_number_of_fields() -> None:
    with pytest.raises(FormatError, match="10 fields, 11 expected"):
        Batch.from_bytes(HELLO_BYTES)
    with pytest.raises(FormatError, match="11 fields, 10 expected"):
        Hello.from_bytes(BATCH_BYTES)


@pytest.mark.parametrize(
    ("ranges", "reason"),
    [
        ([[5, 4]], "a range from 5 to 4"),
        ([[1]], "not a range"),
        ([7], "not a range"),
        (None, "ranges are expected"),
        ([[1, 1]] * (RANGES_MAX + 1), "at most 64 ranges"),
        ([[1, 2**63]], "last sequence"),
    ],
)
def test_ranges_that_are_none_are_refused(ranges: object, reason: str) -> None:
    fields = fields_of(RECEIPT)
    fields[3] = ranges
    with pytest.raises(FormatError, match=reason):
        Receipt.from_bytes(sealed(*fields))


def test_a_receipt_carries_at_most_64_ranges() -> None:
    many = tuple((2 * n, 2 * n) for n in range(1, 200))
    read = Receipt.from_bytes(dataclasses.replace(RECEIPT, ranges=many, want=many).to_bytes())
    assert read.ranges == read.want == many[:RANGES_MAX]


@pytest.mark.parametrize("origin", [3, -1, None, "fresh", True, 1.0])
def test_an_unknown_origin_is_refused(origin: object) -> None:
    with pytest.raises(FormatError, match="unknown to this version"):
        Hello.from_bytes(sealed("qp-0001", 1, 7, 0, origin, 0, b""))


@pytest.mark.parametrize("check", [b"1234567", b"123456789", "12345678", None])
def test_a_check_of_another_length_is_refused(check: object) -> None:
    fields = fields_of(RECEIPT)
    fields[7] = check
    with pytest.raises(FormatError, match="a check that is not 8 bytes"):
        Receipt.from_bytes(sealed(*fields))


def test_the_last_committed_sequence_is_that_of_the_last_range() -> None:
    assert RECEIPT.last == 9
    assert dataclasses.replace(RECEIPT, ranges=()).last == 2


def test_a_check_is_the_begin_of_the_sha_256_of_a_message() -> None:
    # FIPS 180-4, the example "abc"
    assert check_of(b"abc").hex() == "ba7816bf8f01cfea"


def test_a_message_beyond_256_kib_is_neither_sent_nor_read() -> None:
    room = MESSAGE_BYTES_MAX - len(dataclasses.replace(BATCH, payload=bytes(65_536)).to_bytes())
    largest = dataclasses.replace(BATCH, payload=bytes(65_536 + room))
    assert len(largest.to_bytes()) == MESSAGE_BYTES_MAX
    assert Batch.from_bytes(largest.to_bytes()) == largest
    with pytest.raises(FormatError, match="at most 262144"):
        dataclasses.replace(BATCH, payload=bytes(65_537 + room)).to_bytes()
    with pytest.raises(FormatError, match="at most 262144"):
        Batch.from_bytes(bytes(MESSAGE_BYTES_MAX + 1))


@pytest.mark.parametrize("name", ["a", "qp-0001", "0", "a" * 32, "a--b"])
def test_a_good_name_of_a_gateway(name: str) -> None:
    assert check_gateway(name) == name


@pytest.mark.parametrize(
    "name", ["", "-a", "a-", "A", "a" * 33, "a/b", "a+", "#", "a\n", "é", None, 7, b"a"]
)
def test_a_bad_name_of_a_gateway_is_refused(name: object) -> None:
    with pytest.raises(FormatError, match="cannot name a gateway"):
        check_gateway(name)
