"""Seals: what a signature is good for, and everything that must not pass."""

from __future__ import annotations

import contextlib
import random

import pytest

from edgeagg._core import SecretKey
from edgeagg.batch import Batch, BatchKind, Hello, NewKey, Receipt
from edgeagg.errors import FormatError
from edgeagg.seal import (
    Domain,
    Signer,
    Suite,
    key_id,
    key_named,
    key_text,
    parse_key,
    signed_by,
    suite_of,
)

OURS, THEIRS = (Signer(SecretKey(bytes([n]) * 32)) for n in (1, 2))
BATCH = Batch("qp-0001", 7, 1, BatchKind.DATA, bytes(16), 9, 1, b"payload")
SEALED = BATCH.to_bytes(OURS)


def test_a_signed_batch_is_read_and_its_key_is_known() -> None:
    assert suite_of(SEALED) is Suite.ED25519
    assert key_named(SEALED) == key_id(OURS.public)
    assert signed_by(SEALED, Domain.BATCH, [THEIRS.public, OURS.public]) == OURS.public
    assert Batch.from_bytes(SEALED) == BATCH


def test_the_bytes_of_a_signed_batch_never_change() -> None:
    assert BATCH.to_bytes(OURS).hex() == (
        "9b0101a771702d30303031070101c410000000000000000000000000000000000901c4077061796c"
        "6f6164c44434750f98e4a77acf4c408fe8bd769206f2db8b16aa6e781a568b646fc585515c5382ba"
        "15a2af1a19a331435795837bb551522a784c5eeb662f386e02ecd759dd6c376a00"
    )
    assert BATCH.to_bytes(THEIRS) != SEALED


def test_a_signature_by_another_key_is_nobodys() -> None:
    assert signed_by(SEALED, Domain.BATCH, [THEIRS.public]) is None
    assert signed_by(SEALED, Domain.BATCH, []) is None


def test_a_message_signed_for_one_purpose_fits_no_other() -> None:
    hello = Hello("qp-0001", 7, 1, 9, public=OURS.public).to_bytes(OURS)
    receipt = Receipt("qp-0001", 7, 1, (), (), 9).to_bytes(OURS)
    for data, domain in ((hello, Domain.HELLO), (receipt, Domain.RECEIPT), (SEALED, Domain.BATCH)):
        passed = [other for other in Domain if signed_by(data, other, [OURS.public])]
        assert passed == [domain]


def test_a_checksum_is_no_signature() -> None:
    assert signed_by(BATCH.to_bytes(), Domain.BATCH, [OURS.public]) is None


def test_every_flipped_bit_of_a_signed_message_is_seen() -> None:
    for bit in range(8 * len(SEALED)):
        changed = bytearray(SEALED)
        changed[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(FormatError):
            assert signed_by(bytes(changed), Domain.BATCH, [OURS.public]) is None, bit


def test_a_signed_message_cut_short_or_made_longer_is_refused() -> None:
    for data in [SEALED[:length] for length in range(len(SEALED))] + [SEALED + b"\0"]:
        with contextlib.suppress(FormatError):
            assert signed_by(data, Domain.BATCH, [OURS.public]) is None


def test_random_bytes_are_nobodys() -> None:
    draw = random.Random(1)
    for _ in range(2_000):
        data = SEALED[:3] + draw.randbytes(draw.randrange(200))
        with contextlib.suppress(FormatError):
            assert signed_by(data, Domain.BATCH, [OURS.public]) is None


def test_a_key_is_passed_on_as_text() -> None:
    text = key_text(OURS.public)
    assert text.startswith("ed25519:")
    assert parse_key(text) == OURS.public


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not begin with ed25519:"),
        ("rsa:AAAA", "does not begin with ed25519:"),
        ("ed25519:****", "not base64"),
        ("ed25519:AAAA", "32 bytes"),
        (key_text(bytes([1]) + bytes(31)), "not an Ed25519 public key"),
    ],
)
def test_what_is_no_key_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_key(text)


def test_a_next_key_must_be_proven_for_this_gateway_and_this_key() -> None:
    made = NewKey.make(THEIRS, "qp-0001", OURS.public)
    assert NewKey.from_bytes(made.to_bytes(), "qp-0001", OURS.public) == made
    for gateway, former in (("qp-0002", OURS.public), ("qp-0001", THEIRS.public)):
        with pytest.raises(FormatError, match="without the proof"):
            NewKey.from_bytes(made.to_bytes(), gateway, former)
    for data in (b"", bytes(96), made.to_bytes() + b"\0", made.to_bytes()[:-1]):
        with pytest.raises(FormatError, match="without the proof"):
            NewKey.from_bytes(data, "qp-0001", OURS.public)
