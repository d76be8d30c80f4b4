"""What is believed of receipts: a naive set of sequences says the same."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from agent.tests.fakes import GATEWAY, START_MS
from edgeagg.batch import RANGES_MAX, Receipt
from edgeagg.receiver.store import collapse
from edgeagg_agent.believed import Believed

HEAD = 12
GONE = 3
"""The first sequences are no longer kept."""


def own(sequence):
    return None if sequence <= GONE else bytes([sequence] * 8)


def held(receipt):
    found = set(range(1, receipt.through + 1))
    return found.union(*(range(first, last + 1) for first, last in receipt.ranges))


SEQUENCES = st.sets(st.integers(1, HEAD))


@given(st.integers(0, 4), st.lists(st.tuples(SEQUENCES, SEQUENCES, SEQUENCES), max_size=8))
def test_what_counts_is_held_and_was_compared_or_cannot_be(through, steps):
    believed, known = Believed(through), set(range(1, through + 1))
    for place, (has, asked, lost) in enumerate(steps):
        progress = collapse(0, sorted(has))
        last = max(has, default=0)
        receipt = Receipt(GATEWAY, 1, progress.through, progress.ranges, (), START_MS + place)
        checks = tuple((s, bytes(8) if s in lost else bytes([s] * 8)) for s in sorted(asked & has))
        check = bytes([last] * 8) if last else b"nothing!"
        receipt = replace(receipt, check=check, checks=checks)
        assert believed.compare(receipt, own) is None
        known = (known | (asked & has) | ({last} if last else set())) & has
        found = believed.of(receipt)
        assert held(found) == known
        assert len(found.ranges) <= RANGES_MAX
        assert found.want == receipt.want


@given(st.integers(1, HEAD), SEQUENCES)
def test_one_other_check_is_found_unless_the_sequence_is_gone_or_was_compared(wrong, before):
    believed = Believed(0)
    checks = tuple((s, bytes([s] * 8)) for s in sorted(before))
    all_of = Receipt(GATEWAY, 1, HEAD, (), (), START_MS, 9, bytes([HEAD] * 8), checks)
    assert believed.compare(replace(all_of, check=bytes(8)), own) is None
    other = replace(all_of, check=bytes(8), checks=((wrong, b"another!"),))
    is_known = wrong in before or wrong <= GONE
    assert believed.compare(other, own) == (None if is_known else wrong)


def test_a_receipt_that_was_overtaken_takes_nothing_back():
    believed = Believed(0)
    checks = tuple((s, bytes([s] * 8)) for s in range(4, 7))
    later = Receipt(GATEWAY, 1, 0, ((4, 6),), (), START_MS + 5, 9, bytes([6] * 8), checks)
    assert believed.compare(later, own) is None
    assert believed.of(later).ranges == ((4, 6),)
    earlier = Receipt(GATEWAY, 1, 0, ((4, 4),), (), START_MS, 9, bytes([4] * 8))
    assert believed.of(earlier).ranges == ((4, 4),)
    assert believed.of(replace(later, checks=())).ranges == ((4, 6),)
    restored = replace(earlier, server_ms=START_MS + 9)
    assert believed.of(restored).ranges == ((4, 4),)
    assert believed.of(replace(later, server_ms=START_MS + 10)).ranges == ((4, 4),)


def test_a_platform_that_tells_nothing_is_believed_as_before():
    receipt = Receipt(GATEWAY, 1, 7, ((9, 9),), (), START_MS)
    believed = Believed(0)
    assert believed.compare(receipt, own) is None
    assert believed.of(receipt) == receipt
