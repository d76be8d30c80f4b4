"""Commands and answers byte for byte, and who is believed to have signed them."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg._core import SecretKey
from edgeagg.command import Answer, Command, CommandKind, Outcome
from edgeagg.errors import FormatError
from edgeagg.seal import Domain, Signer, key_id, sealed, signed_by

ONE, TWO, STRANGER = (Signer(SecretKey(bytes([n]) * 32)) for n in (1, 2, 3))
KEYS = [ONE.public, TWO.public]
COMMAND = Command(
    "qp-0001", 7, CommandKind.CONFIGURE, 1_790_000_000_000, 1_790_003_600_000, b"[site]\n"
)
ANSWER = Answer("qp-0001", 7, COMMAND.digest, Outcome.CHECKED, 1_790_000_001_000, "it is right")


def test_a_command_has_these_bytes():
    data = COMMAND.to_bytes(ONE)
    assert (
        data
        == bytes.fromhex(
            "9a"  # 10 items
            "01"  # version
            "01"  # suite
            "a771702d30303031"  # gateway
            "07"  # number
            "01"  # kind
            "cf000001a0c4506c00"  # issued
            "cf000001a0c4875a80"  # expires
            "c4075b736974655d0a"  # payload
            "c400"  # no second seal
            "c444"  # seal of 68 bytes
        )
        + key_id(ONE.public)
        + ONE.sign(Domain.COMMAND, data[:-70])
    )
    assert Command.from_bytes(data, KEYS) == (COMMAND, {ONE.public})


def test_an_answer_has_these_bytes():
    data = ANSWER.to_bytes(ONE)
    assert data[:12] == bytes.fromhex("99 01 01 a7 71702d30303031 07")
    assert data[12:46] == bytes.fromhex("c420") + COMMAND.digest
    assert data[46:-70] == bytes.fromhex("01 cf000001a0c4506fe8 ab") + b"it is right"
    assert signed_by(data, Domain.ANSWER, [ONE.public]) == ONE.public
    assert Answer.from_bytes(data) == ANSWER


def test_two_keys_sign_the_same_command():
    data = COMMAND.to_bytes(ONE, TWO)
    command, signers = Command.from_bytes(data, KEYS)
    assert signers == {ONE.public, TWO.public}
    assert replace(command, second=b"") == COMMAND


def test_one_key_twice_is_one_key():
    command, signers = Command.from_bytes(COMMAND.to_bytes(ONE, ONE), KEYS)
    assert signers == {ONE.public}
    assert command.number == 7


@pytest.mark.parametrize(
    "data",
    [
        COMMAND.to_bytes(STRANGER),
        COMMAND.to_bytes(STRANGER, ONE),
        COMMAND.to_bytes(ONE, STRANGER),
        sealed(COMMAND._fields(), Domain.COMMAND, None),
        sealed(COMMAND._fields(), Domain.RECEIPT, ONE),
    ],
    ids=["stranger", "stranger-first", "stranger-second", "no-signature", "signed-as-receipt"],
)
def test_what_the_platforms_keys_have_not_signed_is_no_command(data):
    with pytest.raises(FormatError, match="none of the platform_keys"):
        Command.from_bytes(data, KEYS)


def test_a_second_seal_of_another_command_does_not_count():
    other = replace(COMMAND, number=8).to_bytes(ONE, TWO)
    stolen = Command.from_bytes(other, KEYS)[0].second
    data = sealed(replace(COMMAND, second=stolen)._fields(), Domain.COMMAND, ONE)
    with pytest.raises(FormatError, match="the second seal is of none"):
        Command.from_bytes(data, KEYS)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_anywhere_makes_it_no_command(at, flip):
    data = bytearray(COMMAND.to_bytes(ONE, TWO))
    data[at % len(data)] ^= flip
    with pytest.raises(FormatError):
        Command.from_bytes(bytes(data), KEYS)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (0, "QP", "cannot name a gateway"),
        (1, -1, "number is -1"),
        (1, True, "number is True"),
        (2, 3, "command kind 3 is unknown"),
        (2, True, "command kind True is unknown"),
        (3, 2**63, "issued_ms is"),
        (4, "soon", "expires_ms is 'soon'"),
        (5, "text", "must be binary"),
        (6, b"short", "a second seal of 5 bytes"),
    ],
)
def test_wrong_fields_are_refused_though_they_are_signed(place, value, said):
    fields = COMMAND._fields()
    fields[place] = value
    with pytest.raises(FormatError, match=said):
        Command.from_bytes(sealed(fields, Domain.COMMAND, ONE), KEYS)


def test_an_answers_long_text_is_cut_between_letters():
    text = Answer.from_bytes(replace(ANSWER, text="电" * 100).to_bytes(ONE)).text
    assert text == "电" * 85


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"digest": b"short"}, "a digest has 32 bytes"),
        ({"text": "two\nlines"}, "one line"),
        ({"at_ms": -1}, "at_ms is -1"),
    ],
)
def test_an_answer_that_cannot_be_is_not_made(changes, said):
    with pytest.raises(FormatError, match=said):
        replace(ANSWER, **changes)


def test_an_unknown_outcome_is_refused():
    data = sealed(["qp-0001", 7, COMMAND.digest, 9, 1, ""], Domain.ANSWER, ONE)
    with pytest.raises(FormatError, match="outcome 9 is unknown"):
        Answer.from_bytes(data)
