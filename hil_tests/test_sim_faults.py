"""Faults do to a reply what their name says, when and to whom the scenario says."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from pymodbus.framer.rtu import FramerRTU

from hil_tests.sim import damage
from hil_tests.sim.errors import SimError
from hil_tests.sim.faults import LineFaults, parse_faults
from hil_tests.sim.framing import Ascii, Framing, Mbap, Rtu, is_read
from hil_tests.sim.kinds import KINDS, Burst

START_MS = 1_764_000_000_000
BODY = (
    b"\x05"  # unit
    b"\x04"  # read input registers
    b"\x08"  # byte count
    b"\x11\x11\x22\x22\x33\x33\x44\x44"
)
GOOD = Rtu().wrap(BODY)
OTHER = Rtu().wrap(b"\x05\x04\x02\xab\xcd")
EXCEPTION = Rtu().wrap(b"\x05\x84\x02")


class Clock:
    """UTC that a test sets."""

    def __init__(self) -> None:
        self.since_s = 0.0

    def __call__(self) -> int:
        return START_MS + round(self.since_s * 1000)


def faults(
    *entries: Mapping[str, Any],
    clock: Clock | None = None,
    seed: int = 1,
    framing: Framing | None = None,
) -> LineFaults:
    return LineFaults(
        parse_faults([{"meter": "a", **entry} for entry in entries], where="sim.toml"),
        line="bus1",
        units={"a": 5, "b": 6},
        framing=framing or Rtu(),
        start_ms=START_MS,
        now_ms=clock or Clock(),
        seed=seed,
    )


def heard(*entries: Mapping[str, Any], reply: bytes = GOOD) -> bytes:
    return b"".join(burst.data for burst in faults(*entries).shape(reply))


def crc_is_right(frame: bytes) -> bool:
    return FramerRTU.compute_CRC(frame[:-2]).to_bytes(2, "big") == frame[-2:]


def test_without_a_fault_the_reply_is_heard_as_it_is() -> None:
    assert faults().shape(GOOD) == (Burst(GOOD),)


@pytest.mark.parametrize(
    ("kind", "place"),
    [("noise_before", slice(3, None)), ("noise_after", slice(0, -3))],
)
def test_noise_around_a_frame_leaves_the_frame_whole(kind: str, place: slice) -> None:
    data = heard({"kind": kind, "bytes": 3})
    assert len(data) == len(GOOD) + 3
    assert data[place] == GOOD


def test_noise_inside_a_frame_is_between_its_first_and_last_byte() -> None:
    data = heard({"kind": "noise_inside", "bytes": 2})
    assert len(data) == len(GOOD) + 2
    assert (data[0], data[-1]) == (GOOD[0], GOOD[-1])
    assert GOOD not in data


def test_a_bit_error_is_told_by_the_checksum() -> None:
    data = heard({"kind": "bit_error_bad_crc", "bits": 1})
    changed = [one ^ other for one, other in zip(data, GOOD, strict=True)]
    assert sum(byte.bit_count() for byte in changed) == 1
    assert not crc_is_right(data)


def test_a_bit_error_with_a_good_checksum_changes_registers_only() -> None:
    data = heard({"kind": "bit_error_good_crc", "bits": 2})
    changed = [one ^ other for one, other in zip(data[:-2], BODY, strict=True)]
    assert sum(byte.bit_count() for byte in changed) == 2
    assert changed[:3] == [0, 0, 0]
    assert crc_is_right(data)


def test_an_exception_has_no_registers_to_change() -> None:
    assert heard({"kind": "bit_error_good_crc"}, reply=EXCEPTION) == EXCEPTION
    assert heard({"kind": "short"}, reply=EXCEPTION) == EXCEPTION


def test_a_truncated_reply_ends_early() -> None:
    assert heard({"kind": "truncated", "bytes": 4}) == GOOD[:-4]


def test_a_merged_reply_comes_twice_in_one_piece() -> None:
    assert faults({"kind": "merged"}).shape(GOOD) == (Burst(GOOD + GOOD),)


def test_a_stale_reply_is_the_meters_own_previous_one() -> None:
    line = faults({"kind": "stale"})
    assert line.shape(OTHER) == (Burst(OTHER),)  # nothing was before it
    line.shape(Rtu().wrap(b"\x06\x04\x02\x00\x01"))  # of another meter
    assert line.shape(GOOD) == (Burst(OTHER + GOOD),)


def test_a_split_reply_has_a_pause_inside() -> None:
    first, second = faults({"kind": "split", "ms": 40}).shape(GOOD)
    assert first.data + second.data == GOOD
    assert (first.delay_s, second.delay_s) == (0, 0.04)


@pytest.mark.parametrize(("asked", "left"), [(1, 1), (3, 3), (9, 3)])
def test_a_short_reply_has_fewer_registers_and_fits_itself(asked: int, left: int) -> None:
    data = heard({"kind": "short", "registers": asked})
    assert data[:3] == bytes((5, 4, 2 * left))
    assert data[3:-2] == BODY[3 : 3 + 2 * left]
    assert crc_is_right(data)


@pytest.mark.parametrize(("asked", "seen"), [(0, 6), (9, 9)])
def test_a_wrong_unit_has_a_good_checksum(asked: int, seen: int) -> None:
    data = heard({"kind": "wrong_unit", "unit": asked})
    assert data[:-2] == bytes((seen,)) + BODY[1:]
    assert crc_is_right(data)


def test_a_wrong_function_is_the_other_read() -> None:
    assert heard({"kind": "wrong_function"}) == Rtu().wrap(b"\x05\x03" + BODY[2:])


def test_a_busy_meter_answers_exception_6() -> None:
    assert heard({"kind": "busy"}) == Rtu().wrap(b"\x05\x84\x06")


@pytest.mark.parametrize("kind", ["late", "slow"])
def test_a_late_reply_is_whole_and_delayed(kind: str) -> None:
    assert faults({"kind": kind, "ms": 450}).shape(GOOD) == (Burst(GOOD, 0.45),)


def test_a_collision_is_longer_and_broken() -> None:
    data = heard({"kind": "collision"})
    assert len(data) > len(GOOD)
    assert data[0] == GOOD[0]  # the second meter starts a little later
    assert not crc_is_right(data)
    assert not crc_is_right(data[: len(GOOD)])


def test_a_collision_pulls_bits_to_0() -> None:
    assert damage.overlay(b"\x0f\xf0\xaa", b"\x33\x33", lag_chars=1) == b"\x0f\x30\x22"


def test_a_meter_at_half_the_baud_is_heard_as_garbage_of_about_twice_the_length() -> None:
    data = heard({"kind": "wrong_baud", "ratio": 2})
    assert GOOD not in data
    assert len(GOOD) < len(data) <= 2 * len(GOOD) + 1


def test_bits_of_the_right_length_are_read_right() -> None:
    every = bytes(range(256))
    assert damage.misread(every, ratio=1) == every
    assert damage.misread(every, ratio=1.03) == every  # receivers bear some percent


@pytest.mark.parametrize("kind", ["dead", "brown_out"])
def test_a_dead_meter_says_nothing(kind: str) -> None:
    assert heard({"kind": kind, "for_s": 60}) == b""


def test_an_intermittent_meter_answers_about_every_other_time() -> None:
    line = faults({"kind": "intermittent"})
    answered = sum(bool(line.shape(GOOD)) for _ in range(400))
    assert 150 < answered < 250
    assert line.struck["intermittent"] == 400 - answered


def test_a_seed_repeats_what_it_did() -> None:
    runs = []
    for seed in (1, 1, 2):
        line = faults({"kind": "noise_before", "probability": 0.5}, seed=seed)
        runs.append([line.shape(GOOD) for _ in range(50)])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_every_third_reply_means_every_third_reply_of_that_meter() -> None:
    line = faults({"kind": "dead", "every": 3})
    other = Rtu().wrap(b"\x06\x04\x02\x00\x01")
    seen = []
    for _ in range(6):
        assert line.shape(other)
        seen.append(bool(line.shape(GOOD)))
    assert seen == [True, True, False] * 2


def test_a_fault_of_a_line_strikes_all_its_meters() -> None:
    line = faults({"kind": "dead", "meter": None, "line": "bus1"})
    assert not line.shape(GOOD)
    assert not line.shape(Rtu().wrap(b"\x06\x04\x02\x00\x01"))


@pytest.mark.parametrize(
    ("times", "active_at", "idle_at"),
    [
        ({"from_s": 10}, (10, 11, 9999), (-5, 0, 9.99)),
        ({"from_s": 10, "for_s": 5}, (10, 14.99), (9, 15, 60)),
        ({"from_s": 10, "for_s": 5, "repeat_s": 60}, (10, 70, 134), (9, 16, 75)),
    ],
)
def test_a_fault_holds_from_its_start_for_its_time(
    times: Mapping[str, float], active_at: tuple[float, ...], idle_at: tuple[float, ...]
) -> None:
    clock = Clock()
    line = faults({"kind": "dead", **times}, clock=clock)
    for seconds in active_at + idle_at:
        clock.since_s = seconds
        assert bool(line.shape(GOOD)) == (seconds in idle_at), seconds


def test_faults_at_the_same_time_add_up() -> None:
    line = faults({"kind": "wrong_unit"}, {"kind": "truncated", "bytes": 1}, {"kind": "late"})
    (burst,) = line.shape(GOOD)
    assert burst == Burst(Rtu().wrap(b"\x06" + BODY[1:])[:-1], 0.6)


@pytest.mark.parametrize("framing", [Ascii(), Mbap(7)])
def test_a_changed_body_is_wrapped_as_its_line_wraps_it(framing: Framing) -> None:
    line = faults({"kind": "busy"}, framing=framing)
    (burst,) = line.shape(framing.wrap(BODY))
    assert framing.unwrap(burst.data) == b"\x05\x84\x06"


def test_frames_of_other_protocols_pass_faults_of_modbus_bodies_untouched() -> None:
    other = b"\x68\x01\x00\x00\x00\x00\x00\x68\x91\x00\x00\x16"
    assert heard({"kind": "short", "meter": None, "line": "bus1"}, reply=other) == other
    assert heard({"kind": "truncated", "meter": None, "line": "bus1"}, reply=other) == other[:-3]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_what_it_does_in_one_line(kind: str) -> None:
    assert KINDS[kind].text
    assert "\n" not in KINDS[kind].text
    assert (KINDS[kind].change is None) == KINDS[kind].whole_line


def test_random_bodies_survive_their_framing_and_noise_does_not_pass_for_one() -> None:
    rng = Random(1)
    for framing in (Rtu(), Ascii(), Mbap(513)):
        for _ in range(100):
            body = rng.randbytes(rng.randrange(3, 250))
            frame = framing.wrap(body)
            assert framing.unwrap(frame) == body
            if isinstance(framing, Mbap):
                assert framing.unwrap(frame[:-1]) is None
            else:
                assert framing.unwrap(damage.flip(frame, 1, rng)) != body


def test_ascii_frames_are_those_of_the_serial_guide() -> None:
    frame = Ascii().wrap(b"\x01\x03\x00\x00\x00\x0a")
    assert frame == b":01030000000AF2\r\n"
    assert Ascii().unwrap(b"\x00?" + frame) == b"\x01\x03\x00\x00\x00\x0a"
    assert is_read(frame)
    assert not is_read(b":0106" + frame[5:])
    assert is_read(b"\x01\x04")
    assert not is_read(b"\x01\x10")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "dust"}, 'kind "dust" is none of noise_before'),
        ({"line": "bus1"}, 'either "meter" or "line" expected'),
        ({"ms": 3}, 'unknown key "ms"'),
        ({"from_s": -1}, '"from_s" = -1'),
        ({"every": 0}, '"every" = 0, 1 or more expected'),
        ({"probability": 0}, '"probability" = 0'),
        ({"repeat_s": 5}, '"for_s" is missing'),
        ({"for_s": 5, "repeat_s": 5}, 'more than "for_s" expected'),
        ({"kind": "brown_out"}, '"for_s" is missing'),
        ({"kind": "brown_out", "for_s": 5, "repeat_s": 50}, '"repeat_s" is not possible'),
        ({"kind": "wrong_unit", "unit": 256}, '"unit" = 256, 0 to 255 expected'),
        ({"kind": "wrong_baud", "ratio": 0}, '"ratio" = 0, 0.25 to 16 expected'),
        ({"kind": "truncated", "bytes": 0}, '"bytes" = 0, 1 to 200 expected'),
    ],
)
def test_a_wrong_fault_is_an_error_that_names_it(change: Mapping[str, Any], message: str) -> None:
    with pytest.raises(SimError) as raised:
        parse_faults([{"meter": "a", "kind": "dead", **change}], where="sim.toml")
    assert message in str(raised.value)
    assert str(raised.value).startswith("sim.toml: fault 1")
