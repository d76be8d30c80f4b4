"""The agent's time: forward at once, never backwards, whatever the host's clock does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeagg_agent.clock import SystemClock

MS = 1_000_000
NOON_NS = 1_790_000_000_000 * MS


class Host:
    """Both clocks of a host, in nanoseconds; the board has been up for an hour."""

    def __init__(self):
        self.utc_ns = NOON_NS
        self.monotonic_ns = 3_600_000 * MS
        self.clock = SystemClock(lambda: self.utc_ns, lambda: self.monotonic_ns)

    def pass_ns(self, duration_ns, step_ns=0):
        self.monotonic_ns += duration_ns
        self.utc_ns += duration_ns + step_ns


def test_without_steps_the_clock_is_the_hosts():
    host = Host()
    assert host.clock.now_ms() == NOON_NS // MS
    host.pass_ns(1_234 * MS)
    assert host.clock.now_ms() == NOON_NS // MS + 1_234
    assert host.clock.monotonic_s() == 3_601.234


def test_a_step_forward_is_followed_at_once():
    host = Host()
    year_ns = 365 * 86_400_000 * MS
    host.pass_ns(10 * MS, step_ns=year_ns)
    assert host.clock.now_ms() == (NOON_NS + year_ns) // MS + 10


def test_after_a_step_back_time_goes_on_from_where_it_was_at_the_monotonic_pace():
    host = Host()
    before_ms = host.clock.now_ms()
    host.pass_ns(100 * MS, step_ns=-5_000 * MS)
    assert host.clock.now_ms() == before_ms + 100
    host.pass_ns(900 * MS)
    assert host.clock.now_ms() == before_ms + 1_000


@pytest.mark.parametrize("step_ms", [1, 2, 9])
def test_a_step_of_a_millisecond_is_no_slew(step_ms):
    host = Host()
    before_ms = host.clock.now_ms()
    host.pass_ns(20 * MS, step_ns=-step_ms * MS)
    assert host.clock.now_ms() == before_ms + 20


def test_a_host_that_has_caught_up_is_followed_again():
    host = Host()
    host.pass_ns(0, step_ns=-5_000 * MS)
    held_ms = host.clock.now_ms()
    host.pass_ns(1_000 * MS, step_ns=4_000 * MS)
    assert host.clock.now_ms() == held_ms + 1_000  # still a second ahead of the host
    host.pass_ns(1_000 * MS, step_ns=3_000 * MS)
    assert host.clock.now_ms() == host.utc_ns // MS == held_ms + 4_000


def test_a_slew_of_less_than_a_millisecond_is_followed_both_ways():
    host = Host()
    for slew_ns in (-900_000, -900_000, -900_000, 700_000):
        host.pass_ns(1_000 * MS, step_ns=slew_ns)
        host.clock.now_ms()
    assert host.clock.now_ms() == host.utc_ns // MS


def test_a_slew_back_between_two_looks_at_the_clock_does_not_turn_time_back():
    host = Host()
    host.pass_ns(900_000)
    before_ms = host.clock.now_ms()
    host.pass_ns(0, step_ns=-950_000)  # into the millisecond before
    assert host.clock.now_ms() == before_ms


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**10),
            st.one_of(st.just(0), st.integers(-(10**6), 10**6), st.integers(-(10**13), 10**13)),
        )
    )
)
def test_time_never_runs_backwards_and_never_falls_behind_the_host(moves):
    host = Host()
    last_ms = host.clock.now_ms()
    for duration_ns, step_ns in moves:
        host.pass_ns(duration_ns, step_ns)
        now_ms = host.clock.now_ms()
        assert now_ms >= last_ms
        assert now_ms >= host.utc_ns // MS
        # whatever the host does, the monotonic clock's time passes, but for a slew
        assert now_ms - last_ms >= (duration_ns - 10**6) // MS - 1
        last_ms = now_ms
