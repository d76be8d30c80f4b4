"""Times on the wire, against values worked out by hand."""

import pytest

from edgeagg_agent.bus.timing import Timing


@pytest.mark.parametrize(
    ("form", "bits"),
    [("8N1", 10), ("8E1", 11), ("8O1", 11), ("8N2", 11), ("8E2", 12), ("8O2", 12), ("7E1", 10)],
)
def test_a_format_has_its_bits_per_character(form, bits):
    assert Timing.of(9600, form).char_bits == bits


@pytest.mark.parametrize("form", ["7N1", "8N3", "8n1", "", "8E1 "])
def test_an_unknown_format_is_refused_with_the_allowed_ones(form):
    with pytest.raises(ValueError, match="8N1, 8N2, 8E1"):
        Timing.of(9600, form)


def test_a_line_without_baud_rate_is_refused():
    with pytest.raises(ValueError, match="baud 0"):
        Timing(0, 10)


@pytest.mark.parametrize(
    ("baud", "form", "char_us", "t35_us"),
    [
        (2400, "8E1", 4584, 16042),
        (9600, "8N1", 1042, 3646),
        (9600, "8E1", 1146, 4011),
        (19200, "8E1", 573, 2006),
        (38400, "8N1", 261, 1750),  # fixed above 19,200 Bd
        (115200, "8E1", 96, 1750),
    ],
)
def test_character_and_silence(baud, form, char_us, t35_us):
    timing = Timing.of(baud, form)
    assert (timing.frame_us(1), timing.t35_us) == (char_us, t35_us)


def test_a_frame_is_rounded_once_and_not_for_every_character():
    assert Timing(9600, 10).frame_us(96) == 100_000


@pytest.mark.parametrize(
    ("registers", "us"),
    [(2, 27_500), (20, 68_800), (60, 160_400), (125, 309_400)],  # 9600 Bd 8E1
)
def test_a_transaction_takes_the_lower_bound_when_the_meter_answers_at_once(registers, us):
    measured = Timing.of(9600, "8E1").transaction_us(5 + 2 * registers, turnaround_us=0)
    assert measured == pytest.approx(us, abs=60)


def test_a_slow_meter_adds_its_turnaround_beyond_the_silence():
    timing = Timing.of(9600, "8E1")
    quick, slow = timing.transaction_us(9, 0), timing.transaction_us(9, 20_000)
    assert slow - quick == 20_000 - timing.t35_us
