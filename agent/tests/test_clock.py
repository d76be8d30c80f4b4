"""The agent's time: who vouches for it, slewed or put, and never back without saying so."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg_agent.clock import SystemClock, Trust
from edgeagg_agent.clock_trust import EARLIEST_MS, FILE, TimeFile, kernel_synchronised, words

MS = 1_000_000
NOON_MS = 1_790_000_000_000
NOON_NS = NOON_MS * MS
YEAR_MS = 365 * 86_400_000


class Host:
    """Both clocks of a host, in nanoseconds; the board has been up for an hour."""

    def __init__(self, utc_ms=NOON_MS, *, synchronised=True, **known):
        self.utc_ns = utc_ms * MS
        self.monotonic_ns = 3_600_000 * MS
        self.synchronised = synchronised
        self.clock = SystemClock(
            lambda: self.utc_ns,
            lambda: self.monotonic_ns,
            is_synchronised=lambda: self.synchronised,
            **known,
        )

    def pass_ms(self, duration_ms, *, step_ms=0):
        self.monotonic_ns += duration_ms * MS
        self.utc_ns += (duration_ms + step_ms) * MS


def test_without_steps_the_clock_is_the_hosts():
    host = Host()
    assert host.clock.now_ms() == NOON_MS
    host.pass_ms(1_234)
    assert host.clock.now_ms() == NOON_MS + 1_234
    assert host.clock.monotonic_s() == 3_601.234
    assert host.clock.stepped_ms == 0


def test_a_step_forward_is_followed_at_once_and_one_of_years_is_told():
    host = Host()
    host.pass_ms(10, step_ms=3_600_000)
    assert host.clock.now_ms() == NOON_MS + 3_600_010
    assert (host.clock.stepped_ms, host.clock.state.last_step_ms) == (0, 3_600_000)
    host.pass_ms(10, step_ms=YEAR_MS)
    assert host.clock.now_ms() == NOON_MS + 3_600_020 + YEAR_MS
    assert (host.clock.stepped_ms, host.clock.state.steps) == (YEAR_MS, 2)


def test_a_second_too_much_is_taken_back_slowly_and_never_as_a_step():
    host = Host()
    host.pass_ms(0, step_ms=-1_000)
    last_ms = host.clock.now_ms()
    for _ in range(11):
        host.pass_ms(1_000)
        now_ms = host.clock.now_ms()
        assert 900 <= now_ms - last_ms <= 1_000
        last_ms = now_ms
    assert last_ms == host.utc_ns // MS
    assert (host.clock.stepped_ms, host.clock.state.steps) == (0, 0)


def test_a_step_back_by_more_is_followed_at_once_and_told():
    host = Host()
    host.pass_ms(100, step_ms=-5_000)
    assert host.clock.now_ms() == NOON_MS - 4_900
    assert host.clock.stepped_ms == host.clock.state.last_step_ms == -5_000


def test_a_clock_that_was_never_set_begins_at_the_floor_and_is_not_trusted():
    host = Host(utc_ms=5_000, synchronised=False, floor_ms=EARLIEST_MS, knows_past=False)
    assert host.clock.now_ms() == EARLIEST_MS
    assert (host.clock.state.trust, host.clock.is_trusted) == (Trust.NEVER, False)
    host.pass_ms(60_000)
    assert host.clock.now_ms() == EARLIEST_MS + 60_000
    host.synchronised = True
    host.pass_ms(0, step_ms=NOON_MS)
    assert host.clock.now_ms() == host.utc_ns // MS
    assert host.clock.state.trust is Trust.NTP
    assert host.clock.stepped_ms > YEAR_MS // 2


def test_an_unconfirmed_clock_is_followed_and_not_trusted():
    host = Host(synchronised=False, floor_ms=EARLIEST_MS)
    host.pass_ms(10, step_ms=7_000)
    assert host.clock.now_ms() == NOON_MS + 7_010
    assert (host.clock.state.trust, host.clock.is_trusted) == (Trust.RTC, False)


def test_what_was_right_goes_on_whatever_the_host_does_unconfirmed():
    host = Host()
    host.clock.now_ms()
    host.synchronised = False
    host.pass_ms(1_000, step_ms=10 * YEAR_MS)
    assert host.clock.now_ms() == NOON_MS + 1_000
    assert (host.clock.state.trust, host.clock.is_trusted) == (Trust.HOLDOVER, True)
    host.pass_ms(180_000)
    host.clock.now_ms()
    assert host.clock.state.unconfirmed_s == 181
    host.synchronised = True
    host.pass_ms(0, step_ms=-10 * YEAR_MS)
    assert host.clock.now_ms() == NOON_MS + 181_000
    assert host.clock.state.steps == 0


@pytest.mark.parametrize("wrong_ms", [-YEAR_MS, -3_600_000, 1_001, 3_600_000, 10 * YEAR_MS])
def test_the_platform_puts_a_clock_that_nobody_else_vouches_for(wrong_ms):
    host = Host(NOON_MS + wrong_ms, synchronised=False)
    host.clock.take_platform(NOON_MS)
    assert host.clock.now_ms() == NOON_MS
    assert (host.clock.state.trust, host.clock.is_trusted) == (Trust.PLATFORM, True)


def test_a_receipt_that_is_a_little_late_confirms_the_clock_and_does_not_put_it():
    host = Host(synchronised=False)
    host.clock.take_platform(NOON_MS - 900)
    assert host.clock.now_ms() == NOON_MS
    assert host.clock.is_trusted


def test_the_kernel_goes_before_the_platform():
    host = Host()
    host.clock.take_platform(NOON_MS + YEAR_MS)
    assert host.clock.now_ms() == NOON_MS
    assert host.clock.state.trust is Trust.NTP


def test_a_drift_of_200_ppm_stays_within_a_second_of_the_platform():
    host = Host(synchronised=False)
    true_ms = NOON_MS
    host.clock.take_platform(true_ms)
    for minute in range(3 * 1_440):
        true_ms += 60_000
        host.pass_ms(60_012 if minute < 1_440 else 59_988)
        host.clock.take_platform(true_ms - 50 * (minute % 3))  # under way for so long
        assert abs(host.clock.now_ms() - true_ms) <= 1_200


def test_the_last_trusted_time_is_the_floor_of_the_next_boot_and_the_offset_of_this_one(tmp_path):
    boot = tmp_path / "boot_id"
    boot.write_text("one\n", "ascii")
    host = Host()
    TimeFile(tmp_path, boot).keep(host.clock)

    def next_clock(utc_ms):
        known = TimeFile(tmp_path, boot)
        return known.clock(lambda: utc_ms * MS, lambda: host.monotonic_ns, lambda: False)

    host.pass_ms(30_000)
    same = next_clock(5_000)
    assert (same.now_ms(), same.state.trust) == (NOON_MS + 30_000, Trust.HOLDOVER)
    boot.write_text("two\n", "ascii")
    later = next_clock(5_000)
    assert (later.now_ms(), later.state.trust) == (NOON_MS, Trust.NEVER)
    assert later.knows_past


def test_a_time_that_may_be_wrong_and_ahead_is_no_floor(tmp_path):
    host = Host(NOON_MS + 10 * YEAR_MS, synchronised=False)
    TimeFile(tmp_path).keep(host.clock)
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"at_ms": "x"}', "\0"])
def test_a_file_that_cannot_be_read_is_not_known(tmp_path, text):
    (tmp_path / FILE).write_text(text, "utf-8")
    clock = TimeFile(tmp_path).clock(lambda: 0, lambda: 0, lambda: False)
    assert (clock.now_ms(), clock.knows_past) == (EARLIEST_MS, False)


def test_a_file_of_an_unset_clock_goes_on_and_vouches_for_nothing(tmp_path):
    host = Host(0, synchronised=False, floor_ms=EARLIEST_MS, knows_past=False)
    host.pass_ms(90_000)
    TimeFile(tmp_path).keep(host.clock)
    assert json.loads((tmp_path / FILE).read_text("utf-8"))["is_known"] is False
    clock = TimeFile(tmp_path).clock(lambda: 0, lambda: 0, lambda: False)
    assert (clock.now_ms(), clock.knows_past) == (EARLIEST_MS + 90_000, False)
    assert not clock.is_trusted


def test_the_kernel_can_be_asked():
    assert kernel_synchronised() in {False, True}


def test_the_words_tell_an_installer_how_long_it_has_been():
    host = Host(synchronised=False)
    host.pass_ms(180_000)
    host.clock.now_ms()
    assert words(host.clock.state) == "not synchronised for 3 min, times are flagged"
    assert words(Host().clock.state) == "synchronised"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**10),
            st.one_of(st.just(0), st.integers(-(10**6), 10**6), st.integers(-(10**13), 10**13)),
        )
    )
)
def test_time_runs_backwards_only_by_steps_that_are_told_and_is_right_within_a_second(moves):
    host = Host()
    last_ms, stepped_ms = host.clock.now_ms(), 0
    for duration_ns, step_ns in moves:
        host.monotonic_ns += duration_ns
        host.utc_ns += duration_ns + step_ns
        now_ms = host.clock.now_ms()
        assert now_ms >= last_ms or host.clock.stepped_ms < stepped_ms
        assert abs(now_ms - host.utc_ns // MS) <= 1_001
        last_ms, stepped_ms = now_ms, host.clock.stepped_ms
